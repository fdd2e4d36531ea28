package maildrop

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/auth"
	"latchkey/pop3"
	"latchkey/store"
)

// watched is a store that counts open maildrops, and whose messages can fail.
type watched struct {
	Store
	open atomic.Int64
	// after is how many octets of a message can be read before failure; nil leaves messages whole.
	after   int64
	failure error
	// expunge, if set, is what Expunge returns.
	expunge error
}

type watchedDrop struct {
	store.Maildrop
	w      *watched
	closed *sync.Once
}

func (w *watched) OpenMaildrop(ctx context.Context, id store.AccountID) (store.Maildrop, error) {
	m, err := w.Store.OpenMaildrop(ctx, id)
	if err == nil {
		w.open.Add(1)
	}
	return watchedDrop{m, w, new(sync.Once)}, err
}

func (d watchedDrop) Close() error {
	d.closed.Do(func() { d.w.open.Add(-1) })
	return d.Maildrop.Close()
}

func (d watchedDrop) Expunge(ctx context.Context, deleted, fetched []store.CopyID) error {
	if d.w.expunge != nil {
		return d.w.expunge
	}
	return d.Maildrop.Expunge(ctx, deleted, fetched)
}

func (d watchedDrop) OpenMessage(ctx context.Context, id store.CopyID) (io.ReadCloser, error) {
	r, err := d.Maildrop.OpenMessage(ctx, id)
	if err != nil || d.w.failure == nil {
		return r, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r, d.w.after), failing{d.w.failure}), r}, nil
}

// failing fails to be read; the failure "panic" panics.
type failing struct{ err error }

var errPanic = errors.New("panic")

func (f failing) Read([]byte) (int, error) {
	if errors.Is(f.err, errPanic) {
		panic("in a reader")
	}
	return 0, f.err
}

// lines is a client that speaks one line at a time.
type lines struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

// hello takes the greeting.
func (f *fixture) hello(address string) *lines {
	f.t.Helper()
	c := f.dial(address)
	l := &lines{f.t, c, bufio.NewReader(c)}
	l.read("+OK")
	return l
}

func (l *lines) read(prefix string) {
	l.t.Helper()
	if got, err := l.r.ReadString('\n'); err != nil || !strings.HasPrefix(got, prefix) {
		l.t.Fatalf("got %q (%v), want %q", got, err, prefix)
	}
}

// say sends a command and takes the first line of the reply.
func (l *lines) say(command, prefix string) {
	l.t.Helper()
	if _, err := io.WriteString(l, command+"\r\n"); err != nil {
		l.t.Fatal(err)
	}
	l.read(prefix)
}

func (l *lines) login(password string) {
	l.t.Helper()
	l.say("USER alice", "+OK")
	l.say("PASS "+password, "+OK 2 messages")
}

// TestSnapshotIsClosed however a session ends.
func TestSnapshotIsClosed(t *testing.T) {
	for name, end := range map[string]func(c *lines, s *Server){
		"QUIT":             func(c *lines, _ *Server) { c.say("QUIT", "+OK") },
		"drop":             func(c *lines, _ *Server) { _ = c.Close() },
		"damaged message":  func(c *lines, _ *Server) { c.say("RETR 1", "+OK") },
		"QUIT that fails":  func(c *lines, _ *Server) { c.say("DELE 1", "+OK"); c.say("QUIT", "-ERR [SYS/PERM]") },
		"Close":            func(_ *lines, s *Server) { _ = s.Close() },
		"Shutdown":         func(c *lines, s *Server) { _ = s.Shutdown(t.Context()); c.read("-ERR [SYS/TEMP]") },
		"too many strikes": func(c *lines, _ *Server) { _, _ = io.WriteString(c, strings.Repeat("HELP\r\n", 20)) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			w := &watched{Store: f.store, after: 20, failure: store.ErrDamaged, expunge: store.ErrPoisoned}
			s := New(Options{Store: w, Auth: f.auth, Hostname: "mail.example.com"})
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- s.Serve(l) }()
			c := f.hello(l.Addr().String())
			c.login("open sesame")
			if n := w.open.Load(); n != 1 {
				t.Errorf("%d maildrops open in the session, want 1", n)
			}
			end(c, s)
			_, _ = io.ReadAll(c) // until the server has ended it
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := <-done; !errors.Is(err, pop3.ErrServerClosed) {
				t.Errorf("Serve: %v", err)
			}
			if n := w.open.Load(); n != 0 {
				t.Errorf("%d maildrops are still open", n)
			}
			if name != "QUIT" && len(f.messages()) != 2 {
				t.Error("a message is gone")
			}
		})
	}
}

