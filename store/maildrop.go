package store

import (
	"context"
	"io"
	"iter"
	"time"
)

// Message is one local copy, as a maildrop's snapshot lists it. Nothing of it but Fetched ever changes.
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
	// Fetched is set when an Expunge that had returned before this snapshot was taken named the copy as fetched. What others fetched between
	// that and the making of the list may show in it or not; once the list is made nothing of it changes any more.
	Fetched bool
	// UTF8 is set when the message came with SMTPUTF8 (RFC 6531): its header may hold UTF-8.
	UTF8 bool
}

// Maildrops opens maildrops.
type Maildrops interface {
	// OpenMaildrop takes a snapshot of the account's maildrop: every copy whose commit was acknowledged before is in it.
	// ErrNotFound if there is no such account, ErrSuspended if it is suspended. Any number of snapshots may be open at once. It costs no
	// more for a large maildrop than for a small one.
	OpenMaildrop(ctx context.Context, account AccountID) (Maildrop, error)
	// Usage returns what the account's maildrop holds, without a scan. ErrNotFound if there is no such account.
	Usage(ctx context.Context, account AccountID) (Usage, error)
	// DomainUsage returns what all maildrops together hold, without a scan: the sum of their Usage.
	DomainUsage(ctx context.Context) (Usage, error)
	// Reserve keeps room for one message of 0 to MaxMessageSize octets in the account's maildrop, and as much of the domain's quota.
	// Until the room is given back (see [Maildrops.Unreserve]) or used (see [Envelope.Reserved]) it counts against everybody else, in Reserve
	// and in Commit, and nothing of it is seen in Usage. ErrNotFound if there is no such account, ErrSuspended if it is suspended,
	// ErrMaildropFull or ErrDomainFull if there is no room beside what is there and what others reserved, ErrBound beyond
	// MaxReservations, ErrInvalid for another size. It reads no message and waits for no disk that a look at the account would not wait for.
	Reserve(ctx context.Context, account AccountID, octets int64) (ReservationID, error)
	// Unreserve gives room back. It never fails and waits for no disk; ids that are not held (any more) change nothing.
	Unreserve(ids ...ReservationID)
}

// Maildrop is a snapshot of one account's messages. It is used by one goroutine at a time. What it holds is fixed when it is taken; the list
// of it is made when a verb first needs it. That verb may fail where a list cannot be read, and may then be called again.
type Maildrop interface {
	// Stat is the drop listing (RFC 1939 §5, STAT): how many copies the snapshot holds, and their octets together. It needs no list, reads
	// nothing, and is always what Messages adds up to, whatever others have deleted or delivered since.
	Stat() Usage
	// Messages yields the copies in order of arrival, as often as it is asked, until Close: afterwards it is ErrClosed, and what it gave before
	// must not be used. The sequence reads nothing, holds no lock and always comes to its end.
	Messages(ctx context.Context) (iter.Seq[Message], error)
	// OpenMessage yields exactly Size octets of a copy in this snapshot, even if another session has deleted it since.
	// ErrNotFound if the snapshot does not hold it; a Read returns ErrDamaged rather than wrong octets. The caller closes it,
	// before or after the maildrop is closed.
	// A reader that implements io.WriterTo is asked to write the message, so that its blocks go out without a copy in between.
	OpenMessage(ctx context.Context, id CopyID) (io.ReadCloser, error)
	// OpenHeader yields the first HeaderLen octets of what OpenMessage would yield, on the same terms, and costs no more than the header:
	// a large body is not opened for it.
	OpenHeader(ctx context.Context, id CopyID) (io.ReadCloser, error)
	// Expunge removes copies, all or none, and notes in the trail which ones were deleted and which ones fetched. When it returns
	// nil they are durably gone, and the others that were fetched are so in the snapshots to come: see [Message].Fetched. Ids that are gone already,
	// or are not of this maildrop, change nothing and are no error.
	Expunge(ctx context.Context, deleted, fetched []CopyID) error
	// ReadBy names the client whose session it is: what Expunge notes in the trail from then on has it. Account is the maildrop's, whatever
	// it says.
	ReadBy(client Origin)
	// BrokeOff notes in the trail which copies were sent to their end in a session that ended without QUIT, so that its client may fetch them
	// again. Nothing else changes. Ids are as in Expunge. It is durable when it returns nil, and there is nothing to note without ids.
	BrokeOff(ctx context.Context, fetched []CopyID) error
	// Close gives the snapshot back, so that the space of deleted messages can be freed. It may be called twice.
	Close() error
}
