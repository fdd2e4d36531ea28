package guard

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"latchkey/store"
)

// Bounds of what is remembered of strangers at the mail doors.
const (
	// MaxStrangers bounds the clients, and the networks around them, that are counted: beyond it the one that was met longest ago is forgotten.
	MaxStrangers = 10_000
	// RelayBlock is how long a client that tries to relay again and again is kept from port 25.
	RelayBlock = 30 * time.Minute
	// MaxBombed bounds the mailboxes whose mail from strangers is counted.
	MaxBombed = 10_000
	// maxAskBack bounds what one accepted message gives back of the unknown recipients that were counted.
	maxAskBack = 10
)

// StrangerLimits are what a client without a login may do over all its connections. A zero field is the default of [DefaultStrangerLimits].
type StrangerLimits struct {
	// Relays are refused tries to relay, the last of which blocks the client for RelayBlock.
	Relays store.Limit
	// AsksAtOnce are recipients that do not exist and are answered at once, Asks those after which the connection ends. The networks around the
	// client may have three and nine times as many.
	AsksAtOnce, Asks store.Limit
	// Mail is what one mailbox gets from all strangers together. What comes beyond it is put off, so the mailbox is full of nothing by the morning.
	Mail store.Limit
}

// DefaultStrangerLimits returns the limits that fit one domain. A mail server that sends many letters to a list that has grown old meets none of
// them,
// as each message that is accepted gives some asks back.
func DefaultStrangerLimits() StrangerLimits {
	return StrangerLimits{
		Relays:     store.Limit{N: 3, Window: 30 * time.Minute},
		AsksAtOnce: store.Limit{N: 10, Window: time.Hour},
		Asks:       store.Limit{N: 50, Window: time.Hour},
		Mail:       store.Limit{N: 600, Window: time.Hour},
	}
}

// Ask is what becomes of a client that asks for a recipient that does not exist.
type Ask int

// What becomes of it, the worse the greater.
const (
	// AskAnswered: it is answered at once, AskSlow: after a while, AskEnded: its connection ends.
	AskAnswered Ask = iota
	AskSlow
	AskEnded
)

// Strangers counts over all connections what clients without a login do at the doors for mail. Every method may be called from any goroutine.
type Strangers struct {
	limits StrangerLimits
	known  func(netip.Addr) bool

	mu      sync.Mutex // protects the tables
	clients *table[netip.Prefix, stranger]
	bombed  *table[store.AccountID, store.Bucket]
}

// stranger is what is known of a client, or of a network around it.
type stranger struct {
	relays, slow, asks store.Bucket
	since, until       time.Time // of the block
}

// NewStrangers returns counters with nothing in them. known reports whether somebody logged in from an address lately: such clients are counted
// and never
// blocked, as a program without a login may sit beside one that has one. nil knows nobody.
func NewStrangers(limits StrangerLimits, known func(netip.Addr) bool) *Strangers {
	def := DefaultStrangerLimits()
	for _, f := range []struct{ set, def *store.Limit }{
		{&limits.Relays, &def.Relays}, {&limits.AsksAtOnce, &def.AsksAtOnce}, {&limits.Asks, &def.Asks}, {&limits.Mail, &def.Mail},
	} {
		if f.set.N == 0 {
			*f.set = *f.def
		}
	}
	if known == nil {
		known = func(netip.Addr) bool { return false }
	}
	return &Strangers{
		limits: limits, known: known, clients: newTable[netip.Prefix, stranger](MaxStrangers), bombed: newTable[store.AccountID, store.Bucket](MaxBombed),
	}
}

// Relayed counts a try to relay that was refused, and reports whether the client's connection is to end. From then on it is blocked for a while.
func (s *Strangers) Relayed(now time.Time, remote netip.Addr) (end bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients.use(Prefix(remote))
	if c.relays.Take(now, 1, s.limits.Relays).Left > 0 {
		return false
	}
	if !now.Before(c.until) {
		c.since = now
	}
	c.until = now.Add(RelayBlock)
	return true
}

// Asked counts a recipient that does not exist.
func (s *Strangers) Asked(now time.Time, remote netip.Addr) Ask {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := AskAnswered
	for _, one := range prefixes(remote) {
		c := s.clients.use(one.prefix)
		if !c.slow.Take(now, 1, one.limit(s.limits.AsksAtOnce)).OK {
			answer = max(answer, AskSlow)
		}
		if !c.asks.Take(now, 1, one.limit(s.limits.Asks)).OK {
			answer = max(answer, AskEnded)
		}
	}
	return answer
}

// Receives reports whether a mailbox takes more mail from strangers now.
func (s *Strangers) Receives(now time.Time, mailbox store.AccountID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bombed.peek(mailbox)
	return b == nil || has(*b, now, s.limits.Mail)
}

// Accepted tells of a message for n recipients, in those mailboxes, that a stranger brought: who has mail for people here may have some for people
// who left. Only what was taken counts for the mailboxes: who names one and brings nothing keeps nobody's mail from it.
func (s *Strangers) Accepted(now time.Time, remote netip.Addr, n int, mailboxes ...store.AccountID) {
	back := int64(min(n, maxAskBack))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, mailbox := range mailboxes {
		s.bombed.use(mailbox).Take(now, 1, s.limits.Mail)
	}
	for _, one := range prefixes(remote) {
		if c := s.clients.peek(one.prefix); c != nil {
			c.slow.Give(now, back, one.limit(s.limits.AsksAtOnce))
			c.asks.Give(now, back, one.limit(s.limits.Asks))
		}
	}
}

// Blocked reports whether a client is kept from port 25, and until when.
func (s *Strangers) Blocked(now time.Time, remote netip.Addr) (until time.Time, blocked bool) {
	s.mu.Lock()
	c := s.clients.peek(Prefix(remote))
	if c != nil {
		until = c.until
	}
	s.mu.Unlock()
	if !now.Before(until) || s.known(remote) {
		return time.Time{}, false
	}
	return until, true
}

// Blocks returns those that count now, in order of network.
func (s *Strangers) Blocks(now time.Time) []Ban {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Ban
	for e := s.clients.order.Front(); e != nil; e = e.Next() {
		if one := e.Value.(*tableEntry[netip.Prefix, stranger]); now.Before(one.value.until) {
			list = append(list, Ban{Network: one.key, Door: BanMX, Reason: BanRelaying, Since: one.value.since, Until: one.value.until})
		}
	}
	slices.SortFunc(list, compareBans)
	return list
}

// Lift forgets what was counted of the clients of a network, and returns the blocks that ended by it.
func (s *Strangers) Lift(now time.Time, network netip.Prefix) []Ban {
	lifted := slices.DeleteFunc(s.Blocks(now), func(b Ban) bool { return !network.Overlaps(b.Network) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients.removeFunc(func(prefix netip.Prefix, _ *stranger) bool { return network.Overlaps(prefix) })
	return lifted
}
