package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/smtp"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"latchkey/auth"
	"latchkey/cli"
	"latchkey/config"
	"latchkey/guard"
	"latchkey/store"
	"latchkey/webmanager"
)

// runMainVariable makes the test binary behave as latchkey itself, so that tests can start, signal and kill a real process.
const runMainVariable = "LATCHKEY_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	passwordCost = auth.Cost{Memory: 8, Time: 1}
	loginLimits = noDelays
	if os.Getenv(runMainVariable) == "1" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// noDelays are the limits of logins, but that a wrong password is answered at once. How long an answer waits is shown where time is false: see street.
var noDelays = guard.LoginLimits{Delays: []time.Duration{0}}

// patience bounds waiting for something that is expected; nothing waits that long unless it is broken.
const patience = 30 * time.Second

// need skips a test whose programs are not on this machine, and says so; CI has all of them.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI needs %s", program)
		}
		t.Skipf("%s is not on this machine", program)
	}
}

// needRoot is need for a test of what only root may do: mounting, namespaces, users of other programs.
func needRoot(t testing.TB, programs ...string) {
	t.Helper()
	need(t, programs...)
	if os.Getuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("CI runs this as root")
	}
	t.Skip("only root may do this")
}

// testServer is a whole domain in this process: the real store in a directory of the test, the real doors on loopback ports that the
// kernel chooses, and the management socket.
//
//	s := startServer(t, "example.com")     // with postmaster, and abuse leading to it
//	s.addAccount("anna", "anna's password")
//	s.send("anna", "anna's password", []string{"bert@example.com"}, "Subject: x\r\n\r\nbody\r\n")
//	messages := s.fetch("bert", "bert's password")
//	s.stop(); s.start()                    // the same data again
type testServer struct {
	t      testing.TB
	dir    string
	domain string
	config config.Config
	env    cli.Env
	log    *logBuffer
	// ahead is how much the server's clock is ahead of the real one, in nanoseconds.
	ahead atomic.Int64
	// wrap puts something in place of the store that the server sees; it may be nil.
	wrap func(store.Store) store.Store
	// proves has the server make the relay proof as it starts. A test of something else has it passed already: under the race detector it takes as
	// long as all the rest of a start.
	proves bool
	// proxied, if set, is the port of a proxy that clients take for the door pop3.
	proxied string

	process *process
	cancel  context.CancelFunc // the first signal
	abort   context.CancelFunc // the second
	ended   chan error
}

// startServer makes a domain and starts its server. It is stopped, and its store checked, when the test ends.
func startServer(t testing.TB, domain string) *testServer {
	t.Helper()
	s := newTestServer(t, domain)
	s.start()
	return s
}

// newTestServer makes a domain without starting its server; s.config may be changed before start.
func newTestServer(t testing.TB, domain string) *testServer {
	t.Helper()
	s := &testServer{t: t, dir: filepath.Join(t.TempDir(), "data"), domain: domain, log: &logBuffer{}}
	s.env = newEnv(t.Context(), t.Context())
	s.env.Stdin, s.env.Stdout, s.env.Stderr = strings.NewReader(""), io.Discard, io.Discard
	s.env.LookupEnv = func(string) (string, bool) { return "", false }
	if err := cli.InitDomain(t.Context(), &s.env, s.dir, domain, "postmaster", "password of postmaster"); err != nil {
		t.Fatal(err)
	}
	const loopback = "127.0.0.1:0"
	s.config = config.Config{
		Data: s.dir, Hostname: "mail." + domain,
		TLS: config.TLS{Cert: filepath.Join(s.dir, "cert.pem"), Key: filepath.Join(s.dir, "key.pem")},
		Listen: config.Listen{
			POP3: []string{loopback}, POP3S: []string{loopback},
			MX: []string{loopback}, Submission: []string{loopback}, SMTPS: []string{loopback},
		},
		Limits: config.Limits{Connections: 1000, ConnectionsPerAddress: 1000, MessagesPerMailbox: 100_000},
		Relay:  config.Relay{Nameservers: []netip.AddrPort{labDNS(t).Addr()}, Port: 25},
	}
	if err := guard.SelfSigned(s.config.TLS.Cert, s.config.TLS.Key, []string{"127.0.0.1", "localhost"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.checkStore)
	return s
}

// start runs the server and returns when its doors are open.
func (s *testServer) start() {
	s.t.Helper()
	log := slog.New(slog.NewTextHandler(s.log, nil))
	st, err := openServed(context.Background(), s.dir, log)
	if err != nil {
		s.t.Fatal(err)
	}
	var seen store.Store = st
	if s.wrap != nil {
		seen = s.wrap(st)
	}
	if !s.proves {
		s.passProof(st)
	}
	p, err := wire(context.Background(), s.config, seen, log, s.now)
	if err != nil {
		s.t.Fatal(errors.Join(err, st.Close()))
	}
	stop, cancel := context.WithCancel(context.Background())
	abort, cancelAbort := context.WithCancel(context.Background())
	s.process, s.cancel, s.abort, s.ended = p, cancel, cancelAbort, make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		err := p.run(stop, abort, func() error { close(ready); return nil })
		s.ended <- errors.Join(err, st.Close())
	}()
	select {
	case <-ready:
	case err := <-s.ended:
		s.t.Fatalf("the server ended: %v", err)
	}
	s.t.Cleanup(s.stop)
}

