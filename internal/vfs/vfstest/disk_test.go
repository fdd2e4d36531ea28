package vfstest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"latchkey/internal/vfs"
)

const seeds = 200

// after works on a fresh disk, cuts the power and returns what is left: content by name.
func after(t *testing.T, seed uint64, work func(d *Disk, dir string)) map[string]string {
	t.Helper()
	dir := TempDir(t)
	d := NewDisk(t, dir, seed, 0)
	work(d, dir)
	left := TempDir(t)
	d.Restore(left)
	return tree(t, left)
}

// tree returns what is in a directory: content by name, "/" for a directory.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		if err != nil || rel == "." {
			return err
		}
		if e.IsDir() {
			found[rel] = "/"
			return nil
		}
		b, err := os.ReadFile(path)
		found[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// create makes a file with content and leaves it open.
func create(t *testing.T, fsys vfs.FS, name, content string) vfs.File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	_, err = f.Write([]byte(content))
	must(t, err)
	return f
}

// durable makes a file with content that is synced, name and all.
func durable(t *testing.T, d *Disk, name, content string) vfs.File {
	t.Helper()
	f := create(t, d, name, content)
	must(t, f.Sync())
	must(t, d.SyncDir(filepath.Dir(name)))
	return f
}

// outcomes counts what is left of one piece of work over all seeds.
func outcomes(t *testing.T, work func(d *Disk, dir string), describe func(left map[string]string) string) map[string]int {
	t.Helper()
	seen := make(map[string]int)
	for seed := range uint64(seeds) {
		seen[describe(after(t, seed, work))]++
	}
	return seen
}

// wantOutcomes reports outcomes that were not seen, or should not have been.
func wantOutcomes(t *testing.T, seen map[string]int, want ...string) {
	t.Helper()
	for _, w := range want {
		if seen[w] == 0 {
			t.Errorf("never seen: %q; seen: %v", w, seen)
		}
	}
	for s := range seen {
		if !slices.Contains(want, s) {
			t.Errorf("seen %d times, and impossible: %q", seen[s], s)
		}
	}
}

