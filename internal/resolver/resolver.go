package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// The bounds on what one answer can make of us.
const (
	// MaxMX is how many mail exchangers of a domain are used: the best.
	MaxMX = 32
	// MaxAddrs is how many addresses of a host are used.
	MaxAddrs = 32
	// maxCNAMEs is how many aliases lead from a name to its data at most. Some recursive servers stop at 8 as well.
	maxCNAMEs = 8
)

// The bounds of Options.
const (
	// DefaultTimeout is how long one exchange with one server takes at most.
	DefaultTimeout = 5 * time.Second
	// DefaultAttempts is how often a server that does not answer is asked.
	DefaultAttempts = 2
	// MaxServers is how many servers can be named.
	MaxServers = 8

	maxTimeout  = 30 * time.Second // as in the C library
	maxAttempts = 5                // likewise
)

// Options are the settings of a Resolver. The zero Options ask the system's name servers.
type Options struct {
	// Servers are the recursive name servers, asked in this order, MaxServers at most. With none, those of File are asked.
	Servers []netip.AddrPort
	// File is a file in the form of resolv.conf(5), read again when it changes: /etc/resolv.conf by default. It counts only without
	// Servers; its options timeout and attempts count only where these Options have none. If it does not exist or names no server,
	// 127.0.0.1:53 is asked.
	File string
	// Timeout bounds one exchange with one server: DefaultTimeout by default, 30 s at most.
	Timeout time.Duration
	// Attempts is the number of rounds over the servers: DefaultAttempts by default, 5 at most. In later rounds only those are asked
	// that did not answer at all: a packet may be lost, but a refusal is not.
	Attempts int
	// Trust says whose word counts that an answer is validated (DNSSEC): TrustLoopback by default.
	Trust Trust
	// Now is the clock of the cache: time.Now by default.
	Now func() time.Time
	// Logger is told of MX records that cannot be used and of what is wrong with File. Nil logs nothing.
	Logger *slog.Logger
}

// Resolver asks name servers and remembers what they said. It is safe for concurrent use. Nothing has to be closed: no goroutine of
// it outlives the call that it serves.
type Resolver struct {
	log   *slog.Logger
	now   func() time.Time
	conf  *config
	trust Trust

	mu      sync.Mutex // protects the fields below; nothing is asked under it
	cache   *cache
	flights map[key]*flight // one entry for each question that somebody waits for now
}

