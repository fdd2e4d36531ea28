package smtp

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/store"
)

// Shutdown lets an idle client go with 421, waits for an open transaction, and cuts off who does not end in time; Close works after it.
func TestShutdownForcesStragglers(t *testing.T) {
	onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
		idle, _ := p.dial(f)
		idle.expect("220 ")
		idle.ask("EHLO client.example", "250 ")
		straggler := inData(f, p)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		begun := time.Now()
		stopped := make(chan error, 1)
		go func() { stopped <- f.srv.Shutdown(ctx) }()
		idle.expect("421 4.4.2")
		idle.closed()
		if d := time.Since(begun); d != 0 {
			t.Errorf("the idle client waited %v", d)
		}
		if err := <-stopped; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: got %v, want %v", err, context.DeadlineExceeded)
		}
		if d := time.Since(begun); d < 10*time.Second || d > 13*time.Second {
			t.Errorf("Shutdown took %v", d)
		}
		straggler.closed()
		for range 2 {
			if err := f.srv.Close(); err != nil {
				t.Errorf("Close after Shutdown: %v", err)
			}
		}
		if n := len(f.mail("bob")); n != 0 {
			t.Errorf("%d messages of the straggler were stored", n)
		}
	})
}

func TestShutdownFinishesTransaction(t *testing.T) {
	onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
		c := inData(f, p)
		stopped := make(chan error, 1)
		go func() { stopped <- f.srv.Shutdown(context.Background()) }()
		synctest.Wait()
		time.Sleep(5 * time.Second)
		c.send("the rest\r\n.\r\n")
		c.expect("250 2.0.0 queued as ")
		c.expect("421 4.4.2")
		c.closed()
		if err := <-stopped; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if got := f.oneMail("bob"); !strings.HasSuffix(got, "the rest\r\n") {
			t.Errorf("got %q", got)
		}
	})
}

func TestServeAfterClose(t *testing.T) {
	f := newFixture(t, MX)
	s := New(f.opts)
	f.must(s.Close())
	if err := s.Serve(newPipes()); !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve: got %v, want %v", err, ErrServerClosed)
	}
	f.must(s.Shutdown(context.Background()))
}

func TestServeReportsBrokenListener(t *testing.T) {
	f := newFixture(t, MX)
	s := New(f.opts)
	if err := s.Serve(brokenListener{newPipes()}); err == nil || errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve: got %v", err)
	}
	f.must(s.Close())
}

type brokenListener struct{ *pipes }

func (brokenListener) Accept() (net.Conn, error) { return nil, errors.New("broken") }

// A change of settings is announced to the next client; those that are connected go on.
func TestSettingsChange(t *testing.T) {
	f := newFixture(t, MX).serve()
	before := f.greeted()
	f.settings(func(s *store.Settings) { s.MessageSize = 100_000; s.Recipients = 100 })
	after := f.dial()
	after.expect("220 ")
	after.send("EHLO client.example\r\n")
	var lines []string
	for {
		line, err := after.r.ReadLine()
		f.must(err)
		lines = append(lines, line[4:])
		if line[3] == ' ' {
			break
		}
	}
	all := strings.Join(lines, ",")
	// go-smtp refuses a message of exactly its limit, so it is told one octet more.
	if !strings.Contains(all, "SIZE 100001") || !strings.Contains(all, "LIMITS RCPTMAX=100") {
		t.Errorf("EHLO: %s", all)
	}
	before.ask("MAIL FROM:<x@remote.example> SIZE=100001", "552 5.3.4")
	before.message("x@remote.example", "bob@example.com", shortMessage)
}

// faulty is a store that panics or fails where it is told to.
type faulty struct {
	Store
	mu    sync.Mutex
	where string
	fail  error // panic if nil
}

func (s *faulty) hit(where string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.where != where {
		return nil
	}
	if s.fail == nil {
		panic("planted: secret detail")
	}
	return s.fail
}

func (s *faulty) set(where string, fail error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.where, s.fail = where, fail
}

func (s *faulty) Settings(ctx context.Context) (store.Settings, error) {
	if err := s.hit("Settings"); err != nil {
		return store.Settings{}, err
	}
	return s.Store.Settings(ctx)
}

func (s *faulty) Reserve(ctx context.Context, id store.AccountID, octets int64) (store.ReservationID, error) {
	if err := s.hit("Reserve"); err != nil {
		return 0, err
	}
	return s.Store.Reserve(ctx, id, octets)
}

func (s *faulty) NewDraft(ctx context.Context) (store.Draft, error) {
	if err := s.hit("NewDraft"); err != nil {
		return nil, err
	}
	d, err := s.Store.NewDraft(ctx)
	return &faultyDraft{Draft: d, s: s}, err
}

type faultyDraft struct {
	store.Draft
	s *faulty
}

func (d *faultyDraft) Write(p []byte) (int, error) {
	if err := d.s.hit("Write"); err != nil {
		return 0, err
	}
	return d.Draft.Write(p)
}

func (d *faultyDraft) Commit(ctx context.Context, e store.Envelope) (store.Receipt, error) {
	if err := d.s.hit("Commit"); err != nil {
		_ = d.Abort() // a draft is settled whatever Commit returns
		return store.Receipt{}, err
	}
	return d.Draft.Commit(ctx, e)
}