// TestDamagedMessage: a block whose checksum fails is never sent as mail: the session ends without the terminating dot, deletes nothing,
// and the operator learns which message it was.
func TestDamagedMessage(t *testing.T) {
	for _, tt := range []struct {
		command string
		failure error
		log     string
	}{
		{"RETR 1", fmt.Errorf("block 0: %w", store.ErrDamaged), "stored message cannot be read"},
		{"TOP 1 0", fmt.Errorf("block 0: %w", store.ErrDamaged), "stored message cannot be read"},
		{"TOP 1 9", fmt.Errorf("block 0: %w", store.ErrDamaged), "stored message cannot be read"},
		{"RETR 1", io.EOF, "not as long as listed"},
		{"RETR 1", errPanic, "panic in a POP3 session"},
	} {
		t.Run(tt.command+" "+tt.log, func(t *testing.T) {
			f := newFixture(t)
			var log bytes.Buffer
			s := New(Options{
				Store: &watched{Store: f.store, after: 20, failure: tt.failure}, Auth: f.auth, Hostname: "mail.example.com",
				Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- s.Serve(l) }()
			c := f.hello(l.Addr().String())
			c.login("open sesame")
			if _, err := io.WriteString(c, "DELE 2\r\n"+tt.command+"\r\nQUIT\r\n"); err != nil {
				t.Fatal(err)
			}
			replies, _ := io.ReadAll(c.r)
			if strings.Contains(string(replies), "\r\n.\r\n") || strings.Contains(string(replies), "bye") {
				t.Errorf("got %q", replies)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := <-done; !errors.Is(err, pop3.ErrServerClosed) {
				t.Errorf("Serve: %v", err)
			}
			if len(f.messages()) != 2 {
				t.Error("a session that broke off has deleted a message")
			}
			for line := range strings.Lines(log.String()) {
				if strings.Contains(line, tt.log) && !strings.Contains(line, "level=INFO") {
					return
				}
			}
			t.Errorf("the log does not say %q: %s", tt.log, &log)
		})
	}
}

// TestWholeMessagesAreFetched: a message counts as fetched when RETR read all of it, and not by TOP.
func TestWholeMessagesAreFetched(t *testing.T) {
	f := newFixture(t)
	one := f.messages()[0].Of
	kinds := func() string {
		events, err := f.store.MessageTrail(t.Context(), one)
		if err != nil {
			t.Fatal(err)
		}
		var kinds []string
		for _, e := range events {
			kinds = append(kinds, string(e.Kind))
		}
		return strings.Join(kinds, " ")
	}
	address := f.serve(Options{}, nil)
	for _, tt := range []struct{ commands, want string }{
		{"TOP 1 99999999\r\nQUIT\r\n", "accepted stored"},
		{"RETR 1\r\n", "accepted stored"}, // no QUIT, no UPDATE
		{"RETR 1\r\nQUIT\r\n", "accepted stored fetched"},
	} {
		c := f.hello(address)
		c.login("open sesame")
		if _, err := io.WriteString(c, tt.commands); err != nil {
			t.Fatal(err)
		}
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c.r); err != nil {
			t.Fatal(err)
		}
		if got := kinds(); got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.commands, got, tt.want)
		}
	}
}

