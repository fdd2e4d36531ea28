//go:build torture

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"latchkey/cli"
	"latchkey/guard"
	"latchkey/store"
)

// victim is a server as a process of its own, on a data directory that may be anywhere.
type victim struct {
	t         testing.TB
	dir       string
	binary    string
	cert, key string
	// flags are further ones for serve; wrapper is a program to start it by, which must become the server.
	flags, wrapper []string
	// where is what the test is about, for those who read of its failure.
	where string
	// heard is called with each line of the log, in order.
	heard func(line string)
	cmd   *exec.Cmd
	log   *victimLog
	doors map[string]string
	// tracer is the last that was attached, or nil.
	tracer *tracer
	// tenant owns the mailbox of that name, if the ledger has it.
	tenant *tenant
	// startup is how long the last start took.
	startup time.Duration
}

const victimPassword = "victim's password"

// delivered makes the program as it is delivered, static and without cgo, once for all tests. It lies beside the program of the tests, where `go test`
// removes both.
var delivered = sync.OnceValues(func() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	binary := self + ".delivered"
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return binary, nil
})

func buildServer(t testing.TB) string {
	t.Helper()
	binary, err := delivered()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// newVictim makes a domain with the mailbox bert in dir, which must not exist.
func newVictim(t testing.TB, dir string) *victim {
	t.Helper()
	env := newEnv(t.Context(), t.Context())
	env.Stdin, env.Stdout, env.Stderr = strings.NewReader(""), io.Discard, io.Discard
	env.LookupEnv = func(string) (string, bool) { return "", false }
	if err := cli.InitDomain(t.Context(), &env, dir, "example.com", "postmaster", "password of postmaster"); err != nil {
		t.Fatal(err)
	}
	env.Stdin = strings.NewReader(victimPassword + "\n")
	if status := cli.Run(t.Context(), env, []string{"account", "add", "bert", "--password-stdin", "--data", dir}); status != 0 {
		t.Fatalf("account add: status %d", status)
	}
	// It sends more than people do, half of it in vain.
	most := strconv.Itoa(store.MaxRecipientBudget)
	budgets := []string{"settings", "set", "hold_jumps=off", "new_recipients=" + most, "hourly_recipients=" + most, "daily_recipients=" + most,
		"domain_hourly_recipients=" + most, "domain_daily_recipients=" + most, "--confirm", "example.com", "--data", dir}
	if status := cli.Run(t.Context(), env, budgets); status != 0 {
		t.Fatalf("settings set: status %d", status)
	}
	keys := t.TempDir()
	v := &victim{
		t: t, dir: dir, binary: buildServer(t), cert: filepath.Join(keys, "cert.pem"), key: filepath.Join(keys, "key.pem"),
		flags: []string{"--relay-nameservers", labDNS(t).Addr().String()},
	}
	if err := guard.SelfSigned(v.cert, v.key, []string{"127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.kill)
	return v
}

// cheapVerifier is a verifier of victimPassword that costs next to nothing to check (8 KiB, one pass): after each of some hundred starts
// every mailbox logs in again.
const cheapVerifier = store.Verifier("$argon2id$v=19$m=8,t=1,p=1$dG9ydHVyZSdzIHNhbHQuLg$lYrC36OcmcQdntnGqWL5HisOGSC/99lT9kG4AUE40IE")

// populate adds mailboxes, with bert's password, and the aliases of [addresses]. The server is not running.
func (v *victim) populate(names ...string) {
	v.t.Helper()
	ctx := context.Background()
	st, err := openStore(ctx, v.dir)
	if err != nil {
		v.t.Fatal(err)
	}
	ids := map[string]store.AccountID{}
	for _, name := range names {
		account, err := st.AddAccount(ctx, store.Account{Name: name, Verifier: cheapVerifier})
		if err != nil {
			v.t.Fatal(err)
		}
		ids[name] = account.ID
	}
	bert, err := st.AccountByName(ctx, "bert")
	if err == nil {
		ids["bert"] = bert.ID
		bert.Verifier = cheapVerifier
		_, err = st.UpdateAccount(ctx, bert)
	}
	if err != nil {
		v.t.Fatal(err)
	}
	for alias, targets := range addresses() {
		if len(targets) == 1 && targets[0] == alias {
			continue
		}
		a := store.Alias{Name: alias}
		for _, target := range targets {
			a.Targets = append(a.Targets, ids[target])
		}
		slices.Sort(a.Targets)
		if err := st.PutAlias(ctx, a); err != nil {
			v.t.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		v.t.Fatal(err)
	}
}

// Bounds of what is kept of a victim's log.
const (
	keptLines  = 40
	keptErrors = 1000
)

// victimLog reads what a process says until it ends.
type victimLog struct {
	ready chan string   // gets the line that says so, once
	ended chan struct{} // closed when the process has closed its standard error

	mu     sync.Mutex // protects the fields below
	last   []string
	errors []string // lines of level ERROR, and panics
}

func (g *victimLog) read(r io.Reader, heard func(string)) {
	defer close(g.ended)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if strings.Contains(line, " msg=ready ") {
			select {
			case g.ready <- line:
			default: // it has said so before
			}
		}
		g.mu.Lock()
		g.last = append(g.last, line)
		if len(g.last) > keptLines {
			g.last = g.last[1:]
		}
		if (strings.Contains(line, " level=ERROR ") || strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:")) &&
			len(g.errors) < keptErrors {
			g.errors = append(g.errors, line)
		}
		g.mu.Unlock()
		if heard != nil {
			heard(line)
		}
	}
}

// tail are the last lines.
func (g *victimLog) tail() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.last, "\n")
}

// wrong are the lines about errors.
func (g *victimLog) wrong() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.errors...)
}

