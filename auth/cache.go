package auth

import (
	"container/list"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"latchkey/store"
)

// Bounds of the cache of successful verifications.
const (
	maxCached    = 4096
	maxCachedAge = time.Hour
)

// cache remembers that a password was right, so that a client that polls every minute does not cost an Argon2id run every minute.
// It holds keyed hashes only, and the key dies with the process. The credential's version is part of what is hashed: after a change
// nothing that was remembered can match.
type cache struct {
	key [32]byte

	mu      sync.Mutex // protects the fields below
	entries map[[32]byte]*list.Element
	order   *list.List // oldest last; values are cached
}

type cached struct {
	mark  [32]byte
	until time.Time
}

func newCache() *cache {
	c := &cache{entries: map[[32]byte]*list.Element{}, order: list.New()}
	_, _ = rand.Read(c.key[:]) // never fails: crypto/rand ends the process instead
	return c
}

func (c *cache) mark(account store.AccountID, version uint64, password string) [32]byte {
	h := hmac.New(sha256.New, c.key[:])
	h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(account)), version))
	h.Write([]byte(password))
	return [32]byte(h.Sum(nil))
}

// has reports whether this password was verified for this account and version lately.
func (c *cache) has(now time.Time, account store.AccountID, version uint64, password string) bool {
	mark := c.mark(account, version, password)
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[mark]
	if !ok {
		return false
	}
	if !now.Before(e.Value.(cached).until) {
		c.remove(e)
		return false
	}
	return true
}

func (c *cache) put(now time.Time, account store.AccountID, version uint64, password string) {
	mark := c.mark(account, version, password)
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[mark]; ok {
		c.remove(e)
	}
	if len(c.entries) >= maxCached {
		c.remove(c.order.Back())
	}
	c.entries[mark] = c.order.PushFront(cached{mark, now.Add(maxCachedAge)})
}

func (c *cache) remove(e *list.Element) {
	delete(c.entries, c.order.Remove(e).(cached).mark)
}
