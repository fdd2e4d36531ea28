package boltstore

import (
	"crypto/rand"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"latchkey/internal/vfs"
	"latchkey/internal/vfs/vfstest"
	"latchkey/store"
)

// fillOf returns how full the leaves of a bucket are, in percent, and how many pages they take.
func fillOf(t *testing.T, s *Store, id bucketID) (percent float64, pages int) {
	t.Helper()
	noError(t, s.index().View(func(tx *bolt.Tx) error {
		stats := tx.Bucket([]byte(id.String())).Stats()
		percent, pages = 100*float64(stats.LeafInuse)/float64(stats.LeafAlloc), stats.LeafPageN
		return nil
	}))
	return percent, pages
}

// TestCompactedPagesAreFull: the copy of the index has full pages, whatever the pages of the index were like.
func TestCompactedPagesAreFull(t *testing.T) {
	s := trailStore(t, clockAt(time.Now()), 1_000_000)
	var senders sync.WaitGroup
	for range 16 {
		senders.Go(func() {
			for range 200 {
				deliver(t, s, 100, 1, 2)
			}
		})
	}
	senders.Wait()
	noError(t, s.settle(t.Context(), true))
	var events []store.TrailEvent
	for range 3000 {
		events = append(events, store.TrailEvent{
			Message: 1, Time: time.Now(), Kind: store.TrailDeferred, Sender: mustAddress("a@out.example"), Recipient: mustAddress("anna@" + domain), Text: rand.Text() + rand.Text() + rand.Text(),
		})
	}
	writeEvents(t, s, events)
	before, err := s.Compact(t.Context())
	noError(t, err)
	for _, id := range []bucketID{bCopies, bBodies, bTrail} {
		if percent, pages := fillOf(t, s, id); percent < 97 || pages < 8 {
			t.Errorf("%s: %d pages are full to %.1f %%, want 97 at least of 8 at least", id, pages, percent)
		}
	}
	if before.IndexAfter >= before.IndexBefore {
		t.Errorf("the index had %d octets and has %d", before.IndexBefore, before.IndexAfter)
	}
}

// TestCompactedIndexIsDurable: the copy of the index is synced before it takes the index's name, and the name before anything else is written.
func TestCompactedIndexIsDurable(t *testing.T) {
	f := vfstest.NewTrace(vfs.OS{})
	s, dir := fresh(t, Options{fs: f})
	deliver(t, s, 100, 1)
	noError(t, s.settle(t.Context(), true))
	f.Forget()
	_, err := s.Compact(t.Context())
	noError(t, err)
	deliver(t, s, 100, 1)
	noError(t, s.settle(t.Context(), true))
	var order []string
	for _, op := range f.Ops() {
		if name, err := filepath.Rel(dir, op.Name); err == nil && (name == "." || filepath.Dir(name) == "." && name != reserveName) {
			order = append(order, string(op.Kind)+" "+name)
		}
	}
	sync := string(vfstest.IndexSync) + " "
	want := []string{sync + newIndexName, string(vfstest.Rename) + " " + newIndexName, string(vfstest.SyncDir) + " .", sync + indexName}
	order = slices.DeleteFunc(order, func(op string) bool { return !slices.Contains(want, op) })
	if len(order) > len(want) {
		order = order[:len(want)]
	}
	if !slices.Equal(order, want) {
		t.Errorf("order %q, want %q", order, want)
	}
}
