package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// TestTrailGaps: gaps that touch are one, and beyond the bound the last one grows.
func TestTrailGaps(t *testing.T) {
	var g TrailGaps
	for _, gap := range []TrailGap{{1, 9}, {10, 12}, {14, 20}, {15, 18}} {
		g.Add(gap)
	}
	if want := (TrailGaps{{1, 12}, {14, 20}}); !slices.Equal(g, want) {
		t.Errorf("got %v, want %v", g, want)
	}
	if text := g.Error(); text != "store: damaged: a part of the trail cannot be read: events 1 to 12, events 14 to 20" {
		t.Errorf("it says %q", text)
	}
	if err := error(g); !errors.Is(fmt.Errorf("search: %w", err), ErrDamaged) {
		t.Error("it is not ErrDamaged")
	}
	for n := MaxTrailGaps - 1; n <= MaxTrailGaps+1; n++ {
		g = nil
		for i := range n {
			g.Add(TrailGap{From: uint64(10 * i), To: uint64(10*i + 1)})
		}
		if last := g[len(g)-1]; len(g) != min(n, MaxTrailGaps) || last.To != uint64(10*(n-1)+1) {
			t.Errorf("%d gaps became %d, the last is %s", n, len(g), last)
		}
	}
}
