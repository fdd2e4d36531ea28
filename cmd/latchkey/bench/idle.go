//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Of sessions that are logged in and say nothing, in part g.
const (
	idlePlain  = "memory of an idle session that is logged in"
	idleTLS    = "memory of an idle session that is logged in, TLS"
	heldTitle  = "idle sessions held by one process, alive afterwards"
	heldRate   = "deliveries of 4 KiB meanwhile, 16 connections"
	heldVisits = "login + STAT + QUIT meanwhile, 16 at a time"

	// ourIdlers and theirIdlers are how many sessions memory is measured with; mostHeld is how many are to be held in the end.
	ourIdlers, theirIdlers, mostHeld = 2000, 500, 20_000
	// heldSpare is how many descriptors of the server are left for what goes on meanwhile, and its own.
	heldSpare = 200
	// holderMost is how many sessions one process of clients holds, holderDials how many it opens at once, holderAddrs from how many
	// addresses they come.
	holderMost, holderDials, holderAddrs = 8000, 16, 200
	// restTime is how long our server rests before its memory is read: then it has given back what it does not need. theirRest is for Dovecot,
	// which gives back when a process ends.
	restTime, theirRest = 14 * time.Second, 3 * time.Second
	// heldMessages are delivered while sessions are held.
	heldMessages = 4000
)

// heldSessions is how many are to be held: no more than a process may have descriptors.
func heldSessions() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return mostHeld
	}
	return int(min(mostHeld, r.Max-heldSpare))
}

// theirIdle measures the memory of Dovecot's sessions.
func (s *sessions) theirIdle(ctx context.Context) error {
	for _, kind := range []struct{ title, addr, way string }{{idlePlain, s.dovecot.pop3(), "plain"}, {idleTLS, s.dovecot.pop3s(), "tls"}} {
		if err := s.dovecot.logins(ctx, dovecotLogins); err != nil { // mail processes of earlier sessions would serve these for nothing
			return err
		}
		if err := s.dovecot.settle(ctx); err != nil {
			return err
		}
		each, err := s.memoryOf(ctx, s.dovecot.memory, theirRest, kind.addr, kind.way, s.scaled(theirIdlers, 1))
		if err != nil {
			return fmt.Errorf("%s: %w", dovecot, err)
		}
		s.figure(kind.title, dovecot, each, "KiB")
	}
	return nil
}

// memoryOf is what each of so many sessions takes after a rest. They end afterwards.
func (s *sessions) memoryOf(
	ctx context.Context, memory func(context.Context) (float64, error), rest time.Duration, addr, way string, count int,
) (each float64, err error) {
	before, err := memory(ctx)
	if err != nil {
		return 0, err
	}
	h, err := startHolders(addr, way, count)
	if err != nil {
		return 0, err
	}
	if err = pause(ctx, rest); err != nil {
		return 0, errors.Join(err, h.end())
	}
	after, err := memory(ctx)
	if err != nil {
		return 0, errors.Join(err, h.end())
	}
	alive, err := h.alive()
	if err == nil && alive != count {
		err = fmt.Errorf("%d of %d sessions are alive", alive, count)
	}
	return (after - before) / float64(count), errors.Join(err, h.end())
}

// ourIdle measures the memory of our sessions, each kind in a process of its own: over TLS of some, in the clear of as many as can be held,
// while other things go on.
func (s *sessions) ourIdle(ctx context.Context) error {
	if err := s.ours.stop(); err != nil {
		return err
	}
	s.ours.connections = 2 * mostHeld
	for _, measure := range []func(context.Context) error{s.ourIdleTLS, s.hold} {
		if _, err := s.ours.start(ctx); err != nil {
			return err
		}
		if err := errors.Join(s.warmIdle(ctx), measure(ctx)); err != nil {
			return fmt.Errorf("%s: %w", us, err)
		}
		if err := s.ours.stop(); err != nil {
			return err
		}
	}
	s.ours.connections = 0
	if _, err := s.ours.start(ctx); err != nil {
		return err
	}
	return s.warm(ctx, true)
}

// warmIdle has every mailbox logged in to, and the server rest.
func (s *sessions) warmIdle(ctx context.Context) error {
	for _, v := range []visitor{{addr: s.ours.pop, conns: 1}, {addr: s.ours.pops, conns: 1, tc: resuming()}} {
		if _, err := v.visit(ctx, users); err != nil {
			return err
		}
	}
	return pause(ctx, restTime)
}

func (s *sessions) ourIdleTLS(ctx context.Context) error {
	each, err := s.memoryOf(ctx, s.ourMemory, restTime, s.ours.pops, "tls", s.scaled(ourIdlers, 1))
	if err == nil {
		s.figure(idleTLS, us, each, "KiB")
	}
	return err
}

// ourMemory is the PSS of our process in KiB.
func (s *sessions) ourMemory(context.Context) (float64, error) {
	kib, err := procNumber(s.ours.pid(), "smaps_rollup", "Pss")
	return float64(kib), err
}

