package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"os"
	"strings"
	"syscall"

	gosmtp "github.com/emersion/go-smtp"

	"latchkey/store"
)

// tooManyRecipients is the status of a recipient that wants another transaction (RFC 3463 §3.6).
const tooManyRecipients = "4.5.3"

// stage is how far a connection had come when something was answered, or when it broke.
type stage int

const (
	atDial stage = iota
	atGreeting
	atHello
	atTLS
	atAuth
	atMail
	atRcpt
	atData
	atEnd // after the dot that ends the message
)

func (s stage) String() string {
	return [...]string{
		"connecting", "waiting for the greeting", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "the end of the message",
	}[s]
}

// scope is what an answer is about.
type scope int

const (
	// aboutRecipient: the others of the message go on.
	aboutRecipient scope = iota
	// aboutMessage: all recipients of the transaction; other messages go on.
	aboutMessage
	// aboutHost: the connection is of no more use.
	aboutHost
	// aboutDestination: no host of the destination can be had.
	aboutDestination
)

// verdict is what became of a job, a message, a host or a destination.
type verdict struct {
	kind  store.OutcomeKind
	scope scope
	// status is the enhanced status code (RFC 3463).
	status string
	// words are the remote's reply with its codes, or our own reason.
	words string
	// peer is who said so; its zero value is this server.
	peer peer
	// at is how far the connection had come, of verdicts on hosts.
	at stage
	// answered is set for a reply, so not for a connection that broke.
	answered bool
	// alarm is set where the operator has to act; cause is for the log.
	alarm bool
	cause error
	// slow is set where mail waits for its turn at a provider: see slowVerdict.
	slow bool
}

// peer is a host as it was reached.
type peer struct {
	host string
	addr netip.Addr
	// from is our own address.
	from  netip.Addr
	facts TLSFacts
	// dsn is set if the host gives reports itself (RFC 3461).
	dsn bool
}

func (p peer) String() string {
	if p.host == "" {
		return ""
	}
	s := p.host
	if p.addr.IsValid() && p.host != literal(p.addr) {
		s += " " + literal(p.addr)
	}
	if p.facts.Encrypted() {
		s += " " + p.facts.Short()
	}
	return s
}

// text is what the store keeps of a verdict, for people.
func (v verdict) text() string {
	if at := v.peer.String(); at != "" {
		return at + ": " + v.words
	}
	return v.words
}

// ours is a verdict of this server's own: nobody was asked.
func ours(kind store.OutcomeKind, s scope, status, words string) verdict {
	return verdict{kind: kind, scope: s, status: status, words: words}
}

// classify says what an answer other than the hoped-for one means: err is a *gosmtp.SMTPError for a reply, anything else for a
// connection that broke. accepted is how many recipients of the transaction were accepted before, at RCPT.
func classify(at stage, accepted int, err error) verdict {
	var reply *gosmtp.SMTPError
	if !errors.As(err, &reply) {
		return broken(at, err)
	}
	v := verdict{kind: store.Deferred, scope: about(at), status: statusOf(reply), words: wordsOf(reply), answered: true}
	switch {
	case reply.Code == 421:
		// RFC 5321 §4.2.4.2, RFC 7504: the host closes, whatever was asked of it.
		v.scope = aboutHost
	case at == atRcpt && accepted > 0 && (reply.Code == 552 && !strings.HasPrefix(v.status, "5.2.") || reply.Code == 452 && v.status == "4.0.0"):
		// RFC 5321 §4.5.3.1.10: "too many recipients", and old servers have the wrong code for it.
		v.status = tooManyRecipients
	case at == atAuth:
		// The sender cannot cure a password of the operator's, so nothing bounces for it.
		v.status = "4.7.8"
	case reply.Code >= 500 && reply.Code <= 599:
		v.kind = store.Failed
	case reply.Code < 400 || reply.Code > 599:
		v.scope, v.status = aboutHost, "4.5.0"
		v.words = "unexpected reply to " + at.String() + ": " + v.words
	}
	return v
}

// about is the scope of a reply at a stage.
func about(at stage) scope {
	switch at {
	case atMail, atData, atEnd:
		return aboutMessage
	case atRcpt:
		return aboutRecipient
	}
	return aboutHost
}

// statusOf is the reply's enhanced code if it has one of the right class, else the one that says nothing.
func statusOf(reply *gosmtp.SMTPError) string {
	class := reply.Code / 100
	if e := reply.EnhancedCode; e[0] == class && e[1] >= 0 && e[1] <= 999 && e[2] >= 0 && e[2] <= 999 {
		return fmt.Sprintf("%d.%d.%d", e[0], e[1], e[2])
	}
	if class != 5 {
		return "4.0.0"
	}
	return "5.0.0"
}

// wordsOf is a reply in one line, as it came.
func wordsOf(reply *gosmtp.SMTPError) string {
	s := fmt.Sprint(reply.Code)
	if e := reply.EnhancedCode; e != (gosmtp.EnhancedCode{}) {
		s += fmt.Sprintf(" %d.%d.%d", e[0], e[1], e[2])
	}
	return store.CleanText(s + " " + reply.Message)
}

// broken is the verdict on a connection that did not come about, or broke.
func broken(at stage, err error) verdict {
	v := verdict{kind: store.Deferred, scope: aboutHost, status: "4.4.2"}
	switch at {
	case atDial:
		v.status = "4.4.1"
		v.words = "no connection: " + reason(err)
	case atGreeting:
		v.words = reason(err) + " while waiting for the greeting"
	case atEnd:
		// RFC 5321 §4.5.3.2.6: the host may have taken the message before it was lost.
		v.words = reason(err) + " after the message was sent, before the reply; it may arrive twice"
	default:
		v.words = reason(err) + " at " + at.String()
	}
	return v
}

// reason is the cause of a broken connection in words for people.
func reason(err error) string {
	var timeout interface{ Timeout() bool }
	var protocol textproto.ProtocolError
	switch {
	case errors.As(err, &protocol):
		return "an answer that is not SMTP"
	case errors.Is(err, errReplyTooLong), errors.Is(err, gosmtp.ErrTooLongLine):
		return "the host's reply has no end"
	case errors.Is(err, errUnasked):
		return "the host talked out of turn"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errHurried), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no way to that network from here"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection lost"
	}
	return "connection failed"
}

// literal writes an address as RFC 5321 §4.1.3 does.
func literal(a netip.Addr) string {
	if a.Is4() || a.Is4In6() {
		return "[" + a.Unmap().String() + "]"
	}
	return "[IPv6:" + a.String() + "]"
}
