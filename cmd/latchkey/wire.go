package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"latchkey/auth"
	"latchkey/config"
	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/internal/refusal"
	"latchkey/internal/relayprobe"
	"latchkey/pop3/maildrop"
	"latchkey/relay"
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
	expirer     *maildrop.Expirer
	clients     *maildrop.Inventory
	api         *webmanager.API
	control     *webmanager.Control
	prover      *prover
	// relays is set when the relay proof failed: the doors of SMTP are shut then, and stay so.
	relays atomic.Bool
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
	p := &process{log: log, domain: settings.Domain, hostname: hostname(c, settings.Domain), clients: maildrop.NewInventory(st, log)}
	hosts := guard.NewHosts(guard.HostsOptions{Proxies: c.Proxies, Now: now, Logger: log})
	grants := guard.NewGrants(guard.GrantOptions{Grants: st, Accounts: st, Settings: st, Hosts: hosts, Devices: st, Now: now, Logger: log})
	authenticator := newAuthenticator(st, grants, log, now)
	o := &opener{config: c, store: st, process: p, hosts: hosts, grants: grants, sending: guard.NewSending(st, now), auth: authenticator,
		delays: new(maildrop.Delays), locks: new(maildrop.Locks), clients: p.clients, refusals: new(refusal.Recent), now: now}
	if err := o.loadCertificate(); err != nil {
		return nil, err
	}
	p.prover = newProver(st, p.hostname, log, now)
	p.prover.failed = func(ctx context.Context, report relayprobe.Report) { p.shutMail(ctx, st, report, now()) }
	if o.servesMail() {
		if err := p.prover.atStart(ctx); err != nil {
			return nil, err
		}
	}
	if err := o.open(); err != nil {
		p.release()
		return nil, err
	}
	if p.runner, err = newRunner(c, st, p, log, now); err != nil {
		p.release()
		return nil, err
	}
	p.expirer = &maildrop.Expirer{Store: st, Now: now, Logger: log}
	p.api = newAPI(st, authenticator, p.prover, o.refusals, log, now)
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

// newAuthenticator makes the one place where passwords are checked; guesses is nil where nobody logs in.
func newAuthenticator(st store.Store, guesses auth.Guesses, log *slog.Logger, now func() time.Time) *auth.Authenticator {
	return auth.New(auth.Options{
		Accounts: st, Settings: st, Devices: st, Sealing: st, Guard: guard.NewLogins(guard.LoginLimits{}), Guesses: guesses, Logger: log, Now: now,
	})
}

func newAPI(
	st store.Store, authenticator *auth.Authenticator, prove *prover, refusals *refusal.Recent, log *slog.Logger, now func() time.Time,
) *webmanager.API {
	return webmanager.New(webmanager.Options{
		Store: st, Hasher: authenticator, Logger: log, Now: now, Version: buildVersion(), Go: runtime.Version(),
		RelayProof: prove.Report, Refusals: refusals,
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
