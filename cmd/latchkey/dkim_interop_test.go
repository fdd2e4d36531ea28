//go:build interop

package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"latchkey/internal/resolver/resolvertest"
)

// nastyCount is how many messages are signed and judged.
const nastyCount = 500

// debianPython is the one that Debian's packages are for.
const debianPython = "/usr/bin/python3"

// needModules is need for modules of Debian's Python.
func needModules(t *testing.T, modules ...string) {
	t.Helper()
	need(t, debianPython)
	if out, err := exec.Command(debianPython, "-c", "import "+strings.Join(modules, ", ")).CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI needs the Python modules %s: %s", modules, out)
		}
		t.Skipf("not on this machine: %s", out)
	}
}

// signingServer is a server of example.com that signs, and sends everything to a sink. All that it wants is published.
func signingServer(t *testing.T) (*testServer, *sink, *resolvertest.Server) {
	t.Helper()
	out := newSink(t)
	s := newTestServer(t, "example.com")
	s.config.Reputation.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.25")}
	dns := s.sendsTo(out.port(), "sink.example")
	s.start()
	s.addAccount("anna", annasPassword)
	s.addAccount("bert", bertsPassword)
	dns.Behave("", "", resolvertest.Normal)
	s.publishRecords(dns)
	if status, _, stderr := s.latchkey("dkim", "check"); status != 0 {
		t.Fatal(stderr)
	}
	return s, out, dns
}

// judgement is a line of testdata/verify.py.
type judgement struct {
	Name             string
	OpenDKIM, DKIMPy []string
	SPF              map[string]string
	// From and Signer are the domains of the author and of the signatures, Sender is the envelope's, for which SPFResult is.
	From, Signer, Sender, SPFResult string
}

// judge has Debian's libraries judge the messages in a directory.
func judge(t *testing.T, dir string, dns *resolvertest.Server) (spf map[string]string, list []judgement) {
	t.Helper()
	out := run(t, "", debianPython, "testdata/verify.py", dir, strconv.Itoa(int(dns.Addr().Port())), "192.0.2.25", "mail.example.com", "anna@example.com")
	for line := range strings.Lines(out) {
		var j judgement
		if err := json.Unmarshal([]byte(line), &j); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if j.SPF != nil {
			spf = j.SPF
		} else {
			list = append(list, j)
		}
	}
	return spf, list
}

