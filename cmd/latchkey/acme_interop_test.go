//go:build interop

package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"latchkey/config"
	"latchkey/guard"
	"latchkey/internal/certs"
	"latchkey/internal/resolver/resolvertest"
)

// pebble is a CA of Let's Encrypt's makers, for tests. It looks at real doors for its proofs.
type pebble struct {
	t           *testing.T
	dir         string
	http, https int // the ports where it looks
	acme, admin int
	roots       *x509.CertPool
	said        logBuffer
	stop        func()
}

// startPebble starts one that asks a DNS of the test. more is added to its configuration.
func startPebble(t *testing.T, dns *resolvertest.Server, more map[string]any) *pebble {
	t.Helper()
	need(t, "pebble")
	ports := []int{freePort(t), freePort(t), freePort(t), freePort(t)}
	p := &pebble{t: t, dir: t.TempDir(), http: ports[0], https: ports[1], acme: ports[2], admin: ports[3]}
	if err := guard.SelfSigned(p.file("ca.pem"), p.file("ca.key"), []string{"127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	c := map[string]any{
		"listenAddress": fmt.Sprint("127.0.0.1:", p.acme), "managementListenAddress": fmt.Sprint("127.0.0.1:", p.admin),
		"certificate": p.file("ca.pem"), "privateKey": p.file("ca.key"), "httpPort": p.http, "tlsPort": p.https,
	}
	for key, value := range more {
		c[key] = value
	}
	text, err := json.Marshal(map[string]any{"pebble": c})
	if err == nil {
		err = os.WriteFile(p.file("pebble.json"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "pebble", "-config", p.file("pebble.json"), "-dnsserver", dns.Addr().String())
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
	cmd.Stdout, cmd.Stderr = &p.said, &p.said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }() // it is killed
	p.stop = func() { cancel(); <-ended }
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("pebble said:\n%s", p.said.String())
		}
	})
	eventually(t, "pebble to answer", func() bool { return p.loadRoots() == nil })
	return p
}

func (p *pebble) file(name string) string { return filepath.Join(p.dir, name) }

// loadRoots gets the certificate by which those that it issues are trusted.
func (p *pebble) loadRoots() error {
	own, err := os.ReadFile(p.file("ca.pem"))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(own)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}
	answer, err := (&http.Client{Transport: transport}).Get(fmt.Sprintf("https://127.0.0.1:%d/roots/0", p.admin))
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // read to its end
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	p.roots = x509.NewCertPool()
	if !p.roots.AppendCertsFromPEM(text) {
		return fmt.Errorf("no certificate in %q", text)
	}
	return nil
}

// server is one whose certificate comes from this CA; dns says where its names are.
func (p *pebble) server(dns *resolvertest.Server, domain, address string, configure func(*config.Config)) *testServer {
	p.t.Helper()
	for _, name := range []string{"mail." + domain, "mta-sts." + domain} {
		dns.Set(name, "A", address)
		dns.Set(name, "AAAA")
		for _, rrtype := range []string{"A", "AAAA", "CAA"} {
			dns.Behave(name, rrtype, resolvertest.Normal)
		}
	}
	s := newTestServer(p.t, domain)
	s.withACME(fmt.Sprintf("https://127.0.0.1:%d/dir", p.acme))
	s.config.ACME.CAFile, s.config.ACME.AccountKey, s.config.ACME.HTTPListen = p.file("ca.pem"), p.file("account.key"), nil
	configure(&s.config)
	return s
}

// issued waits until a server has its certificate.
func (s *testServer) issued(names ...string) {
	s.t.Helper()
	eventually(s.t, "a certificate of "+s.domain, func() bool {
		list := s.certificates()
		return list[0].Issued && strings.Join(list[0].Names, " ") == strings.Join(names, " ")
	})
}

