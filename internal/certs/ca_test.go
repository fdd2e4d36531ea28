package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeCA is a CA as RFC 8555 has it, but for signatures, which it does not verify: it is reached as an http.RoundTripper, so that time may be
// false. The interop tests have a real one.
type fakeCA struct {
	t          *testing.T
	challenges *Challenges
	// life is that of what it issues. binding is the key that it wants accounts to be bound by; nil for none.
	life    time.Duration
	binding []byte

	mu       sync.Mutex // protects the fields below
	key      *ecdsa.PrivateKey
	orders   []*fakeOrder
	kinds    []string // of the challenges that were tried
	accounts map[string]int
	requests int
	// down, if set, is the answer to everything but the directory and nonces.
	down func(w http.ResponseWriter)
	// unreachable has no connection come about.
	unreachable bool
	// wrong names fail their challenges, refused ones have an order refused.
	wrong, refused []string
	// terse has the refusal say so in its sentence only.
	terse bool
	// otherKey has certificates issued for a key of the CA's own.
	otherKey bool
}

type fakeOrder struct {
	names  []string
	status map[string]string // of authorizations by name
	chain  []byte
}

func newFakeCA(t *testing.T, c *Challenges) *fakeCA {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &fakeCA{t: t, challenges: c, life: 90 * 24 * time.Hour, key: key, accounts: map[string]int{}}
}

// asked is how many orders there were.
func (ca *fakeCA) asked() int {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return len(ca.orders)
}

// set changes what the CA does.
func (ca *fakeCA) set(f func()) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	f()
}

const caURL = "https://acme.example/"

// RoundTrip implements http.RoundTripper.
func (ca *fakeCA) RoundTrip(r *http.Request) (*http.Response, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if ca.unreachable {
		return nil, errors.New("connection refused")
	}
	ca.requests++
	w := httptest.NewRecorder()
	w.Header().Set("Replay-Nonce", fmt.Sprint("nonce", ca.requests))
	ca.answer(w, r)
	return w.Result(), nil
}

func (ca *fakeCA) answer(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	switch {
	case path == "directory":
		reply(w, 200, map[string]any{
			"newNonce": caURL + "nonce", "newAccount": caURL + "account", "newOrder": caURL + "orders",
			"revokeCert": caURL + "revoke", "keyChange": caURL + "change",
			"meta": map[string]any{"termsOfService": caURL + "terms"},
		})
		return
	case path == "nonce":
		return
	case ca.down != nil:
		ca.down(w)
		return
	}
	head, payload := opened(r)
	kind, rest, _ := strings.Cut(path, "/")
	n, name, index := 0, "", 0
	if _, err := fmt.Sscanf(rest, "%d/%d", &n, &index); err != nil {
		_, _ = fmt.Sscanf(rest, "%d", &n) // an order
	}
	if kind != "account" && kind != "orders" {
		if n >= len(ca.orders) {
			problem(w, 404, "malformed", "no such order")
			return
		}
		name = ca.orders[n].names[min(index, len(ca.orders[n].names)-1)]
	}
	switch kind {
	case "account":
		ca.account(w, head, payload)
	case "orders":
		ca.newOrder(w, payload)
	case "order":
		ca.order(w, n)
	case "authz":
		reply(w, 200, ca.authorization(n, index))
	case overHTTP, inTLS:
		ca.validate(n, name, kind)
		reply(w, 200, map[string]any{"type": kind, "url": caURL + path, "token": token(n, name), "status": "processing"})
	case "finalize":
		ca.issue(w, n, payload)
	case "cert":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		_, _ = w.Write(ca.orders[n].chain)
	}
}

// opened is what a request holds (RFC 7515 §7.2.2).
func opened(r *http.Request) (head, payload map[string]any) {
	var jws struct{ Protected, Payload string }
	text, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(text, &jws)
	for _, one := range []struct {
		text string
		to   *map[string]any
	}{{jws.Protected, &head}, {jws.Payload, &payload}} {
		plain, _ := base64.RawURLEncoding.DecodeString(one.text)
		_ = json.Unmarshal(plain, one.to)
	}
	return head, payload
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func problem(w http.ResponseWriter, status int, kind, detail string, subproblems ...any) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"type": "urn:ietf:params:acme:error:" + kind, "detail": detail, "status": status, "subproblems": subproblems,
	})
}

func token(n int, name string) string {
	return fmt.Sprintf("token-%d-%s", n, strings.ReplaceAll(name, ".", "_"))
}

func (ca *fakeCA) account(w http.ResponseWriter, head, payload map[string]any) {
	if ca.binding != nil && !ca.bound(payload) {
		problem(w, 403, "externalAccountRequired", "who are you?")
		return
	}
	if payload["termsOfServiceAgreed"] != true {
		problem(w, 403, "userActionRequired", "agree")
		return
	}
	id := fmt.Sprint(head["jwk"])
	ca.accounts[id]++
	w.Header().Set("Location", caURL+"account/1")
	status := 200
	if ca.accounts[id] == 1 {
		status = 201
	}
	reply(w, status, map[string]any{"status": "valid", "contact": payload["contact"]})
}

// bound verifies an account binding (RFC 8555 §7.3.4).
func (ca *fakeCA) bound(payload map[string]any) bool {
	b, _ := payload["externalAccountBinding"].(map[string]any)
	protected, _ := b["protected"].(string)
	inner, _ := b["payload"].(string)
	signature, _ := b["signature"].(string)
	mac := hmac.New(sha256.New, ca.binding)
	mac.Write([]byte(protected + "." + inner))
	head, _ := base64.RawURLEncoding.DecodeString(protected)
	return signature == base64.RawURLEncoding.EncodeToString(mac.Sum(nil)) && strings.Contains(string(head), `"kid-1"`)
}

