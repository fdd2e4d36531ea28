package pages

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"latchkey/guard"
)

// pipes is a listener whose connections are pipes; its address is one of this host, or of elsewhere.
type pipes struct {
	address net.Addr
	conns   chan net.Conn
	closed  chan struct{}
}

func newPipes(address net.Addr) *pipes {
	return &pipes{address, make(chan net.Conn), make(chan struct{})}
}

func (l *pipes) Addr() net.Addr { return l.address }

func (l *pipes) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) dial() net.Conn {
	client, server := net.Pipe()
	l.conns <- server
	return client
}

// endsAfter waits for a connection to end, and fails unless that takes so long.
func endsAfter(t *testing.T, what string, c net.Conn, want time.Duration) {
	t.Helper()
	began := time.Now()
	_, _ = io.Copy(io.Discard, c) // until its end, however that comes
	if got := time.Since(began); got < want || got > want+time.Second {
		t.Errorf("%s: the connection ended after %s, want %s", what, got, want)
	}
	_ = c.Close() // it has ended
}

// TestSlowClients: a client that says nothing, or an octet now and then, has a connection for so long and no longer, wherever in a request it is.
func TestSlowClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		l := newPipes(&net.UnixAddr{Net: "unix", Name: "x"})
		served := make(chan error, 1)
		go func() { served <- s.server.Serve(l) }()
		// drip sends an octet each second until the connection ends.
		drip := func(c net.Conn, octet string) {
			go func() {
				for {
					if _, err := io.WriteString(c, octet); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			}()
		}
		say := func(c net.Conn, text string) {
			t.Helper()
			if _, err := io.WriteString(c, text); err != nil {
				t.Fatal(err)
			}
		}
		endsAfter(t, "not a word", l.dial(), headerTime)
		c := l.dial()
		say(c, "GET / HTTP/1.1\r\nHost: x\r\nX: ")
		drip(c, "x")
		endsAfter(t, "a header without an end", c, headerTime)
		c = l.dial()
		say(c, "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 5000\r\n\r\n")
		drip(c, "x")
		endsAfter(t, "a body without an end", c, bodyTime)
		c = l.dial()
		say(c, "GET /robots.txt HTTP/1.1\r\nHost: x\r\n\r\n")
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || answer.StatusCode != 200 {
			t.Fatal(err, answer)
		}
		_ = answer.Body.Close() // what is in it is buffered
		endsAfter(t, "no further request", c, idleTime)
		c = l.dial()
		say(c, "GET /robots.txt HTTP/1.1\r\nHost: x\r\n")
		began := time.Now()
		say(c, "\r\n")
		time.Sleep(answerTime - time.Second)
		synctest.Wait()
		time.Sleep(2 * time.Second) // nobody reads the answer
		if n, err := io.Copy(io.Discard, c); n > 0 || time.Since(began) > answerTime+2*time.Second {
			t.Errorf("an answer that nobody reads: %d octets after %s, %v", n, time.Since(began), err)
		}
		c = l.dial()
		go func() {
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nCookie: "+strings.Repeat("x", maxHeader+8<<10))
		}()
		if answer, err = http.ReadResponse(bufio.NewReader(c), nil); err != nil || answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a header that is too large: %v, %v", answer, err)
		} else {
			_ = answer.Body.Close() // its status is enough
		}
		_ = c.Close()
		if err := s.server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serving ended with %v", err)
		}
		_ = s.store.Close()
		time.Sleep(time.Minute) // what closes gently has its time
	})
}

// TestHTTP2Bounds: a connection of HTTP/2 has so many requests at a time and no more, and ends when its client takes nothing, or does not answer
// when it is asked.
func TestHTTP2Bounds(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := guard.SelfSigned(cert, key, []string{"127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	certificate, err := guard.LoadCertificate(cert, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		s := newSite(t, func(o *Options) {
			o.TLS = guard.TLSConfig(certificate.GetCertificate)
			o.GuideHandles = func(path string) bool { return path == "/help/waits" }
			o.Guide = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-block })
		})
		l := newPipes(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443})
		served := make(chan error, 1)
		go func() { served <- s.server.Serve(l) }()
		c := tls.Client(l.dial(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}) //nolint:gosec // the other end of the pipe is ours
		if err := c.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		f := http2.NewFramer(c, c)
		greeted := make(chan struct{})
		go func() {
			defer close(greeted)
			_, _ = io.WriteString(c, http2.ClientPreface)
			_ = f.WriteSettings()
		}()
		frame, err := f.ReadFrame()
		settings, ok := frame.(*http2.SettingsFrame)
		if err != nil || !ok {
			t.Fatal(err, frame)
		}
		if n, ok := settings.Value(http2.SettingMaxConcurrentStreams); !ok || n != maxStreams {
			t.Errorf("%d requests at a time, want %d", n, maxStreams)
		}
		var octets strings.Builder
		fields := hpack.NewEncoder(&octets)
		for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", "/help/waits"}} {
			if err := fields.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
				t.Fatal(err)
			}
		}
		go func() {
			<-greeted
			_ = f.WriteSettingsAck()
			for i := range uint32(maxStreams + 1) {
				_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: []byte(octets.String()), EndStream: true, EndHeaders: true})
			}
		}()
		for refused := false; !refused; {
			switch frame, err := f.ReadFrame(); reset := frame.(type) {
			case *http2.RSTStreamFrame:
				refused = reset.StreamID == 2*maxStreams+1
				if !refused {
					t.Errorf("request %d is refused", reset.StreamID)
				}
			default:
				if err != nil {
					t.Fatal("one request too many is not refused: ", err)
				}
			}
		}
		// From here on the client reads nothing, so that it does not answer a ping either, nor takes it.
		time.Sleep(3 * stallTime)
		synctest.Wait()
		if _, err := c.Write([]byte("x")); err == nil {
			t.Error("a client that takes nothing has its connection")
		}
		close(block)
		_ = c.NetConn().Close()
		if err := s.server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serving ended with %v", err)
		}
		_ = s.store.Close()
		time.Sleep(time.Minute) // what closes gently has its time
	})
}
