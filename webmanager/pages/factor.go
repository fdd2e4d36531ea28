package pages

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"latchkey/auth"
	"latchkey/webmanager"
)

const (
	// halfTime is how long somebody who has shown a password may take to show a code, halfTries how many codes.
	halfTime  = 5 * time.Minute
	halfTries = 5
	// maxHalves bounds those who have shown a password and no code yet; beyond it the oldest begins again.
	maxHalves = 1000
)

// half is somebody who has shown a password, and has to show a code.
type half struct {
	hash  [32]byte
	id    auth.Identity
	began time.Time
	tries int
}

// halves are kept in memory, by a hash of what their form holds.
type halves struct {
	now func() time.Time

	mu     sync.Mutex // protects the fields below
	byHash map[[32]byte]*list.Element
	order  *list.List // of *half, the newest first
}

func newHalves(now func() time.Time) *halves {
	return &halves{now: now, byHash: map[[32]byte]*list.Element{}, order: list.New()}
}

func (t *halves) begin(id auth.Identity) (token string) {
	token = rand.Text() + rand.Text()
	h := &half{hash: sha256.Sum256([]byte(token)), id: id, began: t.now()}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.order.Len() >= maxHalves {
		t.remove(t.order.Back())
	}
	t.byHash[h.hash] = t.order.PushFront(h)
	return token
}

// try returns whose code may be looked at now.
func (t *halves) try(token string) (id auth.Identity, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byHash[sha256.Sum256([]byte(token))]
	if e == nil {
		return id, false
	}
	h := e.Value.(*half)
	if h.tries++; t.now().Sub(h.began) >= halfTime || h.tries > halfTries {
		t.remove(e)
		return id, false
	}
	return h.id, true
}

func (t *halves) end(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byHash[sha256.Sum256([]byte(token))]; e != nil {
		t.remove(e)
	}
}

// remove needs t.mu.
func (t *halves) remove(e *list.Element) { delete(t.byHash, t.order.Remove(e).(*half).hash) }

// codeData is the page that asks for a code.
type codeData struct {
	Half, Next string
	Wrong      bool
}

// proved goes on with somebody who has shown a password: into a session, or to a code.
func (x *exchange) proved(id auth.Identity, next string) error {
	needed, err := x.s.o.API.NeedsTOTP(x.r.Context(), id.Account)
	if err != nil {
		return err
	}
	if !needed {
		return x.enter(id, webmanager.Actor{}, next)
	}
	return x.show("code", x.t("code.title"), codeData{Half: x.s.halves.begin(id), Next: next})
}

// showCode lets in who shows a code after a password.
func (x *exchange) showCode() error {
	token, next := x.form("half"), localPath(x.form("next"))
	id, ok := x.s.halves.try(token)
	if !ok {
		return x.showLoginAs(http.StatusUnauthorized, loginData{Next: next, Wrong: true})
	}
	code := strings.ReplaceAll(strings.TrimSpace(x.form("code")), " ", "")
	right, err := x.s.o.API.CheckTOTP(x.r.Context(), id.Account, code)
	if err != nil {
		return err
	}
	if !right {
		x.s.log.Info("a code was wrong", "account", id.Name, "remote", x.actor.Remote.String())
		return x.showAs(http.StatusUnauthorized, "code", x.t("code.title"), codeData{Half: token, Next: next, Wrong: true})
	}
	x.s.halves.end(token)
	return x.enter(id, webmanager.Actor{}, next)
}

// factorPath is the path of the API about codes of the mailbox of the request.
func (x *exchange) factorPath(more ...string) string {
	return webmanager.Path(append([]string{"accounts", x.r.PathValue("name"), "totp"}, more...)...)
}

// makeFactor makes a secret and shows it, this once.
func (x *exchange) makeFactor() error {
	var secret webmanager.TOTPSecret
	if err := x.do(http.MethodPost, x.factorPath(), webmanager.NewTOTP{Current: x.form("totp_current")}, &secret); err != nil {
		return x.again(renamed(err, "current", "totp_current"), (*exchange).showMailbox)
	}
	return x.showFactor(&secret)
}

// renamed puts a mistake in a field of the API at the field of the form that it is about, as there are several forms on a page.
func renamed(err error, from, to string) error {
	var refusal *webmanager.Error
	if errors.As(err, &refusal) {
		for i := range refusal.Fields {
			if refusal.Fields[i].Field == from {
				refusal.Fields[i].Field = to
			}
		}
	}
	return err
}

func (x *exchange) showFactor(secret *webmanager.TOTPSecret) error {
	return x.show("factor", x.t("factor.title"), secret)
}

// startFactor lets codes be asked for, once one was shown. The secret that was shown stays on the page if the code is wrong.
func (x *exchange) startFactor() error {
	code := strings.ReplaceAll(strings.TrimSpace(x.form("code")), " ", "")
	if err := x.do(http.MethodPut, x.factorPath(), webmanager.TOTPCode{Code: code}, nil); err != nil {
		shown := &webmanager.TOTPSecret{Secret: x.form("secret"), URI: x.form("uri")}
		if !strings.HasPrefix(shown.URI, "otpauth://totp/") {
			shown.URI = ""
		}
		return x.again(err, func(x *exchange) error { return x.showFactor(shown) })
	}
	return x.done(mailboxPath(x.r.PathValue("name")), x.t("factor.started"))
}

func (x *exchange) endFactor() error {
	if err := x.do(http.MethodPost, x.factorPath("end"), webmanager.NewTOTP{Current: x.form("totp_current")}, nil); err != nil {
		return x.again(renamed(err, "current", "totp_current"), (*exchange).showMailbox)
	}
	return x.done(mailboxPath(x.r.PathValue("name")), x.t("factor.ended"))
}
