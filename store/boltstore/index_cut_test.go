package boltstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"latchkey/internal/vfs"
	"latchkey/internal/vfs/vfstest"
)

// The simulated disk under bbolt: what the tests of power cuts rest on.

// cutSeeds is how many power cuts each of these tests makes.
func cutSeeds() int {
	if testing.Short() {
		return 20
	}
	return 60
}

// putTx commits one transaction with some pages of values, all of them n.
func putTx(d *vfstest.Disk, path string, db *bolt.DB, n int) error {
	tx, err := db.Begin(true)
	if err != nil {
		return err
	}
	b, err := tx.CreateBucketIfNotExists([]byte("bucket"))
	for i := 0; err == nil && i < 40; i++ {
		err = b.Put(fmt.Appendf(nil, "key %d", i), bytes.Repeat(fmt.Appendf(nil, "%08d", n), 40))
	}
	if err == nil {
		err = d.Commit(path, tx.Commit)
	}
	_ = tx.Rollback() // says only that it is committed, if it is
	return err
}

// readTx returns the number of the last transaction in the database of a directory, 0 if there is none.
func readTx(t *testing.T, path string) (n int) {
	t.Helper()
	db, err := openIndex(path, Options{}.withDefaults())
	if err != nil {
		t.Fatalf("what is left of the index: %v", err)
	}
	err = db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("what is left of the index: %v", err)
		}
		b := tx.Bucket([]byte("bucket"))
		if b == nil {
			return nil
		}
		return b.ForEach(func(_, v []byte) error {
			var is int
			if _, err := fmt.Sscanf(string(v[:8]), "%d", &is); err != nil || n != 0 && is != n {
				return fmt.Errorf("value of %q beside one of %d: %w", v[:8], n, err)
			}
			n = is
			return nil
		})
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestIndexCommit: the power goes in a commit. bbolt finds the transaction before or this one, whole, and the file is seen half written.
func TestIndexCommit(t *testing.T) {
	base := vfstest.TempDir(t)
	before, this, half := 0, 0, 0
	for seed := range uint64(cutSeeds()) {
		dir, left := filepath.Join(base, fmt.Sprint(seed)), filepath.Join(base, fmt.Sprint(seed, "left"))
		noError(t, os.Mkdir(dir, vfs.DirMode))
		d := vfstest.NewDisk(t, dir, seed, 6)
		path := dir + "/mail.db"
		db, err := openIndex(path, Options{fs: d}.withDefaults())
		noError(t, err)
		noError(t, d.SyncDir(dir))
		for n := 1; n <= 3; n++ {
			noError(t, putTx(d, path, db, n))
		}
		durable, err := os.ReadFile(path)
		noError(t, err)
		if err := putTx(d, path, db, 4); !errors.Is(err, vfstest.ErrPowerCut) {
			t.Fatalf("the commit at which the power went: %v", err)
		}
		if err := putTx(d, path, db, 5); !errors.Is(err, vfstest.ErrPowerCut) {
			t.Fatalf("the commit after that: %v", err)
		}
		whole, err := os.ReadFile(path)
		noError(t, errors.Join(err, db.Close()))
		d.Restore(left)
		is, err := os.ReadFile(left + "/mail.db")
		noError(t, err)
		if !bytes.Equal(is, durable) && !bytes.Equal(is, whole) {
			half++
		}
		switch n := readTx(t, left+"/mail.db"); n {
		case 3:
			before++
		case 4:
			this++
		default:
			t.Errorf("seed %d: transaction %d is left, want 3 or 4", seed, n)
		}
		noError(t, errors.Join(os.RemoveAll(dir), os.RemoveAll(left)))
	}
	if before == 0 || this == 0 || half < cutSeeds()/10 {
		t.Errorf("the transaction before was left %d times, this one %d times, a half written file %d times", before, this, half)
	}
}

// TestIndexBesideFiles: what was committed is there whenever the power goes, also while another commit is under way.
func TestIndexBesideFiles(t *testing.T) {
	for seed := range uint64(cutSeeds()) {
		dir, left := vfstest.TempDir(t), vfstest.TempDir(t)
		d := vfstest.NewDisk(t, dir, seed, 0)
		path := dir + "/mail.db"
		db, err := openIndex(path, Options{fs: d}.withDefaults())
		noError(t, err)
		noError(t, d.SyncDir(dir))
		noError(t, putTx(d, path, db, 1))
		begun, cut := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(cut)
			<-begun
			d.Cut()
		}()
		n, done := 1, make(chan struct{})
		go func() {
			defer close(done)
			close(begun)
			for putTx(d, path, db, n+1) == nil {
				n++
			}
		}()
		<-cut
		<-done
		noError(t, db.Close())
		d.Restore(left)
		if is := readTx(t, left+"/mail.db"); is != n && is != n+1 {
			t.Errorf("transaction %d is left, want %d or the next", is, n)
		}
	}
}

// TestIndexReplaced: an index that is written anew under another name and renamed is the old one or the new one.
func TestIndexReplaced(t *testing.T) {
	seen := make(map[int]int)
	for seed := range uint64(cutSeeds()) {
		dir, left := vfstest.TempDir(t), vfstest.TempDir(t)
		d := vfstest.NewDisk(t, dir, seed, 0)
		path, fresh := dir+"/mail.db", dir+"/mail.db.new"
		old, err := openIndex(path, Options{fs: d}.withDefaults())
		noError(t, err)
		noError(t, d.SyncDir(dir))
		noError(t, putTx(d, path, old, 1))
		db, err := openIndex(fresh, Options{fs: d}.withDefaults())
		noError(t, err)
		noError(t, d.Commit(fresh, func() error { return bolt.Compact(db, old, 0) }))
		noError(t, old.Close())
		noError(t, d.Rename(fresh, path))
		if seed%2 == 0 {
			noError(t, d.SyncDir(dir))
		}
		err = errors.Join(d.Commit(fresh, nil), d.Commit(dir+"/none", nil))
		if err == nil {
			t.Error("an index was committed under a name that it does not have")
		}
		noError(t, putTx(d, path, db, 2))
		noError(t, db.Close())
		d.Restore(left)
		n := readTx(t, left+"/mail.db")
		seen[n]++
		if seed%2 == 0 && n != 2 {
			t.Errorf("after the directory was synced transaction %d is left", n)
		}
	}
	if seen[1] == 0 || seen[2] == 0 || len(seen) != 2 {
		t.Errorf("seen by transaction: %v, want some of 1 and 2", seen)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
