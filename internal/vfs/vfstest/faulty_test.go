package vfstest

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"

	"latchkey/internal/vfs"
)

// tour does everything once, and returns the error of each operation.
func tour(t *testing.T, fsys vfs.FS, dir string) (errs map[Kind]error) {
	t.Helper()
	errs = make(map[Kind]error)
	errs[Mkdir] = fsys.Mkdir(dir + "/sub")
	f, err := fsys.Create(dir + "/a")
	if errs[Create] = err; err != nil {
		return errs
	}
	_, errs[Write] = f.Write([]byte("0123456789"))
	errs[Allocate] = f.Allocate(5000)
	errs[Sync] = f.Sync()
	must(t, f.Close())
	index, err := fsys.OpenIndex(dir+"/i", os.O_RDWR|os.O_CREATE, vfs.FileMode)
	must(t, errors.Join(err, index.Close()))
	errs[IndexWrite] = fsys.Commit(dir+"/i", func() error { return nil })
	errs[IndexSync] = errs[IndexWrite]
	errs[Rename] = fsys.Rename(dir+"/a", dir+"/b")
	errs[SyncDir] = fsys.SyncDir(dir)
	errs[Remove] = fsys.Remove(dir + "/b")
	return errs
}

// TestFaulty: each operation can fail, alone or with all that follow, in the words of the operating system.
func TestFaulty(t *testing.T) {
	count := NewFaulty(vfs.OS{}, 0, false, nil)
	for kind, err := range tour(t, count, TempDir(t)) {
		if err != nil {
			t.Errorf("%s without a fault: %v", kind, err)
		}
	}
	if _, hit := count.Hit(); hit || count.Steps() != 10 {
		t.Errorf("%d steps, want 10; hit: %t", count.Steps(), hit)
	}
	kinds := make(map[Kind]bool)
	for at := 1; at <= count.Steps(); at++ {
		for _, once := range []bool{true, false} {
			f := NewFaulty(vfs.OS{}, at, once, func(Op) error { return syscall.EIO })
			errs := tour(t, f, TempDir(t))
			op, _ := f.Hit()
			kinds[op.Kind] = true
			if err := errs[op.Kind]; !errors.Is(err, syscall.EIO) || vfs.IsSync(err) != (op.Kind == Sync) {
				t.Errorf("step %d, %s: %v", at, op.Kind, err)
			}
			later, ran := errs[Remove]
			if ran && op.Kind != Remove && op.Kind != Rename && errors.Is(later, syscall.EIO) == once {
				t.Errorf("step %d, once %t: the last operation: %v", at, once, later)
			}
		}
	}
	if len(kinds) != 10 {
		t.Errorf("failed: %v, want 10 kinds", kinds)
	}
}

// TestFaultyWrite: of a write that fails a half is there.
func TestFaultyWrite(t *testing.T) {
	dir := TempDir(t)
	f := NewFaulty(vfs.OS{}, 0, false, func(Op) error { return syscall.ENOSPC })
	file, err := f.Create(dir + "/a")
	must(t, err)
	defer func() { _ = file.Close() }()
	f.FailNow()
	for range 2 {
		if n, err := file.Write([]byte("0123456789")); n != 5 || !vfs.IsNoSpace(err) {
			t.Errorf("wrote %d octets, %v", n, err)
		}
	}
	if n, err := file.WriteAt([]byte("abcd"), 20); n != 2 || !vfs.IsNoSpace(err) {
		t.Errorf("wrote %d octets, %v", n, err)
	}
	b := make([]byte, 22)
	if _, err := file.ReadAt(b, 0); err != nil || string(b) != "0123401234\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00ab" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}

