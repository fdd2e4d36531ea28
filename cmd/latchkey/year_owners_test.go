package main

import (
	"fmt"
	"net/netip"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/internal/refusal"
)

// yearDevice is one program or machine of a mailbox's owner.
type yearDevice struct {
	kind     deviceKind
	box      *yearBox
	home     netip.Addr
	password string
	// fixed is when the owner has put a new password in; zero when that is not to be done.
	fixed time.Time
	every time.Duration
	typos int
}

type deviceKind int

const (
	atOffice deviceKind = iota
	atHome
	mobile  // behind a carrier's translator, with many others
	roaming // somewhere else each day
	scanner // POP before SMTP
	kinds
)

// The networks of the owners. Attackers are elsewhere, unless they are neighbours.
func officeAddr(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}) }
func homeAddr(n int) netip.Addr {
	if n%4 == 0 {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::%x", n, 1+n%7))
	}
	return netip.AddrFrom4([4]byte{203, byte(n >> 8), byte(n), 7})
}
func carrierAddr(n int) netip.Addr { return netip.AddrFrom4([4]byte{185, 12, byte(n), 1}) }
func hotelAddr(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{93, byte(n >> 16), byte(n >> 8), byte(n)})
}

const (
	offices    = 10
	officeSize = 20 // mailboxes in one
	carriers   = 60
)

// newYearDevice is the i-th of a mailbox: most are at home, at the office or in a pocket.
func newYearDevice(y *year, b *yearBox, i int) *yearDevice {
	d := &yearDevice{box: b, password: b.password, every: 72 * time.Hour}
	n := int(b.id)
	switch k := i % 25; {
	case k < 9:
		d.kind, d.home = atOffice, officeAddr(n/officeSize)
	case k < 17:
		d.kind, d.home = atHome, homeAddr(n/2) // two mailboxes to a household
	case k < 23:
		d.kind, d.home = mobile, carrierAddr(y.dice.IntN(carriers))
	case k < 24:
		d.kind, d.home = roaming, hotelAddr(y.dice.IntN(1<<20))
	default:
		// The scanners of an office have a few mailboxes of their own.
		d.kind, d.box, d.home = scanner, y.boxes[n/officeSize*officeSize%len(y.boxes)], officeAddr(n/officeSize)
		d.password = d.box.password
	}
	return d
}

// act is one visit: fetch mail or send some, sometimes both.
func (d *yearDevice) act(y *year) time.Duration {
	d.keepUp(y)
	if d.kind == roaming {
		d.home = hotelAddr(y.dice.IntN(1 << 20))
	}
	if d.typos > 0 {
		d.typos--
		y.wrong++
		y.login(d.home, d.box.name, fmt.Sprint("typo ", d.typos))
		return y.about(20 * time.Second)
	}
	if d.kind != scanner && y.dice.IntN(500) == 0 {
		d.typos = 1 + y.dice.IntN(3) // a person types the password, and not well
		return y.about(20 * time.Second)
	}
	if d.password != d.box.password {
		y.wrong++
		y.fetch(d.home, d.box.name, d.password)
		return y.about(time.Hour)
	}
	if d.kind == scanner {
		d.scan(y)
		return y.about(d.every)
	}
	visit := y.login
	if d.kind != mobile { // a telephone fetches by other ways, and sends
		visit = y.fetch
	}
	d.judge(y, visit(d.home, d.box.name, d.password) == isIn, refusal.AuthThrottled)
	if y.dice.IntN(4) == 0 {
		d.send(y)
	}
	return y.about(d.every)
}

// keepUp has the new password typed in when its time has come.
func (d *yearDevice) keepUp(y *year) {
	switch {
	case d.password == d.box.password:
		d.fixed = time.Time{}
	case d.fixed.IsZero():
		// Most are told of a new password within hours; one in a hundred is forgotten in a drawer for a month.
		wait := y.about(6 * time.Hour)
		if y.dice.IntN(100) == 0 {
			wait = 30 * 24 * time.Hour
		}
		d.fixed = d.box.changed.Add(wait)
	}
	if !d.fixed.IsZero() && !y.now.Before(d.fixed) {
		d.password, d.fixed = d.box.password, time.Time{}
	}
}

// send logs in to send a letter or two.
func (d *yearDevice) send(y *year) {
	if !d.judge(y, y.login(d.home, d.box.name, d.password) == isIn, refusal.AuthThrottled) {
		return
	}
	n := 1 + y.dice.IntN(3)
	d.judgeSent(y, n, y.submit(d.home, d.box, d.box.people(y, n)))
}

// judgeSent counts a letter of an owner.
func (d *yearDevice) judgeSent(y *year, n int, became yearFate) {
	switch became {
	case wentOut:
		y.sent += n
		d.judge(y, true, "")
	case onHold:
		d.judge(y, false, heldName)
	case overBudget:
		d.judge(y, false, refusal.RelayMailboxLimit)
	case noGrant:
		d.judge(y, false, refusal.RelayNoGrant)
	case grantSpent:
		d.judge(y, false, refusal.RelayGrantSpent)
	}
}

// scan fetches mail and sends at once.
func (d *yearDevice) scan(y *year) {
	if !d.judge(y, y.fetch(d.home, d.box.name, d.password) == isIn, refusal.AuthThrottled) {
		return
	}
	y.now = y.now.Add(time.Second)
	d.judgeSent(y, 1, y.byGrant(d.home, d.box, d.box.people(y, 1)))
}

// judge counts what an owner did who was in the right.
func (d *yearDevice) judge(y *year, ok bool, why refusal.Name) bool {
	s := &y.met
	if y.siege.at == d.home && !y.now.Before(y.siege.from) && y.now.Before(y.siege.to) {
		s = &y.siege.met
	}
	if s.tried++; !ok {
		s.refused[why]++
	}
	return ok
}

// people are whom an owner writes to: mostly those whom he knows.
func (b *yearBox) people(y *year, n int) []mailaddr.Address {
	list := make([]mailaddr.Address, 0, n)
	for len(list) < n {
		who := y.dice.IntN(contacts)
		if y.dice.IntN(20) == 0 {
			b.met++
			who = contacts + b.met
		}
		list = append(list, y.address(fmt.Sprintf("c%d", who), b.name))
	}
	return list
}

// contacts are how many people an owner knows when the year begins.
const contacts = 200

// owner changes the password of a mailbox about twice a year.
type owner struct{ box *yearBox }

func (o *owner) act(y *year) time.Duration {
	o.box.change(y)
	return y.about(180 * 24 * time.Hour)
}

// change gives a mailbox a new password.
func (b *yearBox) change(y *year) {
	b.previous, b.version, b.changed = b.password, b.version+1, y.now
	b.password = fmt.Sprintf("%s/%d", b.name, b.version)
}
