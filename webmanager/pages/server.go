package pages

import (
	"context"
	"crypto/tls"
	"errors"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"latchkey/guard"
	"latchkey/internal/refusal"
	"latchkey/webmanager"
)

// Bounds of requests.
const (
	// maxForm bounds the body of a form in octets: the longest has an alias with a thousand targets.
	maxForm = 512 << 10
	// maxHeader bounds the header of a request in octets.
	maxHeader = 16 << 10
	// headerTime, bodyTime and idleTime bound how long a client may take; answerTime has room for a wrong password that waits, and for the DNS.
	headerTime = 10 * time.Second
	bodyTime   = 30 * time.Second
	answerTime = 3 * time.Minute
	idleTime   = time.Minute
	// maxStreams bounds the requests of one connection of HTTP/2 that are under way, stallTime how long a client may take nothing of what it asked for
	// there, or be silent when it is asked whether it is still there.
	maxStreams = 32
	stallTime  = 30 * time.Second
)

// Options are what a Server is made of. API and Login must be set.
type Options struct {
	API   *webmanager.API
	Login webmanager.Prover
	// TLS is what the pages are served with but on loopback and unix sockets, where they are plain HTTP.
	TLS *tls.Config
	// Secure says that browsers come by TLS in any case: a proxy on this host ends it.
	Secure bool
	// URL is where browsers find the pages, without a slash at its end, if that is known; links for others begin with it.
	URL string
	// Guide answers where GuideHandles says so of a path, whoever asks: [Person] says who did. It goes before the pages' own. Help is the path that
	// is linked as help. Guide nil: there is none of all this.
	Guide        http.Handler
	GuideHandles func(path string) bool
	Help         string
	// InGerman is why a refusal was made and what helps, in German, where ok is set; nil: that is told in English.
	InGerman func(name refusal.Name) (cause, cure string, ok bool)
	// Proxies, Connections, Gate and Known are those of the other doors: see guard.ListenerOptions.
	Proxies     []netip.Prefix
	Connections guard.ConnLimits
	Gate        *guard.Gate
	Known       func(netip.Addr) bool
	// Logger gets causes that nobody sees; nil discards them.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Server serves the pages. It is an http.Handler, and with Serve a server.
type Server struct {
	o        Options
	log      *slog.Logger
	now      func() time.Time
	sessions *sessions
	halves   *halves
	render   *renderer
	handler  http.Handler
	http     *http.Server
	// openAPI makes the description of the API when somebody first asks for it.
	openAPI func() ([]byte, error)
}

// New returns a Server. It starts nothing.
func New(o Options) *Server {
	s := &Server{o: o, log: o.Logger, now: o.Now, render: newRenderer(), openAPI: sync.OnceValues(webmanager.OpenAPI)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.sessions, s.halves = newSessions(s.now), newHalves(s.now)
	s.handler = s.guarded(s.route())
	s.http = &http.Server{
		Handler: s, ReadHeaderTimeout: headerTime, ReadTimeout: bodyTime, WriteTimeout: answerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: maxStreams, WriteByteTimeout: stallTime, SendPingTimeout: stallTime, PingTimeout: stallTime},
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.http.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if o.TLS != nil {
		s.http.TLSConfig = o.TLS.Clone()
	}
	s.http.TLSConfig.NextProtos = []string{"h2", "http/1.1"}
	return s
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// ErrPlain is what Serve returns for a listener that would carry passwords in the clear.
var ErrPlain = errors.New("pages: plain HTTP is for loopback and unix sockets only: a certificate is needed")

// OnThisHost reports whether only this host can connect to a listener.
func OnThisHost(l net.Listener) bool {
	return l.Addr().Network() == "unix" || guard.Unmap(l.Addr()).IsLoopback()
}

// Serve answers what comes to l until Shutdown or Close; then it returns http.ErrServerClosed. It closes l, and may be called for several.
func (s *Server) Serve(l net.Listener) error {
	var secure *tls.Config
	if !OnThisHost(l) {
		if s.o.TLS == nil {
			return errors.Join(ErrPlain, l.Close())
		}
		secure = s.http.TLSConfig
	}
	guarded := guard.NewListener(l, guard.ListenerOptions{
		TLS: secure, Proxies: s.o.Proxies, Limits: s.o.Connections, Gate: s.o.Gate, Known: s.o.Known, Logger: s.log,
	})
	defer func() { _ = guarded.Close() }() // nothing is lost with what was not handed out
	return s.http.Serve(guarded)
}

// Shutdown lets running requests end until ctx does.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

// Close ends everything at once; it may be called after Shutdown.
func (s *Server) Close() error { return s.http.Close() }

// secure reports whether a browser came by TLS.
func (s *Server) secure(r *http.Request) bool { return s.o.Secure || r.TLS != nil }

// guarded puts around every answer what every answer needs.
func (s *Server) guarded(next http.Handler) http.Handler {
	csrf := http.NewCrossOriginProtection()
	csrf.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(s.exchange(w, r), &webmanager.Error{Code: webmanager.CodeForbidden, Message: text(langOf(r), "error.foreign")})
	}))
	inner := csrf.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.headers(w.Header(), s.secure(r))
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			s.log.Error("panic in the pages", "panic", p, "method", r.Method, "path", r.URL.Path, "stack", string(debug.Stack()))
			s.fail(s.exchange(w, r), errPanic)
		}()
		r.Body = http.MaxBytesReader(w, r.Body, max(maxForm, webmanager.MaxBodySize))
		inner.ServeHTTP(w, r)
	})
}

