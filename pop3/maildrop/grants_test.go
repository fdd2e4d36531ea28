package maildrop

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"latchkey/guard"
	"latchkey/store"
)

// wire remembers what the server has written.
type wire struct {
	mu   sync.Mutex // protects sent
	sent bytes.Buffer
}

func (w *wire) has(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Contains(w.sent.String(), text)
}

type wiretap struct {
	net.Listener
	w *wire
}

func (l wiretap) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return tapped{c, l.w}, err
}

type tapped struct {
	net.Conn
	w *wire
}

func (c tapped) Write(p []byte) (int, error) {
	c.w.mu.Lock()
	c.w.sent.Write(p)
	c.w.mu.Unlock()
	return c.Conn.Write(p)
}

// given is who was told of logins.
type given struct {
	t *testing.T
	w *wire

	mu     sync.Mutex // protects the fields below
	places []guard.Place
	names  []string
	ids    []store.AccountID
}

func (g *given) LoggedIn(_ context.Context, p guard.Place, id store.AccountID, name string, version uint64, _ store.DeviceID) {
	if g.w.has("+OK 2 messages") {
		g.t.Error("the client was told before the grant was given")
	}
	if version == 0 {
		g.t.Error("no credential version")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.places, g.names, g.ids = append(g.places, p), append(g.names, name), append(g.ids, id)
}

func plain(username, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + username + "\x00" + password))
}

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// logins are ways to log in, and ways not to.
var logins = []struct {
	name string
	// say are pairs of a command and the beginning of its reply.
	say  []string
	ok   bool
	fail bool // Open fails
}{
	{"USER", []string{"USER alice@example.com", "+OK", "PASS open sesame", "+OK 2 messages"}, true, false},
	{"PLAIN", []string{"AUTH PLAIN " + plain("alice", "open sesame"), "+OK 2 messages"}, true, false},
	{"PLAIN after a challenge", []string{"AUTH PLAIN", "+ ", plain("alice", "open sesame"), "+OK 2 messages"}, true, false},
	{"LOGIN", []string{"AUTH LOGIN", "+ ", b64("alice"), "+ ", b64("open sesame"), "+OK 2 messages"}, true, false},
	{"at the second try", []string{"USER alice", "+OK", "PASS wrong", "-ERR", "USER alice", "+OK", "PASS open sesame", "+OK 2 messages"}, true, false},
	{"wrong password", []string{"USER alice", "+OK", "PASS wrong", "-ERR [AUTH]"}, false, false},
	{"wrong password by AUTH", []string{"AUTH PLAIN " + plain("alice", "wrong"), "-ERR [AUTH]"}, false, false},
	{"nobody", []string{"USER nobody", "+OK", "PASS open sesame", "-ERR [AUTH]"}, false, false},
	{"suspended", []string{"USER carol", "+OK", "PASS open sesame", "-ERR [AUTH]"}, false, false},
	{"suspended by AUTH", []string{"AUTH PLAIN " + plain("carol", "open sesame"), "-ERR [AUTH]"}, false, false},
	{"as somebody else", []string{"AUTH PLAIN " + b64("bob\x00alice\x00open sesame"), "-ERR [AUTH]"}, false, false},
	{"given up", []string{"AUTH LOGIN", "+ ", b64("alice"), "+ ", "*", "-ERR"}, false, false},
	{"no password", []string{"USER alice", "+OK", "QUIT", "+OK"}, false, false},
	{"maildrop does not open", []string{"USER alice", "+OK", "PASS open sesame", "-ERR [SYS/PERM]"}, false, true},
	{"maildrop does not open after AUTH", []string{"AUTH PLAIN " + plain("alice", "open sesame"), "-ERR [SYS/PERM]"}, false, true},
}

// shut is a store whose maildrops do not open.
type shut struct{ Store }

func (shut) OpenMaildrop(context.Context, store.AccountID) (store.Maildrop, error) {
	return nil, store.ErrPoisoned
}

// TestGrantForEachLogin: a login that succeeds, by whatever mechanism, is told before its +OK leaves, once, with the client's unmapped
// address; one that fails is not, at the maildrop neither.
func TestGrantForEachLogin(t *testing.T) {
	for _, tt := range logins {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			f.set(func(s *store.Settings) { s.CleartextLogin = true })
			w := &wire{}
			g := &given{t: t, w: w}
			o := Options{Store: f.store, Grants: g, Loopback: tt.name == "LOGIN"}
			if tt.fail {
				o.Store = shut{f.store}
			}
			c := f.hello(f.serve(o, func(l net.Listener) net.Listener { return wiretap{outside{l}, w} }))
			for i := 0; i < len(tt.say); i += 2 {
				c.say(tt.say[i], tt.say[i+1])
			}
			if tt.ok { // nothing that follows is a login
				c.say("NOOP", "+OK")
				c.say("QUIT", "+OK")
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			if !tt.ok {
				if len(g.names) > 0 {
					t.Errorf("told of %v", g.names)
				}
				return
			}
			want := guard.Place{Remote: netip.MustParseAddr("198.51.100.7"), Loopback: tt.name == "LOGIN"}
			if len(g.names) != 1 || g.names[0] != "alice" || g.ids[0] != f.alice.ID || g.places[0] != want {
				t.Errorf("told of %v %v at %v, want alice at %v", g.names, g.ids, g.places, want)
			}
		})
	}
}

// TestGrantIsLiveBeforeOK: a client that sends mail in the moment of its +OK finds its grant, and who is not let in has none.
func TestGrantIsLiveBeforeOK(t *testing.T) {
	for _, tt := range logins {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			f.set(func(s *store.Settings) { s.CleartextLogin = true })
			none := func() ([]netip.Addr, error) { return nil, nil }
			g := guard.NewGrants(guard.GrantOptions{
				Grants: f.store, Accounts: f.store, Settings: f.store,
				Hosts: guard.NewHosts(guard.HostsOptions{Interfaces: none, Gateways: none}),
			})
			o := Options{Store: f.store, Grants: g}
			if tt.fail {
				o.Store = shut{f.store}
			}
			c := f.hello(f.serve(o, func(l net.Listener) net.Listener { return outside{l} }))
			for i := 0; i < len(tt.say); i += 2 {
				c.say(tt.say[i], tt.say[i+1])
			}
			live, err := g.Live(t.Context(), guard.Place{Remote: netip.MustParseAddr("198.51.100.7")}, []store.AccountID{f.alice.ID})
			if err != nil || (len(live) == 1) != tt.ok || tt.ok && live[0].Account != f.alice.ID {
				t.Errorf("live grants: %v (%v)", live, err)
			}
			_, _ = io.WriteString(c, "QUIT\r\n") // the end
		})
	}
}
