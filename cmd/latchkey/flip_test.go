package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// flipOctets turns over the bits of some octets that a data directory keeps: of every place, in any file but the index, that holds the
// needle. It looks at no name and no format, so it works on whatever an engine keeps bodies in. At least one place must be found. undo
// turns them back.
func flipOctets(t testing.TB, dir string, needle []byte) (undo func()) {
	t.Helper()
	type place struct {
		name string
		off  int64
	}
	var places []place
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || filepath.Base(name) == "mail.db" {
			return err
		}
		data, err := os.ReadFile(name)
		for off := 0; ; {
			i := bytes.Index(data[off:], needle)
			if i < 0 {
				return err
			}
			places = append(places, place{name, int64(off + i)})
			off += i + 1
		}
	})
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
	write := func(octets []byte) {
		t.Helper()
		for _, p := range places {
			f, err := os.OpenFile(p.name, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.WriteAt(octets, p.off)
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(turned)
	return func() { t.Helper(); write(needle) }
}
