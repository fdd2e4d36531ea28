//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// dovecotPeer is Dovecot alone, started by a script of the tools, with one mailbox more than loads are spread over.
type dovecotPeer struct {
	script, root string
	env          []string
	started      bool
}

const (
	// dovecotUser owns the mail.
	dovecotUser = 5000
	// dovecotLogins is how many login processes the script's settings have.
	dovecotLogins = 2
	// maxLinks is how many names one file gets; no file system for mail has room for less.
	maxLinks = 1000
)

func newDovecot(tools, root string) *dovecotPeer {
	return &dovecotPeer{
		script: filepath.Join(tools, "peers", "run-dovecot.sh"), root: root,
		env: []string{"ROOT=" + root, "PASS=" + password, "USERS=" + strconv.Itoa(users+1)},
	}
}

func (d *dovecotPeer) pop3() string  { return "127.0.0.1:20110" }
func (d *dovecotPeer) pop3s() string { return "127.0.0.1:20995" }

func (d *dovecotPeer) start(ctx context.Context) error {
	for _, addr := range []string{d.pop3(), d.pop3s()} { // otherwise we would measure what somebody else left running
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("%s: its port is not free: %w", dovecot, err)
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	d.started = true
	_, err := command(ctx, d.env, d.script, "start")
	return err
}

// stop ends Dovecot; it does nothing if it was not started.
func (d *dovecotPeer) stop(ctx context.Context) error {
	if !d.started {
		return nil
	}
	d.started = false
	_, err := command(context.WithoutCancel(ctx), d.env, d.script, "stop")
	return err
}

// logins gives Dovecot another number of login processes, and waits until it greets again.
func (d *dovecotPeer) logins(ctx context.Context, n int) error {
	name := filepath.Join(d.root, "peer-dovecot", "etc", "dovecot.conf")
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	limit := strconv.Itoa(n)
	_, err = f.WriteString("service pop3-login {\n  process_min_avail = " + limit + "\n  process_limit = " + limit + "\n}\n") // the last one counts
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if _, err := command(ctx, nil, "doveadm", "-c", name, "reload"); err != nil {
		return err
	}
	for begin := time.Now(); time.Since(begin) < startTime; {
		if err := pause(ctx, time.Second); err != nil { // those of before end meanwhile
			return err
		}
		if greets(d.pop3()) {
			return nil
		}
	}
	return fmt.Errorf("%s does not greet after a reload", dovecot)
}

// maildir is where the mail of a mailbox lies; its folders are made if need be.
func (d *dovecotPeer) maildir(box string) (string, error) {
	home := filepath.Join(d.root, "peer-dovecot", "mail", box)
	dir := filepath.Join(home, "Maildir")
	for _, name := range []string{home, dir, filepath.Join(dir, "cur"), filepath.Join(dir, "new"), filepath.Join(dir, "tmp")} {
		err := os.Mkdir(name, 0o700)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err = errors.Join(err, os.Chown(name, dovecotUser, dovecotUser)); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// unix is a message as Maildirs have it, and the part of its name that tells both sizes: so Dovecot need not read it to list it.
func unix(letter []byte) (kept []byte, sizes string) {
	kept = bytes.ReplaceAll(letter, []byte("\r\n"), []byte("\n"))
	return kept, fmt.Sprintf(",S=%d,W=%d", len(kept), len(letter))
}

// deliver puts a new message into a mailbox. Nothing of it need be durable: it will be drained.
func (d *dovecotPeer) deliver(box string, seq int, letter []byte) error {
	dir, err := d.maildir(box)
	if err != nil {
		return err
	}
	kept, sizes := unix(letter)
	name := filepath.Join(dir, "new", fmt.Sprintf("%d.M%06dP1.bench%s", time.Now().Unix(), seq, sizes))
	return d.write(name, kept)
}

func (d *dovecotPeer) write(name string, letter []byte) error {
	return errors.Join(os.WriteFile(name, letter, 0o600), os.Chown(name, dovecotUser, dovecotUser))
}

// multiply puts the same message into a mailbox so many times.
func (d *dovecotPeer) multiply(box string, count int, letter []byte) error {
	dir, err := d.maildir(box)
	if err != nil {
		return err
	}
	kept, sizes := unix(letter)
	first := ""
	for i := range count {
		name := filepath.Join(dir, "cur", fmt.Sprintf("%d.M%06dP2.bench%s:2,", time.Now().Unix(), i, sizes))
		if i%maxLinks == 0 {
			first, err = name, d.write(name, kept)
		} else {
			err = os.Link(first, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var (
	peerCPU = regexp.MustCompile(`cpu_s=([0-9.]+)`)
	peerPSS = regexp.MustCompile(`pss_kb=([0-9.]+)`)
)

func (d *dovecotPeer) usage(ctx context.Context, what *regexp.Regexp) (float64, error) {
	out, err := command(ctx, d.env, d.script, "usage")
	if err != nil {
		return 0, err
	}
	match := what.FindSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("%s: usage says %q", dovecot, out)
	}
	return strconv.ParseFloat(string(match[1]), 64)
}

// settle waits until Dovecot uses hardly any CPU.
func (d *dovecotPeer) settle(ctx context.Context) error {
	_, err := quiet(ctx, func(ctx context.Context) (float64, error) { return d.usage(ctx, peerCPU) })
	return err
}

// memory is the PSS of all its processes, in KiB.
func (d *dovecotPeer) memory(ctx context.Context) (float64, error) { return d.usage(ctx, peerPSS) }
