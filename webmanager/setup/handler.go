package setup

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"latchkey/internal/clientsetup"
	"latchkey/internal/mailaddr"
)

const (
	// maxBody bounds the body of a request, in octets: Outlook sends some 500.
	maxBody = 16 << 10
	// maxAddress bounds an address as it was typed, in octets (RFC 5321 §4.5.3.1.3 allows 254).
	maxAddress = 320
)

// The paths, in lower case. Letter case does not count.
const (
	autoconfigPath      = "/mail/config-v1.1.xml"
	autoconfigWellKnown = "/.well-known/autoconfig/mail/config-v1.1.xml"
	autodiscoverXML     = "/autodiscover/autodiscover.xml"
	autodiscoverJSON    = "/autodiscover/autodiscover.json"
)

// Options are what a Handler needs.
type Options struct {
	// Facts returns where the server stands and what the domain's owner decided. It is asked for each request.
	Facts func(ctx context.Context) (clientsetup.Place, clientsetup.Rules, error)
	// Base is the URL under which the public reaches the handler, such as https://mail.example.com, without a slash at its end.
	Base string
	// Help is the URL of the page on setting up mail programs; "" for none.
	Help string
	// Certificate signs profiles. Where it is nil, or fails, they are not signed.
	Certificate func() (*tls.Certificate, error)
	// Logger gets what went wrong at our side.
	Logger *slog.Logger
}

// Handler answers mail programs. Its methods may be called from any goroutine.
type Handler struct {
	options Options
}

// New returns a handler.
func New(o Options) *Handler { return &Handler{options: o} }

// Handles reports whether a request's path is one of the handler's. A ServeMux cannot tell, as letter case does not count.
func Handles(path string) bool { return routeOf(path) != nil }

// errNoWay is what there is to say where no door is open, or none without sending the password in the clear.
var errNoWay = errors.New("setup: no way to set up a mail program")

type route func(h *Handler, w http.ResponseWriter, r *http.Request)

func routeOf(path string) route {
	path = strings.TrimSuffix(strings.ToLower(path), "/")
	switch {
	case path == autoconfigPath, path == autoconfigWellKnown:
		return (*Handler).autoconfig
	case path == autodiscoverXML:
		return (*Handler).autodiscover
	case path == autodiscoverJSON, strings.HasPrefix(path, autodiscoverJSON+"/v1.0/"):
		return (*Handler).autodiscoverJSON
	case path == clientsetup.ProfilePath:
		return (*Handler).profile
	case path == clientsetup.QRCodePath:
		return (*Handler).qrCode
	}
	return nil
}

// ServeHTTP answers one request; 404 for a path that Handles does not know.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	serve := routeOf(r.URL.Path)
	if serve == nil {
		http.NotFound(w, r)
		return
	}
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "default-src 'none'")
	serve(h, w, r)
}

// reads lets GET and HEAD pass, and answers others.
func reads(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	http.Error(w, "only GET", http.StatusMethodNotAllowed)
	return false
}

// setup is what is said to everybody of the domain: that of a mailbox without anything of its own. ok is unset for an address that is none of
// this domain.
func (h *Handler) setup(ctx context.Context, address string) (s clientsetup.Setup, ok bool, err error) {
	place, rules, err := h.options.Facts(ctx)
	if err != nil {
		return s, false, err
	}
	if address != anyAddress {
		if len(address) > maxAddress {
			return s, false, nil
		}
		parsed, err := mailaddr.Parse(strings.TrimSpace(address))
		if err != nil || parsed.Domain() != place.Domain {
			return s, false, nil
		}
		local, err := mailaddr.CanonicalLocal(parsed.Local())
		if err != nil {
			return s, false, nil
		}
		if parsed, err = mailaddr.New(local, place.Domain); err != nil {
			return s, false, nil
		}
		address = parsed.String()
	}
	s = clientsetup.New(place, rules, clientsetup.Mailbox{Address: address})
	// Programs that ask are not old, and an old one that is let in by its mailbox must not show by the answer that there is that mailbox.
	old := func(w clientsetup.Way) bool { return w.Old }
	s.Fetch, s.Send = slices.DeleteFunc(s.Fetch, old), slices.DeleteFunc(s.Send, old)
	if len(s.Fetch) == 0 || len(s.Send) == 0 {
		return s, false, errNoWay
	}
	return s, true, nil
}

// fail answers where our side is at fault.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errNoWay) {
		http.Error(w, "mail programs cannot be set up by themselves here", http.StatusNotFound)
		return
	}
	h.options.Logger.ErrorContext(r.Context(), "set-up data not given", "err", err)
	http.Error(w, "temporary failure", http.StatusServiceUnavailable)
}

// parameter returns a query parameter whose name may be in any letter case.
func parameter(r *http.Request, name string) (string, bool) {
	for key, values := range r.URL.Query() {
		if strings.EqualFold(key, name) {
			return values[0], true
		}
	}
	return "", false
}

// write sends a whole body.
func write(w http.ResponseWriter, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(body) // whoever asked may have gone
}

// body reads the body of a request, up to maxBody.
func body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	return io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
}
