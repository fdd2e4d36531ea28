package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/store"
)

var habitTests = []test{
	{"NoteHabits", TestNoteHabits},
	{"HabitsAreToldApart", TestHabitsAreToldApart},
	{"MostHabits", TestMostHabits},
	{"NoteHabitsBounds", TestNoteHabitsBounds},
	{"ForgetHabits", TestForgetHabits},
	{"ClaimHabit", TestClaimHabit},
	{"ClaimHabitAtOnce", TestClaimHabitAtOnce},
	{"RemovedAccountsHabits", TestRemovedAccountsHabits},
}

// habit is one that was seen once, n minutes after the harness's moment.
func (h *harness) habit(a store.Account, kind store.HabitKind, name string, n int) store.Habit {
	at := h.now.Add(time.Duration(n) * time.Minute)
	return store.Habit{Account: a.ID, Kind: kind, Name: name, First: at, Last: at, Text: fmt.Sprint("text ", n)}
}

func sameHabit(a, b store.Habit) bool {
	if !a.First.Equal(b.First) || !a.Last.Equal(b.Last) {
		return false
	}
	a.First, a.Last = b.First, b.Last
	return a == b
}

func (h *harness) wantHabits(id store.AccountID, kind store.HabitKind, want ...store.Habit) {
	h.t.Helper()
	got, err := h.s.ListHabits(h.ctx, id, kind, len(want)+1)
	h.must(err)
	if !slices.EqualFunc(got, want, sameHabit) {
		h.t.Errorf("habits %c of account %d:\n%+v\nwant\n%+v", kind, id, got, want)
	}
}

// TestNoteHabits: what is seen again keeps the earlier First, and has the later Last with its text, in one call or in several.
func TestNoteHabits(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	h.must(h.s.NoteHabits(h.ctx, nil))
	early, middle, late := h.habit(anna, store.HabitNetwork, "x", 1), h.habit(anna, store.HabitNetwork, "x", 2), h.habit(anna, store.HabitNetwork, "x", 3)
	h.must(h.s.NoteHabits(h.ctx, []store.Habit{middle}))
	h.wantHabits(anna.ID, store.HabitNetwork, middle)
	h.must(h.s.NoteHabits(h.ctx, []store.Habit{late, early}))
	want := late
	want.First = early.First
	other := h.habit(anna, store.HabitNetwork, "y", 4)
	h.must(h.s.NoteHabits(h.ctx, []store.Habit{other}))
	for range 2 {
		h.wantHabits(anna.ID, store.HabitNetwork, other, want)
		known, err := h.s.KnownHabits(h.ctx, anna.ID, store.HabitNetwork, "z", "x", "", "y", "xy")
		h.must(err)
		if !slices.EqualFunc(known, []store.Habit{want, other}, sameHabit) {
			t.Errorf("known %+v, want x and y", known)
		}
		h.reopen()
	}
}

// TestHabitsAreToldApart: by account, kind and name; a name that is the beginning of another is not the other.
func TestHabitsAreToldApart(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	a1, a2 := h.habit(anna, store.HabitNetwork, "x", 2), h.habit(anna, store.HabitNetwork, "xx", 1)
	a3, b1 := h.habit(anna, store.HabitRecipient, "x", 3), h.habit(bob, store.HabitNetwork, "x", 4)
	h.must(h.s.NoteHabits(h.ctx, []store.Habit{b1, a3, a2, a1}))
	h.wantHabits(anna.ID, store.HabitNetwork, a1, a2)
	h.wantHabits(anna.ID, store.HabitRecipient, a3)
	h.wantHabits(anna.ID, store.HabitHeld)
	h.wantHabits(bob.ID, store.HabitNetwork, b1)
	h.wantHabits(0, store.HabitNetwork, a1, a2, b1)
	if got, err := h.s.ListHabits(h.ctx, 0, store.HabitNetwork, 2); err != nil || len(got) != 2 {
		t.Errorf("listing two: %+v, %v", got, err)
	}
}

// TestMostHabits: beyond the bound of a kind those not seen for longest are forgotten, in one call or in several.
func TestMostHabits(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	most := store.MaxHabits(store.HabitNetwork)
	var all []store.Habit
	for i := range most + 2 {
		all = append(all, h.habit(anna, store.HabitNetwork, fmt.Sprint("net ", i), i))
	}
	h.must(h.s.NoteHabits(h.ctx, append(all[:most:most], h.habit(anna, store.HabitRecipient, "old", 0))))
	if got, err := h.s.ListHabits(h.ctx, anna.ID, store.HabitNetwork, 2*most); err != nil || len(got) != most {
		t.Errorf("%d at the bound, %v, want %d", len(got), err, most)
	}
	h.must(h.s.NoteHabits(h.ctx, all[most:]))
	got, err := h.s.ListHabits(h.ctx, anna.ID, store.HabitNetwork, 2*most)
	h.must(err)
	slices.Reverse(got)
	if !slices.EqualFunc(got, all[2:], sameHabit) {
		t.Errorf("%d beyond the bound, from %+v to %+v; want the latest %d", len(got), got[0], got[len(got)-1], most)
	}
	h.must(h.s.NoteHabits(h.ctx, all[:1])) // older than all that are known
	if known, err := h.s.KnownHabits(h.ctx, anna.ID, store.HabitNetwork, all[0].Name, all[2].Name); err != nil || len(known) != 1 {
		t.Errorf("known %+v, %v, want number 2 only", known, err)
	}
	h.wantHabits(anna.ID, store.HabitRecipient, h.habit(anna, store.HabitRecipient, "old", 0))
}

