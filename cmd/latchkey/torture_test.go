//go:build torture

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"latchkey/cli"
	"latchkey/guard"
)

// rounds is how often a torture is repeated: fewer times with LATCHKEY_TORTURE=short, as in CI.
func rounds(long, short int) int {
	if os.Getenv("LATCHKEY_TORTURE") == "short" {
		return short
	}
	return long
}

// victim is a server as a process of its own, on a data directory that may be anywhere.
type victim struct {
	t         testing.TB
	dir       string
	cert, key string
	// flags are further ones for serve.
	flags   []string
	cmd     *exec.Cmd
	doors   map[string]string
	drained chan struct{}
}

const victimPassword = "victim's password"

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
	keys := t.TempDir()
	v := &victim{
		t: t, dir: dir, cert: filepath.Join(keys, "cert.pem"), key: filepath.Join(keys, "key.pem"),
		flags: []string{"--relay-nameservers", labDNS(t).Addr().String()},
	}
	if err := guard.SelfSigned(v.cert, v.key, []string{"127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.kill() })
	return v
}

// begin starts the process; ready waits until its doors are open.
func (v *victim) begin() *bufio.Scanner {
	v.t.Helper()
	self, err := os.Executable()
	if err != nil {
		v.t.Fatal(err)
	}
	const loopback = "127.0.0.1:0"
	v.cmd = exec.Command(self, append([]string{
		"serve", "--data", v.dir, "--tls-cert", v.cert, "--tls-key", v.key, "--hostname", "mail.example.com",
		"--listen-pop3", loopback, "--listen-pop3s", loopback, "--listen-mx", loopback, "--listen-submission", loopback, "--listen-smtps", loopback,
		"--limits-connections-per-address", "5000", "--limits-connections", "5000",
	}, v.flags...)...)
	v.cmd.Env = append(os.Environ(), runMainVariable+"=1")
	log, err := v.cmd.StderrPipe()
	if err != nil {
		v.t.Fatal(err)
	}
	if err := v.cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	return bufio.NewScanner(log)
}

func (v *victim) start() {
	v.t.Helper()
	lines := v.begin()
	v.doors = map[string]string{}
	for len(v.doors) == 0 && lines.Scan() {
		if strings.Contains(lines.Text(), "msg=ready") {
			for _, field := range strings.Fields(lines.Text()) {
				if name, value, ok := strings.Cut(field, "="); ok {
					v.doors[name] = value
				}
			}
		} else if strings.Contains(lines.Text(), "level=ERROR") {
			v.t.Log(lines.Text())
		}
	}
	if len(v.doors) == 0 {
		v.t.Fatalf("the server is not ready: %v", v.cmd.Wait())
	}
	v.drained = make(chan struct{})
	go func(drained chan struct{}) {
		defer close(drained)
		for lines.Scan() { // so that it can go on logging
		}
	}(v.drained)
}

// kill ends the process at once and waits for it.
func (v *victim) kill() {
	if v.cmd == nil {
		return
	}
	_ = v.cmd.Process.Kill() // it may have ended by itself
	if v.drained != nil {
		<-v.drained
	}
	_ = v.cmd.Wait() // killed
	v.cmd, v.drained = nil, nil
}

// ledger is what clients were told.
type ledger struct {
	mu    sync.Mutex      // protects the fields below
	acked map[string]bool // token -> the message was acknowledged (else: sent, and no answer)
	uids  map[string]string
	count atomic.Int64 // acknowledged ones
}

func newLedger() *ledger { return &ledger{acked: map[string]bool{}, uids: map[string]string{}} }

func (l *ledger) note(token string, acked bool) {
	l.mu.Lock()
	l.acked[token] = acked
	l.mu.Unlock()
	if acked {
		l.count.Add(1)
	}
}

// smtpDialogue returns a function that sends a text, unless it is empty, and wants a reply that begins in a certain way.
func smtpDialogue(conn net.Conn) (ask func(text, want string) error) {
	r := bufio.NewReader(conn)
	return func(text, want string) error {
		if _, err := io.WriteString(conn, text); err != nil {
			return err
		}
		for {
			line, err := r.ReadString('\n')
			switch {
			case err != nil:
				return err
			case len(line) > 3 && line[3] == '-':
			case !strings.HasPrefix(line, want):
				return fmt.Errorf("%.10q: got %q", text, line)
			default:
				return nil
			}
		}
	}
}

// deliver sends messages until the connection breaks or limit is reached. Every attempt has its own token.
func (v *victim) deliver(l *ledger, name string, limit, size int) error {
	conn, err := net.DialTimeout("tcp", v.doors["mx"], patience)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		return err
	}
	ask := smtpDialogue(conn)
	if err := errors.Join(ask("", "220"), ask("EHLO torture.example\r\n", "250")); err != nil {
		return err
	}
	padding := strings.Repeat(strings.Repeat("p", 70)+"\r\n", size/72)
	for i := range limit {
		token := fmt.Sprintf("%s-%d", name, i)
		if err := ask("MAIL FROM:<torture@other.example>\r\n", "250"); err != nil {
			return err
		}
		if err := ask("RCPT TO:<bert@example.com>\r\n", "250"); err != nil {
			return err
		}
		if err := ask("DATA\r\n", "354"); err != nil {
			return err
		}
		l.note(token, false)
		if err := ask("X-Token: "+token+"\r\n\r\n"+padding+".\r\n", "250"); err != nil {
			return err
		}
		l.note(token, true)
	}
	return nil
}

