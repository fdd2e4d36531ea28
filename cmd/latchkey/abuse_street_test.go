package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/config"
	"latchkey/guard"
	"latchkey/internal/refusal"
	"latchkey/pop3/maildrop"
	"latchkey/store"
	"latchkey/store/memstore"
	"latchkey/webmanager"
)

// street is a whole domain under a false clock: the doors as the process builds them, over pipes and the store in memory. Its clients come
// from whatever address a test says, which those on loopback cannot. The doors are not bound to loopback.
type street struct {
	t *testing.T
	// strangers is how many addresses were used once.
	strangers int
	store     *memstore.Store
	o         *opener
	log       *logBuffer
	doors     map[string]*pipes
	roots     *tls.Config
}

// onStreet runs a test in a bubble of its own: the server, the clients and the clock. example.com has the mailboxes anna and bert, with
// their usual passwords.
func onStreet(t *testing.T, test func(s *street)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newStreet(t)
		s.addAccount("anna", "password of anna")
		s.addAccount("bert", "password of bert")
		test(s)
	})
}

func newStreet(t *testing.T) *street {
	s := &street{t: t, store: memstore.New("example.com"), log: &logBuffer{}, doors: map[string]*pipes{}}
	dir := t.TempDir()
	c := config.Config{
		Hostname: "mail.example.com", TLS: config.TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")},
		Listen: config.Listen{POP3: []string{"x"}, MX: []string{"x"}, Submission: []string{"x"}},
	}
	s.must(guard.SelfSigned(c.TLS.Cert, c.TLS.Key, []string{"mail.example.com"}))
	log := slog.New(slog.NewTextHandler(s.log, nil))
	p := &process{log: log, domain: "example.com", hostname: c.Hostname, clients: maildrop.NewInventory(s.store, log)}
	hosts := guard.NewHosts(guard.HostsOptions{
		Interfaces: func() ([]netip.Addr, error) { return nil, nil }, Gateways: func() ([]netip.Addr, error) { return nil, nil }, Logger: log,
	})
	p.conduct = guard.NewConduct(guard.ConductOptions{
		Store: s.store, Notices: &webmanager.Notices{Store: s.store, Now: time.Now, Logger: log}, Logger: log,
	})
	grants := guard.NewGrants(guard.GrantOptions{
		Grants: s.store, Accounts: s.store, Settings: s.store, Hosts: hosts, Devices: s.store, Conduct: p.conduct, Logger: log,
	})
	logins := guard.NewLogins(guard.LoginLimits{})
	p.stale = guard.NewStaleDevices(func(ctx context.Context, d guard.StaleDevice) error {
		return webmanager.TellStale(ctx, s.store, d, time.Now())
	}, log)
	authenticator := newAuthenticator(s.store, logins, grants, p.stale, nil, log, time.Now)
	s.o = &opener{
		config: c, store: s.store, process: p, hosts: hosts, grants: grants, sending: guard.NewSending(s.store, time.Now), auth: authenticator,
		delays: new(maildrop.Delays), locks: new(maildrop.Locks), clients: p.clients, refusals: new(refusal.Recent), now: time.Now,
		strangers: guard.NewStrangers(guard.StrangerLimits{}, authenticator.Known), gate: guard.NewGate(connections(c), authenticator.Known),
	}
	s.background(p.stale.Run, p.conduct.Run, authenticator.RunClear)
	s.must(s.o.loadCertificate(t.Context()))
	s.roots = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the certificate was made a moment ago, and nobody is between
	for _, k := range s.o.kinds() {
		if len(k.addresses) > 0 {
			s.open(k)
		}
	}
	return s
}

// background runs what a process has beside its doors, until the test ends.
func (s *street) background(run ...func(context.Context)) {
	ctx, end := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for _, one := range run {
		work.Go(func() { one(ctx) })
	}
	s.t.Cleanup(func() {
		end()
		work.Wait()
	})
}

// open serves a door until the test ends.
func (s *street) open(k doorKind) {
	l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	s.doors[k.name] = l
	srv := k.build(k, l)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.Serve(l) // until Close
	}()
	s.t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			s.t.Errorf("close of %s: %v", k.name, err)
		}
		<-ended
		if s.t.Failed() {
			text := s.log.String()
			s.t.Log(text[max(0, len(text)-5000):])
		}
	})
}

func (s *street) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *street) addAccount(name, password string) store.Account {
	s.t.Helper()
	verifier, err := s.o.auth.Hash(context.Background(), password)
	s.must(err)
	a, err := s.store.AddAccount(context.Background(), store.Account{Name: name, Verifier: verifier})
	s.must(err)
	return a
}

func (s *street) settings(change func(*store.Settings)) {
	s.t.Helper()
	set, err := s.store.Settings(context.Background())
	s.must(err)
	change(&set)
	_, err = s.store.UpdateSettings(context.Background(), set)
	s.must(err)
}

// holds is how many messages a mailbox has, and jobs how many wait for other domains.
func (s *street) holds(name string) int64 {
	s.t.Helper()
	a, err := s.store.AccountByName(context.Background(), name)
	s.must(err)
	drop, err := s.store.OpenMaildrop(context.Background(), a.ID)
	s.must(err)
	defer func() { _ = drop.Close() }() // only asked
	return drop.Stat().Messages
}

