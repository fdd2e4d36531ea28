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
	// MaxKnownPairs bounds the networks of owners: a client together with a mailbox that logged in there, KnownAge for how long they are. Nobody
	// comes among them by guessing, so no flood of guesses drives them out.
	MaxKnownPairs = 10_000
	KnownAge      = 30 * 24 * time.Hour
	// maxStale is how many wrong passwords of one pair are remembered: those of an old phone and an old laptop, say.
	maxStale = 8
	// knownTimes is how many times as many wrong passwords are looked at in a network of the mailbox's owner.
	knownTimes = 3
)

// streakWindow is how long a full streak of misses takes to be forgotten: the next miss has the first delay then.
const streakWindow = 12 * time.Minute

// LoginLimits are how many different wrong passwords are looked at, and how long their answers wait. A zero field is the default of
// [DefaultLoginLimits].
type LoginLimits struct {
	// Pair counts one mailbox tried by one client; beyond it that client is banned from that mailbox (see [Ban]), unless the mailbox's owner is
	// known there: then it is three times as many, beyond which the client waits and is not banned.
	Pair store.Limit
	// Burst and Prefix count all mailboxes tried by one client whose owners are not known there, in the short and the long run. The networks around
	// it may do three and nine times as much.
	Burst, Prefix store.Limit
	// Shared counts all mailboxes tried by one client whose owners are known there: of an office, say, in which somebody guesses. Where half of it
	// is used an answer waits for Long; beyond it each such mailbox has Own for itself, whatever its neighbours do.
	Shared, Own store.Limit
	Long        time.Duration
	// Mailbox counts one mailbox tried from everywhere. Beyond it the passwords of clients where its owner is not known wait for Slow before
	// they are looked at, a few at a time: see [Logins.WaitSlow].
	Mailbox store.Limit
	Slow    time.Duration
	// Delays are how long the answer to a first, second, ... wrong password waits; the last one is for all that follow.
	Delays []time.Duration
}

// DefaultLoginLimits returns the limits that fit one domain.
func DefaultLoginLimits() LoginLimits {
	return LoginLimits{
		Pair:    store.Limit{N: 10, Window: 10 * time.Minute},
		Burst:   store.Limit{N: 10, Window: time.Minute},
		Prefix:  store.Limit{N: 50, Window: 24 * time.Hour},
		Shared:  store.Limit{N: 80, Window: 10 * time.Minute}, // as many as MaxWaitsPerClient that wait for Long
		Own:     store.Limit{N: 10, Window: 24 * time.Hour},
		Long:    time.Minute,
		Mailbox: store.Limit{N: 100, Window: time.Hour},
		Slow:    15 * time.Second,
		Delays:  []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 15 * time.Second},
	}
}

// withDefaults fills in what is zero.
func (l LoginLimits) withDefaults() LoginLimits {
	def := DefaultLoginLimits()
	for _, f := range []struct{ set, def *store.Limit }{
		{&l.Pair, &def.Pair}, {&l.Burst, &def.Burst}, {&l.Prefix, &def.Prefix}, {&l.Mailbox, &def.Mailbox},
		{&l.Shared, &def.Shared}, {&l.Own, &def.Own},
	} {
		if f.set.N == 0 {
			*f.set = *f.def
		}
	}
	if l.Slow == 0 {
		l.Slow = def.Slow
	}
	if l.Long == 0 {
		l.Long = def.Long
	}
	if len(l.Delays) == 0 {
		l.Delays = def.Delays
	}
	return l
}

// Logins counts failed logins over every door. It does not lock people out who know their password: the same wrong password again
// is an old device and not a guess, so it is counted once; and a mailbox that logged in from a client before is held up there by
// nobody else's guesses.
type Logins struct {
	limits LoginLimits
	key    [32]byte
	waits  *waits

	mu sync.Mutex // protects the tables
	// known are the pairs with a success, pairs the others.
	known, pairs *table[pairKey, misses]
	prefixes     *table[netip.Prefix, clientMisses]
	mailboxes    *table[string, mailboxMisses]
	homes        *table[netip.Prefix, time.Time] // when somebody logged in last
	bans         bans
}

