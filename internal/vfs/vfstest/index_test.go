package vfstest

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"latchkey/internal/vfs"
)

// TestHalfCommit: while a commit is under way the index is as before, or half written under the old meta page, or whole under any of the two
// or a torn one, or done; never is the new meta page there without the pages. (store/boltstore has the same with bbolt.)
func TestHalfCommit(t *testing.T) {
	t.Run("power", func(t *testing.T) { halfCommit(t, (*Disk).Cut, ErrPowerCut) })
	// A process that is killed in the middle of a commit leaves the same to a cut that comes before the next process has synced.
	t.Run("killed", func(t *testing.T) { halfCommit(t, (*Disk).Kill, ErrKilled) })
}

func halfCommit(t *testing.T, end func(*Disk), want error) {
	page := os.Getpagesize()
	is := func(b string) string {
		kinds := ""
		for i := 0; i < len(b); i += page {
			switch p := b[i : i+page]; {
			case strings.Count(p, "o") == page:
				kinds += "o"
			case strings.Count(p, "n") == page:
				kinds += "n"
			default:
				kinds += "t"
			}
		}
		return kinds
	}
	seen := outcomes(t, func(d *Disk, dir string) {
		path := dir + "/mail.db"
		f, err := d.OpenIndex(path, os.O_RDWR|os.O_CREATE, vfs.FileMode)
		must(t, err)
		defer func() { must(t, f.Close()) }()
		must(t, d.SyncDir(dir))
		_, err = f.WriteAt(bytes.Repeat([]byte("o"), 4*page), 0)
		must(t, errors.Join(err, d.Commit(path, f.Sync)))
		err = d.Commit(path, func() error {
			for _, n := range []int{2, 3, 1} { // two pages, and a meta page
				if _, err := f.WriteAt(bytes.Repeat([]byte("n"), page), int64(n*page)); err != nil {
					return err
				}
			}
			end(d)
			return nil
		})
		if !errors.Is(err, want) {
			t.Errorf("the commit in which it ended: %v, want %v", err, want)
		}
	}, func(left map[string]string) string { return is(left["mail.db"]) })
	for s := range seen {
		if s[0] != 'o' || s[1] != 'o' && s[2:] != "nn" {
			t.Errorf("seen %d times, and impossible: %s", seen[s], s)
		}
	}
	for _, want := range []string{"oooo", "oott", "oonn", "otnn", "onnn"} {
		if seen[want] == 0 {
			t.Errorf("never seen: %s; seen: %v", want, seen)
		}
	}
}

// TestManyInOneCommit: of several transactions in one Commit all are there, or none: what bbolt synced between them is not known.
func TestManyInOneCommit(t *testing.T) {
	page := os.Getpagesize()
	wantOutcomes(t, outcomes(t, func(d *Disk, dir string) {
		path := dir + "/mail.db"
		f, err := d.OpenIndex(path, os.O_RDWR|os.O_CREATE, vfs.FileMode)
		must(t, err)
		defer func() { must(t, f.Close()) }()
		must(t, d.SyncDir(dir))
		_, err = f.WriteAt(bytes.Repeat([]byte("o"), 4*page), 0)
		must(t, errors.Join(err, d.Commit(path, f.Sync)))
		_ = d.Commit(path, func() error {
			_, err := f.WriteAt(bytes.Repeat([]byte("n"), 4*page), 0)
			d.Cut()
			return err
		})
	}, func(left map[string]string) string { return strings.Trim(left["mail.db"], "o") }), "", strings.Repeat("n", 4*page))
}

// TestIndexOutsideCommit: what bbolt writes outside of a Commit may be there in any part, even when it says that it is synced.
func TestIndexOutsideCommit(t *testing.T) {
	lost, kept := 0, 0
	for seed := range uint64(seeds / 5) {
		dir, left := TempDir(t), TempDir(t)
		d := NewDisk(t, dir, seed, 0)
		path := dir + "/mail.db"
		f, err := d.OpenIndex(path, os.O_RDWR|os.O_CREATE, vfs.FileMode)
		must(t, err)
		must(t, d.SyncDir(dir))
		_, err = f.WriteAt(bytes.Repeat([]byte("a"), 8*sectorSize), 0)
		must(t, err)
		must(t, d.Commit(path, f.Sync))
		_, err = f.WriteAt(bytes.Repeat([]byte("b"), 8*sectorSize), 0)
		must(t, errors.Join(err, f.Sync(), f.Close()))
		d.Restore(left)
		is := tree(t, left)["mail.db"]
		for i := 0; i < len(is); i += sectorSize {
			switch is[i] {
			case 'a':
				lost++
			case 'b':
				kept++
			}
		}
		if len(is) != 8*sectorSize {
			t.Errorf("%d octets are left", len(is))
		}
	}
	if lost == 0 || kept == 0 {
		t.Errorf("%d sectors lost, %d kept, want some of each", lost, kept)
	}
}
