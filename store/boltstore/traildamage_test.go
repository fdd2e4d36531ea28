package boltstore

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"latchkey/store"
)

// TestRepairDamagedBlock: a repair puts a damaged block of the trail aside as it is, and afterwards nothing is said of it any more.
func TestRepairDamagedBlock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	s := openData(t, dir, Options{})
	m := newTraffic()
	var blocks [2][]store.TrailEvent
	for i := range blocks {
		for range 1000 {
			blocks[i] = m.message(blocks[i])
		}
		writeEvents(t, s, blocks[i])
	}
	closeData(t, s)
	var damaged []byte
	last := blocks[0][len(blocks[0])-1].Seq
	change(t, dir, func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bTrail.String()))
		c := b.Cursor()
		for key, value := c.Seek(key8(last)); key != nil && id8(key) == last; key, value = c.Next() {
			damaged = append(damaged, value...)
		}
		damaged[trailPiece+5] ^= 1
		return b.Put(pieceKey(last, 1), damaged[trailPiece:2*trailPiece])
	})
	got, err := Repair(t.Context(), dir, Options{})
	noError(t, err)
	if len(got.Mended) == 0 || len(got.Left)+len(got.Lost) > 0 || got.Mended[0].Kind != store.ProblemRecord {
		t.Fatalf("Repair: %+v", got)
	}
	_, name, _ := strings.Cut(got.Mended[0].Action, "they are in ")
	kept, err := os.ReadFile(filepath.Join(got.Quarantine, name))
	if err != nil || !bytes.Equal(kept, damaged) {
		t.Errorf("%d octets were put aside, %v, want the %d of the block", len(kept), err, len(damaged))
	}
	s = openData(t, dir, Options{})
	defer closeData(t, s)
	mustBeSound(t, s)
	for i, want := range []int{0, 1} {
		page, err := s.SearchTrail(t.Context(), store.TrailQuery{HeaderID: blocks[i][0].HeaderID}, 10)
		if err != nil || len(page.Messages) != want {
			t.Errorf("block %d after the repair: %v, %v, want %d", i, page, err, want)
		}
	}
}

// TestOddKeyInTheTrail: an entry that belongs to nothing keeps neither a search nor the mail from going on, and goes with the oldest.
func TestOddKeyInTheTrail(t *testing.T) {
	for _, id := range []bucketID{bTrail, bTrailOpen} {
		dir := filepath.Join(t.TempDir(), "data")
		initData(t, dir)
		s := openData(t, dir, Options{})
		said := newTraffic().message(nil)
		writeEvents(t, s, said)
		closeData(t, s)
		change(t, dir, put(id, append(key8(1<<40), 7), []byte("odd")))
		s = openData(t, dir, Options{})
		events, err := s.MessageTrail(t.Context(), said[0].Message)
		if !isGaps(err) || len(events) != 2 {
			t.Errorf("%s: %d events, %v, want 2 and a gap", id, len(events), err)
		}
		for range 4 { // enough to make a block of what waits
			writeEvents(t, s, eventsOf(t, sealRest-100, 1))
		}
		deliver(t, s, 10, 1)
		noError(t, s.poisoned())
		events, err = s.MessageTrail(t.Context(), said[0].Message)
		if err != nil || len(events) != 2 {
			t.Errorf("%s: %d events, %v after a block was made", id, len(events), err)
		}
		closeData(t, s)
	}
}
