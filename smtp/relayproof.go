package smtp

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"latchkey/guard"
	"latchkey/internal/relayprobe"
	"latchkey/internal/srs"
	"latchkey/store"
)

const (
	// proofPatience bounds one connection of a relay proof: the other end is this process.
	proofPatience = 10 * time.Second
	// maxUnclear is the probe without a clear answer that ends a proof: it has failed, and more of them would only take time.
	maxUnclear = 3
	// maxProofConns is no bound: a proof has one connection at a time, and those that are being counted out.
	maxProofConns = 1 << 20
)

// RelayProof shows that nobody who has not proved himself can send out of the domain, by trying it: every probe of package relayprobe goes
// through sessions of this package at both doors, over connections in memory, as senders with addresses that are set aside for
// documentation. The domain's accounts, aliases and settings are asked as they are. All else is the proof's own: whoever is counted, banned
// or logged in is so there alone, and nothing that it sends is kept, because the store's drafts are never asked for.
type RelayProof struct {
	Store Store
	// Hostname is this server's name.
	Hostname string
	// Address is an address of this server, for probes that name it; zero: loopback's.
	Address netip.Addr
	// Now is time.Now unless a test says otherwise.
	Now func() time.Time
	// SRS is that of the doors.
	SRS *srs.Rewriter
	// alter, if set, changes the options of the proof's servers, in tests that plant holes.
	alter func(*Options)
	// patience is proofPatience if it is 0.
	patience time.Duration
}

