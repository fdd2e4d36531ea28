//go:build interop

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The pages before a scanner that others wrote: Wapiti, of Debian. It follows links and forms as each role, and tries what it knows of on every parameter.

const (
	// scanBound bounds a scan, crawlTime how long it looks for pages, and attackTime how long it tries one kind of attack, in seconds: a third of that where
	// LATCHKEY_BROWSER chooses parts.
	scanBound  = 5 * time.Minute
	crawlTime  = 25
	attackTime = 12
	// leastScanned is how many different pages and forms must have been asked for: fewer, and the scan is none.
	leastScanned = 12
	// scannedLevel is the level of Wapiti's from which a finding counts: 1 is low, 2 medium, 3 high.
	scannedLevel = 2
	// scannedFor are Wapiti's modules but those that ask other hosts. csrf is not among them: it looks for hidden tokens in forms, where forms of other sites
	// are told by what browsers say of them (TestCrossSite).
	scannedFor = "backup,blindsql,cookieflags,crlf,csp,exec,file,htaccess,http_headers,methods,permanentxss,redirect,shellshock,sql,xss"
)

// scanReport is what is read of Wapiti's report.
type scanReport struct {
	Vulnerabilities map[string][]scanFinding `json:"vulnerabilities"`
	Anomalies       map[string][]scanFinding `json:"anomalies"`
}

type scanFinding struct {
	Method    string `json:"method"`
	Path      string `json:"path"`
	Info      string `json:"info"`
	Level     int    `json:"level"`
	Parameter string `json:"parameter"`
}

// TestInteropWapiti: a scanner finds nothing of medium or high severity in any role, and nothing that it sends makes the server fail. LATCHKEY_BROWSER says,
// as for TestInteropBrowser, what is done of it.
func TestInteropWapiti(t *testing.T) {
	t.Parallel()
	need(t, "wapiti")
	only, err := regexp.Compile(os.Getenv("LATCHKEY_BROWSER"))
	if err != nil {
		t.Fatal(err)
	}
	s := attackedServer(t)
	for i, role := range []string{"stranger", "mailbox", "owner", "operator"} {
		name := "scan as " + role
		if !only.MatchString(name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newScanProxy(t, s, role, i)
			part := 1
			if only.String() != "" {
				part = 3
			}
			report := scanPages(t, p.URL, crawlTime/part, attackTime/part)
			for kind, findings := range report.Vulnerabilities {
				for _, f := range findings {
					if f.Level >= scannedLevel {
						t.Errorf("%s, level %d: %s %s, parameter %q: %s", kind, f.Level, f.Method, f.Path, f.Parameter, f.Info)
					}
				}
			}
			for kind, findings := range report.Anomalies {
				for _, f := range findings {
					t.Logf("anomaly: %s: %s %s, parameter %q: %s", kind, f.Method, f.Path, f.Parameter, f.Info)
				}
			}
			p.check(t)
		})
	}
}

// scanPages runs the scanner.
func scanPages(t *testing.T, base string, crawl, attack int) (report scanReport) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "report.json")
	ctx, cancel := context.WithTimeout(t.Context(), scanBound)
	defer cancel()
	cmd := exec.CommandContext(ctx, "wapiti", "-u", base+"/", "--scope", "domain", "-d", "4", "--max-links-per-page", "60", "--max-parameters", "12",
		"--max-scan-time", strconv.Itoa(crawl), "--max-attack-time", strconv.Itoa(attack), "-m", scannedFor, "--flush-session", "--no-bugreport",
		"--store-session", dir, "--store-config", dir, "-f", "json", "-o", file, "-t", "20")
	cmd.Env = append(os.Environ(), "HOME="+dir)
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("wapiti: %v\n%s", err, said[max(0, len(said)-4000):])
	}
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &report)
	}
	if err != nil || len(report.Vulnerabilities) == 0 {
		t.Fatalf("the report: %v, %d kinds of findings\n%s", err, len(report.Vulnerabilities), said[max(0, len(said)-4000):])
	}
	return report
}

