package store

import (
	"context"
	"io"
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
	Size      int64     `json:"size"`
	HeaderLen int64     `json:"header_len"`
	HeaderID  string    `json:"header_id,omitempty"`
	EightBit  bool      `json:"eight_bit,omitempty"`
	UTF8      bool      `json:"utf8,omitempty"`
	TLS       TLSDemand `json:"tls,omitempty"`
	// Return, EnvelopeID, Notify and Original are the DSN parameters (RFC 3461).
	Return     Return    `json:"return,omitempty"`
	EnvelopeID string    `json:"envelope_id,omitempty"`
	Notify     Notify    `json:"notify,omitempty"`
	Original   string    `json:"original,omitempty"`
	Received   time.Time `json:"received"`
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
	// Destination is a recipient domain in canonical form.
	Destination string
	Held        *bool
}

// Destination is a recipient domain that has jobs to be tried, now or later.
type Destination struct {
	// Domain is in canonical form.
	Domain string
	// Due is when its earliest job is due that is neither held nor leased.
	Due time.Time
}

// Queue keeps the jobs of messages to the world outside. Leases live in memory: a crash voids them, so an attempt that was cut
// short is made again.
type Queue interface {
	// Destinations returns up to limit recipient domains that have jobs neither held nor leased at now, in order of name, those after the
	// given name only. It costs a step for each destination and for each leased job that comes first there, however many jobs wait.
	Destinations(ctx context.Context, now time.Time, after string, limit int) ([]Destination, error)
	// Lease hands out up to limit due jobs (NextAttempt not after now, not held, not leased) of one recipient domain in canonical form,
	// the earliest first, then by id, for at most d.
	Lease(ctx context.Context, now time.Time, destination string, limit int, d time.Duration) ([]Job, error)
	// Return ends the leases of jobs that are not going to be tried now: the jobs are as before, and may be leased again at once. Leases
	// that are another's by now, or being settled, are left alone.
	Return(ctx context.Context, jobs ...Job) error
	// OpenJob yields the job's body, Size octets. The caller closes it.
	OpenJob(ctx context.Context, id JobID) (io.ReadCloser, error)
	// Finish makes outcomes durable, together. Those whose lease is no longer theirs change nothing and are returned in lost.
	Finish(ctx context.Context, now time.Time, outcomes ...Outcome) (lost []JobID, err error)
	// Job returns one job, or ErrNotFound.
	Job(ctx context.Context, id JobID) (Job, error)
	// ListJobs returns up to limit jobs that match, in order of id, those after the given id only.
	ListJobs(ctx context.Context, f QueueFilter, after JobID, limit int) ([]Job, error)
	// HoldJobs keeps jobs from being leased; a lease that is out may still finish. ErrNotFound, and no change, if one is unknown.
	HoldJobs(ctx context.Context, reason string, ids ...JobID) error
	// ReleaseJobs makes jobs due at the given time and ends their hold. ErrNotFound, and no change, if one is unknown.
	ReleaseJobs(ctx context.Context, due time.Time, ids ...JobID) error
	// RemoveJobs forgets jobs without a bounce. Leases on them are lost. ErrNotFound, and no change, if one is unknown.
	RemoveJobs(ctx context.Context, ids ...JobID) error
	// Changed returns a channel that is closed when jobs are next added, released, returned, or become due sooner. Ask for it before
	// looking, then look.
	Changed() <-chan struct{}
}