// Run tries everything and reports it. The error is of the proof itself, which then says nothing: the store failed, or ctx ended.
func (p RelayProof) Run(ctx context.Context) (relayprobe.Report, error) {
	began := time.Now()
	if p.Now == nil {
		p.Now = time.Now
	}
	if !p.Address.IsValid() {
		p.Address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	r, err := newProofRun(ctx, p)
	if err != nil {
		return relayprobe.Report{}, err
	}
	for _, door := range []Door{MX, Submission} {
		if err := r.at(ctx, door); errors.Is(err, errUnclear) && ctx.Err() == nil {
			break
		} else if err != nil {
			return relayprobe.Report{}, fmt.Errorf("smtp: relay proof: %w", err)
		}
	}
	r.report.Took = time.Since(began).Seconds()
	r.report.Conclude()
	return r.report, nil
}

// errUnclear ends a proof that has failed: see maxUnclear.
var errUnclear = errors.New("smtp: no clear answers")

// proofRun is one run of the proof.
type proofRun struct {
	RelayProof
	store  *proofStore
	grants *guard.Grants
	hosts  *guard.Hosts
	auth   proofAuth
	report relayprobe.Report
	// free are addresses that are nobody's and in no network that the owner named.
	free func() netip.Addr
	// control is an address of the domain that takes mail.
	control string
}

// proofSender is one kind of sender who must not relay.
type proofSender struct {
	name   string
	remote netip.Addr
	// from is the usual reverse-path and author; as is who the probes pretend to be when they take an address of the domain.
	from, as string
	// brief tries the plainest probes only.
	brief bool
}

func newProofRun(ctx context.Context, p RelayProof) (*proofRun, error) {
	settings, err := p.Store.Settings(ctx)
	if err != nil {
		return nil, err
	}
	token := strings.ToLower(rand.Text())
	r := &proofRun{
		RelayProof: p, store: newProofStore(p.Store, settings, token), free: strangers(settings),
		hosts: guard.NewHosts(guard.HostsOptions{Interfaces: noOwnAddresses, Gateways: noOwnAddresses, Now: p.Now}),
	}
	if r.control, err = r.store.controlAddress(ctx); err != nil {
		return nil, err
	}
	r.auth = proofAuth{box: r.store.own, password: token}
	r.report = relayprobe.Report{
		Time: p.Now(), Domain: settings.Domain, Host: p.Hostname, Settings: settingsThatMatter(settings, p.Now()),
		How: "inside the server, through its own sessions, from addresses set aside for documentation",
	}
	return r, nil
}

func noOwnAddresses() ([]netip.Addr, error) { return nil, nil }

// settingsThatMatter are those that say who may send, with the width of each named network.
func settingsThatMatter(s store.Settings, now time.Time) []relayprobe.Setting {
	on := func(b bool) string {
		if b {
			return "on"
		}
		return "off"
	}
	networks := "none"
	if len(s.TrustedNetworks) > 0 {
		list := make([]string, len(s.TrustedNetworks))
		for i, n := range s.TrustedNetworks {
			list[i] = fmt.Sprintf("%s (%s)", n, width(n))
		}
		networks = strings.Join(list, ", ")
		if s.AuthRequired(now) {
			networks += "; not used while require_auth is on"
		}
	}
	return []relayprobe.Setting{
		{Name: "require_auth", Value: on(s.AuthRequired(now))}, {Name: "pop_before_smtp", Value: on(s.POPBeforeSMTP)},
		{Name: "send_then_check", Value: on(s.SendThenCheck)},
		{Name: "outgoing_mail", Value: on(s.OutgoingMail)}, {Name: "auth_on_mx", Value: on(s.AuthOnMX)},
		{Name: "trusted_networks", Value: networks}, {Name: "outside_senders", Value: fmt.Sprint(len(s.OutsideSenders))},
	}
}

// width says how many addresses a network has; an IPv6 one is told in networks of one client each.
func width(n netip.Prefix) string {
	bits, unit := n.Addr().BitLen()-n.Bits(), "addresses"
	if n.Addr().Is6() && n.Bits() <= 64 {
		bits, unit = 64-n.Bits(), "networks of /64"
	}
	if bits == 0 {
		return "1 " + strings.Replace(strings.Replace(unit, "addresses", "address", 1), "networks", "network", 1)
	}
	if bits > 62 {
		return fmt.Sprintf("2^%d %s", bits, unit)
	}
	return fmt.Sprintf("%d %s", int64(1)<<bits, unit)
}

// strangers returns what hands out addresses that are set aside for documentation (RFC 5737, and RFC 2544 for more), each once, but for those in a
// network that the owner named: who stands there is no stranger. When there are none left it returns IPv6 ones (RFC 3849).
func strangers(s store.Settings) func() netip.Addr {
	next := []netip.Addr{
		netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("198.18.0.1"),
	}
	next6 := netip.MustParseAddr("2001:db8::1")
	named := func(a netip.Addr) bool {
		return slices.ContainsFunc(append(slices.Clone(s.TrustedNetworks), s.NoGrantNetworks...), func(n netip.Prefix) bool { return n.Contains(a) })
	}
	return func() netip.Addr {
		for i, a := range next {
			if !named(a) {
				next[i] = a.Next()
				return a
			}
		}
		next6 = next6.Next()
		return next6
	}
}

// senders are those who must not relay under the present settings.
func (r *proofRun) senders() []proofSender {
	const stranger = relayprobe.Stranger
	s, own := r.store.settings, r.store.own.address.String()
	nobody := r.store.nobody.String()
	list := []proofSender{
		{name: "anonymous", remote: r.free(), from: stranger, as: r.control},
		{name: "anonymous as a mailbox of the domain", remote: r.free(), from: own, as: own},
		{name: "anonymous over IPv6", remote: netip.MustParseAddr("2001:db8::25"), from: stranger, as: r.control, brief: true},
	}
	live, expired, revoked, other, changed := r.free(), r.free(), r.free(), r.free(), r.free()
	now := r.Now()
	grant := func(remote netip.Addr, of proofBox, g store.Grant) store.Grant {
		g.ID, g.Account, g.Network = store.GrantID(len(r.store.grants)+1), of.account.ID, netip.PrefixFrom(remote, remote.BitLen())
		g.Created, g.LastLogin, g.Recipients, g.Left = now.Add(-time.Hour), now.Add(-time.Hour), guard.GrantRecipients, guard.GrantRecipients
		r.store.grants = append(r.store.grants, g)
		return g
	}
	later := now.Add(time.Hour)
	grant(live, r.store.own, store.Grant{Expires: later})
	grant(expired, r.store.own, store.Grant{Expires: now})
	grant(revoked, r.store.own, store.Grant{Expires: later, End: store.GrantRevoked, Ended: now.Add(-time.Minute)})
	grant(other, r.store.other, store.Grant{Expires: later})
	grant(changed, r.store.own, store.Grant{Expires: later, CredentialVersion: r.store.own.account.CredentialVersion + 1})
	if s.POPBeforeSMTP && s.OutgoingMail {
		list = append(list, proofSender{name: "granted, with a foreign reverse-path", remote: live, from: stranger, as: r.control})
	}
	list = append(list,
		proofSender{name: "with an expired grant", remote: expired, from: own, as: r.control, brief: true},
		proofSender{name: "with a revoked grant", remote: revoked, from: own, as: r.control, brief: true},
		proofSender{name: "with another mailbox's grant", remote: other, from: own, as: r.control, brief: true},
		proofSender{name: "with a grant from before the password changed", remote: changed, from: own, as: r.control, brief: true},
	)
	if !s.AuthRequired(now) && s.OutgoingMail {
		for i, n := range s.TrustedNetworks {
			list = append(list, proofSender{
				name: "trusted in " + n.String() + ", with a foreign reverse-path", remote: n.Addr(), from: stranger, as: nobody, brief: i > 0,
			})
		}
	}
	return list
}

// briefProbes is how many of the probes, the plainest of which stand first, a brief sender tries.
const briefProbes = 8

// at tries everything at one door.
func (r *proofRun) at(ctx context.Context, door Door) error {
	r.store.grants = nil
	senders := r.senders()
	r.grants = guard.NewGrants(guard.GrantOptions{
		Grants: proofGrants{list: r.store.grants}, Accounts: r.store, Settings: proofSettings{store: r.store}, Hosts: r.hosts, Now: r.Now,
	})
	o := Options{
		Door: door, Store: r.store, Auth: r.auth, Sending: proofSending{}, Grants: proofDesk{r.grants}, Hosts: r.hosts, Hostname: r.Hostname, Now: r.Now, SRS: r.SRS,
		// One client comes after the other, faster than the last one is counted out.
		Connections: guard.ConnLimits{Total: maxProofConns, PerPrefix: maxProofConns},
	}
	if r.alter != nil {
		r.alter(&o)
	}
	srv, lines := New(o), newMemoryListener(cmp.Or(r.patience, proofPatience))
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lines) }()
	p := &proofDoor{run: r, door: door, lines: lines, controls: relayprobe.Control{Door: string(door), What: "mail to " + r.control + ", between the probes"}}
	err := p.all(ctx, senders)
	if ctx.Err() == nil {
		r.report.Controls = append(r.report.Controls, p.controls)
	}
	err = errors.Join(err, srv.Close())
	if end := <-served; !errors.Is(end, ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}

