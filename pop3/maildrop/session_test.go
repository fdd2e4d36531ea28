package maildrop

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
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

// watched is a store that counts open maildrops and what was opened of messages, and whose messages can fail.
type watched struct {
	Store
	open           atomic.Int64
	whole, headers atomic.Int64
	lists          atomic.Int64
	// unlisted, if positive, is how many more lists fail.
	unlisted atomic.Int64
	// unopened, if set, is what OpenMaildrop returns; errPanic panics.
	unopened error
	// after is how many octets of a message can be read before failure; nil leaves messages whole.
	after   int64
	failure error
	// plain messages can only be read; others write themselves.
	plain bool
	// expunge, if set, is what Expunge returns.
	expunge error
}

type watchedDrop struct {
	store.Maildrop
	w      *watched
	closed *sync.Once
}

func (w *watched) OpenMaildrop(ctx context.Context, id store.AccountID) (store.Maildrop, error) {
	if errors.Is(w.unopened, errPanic) {
		panic("in OpenMaildrop")
	} else if w.unopened != nil {
		return nil, w.unopened
	}
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

func (d watchedDrop) Messages(ctx context.Context) (iter.Seq[store.Message], error) {
	d.w.lists.Add(1)
	if d.w.unlisted.Add(-1) >= 0 {
		return nil, errors.New("the index cannot be read")
	}
	return d.Maildrop.Messages(ctx)
}

func (d watchedDrop) Expunge(ctx context.Context, deleted, fetched []store.CopyID) error {
	if d.w.expunge != nil {
		return d.w.expunge
	}
	return d.Maildrop.Expunge(ctx, deleted, fetched)
}

func (d watchedDrop) OpenMessage(ctx context.Context, id store.CopyID) (io.ReadCloser, error) {
	d.w.whole.Add(1)
	return d.w.spoil(d.Maildrop.OpenMessage(ctx, id))
}

func (d watchedDrop) OpenHeader(ctx context.Context, id store.CopyID) (io.ReadCloser, error) {
	d.w.headers.Add(1)
	return d.w.spoil(d.Maildrop.OpenHeader(ctx, id))
}

// spoil makes what was opened fail, or one that can only be read, if it is to.
func (w *watched) spoil(r io.ReadCloser, err error) (io.ReadCloser, error) {
	if err != nil {
		return nil, err
	}
	var source io.Reader = r
	if w.failure != nil {
		source = io.MultiReader(io.LimitReader(r, w.after), failing{w.failure})
	}
	if w.plain {
		return struct {
			io.Reader
			io.Closer
		}{source, r}, nil
	}
	return struct {
		io.Reader
		io.WriterTo
		io.Closer
	}{source, source.(io.WriterTo), r}, nil
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
			testDamagedMessage(t, tt.command, tt.log, &watched{after: 20, failure: tt.failure, plain: true})
			testDamagedMessage(t, tt.command, tt.log, &watched{after: 20, failure: tt.failure})
		})
	}
}

