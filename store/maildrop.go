package store

import (
	"context"
	"io"
	"time"
)

// Message is one local copy, as a maildrop's snapshot lists it. Nothing of it ever changes.
type Message struct {
	// ID names the copy in this store.
	ID CopyID
	// Of is the accepted message that this is a copy of.
	Of MessageID
	// UID is the unique-id (RFC 1939 §7).
	UID string
	// Size is the number of octets that OpenMessage yields: CRLF line ends counted, before dot-stuffing.
	Size int64
	// HeaderLen is the number of octets up to and including the empty line that ends the header; Size if there is none.
	HeaderLen int64
	// Received is when the message was accepted.
	Received time.Time
}

// Maildrops opens maildrops.
type Maildrops interface {
	// OpenMaildrop takes a snapshot of the account's maildrop: every copy whose commit was acknowledged before is in it.
	// ErrNotFound if there is no such account, ErrSuspended if it is suspended. Any number of snapshots may be open at once.
	OpenMaildrop(ctx context.Context, account AccountID) (Maildrop, error)
	// Usage returns what the account's maildrop holds, without a scan.
	Usage(ctx context.Context, account AccountID) (Usage, error)
}

// Maildrop is a snapshot of one account's messages. It is used by one goroutine at a time.
type Maildrop interface {
	// Messages lists the copies in order of arrival. The slice is the caller's to read; it never changes.
	Messages() []Message
	// OpenMessage yields exactly Size octets of a copy in this snapshot, even if another session has deleted it since.
	// ErrNotFound if the snapshot does not hold it; a Read returns ErrDamaged rather than wrong octets. The caller closes it,
	// before or after the maildrop is closed.
	OpenMessage(ctx context.Context, id CopyID) (io.ReadCloser, error)
	// Expunge removes copies, all or none, and notes in the trail which ones were deleted and which ones fetched. When it returns
	// nil they are durably gone. Ids that are gone already, or are not of this maildrop, change nothing and are no error.
	Expunge(ctx context.Context, deleted, fetched []CopyID) error
	// Close gives the snapshot back, so that the space of deleted messages can be freed. It may be called twice.
	Close() error
}
