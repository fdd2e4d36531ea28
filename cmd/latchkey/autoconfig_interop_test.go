//go:build interop

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// certifyAs gives a server that has not started a certificate for names, of an authority that is made for it and returned (DER).
func (s *testServer) certifyAs(names ...string) (authority []byte) {
	s.t.Helper()
	now := time.Now()
	issue := func(serial int64, name string, ca bool, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			s.t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
			IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		}
		if ca {
			c.KeyUsage = x509.KeyUsageCertSign
			parent, parentKey = c, key
		} else {
			c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} // for the clients of the test
			c.DNSNames, c.ExtKeyUsage = names, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, parentKey)
		if err != nil {
			s.t.Fatal(err)
		}
		made, err := x509.ParseCertificate(der)
		if err != nil {
			s.t.Fatal(err)
		}
		return made, key
	}
	root, rootKey := issue(1, "authority of a test", true, nil, nil)
	leaf, leafKey := issue(2, names[0], false, root, rootKey)
	private, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		s.t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		s.config.TLS.Cert: {Type: "CERTIFICATE", Bytes: leaf.Raw}, s.config.TLS.Key: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	return root.Raw
}

// webProxy is the way to the web for a program: what it asks for by a name of the list is at one address, and nothing else is anywhere. Names
// cannot be made on a machine; all above that, TLS and the name in its certificate too, is between the program and the server.
type webProxy struct {
	names []string
	to    string

	mu    sync.Mutex // protects asked
	asked []string
}

// ServeHTTP answers CONNECT, and says no to all else.
func (p *webProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host)
	p.mu.Unlock()
	if r.Method != http.MethodConnect || !slices.Contains(p.names, r.Host) {
		http.Error(w, "nothing is there", http.StatusBadGateway)
		return
	}
	there, err := net.Dial("tcp", p.to)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	here, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = there.Close() // nothing was said
		return
	}
	_, _ = io.WriteString(here, "HTTP/1.1 200 here it is\r\n\r\n") // whoever has gone needs no answer
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{here, there}, {there, here}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // until one of them ends
			_ = way[0].Close()
		})
	}
	both.Wait()
}

// TestInteropAutoconfigJourney: whoever types name, address and password into Thunderbird, and nothing else, can fetch and send: it finds the
// servers by itself, where it looks first.
func TestInteropAutoconfigJourney(t *testing.T) {
	s := newTestServer(t, "example.com")
	s.config.Web.Listen = []string{"0.0.0.0:0"}
	for _, door := range []*[]string{&s.config.Listen.POP3, &s.config.Listen.POP3S, &s.config.Listen.Submission, &s.config.Listen.SMTPS} {
		*door = []string{fmt.Sprintf("127.0.0.1:%d", freePort(t))} // the document has what is configured
	}
	authority := s.certifyAs("mail.example.com", "autoconfig.example.com")
	s.start()
	s.addAccount("anna", annasPassword)
	s.addAccount("bert", bertsPassword)
	s.deliver("x@far.example", []string{"bert@example.com"}, message("for whoever set it up"))

	p := &webProxy{names: []string{"autoconfig.example.com:443"}, to: "127.0.0.1:" + afterColon(s.addr("web"))}
	web := httptest.NewServer(p)
	t.Cleanup(web.Close)
	tb := startThunderbirdAs(t, fmt.Sprintf(`user_pref("network.proxy.http_port", %[1]s);
user_pref("network.proxy.ssl_port", %[1]s);
user_pref("network.proxy.no_proxies_on", "mail.example.com");
user_pref("network.dns.localDomains", "mail.example.com");
user_pref("mailnews.auto_config_url", "");
`, afterColon(web.URL)))
	tb.script(`Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB).addCertFromBase64(args[0], "C,,");`,
		base64.StdEncoding.EncodeToString(authority))
	tb.setUp("Bert Buchfink", "bert@example.com", bertsPassword)
	tb.screenshot("thunderbird-autoconfig")

	account := tb.script(`const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const s = MailServices.accounts.accounts.map(a => a.incomingServer).find(s => s.type == "pop3");
const out = MailServices.outgoingServer.defaultServer;
return [s.hostname, s.port, s.socketType, s.username, out.serverURI.host, out.serverURI.port, out.socketType, out.username].join(" ");`)
	want := fmt.Sprintf("mail.example.com %s 3 bert@example.com mail.example.com %s 3 bert@example.com",
		s.port(implicit, "pop3", "pop3s"), s.port(implicit, "submission", "smtps"))
	if account != want {
		t.Errorf("the account is %q, want %q", account, want)
	}
	text, err := os.ReadFile(tb.getMail())
	if err != nil || !strings.Contains(string(text), "Subject: for whoever set it up") {
		t.Errorf("fetched %q, %v", text, err)
	}
	tb.send("anna@example.com", "set up by itself", "body\n")
	messages := s.fetch("anna", annasPassword)
	if len(messages) != 1 || !strings.Contains(messages[0], "\nFrom: Bert Buchfink <bert@example.com>\n") {
		t.Errorf("sent: %q", messages)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.asked, "CONNECT autoconfig.example.com:443") {
		t.Errorf("asked for %q", p.asked)
	}
}

// setUp types into the dialog that Thunderbird opens for who has no account, and presses its button until it is done.
func (tb *thunderbird) setUp(name, address, password string) {
	tb.t.Helper()
	tb.script(`const w = Services.wm.getMostRecentWindow("mail:3pane");
const all = function*(root) {
  for (const e of root.querySelectorAll("*")) { yield e; if (e.shadowRoot) yield* all(e.shadowRoot); }
};
const seen = e => e.checkVisibility({ visibilityProperty: true }) && e.getBoundingClientRect().width > 0;
const find = test => { for (const e of all(w.document)) if (test(e) && seen(e)) return e; return null; };
const until = async (what, test) => {
  for (let i = 0; i < 1200; i++) {
    const e = test();
    if (e) return e;
    await new Promise(done => w.setTimeout(done, 50));
  }
  const words = find(e => e.localName == "account-hub-container" || e.id == "accountHubDialog" || e.localName == "dialog")?.innerText;
  throw new Error("waited in vain for " + what + "; the dialog says " + words);
};
const type = (e, text) => { e.value = text; e.dispatchEvent(new w.Event("input", { bubbles: true })); };
const go = async what => (await until(what, () => find(e => e.localName == "button" && e.id == "forward" && !e.disabled))).click();
if (!find(e => e.id == "email" && e.localName == "input")) await w.openAccountHub("MAIL");
type(await until("a field for the name", () => find(e => e.id == "realName")), args[0]);
type(find(e => e.id == "email"), args[1]);
await go("the button behind the address");
await until("what was found", () => find(e => e.id == "incomingHost"));
await go("the button behind what was found");
type(await until("a field for the password", () => find(e => e.localName == "input" && e.type == "password")), args[2]);
await go("the button behind the password");`, name, address, password)
	// The window is rearranged when there is an account, and with it goes whatever waits in it.
	eventually(tb.t, "the account", func() bool {
		there, ended := tb.tryScript(`const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
return MailServices.accounts.accounts.some(a => a.incomingServer?.type == "pop3") &&
  MailServices.outgoingServer.defaultServer && !!Services.wm.getMostRecentWindow("mail:3pane");`)
		return ended && there == "true"
	})
}
