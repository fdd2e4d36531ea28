package maildrop

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"time"

	"latchkey/guard"
	"latchkey/pop3"
	"latchkey/store"
)

const (
	// inventoryEvery is how often what was seen of clients is written down.
	inventoryEvery = time.Minute
	// maxInventory bounds the clients that are kept until then; further ones are not noted.
	maxInventory = store.MaxNotedClients
	// maxPlaces bounds the places of which it is remembered what program comes there; beyond it all are forgotten.
	maxPlaces = 10_000
)

// Inventory gathers which clients use which mailbox, for all doors of a process, and writes it down every minute, never while a client waits. What
// was seen since the last time is lost in a crash. It keeps neither arguments of commands nor names that clients give themselves.
type Inventory struct {
	clients store.Clients
	log     *slog.Logger

	mu     sync.Mutex // protects what follows; never held during I/O
	seen   map[clientKey]store.Client
	places map[clientKey]*program // by keys without a program
	lost   int                    // sessions for which there was no room
}

// clientKey is what store.Client.Same compares.
type clientKey struct {
	account                               store.AccountID
	program, door, mechanism, tls, device string
}

func keyOf(c store.Client) clientKey {
	return clientKey{c.Account, c.Program, c.Door, c.Mechanism, c.TLS, c.Device}
}

// NewInventory returns an inventory that is kept in clients. Its Run writes it down. A nil logger discards what goes wrong.
func NewInventory(clients store.Clients, log *slog.Logger) *Inventory {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Inventory{clients: clients, log: log, seen: map[clientKey]store.Client{}, places: map[clientKey]*program{}}
}

// Note adds what was seen. It does not wait for the store, and keeps what [store.Client.Cleaned] returns.
func (v *Inventory) Note(c store.Client) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.add(c.Cleaned())
}

// add is Note under the lock.
func (v *Inventory) add(c store.Client) {
	key := keyOf(c)
	before, known := v.seen[key]
	switch {
	case known:
		c = before.With(c)
	case len(v.seen) >= maxInventory:
		v.lost++
		return
	}
	v.seen[key] = c
}

// notePOP3 adds a POP3 session that said these commands. One that ended before it showed what it is, as nothing had come, is taken for the program
// that used the mailbox in the same way before, if it began like that.
func (v *Inventory) notePOP3(c store.Client, commands []string) {
	p, text := programOf(commands)
	v.mu.Lock()
	defer v.mu.Unlock()
	place := keyOf(c)
	if p == nil {
		if before := v.places[place]; before != nil && before.mayBegin(text) {
			p = before
		}
	} else {
		if len(v.places) >= maxPlaces {
			clear(v.places)
		}
		v.places[place] = p
	}
	if c.Program = text; p != nil {
		c.Program = p.name
	}
	v.add(c.Cleaned())
}

// Run writes down what was seen every minute until ctx ends; what is seen after that is left for Close.
func (v *Inventory) Run(ctx context.Context) {
	ticker := time.NewTicker(inventoryEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			v.flush(context.WithoutCancel(ctx))
		case <-ctx.Done():
			return
		}
	}
}

// Close writes down what is left. Call it when Run and all sessions have ended and the store is still open.
func (v *Inventory) Close() { v.flush(context.Background()) }

// flush writes down what was seen. What the store does not take now is kept for the next time.
func (v *Inventory) flush(ctx context.Context) {
	v.mu.Lock()
	seen := make([]store.Client, 0, len(v.seen))
	for _, c := range v.seen {
		seen = append(seen, c)
	}
	lost := v.lost
	clear(v.seen)
	v.lost = 0
	v.mu.Unlock()
	if lost > 0 {
		v.log.Warn("more clients were seen than are noted at once", "sessions_not_noted", lost)
	}
	if len(seen) == 0 {
		return
	}
	err := v.clients.NoteClients(ctx, seen)
	if err == nil {
		return
	}
	v.log.Error("what was seen of clients could not be written down", "clients", len(seen), "err", err)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range seen {
		v.add(c)
	}
}

// noted tells the inventory of a session that is over, if it had its maildrop.
func (s *session) noted(c *pop3.Conn) {
	m := s.drop
	if s.inventory == nil || m == nil {
		return
	}
	seen := store.Client{
		Account: s.who.Account, Door: s.door, Mechanism: s.mechanism, Device: s.who.DeviceName,
		Address: guard.Unmap(c.RemoteAddr()),
		First:   m.view.now, Last: m.view.now, Sessions: 1, Fetched: int64(m.fetches + m.wholeTops), Deleted: int64(m.deleted),
	}
	if state, secure := c.TLS(); secure {
		seen.TLS = tls.VersionName(state.Version)
	}
	if m.keeps {
		seen.Keeps = 1
	}
	s.inventory.notePOP3(seen, c.Commands())
}
