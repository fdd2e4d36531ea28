package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"latchkey/internal/resolver"
	"latchkey/store"
)

// Resolver answers the questions about the DNS: *resolver.Resolver.
type Resolver interface {
	// MX returns the mail exchangers of a domain, best first. Errors wrap resolver.ErrNotFound, ErrNullMX or ErrTemporary.
	MX(ctx context.Context, domain string) ([]resolver.MX, error)
	// Addrs returns the addresses of a host, in the order in which to try them.
	Addrs(ctx context.Context, host string) ([]netip.Addr, error)
	// TLSA returns what the TLS of a host's port is to be judged by; an error means that the host must not be used.
	TLSA(ctx context.Context, host string, port uint16) (resolver.TLSASet, error)
	// TXT returns the TXT records of a name.
	TXT(ctx context.Context, name string) ([]string, error)
}

// Smarthost is a server that takes all mail out of the domain.
type Smarthost struct {
	// Addr is host:port. The host may be private or loopback: the operator named it. It is never one of our own listeners.
	Addr string
	// User logs in by AUTH PLAIN or LOGIN unless it is empty. Password is asked for at each connection; what it returns is kept nowhere.
	User     string
	Password func() (string, error)
	// TLS is TLSVerify by default where there is a User, else TLSOpportunistic. A password goes over TLS only, except with TLSNone
	// to a loopback address or one in Options.AllowNetworks.
	TLS TLSMode
}

// route is where a job goes: a destination domain, or a smarthost, which is one route for all that it takes.
type route struct {
	// domain is the recipients' domain; "" is a smarthost, the via-th from 1, whose name is host:port.
	domain string
	via    int
	name   string
}

// key names the route in logs and memories.
func (t route) key() string {
	if t.domain == "" {
		return "smarthost " + t.name
	}
	return t.domain
}

// findings are what a search came to: a link, or a host that gets no more connections now, or a verdict on the destination.
type findings struct {
	link *link
	// busy is a host that is there, and has as many connections as it gets.
	busy    *host
	verdict verdict
	// until is set if no host was asked, because all were found out of reach before: when the first is asked again.
	until time.Time
	// spent is set if the slot that was granted went to the link, or to an attempt that failed.
	spent bool
}

// wish is what a worker wants of a search.
type wish struct {
	owner store.AccountID
	// granted is a host that the worker has a slot of, or nil.
	granted *host
	// demand is what the sender of the messages wants of their way.
	demand store.TLSDemand
	// cautious keeps to the turns at providers that block this server.
	cautious bool
	// force asks hosts too that are known to be out of reach.
	force bool
}

// reach connects to the first host of a route that can be had, or takes one over. Whoever gets a link has a slot
// of its host.
func (r *Runner) reach(ctx context.Context, to route, w wish) findings {
	ctx, cancel := context.WithTimeout(ctx, r.limits.Connect)
	defer cancel()
	s := &search{runner: r, left: r.limits.Addresses, wish: w, door: door{mode: TLSOpportunistic}.doorFor(w.demand)}
	switch {
	case to.domain == "":
		s.smarthost(ctx, &r.smarts[to.via-1])
	case strings.HasPrefix(to.domain, "["):
		s.literal(ctx, to.domain)
	default:
		s.domain(ctx, to.domain)
	}
	if s.link != nil || s.busy != nil {
		return findings{link: s.link, busy: s.busy, spent: s.spent}
	}
	f := findings{verdict: conclude(s.verdicts), spent: s.spent}
	if v := &f.verdict; to.domain == "" && v.kind == store.Failed && w.demand != store.TLSRequired {
		// The operator chose the smarthost; no sender can cure that it is closed to us.
		v.kind, v.status, v.alarm = store.Deferred, "4.4.1", true
	}
	if s.left == r.limits.Addresses && f.verdict.kind == store.Deferred {
		f.until = s.until
	}
	return f
}

// search looks for a host that can be had, and collects why others cannot.
type search struct {
	runner   *Runner
	wish     wish
	spent    bool
	left     int // addresses that may still be tried
	link     *link
	busy     *host
	until    time.Time // when the first of those that were not tried may be
	verdicts []verdict
	// door is how the host at hand is to be entered.
	door door
}

func (s *search) note(v verdict) { s.verdicts = append(s.verdicts, v) }

