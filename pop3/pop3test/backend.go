package pop3test

import (
	"context"
	"strconv"
	"sync"

	"latchkey/pop3"
)

// Backend is a pop3.Backend that keeps maildrops in memory. Its fields are set before it serves and not changed after; its methods may be called at
// any time, from any goroutine. The zero Backend has no maildrops, and takes USER and PASS.
type Backend struct {
	// Mechanisms are offered for AUTH, in this order: of PLAIN, LOGIN, CRAM-MD5, and TWO-STEP, which has no password and whose last step has data
	// for the client, as SCRAM's has.
	Mechanisms []string
	// RefusePassword, if set, is why USER and PASS are refused without TLS.
	RefusePassword *pop3.Error
	// InClear, if set, is told what came with commands that were refused: a name and a password, or a mechanism and its initial response.
	InClear func(name, secret string)
	// BeforeLogin and AfterLogin are what CAPA tells of maildrops.
	BeforeLogin, AfterLogin pop3.Policy
	// Last offers LAST.
	Last bool
	// Surrogate, if set, makes what clients without UTF8 get instead of a message that has UTF-8 in its header. Without it such messages are refused.
	Surrogate func(text string) string
	// Texts are translations of texts of errors, by language tag and text.
	Texts map[string]map[string]string

	// Greeting, Opening and Updating are errors that the backend returns at these points.
	Greeting, Opening, Updating error
	// Listing, if set, is called before each list of a maildrop's messages; its error is returned.
	Listing func() error
	// Work, if set, is called before every login is decided, with its context.
	Work func(ctx context.Context)
	// Ended, if set, is called at the end of every session.
	Ended func()

	mu      sync.Mutex // protects the fields below
	users   map[string]*user
	logouts int
}

type user struct {
	password string
	messages []message
	given    int // unique-ids
}

type message struct {
	uid, text string
	// size is what is listed; the text's length unless a test lies.
	size    int64
	fetched bool
}

// Add adds a maildrop with messages, or replaces one. Messages should have CRLF line ends. Unique-ids are uid1, uid2 and so on.
func (b *Backend) Add(name, password string, texts ...string) {
	b.mu.Lock()
	if b.users == nil {
		b.users = map[string]*user{}
	}
	b.users[name] = &user{password: password}
	b.mu.Unlock()
	for _, text := range texts {
		b.Deliver(name, text)
	}
}

// Deliver puts a message into a maildrop, for sessions that begin from now on, and returns its unique-id. It panics if there is no such maildrop.
func (b *Backend) Deliver(name, text string) (uid string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	u := b.user(name)
	u.given++
	uid = "uid" + strconv.Itoa(u.given)
	u.messages = append(u.messages, message{uid: uid, text: text, size: int64(len(text))})
	return uid
}

// Lie makes the listed size of message n (from 1) another than its length, for tests of what a client is told then. It panics if there is no such
// message.
func (b *Backend) Lie(name string, n int, size int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.user(name).messages[n-1].size = size
}

// UIDs returns the unique-ids of the messages in a maildrop. It panics if there is no such maildrop.
func (b *Backend) UIDs(name string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	uids := []string{}
	for _, m := range b.user(name).messages {
		uids = append(uids, m.uid)
	}
	return uids
}

// Logouts returns how many sessions have ended.
func (b *Backend) Logouts() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.logouts
}

// user is called with mu held.
func (b *Backend) user(name string) *user {
	u, ok := b.users[name]
	if !ok {
		panic("pop3test: no maildrop " + strconv.Quote(name))
	}
	return u
}

// NewSession begins a session; see pop3.Backend.
func (b *Backend) NewSession(_ context.Context, c *pop3.Conn) (pop3.Session, error) {
	if b.Greeting != nil {
		return nil, b.Greeting
	}
	return &session{backend: b, conn: c}, nil
}

// Translate looks texts up in Texts; see pop3.Translator.
func (b *Backend) Translate(tag, text string) string {
	if t, ok := b.Texts[tag][text]; ok {
		return t
	}
	return text
}

// APOP returns a backend on the same maildrops that takes APOP too.
func (b *Backend) APOP() pop3.Backend { return apopBackend{b} }

type apopBackend struct{ *Backend }

func (b apopBackend) NewSession(ctx context.Context, c *pop3.Conn) (pop3.Session, error) {
	s, err := b.Backend.NewSession(ctx, c)
	if err != nil {
		return nil, err
	}
	return &apopSession{s.(*session)}, nil
}
