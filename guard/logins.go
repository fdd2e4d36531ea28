package guard

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"time"

	"latchkey/store"
)

// Bounds of what Logins remembers; beyond each the entry that was used longest ago is forgotten.
const (
	MaxLoginPairs     = 20_000
	MaxLoginPrefixes  = 20_000
	MaxLoginMailboxes = 10_000
	// MaxLoginHomes bounds the clients that are known as ones from where somebody logged in, HomeAge for how long they are.
	MaxLoginHomes = 10_000
	HomeAge       = 7 * 24 * time.Hour
	// maxStale is how many wrong passwords of one pair are remembered: those of an old phone and an old laptop, say.
	maxStale = 8
)

// LoginLimits are how many different wrong passwords are looked at. A zero field is the default of [DefaultLoginLimits].
type LoginLimits struct {
	// Pair counts one mailbox tried by one client, Prefix all mailboxes tried by it (three and nine times as much for the networks around
	// it), Mailbox one mailbox tried from everywhere.
	Pair, Prefix, Mailbox store.Limit
}

// DefaultLoginLimits returns the limits that fit one domain.
func DefaultLoginLimits() LoginLimits {
	return LoginLimits{
		Pair:    store.Limit{N: 10, Window: 10 * time.Minute},
		Prefix:  store.Limit{N: 50, Window: 10 * time.Minute},
		Mailbox: store.Limit{N: 100, Window: time.Hour},
	}
}

// Logins counts failed logins over every door. It does not lock people out who know their password: the same wrong password again
// is an old device and not a guess, so it is counted once; and a mailbox that logged in from a prefix before is held up there by
// nobody else's guesses.
type Logins struct {
	limits LoginLimits
	key    [32]byte

	mu        sync.Mutex // protects the tables
	pairs     *table[pairKey, misses]
	prefixes  *table[netip.Prefix, misses]
	mailboxes *table[string, misses]
	homes     *table[netip.Prefix, time.Time] // when somebody logged in last
}

type pairKey struct {
	prefix  netip.Prefix
	mailbox string
}

// misses is what is known of one key.
type misses struct {
	bucket store.Bucket
	// stale are the marks of wrong passwords, the latest last; known is set after a success. Both are for pairs only.
	stale []mark
	known bool
}

// mark stands for a wrong password: a hash under a key that dies with the process.
type mark [16]byte

// NewLogins returns counters with nothing in them.
func NewLogins(limits LoginLimits) *Logins {
	def := DefaultLoginLimits()
	for _, l := range []struct{ set, def *store.Limit }{
		{&limits.Pair, &def.Pair}, {&limits.Prefix, &def.Prefix}, {&limits.Mailbox, &def.Mailbox},
	} {
		if l.set.N == 0 {
			*l.set = *l.def
		}
	}
	g := &Logins{
		limits: limits, pairs: newTable[pairKey, misses](MaxLoginPairs), prefixes: newTable[netip.Prefix, misses](MaxLoginPrefixes),
		mailboxes: newTable[string, misses](MaxLoginMailboxes), homes: newTable[netip.Prefix, time.Time](MaxLoginHomes),
	}
	_, _ = rand.Read(g.key[:]) // never fails: crypto/rand ends the process instead
	return g
}

// Verdict is what Check says of an attempt.
type Verdict int

// The verdicts.
const (
	// Proceed: look at the password.
	Proceed Verdict = iota
	// Stale: this very password was wrong for this mailbox before, from there; it needs no second look.
	Stale
	// Throttled: too many guesses; do not look at the password.
	Throttled
)

// Check says whether a password may be looked at. version is the account's credential version (0 for an unknown mailbox), so that a
// password that was wrong before a change is looked at again after it.
func (g *Logins) Check(now time.Time, remote netip.Addr, mailbox string, version uint64, password string) Verdict {
	scopes, m := prefixes(remote), g.mark(mailbox, version, password)
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.pairs.peek(pairKey{scopes[0].prefix, mailbox}); p != nil && p.repeats(m) {
		g.pairs.use(pairKey{scopes[0].prefix, mailbox})
		return Stale
	}
	return g.verdict(now, scopes, mailbox)
}

// CheckProof is Check for a login that shows a proof instead of its password (APOP, CRAM-MD5, SCRAM). It is never Stale: no proof comes
// twice.
func (g *Logins) CheckProof(now time.Time, remote netip.Addr, mailbox string) Verdict {
	scopes := prefixes(remote)
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.verdict(now, scopes, mailbox)
}

