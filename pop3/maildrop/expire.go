package maildrop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"latchkey/store"
)

const (
	// expireEvery is how often messages are looked at that may have become too old.
	expireEvery = 6 * time.Hour
	// expireAccounts is how many accounts are listed at once.
	expireAccounts = 100
)

// ExpireStore is what expiry needs of a store.
type ExpireStore interface {
	Store
	Settings(ctx context.Context) (store.Settings, error)
	SettingsChanged() <-chan struct{}
	ListAccounts(ctx context.Context, after string, limit int) ([]store.Account, error)
}

// Expirer removes messages that are older than their mailbox keeps them (store.Account.ExpireAfter; RFC 2449 §6.7, EXPIRE).
type Expirer struct {
	Store ExpireStore
	// Now is the clock; nil means time.Now.
	Now    func() time.Time
	Logger *slog.Logger
}

// Run looks at all maildrops every few hours, and when the settings change, until ctx ends. What is changed of one mailbox counts from the next
// look on.
func (e *Expirer) Run(ctx context.Context) {
	now := e.Now
	if now == nil {
		now = time.Now
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	days := 0
	for {
		changed := e.Store.SettingsChanged()
		settings, err := e.Store.Settings(ctx)
		if err == nil && settings.ExpireDays != days {
			days = settings.ExpireDays
			timer.Reset(0)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-timer.C:
			timer.Reset(expireEvery)
			if err == nil && e.any(ctx, settings) {
				e.pass(ctx, settings, now())
			}
		}
	}
}

// any reports whether mail of any mailbox is removed by its age.
func (e *Expirer) any(ctx context.Context, settings store.Settings) bool {
	inUse, err := e.Store.ExpireDaysInUse(ctx)
	if err != nil {
		e.failed("", err)
	}
	days, _ := store.ShortestExpiry(settings, inUse)
	return days > 0
}

// pass removes what is too old from all maildrops, one after the other.
func (e *Expirer) pass(ctx context.Context, settings store.Settings, now time.Time) {
	after := ""
	for {
		accounts, err := e.Store.ListAccounts(ctx, after, expireAccounts)
		if err != nil {
			e.failed("", err)
			return
		}
		for _, account := range accounts {
			if ctx.Err() != nil {
				return
			}
			after = account.Name
			days := account.ExpireAfter(settings)
			if days == 0 {
				continue
			}
			before := now.AddDate(0, 0, -days)
			removed, err := e.expire(ctx, account.ID, before)
			if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrSuspended) {
				e.failed(account.Name, err)
			}
			if removed > 0 {
				e.Logger.Info("old messages removed", "account", account.Name, "messages", removed, "before", before)
			}
		}
		if len(accounts) < expireAccounts {
			return
		}
	}
}

func (e *Expirer) failed(account string, err error) {
	if !errors.Is(err, context.Canceled) && !errors.Is(err, store.ErrClosed) {
		e.Logger.Error("old messages could not be removed", "account", account, "err", err)
	}
}

// expire removes old messages of one maildrop, all of them or none.
func (e *Expirer) expire(ctx context.Context, account store.AccountID, before time.Time) (removed int, err error) {
	m, err := e.Store.OpenMaildrop(ctx, account)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	m.ReadBy(store.Origin{Door: "local"})
	list, err := m.Messages(ctx)
	if err != nil {
		return 0, err
	}
	var old []store.CopyID
	for message := range list {
		if message.Received.Before(before) {
			old = append(old, message.ID)
		}
	}
	if len(old) == 0 {
		return 0, nil
	}
	if err := m.Expunge(ctx, old, nil); err != nil {
		return 0, fmt.Errorf("expire: %w", err)
	}
	return len(old), nil
}