// passProof writes down that the relay proof was passed with what is in the store now.
func (s *testServer) passProof(st store.Store) {
	s.t.Helper()
	p := newProver(st, hostname(s.config, s.domain), slog.New(slog.DiscardHandler), s.now)
	fingerprint, err := p.fingerprint(context.Background())
	if err == nil && p.last(context.Background()).Fingerprint != fingerprint {
		var record []byte
		if record, err = json.Marshal(passed{fingerprint, s.now()}); err == nil {
			err = st.PutSecret(context.Background(), proofSecret, record)
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// stop is the first signal: it waits for running transactions, and returns when the store is closed. It may be called twice.
func (s *testServer) stop() {
	s.t.Helper()
	s.cancel()
	s.wait()
}

// kill is both signals at once.
func (s *testServer) kill() {
	s.t.Helper()
	s.cancel()
	s.abort()
	s.wait()
}

func (s *testServer) wait() {
	s.t.Helper()
	select {
	case err, ok := <-s.ended:
		if ok && err != nil {
			s.t.Errorf("the server ended: %v", err)
		}
		if ok {
			close(s.ended)
		}
	case <-time.After(patience):
		s.t.Fatal("the server does not stop")
	}
	s.abort()
}

// checkStore opens the stopped store and lets it read everything.
func (s *testServer) checkStore() {
	s.inStore(func(st store.Store) {
		problems, err := st.Check(context.Background())
		if err != nil || len(problems) > 0 {
			s.t.Errorf("check at the end: %v, %v", problems, err)
		}
	})
}

// inStore lets f use the store of a stopped server.
func (s *testServer) inStore(f func(store.Store)) {
	s.t.Helper()
	st, err := openStore(context.Background(), s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	f(st)
	if err := st.Close(); err != nil {
		s.t.Error(err)
	}
}

// addr is the address of a door: pop3, pop3s, mx, submission or smtps.
func (s *testServer) addr(door string) string {
	s.t.Helper()
	for _, d := range s.process.doors {
		if d.name == door {
			return d.listener.Addr().String()
		}
	}
	s.t.Fatalf("no door %s", door)
	return ""
}

// addrs are all addresses of a door, in the order of the configuration.
func (s *testServer) addrs(door string) (list []string) {
	for _, d := range s.process.doors {
		if d.name == door {
			list = append(list, d.listener.Addr().String())
		}
	}
	return list
}

// latchkey runs a command against the server, as the command line does.
func (s *testServer) latchkey(args ...string) (status int, stdout, stderr string) {
	s.t.Helper()
	var out, errs bytes.Buffer
	env := s.env
	env.Stdout, env.Stderr = &out, &errs
	status = cli.Run(context.Background(), env, append(args, "--data", s.dir))
	return status, out.String(), errs.String()
}

// do makes a request on the management socket.
func (s *testServer) do(method, path string, in, out any) {
	s.t.Helper()
	client, err := webmanager.DialControl(context.Background(), s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	defer client.Close()
	if err := client.Do(context.Background(), method, path, in, out); err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
}

func (s *testServer) addAccount(name, password string) {
	s.t.Helper()
	s.do("POST", "/v1/accounts", webmanager.NewAccount{Name: name, Password: password}, nil)
}

func (s *testServer) setPassword(name, password string) {
	s.t.Helper()
	s.do("PUT", webmanager.Path("accounts", name, "password"), webmanager.Password{Password: password}, nil)
}

func (s *testServer) setSuspended(name string, suspended bool) {
	s.t.Helper()
	s.do("PATCH", webmanager.Path("accounts", name), webmanager.AccountChange{Suspended: &suspended}, nil)
}

// queue lists what waits for other domains.
func (s *testServer) queue() []store.Job {
	s.t.Helper()
	var page webmanager.QueuePage
	s.do("GET", "/v1/queue?limit=1000", nil, &page)
	return page.Jobs
}

// tls is what a client of the server needs.
func (s *testServer) tls() *tls.Config {
	s.t.Helper()
	pem, err := os.ReadFile(s.config.TLS.Cert)
	if err != nil {
		s.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
}

// dial connects to a door, with TLS where it starts with TLS.
func (s *testServer) dial(door string) net.Conn {
	s.t.Helper()
	conn, err := net.DialTimeout("tcp", s.addr(door), patience)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() }) // the test is over with it
	if strings.HasSuffix(door, "pop3s") || strings.HasSuffix(door, "smtps") {
		return tls.Client(conn, s.tls())
	}
	return conn
}

// dialFrom connects to a door, without TLS, from an address of this machine.
func (s *testServer) dialFrom(address, door string) net.Conn {
	s.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IP(netip.MustParseAddr(address).AsSlice())}}
	conn, err := d.Dial("tcp", s.addr(door))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// sendFrom sends a message at port 25 from an address of this machine, without AUTH.
func (s *testServer) sendFrom(address, from string, to ...string) error {
	s.t.Helper()
	conn := s.dialFrom(address, "mx")
	defer func() { _ = conn.Close() }() // after QUIT, or after what is reported
	client, err := smtp.NewClient(conn, "127.0.0.1")
	if err != nil {
		return err
	}
	return transact(client, from, to, message("from "+address))
}

// submission logs in at the submission door with STARTTLS and AUTH PLAIN.
func (s *testServer) submission(user, password string) *smtp.Client {
	s.t.Helper()
	client, err := smtp.NewClient(s.dial("submission"), "127.0.0.1")
	if err == nil {
		err = errors.Join(client.StartTLS(s.tls()), client.Auth(smtp.PlainAuth("", user, password, "127.0.0.1")))
	}
	if err != nil {
		s.t.Fatalf("submission as %s: %v", user, err)
	}
	return client
}

// trySend submits a message at the submission door with STARTTLS and AUTH PLAIN.
func (s *testServer) trySend(user, password string, to []string, message string) error {
	s.t.Helper()
	client, err := smtp.NewClient(s.dial("submission"), "127.0.0.1")
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // after QUIT, or after what is reported
	from := user
	if !strings.Contains(from, "@") {
		from += "@" + s.domain
	}
	if err := client.StartTLS(s.tls()); err != nil {
		return err
	}
	if err := client.Auth(smtp.PlainAuth("", user, password, "127.0.0.1")); err != nil {
		return err
	}
	return transact(client, from, to, message)
}

// tryDeliver hands a message in at the MX door as a stranger's server does.
func (s *testServer) tryDeliver(from string, to []string, message string) error {
	s.t.Helper()
	client, err := smtp.NewClient(s.dial("mx"), "127.0.0.1")
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // after QUIT, or after what is reported
	return transact(client, from, to, message)
}

// transact sends one message, and is all that goes over a connection.
func transact(client *smtp.Client, from string, to []string, message string) error {
	if err := hand(client, from, to, message); err != nil {
		return err
	}
	return client.Quit()
}

// hand sends one message.
func hand(client *smtp.Client, from string, to []string, message string) error {
	if err := client.Mail(from); err != nil {
		return err
	}
	for _, rcpt := range to {
		if err := client.Rcpt(rcpt); err != nil {
			return err
		}
	}
	w, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, message); err != nil {
		return err
	}
	return w.Close()
}

func (s *testServer) send(user, password string, to []string, message string) {
	s.t.Helper()
	if err := s.trySend(user, password, to, message); err != nil {
		s.t.Fatalf("send as %s: %v", user, err)
	}
}

func (s *testServer) deliver(from string, to []string, message string) {
	s.t.Helper()
	if err := s.tryDeliver(from, to, message); err != nil {
		s.t.Fatalf("deliver: %v", err)
	}
}

// popSession is a POP3 client that says what it means.
type popSession struct {
	t    testing.TB
	conn net.Conn
	text *textproto.Reader
}

// errPOP is an answer that starts with -ERR.
type errPOP struct{ line string }

func (e *errPOP) Error() string { return e.line }

// pop connects to a POP3 door and reads the greeting.
func (s *testServer) pop(door string) *popSession {
	s.t.Helper()
	return s.popOn(s.dial(door))
}

// popOn reads the greeting of a connection.
func (s *testServer) popOn(conn net.Conn) *popSession {
	s.t.Helper()
	p := &popSession{t: s.t, conn: conn, text: textproto.NewReader(bufio.NewReader(conn))}
	if _, err := p.reply(); err != nil {
		s.t.Fatalf("greeting: %v", err)
	}
	return p
}

func (p *popSession) reply() (string, error) {
	line, err := p.text.ReadLine()
	switch {
	case err != nil:
		return "", err
	case strings.HasPrefix(line, "+OK"):
		return line, nil
	case strings.HasPrefix(line, "-ERR"):
		return "", &errPOP{line}
	default:
		return "", fmt.Errorf("malformed reply %q", line)
	}
}

// cmd sends a command and returns its reply's line.
func (p *popSession) cmd(format string, args ...any) (string, error) {
	if _, err := fmt.Fprintf(p.conn, format+"\r\n", args...); err != nil {
		return "", err
	}
	return p.reply()
}

// must is cmd that has to succeed.
func (p *popSession) must(format string, args ...any) string {
	p.t.Helper()
	line, err := p.cmd(format, args...)
	if err != nil {
		p.t.Fatalf("%s: %v", strings.Fields(format)[0], err)
	}
	return line
}

// multi is must for a reply of several lines; it returns them without dot-stuffing.
func (p *popSession) multi(format string, args ...any) string {
	p.t.Helper()
	p.must(format, args...)
	data, err := p.text.ReadDotBytes() // with LF line ends
	if err != nil {
		p.t.Fatal(err)
	}
	return string(data)
}

// login logs in with USER and PASS.
func (p *popSession) login(user, password string) error {
	if _, err := p.cmd("USER %s", user); err != nil {
		return err
	}
	_, err := p.cmd("PASS %s", password)
	return err
}

// fetch logs in over implicit TLS and returns all messages (with LF line ends), in order of arrival. It deletes nothing.
func (s *testServer) fetch(user, password string) []string {
	s.t.Helper()
	p := s.pop("pop3s")
	if err := p.login(user, password); err != nil {
		s.t.Fatalf("login of %s: %v", user, err)
	}
	var count, octets int
	if _, err := fmt.Sscanf(p.must("STAT"), "+OK %d %d", &count, &octets); err != nil {
		s.t.Fatal(err)
	}
	messages := make([]string, count)
	for i := range messages {
		messages[i] = p.multi("RETR %d", i+1)
	}
	p.must("QUIT")
	return messages
}

// logBuffer keeps the log of a server.
type logBuffer struct {
	mu   sync.Mutex // protects text
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// withoutWaits has servers that start now look at every password, and answer a wrong one at once, until the test ends.
func withoutWaits(t *testing.T) {
	t.Helper()
	many := store.Limit{N: 1_000_000, Window: time.Hour}
	loginLimits = guard.LoginLimits{Pair: many, Burst: many, Prefix: many, Shared: many, Mailbox: many, Delays: []time.Duration{0}}
	t.Cleanup(func() { loginLimits = noDelays })
}
