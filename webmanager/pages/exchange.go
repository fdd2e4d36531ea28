package pages

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"latchkey/webmanager"
)

// exchange is one request for a page, and its answer.
type exchange struct {
	s    *Server
	w    http.ResponseWriter
	r    *http.Request
	lang lang
	// session is nil, and actor has no role, for a stranger.
	session *session
	actor   webmanager.Actor
	client  *webmanager.Client
	// problem is why a form is shown again.
	problem *webmanager.Error
}

// pageRoute is one line of the table of pages.
type pageRoute struct {
	pattern string
	// verb is what the page asks the API for, as in its table of routes: whoever may not call that does not get the page either. Pages without one
	// (open) are for strangers too; the others send them to the login.
	verb   string
	handle func(*exchange) error
}

// open is the verb of pages for everybody.
const open = ""

// pages is the table.
func (s *Server) pages() []pageRoute {
	var all []pageRoute
	for _, part := range [][]pageRoute{
		s.doorPages(), s.overviewPages(), s.mailboxPages(), s.vacationPages(), s.aliasPages(), s.sendingPages(), s.trailPages(),
		s.queuePages(), s.banPages(), s.dnsPages(), s.tokenPages(), s.mailPages(),
	} {
		all = append(all, part...)
	}
	return append(all, pageRoute{"/", open, func(x *exchange) error {
		return &webmanager.Error{Code: webmanager.CodeNotFound, Message: x.t("error.nopage")}
	}})
}

// exchange finds out who asks.
func (s *Server) exchange(w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{s: s, w: w, r: r, lang: langOf(r), actor: webmanager.Actor{Remote: remote(r), Name: "a stranger"}}
	if cookie, err := r.Cookie(s.cookieName(r)); err == nil {
		x.resume(s.sessions.find(cookie.Value))
	}
	x.client = webmanager.InProcess(s.o.API, x.actor)
	return x
}

// resume takes up a session, unless its password was changed, or its mailbox suspended, since.
func (x *exchange) resume(session *session) {
	if session == nil {
		return
	}
	actor := session.as
	if actor.Role == webmanager.RoleAnyone {
		var err error
		actor, err = x.s.o.API.Person(x.r.Context(), session.id)
		if errors.Is(err, webmanager.ErrNotCurrent) {
			x.s.sessions.end(session)
			return
		}
		if err != nil {
			x.s.log.Error("a session could not be looked at", "err", err)
			return
		}
	}
	actor.Remote, actor.Session = x.actor.Remote, base64.RawURLEncoding.EncodeToString(session.hash[:])
	x.session, x.actor = session, actor
}

// page makes a handler of a line of the table.
func (s *Server) page(p pageRoute) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := s.exchange(w, r)
		if x.session == nil && p.verb != open {
			x.toLogin()
			return
		}
		if p.verb != open {
			if err := s.o.API.May(x.actor, p.verb); err != nil {
				s.fail(x, err)
				return
			}
		}
		if r.Method == http.MethodPost {
			if err := parseForm(r); err != nil {
				s.fail(x, &webmanager.Error{Code: webmanager.CodeInvalid, Message: x.t("error.form")})
				return
			}
		}
		if err := p.handle(x); err != nil {
			s.fail(x, err)
		}
	})
}

// errNoForm is given for a body that is not what browsers make of a form here: taken for a form without fields, it would empty what it is about.
var errNoForm = errors.New("pages: not a form")

// parseForm reads the body of a form.
func parseForm(r *http.Request) error {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); r.ContentLength != 0 && (err != nil || media != "application/x-www-form-urlencoded") {
		return errNoForm
	}
	return r.ParseForm()
}

// toLogin sends a stranger to the login; from there a page that was asked for is found again.
func (x *exchange) toLogin() {
	to := "/login"
	if x.r.Method == http.MethodGet && x.r.URL.Path != "/" {
		to += "?" + url.Values{"next": {x.r.URL.RequestURI()}}.Encode()
	}
	http.Redirect(x.w, x.r, to, http.StatusSeeOther)
}