// command runs a command on the victim's data, and returns what it printed.
func (v *victim) command(args ...string) string {
	v.t.Helper()
	env := newEnv(v.t.Context(), v.t.Context())
	var out, errs strings.Builder
	env.Stdin, env.Stdout, env.Stderr = strings.NewReader(""), &out, &errs
	env.LookupEnv = func(string) (string, bool) { return "", false }
	if status := cli.Run(context.Background(), env, append(args, "--data", v.dir)); status != 0 {
		v.t.Fatalf("%s: status %d: %s", strings.Join(args, " "), status, errs.String())
	}
	return out.String()
}

// mail reads every message of bert's maildrop.
func (v *victim) mail() []string {
	v.t.Helper()
	conn, r := v.login()
	defer func() { _ = conn.Close() }()
	messages := make([]string, len(v.multi(conn, r, "LIST")))
	for i := range messages {
		messages[i] = strings.Join(v.multi(conn, r, fmt.Sprintf("RETR %d", i+1)), "\n")
	}
	v.ask(conn, r, "QUIT")
	return messages
}

// fetched is what a maildrop held.
type fetched struct {
	uid, token string
}

// fetch reads bert's whole maildrop.
func (v *victim) fetch() []fetched {
	v.t.Helper()
	conn, r := v.login()
	defer func() { _ = conn.Close() }()
	var list []fetched
	for _, line := range v.multi(conn, r, "UIDL") {
		var n int
		var uid string
		if _, err := fmt.Sscanf(line, "%d %s", &n, &uid); err != nil {
			v.t.Fatalf("UIDL line %q: %v", line, err)
		}
		list = append(list, fetched{uid: uid})
	}
	for i := range list {
		for _, line := range v.multi(conn, r, fmt.Sprintf("RETR %d", i+1)) {
			if token, ok := strings.CutPrefix(line, "X-Token: "); ok {
				list[i].token = token
			}
		}
	}
	v.ask(conn, r, "QUIT")
	return list
}

func (v *victim) login() (net.Conn, *bufio.Reader) {
	v.t.Helper()
	conn, err := net.DialTimeout("tcp", v.doors["pop3"], patience)
	if err != nil {
		v.t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		v.t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	v.ask(conn, r, "")
	v.ask(conn, r, "USER bert")
	v.ask(conn, r, "PASS "+victimPassword)
	return conn, r
}

func (v *victim) ask(conn net.Conn, r *bufio.Reader, command string) string {
	v.t.Helper()
	if command != "" {
		if _, err := io.WriteString(conn, command+"\r\n"); err != nil {
			v.t.Fatal(err)
		}
	}
	line, err := r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "+OK") {
		v.t.Fatalf("%s: got %q (%v)", command, line, err)
	}
	return line
}

