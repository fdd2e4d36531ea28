package webmanager

import (
	"context"
	"sync"
	"time"

	"latchkey/internal/zone"
)

const (
	// dnsFresh is how old a comparison with the DNS may be before the overview wants another one, dnsPause how long after one was begun
	// the next may be.
	dnsFresh = time.Hour
	dnsPause = 5 * time.Minute
)

// DNSLook is what a comparison with the DNS found, and when.
type DNSLook struct {
	// At is when that was, zero for never since the server started. Looking is set while another one is made, or about to be.
	At       time.Time      `json:"at,omitzero"`
	Looking  bool           `json:"looking"`
	Findings []zone.Finding `json:"findings"`
}

// dnsWatch keeps the last comparison with the DNS, for pages that do not wait for one.
type dnsWatch struct {
	// wanted wakes watchDNS.
	wanted chan struct{}

	mu   sync.Mutex // protects what follows
	last DNSLook
	// running is set while somebody waits for wanted; begun is when he was last woken.
	running bool
	begun   time.Time
}

// keep notes what was found.
func (w *dnsWatch) keep(at time.Time, findings []zone.Finding) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last.At, w.last.Findings = at, findings
}

// look returns what was last found, and has the DNS looked at if that is old and somebody can.
func (w *dnsWatch) look(now time.Time) DNSLook {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.last.At.IsZero() || now.Sub(w.last.At) >= dnsFresh
	if old && w.running && !w.last.Looking && (w.begun.IsZero() || now.Sub(w.begun) >= dnsPause) {
		w.begun, w.last.Looking = now, true
		select {
		case w.wanted <- struct{}{}:
		default: // whoever waited before has left it
		}
	}
	seen := w.last
	if seen.Findings == nil {
		seen.Findings = []zone.Finding{}
	}
	return seen
}

// watchDNS looks at the DNS whenever that is wanted, until ctx ends.
func (a *API) watchDNS(ctx context.Context) {
	w := &a.looked
	set := func(running bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.running, w.last.Looking = running, false
	}
	if a.dns == nil {
		return
	}
	set(true)
	defer set(false)
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wanted:
		}
		if _, err := a.lookAtDNS(ctx, false); err != nil && ctx.Err() == nil {
			a.log.Error("the DNS could not be compared with what should be published", "err", err)
		}
		set(true)
	}
}
