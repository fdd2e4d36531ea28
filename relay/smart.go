package relay

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

const (
	// MaxRoutes bounds Options.Routes.
	MaxRoutes = 100
	// sendersTime is how long it is remembered which mailbox an address of Route.Sender leads to.
	sendersTime = time.Minute
	// firstFamily is how long a first address is waited for when there is one of the other family behind it (RFC 8305 has a like wish).
	firstFamily = 3 * time.Second
)

// Route is where some of the mail goes.
type Route struct {
	// Domain is the recipients': a domain in canonical form, "*." and one for those below it, or "" for any.
	Domain string
	// Sender is an address of a mailbox here whose mail is meant; the zero address is anybody's.
	Sender mailaddr.Address
	// To takes the mail; nil are the mail exchangers of each domain.
	To *Smarthost
}

// Source is an address of this host from which mail leaves.
type Source struct {
	Addr netip.Addr
	// Hostname is its name in EHLO; "" is Options.Hostname.
	Hostname string
}

// rule is a Route that was read.
type rule struct {
	domain string
	sender mailaddr.Address
	// via is the number of the smarthost, from 1, or 0 for mail exchangers.
	via int
}

// takes reports whether a rule is about a recipients' domain.
func (r *rule) takes(domain string) bool {
	if below, ok := strings.CutPrefix(r.domain, "*."); ok {
		return strings.HasSuffix(domain, "."+below)
	}
	return r.domain == "" || r.domain == domain
}

// smart is a smarthost that was read.
type smart struct {
	host string
	port uint16
	door door
}

func (s *smart) name() string { return net.JoinHostPort(s.host, strconv.Itoa(int(s.port))) }

// setRoutes reads the smarthost and the routes.
func (r *Runner) setRoutes(o *Options) error {
	if len(o.Routes) > MaxRoutes {
		return fmt.Errorf("relay: more than %d routes", MaxRoutes)
	}
	routes := slices.Clone(o.Routes)
	if o.Smarthost != nil {
		routes = append(routes, Route{To: o.Smarthost})
	}
	for _, one := range routes {
		to := rule{domain: one.Domain, sender: one.Sender}
		if one.To != nil {
			s, err := one.To.prepare()
			if err != nil {
				return err
			}
			r.smarts = append(r.smarts, s)
			to.via = len(r.smarts)
		}
		r.rules = append(r.rules, to)
	}
	return nil
}

// routeOf is the first route that takes a destination; its own mail exchangers if there is none.
func (r *Runner) routeOf(d store.Destination) route {
	for i := range r.rules {
		rule := &r.rules[i]
		if !rule.takes(d.Domain) || !rule.sender.IsZero() && (d.Submitter == 0 || r.senders[rule.sender] != d.Submitter) {
			continue
		}
		if rule.via > 0 {
			return route{via: rule.via, name: r.smarts[rule.via-1].name()}
		}
		break
	}
	return route{domain: d.Domain}
}

// learnSenders looks up which mailboxes the addresses of the routes lead to, now and then: they may be renamed. One that leads to none, or
// to several, is nobody's.
func (r *Runner) learnSenders(ctx context.Context) error {
	if !slices.ContainsFunc(r.rules, func(r rule) bool { return !r.sender.IsZero() }) || r.opts.Now().Before(r.sendersUntil) {
		return nil
	}
	senders := map[mailaddr.Address]store.AccountID{}
	for i := range r.rules {
		if a := r.rules[i].sender; !a.IsZero() {
			to, err := r.opts.Store.Resolve(ctx, a)
			switch {
			case errors.Is(err, store.ErrNotFound):
			case err != nil:
				return err
			case len(to.Local) == 1:
				senders[a] = to.Local[0]
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.senders, r.sendersUntil = senders, r.opts.Now().Add(sendersTime)
	return nil
}

// source is the address from which a host is connected to: always the same one of its family, so that the host comes to know it. Its zero
// value leaves the choice to the system.
func (o *opener) source(host string, to netip.Addr) Source {
	same := slices.DeleteFunc(slices.Clone(o.sources), func(s Source) bool { return s.Addr.Is4() != to.Unmap().Is4() })
	if len(same) == 0 || to.IsLoopback() && !same[0].Addr.IsLoopback() {
		return Source{}
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(host)) // never fails
	return same[h.Sum32()%uint32(len(same))]
}

// dialFrom is the dialler that is used unless a test has another.
func dialFrom(ctx context.Context, from netip.Addr, address string) (net.Conn, error) {
	d := net.Dialer{}
	if from.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: from.AsSlice()}
	}
	return d.DialContext(ctx, "tcp", address)
}

// families puts the addresses of both families in turns, IPv6 first, each family in the order in which it came.
func families(addrs []netip.Addr) []netip.Addr {
	var four, six, list []netip.Addr
	for _, a := range addrs {
		if a.Unmap().Is4() {
			four = append(four, a)
		} else {
			six = append(six, a)
		}
	}
	for i := range max(len(four), len(six)) {
		if i < len(six) {
			list = append(list, six[i])
		}
		if i < len(four) {
			list = append(list, four[i])
		}
	}
	return list
}

// patience is how long the first of some addresses is waited for; 0 is as long as any.
func patience(addrs []netip.Addr) time.Duration {
	if len(addrs) > 1 && addrs[0].Unmap().Is4() != addrs[1].Unmap().Is4() {
		return firstFamily
	}
	return 0
}
