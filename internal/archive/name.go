package archive

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Kind says what a piece is.
type Kind int

// The kinds of pieces. Each has names of its own form, so that nothing else in a directory is ever taken for a piece.
const (
	// Index is the index, which each backup has anew.
	Index Kind = 1 + iota
	// Segment is a segment of the journal, which grows at its end.
	Segment
	// Large is a large body, which never changes.
	Large
)

// The directories of pieces.
const (
	segmentDir = "journal"
	largeDir   = "large"
)

// IndexName names an index; unique tells it from those of other backups.
func IndexName(unique uint64) string { return fmt.Sprintf("mail-%016x.db", unique) }

// SegmentName names the segment of a generation. The stamp tells it from one that has the same generation in another life of the store.
func SegmentName(generation, stamp uint64) string {
	return fmt.Sprintf(segmentDir+"/%016x-%016x.seg", generation, stamp)
}

// LargeName names a large body by its token.
func LargeName(token [16]byte) string { return fmt.Sprintf(largeDir+"/%x", token) }

// Name is what a piece's name says.
type Name struct {
	Kind Kind
	// Unique is of an Index, Generation and Stamp of a Segment, Token of a Large.
	Unique, Generation, Stamp uint64
	Token                     [16]byte
}

// String is the name.
func (n Name) String() string {
	switch n.Kind {
	case Index:
		return IndexName(n.Unique)
	case Segment:
		return SegmentName(n.Generation, n.Stamp)
	case Large:
		return LargeName(n.Token)
	}
	return ""
}

// ParseName reads a name; ok is false if it is not exactly one that a piece can have. Names become paths.
func ParseName(text string) (n Name, ok bool) {
	dir, file, deep := strings.Cut(text, "/")
	switch {
	case !deep:
		n.Kind = Index
		n.Unique, ok = number(strings.TrimPrefix(text, "mail-"))
	case dir == segmentDir:
		n.Kind = Segment
		first, second, _ := strings.Cut(file, "-")
		n.Generation, ok = number(first)
		if ok {
			n.Stamp, ok = number(second)
		}
	case dir == largeDir && len(file) == hex.EncodedLen(len(n.Token)):
		n.Kind = Large
		_, err := hex.Decode(n.Token[:], []byte(file))
		ok = err == nil
	}
	return n, ok && n.String() == text
}

// number reads the 16 hex digits that text begins with.
func number(text string) (uint64, bool) {
	const digits = 16
	if len(text) < digits {
		return 0, false
	}
	v, err := strconv.ParseUint(text[:digits], 16, 64)
	return v, err == nil
}