func (ca *fakeCA) newOrder(w http.ResponseWriter, payload map[string]any) {
	o := &fakeOrder{status: map[string]string{}}
	var subproblems []any
	list, _ := payload["identifiers"].([]any)
	for _, one := range list {
		id, _ := one.(map[string]any)
		name, _ := id["value"].(string)
		o.names = append(o.names, name)
		o.status[name] = "pending"
		if slices.Contains(ca.refused, name) {
			subproblems = append(subproblems, map[string]any{
				"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "not that one", "identifier": id,
			})
		}
	}
	ca.orders = append(ca.orders, o)
	if len(subproblems) > 0 && ca.terse {
		problem(w, 400, "rejectedIdentifier", fmt.Sprintf("we do not issue for %q", ca.refused))
		return
	}
	if len(subproblems) > 0 {
		problem(w, 400, "rejectedIdentifier", "some of them", subproblems...)
		return
	}
	w.Header().Set("Location", fmt.Sprint(caURL, "order/", len(ca.orders)-1))
	ca.order(w, len(ca.orders)-1)
}

func (ca *fakeCA) order(w http.ResponseWriter, n int) {
	o := ca.orders[n]
	status := "ready"
	var urls []string
	for i, name := range o.names {
		urls = append(urls, fmt.Sprint(caURL, "authz/", n, "/", i))
		if s := o.status[name]; s != "valid" && status != "invalid" {
			status = s
		}
	}
	body := map[string]any{"status": status, "authorizations": urls, "finalize": fmt.Sprint(caURL, "finalize/", n)}
	if o.chain != nil {
		body["status"], body["certificate"] = "valid", fmt.Sprint(caURL, "cert/", n)
	}
	code := 200
	if w.Header().Get("Location") != "" {
		code = 201
	}
	reply(w, code, body)
}

func (ca *fakeCA) authorization(n, index int) map[string]any {
	name := ca.orders[n].names[index]
	status := ca.orders[n].status[name]
	var list []any
	for _, kind := range []string{"dns-01", overHTTP, inTLS} {
		c := map[string]any{"type": kind, "url": fmt.Sprint(caURL, kind, "/", n, "/", index), "token": token(n, name), "status": "pending"}
		if status == "invalid" && kind != "dns-01" {
			c["error"] = map[string]any{"type": "urn:ietf:params:acme:error:connection", "detail": "cannot connect to " + name, "status": 400}
		}
		list = append(list, c)
	}
	return map[string]any{"status": status, "identifier": map[string]any{"type": "dns", "value": name}, "challenges": list}
}

// validate looks for the proof as a CA does, but for the network.
func (ca *fakeCA) validate(n int, name, kind string) {
	ca.kinds = append(ca.kinds, kind)
	ca.orders[n].status[name] = "invalid"
	if slices.Contains(ca.wrong, name) {
		return
	}
	if kind == overHTTP {
		text, ok := ca.challenges.Response("/.well-known/acme-challenge/" + token(n, name))
		if !ok || !strings.HasPrefix(text, token(n, name)+".") {
			return
		}
	} else {
		// Names of hosts have no letter case, and a CA may mix it as it does in its questions to the DNS.
		c, err := ca.challenges.Config(&tls.ClientHelloInfo{ServerName: strings.ToUpper(name[:1]) + name[1:], SupportedProtos: []string{ALPN}})
		if err != nil || c == nil || !slices.Equal(c.NextProtos, []string{ALPN}) {
			return
		}
		leaf, err := x509.ParseCertificate(c.Certificates[0].Certificate[0])
		if err != nil || leaf.VerifyHostname(name) != nil || !slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool {
			return e.Critical && e.Id.String() == "1.3.6.1.5.5.7.1.31" // RFC 8737 §3
		}) {
			return
		}
	}
	ca.orders[n].status[name] = "valid"
}

func (ca *fakeCA) issue(w http.ResponseWriter, n int, payload map[string]any) {
	text, _ := payload["csr"].(string)
	der, _ := base64.RawURLEncoding.DecodeString(text)
	request, err := x509.ParseCertificateRequest(der)
	if err != nil || request.CheckSignature() != nil || !slices.Equal(request.DNSNames, ca.orders[n].names) {
		problem(w, 400, "badCSR", "not what was ordered")
		return
	}
	var public crypto.PublicKey = request.PublicKey
	if ca.otherKey {
		public = ca.key.Public()
	}
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fake CA"}, NotBefore: now.Add(-time.Hour),
		NotAfter: now.AddDate(20, 0, 0), IsCA: true, BasicConstraintsValid: true,
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(int64(n) + 2), DNSNames: request.DNSNames, NotBefore: now, NotAfter: now.Add(ca.life)}
	var chain bytes.Buffer
	for _, one := range []struct {
		template *x509.Certificate
		public   crypto.PublicKey
	}{{leaf, public}, {root, ca.key.Public()}} {
		der, err := x509.CreateCertificate(rand.Reader, one.template, root, one.public, ca.key)
		if err != nil {
			ca.t.Error(err)
		}
		_ = pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	ca.orders[n].chain = chain.Bytes()
	w.Header().Set("Location", fmt.Sprint(caURL, "order/", n))
	reply(w, 200, map[string]any{"status": "valid", "certificate": fmt.Sprint(caURL, "cert/", n), "finalize": caURL})
}
