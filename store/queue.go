package store

import (
	"context"
	"io"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
)

// MaxOutcomeText bounds the remote's words kept with a job, in octets.
const MaxOutcomeText = 1000

// Job is one queued delivery: one message to one remote recipient.
type Job struct {
	ID          JobID            `json:"id"`
	Message     MessageID        `json:"message"`
	Submitter   AccountID        `json:"submitter,omitempty"`
	ReversePath mailaddr.Address `json:"reverse_path"`
	Recipient   mailaddr.Address `json:"recipient"`
	// Size and HeaderLen are those of the body that OpenJob yields.
	Size      int64  `json:"size"`
	HeaderLen int64  `json:"header_len"`
	HeaderID  string `json:"header_id,omitempty"`
	EightBit  bool   `json:"eight_bit,omitempty"`
	UTF8      bool   `json:"utf8,omitempty"`
	// Ours is the envelope's.
	Ours bool `json:"ours,omitempty"`
	// TLS is what the sender wants of the way on, the envelope's.
	TLS TLSDemand `json:"tls,omitempty"`
	// Return, EnvelopeID, Notify and Original are the DSN parameters (RFC 3461).
	Return     Return `json:"return,omitempty"`
	EnvelopeID string `json:"envelope_id,omitempty"`
	Notify     Notify `json:"notify,omitempty"`
	Original   string `json:"original,omitempty"`
	// ForwardedBy is the address here that sends the message on, and is told of failures in place of the reverse-path; zero for a message that
	// was written to Recipient itself. Kept says that a mailbox here has a copy as well.
	ForwardedBy mailaddr.Address `json:"forwarded_by,omitzero"`
	Kept        bool             `json:"kept,omitempty"`
	// Alone is set if the message made no other job when it was accepted.
	Alone    bool      `json:"-"`
	Received time.Time `json:"received"`
	// NextAttempt is when the job is due; a new job is due at once.
	NextAttempt time.Time `json:"next_attempt"`
	Attempts    int       `json:"attempts"`
	// LastText is the remote's (or our) last word on it, at most MaxOutcomeText octets, without control characters.
	LastText string `json:"last_text,omitempty"`
	// Warned is set once the sender has a delay notice about the job (RFC 3461 §6.3).
	Warned bool `json:"warned,omitempty"`
	// Released is set by ReleaseJobs until the next outcome or HoldJobs: somebody wants it tried now, whatever is known of its destination.
	Released bool `json:"released,omitempty"`
	// Held jobs are never leased; HoldReason says why, for people.
	Held       bool   `json:"held,omitempty"`
	HoldReason string `json:"hold_reason,omitempty"`
	// GivenUp is why the job is to end at its next turn without another attempt, as a failure that its sender is told of; empty if it is not.
	GivenUp string `json:"given_up,omitempty"`
	// LastHost is the host of the last attempt or of the last word on its destination, at most MaxPeerText octets.
	LastHost string `json:"last_host,omitempty"`
	// Lease is set on jobs that Lease returned, and only there.
	Lease LeaseToken `json:"-"`
}

// LeaseToken proves that a job is still leased to whoever holds it. 0 is no lease.
type LeaseToken uint64

// OutcomeKind says how an attempt ended.
type OutcomeKind string

// The kinds of outcome.
const (
	// Delivered: the remote took responsibility; the job is done.
	Delivered OutcomeKind = "delivered"
	// Deferred: try again at Next.
	Deferred OutcomeKind = "deferred"
	// Failed: given up; the job is done.
	Failed OutcomeKind = "failed"
)

// Outcome is the result of one attempt at one job.
type Outcome struct {
	Job   JobID
	Lease LeaseToken
	Kind  OutcomeKind
	// Text is the remote's reply, or our reason, cut to MaxOutcomeText by the store.
	Text string
	// Peer is the host that was tried, cleaned by the store; zero for a reason of our own.
	Peer Peer
	// Shared is set on a Deferred job that had no attempt of its own, because its destination was just found out of reach: it counts as
	// no attempt and leaves no event in the trail. Only NextAttempt and LastText change, and Released ends.
	Shared bool
	// Warned is set when a delay notice about the job is committed with the outcome (Deferred only). The job keeps it for good.
	Warned bool
	// At is when the attempt ended; Next when the following one is due (Deferred only).
	At, Next time.Time
}

// QueueFilter narrows a listing; zero fields match all.
type QueueFilter struct {
	Message   MessageID
	Submitter AccountID
	// Sender is the reverse-path, Recipient the forward-path.
	Sender, Recipient mailaddr.Address
	// Destination is a recipient domain in canonical form, Host the LastHost in whatever case.
	Destination string
	Host        string
	Held        *bool
	// UpTo leaves out jobs with a higher id; 0 does not.
	UpTo JobID
}