func (s *street) jobs() []store.Job {
	s.t.Helper()
	jobs, _, err := s.store.ListJobs(context.Background(), store.QueueFilter{}, 0, 1000)
	s.must(err)
	return jobs
}

// liveGrants are those of one mailbox.
func (s *street) liveGrants(name string) []store.Grant {
	s.t.Helper()
	a, err := s.store.AccountByName(context.Background(), name)
	s.must(err)
	grants, err := s.store.ListGrants(context.Background(), store.GrantFilter{Account: a.ID, LiveAt: time.Now()}, 0, 100)
	s.must(err)
	return grants
}

// pipes is a listener for connections that a test makes.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

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

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 25), Port: 25} }

// fromConn is a server's end of a pipe, with the address that the client is to come from.
type fromConn struct {
	net.Conn
	remote netip.Addr
}

func (c *fromConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.remote, 40000))
}

// talk is a client that says what it likes.
type talk struct {
	s      *street
	remote string
	conn   net.Conn
	r      *bufio.Reader
}

// dial connects to a door from an address and reads the greeting.
func (s *street) dial(door, remote string) *talk {
	s.t.Helper()
	c := s.connect(door, remote)
	if greeting := c.line(); !strings.HasPrefix(greeting, "220 ") && !strings.HasPrefix(greeting, "+OK") {
		s.t.Fatalf("%s from %s: greeting %q", door, remote, greeting)
	}
	return c
}

// connect connects; the greeting is still to be read.
func (s *street) connect(door, remote string) *talk {
	s.t.Helper()
	near, far := net.Pipe()
	s.doors[door].conns <- &fromConn{far, netip.MustParseAddr(remote)}
	s.t.Cleanup(func() { _ = near.Close() }) // the test is over with it
	return &talk{s: s, remote: remote, conn: near, r: bufio.NewReader(near)}
}

// ehlo is dial with a greeting of the client's own.
func (s *street) ehlo(door, remote string) *talk {
	s.t.Helper()
	c := s.dial(door, remote)
	c.want("250", "EHLO client.example")
	return c
}

// line reads a reply; of several lines of SMTP it is the last one, and "" when the server hung up.
func (c *talk) line() string {
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return ""
		}
		smtp := len(line) > 3 && line[0] >= '2' && line[0] <= '5'
		if !smtp || line[3] != '-' {
			return strings.TrimRight(line, "\r\n")
		}
	}
}

// ask sends a line, or several, and reads a reply.
func (c *talk) ask(format string, args ...any) string {
	if _, err := fmt.Fprintf(c.conn, format+"\r\n", args...); err != nil {
		return ""
	}
	return c.line()
}

// want is ask for a reply that has to begin so.
func (c *talk) want(begins, format string, args ...any) string {
	c.s.t.Helper()
	got := c.ask(format, args...)
	if !strings.HasPrefix(got, begins) {
		c.s.t.Fatalf("%s: %q is answered %q, want %s", c.remote, fmt.Sprintf(format, args...), got, begins)
	}
	return got
}

// end hangs up and waits until the server has seen it.
func (c *talk) end() {
	_ = c.conn.Close() // all is said
	synctest.Wait()
}

// secure begins TLS behind STLS or STARTTLS.
func (c *talk) secure(command, ready string) *talk {
	c.s.t.Helper()
	c.want(ready, "%s", command)
	c.conn = tls.Client(c.conn, c.s.roots)
	c.r = bufio.NewReader(c.conn)
	return c
}

// popLogin tries a password at POP3, under TLS, and returns the answer.
func (s *street) popLogin(remote, name, password string) string {
	s.t.Helper()
	c := s.dial("pop3", remote).secure("STLS", "+OK")
	defer c.end()
	c.want("+OK", "USER %s", name)
	answer := c.ask("PASS %s", password)
	if strings.HasPrefix(answer, "+OK") {
		c.ask("QUIT")
	}
	return answer
}

// smtpLogin tries a password at the submission door, under TLS.
func (s *street) smtpLogin(remote, name, password string) (*talk, string) {
	s.t.Helper()
	c := s.ehlo("submission", remote).secure("STARTTLS", "220")
	c.want("250", "EHLO client.example")
	return c, c.ask("AUTH PLAIN %s", plainAuth(name, password))
}

// plainAuth is the response of AUTH PLAIN.
func plainAuth(name, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + name + "\x00" + password))
}

// say is what probes speak with.
func (c *talk) say(octets string) string {
	if _, err := io.WriteString(c.conn, octets); err != nil {
		return ""
	}
	return c.line()
}

// message sends one to a recipient and returns the last answer.
func (c *talk) message(from, to, text string) string {
	for _, line := range []string{"MAIL FROM:<" + from + ">", "RCPT TO:<" + to + ">", "DATA"} {
		if got := c.ask("%s", line); got == "" || got[0] > '3' {
			return got
		}
	}
	return c.ask("%s.", text)
}
