package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"time"

	"latchkey/auth"
	"latchkey/config"
	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/pop3/maildrop"
	"latchkey/relay"
	"latchkey/smtp"
	"latchkey/store"
	"latchkey/webmanager"
)

// process is one running domain: doors over one store, the runner that sends what they queue, and the management socket beside them.
type process struct {
	log         *slog.Logger
	domain      string
	hostname    string
	fingerprint string
	doors       []door
	runner      *relay.Runner
	api         *webmanager.API
	control     *webmanager.Control
}

// door is one listening address with its server.
type door struct {
	name     string
	listener net.Listener
	server   server
}

// server is what every protocol offers.
type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
	Close() error
}

// wire builds everything, top to bottom as in docs/architecture.md, and takes the listening addresses. Nothing runs yet. The store
// stays the caller's; now is the clock of everything that is not a connection.
func wire(ctx context.Context, c config.Config, st store.Store, log *slog.Logger, now func() time.Time) (*process, error) {
	settings, err := st.Settings(ctx)
	if err != nil {
		return nil, err
	}
	p := &process{log: log, domain: settings.Domain, hostname: hostname(c, settings.Domain)}
	hosts := guard.NewHosts(guard.HostsOptions{Proxies: c.Proxies, Now: now, Logger: log})
	grants := guard.NewGrants(guard.GrantOptions{Grants: st, Accounts: st, Settings: st, Hosts: hosts, Now: now, Logger: log})
	sending := guard.NewSending(st, now)
	authenticator := newAuthenticator(st, grants, log, now)
	var tlsConfig *tls.Config
	if c.TLS.Cert != "" {
		certificate, err := guard.LoadCertificate(c.TLS.Cert, c.TLS.Key, log)
		if err != nil {
			return nil, fmt.Errorf("tls.cert and tls.key: %w", err)
		}
		tlsConfig = guard.TLSConfig(certificate.GetCertificate)
		p.fingerprint = certificate.Fingerprint()
	}
	connections := guard.ConnLimits{Total: c.Limits.Connections, PerPrefix: c.Limits.ConnectionsPerAddress}
	pop := func(implicit bool) func(net.Listener) server {
		return func(l net.Listener) server {
			return maildrop.New(maildrop.Options{
				Store: st, Auth: authenticator, Grants: grants, Loopback: onLoopback(l), Hostname: p.hostname, TLSConfig: tlsConfig,
				ImplicitTLS: implicit, Logger: log, Connections: connections, Implementation: "Latchkey",
			})
		}
	}
	mail := func(side smtp.Door, implicit bool) func(net.Listener) server {
		return func(l net.Listener) server {
			return smtp.New(smtp.Options{
				Door: side, Store: st, Auth: authenticator, Sending: sending, Grants: grants, Hosts: hosts, Loopback: onLoopback(l),
				Hostname: p.hostname, TLSConfig: tlsConfig, ImplicitTLS: implicit, Logger: log, Now: now, Connections: connections,
			})
		}
	}
	for _, d := range []struct {
		name      string
		addresses []string
		build     func(net.Listener) server
	}{
		{"pop3", c.Listen.POP3, pop(false)},
		{"pop3s", c.Listen.POP3S, pop(true)},
		{"mx", c.Listen.MX, mail(smtp.MX, false)},
		{"submission", c.Listen.Submission, mail(smtp.Submission, false)},
		{"smtps", c.Listen.SMTPS, mail(smtp.Submission, true)},
	} {
		for _, address := range d.addresses {
			listener, err := net.Listen("tcp", address)
			if err != nil {
				p.release()
				return nil, fmt.Errorf("listen.%s: %w", d.name, err)
			}
			p.doors = append(p.doors, door{name: d.name, listener: listener, server: d.build(listener)})
		}
	}
	if p.runner, err = newRunner(c, st, p, log, now); err != nil {
		p.release()
		return nil, err
	}
	p.api = newAPI(st, authenticator, log, now)
	if p.control, err = webmanager.ListenControl(c.Data, p.api, log); err != nil {
		p.release()
		return nil, fmt.Errorf("management socket: %w", err)
	}
	return p, nil
}

// release gives the listening addresses back when nothing was served yet.
func (p *process) release() {
	for _, d := range p.doors {
		_ = d.listener.Close() // nothing was accepted from it
	}
}

// onLoopback reports whether only this machine can connect to a listener.
func onLoopback(l net.Listener) bool { return guard.Unmap(l.Addr()).IsLoopback() }

// newAuthenticator makes the one place where passwords are checked; guesses is nil where nobody logs in.
func newAuthenticator(st store.Store, guesses auth.Guesses, log *slog.Logger, now func() time.Time) *auth.Authenticator {
	return auth.New(auth.Options{
		Accounts: st, Settings: st, Guard: guard.NewLogins(guard.LoginLimits{}), Guesses: guesses, Logger: log, Now: now,
	})
}

func newAPI(st store.Store, authenticator *auth.Authenticator, log *slog.Logger, now func() time.Time) *webmanager.API {
	return webmanager.New(webmanager.Options{
		Store: st, Hasher: authenticator, Logger: log, Now: now, Version: buildVersion(), Go: runtime.Version(),
	})
}

// hostname is the configured name, else the machine's, else the domain's.
func hostname(c config.Config, domain string) string {
	if c.Hostname != "" {
		return c.Hostname
	}
	if name, err := os.Hostname(); err == nil {
		if name, err := mailaddr.CanonicalDomain(name); err == nil {
			return name
		}
	}
	return domain
}