// TestSessionsOutliveChanges: a session may finish what it began, but not come back: with a new password, suspended, or removed.
func TestSessionsOutliveChanges(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(f *fixture)
		again  string
	}{
		{"password", func(f *fixture) {
			v := f.hash("new")
			f.update(func(a *store.Account) { a.Verifier = v })
		}, "-ERR [AUTH] check the mailbox name"},
		{"suspended", func(f *fixture) { f.update(func(a *store.Account) { a.Suspended = true }) }, "-ERR [AUTH] ask your mail administrator"},
		{"removed", func(f *fixture) {
			if err := f.store.RemoveAccount(f.t.Context(), f.alice.ID); err != nil {
				f.t.Fatal(err)
			}
		}, "-ERR [AUTH] check the mailbox name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			address := f.serve(Options{}, nil)
			c := f.hello(address)
			c.login("open sesame")
			tt.change(f)
			again := f.hello(address)
			again.say("USER alice", "+OK")
			again.say("PASS open sesame", tt.again)
			c.say("LIST 2", "+OK 2 ")
			c.say("DELE 1", "+OK")
			c.say("QUIT", "+OK bye, 1 deleted")
		})
	}
}

// TestReAddedName: who gets a name that was somebody else's sees nothing of theirs.
func TestReAddedName(t *testing.T) {
	f := newFixture(t)
	if err := f.store.RemoveAccount(t.Context(), f.alice.ID); err != nil {
		t.Fatal(err)
	}
	f.add(store.Account{Name: "alice", Verifier: f.hash("mine")})
	c := f.hello(f.serve(Options{}, nil))
	c.say("USER alice", "+OK")
	c.say("PASS open sesame", "-ERR [AUTH]")
	c.say("USER alice", "+OK")
	c.say("PASS mine", "+OK 0 messages (0 octets)")
}

// TestImplicitTLSNeedsACertificate: the door of port 995 does not open in the clear.
func TestImplicitTLSNeedsACertificate(t *testing.T) {
	f := newFixture(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	impatient := time.AfterFunc(10*time.Second, func() { _ = l.Close() }) // for a Serve that does serve
	defer impatient.Stop()
	if err := New(Options{Store: f.store, Auth: f.auth, ImplicitTLS: true}).Serve(l); !errors.Is(err, ErrNoTLS) {
		t.Errorf("got %v", err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the listener is open")
	}
}

// TestReplies: every sentinel of auth and store has its code; nothing of the cause is among the words, which fit the 200 characters that
// mail programs show; what passes is logged only if it is ours.
func TestReplies(t *testing.T) {
	secret := "/var/lib/secret"
	for _, tt := range []struct {
		convert func(error) error
		err     error
		code    pop3.ResponseCode
		logged  bool
	}{
		{loginError, auth.ErrCredentials, pop3.CodeAuth, false},
		{loginError, auth.ErrSuspended, pop3.CodeAuth, false},
		{loginError, auth.ErrThrottled, pop3.CodeTemp, false},
		{loginError, auth.ErrCleartext, pop3.CodeAuth, false},
		{loginError, auth.ErrBusy, pop3.CodeTemp, false},
		{loginError, auth.ErrIdentity, pop3.CodeAuth, false},
		{loginError, context.Canceled, pop3.CodeTemp, false},
		{loginError, store.ErrClosed, pop3.CodeTemp, true},
		{loginError, errors.New("unknown"), pop3.CodeTemp, true},
		{storeError, store.ErrNotFound, pop3.CodeAuth, false},
		{storeError, store.ErrSuspended, pop3.CodeAuth, false},
		{storeError, store.ErrDamaged, pop3.CodePerm, true},
		{storeError, store.ErrPoisoned, pop3.CodePerm, true},
		{storeError, store.ErrNoSpace, pop3.CodeTemp, true},
		{storeError, store.ErrClosed, pop3.CodeTemp, true},
		{storeError, errors.New("unknown"), pop3.CodeTemp, true},
	} {
		got := tt.convert(fmt.Errorf("at %s: %w", secret, fmt.Errorf("again: %w", tt.err)))
		var e *pop3.Error
		if !errors.As(got, &e) || e.Code != tt.code || e.Text == "" || len(e.Text) > 200 || strings.Contains(e.Text, secret) {
			t.Errorf("%v: got %#v, want %s", tt.err, got, tt.code)
			continue
		}
		if (e.Err != nil) != tt.logged {
			t.Errorf("%v: logged %v, want %v", tt.err, e.Err != nil, tt.logged)
		}
	}
}
