package maildrop

import (
	"sync"
	"time"

	"latchkey/store"
)

// maxDelays bounds the logins that are remembered for LOGIN-DELAY: beyond it those that no longer matter go, and if all do, the new one is
// not remembered.
const maxDelays = 100_000

// Delays keep when each mailbox was last opened, for domains that want some time between logins (RFC 2449 §6.5); all doors of a process share
// one. The zero value is ready.
type Delays struct {
	mu   sync.Mutex // guards last
	last map[store.AccountID]visit
}

// visit is the last login that counted.
type visit struct {
	at time.Time
	// again is set when a second login was let in within the delay: some programs fetch in one session and delete in another at once.
	again bool
}

// admit reports whether a mailbox may be opened again, and remembers that it was. One further login within the delay is let in.
func (d *Delays) admit(now time.Time, account store.AccountID, delay time.Duration) bool {
	if delay <= 0 {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	last, known := d.last[account]
	within := known && now.Sub(last.at) < delay
	if within && last.again {
		return false
	}
	if d.last == nil {
		d.last = make(map[store.AccountID]visit)
	}
	if !known && len(d.last) >= maxDelays {
		d.forget(now, delay)
		if len(d.last) >= maxDelays {
			return true
		}
	}
	if within {
		last.again = true
	} else {
		last = visit{at: now}
	}
	d.last[account] = last
	return true
}

// takeBack undoes an admit at now, of a login that came to nothing.
func (d *Delays) takeBack(now time.Time, account store.AccountID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch last := d.last[account]; {
	case last.again:
		last.again = false
		d.last[account] = last
	case last.at.Equal(now):
		delete(d.last, account)
	}
}

// forget drops what is older than the delay.
func (d *Delays) forget(now time.Time, delay time.Duration) {
	for account, v := range d.last {
		if now.Sub(v.at) >= delay {
			delete(d.last, account)
		}
	}
}
