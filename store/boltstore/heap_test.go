package boltstore

import (
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// maxHeapAtRest is what an open store of a small domain may hold on the heap, in octets.
const maxHeapAtRest = 3 << 20

// liveHeap is what is in use on the heap, in octets: two collections, so that pools are empty as well.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestHeapAtRest: a small domain that had a busy moment holds little afterwards: hundreds of domains run on one host.
func TestHeapAtRest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	before := liveHeap()
	if err := Init(t.Context(), dir, store.DefaultSettings("example.com"), Options{}); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	const senders, each = 16, 25
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			if err := busyMoment(t, s, fmt.Sprintf("user%d", i), each); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	deadline := time.Now().Add(time.Minute) // what is given back behind the acknowledgements may take a moment
	held := liveHeap() - before
	for held > maxHeapAtRest && time.Now().Before(deadline) {
		held = liveHeap() - before
	}
	t.Logf("%.2f MiB", float64(held)/(1<<20))
	if held > maxHeapAtRest {
		t.Errorf("the store holds %.1f MiB at rest, want at most %d", float64(held)/(1<<20), maxHeapAtRest>>20)
	}
}

// busyMoment makes a mailbox, delivers to it, and reads and removes half of what came.
func busyMoment(t *testing.T, s *Store, name string, messages int) error {
	account, err := s.AddAccount(t.Context(), store.Account{Name: name, Created: time.Now()})
	if err != nil {
		return err
	}
	address, err := mailaddr.Parse(name + "@example.com")
	if err != nil {
		return err
	}
	body := make([]byte, 16<<10)
	for range messages {
		draft, err := s.NewDraft(t.Context())
		if err != nil {
			return err
		}
		if _, err := draft.Write(body); err != nil {
			return err
		}
		e := store.Envelope{Received: time.Now(), Recipients: []store.Recipient{{Address: address, Account: account.ID}}}
		if _, err := draft.Commit(t.Context(), e); err != nil {
			return err
		}
	}
	drop, err := s.OpenMaildrop(t.Context(), account.ID)
	if err != nil {
		return err
	}
	var half []store.CopyID
	for _, m := range listed(t, drop)[:messages/2] {
		half = append(half, m.ID)
	}
	if err := drop.Expunge(t.Context(), half, nil); err != nil {
		return err
	}
	return drop.Close()
}
