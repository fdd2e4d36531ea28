package main

import (
	"fmt"
	"net/netip"
	"time"

	"latchkey/internal/refusal"
)

// device is one program or machine of a mailbox's owner.
type device struct {
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

// newDevice is the i-th of a mailbox: most are at home, at the office or in a pocket.
func newDevice(y *year, b *yearBox, i int) *device {
	d := &device{box: b, password: b.password, every: 24 * time.Hour}
	n := int(b.id)
	switch i % 10 {
	case 0, 1, 2:
		d.kind, d.home = atOffice, officeAddr(n/officeSize)
	case 3, 4, 5:
		d.kind, d.home = atHome, homeAddr(n/2) // two mailboxes to a household
	case 6, 7:
		d.kind, d.home = mobile, carrierAddr(y.dice.IntN(carriers))
	case 8:
		d.kind, d.home = roaming, hotelAddr(y.dice.IntN(1<<20))
	default:
		// The scanners of an office have a few mailboxes of their own.
		d.kind, d.box, d.home = scanner, y.boxes[n/officeSize*officeSize%len(y.boxes)], officeAddr(n/officeSize)
		d.password = d.box.password
	}
	return d
}

// act is one visit: fetch mail or send some, sometimes both.
func (d *device) act(y *year) time.Duration {
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
	y.judge(visit(d.home, d.box.name, d.password) == isIn, refusal.AuthThrottled)
	if y.dice.IntN(4) == 0 {
		d.send(y)
	}
	return y.about(d.every)
}

// keepUp has the new password typed in when its time has come.
func (d *device) keepUp(y *year) {
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
func (d *device) send(y *year) {
	if !y.judge(y.login(d.home, d.box.name, d.password) == isIn, refusal.AuthThrottled) {
		return
	}
	n := 1 + y.dice.IntN(3)
	y.judge(y.spend(d.box, n) == n, refusal.RelayMailboxLimit)
	y.sent += n
}

// scan fetches mail and sends at once.
func (d *device) scan(y *year) {
	if !y.judge(y.fetch(d.home, d.box.name, d.password) == isIn, refusal.AuthThrottled) {
		return
	}
	y.now = y.now.Add(time.Second)
	n, granted := y.byGrant(d.home, d.box, 1)
	why := refusal.RelayNoGrant
	if granted {
		why = refusal.RelayGrantSpent
	}
	y.judge(n == 1, why)
	y.sent += n
}

// judge counts what an owner did who was in the right.
func (y *year) judge(ok bool, why refusal.Name) bool {
	if y.tried++; !ok {
		y.refused[why]++
	}
	return ok
}

// owner changes the password of a mailbox about twice a year.
type owner struct{ box *yearBox }

func (o *owner) act(y *year) time.Duration {
	b := o.box
	b.previous, b.version, b.changed = b.password, b.version+1, y.now
	b.password = fmt.Sprintf("%s/%d", b.name, b.version)
	return y.about(180 * 24 * time.Hour)
}