// hold holds as many sessions as can be, measures their memory, and has mail delivered, clients come and go, and all that was delivered fetched.
func (s *sessions) hold(ctx context.Context) (err error) {
	count := max(int(float64(heldSessions())*min(s.scale, 1)), 10)
	before, err := s.ourMemory(ctx)
	if err != nil {
		return err
	}
	h, err := startHolders(s.ours.pop, "plain", count)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.end()) }()
	if err := pause(ctx, restTime); err != nil {
		return err
	}
	after, err := s.ourMemory(ctx)
	if err != nil {
		return err
	}
	s.figure(idlePlain, us, (after-before)/float64(count), "KiB")
	if err := s.whileHeld(ctx); err != nil {
		return err
	}
	alive, err := h.alive()
	if err != nil {
		return err
	}
	s.figure(heldTitle, us, float64(alive), "")
	return nil
}

// whileHeld delivers mail while clients come and go, and then fetches what was delivered.
func (s *sessions) whileHeld(ctx context.Context) error {
	messages := s.scaled(heldMessages, drainConns)
	first := s.sent
	s.sent += messages
	load := burst{
		addr: s.ours.mx, conns: drainConns, count: messages, first: first, size: smallLetter, letters: s.letters,
		rcpt: func(seq int) string { return "user" + strconv.Itoa(seq%users) },
	}
	sent := make(chan error, 1)
	var took time.Duration
	go func() {
		var err error
		_, took, err = load.send(ctx)
		sent <- err
	}()
	rate, err := (&visitor{addr: s.ours.pop, conns: 16}).visitFor(ctx, time.Duration(float64(visitTime)*min(s.scale, 1)))
	if err = errors.Join(err, <-sent); err != nil {
		return err
	}
	s.figure(heldVisits, us, rate, visitUnit)
	s.figure(heldRate, us, float64(messages)/took.Seconds(), rateUnit)
	seen := newLedger(first, messages)
	d := drainer{addr: s.ours.pop, sessions: drainConns, window: drainWindow, letters: s.letters, seen: seen.see}
	for _, box := range mailboxNames("user", users) {
		d.names = append(d.names, address(box))
	}
	return errors.Join(d.drain(ctx), seen.whole())
}

// holders are the processes that hold sessions.
type holders struct{ list []*holder }

type holder struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startHolders has so many sessions opened, one process of clients after the other.
func startHolders(addr, way string, count int) (*holders, error) {
	h := &holders{}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for left := count; left > 0; left -= holderMost {
		one := &holder{cmd: exec.Command(program, idleHelper, addr, way, strconv.Itoa(min(left, holderMost)))}
		one.cmd.Stderr = os.Stderr
		one.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		in, err1 := one.cmd.StdinPipe()
		out, err2 := one.cmd.StdoutPipe()
		if err := errors.Join(err1, err2); err != nil {
			return nil, errors.Join(err, h.end())
		}
		one.in, one.out = in, bufio.NewReader(out)
		if err := one.cmd.Start(); err != nil {
			return nil, errors.Join(err, h.end())
		}
		h.list = append(h.list, one)
		if line, err := one.out.ReadString('\n'); line != "ready\n" {
			return nil, errors.Join(fmt.Errorf("clients say %q", line), err, h.end())
		}
	}
	return h, nil
}

// alive is how many of the sessions answer.
func (h *holders) alive() (total int, err error) {
	for _, one := range h.list {
		if _, err := io.WriteString(one.in, "check\n"); err != nil {
			return 0, err
		}
		line, err := one.out.ReadString('\n')
		if err != nil {
			return 0, err
		}
		n, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func (h *holders) end() (err error) {
	for _, one := range h.list {
		err = errors.Join(err, one.in.Close(), one.cmd.Wait())
	}
	h.list = nil
	return err
}

// idleMain is a process of clients that log in and say nothing. It says "ready"; for each line that comes then it asks all sessions for NOOP
// and says how many answered. At the end of its input it ends, and all sessions with it.
func idleMain(args []string) error {
	if len(args) != 3 {
		return errors.New("idle ADDRESS plain|tls SESSIONS")
	}
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	var tc *tls.Config
	if args[1] == "tls" {
		tc = resuming()
	}
	all, errs := make([]*wire, count), make([]error, holderDials)
	var next atomic.Int64
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for errs[i] == nil {
				n := int(next.Add(1)) - 1
				if n >= count {
					return
				}
				all[n], errs[i] = idler(args[0], tc, n)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		alive := 0
		for _, w := range all {
			if _, err := w.ask("NOOP\r\n", "+OK"); err == nil {
				alive++
			}
		}
		fmt.Println(alive)
	}
	for _, w := range all {
		w.close()
	}
	return nil
}

// idler opens one session, from one of many addresses.
func idler(addr string, tc *tls.Config, n int) (*wire, error) {
	d := net.Dialer{Timeout: answerTime, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, byte(1+n%holderAddrs), 0, 7)}}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if tc != nil {
		conn = tls.Client(conn, tc)
	}
	w := newWire(conn, 512)
	for _, text := range []string{"", "USER " + address("user"+strconv.Itoa(n%users)) + "\r\n", "PASS " + password + "\r\n", "STAT\r\n"} {
		if _, err := w.ask(text, "+OK"); err != nil {
			return nil, err
		}
	}
	return w, nil
}
