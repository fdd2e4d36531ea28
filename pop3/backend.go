package pop3

import (
	"context"
	"io"

	"github.com/emersion/go-sasl"
)

// Backend begins sessions. It is the one thing that a user of this package must supply.
type Backend interface {
	// NewSession is called once for each connection, before the greeting, on an own goroutine. An error refuses the connection: an
	// *Error's Code and Text are sent as the -ERR greeting, any other error as [SYS/TEMP].
	NewSession(ctx context.Context, c *Conn) (Session, error)
}

// Session is a connection in the AUTHORIZATION state (RFC 1939 §4). Its methods are never called concurrently. Every ctx is
// cancelled when the server is closed, and when the connection dies while Login, APOP or an exchange waits for that: from the first call of
// the context's Done method on, the connection is watched.
type Session interface {
	// Login proves who the client is by USER and PASS. The password is passed as sent, spaces included.
	Login(ctx context.Context, username, password string) error
	// Open takes the maildrop's snapshot. It is called once, right after a successful login; if it fails the client is told and may
	// log in again.
	Open(ctx context.Context) (Maildrop, error)
	// Logout ends the session: exactly once, last, after the maildrop was closed, however the connection ended.
	Logout() error
}

// AuthSession is a Session that has SASL mechanisms (RFC 5034).
type AuthSession interface {
	Session
	// AuthMechanisms lists the mechanisms that may be used on the connection as it is now (TLS or not), in order of preference.
	AuthMechanisms() []string
	// Auth begins an exchange. When the returned server is done, the client is who it says. mech is in upper case.
	Auth(ctx context.Context, mech string) (sasl.Server, error)
}

// APOPSession is a Session that takes APOP (RFC 1939 §7); the greeting then carries a timestamp.
type APOPSession interface {
	Session
	// APOP proves who the client is by the MD5 digest of timestamp and password.
	APOP(ctx context.Context, username, timestamp string, digest [16]byte) error
}

// Maildrop is a connection in the TRANSACTION state (RFC 1939 §5). DELE and RSET are the connection's own matter and never get
// here, so a dropped line cannot delete mail. Its methods are never called concurrently. Message numbers n count from 1.
//
// Most logins only look whether there is something new: they need Stat and no list. Whatever a list costs need not be paid before Messages.
type Maildrop interface {
	// Stat returns how many messages the snapshot has, and the sum of their Size: the answer to PASS and to STAT, before there is a list. It
	// is called once, first, and must not block.
	Stat() (count int, octets int64)
	// Messages is the snapshot, message 1 first: as many messages with as many octets as Stat said. It is called when a command first needs
	// the list, and not again after it succeeded. An error refuses that command and leaves the session as it is: the next command that needs the
	// list asks again. The slice must not change afterwards.
	Messages(ctx context.Context) ([]Message, error)
	// Retrieve yields message n with CRLF line ends and without dot-stuffing: all Size octets if lines < 0 (RETR), else the header, the
	// empty line and that many lines of the body (TOP; not a fetch). An implementation may yield more than lines: the connection stops
	// by itself. The connection closes the reader. One that implements io.WriterTo is asked for all Size octets by that.
	Retrieve(ctx context.Context, n, lines int) (io.ReadCloser, error)
	// Update deletes messages, all or none, durably. It is called at most once, only for QUIT in the TRANSACTION state, with the message
	// numbers in ascending order, possibly none: then Messages need not have been called.
	Update(ctx context.Context, deleted []int) error
	// Close gives the snapshot back. It is called exactly once, after Update if there was one.
	Close() error
}

// LastMaildrop is a Maildrop that offers LAST (RFC 1460 §5), which RFC 1725 took out of POP3. No capability tells of it: clients that know it try.
type LastMaildrop interface {
	Maildrop
	// Last returns the highest number of a message that a RETR of an earlier session fetched, 0 if none. It is called at most once, after
	// Messages, when the client first says LAST. What this session fetches and RSET are the connection's own matter.
	Last(ctx context.Context) (n int, err error)
}

// Message is what the connection must know of a message to answer LIST and UIDL.
type Message struct {
	// UID is the unique-id: 1 to 70 characters from 0x21 to 0x7E, unique in the maildrop, never reused (RFC 1939 §7).
	UID string
	// Size is exactly what Retrieve yields for RETR.
	Size int64
}

// ResponseCode is a response code in the sense of RFC 2449 §8, without brackets.
type ResponseCode string

// The response codes that are sent. CodeNone is no code.
const (
	CodeNone       ResponseCode = ""
	CodeAuth       ResponseCode = "AUTH"        // RFC 3206 §5
	CodeInUse      ResponseCode = "IN-USE"      // RFC 2449 §8.1.2
	CodeLoginDelay ResponseCode = "LOGIN-DELAY" // RFC 2449 §8.1.1
	CodeTemp       ResponseCode = "SYS/TEMP"    // RFC 3206 §4
	CodePerm       ResponseCode = "SYS/PERM"    // RFC 3206 §4
	CodeUTF8       ResponseCode = "UTF8"        // RFC 6856 §5
)

// Error is how a backend refuses: Code and Text go to the client, Err to the log. Any other error is answered as [SYS/TEMP] with a
// fixed text, so that nothing internal leaks.
type Error struct {
	// Code goes before the text in brackets; CodeNone is none.
	Code ResponseCode
	// Text is one line of printable ASCII; to a client that said LANG or UTF8 (RFC 6856) it may be UTF-8. Anything else in it is dropped. Long text
	// is cut to fit 512 octets. A Translator may have it in other languages.
	Text string
	// Err is the cause, for the log only; nil logs nothing.
	Err error
	// Close ends the connection after the reply.
	Close bool
}

// Error returns the text and the cause.
func (e *Error) Error() string {
	if e.Err != nil {
		return "pop3: " + e.Text + ": " + e.Err.Error()
	}
	return "pop3: " + e.Text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