// proofDoor tries one door.
type proofDoor struct {
	run      *proofRun
	door     Door
	lines    *memoryListener
	controls relayprobe.Control
	unclear  int
}

func (p *proofDoor) all(ctx context.Context, senders []proofSender) error {
	if err := p.owner(ctx); err != nil {
		return err
	}
	controlFrom := p.run.free()
	for _, s := range senders {
		t := relayprobe.Target{
			Domain: p.run.report.Domain, Host: p.run.Hostname, Address: p.run.Address.String(), Sender: s.as, Recipient: p.run.control,
		}
		probes := t.Probes()
		if s.brief {
			probes = probes[:briefProbes]
		}
		for _, probe := range probes {
			if err := p.try(ctx, s, probe); err != nil {
				return err
			}
			if err := p.control(ctx, controlFrom); err != nil {
				return err
			}
		}
	}
	return nil
}

// try plays one probe over a connection of its own.
func (p *proofDoor) try(ctx context.Context, s proofSender, probe relayprobe.Probe) error {
	p.run.store.begin()
	result := relayprobe.Result{
		Door: string(p.door), Sender: s.name, Remote: s.remote.String(), Probe: probe.Name, Command: probe.Command(), Verdict: relayprobe.VerdictUnclear,
	}
	last := ""
	if c, err := p.lines.dial(ctx, s.remote); err != nil {
		result.Reply = err.Error()
	} else {
		result.Reply, last = probe.Play(s.from, c.Say)
		_ = c.Close() // nothing more is wanted of it
	}
	local, away := p.run.store.seen()
	switch {
	case away:
		result.Verdict = relayprobe.VerdictRelayed
	case relayprobe.Accepted(result.Reply) && local:
		result.Verdict = relayprobe.VerdictLocal
	case relayprobe.Accepted(result.Reply) && relayprobe.Refused(last) && p.waits(probe.ReversePath(s.from)):
		result.Reply, result.Verdict = last, relayprobe.VerdictRefused
	case relayprobe.Accepted(result.Reply):
		result.Verdict = relayprobe.VerdictRelayed
	case relayprobe.Refused(result.Reply):
		result.Verdict = relayprobe.VerdictRefused
	}
	p.run.report.Results = append(p.run.report.Results, result)
	if result.Verdict == relayprobe.VerdictUnclear {
		return p.unsaid(ctx)
	}
	return ctx.Err()
}

