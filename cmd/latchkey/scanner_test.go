//go:build interop

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/guard"
	"latchkey/smtp"
)

// hostPort takes a listening address apart.
func hostPort(t testing.TB, address string) (host, port string) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

// nmap runs its open-relay script on a door.
func nmap(t *testing.T, address string) string {
	t.Helper()
	_, port := hostPort(t, address)
	return run(t, "", "nmap", "-n", "-Pn", "-p", port, "--script", "+smtp-open-relay", "--script-args",
		"smtp-open-relay.domain=example.com,smtp-open-relay.ip=127.0.0.1,smtp-open-relay.from=probe,smtp-open-relay.to=victim", "127.0.0.1")
}

// The scanner that administrators use finds no open relay: neither at the doors as they are, which break off after a few tries, nor at one
// that lets it try to the end.
func TestInteropNmapOpenRelay(t *testing.T) {
	t.Parallel()
	need(t, "nmap")
	s := interopServer(t)
	for _, door := range []string{"mx", "submission"} {
		if out := nmap(t, s.addr(door)); !strings.Contains(out, "smtp-open-relay: ") || strings.Contains(out, "is an open relay") {
			t.Errorf("%s: %s", door, out)
		}
	}
	if jobs := s.queue(); len(jobs) != 0 {
		t.Errorf("relayed: %+v", jobs)
	}

	s.stop()
	st, err := openStore(t.Context(), s.dir)
	if err != nil {
		t.Fatal(err)
	}
	patient := smtp.New(smtp.Options{
		Door: smtp.MX, Store: st, Auth: newAuthenticator(st, guard.NewLogins(guard.LoginLimits{}), nil, nil, nil, slog.New(slog.DiscardHandler), time.Now), Hostname: "mail.example.com", Limits: smtp.Limits{RelayTries: 1000},
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- patient.Serve(l) }()
	if out := nmap(t, l.Addr().String()); !strings.Contains(out, "all tests failed") {
		t.Errorf("a patient server: %s", out)
	}
	if err := patient.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, smtp.ErrServerClosed) {
		t.Error(err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}

// testssl.sh finds nothing of medium severity or above on the modern doors. They share one TLS configuration, so one door of each kind of
// handshake is scanned to the bottom, and the others for protocols, forward secrecy and certificate. LATCHKEY_TESTSSL=regexp chooses doors.
func TestInteropTestSSL(t *testing.T) {
	t.Parallel()
	need(t, "testssl", "openssl")
	s := newTestServer(t, "example.com")
	ca := labCertificate(t, s.config.TLS.Cert, s.config.TLS.Key)
	s.start()
	only, err := regexp.Compile(os.Getenv("LATCHKEY_TESTSSL"))
	if err != nil {
		t.Fatal(err)
	}
	var scans sync.WaitGroup
	scanned := 0
	all, some := []string{"-p", "-s", "-f", "-P", "-U", "-S"}, []string{"-p", "-f", "-S"}
	for door, options := range map[string][]string{
		"mx": append(all, "--starttls", "smtp"), "pop3s": some,
		"submission": append(some, "--starttls", "smtp"), "smtps": some, "pop3": append(some, "--starttls", "pop3"),
	} {
		if !only.MatchString(door) {
			continue
		}
		scanned++
		scans.Go(func() { scanTLS(t, door, append(slices.Clone(options), "--add-ca", ca, s.addr(door))) })
	}
	scans.Wait()
	if scanned == 0 {
		t.Errorf("no door is %s", only)
	}
}

// scanTime bounds one scan: it does hundreds of handshakes.
const scanTime = 8 * time.Minute

func scanTLS(t *testing.T, door string, options []string) {
	report := filepath.Join(t.TempDir(), door+".json")
	ctx, cancel := context.WithTimeout(t.Context(), scanTime)
	defer cancel()
	args := append([]string{"--quiet", "--color", "0", "--warnings", "off", "--openssl-timeout", "10", "--jsonfile", report}, options...) //nolint:misspell // the program's own option
	cmd := exec.CommandContext(ctx, "testssl", args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	_ = cmd.Run() // its status counts findings; the report says which
	text, err := os.ReadFile(report)
	if err != nil {
		t.Errorf("%s: %v\n%s", door, err, out.String())
		return
	}
	var findings []struct{ ID, Severity, Finding string }
	if err := json.Unmarshal(text, &findings); err != nil {
		t.Errorf("%s: %v\n%s", door, err, out.String())
		return
	}
	looked := false
	for _, f := range findings {
		looked = looked || f.ID == "TLS1_3" && strings.Contains(f.Finding, "offered")
		switch f.Severity {
		case "MEDIUM", "HIGH", "CRITICAL", "FATAL":
			t.Errorf("%s: %s: %s: %s", door, f.Severity, f.ID, f.Finding)
		}
	}
	if !looked {
		t.Errorf("%s: not scanned to its end:\n%s", door, out.String())
	}
}

// labCertificate puts a certificate in the place of cert and key as a public authority would issue it, and returns the authority's own.
func labCertificate(t *testing.T, cert, key string) (caFile string) {
	t.Helper()
	authorityKey, ownKey := labKey(t), labKey(t)
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber: labSerial(t), Subject: pkix.Name{CommonName: "Laboratory"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 3, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	own := &x509.Certificate{
		SerialNumber: labSerial(t), Subject: pkix.Name{CommonName: "127.0.0.1"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 2, 0),
		DNSNames: []string{"mail.example.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		CRLDistributionPoints: []string{"http://127.0.0.1/laboratory.crl"},
	}
	issue := func(template, parent *x509.Certificate, public any, signer *ecdsa.PrivateKey) []byte {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	root := issue(authority, authority, authorityKey.Public(), authorityKey)
	leaf := issue(own, authority, ownKey.Public(), authorityKey)
	der, err := x509.MarshalPKCS8PrivateKey(ownKey)
	if err != nil {
		t.Fatal(err)
	}
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	for name, content := range map[string][]byte{
		caFile: root, cert: leaf, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return caFile
}

func labKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func labSerial(t *testing.T) *big.Int {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	return serial
}