// Matches reports whether a job is in the listing.
func (f *QueueFilter) Matches(j *Job) bool {
	return (f.Message == 0 || f.Message == j.Message) && (f.Submitter == 0 || f.Submitter == j.Submitter) &&
		(f.Sender.IsZero() || f.Sender == j.ReversePath) && (f.Recipient.IsZero() || f.Recipient == j.Recipient) &&
		(f.Destination == "" || f.Destination == j.Recipient.Domain()) && (f.Host == "" || strings.EqualFold(f.Host, j.LastHost)) &&
		(f.Held == nil || *f.Held == j.Held) && (f.UpTo == 0 || j.ID <= f.UpTo)
}

// MaxListScan bounds the jobs that one ListJobs looks at.
const MaxListScan = 20_000

// Destination is a recipient domain that has jobs of one submitter to be tried, now or later. Each submitter's jobs stand in a line of
// their own, so that whoever sends them can take them in turn, and long ones hold up no others.
type Destination struct {
	// Submitter is the account that sent them, 0 for none.
	Submitter AccountID
	// Domain is in canonical form.
	Domain string
	// Due is when the earliest of these jobs is due that is neither held nor leased.
	Due time.Time
}

// Queue keeps the jobs of messages to the world outside. Leases live in memory: a crash voids them, so an attempt that was cut
// short is made again.
type Queue interface {
	// Destinations returns up to limit destinations that have jobs neither held nor leased at now, in order of submitter and then of name,
	// those after the given one only, whose Due does not matter. It costs a step for each destination and for each leased job that comes
	// first there, however many jobs wait.
	Destinations(ctx context.Context, now time.Time, after Destination, limit int) ([]Destination, error)
	// Lease hands out up to limit due jobs (NextAttempt not after now, not held, not leased) of one submitter (0: of none) to one
	// recipient domain in canonical form, the earliest first, then by id, for at most d. It costs a step for each job that is handed out
	// and for each leased one before them.
	Lease(ctx context.Context, now time.Time, submitter AccountID, domain string, limit int, d time.Duration) ([]Job, error)
	// Return ends the leases of jobs that are not going to be tried now: the jobs are as before, and may be leased again at once. Leases
	// that are another's by now, or being settled, are left alone.
	Return(ctx context.Context, jobs ...Job) error
	// OpenJob yields the job's body, Size octets. The caller closes it.
	OpenJob(ctx context.Context, id JobID) (io.ReadCloser, error)
	// Finish makes outcomes durable, together. Those whose lease is no longer theirs change nothing and are returned in lost.
	Finish(ctx context.Context, now time.Time, outcomes ...Outcome) (lost []JobID, err error)
	// Job returns one job, or ErrNotFound.
	Job(ctx context.Context, id JobID) (Job, error)
	// ListJobs returns up to limit jobs that match, in order of id, those after the given id only. It looks at MaxListScan jobs at most, so that a
	// page costs the same however many wait. next is the after of the page that follows, 0 if there is none; a page may be short, or empty, and
	// have one that follows.
	ListJobs(ctx context.Context, f QueueFilter, after JobID, limit int) (jobs []Job, next JobID, err error)
	// HoldJobs keeps jobs from being leased; a lease that is out may still finish. ErrNotFound, and no change, if one is unknown.
	HoldJobs(ctx context.Context, reason string, ids ...JobID) error
	// ReleaseJobs makes jobs due at the given time and ends their hold. ErrNotFound, and no change, if one is unknown.
	ReleaseJobs(ctx context.Context, due time.Time, ids ...JobID) error
	// GiveUpJobs ends the hold of jobs and makes them due at the given time, with GivenUp set to the reason (1 to MaxOutcomeText octets, else
	// ErrInvalid): whoever leases them next ends them as failed. A lease that is out may still finish. ErrNotFound, and no change, if one is
	// unknown.
	GiveUpJobs(ctx context.Context, due time.Time, reason string, ids ...JobID) error
	// RemoveJobs forgets jobs without a bounce. Leases on them are lost. ErrNotFound, and no change, if one is unknown.
	RemoveJobs(ctx context.Context, ids ...JobID) error
	// Changed returns a channel that is closed when jobs are next added, released, returned, or become due sooner. Ask for it before
	// looking, then look.
	Changed() <-chan struct{}
	// Fresh returns the destinations to which jobs were added, released, returned or made due sooner since the last call, at most
	// MaxFresh, and forgets them, with the earliest moment at which one of those jobs is due. It costs nothing however long the queue is.
	// more says that there were others too, so that Destinations has to be asked; it is set at the first call. There is one caller.
	Fresh() (list []Destination, more bool)
}
