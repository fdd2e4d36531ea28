package relay

import (
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"

	"latchkey/store"
)

// How mail goes to a provider that blocks this server, or may do so.
const (
	// firstSlow is the time between two messages at first, maxSlow the longest, leastSlow the shortest. A block doubles it, a success halves it.
	firstSlow, maxSlow, leastSlow = time.Minute, 5 * time.Minute, 10 * time.Second
	// calmAfter successes in a row end it, and so does slowTime without another block.
	calmAfter = 5
	slowTime  = 6 * time.Hour
	// slowAhead bounds the turns that are given to destinations which wait for one: so far from now is the last.
	slowAhead = time.Hour
	// maxProviders bounds the providers that are known; beyond it those go whose time is over, and then any.
	maxProviders = 1000
)

// Slow is a provider whose mail goes slowly.
type Slow struct {
	// Provider is the domain of its mail exchangers.
	Provider string `json:"provider"`
	// Since is when that began. Until is when it ends if nothing speaks against it, Next the moment of the next message, Pause the time between two.
	Since time.Time     `json:"since"`
	Until time.Time     `json:"until"`
	Next  time.Time     `json:"next"`
	Pause time.Duration `json:"pause"`
	// Why is the answer with which it refused mail, or that this server's address is on a blocklist.
	Why string `json:"why"`
}

// whyListed is the reason while nobody has refused anything yet.
const whyListed = "a blocklist lists an address of this server"

// provider is what is known of one.
type provider struct {
	Slow
	// tail is the turn behind all that were given away.
	tail time.Time
	// good counts the successes since the last block.
	good int
	// slow says that its mail goes slowly; otherwise it has proved in the listing-th listing that it does not mind that.
	slow    bool
	listing int
}

// providers are those that block this server, or may do so because it is on a blocklist: their mail goes one message after another, with time
// between. All hosts of one registered domain are one provider: they ask the same lists.
type providers struct {
	mu    sync.Mutex // protects what follows
	known map[string]*provider
	// listed is set while an address of ours is on a blocklist, listing counts how often that began.
	listed  bool
	listing int
}

func newProviders() *providers { return &providers{known: map[string]*provider{}} }

// providerOf is the registered domain of a mail exchanger, or its whole name if it has none.
func providerOf(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if registered, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil && !strings.HasPrefix(host, "[") {
		return registered
	}
	return host
}

// slowed returns the provider of a host if its mail goes slowly now. p.mu is held.
func (p *providers) slowed(host string, now time.Time) *provider {
	name := providerOf(host)
	one := p.known[name]
	switch {
	case one != nil && one.slow && !now.Before(one.Until):
		p.calm(one)
		return nil
	case one != nil && one.slow:
		return one
	case !p.listed || one != nil && one.listing == p.listing:
		return nil
	}
	return p.begin(name, whyListed, now)
}

// begin lets the mail of a provider go slowly. p.mu is held.
func (p *providers) begin(name, why string, now time.Time) *provider {
	if _, known := p.known[name]; !known && len(p.known) >= maxProviders {
		p.makeRoom(now)
	}
	one := &provider{
		Slow: Slow{Provider: name, Since: now, Until: now.Add(slowTime), Next: now, Pause: firstSlow, Why: why}, slow: true, listing: p.listing,
	}
	p.known[name] = one
	return one
}

// makeRoom forgets some. p.mu is held.
func (p *providers) makeRoom(now time.Time) {
	for name, one := range p.known {
		if !one.slow || !now.Before(one.Until) {
			delete(p.known, name)
		}
	}
	for name := range p.known {
		if len(p.known) < maxProviders {
			return
		}
		delete(p.known, name)
	}
}

// calm lets the mail of a provider go as ever. p.mu is held.
func (p *providers) calm(one *provider) {
	if p.listed {
		one.slow, one.listing = false, p.listing
	} else {
		delete(p.known, one.Provider)
	}
}

// turn says whether a message may go to a host now; book takes the turn for it. If not, until is when the asker may ask again: everybody who asks
// gets a turn of his own, as far as slowAhead.
func (p *providers) turn(host string, now time.Time, book bool) (until time.Time, slow Slow, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.slowed(host, now)
	switch {
	case one == nil:
		return time.Time{}, Slow{}, true
	case now.Before(one.Next):
		until = one.Next
		if one.tail.After(until) {
			until = one.tail
		}
		one.tail = until.Add(one.Pause)
		if last := now.Add(slowAhead); one.tail.After(last) {
			one.tail = last
		}
		return until, one.Slow, false
	case book:
		one.Next = now.Add(one.Pause)
	}
	return time.Time{}, one.Slow, true
}

// blocked notes that a host refuses or puts off mail of this server, whoever sent it. began says that it did not so before.
func (p *providers) blocked(host, why string, now time.Time) (began bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.slowed(host, now)
	if began = one == nil; began {
		one = p.begin(providerOf(host), why, now)
	} else if one.Why != whyListed {
		one.Pause = min(2*one.Pause, maxSlow)
	}
	one.Pause = max(one.Pause, firstSlow)
	one.Why, one.good, one.Until, one.Next = why, 0, now.Add(slowTime), now.Add(one.Pause)
	return began
}

// succeeded notes that a host took a message. ended says that its provider's mail goes as ever from now on.
func (p *providers) succeeded(host string, now time.Time) (ended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.slowed(host, now)
	if one == nil {
		return false
	}
	if one.good++; one.good >= calmAfter {
		p.calm(one)
		return true
	}
	one.Pause = max(one.Pause/2, leastSlow)
	if next := now.Add(one.Pause); next.Before(one.Next) {
		one.Next = next
	}
	return false
}

// setListed notes whether an address of ours is on a blocklist.
func (p *providers) setListed(listed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if listed == p.listed {
		return
	}
	p.listed = listed
	if listed {
		p.listing++
		return
	}
	for name, one := range p.known {
		if !one.slow || one.Why == whyListed {
			delete(p.known, name)
		}
	}
}

// all are those whose mail goes slowly, in no order.
func (p *providers) all(now time.Time) []Slow {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []Slow
	for _, one := range p.known {
		if one.slow && now.Before(one.Until) {
			list = append(list, one.Slow)
		}
	}
	return list
}

// blocks reports whether an answer is about this server's reputation rather than about a message or a recipient: mail of others would fare no
// better. Greylisting is not, nor a host that has as many connections of ours as it wants, which its window sees to.
func blocks(v verdict) bool {
	if !v.answered || v.kind == store.Delivered {
		return false
	}
	words := strings.ToLower(v.words)
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(words, part) })
	}
	_, detail, _ := strings.Cut(v.status, ".")
	policy := strings.HasPrefix(detail, "7.")
	switch {
	case has("greylist", "graylist", "grey-list"):
		return false
	case !policy && detail != "0.0" && v.scope < aboutHost:
		return false
	case has("blocklist", "block list", "blacklist", "black list", "black-list", "denylist", "deny list", "blocked", "listed at", "listed by",
		"listed in", "listed on", "is listed", "dnsbl", " rbl", "spamhaus", "spamcop", "barracuda", "reputation", "unsolicited", "complaints", "banned"):
		return true
	}
	return policy && strings.HasPrefix(words, "421") && !has("too many", "connections", "concurrent", "sessions", "busy", "idle", "timeout")
}
