package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"latchkey/internal/vfs"
)

// scenario does the same things every time, and stops at a failure after which the journal must not be written.
func (w *world) scenario(seed uint64) {
	w.t.Helper()
	rng := rand.New(rand.NewPCG(seed, 3))
	for range 80 {
		err := w.random(rng)
		if w.dead {
			w.mustBeDead(err)
			return
		}
		if err != nil && w.disk.fail == nil {
			w.t.Fatalf("without a fault: %v", err)
		}
	}
}

// mustBeDead: after an error that is not ErrNoSpace nothing is written any more, and reads go on.
func (w *world) mustBeDead(cause error) {
	w.t.Helper()
	w.settleDown()
	steps := w.disk.count()
	if _, _, err := w.j.Append(1, nil, Body{}, true); !errors.Is(err, errPoisoned) {
		w.t.Fatalf("Append after %v: %v", cause, err)
	}
	if _, err := w.j.Commit(); !errors.Is(err, errPoisoned) {
		w.t.Fatalf("Commit after %v: %v", cause, err)
	}
	if w.disk.count() != steps {
		w.t.Fatalf("the disk was touched after %v: %v", cause, w.disk.last)
	}
	if len(w.durable) > 0 && !w.freed[w.last().Generation] {
		p, err := w.j.Pin(w.last().Generation)
		if err != nil {
			w.t.Fatalf("Pin after %v: %v", cause, err)
		}
		p.Release()
	}
}

// TestFaultAtEveryStep lets each operation fail once, then cuts the power, or stops in good order, and looks at what is there.
func TestFaultAtEveryStep(t *testing.T) {
	seeds, stride := uint64(2), 1
	if testing.Short() {
		seeds, stride = 1, 7
	}
	for seed := range seeds {
		w := newWorld(t, seed)
		if err := w.open(); err != nil {
			t.Fatal(err)
		}
		w.scenario(seed)
		w.shut()
		steps := w.disk.count()
		for i, fault := range []error{syscall.EIO, syscall.ENOSPC, syscall.EMFILE} {
			for at := 1 + 2*i%stride; at <= steps; at += stride {
				faultAt(t, seed, at, fault)
			}
		}
	}
}

func faultAt(t *testing.T, seed uint64, at int, fault error) {
	t.Helper()
	w := newWorld(t, seed)
	var hit string
	w.disk.failBy(func(step int, what op, name string) error {
		if step == at {
			hit = fmt.Sprintf("seed %d, step %d: %s %s: %v", seed, step, what, name, fault)
			return fault
		}
		return nil
	})
	defer func() {
		if t.Failed() {
			t.Log(hit)
		}
	}()
	err := w.open()
	if err != nil {
		err = w.open()
	}
	if err != nil {
		t.Fatalf("Open, tried again: %v", err)
	}
	w.scenario(seed)
	w.settleDown()
	w.disk.failBy(nil)
	if !w.dead { // it works again
		w.pass(2 * retryDelay)
		w.discard()
		if err := w.append(100, false); err != nil && !errors.Is(err, errPoisoned) {
			t.Fatalf("Append after the fault: %v", err)
		}
		if err := w.commit(); err != nil && !errors.Is(err, errPoisoned) {
			t.Fatalf("Commit after the fault: %v", err)
		}
		w.verify()
	}
	if at%2 == 0 {
		w.shut()
	} else {
		_ = w.j.Close()
		w.disk = w.disk.survive(uint64(at), []int{0, 50, 100}[at%3])
	}
	if err := w.open(); err != nil {
		t.Fatalf("Open: %v", err)
	}
	w.verify()
	must(t, w.append(700, false), w.commit()) // what the start before found does not go away any more
	_ = w.j.Close()
	w.disk = w.disk.survive(uint64(at), 0)
	if err := w.open(); err != nil {
		t.Fatalf("Open after a power cut: %v", err)
	}
	w.verify()
	w.shut()
}

// TestFaultInRecovery lets each operation of a start fail, after a crash that left a torn group.
func TestFaultInRecovery(t *testing.T) {
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC} {
		for at := 1; ; at++ {
			w := torn(t)
			hit := false
			w.disk.failBy(func(step int, what op, _ string) error {
				if step == at || hit && what == opRead { // a read may be tried again with less
					hit = true
					return fault
				}
				return nil
			})
			if err := w.open(); !hit {
				if at < 10 {
					t.Fatalf("recovery has %d steps", at)
				}
				w.shut()
				break
			} else if !errors.Is(err, fault) {
				t.Fatalf("step %d: Open: %v, want %v", at, err, fault)
			}
			if w.disk.files() != 0 {
				t.Fatalf("step %d: %d files are open", at, w.disk.files())
			}
			w.disk = w.disk.survive(uint64(at), 50)
			must(t, w.open())
			w.verify()
			w.shut()
		}
	}
}

// torn returns a world after a crash: the last group goes over two segments, and its first record is bad.
func torn(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, 1)
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	must(t, w.append(1000, false), w.commit(), w.append(5000, false), w.append(300, false), w.append(9000, false))
	w.disk.failBy(func(_ int, what op, _ string) error {
		if what == opSync {
			return syscall.EIO
		}
		return nil
	})
	if err := w.commit(); !vfs.IsSync(err) {
		t.Fatalf("Commit: %v", err)
	}
	_ = w.j.Close()
	first := w.disk.names[dir+"/"+fileName(1, segmentSuffix)]
	first.now[w.last().Offset+frameSize+3]++ // in the first record's meta
	first.pending = append(first.pending, pendingWrite{b: first.now[:sector*20]})
	w.disk = w.disk.survive(2, 100)
	return w
}

