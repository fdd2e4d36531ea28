package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"latchkey/auth"
	"latchkey/config"
	"latchkey/guard"
	"latchkey/internal/certs"
	"latchkey/internal/refusal"
	"latchkey/internal/relayprobe"
	"latchkey/internal/srs"
	"latchkey/pop3/maildrop"
	"latchkey/smtp"
	"latchkey/store"
	"latchkey/webmanager"
)

// opener takes the listening addresses of a process and makes their servers.
type opener struct {
	config  config.Config
	store   store.Store
	process *process
	hosts   *guard.Hosts
	grants  *guard.Grants
	sending *guard.Sending
	auth    *auth.Authenticator
	delays  *maildrop.Delays
	locks   *maildrop.Locks
	clients *maildrop.Inventory
	// strangers and gate count for all doors together, and refusals remembers what all of them refused.
	strangers *guard.Strangers
	gate      *guard.Gate
	refusals  *refusal.Recent
	subjects  store.SubjectKey
	now       func() time.Time
	// srs makes the reverse-paths of mail that is sent on.
	srs *srs.Rewriter
	// tls is for every door but those for old clients, which have old; both are nil without a certificate.
	tls, old *tls.Config
	// challenges answers the CA; nil without one.
	challenges *certs.Challenges
}

// doorKind is a key of [listen] in the configuration.
type doorKind struct {
	name      string
	addresses []string
	// implicit doors begin with TLS, old ones are for old clients.
	implicit, old bool
	build         func(k doorKind, l net.Listener) server
}

func (o *opener) kinds() []doorKind {
	c := o.config.Listen
	return []doorKind{
		{"pop3", c.POP3, false, false, o.pop},
		{"pop3s", c.POP3S, true, false, o.pop},
		{"mx", c.MX, false, false, o.mail(smtp.MX)},
		{"submission", c.Submission, false, false, o.mail(smtp.Submission)},
		{"smtps", c.SMTPS, true, false, o.mail(smtp.Submission)},
		{"old_pop3", c.OldPOP3, false, true, o.pop},
		{"old_pop3s", c.OldPOP3S, true, true, o.pop},
		{"old_submission", c.OldSubmission, false, true, o.mail(smtp.Submission)},
		{"old_smtps", c.OldSMTPS, true, true, o.mail(smtp.Submission)},
	}
}

// servesMail reports whether there is a door at which mail is taken.
func (o *opener) servesMail() bool {
	c := o.config.Listen
	return len(c.MX)+len(c.Submission)+len(c.SMTPS)+len(c.OldSubmission)+len(c.OldSMTPS) > 0
}

// shutMail shuts every door of SMTP for good, because the relay proof failed, and tells postmaster. Mail is still fetched, and what waits in
// the queue is still sent.
func (p *process) shutMail(ctx context.Context, st store.Store, report relayprobe.Report, now time.Time) {
	if p.relays.Swap(true) {
		return
	}
	for _, d := range p.doors {
		if mail, ok := d.server.(*smtp.Server); ok {
			p.log.Error("door shut: the relay proof failed", "door", d.name, "address", d.listener.Addr().String(), "fault", report.Fault)
			if err := mail.Close(); err != nil {
				p.log.Warn("closing a door", "door", d.name, "err", err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := webmanager.TellRelay(ctx, st, report, now); err != nil {
		p.log.Error("postmaster was not told that the relay proof failed", "err", err)
	}
}

// open takes the addresses. What it has taken when it fails is in process.doors.
func (o *opener) open() error {
	for _, k := range o.kinds() {
		for _, address := range k.addresses {
			listener, err := listenAt(address)
			if err != nil {
				return fmt.Errorf("listen.%s: %w", k.name, err)
			}
			o.process.doors = append(o.process.doors, door{name: k.name, listener: listener, server: k.build(k, listener)})
		}
	}
	return nil
}

// socketMode lets the group of the server's user in: the proxy runs as another user.
const socketMode = 0o660

// listenAt takes an address: host:port, or unix: and the path of a socket. A socket that nobody listens on was left behind, and is replaced.
func listenAt(address string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, config.UnixPrefix)
	if !unix {
		return net.Listen("tcp", address)
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is in the way and is no socket", path)
	default:
		if conn, err := net.Dial("unix", path); err == nil {
			_ = conn.Close() // it was only to see whether somebody answers
			return nil, fmt.Errorf("%s is in use by another process", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (o *opener) pop(k doorKind, l net.Listener) server {
	options := maildrop.Options{
		Store: o.store, Auth: o.auth, Grants: o.grants, Loopback: onLoopback(l), Hostname: o.process.hostname, TLSConfig: o.tls,
		ImplicitTLS: k.implicit, Sniff: o.config.Listen.Sniffs(k.name), Logger: o.process.log, Connections: connections(o.config), Gate: o.gate,
		Proxies: o.config.Proxies, Implementation: "Latchkey", Delays: o.delays, Locks: o.locks, Now: o.now, Inventory: o.clients, Door: k.name,
		Refusals: o.refusals, Tally: o.process.tally,
	}
	if k.old {
		options.TLSConfig, options.OldClients = o.old, guard.NewOldClients(o.store, o.hosts, onLoopback(l))
	}
	return maildrop.New(options)
}

func (o *opener) mail(side smtp.Door) func(doorKind, net.Listener) server {
	return func(k doorKind, l net.Listener) server {
		options := smtp.Options{
			Door: side, Store: o.store, Auth: o.auth, Sending: o.sending, Conduct: o.process.conduct, Grants: o.grants, Hosts: o.hosts, Loopback: onLoopback(l),
			Hostname: o.process.hostname, TLSConfig: o.tls, ImplicitTLS: k.implicit, Sniff: o.config.Listen.Sniffs(k.name),
			Logger: o.process.log, Now: o.now, Connections: connections(o.config), Gate: o.gate, Known: o.auth.Known, Strangers: o.strangers,
			Proxies: o.config.Proxies, Inventory: o.clients, Name: k.name, Refusals: o.refusals, Subjects: o.subjects, SRS: o.srs,
			Tally:      o.process.tally,
			Challenges: &challenges{auth: o.auth, hostname: o.process.hostname},
		}
		if k.old {
			options.TLSConfig, options.OldClients = o.old, guard.NewOldClients(o.store, o.hosts, onLoopback(l))
		}
		return smtp.New(options)
	}
}

func connections(c config.Config) guard.ConnLimits {
	return guard.ConnLimits{Total: c.Limits.Connections, PerPrefix: c.Limits.ConnectionsPerAddress}
}

// onLoopback reports whether only this machine can connect to a listener.
func onLoopback(l net.Listener) bool { return guard.Unmap(l.Addr()).IsLoopback() }
