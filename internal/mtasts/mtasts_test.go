package mtasts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseRecord(t *testing.T) {
	for _, tt := range []struct {
		name    string
		records []string
		id      string
		ok      bool
	}{
		{"usual", []string{"v=STSv1; id=20261128T000000Z;"}, "20261128T000000Z", true},
		{"no last semicolon", []string{"v=STSv1;id=1"}, "1", true},
		{"white space", []string{"v=STSv1 ;\t id=a1 ; "}, "a1", true},
		{"extensions", []string{"v=STSv1; x=y; id=1; z=1"}, "1", true},
		{"among others", []string{"v=spf1 -all", "v=STSv1; id=1;", "google-site=x"}, "1", true},
		{"two", []string{"v=STSv1; id=1;", "v=STSv1; id=2;"}, "", false},
		{"none", nil, "", false},
		{"another version", []string{"v=STSv2; id=1;"}, "", false},
		{"version not first", []string{"id=1; v=STSv1;"}, "", false},
		{"no id", []string{"v=STSv1;"}, "", false},
		{"empty id", []string{"v=STSv1; id=;"}, "", false},
		{"odd id", []string{"v=STSv1; id=a-b;"}, "", false},
		{"longest id", []string{"v=STSv1; id=" + strings.Repeat("a", 32)}, strings.Repeat("a", 32), true},
		{"too long an id", []string{"v=STSv1; id=" + strings.Repeat("a", 33)}, "", false},
		{"version alone", []string{"v=STSv1"}, "", false},
	} {
		if id, ok := ParseRecord(tt.records); ok != tt.ok || ok && id != tt.id {
			t.Errorf("%s: got %q, %t", tt.name, id, ok)
		}
	}
}

const usual = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n"

func TestParse(t *testing.T) {
	lines := func(n int) string { return strings.Repeat("mx: a.example\n", n) }
	for _, tt := range []struct{ name, text, want string }{
		{"usual", usual, "enforce mail.example.com,*.example.net 168h0m0s"},
		{"bare LF and no end", "version: STSv1\nmode: testing\nmx: A.Example.\nmax_age: 0", "testing a.example 0s"},
		{"no space", "version:STSv1\nmode:none\nmax_age:86400\n", "none  24h0m0s"},
		{"any order, unknown keys, empty lines", "mx: a.example\n\nmax_age: 60 \nfoo: bar\nfoo: baz\nmode: enforce\nversion: STSv1\n", "enforce a.example 1m0s"},
		{"of two the first", "version: STSv1\nmode: testing\nmode: enforce\nmx: a.example\nmax_age: 60\nmax_age: 61\n", "testing a.example 1m0s"},
		{"a year and more", "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 9999999999\n", "enforce a.example 8766h0m0s"},
		{"too long a number", "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 10000000000\n", "invalid"},
		{"negative", "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: -1\n", "invalid"},
		{"no mode", "version: STSv1\nmx: a.example\nmax_age: 60\n", "invalid"},
		{"unknown mode", "version: STSv1\nmode: Enforce\nmx: a.example\nmax_age: 60\n", "invalid"},
		{"no version", "mode: enforce\nmx: a.example\nmax_age: 60\n", "invalid"},
		{"another version", "version: STSv2\nmode: enforce\nmx: a.example\nmax_age: 60\n", "invalid"},
		{"no max_age", "version: STSv1\nmode: enforce\nmx: a.example\n", "invalid"},
		{"no mx", "version: STSv1\nmode: enforce\nmax_age: 60\n", "invalid"},
		{"a star in the middle", "version: STSv1\nmode: enforce\nmx: a.*.example\nmax_age: 60\n", "invalid"},
		{"a star alone", "version: STSv1\nmode: enforce\nmx: *\nmax_age: 60\n", "invalid"},
		{"an empty label", "version: STSv1\nmode: enforce\nmx: a..example\nmax_age: 60\n", "invalid"},
		{"HTML", "<html>\n", "invalid"},
		{"nothing", "", "invalid"},
		{"as many hosts as may be", "version: STSv1\nmode: enforce\nmax_age: 60\n" + lines(MaxHosts), "enforce " + strings.Repeat("a.example,", MaxHosts-1) + "a.example 1m0s"},
		{"too many hosts", "version: STSv1\nmode: enforce\nmax_age: 60\n" + lines(MaxHosts+1), "invalid"},
	} {
		p, err := Parse(tt.text)
		got := fmt.Sprintf("%s %s %s", p.Mode, strings.Join(p.MX, ","), p.MaxAge)
		if errors.Is(err, ErrInvalid) {
			got = "invalid"
		}
		if got != tt.want {
			t.Errorf("%s: got %s (%v), want %s", tt.name, got, err, tt.want)
		}
	}
}

