package maildrop

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/refusal"
	"latchkey/pop3"
	"latchkey/store"
)

// silent is a session that has been silent for a while.
type silent struct {
	idle  time.Duration
	ended []*pop3.Error
}

func (s *silent) Idle() time.Duration { return s.idle }

func (s *silent) End(e *pop3.Error) { s.ended = append(s.ended, e) }

// count is how many maildrops are locked.
func (l *Locks) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held)
}

func isReply(err error, name refusal.Name) bool {
	var e *pop3.Error
	return errors.As(err, &e) && e.Text == refusal.Of(name).POP3Text()
}

// TestTakeOver: only from the same client, only of a holder that was silent for a minute and is not at its update, and never unnoticed.
func TestTakeOver(t *testing.T) {
	here, there := netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("192.0.2.8/32")
	for _, tt := range []struct {
		name           string
		held, by       netip.Prefix
		idle           time.Duration
		updating, want bool
	}{
		{"busy", here, here, 0, false, false},
		{"not silent for long enough", here, here, takeOverAfter - 1, false, false},
		{"silent", here, here, takeOverAfter, false, true},
		{"silent for long", here, here, time.Hour, false, true},
		{"another client", here, there, time.Hour, false, false},
		{"nobody knows whose", netip.Prefix{}, netip.Prefix{}, time.Hour, false, false},
		{"at its update", here, here, time.Hour, true, false},
	} {
		var l Locks
		first := &silent{}
		mine, loser, err := l.acquire(1, tt.held, first)
		if err != nil || loser != nil {
			t.Fatalf("%s: free maildrop: %v %v", tt.name, loser, err)
		}
		if tt.updating && !mine.beginUpdate() {
			t.Fatalf("%s: no update", tt.name)
		}
		first.idle = tt.idle
		theirs, loser, err := l.acquire(1, tt.by, &silent{})
		if got := err == nil; got != tt.want || !got && !isReply(err, refusal.MaildropInUse) {
			t.Errorf("%s: got %v", tt.name, err)
			continue
		}
		if tt.want != (loser == holder(first)) {
			t.Errorf("%s: %v is to be ended", tt.name, loser)
		}
		if mine.beginUpdate() == tt.want {
			t.Errorf("%s: the first may update: %v", tt.name, !tt.want)
		}
		if tt.want && !theirs.beginUpdate() {
			t.Errorf("%s: the second may not update", tt.name)
		}
	}
}

