package main

import (
	"fmt"
	"net/netip"
	"time"

	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// attacker is one of docs/abuse.md, and what he got.
type attacker struct {
	row         string
	wants, unit string
	// from and days are when he begins, and how long he goes on; every is how often he does something.
	from, days int
	every      time.Duration
	// step is one thing that he does; it returns what he got by it.
	step func(y *year) int
	// most is what he must not get beyond on one day, mostEver in all; 0 is not asked.
	most, mostEver int

	// atOnce is how many connections he uses: answers that are kept back keep each of them.
	atOnce int

	vain  int
	today store.Day
	got   int // today
	// best is the most that he got on one day, all of it what he got.
	best, all, steps int
}

func (a *attacker) act(y *year) time.Duration {
	if y.now.Sub(newYearsDay()) > time.Duration(a.from+a.days)*24*time.Hour {
		return 0
	}
	got := a.step(y)
	if a.vain++; got > 0 {
		a.vain = 0
	}
	if day := store.DayOf(y.now); day != a.today {
		a.today, a.got = day, 0
	}
	a.steps++
	a.all += got
	a.got += got
	a.best = max(a.best, a.got)
	if a.vain > mostVain {
		return 0
	}
	return max(a.every, y.wait/time.Duration(max(a.atOnce, 1)))
}

// mostVain is after how many tries in a row that brought nothing an attacker goes elsewhere.
const mostVain = 2000

// bot is one of an attacker's addresses, each in a network of its own.
func bot(n int) netip.Addr { return netip.AddrFrom4([4]byte{45, byte(n >> 8), byte(n), 9}) }

// heard is 1 if a guess was looked at.
func heard(a answer) int {
	if a == isTurnedAway {
		return 0
	}
	return 1
}

// out is n if the message went out.
func out(f yearFate, n int) int {
	if f == wentOut {
		return n
	}
	return 0
}

// strangers are people to whom no mailbox ever wrote.
func (a *attacker) strangers(y *year, n int) (list []mailaddr.Address) {
	for i := range n {
		list = append(list, y.address(fmt.Sprintf("v%d-%d", a.steps, i), "victims"))
	}
	return list
}

// friends are people to whom a mailbox writes anyway.
func friends(y *year, b *yearBox, n int) (list []mailaddr.Address) {
	for range n {
		list = append(list, y.address(fmt.Sprintf("c%d", y.dice.IntN(contacts)), b.name))
	}
	return list
}

// stolen sends with the password of a mailbox, which the attacker had on his first day.
func stolen(y *year, from netip.Addr, b *yearBox, password *string, to []mailaddr.Address) int {
	if *password == "" {
		*password, b.robbed = b.password, true
	}
	if y.login(from, b.name, *password) != isIn {
		return 0
	}
	return out(y.submit(from, b, to), len(to))
}

// guessers want passwords. What they get is guesses that are looked at.
func guessers() []*attacker {
	guess := 0
	word := func() string { guess++; return fmt.Sprint("guess ", guess) }
	any := func(y *year) string { return y.boxes[y.dice.IntN(len(y.boxes))].name }
	const unit = "guesses looked at"
	return []*attacker{
		{row: "3", wants: "one address, all mailboxes", unit: unit, days: 365, every: time.Minute, most: 110, step: func(y *year) int {
			return heard(y.login(bot(1), any(y), word()))
		}},
		{row: "3", wants: "50,000 addresses, all mailboxes", unit: unit, days: 365, every: time.Minute, most: 1500, step: func(y *year) int {
			return heard(y.login(bot(1000+y.dice.IntN(50_000)), any(y), word()))
		}},
		{row: "4", wants: "50,000 addresses, one mailbox", unit: unit, from: 9, days: 1, every: 2 * time.Second, most: 26_000, step: func(y *year) int {
			return heard(y.login(bot(1000+y.dice.IntN(50_000)), "m10", word()))
		}},
		{row: "5", wants: "a neighbour behind an office's address, all of its mailboxes", unit: unit, from: 9, days: 1, every: time.Second, atOnce: guard.MaxWaitsPerClient, most: 12_000,
			step: func(y *year) int {
				return heard(y.login(officeAddr(2), y.boxes[2*officeSize+y.dice.IntN(officeSize)].name, word()))
			}},
		{row: "5", wants: "the same in another office, and waits for no answer", unit: unit, from: 9, days: 1, every: time.Second, atOnce: 1 << 20, most: 12_100,
			step: func(y *year) int {
				y.besieged(5)
				return heard(y.login(officeAddr(5), y.boxes[5*officeSize+y.dice.IntN(officeSize)].name, word()))
			}},
	}
}

// besieged has the owners in an office counted for themselves while somebody there leaves them nothing to be looked at: nothing tells them from him.
func (y *year) besieged(office int) {
	if y.siege.at = officeAddr(office); y.siege.from.IsZero() {
		y.siege.from = y.now
	}
	y.siege.to = y.now.Add(time.Hour) // until what he has used up came back
}

// senders want mail to go out. What they get is recipients.
func senders() []*attacker {
	const unit = "recipients"
	neighbour := &attacker{row: "8", wants: "a neighbour behind a scanner's address, without a password", unit: unit, from: 9, days: 1, every: 10 * time.Minute, most: 200}
	neighbour.step = func(y *year) int {
		return out(y.byGrant(officeAddr(3), y.boxes[3*officeSize], neighbour.strangers(y, 1)), 1)
	}
	farm := &attacker{row: "9", wants: "a stolen password, POP3 logins from 100 networks each 17 minutes, sends by grants", unit: unit, from: 9, days: 30, every: 10 * time.Second, mostEver: 50}
	var farmed string
	farm.step = func(y *year) int {
		b, from := y.boxes[15], bot(60_000+farm.steps%100)
		if farmed == "" {
			farmed, b.robbed = b.password, true
		}
		if y.fetch(from, b.name, farmed) != isIn {
			return 0
		}
		return out(y.byGrant(from, b, farm.strangers(y, 5)), 5)
	}
	list := []*attacker{neighbour, farm}
	for i, s := range []struct {
		row, wants     string
		every          time.Duration
		from           func(a *attacker, y *year, b *yearBox) netip.Addr
		to             func(a *attacker, y *year, b *yearBox) []mailaddr.Address
		most, mostEver int
	}{
		{"6", "a stolen password, a new country, 500 recipients in 5 minutes", 3 * time.Second, fromAbroad, func(a *attacker, y *year, _ *yearBox) []mailaddr.Address { return a.strangers(y, 5) }, 0, 50},
		{"6", "a stolen password, a new country, a stranger each 10 minutes", 10 * time.Minute, fromAbroad, func(a *attacker, y *year, _ *yearBox) []mailaddr.Address { return a.strangers(y, 1) }, 0, 50},
		{"6", "a stolen password, another network for each message", time.Minute, everywhereElse, func(a *attacker, y *year, _ *yearBox) []mailaddr.Address { return a.strangers(y, 2) }, 0, 50},
		{"7", "a stolen password, a new country, 20 an hour to whom the owner knows", 3 * time.Minute, fromAbroad, func(_ *attacker, y *year, b *yearBox) []mailaddr.Address { return friends(y, b, 1) }, 0, 50},
		{"7", "the owner's own computer, 20 an hour to whom he knows", 3 * time.Minute, ownOffice, func(_ *attacker, y *year, b *yearBox) []mailaddr.Address { return friends(y, b, 1) }, 500, 0},
		{"7", "the owner's own computer, 20 an hour to strangers", 3 * time.Minute, ownOffice, func(a *attacker, y *year, _ *yearBox) []mailaddr.Address { return a.strangers(y, 1) }, 400, 0},
	} {
		a := &attacker{row: s.row, wants: s.wants, unit: unit, from: 9, days: 14, every: s.every, most: s.most, mostEver: s.mostEver}
		box, password := 100+i, ""
		a.step = func(y *year) int {
			b := y.boxes[box]
			return stolen(y, s.from(a, y, b), b, &password, s.to(a, y, b))
		}
		list = append(list, a)
	}
	return list
}

func fromAbroad(_ *attacker, _ *year, b *yearBox) netip.Addr { return bot(62_000 + int(b.id)) }

func everywhereElse(a *attacker, _ *year, _ *yearBox) netip.Addr { return bot(63_000 + a.steps%2000) }

func ownOffice(_ *attacker, _ *year, b *yearBox) netip.Addr {
	return officeAddr(int(b.id) / officeSize)
}

// clerk is who writes down what was seen, and the owner of the domain, who looks after a mailbox a day after he was told that its mail is on
// hold. If the owner of the mailbox says that it was his, it is released; else the mailbox gets a new password.
type clerk struct{ released, purged int }

func (c *clerk) act(y *year) time.Duration {
	y.conduct.Flush(y.t.Context())
	for _, b := range y.boxes {
		if b.held.IsZero() || y.now.Sub(b.held) < 24*time.Hour {
			continue
		}
		b.held = time.Time{}
		var err error
		if b.robbed {
			b.robbed = false
			b.change(y)
			err = y.conduct.Purge(y.t.Context(), b.id)
			c.purged++
		} else {
			_, err = y.conduct.Lift(y.t.Context(), b.id)
			c.released++
		}
		if err != nil {
			y.t.Fatal(err)
		}
	}
	return time.Hour
}
