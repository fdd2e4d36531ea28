package maildrop

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
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

// fixture is a domain with mail: alice has two messages, carol is suspended.
type fixture struct {
	t     *testing.T
	store *memstore.Store
	auth  *auth.Authenticator
	tls   *tls.Config
	alice store.Account
	vars  map[string]string
}

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
	f.auth = auth.New(auth.Options{Accounts: f.store, Settings: f.store, Guard: guard.NewLogins(guard.LoginLimits{})})
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
	verifier, err := f.auth.Hash(t.Context(), "open sesame")
	if err != nil {
		t.Fatal(err)
	}
	if f.alice, err = f.store.AddAccount(t.Context(), store.Account{Name: "alice", Verifier: verifier}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.AddAccount(t.Context(), store.Account{Name: "carol", Verifier: verifier, Suspended: true}); err != nil {
		t.Fatal(err)
	}
	f.deliver("Subject: one\r\n\r\n", ".dot\r\n")
	f.deliver("Subject: two\r\n\r\n", "body\r\n")
	octets := int64(0)
	for i, m := range f.messages() {
		n := strconv.Itoa(i + 1)
		f.vars["size"+n], f.vars["uid"+n] = strconv.FormatInt(m.Size, 10), m.UID
		octets += m.Size
	}
	f.vars["octets"] = strconv.FormatInt(octets, 10)
	return f
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
	return m.Messages()
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
	o.Store, o.Auth, o.TLSConfig, o.Hostname, o.Implementation = f.store, f.auth, f.tls, "mail.example.com", "Latchkey"
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

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 7 {
		t.Fatalf("%d transcripts (%v)", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			f := newFixture(t)
			var wrap func(net.Listener) net.Listener
			if strings.HasSuffix(file, "cleartext_refused.txt") {
				wrap = func(l net.Listener) net.Listener { return outside{l} }
			}
			dialog.Run(t, f.dial(f.serve(Options{}, wrap)), dialog.POP3, file, f.vars)
		})
	}
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
	for _, e := range events {
		kinds = append(kinds, string(e.Kind))
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
	if err != nil || string(got) != refusal {
		t.Errorf("got %q (%v)", got, err)
	}
}

// damaged is a store whose messages cannot be read to their end.
type damaged struct{ Store }

type damagedDrop struct{ store.Maildrop }

func (d damaged) OpenMaildrop(ctx context.Context, id store.AccountID) (store.Maildrop, error) {
	m, err := d.Store.OpenMaildrop(ctx, id)
	return damagedDrop{m}, err
}

func (d damagedDrop) OpenMessage(ctx context.Context, id store.CopyID) (io.ReadCloser, error) {
	r, err := d.Maildrop.OpenMessage(ctx, id)
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r, 20), failing{}), r}, err
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, fmt.Errorf("block 0: %w", store.ErrDamaged) }

// TestDamagedMessage: a block whose checksum fails is never sent as mail: the session ends without the terminating dot.
func TestDamagedMessage(t *testing.T) {
	f := newFixture(t)
	s := New(Options{Store: damaged{f.store}, Auth: f.auth, Hostname: "mail.example.com"})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	c := f.dial(l.Addr().String())
	if _, err := io.WriteString(c, "USER alice\r\nPASS open sesame\r\nDELE 2\r\nRETR 1\r\nQUIT\r\n"); err != nil {
		t.Fatal(err)
	}
	replies, _ := io.ReadAll(c)
	if strings.Contains(string(replies), "\r\n.\r\n") || strings.Contains(string(replies), "bye") {
		t.Errorf("got %q", replies)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	<-done
	if len(f.messages()) != 2 {
		t.Error("a session that broke off has deleted a message")
	}
}

// TestErrors: every sentinel of auth and store has its words; nothing of the cause is among them.
func TestErrors(t *testing.T) {
	secret := "/var/lib/secret"
	for _, err := range []error{
		auth.ErrCredentials, auth.ErrSuspended, auth.ErrThrottled, auth.ErrCleartext, auth.ErrBusy, auth.ErrIdentity, context.Canceled,
		store.ErrNotFound, store.ErrSuspended, store.ErrDamaged, store.ErrPoisoned, store.ErrNoSpace, store.ErrClosed, errors.New("unknown"),
	} {
		for name, convert := range map[string]func(error) error{"login": loginError, "store": storeError} {
			got := convert(fmt.Errorf("at %s: %w", secret, fmt.Errorf("again: %w", err)))
			var e *pop3.Error
			if !errors.As(got, &e) || e.Code == pop3.CodeNone || e.Text == "" || strings.Contains(e.Text, secret) {
				t.Errorf("%s %v: got %#v", name, err, got)
			}
		}
	}
}
