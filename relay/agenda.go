package relay

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"latchkey/store"
)

const (
	// maxLine bounds the destinations of one mailbox that are known to be due and wait for a worker. The others wait in the store.
	maxLine = 64
	// maxServed bounds the mailboxes whose mail one route takes in turn; the others wait in their lines.
	maxServed = 1000
)

// agenda is what is known to be due: for each mailbox a short line of destinations, so that the mail of one is found however much another
// has. It is not safe for concurrent use.
type agenda struct {
	lines map[store.AccountID]*line
	// last is the mailbox that had its turn last.
	last store.AccountID
	// stale says that there may be more than the lines tell of.
	stale bool
}

// line is what is known of one mailbox.
type line struct {
	submitter store.AccountID
	due       []store.Destination
	// more is set when the store has more than found room; after is the domain behind which it was not looked yet.
	more  bool
	after string
	// next is the earliest moment when more becomes due, zero for none.
	next time.Time
	// seen is set while the store is looked at, if it has anything of the mailbox.
	seen bool
}

func newAgenda() *agenda { return &agenda{lines: map[store.AccountID]*line{}, stale: true} }

func (a *agenda) line(submitter store.AccountID) *line {
	l := a.lines[submitter]
	if l == nil {
		l = &line{submitter: submitter}
		a.lines[submitter] = l
	}
	return l
}

// add notes a destination that is due. False means that its line is full.
func (l *line) add(d store.Destination) bool {
	switch {
	case slices.ContainsFunc(l.due, func(o store.Destination) bool { return o.Domain == d.Domain }):
		return true
	case len(l.due) >= maxLine:
		l.more = true
		return false
	}
	l.due = append(l.due, d)
	return true
}

// later notes that a destination becomes due at a moment.
func (l *line) later(at time.Time) {
	if l.next.IsZero() || at.Before(l.next) {
		l.next = at
	}
}

// wants reports whether the store has to be asked about the mailbox.
func (l *line) wants(now time.Time) bool {
	return l.more && len(l.due) <= maxLine/2 || !l.next.IsZero() && !now.Before(l.next)
}

// wants reports whether the store has to be asked about any.
func (a *agenda) wants(now time.Time) bool {
	if a.stale {
		return true
	}
	for _, l := range a.lines {
		if l.wants(now) {
			return true
		}
	}
	return false
}

// next is the earliest moment when more becomes due, zero for none.
func (a *agenda) next() time.Time {
	var next time.Time
	for _, l := range a.lines {
		if !l.next.IsZero() && (next.IsZero() || l.next.Before(next)) {
			next = l.next
		}
	}
	return next
}

// round returns the lines with something due: those whose mailboxes got the fewest places of late first, and among equals from the one
// behind that which had its turn last.
func (a *agenda) round(got func(store.AccountID) int) []*line {
	ids := slices.Sorted(maps.Keys(a.lines))
	i, found := slices.BinarySearch(ids, a.last)
	if found {
		i++
	}
	var lines []*line
	for _, id := range slices.Concat(ids[i:], ids[:i]) {
		if l := a.lines[id]; len(l.due) > 0 {
			lines = append(lines, l)
		}
	}
	slices.SortStableFunc(lines, func(a, b *line) int { return cmp.Compare(got(a.submitter), got(b.submitter)) })
	return lines
}

// tidy forgets the mailboxes that the store was found to have nothing of.
func (a *agenda) tidy() {
	for id, l := range a.lines {
		if !l.seen && len(l.due) == 0 {
			delete(a.lines, id)
		}
		l.seen = false
	}
}

// activity is what goes on for one route.
type activity struct {
	// workers are all that there are, connected those that found somebody, sending those that have a place to transfer.
	workers, connected, sending int
	// owners are the mailboxes that the workers were started for.
	owners map[store.AccountID]int
	// served are the mailboxes that have mail for the route, each with the one destination that is being worked on. They take turns.
	served []store.Destination
}

// serves returns the place of a mailbox among those that are served, or -1.
func (a *activity) serves(submitter store.AccountID) int {
	return slices.IndexFunc(a.served, func(d store.Destination) bool { return d.Submitter == submitter })
}

// startable reports whether a mailbox needs a worker of its own: nobody sends who could serve it, but waits in the name of another one.
func (a *activity) startable(owner store.AccountID) bool {
	return a.sending == 0 && a.owners[owner] == 0
}

// join lets a destination be served. False means that the mailbox has another one here, or that there are too many.
func (a *activity) join(d store.Destination) bool {
	switch i := a.serves(d.Submitter); {
	case i >= 0:
		return a.served[i].Domain == d.Domain
	case len(a.served) >= maxServed:
		return false
	}
	a.served = append(a.served, d)
	return true
}

// turn returns the destination whose turn it is, and lets the next one have the next.
func (a *activity) turn() (store.Destination, bool) {
	if len(a.served) == 0 {
		return store.Destination{}, false
	}
	d := a.served[0]
	a.served = append(a.served[1:], d)
	return d, true
}

// noteNext notes when the next job of a destination is due that is not leased: a look at all destinations tells of the first one only, and that
// may have been another.
func (r *Runner) noteNext(stop context.Context, d store.Destination) error {
	before := store.Destination{Submitter: d.Submitter, Domain: d.Domain[:len(d.Domain)-1]}
	if last := d.Domain[len(d.Domain)-1]; last > 0 {
		before.Domain += string([]byte{last - 1, 0xFF}) // no name is between this and the domain's own
	}
	found, err := r.opts.Store.Destinations(stop, r.opts.Now(), before, 1)
	if err == nil && len(found) > 0 && found[0].Submitter == d.Submitter && found[0].Domain == d.Domain {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.agenda.line(d.Submitter).later(found[0].Due)
		r.pokeRunner() // it may wait for a later moment, or for none
	}
	return err
}