// verdict is Proceed or Throttled. g.mu is held.
func (g *Logins) verdict(now time.Time, scopes []scope, mailbox string) Verdict {
	p := g.pairs.peek(pairKey{scopes[0].prefix, mailbox})
	switch {
	case p == nil:
	case !has(p.bucket, now, g.limits.Pair):
		return Throttled
	case p.known:
		return Proceed
	}
	for _, s := range scopes {
		if m := g.prefixes.peek(s.prefix); m != nil && !has(m.bucket, now, g.limits.around(s)) {
			return Throttled
		}
	}
	if m := g.mailboxes.peek(mailbox); m != nil && !has(m.bucket, now, g.limits.Mailbox) {
		return Throttled
	}
	return Proceed
}

// Failed counts a wrong password, the first time that it comes; counted says whether it was that.
func (g *Logins) Failed(now time.Time, remote netip.Addr, mailbox string, version uint64, password string) (counted bool) {
	scopes, m := prefixes(remote), g.mark(mailbox, version, password)
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.pairs.use(pairKey{scopes[0].prefix, mailbox})
	if p.repeats(m) {
		return false
	}
	p.stale = append(p.stale, m)
	if len(p.stale) > maxStale {
		p.stale = slices.Delete(p.stale, 0, 1)
	}
	g.count(now, scopes, mailbox)
	return true
}

// FailedProof counts a wrong proof where wrong passwords are counted. Each is one more guess: which password it was made of nobody knows.
func (g *Logins) FailedProof(now time.Time, remote netip.Addr, mailbox string) {
	scopes := prefixes(remote)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count(now, scopes, mailbox)
}

// count counts one guess. g.mu is held.
func (g *Logins) count(now time.Time, scopes []scope, mailbox string) {
	g.pairs.use(pairKey{scopes[0].prefix, mailbox}).bucket.Take(now, 1, g.limits.Pair)
	for _, s := range scopes {
		g.prefixes.use(s.prefix).bucket.Take(now, 1, g.limits.around(s))
	}
	g.mailboxes.use(mailbox).bucket.Take(now, 1, g.limits.Mailbox)
}

// Succeeded takes the misses of this mailbox from there out of every count, and remembers that its owner is to be found there.
func (g *Logins) Succeeded(now time.Time, remote netip.Addr, mailbox string) {
	scopes := prefixes(remote)
	g.mu.Lock()
	defer g.mu.Unlock()
	*g.homes.use(scopes[0].prefix) = now
	p := g.pairs.use(pairKey{scopes[0].prefix, mailbox})
	spent := g.limits.Pair.N - p.bucket.Take(now, 0, g.limits.Pair).Left
	p.bucket, p.known = store.Bucket{}, true
	if spent == 0 {
		return
	}
	for _, s := range scopes {
		g.prefixes.use(s.prefix).bucket.Give(now, spent, g.limits.around(s))
	}
	g.mailboxes.use(mailbox).bucket.Give(now, spent, g.limits.Mailbox)
}

// Home reports whether somebody logged in from a client's address in the last HomeAge, as far as this process knows.
func (g *Logins) Home(now time.Time, remote netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	last := g.homes.peek(Prefix(remote))
	return last != nil && now.Sub(*last) < HomeAge
}

// repeats reports whether a wrong password was seen before, and makes it the latest.
func (p *misses) repeats(m mark) bool {
	i := slices.Index(p.stale, m)
	if i < 0 {
		return false
	}
	p.stale = append(slices.Delete(p.stale, i, i+1), m)
	return true
}

func (g *Logins) mark(mailbox string, version uint64, password string) mark {
	h := hmac.New(sha256.New, g.key[:])
	h.Write(binary.BigEndian.AppendUint64(nil, version))
	h.Write([]byte(mailbox))
	h.Write([]byte{0})
	h.Write([]byte(password))
	return mark(h.Sum(nil))
}

// around is the limit of a client, or of a network around it.
func (l LoginLimits) around(s scope) store.Limit {
	return store.Limit{N: l.Prefix.N * int64(s.times), Window: l.Prefix.Window}
}

// has reports whether another miss would be looked at. The bucket is a copy.
func has(b store.Bucket, now time.Time, l store.Limit) bool { return b.Take(now, 0, l).Left > 0 }
