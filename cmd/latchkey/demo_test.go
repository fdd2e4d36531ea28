package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"latchkey/cli"
)

// runningDemo is a demo in this process.
type runningDemo struct {
	t      *testing.T
	dir    string
	out    *logBuffer
	cancel context.CancelFunc
	ended  chan error
	facts  map[string]string
}

// startDemo runs a demo and returns when demo.env is there.
func startDemo(t *testing.T, dir string, base int) *runningDemo {
	t.Helper()
	stop, cancel := context.WithCancel(context.Background())
	d := &runningDemo{t: t, dir: dir, out: &logBuffer{}, cancel: cancel, ended: make(chan error, 1)}
	env := newEnv(stop, stop)
	env.Stdout, env.Stderr = d.out, &logBuffer{}
	printed := make(chan struct{})
	env.Stdout = &firstWrite{logBuffer: d.out, done: printed}
	go func() { d.ended <- demo(stop, context.Background(), env, cli.Demo{Dir: dir, PortBase: base}) }()
	select {
	case <-printed:
	case err := <-d.ended:
		cancel()
		t.Fatalf("the demo ended: %v", err)
	}
	t.Cleanup(d.stop)
	facts, err := readFacts(dir)
	if err != nil {
		t.Fatal(err)
	}
	d.facts = facts
	return d
}

// firstWrite closes done when something was written.
type firstWrite struct {
	*logBuffer
	done chan struct{}
}

func (w *firstWrite) Write(p []byte) (int, error) {
	defer func() {
		if w.done != nil {
			close(w.done)
			w.done = nil
		}
	}()
	return w.logBuffer.Write(p)
}

// stop is Ctrl-C.
func (d *runningDemo) stop() {
	d.t.Helper()
	d.cancel()
	if err, running := <-d.ended; running {
		close(d.ended)
		if err != nil {
			d.t.Errorf("the demo ended: %v", err)
		}
	}
}