// TestFull: room is taken by what makes files longer, both ends of it, and given back by removal.
func TestFull(t *testing.T) {
	dir := TempDir(t)
	f := &Full{}
	file, err := f.Create(dir + "/a")
	must(t, err)
	defer func() { _ = file.Close() }()
	_, err = file.Write(make([]byte, 1000))
	must(t, err)
	for _, tt := range []struct {
		room int64
		do   func() error
		ok   bool
	}{
		{0, func() error { _, err := file.WriteAt(make([]byte, 1000), 0); return err }, true}, // takes nothing new
		{99, func() error { return file.Allocate(1100) }, false},
		{100, func() error { return file.Allocate(1100) }, true},
		{0, func() error { return file.Allocate(1100) }, true},
		{100, func() error { _, err := file.WriteAt(make([]byte, 101), 1100); return err }, false}, // and 100 are there
		{0, func() error { return file.Allocate(1200) }, true},
		{1, func() error { _, err := file.WriteAt(make([]byte, 1), 1200); return err }, true},
		{IndexCost - 1, func() error { return f.Commit(dir+"/i", func() error { t.Error("committed"); return nil }) }, false},
		{IndexCost, func() error { return f.Commit(dir+"/i", func() error { return nil }) }, true},
	} {
		f.SetRoom(tt.room)
		if err := tt.do(); tt.ok != (err == nil) || !tt.ok && (!vfs.IsNoSpace(err) || vfs.IsSync(err)) {
			t.Errorf("with room for %d: %v", tt.room, err)
		}
	}
	f.SetRoom(0)
	must(t, f.Remove(dir+"/a"))
	again, err := f.Create(dir + "/b")
	must(t, err)
	defer func() { _ = again.Close() }()
	n, err := again.Write(make([]byte, 5000))
	if n != 1201 || !vfs.IsNoSpace(err) {
		t.Errorf("wrote %d octets after 1201 were removed: %v", n, err)
	}
	f.SetRoom(-1)
	if n, err := again.Write(make([]byte, 5000)); n != 5000 || err != nil {
		t.Errorf("wrote %d octets without a bound: %v", n, err)
	}
}

// TestTrace: what begins is noted in order, and what only reads is not.
func TestTrace(t *testing.T) {
	dir := TempDir(t)
	tr := NewTrace(vfs.OS{})
	var done []Kind
	tr.Done(func(op Op, err error) { done = append(done, op.Kind) })
	tour(t, tr, dir)
	want := []Kind{Mkdir, Create, Write, Allocate, Sync, IndexWrite, IndexSync, Rename, SyncDir, Remove}
	var got []Kind
	for _, op := range tr.Ops() {
		got = append(got, op.Kind)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || len(done) != len(want)+1 {
		t.Errorf("noted %q, done %q, want %q and the opening of the index", got, done, want)
	}
	if n := tr.Count(Sync, SyncDir, IndexSync); n != 3 {
		t.Errorf("%d syncs, want 3", n)
	}
	tr.Forget()
	if n := len(tr.Ops()); n != 0 {
		t.Errorf("%d operations after they were forgotten", n)
	}
}

// TestGate: operations wait one by one until they may pass, and all go when it is opened.
func TestGate(t *testing.T) {
	dir := TempDir(t)
	tr := NewTrace(vfs.OS{})
	g := tr.Hold(t, Mkdir)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			if err := tr.Mkdir(fmt.Sprint(dir, "/", i)); err != nil {
				t.Error(err)
			}
		})
	}
	must(t, tr.SyncDir(dir))
	for range 2 {
		op := g.Wait()
		if _, err := os.Stat(op.Name); err == nil {
			t.Errorf("%s is there before it may be", op.Name)
		}
		g.Pass()
	}
	last := g.Wait()
	g.Open()
	g.Open()
	wg.Wait()
	must(t, tr.Mkdir(dir+"/later"))
	if _, err := os.Stat(last.Name); err != nil {
		t.Error(err)
	}
}

// TestOnTop: the others work on a Disk.
func TestOnTop(t *testing.T) {
	dir := TempDir(t)
	d := NewDisk(t, dir, 0, 0)
	for kind, err := range tour(t, NewTrace(&Full{Under: NewFaulty(d, 0, false, nil)}), dir) {
		if err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if d.Steps() != 10 {
		t.Errorf("%d steps of the disk, want 10", d.Steps())
	}
	d.Cut()
	if err := tour(t, NewTrace(d), dir)[Create]; !errors.Is(err, ErrPowerCut) {
		t.Errorf("after the cut: %v", err)
	}
}