func TestMatches(t *testing.T) {
	p := Policy{MX: []string{"mail.example.com", "*.example.net"}}
	for host, want := range map[string]bool{
		"mail.example.com": true, "MAIL.Example.com.": true, "a.mail.example.com": false, "example.com": false, "xmail.example.com": false,
		"mx.example.net": true, "MX.EXAMPLE.NET": true, "a.mx.example.net": false, "example.net": false, "mx.example.net.evil": false, "": false,
	} {
		if got := p.Matches(host); got != want {
			t.Errorf("%q: %t", host, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(usual)
	f.Add("version:STSv1\nmode:none\nmax_age:1")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		if len(p.MX) > MaxHosts || p.MaxAge > MaxAge || p.MaxAge < 0 || p.Mode != None && len(p.MX) == 0 {
			t.Errorf("%q gives %+v", text, p)
		}
		p.Matches(text)
	})
}

// policyHost serves what a test says at the address that every name leads to.
func policyHost(t *testing.T, handler http.HandlerFunc) *Fetcher {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	transport := s.Client().Transport.(*http.Transport)
	c := transport.TLSClientConfig.Clone()
	return &Fetcher{TLS: c, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != "mta-sts.example.com:443" && address != "mta-sts.other.test:443" {
			t.Errorf("connects to %s", address)
		}
		var d net.Dialer
		return d.DialContext(ctx, network, s.Listener.Addr().String())
	}}
}

// The certificate of httptest is for example.com and *.example.com.
func TestFetch(t *testing.T) {
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = w.Write([]byte(s))
		}
	}
	padded := func(size int) string { return usual + strings.Repeat("#", size-len(usual)-len(":\n")) + ":\n" }
	visited := false
	for _, tt := range []struct {
		name, domain string
		handler      http.HandlerFunc
		want         error
	}{
		{"usual", "example.com", func(w http.ResponseWriter, r *http.Request) {
			if r.Host != "mta-sts.example.com" || r.URL.Path != "/.well-known/mta-sts.txt" || r.Method != http.MethodGet {
				t.Errorf("asked %s %s%s", r.Method, r.Host, r.URL.Path)
			}
			text(usual)(w, r)
		}, nil},
		{"the longest", "example.com", text(padded(MaxPolicy)), nil},
		{"too long", "example.com", text(padded(MaxPolicy + 1)), ErrFetch},
		{"without end", "example.com", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte(usual)); err != nil {
					return
				}
			}
		}, ErrFetch},
		{"for another name", "other.test", text(usual), ErrCertificate},
		{"not found", "example.com", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, ErrFetch},
		{"moved", "example.com", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				visited = true
				text(usual)(w, r)
				return
			}
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}, ErrFetch},
		{"no text", "example.com", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte(usual))
		}, ErrFetch},
		{"a header without end", "example.com", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", maxHeader+5000))
			text(usual)(w, r)
		}, ErrFetch},
		{"no policy", "example.com", text("hello: world\n"), ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := policyHost(t, tt.handler).Fetch(t.Context(), tt.domain)
			if !errors.Is(err, tt.want) || tt.want == nil && (p.Mode != Enforce || p.MaxAge != 7*24*time.Hour) {
				t.Errorf("got %+v, %v, want %v", p, err, tt.want)
			}
		})
	}
	if visited {
		t.Error("a redirection was followed")
	}
}

// TestFetchNobody: a host that is not there, and one that never answers, are errors.
func TestFetchNobody(t *testing.T) {
	refused := errors.New("refused")
	f := &Fetcher{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, refused }}
	if _, err := f.Fetch(t.Context(), "example.com"); !errors.Is(err, ErrFetch) || !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		cancel() // as the time-out does
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if _, err := f.Fetch(ctx, "example.com"); !errors.Is(err, ErrFetch) {
		t.Errorf("got %v", err)
	}
}