func testDamagedMessage(t *testing.T, command, logged string, w *watched) {
	t.Helper()
	f := newFixture(t)
	w.Store = f.store
	var log bytes.Buffer
	s := New(Options{Store: w, Auth: f.auth, Hostname: "mail.example.com", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	c := f.hello(l.Addr().String())
	c.login("open sesame")
	if _, err := io.WriteString(c, "DELE 2\r\n"+command+"\r\nQUIT\r\n"); err != nil {
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
		if strings.Contains(line, logged) && !strings.Contains(line, "level=INFO") {
			return
		}
	}
	t.Errorf("plain %v: the log does not say %q: %s", w.plain, logged, &log)
}

// TestListThatFails: a list that cannot be read is a temporary failure of what needs it; the session goes on, and has it in the end.
func TestListThatFails(t *testing.T) {
	f := newFixture(t)
	w := &watched{Store: f.store}
	w.unlisted.Store(3)
	c := f.hello(f.serve(Options{Store: w}, nil))
	c.login("open sesame")
	for _, command := range []string{"UIDL 1", "DELE 2", "RETR 1"} {
		c.say(command, "-ERR [SYS/TEMP]")
	}
	c.say("STAT", "+OK 2 ")
	c.say("DELE 2", "+OK")
	c.say("QUIT", "+OK bye, 1 deleted, 1 left")
	if got, want := f.messages(), 1; len(got) != want || got[0].UID != f.vars["uid1"] {
		t.Errorf("left are %+v", got)
	}
	if n := w.lists.Load(); n != 4 {
		t.Errorf("%d lists, want 4", n)
	}
}

// TestWhatIsOpened: what is counted answers STAT, RSET and QUIT, one list LIST, UIDL and DELE as well; TOP without lines opens the header, to
// its last octet, and no text.
func TestWhatIsOpened(t *testing.T) {
	f := newFixture(t)
	w := &watched{Store: f.store}
	s := New(Options{Store: w, Auth: f.auth, Hostname: "mail.example.com"})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	c := f.hello(l.Addr().String())
	c.login("open sesame")
	for _, tt := range []struct {
		command               string
		lines                 string // behind the first
		lists, whole, headers int64
	}{
		{"STAT", "", 0, 0, 0},
		{"RSET", "", 0, 0, 0},
		{"LIST", "1 " + f.vars["size1"] + "\r\n2 " + f.vars["size2"] + "\r\n.\r\n", 1, 0, 0},
		{"LIST 2", "", 1, 0, 0},
		{"UIDL", "1 " + f.vars["uid1"] + "\r\n2 " + f.vars["uid2"] + "\r\n.\r\n", 1, 0, 0},
		{"UIDL 1", "", 1, 0, 0},
		{"DELE 1", "", 1, 0, 0},
		{"RSET", "", 1, 0, 0},
		{"TOP 2 0", "Delivered-To: alice@example.com\r\nSubject: two\r\n\r\n.\r\n", 1, 0, 1},
		{"TOP 2 1", "Delivered-To: alice@example.com\r\nSubject: two\r\n\r\nbody\r\n.\r\n", 1, 1, 1},
		{"RETR 1", "Delivered-To: alice@example.com\r\nSubject: one\r\n\r\n..dot\r\n.\r\n", 1, 2, 1},
		{"QUIT", "", 1, 2, 1},
	} {
		c.say(tt.command, "+OK")
		rest := make([]byte, len(tt.lines))
		if _, err := io.ReadFull(c.r, rest); err != nil || string(rest) != tt.lines {
			t.Fatalf("%s: got %q (%v), want %q", tt.command, rest, err, tt.lines)
		}
		if whole, headers := w.whole.Load(), w.headers.Load(); whole != tt.whole || headers != tt.headers {
			t.Errorf("by %s there were opened: %d messages and %d headers, want %d and %d", tt.command, whole, headers, tt.whole, tt.headers)
		}
		if lists := w.lists.Load(); lists != tt.lists {
			t.Errorf("by %s there were made %d lists, want %d", tt.command, lists, tt.lists)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, pop3.ErrServerClosed) {
		t.Errorf("Serve: %v", err)
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
			if e.Text != store.TrailBrokeOff {
				kinds = append(kinds, string(e.Kind))
			}
		}
		return strings.Join(kinds, " ")
	}
	direct, plain := f.serve(Options{}, nil), f.serve(Options{Store: &watched{Store: f.store, plain: true}}, nil)
	for _, tt := range []struct{ address, commands, want string }{
		{plain, "TOP 1 99999999\r\nQUIT\r\n", "accepted stored"},
		{direct, "TOP 1 99999999\r\nQUIT\r\n", "accepted stored"},
		{plain, "RETR 1\r\n", "accepted stored"}, // no QUIT, no UPDATE
		{direct, "RETR 1\r\n", "accepted stored"},
		{plain, "RETR 1\r\nQUIT\r\n", "accepted stored fetched"},
		{direct, "RETR 1\r\nQUIT\r\n", "accepted stored fetched fetched"},
	} {
		c := f.hello(tt.address)
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
		{loginError, &auth.Banned{Wait: time.Minute}, pop3.CodeTemp, false},
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

// TestGoneClientIsNoDamage: a client that goes away in the middle of a message is not a message that cannot be read.
func TestGoneClientIsNoDamage(t *testing.T) {
	broken := errors.New("broken pipe")
	for name, tt := range map[string]struct {
		source io.Reader
		to     io.Writer
		logged bool
		sent   bool
	}{
		"gone":    {strings.NewReader("body"), writerFunc(func([]byte) (int, error) { return 2, broken }), false, false},
		"damaged": {io.MultiReader(strings.NewReader("bo"), failing{store.ErrDamaged}), io.Discard, true, false},
		"whole":   {strings.NewReader("body"), io.Discard, false, true},
		"short":   {strings.NewReader("bod"), io.Discard, false, false},
	} {
		var log bytes.Buffer
		m := &maildrop{messages: make([]pop3.Message, 1), ids: make([]store.CopyID, 1), log: slog.New(slog.NewTextHandler(&log, nil))}
		b := &directBody{&body{ReadCloser: struct {
			io.Reader
			io.WriterTo
			io.Closer
		}{tt.source, tt.source.(io.WriterTo), io.NopCloser(nil)}, of: m, n: 1, left: 4, retr: true}}
		_, _ = b.WriteTo(tt.to)
		if logged := log.Len() > 0; logged != tt.logged || (m.fetches == 1) != tt.sent {
			t.Errorf("%s: logged %q, fetched %d", name, &log, m.fetches)
		}
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
