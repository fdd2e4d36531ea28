package guard

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"latchkey/store"
)

// Bounds of the notices about stale devices.
const (
	// StaleRepeats is how often in StaleWindow a device must come with the same wrong password before its owner is told: nobody is told of
	// somebody who tries again by hand.
	StaleRepeats = 5
	StaleWindow  = 24 * time.Hour
	// MaxStaleNotices is how many notices a mailbox gets at once at most, whatever the number of devices, and MaxStaleNoticesInAll all of them
	// together; as many more come back evenly in StaleWindow. Whoever repeats wrong passwords from everywhere must not fill a mailbox.
	MaxStaleNotices      = 3
	MaxStaleNoticesInAll = 200
	// MaxStaleDevices bounds the devices (a mailbox, and a client as in [Prefix]) that are remembered; beyond it the one that came longest ago is
	// forgotten.
	MaxStaleDevices = 5000
	// staleQueue is how many notices may wait to be written.
	staleQueue = 64
)

// StaleDevice is a program that comes again and again with the same wrong password, or with one that was right once.
type StaleDevice struct {
	Account store.AccountID
	Mailbox string
	Remote  netip.Addr
	// Door is "pop3", "smtp" or "web", Mechanism how the password came.
	Door, Mechanism string
	// Previous is set when the password was the mailbox's before its last change.
	Previous bool
	// Times is how often it came since First.
	Times       int
	First, Last time.Time
}

// StaleDevices decides of which devices the owner of a mailbox is told, and has it done by Tell while Run runs. None of it counts as a guess.
type StaleDevices struct {
	tell func(ctx context.Context, d StaleDevice) error
	log  *slog.Logger
	todo chan StaleDevice

	mu        sync.Mutex // protects the tables
	devices   *table[pairKey, staleState]
	mailboxes *table[store.AccountID, store.Bucket]
	all       store.Bucket
}

type staleState struct {
	times int
	first time.Time
	told  time.Time
}

// NewStaleDevices returns a StaleDevices. tell brings one notice to its owner; it may take its time. A nil logger discards what goes wrong.
func NewStaleDevices(tell func(ctx context.Context, d StaleDevice) error, log *slog.Logger) *StaleDevices {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &StaleDevices{
		tell: tell, log: log, todo: make(chan StaleDevice, staleQueue), devices: newTable[pairKey, staleState](MaxStaleDevices),
		mailboxes: newTable[store.AccountID, store.Bucket](MaxLoginMailboxes),
	}
}

// Seen counts a device that came with a stale password; d needs no Times, First and Last. It does not block.
func (s *StaleDevices) Seen(now time.Time, d StaleDevice) {
	if d, due := s.due(now, d); due {
		select {
		case s.todo <- d:
		default: // so many at once are no devices
		}
	}
}

// due counts, and reports whether the owner is to be told now.
func (s *StaleDevices) due(now time.Time, d StaleDevice) (StaleDevice, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.devices.use(pairKey{Prefix(d.Remote), d.Mailbox})
	if state.times == 0 || now.Sub(state.first) >= StaleWindow {
		state.times, state.first = 0, now
	}
	state.times++
	d.Times, d.First, d.Last = state.times, state.first, now
	if state.times < StaleRepeats || !state.told.IsZero() && now.Sub(state.told) < StaleWindow {
		return d, false
	}
	mailbox := s.mailboxes.use(d.Account)
	perMailbox := store.Limit{N: MaxStaleNotices, Window: StaleWindow}
	if !has(*mailbox, now, perMailbox) || !s.all.Take(now, 1, store.Limit{N: MaxStaleNoticesInAll, Window: StaleWindow}).OK {
		return d, false
	}
	mailbox.Take(now, 1, perMailbox)
	state.told = now
	return d, true
}

// Run tells owners until ctx ends. Notices that wait then are lost: the device comes again.
func (s *StaleDevices) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-s.todo:
			if err := s.tell(ctx, d); err != nil && ctx.Err() == nil {
				s.log.Error("the owner was not told of a stale device", "id", uint64(d.Account), "remote", d.Remote.String(), "err", err)
				continue
			}
			s.log.Info("stale device", "id", uint64(d.Account), "remote", d.Remote.String(), "door", d.Door, "times", d.Times, "previous", d.Previous)
		}
	}
}
