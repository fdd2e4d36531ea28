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
	"latchkey/internal/certs"
	"latchkey/internal/mailaddr"
	"latchkey/internal/refusal"
	"latchkey/internal/relayprobe"
	"latchkey/internal/resolver"
	"latchkey/pop3/maildrop"
	"latchkey/relay"
	"latchkey/relay/signing"
	"latchkey/store"
	"latchkey/webmanager"
)

// process is one running domain: doors over one store, the runner that sends what they queue, and the management socket beside them.
type process struct {
	log         *slog.Logger
	domain      string
	hostname    string
	fingerprint string
	keepers     []*certs.Keeper
	// certificates says how those of the doors stand.
	certificates func() []certs.State
	doors        []door
	runner       *relay.Runner
	expirer      *maildrop.Expirer
	clients      *maildrop.Inventory
	logins       *guard.Logins
	stale        *guard.StaleDevices
	auth         *auth.Authenticator
	bans         *guard.BanKeeper
	conduct      *guard.Conduct
	reputation   *guard.Reputation
	tally        *store.Tally
	keys         *signing.Ring
	keyWatcher   *signing.Watcher
	api          *webmanager.API
	control      *webmanager.Control
	prover       *prover
	// relays is set when the relay proof failed: the doors of SMTP are shut then, and stay so.
	relays atomic.Bool
}

// door is one listening address with its server.
type door struct {
	name     string
	listener net.Listener
	server   server
}

// key is the door's key in the configuration.
func (d door) key() string {
	switch d.name {
	case pagesDoor:
		return "web.listen"
	case challengeDoor:
		return "acme.http_listen"
	}
	return "listen." + d.name
}

// server is what every protocol offers.
type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
	Close() error
}

// loginLimits are the defaults. A test that compares answers does not wait for them.
var loginLimits guard.LoginLimits

// passwordCost is the default. The tests of this package are of other things than hashes, and there are thousands of them.
var passwordCost auth.Cost

// wire builds everything, top to bottom as in docs/architecture.md, and takes the listening addresses. Nothing runs yet. The store
// stays the caller's; now is the clock of everything that is not a connection.
func wire(ctx context.Context, c config.Config, st store.Store, log *slog.Logger, now func() time.Time) (*process, error) {
	settings, err := st.Settings(ctx)
	if err != nil {
		return nil, err
	}
	p := &process{log: log, domain: settings.Domain, hostname: hostname(c, settings.Domain), clients: maildrop.NewInventory(st, log),
		tally: store.NewTally(st, now, log)}
	hosts := guard.NewHosts(guard.HostsOptions{Proxies: c.Proxies, Now: now, Logger: log})
	p.conduct = guard.NewConduct(guard.ConductOptions{
		Store: st, Notices: &webmanager.Notices{Store: st, Now: now, Logger: log}, Now: now, Logger: log,
	})
	grants := guard.NewGrants(guard.GrantOptions{
		Grants: st, Accounts: st, Settings: st, Hosts: hosts, Devices: st, Conduct: p.conduct, Now: now, Logger: log,
	})
	logins := guard.NewLogins(loginLimits)
	p.logins = logins
	p.stale = guard.NewStaleDevices(func(ctx context.Context, d guard.StaleDevice) error {
		return webmanager.TellStale(ctx, st, d, now())
	}, log)
	p.bans = guard.NewBanKeeper(logins, st, now, log)
	remember(ctx, st, logins, p.bans, log)
	p.auth = newAuthenticator(st, logins, grants, p.stale, p.tally, log, now)
	authenticator := p.auth
	strangers := guard.NewStrangers(guard.StrangerLimits{Mail: store.Limit{N: int64(c.Limits.MessagesPerMailbox), Window: time.Hour}}, authenticator.Known)
	o := &opener{config: c, store: st, process: p, hosts: hosts, grants: grants, sending: guard.NewSending(st, now), auth: authenticator,
		delays: new(maildrop.Delays), locks: new(maildrop.Locks), clients: p.clients, strangers: strangers,
		gate: guard.NewGate(connections(c), authenticator.Known), refusals: &refusal.Recent{Counted: p.tally.Refused}, now: now}
	if o.subjects, err = store.LoadSubjectKey(ctx, st); err != nil {
		return nil, err
	}
	if err := o.loadCertificate(ctx); err != nil {
		return nil, err
	}
	if o.srs, err = rewriter(ctx, st, settings.Domain); err != nil {
		return nil, err
	}
	p.prover = newProver(st, p.hostname, log, now)
	p.prover.proof.SRS = o.srs
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
	names, err := resolver.New(resolver.Options{Servers: c.Relay.Nameservers, Trust: trustOf(c.Relay.DNSSEC), Now: now, Logger: log})
	if err == nil {
		p.keys = newRing(st, now)
		p.runner, err = newRunner(c, st, names, p, log, now)
	} else {
		err = fmt.Errorf("relay.nameservers: %w", err)
	}
	if err != nil {
		p.release()
		return nil, err
	}
	p.reputation = newReputation(c, st, names, p.conduct, p.runner.SetListed, log, now)
	p.expirer = &maildrop.Expirer{Store: st, Now: now, Logger: log}
	p.api = newAPI(webmanager.Options{
		Bans: &guard.BanDesk{Logins: logins, Keeper: p.bans, Strangers: strangers}, Conduct: p.conduct, Reputation: p.reputation, SlowProviders: p.runner.Slow,
		Tally: p.tally, RelayProof: p.prover.Report, Refusals: o.refusals, Keys: p.keys, DNS: names, Place: placeOf(c, st, p.hostname),
		Certificates: p.certificates, Policy: p.runner.FetchPolicy,
		WebURL: func() string { return p.webURL(c) },
	}, st, authenticator, log, now)
	p.keyWatcher = &signing.Watcher{Ring: p.keys, Settings: st, TXT: p.api.TXT, Logger: log}
	if err := o.openManagement(); err != nil {
		p.release()
		return nil, err
	}
	return p, nil
}

// release gives the listening addresses back when nothing was served yet.
func (p *process) release() {
	for _, d := range p.doors {
		_ = d.listener.Close() // nothing was accepted from it
	}
}

// newAuthenticator makes the one place where passwords are checked; guesses, stale and tally are nil where nobody logs in.
func newAuthenticator(
	st store.Store, logins *guard.Logins, guesses auth.Guesses, stale auth.Stale, tally *store.Tally, log *slog.Logger, now func() time.Time,
) *auth.Authenticator {
	return auth.New(auth.Options{
		Accounts: st, Settings: st, Devices: st, Sealing: st, Guard: logins, Guesses: guesses, Stale: stale, Cost: passwordCost, Tally: tally,
		Logger: log, Now: now,
		Exposed: func(ctx context.Context, e auth.Exposed) error { return webmanager.NoteExposed(ctx, st, e, now()) },
	})
}

// newAPI makes the management API; o is what depends on whether a server runs.
func newAPI(o webmanager.Options, st store.Store, authenticator *auth.Authenticator, log *slog.Logger, now func() time.Time) *webmanager.API {
	o.Store, o.Hasher, o.Prover, o.Logger, o.Now, o.Version, o.Go = st, authenticator, authenticator, log, now, buildVersion(), runtime.Version()
	return webmanager.New(o)
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
