package maildrop

import (
	"context"
	"errors"

	"latchkey/auth"
	"latchkey/pop3"
	"latchkey/store"
)

// Texts say first what to do, then why: mail programs cut them short.

// loginError makes the reply for a login that failed. The text for a wrong password and for a name that does not exist is the same.
// [AUTH] makes mail programs ask for the password, so nothing that passes has it (RFC 3206 §4).
func loginError(err error) error {
	switch {
	case errors.Is(err, auth.ErrCredentials):
		return &pop3.Error{Code: pop3.CodeAuth, Text: "check the mailbox name and the password: one of them is wrong"}
	case errors.Is(err, auth.ErrSuspended):
		return errSuspended
	case errors.Is(err, auth.ErrThrottled):
		return &pop3.Error{Code: pop3.CodeTemp, Text: "check the saved password, then wait some minutes: too many logins failed"}
	case errors.Is(err, auth.ErrCleartext):
		return errCleartext
	case errors.Is(err, auth.ErrIdentity):
		return &pop3.Error{Code: pop3.CodeAuth, Text: "leave the authorization identity empty: nobody may act as somebody else"}
	case errors.Is(err, auth.ErrBusy):
		return &pop3.Error{Code: pop3.CodeTemp, Text: "try again in a moment: too many logins at once"}
	case errors.Is(err, context.Canceled):
		err = nil // the client went away: nothing for the log
	}
	return temporary(err)
}

var errSuspended = &pop3.Error{Code: pop3.CodeAuth, Text: "ask your mail administrator: this mailbox is suspended"}

// errCleartext is the refusal of a password before TLS (RFC 2595 §2.1), cure first.
var errCleartext = &pop3.Error{
	Code: pop3.CodeAuth, Text: "turn on encryption (SSL/TLS, or STARTTLS) for incoming mail: no password is taken without it",
}

// errNTLM is for Outlook's Secure Password Authentication.
var errNTLM = &pop3.Error{Code: pop3.CodeAuth, Text: "untick \"Secure Password Authentication (SPA)\" and turn on encryption (SSL/TLS) instead"}

var (
	errMechanism = &pop3.Error{Code: pop3.CodeNone, Text: "use PLAIN or LOGIN: there is no such mechanism"}
	errExchange  = &pop3.Error{Code: pop3.CodeNone, Text: "malformed response"}
)

// storeError makes the reply for a maildrop that cannot be opened, read or updated.
func storeError(err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return &pop3.Error{Code: pop3.CodeAuth, Text: "ask your mail administrator: this mailbox was removed", Close: true}
	case errors.Is(err, store.ErrSuspended):
		return errSuspended
	case errors.Is(err, store.ErrDamaged):
		return &pop3.Error{Code: pop3.CodePerm, Text: "ask your mail administrator: this message is damaged on the server", Err: err}
	case errors.Is(err, store.ErrPoisoned):
		return &pop3.Error{Code: pop3.CodePerm, Text: "ask your mail administrator: the server cannot write to its disk", Err: err}
	}
	return temporary(err)
}

func temporary(err error) error {
	return &pop3.Error{Code: pop3.CodeTemp, Text: "try again later: temporary failure", Err: err}
}
