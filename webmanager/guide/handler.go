package guide

import (
	"context"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"latchkey/internal/clientsetup"
)

// Options are what a Guide needs. Layout must be set for ServeHTTP; for the rest the zero Options make a guide with example values at the root.
type Options struct {
	// Layout answers a request with a page, in the style and with the headers of whatever it is part of.
	Layout func(w http.ResponseWriter, r *http.Request, p Page)
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

// Page is what Options.Layout is given.
type Page struct {
	Fragment
	// Status is that of the answer.
	Status int
	Lang   clientsetup.Lang
	// Other is the same page in the language OtherLang, which calls itself OtherName.
	Other, OtherLang, OtherName string
}

// ServeHTTP serves the guide by Options.Layout.
func (g *Guide) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutPrefix(r.URL.Path, g.root)
	if !ok || name != "" && name[0] != '/' {
		http.NotFound(w, r)
		return
	}
	name = strings.Trim(name, "/")
	h := w.Header()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	l := Language(r)
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept-Language, Cookie")
	if r.URL.Query().Get("lang") == string(l) {
		http.SetCookie(w, &http.Cookie{
			Name: langCookie, Value: string(l), Path: "/", MaxAge: langAge, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode,
		})
	}
	f, err := g.serve(r, l, name)
	status := http.StatusOK
	switch {
	case errors.Is(err, ErrNoPage):
		f, status = g.nothing(l), http.StatusNotFound
	case err != nil:
		g.logger().ErrorContext(r.Context(), "page of the guide not made", "page", name, "err", err)
		http.Error(w, "temporary failure", http.StatusServiceUnavailable)
		return
	}
	p := Page{Fragment: f, Status: status, Lang: l, OtherLang: "de", OtherName: "Deutsch"}
	if l == clientsetup.German {
		p.OtherLang, p.OtherName = "en", "English"
	}
	query := url.Values{"lang": {p.OtherLang}}
	if words := r.URL.Query().Get("q"); words != "" {
		query.Set("q", words)
	}
	p.Other = (&url.URL{Path: r.URL.Path, RawQuery: query.Encode()}).String()
	h.Set("Content-Language", string(l))
	g.options.Layout(w, r, p)
}

// nothing is shown where there is no such page.
func (g *Guide) nothing(l clientsetup.Lang) Fragment {
	title, list := "There is no such page", "All programs"
	if l == clientsetup.German {
		title, list = "Diese Seite gibt es nicht", "Alle Programme"
	}
	body := `<p><a href="` + template.HTMLEscapeString(g.root) + `/">` + list + `</a></p>`
	return Fragment{Title: title, Body: template.HTML(body)} //nolint:gosec // the root is the program's own
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
