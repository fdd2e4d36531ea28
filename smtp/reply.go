package smtp

import (
	"context"
	"errors"
	"io"
	"net"
	"os"

	gosmtp "github.com/emersion/go-smtp"

	"latchkey/auth"
	"latchkey/internal/mailaddr"
	"latchkey/internal/message"
	"latchkey/internal/refusal"
	"latchkey/store"
)

// errPanic stands for a bug of ours; the log has the rest.
var errPanic = errors.New("smtp: panic in session")

// status is an enhanced status code (RFC 3463).
type status = gosmtp.EnhancedCode

// refused is why a command is refused: a row of the table for the client, a cause for the log. Only refuse makes one, so nothing that is
// not in the table is ever said, and nothing that a client sent gets into a text but the facts of [refusal.Facts].
type refused struct {
	name  refusal.Name
	facts refusal.Facts
	cause error
}

// refuse makes the refusal of a name.
func refuse(name refusal.Name) *refused { return &refused{name: name} }

// row is what the table says. It is looked up when it is needed, so that no stack of a connection has to hold rows.
func (r *refused) row() refusal.Refusal { return refusal.Of(r.name) }

func (r *refused) Error() string {
	if r.cause != nil {
		return "smtp: " + string(r.name) + ": " + r.cause.Error()
	}
	return "smtp: " + string(r.name)
}

// Unwrap returns the cause.
func (r *refused) Unwrap() error { return r.cause }

// because returns a copy with a cause.
func (r refused) because(err error) *refused {
	r.cause = err
	return &r
}

// with returns a copy with the facts of its text.
func (r refused) with(f refusal.Facts) *refused {
	r.facts = f
	return &r
}

// text is what the client reads.
func (r *refused) text() string { return r.row().SMTPText(r.facts) }

// outcome says which refusal a sentinel is for a client.
type outcome struct {
	err error
	// ours is set when it is this server that fails, not the peer.
	ours bool
	name refusal.Name
}

// outcomes are all sentinels that can reach a client. The first match counts, so temporary causes stand before permanent ones: of
// several recipients that all failed, one that can be tried again decides.
func outcomes() []outcome {
	return []outcome{
		{store.ErrNoSpace, true, refusal.ServerFull},
		{store.ErrPoisoned, true, refusal.ServerDisk},
		{store.ErrDamaged, true, refusal.MessageDamaged},
		{store.ErrClosed, true, refusal.ServerStopping},
		{store.ErrSuspended, false, refusal.RecipientSuspended},
		{store.ErrMaildropFull, false, refusal.RecipientFull},
		{store.ErrDomainFull, false, refusal.DomainFull},
		{store.ErrNotFound, false, refusal.RecipientUnknown},

		{auth.ErrCredentials, false, refusal.AuthWrongPassword},
		{auth.ErrSuspended, false, refusal.AuthSuspended},
		{auth.ErrIdentity, false, refusal.AuthOtherIdentity},
		{auth.ErrThrottled, false, refusal.AuthThrottled},
		{auth.ErrBanned, false, refusal.AuthBanned},
		{auth.ErrBinding, false, refusal.AuthMalformed},
		{auth.ErrDeviceNetwork, false, refusal.AuthDeviceNetwork},
		{auth.ErrDeviceScope, false, refusal.AuthDeviceScope},
		{auth.ErrDeviceExpired, false, refusal.AuthDeviceExpired},
		{auth.ErrBusy, true, refusal.AuthBusy},
		{auth.ErrCleartext, false, refusal.AuthCleartext},
		{auth.ErrExposed, false, refusal.AuthExposed},

		{errPanic, true, refusal.ServerPanic},
		{errTooLarge, false, refusal.MessageTooLarge},
		{gosmtp.ErrDataTooLarge, false, refusal.MessageTooLarge},
		{message.ErrBareCR, false, refusal.MessageBareCR},
		{message.ErrBareLF, false, refusal.MessageBareLF},
		{message.ErrHeaderTooLarge, false, refusal.HeaderTooLarge},
		{message.ErrTooManyFields, false, refusal.HeaderFields},
		{message.ErrHeaderLine, false, refusal.HeaderLongLine},
		{message.ErrHeaderNUL, false, refusal.HeaderNUL},
		{message.ErrInjection, false, refusal.HeaderIncomplete},
		{gosmtp.ErrTooLongLine, false, refusal.MessageLongLine},
		{mailaddr.ErrSyntax, false, refusal.RecipientSyntax},

		{os.ErrDeadlineExceeded, false, refusal.ConnectionSlow},
		{io.ErrUnexpectedEOF, false, refusal.ConnectionLost},
		{context.Canceled, true, refusal.ServerStopping},
		{context.DeadlineExceeded, true, refusal.TemporaryFailure},
	}
}

// verdictOn finds the refusal that an error is, and whether the fault is ours. Whatever is not known is ours, and answered 451.
func verdictOn(err error) (r *refused, ours bool) {
	var own *refused
	if errors.As(err, &own) {
		return own, false
	}
	var network *net.OpError
	if errors.As(err, &network) {
		return refuse(refusal.ConnectionLost), false
	}
	for _, o := range outcomes() {
		if errors.Is(err, o.err) {
			return refuse(o.name), o.ours
		}
	}
	return refuse(refusal.TemporaryFailure), true
}

// replyFor is the only way out for an error. go-smtp wants exactly *gosmtp.SMTPError: it does not unwrap, and it sends the text of any
// other error to the client. The first digits of code and status agree (RFC 2034 §4), as they do in the table. It returns nil for nil.
func replyFor(err error) *gosmtp.SMTPError {
	if err == nil {
		return nil
	}
	r, _ := verdictOn(err)
	if r.row().SMTP.Code == 0 { // a refusal of POP3
		r = refuse(refusal.TemporaryFailure)
	}
	return &gosmtp.SMTPError{Code: r.row().SMTP.Code, EnhancedCode: status(r.row().SMTP.Status), Message: r.text()}
}
