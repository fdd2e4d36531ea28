package boltstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"latchkey/internal/vfs"
)

// bigIndex makes an index of many pages, with branches, overflow pages, inline and empty buckets, after some deletes.
func bigIndex(t *testing.T, path string) {
	t.Helper()
	db, err := openIndex(path, Options{}.withDefaults())
	noError(t, err)
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 5 {
		noError(t, db.Update(func(tx *bolt.Tx) error {
			for id := range numBuckets {
				b, err := tx.CreateBucketIfNotExists([]byte(id.String()))
				if err != nil {
					return err
				}
				for range []int{0, 3, 300}[int(id)%3] {
					key := key8(rng.Uint64())
					size := rng.IntN(100)
					if rng.IntN(60) == 0 {
						size = 10_000
					}
					if err := b.Put(key, bytes.Repeat([]byte{byte(round)}, size)); err != nil {
						return err
					}
				}
				c := b.Cursor()
				for key, _ := c.First(); key != nil && round%2 == 1; key, _ = c.Next() {
					if rng.IntN(2) == 0 {
						if err := c.Delete(); err != nil {
							return err
						}
					}
				}
			}
			return nil
		}))
	}
	noError(t, db.Close())
}

// TestInspectIndex: a sound index has no problems, and an index with a page that contradicts itself has one, for every page that is in use.
func TestInspectIndex(t *testing.T) {
	path := filepath.Join(t.TempDir(), indexName)
	bigIndex(t, path)
	problems, err := inspectIndex(vfs.OS{}, path)
	if err != nil || len(problems) > 0 {
		t.Fatalf("a sound index: %+v, %v", problems, err)
	}
	used := map[uint64]bool{}
	db, err := openIndex(path, Options{}.withDefaults())
	noError(t, err)
	size := db.Info().PageSize
	noError(t, db.View(func(tx *bolt.Tx) error {
		for id := 2; ; id++ {
			info, err := tx.Page(id)
			if err != nil || info == nil {
				return err
			}
			if info.Type == "branch" || info.Type == "leaf" {
				used[uint64(id)] = true
			}
		}
	}))
	noError(t, db.Close())
	whole, err := os.ReadFile(path)
	noError(t, err)
	look := func(b []byte) string {
		return fmt.Sprint(inspectPages(bytes.NewReader(b), int64(len(b))))
	}
	if len(used) < 50 {
		t.Fatalf("%d pages in use only", len(used))
	}
	looked, enough := 0, 30
	if testing.Short() {
		enough = 6
	}
	for id := range used { // in any order
		if looked++; looked > enough {
			break
		}
		for _, tt := range []struct {
			at   int
			with []byte
			says string
		}{
			{0, binary.NativeEndian.AppendUint64(nil, 7777), "it says that it is page 7777"},
			{8, []byte{0x10, 0}, "it is no page of a tree"},
			{10, []byte{0xff, 0xff}, "is not within it"},
			{12, []byte{0xff, 0xff, 0xff, 0xff}, "it is longer than the file"},
		} {
			field := whole[int(id)*size+tt.at:][:len(tt.with)]
			before := bytes.Clone(field)
			copy(field, tt.with)
			got := look(whole)
			copy(field, before)
			if !strings.Contains(got, fmt.Sprintf("page %d ", id)) || !strings.Contains(got, tt.says) {
				t.Errorf("page %d: found %s, want %s", id, got, tt.says)
			}
		}
	}
	if got := look(whole[:len(whole)/2]); !strings.Contains(got, "it was cut short") {
		t.Errorf("cut short: %s", got)
	}
	b := bytes.Clone(whole)
	b[pageHeaderSize+20]++
	if got := look(b); got != "[]" {
		t.Errorf("one meta page: %s", got)
	}
	b[size+pageHeaderSize+20]++
	if got := look(b); !strings.Contains(got, "neither of the two pages") {
		t.Errorf("both meta pages: %s", got)
	}
}
