package maildrop

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/internal/dialog"
	"latchkey/internal/mailaddr"
	"latchkey/pop3"
	"latchkey/store"
	"latchkey/store/memstore"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("runtime/debug.freeOSMemory"))
}

// fixture is a domain with mail: alice has two messages, carol is suspended, dave's password has odd octets, erin's verifier is broken,
// and frank was guessed at.
type fixture struct {
	t     *testing.T
	store *memstore.Store
	guard *guard.Logins
	auth  *auth.Authenticator
	tls   *tls.Config
	alice store.Account
	vars  map[string]string
	door  string // of talk
}

// sesame is the verifier of "open sesame", which is made once: that is half of what a fixture costs.
var (
	sesame     store.Verifier
	sesameOnce sync.Once
)

// cheap are hashes for tests that are about something else.
var cheap = auth.Cost{Memory: 8, Time: 1}

// noDelays answers wrong passwords at once.
var noDelays = []time.Duration{0}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, store: memstore.New("example.com"), vars: map[string]string{}}
	t.Cleanup(func() {
		problems, err := f.store.Check(context.Background())
		if err != nil || len(problems) > 0 {
			t.Errorf("Check: %v %v", problems, err)
		}
		_ = f.store.Close()
	})
	f.guard = guard.NewLogins(guard.LoginLimits{Delays: noDelays})
	f.auth = auth.New(auth.Options{Accounts: f.store, Settings: f.store, Cost: cheap, Guard: f.guard})
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := guard.SelfSigned(certFile, keyFile, []string{"localhost"}); err != nil {
		t.Fatal(err)
	}
	certificate, err := guard.LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f.tls = guard.TLSConfig(certificate.GetCertificate)
	sesameOnce.Do(func() { sesame = f.hash("open sesame") })
	verifier := sesame
	f.alice = f.add(store.Account{Name: "alice", Verifier: verifier})
	f.add(store.Account{Name: "carol", Verifier: verifier, Suspended: true})
	f.add(store.Account{Name: "erin", Verifier: "$argon2id$broken"})
	f.deliver("Subject: one\r\n\r\n", ".dot\r\n")
	f.deliver("Subject: two\r\n\r\n", "body\r\n")
	f.count()
	return f
}

// count makes variables of sizes and unique-ids.
func (f *fixture) count() {
	f.t.Helper()
	octets := int64(0)
	for i, m := range f.messages() {
		n := strconv.Itoa(i + 1)
		f.vars["size"+n], f.vars["uid"+n] = strconv.FormatInt(m.Size, 10), m.UID
		octets += m.Size
	}
	f.vars["octets"] = strconv.FormatInt(octets, 10)
}