func (v *victim) multi(conn net.Conn, r *bufio.Reader, command string) []string {
	v.t.Helper()
	v.ask(conn, r, command)
	var lines []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			v.t.Fatalf("%s: %v", command, err)
		}
		if line == ".\r\n" {
			return lines
		}
		lines = append(lines, strings.TrimSuffix(strings.TrimPrefix(line, "."), "\r\n"))
	}
}

// removeAll deletes everything by POP3 and waits for the answer.
func (v *victim) removeAll() {
	v.t.Helper()
	conn, r := v.login()
	defer func() { _ = conn.Close() }()
	for i := range v.multi(conn, r, "LIST") {
		v.ask(conn, r, fmt.Sprintf("DELE %d", i+1))
	}
	v.ask(conn, r, "QUIT")
}

// judge compares the maildrop with what clients were told: acknowledged exactly once, unanswered at most once, no unique-id for two
// messages ever.
func (v *victim) judge(l *ledger) {
	v.t.Helper()
	seen := map[string]int{}
	for _, f := range v.fetch() {
		seen[f.token]++
		if _, sent := l.acked[f.token]; !sent {
			v.t.Errorf("a message with token %q, which nobody sent or which was deleted", f.token)
		}
		if before, known := l.uids[f.uid]; known && before != f.token {
			v.t.Errorf("unique-id %s was given to %q and to %q", f.uid, before, f.token)
		}
		l.uids[f.uid] = f.token
	}
	lost, twice, unanswered := 0, 0, 0
	for token, acked := range l.acked {
		switch n := seen[token]; {
		case acked && n == 0:
			lost++
			v.t.Errorf("acknowledged and lost: %s", token)
		case n > 1:
			twice++
			v.t.Errorf("stored %d times: %s", n, token)
		case !acked:
			unanswered++
		}
	}
	v.t.Logf("%d acknowledged, %d unanswered, %d lost, %d twice", l.count.Load(), unanswered, lost, twice)
}

// forget begins a new account after everything was deleted; unique-ids are remembered.
func (l *ledger) forget() {
	l.acked = map[string]bool{}
	l.count.Store(0)
}

// load delivers from some senders at once until stopped or broken off; it returns when all have ended.
func (v *victim) load(l *ledger, name string, senders, each, size int) (wait func()) {
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() { _ = v.deliver(l, fmt.Sprintf("%s-%d", name, i), each, size) }) // it is to break off
	}
	return wg.Wait
}

// until waits until so many messages were acknowledged.
func (l *ledger) until(t testing.TB, n int64) {
	t.Helper()
	deadline := time.After(2 * patience)
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for l.count.Load() < n {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d acknowledged, want %d", l.count.Load(), n)
		}
	}
}

// TestTortureKill kills the process in the middle of 1,000 deliveries, again and again on the same data.
func TestTortureKill(t *testing.T) {
	v, l := newVictim(t, filepath.Join(t.TempDir(), "data")), newLedger()
	for round := range rounds(20, 4) {
		v.start()
		wait := v.load(l, fmt.Sprintf("kill%d", round), 16, 1000/16+1, 200+rand.IntN(4000))
		l.until(t, 50+rand.Int64N(900))
		v.kill()
		wait()
		v.start()
		v.judge(l)
		v.removeAll()
		if left := v.fetch(); len(left) != 0 {
			t.Errorf("%d messages left after an acknowledged QUIT", len(left))
		}
		l.forget()
		v.kill()
	}
}

