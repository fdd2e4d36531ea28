package pages

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"latchkey/auth"
	"latchkey/webmanager"
)

// withScript is what the policy of a page lets through in addition that has the script for passkeys.
const withScript = "; script-src 'self'; connect-src 'self'"

// scripted is the data of a page that may have the script for passkeys; the others have none.
type scripted interface{ needsScript() bool }

// needsScript implements scripted.
func (d loginData) needsScript() bool { return d.Passkeys }

// passkeysHere reports whether browsers make and show passkeys at the address that this request came to; origin is where they do.
func (x *exchange) passkeysHere() (here bool, origin string, err error) {
	origin, err = x.s.o.API.PasskeyOrigin(x.r.Context())
	if err != nil || origin == "" {
		return false, "", err
	}
	u, err := url.Parse(origin)
	if err != nil {
		return false, "", err
	}
	return strings.EqualFold(x.r.Host, u.Host) && x.s.secure(x.r) == (u.Scheme == "https"), origin, nil
}

// showLoginAs shows the login, with the passkeys that there may be.
func (x *exchange) showLoginAs(status int, data loginData) error {
	var err error
	if data.Passkeys, _, err = x.passkeysHere(); err != nil {
		return err
	}
	return x.showAs(status, "login", x.t("login.title"), data)
}

// askForPasskey answers the script of the login with what a passkey is shown with.
func (x *exchange) askForPasskey() error {
	asked, err := x.s.o.API.AskForPasskey(x.r.Context())
	if err != nil {
		return err
	}
	x.w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(x.w).Encode(asked)
}

// showPasskey lets in who shows a passkey. It is as good as a password and a code: whoever holds the authenticator is known to it.
func (x *exchange) showPasskey() error {
	data := loginData{Next: localPath(x.form("next"))}
	at := auth.Attempt{Service: "web", Remote: x.actor.Remote, TLS: x.s.secure(x.r)}
	id, err := x.s.o.API.SignInWithPasskey(x.r.Context(), at, x.form("ticket"), []byte(x.form("response")))
	if err == nil {
		return x.enter(id, webmanager.Actor{}, data.Next)
	}
	if errors.Is(err, webmanager.ErrTooLate) {
		data.TooLate = true
		return x.showLoginAs(http.StatusUnprocessableEntity, data)
	}
	return x.notIn(err, data)
}

// passkeysPath is the path of the API about passkeys of the mailbox of the request.
func (x *exchange) passkeysPath(more ...string) string {
	return webmanager.Path(append([]string{"accounts", x.r.PathValue("name"), "passkeys"}, more...)...)
}

// passkeyData is the page on which a browser makes a passkey.
type passkeyData struct {
	Name, Ticket, Options string
}

// needsScript implements scripted.
func (passkeyData) needsScript() bool { return true }

// makePasskey shows the page on which the browser makes a passkey, to whoever knows the password.
func (x *exchange) makePasskey() error {
	body := webmanager.NewPasskey{Name: strings.TrimSpace(x.form("passkey_name")), Current: x.form("passkey_current")}
	var asked webmanager.PasskeyOptions
	if err := x.do(http.MethodPost, x.passkeysPath(), body, &asked); err != nil {
		return x.again(renamed(renamed(err, "current", "passkey_current"), "name", "passkey_name"), (*exchange).showMailbox)
	}
	return x.show("passkey", x.t("passkey.add"), passkeyData{Name: body.Name, Ticket: asked.Ticket, Options: string(asked.Options)})
}

// addPasskey keeps what the browser has made.
func (x *exchange) addPasskey() error {
	body := webmanager.MadePasskey{Name: x.form("passkey_name"), Ticket: x.form("ticket"), Response: json.RawMessage(x.form("response"))}
	if !json.Valid(body.Response) {
		body.Response = json.RawMessage("null") // the API says what is wrong with it
	}
	var added webmanager.Passkey
	if err := x.do(http.MethodPut, x.passkeysPath(), body, &added); err != nil {
		return x.again(renamed(err, "name", "passkey_name"), (*exchange).showMailbox)
	}
	return x.done(mailboxPath(x.r.PathValue("name")), x.t("passkey.added", added.Name))
}

func (x *exchange) removePasskey() error {
	if err := x.do(http.MethodDelete, x.passkeysPath(x.form("passkey")), nil, nil); err != nil {
		return x.again(err, (*exchange).showMailbox)
	}
	return x.done(mailboxPath(x.r.PathValue("name")), x.t("passkey.removed"))
}
