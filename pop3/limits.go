package pop3

import "time"

// Bounds of a connection. RFC 2449 §4 limits a command line to 255 octets and a reply line to 512, CRLF included.
const (
	// maxCommandLine is twice what the RFC asks for: passwords of today are long.
	maxCommandLine = 512
	// maxResponseLine bounds one line of a SASL exchange (RFC 4954 §4 asks for 12,288 octets at least).
	maxResponseLine = 12288
	maxReplyLine    = 512
	// maxBadEarly and maxBadLate are how many bad commands a client may send before and after login.
	maxBadEarly = 3
	maxBadLate  = 20
	// maxLoginWaits is how many times Limits.Login a client has in all before it is logged in, whatever it says meanwhile.
	maxLoginWaits = 10
	// maxHostname bounds Server.Hostname, as a greeting with a timestamp has it twice; defaultHostname stands for one that cannot be said.
	maxHostname     = 220
	defaultHostname = "localhost"
	// maxFailedLogins is how many logins of one connection may fail.
	maxFailedLogins = 5

	// eventsLogged is how many events of one kind that any stranger can cause are logged in eventsWindow; the others are counted.
	eventsLogged = 10
	eventsWindow = 10 * time.Second

	readBuffer = 1 << 10
	// writeBuffer and bodyBuffer are lent: while there is something to send, and while a message is sent.
	writeBuffer = 32 << 10
	bodyBuffer  = 64 << 10
)

// Default times of Limits.
const (
	// DefaultLoginTimeout is the wait for a command before login.
	//
	// Deviation: RFC 1939 §3 asks for ten minutes at least of an autologout timer; a connection without a login is not a session yet, and
	// strangers would hold it open for ten minutes each.
	DefaultLoginTimeout = time.Minute
	// DefaultIdleTimeout is the autologout timer after login (RFC 1939 §3).
	DefaultIdleTimeout = 10 * time.Minute
	// DefaultHandshakeTimeout bounds the TLS handshake, after STLS or at the start.
	DefaultHandshakeTimeout = 10 * time.Second
	// DefaultMaxSession bounds a session, however busy: a snapshot keeps the space of deleted messages.
	DefaultMaxSession = 24 * time.Hour
	// transferWindow and transferFloor: this many octets must get through within each window, or the client is taken for dead or
	// hostile: 100 octets a second on average.
	transferWindow = 2 * time.Minute
	transferFloor  = 12_000
	// tlsPiece is what is written to TLS at once: four of its largest records (RFC 8446 §5.1).
	tlsPiece = 64 << 10
)

// Limits are the times that a Server keeps. A zero field is its default.
type Limits struct {
	// Login bounds the wait for a whole command line before login (DefaultLoginTimeout); ten times that bounds all of the time before login.
	Login time.Duration
	// Idle bounds the wait for a whole command line after login (DefaultIdleTimeout).
	Idle time.Duration
	// Handshake bounds a TLS handshake (DefaultHandshakeTimeout).
	Handshake time.Duration
	// Session bounds a connection in all (DefaultMaxSession).
	Session time.Duration
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&l.Login, DefaultLoginTimeout}, {&l.Idle, DefaultIdleTimeout}, {&l.Handshake, DefaultHandshakeTimeout}, {&l.Session, DefaultMaxSession},
	} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	return l
}
