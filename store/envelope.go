package store

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxHeaderIDLen bounds Envelope.HeaderID in octets (RFC 5322 §2.1.1: no line is longer).
const MaxHeaderIDLen = 998

// Validate reports every field that is out of bounds for a draft of size octets, joined; each wraps ErrInvalid. Engines call it
// first in Commit.
func (e Envelope) Validate(size int64) error {
	var errs []error
	if n := len(e.Recipients); n == 0 || n > MaxRecipients {
		errs = append(errs, fmt.Errorf("%w: an envelope has 1 to %d recipients", ErrInvalid, MaxRecipients))
	}
	for i, r := range e.Recipients {
		if r.Account != 0 && len(r.Prefix) > MaxPrefixLen {
			errs = append(errs, fmt.Errorf("%w: prefix of recipient %d is longer than %d octets", ErrInvalid, i, MaxPrefixLen))
		}
	}
	for i, r := range e.Recipients {
		if r.Onward != (Onward{}) && (r.Account != 0 || r.Onward.By.IsZero()) {
			errs = append(errs, fmt.Errorf("%w: recipient %d is sent on by nobody, or is a mailbox here", ErrInvalid, i))
		}
	}
	if e.HeaderLen < 0 || e.HeaderLen > size {
		errs = append(errs, fmt.Errorf("%w: the header has %d of %d octets", ErrInvalid, e.HeaderLen, size))
	}
	if len(e.HeaderID) > MaxHeaderIDLen {
		errs = append(errs, fmt.Errorf("%w: Message-ID longer than %d octets", ErrInvalid, MaxHeaderIDLen))
	}
	if len(e.Subject) > MaxSubjectTokens {
		errs = append(errs, fmt.Errorf("%w: more than %d tokens of the subject", ErrInvalid, MaxSubjectTokens))
	}
	if len(e.Reserved) > MaxRecipients {
		errs = append(errs, fmt.Errorf("%w: more than %d reservations", ErrInvalid, MaxRecipients))
	}
	for _, o := range e.Settles {
		errs = append(errs, o.Validate())
	}
	return errors.Join(errs...)
}

// Validate reports an outcome of no known kind, or one that is Shared or Warned and not Deferred; it wraps ErrInvalid.
func (o Outcome) Validate() error {
	switch o.Kind {
	case Deferred:
		return nil
	case Delivered, Failed:
		if o.Shared || o.Warned {
			return fmt.Errorf("%w: only a deferred outcome is shared or warned of", ErrInvalid)
		}
		return nil
	}
	return fmt.Errorf("%w: outcome %q", ErrInvalid, o.Kind)
}

// ValidateGiveUp reports a reason of GiveUpJobs that is out of bounds; it wraps ErrInvalid.
func ValidateGiveUp(reason string) error {
	if reason == "" || len(reason) > MaxOutcomeText {
		return fmt.Errorf("%w: the reason to give a delivery up has 1 to %d octets", ErrInvalid, MaxOutcomeText)
	}
	return nil
}

// CleanText makes a remote's words fit to be kept and shown: control characters become spaces, octets that are not UTF-8 the
// replacement character, and what is beyond MaxOutcomeText octets is cut off between characters.
func CleanText(s string) string { return cleanText(s, MaxOutcomeText) }

// cleanText is CleanText with another bound, in octets.
func cleanText(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
	if len(s) <= most {
		return s
	}
	cut := most
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