// conclude makes one verdict of those on the hosts of a destination: as long as one of them may come back there is hope, so a 5xx in
// a greeting or to EHLO is final only if no host has anything better to say (RFC 5321 §3.1, §5.1). An answer counts more than silence.
func conclude(verdicts []verdict) verdict {
	rank := func(v verdict) int {
		switch {
		case v.kind == store.Deferred && v.answered:
			return 4
		case v.kind == store.Deferred:
			return 3
		case v.answered:
			return 2
		}
		return 1
	}
	best := ours(store.Deferred, aboutDestination, "4.4.4", "no host of the destination could be tried")
	bestRank := 0
	for _, v := range verdicts {
		if n := rank(v); n > bestRank {
			best, bestRank = v, n
		}
	}
	best.scope = aboutDestination
	return best
}

// domain tries the mail exchangers of a domain (RFC 5321 §5.1).
func (s *search) domain(ctx context.Context, domain string) {
	exchangers, err := s.runner.opts.Resolver.MX(ctx, domain)
	if err != nil {
		s.note(lookupVerdict(err, "5.1.2"))
		return
	}
	usable := before(exchangers, s.runner.opts.Hostname)
	if len(usable) == 0 {
		s.note(ours(store.Failed, aboutDestination, "5.4.6", loopWords(domain)))
		return
	}
	plan := s.runner.planFor(ctx, domain, s.wish.demand)
	for i, mx := range usable[:min(len(usable), s.runner.limits.Hosts)] {
		addrs, err := s.runner.opts.Resolver.Addrs(ctx, mx.Host)
		if err != nil {
			status := "5.4.4"
			if mx.Implicit {
				status = "5.1.2"
			}
			s.note(lookupVerdict(err, status))
			continue
		}
		if s.isUs(addrs) {
			// RFC 5321 §5.1: whoever stands at our own preference or behind it would only send the message back.
			if i == 0 {
				s.note(ours(store.Failed, aboutDestination, "5.4.6", loopWords(domain)))
			}
			return
		}
		var closed *verdict
		if s.door, closed = s.runner.doorTo(ctx, plan, mx); closed != nil {
			logHost(ctx, s.runner.log, *closed)
			s.note(*closed)
			continue
		}
		if s.try(ctx, mx.Host, addrs, nil) {
			return
		}
	}
}

func loopWords(domain string) string {
	return "mail for " + domain + " would come back to this server: its mail exchanger is this server, but the domain is not served here"
}

// before returns the exchangers that are better than ourselves, by name (RFC 5321 §5.1).
func before(exchangers []resolver.MX, hostname string) []resolver.MX {
	for _, mx := range exchangers {
		if !strings.EqualFold(strings.TrimSuffix(mx.Host, "."), hostname) {
			continue
		}
		var better []resolver.MX
		for _, other := range exchangers {
			if other.Preference < mx.Preference {
				better = append(better, other)
			}
		}
		return better
	}
	return exchangers
}

// isUs reports whether one of our own listeners answers at one of the addresses.
func (s *search) isUs(addrs []netip.Addr) bool {
	for _, a := range addrs {
		if s.runner.targets.isOwn(a, s.runner.opts.Port) {
			return true
		}
	}
	return false
}

// lookupVerdict says what an answer of the DNS means for mail; status is for a name that does not exist.
func lookupVerdict(err error, status string) verdict {
	words := "the DNS gives no answer"
	if e := (*resolver.Error)(nil); errors.As(err, &e) {
		words = e.Text
	}
	var v verdict
	switch {
	case errors.Is(err, resolver.ErrNullMX):
		v = ours(store.Failed, aboutDestination, "5.1.10", words) // RFC 7505 §4.2
	case errors.Is(err, resolver.ErrNotFound):
		v = ours(store.Failed, aboutDestination, status, words)
	default:
		v = ours(store.Deferred, aboutDestination, "4.4.3", words)
	}
	v.cause = err
	return v
}

// literal tries a destination that is an address (RFC 5321 §4.1.3).
func (s *search) literal(ctx context.Context, domain string) {
	text := strings.TrimSuffix(strings.TrimPrefix(domain, "["), "]")
	if v6, ok := strings.CutPrefix(text, "IPv6:"); ok {
		text = v6
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		s.note(ours(store.Failed, aboutDestination, "5.1.2", "the address literal cannot be read"))
		return
	}
	s.try(ctx, literal(a), []netip.Addr{a}, nil)
}

