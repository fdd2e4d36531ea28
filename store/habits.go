package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bounds of what is kept of a mailbox's habits.
const (
	// MaxHabitName bounds a habit's name, MaxHabitText its text, in octets.
	MaxHabitName = 64
	MaxHabitText = 200
	// MaxNotedHabits bounds what one NoteHabits may add.
	MaxNotedHabits = 10_000
	// MaxAnswered bounds the senders that are known to have an answer of one mailbox; see AnswersPerDay.
	MaxAnswered = 1000
)

// HabitKind says what a habit is about.
type HabitKind byte

// The kinds.
const (
	// HabitRecipient: a recipient that the mailbox has written to; its name is a hash, see the room that keeps it.
	HabitRecipient HabitKind = 'r'
	// HabitNetwork: a network that the mailbox was used from.
	HabitNetwork HabitKind = 'n'
	// HabitHeld: a network from which the mailbox's mail is put on hold; its text says why.
	HabitHeld HabitKind = 'h'
	// HabitAnswered: a sender that a vacation answer was given to; its name is a hash, its text the address.
	HabitAnswered HabitKind = 'a'
)

// MaxHabits bounds the habits of one account and kind: beyond it those that were not seen for longest are forgotten. 0 is no kind.
func MaxHabits(kind HabitKind) int {
	switch kind {
	case HabitRecipient:
		return 5000
	case HabitNetwork, HabitHeld:
		return 64
	case HabitAnswered:
		return MaxAnswered
	}
	return 0
}

// Habit is something that a mailbox is used to.
type Habit struct {
	Account AccountID `json:"account"`
	Kind    HabitKind `json:"-"`
	Name    string    `json:"name"`
	// First and Last are when it was seen.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Text  string    `json:"text,omitempty"`
}

// With returns what is known of a habit after it was seen once more: the earlier First, the later Last with its Text.
func (h Habit) With(seen Habit) Habit {
	if seen.First.Before(h.First) {
		h.First = seen.First
	}
	if !seen.Last.Before(h.Last) {
		h.Last, h.Text = seen.Last, seen.Text
	}
	return h
}

// HabitText makes a text fit for [Habit.Text].
func HabitText(s string) string { return cleanText(s, MaxHabitText) }

// SeenWithin reports whether a habit was last seen after at minus apart.
func (h Habit) SeenWithin(at time.Time, apart time.Duration) bool {
	return h.Last.After(at.Add(-apart))
}

// CompareHabits orders habits: by account, then the last seen first, then by name.
func CompareHabits(a, b Habit) int {
	return cmp.Or(cmp.Compare(a.Account, b.Account), b.Last.Compare(a.Last), cmp.Compare(a.Name, b.Name))
}

// ValidateHabits reports what NoteHabits refuses: ErrBound beyond MaxNotedHabits, ErrInvalid for one out of bounds.
func ValidateHabits(seen []Habit) error {
	if len(seen) > MaxNotedHabits {
		return fmt.Errorf("%w: at most %d habits are noted at once", ErrBound, MaxNotedHabits)
	}
	var errs []error
	for i := range seen {
		h := &seen[i]
		if MaxHabits(h.Kind) == 0 || h.Name == "" || len(h.Name) > MaxHabitName || len(h.Text) > MaxHabitText || h.Text != cleanText(h.Text, MaxHabitText) {
			errs = append(errs, fmt.Errorf("%w: habit %d", ErrInvalid, i))
		}
	}
	return errors.Join(errs...)
}

// Surplus returns the habits of one account and kind that are too many: those not seen for longest.
func Surplus(all []Habit) []Habit {
	if len(all) == 0 || len(all) <= MaxHabits(all[0].Kind) {
		return nil
	}
	all = slices.SortedFunc(slices.Values(all), CompareHabits)
	return all[MaxHabits(all[0].Kind):]
}

// Habits keeps what each mailbox is used to: whom it writes to, and from where. A removed account's are forgotten with it.
type Habits interface {
	// NoteHabits adds what was seen, in one transaction: a habit that is known already (same Account, Kind and Name) becomes [Habit.With].
	// Those of accounts that are gone change nothing. Beyond MaxHabits of an account and kind, [Surplus] is forgotten. It waits for the disk:
	// call it seldom, with what has gathered. ErrBound and ErrInvalid as ValidateHabits says; then nothing is changed.
	NoteHabits(ctx context.Context, seen []Habit) error
	// ClaimHabit is NoteHabits for one habit that nobody has seen lately: if the account is there, and the habit is not known or was last seen at
	// seen.Last minus apart or before, it is noted durably and claimed is true. Otherwise nothing changes. Of several that claim one at once,
	// one is told so.
	ClaimHabit(ctx context.Context, seen Habit, apart time.Duration) (claimed bool, err error)
	// KnownHabits returns those of the names that are known, in the order of names.
	KnownHabits(ctx context.Context, account AccountID, kind HabitKind, names ...string) ([]Habit, error)
	// ListHabits returns the habits of a kind of one account, or of all accounts (0), ordered by CompareHabits. At most limit.
	ListHabits(ctx context.Context, account AccountID, kind HabitKind, limit int) ([]Habit, error)
	// ForgetHabits forgets habits of an account durably: those of the names, or all of the kind if none is named. Unknown ones are no error.
	ForgetHabits(ctx context.Context, account AccountID, kind HabitKind, names ...string) error
}
