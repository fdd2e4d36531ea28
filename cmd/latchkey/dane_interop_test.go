//go:build interop

package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// signedWorld is a DNS of zones that ldns has signed, nsd serves, and an Unbound validates that trusts their keys.
type signedWorld struct {
	t    *testing.T
	dir  string
	nsd  int
	port int // Unbound's
}

// signedZone is one domain of it, whose mail goes to 127.0.0.1.
type signedZone struct {
	domain string
	// tlsa is the data of the record for the mail exchanger.
	tlsa string
	// unsigned zones are not trusted, forged ones are changed after they were signed.
	unsigned, forged bool
}

func startSignedWorld(t *testing.T, mailPort int, zones ...signedZone) *signedWorld {
	t.Helper()
	needRoot(t, "unbound", "nsd", "ldns-keygen", "ldns-signzone")
	w := &signedWorld{t: t, dir: t.TempDir(), nsd: freePort(t), port: freePort(t)}
	var served, asked, trusted strings.Builder
	for _, z := range zones {
		file := w.write(z.domain, fmt.Sprintf(`$ORIGIN %s.
@ 300 IN SOA ns hostmaster 1 3600 600 86400 60
@ 300 IN NS ns
@ 300 IN MX 10 mail
ns 300 IN A 127.0.0.1
mail 300 IN A 127.0.0.1
_%d._tcp.mail 300 IN TLSA %s
`, z.domain, mailPort, z.tlsa))
		if !z.unsigned {
			key := strings.TrimSpace(run(t, "", "sh", "-c", "cd "+w.dir+" && ldns-keygen -a ECDSAP256SHA256 -k "+z.domain))
			run(t, "", "sh", "-c", "cd "+w.dir+" && ldns-signzone -o "+z.domain+" "+z.domain+" "+key)
			file += ".signed"
			fmt.Fprintf(&trusted, "  trust-anchor-file: %q\n", filepath.Join(w.dir, key+".key"))
		}
		if z.forged {
			signed, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			digest := z.tlsa[strings.LastIndexByte(z.tlsa, ' ')+1:]
			forged := strings.ReplaceAll(string(signed), digest, strings.Repeat("ab", sha256.Size))
			if forged == string(signed) {
				t.Fatalf("%s is not in %s", digest, signed)
			}
			w.write(filepath.Base(file), forged)
		}
		fmt.Fprintf(&served, "zone:\n  name: %q\n  zonefile: %q\n", z.domain, file)
		fmt.Fprintf(&asked, "stub-zone:\n  name: %q\n  stub-addr: 127.0.0.1@%d\n", z.domain, w.nsd)
	}
	w.run("nsd", "-d", "-c", w.write("nsd.conf", fmt.Sprintf("server:\n  ip-address: 127.0.0.1@%d\n  username: root\n  chroot: \"\"\n  server-count: 1\n"+
		"  pidfile: %q\n  database: \"\"\n  xfrdfile: %q\n  zonelistfile: %q\n  zonesdir: %q\nremote-control:\n  control-enable: no\n%s",
		w.nsd, w.dir+"/nsd.pid", w.dir+"/xfrd", w.dir+"/zonelist", w.dir, served.String())))
	w.run("unbound", "-d", "-c", w.write("unbound.conf", fmt.Sprintf("server:\n  interface: 127.0.0.1@%d\n  username: \"\"\n  chroot: \"\"\n  directory: %q\n"+
		"  pidfile: \"\"\n  use-syslog: no\n  do-not-query-localhost: no\n  val-log-level: 2\n%sremote-control:\n  control-enable: no\n%s",
		w.port, w.dir, trusted.String(), asked.String())))
	for name, port := range map[string]int{"nsd": w.nsd, "Unbound": w.port} {
		eventually(t, name+" to listen", func() bool {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			return err == nil && c.Close() == nil
		})
	}
	return w
}

func (w *signedWorld) write(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// run starts a server that is ended with the test.
func (w *signedWorld) run(args ...string) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var said logBuffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was interrupted
		if w.t.Failed() {
			w.t.Logf("%s said:\n%s", args[0], said.String())
		}
	})
}

// tlsaDigest is the SHA-256 of a certificate's key, as a TLSA record has it.
func tlsaDigest(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// TestInteropDANE: with zones that others have signed, serve and validate, a message goes by DANE where the record fits, in TLS as
// before where nothing is signed, and not at all where the record is another's or was changed on its way.
func TestInteropDANE(t *testing.T) {
	away := startServer(t, "other.example")
	away.addAccount("otto", "password of otto")
	fits := "3 1 1 " + tlsaDigest(t, away.config.TLS.Cert)
	another := "3 1 1 " + strings.Repeat("cd", sha256.Size)
	w := startSignedWorld(t, away.portOf("mx"),
		signedZone{domain: "other.example", tlsa: fits}, signedZone{domain: "wrong.example", tlsa: another},
		signedZone{domain: "forged.example", tlsa: fits, forged: true}, signedZone{domain: "plain.example", tlsa: another, unsigned: true},
	)
	home := newTestServer(t, "example.com")
	home.config.Relay.Nameservers = []netip.AddrPort{netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", w.port))}
	home.config.Relay.AllowNetworks, home.config.Relay.Port = loopbackNetworks, away.portOf("mx")
	home.start()
	home.addAccount("anna", "password of anna")
	for recipient, want := range map[string]string{
		"otto@other.example":  "delivered: mail.other.example [127.0.0.1] TLS 1.3 (DANE): 250",
		"otto@wrong.example":  "deferred: mail.wrong.example [127.0.0.1]: TLS handshake failed: the certificate is none of those that the domain publishes",
		"otto@forged.example": "deferred: mail.forged.example: the name servers could not answer the TLSA lookup",
		"otto@plain.example":  "failed: mail.plain.example [127.0.0.1] TLS 1.3: 550",
	} {
		home.send("anna", "password of anna", []string{recipient}, message("to "+recipient))
		eventually(t, "news of "+recipient, func() bool {
			got := home.became(recipient)
			if got != "" && !strings.HasPrefix(got, want) {
				t.Fatalf("%s: got %q, want %q\n%s", recipient, got, want, home.log)
			}
			return got != ""
		})
	}
	holds(t, away.arrived("otto", "password of otto", 1), "to otto@other.example")
}

// became is what the log says of a recipient's message, "" while it says nothing.
func (s *testServer) became(recipient string) string {
	s.t.Helper()
	for line := range strings.Lines(s.log.String()) {
		event := regexp.MustCompile(`msg=(delivered|deferred|failed) .* recipient=` + regexp.QuoteMeta(recipient) + ` .*?reply="([^"]*)"`).FindStringSubmatch(line)
		if event != nil {
			return event[1] + ": " + event[2]
		}
	}
	return ""
}