// errPanic is told to whoever met a panic.
var errPanic = errors.New("pages: panic")

// policy is what a page may load and do: no scripts.
const policy = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// headers are those of every answer; a handler may replace the one about caching, and a page with a script has another policy.
func (s *Server) headers(h http.Header, secure bool) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Cache-Control", "no-store")
	if secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// remote is the address of the client.
func remote(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // a unix socket has none
	}
	return at.Addr().Unmap().WithZone("")
}

// mux is the table of paths.
func (s *Server) mux() *http.ServeMux {
	mux := http.NewServeMux()
	for _, p := range s.pages() {
		mux.Handle(p.pattern, s.page(p))
	}
	mux.Handle("GET "+s.render.style.path, s.render.style)
	mux.Handle("GET "+s.render.script.path, s.render.script)
	mux.Handle("GET /robots.txt", http.HandlerFunc(robots))
	mux.Handle("GET "+apiPrefix+"/openapi.json", http.HandlerFunc(s.describe))
	mux.Handle(apiPrefix+"/", http.HandlerFunc(s.api))
	return mux
}

// route lets Options.Guide have what is its own, and the pages the rest.
func (s *Server) route() http.Handler {
	mux := s.mux()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.o.Guide != nil && s.o.GuideHandles(r.URL.Path) {
			s.guide(w, r)
			return
		}
		refuse := func() {
			s.fail(s.exchange(w, r), &webmanager.Error{Code: webmanager.CodeMethod, Message: text(langOf(r), "error.method")})
		}
		if !webmanager.RefuseMethod(mux, w, r, refuse) {
			mux.ServeHTTP(w, r)
		}
	})
}

// robots keeps the pages out of search engines: nothing here is for them.
func robots(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("User-agent: *\nDisallow: /\n")) // a client that has gone needs no answer
}

type exchangeKey struct{}

// Person is who signed in, for the handler of Options.Guide; ok is false for a stranger.
func Person(ctx context.Context) (actor webmanager.Actor, ok bool) {
	x, ok := ctx.Value(exchangeKey{}).(*exchange)
	if !ok || x.session == nil {
		return webmanager.Actor{}, false
	}
	return x.actor, true
}

// Framed is a page that the handler of Options.Guide has made but for what is around it.
type Framed struct {
	Status int
	// Lang is its language.
	Lang, Title string
	Body        template.HTML
	// Other leads to the same in another language, OtherLang, which calls itself OtherName.
	Other, OtherLang, OtherName string
}

// Frame answers a request that Options.Guide was given with a page in the layout of all pages. Any other request gets nothing.
func Frame(r *http.Request, p Framed) {
	x, ok := r.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return
	}
	x.lang = lang(p.Lang)
	if err := x.showAs(p.Status, "framed", p.Title, p); err != nil {
		x.s.fail(x, err)
	}
}

// guide lets Options.Guide answer, and know who asks.
func (s *Server) guide(w http.ResponseWriter, r *http.Request) {
	x := s.exchange(w, r)
	s.o.Guide.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
}
