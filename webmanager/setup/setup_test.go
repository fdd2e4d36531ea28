package setup

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
	"howett.net/plist"
	"rsc.io/qr"

	"latchkey/internal/clientsetup"
	"latchkey/store"
)

var update = flag.Bool("update", false, "write the golden files")

var usualPlace = clientsetup.Place{
	Domain: "example.com", Host: "mail.example.com", POP3: 110, POP3S: 995, MX: 25, Submission: 587, Submissions: 465, OldPOP3: 2110, TLS: true,
}

var usualRules = clientsetup.Rules{RequireAuth: true, POPBeforeSMTP: true, OutgoingMail: true, AuthOnMX: true, OldClientLogin: true}

// newHandler serves example.com; change may be nil.
func newHandler(change func(p *clientsetup.Place, r *clientsetup.Rules, o *Options)) *Handler {
	p, r := usualPlace, usualRules
	o := Options{Base: "https://mail.example.com", Help: "https://mail.example.com/help", Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&p, &r, &o)
	}
	if o.Facts == nil {
		o.Facts = func(context.Context) (clientsetup.Place, clientsetup.Rules, error) { return p, r, nil }
	}
	return New(o)
}

func ask(h http.Handler, method, target, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
	return w
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// outlookAsks is what Outlook sends.
func outlookAsks(address string) string {
	return `<?xml version="1.0" encoding="utf-8"?>
<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"><Request><EMailAddress>` + address +
		`</EMailAddress><AcceptableResponseSchema>` + outlookSpace + `</AcceptableResponseSchema></Request></Autodiscover>`
}

func authOff(_ *clientsetup.Place, r *clientsetup.Rules, _ *Options) { r.RequireAuth = false }

func officeOnly(_ *clientsetup.Place, r *clientsetup.Rules, _ *Options) {
	r.RequireAuth, r.POPBeforeSMTP, r.TrustedNetworks = false, false, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
}

// TestGolden: what each program gets, as the owner's settings change.
func TestGolden(t *testing.T) {
	for _, tt := range []struct {
		name, method, target, body string
		change                     func(p *clientsetup.Place, r *clientsetup.Rules, o *Options)
	}{
		{"autoconfig.xml", "GET", "/mail/config-v1.1.xml?emailaddress=anna%40example.com", "", nil},
		{"autoconfig.xml", "GET", "/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress=Anna%40EXAMPLE.com", "", nil},
		{"autoconfig_any.xml", "GET", "/mail/config-v1.1.xml", "", nil},
		{
			"autoconfig_clear.xml", "GET", "/mail/config-v1.1.xml?emailaddress=anna@example.com", "",
			func(p *clientsetup.Place, r *clientsetup.Rules, o *Options) {
				p.TLS, r.CleartextLogin, o.Help = false, true, ""
			},
		},
		{"autodiscover.xml", "POST", "/autodiscover/autodiscover.xml", outlookAsks("anna@example.com"), nil},
		{"autodiscover.xml", "POST", "/AutoDiscover/AutoDiscover.XML", outlookAsks(" anna@example.com\n"), nil},
		{"autodiscover_smtplast.xml", "POST", "/autodiscover/autodiscover.xml", outlookAsks("anna@example.com"), authOff},
		// A network proves nothing at home, and logging in works everywhere.
		{"autodiscover.xml", "POST", "/autodiscover/autodiscover.xml", outlookAsks("anna@example.com"), officeOnly},
		{"profile.mobileconfig", "GET", "/apple/mail.mobileconfig?emailaddress=anna@example.com", "", nil},
		{"profile.svg", "GET", "/apple/mail.svg?emailaddress=anna@example.com", "", nil},
		{"autodiscover.json", "GET", "/autodiscover/autodiscover.json?Email=anna@example.com&Protocol=Autodiscoverv1", "", nil},
		{"autodiscover.json", "GET", "/Autodiscover/Autodiscover.json/v1.0/anna@example.com?protocol=AutodiscoverV1&RedirectCount=1", "", nil},
	} {
		w := ask(newHandler(tt.change), tt.method, tt.target, tt.body)
		if w.Code != http.StatusOK {
			t.Errorf("%s %s: %d %s", tt.method, tt.target, w.Code, w.Body)
			continue
		}
		golden(t, tt.name, w.Body.Bytes())
	}
}

// TestRules: every setting that mail programs feel gets through, and require_auth follows its timer.
func TestRules(t *testing.T) {
	now := time.Now()
	s := store.DefaultSettings("example.com")
	s.RequireAuth, s.RequireAuthAt = false, now
	if !Rules(s, now).RequireAuth || Rules(s, now.Add(-time.Second)).RequireAuth {
		t.Error("require_auth does not follow its timer")
	}
	s.RequireAuthAt = time.Time{}
	s.TrustedNetworks, s.OldClientNetworks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for name, change := range map[string]func(){
		"pop_before_smtp": func() { s.POPBeforeSMTP = !s.POPBeforeSMTP }, "outgoing_mail": func() { s.OutgoingMail = !s.OutgoingMail },
		"auth_on_mx": func() { s.AuthOnMX = !s.AuthOnMX }, "cleartext_login": func() { s.CleartextLogin = !s.CleartextLogin },
		"old_client_login": func() { s.OldClientLogin = !s.OldClientLogin }, "message_size": func() { s.MessageSize++ },
		"trusted_networks": func() { s.TrustedNetworks = nil }, "old_client_networks": func() { s.OldClientNetworks = nil },
		"require_auth": func() { s.RequireAuth = true },
	} {
		before := Rules(s, now)
		change()
		if reflect.DeepEqual(Rules(s, now), before) {
			t.Errorf("%s changes nothing", name)
		}
	}
}

// TestSameForEveryAddress: what is said does not depend on whether there is a mailbox; nothing of the handler could know.
func TestSameForEveryAddress(t *testing.T) {
	h := newHandler(nil)
	ids := regexp.MustCompile(`\.mail\.[0-9a-f]{16}|[0-9A-F]{8}-[0-9A-F-]{27}`)
	for _, tt := range []struct{ method, target, body string }{
		{"GET", "/mail/config-v1.1.xml?emailaddress=NAME@example.com", ""},
		{"POST", "/autodiscover/autodiscover.xml", outlookAsks("NAME@example.com")},
		{"GET", "/autodiscover/autodiscover.json?email=NAME@example.com&protocol=autodiscoverv1", ""},
		{"GET", "/apple/mail.mobileconfig?emailaddress=NAME@example.com", ""},
	} {
		var seen string
		for _, name := range []string{"postmaster", "nobody.ever"} {
			w := ask(h, tt.method, strings.Replace(tt.target, "NAME", name, 1), strings.Replace(tt.body, "NAME", name, 1))
			got := ids.ReplaceAllString(strings.ReplaceAll(w.Body.String(), name, "NAME"), "ID")
			if w.Code != 200 || seen != "" && got != seen {
				t.Errorf("%s: %d\n%s\nbut before\n%s", tt.target, w.Code, got, seen)
			}
			seen = got
		}
	}
}

// TestRefused: addresses of others, requests that are none, methods, and a server that has nothing to offer.
func TestRefused(t *testing.T) {
	noWay := func(p *clientsetup.Place, _ *clientsetup.Rules, _ *Options) { p.TLS = false }
	broken := func(_ *clientsetup.Place, _ *clientsetup.Rules, o *Options) {
		o.Facts = func(context.Context) (clientsetup.Place, clientsetup.Rules, error) {
			return clientsetup.Place{}, clientsetup.Rules{}, errors.New("the store is closed")
		}
	}
	const xmlPath = "/autodiscover/autodiscover.xml"
	for _, tt := range []struct {
		method, target, body string
		status               int
		want                 string
		change               func(p *clientsetup.Place, r *clientsetup.Rules, o *Options)
	}{
		{"GET", "/mail/config-v1.1.xml?emailaddress=a@other.example", "", 404, "not an address of this domain", nil},
		{"GET", "/mail/config-v1.1.xml?emailaddress=a@sub.example.com", "", 404, "not an address", nil},
		{"GET", "/mail/config-v1.1.xml?emailaddress=%3Cscript%3E", "", 404, "not an address", nil},
		{"GET", "/mail/config-v1.1.xml?emailaddress=" + strings.Repeat("a", maxAddress) + "@example.com", "", 404, "not an address", nil},
		{"POST", "/mail/config-v1.1.xml", "", 405, "only GET", nil},
		{"GET", "/mail/config-v1.1.xml", "", 404, "cannot be set up", noWay},
		{"GET", "/mail/config-v1.1.xml", "", 503, "temporary failure", broken},
		{"POST", xmlPath, outlookAsks("a@other.example"), 200, "<ErrorCode>500</ErrorCode>", nil},
		{"POST", xmlPath, outlookAsks(""), 200, "<ErrorCode>600</ErrorCode>", nil},
		{"POST", xmlPath, strings.Replace(outlookAsks("a@example.com"), "outlook/responseschema", "mobilesync/responseschema", 1), 200, "<ErrorCode>601</ErrorCode>", nil},
		{"POST", xmlPath, outlookAsks("a@example.com"), 200, "<ErrorCode>601</ErrorCode>", noWay},
		{"POST", xmlPath, outlookAsks("a@example.com"), 503, "temporary failure", broken},
		{"GET", xmlPath, "", 200, "<ErrorCode>600</ErrorCode>", nil},
		{"PUT", xmlPath, "", 405, "only GET", nil},
		{"GET", "/autodiscover/autodiscover.json?Email=a@example.com&Protocol=ActiveSync", "", 400, "InvalidProtocol", nil},
		{"GET", "/autodiscover/autodiscover.json?Email=a@example.com", "", 400, "MandatoryParameterMissing", nil},
		{"GET", "/autodiscover/autodiscover.json?Protocol=AutodiscoverV1", "", 400, "MandatoryParameterMissing", nil},
		{"GET", "/autodiscover/autodiscover.json?Email=a@other.example&Protocol=AutodiscoverV1", "", 404, "UserNotFound", nil},
		{"GET", "/apple/mail.mobileconfig", "", 404, "give an address", nil},
		{"GET", "/apple/mail.mobileconfig?emailaddress=%25EMAILADDRESS%25", "", 404, "give an address", nil},
		{"GET", "/apple/mail.svg?emailaddress=a@other.example", "", 404, "give an address", nil},
		{"GET", "/apple/other", "", 404, "not found", nil},
	} {
		w := ask(newHandler(tt.change), tt.method, tt.target, tt.body)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s %s: got %d %q, want %d %q", tt.method, tt.target, w.Code, w.Body, tt.status, tt.want)
		}
	}
}

