package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"latchkey/internal/vfs"
)

// The journal's errors.
var (
	// ErrNoSpace: the device is full, or what is left is the reserve; nothing of the group was kept.
	ErrNoSpace = errors.New("journal: no space left")
	// ErrGone: the journal has no such segment, or it was freed.
	ErrGone = errors.New("journal: no such segment")
	// ErrDamaged: a record that was durable cannot be read; [Damage] says where.
	ErrDamaged = errors.New("journal: damaged")
	// ErrTooLarge: with this record the group would be larger than MaxGroup or have more than MaxRecords; the group without it can still
	// be committed.
	ErrTooLarge = errors.New("journal: too large for one group")
	// ErrClosed: the journal is closed.
	ErrClosed = errors.New("journal: closed")
)

// Bounds and defaults.
const (
	// BlockSize is how much of a body one checksum covers.
	BlockSize = 64 << 10
	// SumSize is the size of one checksum.
	SumSize = 4
	// MinSegment and MaxSegment bound a segment's size in octets: they grow with the traffic and shrink without it. A record that is larger
	// gets a segment of its own size.
	MinSegment = 1 << 20
	MaxSegment = 64 << 20
	// Reserve is the end of the last segment that only records which make room may use when no further segment can be made.
	Reserve = 64 << 10
	// MaxGroup bounds the octets of one group, and so of one record, and what recovery reads behind the end.
	MaxGroup = 16 << 20
	// MaxRecords bounds the records of one group.
	MaxRecords = 1 << 16
)

// Kind says what a record is, in the words of whoever keeps the journal; 0 is none.
type Kind uint8

// Mark is a place between two records. The zero Mark is before the first record of all.
type Mark struct {
	// Generation is that of the segment, Offset the place in its file.
	Generation uint64
	Offset     int64
	// Group and Seq are those of the last record before it.
	Group, Seq uint64
}

// Place is where a record's body lies: its sums at Offset, the body right behind them. The meta ends at Offset.
type Place struct {
	Generation uint64
	Offset     int64
	Size       int64
}

// SumsSize is the number of octets of a body's sums.
func SumsSize(size int64) int64 { return (size + BlockSize - 1) / BlockSize * SumSize }

// Body is what a record carries besides its meta. The zero Body is none.
type Body struct {
	Size int64
	// Sums are the CRC32C of each block, big-endian, as SumsSize says.
	Sums []byte
	// Fill writes all Size octets into b. It is called once, while the record is appended; its error refuses the record.
	Fill func(b []byte) error
}

// Record is one record as it is read back.
type Record struct {
	Kind Kind
	Seq  uint64
	// Meta is valid until the function that was given the record returns.
	Meta []byte
	// Body is where the body lies. Its blocks have been checked in Open and Scan.
	Body Place
	// End is the mark behind it.
	End Mark
}

// Options tune a journal.
type Options struct {
	// FS is required.
	FS vfs.FS
	// Logger hears of what a crash left and of damage. Nil is silence.
	Logger *slog.Logger
	// Now is the clock by which segments grow and shrink. Nil is time.Now.
	Now func() time.Time
	// Spares is how many files of freed segments are kept to be used again; 0 is DefaultSpares.
	Spares int
	// Salvage makes Open go on behind damaged records, and report each here, instead of failing.
	Salvage func(Damage)

	// MinSegment, MaxSegment and Reserve are other bounds than the constants, which 0 stands for: tests have smaller ones.
	MinSegment, MaxSegment, Reserve int64
}

// Damage says where the journal cannot be read though it was durable. It is an error that wraps ErrDamaged.
type Damage struct {
	Mark   Mark // before the record that cannot be read
	Detail string
}

func (d Damage) Error() string {
	return fmt.Sprintf("journal: damaged in segment %d at octet %d, behind record %d: %s", d.Mark.Generation, d.Mark.Offset, d.Mark.Seq, d.Detail)
}

// Unwrap returns ErrDamaged.
func (d Damage) Unwrap() error { return ErrDamaged }

// Info is what is known of one segment.
type Info struct {
	Generation uint64
	// Name is the file's name in the directory.
	Name string
	// Size is the file's length. Used is how much of it holds records, the header included: of the segment that is being written up to the
	// last durable record, of any other the whole file. Both are 0 if the file cannot be opened.
	Size, Used int64
	// Active is set for the segment that is being written.
	Active bool
}
