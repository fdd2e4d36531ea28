package maildrop

import (
	"net/netip"
	"sync"
	"time"

	"latchkey/guard"
	"latchkey/internal/refusal"
	"latchkey/pop3"
	"latchkey/store"
)

const (
	// takeOverAfter is how long the holder of a maildrop must have been silent before a client that looks the same may take it over.
	takeOverAfter = time.Minute
	// maxLocks bounds the maildrops that are locked at once; a login to one more is refused as a temporary failure.
	maxLocks = 100_000
)

// Locks let one session at a time have a maildrop (RFC 1939 §3, §4), for domains that want it (store.Settings.ExclusiveMaildrop); all doors of a
// process share one. The zero value is ready.
//
// Only sessions that are begun while the setting is on take a lock or look for one. Those begun before have their snapshots, as ever, and exclude
// nobody; once it is off again, a session that has a lock keeps it, and it excludes nobody who does not ask.
type Locks struct {
	mu   sync.Mutex // guards held and the holds in it
	held map[store.AccountID]*hold
}

// hold is the lock of one maildrop, and its own token: it counts while it is what Locks has for the account, so nobody frees the lock of another.
// All methods may be called on nil, which is the hold of a session without a lock.
type hold struct {
	of      *Locks
	account store.AccountID
	// client is like whom the session looks; invalid is like nobody.
	client netip.Prefix
	holder holder
	// updating is set from the beginning of an update: then nobody takes the maildrop over.
	updating bool
}

// holder is a session's connection: *pop3.Conn.
type holder interface {
	Idle() time.Duration
	End(*pop3.Error)
}

// acquire locks a maildrop for a session. A holder that looks the same and has been silent for takeOverAfter loses it, and is returned: a client that
// lost its line comes back before the server knows. Of a session that lost its lock nothing is deleted any more; the caller ends it.
func (l *Locks) acquire(account store.AccountID, client netip.Prefix, by holder) (h *hold, loser holder, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.held[account]
	switch {
	case before != nil && !before.givesWay(client):
		return nil, nil, reply(refusal.MaildropInUse, nil)
	case before != nil:
		loser = before.holder
	case len(l.held) >= maxLocks:
		return nil, nil, reply(refusal.TemporaryFailure, errTooManyLocks)
	}
	if l.held == nil {
		l.held = make(map[store.AccountID]*hold)
	}
	h = &hold{of: l, account: account, client: client, holder: by}
	l.held[account] = h
	return h, loser, nil
}

// givesWay reports whether a login from a client takes the maildrop over. Locks.mu is held.
func (h *hold) givesWay(client netip.Prefix) bool {
	return h.client.IsValid() && h.client == client && !h.updating && h.holder.Idle() >= takeOverAfter
}

// beginUpdate reports whether the maildrop is still the session's; if so, nobody takes it over from now on.
func (h *hold) beginUpdate() bool {
	if h == nil {
		return true
	}
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	h.updating = h.of.held[h.account] == h
	return h.updating
}

// release gives the maildrop back, if it is still the session's.
func (h *hold) release() {
	if h == nil {
		return
	}
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	if h.of.held[h.account] == h {
		delete(h.of.held, h.account)
	}
}

// lock makes the maildrop this session's alone.
func (s *session) lock() error {
	remote := guard.Unmap(s.conn.RemoteAddr())
	h, loser, err := s.locks.acquire(s.who.Account, guard.Prefix(remote), s.conn)
	if err != nil {
		s.log.Info("maildrop is in use", "account", s.who.Name, "remote", remote)
		return err
	}
	s.hold = h
	if loser != nil {
		s.log.Info("maildrop taken over from a silent session", "account", s.who.Name, "remote", remote)
		loser.End(reply(refusal.MaildropTakenOver, nil))
	}
	return nil
}

// unlock gives the session's lock back, if it has one.
func (s *session) unlock() {
	s.hold.release()
	s.hold = nil
}
