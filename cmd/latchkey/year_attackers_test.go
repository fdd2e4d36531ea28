package main

import (
	"fmt"
	"net/netip"
	"time"

	"latchkey/store"
)

// attacker is one of docs/abuse.md, and what he got.
type attacker struct {
	row         string
	wants, unit string
	// step is one thing that he does; it returns how long until the next, and what he got by it.
	step  func(y *year) (next time.Duration, got int)
	day   store.Day
	today int
	// best is the most that he got on one day, all of it what he got.
	best, all, steps int
	// most is what he must not get beyond on one day.
	most int
}

func (a *attacker) act(y *year) time.Duration {
	next, got := a.step(y)
	if day := store.DayOf(y.now); day != a.day {
		a.day, a.today = day, 0
	}
	a.steps++
	a.all += got
	a.today += got
	a.best = max(a.best, a.today)
	return next
}

// bot is one of an attacker's addresses.
func bot(n int) netip.Addr { return netip.AddrFrom4([4]byte{45, byte(n >> 16), byte(n >> 8), byte(n)}) }

// heard is 1 if a guess was looked at.
func heard(a answer) int {
	if a == isTurnedAway {
		return 0
	}
	return 1
}

// attackers are all of them, each with the most that he may get. Those with a stolen password have that of the mailbox of the same number.
func attackers() []*attacker {
	guess := 0
	word := func() string { guess++; return fmt.Sprint("guess ", guess) }
	list := []*attacker{
		{row: "3", wants: "spray: one address, all mailboxes, a guess each ten seconds", unit: "guesses looked at", most: 7300, step: func(y *year) (time.Duration, int) {
			return 10 * time.Second, heard(y.login(bot(1), y.boxes[y.dice.IntN(len(y.boxes))].name, word()))
		}},
		{row: "4", wants: "slow spray: one mailbox, ten thousand addresses, a guess each ten seconds", unit: "guesses looked at", most: 2500, step: func(y *year) (time.Duration, int) {
			return 10 * time.Second, heard(y.login(bot(1000+y.dice.IntN(10_000)), "m10", word()))
		}},
		{row: "3", wants: "wide spray: ten thousand addresses, all mailboxes, a guess each five seconds", unit: "guesses looked at", most: 17_300, step: func(y *year) (time.Duration, int) {
			return 5 * time.Second, heard(y.login(bot(20_000+y.dice.IntN(10_000)), y.boxes[y.dice.IntN(len(y.boxes))].name, word()))
		}},
		{row: "5", wants: "guesses from the office's own address, at all of its mailboxes", unit: "guesses looked at", most: 7300, step: func(y *year) (time.Duration, int) {
			return time.Minute, heard(y.login(officeAddr(2), y.boxes[2*officeSize+y.dice.IntN(officeSize)].name, word()))
		}},
		{row: "8", wants: "POP before SMTP: sends from the address of a scanner, as that scanner", unit: "recipients", most: 1000, step: func(y *year) (time.Duration, int) {
			n, _ := y.byGrant(officeAddr(3), y.boxes[3*officeSize], 1)
			return time.Minute, n
		}},
		{row: "9", wants: "farms grants: a stolen password, logins by POP3 from a thousand addresses each 19 minutes", unit: "recipients", most: 1000},
	}
	farm := list[len(list)-1]
	farm.step = func(y *year) (time.Duration, int) {
		b, from := y.boxes[15], bot(50_000+farm.steps%1000)
		if y.fetch(from, b.name, b.password) != isIn {
			return time.Second, 0
		}
		n, _ := y.byGrant(from, b, 10)
		return 19 * time.Minute / 1000, n
	}
	return list
}
