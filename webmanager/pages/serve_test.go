package pages

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"latchkey/guard"
)

// elsewhere is a listener on loopback that says it is not.
type elsewhere struct{ net.Listener }

func (elsewhere) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443} }

// TestServe: one server at two doors: plain on loopback, and elsewhere by TLS with HTTP/2; without a certificate not at all.
func TestServe(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := guard.SelfSigned(cert, key, []string{"127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	certificate, err := guard.LoadCertificate(cert, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(o *Options) { o.TLS = guard.TLSConfig(certificate.GetCertificate) })
	open := func() net.Listener {
		t.Helper()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	here, there := open(), elsewhere{open()}
	served := make(chan error, 2)
	for _, l := range []net.Listener{here, there} {
		go func() { served <- s.server.Serve(l) }()
	}
	pem, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	client := &http.Client{Transport: transport}
	for url, want := range map[string]string{
		"http://" + here.Addr().String(): "HTTP/1.1 ", "https://" + there.Listener.Addr().String(): "HTTP/2.0 max-age=31536000",
	} {
		answer, err := client.Get(url + "/login")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if got := answer.Proto + " " + answer.Header.Get("Strict-Transport-Security"); err != nil || got != want || !strings.Contains(string(text), "Sign in") {
			t.Errorf("%s: %q, %v", url, got, err)
		}
	}
	if err := s.server.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := s.server.Close(); err != nil {
		t.Error(err)
	}
	transport.CloseIdleConnections()
	for range 2 {
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serving ended with %v", err)
		}
	}
	bare := newSite(t, nil)
	if err := bare.server.Serve(elsewhere{open()}); !errors.Is(err, ErrPlain) {
		t.Errorf("without a certificate: %v", err)
	}
}
