//go:build interop

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"latchkey/internal/resolver/resolvertest"
	"latchkey/webmanager"
)

// The pages in a real browser, as testdata/browser goes through them: Debian's Chromium, driven by Playwright, with axe to find what keeps people
// out.

const (
	// browserTime bounds the whole of it, and mostOctets a first page with all that belongs to it.
	browserTime = 12 * time.Minute
	mostOctets  = 60_000
	// everybodysPassword is that of all mailboxes that are signed in to.
	everybodysPassword = "One key, both doors"
)

// browserLooks are those looks of testdata/browser/checks.mjs that the journeys are made in: mailboxes for them are there once for each.
var browserLooks = []string{"wide-light", "narrow-dark", "narrow-light"}

// browserWorld is what the browser is told.
type browserWorld struct {
	Chromium string        `json:"chromium"`
	Domain   string        `json:"domain"`
	Password string        `json:"password"`
	Refusal  string        `json:"refusal"`
	Peaceful browserServer `json:"peaceful"`
	Attacked browserServer `json:"attacked"`
	// Secure is the peaceful server by TLS, and Key the hash of the public key of its certificate.
	Secure string `json:"secure"`
	Key    string `json:"key"`
	Shots  string `json:"shots"`
	// Only is a regular expression: what is done of it all.
	Only    string         `json:"only"`
	Gallery browserGallery `json:"gallery"`
}

type browserServer struct {
	Base    string `json:"base"`
	Control string `json:"control"`
}

// browserGallery says which pictures are kept where: by the name that a picture of every page gets.
type browserGallery struct {
	Dir   string            `json:"dir"`
	Pages map[string]string `json:"pages"`
}

// browserReport is what became of a part.
type browserReport struct {
	Name     string             `json:"name"`
	Problems []string           `json:"problems"`
	Counted  map[string]float64 `json:"counted"`
	Seconds  float64            `json:"seconds"`
}

// browserParts are the journeys, each of which is made in every look, and what else there must be a report of.
var (
	browserJourneys = []string{
		"sign in and out", "code from the telephone", "passkey", "mailboxes of a domain", "aliases", "my own mailbox", "who may send", "grants", "mail on hold",
		"a message and its proof", "explain a refusal", "who changed what", "the help guide", "mail programs set themselves up", "the operator",
		"the overview", "waiting mail", "bans", "suppressed addresses", "DNS and DKIM", "tokens", "a look into a mailbox",
		"away, and how long mail is kept", "the operator and a mailbox",
	}
	browserParts = []string{
		"every page as stranger", "every page as mailbox", "every page as Postfach", "every page as owner", "every page as operator",
		"attack as stranger", "attack as mailbox", "attack as owner", "attack as operator", "over TLS", "first pages",
	}
)

// TestInteropBrowser: in two sizes, light and dark, with a mouse or only keys, with scripts or without, people do at the pages what they came for.
// On every page that can be reached nothing is too wide, cannot be read or reached, is complained of by the browser, or asks somebody else; no form
// that is filled with what is hostile makes a page do what its author wants.
func TestInteropBrowser(t *testing.T) {
	t.Parallel()
	const program = "chromium-headless-shell"
	need(t, "node", "npm", program)
	chromium, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	tools := browserTools(t)
	w := browserWorld{Chromium: chromium, Domain: "example.com", Password: everybodysPassword, Shots: os.Getenv("LATCHKEY_SCREENSHOTS")}
	w.Only = os.Getenv("LATCHKEY_BROWSER")
	only, err := regexp.Compile(w.Only)
	if err != nil {
		t.Fatal(err)
	}
	if w.Gallery.Dir = os.Getenv("LATCHKEY_GALLERY"); w.Gallery.Dir != "" {
		w.Gallery.Pages = galleryPages
	}
	if w.Shots != "" {
		w.Shots = filepath.Join(w.Shots, "pages")
	}
	peaceful, attacked := peacefulServer(t, &w), attackedServer(t)
	w.Peaceful, w.Attacked = browserServerOf(t, peaceful), browserServerOf(t, attacked)
	w.Secure, w.Key = "https://127.0.0.1:"+afterColon(peaceful.addrs("web")[1]), keyHash(t, peaceful.config.TLS.Cert)

	reports := map[string]browserReport{}
	for _, r := range runBrowser(t, tools, w) {
		reports[r.Name] = r
	}
	wanted := browserParts
	for _, journey := range browserJourneys {
		for _, look := range browserLooks {
			wanted = append(wanted, journey+", "+look)
		}
	}
	for _, name := range wanted {
		if !only.MatchString(name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			r, ok := reports[name]
			if !ok {
				t.Fatal("was not done")
			}
			t.Logf("%.1f s, %v", r.Seconds, r.Counted)
			for _, problem := range r.Problems {
				t.Error(problem)
			}
		})
		delete(reports, name)
	}
	for name := range reports {
		t.Errorf("%q is not expected", name)
	}
}

