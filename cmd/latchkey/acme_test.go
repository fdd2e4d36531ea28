package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/config"
	"latchkey/guard"
	"latchkey/internal/certs"
	"latchkey/store/memstore"
	"latchkey/webmanager"
)

// withACME makes a server ask a CA whose directory is at a URL; it has no certificate of files.
func (s *testServer) withACME(directory string) {
	s.t.Helper()
	s.config.TLS = config.TLS{}
	s.config.ACME = config.ACME{
		Directory: directory, AgreeTerms: true, AccountKey: filepath.Join(s.t.TempDir(), "account.key"), KeyNumber: 1, HTTPListen: []string{"127.0.0.1:0"},
	}
}

// peer is the certificate that a door presents.
func (s *testServer) peer(door string) *tls.Certificate {
	s.t.Helper()
	state, err := s.handshake(door, &tls.Config{InsecureSkipVerify: true, ServerName: s.process.hostname}) // it is looked at afterwards
	if err != nil {
		s.t.Fatalf("%s: %v", door, err)
	}
	c := &tls.Certificate{Leaf: state.PeerCertificates[0]}
	for _, one := range state.PeerCertificates {
		c.Certificate = append(c.Certificate, one.Raw)
	}
	return c
}

// handshake does one at a door, behind STLS or STARTTLS where the door starts in the clear.
func (s *testServer) handshake(door string, c *tls.Config) (state tls.ConnectionState, err error) {
	s.t.Helper()
	address := s.addr(door)
	if _, port, _ := strings.Cut(address, "[::]:"); port != "" {
		address = "127.0.0.1:" + port
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return state, err
	}
	defer func() { _ = conn.Close() }() // it was only to see the certificate
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return state, err
	}
	text := textproto.NewConn(conn)
	for _, line := range map[string][]string{
		"pop3": {"", "STLS"}, "mx": {"", "EHLO client.example", "STARTTLS"}, "submission": {"", "EHLO client.example", "STARTTLS"},
	}[door] {
		if line != "" {
			if err := text.PrintfLine("%s", line); err != nil {
				return state, err
			}
		}
		for more := true; more; {
			answer, err := text.ReadLine()
			if err != nil {
				return state, err
			}
			more = len(answer) > 3 && answer[3] == '-' && door != "pop3"
		}
	}
	secure := tls.Client(conn, c)
	err = secure.Handshake()
	return secure.ConnectionState(), err
}

// certificates are the states that GET /v1/metrics has.
func (s *testServer) certificates() []certs.State {
	s.t.Helper()
	var m webmanager.Metrics
	s.do(http.MethodGet, "/v1/metrics", nil, &m)
	return m.Certificates
}

// TestWithoutTheCA: a server whose CA is down starts, has TLS at every door by a certificate of its own, says so loudly, and keeps its key over
// restarts.
func TestWithoutTheCA(t *testing.T) {
	s := newTestServer(t, "example.com")
	s.withACME("https://127.0.0.1:1/directory")
	s.config.ACME.Names = []string{"mta-sts"}
	s.config.Listen.OldPOP3S = []string{"127.0.0.1:0"}
	s.config.Web.Listen = []string{":0"}
	s.start()
	first := s.peer("pop3s")
	for _, door := range []string{"pop3", "mx", "submission", "smtps", pagesDoor} {
		if got := s.peer(door); !slices.Equal(got.Leaf.Raw, first.Leaf.Raw) {
			t.Errorf("%s has another certificate", door)
		}
	}
	if got := s.peer("old_pop3s").Leaf.PublicKeyAlgorithm.String(); got != "RSA" {
		t.Errorf("old clients get a key of %s", got)
	}
	if got := first.Leaf.DNSNames; !slices.Equal(got, []string{"mail.example.com", "mta-sts.example.com"}) {
		t.Errorf("names %q", got)
	}
	eventually(t, "the log to say so", func() bool {
		log := s.log.String()
		return strings.Contains(log, "level=ERROR") && strings.Contains(log, "no certificate from the CA") &&
			strings.Contains(log, "certificate is self-signed until")
	})
	list := s.certificates()
	if len(list) != 2 || list[0].Issued || list[0].Failures != 1 || !strings.Contains(list[0].Fault, "refused") || list[1].Kind != certs.RSA {
		t.Errorf("metrics: %+v", list)
	}
	const line = "ECDSA, mail.example.com mta-sts.example.com: self-signed, as the CA has issued none yet; 1 attempts failed"
	if status, out, _ := s.latchkey("metrics"); status != 0 || !strings.Contains(out, line) {
		t.Errorf("latchkey metrics: %d\n%s", status, out)
	}
	s.addAccount("anna", "anna's password")
	s.stop()
	s.start()
	if again := s.peer("pop3s"); !again.Leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(first.Leaf.PublicKey) {
		t.Error("another key after a restart")
	}
}