func faultyStore(f *fixture) *faulty {
	s := &faulty{Store: f.store}
	f.opts.Store = s
	return s
}

// steps is what a client says up to the point where the store fails, and the step that is answered with the failure.
var steps = []struct {
	where string
	mail  string // reply to each step: "" stops there
	rcpt  string
}{
	{"Settings", "fault", ""},
	{"Reserve", "250", "fault"},
	{"NewDraft", "250", "250"},
	{"Write", "250", "250"},
	{"Commit", "250", "250"},
}

// walk goes to the step that fails and returns its reply.
func walk(c *client, where, mail, rcpt string, bdat bool) string {
	c.f.t.Helper()
	c.send("MAIL FROM:<x@remote.example>\r\n")
	if mail == "fault" {
		return c.reply()
	}
	c.expect("250 ")
	c.send("RCPT TO:<bob@example.com>\r\n")
	if rcpt == "fault" {
		return c.reply()
	}
	c.expect("250 ")
	if bdat {
		c.send("BDAT 8 LAST\r\nA: 1\r\n\r\n")
		return c.reply()
	}
	c.ask("DATA", "354 ")
	c.send("A: 1\r\n\r\n" + strings.Repeat("x\r\n", 10_000) + ".\r\n")
	return c.reply()
}

// A panic answers 421 and ends its connection, nothing else; what it says stays in the log.
func TestPanics(t *testing.T) {
	f := newFixture(t, MX)
	s := faultyStore(f)
	f.serve()
	for _, step := range steps {
		for _, bdat := range []bool{false, true} {
			c := f.greeted()
			s.set(step.where, nil)
			if line := walk(c, step.where, step.mail, step.rcpt, bdat); !strings.HasPrefix(line, "421 4.3.0 Internal error") {
				t.Errorf("%s: got %q", step.where, line)
			}
			c.closed()
			s.set("", nil)
		}
	}
	f.greeted().message("x@remote.example", "bob@example.com", shortMessage)
	if got := f.oneMail("bob"); !strings.HasSuffix(got, shortMessage) {
		t.Errorf("got %q", got)
	}
	if n := strings.Count(f.log.String(), "stack="); n != len(steps)*2 {
		t.Errorf("%d panics logged, want %d", n, len(steps)*2)
	}
}

// Whatever the store says, the client gets the class of it, and may go on.
func TestStoreFailures(t *testing.T) {
	f := newFixture(t, MX)
	s := faultyStore(f)
	f.serve()
	c := f.greeted()
	for err, want := range map[error]string{
		store.ErrNoSpace:          "452 4.3.1 ",
		store.ErrPoisoned:         "451 4.3.0 ",
		store.ErrDamaged:          "451 4.3.0 ",
		errors.New("/var/secret"): "451 4.3.0 Temporary failure, try again later",
	} {
		for _, step := range steps {
			for _, bdat := range []bool{false, true} {
				s.set(step.where, err)
				if line := walk(c, step.where, step.mail, step.rcpt, bdat); !strings.HasPrefix(line, want) || strings.Contains(line, "secret") {
					t.Errorf("%v in %s: got %q, want %q", err, step.where, line, want)
				}
				s.set("", nil)
				c.ask("RSET", "250 ")
			}
		}
	}
	if n := len(f.mail("bob")); n != 0 {
		t.Errorf("%d messages stored", n)
	}
	c.message("x@remote.example", "bob@example.com", shortMessage)
}

// A session that is broken altogether does not take the process with it.
func TestLogoutRecovers(t *testing.T) {
	f := newFixture(t, MX)
	broken := &session{log: New(f.opts).log}
	broken.Reset()
	_ = broken.Logout()
	if n := strings.Count(f.log.String(), "stack="); n != 3 {
		t.Errorf("%d panics logged, want 3: Reset, and Logout with the Reset in it", n)
	}
}

// Many connections over TCP end with Close, whatever they do.
func TestCloseUnderLoad(t *testing.T) {
	f := newFixture(t, MX).serve()
	var wg sync.WaitGroup
	for range 20 {
		conn, err := net.Dial("tcp", f.addr)
		f.must(err)
		wg.Go(func() {
			defer func() { _ = conn.Close() }()
			go func() { _, _ = io.Copy(io.Discard, conn) }()
			for {
				if _, err := io.WriteString(conn, "EHLO x\r\nMAIL FROM:<x@remote.example>\r\nRCPT TO:<bob@example.com>\r\nBDAT 8 LAST\r\nA: 1\r\n\r\n"); err != nil {
					return
				}
			}
		})
	}
	f.must(f.srv.Close())
	wg.Wait()
}

// Connections that arrive while the settings change all get their greeting.
func TestSettingsChangeUnderLoad(t *testing.T) {
	f := newFixture(t, MX).serve()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			s, err := f.store.Settings(context.Background())
			if err == nil {
				s.Recipients = store.MinRecipients + i%10
				_, err = f.store.UpdateSettings(context.Background(), s)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 100 {
		c := f.dial()
		c.expect("220 ")
		c.ask("QUIT", "221 ")
		c.closed()
	}
	close(stop)
	wg.Wait()
}