func namesOf(left map[string]string) string {
	var all []string
	for name := range left {
		all = append(all, name)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// TestNames: what becomes of names that were synced, and of those that were not.
func TestNames(t *testing.T) {
	for _, tt := range []struct {
		name string
		work func(d *Disk, dir string)
		want []string
	}{
		{"a new name", func(d *Disk, dir string) { must(t, create(t, d, dir+"/a", "x").Sync()) }, []string{"", "a"}},
		{"a synced name", func(d *Disk, dir string) { durable(t, d, dir+"/a", "x") }, []string{"a"}},
		{"a removed one", func(d *Disk, dir string) {
			durable(t, d, dir+"/a", "x")
			must(t, d.Remove(dir+"/a"))
		}, []string{"", "a"}},
		{"a durably removed one", func(d *Disk, dir string) {
			durable(t, d, dir+"/a", "x")
			must(t, d.Remove(dir+"/a"))
			must(t, d.SyncDir(dir))
		}, []string{""}},
		{"a renamed one", func(d *Disk, dir string) {
			durable(t, d, dir+"/a", "x")
			must(t, d.Rename(dir+"/a", dir+"/b"))
		}, []string{"a", "b", "a b"}},
		{"a durably renamed one", func(d *Disk, dir string) {
			durable(t, d, dir+"/a", "x")
			must(t, d.Rename(dir+"/a", dir+"/b"))
			must(t, d.SyncDir(dir))
		}, []string{"b"}},
		{"renamed twice", func(d *Disk, dir string) {
			durable(t, d, dir+"/a", "x")
			must(t, d.Rename(dir+"/a", dir+"/b"))
			must(t, d.SyncDir(dir))
			must(t, d.Rename(dir+"/b", dir+"/a"))
		}, []string{"a", "b", "a b"}},
		{"a new directory", func(d *Disk, dir string) {
			must(t, d.Mkdir(dir+"/sub"))
			durable(t, d, dir+"/sub/a", "x")
		}, []string{"", "sub sub/a"}},
		{"a synced directory", func(d *Disk, dir string) {
			must(t, d.Mkdir(dir+"/sub"))
			must(t, d.SyncDir(dir))
			must(t, create(t, d, dir+"/sub/a", "x").Sync())
		}, []string{"sub", "sub sub/a"}},
		{"renamed into another directory", func(d *Disk, dir string) {
			must(t, d.Mkdir(dir+"/p"))
			must(t, d.Mkdir(dir+"/q"))
			must(t, d.SyncDir(dir))
			durable(t, d, dir+"/p/a", "x")
			must(t, d.Rename(dir+"/p/a", dir+"/q/a"))
		}, []string{"p q", "p p/a q", "p q q/a", "p p/a q q/a"}},
		{"renamed into another directory, which was synced", func(d *Disk, dir string) {
			must(t, d.Mkdir(dir+"/p"))
			must(t, d.Mkdir(dir+"/q"))
			must(t, d.SyncDir(dir))
			durable(t, d, dir+"/p/a", "x")
			must(t, d.Rename(dir+"/p/a", dir+"/q/a"))
			must(t, d.SyncDir(dir+"/q"))
		}, []string{"p q q/a", "p p/a q q/a"}},
	} {
		t.Run(tt.name, func(t *testing.T) { wantOutcomes(t, outcomes(t, tt.work, namesOf), tt.want...) })
	}
}

// TestReplaced: a file over which another one was renamed is there as a whole, or the other one is.
func TestReplaced(t *testing.T) {
	content := func(left map[string]string) string { return left["a"] + " " + left["b"] }
	replace := func(d *Disk, dir string) {
		durable(t, d, dir+"/a", "old")
		durable(t, d, dir+"/b", "new")
		must(t, d.Rename(dir+"/b", dir+"/a"))
	}
	wantOutcomes(t, outcomes(t, replace, content), "old new", "new ", "new new")
	wantOutcomes(t, outcomes(t, func(d *Disk, dir string) {
		replace(d, dir)
		must(t, d.SyncDir(dir))
	}, content), "new ")
	// A name that is given again is of the new file, or of the old one.
	wantOutcomes(t, outcomes(t, func(d *Disk, dir string) {
		durable(t, d, dir+"/a", "old")
		must(t, d.Remove(dir+"/a"))
		must(t, create(t, d, dir+"/a", "new").Sync())
	}, content), "old ", "new ", " ")
}

// TestTwoNames: a file that is left with two names is one file, on the next disk too.
func TestTwoNames(t *testing.T) {
	for seed := range uint64(seeds) {
		dir, left, last := TempDir(t), TempDir(t), TempDir(t)
		d := NewDisk(t, dir, seed, 0)
		durable(t, d, dir+"/a", "x")
		must(t, d.Rename(dir+"/a", dir+"/b"))
		d.Restore(left)
		if len(tree(t, left)) < 2 {
			continue
		}
		d = NewDisk(t, left, seed, 0)
		f, err := d.OpenWrite(left + "/a")
		must(t, err)
		_, err = f.WriteAt([]byte("y"), 0)
		must(t, err)
		must(t, errors.Join(f.Sync(), f.Close()))
		must(t, d.Remove(left+"/a"))
		must(t, d.SyncDir(left))
		d.Restore(last)
		if got := tree(t, last); len(got) != 1 || got["b"] != "y" {
			t.Fatalf("left %q, want what was written under the other name", got)
		}
		return
	}
	t.Error("no seed left both names")
}

// TestSectors: of an unsynced write any sectors are there, and the others are as they were.
func TestSectors(t *testing.T) {
	const n = 6
	old := bytes.Repeat([]byte("o"), n*sectorSize)
	seen := outcomes(t, func(d *Disk, dir string) {
		f := durable(t, d, dir+"/a", string(old))
		_, err := f.WriteAt(bytes.Repeat([]byte("n"), n*sectorSize), 0)
		must(t, err)
	}, func(left map[string]string) string {
		var s strings.Builder
		if len(left["a"]) != n*sectorSize {
			t.Fatalf("%d octets, want %d", len(left["a"]), n*sectorSize)
		}
		for i := range n {
			sector := left["a"][i*sectorSize : (i+1)*sectorSize]
			switch trimmed := strings.TrimLeft(sector, "n"); {
			case trimmed == "":
				s.WriteByte('n')
			case trimmed == sector:
				s.WriteByte('o')
			case strings.Trim(trimmed, "o") == "":
				s.WriteByte('t')
			default:
				t.Fatalf("a sector of %q", sector)
			}
		}
		return s.String()
	})
	torn, gap, before := 0, 0, 0
	for s, n := range seen {
		if strings.Contains(s, "t") {
			torn += n
		}
		if strings.Contains(s, "no") {
			before += n
		}
		if strings.Contains(s, "on") {
			gap += n
		}
	}
	if seen["nnnnnn"] == 0 || seen["oooooo"] == 0 || torn == 0 || gap == 0 || before == 0 || len(seen) < 20 {
		t.Errorf("%d patterns, torn %d, a later one before an earlier one %d, cut short %d: %v", len(seen), torn, gap, before, seen)
	}
}

// TestRewritten: what was written twice since the last sync is as it was at any of the three times.
func TestRewritten(t *testing.T) {
	wantOutcomes(t, outcomes(t, func(d *Disk, dir string) {
		f := durable(t, d, dir+"/a", "0")
		for _, content := range []string{"1", "2"} {
			_, err := f.WriteAt([]byte(content), 0)
			must(t, err)
		}
	}, func(left map[string]string) string { return left["a"] }), "0", "1", "2")
}

// TestLengths: a file has any of its unsynced lengths; what was preallocated and not written, or lost, reads as zeros.
func TestLengths(t *testing.T) {
	lengths := func(left map[string]string) string { return fmt.Sprint(len(left["a"])) }
	grow := func(d *Disk, dir string) vfs.File {
		f := durable(t, d, dir+"/a", "1234567890")
		must(t, f.Allocate(5000))
		_, err := f.WriteAt(bytes.Repeat([]byte("n"), 1000), 4500)
		must(t, err)
		return f
	}
	wantOutcomes(t, outcomes(t, func(d *Disk, dir string) { grow(d, dir) }, lengths), "10", "5000", "5500")
	wantOutcomes(t, outcomes(t, func(d *Disk, dir string) { must(t, grow(d, dir).Sync()) }, lengths), "5500")
	zeros := outcomes(t, func(d *Disk, dir string) { grow(d, dir) }, func(left map[string]string) string {
		if len(left["a"]) < 5500 {
			return "short"
		}
		if left["a"][:4500] != "1234567890"+strings.Repeat("\x00", 4490) {
			t.Fatalf("begins with %q", left["a"][:4500])
		}
		return string(left["a"][5400])
	})
	wantOutcomes(t, zeros, "short", "\x00", "n")
}

// TestAppended: Write goes on where it was, and a file that is opened again begins at its front.
func TestAppended(t *testing.T) {
	dir := TempDir(t)
	d := NewDisk(t, dir, 1, 0)
	f := durable(t, d, dir+"/a", "one")
	_, err := f.Write([]byte("two"))
	must(t, err)
	_, err = f.WriteAt([]byte("T"), 3)
	must(t, err)
	must(t, f.Sync())
	g, err := d.OpenWrite(dir + "/a")
	must(t, err)
	_, err = g.Write([]byte("O"))
	must(t, err)
	must(t, errors.Join(g.Sync(), g.Close()))
	left := TempDir(t)
	d.Restore(left)
	if got := tree(t, left)["a"]; got != "OneTwo" {
		t.Errorf("left %q", got)
	}
}

// TestEveryStep: at every step the power can go, the step says so, and nothing works any more.
func TestEveryStep(t *testing.T) {
	work := func(d *Disk, dir string) error {
		f, err := d.Create(dir + "/a")
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		_, err = f.Write([]byte("x"))
		if err == nil {
			_, err = f.WriteAt([]byte("y"), 7)
		}
		for _, do := range []func() error{
			func() error { return f.Allocate(9) }, f.Sync, func() error { return d.Mkdir(dir + "/p/q") },
			func() error { return d.Rename(dir+"/a", dir+"/p/q/b") }, func() error { return d.SyncDir(dir + "/p/q") },
			func() error { return d.Remove(dir + "/p/q/b") },
		} {
			if err == nil {
				err = do()
			}
		}
		return err
	}
	dir := TempDir(t)
	d := NewDisk(t, dir, 0, 0)
	must(t, work(d, dir))
	steps := d.Steps()
	if steps != 9 {
		t.Fatalf("%d steps, want 9", steps)
	}
	for at := 1; at <= steps+1; at++ {
		dir := TempDir(t)
		d := NewDisk(t, dir, 0, at)
		err := work(d, dir)
		if at > steps {
			must(t, err)
			continue
		}
		if !errors.Is(err, ErrPowerCut) || !d.Dead() || d.Steps() != at {
			t.Errorf("step %d: %v, dead %t after %d steps, last %+v", at, err, d.Dead(), d.Steps(), d.Last())
		}
		_, listErr := d.List(dir)
		_, openErr := d.Open(dir + "/a")
		_, indexErr := d.OpenIndex(dir+"/i", os.O_RDWR|os.O_CREATE, vfs.FileMode)
		for i, err := range []error{work(d, dir), listErr, openErr, indexErr, d.Mkdir(dir + "/z"), d.Commit(dir+"/i", nil)} {
			if !errors.Is(err, ErrPowerCut) {
				t.Errorf("after the cut at step %d, operation %d: %v", at, i, err)
			}
		}
	}
}

// TestOpenFilesDie: what was open when the power went works no more.
func TestOpenFilesDie(t *testing.T) {
	dir := TempDir(t)
	d := NewDisk(t, dir, 0, 0)
	f := durable(t, d, dir+"/a", "x")
	d.Cut()
	_, readErr := f.ReadAt(make([]byte, 1), 0)
	_, sizeErr := f.Size()
	_, writeErr := f.Write([]byte("y"))
	for i, err := range []error{readErr, sizeErr, writeErr, f.Sync(), f.Allocate(9)} {
		if !errors.Is(err, ErrPowerCut) {
			t.Errorf("operation %d: %v, want %v", i, err, ErrPowerCut)
		}
	}
}

// TestErrors: what the operating system refuses is refused, and is no step.
func TestErrors(t *testing.T) {
	base := TempDir(t)
	dir := base + "/d"
	must(t, os.Mkdir(dir, vfs.DirMode))
	d := NewDisk(t, dir, 0, 0)
	f := durable(t, d, dir+"/a", "x")
	steps := d.Steps()
	_, existErr := d.Create(dir + "/a")
	_, missingErr := d.Open(dir + "/b")
	for i, err := range []error{existErr, missingErr, d.Rename(dir+"/b", dir+"/c"), d.Remove(dir + "/b"), d.SyncDir(dir + "/b")} {
		if want := []error{fs.ErrExist, fs.ErrNotExist, fs.ErrNotExist, fs.ErrNotExist, fs.ErrNotExist}[i]; !errors.Is(err, want) {
			t.Errorf("operation %d: %v, want %v", i, err, want)
		}
	}
	r, err := d.Open(dir + "/a")
	must(t, err)
	if _, err := r.WriteAt([]byte("y"), 0); err == nil {
		t.Error("a file opened for reading was written")
	}
	must(t, errors.Join(d.Mkdir(dir), d.SyncDir(base), r.Close(), f.Close()))
	if d.Steps() != steps {
		t.Errorf("%d steps of what changed nothing", d.Steps()-steps)
	}
}

// TestSameSeed: the same seed and the same operations leave the same device, however often it is asked, and another seed another one.
func TestSameSeed(t *testing.T) {
	run := func(seed uint64) (*Disk, map[string]string) {
		dir := TempDir(t)
		d := NewDisk(t, dir, seed, 60)
		play(d, dir, "a", rand.New(rand.NewPCG(9, 9)), nil)
		left := TempDir(t)
		d.Restore(left)
		return d, tree(t, left)
	}
	same := true
	_, first := run(0)
	for seed := range uint64(20) {
		d, left := run(seed)
		_, again := run(seed)
		more := TempDir(t)
		d.Restore(more)
		if fmt.Sprint(left) != fmt.Sprint(again) || fmt.Sprint(left) != fmt.Sprint(tree(t, more)) {
			t.Errorf("seed %d left two devices", seed)
		}
		same = same && fmt.Sprint(left) == fmt.Sprint(first)
	}
	if same {
		t.Error("20 seeds left the same device")
	}
}

// TestKill: the next process finds what the killed one wrote, and what it does not sync may be lost with the power.
func TestKill(t *testing.T) {
	content := func(left map[string]string) string { return left["a"] + left["b"] }
	for _, syncs := range []bool{false, true} {
		seen := outcomes(t, func(d *Disk, dir string) {
			f := create(t, d, dir+"/a", "x")
			d.KillAfter(1)
			if err := f.Sync(); !errors.Is(err, ErrKilled) || !d.Dead() {
				t.Fatalf("the sync in which the process was killed: %v", err)
			}
			if _, err := d.Create(dir + "/b"); !errors.Is(err, ErrKilled) {
				t.Fatalf("after the process was killed: %v", err)
			}
			must(t, d.Restart())
			if err := f.Sync(); !errors.Is(err, ErrKilled) {
				t.Fatalf("a file of the killed process: %v", err)
			}
			g, err := d.OpenWrite(dir + "/a")
			must(t, err)
			defer func() { must(t, g.Close()) }()
			b := make([]byte, 1)
			if _, err := g.ReadAt(b, 0); err != nil || b[0] != 'x' {
				t.Fatalf("the next process reads %q, %v", b, err)
			}
			if syncs {
				must(t, errors.Join(g.Sync(), d.SyncDir(dir)))
			}
			d.CutAfter(1)
			if _, err := d.Create(dir + "/c"); !errors.Is(err, ErrPowerCut) {
				t.Fatalf("after the power went: %v", err)
			}
			if d.Restart() == nil {
				t.Fatal("a disk without power was restarted")
			}
		}, content)
		if syncs {
			wantOutcomes(t, seen, "x")
		} else {
			wantOutcomes(t, seen, "x", "\x00", "")
		}
	}
}
