//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/store"
	"latchkey/store/boltstore"
)

// Of every server.
const (
	domain   = "example.com"
	password = "secretsecret"
	// users is the number of mailboxes that loads are spread over: user0 to user199.
	users = 200
)

// server is what loads are sent to.
type server interface {
	name() string
	// smtp and pop3 are addresses; pop3 is empty if nothing can be fetched.
	smtp() string
	pop3() string
	// fetchable returns when all that was acknowledged can be fetched.
	fetchable(ctx context.Context) error
	// cpu is what all processes of the server used so far, in seconds.
	cpu(ctx context.Context) (float64, error)
}

// latchkey is our server, as a process of its own.
type latchkey struct {
	binary, dir, log string
	cert, key        string
	mx, pop, pops    string
	// level is of the log; "" is the default.
	level string
	// connections bounds those of one door; 0 is the default.
	connections int
	// sniff leaves it on where it is by default: then the first greeting waits, to see whether the client begins with TLS.
	sniff   bool
	extra   []string // arguments
	process *process
}

// newLatchkey makes a domain with mailboxes in root/name. It does not start the server.
func newLatchkey(ctx context.Context, root, name, binary string, mailboxes []string) (*latchkey, error) {
	l := &latchkey{
		binary: binary, dir: filepath.Join(root, name), log: filepath.Join(root, name+".log"),
		cert: filepath.Join(root, "cert.pem"), key: filepath.Join(root, "key.pem"),
	}
	addrs, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	l.mx, l.pop, l.pops = addrs[0], addrs[1], addrs[2]
	if err := guard.SelfSigned(l.cert, l.key, []string{"mail." + domain, "127.0.0.1"}); err != nil {
		return nil, err
	}
	if _, err := command(ctx, nil, binary, "init", "--data", l.dir, "--domain", domain); err != nil {
		return nil, err
	}
	return l, l.inStore(ctx, func(st store.Store) error { return addMailboxes(ctx, st, mailboxes) })
}

// addMailboxes adds accounts with the one password. All have the same verifier: a login verifies it all the same.
func addMailboxes(ctx context.Context, st store.Store, names []string) error {
	verifier, err := auth.New(auth.Options{Accounts: st, Settings: st, Guard: guard.NewLogins(guard.LoginLimits{})}).Hash(ctx, password)
	for _, name := range names {
		if err != nil {
			break
		}
		_, err = st.AddAccount(ctx, store.Account{Name: name, Verifier: verifier, Created: time.Now()})
	}
	return err
}

// inStore lets f use the store while the server does not run.
func (l *latchkey) inStore(ctx context.Context, f func(store.Store) error) error {
	st, err := boltstore.Open(ctx, l.dir, boltstore.Options{LockTimeout: stopTime})
	if err != nil {
		return err
	}
	return errors.Join(f(st), st.Close())
}

// start starts the server and returns how long it took from the start of the process to the POP3 greeting.
func (l *latchkey) start(ctx context.Context) (time.Duration, error) {
	args := []string{
		"serve", "--data", l.dir, "--hostname", "mail." + domain, "--tls-cert", l.cert, "--tls-key", l.key,
		"--listen-mx", l.mx, "--listen-pop3", l.pop, "--listen-pop3s", l.pops, "--listen-submission=", "--listen-smtps=",
		"--limits-connections-per-address", "1000", "--limits-messages-per-mailbox", "100000", "--reputation-lists=",
	}
	if l.level != "" {
		args = append(args, "--log-level", l.level)
	}
	if !l.sniff {
		args = append(args, "--listen-sniff=")
	}
	if l.connections > 0 {
		args = append(args, "--limits-connections", strconv.Itoa(l.connections))
	}
	args = append(args, l.extra...)
	begin := time.Now()
	p, err := startProcess(l.log, l.binary, args...)
	if err != nil {
		return 0, err
	}
	l.process = p
	return p.greeting(ctx, l.pop, begin)
}

// stop ends the server in order, kill does not. Both do nothing if it does not run.
func (l *latchkey) stop() error { return l.end(syscall.SIGTERM) }
func (l *latchkey) kill() error { return l.end(syscall.SIGKILL) }

func (l *latchkey) end(signal syscall.Signal) error {
	if l == nil || l.process == nil {
		return nil
	}
	p := l.process
	l.process = nil
	return p.end(signal)
}

func (l *latchkey) pid() int                             { return l.process.cmd.Process.Pid }
func (l *latchkey) name() string                         { return us }
func (l *latchkey) smtp() string                         { return l.mx }
func (l *latchkey) pop3() string                         { return l.pop }
func (l *latchkey) fetchable(context.Context) error      { return nil } // it is at the 250
func (l *latchkey) cpu(context.Context) (float64, error) { return cpuOf(l.pid()) }