func afterColon(text string) string { return text[strings.LastIndexByte(text, ':')+1:] }

// keyHash is how a certificate is named that a browser is to take: only the one of the test is.
func keyHash(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// browserTools puts the scripts, and what they need as the lock file says, into a folder of the test's.
func browserTools(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "browser"))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
	npm.Dir = dir
	if said, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, said)
	}
	return dir
}

// runBrowser runs the scripts and returns what they report.
func runBrowser(t *testing.T, tools string, w browserWorld) (reports []browserReport) {
	t.Helper()
	in, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), browserTime)
	defer cancel()
	node := exec.CommandContext(ctx, "node", "main.mjs")
	var out, errs bytes.Buffer
	node.Dir, node.Stdin, node.Stdout, node.Stderr = tools, bytes.NewReader(in), &out, &errs
	node.Env = append(os.Environ(), "HOME="+t.TempDir())
	if err := node.Run(); err != nil {
		t.Errorf("the scripts: %v\n%s", err, errs.String())
	}
	lines := bufio.NewScanner(&out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var r browserReport
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("%v: %s", err, lines.Text())
		}
		if r.Name == "first pages" {
			r.checkWeights()
		}
		reports = append(reports, r)
	}
	return reports
}

// checkWeights finds first pages that are too heavy.
func (r *browserReport) checkWeights() {
	for _, page := range []string{"login", "mailbox", "help"} {
		if octets := r.Counted[page]; octets < 1000 || octets > mostOctets {
			r.Problems = append(r.Problems, fmt.Sprintf("the first page %s has %.0f octets, most are %d", page, octets, mostOctets))
		}
	}
}

// browserServerOf lets the browser's scripts ask the command line: for a link of the operator, and to let people in again who were locked out.
func browserServerOf(t *testing.T, s *testServer) browserServer {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /operator", func(w http.ResponseWriter, _ *http.Request) {
		_, link, _ := s.latchkey("web-login")
		_, _ = io.WriteString(w, strings.TrimSpace(link)) // the scripts see what is wrong with it
	})
	mux.HandleFunc("POST /restore", func(_ http.ResponseWriter, _ *http.Request) {
		for _, name := range []string{"anna", "olga"} {
			s.setSuspended(name, false)
			s.setPassword(name, everybodysPassword)
		}
	})
	control := httptest.NewServer(mux)
	t.Cleanup(control.Close)
	return browserServer{Base: "http://localhost:" + afterColon(s.addrs("web")[0]), Control: control.URL}
}

// addPerson makes a mailbox that is signed in to.
func (s *testServer) addPerson(name, display string, owner bool) {
	s.t.Helper()
	s.do("POST", "/v1/accounts", webmanager.NewAccount{Name: name, DisplayName: display, Password: everybodysPassword, Owner: owner}, nil)
}

// peacefulServer is a domain as it is after some weeks, with the people of the journeys.
func peacefulServer(t *testing.T, w *browserWorld) *testServer {
	t.Helper()
	world := newSink(t)
	s := newTestServer(t, w.Domain)
	dns := s.sendsTo(world.port(), "sink.example")
	s.config.Web.Listen = []string{"127.0.0.1:0", "0.0.0.0:0"}
	s.turnClock(-20 * 24 * time.Hour)
	s.start()
	dns.Behave("", "", resolvertest.Normal)
	s.addPerson("olga", "Olga Ostermann", true)
	for name, display := range map[string]string{"anna": "Anna Amsel", "bert": "Bert Buchfink", "clara": "Clara Consolini", "dieter": ""} {
		s.addPerson(name, display, false)
	}
	var held []string
	for _, look := range browserLooks {
		s.addPerson("olga-"+look, "Olga", true)
		for _, name := range []string{"mia", "theo", "paula", "gina", "hans", "hugo", "tina"} {
			s.addPerson(name+"-"+look, strings.ToUpper(name[:1])+name[1:]+" Muster", false)
		}
		held = append(held, "hans-"+look, "hugo-"+look)
	}
	held = append(held, "dieter")
	for _, name := range held {
		s.popFrom("127.0.0.1", name, everybodysPassword) // its network
	}
	s.turnClock(20 * 24 * time.Hour)
	for _, name := range held {
		s.sendFarAway(name, 26)
	}
	s.usualMail(w)
	return s
}