// TestBodyIsBounded: both ends of the limit.
func TestBodyIsBounded(t *testing.T) {
	text := outlookAsks("anna@example.com")
	fits := text + strings.Repeat(" ", maxBody-len(text))
	for body, want := range map[string]int{fits: 200, fits + " ": http.StatusRequestEntityTooLarge} {
		if w := ask(newHandler(nil), "POST", "/autodiscover/autodiscover.xml", body); w.Code != want {
			t.Errorf("%d octets: %d, want %d", len(body), w.Code, want)
		}
	}
}

// hostileXML must be refused, quickly and without a trace of what it asks for.
var hostileXML = map[string]string{
	"entities in entities": `<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>` +
		`<Autodiscover><Request><EMailAddress>&b;@example.com</EMailAddress></Request></Autodiscover>`,
	"a file":              `<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><Autodiscover><Request><EMailAddress>&x;</EMailAddress></Request></Autodiscover>`,
	"a declaration alone": `<!DOCTYPE Autodiscover>` + strings.TrimPrefix(outlookAsks("anna@example.com"), `<?xml version="1.0" encoding="utf-8"?>`),
	"unknown entity":      outlookAsks("&nbsp;anna@example.com"),
	"depth":               strings.Replace(outlookAsks("anna@example.com"), "<Request>", strings.Repeat("<a>", maxDepth)+strings.Repeat("</a>", maxDepth)+"<Request>", 1),
	"not closed":          strings.TrimSuffix(outlookAsks("anna@example.com"), "</Autodiscover>"),
	"another root":        strings.ReplaceAll(outlookAsks("anna@example.com"), "Autodiscover", "Envelope"),
	"another charset":     strings.Replace(outlookAsks("anna@example.com"), "utf-8", "utf-16", 1),
	"two documents":       outlookAsks("anna@example.com") + "<x/>",
	"NUL":                 outlookAsks("anna\x00@example.com"),
}

