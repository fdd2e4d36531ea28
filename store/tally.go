package store

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"latchkey/internal/refusal"
)

// Daily is a daily figure of the whole domain, which a [Tally] counts.
type Daily uint8

// The figures, but those of refusals: see [DailyRefused].
const (
	// DailyRan marks a day on which the server ran: a day without it and without any other figure is not one on which nothing happened.
	DailyRan Daily = iota
	// DailyReceived: messages accepted from strangers. DailySubmitted: messages accepted from whoever may send for the domain, at whatever door.
	DailyReceived
	DailySubmitted
	// DailyHandedOver: messages that another server took, once for each time one was handed over. DailyDelivered: the recipients of them.
	DailyHandedOver
	DailyDelivered
	// DailyDeferred: attempts at a recipient that are to be tried again. DailyFailed: recipients that were given up.
	DailyDeferred
	DailyFailed
	// DailyFetched: messages that POP3 sent to their end.
	DailyFetched
	// The logins of each service of package auth, by whether they succeeded. The refused one follows the other: see [Tally.Login].
	DailyPOP3Login
	DailyPOP3Refused
	DailySMTPLogin
	DailySMTPRefused
	DailyWebLogin
	DailyWebRefused
	dailies // how many there are
)

// dailyNames are the names in the store. They never change: figures of before are under them.
var dailyNames = [dailies]string{
	"day/ran", "day/received", "day/submitted", "day/handed-over", "day/delivered", "day/deferred", "day/failed", "day/fetched",
	"day/login/pop3", "day/login-refused/pop3", "day/login/smtp", "day/login-refused/smtp", "day/login/web", "day/login-refused/web",
}

// refusedPrefix begins the names of figures of refusals.
const refusedPrefix = "day/refused/"

// String is the name of the figure in the store.
func (d Daily) String() string {
	if d >= dailies {
		return "no figure"
	}
	return dailyNames[d]
}

// DailyRefused names the daily figure of a refusal.
func DailyRefused(name refusal.Name) string { return refusedPrefix + string(name) }

// RefusalOf is the refusal that a daily figure is about; ok is false for any other figure.
func RefusalOf(figure string) (name refusal.Name, ok bool) {
	text, ok := strings.CutPrefix(figure, refusedPrefix)
	return refusal.Name(text), ok
}

// tallyEvery is how often a Tally writes down what it counted.
const tallyEvery = time.Minute

// Tally counts what happens in a domain, for all rooms of a process, and adds it to the daily figures every minute and at midnight in UTC, so that
// nothing is counted for a wrong day. Its names are the fixed ones above and one for each row of the table of refusals. To count costs an addition
// and nothing else; a nil Tally counts nothing. What was counted since the last time is lost in a crash.
type Tally struct {
	stats    Stats
	now      func() time.Time
	log      *slog.Logger
	counts   [dailies]atomic.Int64
	refusals map[refusal.Name]*atomic.Int64 // never changed

	// mu lets one at a time write down or list, so that nothing is seen twice; it protects what follows. It may be held while the store is read.
	mu sync.Mutex
	// day is the one that is counted for, marked is set once that is marked as one on which the server ran.
	day    Day
	marked bool
}

// NewTally returns a Tally over the statistics. It starts nothing: Run and Close write down what it counts. A nil clock is time.Now, a nil logger
// discards what goes wrong.
func NewTally(stats Stats, now func() time.Time, log *slog.Logger) *Tally {
	if now == nil {
		now = time.Now
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t := &Tally{stats: stats, now: now, log: log, refusals: map[refusal.Name]*atomic.Int64{}, day: DayOf(now())}
	for _, row := range refusal.All() {
		t.refusals[row.Name] = new(atomic.Int64)
	}
	return t
}

// Count adds n to a figure of today.
func (t *Tally) Count(d Daily, n int) {
	if t != nil {
		t.counts[d].Add(int64(n))
	}
}

// Login counts a login by its service, of package auth. One of no known service is not counted.
func (t *Tally) Login(service string, ok bool) {
	var d Daily
	switch service {
	case "pop3":
		d = DailyPOP3Login
	case "smtp":
		d = DailySMTPLogin
	case "web":
		d = DailyWebLogin
	default:
		return
	}
	if !ok {
		d++
	}
	t.Count(d, 1)
}

// Refused counts a refusal. One that is not in the table is none.
func (t *Tally) Refused(name refusal.Name) {
	if t == nil {
		return
	}
	if n := t.refusals[name]; n != nil {
		n.Add(1)
	}
}

// Run writes down what was counted until ctx ends; what is counted after that is left for Close.
func (t *Tally) Run(ctx context.Context) {
	for {
		now := t.now().UTC()
		midnight := time.Date(now.Year(), now.Month(), now.Day()+1, 0, 0, 0, 0, time.UTC)
		timer := time.NewTimer(min(tallyEvery, midnight.Sub(now)))
		select {
		case <-timer.C:
			t.flush(context.WithoutCancel(ctx))
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// Close writes down what is left. Call it when Run and everything that counts have ended, and the store is still open.
func (t *Tally) Close() { t.flush(context.Background()) }

// each calls what for every counter.
func (t *Tally) each(what func(name string, n *atomic.Int64)) {
	for d := range dailies {
		what(dailyNames[d], &t.counts[d])
	}
	for name, n := range t.refusals {
		what(DailyRefused(name), n)
	}
}

// flush adds what was counted to the day on which that began. What the store does not take now is kept for the next time.
func (t *Tally) flush(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	today := DayOf(t.now())
	if !t.marked {
		t.counts[DailyRan].Store(1)
	}
	var failed error
	t.each(func(name string, counter *atomic.Int64) {
		n := counter.Swap(0)
		if n == 0 {
			return
		}
		if err := t.stats.AddStat(ctx, t.day, name, n); err != nil {
			counter.Add(n)
			failed = err
		}
	})
	if failed != nil {
		if !errors.Is(failed, ErrClosed) {
			t.log.Error("daily figures could not be written down", "err", failed)
		}
		return
	}
	t.marked, t.day = t.day == today, today
}

// ListStats is the one of [Stats], with what was not written down yet.
func (t *Tally) ListStats(ctx context.Context, from, to Day) ([]Stat, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list, err := t.stats.ListStats(ctx, from, to)
	if err != nil || t.day < from || t.day > to {
		return list, err
	}
	t.each(func(name string, counter *atomic.Int64) {
		n := counter.Load()
		if n == 0 {
			return
		}
		i, found := slices.BinarySearchFunc(list, Stat{Day: t.day, Name: name}, func(a, b Stat) int {
			return cmp.Or(cmp.Compare(a.Day, b.Day), cmp.Compare(a.Name, b.Name))
		})
		if found {
			list[i].N += n
			return
		}
		list = slices.Insert(list, i, Stat{Day: t.day, Name: name, N: n})
	})
	return list, nil
}
