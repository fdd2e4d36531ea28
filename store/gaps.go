package store

import (
	"fmt"
	"strings"
)

// TrailGap is a part of the trail that cannot be read. Events in it may be of any message.
type TrailGap struct {
	// From and To are the Seq of the first and the last event that may be in it.
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// TrailGaps is the error beside what was found in the rest of the trail, when parts of it cannot be read: in ascending order, at least one,
// at most MaxTrailGaps. It wraps ErrDamaged.
type TrailGaps []TrailGap

// MaxTrailGaps bounds the gaps that one search tells apart: with more, the last one reaches up to the last gap's end.
const MaxTrailGaps = 16

// Add puts a gap behind those that are there; one that begins where the last one ends becomes one with it.
func (g *TrailGaps) Add(gap TrailGap) {
	if n := len(*g); n > 0 && (n == MaxTrailGaps || gap.From <= (*g)[n-1].To+1) {
		last := &(*g)[n-1]
		last.To = max(last.To, gap.To)
		return
	}
	*g = append(*g, gap)
}

// Error says which events are missing.
func (g TrailGaps) Error() string {
	parts := make([]string, len(g))
	for i, gap := range g {
		parts[i] = gap.String()
	}
	return fmt.Sprintf("%v: a part of the trail cannot be read: %s", ErrDamaged, strings.Join(parts, ", "))
}

// Unwrap returns ErrDamaged.
func (g TrailGaps) Unwrap() error { return ErrDamaged }

// String is "events 12 to 40".
func (g TrailGap) String() string { return fmt.Sprintf("events %d to %d", g.From, g.To) }
