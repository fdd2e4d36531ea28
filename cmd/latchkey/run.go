package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"latchkey/cli"
	"latchkey/config"
	"latchkey/internal/gcpace"
	"latchkey/internal/mailaddr"
	"latchkey/smtp"
	"latchkey/store"
	"latchkey/webmanager"
)

// drainTime is how long running transactions may take to finish once a stop was asked for.
const drainTime = 10 * time.Second

// serve runs the domain of a data directory until stop ends; abort cuts the drain short.
func serve(stop, abort context.Context, c config.Config, log *slog.Logger) (err error) {
	defer gcpace.Start()()
	st, err := openServed(stop, c.Data, log)
	if err != nil {
		return openError(c.Data, err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if err := checkRoles(stop, st); err != nil {
		return err
	}
	p, err := wire(stop, c, st, log, time.Now)
	if err != nil {
		return err
	}
	return p.run(stop, abort, func() error {
		attrs := []any{"domain", p.domain, "hostname", p.hostname, "version", buildVersion()}
		for _, d := range p.doors {
			attrs = append(attrs, d.name, d.listener.Addr().String())
		}
		if p.fingerprint != "" {
			attrs = append(attrs, "fingerprint_sha256", p.fingerprint)
		}
		log.Info("ready", attrs...)
		return notify(os.Getenv("NOTIFY_SOCKET"), "READY=1")
	})
}

// openError says why a server cannot have the store. A command would have found the one that runs; a server finds it in its way.
func openError(dir string, err error) error {
	if errors.Is(err, cli.ErrLocked) {
		return fmt.Errorf("%s is in use by another process: one server runs for each data directory", dir)
	}
	return cli.OpenError(dir, err)
}

// checkRoles refuses a domain whose making broke off: postmaster and abuse must lead to a mailbox from the first moment.
func checkRoles(ctx context.Context, st store.Store) error {
	settings, err := st.Settings(ctx)
	if err != nil {
		return err
	}
	for _, role := range webmanager.RoleNames() {
		address, err := mailaddr.New(role, settings.Domain)
		if err != nil {
			return err
		}
		route, err := st.Resolve(ctx, address)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if len(route.Local) == 0 {
			return fmt.Errorf("%s leads nowhere; postmaster and abuse must lead to a mailbox: run latchkey init again", address)
		}
	}
	return nil
}

// run opens the doors, calls ready, and serves until stop ends or a door fails. Then, in this order: the doors close and the runner begins
// nothing new; idle sessions are told; running transactions finish, in and out, for at most drainTime and not beyond abort; what is left is
// cut off, and what was leased is given back; the management socket closes; what was seen of clients, the daily figures and the bans are written
// down. When it returns nothing uses the store any more.
func (p *process) run(stop, abort context.Context, ready func() error) error {
	var running sync.WaitGroup
	failed := make(chan error, len(p.doors)+3)
	ending, end := context.WithCancel(context.Background())
	cutting, cut := context.WithCancel(context.Background())
	defer cut()
	defer end()
	for _, d := range p.doors {
		running.Go(func() {
			if err := d.server.Serve(d.listener); err != nil && stop.Err() == nil && (!p.relays.Load() || !errors.Is(err, smtp.ErrServerClosed)) {
				failed <- fmt.Errorf("%s: %w", d.key(), err)
			}
		})
	}
	running.Go(func() {
		if err := p.control.Serve(); err != nil {
			failed <- fmt.Errorf("management socket: %w", err)
		}
	})
	running.Go(func() {
		if err := p.runner.Run(ending, cutting); errors.Is(err, store.ErrPoisoned) {
			// Nothing more is sent, because nothing could be noted. What is there can be read all the same.
			p.log.Error("outgoing mail waits for the next start", "err", err)
		} else if err != nil {
			failed <- fmt.Errorf("relay: %w", err)
		}
	})
	running.Go(func() {
		if err := p.api.Run(ending); err != nil {
			failed <- fmt.Errorf("timers of the settings: %w", err)
		}
	})
	running.Go(func() { p.expirer.Run(ending) })
	running.Go(func() { p.prover.Run(ending) })
	running.Go(func() { p.clients.Run(ending) })
	running.Go(func() { p.tally.Run(ending) })
	running.Go(func() { p.stale.Run(ending) })
	running.Go(func() { p.auth.RunClear(ending) })
	running.Go(func() { p.bans.Run(ending) })
	running.Go(func() { p.conduct.Run(ending) })
	running.Go(func() { p.reputation.Run(ending) })
	running.Go(func() { p.keyWatcher.Run(ending) })
	for _, k := range p.keepers {
		running.Go(func() { k.Run(ending) })
	}
	err := ready()
	if err == nil {
		select {
		case <-stop.Done():
		case err = <-failed:
		}
	}
	p.log.Info("stopping")
	_ = notify(os.Getenv("NOTIFY_SOCKET"), "STOPPING=1") // only news
	end()
	drain, cancel := context.WithTimeout(abort, drainTime)
	defer cancel()
	defer context.AfterFunc(drain, cut)()
	p.shutdown(drain)
	running.Wait()
	p.clients.Close()
	p.tally.Close()
	p.bans.Close()
	p.conduct.Close()
	p.log.Info("stopped")
	if p.relays.Load() {
		err = errors.Join(err, errRelays)
	}
	return err
}

// shutdown closes the doors: sessions may finish until drain ends, but answers to wrong passwords wait no longer.
func (p *process) shutdown(drain context.Context) {
	p.logins.EndWaits()
	var stopping sync.WaitGroup
	for _, d := range p.doors {
		stopping.Go(func() {
			if err := d.server.Shutdown(drain); err != nil {
				p.log.Warn("sessions cut off", "door", d.name, "err", err)
			}
			if err := d.server.Close(); err != nil {
				p.log.Warn("closing a door", "door", d.name, "err", err)
			}
		})
	}
	stopping.Wait()
	if err := p.control.Shutdown(drain); err != nil {
		p.log.Warn("closing the management socket", "err", err)
	}
}
