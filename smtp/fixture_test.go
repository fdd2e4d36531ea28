package smtp

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/internal/refusal"
	"latchkey/store"
	"latchkey/store/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a client over TCP waits for one reply.
const patience = 30 * time.Second

const (
	testDomain = "example.com"
	testHost   = "mail.example.com"
)

// fakeAuth knows every account of the store; the password is the name with "-pw".
type fakeAuth struct {
	store     store.Store
	cleartext bool
	mu        sync.Mutex
	fail      error // what Login returns instead
	logins    int
	clear     []string // what ArrivedInClear was told
}

func (a *fakeAuth) Login(ctx context.Context, at auth.Attempt, username, password string) (auth.Identity, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.logins++
	if a.fail != nil {
		return auth.Identity{}, a.fail
	}
	if !at.TLS && !at.OldDoor && !a.cleartext {
		return auth.Identity{}, auth.ErrCleartext
	}
	name, _, _ := strings.Cut(username, "@")
	account, err := a.store.AccountByName(ctx, name)
	if err != nil || password != name+"-pw" {
		return auth.Identity{}, auth.ErrCredentials
	}
	if account.Suspended {
		return auth.Identity{}, auth.ErrSuspended
	}
	return auth.Identity{
		Account: account.ID, Name: name, Address: address(name + "@" + testDomain), CredentialVersion: account.CredentialVersion,
	}, nil
}

func (a *fakeAuth) ArrivedInClear(at auth.Attempt, username, password string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clear = append(a.clear, fmt.Sprintf("%s %s %s %q %q %t", at.Service, at.Mechanism, at.Remote, username, password, at.TLS))
}

// inClear is what ArrivedInClear was told.
func (a *fakeAuth) inClear() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.clear
}

func (a *fakeAuth) CleartextAllowed(context.Context, netip.Addr) bool { return a.cleartext }

func (a *fakeAuth) Current(ctx context.Context, id auth.Identity) error {
	account, err := a.store.Account(ctx, id.Account)
	if err != nil || account.CredentialVersion != id.CredentialVersion {
		return auth.ErrCredentials
	}
	return nil
}

func (a *fakeAuth) CurrentDevice(ctx context.Context, id auth.Identity, _ netip.Addr) (store.Device, error) {
	return a.store.Device(ctx, id.Account, id.Device)
}