// TestInteropDKIM: 500 nasty messages go in by submission and out by the relay. Debian's libopendkim and dkimpy both verify both signatures
// of each; of those that were changed on the way, neither verifies one. What pyspf says of the records that the server asks for is right, and
// with it and with the signatures Mail::DMARC lets each message through, and none that was changed and comes from elsewhere.
func TestInteropDKIM(t *testing.T) {
	needModules(t, "dkim", "nacl", "spf", "dns.resolver")
	needDMARC(t)
	if _, err := exec.Command(debianPython, "-c", `import ctypes; ctypes.CDLL("libopendkim.so.11")`).CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI needs libopendkim11")
		}
		t.Skip("libopendkim11 is not on this machine")
	}
	s, out, dns := signingServer(t)
	for i, user := range []string{"anna", "bert"} {
		client := s.submission(user, map[string]string{"anna": annasPassword, "bert": bertsPassword}[user])
		for n := i; n < nastyCount; n += 2 {
			from := user + "@example.com"
			w, err := client.Data, error(nil)
			if err = client.Mail(from); err == nil {
				err = client.Rcpt("b@sink.example")
			}
			if err != nil {
				t.Fatalf("message %d: %v", n, err)
			}
			body, err := w()
			if err != nil {
				t.Fatalf("message %d: %v", n, err)
			}
			if _, err := body.Write([]byte(hardToSign(n, from))); err != nil {
				t.Fatalf("message %d: %v", n, err)
			}
			if err := body.Close(); err != nil {
				t.Fatalf("message %d is refused: %v\n%.2000q", n, err, hardToSign(n, from))
			}
		}
		_ = client.Quit() // all was answered
	}
	dir, changed := t.TempDir(), 0
	for i, m := range out.wait(nastyCount) {
		name := filepath.Join(dir, fmt.Sprintf("m%04d", i))
		if err := os.WriteFile(name+".eml", []byte(m.data), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name+".sender", []byte(m.from), 0o600); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			changed++
			if err := os.WriteFile(name+"-changed.eml", []byte(tampered(i/10, m.data)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	spf, list := judge(t, dir, dns)
	if want := map[string]string{"mail": "pass", "bounce": "pass", "stranger": "fail"}; fmt.Sprint(spf) != fmt.Sprint(want) {
		t.Errorf("pyspf: %v, want %v", spf, want)
	}
	if len(list) != nastyCount+changed {
		t.Fatalf("%d judgements, want %d", len(list), nastyCount+changed)
	}
	var given strings.Builder
	var verdicts []string
	for _, j := range list {
		if strings.ContainsAny(j.From+j.Signer, " []") || j.From == "" {
			data, _ := os.ReadFile(filepath.Join(dir, j.Name))
			t.Fatalf("%s: From is of %q, signatures are of %q\n%.1500q", j.Name, j.From, j.Signer, data)
		}
		if strings.Contains(j.Name, "changed") {
			fmt.Fprintln(&given, j.From, "mfrom", j.Sender[strings.Index(j.Sender, "@")+1:], spf["stranger"], j.Signer, "fail")
			verdicts = append(verdicts, j.Name+" fail quarantine dkim=fail spf=fail")
		} else {
			fmt.Fprintln(&given, j.From, "mfrom", j.Sender[strings.Index(j.Sender, "@")+1:], j.SPFResult, j.Signer, j.DKIMPy[0])
			verdicts = append(verdicts, j.Name+" pass none dkim=pass spf=pass")
		}
	}
	for i, line := range judgeDMARC(t, dns, given.String()) {
		if got := list[i].Name + " " + line; got != verdicts[i] {
			t.Errorf("Mail::DMARC: %s, want %s", got, verdicts[i])
		}
	}
	for _, j := range list {
		for judge, got := range map[string][]string{"libopendkim": j.OpenDKIM, "dkimpy": j.DKIMPy} {
			passed := len(slices.DeleteFunc(slices.Clone(got), func(s string) bool { return s != "pass" }))
			if want := map[bool]int{false: 2, true: 0}[strings.Contains(j.Name, "changed")]; passed != want {
				data, _ := os.ReadFile(filepath.Join(dir, j.Name))
				t.Errorf("%s: %s verifies %d signatures, want %d: %q\n%.3000q", j.Name, judge, passed, want, got, data)
			}
		}
	}
}

// needDMARC is need for Mail::DMARC.
func needDMARC(t *testing.T) {
	t.Helper()
	need(t, "/usr/bin/perl")
	if out, err := exec.Command("/usr/bin/perl", "-MMail::DMARC::PurePerl", "-e", "1").CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI needs libmail-dmarc-perl: %s", out)
		}
		t.Skip("libmail-dmarc-perl is not on this machine")
	}
}

// judgeDMARC returns the verdict of testdata/dmarc.pl for each line.
func judgeDMARC(t *testing.T, dns *resolvertest.Server, given string) []string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(run(t, given, "/usr/bin/perl", "testdata/dmarc.pl", strconv.Itoa(int(dns.Addr().Port())))), "\n")
	if want := strings.Count(given, "\n"); len(lines) != want {
		t.Fatalf("%d verdicts, want %d: %q", len(lines), want, lines)
	}
	return lines
}

// TestInteropDMARC: Mail::DMARC, with what the server asks to be published, lets through what leaves it: mail, bounces by the null reverse-path,
// and mail that somebody forwards; and nothing that only says it is from the domain.
func TestInteropDMARC(t *testing.T) {
	needDMARC(t)
	_, _, dns := signingServer(t)
	cases := []struct{ name, given, want string }{
		{"mail", "example.com mfrom example.com pass example.com pass", "pass none dkim=pass spf=pass"},
		{"a bounce", "example.com helo mail.example.com pass example.com pass", "pass none dkim=pass spf=pass"},
		{"forwarded", "example.com mfrom elsewhere.net pass example.com pass", "pass none dkim=pass spf=fail"},
		{"not signed", "example.com mfrom example.com pass - none", "pass none dkim=fail spf=pass"},
		{"a stranger", "example.com mfrom example.com fail - none", "fail quarantine dkim=fail spf=fail"},
		{"a stranger who signs", "example.com mfrom stranger.net pass stranger.net pass", "fail quarantine dkim=fail spf=fail"},
	}
	var given strings.Builder
	for _, c := range cases {
		given.WriteString(c.given + "\n")
	}
	lines := judgeDMARC(t, dns, given.String())
	for i, c := range cases {
		if lines[i] != c.want {
			t.Errorf("%s: %s, want %s", c.name, lines[i], c.want)
		}
	}
}

// tampered changes a signed message in one of the ways in which a signature must notice it.
func tampered(how int, data string) string {
	switch how % 4 {
	case 0:
		return "Subject: added\r\n" + data
	case 1:
		return strings.TrimRight(data, "\r\n") + "\r\nadded\r\n"
	case 2:
		return "From: mallory@example.com\r\n" + data
	}
	return "Reply-To: mallory@example.com\r\n" + data
}