// TestHTTPDoor: the door in the clear gives the CA its proof, sends the rest of the world to HTTPS at names of the server's own, and serves nothing.
func TestHTTPDoor(t *testing.T) {
	const names = "mail.example.com"
	for _, tt := range []struct {
		name, method, host, path, web string
		status                        int
		location                      string
	}{
		{"home", "GET", names, "/", "https://mail.example.com", 302, "https://mail.example.com/"},
		{"path and query", "GET", names, "/a%2Fb/c?x=1&y=%0d", "https://mail.example.com", 302, "https://mail.example.com/a%2Fb/c?x=1&y=%0d"},
		{"HEAD", "HEAD", names, "/x", "https://mail.example.com", 302, "https://mail.example.com/x"},
		{"port", "GET", "Mail.Example.com.:80", "/", "https://mail.example.com:8443", 302, "https://mail.example.com:8443/"},
		{"another of its names", "GET", "autodiscover.example.com", "/autodiscover/autodiscover.xml", "https://mail.example.com", 302,
			"https://autodiscover.example.com/autodiscover/autodiscover.xml"},
		{"a stranger's name", "GET", "evil.example", "/", "https://mail.example.com", 302, "https://mail.example.com/"},
		{"no name", "GET", "", "//evil.example", "https://mail.example.com", 302, "https://mail.example.com//evil.example"},
		{"no pages", "GET", names, "/", "", 404, ""},
		{"pages on this host", "GET", names, "/", "http://127.0.0.1:8080", 404, ""},
		{"POST", "POST", names, "/", "https://mail.example.com", 405, ""},
		{"POST to a proof", "POST", names, challengePath + "x", "https://mail.example.com", 405, ""},
		{"no such proof", "GET", names, challengePath + "x", "https://mail.example.com", 404, ""},
	} {
		s := &proofServer{challenges: &certs.Challenges{}, names: []string{names, "autodiscover.example.com"}, web: tt.web}
		r := httptest.NewRequest(tt.method, "http://x"+tt.path, nil)
		r.Host = tt.host
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != tt.status || w.Header().Get("Location") != tt.location {
			t.Errorf("%s: got %d %q, want %d %q", tt.name, w.Code, w.Header().Get("Location"), tt.status, tt.location)
		}
	}
}

// TestSealedBox: what is in the store does not show the key, opens under its own name only, and an empty box is no damage.
func TestSealedBox(t *testing.T) {
	st := memstore.New("example.com")
	box := newSealedBox(st, certs.ECDSA, 1)
	if got, err := box.Get(t.Context()); got != nil || err != nil {
		t.Errorf("an empty box: %q, %v", got, err)
	}
	if err := box.Put(t.Context(), []byte("a private key")); err != nil {
		t.Fatal(err)
	}
	sealed, err := st.Secret(t.Context(), box.name)
	if err != nil || strings.Contains(string(sealed), "private") {
		t.Errorf("in the store: %q, %v", sealed, err)
	}
	if got, err := box.Get(t.Context()); string(got) != "a private key" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	other := newSealedBox(st, certs.ECDSA, 2)
	if err := st.PutSecret(t.Context(), other.name, sealed); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Get(t.Context()); !errors.Is(err, certs.ErrDamaged) {
		t.Errorf("under another name: %v", err)
	}
	for range 2 {
		if err := other.Put(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
	if got, err := other.Get(t.Context()); got != nil || err != nil {
		t.Errorf("an emptied box: %q, %v", got, err)
	}
}

// TestNextKeyIsAnnounced: the digests of the present key and the next are there before either is used, and raising the number moves on by one.
func TestNextKeyIsAnnounced(t *testing.T) {
	st := memstore.New("example.com")
	digests := func(number int) (present, next string) {
		c := config.Config{ACME: config.ACME{Directory: "https://acme.example/d", KeyNumber: number}}
		place, err := placeOf(c, st, "mail.example.com")(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return place.KeyDigest, place.NextKeyDigest
	}
	one, two := digests(1)
	again, _ := digests(1)
	second, three := digests(2)
	if len(one) != 64 || one == two || again != one || second != two || three == two {
		t.Errorf("got %s %s, %s, %s %s", one, two, again, second, three)
	}
}

// TestProofsAtOneDoor: the CA's protocol is looked for at the door of the pages, and only where they are HTTPS.
func TestProofsAtOneDoor(t *testing.T) {
	o := &opener{tls: guard.TLSConfig(nil), challenges: &certs.Challenges{TLS: true}}
	if c := o.webTLS(); c.GetConfigForClient == nil || o.tls.GetConfigForClient != nil {
		t.Error("not at the door of the pages, or at every door")
	}
	o.challenges.TLS = false
	if o.webTLS() != o.tls {
		t.Error("where nobody looks for it")
	}
}

// TestALPN: HTTPS goes on as before beside the CA's protocol, which no other door has, and nobody without a proof to look at gets anywhere by it.
func TestALPN(t *testing.T) {
	s := newTestServer(t, "example.com")
	s.withACME("https://127.0.0.1:1/directory")
	s.config.Web.Listen = []string{":0"}
	s.start()
	for _, tt := range []struct{ door, protocol, want string }{
		{pagesDoor, "h2", "h2"}, {pagesDoor, "http/1.1", "http/1.1"}, {pagesDoor, certs.ALPN, "fails"},
		{"pop3s", certs.ALPN, "fails"}, {"smtps", certs.ALPN, "fails"},
	} {
		state, err := s.handshake(tt.door, &tls.Config{InsecureSkipVerify: true, ServerName: "mail.example.com", NextProtos: []string{tt.protocol}})
		got := state.NegotiatedProtocol
		if err != nil {
			got = "fails"
		}
		if got != tt.want && (tt.want != "fails" || got == certs.ALPN) {
			t.Errorf("%s at %s: got %q, %v", tt.protocol, tt.door, got, err)
		}
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	_, port, _ := net.SplitHostPort(s.addr(pagesDoor))
	answer, err := client.Get("https://127.0.0.1:" + port + "/robots.txt")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close() // read to its end
	if err != nil || answer.ProtoMajor != 2 || !strings.Contains(string(text), "Disallow") {
		t.Errorf("pages: %s, %q, %v", answer.Proto, text, err)
	}
}
