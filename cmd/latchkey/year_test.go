package main

import (
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/refusal"
)

// heldName stands for mail of owners that was put on hold.
const heldName refusal.Name = "on hold"

// The domain of the year.
const (
	yearMailboxes = 200
	yearDevices   = 50 // of each mailbox
	shortDevices  = 10
	// yearSeed is where the chance of a year begins, unless somebody says otherwise.
	yearSeed = 2026
	// mostRefused is one in so many of what owners do who are in the right.
	mostRefused = 100_000
	// mostHeld is the same for mail that is put on hold until somebody releases it.
	mostHeld = 1000
)

// yearResult is what a year was like.
type yearResult struct {
	seed      uint64
	days      int
	y         *year
	attackers []*attacker
	devices   int
	clerk     clerk
}

// liveYear lives through some days of it.
func liveYear(t *testing.T, seed uint64, days, devices int) *yearResult {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // there is much that stays
	y := newYear(t, seed, yearMailboxes)
	for _, b := range y.boxes {
		for i := range devices {
			d := newYearDevice(y, b, i)
			y.join(d, d.every)
		}
		y.join(&owner{b}, 180*24*time.Hour)
	}
	r := &yearResult{seed: seed, days: days, devices: devices, y: y, attackers: append(guessers(), senders()...)}
	for _, a := range r.attackers {
		y.joinAt(a, newYearsDay().Add(time.Duration(a.from)*24*time.Hour))
	}
	c := &clerk{}
	y.join(c, time.Minute)
	y.live(time.Duration(days) * 24 * time.Hour)
	r.clerk = *c
	return r
}

// check says what must hold of every year.
func (r *yearResult) check(t *testing.T) {
	t.Helper()
	refused, held := 0, r.y.refused[heldName]
	for name, n := range r.y.refused {
		if name != heldName {
			refused += n
		}
		if name != heldName && refusal.Of(name).Cure == "" {
			t.Errorf("%s has no cure", name)
		}
	}
	if refused > max(1, r.y.tried/mostRefused) {
		t.Errorf("%d of %d things were refused to owners: %v", refused, r.y.tried, r.y.refused)
	}
	if held*mostHeld > r.y.tried {
		t.Errorf("%d of %d things that owners did were put on hold", held, r.y.tried)
	}
	for _, a := range r.attackers {
		if a.most > 0 && a.best > a.most || a.mostEver > 0 && a.all > a.mostEver {
			t.Errorf("%s, %s: %d %s on one day, %d in all", a.row, a.wants, a.best, a.unit, a.all)
		}
		if a.all == 0 {
			t.Errorf("%s, %s: got nothing at all, so nothing was tried", a.row, a.wants)
		}
	}
}

// table is the report, for docs/abuse.md.
func (r *yearResult) table() string {
	var b strings.Builder
	refused, held := 0, r.y.refused[heldName]
	for _, n := range r.y.refused {
		refused += n
	}
	refused -= held
	in := func(n int) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprintf(" (one in %d)", r.y.tried/n)
	}
	fmt.Fprintf(&b, "Seed %d, %d days, %d mailboxes, %d devices.\n", r.seed, r.days, yearMailboxes, yearMailboxes*r.devices)
	fmt.Fprintf(&b, "Owners who were in the right logged in or sent %d times, to %d recipients. Refused: %d%s; put on hold: %d%s.\n", r.y.tried, r.y.sent,
		refused, in(refused), held, in(held))
	fmt.Fprintf(&b, "They also sent a wrong password %d times: old ones, and slips of the hand.\n\n", r.y.wrong)
	if len(r.y.refused) > 0 {
		b.WriteString("| what owners met | times | cure |\n|---|---:|---|\n")
		for _, name := range slices.Sorted(maps.Keys(r.y.refused)) {
			cure := "The owner of the domain is told, and releases it; the network counts as the mailbox's own from then on."
			if name != heldName {
				cure = refusal.Of(name).Cure
			}
			fmt.Fprintf(&b, "| %s | %d | %s |\n", name, r.y.refused[name], cure)
		}
		b.WriteByte('\n')
	}
	b.WriteString("| # | attacker | days | tries | best day | in all | of |\n|---|---|---:|---:|---:|---:|---|\n")
	for _, a := range r.attackers {
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %d | %s |\n", a.row, a.wants, min(a.days, r.days-a.from), a.steps, a.best, a.all, a.unit)
	}
	fmt.Fprintf(&b, "\nA day after mail of a mailbox was put on hold its domain's owner released it %d times, and gave the mailbox a new password %d times.\n",
		r.clerk.released, r.clerk.purged)
	return b.String()
}

// TestYearInShort is the beginning of the year of TestTortureYear, with fewer devices: long enough for every attacker.
func TestYearInShort(t *testing.T) {
	r := liveYear(t, yearSeed, 13, shortDevices)
	r.check(t)
	t.Log("\n" + r.table())
}