// says reports whether a line about an error has one of these words.
func (g *victimLog) says(words ...string) bool {
	for _, line := range g.wrong() {
		for _, w := range words {
			if strings.Contains(line, w) {
				return true
			}
		}
	}
	return false
}

// deviceErrors are the words of a device that fails.
func deviceErrors() []string {
	return []string{"input/output error", "no space left on device", "read-only file system", "too many open files"}
}

// begin starts the process; start waits until its doors are open. It dies with the test.
func (v *victim) begin() {
	v.t.Helper()
	const loopback = "127.0.0.1:0"
	args := append([]string{}, v.wrapper...)
	args = append(args, v.binary,
		"serve", "--data", v.dir, "--tls-cert", v.cert, "--tls-key", v.key, "--hostname", "mail.example.com",
		"--listen-pop3", loopback, "--listen-pop3s", loopback, "--listen-mx", loopback, "--listen-submission", loopback, "--listen-smtps", loopback,
		"--limits-connections-per-address", "5000", "--limits-connections", "5000", "--reputation-lists", "", "--limits-messages-per-mailbox", "100000")
	args = append(args, v.flags...)
	v.cmd = exec.Command(args[0], args[1:]...)
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := v.cmd.StderrPipe()
	if err != nil {
		v.t.Fatal(err)
	}
	v.log = &victimLog{ready: make(chan string, 1), ended: make(chan struct{})}
	if err := v.cmd.Start(); err != nil {
		v.cmd = nil
		v.t.Fatal(err)
	}
	go v.log.read(log, v.heard)
}

func (v *victim) start() {
	v.t.Helper()
	began := time.Now()
	if err := v.tryStart(); err != nil {
		v.t.Fatalf("%s: %v\n%s", v.where, err, v.log.tail())
	}
	v.startup = time.Since(began)
}

// tryStart is start for a process that may have reasons not to.
func (v *victim) tryStart() error {
	v.t.Helper()
	v.begin()
	over := time.NewTimer(patience)
	defer over.Stop()
	select {
	case line := <-v.log.ready:
		v.doors = map[string]string{}
		for _, field := range strings.Fields(line) {
			if name, value, ok := strings.Cut(field, "="); ok {
				v.doors[name] = value
			}
		}
		return nil
	case <-v.log.ended:
		err := v.cmd.Wait()
		v.cmd = nil
		return fmt.Errorf("the server is not ready: %w", err)
	case <-over.C:
		return fmt.Errorf("the server is not ready after %s", patience)
	}
}

// kill ends the process at once and waits for it.
func (v *victim) kill() {
	if v.cmd == nil {
		return
	}
	_ = v.cmd.Process.Kill() // it may have ended by itself
	if v.tracer != nil {
		v.tracer.signal(syscall.SIGCONT) // who traces hears of a death first
	}
	v.reap()
}

// stop ends the process in good order.
func (v *victim) stop() {
	v.t.Helper()
	if err := v.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		v.t.Errorf("the server had ended by itself: %v\n%s", err, v.log.tail())
	}
	over := time.AfterFunc(patience, func() {
		v.t.Errorf("the server does not stop\n%s", v.log.tail())
		_ = v.cmd.Process.Kill() // it may have ended in this moment
	})
	defer over.Stop()
	v.reap()
}

func (v *victim) reap() {
	select {
	case <-v.log.ended:
	case <-time.After(patience): // somebody else holds its standard error
		v.t.Errorf("the log of a dead server does not end")
	}
	_ = v.cmd.Wait() // killed, or a stop whose words are in the log
	v.cmd = nil
}

// told reports whether anything was found up to here: the test is to end then.
func (v *victim) told(l *ledger) bool {
	v.t.Helper()
	return l.report(v.t, v.where) || v.t.Failed()
}

// healthy complains of a process that has ended by itself, or said that something is wrong, where nothing was done to it.
func (v *victim) healthy() {
	v.t.Helper()
	select {
	case <-v.log.ended:
		v.t.Errorf("%s: the server has ended by itself\n%s", v.where, v.log.tail())
	default:
	}
	for i, line := range v.log.wrong() {
		if i == 5 {
			break
		}
		v.t.Errorf("%s: the server says: %s", v.where, line)
	}
}

// command runs a command on the victim's data, and returns what it printed.
func (v *victim) command(args ...string) string {
	v.t.Helper()
	out, err := v.tryCommand(args...)
	if err != nil {
		v.t.Fatal(err)
	}
	return out
}

// tryCommand is command for one that may fail.
func (v *victim) tryCommand(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	env := newEnv(ctx, ctx)
	var out, errs strings.Builder
	env.Stdin, env.Stdout, env.Stderr = strings.NewReader(""), &out, &errs
	env.LookupEnv = func(string) (string, bool) { return "", false }
	if status := cli.Run(ctx, env, append(args, "--data", v.dir)); status != 0 {
		return out.String(), fmt.Errorf("latchkey %s: status %d: %s%s", strings.Join(args, " "), status, out.String(), errs.String())
	}
	return out.String(), nil
}

// sound wants check to find nothing.
func (v *victim) sound() {
	v.t.Helper()
	if _, err := v.tryCommand("check"); err != nil {
		v.t.Errorf("%s: %v", v.where, err)
	}
}