// TestLockHasAnOwner: only who holds a lock frees it, once (hMailServer's bug), and each maildrop has its own.
func TestLockHasAnOwner(t *testing.T) {
	var l Locks
	client := netip.MustParsePrefix("192.0.2.7/32")
	take := func(account store.AccountID, by holder) *hold {
		t.Helper()
		h, _, err := l.acquire(account, client, by)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	inUse := func(when string) {
		t.Helper()
		if _, _, err := l.acquire(1, client, &silent{}); !isReply(err, refusal.MaildropInUse) {
			t.Errorf("%s: got %v", when, err)
		}
	}
	one := take(1, &silent{idle: takeOverAfter})
	two := take(2, &silent{})
	inherited := take(1, &silent{})
	one.release()
	inUse("freed by who lost it")
	two.release()
	inUse("freed by the holder of another one")
	(*hold)(nil).release()
	inUse("freed by nobody")
	inherited.release()
	again := take(1, &silent{})
	inherited.release()
	inUse("freed twice")
	again.release()
	if n := l.count(); n != 0 {
		t.Errorf("%d are held", n)
	}
	if !(*hold)(nil).beginUpdate() {
		t.Error("no update without a lock")
	}
}

// TestLocksBound: one more maildrop than the bound is refused, with a cause for the log; a take-over is not one more.
func TestLocksBound(t *testing.T) {
	var l Locks
	client, last := netip.MustParsePrefix("192.0.2.7/32"), (*hold)(nil)
	for id := range store.AccountID(maxLocks) {
		h, _, err := l.acquire(id, client, &silent{idle: takeOverAfter})
		if err != nil {
			t.Fatalf("%d: %v", id, err)
		}
		last = h
	}
	if _, _, err := l.acquire(maxLocks, client, &silent{}); !isReply(err, refusal.TemporaryFailure) || !errors.Is(err, errTooManyLocks) {
		t.Errorf("one more: got %v", err)
	}
	if _, loser, err := l.acquire(0, client, &silent{}); err != nil || loser == nil {
		t.Errorf("take-over: %v %v", loser, err)
	}
	last.release()
	if _, _, err := l.acquire(maxLocks, client, &silent{}); err != nil {
		t.Errorf("after one has gone: got %v", err)
	}
}

func exclusive(s *store.Settings) { s.ExclusiveMaildrop = true }

// in logs in at a door, whatever the name asks for.
func (f *fixture) in(address, name, want string) *lines {
	f.t.Helper()
	c := f.hello(address)
	c.say("USER "+name, "+OK")
	c.say("PASS open sesame", want)
	return c
}

const inUse = "-ERR [IN-USE] close the other mail program"

// TestExclusive: with the setting one session has the maildrop, whatever part of it and at whatever door; who is refused may try again, and frees
// nothing by leaving.
func TestExclusive(t *testing.T) {
	f := newFixture(t)
	f.set(exclusive)
	f.add(store.Account{Name: "bert", Verifier: f.hash("open sesame")})
	locks := new(Locks)
	door, other := f.serve(Options{Locks: locks}, nil), f.serve(Options{Locks: locks}, nil)
	first := f.in(door, "alice", "+OK 2 messages")
	waiting := f.in(other, "alice(new)", inUse)
	for _, name := range []string{"alice", "ALICE@example.com", "alice(7d)@example.com", "alice@example.com(max=1)"} {
		refused := f.in(door, name, inUse)
		if err := refused.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f.in(door, "bert", "+OK 0 messages")
	polite := f.in(door, "alice", inUse)
	polite.say("QUIT", "+OK")
	polite.read2end()
	waiting.say("USER alice", "+OK")
	waiting.say("PASS open sesame", inUse)
	first.say("DELE 1", "+OK")
	first.say("QUIT", "+OK bye, 1 deleted")
	waiting.say("USER alice(max=5)", "+OK")
	waiting.say("PASS open sesame", "+OK 1 messages")
	f.in(door, "alice", inUse)
}

// read2end reads until the server has ended the session.
func (l *lines) read2end() {
	l.t.Helper()
	if rest, err := io.ReadAll(l.r); err != nil || len(rest) > 0 {
		l.t.Errorf("got %q (%v), want the end", rest, err)
	}
}

// held is a store whose maildrops do not close before they may.
type held struct {
	Store
	may chan struct{}
}

type heldDrop struct {
	store.Maildrop
	may chan struct{}
}

func (h held) OpenMaildrop(ctx context.Context, id store.AccountID) (store.Maildrop, error) {
	m, err := h.Store.OpenMaildrop(ctx, id)
	return heldDrop{m, h.may}, err
}

func (d heldDrop) Close() error {
	<-d.may
	return d.Maildrop.Close()
}

// TestLockIsFreeBeforeQUITIsAnswered (RFC 1939 §6): a client that comes back in the moment it has the answer finds the maildrop free.
func TestLockIsFreeBeforeQUITIsAnswered(t *testing.T) {
	f := newFixture(t)
	f.set(exclusive)
	may := make(chan struct{})
	defer close(may)
	address := f.serve(Options{Store: held{f.store, may}}, nil)
	c := f.in(address, "alice", "+OK 2 messages")
	c.say("QUIT", "+OK bye")
	f.in(address, "alice", "+OK 2 messages")
}

// TestLockEnds however a session ends, and when a login fails behind the lock.
func TestLockEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(w *watched)
		login string
		end   func(c *lines, s *Server)
	}{
		"QUIT": {nil, "+OK", func(c *lines, _ *Server) { c.say("QUIT", "+OK") }},
		"drop": {nil, "+OK", func(c *lines, _ *Server) { _ = c.Close() }},
		"QUIT that fails": {func(w *watched) { w.expunge = store.ErrPoisoned }, "+OK", func(c *lines, _ *Server) {
			c.say("DELE 1", "+OK")
			c.say("QUIT", "-ERR")
		}},
		"damaged message": {func(w *watched) { w.after, w.failure = 20, store.ErrDamaged }, "+OK", func(c *lines, _ *Server) { c.say("RETR 1", "+OK") }},
		"panic":           {func(w *watched) { w.after, w.failure = 20, errPanic }, "+OK", func(c *lines, _ *Server) { c.say("RETR 1", "+OK") }},
		"Close":           {nil, "+OK", func(_ *lines, s *Server) { _ = s.Close() }},
		"Shutdown":        {nil, "+OK", func(_ *lines, s *Server) { _ = s.Shutdown(t.Context()) }},
		"bad commands":    {nil, "+OK", func(c *lines, _ *Server) { _, _ = io.WriteString(c, strings.Repeat("HELP\r\n", 20)) }},
		"no list":         {func(w *watched) { w.unlisted.Store(1) }, "-ERR [SYS/TEMP]", nil},
		"no maildrop":     {func(w *watched) { w.unopened = store.ErrNoSpace }, "-ERR [SYS/TEMP]", nil},
		"panic at login":  {func(w *watched) { w.unopened = errPanic }, "-ERR [SYS/TEMP]", func(*lines, *Server) {}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.set(exclusive)
			w, locks := &watched{Store: f.store}, new(Locks)
			if tt.spoil != nil {
				tt.spoil(w)
			}
			s := New(Options{Store: w, Auth: f.auth, Hostname: "mail.example.com", Locks: locks})
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- s.Serve(l) }()
			c := f.in(l.Addr().String(), "alice(max=9)", tt.login)
			if tt.login == "+OK" && locks.count() != 1 {
				t.Errorf("%d are held in the session, want 1", locks.count())
			}
			if tt.end != nil {
				tt.end(c, s)
				_, _ = io.ReadAll(c) // until the server has ended it
			} else if locks.count() != 0 { // before the refusal (RFC 1939 §4)
				t.Errorf("%d are held after a refusal", locks.count())
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := <-done; !errors.Is(err, pop3.ErrServerClosed) {
				t.Errorf("Serve: %v", err)
			}
			if locks.count() != 0 {
				t.Errorf("%d are held at the end", locks.count())
			}
		})
	}
}

