package boltstore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"latchkey/internal/vfs"
	"latchkey/internal/vfs/vfstest"
	"latchkey/store"
	"latchkey/store/storetest"
)

// powerEngine is an engine on a simulated device.
type powerEngine struct {
	engine
	base  string
	disk  *vfstest.Disk // nil: there is a fresh device in dir
	end   storetest.End
	begun int // steps before this life
	lives int
}

// smallEngine has bounds so small that every kind of step is met in a short history: segments are used again and copied forward, the index is
// compacted, and the tail is full now and then.
func smallEngine(fs vfs.FS) Options {
	o := Options{fs: fs, journal: smallSegments()}.withDefaults()
	o.bounds.compact, o.bounds.tailEntries = 32<<10, 40
	return o
}

func newPowerEngine(t *testing.T) storetest.PowerEngine {
	e := &powerEngine{base: vfstest.TempDir(t)}
	e.dir = filepath.Join(e.base, "0")
	if err := Init(t.Context(), e.dir, store.DefaultSettings(storetest.Domain), e.o); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *powerEngine) PowerOn(t *testing.T, end storetest.End) (store.Store, error) {
	if e.disk == nil {
		e.disk = vfstest.NewDisk(t, e.dir, end.Seed, 0)
	} else if err := e.disk.Restart(); err != nil {
		t.Fatal(err)
	}
	if e.end, e.begun = end, e.disk.Steps(); end.Killed {
		e.disk.KillAfter(end.Step)
	} else {
		e.disk.CutAfter(end.Step)
	}
	s, err := Open(context.WithoutCancel(t.Context()), e.dir, smallEngine(e.disk))
	if e.s = s; err != nil {
		return nil, err
	}
	return s, nil
}

func (e *powerEngine) Dead() bool { return e.disk.Dead() }

func (e *powerEngine) PowerOff(t *testing.T) storetest.Life {
	life := storetest.Life{Steps: e.disk.Steps() - e.begun, Last: fmt.Sprintf("%+v", e.disk.Last())}
	if e.end.Killed {
		e.disk.Kill()
	} else {
		e.disk.Cut()
	}
	if e.s != nil {
		_ = e.s.Close() // of a process that is no more
	}
	if e.end.Killed {
		return life
	}
	e.lives++
	e.dir = filepath.Join(e.base, strconv.Itoa(e.lives))
	e.disk.Restore(e.dir)
	e.disk = nil
	return life
}

func (e *powerEngine) Look(t *testing.T) store.Store {
	dir := filepath.Join(e.base, fmt.Sprint("look", e.lives))
	if err := os.CopyFS(dir, os.DirFS(e.dir)); err != nil {
		t.Fatal(err)
	}
	return openData(t, dir, smallEngine(nil))
}

func TestPowerFailure(t *testing.T) { storetest.RunPowerFailure(t, newPowerEngine) }

func FuzzPowerFailure(f *testing.F) { storetest.FuzzPowerFailure(f, newPowerEngine) }
