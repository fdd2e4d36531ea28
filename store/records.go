package store

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// Bounds of the smaller records.
const (
	// MaxSecretSize bounds one secret, MaxSecretName its name, in octets.
	MaxSecretSize = 64 << 10
	MaxSecretName = 200
	// MaxCounterKey bounds a counter's key in octets, MaxCounters their number: beyond it the fullest-refilled one is forgotten.
	MaxCounterKey = 200
	MaxCounters   = 100_000
	// MaxWebSessions bounds the web sessions: beyond it the one that expires first ends. MaxWebSessionSize is in octets.
	MaxWebSessions    = 10_000
	MaxWebSessionSize = 16 << 10
	// MaxAuditEntries bounds the audit log: beyond it the oldest entries go.
	MaxAuditEntries = 100_000
	// MaxStatDays is how many days of statistics are kept, MaxStatNames how many names a day may have (further ones are not counted).
	MaxStatDays  = 400
	MaxStatNames = 10_000
	// MaxStatName bounds a figure's name in octets.
	MaxStatName = 200
	// TrailAge is how long the trail is told, MaxTrailEvents how many events: beyond either nobody is told the oldest. An engine forgets them
	// in pieces, so that they may lie on the device until a piece is too old as a whole, at most as long again, and until something is written.
	TrailAge       = 30 * 24 * time.Hour
	MaxTrailEvents = 1_000_000
)

// Secrets keeps small blobs that must not be seen: key material, sealed passwords. The store does not look into them.
type Secrets interface {
	// PutSecret stores a blob under a name of 1 to MaxSecretName octets. ErrBound above MaxSecretSize.
	PutSecret(ctx context.Context, name string, blob []byte) error
	// Secret returns the blob, or ErrNotFound.
	Secret(ctx context.Context, name string) ([]byte, error)
	// RemoveSecret forgets the blob. ErrNotFound if there is none.
	RemoveSecret(ctx context.Context, name string) error
}

// Limit is a leaky bucket: N units that come back evenly over Window.
type Limit struct {
	N      int64
	Window time.Duration
}

// Taken is the answer of a counter.
type Taken struct {
	// OK is set when the cost was taken; otherwise nothing was.
	OK bool
	// Left is how many units could be taken at once now.
	Left int64
	// RetryAfter is how long until the same cost fits; 0 when OK, and Limit.Window when the cost exceeds N (it never fits).
	RetryAfter time.Duration
}

// Counters limits things by key. A crash may forget the last seconds of what was taken; nothing waits for a sync.
type Counters interface {
	// Take takes cost (0 only asks) from the bucket named key, which starts full.
	Take(ctx context.Context, now time.Time, key string, cost int64, l Limit) (Taken, error)
	// Give puts cost back, at most until the bucket is full.
	Give(ctx context.Context, now time.Time, key string, cost int64, l Limit) error
}

// WebSession is one person's session with the Webmanager.
type WebSession struct {
	// Token is the hash of the cookie, never the cookie.
	Token   [32]byte
	Data    []byte
	Expires time.Time
}

// WebSessions keeps web sessions. A crash may forget the last seconds.
type WebSessions interface {
	PutWebSession(ctx context.Context, s WebSession) error
	// WebSession returns a session that has not expired at now, or ErrNotFound.
	WebSession(ctx context.Context, now time.Time, token [32]byte) (WebSession, error)
	// RemoveWebSession ends a session; an unknown one is no error.
	RemoveWebSession(ctx context.Context, token [32]byte) error
}

// AuditEntry is one change by a person: who, when, from where, before and after. Never a password.
type AuditEntry struct {
	// Seq is given by the store, from 1.
	Seq    uint64     `json:"seq"`
	Time   time.Time  `json:"time"`
	Actor  string     `json:"actor"`
	Remote netip.Addr `json:"remote"`
	// Action is a word such as "account.add"; Object names what was changed.
	Action string `json:"action"`
	Object string `json:"object"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Audit keeps who changed what.
type Audit interface {
	// AppendAudit stores an entry; its Seq is ignored.
	AppendAudit(ctx context.Context, e AuditEntry) error
	// ListAudit returns up to limit entries, newest first, those with a Seq below before only (0: from the newest).
	ListAudit(ctx context.Context, before uint64, limit int) ([]AuditEntry, error)
}

// SentWay is how a sender whose mail left the domain had proved itself.
type SentWay string

// The ways.
const (
	SentAuth    SentWay = "auth"
	SentGrant   SentWay = "grant"
	SentTrusted SentWay = "trusted"
)

// SentByMailbox names the daily figure of messages that a mailbox sent out of the domain in a way; SentFromAddress that of the client's
// address, of IPv6 that of its /64. Both are counted for each message that was accepted and has a recipient outside.
func SentByMailbox(way SentWay, id AccountID) string {
	return fmt.Sprintf("sent/%s/mailbox/%d", way, id)
}

// SentFromAddress: see [SentByMailbox].
func SentFromAddress(way SentWay, remote netip.Addr) string {
	return fmt.Sprintf("sent/%s/address/%s", way, remote)
}

// SendingFigure is a daily figure of how a mailbox sends.
type SendingFigure string

// The figures. All count recipients outside the domain but FigureRefused, and FigureForgiven.
const (
	// FigureRecipients: recipients of mail that was accepted, FigureHeld those of them whose mail was put on hold.
	FigureRecipients SendingFigure = "recipients"
	FigureHeld       SendingFigure = "held"
	// FigureFailed: deliveries that were given up. FigureRefused: recipients that were refused because they do not exist.
	FigureFailed  SendingFigure = "failed"
	FigureRefused SendingFigure = "refused"
	// FigureComplaints: what others complained of, as somebody noted.
	FigureComplaints SendingFigure = "complaints"
	// FigureForgiven: failed and refused ones that were looked at when mail was released, and count no more against the mailbox.
	FigureForgiven SendingFigure = "forgiven"
)

// SendingOf names the daily figure of a mailbox.
func SendingOf(figure SendingFigure, id AccountID) string {
	return fmt.Sprintf("sending/%s/%d", figure, id)
}

// Day is a calendar day in UTC, as YYYYMMDD.
type Day uint32

// DayOf returns the UTC day of a time.
func DayOf(t time.Time) Day {
	y, m, d := t.UTC().Date()
	return Day(y*10_000 + int(m)*100 + d)
}

// Stat is one figure of one day.
type Stat struct {
	Day  Day    `json:"day"`
	Name string `json:"name"`
	N    int64  `json:"n"`
}

// Stats keeps daily figures. A crash may forget the last seconds.
type Stats interface {
	// AddStat adds n to a day's figure, whose name has 1 to MaxStatName octets (else ErrInvalid).
	AddStat(ctx context.Context, day Day, name string, n int64) error
	// Stat returns one figure of a day, 0 if nothing was counted.
	Stat(ctx context.Context, day Day, name string) (int64, error)
	// ListStats returns the figures of the days from..to, both included, in order of day and name.
	ListStats(ctx context.Context, from, to Day) ([]Stat, error)
}
