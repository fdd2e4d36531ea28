package smtp

import (
	"context"
	"sync"
)

// registry knows every connection and every transfer of a server, so that stopping it reaches all of them: go-smtp's own Shutdown
// leaves idle clients alone, and its Close closes nothing after that.
type registry struct {
	mu       sync.Mutex // protects what follows
	wires    map[*wire]struct{}
	holds    int
	draining bool
	// idle is closed when there is nothing left; it is made by wait.
	idle chan struct{}
}

func newRegistry() *registry { return &registry{wires: make(map[*wire]struct{})} }

// add registers a new connection; false means that the server is stopping.
func (r *registry) add(w *wire) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		return false
	}
	r.wires[w] = struct{}{}
	return true
}

func (r *registry) remove(w *wire) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.wires, w)
	r.settle()
}

// hold counts work that may outlive its connection; release ends it.
func (r *registry) hold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holds++
}

func (r *registry) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holds--
	r.settle()
}

// settle is called with mu held.
func (r *registry) settle() {
	if r.idle != nil && len(r.wires) == 0 && r.holds == 0 {
		close(r.idle)
		r.idle = nil
	}
}

// drain refuses new connections and tells the present ones to end when they are idle.
func (r *registry) drain() {
	for _, w := range r.stop() {
		w.drain()
	}
}

// abort closes all connections at once.
func (r *registry) abort() {
	for _, w := range r.stop() {
		_ = w.abort() // it is lost either way
	}
}

func (r *registry) stop() []*wire {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
	wires := make([]*wire, 0, len(r.wires))
	for w := range r.wires {
		wires = append(wires, w)
	}
	return wires
}

// wait returns nil when nothing is left, or the context's error.
func (r *registry) wait(ctx context.Context) error {
	r.mu.Lock()
	if r.idle == nil {
		r.idle = make(chan struct{})
	}
	idle := r.idle
	r.settle()
	r.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
