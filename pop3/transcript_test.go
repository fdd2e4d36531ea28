package pop3_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"latchkey/internal/dialog"
	"latchkey/pop3"
	"latchkey/pop3/pop3test"
)

// The messages of alice's maildrop: 24, 30 and 27 octets; carla has the first one, and one that needs UTF8.
const (
	messageUTF8  = "Subject: Grüße\r\n\r\nHällo\r\n"
	messageOne   = "Subject: one\r\n\r\nHello.\r\n"
	messageDots  = "Subject: dots\r\n\r\n.\r\n..a\r\nend\r\n"
	messageLines = "Subject: lines\r\n\r\n1\r\n2\r\n3\r\n"
)

// certificate makes a certificate for this test run.
func certificate(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// newBackend has the maildrops that all transcripts know.
func newBackend() *pop3test.Backend {
	never := pop3.Policy{Expire: pop3.ExpireNever}
	b := &pop3test.Backend{Mechanisms: []string{"PLAIN"}, BeforeLogin: never, AfterLogin: never}
	b.Add("alice", "secret", messageOne, messageDots, messageLines)
	b.Add("bob", " two  words ")
	b.Add("carla", "secret", messageOne, messageUTF8)
	b.Add("Jörg", "grüße")
	b.Add("latin", "gr\xfc\xdfe")
	return b
}

func newServer(b pop3.Backend) *pop3.Server {
	return &pop3.Server{
		Backend: b, Hostname: "pop.test", Language: "de", Implementation: "pop3test", Logger: slog.New(slog.DiscardHandler),
	}
}

// serve serves on loopback until the test ends.
func serve(t testing.TB, s *pop3.Server) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, s, l)
	return l.Addr().String()
}

// serveOn serves on a listener until the test ends.
func serveOn(t testing.TB, s *pop3.Server, l net.Listener) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, pop3.ErrServerClosed) {
			t.Errorf("Serve: got %v, want ErrServerClosed", err)
		}
	})
}

func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func utf8User(b *pop3test.Backend, _ *pop3.Server) { b.BeforeLogin.UTF8User = true }

// variants says what a transcript needs besides the usual backend, and what its maildrops must look like afterwards.
var variants = map[string]struct {
	set  func(b *pop3test.Backend, s *pop3.Server)
	left []string // of alice's unique-ids
}{
	"user_refused": {set: func(b *pop3test.Backend, _ *pop3.Server) {
		b.RefusePassword = &pop3.Error{Code: pop3.CodeAuth, Text: "TLS first"}
	}},
	"stls_unavailable":  {set: func(_ *pop3test.Backend, s *pop3.Server) { s.TLSConfig = nil }},
	"auth_none":         {set: func(b *pop3test.Backend, _ *pop3.Server) { b.Mechanisms = nil }},
	"auth_success_data": {set: func(b *pop3test.Backend, _ *pop3.Server) { b.Mechanisms = []string{"TWO-STEP"} }},
	"greeting_refused":  {set: func(b *pop3test.Backend, _ *pop3.Server) { b.Greeting = errors.New("disk on fire") }},
	"open_fails": {set: func(b *pop3test.Backend, _ *pop3.Server) {
		b.Opening = &pop3.Error{Code: pop3.CodeInUse, Text: "maildrop is locked"}
	}},
	"auth_login":      {set: func(b *pop3test.Backend, _ *pop3.Server) { b.Mechanisms = []string{"LOGIN"} }},
	"auth_cram_first": {set: func(b *pop3test.Backend, _ *pop3.Server) { b.Mechanisms = []string{"CRAM-MD5"} }},
	"capa_policy": {set: func(b *pop3test.Backend, _ *pop3.Server) {
		b.BeforeLogin = pop3.Policy{Expire: 5, ExpireByUser: true, LoginDelay: 15 * time.Minute, LoginDelayByUser: true, UTF8User: true}
		b.AfterLogin = pop3.Policy{
			Expire: pop3.ExpireAtOnce, ExpireByUser: true, LoginDelay: time.Minute + time.Millisecond, LoginDelayByUser: true, UTF8User: true,
		}
	}},
	"last":                 {set: func(b *pop3test.Backend, _ *pop3.Server) { b.Last = true }},
	"utf8_surrogate":       {set: setSurrogate},
	"utf8_surrogate_not":   {set: setSurrogate},
	"utf8_user":            {set: utf8User},
	"utf8_user_prohibited": {set: utf8User},
	"lang_update_fails":    {set: func(b *pop3test.Backend, _ *pop3.Server) { b.Updating = errors.New("disk on fire") }},
	"lang_own_texts": {set: func(b *pop3test.Backend, _ *pop3.Server) {
		b.Texts = map[string]map[string]string{"de": {"wrong name or password": "Name oder Passwort ist falsch, größere Mühe!"}}
	}},
	"quit_update_fails": {set: func(b *pop3test.Backend, _ *pop3.Server) { b.Updating = errors.New("disk on fire") }},
	"list_fails":        {set: func(b *pop3test.Backend, _ *pop3.Server) { failListing(b, 5) }, left: []string{"uid2", "uid3"}},
	"quit_update":       {left: []string{"uid2"}},
	"quit_bare_lf":      {left: []string{"uid2", "uid3"}},
	"pipelining":        {left: []string{"uid2", "uid3"}},
}

// setSurrogate gives clients without UTF8 an encoded header.
func setSurrogate(b *pop3test.Backend, _ *pop3.Server) {
	b.Surrogate = func(text string) string { return strings.Replace(text, "Grüße", "=?utf-8?q?Gr=C3=BC=C3=9Fe?=", 1) }
}

// TestTranscripts plays every golden transcript, sent as it is, octet by octet, and in odd pieces: a server must not care.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 59 {
		t.Fatalf("%d transcripts (%v)", len(files), err)
	}
	config := certificate(t)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		for _, split := range []int{0, 1, 7} {
			t.Run(name, func(t *testing.T) {
				b := newBackend()
				s := newServer(b)
				s.TLSConfig = config
				v := variants[name]
				if v.set != nil {
					v.set(b, s)
				}
				address := serve(t, s)
				dialog.Player{Split: split}.Run(t, dial(t, address), file)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				left := v.left
				if left == nil {
					left = []string{"uid1", "uid2", "uid3"}
				}
				if got := b.UIDs("alice"); !reflect.DeepEqual(got, left) {
					t.Errorf("left in the maildrop: got %v, want %v", got, left)
				}
				if sessions := 1; b.Greeting == nil && b.Logouts() != sessions {
					t.Errorf("got %d logouts, want %d", b.Logouts(), sessions)
				}
			})
		}
	}
}
