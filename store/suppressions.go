package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"latchkey/internal/mailaddr"
)

// What makes an address one that is not written to for a while. A mistyped address fails at each message, and a server that is asked for mailboxes
// that do not exist again and again takes its client for a spammer.
const (
	// SuppressFailures hard failures within SuppressWindow suppress an address for SuppressTime.
	SuppressFailures = 2
	SuppressWindow   = 7 * 24 * time.Hour
	SuppressTime     = 30 * 24 * time.Hour
	// MaxSuppressions bounds the records: beyond it those are forgotten that end first, and those by hand last.
	MaxSuppressions = 10_000
	// MaxNotedFailures bounds what one NoteFailures may add.
	MaxNotedFailures = 1000
	// MaxSuppressionReason bounds Suppression.Reason, in octets.
	MaxSuppressionReason = 300
	// MaxSuppressionDays bounds how long an address is suppressed by hand.
	MaxSuppressionDays = 3650
)

// Suppression is what is known of an address outside that failed for good, or that somebody wants no mail sent to.
type Suppression struct {
	Address mailaddr.Address `json:"address"`
	// Failures were counted since First; the last one was at Last.
	Failures int       `json:"failures"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	// Until is when mail is tried again; zero while the failures are only counted.
	Until time.Time `json:"until,omitzero"`
	// Manual is set if somebody put it in: failures do not change it.
	Manual bool `json:"manual,omitempty"`
	// Reason is the remote's last word on it, or somebody's own, without control characters.
	Reason string `json:"reason,omitempty"`
}

// Failure is one hard failure of an address: its server says that there is no such mailbox.
type Failure struct {
	Address mailaddr.Address
	At      time.Time
	Text    string
}

// Active reports whether mail to the address is not to be tried now.
func (s Suppression) Active(now time.Time) bool { return now.Before(s.Until) }

// Over reports whether the record means nothing any more: the address is not suppressed, and its failures are too old to count.
func (s Suppression) Over(now time.Time) bool {
	return !s.Active(now) && !now.Before(s.Last.Add(SuppressWindow))
}

// Failed is the record after one more failure. One that is over, or not there (zero), begins anew.
func (s Suppression) Failed(f Failure) Suppression {
	if s.Manual && s.Active(f.At) {
		return s
	}
	if s.Failures == 0 || s.Over(f.At) || f.At.Sub(s.First) >= SuppressWindow && !s.Active(f.At) {
		s = Suppression{Address: f.Address, First: f.At}
	}
	s.Failures++
	s.Manual, s.Reason = false, cleanText(f.Text, MaxSuppressionReason)
	if f.At.After(s.Last) {
		s.Last = f.At
	}
	if s.Failures >= SuppressFailures {
		s.Until = s.Last.Add(SuppressTime)
	}
	return s
}

// Validate reports what is out of bounds; it wraps ErrInvalid.
func (s Suppression) Validate() error {
	var errs []error
	if s.Address.IsZero() || mailaddr.HasControl(s.Address.String()) {
		errs = append(errs, fmt.Errorf("%w: a suppression is of an address", ErrInvalid))
	}
	if s.Failures < 0 || len(s.Reason) > MaxSuppressionReason || s.Reason != cleanText(s.Reason, MaxSuppressionReason) {
		errs = append(errs, fmt.Errorf("%w: failures below 0, or a reason of more than %d octets or with control characters", ErrInvalid, MaxSuppressionReason))
	}
	return errors.Join(errs...)
}

// ValidateFailures reports what NoteFailures refuses: ErrBound beyond MaxNotedFailures, ErrInvalid for one without an address.
func ValidateFailures(failures []Failure) error {
	if len(failures) > MaxNotedFailures {
		return fmt.Errorf("%w: at most %d failures are noted at once", ErrBound, MaxNotedFailures)
	}
	for i := range failures {
		if err := (Suppression{Address: failures[i].Address}).Validate(); err != nil {
			return err
		}
	}
	return nil
}

// SurplusSuppressions returns those that are to be forgotten at now: what is over, and beyond MaxSuppressions what ends first, those by hand last.
func SurplusSuppressions(all []Suppression, now time.Time) []Suppression {
	ends := func(s Suppression) time.Time {
		if s.Until.IsZero() {
			return s.Last
		}
		return s.Until
	}
	over := func(s Suppression) int {
		switch {
		case s.Over(now):
			return 0
		case s.Manual:
			return 2
		}
		return 1
	}
	all = slices.SortedFunc(slices.Values(all), func(a, b Suppression) int {
		return cmp.Or(cmp.Compare(over(a), over(b)), ends(a).Compare(ends(b)), cmp.Compare(a.Address.String(), b.Address.String()))
	})
	n := max(0, len(all)-MaxSuppressions)
	for n < len(all) && over(all[n]) == 0 {
		n++
	}
	return all[:n]
}

// Suppressions keeps the addresses outside that are not written to for a while. It only keeps them; who refuses what is the business of others.
type Suppressions interface {
	// NoteFailures counts hard failures, in one transaction: see [Suppression.Failed]. Then [SurplusSuppressions] are forgotten. It waits for the
	// disk. ErrBound and ErrInvalid as ValidateFailures says; then nothing is changed.
	NoteFailures(ctx context.Context, failures []Failure) error
	// PutSuppression adds or replaces a record. ErrInvalid as Validate says; ErrBound if there are MaxSuppressions by hand.
	PutSuppression(ctx context.Context, now time.Time, s Suppression) error
	// Suppression returns the record of an address, whatever it still means, or ErrNotFound. Local parts are compared octet for octet.
	Suppression(ctx context.Context, address mailaddr.Address) (Suppression, error)
	// ListSuppressions returns up to limit records in order of address, those after the given address (as text) only.
	ListSuppressions(ctx context.Context, after string, limit int) ([]Suppression, error)
	// RemoveSuppression forgets a record. ErrNotFound if there is none.
	RemoveSuppression(ctx context.Context, address mailaddr.Address) error
}
