package maildrop

import (
	"context"
	"errors"

	"latchkey/auth"
	"latchkey/internal/refusal"
	"latchkey/pop3"
	"latchkey/store"
)

// reply makes the refusal of a name: what the table says to the client, and the cause for the log. It is the only maker of replies here.
func reply(name refusal.Name, cause error) *pop3.Error {
	r := refusal.Of(name)
	if r.POP3.Text == "" { // a refusal of SMTP
		r = refusal.Of(refusal.TemporaryFailure)
	}
	return &pop3.Error{Code: pop3.ResponseCode(r.POP3.Code), Text: r.POP3Text(), Close: r.POP3.Close, Err: cause}
}

// loginError makes the reply for a login that failed. The text for a wrong password and for a name that does not exist is the same.
// [AUTH] makes mail programs ask for the password, so nothing that passes has it (RFC 3206 §5).
func loginError(err error) error {
	switch {
	case errors.Is(err, auth.ErrCredentials):
		return reply(refusal.AuthWrongPassword, nil)
	case errors.Is(err, auth.ErrSuspended):
		return reply(refusal.AuthSuspended, nil)
	case errors.Is(err, auth.ErrThrottled):
		return reply(refusal.AuthThrottled, nil)
	case errors.Is(err, auth.ErrBanned):
		return reply(refusal.AuthBanned, nil)
	case errors.Is(err, auth.ErrCleartext):
		return reply(refusal.AuthCleartext, nil) // RFC 2595 §2.3
	case errors.Is(err, auth.ErrExposed):
		return reply(refusal.AuthExposed, nil)
	case errors.Is(err, auth.ErrIdentity):
		return reply(refusal.AuthOtherIdentity, nil)
	case errors.Is(err, auth.ErrBinding):
		return reply(refusal.AuthMalformed, nil)
	case errors.Is(err, auth.ErrDeviceNetwork):
		return reply(refusal.AuthDeviceNetwork, nil)
	case errors.Is(err, auth.ErrDeviceScope):
		return reply(refusal.AuthDeviceScope, nil)
	case errors.Is(err, auth.ErrDeviceExpired):
		return reply(refusal.AuthDeviceExpired, nil)
	case errors.Is(err, auth.ErrBusy):
		return reply(refusal.AuthBusy, nil)
	case errors.Is(err, context.Canceled):
		err = nil // the client went away: nothing for the log
	}
	return reply(refusal.TemporaryFailure, err)
}

// loginError is loginError of the package, which tells a client that is banned where help is.
func (s *session) loginError(ctx context.Context, err error) error {
	refused := loginError(err)
	var r *pop3.Error
	if !errors.Is(err, auth.ErrBanned) || !errors.As(refused, &r) {
		return refused
	}
	if settings, err := s.store.Settings(ctx); err == nil && settings.HelpURL != "" {
		plain, mark := refusal.Unmarked(r.Text)
		r.Text = refusal.Clean(plain+helpMark+settings.HelpURL) + mark
	}
	return r
}

// helpMark stands between a text and the URL where help is.
const helpMark = " - see "

// storeError makes the reply for a maildrop that cannot be opened, read or updated.
func storeError(err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return reply(refusal.MailboxRemoved, nil)
	case errors.Is(err, store.ErrSuspended):
		return reply(refusal.AuthSuspended, nil)
	case errors.Is(err, store.ErrDamaged):
		return reply(refusal.MessageDamaged, err)
	case errors.Is(err, store.ErrPoisoned):
		return reply(refusal.ServerDisk, err)
	}
	return reply(refusal.TemporaryFailure, err)
}