// fixture is a server with a domain behind it.
type fixture struct {
	t     testing.TB
	store *memstore.Store
	auth  *fakeAuth
	opts  Options
	srv   *Server
	addr  string
	ids   map[string]store.AccountID
	log   *lockedBuffer
	// wait is synctest.Wait where the clock is false.
	wait func()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func address(s string) mailaddr.Address {
	a, err := mailaddr.Parse(s)
	if err != nil {
		panic(err)
	}
	return a
}

// newFixture makes the domain: alice (who may also send as press@partner.example), bob, carol who is suspended, dave whose maildrop is
// full; sales leads to alice alone, team to alice and bob. Nothing listens yet.
func newFixture(t testing.TB, door Door, edit ...func(*Options)) *fixture {
	t.Helper()
	f := &fixture{t: t, store: memstore.New(testDomain), ids: make(map[string]store.AccountID), log: &lockedBuffer{}}
	f.auth = &fakeAuth{store: f.store, cleartext: true}
	ctx := context.Background()
	for _, a := range []store.Account{
		{Name: "alice", SendAs: []mailaddr.Address{address("press@partner.example")}},
		{Name: "bob"},
		{Name: "carol"},
		{Name: "dave", Quota: store.Quota{Octets: 1}},
	} {
		added, err := f.store.AddAccount(ctx, a)
		f.must(err)
		f.ids[a.Name] = added.ID
	}
	f.update("carol", func(a *store.Account) { a.Suspended = true })
	f.must(f.store.PutAlias(ctx, store.Alias{Name: "sales", Targets: []store.AccountID{f.ids["alice"]}}))
	f.must(f.store.PutAlias(ctx, store.Alias{Name: "team", Targets: []store.AccountID{f.ids["alice"], f.ids["bob"]}}))
	f.opts = Options{
		Door: door, Store: f.store, Auth: f.auth, Sending: guard.NewSending(f.store, nil), Hostname: testHost, TLSConfig: testTLS(),
		Connections: guard.ConnLimits{PerPrefix: 1000},
		Logger:      slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, e := range edit {
		e(&f.opts)
	}
	t.Cleanup(func() {
		f.nothingHeld()
		problems, err := f.store.Check(ctx)
		if err != nil || len(problems) > 0 {
			t.Errorf("store check: %v %v", problems, err)
		}
		if t.Failed() {
			t.Log(f.log.String())
		}
	})
	return f
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) update(name string, change func(*store.Account)) {
	f.t.Helper()
	a, err := f.store.Account(context.Background(), f.ids[name])
	f.must(err)
	change(&a)
	_, err = f.store.UpdateAccount(context.Background(), a)
	f.must(err)
}

func (f *fixture) settings(change func(*store.Settings)) {
	f.t.Helper()
	s, err := f.store.Settings(context.Background())
	f.must(err)
	change(&s)
	_, err = f.store.UpdateSettings(context.Background(), s)
	f.must(err)
}

// serve listens on loopback until the end of the test.
func (f *fixture) serve() *fixture {
	f.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	f.must(err)
	f.addr = l.Addr().String()
	f.serveOn(l)
	return f
}

func (f *fixture) serveOn(l net.Listener) {
	f.srv = New(f.opts)
	done := make(chan error, 1)
	go func() { done <- f.srv.Serve(l) }()
	f.t.Cleanup(func() {
		if err := f.srv.Close(); err != nil {
			f.t.Errorf("Close: %v", err)
		}
		if err := <-done; err != ErrServerClosed { //nolint:errorlint // exactly this
			f.t.Errorf("Serve: got %v, want ErrServerClosed", err)
		}
	})
}

// pipes is a listener on net.Pipe, for tests with a clock of their own.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25} }

// remoteConn is the server's end of a pipe, with an address and a count of writes.
type remoteConn struct {
	net.Conn
	remote netip.Addr
	writes atomic.Int64
}

func (c *remoteConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.remote, 40000))
}

func (c *remoteConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// dial connects to a server on pipes.
func (p *pipes) dial(f *fixture) (*client, *remoteConn) { return p.dialFrom(f, "192.0.2.1") }

// dialFrom connects from an address.
func (p *pipes) dialFrom(f *fixture, remote string) (*client, *remoteConn) {
	near, far := net.Pipe()
	server := &remoteConn{Conn: far, remote: netip.MustParseAddr(remote)}
	p.conns <- server
	return f.over(near), server
}

// testTLS makes a certificate for the test host.
func testTLS() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: testHost}, DNSNames: []string{testHost},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}
}

// client speaks SMTP by hand.
type client struct {
	f    *fixture
	conn net.Conn
	r    *textproto.Reader
	tcp  *net.TCPConn // below conn, nil if that is no connection over TCP
}

// dial connects; the greeting is still to be read.
func (f *fixture) dial() *client {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.addr)
	f.must(err)
	return f.over(conn)
}

func (f *fixture) over(conn net.Conn) *client {
	f.t.Cleanup(func() { _ = conn.Close() })
	c := &client{f: f, conn: conn, r: textproto.NewReader(bufio.NewReader(conn))}
	c.tcp, _ = conn.(*net.TCPConn)
	c.wait()
	return c
}

// wait begins the patience anew: a server that says or takes nothing fails the test.
func (c *client) wait() {
	if c.tcp != nil {
		_ = c.tcp.SetDeadline(time.Now().Add(patience)) // if it is closed, reading says so
	}
}

// greeted has read the greeting and sent EHLO.
func (f *fixture) greeted() *client {
	f.t.Helper()
	c := f.dial()
	c.expect("220 " + testHost + " ESMTP Service Ready")
	c.ask("EHLO client.example", "250 ")
	return c
}

// loggedIn has proved to be somebody.
func (f *fixture) loggedIn(name string) *client {
	f.t.Helper()
	c := f.greeted()
	c.login(name)
	return c
}

