package pop3

import (
	"context"
	"sync"
)

// work is the context of what a backend does for a login. The client is watched from the moment in which somebody waits for the end of the
// context, as a queue of logins does: most are answered at once, and to watch the client for that would cost more than the answer.
type work struct {
	context.Context
	conn *Conn

	mu     sync.Mutex // protects the fields below
	busy   bool       // between begin and end: there the serving goroutine does not read
	wanted bool       // somebody waits
	stop   func()     // ends a watch; nil without
}

// newWork returns the connection's own context, with a watch: when the client goes away, all is over.
func (c *Conn) newWork() *work { return &work{Context: c.ctx, conn: c} }

// Done implements context.Context.
func (w *work) Done() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted = true
	w.watch()
	return w.Context.Done()
}

// watch begins a watch if there should be one. w.mu is held.
func (w *work) watch() {
	if w.busy && w.wanted && w.stop == nil {
		w.stop = w.conn.watch()
	}
}

// begin is called before a backend's turn, and end after it.
func (w *work) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy = true
	w.watch()
}

func (w *work) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy = false
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}