// TestExclusiveIsSwitched: the setting is about logins from now on. Sessions from before it was on go on and exclude nobody; one that has the
// maildrop keeps it while the setting is off.
func TestExclusiveIsSwitched(t *testing.T) {
	f := newFixture(t)
	address := f.serve(Options{}, nil)
	before := f.in(address, "alice", "+OK 2 messages")
	f.set(exclusive)
	holder := f.in(address, "alice", "+OK 2 messages")
	f.in(address, "alice", inUse)
	f.set(func(s *store.Settings) { s.ExclusiveMaildrop = false })
	meanwhile := f.in(address, "alice", "+OK 2 messages")
	f.set(exclusive)
	f.in(address, "alice", inUse)
	before.say("DELE 1", "+OK")
	before.say("QUIT", "+OK bye, 1 deleted")
	meanwhile.say("QUIT", "+OK")
	f.in(address, "alice", inUse)
	holder.say("DELE 2", "+OK")
	holder.say("QUIT", "+OK bye, 1 deleted")
	f.in(address, "alice", "+OK 0 messages")
}

// TestInUseIsNoLogin: a login that finds the maildrop in use does not count for LOGIN-DELAY.
func TestInUseIsNoLogin(t *testing.T) {
	f := newFixture(t)
	f.set(func(s *store.Settings) { s.ExclusiveMaildrop, s.LoginDelay = true, 3600 })
	address := f.serve(Options{}, nil)
	first := f.in(address, "alice", "+OK 2 messages")
	for range 3 {
		f.in(address, "alice", inUse)
	}
	first.say("QUIT", "+OK")
	f.in(address, "alice", "+OK 2 messages").say("QUIT", "+OK")
	f.in(address, "alice", "-ERR [LOGIN-DELAY]")
}

// TestNothingIsDeletedAfterTakeOver: whatever a session still gets to say, its update does nothing.
func TestNothingIsDeletedAfterTakeOver(t *testing.T) {
	f := newFixture(t)
	var l Locks
	client := netip.MustParsePrefix("192.0.2.7/32")
	h, _, err := l.acquire(f.alice.ID, client, &silent{idle: takeOverAfter})
	if err != nil {
		t.Fatal(err)
	}
	open := func(h *hold) *maildrop {
		t.Helper()
		snapshot, err := f.store.OpenMaildrop(t.Context(), f.alice.ID)
		if err != nil {
			t.Fatal(err)
		}
		m := &maildrop{snapshot: snapshot, hold: h}
		if _, err := m.Messages(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Close() })
		return m
	}
	old := open(h)
	next, _, err := l.acquire(f.alice.ID, client, &silent{})
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Update(t.Context(), []int{1, 2}); !isReply(err, refusal.MaildropTakenOver) {
		t.Errorf("got %v", err)
	}
	if err := old.Update(t.Context(), nil); err != nil {
		t.Errorf("with nothing to delete: %v", err)
	}
	if len(f.messages()) != 2 {
		t.Error("a message is gone")
	}
	if err := open(next).Update(t.Context(), []int{1}); err != nil || len(f.messages()) != 1 {
		t.Errorf("who has it now: %v, %d messages are left", err, len(f.messages()))
	}
	if l.count() != 0 {
		t.Errorf("%d are held after the update", l.count())
	}
}

