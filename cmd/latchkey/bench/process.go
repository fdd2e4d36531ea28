//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Bounds of waiting.
const (
	// commandTime bounds a command, loadTime the sending of one load, settleTime what comes after it.
	commandTime = 5 * time.Minute
	loadTime    = 2 * time.Minute
	settleTime  = 4 * time.Minute
	// startTime bounds the start of a server, stopTime its end; then it is killed.
	startTime = time.Minute
	stopTime  = 20 * time.Second
	// answerTime bounds one answer of a server.
	answerTime = time.Minute
)

// command runs a program to its end and returns what it printed. It is in a process group of its own, so that an interrupt from the
// terminal reaches only us: what it started is stopped in order. The output goes through a file, as daemons keep it open.
func command(ctx context.Context, env []string, name string, args ...string) (out []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	f, err := os.CreateTemp("", "latchkey-bench-out.*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Stdout, cmd.Stderr = f, f
	err = cmd.Run()
	out, readErr := os.ReadFile(f.Name())
	if err != nil {
		return out, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), errors.Join(err, ctx.Err()), lastPart(out))
	}
	return out, readErr
}

// lastPart is the end of an output, for error texts.
func lastPart(b []byte) []byte {
	const enough = 2000
	return b[max(0, len(b)-enough):]
}

// process is a program that runs in the background.
type process struct {
	cmd   *exec.Cmd
	log   *os.File
	ended chan error
}

// startProcess starts a program; what it prints goes to the end of a file.
func startProcess(log, name string, args ...string) (*process, error) {
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(name, args...), log: f, ended: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	go func() { p.ended <- p.cmd.Wait() }()
	return p, nil
}

// end sends a signal and waits for the end. That a process does not end, or not well, is an error; it is killed then.
func (p *process) end(signal syscall.Signal) error {
	err := p.cmd.Process.Signal(signal)
	var ended error
	select {
	case ended = <-p.ended:
	case <-time.After(stopTime):
		err = errors.Join(err, fmt.Errorf("%s does not stop", p.cmd.Path), p.cmd.Process.Kill())
		ended = <-p.ended
	}
	if signal == syscall.SIGKILL {
		ended = nil // as it was told
	}
	return errors.Join(err, ended, p.log.Close())
}

// greeting waits until a server says its first line, and returns how long that took since begin.
func (p *process) greeting(ctx context.Context, addr string, begin time.Time) (time.Duration, error) {
	for {
		if greets(addr) {
			return time.Since(begin), nil
		}
		select {
		case err := <-p.ended:
			p.ended <- err
			text, readErr := os.ReadFile(p.log.Name())
			return 0, fmt.Errorf("%s ended: %w\n%s", p.cmd.Path, errors.Join(err, readErr), lastPart(text))
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(200 * time.Microsecond):
		}
		if time.Since(begin) > startTime {
			return 0, fmt.Errorf("%s does not greet at %s", p.cmd.Path, addr)
		}
	}
}

// greets connects and reads one line.
func greets(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, answerTime)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }() // it was only asked whether it greets
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return false
	}
	_, err = bufio.NewReader(conn).ReadString('\n')
	return err == nil
}

// freePorts returns loopback addresses that nobody listens on now.
func freePorts(n int) (addrs []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // all are held until all are known
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// pause waits, or returns the error of a context that ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// quiet waits until a server uses hardly any CPU, and returns the CPU seconds that it had used by then: what it does behind the
// acknowledgements counts as well.
func quiet(ctx context.Context, cpu func(context.Context) (float64, error)) (float64, error) {
	const step, little = 250 * time.Millisecond, 0.012 // that is 5 % of one processor
	before, err := cpu(ctx)
	for begin := time.Now(); err == nil && time.Since(begin) < settleTime; {
		if err = pause(ctx, step); err != nil {
			break
		}
		var now float64
		if now, err = cpu(ctx); err == nil && now-before < little {
			return now, nil
		}
		before = now
	}
	return before, errors.Join(err, errors.New("a server does not come to rest"))
}
