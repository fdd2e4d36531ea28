package maildrop

import (
	"errors"

	"latchkey/auth"
	"latchkey/pop3"
	"latchkey/store"
)

// loginError makes the reply for a login that failed. The text for a wrong password and for a name that does not exist is the same.
func loginError(err error) error {
	switch {
	case errors.Is(err, auth.ErrCredentials):
		return &pop3.Error{Code: pop3.CodeAuth, Text: "wrong mailbox name or password"}
	case errors.Is(err, auth.ErrSuspended):
		return &pop3.Error{Code: pop3.CodeAuth, Text: "this mailbox is suspended, ask your mail administrator"}
	case errors.Is(err, auth.ErrThrottled):
		return &pop3.Error{Code: pop3.CodeTemp, Text: "too many failed logins, wait some minutes and check the saved password"}
	case errors.Is(err, auth.ErrCleartext):
		return errCleartext
	case errors.Is(err, auth.ErrIdentity):
		return &pop3.Error{Code: pop3.CodeAuth, Text: "leave the authorization identity empty"}
	case errors.Is(err, auth.ErrBusy):
		return &pop3.Error{Code: pop3.CodeTemp, Text: "too many logins at once, try again in a moment"}
	}
	return temporary(err)
}

// errCleartext is the refusal of a password before TLS (RFC 2595 §2.1), cure first.
var errCleartext = &pop3.Error{
	Code: pop3.CodeAuth, Text: "turn on TLS (SSL, or STARTTLS) for incoming mail: this server takes no password without it",
}

// errNTLM is for Outlook's Secure Password Authentication.
var errNTLM = &pop3.Error{Code: pop3.CodeAuth, Text: "untick \"Secure Password Authentication (SPA)\" and use TLS instead"}

var (
	errMechanism = &pop3.Error{Code: pop3.CodeNone, Text: "no such mechanism, use PLAIN or LOGIN"}
	errExchange  = &pop3.Error{Code: pop3.CodeNone, Text: "malformed response"}
)

// storeError makes the reply for a maildrop that cannot be opened, read or updated.
func storeError(err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return &pop3.Error{Code: pop3.CodeAuth, Text: "this mailbox was removed", Err: err, Close: true}
	case errors.Is(err, store.ErrSuspended):
		return &pop3.Error{Code: pop3.CodeAuth, Text: "this mailbox is suspended, ask your mail administrator", Close: true}
	case errors.Is(err, store.ErrDamaged):
		return &pop3.Error{Code: pop3.CodePerm, Text: "this message is damaged on the server, ask your mail administrator", Err: err}
	case errors.Is(err, store.ErrPoisoned):
		return &pop3.Error{Code: pop3.CodePerm, Text: "the server cannot write to its disk, nothing was changed", Err: err}
	}
	return temporary(err)
}

func temporary(err error) error {
	return &pop3.Error{Code: pop3.CodeTemp, Text: "temporary failure, try again later", Err: err}
}
