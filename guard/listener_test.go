package guard

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test that fails may hang.
const patience = 10 * time.Second

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
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	impatient := time.AfterFunc(patience, func() { _ = l.Close() })
	defer impatient.Stop()
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

// TestAcceptErrors: want of descriptors or memory and a connection that failed pass, without spinning; another error ends the listener
// and is told.
func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{conns: make(chan any), done: make(chan struct{})}
		l := NewListener(s, ListenerOptions{})
		began := time.Now()
		for i := range 12 {
			errno := []syscall.Errno{syscall.EMFILE, syscall.ENOBUFS, syscall.ECONNABORTED, syscall.EHOSTUNREACH}[i%4]
			s.conns <- &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", errno)}
		}
		ours, theirs := net.Pipe()
		s.conns <- theirs
		if c, err := l.Accept(); err != nil {
			t.Errorf("after errors that pass: %v", err)
		} else {
			_ = c.Close()
		}
		if waited := time.Since(began); waited < acceptPause {
			t.Errorf("twelve failures in %v: it spins", waited)
		}
		_ = ours.Close()
		s.conns <- &net.OpError{Op: "accept", Err: syscall.EBADF}
		if _, err := l.Accept(); !errors.Is(err, syscall.EBADF) {
			t.Errorf("got %v, want EBADF", err)
		}
		_ = l.Close()
	})
}

// TestCloseWhileItWaits: a listener that cannot accept just now can be closed at once.
func TestCloseWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{conns: make(chan any), done: make(chan struct{})}
		l := NewListener(s, ListenerOptions{})
		for range 10 {
			s.conns <- &net.OpError{Op: "accept", Err: syscall.ENFILE}
		}
		began := time.Now()
		_ = l.Close()
		if waited := time.Since(began); waited != 0 {
			t.Errorf("Close took %v", waited)
		}
	})
}

// from is a connection from somewhere.
type from struct {
	net.Conn
	addr string
}

func (f from) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(f.addr), Port: 4711} }

// TestNetworkCaps: three times as many from the network around a client, nine times from a larger one, at both ends of each.
func TestNetworkCaps(t *testing.T) {
	for _, tt := range []struct {
		name string
		cap  int
		addr func(i int) string
	}{
		{"/26", 3, func(i int) string { return fmt.Sprint("198.51.100.", i) }},
		{"/21", 9, func(i int) string { return fmt.Sprintf("198.51.%d.%d", 96+i%8, i) }},
		{"mapped", 3, func(i int) string { return fmt.Sprint("::ffff:198.51.100.", i) }},
		{"/48", 3, func(i int) string { return fmt.Sprintf("2001:db8:1:%x::1", i) }},
		{"/32", 9, func(i int) string { return fmt.Sprintf("2001:db8:%x::1", i) }},
		{"NAT64", 20, func(i int) string { return fmt.Sprintf("64:ff9b::%x", i) }},
	} {
		s := &scripted{conns: make(chan any), done: make(chan struct{})}
		l := NewListener(s, ListenerOptions{Limits: ConnLimits{PerPrefix: 1, Total: 20}})
		for i := range tt.cap + 1 {
			ours, theirs := net.Pipe()
			// Before the listener has its end: a pipe whose other end is closed takes no deadline.
			if err := ours.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			s.conns <- from{theirs, tt.addr(i)}
			if i == tt.cap {
				if _, err := io.ReadAll(ours); err != nil {
					t.Errorf("%s: the one over the cap: %v", tt.name, err)
				}
			} else {
				accept(t, l)
			}
			_ = ours.Close()
		}
		if n := l.count(); n != tt.cap {
			t.Errorf("%s: %d connections, want %d", tt.name, n, tt.cap)
		}
		_ = l.Close()
	}
}