func TestHostileXML(t *testing.T) {
	for name, text := range hostileXML {
		w := ask(newHandler(nil), "POST", "/autodiscover/autodiscover.xml", text)
		if w.Code != 200 || !strings.Contains(w.Body.String(), "<ErrorCode>600</ErrorCode>") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), "aaaa") || strings.Contains(w.Body.String(), "root:") {
			t.Errorf("%s: repeated: %s", name, w.Body)
		}
	}
}

// TestDepth: as deep as is allowed, and nothing is wrong.
func TestDepth(t *testing.T) {
	text := strings.Replace(outlookAsks("anna@example.com"), "<Request>", strings.Repeat("<a>", maxDepth-1)+strings.Repeat("</a>", maxDepth-1)+"<Request>", 1)
	if w := ask(newHandler(nil), "POST", "/autodiscover/autodiscover.xml", text); !strings.Contains(w.Body.String(), "<Action>settings</Action>") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestEscaped: an address with every letter that means something in XML stays one value.
func TestEscaped(t *testing.T) {
	const address = `a&b'{}@example.com`
	w := ask(newHandler(nil), "GET", "/mail/config-v1.1.xml?emailaddress="+url.QueryEscape(address), "")
	var c clientConfig
	if err := xml.Unmarshal(w.Body.Bytes(), &c); err != nil || c.Provider.Incoming[0].User != address {
		t.Errorf("%v: %+v\n%s", err, c, w.Body)
	}
	w = ask(newHandler(nil), "GET", "/apple/mail.mobileconfig?emailaddress="+url.QueryEscape(address), "")
	var p profile
	if _, err := plist.Unmarshal(w.Body.Bytes(), &p); err != nil || p.PayloadContent[0].EmailAddress != address {
		t.Errorf("%v: %+v\n%s", err, p, w.Body)
	}
	// A quoted name is that of no mailbox.
	if w := ask(newHandler(nil), "GET", "/mail/config-v1.1.xml?emailaddress="+url.QueryEscape(`"a<b>"@example.com`), ""); w.Code != 404 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// profile is what a device reads of a configuration profile.
type profile struct {
	PayloadType, PayloadIdentifier, PayloadUUID string
	PayloadVersion                              int
	PayloadContent                              []struct {
		PayloadType, PayloadUUID, EmailAccountType, EmailAddress                                   string
		IncomingMailServerHostName, IncomingMailServerUsername, IncomingMailServerAuthentication   string
		OutgoingMailServerHostName, OutgoingMailServerUsername, OutgoingMailServerAuthentication   string
		IncomingMailServerPortNumber, OutgoingMailServerPortNumber                                 int
		IncomingMailServerUseSSL, OutgoingMailServerUseSSL, OutgoingPasswordSameAsIncomingPassword bool
	}
}

// TestProfile reads the profile with somebody else's reader of property lists.
func TestProfile(t *testing.T) {
	w := ask(newHandler(nil), "GET", "/apple/mail.mobileconfig?emailaddress=anna@example.com", "")
	var p profile
	if _, err := plist.Unmarshal(w.Body.Bytes(), &p); err != nil || len(p.PayloadContent) != 1 {
		t.Fatalf("%v: %s", err, w.Body)
	}
	a := p.PayloadContent[0]
	if p.PayloadType != "Configuration" || a.PayloadType != "com.apple.mail.managed" || a.EmailAccountType != "EmailTypePOP" ||
		a.IncomingMailServerPortNumber != 995 || a.OutgoingMailServerPortNumber != 465 || !a.IncomingMailServerUseSSL || !a.OutgoingMailServerUseSSL ||
		a.IncomingMailServerUsername != "anna@example.com" || a.OutgoingMailServerUsername != "anna@example.com" ||
		a.IncomingMailServerHostName != "mail.example.com" || !a.OutgoingPasswordSameAsIncomingPassword || p.PayloadUUID == a.PayloadUUID {
		t.Errorf("%+v", p)
	}
	if got := w.Header().Get("Content-Type"); got != "application/x-apple-aspen-config" {
		t.Errorf("content type %q", got)
	}
}

// testCertificate makes a certificate of its own.
func testCertificate(t *testing.T) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail.example.com"}, DNSNames: []string{"mail.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestSignedProfile: with a certificate the profile is signed data that verifies and holds the same; if signing fails, it is sent unsigned.
func TestSignedProfile(t *testing.T) {
	const target = "/apple/mail.mobileconfig?emailaddress=anna@example.com"
	plain := ask(newHandler(nil), "GET", target, "").Body.Bytes()
	certificate := testCertificate(t)
	w := ask(newHandler(func(_ *clientsetup.Place, _ *clientsetup.Rules, o *Options) {
		o.Certificate = func() (*tls.Certificate, error) { return certificate, nil }
	}), "GET", target, "")
	signed, err := pkcs7.Parse(w.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	root, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(root)
	if err := signed.VerifyWithChain(roots); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(signed.Content, plain) {
		t.Errorf("signed is\n%s", signed.Content)
	}
	for name, bad := range map[string]func() (*tls.Certificate, error){
		"none yet":   func() (*tls.Certificate, error) { return nil, nil },
		"unreadable": func() (*tls.Certificate, error) { return nil, errors.New("no such file") },
		"broken":     func() (*tls.Certificate, error) { return &tls.Certificate{Certificate: [][]byte{{1}}}, nil },
	} {
		w := ask(newHandler(func(_ *clientsetup.Place, _ *clientsetup.Rules, o *Options) { o.Certificate = bad }), "GET", target, "")
		if !bytes.Equal(w.Body.Bytes(), plain) {
			t.Errorf("%s: %s", name, w.Body)
		}
	}
}

// TestQRCode reads the picture back, module by module, and holds it against the code of the URL.
func TestQRCode(t *testing.T) {
	const text = "https://mail.example.com/apple/mail.mobileconfig?emailaddress=anna%40example.com"
	if ProfileURL("https://mail.example.com", "anna@example.com") != text {
		t.Error(ProfileURL("https://mail.example.com", "anna@example.com"))
	}
	picture, err := QRCode(text)
	if err != nil {
		t.Fatal(err)
	}
	want, err := qr.Encode(text, qr.M)
	if err != nil {
		t.Fatal(err)
	}
	black := map[[2]int]bool{}
	for _, m := range regexp.MustCompile(`M(\d+) (\d+)h(\d+)v1`).FindAllStringSubmatch(string(picture), -1) {
		var n [3]int
		for i := range n {
			if err := json.Unmarshal([]byte(m[i+1]), &n[i]); err != nil {
				t.Fatal(err)
			}
		}
		for x := n[0]; x < n[0]+n[2]; x++ {
			black[[2]int{x - quietZone, n[1] - quietZone}] = true
		}
	}
	for y := -quietZone; y < want.Size+quietZone; y++ {
		for x := -quietZone; x < want.Size+quietZone; x++ {
			if black[[2]int{x, y}] != want.Black(x, y) {
				t.Fatalf("module %d,%d is wrong", x, y)
			}
		}
	}
	if _, err := QRCode(strings.Repeat("x", 5000)); err == nil {
		t.Error("a code of 5,000 octets")
	}
	if err := xml.Unmarshal(picture, new(struct{ XMLName xml.Name })); err != nil {
		t.Error(err)
	}
}

// TestHandles: letter case and a slash at the end do not count, and everything else is somebody else's.
func TestHandles(t *testing.T) {
	for path, want := range map[string]bool{
		"/Autodiscover/Autodiscover.xml": true, "/AUTODISCOVER/AUTODISCOVER.XML": true, "/autodiscover/autodiscover.json/V1.0/a@b.c": true,
		"/mail/config-v1.1.xml": true, "/.well-known/autoconfig/mail/config-v1.1.xml/": true, "/apple/mail.svg": true,
		"/": false, "/apple/mail.svg.png": false, "/autodiscover/": false, "/mail/../mail/config-v1.1.xml": false, "": false,
	} {
		if Handles(path) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
}

// TestHeaders: nothing is kept, guessed or run, whatever the answer.
func TestHeaders(t *testing.T) {
	for _, target := range []string{"/mail/config-v1.1.xml", "/apple/mail.svg?emailaddress=anna@example.com", "/apple/mail.svg"} {
		h := ask(newHandler(nil), "GET", target, "").Header()
		if h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Security-Policy") != "default-src 'none'" {
			t.Errorf("%s: %v", target, h)
		}
	}
}

// FuzzAutodiscover: no request makes it fail, and what it answers is XML.
func FuzzAutodiscover(f *testing.F) {
	f.Add(outlookAsks("anna@example.com"))
	for _, text := range hostileXML {
		f.Add(text)
	}
	h := newHandler(nil)
	f.Fuzz(func(t *testing.T, text string) {
		w := ask(h, "POST", "/autodiscover/autodiscover.xml", text)
		if len(text) > maxBody {
			return
		}
		if w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		d := xml.NewDecoder(w.Body)
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzAddress: no address gets out of its place in the documents.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"anna@example.com", `"a<b"@example.com`, "a&b@example.com", "ä@example.com", "%EMAILADDRESS%", "a@b", "]]>@example.com"} {
		f.Add(s)
	}
	h := newHandler(nil)
	f.Fuzz(func(t *testing.T, address string) {
		q := "?emailaddress=" + url.QueryEscape(address)
		if w := ask(h, "GET", "/mail/config-v1.1.xml"+q, ""); w.Code == 200 {
			var c clientConfig
			if err := xml.Unmarshal(w.Body.Bytes(), &c); err != nil || len(c.Provider.Incoming) != 2 {
				t.Fatalf("%q: %v\n%s", address, err, w.Body)
			}
		}
		if w := ask(h, "GET", "/apple/mail.mobileconfig"+q, ""); w.Code == 200 {
			var p profile
			if _, err := plist.Unmarshal(w.Body.Bytes(), &p); err != nil || len(p.PayloadContent) != 1 || !strings.HasSuffix(p.PayloadContent[0].EmailAddress, "@example.com") {
				t.Fatalf("%q: %v\n%s", address, err, w.Body)
			}
		}
	})
}
