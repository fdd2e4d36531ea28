package webmanager

import (
	"context"
	"errors"
	"sync"
	"time"

	"latchkey/store"
)

const (
	// timerRetry is how long Run waits after a failure of the store.
	timerRetry = time.Minute
	// timerLook bounds how long Run waits without looking at the clock, while a time is set: clocks are put right, and hosts sleep.
	timerLook = time.Hour
)

// timerActor is who makes the changes that a clock makes.
var timerActor = Actor{Name: "timer"}

// Run does what is to be done without a request, until ctx ends; then it returns nil. It writes require_auth on when its time has come
// (which counts from that moment in any case, see [store.Settings.AuthRequired]), also if that was while the server was stopped, and
// it ends the grants that a crash has left behind a change that forbids them. It looks at the DNS when the overview was asked for. Without a time
// that is set, nothing ticks.
func (a *API) Run(ctx context.Context) error {
	ctx = WithActor(ctx, timerActor)
	ctx, end := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { a.watchDNS(ctx) })
	defer watching.Wait()
	defer end()
	a.countStart(ctx)
	a.endLeftGrants(ctx)
	for {
		changed := a.store.SettingsChanged()
		wait, err := a.keepTime(ctx)
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case errors.Is(err, store.ErrClosed):
			return err
		case errors.Is(err, store.ErrConflict):
			continue // somebody changed the settings: look again
		case err != nil:
			a.log.Error("require_auth is on again, but that cannot be written down yet", "err", err)
			wait = timerRetry
		}
		if !sleep(ctx, wait, changed) {
			return nil
		}
	}
}

// countStart marks the day in the statistics, so that a preview can say since when there are figures.
func (a *API) countStart(ctx context.Context) {
	if err := a.store.AddStat(ctx, store.DayOf(a.now()), statStarts, 1); err != nil && ctx.Err() == nil {
		a.log.Error("the start was not counted", "err", err)
	}
}

// endLeftGrants ends the grants that a crash has left behind a change of settings.
func (a *API) endLeftGrants(ctx context.Context) {
	settings, err := a.store.Settings(ctx)
	if err == nil {
		_, _ = a.endGrants(ctx, settings) // it logs its failure
	}
}

// keepTime switches require_auth on if its time has come, and returns how long until there is something to do; 0 is for ever.
func (a *API) keepTime(ctx context.Context) (time.Duration, error) {
	stored, err := a.store.Settings(ctx)
	if err != nil {
		return 0, err
	}
	now := a.now()
	if stored.RequireAuth || stored.RequireAuthAt.IsZero() {
		return 0, nil
	}
	if !stored.AuthRequired(now) {
		return min(stored.RequireAuthAt.Sub(now), timerLook), nil
	}
	after, err := a.store.UpdateSettings(ctx, settled(stored, now))
	if err != nil {
		return 0, err
	}
	_ = a.audit(ctx, "settings.change", after.Domain, stored, after) // the change stands; audit logs why it could not be noted
	a.notify(ctx, stored, after)
	return 0, nil
}

// sleep waits for d (0: for ever), a change or the end; it is false at the end.
func sleep(ctx context.Context, d time.Duration, changed <-chan struct{}) bool {
	var elapsed <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		elapsed = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-elapsed:
	case <-changed:
	}
	return true
}
