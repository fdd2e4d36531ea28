package boltstore

import (
	"bytes"
	"path/filepath"
	"runtime"
	"testing"

	"latchkey/store"
)

// TestManyOpenDrafts: 2,000 drafts of 100 kB stay within the memory that drafts may use, and give back all that they took.
func TestManyOpenDrafts(t *testing.T) {
	s, dir := fresh(t, Options{})
	before := descriptors(t, filepath.Join(dir, tmpName))
	drafts := make([]store.Draft, 2000)
	piece := bytes.Repeat([]byte("x"), 10_000)
	for i := range drafts {
		d, err := s.NewDraft(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		drafts[i] = d
	}
	for range 10 {
		for _, d := range drafts {
			if _, err := d.Write(piece); err != nil {
				t.Fatal(err)
			}
			if used := s.budget.used.Load(); used > DefaultDraftMemory {
				t.Fatalf("drafts use %d octets, budget %d", used, DefaultDraftMemory)
			}
		}
	}
	spilled := count(t, dir, tmpName)
	if used := s.budget.used.Load(); used < DefaultDraftMemory/2 || spilled == 0 {
		t.Errorf("drafts use %d octets of memory and %d files: the budget was not used", used, spilled)
	}
	if open := descriptors(t, filepath.Join(dir, tmpName)) - before; open != spilled {
		t.Errorf("%d files are open, want one for each of %d drafts in files", open, spilled)
	}
	for i, d := range drafts {
		if i%100 != 0 {
			if err := d.Abort(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if _, err := d.Commit(t.Context(), envelopeTo(1)); err != nil {
			t.Fatal(err)
		}
	}
	sweepAll(t, s)
	if used, left := s.budget.used.Load(), count(t, dir, tmpName); used != 0 || left != 0 || descriptors(t, filepath.Join(dir, tmpName)) != before {
		t.Errorf("%d octets, %d drafts, %d descriptors are left, want 0, 0, %d", used, left, descriptors(t, filepath.Join(dir, tmpName)), before)
	}
	if n := s.space.usage().Messages; n != 20 {
		t.Errorf("%d messages, want 20", n)
	}
}

// TestDraftsReuseMemory: drafts that go to files one after the other use each other's memory again, so that what is allocated stays near the
// budget; without that it is 15 MiB here.
func TestDraftsReuseMemory(t *testing.T) {
	s, dir := fresh(t, Options{DraftMemory: 256 << 10})
	piece := bytes.Repeat([]byte("x"), 10_000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 300 {
		d, err := s.NewDraft(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = d.Abort() }() // its file goes with the directory
		for range 10 {
			if _, err := d.Write(piece); err != nil {
				t.Fatal(err)
			}
		}
	}
	runtime.ReadMemStats(&after)
	if n := count(t, dir, tmpName); n < 290 {
		t.Fatalf("%d drafts are in files, want nearly all of 300", n)
	}
	if made := after.TotalAlloc - before.TotalAlloc; made > 8<<20 { // under -race a pool forgets a quarter
		t.Errorf("%d octets were allocated for a budget of %d", made, 256<<10)
	}
}

// TestSpillEdge: the largest draft in memory, and one octet more.
func TestSpillEdge(t *testing.T) {
	s, dir := fresh(t, Options{})
	for _, tt := range []struct{ size, files int }{{spillAbove - 1, 0}, {spillAbove, 0}, {spillAbove + 1, 1}} {
		d, err := s.NewDraft(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for rest := tt.size; rest > 0; rest -= 1000 {
			if _, err := d.Write(make([]byte, min(rest, 1000))); err != nil {
				t.Fatal(err)
			}
		}
		if n := count(t, dir, tmpName); n != tt.files {
			t.Errorf("a draft of %d octets has %d files, want %d", tt.size, n, tt.files)
		}
		if err := d.Abort(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBudgetEdge: memory for exactly one chunk, and for none.
func TestBudgetEdge(t *testing.T) {
	for _, tt := range []struct {
		memory int64
		files  int
	}{{firstChunk - 1, 1}, {firstChunk, 0}, {firstChunk + 1, 0}} {
		s, dir := fresh(t, Options{DraftMemory: tt.memory})
		d, err := s.NewDraft(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Write(make([]byte, firstChunk)); err != nil {
			t.Fatal(err)
		}
		if n := count(t, dir, tmpName); n != tt.files {
			t.Errorf("with %d octets of memory: %d files, want %d", tt.memory, n, tt.files)
		}
		if _, err := d.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if n := count(t, dir, tmpName); n != 1 {
			t.Errorf("with %d octets of memory and one octet more: %d files, want 1", tt.memory, n)
		}
		if err := d.Abort(); err != nil {
			t.Fatal(err)
		}
	}
}