// TestNoteHabitsBounds: what is out of bounds changes nothing.
func TestNoteHabitsBounds(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	good := h.habit(anna, store.HabitHeld, strings.Repeat("n", store.MaxHabitName), 1)
	good.Text = strings.Repeat("t", store.MaxHabitText)
	for _, change := range []func(*store.Habit){
		func(x *store.Habit) { x.Name = "" },
		func(x *store.Habit) { x.Name += "n" },
		func(x *store.Habit) { x.Kind = 0 },
		func(x *store.Habit) { x.Text += "t" },
		func(x *store.Habit) { x.Text = "a\nb" },
	} {
		bad := good
		change(&bad)
		h.want(h.s.NoteHabits(h.ctx, []store.Habit{good, bad}), store.ErrInvalid)
	}
	h.want(h.s.NoteHabits(h.ctx, make([]store.Habit, store.MaxNotedHabits+1)), store.ErrBound)
	h.wantHabits(anna.ID, store.HabitHeld)
	h.must(h.s.NoteHabits(h.ctx, []store.Habit{good}))
	h.wantHabits(anna.ID, store.HabitHeld, good)
}

// TestClaimHabit: a habit can be claimed again when so much time has passed since it was last seen, and not a moment before, whatever crash is between.
func TestClaimHabit(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	const apart = 10 * time.Minute
	claim := func(want bool, x store.Habit) {
		t.Helper()
		got, err := h.s.ClaimHabit(h.ctx, x, apart)
		h.must(err)
		if got != want {
			t.Errorf("claiming %q at %v: %t, want %t", x.Name, x.Last, got, want)
		}
	}
	first, second := h.habit(anna, store.HabitAnswered, "x", 0), h.habit(anna, store.HabitAnswered, "x", 10)
	claim(true, first)
	claim(false, first)
	claim(false, h.habit(anna, store.HabitAnswered, "x", 9))
	h.reopen()
	early := second
	early.Last = second.Last.Add(-time.Nanosecond)
	claim(false, early)
	h.wantHabits(anna.ID, store.HabitAnswered, first)
	claim(true, h.habit(anna, store.HabitAnswered, "y", 1))
	claim(true, h.habit(bob, store.HabitAnswered, "x", 1))
	claim(true, second)
	want := second
	want.First = first.First
	h.wantHabits(anna.ID, store.HabitAnswered, want, h.habit(anna, store.HabitAnswered, "y", 1))
	claim(false, h.habit(anna, store.HabitAnswered, "x", 1)) // a clock that went back
	claim(false, h.habit(store.Account{ID: 4711}, store.HabitAnswered, "x", 1))
	_, err := h.s.ClaimHabit(h.ctx, h.habit(anna, store.HabitAnswered, "", 1), apart)
	h.want(err, store.ErrInvalid)

	var all []store.Habit
	for i := range store.MaxAnswered {
		all = append(all, h.habit(bob, store.HabitAnswered, fmt.Sprint("sender ", i), 100+i))
	}
	h.must(h.s.NoteHabits(h.ctx, all[1:]))
	claim(true, all[0]) // beyond the bound: x, the oldest, goes
	got, err := h.s.ListHabits(h.ctx, bob.ID, store.HabitAnswered, 2*store.MaxAnswered)
	h.must(err)
	slices.Reverse(got)
	if !slices.EqualFunc(got, all, sameHabit) {
		t.Errorf("%d at the bound, from %+v; want the latest %d", len(got), got[0], store.MaxAnswered)
	}
}

// TestClaimHabitAtOnce: of several that claim a habit at once, one gets it.
func TestClaimHabitAtOnce(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	var won atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if ok, err := h.s.ClaimHabit(h.ctx, h.habit(anna, store.HabitAnswered, "x", 1), time.Hour); err != nil {
				t.Error(err)
			} else if ok {
				won.Add(1)
			}
		})
	}
	all.Wait()
	if n := won.Load(); n != 1 {
		t.Errorf("%d claimed it, want 1", n)
	}
}

// TestForgetHabits: by name or by kind, of one account only, and for good.
func TestForgetHabits(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	x, y, z := h.habit(anna, store.HabitHeld, "x", 3), h.habit(anna, store.HabitHeld, "y", 2), h.habit(anna, store.HabitHeld, "z", 1)
	network, bobs := h.habit(anna, store.HabitNetwork, "x", 1), h.habit(bob, store.HabitHeld, "x", 1)
	h.must(h.s.NoteHabits(h.ctx, []store.Habit{x, y, z, network, bobs}))
	h.must(h.s.ForgetHabits(h.ctx, anna.ID, store.HabitHeld, "y", "unknown", ""))
	h.reopen()
	h.wantHabits(anna.ID, store.HabitHeld, x, z)
	h.must(h.s.ForgetHabits(h.ctx, anna.ID, store.HabitHeld))
	h.must(h.s.ForgetHabits(h.ctx, 4711, store.HabitHeld))
	h.reopen()
	h.wantHabits(anna.ID, store.HabitHeld)
	h.wantHabits(anna.ID, store.HabitNetwork, network)
	h.wantHabits(bob.ID, store.HabitHeld, bobs)
}

// TestRemovedAccountsHabits: they go with the account, and nobody's are kept.
func TestRemovedAccountsHabits(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	gone, stays := h.habit(anna, store.HabitNetwork, "x", 1), h.habit(bob, store.HabitNetwork, "x", 1)
	h.must(h.s.NoteHabits(h.ctx, []store.Habit{gone, stays}))
	h.must(h.s.RemoveAccount(h.ctx, anna.ID))
	h.must(h.s.NoteHabits(h.ctx, []store.Habit{gone}))
	h.reopen()
	h.wantHabits(anna.ID, store.HabitNetwork)
	h.wantHabits(0, store.HabitNetwork, stays)
}