// freeBase finds a port base whose ports are all free.
func freeBase(t *testing.T) int {
	t.Helper()
	for range 100 {
		base := 20_000 + 1000*rand.IntN(30) + rand.IntN(25)
		free := true
		for _, offset := range []int{offsetMX, offsetPOP3, offsetSMTPS, offsetSubmission, offsetPOP3S, offsetWeb} {
			l, err := net.Listen("tcp", demoAddress(base, offset)[0])
			if err != nil {
				free = false
				continue
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if free {
			return base
		}
	}
	t.Fatal("no free ports")
	return 0
}

// roundTrip sends a message from the first mailbox to the second with what demo.env says, and returns the subjects that are there.
func (d *runningDemo) roundTrip(subject string) []string {
	d.t.Helper()
	f := d.facts
	pem, err := os.ReadFile(f["CA_FILE"])
	if err != nil {
		d.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	secure := &tls.Config{RootCAs: roots, ServerName: f["HOST"]}
	client, err := smtp.Dial(net.JoinHostPort(f["HOST"], f["SUBMISSION_PORT"]))
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = client.Close() }() // after QUIT
	err = errors.Join(client.StartTLS(secure), client.Auth(smtp.PlainAuth("", f["USER1"], f["PASS1"], f["HOST"])))
	if err == nil {
		err = transact(client, f["USER1"], []string{f["USER2"]}, message(subject))
	}
	if err != nil {
		d.t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", net.JoinHostPort(f["HOST"], f["POP3S_PORT"]), secure)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // after QUIT
	p := (&testServer{t: d.t}).popOn(conn)
	if err := p.login(f["USER2"], f["PASS2"]); err != nil {
		d.t.Fatal(err)
	}
	var subjects []string
	for i := range strings.Count(p.multi("LIST"), "\n") {
		header, _, _ := strings.Cut(p.multi("TOP %d 0", i+1), "\n\n")
		_, rest, _ := strings.Cut("\n"+header, "\nSubject: ")
		subject, _, _ := strings.Cut(rest, "\n")
		subjects = append(subjects, subject)
	}
	p.must("QUIT")
	return subjects
}

// TestDemoTwice: demo.env has exactly its names; a second start goes on with the same data and passwords; another demo runs beside it.
func TestDemoTwice(t *testing.T) {
	dir, base := filepath.Join(t.TempDir(), "it's a demo"), freeBase(t)
	d := startDemo(t, dir, base)
	first := d.facts
	text, err := os.ReadFile(filepath.Join(dir, "demo.env"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, "=")
		names = append(names, name)
	}
	want := "HOST DOMAIN POP3_PORT POP3S_PORT SMTP_PORT SUBMISSION_PORT SMTPS_PORT USER1 PASS1 USER2 PASS2 CA_FILE PID WEB_URL"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("demo.env: got %s, want %s", got, want)
	}
	if first["HOST"] != "127.0.0.1" || first["DOMAIN"] != "demo.localhost" || first["USER1"] != "alice@demo.localhost" || first["USER2"] != "bob@demo.localhost" ||
		first["PID"] != strconv.Itoa(os.Getpid()) || first["SMTP_PORT"] != strconv.Itoa(base+25) ||
		first["WEB_URL"] != "http://localhost:"+strconv.Itoa(base+80) || !filepath.IsAbs(first["CA_FILE"]) {
		t.Errorf("facts: got %v", first)
	}
	if info, err := os.Stat(filepath.Join(dir, "demo.env")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("demo.env: %v, %v", info.Mode(), err)
	}
	if got := fmt.Sprint(d.roundTrip("one")); got != "[one]" {
		t.Errorf("got %s", got)
	}

	beside := startDemo(t, filepath.Join(t.TempDir(), "beside"), freeBase(t))
	if got := fmt.Sprint(beside.roundTrip("other")); got != "[other]" || beside.facts["PASS1"] == first["PASS1"] {
		t.Errorf("beside: got %s", got)
	}

	d.stop()
	d = startDemo(t, dir, base)
	if d.facts["PASS1"] != first["PASS1"] || d.facts["PASS2"] != first["PASS2"] {
		t.Errorf("other passwords: %v, were %v", d.facts, first)
	}
	if got := fmt.Sprint(d.roundTrip("two")); got != "[one two]" {
		t.Errorf("second start: got %s", got)
	}
	if _, err := os.Stat(filepath.Join(dir, factsOldFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left behind: %v", factsOldFile, err)
	}
}

// TestDemoLosesNoPassword: passwords survive a start that did not come to its end; without any facts the mailboxes get new ones.
func TestDemoLosesNoPassword(t *testing.T) {
	dir, base := filepath.Join(t.TempDir(), "demo"), freeBase(t)
	d := startDemo(t, dir, base)
	first := d.facts
	d.stop()
	if err := putFactsAside(dir); err != nil {
		t.Fatal(err)
	}
	d = startDemo(t, dir, base)
	if d.facts["PASS1"] != first["PASS1"] || d.facts["PASS2"] != first["PASS2"] {
		t.Errorf("after a broken start: got %v, want %v", d.facts, first)
	}
	d.stop()
	if err := os.Remove(filepath.Join(dir, factsFile)); err != nil {
		t.Fatal(err)
	}
	d = startDemo(t, dir, base)
	if d.facts["PASS1"] == first["PASS1"] || d.facts["PASS2"] == first["PASS2"] {
		t.Error("passwords that nobody has written down were not replaced")
	}
	if got := fmt.Sprint(d.roundTrip("x")); got != "[x]" {
		t.Errorf("got %s", got)
	}
}

func TestDemoSaysWhatIsInItsWay(t *testing.T) {
	dir, base := filepath.Join(t.TempDir(), "demo"), freeBase(t)
	env := newEnv(t.Context(), t.Context())
	env.Stdout, env.Stderr = &logBuffer{}, &logBuffer{}
	try := func(d cli.Demo) string {
		t.Helper()
		err := demo(t.Context(), t.Context(), env, d)
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Fatalf("got %v, want one line", err)
		}
		return err.Error()
	}
	taken, err := net.Listen("tcp", demoAddress(base, offsetSubmission)[0])
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("listen.submission: listen tcp 127.0.0.1:%d: bind: address already in use; --port-base chooses other ports", base+587)
	if got := try(cli.Demo{Dir: dir, PortBase: base}); got != want {
		t.Errorf("port in use: got %q, want %q", got, want)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, factsFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("demo.env is there and no demo is: %v", err)
	}

	running := startDemo(t, dir, base)
	if got := try(cli.Demo{Dir: dir, PortBase: freeBase(t)}); !strings.Contains(got, dir+" is in use by another process") {
		t.Errorf("directory in use: got %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, factsFile)); err != nil {
		t.Errorf("the running demo lost its demo.env: %v", err)
	}
	running.stop()
	if got := try(cli.Demo{Dir: dir, PortBase: base, Domain: "other.example"}); !strings.Contains(got, "holds the domain demo.localhost already") {
		t.Errorf("other domain: got %q", got)
	}
}

func TestFactsAreShellSafe(t *testing.T) {
	need(t, "sh")
	for _, value := range []string{"", "plain", "a b", "it's", "$HOME `id` \"x\" \\ * ; &", "'", "''", "ü", "a=b", "#c", "~"} {
		if got := unquote(quote(value)); got != value {
			t.Errorf("%q: read back as %q", value, got)
		}
		dir := t.TempDir()
		if err := writeFacts(dir, []fact{{"VALUE", value}}); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("sh", "-c", `. "$0/demo.env" && printf %s "$VALUE"`, dir).CombinedOutput()
		if err != nil || string(out) != value {
			t.Errorf("%q: a shell reads %q, %v", value, out, err)
		}
	}
}

// TestDemoPrintsWhatWorks runs the curl and swaks lines that the demo prints, as they stand.
func TestDemoPrintsWhatWorks(t *testing.T) {
	need(t, "sh", "curl", "swaks")
	d := startDemo(t, filepath.Join(t.TempDir(), "demo"), freeBase(t))
	text := d.out.String()
	if !regexp.MustCompile(`SHA-256 [0-9a-f]{64}`).MatchString(text) || strings.Contains(text, "{") {
		t.Errorf("printed:\n%s", text)
	}
	joined := regexp.MustCompile(`(\\|\|)\n +`).ReplaceAllString(text, "$1 ")
	ran := 0
	for line := range strings.Lines(strings.ReplaceAll(joined, "\\ ", " ")) {
		command := strings.TrimSpace(line)
		if !strings.HasPrefix(command, "printf ") && !strings.HasPrefix(command, "swaks ") && !strings.HasPrefix(command, "curl ") {
			continue
		}
		ran++
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err != nil || strings.Contains(command, "/1 -u ") && !strings.Contains(string(out), "One key, both doors.") {
			t.Errorf("$ %s\n%s%v", command, out, err)
		}
	}
	if ran != 6 {
		t.Errorf("ran %d of the lines, want 6:\n%s", ran, text)
	}
}
