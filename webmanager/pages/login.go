package pages

import (
	"errors"
	"net/http"
	"strings"

	"latchkey/auth"
	"latchkey/webmanager"
)

// doorPages are those that lead in and out.
func (s *Server) doorPages() []pageRoute {
	return []pageRoute{
		{"GET /{$}", "GET /v1/version", (*exchange).home},
		{"GET /login", open, (*exchange).showLogin},
		{"POST /login", open, (*exchange).login},
		{"POST /login/code", open, (*exchange).showCode},
		{"POST /login/passkey", open, (*exchange).showPasskey},
		{"POST /login/passkey/begin", open, (*exchange).askForPasskey},
		{"POST /logout", open, (*exchange).logout},
		{"GET " + webmanager.SignInPath, open, (*exchange).showSignIn},
		{"POST " + webmanager.SignInPath, open, (*exchange).signIn},
	}
}

// home shows everybody what he looks at first.
func (x *exchange) home() error {
	if x.actor.Role >= webmanager.RoleOwner {
		return x.showOverview()
	}
	return x.done(mailboxPath(x.actor.Name), "")
}

// loginData is what the login shows.
type loginData struct {
	Next string
	// Wrong is set after a login that failed: the same words for each.
	Wrong, Busy bool
	// TooLate is set where a passkey was not looked at. Passkeys is set where they can be shown.
	TooLate, Passkeys bool
}

func (x *exchange) showLogin() error {
	next := localPath(x.r.URL.Query().Get("next"))
	if x.session != nil {
		return x.done(next, "")
	}
	return x.showLoginAs(http.StatusOK, loginData{Next: next})
}

// login lets in who knows the password of a mailbox. Wrong passwords count together with those at the other doors, and wait as they do there. The
// page that says no is the same for each cause.
func (x *exchange) login() error {
	data := loginData{Next: localPath(x.form("next"))}
	at := auth.Attempt{Service: "web", Mechanism: "FORM", Remote: x.actor.Remote, TLS: x.s.secure(x.r)}
	id, err := x.s.o.Login.Login(x.r.Context(), at, strings.TrimSpace(x.form("name")), x.form("password"))
	if err == nil && id.Device == 0 {
		return x.proved(id, data.Next)
	}
	return x.notIn(err, data)
}

// notIn shows the login again to somebody who is not let in, be it because a device's password is none of these pages.
func (x *exchange) notIn(err error, data loginData) error {
	switch {
	case errors.Is(err, auth.ErrBusy):
		data.Busy = true
		return x.showLoginAs(http.StatusServiceUnavailable, data)
	case err == nil, errors.Is(err, auth.ErrCredentials), errors.Is(err, auth.ErrSuspended), errors.Is(err, auth.ErrThrottled),
		errors.Is(err, auth.ErrBanned), errors.Is(err, auth.ErrCleartext), errors.Is(err, auth.ErrExposed), errors.Is(err, auth.ErrDeviceExpired),
		errors.Is(err, auth.ErrDeviceNetwork), errors.Is(err, auth.ErrDeviceScope):
		data.Wrong = true
		return x.showLoginAs(http.StatusUnauthorized, data)
	}
	return err
}

// enter begins a new session: what the browser brought is void, so that nobody is signed in to a session that somebody else knows.
func (x *exchange) enter(id auth.Identity, as webmanager.Actor, next string) error {
	if x.session != nil {
		x.s.sessions.end(x.session)
	}
	x.setCookie(x.s.sessions.begin(id, as))
	http.Redirect(x.w, x.r, next, http.StatusSeeOther)
	return nil
}

func (x *exchange) logout() error {
	if x.session != nil {
		x.s.sessions.end(x.session)
	}
	x.setCookie("")
	http.Redirect(x.w, x.r, "/login", http.StatusSeeOther)
	return nil
}

// maxSignInToken bounds the token of a link in octets.
const maxSignInToken = 100

// showSignIn asks for a click: what only looks at links, as mail programs do, must not use one up.
func (x *exchange) showSignIn() error {
	token := x.r.URL.Query().Get("token")
	return x.show("signin", x.t("signin.title"), token[:min(len(token), maxSignInToken)])
}

func (x *exchange) signIn() error {
	actor, ok := x.s.o.API.RedeemSignIn(x.form("token"))
	if !ok {
		x.problem = &webmanager.Error{Code: webmanager.CodeNoToken, Message: x.t("signin.void")}
		return x.show("signin", x.t("signin.title"), "")
	}
	x.s.log.Info("operator signed in to the pages", "actor", actor.Name, "remote", x.actor.Remote.String())
	return x.enter(auth.Identity{}, actor, "/")
}