// New makes a Resolver. It asks nobody yet, and a File that cannot be read is not an error of New: the system's may come later.
func New(o Options) (*Resolver, error) {
	if len(o.Servers) > MaxServers {
		return nil, fmt.Errorf("resolver: %d name servers, at most %d can be used", len(o.Servers), MaxServers)
	}
	for _, s := range o.Servers {
		if !s.IsValid() || s.Port() == 0 {
			return nil, fmt.Errorf("resolver: %s is no address and port of a name server", s)
		}
	}
	if o.Timeout < 0 || o.Timeout > maxTimeout {
		return nil, fmt.Errorf("resolver: time-out of %s, at most %s can be had", o.Timeout, maxTimeout)
	}
	if o.Attempts < 0 || o.Attempts > maxAttempts {
		return nil, fmt.Errorf("resolver: %d attempts, at most %d can be had", o.Attempts, maxAttempts)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Resolver{
		log:     o.Logger,
		now:     o.Now,
		conf:    newConfig(o),
		trust:   o.Trust,
		cache:   newCache(maxCached, maxCachedOctets),
		flights: map[key]*flight{},
	}, nil
}

// MX is one place where mail for a domain can go.
type MX struct {
	// Host is a host name in lower case without a trailing dot. Addrs knows its addresses.
	Host string
	// Preference: the lowest is tried first.
	Preference uint16
	// Implicit: the domain has no MX records, and Host is the domain itself.
	Implicit bool
	// Secure: a trusted server has validated (DNSSEC) that this is so.
	Secure bool
}

// MX says where mail for a domain goes, best first and MaxMX hosts at most. Hosts of equal preference are in random order, another in
// each call (RFC 5321 §5.1). A domain without MX records is its own and only mail exchanger. A domain that does not exist is
// ErrNotFound, and so is one whose MX records name no host that can be used; one that takes no mail is ErrNullMX. If the servers
// cannot say whether there are MX records, that is ErrTemporary: addresses of the domain must not be used then.
//
// The domain is in canonical form (mailaddr.CanonicalDomain). An address literal is ErrNotFound: it is not in the DNS.
func (r *Resolver) MX(ctx context.Context, domain string) ([]MX, error) {
	name, ok := hostName(domain)
	if !ok {
		return nil, notFound("", "%+.64q is no domain name", domain)
	}
	a := r.lookup(ctx, key{name, dns.TypeMX})
	if a.noData {
		return []MX{{Host: name, Implicit: true, Secure: a.secure}}, nil
	}
	if a.err != nil {
		return nil, a.err
	}
	list := slices.Clone(a.mx)
	for i := range list {
		list[i].Secure = a.secure
	}
	sortMX(list)
	return list, nil
}

// sortMX puts the best first, and equals in random order.
func sortMX(list []MX) {
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	slices.SortStableFunc(list, func(a, b MX) int { return int(a.Preference) - int(b.Preference) })
}

// Addrs gives the addresses of a host, MaxAddrs at most. Both families are asked at once. The result begins with an IPv4 address,
// where there is one, and then the families take turns, so that whoever tries only the first few has tried both; within a family the
// order is random, another in each call. IPv4-mapped IPv6 addresses are given as IPv4.
//
// If one family cannot be had and the other has addresses, those are all. No address at all is ErrNotFound if that is certain for
// both families, and else ErrTemporary.
func (r *Resolver) Addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	name, ok := hostName(host)
	if !ok {
		return nil, notFound("", "%+.64q is no host name", host)
	}
	var v4, v6 *answer
	var both sync.WaitGroup
	both.Go(func() { v6 = r.lookup(ctx, key{name, dns.TypeAAAA}) })
	v4 = r.lookup(ctx, key{name, dns.TypeA})
	both.Wait()
	if list := takeTurns(v4.addrs, v6.addrs); len(list) > 0 {
		return list, nil
	}
	for _, a := range []*answer{v4, v6} {
		if a.err != nil && errors.Is(a.err, ErrTemporary) {
			return nil, a.err
		}
	}
	if v4.noData || v6.noData {
		return nil, notFound("", "%s has no address", name)
	}
	return nil, v4.err
}

// takeTurns makes one list of two, each in random order.
func takeTurns(a, b []netip.Addr) []netip.Addr {
	var list []netip.Addr
	i, j := rand.Perm(len(a)), rand.Perm(len(b))
	for n := range max(len(a), len(b)) {
		if n < len(a) {
			list = append(list, a[i[n]])
		}
		if n < len(b) && !slices.Contains(a, b[j[n]]) {
			list = append(list, b[j[n]])
		}
	}
	return list[:min(len(list), MaxAddrs)]
}

// hostName gives the form under which a name is asked for: lower case, no trailing dot. Not ok is what no mail host can be called: an
// address, the root, a name with odd characters, or one of this machine's own names (RFC 6761 §6.3), which are not the DNS's.
//
// Deviation: RFC 1123 §2.1 knows no underscore, but there are mail exchangers whose names have one.
func hostName(s string) (string, bool) {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > maxName || strings.Trim(s, letters+digits+"-_.") != "" {
		return "", false
	}
	s = strings.ToLower(s)
	if s == "localhost" || strings.HasSuffix(s, ".localhost") {
		return "", false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
			return "", false
		}
		last = label
	}
	// A name whose last label is a number is an address, or an attempt at one.
	return s, strings.Trim(last, digits) != ""
}

const (
	// The sizes of RFC 1035 §2.3.4, as text without the trailing dot.
	maxName  = 253
	maxLabel = 63

	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
)
