package pages

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"sync"
	"time"

	"latchkey/auth"
	"latchkey/webmanager"
)

// Bounds of the sessions.
const (
	// MaxSessions bounds the sessions of all people; beyond it the one that was idle longest ends. MaxAccountSessions bounds those of one mailbox, so
	// that nobody ends the sessions of others.
	MaxSessions        = 2000
	MaxAccountSessions = 10
	// IdleTime is after how long without a request a session ends, SessionTime after how long in any case.
	IdleTime    = 30 * time.Minute
	SessionTime = 12 * time.Hour
	// tokenSize is what a cookie holds, in octets of randomness.
	tokenSize = 32
)

// session is somebody who signed in. Its fields but those that sessions.mu protects never change.
type session struct {
	hash    [32]byte
	id      auth.Identity    // of a mailbox
	as      webmanager.Actor // of the operator; zero for a mailbox
	created time.Time

	seen  time.Time // sessions.mu protects it, and flash
	flash string
}

// sessions are kept in memory only: whoever steals the data directory, or a backup, has none of them, and a restart ends them.
type sessions struct {
	now func() time.Time

	mu     sync.Mutex // protects the fields below
	byHash map[[32]byte]*list.Element
	order  *list.List // of *session, the one that was seen last first
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, byHash: map[[32]byte]*list.Element{}, order: list.New()}
}

// begin makes a session, and returns what its cookie holds. The store of sessions has only a hash of that.
func (t *sessions) begin(id auth.Identity, as webmanager.Actor) (token string) {
	secret := make([]byte, tokenSize)
	_, _ = rand.Read(secret) // never fails: crypto/rand ends the process instead
	token = base64.RawURLEncoding.EncodeToString(secret)
	now := t.now()
	s := &session{hash: sha256.Sum256([]byte(token)), id: id, as: as, created: now, seen: now}
	t.mu.Lock()
	defer t.mu.Unlock()
	own, last := 0, (*list.Element)(nil)
	for e := t.order.Front(); e != nil; e = e.Next() {
		if other := e.Value.(*session); other.id.Account == id.Account {
			own, last = own+1, e
		}
	}
	if own >= MaxAccountSessions {
		t.remove(last)
	}
	if t.order.Len() >= MaxSessions {
		t.remove(t.order.Back())
	}
	t.byHash[s.hash] = t.order.PushFront(s)
	return token
}

// find returns the session of a cookie, nil if there is none or its time is over.
func (t *sessions) find(token string) *session {
	if len(token) != base64.RawURLEncoding.EncodedLen(tokenSize) {
		return nil
	}
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byHash[sha256.Sum256([]byte(token))]
	if e == nil {
		return nil
	}
	s := e.Value.(*session)
	if now.Sub(s.seen) >= IdleTime || now.Sub(s.created) >= SessionTime {
		t.remove(e)
		return nil
	}
	s.seen = now
	t.order.MoveToFront(e)
	return s
}

// end ends a session; one that has ended already may be ended again.
func (t *sessions) end(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byHash[s.hash]; e != nil {
		t.remove(e)
	}
}

// remove needs t.mu.
func (t *sessions) remove(e *list.Element) {
	delete(t.byHash, t.order.Remove(e).(*session).hash)
}

// putFlash leaves a sentence for the next page of a session, takeFlash takes it.
func (t *sessions) putFlash(s *session, sentence string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.flash = sentence
}

func (t *sessions) takeFlash(s *session) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	sentence := s.flash
	s.flash = ""
	return sentence
}

// cookieName has the prefix with which browsers take a cookie only from this very host, by TLS, for all paths (RFC 6265bis §4.1.3.2).
func (s *Server) cookieName(r *http.Request) string {
	if s.secure(r) {
		return "__Host-latchkey"
	}
	return "latchkey"
}

// setCookie gives a browser its session; an empty token takes it away.
func (x *exchange) setCookie(token string) {
	c := &http.Cookie{
		Name: x.s.cookieName(x.r), Value: token, Path: "/", HttpOnly: true, Secure: x.s.secure(x.r), SameSite: http.SameSiteLaxMode,
	}
	if token == "" {
		c.MaxAge = -1
	}
	http.SetCookie(x.w, c)
}
