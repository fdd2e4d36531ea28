package resolver

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/dns"
)

// The classes of failure, to be tested with errors.Is.
var (
	// ErrNotFound: the name does not exist, or has no data of the kind that was asked for, or none that can be used. Asking again
	// soon gives the same answer.
	ErrNotFound = errors.New("resolver: not found")
	// ErrNullMX: the domain says that it takes no mail (RFC 7505 §3).
	ErrNullMX = errors.New("resolver: the domain takes no mail")
	// ErrTemporary: nobody could say. No server answered, or they refused, failed or sent what makes no sense. It says nothing about
	// the name.
	ErrTemporary = errors.New("resolver: temporary failure")
)

// Error is every error of MX and Addrs. Its texts are printable ASCII in one line and bounded; nothing that came out of the DNS gets
// into one unchecked.
type Error struct {
	// Class is ErrNotFound, ErrNullMX or ErrTemporary.
	Class error
	// Text says what is wrong, for a bounce: the name that was asked for, and no name servers.
	Text string
	// Cause says which servers were asked and what happened, for the log. It may be empty.
	Cause string

	ended error // the context's error, where that ended the question
}

// Error is for the log.
func (e *Error) Error() string {
	if e.Cause == "" {
		return e.Class.Error() + ": " + e.Text
	}
	return e.Class.Error() + ": " + e.Text + " (" + e.Cause + ")"
}

// Unwrap gives the class and, where the caller's context ended the question, the context's error.
func (e *Error) Unwrap() []error {
	if e.ended == nil {
		return []error{e.Class}
	}
	return []error{e.Class, e.ended}
}

func notFound(cause, format string, args ...any) *Error {
	return &Error{Class: ErrNotFound, Text: fmt.Sprintf(format, args...), Cause: cause}
}

func temporary(cause, format string, args ...any) *Error {
	return &Error{Class: ErrTemporary, Text: fmt.Sprintf(format, args...), Cause: cause}
}

// cutShort is the error of a question that the asker's context ended.
func cutShort(ctx context.Context, k key) *Error {
	e := temporary("", "the %s lookup for %s was cut short", dns.TypeToString[k.qtype], k.name)
	e.ended = ctx.Err()
	return e
}
