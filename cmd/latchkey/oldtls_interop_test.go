//go:build interop

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// needOldTLS skips where the installed openssl was built without a version of TLS.
func needOldTLS(t *testing.T, flag string) {
	t.Helper()
	need(t, "openssl")
	if out, err := exec.Command("openssl", "ciphers", "-s", flag, "ALL:@SECLEVEL=0").CombinedOutput(); err != nil || len(out) < 10 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI needs an openssl with %s: %s", flag, out)
		}
		t.Skipf("openssl has no %s: %v", flag, err)
	}
}

// sClient speaks to a door with one version of TLS, and returns what openssl and the server said.
func sClient(t *testing.T, s *testServer, door, version, starttls, says string) (string, error) {
	t.Helper()
	args := []string{
		"s_client", "-quiet", "-connect", s.addr(door), version, "-cipher", "ALL:@SECLEVEL=0", "-CAfile", s.config.TLS.Cert,
		"-verify_return_error", "-verify", "3",
	}
	if starttls != "" {
		args = append(args, "-starttls", starttls)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openssl", args...)
	cmd.Stdin = strings.NewReader(says)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestInteropOldTLS: openssl's TLS 1.0 and 1.1 reach the doors for old clients, by STARTTLS, at once, and at once at a door that starts in the
// clear, with a certificate of either kind. At the usual doors they fail.
func TestInteropOldTLS(t *testing.T) {
	const pop, smtp = "USER anna\r\nPASS password of anna\r\nSTAT\r\nQUIT\r\n", "EHLO PC\r\nAUTH PLAIN AGFubmEAcGFzc3dvcmQgb2YgYW5uYQ==\r\nQUIT\r\n"
	for _, key := range []string{"RSA", "ECDSA"} {
		s := oldServerWith(t, key)
		for _, version := range []string{"-tls1", "-tls1_1", "-tls1_2"} {
			for _, tt := range []struct{ door, starttls, says, want string }{
				// Those that begin with TLS come first: where clients were seen to wait for the greeting, one that does not fails once.
				{"old_pop3", "", pop, "+OK 0 0"},
				{"old_pop3", "pop3", pop, "+OK 0 0"},
				{"old_pop3s", "", pop, "+OK 0 0"},
				{"old_submission", "", smtp, "235 2.0.0"},
				{"old_submission", "smtp", smtp, "235 2.0.0"},
				{"old_smtps", "", smtp, "235 2.0.0"},
				{"pop3", "pop3", pop, "+OK 0 0"},
				{"pop3s", "", pop, "+OK 0 0"},
				{"mx", "", smtp, "235 2.0.0"},
				{"submission", "smtp", smtp, "235 2.0.0"},
				{"smtps", "", smtp, "235 2.0.0"},
			} {
				t.Run(strings.Join([]string{key, version, tt.door, tt.starttls}, " "), func(t *testing.T) {
					needOldTLS(t, version)
					out, err := sClient(t, s, tt.door, version, tt.starttls, tt.says)
					want := strings.HasPrefix(tt.door, "old_") || version == "-tls1_2"
					if got := strings.Contains(out, tt.want); got != want {
						t.Errorf("through: %v (%v): %s", got, err, out)
					}
				})
			}
		}
	}
}

// oldServerWith is oldServer with a key of a kind in its certificate.
func oldServerWith(t *testing.T, key string) *testServer {
	t.Helper()
	need(t, "openssl")
	s := oldServer(t)
	if key != "RSA" {
		return s
	}
	s.stop()
	dir := t.TempDir()
	s.config.TLS.Cert, s.config.TLS.Key = filepath.Join(dir, "rsa.pem"), filepath.Join(dir, "rsa.key")
	run(t, "", "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
		"-addext", "subjectAltName=IP:127.0.0.1", "-out", s.config.TLS.Cert, "-keyout", s.config.TLS.Key)
	s.start()
	return s
}