// localPath is a path of these pages that somebody is to be sent to, "/" for anything else: nobody is sent to another host.
func localPath(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(u.Path, "//") ||
		strings.ContainsAny(text, "\\\r\n\t") || strings.HasPrefix(text, "//") {
		return "/"
	}
	return (&url.URL{Path: u.Path, RawQuery: u.RawQuery}).String()
}

// t is a text in the language of the browser.
func (x *exchange) t(key string, args ...any) string { return text(x.lang, key, args...) }

// do asks the API. What was typed for a name and is none of a path's segments names nothing.
func (x *exchange) do(method, path string, in, out any) error {
	if err := x.named(path); err != nil {
		return err
	}
	return x.client.Do(x.r.Context(), method, path, in, out)
}

// named refuses a path of which a segment names nothing.
func (x *exchange) named(path string) error {
	segments, _, _ := strings.Cut(path, "?")
	for segment := range strings.SplitSeq(strings.TrimPrefix(segments, "/"), "/") {
		if segment == "" || segment == "." || segment == ".." {
			return &webmanager.Error{Code: webmanager.CodeNotFound, Message: x.t("error.nopage")}
		}
	}
	return nil
}

// get asks the API a question.
func (x *exchange) get(path string, query url.Values, out any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return x.do(http.MethodGet, path, nil, out)
}

// form is what was typed into a field.
func (x *exchange) form(name string) string { return x.r.PostForm.Get(name) }

// again shows a form again with what is wrong with it. What is no mistake of whoever filled it in goes on as an error.
func (x *exchange) again(err error, page func(*exchange) error) error {
	var problem *webmanager.Error
	if !errors.As(err, &problem) || problem.Code == webmanager.CodeForbidden && len(problem.Fields) == 0 || problem.Code == webmanager.CodeInternal {
		return err
	}
	x.problem = inLanguage(x.lang, problem)
	return page(x)
}

// isCode reports whether an error is a refusal of a code.
func isCode(err error, code webmanager.Code) bool {
	var refusal *webmanager.Error
	return errors.As(err, &refusal) && refusal.Code == code
}

// done sends the browser on after a change, with a sentence for the next page.
func (x *exchange) done(path, sentence string) error {
	if x.session != nil && sentence != "" {
		x.s.sessions.putFlash(x.session, sentence)
	}
	http.Redirect(x.w, x.r, path, http.StatusSeeOther)
	return nil
}

// show answers with a page.
func (x *exchange) show(name, title string, data any) error {
	status := http.StatusOK
	if x.problem != nil {
		status = x.problem.Code.Status()
	}
	return x.showAs(status, name, title, data)
}

func (x *exchange) showAs(status int, name, title string, data any) error {
	v, err := x.view(title, data)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := x.s.render.page(&b, x.lang, name, v); err != nil {
		return err
	}
	h := x.w.Header()
	if v.Script != "" {
		h.Set("Content-Security-Policy", policy+withScript)
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", string(x.lang))
	h.Add("Vary", "Accept-Language, Cookie")
	x.w.WriteHeader(status)
	_, _ = b.WriteTo(x.w) // a client that has gone needs no answer
	return nil
}

// fail answers with the page for an error.
func (s *Server) fail(x *exchange, err error) {
	var refusal *webmanager.Error
	if !errors.As(err, &refusal) {
		if !errors.Is(err, context.Canceled) && !errors.Is(err, errPanic) {
			s.log.Error("a page failed", "method", x.r.Method, "path", x.r.URL.Path, "err", err)
		}
		refusal = &webmanager.Error{Code: webmanager.CodeInternal, Message: x.t("error.inside")}
	}
	x.problem, refusal = nil, inLanguage(x.lang, refusal)
	status := refusal.Code.Status()
	title := x.t("error.title")
	switch status {
	case http.StatusNotFound:
		title = x.t("error.notfound")
	case http.StatusForbidden:
		title = x.t("error.forbidden")
	}
	if err := x.showAs(status, "error", title, refusal); err != nil {
		s.log.Error("the page for an error failed", "err", err)
		http.Error(x.w, "something failed inside", http.StatusInternalServerError)
	}
}