// Peers, as the table names them.
const (
	lmtpPeer    = "Postfix + Dovecot LMTP"
	virtualPeer = "Postfix virtual"
	sinkPeer    = "go-smtp sink"
)

// peer is Postfix and Dovecot, started by a script of the tools.
type peer struct {
	title, script, root string
	env                 []string
	started             bool
}

func newPeer(title, delivery, tools, root string) *peer {
	return &peer{
		title: title, script: filepath.Join(tools, "peers", "run-postfix-dovecot.sh"), root: root,
		env: []string{"ROOT=" + root, "PASS=" + password, "USERS=" + strconv.Itoa(users), "DELIVERY=" + delivery},
	}
}

func (p *peer) start(ctx context.Context) error {
	for _, addr := range []string{p.smtp(), p.pop3()} { // otherwise we would measure what somebody else left running
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("%s: its port is not free: %w", p.title, err)
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	p.started = true
	_, err := command(ctx, p.env, p.script, "start")
	return err
}

// stop ends the peer; it does nothing if it was not started.
func (p *peer) stop(ctx context.Context) error {
	if !p.started {
		return nil
	}
	p.started = false
	_, err := command(context.WithoutCancel(ctx), p.env, p.script, "stop")
	return err
}

func (p *peer) name() string { return p.title }
func (p *peer) smtp() string { return "127.0.0.1:20025" }
func (p *peer) pop3() string { return "127.0.0.1:20110" }

// fetchable returns when Postfix's queue is empty: a message leaves it when it is in its mailbox.
func (p *peer) fetchable(ctx context.Context) error {
	for begin := time.Now(); ; {
		queued, err := p.queued()
		if err != nil || !queued {
			return err
		}
		if time.Since(begin) > settleTime {
			return fmt.Errorf("%s: the queue does not become empty", p.title)
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// queued reports whether there is a message in the queue. Directories are read in the order in which messages go through them.
func (p *peer) queued() (bool, error) {
	found := errors.New("found")
	for _, queue := range []string{"maildrop", "incoming", "active", "deferred"} {
		err := filepath.WalkDir(filepath.Join(p.root, "peer-postfix", "spool", queue), func(_ string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && d != nil { // gone since its directory was read
				return nil
			}
			if err == nil && d.Type().IsRegular() {
				return found
			}
			return err
		})
		if errors.Is(err, found) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

var cpuSeconds = regexp.MustCompile(`cpu_s=([0-9.]+)`)

func (p *peer) cpu(ctx context.Context) (seconds float64, err error) {
	out, err := command(ctx, p.env, p.script, "usage")
	if err != nil {
		return 0, err
	}
	groups := cpuSeconds.FindAllStringSubmatch(string(out), -1)
	if len(groups) != 2 { // Postfix, and Dovecot
		return 0, fmt.Errorf("%s: usage says %q", p.title, out)
	}
	for _, g := range groups {
		n, err := strconv.ParseFloat(g[1], 64)
		if err != nil {
			return 0, err
		}
		seconds += n
	}
	return seconds, nil
}

// sink is the go-smtp server that appends mail to a log, with one fdatasync a group.
type sink struct {
	binary, root string
	addrs        []string
	process      *process
}

func newSink(root, binary string) (*sink, error) {
	addrs, err := freePorts(2)
	return &sink{binary: binary, root: root, addrs: addrs}, err
}

func (s *sink) start(ctx context.Context) error {
	p, err := startProcess(filepath.Join(s.root, "sink.out"), s.binary, "-impl", "gosmtp", "-store", "wal",
		"-smtp", s.addrs[0], "-pop3", s.addrs[1], "-log", s.logFile())
	if err != nil {
		return err
	}
	s.process = p
	_, err = p.greeting(ctx, s.addrs[0], time.Now())
	return err
}

func (s *sink) logFile() string { return filepath.Join(s.root, "sink.log") }

// stop ends the sink and removes its log; it does nothing if it does not run.
func (s *sink) stop() error {
	if s.process == nil {
		return nil
	}
	p := s.process
	s.process = nil
	return errors.Join(p.end(syscall.SIGKILL), os.Remove(s.logFile()))
}

func (s *sink) name() string                         { return sinkPeer }
func (s *sink) smtp() string                         { return s.addrs[0] }
func (s *sink) pop3() string                         { return "" }
func (s *sink) fetchable(context.Context) error      { return nil }
func (s *sink) cpu(context.Context) (float64, error) { return cpuOf(s.process.cmd.Process.Pid) }

// mailboxNames are user0 and so on.
func mailboxNames(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = prefix + strconv.Itoa(i)
	}
	return names
}

// lastLine is the last line of an output.
func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