func (f *fixture) hash(password string) store.Verifier {
	f.t.Helper()
	v, err := f.auth.Hash(f.t.Context(), password)
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

func (f *fixture) add(a store.Account) store.Account {
	f.t.Helper()
	a, err := f.store.AddAccount(f.t.Context(), a)
	if err != nil {
		f.t.Fatal(err)
	}
	return a
}

// update changes alice.
func (f *fixture) update(change func(a *store.Account)) {
	f.t.Helper()
	change(&f.alice)
	a, err := f.store.UpdateAccount(f.t.Context(), f.alice)
	if err != nil {
		f.t.Fatal(err)
	}
	f.alice = a
}

func (f *fixture) set(change func(s *store.Settings)) {
	f.t.Helper()
	s, err := f.store.Settings(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	change(&s)
	if _, err := f.store.UpdateSettings(f.t.Context(), s); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) deliver(header, body string) store.MessageID {
	f.t.Helper()
	to, err := mailaddr.New("alice", "example.com")
	if err != nil {
		f.t.Fatal(err)
	}
	d, err := f.store.NewDraft(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := io.WriteString(d, header+body); err != nil {
		f.t.Fatal(err)
	}
	r, err := d.Commit(f.t.Context(), store.Envelope{
		Received: time.Now(), HeaderLen: int64(len(header)),
		Recipients: []store.Recipient{{Address: to, Account: f.alice.ID, Prefix: []byte("Delivered-To: alice@example.com\r\n")}},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return r.Message
}

func (f *fixture) messages() []store.Message {
	f.t.Helper()
	m, err := f.store.OpenMaildrop(f.t.Context(), f.alice.ID)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	messages, err := m.Messages(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return slices.Collect(messages)
}

// outside makes every client look like one from the internet.
type outside struct{ net.Listener }

type outsideConn struct{ net.Conn }

func (outsideConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 4711}
}

func (l outside) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return outsideConn{c}, nil
}

// serve opens a door until the test ends and returns its address.
func (f *fixture) serve(o Options, wrap func(net.Listener) net.Listener) string {
	f.t.Helper()
	o.Auth, o.TLSConfig, o.Hostname, o.Implementation = f.auth, f.tls, "mail.example.com", "Latchkey"
	if o.Store == nil {
		o.Store = f.store
	}
	s := New(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	address := l.Addr().String()
	if wrap != nil {
		l = wrap(l)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	f.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			f.t.Error(err)
		}
		if err := <-done; !errors.Is(err, pop3.ErrServerClosed) {
			f.t.Errorf("Serve: got %v", err)
		}
	})
	return address
}

func (f *fixture) dial(address string) net.Conn {
	f.t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	return c
}

// variants says what a transcript needs besides the usual domain.
var variants = map[string]struct {
	outside bool
	set     func(f *fixture)
	// rule makes it a door for old clients.
	rule func(f *fixture) OldClients
	// inUse has somebody else hold alice's maildrop.
	inUse bool
}{
	"old_client":            {outside: true, rule: func(f *fixture) OldClients { return ruleFor{account: f.alice.ID} }},
	"old_client_refused":    {outside: true, rule: func(f *fixture) OldClients { return ruleFor{account: f.alice.ID + 1} }},
	"maildrop_in_use":       {inUse: true, set: func(f *fixture) { f.set(exclusive) }},
	"cleartext_refused":     {outside: true},
	"stls_from_outside":     {outside: true},
	"cleartext_allowed":     {outside: true, set: func(f *fixture) { f.set(func(s *store.Settings) { s.CleartextLogin = true }) }},
	"login_scram":           {set: sealed},
	"login_password_octets": {set: addDave},
	"login_plain_octets":    {set: addDave},
	"login_throttled": {set: func(f *fixture) {
		f.add(store.Account{Name: "frank", Verifier: f.hash("right")})
		f.guard.Succeeded(time.Now(), netip.MustParseAddr("127.0.0.1"), "alice")
		for i := range guard.DefaultLoginLimits().Burst.N {
			f.guard.Failed(time.Now(), netip.MustParseAddr("127.0.0.1"), fmt.Sprint("mailbox", i), 0, "guess")
		}
	}},
	"login_banned": {set: func(f *fixture) {
		a := f.add(store.Account{Name: "frank", Verifier: f.hash("right")})
		f.set(func(s *store.Settings) { s.HelpURL = "https://help.example/ban" })
		for i := range guard.DefaultLoginLimits().Pair.N {
			f.guard.Failed(time.Now(), netip.MustParseAddr("127.0.0.1"), "frank", a.CredentialVersion, fmt.Sprint("guess", i))
		}
	}},
}

// sealed has the domain's mailboxes log in by challenge, and alice's password sealed.
func sealed(f *fixture) {
	f.auth = auth.New(auth.Options{Accounts: f.store, Settings: f.store, Cost: cheap, Sealing: f.store, Guard: guard.NewLogins(guard.LoginLimits{})})
	f.set(func(s *store.Settings) { s.OldClientLogin = true })
	if _, err := f.auth.Login(f.t.Context(), auth.Attempt{Service: "test", TLS: true}, "alice", "open sesame"); err != nil {
		f.t.Fatal(err)
	}
}

func addDave(f *fixture) {
	f.add(store.Account{Name: "dave", Verifier: f.hash(" two  words pässwörd ")})
}

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 17 {
		t.Fatalf("%d transcripts (%v)", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			v := variants[name]
			if v.set != nil {
				v.set(f)
			}
			var wrap func(net.Listener) net.Listener
			if v.outside {
				wrap = func(l net.Listener) net.Listener { return outside{l} }
			}
			var o Options
			if v.rule != nil {
				o.OldClients = v.rule(f)
			}
			if v.inUse {
				o.Locks = new(Locks)
				if _, _, err := o.Locks.acquire(f.alice.ID, netip.Prefix{}, &silent{}); err != nil {
					t.Fatal(err)
				}
			}
			conn := f.dial(f.serve(o, wrap))
			if v.rule != nil {
				conn = &unstamped{Conn: conn}
			}
			dialog.Player{Protocol: dialog.POP3, Vars: f.vars, Answers: answers}.Run(t, conn, file)
		})
	}
}

// unstamped is a connection whose greeting has no timestamp: each has another.
type unstamped struct {
	net.Conn
	greeting []byte // what is left of it
	read     bool
}

func (u *unstamped) Read(p []byte) (int, error) {
	if !u.read {
		u.read = true
		line, err := bufio.NewReaderSize(io.LimitReader(u.Conn, 512), 512).ReadString('\n') // the server waits behind its greeting
		if err != nil {
			return 0, err
		}
		text, _, _ := strings.Cut(line, " <")
		u.greeting = []byte(text + "\r\n")
	}
	if len(u.greeting) > 0 {
		n := copy(p, u.greeting)
		u.greeting = u.greeting[n:]
		return n, nil
	}
	return u.Conn.Read(p)
}

// TestTrail: what was fetched and deleted in a session that ended with QUIT is in the trail.
func TestTrail(t *testing.T) {
	f := newFixture(t)
	id := f.deliver("Subject: three\r\n\r\n", "body\r\n")
	c := f.dial(f.serve(Options{}, nil))
	if _, err := io.WriteString(c, "USER alice\r\nPASS open sesame\r\nTOP 1 0\r\nRETR 3\r\nDELE 3\r\nQUIT\r\n"); err != nil {
		t.Fatal(err)
	}
	if replies, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(replies), "+OK bye, 1 deleted, 2 left\r\n") {
		t.Fatalf("got %q (%v)", replies, err)
	}
	events, err := f.store.MessageTrail(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	client := store.Origin{Door: "pop3", Remote: netip.MustParseAddr("127.0.0.1"), Account: f.alice.ID}
	for _, e := range events {
		kinds = append(kinds, string(e.Kind))
		if owner := e.Kind == store.TrailFetched || e.Kind == store.TrailDeleted; owner && (e.Origin != client || e.Text != "") {
			t.Errorf("event %+v, want it of %+v", e, client)
		}
	}
	if got := strings.Join(kinds, " "); got != "accepted stored fetched deleted" {
		t.Errorf("trail of the message that was fetched: %s", got)
	}
	if left := f.messages(); len(left) != 2 {
		t.Errorf("%d messages left, want 2", len(left))
	}
}

// TestImplicitTLS: the door of port 995.
func TestImplicitTLS(t *testing.T) {
	f := newFixture(t)
	c, err := tls.Dial("tcp", f.serve(Options{ImplicitTLS: true}, nil), &tls.Config{InsecureSkipVerify: true}) // the test's own certificate
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "CAPA\r\nUSER alice\r\nPASS open sesame\r\nQUIT\r\n"); err != nil {
		t.Fatal(err)
	}
	replies, err := io.ReadAll(c)
	if err != nil || strings.Contains(string(replies), "STLS") || !strings.Contains(string(replies), "+OK 2 messages") {
		t.Errorf("got %q (%v)", replies, err)
	}
}

// TestConnectionCap: the connection over the cap is told in POP3's words.
func TestConnectionCap(t *testing.T) {
	f := newFixture(t)
	address := f.serve(Options{Connections: guard.ConnLimits{PerPrefix: 1}}, nil)
	first := f.dial(address)
	if _, err := first.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f.dial(address))
	if err != nil || string(got) != "-ERR [SYS/TEMP] try again later: too many connections from your address or in all (L-EPM)\r\n" {
		t.Errorf("got %q (%v)", got, err)
	}
}
