package store

import (
	"encoding/json"
	"errors"
	"math"
	"testing"
)

func TestMessageID(t *testing.T) {
	for id, want := range map[MessageID]string{1: "0000000000000001", 0x2a: "000000000000002a", math.MaxUint64: "ffffffffffffffff"} {
		if got := id.String(); got != want {
			t.Errorf("id %d is written %q, want %q", uint64(id), got, want)
		}
		if got, err := ParseMessageID(want); err != nil || got != id {
			t.Errorf("%q reads as %d (%v), want %d", want, uint64(got), err, uint64(id))
		}
	}
	for _, bad := range []string{"", "2a", "0000000000000000", "00000000000000001", "000000000000001", "000000000000000g", "+000000000000001", "0x00000000000001", "0000_00000000001"} {
		if got, err := ParseMessageID(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q reads as %d (%v), want %v", bad, uint64(got), err, ErrInvalid)
		}
	}
}

func TestMessageIDInJSON(t *testing.T) {
	type record struct{ ID MessageID }
	b, err := json.Marshal(record{0x2a})
	if want := `{"ID":"000000000000002a"}`; err != nil || string(b) != want {
		t.Errorf("marshals to %s (%v), want %s", b, err, want)
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil || r.ID != 0x2a {
		t.Errorf("unmarshals to %d (%v)", uint64(r.ID), err)
	}
	if err := json.Unmarshal([]byte(`{"ID":"2a"}`), &r); err == nil || r.ID != 0x2a {
		t.Errorf("a short id was taken as %d", uint64(r.ID))
	}
}

// TestUniqueID: one width, so that every client takes it (RFC 1939 §7: 1 to 70 characters), and ascending with epoch, then id.
func TestUniqueID(t *testing.T) {
	ascending := []string{
		UniqueID(0, 1), UniqueID(1, 1), UniqueID(1, 2), UniqueID(1, 0xabc), UniqueID(1, math.MaxUint64), UniqueID(2, 1), UniqueID(math.MaxUint32, math.MaxUint64),
	}
	if want := "000000010000000000000abc"; ascending[3] != want {
		t.Errorf("unique-id %q, want %q", ascending[3], want)
	}
	for i, id := range ascending {
		if len(id) != 24 || i > 0 && id <= ascending[i-1] {
			t.Errorf("unique-id %q after %q", id, ascending[max(i-1, 0)])
		}
	}
}
