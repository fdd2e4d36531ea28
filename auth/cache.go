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
	// maxPrevious is how many changes of a credential back a password is known as one that was right, previousAge for how long after it was
	// verified. It is remembered for that, but lets nobody in.
	maxPrevious = 3
	previousAge = 30 * 24 * time.Hour
)

// cache remembers that a password was right, so that a client that polls every minute does not cost an Argon2id run every minute.
// It also knows by that which passwords were right before a change. It holds keyed hashes only, and the key dies with the process. The credential's version is part of what is hashed: after a change
// nothing that was remembered can match.
type cache struct {
	key [32]byte

	mu      sync.Mutex // protects the fields below
	entries map[[32]byte]*list.Element
	order   *list.List // oldest last; values are cached
}

type cached struct {
	mark [32]byte
	at   time.Time // when it was verified
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
	return c.within(now, maxCachedAge, c.mark(account, version, password))
}

// had reports whether this password was verified for an earlier version of the account's credential, and so, if it is
// wrong now, is one before a change.
func (c *cache) had(now time.Time, account store.AccountID, version uint64, password string) bool {
	for back := uint64(1); back <= maxPrevious && back < version; back++ {
		if c.within(now, previousAge, c.mark(account, version-back, password)) {
			return true
		}
	}
	return false
}

// within reports whether a mark is there that is younger than age.
func (c *cache) within(now time.Time, age time.Duration, mark [32]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[mark]
	return ok && now.Sub(e.Value.(cached).at) < age
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
	c.entries[mark] = c.order.PushFront(cached{mark, now})
}

func (c *cache) remove(e *list.Element) {
	delete(c.entries, c.order.Remove(e).(cached).mark)
}