// TestDeafClient: a refused client that does not read holds nobody up, and no more of them than the bound are told.
func TestDeafClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &scripted{conns: make(chan any), done: make(chan struct{})}
		l := NewListener(s, ListenerOptions{
			Limits: ConnLimits{Total: 1}, Refusal: "421 full\r\n", Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		refuse := func() net.Conn {
			ours, theirs := net.Pipe()
			s.conns <- theirs
			return ours
		}
		first := refuse()
		waiting, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		deaf := make([]net.Conn, maxRefusals)
		for i := range deaf {
			deaf[i] = refuse()
		}
		synctest.Wait()
		if n := l.telling(); n != maxRefusals {
			t.Errorf("%d are told, want %d", n, maxRefusals)
		}
		refused(t, refuse(), "")
		if n := bytes.Count(log.Bytes(), []byte("refused over a cap")); n != 1 {
			t.Errorf("%d lines in the log, want 1", n)
		}
		time.Sleep(refusalTimeout)
		synctest.Wait()
		if n := l.telling(); n != 0 {
			t.Errorf("%d are still told", n)
		}
		deaf = append(deaf, refuse())
		synctest.Wait()
		if n := bytes.Count(log.Bytes(), []byte("refused over a cap")); n != 2 || !bytes.Contains(log.Bytes(), []byte("refused=65")) {
			t.Errorf("the log has %s", &log)
		}
		began := time.Now()
		_ = l.Close()
		if waited := time.Since(began); waited != 0 {
			t.Errorf("Close waited %v for a deaf client", waited)
		}
		for _, c := range append(deaf, first, waiting) {
			_ = c.Close()
		}
	})
}

func (l *Listener) telling() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusing
}

