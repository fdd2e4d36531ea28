package main

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// maxLooks is how often a data directory is gone through that changes under the look, until it is given up.
const maxLooks = 100

// place is where some octets lie. The file is held by its descriptor, because a running server renames its files.
type place struct {
	file *os.File
	off  int64
}

// flipOctets turns over the bits of some octets that a data directory keeps: of every place, in any file but the index, that holds the
// needle. It looks at no name and no format, so it works on whatever an engine keeps bodies in. At least one place must be found. undo
// turns them back; who wrote to the places meanwhile fails the test.
func flipOctets(t testing.TB, dir string, needle []byte) (undo func()) {
	t.Helper()
	places, closePlaces, err := findOctets(dir, needle)
	t.Cleanup(closePlaces)
	if err != nil {
		t.Fatal(err)
	}
	if len(places) == 0 {
		t.Fatalf("no file in %s holds %.60q", dir, needle)
	}
	turned := slices.Clone(needle)
	for i := range turned {
		turned[i] ^= 0xff
	}
	change := func(from, to []byte) {
		t.Helper()
		for _, p := range places {
			is := make([]byte, len(from))
			_, err := p.file.ReadAt(is, p.off)
			if err == nil && !bytes.Equal(is, from) {
				t.Fatalf("%s has %.60q at %d, want %.60q", p.file.Name(), is, p.off, from)
			}
			if err == nil {
				_, err = p.file.WriteAt(to, p.off)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	change(needle, turned)
	return func() { t.Helper(); change(turned, needle) }
}

// findOctets returns all places of the needle. A look during which a file vanished is begun again: the file may have got a name that the
// look had passed. The caller calls closePlaces, also after an error.
func findOctets(dir string, needle []byte) (places []place, closePlaces func(), err error) {
	var files []*os.File
	closePlaces = func() {
		for _, f := range files {
			_ = f.Close() // what was written is read by others at once
		}
		places, files = nil, nil
	}
	for range maxLooks {
		closePlaces()
		err = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() || filepath.Base(name) == "mail.db" {
				return err
			}
			f, err := os.OpenFile(name, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			files = append(files, f)
			found, err := octetsIn(f, needle)
			if err != nil || isAmong(places, f) {
				return err
			}
			places = append(places, found...)
			return nil
		})
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return places, closePlaces, err
}

func octetsIn(f *os.File, needle []byte) (places []place, err error) {
	data, err := io.ReadAll(f)
	for off := 0; ; {
		i := bytes.Index(data[off:], needle)
		if i < 0 {
			return places, err
		}
		places = append(places, place{f, int64(off + i)})
		off += i + 1
	}
}

// isAmong reports whether places has the file already, by another name.
func isAmong(places []place, f *os.File) bool {
	mine, err := f.Stat()
	return err == nil && slices.ContainsFunc(places, func(p place) bool {
		theirs, err := p.file.Stat()
		return err == nil && os.SameFile(mine, theirs)
	})
}

// TestFlipOctets: a file that is renamed again and again is found each time, once, and turned and turned back.
func TestFlipOctets(t *testing.T) {
	dir := t.TempDir()
	names := []string{filepath.Join(dir, "0000000000000002.new"), filepath.Join(dir, "0000000000000001.seg")}
	const needle, text = "the needle", "hay the needle hay the needle hay"
	if err := errors.Join(os.WriteFile(names[0], []byte(text), 0o600), os.WriteFile(filepath.Join(dir, "other"), []byte("hay"), 0o600)); err != nil {
		t.Fatal(err)
	}
	quit, done := make(chan struct{}), make(chan error, 1)
	stop := sync.OnceValue(func() error { close(quit); return <-done })
	defer func() { _ = stop() }() // looked at below, unless the test has failed before
	go func() {
		for i := 0; ; i = 1 - i {
			select {
			case <-quit:
				done <- nil
				return
			default:
			}
			if err := os.Rename(names[i], names[1-i]); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 100 {
		flipOctets(t, dir, []byte(needle))()
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	undo := flipOctets(t, dir, []byte(needle))
	places, closePlaces, err := findOctets(dir, []byte(needle))
	closePlaces()
	if err != nil || len(places) != 0 {
		t.Errorf("%d places are left (%v), want none", len(places), err)
	}
	undo()
	places, closePlaces, err = findOctets(dir, []byte(needle))
	closePlaces()
	if err != nil || len(places) != 2 {
		t.Errorf("%d places after undo (%v), want 2", len(places), err)
	}
}
