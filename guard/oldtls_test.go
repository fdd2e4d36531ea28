package guard

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"slices"
	"strings"
	"testing"
	"time"
)

// certificateOf makes a certificate with a key.
func certificateOf(t *testing.T, key crypto.Signer) *Certificate {
	t.Helper()
	der, err := SelfSign(key, []string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return start }
	return &Certificate{current: &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, looked: start, now: now}
}

// keys makes one key of each kind.
func keys(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, d, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"RSA": r, "ECDSA": e, "Ed25519": d}
}

// every is all cipher suites that a client can be told to use.
func every() (suites []uint16) {
	for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		suites = append(suites, s.ID)
	}
	return suites
}

// speaks reports whether a client that knows one version and some cipher suites gets through.
func speaks(t *testing.T, config *tls.Config, version uint16, suites []uint16) bool {
	t.Helper()
	l := listen(t, ListenerOptions{TLS: config})
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{
		InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, CipherSuites: suites, // the test's own certificate
	})
	if err != nil {
		return false
	}
	if got := c.ConnectionState().Version; got != version {
		t.Errorf("%s became %s", tls.VersionName(version), tls.VersionName(got))
	}
	_ = c.Close()
	_ = accept(t, l).Close()
	return true
}

// TestOldTLS: clients of every age get through where old ones are expected, with a key that they know, and the old ones nowhere else.
func TestOldTLS(t *testing.T) {
	versions := []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13}
	for name, key := range keys(t) {
		get := certificateOf(t, key).GetCertificate
		for _, version := range versions {
			modern := version >= tls.VersionTLS12
			if got := speaks(t, TLSConfig(get), version, every()); got != modern {
				t.Errorf("%s with %s at a usual door: %v", tls.VersionName(version), name, got)
			}
			want := modern || name != "Ed25519"
			if got := speaks(t, OldTLSConfig(get), version, every()); got != want {
				t.Errorf("%s with %s at an old door: %v", tls.VersionName(version), name, got)
			}
		}
	}
}

// TestOldCipherSuites: each of those that go with an RSA key is taken at an old door, but those with RC4 (RFC 7465).
func TestOldCipherSuites(t *testing.T) {
	config := OldTLSConfig(certificateOf(t, keys(t)["RSA"]).GetCertificate)
	tried := 0
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if strings.Contains(suite.Name, "ECDSA") || !slices.Contains(suite.SupportedVersions, tls.VersionTLS10) {
			continue
		}
		tried++
		if got, want := speaks(t, config, tls.VersionTLS10, []uint16{suite.ID}), !strings.Contains(suite.Name, "RC4"); got != want {
			t.Errorf("%s: %v", suite.Name, got)
		}
	}
	if tried < 8 {
		t.Errorf("%d cipher suites of TLS 1.0", tried)
	}
	if slices.Contains(TLSConfig(nil).CipherSuites, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA) {
		t.Error("3DES at the usual doors")
	}
}

// TestNoClientCertificate: no door asks for one (RFC 8314 §4.2).
func TestNoClientCertificate(t *testing.T) {
	for name, config := range map[string]*tls.Config{"usual": TLSConfig(nil), "old": OldTLSConfig(nil)} {
		if config.ClientAuth != tls.NoClientCert {
			t.Errorf("%s doors: client authentication is %v", name, config.ClientAuth)
		}
	}
}

func TestOldClientNote(t *testing.T) {
	for name, key := range keys(t) {
		note := certificateOf(t, key).OldClientNote()
		if (note == "") != (name == "RSA") || strings.Contains(note, "Ed25519") != (name == "Ed25519") {
			t.Errorf("%s: %q", name, note)
		}
	}
}