// TestTortureQuit kills the process around QUIT: the deletes happen all or not at all, and all if QUIT was answered +OK.
func TestTortureQuit(t *testing.T) {
	const messages = 100
	v, l := newVictim(t, filepath.Join(t.TempDir(), "data")), newLedger()
	all, none := 0, 0
	for round := range rounds(40, 8) {
		v.start()
		if err := v.deliver(l, fmt.Sprintf("quit%d", round), messages, 500); err != nil {
			t.Fatal(err)
		}
		conn, r := v.login()
		var commands strings.Builder
		for n := range messages {
			fmt.Fprintf(&commands, "DELE %d\r\n", n+1)
		}
		if _, err := io.WriteString(conn, commands.String()+"QUIT\r\n"); err != nil {
			t.Fatal(err)
		}
		answered := make(chan bool)
		go func() {
			replies, _ := io.ReadAll(r)
			answered <- strings.Contains(string(replies), "+OK bye")
		}()
		timer := time.NewTimer(time.Duration(rand.IntN(4000)) * time.Microsecond)
		<-timer.C
		v.kill()
		ok := <-answered
		_ = conn.Close()
		v.start()
		switch left := v.fetch(); {
		case len(left) == 0:
			all++
		case len(left) == messages && !ok:
			none++
		default:
			t.Fatalf("%d of %d messages left; QUIT was answered: %v", len(left), messages, ok)
		}
		v.judgeUIDs(l)
		v.removeAll()
		v.kill()
	}
	t.Logf("all deleted %d times, none %d times", all, none)
}

// judgeUIDs looks at unique-ids only.
func (v *victim) judgeUIDs(l *ledger) {
	v.t.Helper()
	for _, f := range v.fetch() {
		if before, known := l.uids[f.uid]; known && before != f.token {
			v.t.Errorf("unique-id %s was given to %q and to %q", f.uid, before, f.token)
		}
		l.uids[f.uid] = f.token
	}
}

