package store

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"latchkey/internal/mailaddr"
)

// Bounds of vacation answers, in octets.
const (
	MaxVacationSubject = 200
	MaxVacationText    = 4000
)

// How often is answered. Who forges reverse-paths has a mailbox write to strangers: so often, and no more.
const (
	// AnswersApart is how long a sender who was answered by a mailbox is not answered by it again.
	AnswersApart = 7 * 24 * time.Hour
	// AnswersPerDay is how many answers one mailbox gives a day, AnswersPerDomainDay all mailboxes of the domain together. MaxAnswered senders are
	// more than a mailbox can answer in AnswersApart, so that none is forgotten too soon.
	AnswersPerDay       = 100
	AnswersPerDomainDay = 1000
)

// Budget is a limit and the counter that it is of.
type Budget struct {
	Key   string
	Limit Limit
}

// AnswersOf is the budget of the answers of one mailbox.
func AnswersOf(id AccountID) Budget {
	return Budget{fmt.Sprintf("answers/%d", id), Limit{N: AnswersPerDay, Window: 24 * time.Hour}}
}

// AnswersOfDomain is the budget of the answers of all mailboxes together.
func AnswersOfDomain() Budget {
	return Budget{"answers", Limit{N: AnswersPerDomainDay, Window: 24 * time.Hour}}
}

// Vacation is what a mailbox answers while its owner is away (RFC 3834, a personal responder). The zero value answers nothing.
type Vacation struct {
	On bool `json:"on"`
	// From and Until are the first and the last day on which it answers, in UTC; 0 is no bound.
	From  Day `json:"from,omitempty"`
	Until Day `json:"until,omitempty"`
	// Subject is that of the answers, at most MaxVacationSubject octets without control characters; "" for that of the message that is answered.
	Subject string `json:"subject,omitempty"`
	// Text is UTF-8 of at most MaxVacationText octets, its lines ended by LF; one that is On has some.
	Text string `json:"text,omitempty"`
}

// IsZero reports whether nothing is set.
func (v Vacation) IsZero() bool { return v == Vacation{} }

// Active reports whether answers are given at now.
func (v Vacation) Active(now time.Time) bool {
	today := DayOf(now)
	return v.On && today >= v.From && (v.Until == 0 || today <= v.Until)
}

// Validate reports every field that is out of bounds, joined; each wraps ErrInvalid.
func (v Vacation) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...))
	}
	if v.From != 0 && !v.From.Valid() || v.Until != 0 && !v.Until.Valid() {
		bad("a vacation begins and ends on a day")
	} else if v.From != 0 && v.Until != 0 && v.Until < v.From {
		bad("a vacation ends before it begins")
	}
	if len(v.Subject) > MaxVacationSubject || mailaddr.HasControl(v.Subject) {
		bad("the subject of a vacation has at most %d octets, and no control characters", MaxVacationSubject)
	}
	if len(v.Text) > MaxVacationText || !utf8.ValidString(v.Text) || strings.ContainsFunc(v.Text, notInText) {
		bad("the text of a vacation is UTF-8 of at most %d octets, without control characters but line ends", MaxVacationText)
	}
	if v.On && strings.TrimSpace(v.Text) == "" {
		bad("a vacation without a text answers nothing")
	}
	return errors.Join(errs...)
}

// notInText is what no line of a text has.
func notInText(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }

// dayForm is how a day is written for people and programs.
const dayForm = "2006-01-02"

// ParseDay reads a day as 2006-01-02; ErrInvalid for what is none.
func ParseDay(text string) (Day, error) {
	t, err := time.Parse(dayForm, text)
	if err != nil {
		return 0, fmt.Errorf("%w: %q is no day", ErrInvalid, text)
	}
	return DayOf(t), nil
}

// Start is the moment at which the day begins, in UTC.
func (d Day) Start() time.Time {
	return time.Date(int(d/10_000), time.Month(d/100%100), int(d%100), 0, 0, 0, 0, time.UTC)
}

// Valid reports whether the calendar has the day.
func (d Day) Valid() bool { return d >= 1_01_01 && d <= 9999_12_31 && DayOf(d.Start()) == d }

// String writes the day as 2006-01-02; 0 is "".
func (d Day) String() string {
	if d == 0 {
		return ""
	}
	return d.Start().Format(dayForm)
}
