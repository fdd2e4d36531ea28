package relay

import (
	"context"
	"slices"
	"sync"

	"latchkey/store"
)

// shareOfFree bounds what one mailbox may hold of the places: so many times what is still free. One alone gets three quarters, two get
// three sevenths each, and however many there are, a newcomer always finds a free one.
const shareOfFree = 3

// mayHold reports whether whoever holds some places may have another one, of max places of which used are taken.
func mayHold(held, used, most int) bool {
	free := most - used
	return free > 0 && (held == 0 || held < shareOfFree*free)
}

// places are a bounded number of places for workers, shared fairly between the mailboxes that they work for: whoever holds the fewest
// gets the next one, and among equals whoever got fewer of late, so that one with little mail comes before those with much.
type places struct {
	// reserve is set where nobody may hold so many that a newcomer finds none.
	reserve bool

	mu      sync.Mutex // protects what follows
	most    int
	used    int
	held    map[store.AccountID]int
	waiting []*waiter
	// spent counts the places that each owner got of late: all are halved whenever there were many.
	spent map[store.AccountID]int
	total int
}

// waiter waits for a place.
type waiter struct {
	owner   store.AccountID
	granted chan struct{}
}

func newPlaces(most int, reserve bool) *places {
	return &places{most: most, reserve: reserve, held: map[store.AccountID]int{}, spent: map[store.AccountID]int{}}
}

// may reports whether an owner may have another place. p.mu is held.
func (p *places) may(owner store.AccountID) bool {
	if p.reserve {
		return mayHold(p.held[owner], p.used, p.most)
	}
	return p.used < p.most
}

// tryTake takes a place if there is one for this owner, and nobody has waited for it longer.
func (p *places) tryTake(owner store.AccountID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.may(owner) || len(p.waiting) > 0 && !p.reserve {
		return false
	}
	p.add(owner, 1)
	p.spend(owner)
	return true
}

// got returns how many places an owner got of late.
func (p *places) got(owner store.AccountID) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spent[owner]
}

// spend counts a place that was given. p.mu is held.
func (p *places) spend(owner store.AccountID) {
	p.spent[owner]++
	if p.total++; p.total <= 4*p.most+64 {
		return
	}
	p.total = 0
	for owner, n := range p.spent {
		if n /= 2; n == 0 {
			delete(p.spent, owner)
			continue
		}
		p.spent[owner] = n
		p.total += n
	}
}

// take waits for a place; false is the end of ctx.
func (p *places) take(ctx context.Context, owner store.AccountID) bool {
	w := &waiter{owner: owner, granted: make(chan struct{})}
	p.mu.Lock()
	p.waiting = append(p.waiting, w)
	p.grant()
	p.mu.Unlock()
	select {
	case <-w.granted:
		return true
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, w); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		return false
	}
	p.add(owner, -1) // granted in the same moment
	p.grant()
	return false
}

// give returns a place.
func (p *places) give(owner store.AccountID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.add(owner, -1)
	p.grant()
}

// rename makes one owner's place another's, if it has one.
func (p *places) rename(from, to store.AccountID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[from] == 0 {
		return false
	}
	p.add(from, -1)
	p.add(to, 1)
	return true
}

// force gives an owner a place, whether there is one or not.
func (p *places) force(owner store.AccountID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.add(owner, 1)
	return true
}

// handOver returns one owner's place: to whoever waits, or else to another owner.
func (p *places) handOver(from, to store.AccountID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.add(from, -1)
	before := p.used
	if p.grant(); p.used == before {
		p.add(to, 1)
	}
}

// count returns how many places an owner has.
func (p *places) count(owner store.AccountID) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held[owner]
}

// resize changes how many places there are. Those that are taken stay.
func (p *places) resize(most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.most = most
	p.grant()
}

// taken returns how many places are taken.
func (p *places) taken() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}

// free reports whether there is a place that nobody waits for.
func (p *places) free() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used < p.most && len(p.waiting) == 0
}

// idle reports whether nobody has a place or waits for one.
func (p *places) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used == 0 && len(p.waiting) == 0
}

// wanted reports whether somebody waits who holds less than this owner, or anybody at all once its turn is over.
func (p *places) wanted(owner store.AccountID, over bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting) > 0 && (over || slices.ContainsFunc(p.waiting, func(w *waiter) bool { return p.held[w.owner] < p.held[owner] }))
}

// add counts places. p.mu is held.
func (p *places) add(owner store.AccountID, n int) {
	p.used += n
	if p.held[owner] += n; p.held[owner] == 0 {
		delete(p.held, owner)
	}
}

// grant gives what is free to those who wait. p.mu is held.
func (p *places) grant() {
	for p.used < p.most {
		best := -1
		for i, w := range p.waiting {
			if p.may(w.owner) && (best < 0 || p.before(w.owner, p.waiting[best].owner)) {
				best = i
			}
		}
		if best < 0 {
			return
		}
		w := p.waiting[best]
		p.waiting = slices.Delete(p.waiting, best, best+1)
		p.add(w.owner, 1)
		p.spend(w.owner)
		close(w.granted)
	}
}

// before reports whether one owner comes before another one who came first. p.mu is held.
func (p *places) before(a, b store.AccountID) bool {
	return p.held[a] < p.held[b] || p.held[a] == p.held[b] && p.spent[a] < p.spent[b]
}
