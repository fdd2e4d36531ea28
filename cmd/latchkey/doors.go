package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"latchkey/auth"
	"latchkey/config"
	"latchkey/guard"
	"latchkey/pop3/maildrop"
	"latchkey/smtp"
	"latchkey/store"
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
	// strangers and gate count for all doors together.
	strangers *guard.Strangers
	gate      *guard.Gate
	now       func() time.Time
	// tls is for every door but those for old clients, which have old; both are nil without a certificate.
	tls, old *tls.Config
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

// loadCertificate reads the certificate of all doors, if there is one.
func (o *opener) loadCertificate() error {
	c := o.config.TLS
	if c.Cert == "" {
		return nil
	}
	certificate, err := guard.LoadCertificate(c.Cert, c.Key, o.process.log)
	if err != nil {
		return fmt.Errorf("tls.cert and tls.key: %w", err)
	}
	o.tls, o.old = guard.TLSConfig(certificate.GetCertificate), guard.OldTLSConfig(certificate.GetCertificate)
	o.process.fingerprint = certificate.Fingerprint()
	for _, k := range o.kinds() {
		if note := certificate.OldClientNote(); k.old && len(k.addresses) > 0 && note != "" {
			o.process.log.Warn("certificate is not for old clients", "door", k.name, "why", note)
		}
	}
	return nil
}

// open takes the addresses. What it has taken when it fails is in process.doors.
func (o *opener) open() error {
	for _, k := range o.kinds() {
		for _, address := range k.addresses {
			listener, err := net.Listen("tcp", address)
			if err != nil {
				return fmt.Errorf("listen.%s: %w", k.name, err)
			}
			o.process.doors = append(o.process.doors, door{name: k.name, listener: listener, server: k.build(k, listener)})
		}
	}
	return nil
}

func (o *opener) pop(k doorKind, l net.Listener) server {
	options := maildrop.Options{
		Store: o.store, Auth: o.auth, Grants: o.grants, Loopback: onLoopback(l), Hostname: o.process.hostname, TLSConfig: o.tls,
		ImplicitTLS: k.implicit, Sniff: o.config.Listen.Sniffs(k.name), Logger: o.process.log, Connections: connections(o.config), Gate: o.gate,
		Implementation: "Latchkey", Delays: o.delays, Locks: o.locks, Now: o.now, Inventory: o.clients, Door: k.name,
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
			Inventory: o.clients, Name: k.name,
		}
		if k.old {
			options.TLSConfig, options.OldClients = o.old, guard.NewOldClients(o.store, o.hosts, onLoopback(l))
			options.Challenges = &challenges{auth: o.auth, hostname: o.process.hostname}
		}
		return smtp.New(options)
	}
}

func connections(c config.Config) guard.ConnLimits {
	return guard.ConnLimits{Total: c.Limits.Connections, PerPrefix: c.Limits.ConnectionsPerAddress}
}

// onLoopback reports whether only this machine can connect to a listener.
func onLoopback(l net.Listener) bool { return guard.Unmap(l.Addr()).IsLoopback() }
