//go:build linux

package main

import (
	"testing"
)

// TestQueueGrowth: the figures of the queue are taken, with tens of thousands of recipients in it, and the store opens fast.
func TestQueueGrowth(t *testing.T) {
	r := &run{root: t.TempDir(), most: 20_000, sheet: newSheet()}
	if err := r.measureQueue(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, w := range r.sheet.rows {
		if v := r.sheet.value(w.measure, us); !(v > 0) {
			t.Errorf("%s: %v", w.measure, v)
		}
		if w.measure == queueOpen && !w.want.holds(r.sheet.value(w.measure, us)) {
			t.Errorf("the store opened in %v ms", r.sheet.value(w.measure, us))
		}
	}
	if len(r.sheet.rows) != 5 {
		t.Errorf("%d rows", len(r.sheet.rows))
	}
}