// pipes is a listener whose clients come over pipes, from what address they like, so that time can be fake.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   *sync.Once // a listener is closed by Serve and by whoever ends it, at once
}

func newPipes() pipes { return pipes{make(chan net.Conn), make(chan struct{}), new(sync.Once)} }

type pipe struct {
	net.Conn
	from netip.Addr
}

func (p pipe) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.from, 4711)) }

func (l pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l pipes) Addr() net.Addr { return &net.TCPAddr{} }

// from logs in as alice.
func (l pipes) from(f *fixture, address, want string) *lines {
	f.t.Helper()
	ours, theirs := net.Pipe()
	l.conns <- pipe{theirs, netip.MustParseAddr(address)}
	f.t.Cleanup(func() { _ = ours.Close() })
	c := &lines{f.t, ours, bufio.NewReader(ours)}
	c.read("+OK")
	c.say("USER alice", "+OK")
	c.say("PASS open sesame", want)
	return c
}

// silence is fake time with an exclusive maildrop.
func silence(t *testing.T, do func(f *fixture, l pipes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.set(func(s *store.Settings) { s.ExclusiveMaildrop, s.CleartextLogin = true, true })
		l := newPipes()
		s := New(Options{Store: f.store, Auth: f.auth, Hostname: "mail.example.com"})
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		do(f, l)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, pop3.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
}

const takenOver = "-ERR check mail again: this session was silent"

// TestSilentSessionGivesWay: after a minute of silence, to a client of its own address; it hears of it, and nothing that it marked is deleted.
func TestSilentSessionGivesWay(t *testing.T) {
	silence(t, func(f *fixture, l pipes) {
		first := l.from(f, "192.0.2.7", "+OK 2 messages")
		first.say("DELE 1", "+OK")
		time.Sleep(takeOverAfter - time.Second)
		l.from(f, "192.0.2.7", inUse)
		first.say("NOOP", "+OK")
		time.Sleep(takeOverAfter)
		l.from(f, "192.0.2.8", inUse)
		second := l.from(f, "192.0.2.7", "+OK 2 messages")
		first.read(takenOver)
		first.read2end()
		l.from(f, "192.0.2.7", inUse)
		second.say("DELE 2", "+OK")
		second.say("QUIT", "+OK bye, 1 deleted")
		if left := f.messages(); len(left) != 1 || left[0].UID != f.vars["uid1"] {
			f.t.Errorf("left are %+v", left)
		}
	})
}

// TestStalledSessionGivesWay: a client that lost its line in the middle of a message comes back, and is not kept out by what nobody takes. Its
// address is the /64 of IPv6.
func TestStalledSessionGivesWay(t *testing.T) {
	silence(t, func(f *fixture, l pipes) {
		f.deliver("Subject: long\r\n\r\n", strings.Repeat("0123456789\r\n", 20_000))
		first := l.from(f, "2001:db8::1", "+OK 3 messages")
		first.say("DELE 1", "+OK")
		first.say("RETR 3", "+OK")
		time.Sleep(takeOverAfter)
		l.from(f, "2001:db8:0:1::1", inUse)
		l.from(f, "2001:db8::2", "+OK 3 messages")
		if rest, _ := io.ReadAll(first.r); strings.HasSuffix(string(rest), "\r\n.\r\n") {
			f.t.Error("the message was ended")
		}
		if len(f.messages()) != 3 {
			f.t.Error("a message is gone")
		}
	})
}

// TestSilenceEnds: who looks like nobody else keeps a maildrop until its session is too silent for any.
func TestSilenceEnds(t *testing.T) {
	silence(t, func(f *fixture, l pipes) {
		first := l.from(f, "192.0.2.7", "+OK 2 messages")
		first.say("DELE 1", "+OK")
		time.Sleep(pop3.DefaultIdleTimeout - 2*time.Second)
		l.from(f, "192.0.2.8", inUse)
		time.Sleep(4 * time.Second)
		first.read2end()
		l.from(f, "192.0.2.8", "+OK 2 messages")
	})
}
