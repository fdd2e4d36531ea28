package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTLSReports: reports of others are summed up, in order of day, and what is none is named.
func TestTLSReports(t *testing.T) {
	report := func(org, day string) string {
		return `{"organization-name":"` + org + `","date-range":{"start-datetime":"` + day + `T00:00:00Z","end-datetime":"` + day + `T23:59:59Z"},
"report-id":"1","policies":[{"policy":{"policy-type":"sts","policy-domain":"example.com"},"summary":{"total-successful-session-count":5,
"total-failure-session-count":2},"failure-details":[{"result-type":"certificate-expired","receiving-mx-hostname":"mx.example.com\u001b[2J","failed-session-count":2}]}]}`
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	second, first := write("b", report("B Mail", "2026-11-02")), write("a", "From: x@y.example\r\nContent-Type: application/tlsrpt+json\r\n\r\n"+report("A Mail", "2026-11-01"))
	got := runTLSReports(t, 0, "", second, first)
	a, b := strings.Index(got, "2026-11-01  A Mail  example.com  sts     5     2"), strings.Index(got, "2026-11-02  B Mail  example.com  sts     5     2")
	if a < 0 || b < a || strings.Count(got, "certificate-expired") != 2 || strings.Contains(got, "\x1b") {
		t.Errorf("got\n%s", got)
	}
	if got := runTLSReports(t, 0, report("C Mail", "2026-11-03"), "-", "--json"); !strings.Contains(got, `"organization-name": "C Mail"`) {
		t.Errorf("got\n%s", got)
	}
	if got := runTLSReports(t, 1, "hello", "-"); !strings.Contains(got, "-: tlsrpt: not a TLS report") {
		t.Errorf("got\n%s", got)
	}
	if got := runTLSReports(t, 1, "", filepath.Join(dir, "gone")); !strings.Contains(got, "gone") {
		t.Errorf("got\n%s", got)
	}
}

// runTLSReports runs the command and returns what it wrote, wherever.
func runTLSReports(t *testing.T, want int, stdin string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	env := Env{Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &out, LookupEnv: func(string) (string, bool) { return "", false }}
	if got := Run(t.Context(), env, append([]string{"tls-reports"}, args...)); got != want {
		t.Errorf("%q ends with %d, want %d: %s", args, got, want, out.String())
	}
	return out.String()
}
