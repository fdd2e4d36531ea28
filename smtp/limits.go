package smtp

import "time"

// Limits bound what one client may take. Zero fields mean the defaults.
type Limits struct {
	// Idle is how long a client may be silent (RFC 5321 §4.5.3.2.7: at least 5 minutes); LoginIdle the same on the submission door
	// before AUTH.
	Idle, LoginIdle time.Duration
	// Handshake is for STARTTLS and the EHLO after it; Write for each packet of replies; Envelope from MAIL to the message, as recipients
	// hold room meanwhile; Session for everything.
	Handshake, Write, Envelope, Session time.Duration
	// MinRate is the least number of octets a second in a transfer, on average over each RateWindow of waiting for the client.
	MinRate    int64
	RateWindow time.Duration
	// Flood is how many octets of a refused message are still read before the connection is closed.
	Flood int64
	// IdleReplies bounds replies to commands that bring nothing (NOOP, VRFY, RSET, refused ones); IdleReplyRate come back each second.
	IdleReplies   int
	IdleReplyRate float64
	// AuthFailures is the failed login that ends a connection; AuthAttempts bounds exchanges, given up ones included.
	AuthFailures, AuthAttempts int
	// UnknownFree unknown recipients are answered at once, later ones after Tarpit; UnknownMax is the one that ends a connection.
	UnknownFree, UnknownMax int
	Tarpit                  time.Duration
	// RelayTries is the refused relaying that ends a connection.
	RelayTries int
}

// defaultLimits are for a small public server.
func defaultLimits() Limits {
	return Limits{
		Idle: 5 * time.Minute, LoginIdle: time.Minute,
		Handshake: 10 * time.Second, Write: time.Minute, Envelope: 15 * time.Minute, Session: 6 * time.Hour,
		MinRate: 100, RateWindow: 2 * time.Minute,
		Flood:       64 << 20,
		IdleReplies: 1000, IdleReplyRate: 1,
		AuthFailures: 5, AuthAttempts: 20,
		UnknownFree: 3, UnknownMax: 10, Tarpit: 5 * time.Second,
		RelayTries: 3,
	}
}

// withDefaults fills in what is zero.
func (l Limits) withDefaults(door Door) Limits {
	d := defaultLimits()
	setDefault(&l.Idle, d.Idle)
	if door == MX {
		setDefault(&l.LoginIdle, l.Idle)
	}
	setDefault(&l.LoginIdle, d.LoginIdle)
	setDefault(&l.Handshake, d.Handshake)
	setDefault(&l.Write, d.Write)
	setDefault(&l.Envelope, d.Envelope)
	setDefault(&l.Session, d.Session)
	setDefault(&l.MinRate, d.MinRate)
	setDefault(&l.RateWindow, d.RateWindow)
	setDefault(&l.Flood, d.Flood)
	setDefault(&l.IdleReplies, d.IdleReplies)
	setDefault(&l.IdleReplyRate, d.IdleReplyRate)
	setDefault(&l.AuthFailures, d.AuthFailures)
	setDefault(&l.AuthAttempts, d.AuthAttempts)
	setDefault(&l.UnknownFree, d.UnknownFree)
	setDefault(&l.UnknownMax, d.UnknownMax)
	setDefault(&l.Tarpit, d.Tarpit)
	setDefault(&l.RelayTries, d.RelayTries)
	return l
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
