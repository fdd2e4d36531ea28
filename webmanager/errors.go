package webmanager

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"latchkey/auth"
	"latchkey/store"
)

// Code is the class of a refusal, for programs.
type Code string

// The codes.
const (
	// CodeInvalid: the request itself is wrong; Fields says where.
	CodeInvalid Code = "invalid"
	// CodeMediaType: the body is not application/json. CodeTooLarge: it is larger than MaxBodySize.
	CodeMediaType Code = "unsupported_media_type"
	CodeTooLarge  Code = "too_large"
	// CodeNoToken: the token is none (any more). CodeForbidden: this actor may not do that.
	CodeNoToken   Code = "no_token"
	CodeForbidden Code = "forbidden"
	// CodeNotFound: there is no such mailbox, alias, job or path.
	CodeNotFound Code = "not_found"
	// CodeMethod: there is such a path, but not with this method; the header Allow says with which.
	CodeMethod Code = "method_not_allowed"
	// CodeExists: the name is taken. CodeConflict: the record was changed since it was read. CodeReserved: postmaster or abuse would
	// lead nowhere.
	CodeExists   Code = "exists"
	CodeConflict Code = "conflict"
	CodeReserved Code = "reserved"
	// CodeConfirm: the change allows more than before, or removes mail; it must be sent with the domain's name, or the mailbox's
	// address, in confirm. Consequences says what it does.
	CodeConfirm Code = "confirmation_needed"
	// CodeUnavailable: not now; the same request may succeed later.
	CodeUnavailable Code = "unavailable"
	// CodeDamaged: something that is stored cannot be read; `latchkey check` says more.
	CodeDamaged Code = "damaged"
	// CodeInternal: our fault; the cause is in the log.
	CodeInternal Code = "internal"
)

// Status is the status of HTTP that a refusal of the code has.
func (c Code) Status() int {
	switch c {
	case CodeInvalid:
		return http.StatusUnprocessableEntity
	case CodeMediaType:
		return http.StatusUnsupportedMediaType
	case CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeNoToken:
		return http.StatusUnauthorized
	case CodeForbidden:
		return http.StatusForbidden
	case CodeNotFound:
		return http.StatusNotFound
	case CodeMethod:
		return http.StatusMethodNotAllowed
	case CodeExists, CodeConflict, CodeReserved:
		return http.StatusConflict
	case CodeConfirm:
		return http.StatusPreconditionRequired
	case CodeUnavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// Field is one wrong field and what is wrong with it.
type Field struct {
	Field   string `json:"field"`
	Message string `json:"message"`
	// Reason names what is wrong, and Values are what its sentence takes; "" for what only the owner of a domain or the operator can get wrong.
	Reason Reason   `json:"reason,omitempty"`
	Values []string `json:"values,omitempty"`
}

// Error is a refusal as the API sends it and as [Client] returns it.
type Error struct {
	Code    Code    `json:"code"`
	Message string  `json:"message"`
	Fields  []Field `json:"fields,omitempty"`
	// Reason and Values are those of the message, as in Field.
	Reason Reason   `json:"reason,omitempty"`
	Values []string `json:"values,omitempty"`
	// Consequences are sentences about what the refused change would do (CodeConfirm).
	Consequences []string `json:"consequences,omitempty"`
}

// Error is the message, every field and every consequence, on one line.
func (e *Error) Error() string {
	parts := make([]string, 0, len(e.Fields)+len(e.Consequences))
	for _, f := range e.Fields {
		parts = append(parts, f.Field+": "+f.Message)
	}
	parts = append(parts, e.Consequences...)
	if len(parts) == 0 {
		return e.Message
	}
	return e.Message + ": " + strings.Join(parts, "; ")
}

// invalid makes a refusal of wrong fields.
func invalid(fields ...Field) *Error {
	reason := say("one_wrong")
	if len(fields) > 1 {
		reason = say("some_wrong")
	}
	refusal := reason.refusal(CodeInvalid)
	refusal.Fields = fields
	return refusal
}

func internalError() *Error {
	return say("inside").refusal(CodeInternal)
}

// errorFor makes the refusal for any error. Handlers return *Error where they can say more; what is left are the sentinels of store
// and auth, and faults whose text stays in the log.
func errorFor(err error) *Error {
	var refusal *Error
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.Is(err, store.ErrReserved):
		return &Error{Code: CodeReserved, Message: "postmaster and abuse must lead to a mailbox: let them lead to another one first"}
	case errors.Is(err, store.ErrConflict):
		return say("conflict").refusal(CodeConflict)
	case errors.Is(err, store.ErrExists):
		return say("taken").refusal(CodeExists)
	case errors.Is(err, store.ErrNotFound):
		return say("not_found").refusal(CodeNotFound)
	case errors.Is(err, store.ErrInvalid):
		return &Error{Code: CodeInvalid, Message: plain(err)}
	case errors.Is(err, store.ErrNoSpace):
		return say("disk_full").refusal(CodeUnavailable)
	case errors.Is(err, store.ErrPoisoned):
		return say("disk_failed").refusal(CodeUnavailable)
	case errors.Is(err, store.ErrBusy):
		return say("in_progress").refusal(CodeUnavailable)
	case errors.Is(err, store.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return say("stopping").refusal(CodeUnavailable)
	case errors.Is(err, auth.ErrBusy):
		return say("passwords_busy").refusal(CodeUnavailable)
	default:
		return internalError()
	}
}

// plain is the text of an error that wraps store.ErrInvalid, without the sentinel's own words, on one line.
func plain(err error) string {
	text := strings.ReplaceAll(err.Error(), store.ErrInvalid.Error()+": ", "")
	return strings.ReplaceAll(text, "\n", "; ")
}

// WriteRefusal answers a request with a refusal, as the API does.
func WriteRefusal(w http.ResponseWriter, refusal *Error) {
	writeJSON(w, refusal.Code.Status(), refusal)
}