// try goes through the addresses of a host, named by the operator or not, and reports whether the search is over.
func (s *search) try(ctx context.Context, host string, addrs []netip.Addr, named *smart) bool {
	r := s.runner
	port, d := r.opts.Port, s.door
	if named != nil {
		port, d = named.port, named.door.doorFor(s.wish.demand)
	}
	addrs = families(addrs)
	for i, a := range addrs {
		if ctx.Err() != nil {
			s.note(broken(atDial, context.Cause(ctx)))
			return true
		}
		if why := r.targets.refused(a); why != "" && named == nil {
			s.note(ours(store.Failed, aboutDestination, "5.4.6",
				fmt.Sprintf("mail for %s is not sent to %s: that is %s", host, literal(a), why)))
			continue
		}
		if s.left == 0 {
			return true
		}
		if named != nil {
			d.clearLogin = d.mode == TLSNone && (a.IsLoopback() || r.targets.named(a))
		}
		d.patience = patience(addrs[i:])
		if s.enter(ctx, host, netip.AddrPortFrom(a, port), d) {
			return true
		}
	}
	return false
}

// enter connects to one address, unless it is known to be out of reach, or takes a connection over that stands. It reports whether the
// search is over.
func (s *search) enter(ctx context.Context, name string, at netip.AddrPort, d door) bool {
	r := s.runner
	h := r.hosts.get(at, r.opts.Now())
	if down, is := r.hosts.downUntil(h, r.opts.Now()); is && !s.wish.force {
		s.note(down.verdict)
		if s.until.IsZero() || down.until.Before(s.until) {
			s.until = down.until
		}
		return false
	}
	if !s.mayEnter(name) {
		return true // its other hosts are the same provider's, and those of another one only stand in for them
	}
	granted := h == s.wish.granted && !s.spent
	l, ok := r.hosts.take(h, s.wish.owner, name, d, granted)
	if !ok {
		s.busy = h
		return true
	}
	s.spent = s.spent || granted
	if l != nil {
		s.link = l
		return true
	}
	s.left--
	l, v := r.opener.open(ctx, name, at, d)
	if l != nil {
		l.at = h
		r.hosts.reached(h)
		s.link = l
		return true
	}
	logHost(ctx, r.log, *v)
	s.note(*v)
	if s.wish.cautious && blocks(*v) {
		r.blockedBy(name, *v, r.opts.Now())
	}
	busy := r.hosts.failed(h, *v, r.opts.Now(), r.opts.Rand())
	h.slots.give(s.wish.owner)
	if busy {
		s.busy = h
	}
	return busy
}

// smarthost tries the addresses of a server that the operator named.
func (s *search) smarthost(ctx context.Context, to *smart) {
	r := s.runner
	addrs, err := r.smartAddrs(ctx, to.host)
	if err != nil {
		v := lookupVerdict(err, "5.4.4")
		v.alarm = true
		s.note(v)
		return
	}
	for _, a := range addrs {
		if r.targets.isOwn(a, to.port) {
			v := ours(store.Deferred, aboutDestination, "4.4.6", "the smarthost is this server itself")
			v.alarm = true
			s.note(v)
			return
		}
	}
	s.try(ctx, to.host, addrs, to)
}

// smartAddrs looks a smarthost up. The DNS knows no localhost.
func (r *Runner) smartAddrs(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	if host == "localhost" {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	return r.opts.Resolver.Addrs(ctx, host)
}

// prepare reads the address and the mode of a smarthost.
func (s *Smarthost) prepare() (smart, error) {
	host, text, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return smart{}, fmt.Errorf("relay: smarthost %q is not host:port", s.Addr)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || host == "" {
		return smart{}, fmt.Errorf("relay: smarthost %q is not host:port", s.Addr)
	}
	d := door{mode: s.TLS, user: s.User, password: s.Password}
	switch {
	case d.mode == "" && d.user != "":
		d.mode = TLSVerify
	case d.mode == "":
		d.mode = TLSOpportunistic
	}
	switch d.mode {
	case TLSNone, TLSOpportunistic, TLSRequired, TLSVerify, TLSImplicit:
	default:
		return smart{}, fmt.Errorf("relay: smarthost TLS %q: none, opportunistic, required, verify or implicit", d.mode)
	}
	if d.user != "" && d.password == nil {
		return smart{}, errors.New("relay: the smarthost has a user and no password")
	}
	return smart{host: strings.ToLower(strings.TrimSuffix(host, ".")), port: uint16(n), door: d}, nil
}
