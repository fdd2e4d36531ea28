package smtp

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"

	gosmtp "github.com/emersion/go-smtp"

	"latchkey/auth"
	"latchkey/internal/mailaddr"
	"latchkey/internal/message"
	"latchkey/store"
)

// maxReplyText bounds the text of one reply, in octets: with code and line end a reply line stays below 512 (RFC 5321 §4.5.3.1.5).
const maxReplyText = 480

// errPanic stands for a bug of ours; the log has the rest.
var errPanic = errors.New("smtp: panic in session")

// status is an enhanced status code (RFC 3463).
type status = gosmtp.EnhancedCode

// refusal is why a command is refused: code, status and text for the client, cause for the log. The text is ours, whole: nothing that
// a client sent ever gets into it, because go-smtp makes a reply line of each line in it.
type refusal struct {
	code   int
	status status
	text   string
	cause  error
}

func (r *refusal) Error() string {
	if r.cause != nil {
		return "smtp: " + r.text + ": " + r.cause.Error()
	}
	return "smtp: " + r.text
}

// Unwrap returns the cause.
func (r *refusal) Unwrap() error { return r.cause }

// because returns a copy with a cause.
func (r refusal) because(err error) *refusal {
	r.cause = err
	return &r
}

// outcome is one line of the table of replies.
type outcome struct {
	err error
	// ours is set when it is this server that fails, not the peer.
	ours  bool
	reply refusal
}

// outcomes is the table of every sentinel that can reach a client. The first match counts, so temporary causes stand before
// permanent ones: of several recipients that all failed, one that can be tried again decides.
func outcomes() []outcome {
	return []outcome{
		{store.ErrNoSpace, true, refusal{452, status{4, 3, 1}, "No space left, try again later", nil}},
		{store.ErrPoisoned, true, refusal{451, status{4, 3, 0}, "Temporary failure, try again later", nil}},
		{store.ErrDamaged, true, refusal{451, status{4, 3, 0}, "Temporary failure, try again later", nil}},
		{store.ErrClosed, true, refusal{421, status{4, 3, 2}, "Service is stopping, try again later", nil}},
		{store.ErrSuspended, false, refusal{450, status{4, 2, 1}, "Mailbox is suspended, try again later", nil}},
		{store.ErrMaildropFull, false, refusal{452, status{4, 2, 2}, "Mailbox is full, try again later", nil}},
		{store.ErrNotFound, false, refusal{550, status{5, 1, 1}, "No such mailbox here", nil}},

		{auth.ErrCredentials, false, refusal{535, status{5, 7, 8}, "Wrong user name or password: use those of your incoming mail", nil}},
		{auth.ErrSuspended, false, refusal{535, status{5, 7, 13}, "This mailbox is suspended: ask the owner of the domain", nil}},
		{auth.ErrIdentity, false, refusal{535, status{5, 7, 8}, "Nobody may log in to act as somebody else", nil}},
		{auth.ErrThrottled, false, refusal{454, status{4, 7, 0}, "Too many failed logins: wait a few minutes", nil}},
		{auth.ErrBusy, true, refusal{454, status{4, 7, 0}, "Too many logins at once: try again", nil}},
		{auth.ErrCleartext, false, refusal{538, status{5, 7, 11}, "Turn on encryption (STARTTLS, or SSL/TLS on port 465) in your mail program, then log in", nil}},

		{errPanic, true, refusal{421, status{4, 3, 0}, "Internal error, closing connection", nil}},
		{errTooLarge, false, refusal{552, status{5, 3, 4}, "Message is larger than allowed here", nil}},
		{message.ErrBareCR, false, refusal{550, status{5, 5, 2}, "Message has a CR without LF (RFC 5321 section 2.3.8)", nil}},
		{message.ErrBareLF, false, refusal{550, status{5, 5, 2}, "Message has a LF without CR (RFC 5321 section 2.3.8)", nil}},
		{message.ErrHeaderTooLarge, false, refusal{552, status{5, 3, 4}, "Message header is too large", nil}},
		{message.ErrTooManyFields, false, refusal{552, status{5, 3, 4}, "Message header has too many fields", nil}},
		{message.ErrHeaderLine, false, refusal{550, status{5, 6, 0}, "Message header has a line that is too long", nil}},
		{message.ErrHeaderNUL, false, refusal{550, status{5, 6, 0}, "Message header has a NUL octet", nil}},
		{message.ErrInjection, false, refusal{550, status{5, 6, 0}, "Message header could not be completed", nil}},
		{gosmtp.ErrTooLongLine, false, refusal{554, status{5, 6, 0}, "A line is too long", nil}},
		{mailaddr.ErrSyntax, false, refusal{553, status{5, 1, 3}, "Not a valid address", nil}},

		{os.ErrDeadlineExceeded, false, refusal{421, status{4, 4, 2}, "Too slow, closing connection", nil}},
		{io.ErrUnexpectedEOF, false, connectionLost()},
		{context.Canceled, true, refusal{421, status{4, 3, 2}, "Service is stopping, try again later", nil}},
		{context.DeadlineExceeded, true, refusal{451, status{4, 3, 0}, "Temporary failure, try again later", nil}},
	}
}

func connectionLost() refusal { return refusal{421, status{4, 4, 2}, "Connection lost", nil} }

// verdictOn finds the reply to an error, and whether the fault is ours. Whatever is not in the table is ours, and answered 451.
func verdictOn(err error) (reply refusal, ours bool) {
	var own *refusal
	if errors.As(err, &own) {
		return *own, false
	}
	var library *gosmtp.SMTPError
	if errors.As(err, &library) {
		return refusal{code: library.Code, status: library.EnhancedCode, text: library.Message}, false
	}
	var network *net.OpError
	if errors.As(err, &network) {
		return connectionLost(), false
	}
	for _, o := range outcomes() {
		if errors.Is(err, o.err) {
			return o.reply, o.ours
		}
	}
	return refusal{code: 451, status: status{4, 3, 0}, text: "Temporary failure, try again later"}, true
}

// replyFor is the only way out for an error. go-smtp wants exactly *gosmtp.SMTPError: it does not unwrap, and it sends the text of any
// other error to the client. The first digits of code and status agree (RFC 2034 §4). It returns nil for nil.
func replyFor(err error) *gosmtp.SMTPError {
	if err == nil {
		return nil
	}
	r, _ := verdictOn(err)
	if r.code/100 != 2 && r.code/100 != 4 && r.code/100 != 5 {
		r = refusal{code: 451, status: status{4, 3, 0}, text: "Temporary failure, try again later"}
	}
	if r.status[0] != r.code/100 {
		r.status = status{r.code / 100, 0, 0}
	}
	return &gosmtp.SMTPError{Code: r.code, EnhancedCode: r.status, Message: cleanText(r.text)}
}

// cleanText makes one line of printable ASCII of a text.
func cleanText(text string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, text)
	return clean[:min(len(clean), maxReplyText)]
}
