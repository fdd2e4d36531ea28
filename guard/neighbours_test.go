package guard

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// staff has twenty mailboxes log in from one address.
func staff(g *Logins) (mailboxes []string) {
	for i := range 20 {
		name := fmt.Sprint("colleague", i)
		g.Succeeded(start, home, name)
		mailboxes = append(mailboxes, name)
	}
	return mailboxes
}

// TestNeighbourWhoWaits: somebody in an office guesses at all its mailboxes, all day long, eight at once, and waits for the answers. He has a guess
// each seven and a half seconds, and nobody there is turned away.
func TestNeighbourWhoWaits(t *testing.T) {
	g := NewLogins(LoginLimits{})
	mailboxes, looked := staff(g), 0
	for now := start; now.Before(start.Add(24 * time.Hour)); {
		name := mailboxes[looked%len(mailboxes)]
		check(t, g, now, home, name, Proceed)
		g.Failed(now, home, name, 1, fmt.Sprint("guess ", looked))
		looked++
		now = now.Add(max(g.Delay(now, home, name)/MaxWaitsPerClient, time.Second))
	}
	if most := 24*60*MaxWaitsPerClient + 80; looked > most || looked < most/2 {
		t.Errorf("%d guesses, want at most %d", looked, most)
	}
}

// TestNeighbourInAHurry: one who waits for nothing is looked at no more often. Mailboxes at which he does not guess have ten wrong passwords of their
// own each day; their owners, those elsewhere, and whoever comes to the office anew notice nothing.
func TestNeighbourInAHurry(t *testing.T) {
	g := NewLogins(LoginLimits{})
	mailboxes, looked := staff(g), 0
	g.Succeeded(start, cafe, mailboxes[0])
	victims, others := mailboxes[:15], mailboxes[15:]
	dice := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // it has to come again
	for second := range 24 * 60 * 60 {
		now, name := start.Add(time.Duration(second)*time.Second), victims[dice.IntN(len(victims))]
		guess := fmt.Sprint("guess ", second)
		if g.Check(now, home, name, 1, guess) == Proceed {
			looked++
			g.Failed(now, home, name, 1, guess)
		}
		if second%600 == 0 {
			check(t, g, now, home, others[second/600%len(others)], Proceed)
			check(t, g, now, home, "newcomer", Proceed)
			check(t, g, now, cafe, mailboxes[0], Proceed)
			g.Succeeded(now, home, name) // gives him nothing back
		}
	}
	if most := 24*60*8 + 80 + len(victims)*2*10; looked > most {
		t.Errorf("%d guesses were looked at, want at most %d", looked, most)
	}
	end := start.Add(24*time.Hour - time.Second)
	guess(g, end, home, victims[1], 5) // what came back since he was last turned away
	check(t, g, end, home, victims[0], Throttled)
	guess(g, end, home, others[0], 9)
	check(t, g, end, home, others[0], Proceed)
	g.Failed(end, home, others[0], 1, "one more")
	check(t, g, end, home, others[0], Throttled)
	check(t, g, end, home, others[1], Proceed)
}

// TestNeighboursAreOfOneAddress: what is guessed at the mailboxes of one address holds up nobody at the next.
func TestNeighboursAreOfOneAddress(t *testing.T) {
	g := NewLogins(LoginLimits{})
	next := netip.MustParseAddr("192.0.2.2")
	g.Succeeded(start, next, "zoe")
	for _, name := range staff(g) {
		guess(g, start, home, name, 29)
	}
	g.Succeeded(start, home, "zoe")
	guess(g, start, home, "zoe", 10)
	check(t, g, start, home, "zoe", Throttled)
	check(t, g, start, next, "zoe", Proceed)
}
