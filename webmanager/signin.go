package webmanager

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// SignInTime is how long a link that signs the operator in can be used, once.
	SignInTime = 5 * time.Minute
	// maxSignIns bounds the links that wait to be used; beyond it the oldest is void.
	maxSignIns = 20
	// SignInPath is where the pages take such a link; what signs in is the query's parameter token.
	SignInPath = "/sign-in"
)

// SignInLink signs the operator in to the pages, once.
type SignInLink struct {
	URL     string    `json:"url"`
	Expires time.Time `json:"expires"`
}

// signInLinks are the links that wait. The zero value is ready.
type signInLinks struct {
	mu   sync.Mutex // protects list
	list []signIn   // the oldest first
}

type signIn struct {
	hash    [32]byte
	by      string
	expires time.Time
}

func (l *signInLinks) add(s signIn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.list) >= maxSignIns {
		l.list = l.list[1:]
	}
	l.list = append(l.list, s)
}

// take returns who made a link, and voids it.
func (l *signInLinks) take(now time.Time, token string) (by string, ok bool) {
	hash := sha256.Sum256([]byte(token))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = slices.DeleteFunc(l.list, func(s signIn) bool { return !now.Before(s.expires) })
	i := slices.IndexFunc(l.list, func(s signIn) bool { return s.hash == hash })
	if i < 0 {
		return "", false
	}
	by = l.list[i].by
	l.list = slices.Delete(l.list, i, i+1)
	return by, true
}

// makeSignIn answers POST /v1/sign-in.
func (a *API) makeSignIn(r *http.Request) (any, error) {
	base := ""
	if a.webURL != nil {
		base = a.webURL()
	}
	if base == "" {
		return nil, &Error{Code: CodeUnavailable, Message: "no pages are served: start the server with web.listen set (--web-listen)"}
	}
	token, expires := rand.Text(), a.now().Add(SignInTime).UTC().Truncate(time.Second)
	a.links.add(signIn{hash: sha256.Sum256([]byte(token)), by: actorOf(r.Context()).Name, expires: expires})
	if err := a.audit(r.Context(), "sign-in.link", "", nil, nil); err != nil {
		return nil, err
	}
	return SignInLink{URL: base + SignInPath + "?token=" + token, Expires: expires}, nil
}

// RedeemSignIn is the operator who shows the token of a link; ok is false for one that is unknown, used or too old. The caller sets Remote.
func (a *API) RedeemSignIn(token string) (actor Actor, ok bool) {
	by, ok := a.links.take(a.now(), token)
	if !ok {
		return Actor{}, false
	}
	return Actor{Name: "operator, by a link of " + by, Role: RoleOperator}, true
}