// scanProxy stands between the scanner and the pages: it keeps somebody signed in, whatever the scanner does to the session, and notes what was answered.
type scanProxy struct {
	*httptest.Server
	server *testServer
	role   string
	n      int // which of the roles: each comes from networks of its own

	mu      sync.Mutex // protects what follows, and signing in
	cookie  *http.Cookie
	asked   map[string]int // by method and pattern of the path
	inside  int            // answers to somebody who is signed in
	failed  []string
	renewed int
	locked  bool // nobody comes in any more
}

// newScanProxy makes one whose connections come from an address of its own.
func newScanProxy(t *testing.T, s *testServer, role string, n int) *scanProxy {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 40, byte(n+1))}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	p := &scanProxy{server: s, role: role, n: n, asked: map[string]int{}}
	target := &url.URL{Scheme: "http", Host: s.addrs("web")[0]}
	if role != "stranger" {
		p.enter(t, target)
	}
	forward := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = target.Host
			if r.Out.Method != http.MethodGet {
				r.Out.Header.Set("Origin", target.String())
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.cookie != nil {
				r.Out.Header.Del("Cookie")
				r.Out.AddCookie(p.cookie)
			}
		},
		ModifyResponse: func(r *http.Response) error { return p.answered(t, target, r) },
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }, // the scanner went away, or the request is none
	}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/logout" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

// enter signs in, each time from another network: what the scanner guessed keeps the one that it comes from out.
func (p *scanProxy) enter(t *testing.T, target *url.URL) {
	p.locked = true // unless what follows succeeds
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, byte(100+p.n), byte(p.renewed), 1)}}
	client := http.Client{
		Transport:     &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	path, form := "/login", url.Values{"password": {everybodysPassword}}
	if p.role == "operator" {
		_, link, _ := p.server.latchkey("web-login")
		u, err := url.Parse(strings.TrimSpace(link))
		if err != nil {
			t.Errorf("the operator's link: %v", err)
			return
		}
		path, form = "/sign-in", u.Query()
	} else {
		name := map[string]string{"mailbox": "anna", "owner": "olga"}[p.role]
		p.server.setSuspended(name, false)
		p.server.setPassword(name, everybodysPassword)
		form.Set("name", name)
	}
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, target.String()+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Error(err)
		return
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", target.String())
	answer, err := client.Do(r)
	if err != nil {
		t.Errorf("%s does not come in: %v", p.role, err)
		return
	}
	defer func() { _ = answer.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<20))
	if len(answer.Cookies()) == 0 {
		t.Errorf("%s does not come in: %s", p.role, answer.Status)
		return
	}
	p.cookie, p.locked = answer.Cookies()[0], false
}

// numbered is what differs from one page to another of a kind.
var numbered = regexp.MustCompile(`[0-9]{2,}|%[0-9A-F]{2}`)

// answered notes an answer, and signs in again where the session has ended.
func (p *scanProxy) answered(t *testing.T, target *url.URL, r *http.Response) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := r.Request.Method + " " + numbered.ReplaceAllString(r.Request.URL.Path, "#")
	p.asked[line]++
	if r.StatusCode >= 500 {
		p.failed = append(p.failed, fmt.Sprintf("%s?%.300s: %s", line, r.Request.URL.RawQuery, r.Status))
	}
	if r.StatusCode == http.StatusSeeOther && strings.HasPrefix(r.Header.Get("Location"), "/login") && p.role != "stranger" && r.Request.URL.Path != "/login" && !p.locked {
		p.renewed++
		p.enter(t, target)
		return nil
	}
	if r.StatusCode == http.StatusOK {
		p.inside++
	}
	r.Header.Del("Set-Cookie") // the proxy keeps it
	if at, err := url.Parse(r.Header.Get("Location")); err == nil && at.Host == target.Host {
		r.Header.Set("Location", at.RequestURI())
	}
	return nil
}

// check finds a scan that was none, and a server that failed.
func (p *scanProxy) check(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	total := 0
	for _, n := range p.asked {
		total += n
	}
	t.Logf("%d requests for %d pages and forms, %d answered with a page; signed in again %d times", total, len(p.asked), p.inside, p.renewed)
	if len(p.asked) < leastScanned || p.inside < leastScanned {
		t.Errorf("only %d pages and forms were asked for", len(p.asked))
	}
	slices.Sort(p.failed)
	for _, line := range slices.Compact(p.failed) {
		t.Errorf("the server failed: %s", line)
	}
}