// TestInteropACME: a CA that looks for its proof over HTTP, and one that looks in TLS, have all doors get certificates that clients trust, for
// servers that share one account. They are renewed while sessions go on, for the same key; and a restart needs no CA.
func TestInteropACME(t *testing.T) {
	t.Parallel()
	dns := labDNS(t)
	p := startPebble(t, dns, map[string]any{"certificateValidityPeriod": 12})
	one := p.server(dns, "one.example", "127.0.0.1", func(c *config.Config) {
		c.ACME.HTTPListen, c.ACME.Names = []string{fmt.Sprint("127.0.0.1:", p.http)}, []string{"mta-sts"}
		c.Web.Listen = []string{":0"}
	})
	two := p.server(dns, "two.example", "127.0.0.2", func(c *config.Config) { c.Web.Listen = []string{fmt.Sprint(":", p.https)} })
	three := p.server(dns, "three.example", "127.0.0.3", func(c *config.Config) { c.ACME.HTTPListen = []string{fmt.Sprint("127.0.0.3:", p.http)} })
	for _, s := range []*testServer{one, two, three} {
		s.start()
	}
	one.issued("mail.one.example", "mta-sts.one.example")
	two.issued("mail.two.example")
	three.issued("mail.three.example")
	one.addAccount("anna", "anna's password")
	conn, err := tls.Dial("tcp", one.addr("pop3s"), &tls.Config{RootCAs: p.roots, ServerName: "mail.one.example"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // QUIT went before
	session := one.popOn(conn)
	for _, line := range []string{"USER anna", "PASS anna's password"} {
		session.must("%s", line)
	}
	first := p.proved(one, "pop3s")
	for _, door := range []string{"pop3", "mx", "submission", "smtps", pagesDoor} {
		p.proved(one, door)
		p.proved(two, map[bool]string{true: pagesDoor, false: door}[door == pagesDoor])
	}
	eventually(t, "a renewal", func() bool { return !bytes.Equal(one.peer("pop3s").Leaf.Raw, first.Raw) })
	renewed := p.proved(one, pagesDoor)
	if !renewed.NotBefore.After(first.NotBefore) || !renewed.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(first.PublicKey) {
		t.Errorf("renewed: from %v, before from %v", renewed.NotBefore, first.NotBefore)
	}
	for _, line := range []string{"NOOP", "STAT", "QUIT"} {
		session.must("%s", line)
	}

	if text := p.said.String(); strings.Count(text, "There are now 1 accounts in memory") != 1 || strings.Contains(text, "There are now 2 accounts") {
		t.Error("the servers do not share one account")
	}
	if key, err := os.Stat(p.file("account.key")); err != nil || key.Mode().Perm() != 0o600 {
		t.Errorf("the account's key: %v, %v", key, err)
	}
	one.stop()
	p.stop()
	last := one.log.String()
	one.start()
	if list := one.certificates(); !list[0].Issued || !strings.Contains(last, one.process.fingerprint) {
		t.Errorf("after a restart without the CA: %+v", list)
	}
}

// proved is the certificate of a door, as a client sees it that trusts the CA.
func (p *pebble) proved(s *testServer, door string) *x509.Certificate {
	s.t.Helper()
	var state tls.ConnectionState
	eventually(s.t, door+" to be trusted", func() (ok bool) { // it may have ended a moment ago
		var err error
		state, err = s.handshake(door, &tls.Config{RootCAs: p.roots, ServerName: "mail." + s.domain})
		return err == nil
	})
	return state.PeerCertificates[0]
}

// TestInteropACMECustomers: a CA that serves its customers only, and finds one of the names not to be theirs, issues for the rest.
func TestInteropACMECustomers(t *testing.T) {
	t.Parallel()
	dns := labDNS(t)
	p := startPebble(t, dns, map[string]any{
		"externalAccountBindingRequired": true, "domainBlocklist": []string{"mta-sts.customer.example"},
		"externalAccountMACKeys": map[string]string{"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"},
	})
	s := p.server(dns, "customer.example", "127.0.0.1", func(c *config.Config) {
		c.ACME.HTTPListen, c.ACME.Names = []string{fmt.Sprint("127.0.0.1:", p.http)}, []string{"mta-sts"}
		c.ACME.EABKeyID, c.ACME.EABKeyFile = "kid-1", p.file("eab")
		c.Listen.OldPOP3S = []string{"127.0.0.1:0"}
	})
	if err := os.WriteFile(p.file("eab"), []byte("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	eventually(t, "both certificates, or a reason", func() bool {
		for _, c := range s.certificates() {
			if c.Failures == 0 || c.Fault == certs.UnderWay {
				return false
			}
		}
		return true
	})
	for _, c := range s.certificates() {
		if !c.Issued || strings.Join(c.Names, " ") != "mail.customer.example" || !strings.Contains(c.Fault, "mta-sts.customer.example: ") ||
			time.Until(c.Next) < time.Minute {
			t.Errorf("%+v", c)
		}
	}
	p.proved(s, "pop3s")
	if leaf := p.proved(s, "old_pop3s"); leaf.PublicKeyAlgorithm != x509.RSA {
		t.Errorf("old clients get a key of %v", leaf.PublicKeyAlgorithm)
	}
}
