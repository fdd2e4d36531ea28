package store

import (
	"context"
	"io"
)

// Archiver is a store that can be backed up while it works.
type Archiver interface {
	// Archive writes a backup to w, in the form of package internal/archive. It holds every change that was acknowledged before the call, is
	// consistent in itself, and holds up nobody however slowly w takes it. have is a manifest of what the receiver has already of an earlier
	// backup, and what is in it is not sent again; empty or nil is nothing. ErrBusy while another backup is made, ErrNoSpace if there is no room
	// for a copy of the index, ErrInvalid if have is no manifest of this domain, ErrDamaged if something that belongs to the backup is missing.
	// After any error what was written is no backup.
	Archive(ctx context.Context, have io.Reader, w io.Writer) error
}

// Compacter is a store that can give space back on demand.
type Compacter interface {
	// Compact makes the store as small as it can be made beside its normal work, and returns when that is durable. It needs room for a copy
	// of what it moves: ErrNoSpace.
	Compact(ctx context.Context) (Compaction, error)
}

// Compaction says what a Compact did, in octets.
type Compaction struct {
	IndexBefore   int64 `json:"index_before"`
	IndexAfter    int64 `json:"index_after"`
	JournalBefore int64 `json:"journal_before"`
	JournalAfter  int64 `json:"journal_after"`
}
