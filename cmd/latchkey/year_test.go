package main

import (
	"fmt"
	"maps"
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
	met := r.y.met
	for name := range met.refused {
		if name != heldName && refusal.Of(name).Cure == "" {
			t.Errorf("%s has no cure", name)
		}
	}
	refused, held := met.of()
	if refused > max(1, met.tried/mostRefused) {
		t.Errorf("seed %d: %d of %d things were refused to owners: %v", r.seed, refused, met.tried, met.refused)
	}
	if held*mostHeld > met.tried {
		t.Errorf("seed %d: %d of %d things that owners did were put on hold", r.seed, held, met.tried)
	}
	for _, a := range r.attackers {
		if a.most > 0 && a.best > a.most || a.mostEver > 0 && a.all > a.mostEver {
			t.Errorf("seed %d: %s, %s: %d %s on one day, %d in all", r.seed, a.row, a.wants, a.best, a.unit, a.all)
		}
		if a.all == 0 {
			t.Errorf("seed %d: %s, %s: got nothing at all, so nothing was tried", r.seed, a.row, a.wants)
		}
	}
}

// yearTable is the report, for docs/abuse.md: the owners by years, and of each attacker the year that was best for him.
func yearTable(years []*yearResult) string {
	var b strings.Builder
	first := years[0]
	fmt.Fprintf(&b, "%d days, %d mailboxes, %d devices. What owners did who were in the right:\n\n", first.days, yearMailboxes, yearMailboxes*first.devices)
	b.WriteString("| seed | logins and messages | recipients | refused | on hold | logins with a wrong password | released a day later | new password a day later |\n")
	b.WriteString("|---|---:|---:|---:|---:|---:|---:|---:|\n")
	worst := map[refusal.Name]int{}
	var siege encounters
	for _, r := range years {
		refused, held := r.y.met.of()
		fmt.Fprintf(&b, "| %d | %d | %d | %d%s | %d%s | %d | %d | %d |\n", r.seed, r.y.met.tried, r.y.sent, refused, oneIn(r.y.met.tried, refused),
			held, oneIn(r.y.met.tried, held), r.y.wrong, r.clerk.released, r.clerk.purged)
		for name, n := range r.y.met.refused {
			worst[name] = max(worst[name], n)
		}
		if n, _ := r.y.siege.met.of(); siege.tried == 0 || n > siege.refused[refusal.AuthThrottled] {
			siege = encounters{r.y.siege.met.tried, map[refusal.Name]int{refusal.AuthThrottled: n}}
		}
	}
	fmt.Fprintf(&b, "\nBesides, in the office where somebody guesses and waits for no answer, %d of %d were refused on that day, at worst.\n\n",
		siege.refused[refusal.AuthThrottled], siege.tried)
	if len(worst) > 0 {
		b.WriteString("| what owners met | times at worst | cure |\n|---|---:|---|\n")
		for _, name := range slices.Sorted(maps.Keys(worst)) {
			cure := "The owner of the domain is told, and releases it; the network counts as the mailbox's own from then on."
			if name != heldName {
				cure = refusal.Of(name).Cure
			}
			fmt.Fprintf(&b, "| %s | %d | %s |\n", name, worst[name], cure)
		}
		b.WriteByte('\n')
	}
	b.WriteString("| # | attacker | days | tries | best day | in all | of |\n|---|---|---:|---:|---:|---:|---|\n")
	for i, a := range first.attackers {
		var steps, best, all int
		for _, r := range years {
			steps, best, all = max(steps, r.attackers[i].steps), max(best, r.attackers[i].best), max(all, r.attackers[i].all)
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %d | %s |\n", a.row, a.wants, min(a.days, first.days-a.from), steps, best, all, a.unit)
	}
	return b.String()
}

// oneIn says how seldom something is.
func oneIn(of, n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (one in %d)", of/n)
}
