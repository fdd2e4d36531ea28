package guard

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// hostsInterval is how often at most the addresses and routes of this host are read.
const hostsInterval = 30 * time.Second

// Place is where a client stands.
type Place struct {
	// Remote is the client's address; a mapped one (::ffff:192.0.2.1) is the IPv4 address that it maps.
	Remote netip.Addr
	// Loopback is set when the listener that the client reached is bound to a loopback address, so that nobody else can reach it.
	Loopback bool
	// Proxied is set when the address is one that a proxy told of (see [ListenerOptions.Proxies]). It is the client's own then, also where this
	// host, a proxy or a gateway has it: they came through the proxy as everybody does.
	Proxied bool
}

// address is the client's address as grants and networks know it.
func (p Place) address() netip.Addr { return p.Remote.Unmap().WithZone("") }

// Bar is a short phrase that says why an address proves nothing about who is behind it. It is empty if nothing is known against it.
type Bar string

// The bars. The first ones hold for trusted networks too, the last three for grants only.
const (
	// BarNoClient: no address, or one that no client has (unspecified, multicast).
	BarNoClient Bar = "not a client's address"
	// BarUnknown: the addresses and routes of this host could not be read.
	BarUnknown Bar = "own addresses not known"
	// BarProxy: a listed proxy.
	BarProxy Bar = "proxy"
	// BarLoopback: loopback at a listener that others reach too, where a forwarder on this host may stand for anybody.
	BarLoopback Bar = "loopback"
	// BarLinkLocal: the same address stands for another machine on every link.
	BarLinkLocal Bar = "link-local"
	// BarHost: an address of this host.
	BarHost Bar = "own address"
	// BarGateway: a default gateway on a private net, as a container bridge: everybody outside comes from there.
	BarGateway Bar = "gateway"
	// BarCarrier: shared by the customers of a carrier (RFC 6598: 100.64.0.0/10).
	BarCarrier Bar = "carrier NAT"
	// BarConfigured: in one of the networks that the owner excluded.
	BarConfigured Bar = "excluded network"
	// BarCrowded: many different mailboxes logged in from there lately.
	BarCrowded Bar = "crowded"
)

// carrier is the range behind carriers' NAT (RFC 6598 §7).
var carrier = netip.MustParsePrefix("100.64.0.0/10")

// HostsOptions are what Hosts is made of. The zero value knows this host and no proxies.
type HostsOptions struct {
	// Proxies are those that forward connections of others.
	Proxies []netip.Prefix
	// Interfaces returns the addresses of this host, Gateways those of its default gateways; nil asks the system (the gateways: Linux).
	Interfaces, Gateways func() ([]netip.Addr, error)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger learns when the system cannot be asked; nil discards that.
	Logger *slog.Logger
}

// Hosts knows which addresses are not a client's own. What it knows of this host is at most half a minute old, unless the system
// cannot be asked: then the last facts stay, and if there never were any, nobody is eligible. Its methods never wait for another
// caller, and may be called from any goroutine.
type Hosts struct {
	o     HostsOptions
	facts atomic.Pointer[facts]

	reading sync.Mutex // protects the fields below; held while the system is asked, and nobody waits for it
	asked   time.Time
	failing bool
}

// facts are what the system said. They never change.
type facts struct{ own, gateways map[netip.Addr]struct{} }

// NewHosts asks the system for the first time.
func NewHosts(o HostsOptions) *Hosts {
	if o.Interfaces == nil {
		o.Interfaces = systemAddresses
	}
	if o.Gateways == nil {
		o.Gateways = systemGateways
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Proxies = slices.Clone(o.Proxies)
	for i, p := range o.Proxies {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			o.Proxies[i] = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
	}
	h := &Hosts{o: o}
	h.known()
	return h
}

// Eligible reports whether grants and named networks may apply to a client there.
func (h *Hosts) Eligible(p Place) bool { return h.Bar(p) == "" }

// Bar says why they may not.
func (h *Hosts) Bar(p Place) Bar { return barOf(p, h.o.Proxies, h.known()) }

// barOf decides. f is nil if nothing is known of this host.
func barOf(p Place, proxies []netip.Prefix, f *facts) Bar {
	a := p.address()
	contains := func(n netip.Prefix) bool { return n.Contains(a) }
	switch {
	case !a.IsValid() || a.IsUnspecified() || a.IsMulticast():
		return BarNoClient
	case f == nil:
		return BarUnknown
	case !p.Proxied && slices.ContainsFunc(proxies, contains):
		return BarProxy
	case a.IsLoopback():
		if p.Loopback {
			return ""
		}
		return BarLoopback
	case a.IsLinkLocalUnicast():
		return BarLinkLocal
	}
	if p.Proxied {
		return ""
	}
	if _, own := f.own[a]; own {
		return BarHost
	}
	if _, gateway := f.gateways[a]; gateway {
		return BarGateway
	}
	return ""
}

// known returns the facts, new ones if it is time and nobody else is at it.
func (h *Hosts) known() *facts {
	if h.reading.TryLock() {
		defer h.reading.Unlock()
		if now := h.o.Now(); h.asked.IsZero() || now.Sub(h.asked) >= hostsInterval || now.Before(h.asked) {
			h.asked = now
			h.ask()
		}
	}
	return h.facts.Load()
}

// ask reads the facts. h.reading is held.
func (h *Hosts) ask() {
	own, err := h.o.Interfaces()
	gateways, err2 := h.o.Gateways()
	if err = errors.Join(err, err2); err != nil {
		if !h.failing {
			h.o.Logger.Error("own addresses and gateways cannot be read", "known before", h.facts.Load() != nil, "err", err)
		}
		h.failing = true
		return
	}
	h.failing = false
	f := &facts{own: map[netip.Addr]struct{}{}, gateways: map[netip.Addr]struct{}{}}
	for _, a := range own {
		f.own[a.Unmap().WithZone("")] = struct{}{}
	}
	for _, a := range gateways {
		if a = a.Unmap().WithZone(""); a.IsPrivate() || carrier.Contains(a) {
			f.gateways[a] = struct{}{}
		}
	}
	h.facts.Store(f)
}

// systemAddresses returns the addresses of this host's interfaces.
func systemAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var own []netip.Addr
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				own = append(own, ip.Unmap())
			}
		}
	}
	return own, nil
}
