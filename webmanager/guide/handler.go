package guide

import (
	"context"
	_ "embed"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"latchkey/internal/clientsetup"
)

//go:embed layout.html
var layoutText string

//go:embed style.css
var style []byte

// Options are what a Guide needs; the zero Options make one with example values at the root.
type Options struct {
	// Root is the path under which it is mounted, such as /help, without a slash at its end.
	Root string
	// Values returns the values of the mailbox that is signed in; nil, or false, where nobody is.
	Values func(r *http.Request) (clientsetup.Setup, bool)
	// Example returns what the public pages show: the domain's own doors, for an address that stands for anybody's. Nil is [ExampleSetup].
	Example func(ctx context.Context) (clientsetup.Setup, error)
	// Logger gets what went wrong; nil is the default one.
	Logger *slog.Logger
}

// langCookie keeps the language that somebody chose, for a year.
const (
	langCookie = "lang"
	langAge    = 365 * 24 * 60 * 60
)

// Language is the language that a request asks for: by ?lang=, by the cookie of an earlier one, or by Accept-Language (RFC 9110 §12.5.4); English if
// it asks for none of ours.
func Language(r *http.Request) clientsetup.Lang {
	for _, asked := range []string{r.URL.Query().Get("lang"), cookie(r)} {
		if l := clientsetup.Lang(asked); l == clientsetup.English || l == clientsetup.German {
			return l
		}
	}
	best, weight := clientsetup.English, 0.0
	for part := range strings.SplitSeq(r.Header.Get("Accept-Language"), ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		name, _, _ = strings.Cut(strings.ToLower(name), "-")
		w := 1.0
		if value, ok := strings.CutPrefix(strings.TrimSpace(q), "q="); ok {
			var err error
			if w, err = strconv.ParseFloat(value, 64); err != nil {
				continue
			}
		}
		if l := clientsetup.Lang(name); (l == clientsetup.English || l == clientsetup.German) && w > weight {
			best, weight = l, w
		}
	}
	return best
}

func cookie(r *http.Request) string {
	c, err := r.Cookie(langCookie)
	if err != nil {
		return ""
	}
	return c.Value
}

// page is what the layout sees.
type page struct {
	Fragment
	Lang  clientsetup.Lang
	Root  string
	Here  string
	Words string
	Home  bool
}

// ServeHTTP serves the guide with a layout of its own.
func (g *Guide) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutPrefix(r.URL.Path, g.root)
	if !ok || name != "" && name[0] != '/' {
		http.NotFound(w, r)
		return
	}
	name = strings.Trim(name, "/")
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Content-Security-Policy",
		"default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	if name == "style.css" {
		h.Set("Content-Type", "text/css; charset=utf-8")
		h.Set("Cache-Control", "max-age=3600")
		_, _ = w.Write(style) // whoever asked may have gone
		return
	}
	l := Language(r)
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept-Language, Cookie")
	if r.URL.Query().Get("lang") == string(l) {
		http.SetCookie(w, &http.Cookie{
			Name: langCookie, Value: string(l), Path: g.root + "/", MaxAge: langAge, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode,
		})
	}
	f, err := g.serve(r, l, name)
	switch {
	case errors.Is(err, ErrNoPage):
		http.NotFound(w, r)
		return
	case err != nil:
		g.logger().ErrorContext(r.Context(), "page of the guide not made", "page", name, "err", err)
		http.Error(w, "temporary failure", http.StatusServiceUnavailable)
		return
	}
	g.write(w, r, page{
		Fragment: f, Lang: l, Root: g.root, Here: r.URL.Path, Words: r.URL.Query().Get("q"), Home: name == "",
	})
}

func (g *Guide) logger() *slog.Logger {
	if g.options.Logger == nil {
		return slog.Default()
	}
	return g.options.Logger
}

// values are those of whoever asks, or the example.
func (g *Guide) values(r *http.Request) (Values, error) {
	if g.options.Values != nil {
		if s, ok := g.options.Values(r); ok {
			return Values{Setup: s, Own: true}, nil
		}
	}
	if g.options.Example == nil {
		return Values{Setup: ExampleSetup()}, nil
	}
	s, err := g.options.Example(r.Context())
	return Values{Setup: s}, err
}

func (g *Guide) serve(r *http.Request, l clientsetup.Lang, name string) (Fragment, error) {
	v, err := g.values(r)
	if err != nil {
		return Fragment{}, err
	}
	switch name {
	case "":
		return g.Index(l, v)
	case "problems":
		return g.Problems(l, v)
	case "search":
		return g.Results(l, r.URL.Query().Get("q"), v)
	}
	return g.Page(l, name, v)
}

func (g *Guide) write(w http.ResponseWriter, r *http.Request, p page) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", string(p.Lang))
	if err := g.layout.Execute(w, p); err != nil && r.Context().Err() == nil {
		g.logger().WarnContext(r.Context(), "page of the guide not sent", "err", err)
	}
}
