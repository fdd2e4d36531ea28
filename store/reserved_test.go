package store

import (
	"errors"
	"testing"
)

func TestValidReservation(t *testing.T) {
	for octets, ok := range map[int64]bool{-1: false, 0: true, MaxMessageSize: true, MaxMessageSize + 1: false} {
		if err := ValidReservation(octets); (err == nil) != ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%d octets: %v", octets, err)
		}
	}
}

// TestReserved: the book adds up, each id counts once, and nothing is left of what was removed.
func TestReserved(t *testing.T) {
	r := Reserved{Max: 3}
	add := func(account AccountID, octets int64) ReservationID {
		t.Helper()
		id, err := r.Add(account, octets)
		if err != nil || id == 0 {
			t.Fatalf("id %d, %v", id, err)
		}
		return id
	}
	want := func(one, two Usage) {
		t.Helper()
		if r.In(1) != one || r.In(2) != two || r.Domain() != one.Plus(two) || r.In(3) != (Usage{}) {
			t.Errorf("reserved %+v and %+v, in all %+v; want %+v and %+v", r.In(1), r.In(2), r.Domain(), one, two)
		}
	}
	r.Remove(1) // of an empty book
	want(Usage{}, Usage{})
	a, b, c := add(1, 100), add(1, 0), add(2, 7)
	if a == b || b == c || a == c {
		t.Errorf("ids %d, %d and %d are not different", a, b, c)
	}
	want(Usage{100, 2}, Usage{7, 1})
	if id, err := r.Add(2, 1); !errors.Is(err, ErrBound) || id != 0 {
		t.Errorf("beyond the bound: %d, %v", id, err)
	}
	want(Usage{100, 2}, Usage{7, 1})
	r.Remove(a, a, 0, a+100)
	want(Usage{0, 1}, Usage{7, 1})
	d := add(2, 5)
	if d == a {
		t.Error("an id was given twice")
	}
	r.Remove(b, c, d)
	want(Usage{}, Usage{})
	if len(r.held) != 0 || len(r.in) != 0 {
		t.Errorf("left over: %d reservations, %d accounts", len(r.held), len(r.in))
	}
	var other Reserved
	if id, err := other.Add(1, 1); err != nil || id == a || id == b || id == c || id == d {
		t.Errorf("another book gives id %d (%v), which is known", id, err)
	}
}
