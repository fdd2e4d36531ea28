package webmanager

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"sync"
	"time"
)

const (
	// CeremonyTime is how long somebody may take to make a passkey, or to show one.
	CeremonyTime = 5 * time.Minute
	// maxSpent bounds the tickets that are remembered because they were used, each for CeremonyTime at most; beyond it none is taken.
	maxSpent = 5000
	// ticketSize is that of a ticket in octets: when it was made, in seconds, and randomness.
	ticketSize = 8 + 24
)

// ceremonies give out challenges for passkeys. A challenge is made of a ticket, which whoever was given the challenge brings back with the proof, by a
// key that ends with the process. So nothing is kept of those that were only asked for, however many there are, and whoever makes up a ticket does not
// know its challenge. A ticket is good for one proof: those that were used are kept until their time is over.
type ceremonies struct {
	key [32]byte

	mu    sync.Mutex // protects spent
	spent map[string]time.Time
}

func newCeremonies() *ceremonies {
	c := &ceremonies{spent: map[string]time.Time{}}
	_, _ = rand.Read(c.key[:]) // never fails: crypto/rand ends the process instead
	return c
}

// begin makes a ticket.
func (c *ceremonies) begin(now time.Time) (ticket string) {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, ticketSize), uint64(now.Unix())) //nolint:gosec // a time after 1970
	b = b[:ticketSize]
	_, _ = rand.Read(b[8:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// challenge is that of a ticket, for one purpose; ok is false for a ticket that is none, or whose time is over.
func (c *ceremonies) challenge(now time.Time, ticket, purpose string) (challenge []byte, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(ticket)
	if err != nil || len(b) != ticketSize {
		return nil, false
	}
	age := now.Sub(time.Unix(int64(binary.BigEndian.Uint64(b)), 0)) //nolint:gosec // one that is too large is none of ours
	if age < 0 || age >= CeremonyTime {
		return nil, false
	}
	mac := hmac.New(sha256.New, c.key[:])
	mac.Write(b)
	mac.Write([]byte(purpose))
	return mac.Sum(nil), true
}

// spend uses a ticket up; false if that was done before, or if too many were.
func (c *ceremonies) spend(now time.Time, ticket string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.spent) >= maxSpent {
		for t, until := range c.spent {
			if !now.Before(until) {
				delete(c.spent, t)
			}
		}
	}
	if _, used := c.spent[ticket]; used || len(c.spent) >= maxSpent {
		return false
	}
	c.spent[ticket] = now.Add(CeremonyTime)
	return true
}
