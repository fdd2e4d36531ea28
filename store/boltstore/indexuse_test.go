package boltstore

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"latchkey/store"
)

// TestIndexUse: the parts are the file, a bucket that grew takes what was put into it, and an open store is left alone.
func TestIndexUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := Init(t.Context(), dir, store.DefaultSettings("example.com"), Options{}); err != nil {
		t.Fatal(err)
	}
	before, err := IndexUse(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	const secrets, each = 20, 10_000
	for i := range secrets {
		if err := s.PutSecret(t.Context(), string(rune('a'+i)), make([]byte, each)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := IndexUse(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("with the store open: %v, want %v", err, ErrLocked)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	after, err := IndexUse(dir)
	if err != nil {
		t.Fatal(err)
	}
	db, err := openIndex(filepath.Join(dir, indexName), Options{}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	if err := errors.Join(db.View(func(tx *bolt.Tx) error { size = tx.Size(); return nil }), db.Close()); err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for _, octets := range after {
		sum += octets
	}
	if sum != size {
		t.Errorf("the parts are %d octets, the index %d", sum, size)
	}
	if name := bSecrets.String(); after[name]-before[name] < secrets*each {
		t.Errorf("%s took %d octets, now %d", name, before[name], after[name])
	}
}

// TestFreePagesAreListed: what lies on the disk at any moment has the list of free pages, so that a start after a kill need not look at every page.
func TestFreePagesAreListed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	s := openData(t, dir, Options{})
	defer closeData(t, s)
	for i := range 3 {
		if err := s.PutSecret(t.Context(), string(rune('a'+i)), make([]byte, 20_000)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, indexName))
		if err != nil {
			t.Fatal(err)
		}
		list, newest := uint64(0), uint64(0)
		for page := range 2 { // bbolt's two meta pages: the newer one counts
			const header, freelist, txid = 16, 32, 48
			meta := b[page*os.Getpagesize()+header:]
			if id := binary.NativeEndian.Uint64(meta[txid:]); id >= newest {
				list, newest = binary.NativeEndian.Uint64(meta[freelist:]), id
			}
		}
		if newest == 0 || list == 0 || list == ^uint64(0) {
			t.Errorf("transaction %d: the list is on page %d", newest, list)
		}
	}
}