// waits reports whether a client with such a reverse-path is told only at the end of its message whether that is taken: send_then_check is on.
// Nobody logs in during a proof, so that it is not.
func (p *proofDoor) waits(reversePath string) bool {
	return p.run.store.settings.SendThenCheck && strings.HasSuffix(reversePath, "@"+p.run.report.Domain)
}

// unsaid counts what got no answer.
func (p *proofDoor) unsaid(ctx context.Context) error {
	if p.unclear++; p.unclear == maxUnclear {
		return errors.Join(ctx.Err(), errUnclear)
	}
	return ctx.Err()
}

// control sends a message that must be taken: at port 25 as a stranger, at submission as a mailbox that logged in.
func (p *proofDoor) control(ctx context.Context, remote netip.Addr) error {
	c, err := p.lines.dial(ctx, remote)
	if err != nil {
		p.controls.Tried++
		p.controls.Reply = err.Error()
		return p.unsaid(ctx)
	}
	defer func() { _ = c.Close() }() // nothing more is wanted of it
	c.Say("EHLO client.example\r\n")
	from := relayprobe.Stranger
	if p.door != MX {
		from = p.run.store.own.address.String()
		c.Say(p.run.auth.command())
	}
	p.run.store.begin()
	rcpt, last := c.Transact(from, p.run.control)
	local, away := p.run.store.seen()
	p.controls.Tried++
	good := relayprobe.Accepted(rcpt) && relayprobe.Accepted(last) && local && !away
	if good {
		p.controls.Passed++
	}
	if p.controls.Reply == "" || !good && p.controls.Passed == p.controls.Tried-1 {
		p.controls.Reply = rcpt
	}
	return ctx.Err()
}

// owner tries what must be possible: a mailbox that logged in sends out of the domain, if mail goes out at all. It shows that the proof would
// see mail that leaves.
func (p *proofDoor) owner(ctx context.Context) error {
	s := p.run.store.settings
	if p.door == MX && !s.AuthOnMX {
		return nil
	}
	c, err := p.lines.dial(ctx, p.run.free())
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // nothing more is wanted of it
	c.Say("EHLO client.example\r\n")
	c.Say(p.run.auth.command())
	p.run.store.begin()
	rcpt, last := c.Transact(p.run.store.own.address.String(), relayprobe.Victim)
	_, away := p.run.store.seen()
	control := relayprobe.Control{Door: string(p.door), What: "mail out of the domain by a mailbox that logged in, seen to leave", Tried: 1, Reply: rcpt}
	good := relayprobe.Accepted(last) && away
	if !s.OutgoingMail {
		control.What = "mail out of the domain by a mailbox that logged in, refused because outgoing_mail is off"
		good = relayprobe.Refused(rcpt) && !away
	}
	if good {
		control.Passed = 1
	}
	p.run.report.Controls = append(p.run.report.Controls, control)
	return ctx.Err()
}

// memoryListener hands out connections that never leave the process.
type memoryListener struct {
	conns    chan net.Conn
	done     chan struct{}
	once     sync.Once
	patience time.Duration
}

func newMemoryListener(patience time.Duration) *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), done: make(chan struct{}), patience: patience}
}

// Accept implements net.Listener.
func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *memoryListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 254), Port: 25} }

// dial connects as a client that stands at an address, and reads the greeting. The caller closes the client.
func (l *memoryListener) dial(ctx context.Context, remote netip.Addr) (*relayprobe.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	near, far := net.Pipe()
	select {
	case l.conns <- &memoryConn{far, remote}:
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return relayprobe.NewClient(ctx, near)
}

// memoryConn is the server's end of a connection in memory.
type memoryConn struct {
	net.Conn
	remote netip.Addr
}

// RemoteAddr implements net.Conn.
func (c *memoryConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.remote, 40000))
}

// LocalAddr implements net.Conn.
func (c *memoryConn) LocalAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 254), Port: 25}
}
