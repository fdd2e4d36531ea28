package guard

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listen makes a Listener on loopback.
func listen(t *testing.T, o ListenerOptions) *Listener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := NewListener(inner, o)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func dialFrom(t *testing.T, l net.Listener, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// refused fails unless the connection is told why and closed.
func refused(t *testing.T, c net.Conn, line string) {
	t.Helper()
	got, _ := io.ReadAll(c)
	if string(got) != line {
		t.Errorf("got %q, want %q", got, line)
	}
}

// TestCaps: the connection at each cap is let in, the next is refused, and a closed one makes room; closing twice makes room once.
func TestCaps(t *testing.T) {
	l := listen(t, ListenerOptions{Limits: ConnLimits{Total: 3, PerPrefix: 2}, Refusal: "421 full\r\n"})
	dialFrom(t, l, "127.0.0.1")
	one := accept(t, l)
	dialFrom(t, l, "127.0.0.1")
	accept(t, l)
	refused(t, dialFrom(t, l, "127.0.0.1"), "421 full\r\n")
	dialFrom(t, l, "127.0.0.2")
	accept(t, l)
	refused(t, dialFrom(t, l, "127.0.0.3"), "421 full\r\n")
	_ = one.Close()
	_ = one.Close()
	dialFrom(t, l, "127.0.0.3")
	if got := RemoteAddr(accept(t, l)).String(); got != "127.0.0.3" {
		t.Errorf("got a connection from %s", got)
	}
	refused(t, dialFrom(t, l, "127.0.0.4"), "421 full\r\n")
}

// TestHandshakes: a failed or slow handshake holds nobody up and gives its place back.
func TestHandshakes(t *testing.T) {
	config := TLSConfig(selfSigned(t, t.TempDir()).GetCertificate)
	var wrapped atomic.Int64
	l := listen(t, ListenerOptions{TLS: config, Limits: ConnLimits{Total: 2}, Wrap: func(c net.Conn) net.Conn {
		wrapped.Add(1)
		return c
	}})
	silent := dialFrom(t, l, "127.0.0.1")
	bad := dialFrom(t, l, "127.0.0.1")
	if _, err := io.WriteString(bad, "EHLO there\r\n"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(bad)
	done := make(chan error, 1)
	go func() {
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true}) // the test's own certificate
		if err == nil {
			err = c.Close()
		}
		done <- err
	}()
	if _, isTLS := accept(t, l).(*tls.Conn); !isTLS {
		t.Error("not a bare *tls.Conn")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := wrapped.Load(); n != 3 {
		t.Errorf("wrapped %d connections, want 3", n)
	}
	_ = l.Close()
	if _, err := silent.Read(make([]byte, 1)); err == nil {
		t.Error("a handshake outlived the listener")
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: got %v", err)
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	l := listen(t, ListenerOptions{TLS: TLSConfig(selfSigned(t, t.TempDir()).GetCertificate)})
	for version, want := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version}) // the test's own certificate
		if (err == nil) != want {
			t.Errorf("%s: got %v, want ok: %v", tls.VersionName(version), err, want)
		}
		if err == nil {
			_ = c.Close()
			accept(t, l)
		}
	}
}

// scripted is a listener that returns what a test says.
type scripted struct {
	conns chan any
	once  sync.Once
	done  chan struct{}
}

func (s *scripted) Accept() (net.Conn, error) {
	select {
	case next := <-s.conns:
		if err, isErr := next.(error); isErr {
			return nil, err
		}
		return next.(net.Conn), nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

func (s *scripted) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

func (s *scripted) Addr() net.Addr { return &net.TCPAddr{} }

// TestAcceptErrors: want of descriptors passes, without spinning; another error ends the listener and is told.
func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{conns: make(chan any), done: make(chan struct{})}
		l := NewListener(s, ListenerOptions{})
		began := time.Now()
		for range 10 {
			s.conns <- &net.OpError{Op: "accept", Err: syscall.EMFILE}
		}
		ours, theirs := net.Pipe()
		s.conns <- theirs
		if c, err := l.Accept(); err != nil {
			t.Errorf("after EMFILE: %v", err)
		} else {
			_ = c.Close()
		}
		if waited := time.Since(began); waited < acceptPause {
			t.Errorf("ten failures in %v: it spins", waited)
		}
		_ = ours.Close()
		boom := errors.New("boom")
		s.conns <- boom
		if _, err := l.Accept(); !errors.Is(err, boom) {
			t.Errorf("got %v, want boom", err)
		}
		_ = l.Close()
	})
}

// TestHandshakeTimeout: on either side of it.
func TestHandshakeTimeout(t *testing.T) {
	config := TLSConfig(selfSigned(t, t.TempDir()).GetCertificate)
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{conns: make(chan any), done: make(chan struct{})}
		l := NewListener(s, ListenerOptions{TLS: config})
		ours, theirs := net.Pipe()
		s.conns <- theirs
		time.Sleep(DefaultHandshakeTimeout - time.Second)
		synctest.Wait()
		if n := l.count(); n != 1 {
			t.Errorf("before the time-out: %d connections, want 1", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := l.count(); n != 0 {
			t.Errorf("after the time-out: %d connections, want 0", n)
		}
		_ = ours.Close()
		_ = l.Close()
	})
}

func (l *Listener) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

func selfSigned(t *testing.T, dir string) *Certificate {
	t.Helper()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := SelfSigned(certFile, keyFile, []string{"mail.example.com", "localhost", "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	c, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSelfSigned(t *testing.T) {
	dir := t.TempDir()
	c := selfSigned(t, dir)
	leaf, err := x509.ParseCertificate(c.current.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	for _, host := range []string{"mail.example.com", "localhost", "127.0.0.1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: pool}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "key.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v %v", info, err)
	}
	if again := selfSigned(t, dir); again.Fingerprint() != c.Fingerprint() {
		t.Error("made again though it was there")
	}
}

// TestCertificateReload: new files are taken within a second, broken ones are not and the old certificate stays.
func TestCertificateReload(t *testing.T) {
	dir := t.TempDir()
	c := selfSigned(t, dir)
	var log bytes.Buffer
	c.log = slog.New(slog.NewTextHandler(&log, nil))
	clock := start
	c.now = func() time.Time { return clock }
	c.looked = clock
	first := c.Fingerprint()
	get := func() string {
		if _, err := c.GetCertificate(nil); err != nil {
			t.Fatal(err)
		}
		return c.Fingerprint()
	}
	other := t.TempDir()
	second := selfSigned(t, other).Fingerprint()
	replace := func(name string, content []byte) {
		t.Helper()
		if content == nil {
			var err error
			if content, err = os.ReadFile(filepath.Join(other, name)); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		clock = clock.Add(reloadInterval)
		if err := os.Chtimes(path, clock, clock); err != nil {
			t.Fatal(err)
		}
	}
	replace("cert.pem", nil)
	if get() != first || !bytes.Contains(log.Bytes(), []byte("not reloaded")) {
		t.Error("a certificate without its key was taken")
	}
	replace("key.pem", nil)
	clock = clock.Add(-1)
	if get() != first {
		t.Error("looked before its time")
	}
	clock = clock.Add(1)
	if get() != second {
		t.Error("the new certificate was not taken")
	}
	replace("key.pem", []byte("garbage"))
	if get() != second {
		t.Error("garbage was taken")
	}
	if _, err := LoadCertificate(filepath.Join(dir, "none.pem"), filepath.Join(dir, "none.key"), c.log); err == nil {
		t.Error("a missing file was loaded")
	}
}