// usualMail is what people send and get, and what they are refused.
func (s *testServer) usualMail(w *browserWorld) {
	s.t.Helper()
	people := []string{"anna"}
	// Not from where browsers are: wrong passwords are typed there, which ends grants.
	const home = "127.0.7.1"
	for _, look := range browserLooks {
		people = append(people, "mia-"+look, "tina-"+look)
		s.popFrom(home, "gina-"+look, everybodysPassword)
	}
	for _, name := range people {
		text := "From: " + name + "@" + w.Domain + "\r\nSubject: Minutes of the meeting\r\nUser-Agent: curl/8.5.0\r\n\r\nWe met.\r\n"
		s.send(name, everybodysPassword, []string{"partner@sink.example", "bert@" + w.Domain}, text)
		s.popFrom(home, name, everybodysPassword)
	}
	s.stop() // what programs were seen is written down then at the latest
	s.start()
	for _, name := range people {
		err := s.trySend(name, everybodysPassword, []string{"nobody-of-that-name@" + w.Domain}, message("never read"))
		if w.Refusal = refusalCodeOf(err); w.Refusal == "" {
			s.t.Fatalf("mail to nobody: %v", err)
		}
	}
	s.deliver("news@far.example", []string{"anna@" + w.Domain}, "From: news@far.example\r\nSubject: Your order 4711 was sent\r\n\r\nIt was.\r\n")
	s.must("alias", "add", "info", "anna", "bert")
	s.must("device", "add", "anna", "Scanner, second floor", "--network", "192.0.2.0/24")
	s.must("account", "change", "bert", "--quota-octets", "524288000")
}

// refusalCodeOf is the code at the end of a refusal.
func refusalCodeOf(err error) string {
	if err == nil {
		return ""
	}
	for word := range strings.FieldsSeq(err.Error()) {
		if word = strings.Trim(word, "()[].,\""); strings.HasPrefix(word, "L-") && len(word) == 5 {
			return word
		}
	}
	return ""
}

// sendFarAway sends a message to strangers from a network where the mailbox never was, so that it is put on hold.
func (s *testServer) sendFarAway(name string, strangers int) {
	s.t.Helper()
	client, err := smtp.NewClient(s.dialFrom("127.0.9.1", "submission"), "127.0.0.1")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = client.Close() }() // after QUIT
	if err := client.StartTLS(s.tls()); err != nil {
		s.t.Fatal(err)
	}
	if err := client.Auth(smtp.PlainAuth("", name, everybodysPassword, "127.0.0.1")); err != nil {
		s.t.Fatal(err)
	}
	var to []string
	for i := range strangers {
		to = append(to, fmt.Sprintf("stranger-%d@sink.example", i))
	}
	from := name + "@" + s.domain
	if err := transact(client, from, to, "From: "+from+"\r\nSubject: You won\r\n\r\nClick here.\r\n"); err != nil {
		s.t.Fatal(err)
	}
}

// attackedServer is a domain that is thrown away, with what strangers may bring into lists and pages by mail.
func attackedServer(t *testing.T) *testServer {
	t.Helper()
	const script = `"><script>alert(1)</script><img src=x onerror=alert(2)>`
	world := newSink(t)
	s := newTestServer(t, "example.org")
	dns := s.sendsTo(world.port(), "sink.example")
	s.config.Web.Listen = []string{"127.0.0.1:0"}
	s.turnClock(-20 * 24 * time.Hour)
	s.start()
	dns.Behave("", "", resolvertest.Normal)
	s.addPerson("olga", script, true)
	s.addPerson("anna", script, false)
	s.popFrom("127.0.0.1", "anna", everybodysPassword)
	s.turnClock(20 * 24 * time.Hour)

	text := "From: \"" + strings.ReplaceAll(script, `"`, `\"`) + "\" <x@far.example>\r\nTo: anna@example.org\r\n" +
		"Subject: " + script + "\r\nMessage-ID: <" + script + "@far.example>\r\n" +
		"User-Agent: " + script + "\r\nX-Mailer: " + script + "\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" +
		"Content-Type: text/html; name=\"<script>alert(1)</script>.html\"\r\n" +
		"Content-Disposition: attachment; filename=\"<img src=x onerror=alert(1)>.html\"\r\n\r\n" +
		"<script>alert(1)</script>\r\n--b--\r\n"
	conn := s.dial("mx")
	client, err := smtp.NewClient(conn, "127.0.0.1")
	if err == nil {
		err = client.Hello("<script>alert(1)</script>.example")
	}
	if err == nil {
		err = transact(client, `"<script>alert(1)</script>"@far.example`, []string{"anna@example.org"}, text)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.send("anna", everybodysPassword, []string{`"<script>alert(1)</script>"@sink.example`, "anna@example.org"},
		strings.Replace(text, "x@far.example", "anna@example.org", 1))
	p := s.pop("pop3s")
	if err := p.login("anna", everybodysPassword); err != nil {
		t.Fatal(err)
	}
	p.multi("RETR 1")
	p.must("QUIT")
	s.sendFarAway("anna", 26)
	s.stop() // what programs were seen is written down then at the latest
	s.start()
	return s
}