type pairKey struct {
	prefix  netip.Prefix
	mailbox string
}

// misses is what is known of one pair.
type misses struct {
	// own is what is left where the owner's neighbours have used up what they share.
	bucket, own store.Bucket
	// stale are the marks of wrong passwords, the latest last.
	stale []mark
	// success is when the last login was.
	success time.Time
}

// clientMisses is what is known of a client, or of a network around it.
type clientMisses struct{ burst, day, shared, streak store.Bucket }

// mailboxMisses is what is known of a mailbox.
type mailboxMisses struct{ bucket, streak store.Bucket }

// mark stands for a wrong password: a hash under a key that dies with the process.
type mark [16]byte

// NewLogins returns counters with nothing in them.
func NewLogins(limits LoginLimits) *Logins {
	g := &Logins{
		limits: limits.withDefaults(), waits: newWaits(), bans: newBans(),
		known: newTable[pairKey, misses](MaxKnownPairs), pairs: newTable[pairKey, misses](MaxLoginPairs),
		prefixes: newTable[netip.Prefix, clientMisses](MaxLoginPrefixes), mailboxes: newTable[string, mailboxMisses](MaxLoginMailboxes),
		homes: newTable[netip.Prefix, time.Time](MaxLoginHomes),
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
	// Slow: look at the password after [Logins.WaitSlow].
	Slow
	// Banned: the client is banned from the mailbox; do not look at the password. [Logins.Banned] has until when.
	Banned
)

// Check says whether a password may be looked at. version is the account's credential version (0 for an unknown mailbox), so that a
// password that was wrong before a change is looked at again after it.
func (g *Logins) Check(now time.Time, remote netip.Addr, mailbox string, version uint64, password string) Verdict {
	scopes, m := prefixes(remote), g.mark(mailbox, version, password)
	g.mu.Lock()
	defer g.mu.Unlock()
	key := pairKey{scopes[0].prefix, mailbox}
	if p, known := g.pair(now, key); p != nil && p.repeats(m) {
		if !known {
			g.pairs.use(key)
		}
		return Stale
	}
	return g.verdict(now, remote, scopes, mailbox)
}

// CheckProof is Check for a login that shows a proof instead of its password (APOP, CRAM-MD5, SCRAM). It is never Stale: no proof comes
// twice.
func (g *Logins) CheckProof(now time.Time, remote netip.Addr, mailbox string) Verdict {
	scopes := prefixes(remote)
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.verdict(now, remote, scopes, mailbox)
}

// verdict is any but Stale. g.mu is held.
func (g *Logins) verdict(now time.Time, remote netip.Addr, scopes []scope, mailbox string) Verdict {
	key := pairKey{scopes[0].prefix, mailbox}
	if _, banned := g.bans.find(now, remote, key); banned {
		return Banned
	}
	p, known := g.pair(now, key)
	switch {
	case p != nil && !has(p.bucket, now, g.limits.pair(known)):
		return Throttled
	case known:
		return g.amongNeighbours(now, scopes[0].prefix, p)
	}
	for _, s := range scopes {
		m := g.prefixes.peek(s.prefix)
		if m != nil && (!has(m.burst, now, s.limit(g.limits.Burst)) || !has(m.day, now, s.limit(g.limits.Prefix))) {
			return Throttled
		}
	}
	if m := g.mailboxes.peek(mailbox); m != nil && !has(m.bucket, now, g.limits.Mailbox) {
		return Slow
	}
	return Proceed
}

// amongNeighbours is the verdict for a mailbox whose owner is known at a client. g.mu is held.
func (g *Logins) amongNeighbours(now time.Time, client netip.Prefix, p *misses) Verdict {
	m := g.prefixes.peek(client)
	if m == nil || has(m.shared, now, g.limits.Shared) || has(p.own, now, g.limits.Own) {
		return Proceed
	}
	return Throttled
}

// pair returns what is known of a pair, or nil; known is set where the mailbox's owner logged in lately. g.mu is held.
func (g *Logins) pair(now time.Time, key pairKey) (m *misses, known bool) {
	if m := g.known.peek(key); m != nil && now.Sub(m.success) < KnownAge {
		return m, true
	}
	return g.pairs.peek(key), false
}

// usePair is pair that makes an entry if there is none.
func (g *Logins) usePair(now time.Time, key pairKey) (m *misses, known bool) {
	if m, known := g.pair(now, key); known {
		return m, true
	}
	return g.pairs.use(key), false
}

// Failed counts a wrong password, the first time that it comes; counted says whether it was that.
func (g *Logins) Failed(now time.Time, remote netip.Addr, mailbox string, version uint64, password string) (counted bool) {
	scopes, m := prefixes(remote), g.mark(mailbox, version, password)
	g.mu.Lock()
	defer g.mu.Unlock()
	p, _ := g.usePair(now, pairKey{scopes[0].prefix, mailbox})
	if p.repeats(m) {
		return false
	}
	p.remember(m)
	g.count(now, scopes, mailbox)
	return true
}

// Outdated remembers a password that was the mailbox's before its last change: it is wrong and no guess, so it is counted nowhere, and is Stale
// from now on.
func (g *Logins) Outdated(now time.Time, remote netip.Addr, mailbox string, version uint64, password string) {
	m := g.mark(mailbox, version, password)
	g.mu.Lock()
	defer g.mu.Unlock()
	if p, _ := g.usePair(now, pairKey{Prefix(remote), mailbox}); !p.repeats(m) {
		p.remember(m)
	}
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
	key := pairKey{scopes[0].prefix, mailbox}
	p, known := g.usePair(now, key)
	if left := p.bucket.Take(now, 1, g.limits.pair(known)).Left; left == 0 && !known {
		g.bans.guessed(now, key)
	}
	for i, s := range scopes {
		m := g.prefixes.use(s.prefix)
		m.streak.Take(now, 1, g.limits.streak())
		switch {
		case !known:
			m.burst.Take(now, 1, s.limit(g.limits.Burst))
			m.day.Take(now, 1, s.limit(g.limits.Prefix))
		case i == 0 && !m.shared.Take(now, 1, g.limits.Shared).OK:
			p.own.Take(now, 1, g.limits.Own)
		}
	}
	m := g.mailboxes.use(mailbox)
	m.bucket.Take(now, 1, g.limits.Mailbox)
	m.streak.Take(now, 1, g.limits.streak())
}

// Delay returns how long the answer to a miss that was just counted waits: by the misses of this client, and by those at this mailbox unless its
// owner is known there, whichever is longer. Where somebody guesses at the mailboxes of an office it is Long: who waits for answers guesses no
// faster then than Shared comes back, and those who know their password do not wait.
func (g *Logins) Delay(now time.Time, remote netip.Addr, mailbox string) time.Duration {
	prefix := Prefix(remote)
	g.mu.Lock()
	defer g.mu.Unlock()
	_, known := g.pair(now, pairKey{prefix, mailbox})
	var n int64
	if m := g.prefixes.peek(prefix); m != nil {
		if known && 2*used(m.shared, now, g.limits.Shared) >= g.limits.Shared.N {
			return g.limits.Long
		}
		n = used(m.streak, now, g.limits.streak())
	}
	if !known {
		if m := g.mailboxes.peek(mailbox); m != nil {
			n = max(n, used(m.streak, now, g.limits.streak()))
		}
	}
	if n == 0 {
		return 0
	}
	return g.limits.Delays[n-1]
}

// Succeeded takes the misses of this mailbox from there out of every count but that of neighbours, and remembers that its owner is to be found there.
func (g *Logins) Succeeded(now time.Time, remote netip.Addr, mailbox string) {
	scopes := prefixes(remote)
	key := pairKey{scopes[0].prefix, mailbox}
	g.mu.Lock()
	defer g.mu.Unlock()
	*g.homes.use(key.prefix) = now
	p, known := g.pair(now, key)
	var before misses
	if p != nil {
		before = *p
	}
	spent := used(before.bucket, now, g.limits.pair(known))
	g.pairs.remove(key)
	g.bans.guesses.remove(key) // its password was being looked at when the ban came
	*g.known.use(key) = misses{own: before.own, stale: before.stale, success: now}
	if spent == 0 {
		return
	}
	for _, s := range scopes {
		m := g.prefixes.use(s.prefix)
		if !known {
			m.burst.Give(now, spent, s.limit(g.limits.Burst))
			m.day.Give(now, spent, s.limit(g.limits.Prefix))
		}
		m.streak.Give(now, spent, g.limits.streak())
	}
	m := g.mailboxes.use(mailbox)
	m.bucket.Give(now, spent, g.limits.Mailbox)
	m.streak.Give(now, spent, g.limits.streak())
}

// Remember makes known what was seen before the process began: a mailbox logged in from a client's address at that time. What is known better
// stays. It is for the start.
func (g *Logins) Remember(at time.Time, remote netip.Addr, mailbox string) {
	key := pairKey{Prefix(remote), mailbox}
	g.mu.Lock()
	defer g.mu.Unlock()
	if last := g.homes.peek(key.prefix); last == nil || last.Before(at) {
		*g.homes.use(key.prefix) = at
	}
	if m := g.known.peek(key); m == nil || m.success.Before(at) {
		g.known.use(key).success = at
	}
}

// Home reports whether somebody logged in from a client's address in the last HomeAge, as far as this process knows.
func (g *Logins) Home(now time.Time, remote netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	last := g.homes.peek(Prefix(remote))
	return last != nil && now.Sub(*last) < HomeAge
}

// Known reports whether a mailbox logged in from a client's address in the last KnownAge, as far as this process knows.
func (g *Logins) Known(now time.Time, remote netip.Addr, mailbox string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, known := g.pair(now, pairKey{Prefix(remote), mailbox})
	return known
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

// remember makes a wrong password the latest.
func (p *misses) remember(m mark) {
	if p.stale = append(p.stale, m); len(p.stale) > maxStale {
		p.stale = slices.Delete(p.stale, 0, 1)
	}
}

func (g *Logins) mark(mailbox string, version uint64, password string) mark {
	h := hmac.New(sha256.New, g.key[:])
	h.Write(binary.BigEndian.AppendUint64(nil, version))
	h.Write([]byte(mailbox))
	h.Write([]byte{0})
	h.Write([]byte(password))
	return mark(h.Sum(nil))
}

// pair is the limit of one mailbox tried by one client.
func (l LoginLimits) pair(known bool) store.Limit {
	if known {
		return store.Limit{N: l.Pair.N * knownTimes, Window: l.Pair.Window}
	}
	return l.Pair
}

// streak counts misses as far as there are delays.
func (l LoginLimits) streak() store.Limit {
	return store.Limit{N: int64(len(l.Delays)), Window: streakWindow}
}

// limit is the limit of a client, or of a network around it.
func (s scope) limit(l store.Limit) store.Limit {
	return store.Limit{N: l.N * int64(s.times), Window: l.Window}
}

// has reports whether another miss would be looked at. The bucket is a copy.
func has(b store.Bucket, now time.Time, l store.Limit) bool { return b.Take(now, 0, l).Left > 0 }

// used is how many units are out of a bucket now.
func used(b store.Bucket, now time.Time, l store.Limit) int64 { return l.N - b.Take(now, 0, l).Left }
