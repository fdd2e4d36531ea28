package vfstest

import (
	"slices"
	"sync"
	"testing"
	"time"

	"latchkey/internal/vfs"
)

// gateTimeout is how long a test waits for an operation that never comes.
const gateTimeout = 20 * time.Second

// Trace is a vfs.FS that notes the operations, and can hold some of them up.
type Trace struct {
	hook

	mu   sync.Mutex
	ops  []Op
	gate *Gate
	done func(Op, error)
}

var _ vfs.FS = (*Trace)(nil)

// NewTrace returns an FS on under that notes every operation that changes something.
func NewTrace(under vfs.FS) *Trace {
	t := &Trace{}
	t.hook = hook{under: under, before: t.begins, after: t.ended}
	return t
}

func (t *Trace) begins(op Op) error {
	t.mu.Lock()
	g := t.gate
	if op.Kind.Changes() {
		t.ops = append(t.ops, op)
	}
	t.mu.Unlock()
	if g != nil && slices.Contains(g.kinds, op.Kind) {
		select {
		case g.entered <- op:
		case <-g.gone:
			return nil
		}
		select {
		case <-g.pass:
		case <-g.gone:
		}
	}
	return nil
}

func (t *Trace) ended(op Op, err error) {
	t.mu.Lock()
	done := t.done
	t.mu.Unlock()
	if done != nil {
		done(op, err)
	}
}

// Ops returns the operations that began so far, in order; those that only read are not noted.
func (t *Trace) Ops() []Op {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.ops)
}

// Count returns how many operations of these kinds began.
func (t *Trace) Count(kinds ...Kind) (n int) {
	for _, op := range t.Ops() {
		if slices.Contains(kinds, op.Kind) {
			n++
		}
	}
	return n
}

// Forget forgets the operations noted so far.
func (t *Trace) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ops = nil
}

// Done makes f hear of every operation when it is done and has not returned yet; nil ends it.
func (t *Trace) Done(f func(Op, error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done = f
}

// Hold makes operations of these kinds wait at a gate, until it is opened or the test ends. There is one gate at a time.
func (t *Trace) Hold(tb testing.TB, kinds ...Kind) *Gate {
	g := &Gate{t: t, tb: tb, kinds: kinds, entered: make(chan Op), pass: make(chan struct{}), gone: make(chan struct{})}
	g.open = sync.OnceFunc(func() {
		t.mu.Lock()
		if t.gate == g {
			t.gate = nil
		}
		t.mu.Unlock()
		close(g.gone)
	})
	t.mu.Lock()
	t.gate = g
	t.mu.Unlock()
	tb.Cleanup(g.open)
	return g
}

// Gate is where operations of a [Trace] wait. Its methods belong to the test's goroutine, and fail the test after a while.
type Gate struct {
	t       *Trace
	tb      testing.TB
	kinds   []Kind
	entered chan Op
	pass    chan struct{}
	gone    chan struct{}
	open    func()
}

// Wait waits until an operation stands at the gate, and returns it.
func (g *Gate) Wait() Op {
	g.tb.Helper()
	select {
	case op := <-g.entered:
		return op
	case <-time.After(gateTimeout):
		g.tb.Fatalf("no operation of the kinds %q came", g.kinds)
		return Op{}
	}
}

// Pass lets the operation go that Wait returned.
func (g *Gate) Pass() {
	g.tb.Helper()
	select {
	case g.pass <- struct{}{}:
	case <-time.After(gateTimeout):
		g.tb.Fatalf("no operation of the kinds %q waits", g.kinds)
	}
}

// Open lets everything go, now and from now on. It may be called twice.
func (g *Gate) Open() { g.open() }