func (c *client) login(name string) {
	c.f.t.Helper()
	c.ask("AUTH PLAIN "+plain(name, name+"-pw"), "235 2.")
}

func (c *client) send(s string) {
	c.f.t.Helper()
	c.wait()
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.f.t.Fatalf("send %q: %v", s, err)
	}
}

// reply reads one reply, however many lines, and returns its last line, without the code of a refusal: that is for the transcripts.
func (c *client) reply() string {
	c.f.t.Helper()
	for {
		c.wait()
		line, err := c.r.ReadLine()
		if err != nil {
			c.f.t.Fatalf("read reply: %v", err)
		}
		checkReply(c.f.t, line)
		if line[3] == ' ' {
			plain, _ := refusal.Unmarked(line)
			return plain
		}
	}
}

// checkReply makes every reply of every test a test of the form: three digits, a status of the same class.
func checkReply(t testing.TB, line string) {
	t.Helper()
	if len(line) < 4 || len(line) > 510 || line[0] < '2' || line[0] > '5' || (line[3] != ' ' && line[3] != '-') {
		t.Errorf("malformed reply %q", line)
		return
	}
	rest := line[4:]
	enhanced := len(rest) > 3 && rest[1] == '.' && rest[0] >= '2' && rest[0] <= '5'
	if enhanced && rest[0] != line[0] {
		t.Errorf("class of code and status differ: %q", line)
	}
	if !enhanced && line[0] > '3' && line[3] == ' ' {
		t.Errorf("no status in %q", line)
	}
}

func (c *client) expect(prefix string) string {
	c.f.t.Helper()
	line := c.reply()
	if !strings.HasPrefix(line, prefix) {
		c.f.t.Fatalf("got %q, want %q...", line, prefix)
	}
	return line
}

func (c *client) ask(command, prefix string) string {
	c.f.t.Helper()
	c.send(command + "\r\n")
	return c.expect(prefix)
}

// closed expects the end of the connection.
func (c *client) closed() {
	c.f.t.Helper()
	if line, err := c.r.ReadLine(); err == nil {
		c.f.t.Fatalf("got %q, want the connection closed", line)
	}
}

// message sends a whole transaction and expects it to be accepted.
func (c *client) message(from, to, text string) {
	c.f.t.Helper()
	c.ask("MAIL FROM:<"+from+">", "250 2.")
	c.ask("RCPT TO:<"+to+">", "250 2.")
	c.ask("DATA", "354 ")
	c.send(text + ".\r\n")
	c.expect("250 2.0.0 queued as ")
}

// mail returns the texts in a maildrop.
func (f *fixture) mail(name string) []string {
	f.t.Helper()
	ctx := context.Background()
	drop, err := f.store.OpenMaildrop(ctx, f.ids[name])
	f.must(err)
	defer func() { f.must(drop.Close()) }()
	messages, err := drop.Messages(ctx)
	f.must(err)
	var texts []string
	for m := range messages {
		r, err := drop.OpenMessage(ctx, m.ID)
		f.must(err)
		b, err := io.ReadAll(r)
		f.must(err)
		f.must(r.Close())
		if int64(len(b)) != m.Size {
			f.t.Errorf("message of %s: %d octets, Size says %d", name, len(b), m.Size)
		}
		if h := string(b[:m.HeaderLen]); m.HeaderLen < m.Size && !strings.HasSuffix(h, "\r\n\r\n") {
			f.t.Errorf("message of %s: HeaderLen %d is not the end of the header", name, m.HeaderLen)
		}
		texts = append(texts, string(b))
	}
	return texts
}

// oneMail returns the only text in a maildrop.
func (f *fixture) oneMail(name string) string {
	f.t.Helper()
	texts := f.mail(name)
	if len(texts) != 1 {
		f.t.Fatalf("%s has %d messages, want 1", name, len(texts))
	}
	return texts[0]
}

// jobs returns the queue.
func (f *fixture) jobs() []store.Job {
	f.t.Helper()
	jobs, _, err := f.store.ListJobs(context.Background(), store.QueueFilter{}, 0, 1000)
	f.must(err)
	return jobs
}
