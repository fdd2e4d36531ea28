package boltstore

import (
	"testing"
	"time"

	"latchkey/internal/journal"
)

// TestTailIsDue: records wait from when they came, and those that a transaction left behind from when it began, however long the others had
// waited: else there would be a transaction after each group while mail keeps coming.
func TestTailIsDue(t *testing.T) {
	z := newTail(Options{}.withDefaults().bounds)
	begun := time.Unix(1_000_000, 0)
	seq := uint64(0)
	add := func(at time.Duration, n int) (hurry bool) {
		var entries []tailed
		for range n {
			seq++
			entries = append(entries, tailed{entry: &messageEntry{}, mark: journal.Mark{Seq: seq}, octets: 1})
		}
		return z.add(begun.Add(at), entries)
	}
	due := func(at time.Duration, want bool) {
		t.Helper()
		if _, due := z.isDue(begun.Add(at)); due != want {
			t.Errorf("after %v due is %v", at, due)
		}
	}
	if some, _ := z.isDue(begun); some {
		t.Error("an empty tail has something")
	}
	add(0, 1)
	add(time.Second/2, 1)
	due(indexDelay-1, false)
	due(indexDelay, true)

	batch, _ := z.take(begun.Add(indexDelay))
	add(indexDelay+time.Second/2, 1) // while the transaction goes on
	z.done(len(batch), nil)
	if n, _, since := z.waits(); n != 1 || !since.Equal(begun.Add(indexDelay)) {
		t.Errorf("%d records wait since %v", n, since)
	}
	due(2*indexDelay-1, false)
	due(2*indexDelay, true)

	if add(indexDelay+time.Second, indexBatch-2) {
		t.Error("hurry before there is enough for a transaction")
	}
	due(indexDelay+time.Second, false)
	if !add(indexDelay+time.Second, 1) {
		t.Error("no hurry though there is enough for a transaction")
	}
	due(indexDelay+time.Second, true)

	batch, _ = z.take(begun.Add(indexDelay + time.Second))
	z.done(len(batch), nil)
	add(3*indexDelay, 1)
	due(4*indexDelay-1, false)
}

// TestTailTakesSome: what the indexer takes at once is bounded in records and in octets.
func TestTailTakesSome(t *testing.T) {
	for _, tt := range []struct {
		name    string
		records int
		octets  int // of each
		batch   int
		more    bool
	}{
		{"none", 0, 0, 0, false},
		{"one record less", indexBatch - 1, 1, indexBatch - 1, false},
		{"all records", indexBatch, 1, indexBatch, false},
		{"one record more", indexBatch + 1, 1, indexBatch, true},
		{"all octets", 5, indexOctets / 5, 5, false},
		{"some octets more", 6, indexOctets / 5, 5, true},
		{"less than all octets", 6, indexOctets/5 - 1, 6, false},
		{"large records", 2, 2 * indexOctets, 1, true},
	} {
		z := newTail(Options{}.withDefaults().bounds)
		entries := make([]tailed, tt.records)
		for i := range entries {
			entries[i] = tailed{entry: &messageEntry{}, mark: journal.Mark{Seq: uint64(i) + 1}, octets: tt.octets}
		}
		z.add(time.Unix(1_000_000, 0), entries)
		z.wanted = true
		if batch, more := z.take(time.Unix(1_000_000, 0)); len(batch) != tt.batch || more != tt.more {
			t.Errorf("%s: %d records, more %v; want %d, %v", tt.name, len(batch), more, tt.batch, tt.more)
		}
		if z.wanted != tt.more {
			t.Errorf("%s: somebody waits: %v", tt.name, z.wanted)
		}
	}
}
