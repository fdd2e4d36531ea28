package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestConcurrent reads, scans, pins and frees while groups are written.
func TestConcurrent(t *testing.T) {
	w := newWorld(t, 1)
	must(t, w.open())
	j := w.j
	var done atomic.Bool
	var work sync.WaitGroup
	var freed atomic.Uint64
	for i := range 3 {
		work.Go(func() {
			for !done.Load() {
				list, _, _ := j.Segments()
				for _, s := range list {
					p, err := j.Pin(s.Generation)
					if errors.Is(err, ErrGone) && s.Generation <= freed.Load() {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					b := make([]byte, headerUsed)
					if _, err := p.ReadAt(b, 0); err != nil {
						t.Error(err)
					}
					if h, bad := parseHeader(b); bad != "" || h.generation != s.Generation {
						t.Errorf("segment %d is another while it is pinned: %v, %s", s.Generation, h, bad)
					}
					p.Release()
					if i > 0 {
						continue
					}
					err = j.Scan(context.Background(), s.Generation, func(Record) error { return nil })
					if err != nil && !errors.Is(err, ErrGone) {
						t.Error(err)
					}
				}
			}
		})
	}
	for n := 0; n < 600 && !t.Failed(); n++ {
		must(t, w.append(n%3000, false), w.append(10, true), w.commit())
		if g := j.Durable().Generation; n%5 == 0 && g > 4 && freed.Load() < g-3 {
			next := freed.Load() + 1
			freed.Store(next)
			w.freed[next] = true
			must(t, j.Free(next))
		}
	}
	done.Store(true)
	work.Wait()
	w.verify()
	w.shut()
}

// TestOpenIsStopped: by its context, or by the one who is given the records.
func TestOpenIsStopped(t *testing.T) {
	w := damaged(t)
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	stop := errors.New("stop")
	for name, test := range map[string]struct {
		ctx  context.Context
		each func(Record) error
		want error
	}{
		"each":    {context.Background(), func(Record) error { return stop }, stop},
		"context": {ctx, func(Record) error { n++; cancel(); return nil }, context.Canceled},
	} {
		if _, err := Open(test.ctx, dir, Mark{}, w.options, test.each); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
		if w.disk.files() != 0 {
			t.Errorf("%s: %d files are open", name, w.disk.files())
		}
	}
	if n != 1 {
		t.Errorf("%d records after the context ended", n)
	}
}

// TestFailureIsLoggedOnce, not each second.
func TestFailureIsLoggedOnce(t *testing.T) {
	w := newWorld(t, 1)
	var log strings.Builder
	w.options.Logger = slog.New(slog.NewTextHandler(&log, nil))
	must(t, w.open())
	for _, err := range []error{syscall.EMFILE, syscall.ENOSPC, nil, syscall.EMFILE, nil} {
		var tried atomic.Bool
		w.disk.failBy(func(_ int, what op, _ string) error {
			if what == opCreate {
				tried.Store(true)
				return err
			}
			return nil
		})
		for n := 0; n < 2 || err != nil && !tried.Load() && n < 10; n++ { // one that was made in time is used up first
			w.pass(retryDelay)
			_ = w.append(16<<10, false) // needs one more segment, or another
			w.settleDown()
			if n < 2 {
				w.discard()
			} else {
				_ = w.commit()
			}
		}
		if err == nil {
			must(t, w.append(30<<10, false), w.commit())
		}
	}
	if errs, again := strings.Count(log.String(), "level=ERROR"), strings.Count(log.String(), "could be made again"); errs != 2 || again != 2 {
		t.Fatalf("%d errors, %d ends:\n%s", errs, again, fmt.Sprint(&log))
	}
	w.shut()
}