func must(t rapid.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestNoSpaceInCommit: nothing of a group that found no space comes back, even if the power goes at once.
func TestNoSpaceInCommit(t *testing.T) {
	for seed := range uint64(60) {
		w := newWorld(t, seed)
		must(t, w.open(), w.append(100, false), w.commit())
		must(t, w.append(10, false), w.append(3000, false), w.append(9000, false), w.append(9000, false))
		w.settleDown()
		writes := 0
		w.disk.failBy(func(_ int, what op, _ string) error {
			if what == opWrite {
				if writes++; writes == 2 { // the group's part in the second segment
					return syscall.ENOSPC
				}
			}
			return nil
		})
		if err := w.commit(); !errors.Is(err, ErrNoSpace) || writes != 4 {
			t.Fatalf("Commit: %v after %d writes", err, writes)
		}
		w.disk = w.disk.survive(seed, []int{0, 50, 100}[seed%3])
		old := w.j
		must(t, w.open())
		w.verify()
		w.shut()
		_ = old.Close()
	}
}

// TestNoSpaceAndNoWipe: a group that found no space and cannot be wiped is not said to be gone.
func TestNoSpaceAndNoWipe(t *testing.T) {
	for _, last := range []op{opWrite, opSync} { // the wiping write fails, or its sync
		w := newWorld(t, 1)
		must(t, w.open(), w.append(100, false), w.commit(), w.append(3000, false))
		writes := 0
		w.disk.failBy(func(_ int, what op, _ string) error {
			if what == opWrite {
				writes++
			}
			if what == opWrite && writes == 1 || what == last && writes == 2 {
				return syscall.ENOSPC
			}
			return nil
		})
		err := w.commit()
		if err == nil || errors.Is(err, ErrNoSpace) || writes != 2 {
			t.Fatalf("Commit: %v after %d writes", err, writes)
		}
		w.mustBeDead(err)
		_ = w.j.Close()
	}
}

// TestFullDevice: at the end of what the device has, only records that make room go on, up to the last octet; when there is room again
// everything does, at most a second later.
func TestFullDevice(t *testing.T) {
	w := newWorld(t, 1)
	w.disk.limit(2*16<<10 + 4096)
	must(t, w.open())
	fill := func(frees bool) (n int) {
		t.Helper()
		for {
			err := w.append(100, frees)
			if errors.Is(err, ErrNoSpace) {
				must(t, w.commit())
				return n
			}
			must(t, err, w.commit())
			n++
		}
	}
	if n := fill(false); n < 20 {
		t.Fatalf("%d records", n)
	}
	end := w.last()
	if left := int64(16<<10) - end.Offset; end.Generation != 2 || left < 2<<10 || left > 2<<10+frameSize+300 {
		t.Fatalf("without the reserve it ends at %v", end)
	}
	if n := fill(true); n == 0 {
		t.Fatal("the reserve is of no use")
	}
	if left := int64(16<<10) - w.last().Offset; left > frameSize+300 {
		t.Fatalf("with the reserve it ends at %v", w.last())
	}
	w.settleDown()
	steps := w.disk.count()
	if err := w.append(100, true); !errors.Is(err, ErrNoSpace) || w.disk.count() != steps {
		t.Fatalf("within a second: %v, %d operations", err, w.disk.count()-steps)
	}
	w.disk.limit(1 << 20)
	if err := w.append(100, false); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("within a second: %v", err)
	}
	w.pass(retryDelay - time.Nanosecond)
	if err := w.append(100, false); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("within a second: %v", err)
	}
	w.pass(time.Nanosecond)
	must(t, w.append(100, false), w.commit())
	w.verify()
	w.reopen()
	w.verify()
	w.shut()
}

// TestFullDeviceAtTheStart: even a record that makes room needs a first segment.
func TestFullDeviceAtTheStart(t *testing.T) {
	w := newWorld(t, 1)
	w.disk.limit(16<<10 - 1)
	must(t, w.open())
	if err := w.append(100, true); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("Append: %v", err)
	}
	w.pass(retryDelay)
	w.disk.limit(16 << 10)
	must(t, w.append(100, false), w.commit())
	w.shut()
}

// TestSmallerWhenFull: where no segment of the usual size can be made, a small one is.
func TestSmallerWhenFull(t *testing.T) {
	w := newWorld(t, 1)
	must(t, w.open())
	for range 200 {
		must(t, w.append(4000, false), w.commit())
	}
	list, _, _ := w.j.Segments()
	if last := list[len(list)-1]; last.Size != 64<<10 {
		t.Fatalf("the segments do not grow: %v", list)
	}
	w.disk.limit(20 << 10)
	for {
		err := w.append(4000, false)
		if errors.Is(err, ErrNoSpace) {
			break
		}
		must(t, err, w.commit())
	}
	list, _, _ = w.j.Segments()
	if last := list[len(list)-1]; last.Size != 16<<10 {
		t.Fatalf("the last segment is %v", last)
	}
	w.shut()
}