// TestTortureRetr cuts the client off in the middle of RETR, with messages marked as deleted: nothing is deleted.
func TestTortureRetr(t *testing.T) {
	v, l := newVictim(t, filepath.Join(t.TempDir(), "data")), newLedger()
	v.start()
	if err := v.deliver(l, "retr", 5, 2<<20); err != nil {
		t.Fatal(err)
	}
	for range rounds(20, 5) {
		conn, r := v.login()
		if _, err := io.WriteString(conn, "DELE 1\r\nDELE 2\r\nRETR 3\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, r, 1+rand.Int64N(1<<20)); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	v.judge(l)
	if left := v.fetch(); len(left) != 5 {
		t.Errorf("%d messages left, want 5", len(left))
	}
}

func command(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// mount mounts an ext4 image and unmounts it when the test ends.
func mountImage(t testing.TB, image, dir string) (unmount func()) {
	t.Helper()
	command(t, "mount", "-o", "loop", image, dir)
	once := sync.OnceFunc(func() { command(t, "umount", dir) })
	t.Cleanup(once)
	return once
}

// TestTorturePowerCut cuts the power: the image that the data directory is on is copied while the server is stopped in its tracks, so
// the copy has only what had reached the device. The server starts on the copy, and some times is cut again while it recovers.
func TestTorturePowerCut(t *testing.T) {
	needRoot(t, "mkfs.ext4", "mount", "umount", "cp")
	work := t.TempDir()
	image, dir := filepath.Join(work, "new.img"), filepath.Join(work, "mnt")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	command(t, "truncate", "-s", "512M", image)
	command(t, "mkfs.ext4", "-q", "-F", image)
	unmount := mountImage(t, image, dir)
	v, l := newVictim(t, filepath.Join(dir, "data")), newLedger()
	cut := func(round string) {
		t.Helper()
		if err := v.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		next := filepath.Join(work, round+".img")
		command(t, "cp", "--sparse=always", image, next)
		v.kill()
		unmount()
		if err := os.Remove(image); err != nil {
			t.Fatal(err)
		}
		image = next
		unmount = mountImage(t, image, dir)
	}
	for round := range rounds(10, 2) {
		v.start()
		wait := v.load(l, fmt.Sprintf("cut%d", round), 16, 1000, 200+rand.IntN(6000))
		l.until(t, 20+rand.Int64N(500))
		cut(fmt.Sprint(round))
		wait()
		if round%2 == 1 {
			v.begin()
			<-time.After(time.Duration(rand.IntN(20)) * time.Millisecond)
			cut(fmt.Sprintf("%d-again", round))
		}
		v.start()
		v.judge(l)
		v.removeAll()
		l.forget()
		cut(fmt.Sprintf("%d-deleted", round))
		v.start()
		if left := v.fetch(); len(left) != 0 {
			t.Errorf("%d messages came back after an acknowledged QUIT", len(left))
		}
		v.kill()
	}
	unmount()
}

// TestTortureFailingSync lets every sync fail from some moment on: no message is acknowledged after that, reading goes on, and a new
// start has all that was acknowledged.
func TestTortureFailingSync(t *testing.T) {
	need(t, "strace")
	v, l := newVictim(t, filepath.Join(t.TempDir(), "data")), newLedger()
	v.start()
	if err := v.deliver(l, "before", 20, 3000); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	trace := exec.CommandContext(ctx, "strace", "-f", "-o", os.DevNull, "-p", fmt.Sprint(v.cmd.Process.Pid), "-e", "trace=fdatasync,fsync",
		"-e", "inject=fdatasync,fsync:error=EIO:when=20+")
	said, err := trace.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := trace.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(said).ReadString('\n'); err != nil || !strings.Contains(line, "attached") {
		t.Fatalf("strace: %q %v", line, err)
	}
	failed := false
	for i := range 50 {
		err := v.deliver(l, fmt.Sprintf("failing%d", i), 1, 3000)
		if failed && err == nil {
			t.Errorf("message %d was acknowledged after a failed sync", i)
		}
		failed = failed || err != nil
	}
	if !failed {
		t.Error("no sync failed")
	}
	acked := l.count.Load()
	if got := len(v.fetch()); int64(got) < acked {
		t.Errorf("reading after a failed sync: %d messages, want %d", got, acked)
	}
	cancel()
	_ = trace.Wait() // killed
	v.kill()
	v.start()
	v.judge(l)
}

// TestTortureFullDisk fills the device: 452, nothing lost, POP3 deletes work, and mail flows again when there is room.
func TestTortureFullDisk(t *testing.T) {
	needRoot(t, "mount", "umount")
	dir := t.TempDir()
	command(t, "mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", dir)
	t.Cleanup(func() { command(t, "umount", dir) })
	v, l := newVictim(t, filepath.Join(dir, "data")), newLedger()
	v.start()
	for turn := range 3 {
		var refused error
		for i := 0; refused == nil; i++ {
			if i > 500 {
				t.Fatal("the device does not get full")
			}
			refused = v.deliver(l, fmt.Sprintf("full%d-%d", turn, i), 1, 200<<10)
		}
		if !strings.Contains(refused.Error(), `"452 4.3.1`) {
			t.Errorf("full disk: %v, want 452 4.3.1", refused)
		}
		if turn == 1 {
			v.kill()
			v.start()
		}
		if turn > 0 && l.count.Load() < 50 {
			t.Errorf("%d messages after room was made, want many", l.count.Load())
		}
		v.judge(l)
		v.removeAll()
		v.untilAccepted(l, fmt.Sprintf("again%d", turn))
		v.removeAll()
		l.forget()
	}
	v.kill()
}

// untilAccepted delivers small messages until one is taken: a server that was full looks for room once a second.
func (v *victim) untilAccepted(l *ledger, name string) {
	v.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var err error
	for i := range 50 {
		if err = v.deliver(l, fmt.Sprintf("%s-%d", name, i), 1, 100); err == nil {
			return
		}
		<-tick.C
	}
	v.t.Fatalf("nothing is accepted although there is room: %v", err)
}
