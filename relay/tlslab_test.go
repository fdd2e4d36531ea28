package relay

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"latchkey/internal/resolver"
	"latchkey/internal/resolver/resolvertest"
)

// authority is a certificate authority of a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	made := a.issue(func(c *x509.Certificate) { c.IsCA, c.DNSNames = true, nil }, "root")
	a.cert, a.key = made.Leaf, made.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

// issue makes a certificate for names, and sends the authority's own along.
func (a *authority) issue(change func(*x509.Certificate), names ...string) *tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, BasicConstraintsValid: true,
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	made := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	if a.cert != nil {
		made.Certificate = append(made.Certificate, a.cert.Raw)
	}
	return made
}

// tlsa is the record of a certificate's key by SHA-256.
func tlsa(usage int, c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return fmt.Sprintf("%d 1 1 %s", usage, hex.EncodeToString(sum[:]))
}

// tlsLab is a rig whose name server, policy host and mail exchangers are real servers on loopback. The addresses of 192.0.2.0/24 lead
// to them.
type tlsLab struct {
	*rig
	names *resolvertest.Server
	trust resolver.Trust
	root  *authority
	at    map[string]string // where the addresses really are
	mu    sync.Mutex        // protects what follows
	now   time.Time
	pages map[string]string // what the policy host serves, by host name; a name that is not there is not found
	cert  *tls.Certificate  // of the policy host
	asked int               // how often it was asked
	posts [][]byte          // what was posted to it
}

func newTLSLab(t *testing.T) *tlsLab {
	t.Helper()
	lab := &tlsLab{rig: newRig(t), names: resolvertest.New(t), root: newAuthority(t), at: map[string]string{}, now: time.Now(), pages: map[string]string{}}
	lab.cert = lab.root.issue(nil, "mta-sts.remote.example", "reports.remote.example")
	web := httptest.NewUnstartedServer(http.HandlerFunc(lab.serveWeb))
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		lab.mu.Lock()
		defer lab.mu.Unlock()
		return lab.cert, nil
	}}
	web.StartTLS()
	t.Cleanup(web.Close)
	lab.at["192.0.2.200:443"] = web.Listener.Addr().String()
	lab.names.Set("mta-sts.remote.example", "A", "192.0.2.200")
	lab.names.Set("reports.remote.example", "A", "192.0.2.200")
	roots := x509.NewCertPool()
	roots.AddCert(lab.root.cert)
	lab.opts.TLS = &tls.Config{RootCAs: roots}
	lab.opts.Now = lab.clock
	lab.opts.Dial = lab.dial
	return lab
}

func (l *tlsLab) serveWeb(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Method == http.MethodPost {
		b, _ := io.ReadAll(r.Body)
		l.posts = append(l.posts, b)
		return
	}
	l.asked++
	page, ok := l.pages[r.Host]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, page)
}

// change changes what is protected by mu.
func (l *tlsLab) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func (l *tlsLab) clock() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

func (l *tlsLab) pass(d time.Duration) { l.change(func() { l.now = l.now.Add(d) }) }

func (l *tlsLab) dial(ctx context.Context, _ netip.Addr, addr string) (net.Conn, error) {
	l.mu.Lock()
	to, ok := l.at[addr]
	l.mu.Unlock()
	if !ok {
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", to)
}

// host puts a mail exchanger at 192.0.2.N.
func (l *tlsLab) host(name string, n int, s *server) *server {
	l.t.Helper()
	l.change(func() { l.at[fmt.Sprintf("192.0.2.%d:25", n)] = loopbackServer(l.t, "127.0.0.1:0", s).String() })
	if name != "" {
		l.names.Set(name, "A", fmt.Sprintf("192.0.2.%d", n))
	}
	return s
}

// usual is remote.example with one exchanger, which shows a certificate, or has no STARTTLS. All of the DNS is signed.
func (l *tlsLab) usual(cert *tls.Certificate) *server {
	l.t.Helper()
	l.names.Sign("example", true)
	l.names.Set("remote.example", "MX", "10 mx.remote.example.")
	return l.host("mx.remote.example", 1, &server{cert: cert})
}

// publish is a policy by MTA-STS; "" as its text takes it away.
func (l *tlsLab) publish(id, text string) {
	l.names.Set("_mta-sts.remote.example", "TXT", `"v=STSv1; id=`+id+`;"`)
	l.change(func() {
		delete(l.pages, "mta-sts.remote.example")
		if text != "" {
			l.pages["mta-sts.remote.example"] = "version: STSv1\n" + strings.ReplaceAll(text, ", ", "\n") + "\n"
		}
	})
}

// resolve gives the next runner a resolver of its own.
func (l *tlsLab) resolve() {
	l.t.Helper()
	var err error
	l.opts.Resolver, err = resolver.New(resolver.Options{
		Servers: []netip.AddrPort{l.names.Addr()}, Timeout: 2 * time.Second, Attempts: 1, Trust: l.trust, Now: l.clock,
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// deliver sends one message with a runner of its own, as after a restart, and returns what became of it.
func (l *tlsLab) deliver(p post) string {
	l.t.Helper()
	l.resolve()
	p.received = l.clock()
	id := l.queue(p, "bob@remote.example").Message
	l.start()
	defer l.stop()
	var event string
	l.until("an outcome", func() (ok bool) {
		event, ok = l.became(id)
		return ok
	})
	return strings.Replace(event, " bob@remote.example", "", 1)
}

func (l *tlsLab) servers() []netip.AddrPort { return []netip.AddrPort{l.names.Addr()} }