// TestHandshakesAtOnce: the one over the bound ends the oldest, and those that are ended give their places back.
func TestHandshakesAtOnce(t *testing.T) {
	config := TLSConfig(selfSigned(t, t.TempDir()).GetCertificate)
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{conns: make(chan any), done: make(chan struct{})}
		l := NewListener(s, ListenerOptions{TLS: config, Limits: ConnLimits{Handshakes: 2}})
		var silent []net.Conn
		for _, want := range []int{1, 2, 2, 2} {
			ours, theirs := net.Pipe()
			silent = append(silent, ours)
			s.conns <- theirs
			synctest.Wait()
			if n := l.count(); n != want {
				t.Errorf("%d connections, want %d", n, want)
			}
		}
		for i, c := range silent[:2] {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("the %d. oldest: got %v, want it closed", i+1, err)
			}
		}
		ours, theirs := net.Pipe()
		s.conns <- theirs
		client := tls.Client(ours, &tls.Config{InsecureSkipVerify: true}) // the test's own certificate
		if err := client.Handshake(); err != nil {
			t.Errorf("a client that is quick: %v", err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_ = l.Close()
		if waited := time.Since(began); waited != 0 {
			t.Errorf("Close waited %v for handshakes", waited)
		}
		synctest.Wait()
		if n, pending := l.count(), l.handshakes.Len(); n != 1 || pending != 0 {
			t.Errorf("after Close: %d connections and %d handshakes, want the one that was handed out", n, pending)
		}
		_ = ours.Close()
		_ = c.Close()
		if n := l.count(); n != 0 {
			t.Errorf("at the end: %d connections", n)
		}
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
	l.o.Gate.mu.Lock()
	defer l.o.Gate.mu.Unlock()
	return l.own
}

func selfSigned(t *testing.T, dir string) *Certificate {
	t.Helper()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := SelfSigned(certFile, keyFile, []string{"mail.example.com", "localhost"}); err != nil {
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
	for _, host := range []string{"mail.example.com", "localhost", "127.0.0.1", "::1"} {
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
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life < selfSignedLife || leaf.PublicKeyAlgorithm != x509.ECDSA {
		t.Errorf("%v key for %v", leaf.PublicKeyAlgorithm, life)
	}
}

// TestSelfSignedKeepsAKey: a key without its certificate is not written over, nor the other way round.
func TestSelfSignedKeepsAKey(t *testing.T) {
	for _, name := range []string{"cert.pem", "key.pem"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := SelfSigned(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), nil); err == nil {
			t.Errorf("%s was there alone: no error", name)
		}
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(left) != 1 {
			t.Errorf("%s was there alone: now %v (%v)", name, left, err)
		}
	}
	dir := t.TempDir()
	if err := SelfSigned(filepath.Join(dir, "none", "cert.pem"), filepath.Join(dir, "key.pem"), nil); err == nil {
		t.Error("a certificate in no directory: no error")
	}
	if _, err := os.Stat(filepath.Join(dir, "key.pem")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a key without its certificate is left: %v", err)
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
	before := bytes.Count(log.Bytes(), []byte("not reloaded"))
	for range 3 {
		if get() != second {
			t.Error("garbage was taken")
		}
		clock = clock.Add(reloadInterval)
	}
	if n := bytes.Count(log.Bytes(), []byte("not reloaded")) - before; n != 1 {
		t.Errorf("one bad file was logged %d times", n)
	}
	if err := os.Remove(filepath.Join(dir, "cert.pem")); err != nil {
		t.Fatal(err)
	}
	if get() != second {
		t.Error("a missing file took the certificate away")
	}
	if _, err := LoadCertificate(filepath.Join(dir, "none.pem"), filepath.Join(dir, "none.key"), c.log); err == nil {
		t.Error("a missing file was loaded")
	}
}

// TestHandle: ready connections are handled, as many at once as there are, in the clear and over TLS, and each counts until it is closed. Close
// waits for none of them, and none is handled after it.
func TestHandle(t *testing.T) {
	config := TLSConfig(selfSigned(t, t.TempDir()).GetCertificate)
	for _, tt := range []struct {
		name string
		tls  *tls.Config
	}{{"plain", nil}, {"TLS", config}} {
		t.Run(tt.name, func(t *testing.T) {
			const many = 2*maxWaiting + 1
			handled, served := make(chan net.Conn, many+1), make(chan struct{})
			l := listen(t, ListenerOptions{TLS: tt.tls, Limits: ConnLimits{Total: many}, Handle: func(c net.Conn) {
				handled <- c
				<-served
				_ = c.Close()
			}})
			defer close(served)
			one := func() {
				c := dialFrom(t, l, "127.0.0.1")
				if tt.tls != nil {
					if err := tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake(); err != nil { // the test's own certificate
						t.Fatal(err)
					}
				}
			}
			for range many {
				one()
				if _, isTLS := (<-handled).(*tls.Conn); isTLS != (tt.tls != nil) {
					t.Errorf("TLS: %v", isTLS)
				}
			}
			_, _ = io.ReadAll(dialFrom(t, l, "127.0.0.1")) // over the cap
			served <- struct{}{}                           // one ends, and there is a place
			for l.open() == many {
				runtime.Gosched()
			}
			one()
			<-handled
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept: got %v", err)
			}
			if len(handled) > 0 {
				t.Error("handled after Close, or over the cap")
			}
		})
	}
}

// open is how many connections count.
func (l *Listener) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.own
}

// TestAcceptorsEnd: goroutines that accepted wait for the next connection, but no more of them than maxWaiting.
func TestAcceptorsEnd(t *testing.T) {
	const many = 3 * maxWaiting
	var begun, done sync.WaitGroup
	served := make(chan struct{})
	begun.Add(many)
	done.Add(many)
	l := listen(t, ListenerOptions{Handle: func(c net.Conn) {
		begun.Done()
		<-served
		_ = c.Close()
		done.Done()
	}})
	for range many {
		dialFrom(t, l, "127.0.0.1")
	}
	begun.Wait()
	close(served)
	done.Wait()
	waiting := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.waiting
	}
	for waiting() < maxWaiting { // those that end come back one by one
		runtime.Gosched()
	}
	if n := waiting(); n != maxWaiting {
		t.Errorf("%d goroutines wait, want %d", n, maxWaiting)
	}
}

// TestNotHandledAfterClose: a connection that becomes ready while the listener closes is closed, and not handled.
func TestNotHandledAfterClose(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended, wrapping := make(chan struct{}), make(chan struct{})
	l := NewListener(inner, ListenerOptions{
		Handle: func(net.Conn) { t.Error("handled") },
		Wrap:   func(c net.Conn) net.Conn { close(wrapping); <-ended; return c },
	})
	c := dialFrom(t, l, "127.0.0.1")
	<-wrapping
	go func() { <-l.ctx.Done(); close(ended) }()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want the end", err)
	}
}
