package store

import (
	"fmt"
	"math/rand/v2"
)

// MaxReservations bounds the reservations of a store that are held at once. Each costs some hundred octets of memory.
const MaxReservations = 100_000

// Reserved is the book of an engine's reservations: what each maildrop and the domain must keep free. The zero value is an empty book. It
// is not safe for concurrent use: the engine guards it with the lock under which it charges copies.
type Reserved struct {
	// Max bounds the reservations; 0 is MaxReservations.
	Max int

	last   ReservationID
	held   map[ReservationID]reservation
	in     map[AccountID]Usage
	domain Usage
}

type reservation struct {
	account AccountID
	room    Usage
}

// ValidReservation reports a size that no message has; it wraps ErrInvalid.
func ValidReservation(octets int64) error {
	if octets < 0 || octets > MaxMessageSize {
		return fmt.Errorf("%w: room is reserved for 0 to %d octets", ErrInvalid, int64(MaxMessageSize))
	}
	return nil
}

// Add notes room for one message of octets octets, or returns ErrBound. Whether there is room was asked before.
func (r *Reserved) Add(account AccountID, octets int64) (ReservationID, error) {
	most := r.Max
	if most == 0 {
		most = MaxReservations
	}
	if len(r.held) >= most {
		return 0, fmt.Errorf("%w: %d reservations are held", ErrBound, most)
	}
	if r.held == nil {
		r.held, r.in = make(map[ReservationID]reservation), make(map[AccountID]Usage)
		r.last = ReservationID(rand.Uint64() >> 1) // an id of an earlier process names nothing here
	}
	r.last++
	room := Usage{Octets: octets, Messages: 1}
	r.held[r.last] = reservation{account, room}
	r.in[account] = r.in[account].Plus(room)
	r.domain = r.domain.Plus(room)
	return r.last, nil
}

// Remove forgets reservations; those that are not held change nothing.
func (r *Reserved) Remove(ids ...ReservationID) {
	for _, id := range ids {
		v, ok := r.held[id]
		if !ok {
			continue
		}
		delete(r.held, id)
		r.domain = r.domain.Minus(v.room)
		if left := r.in[v.account].Minus(v.room); left == (Usage{}) {
			delete(r.in, v.account)
		} else {
			r.in[v.account] = left
		}
	}
}

// In returns what is reserved in one maildrop.
func (r *Reserved) In(account AccountID) Usage { return r.in[account] }

// Domain returns what is reserved in all maildrops.
func (r *Reserved) Domain() Usage { return r.domain }
