package boltstore

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"latchkey/store"
)

// TestAccountBeforeVacations: a record that was written before mailboxes had vacation answers and a retention of their own is one that has neither;
// one that was cut anywhere else is damaged.
func TestAccountBeforeVacations(t *testing.T) {
	a := store.Account{ID: 7, Name: "anna", Owner: true, Created: time.Unix(1_800_000_000, 0).UTC(), Version: 3}
	whole := encodeAccount(&a)
	const added = 1 + 1 + 4 + 4 + 1 + 1 // days, on, from, until, and the lengths of two texts
	old := whole[:len(whole)-added]
	got, err := decodeAccount(old)
	if err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("%+v, %v, want %+v", got, err, a)
	}
	a.ExpireDays = store.ExpireNever
	a.Vacation = store.Vacation{On: true, From: 2026_07_01, Until: 2026_07_31, Subject: "s", Text: "t"}
	full := encodeAccount(&a)
	if !bytes.HasPrefix(full, old) {
		t.Fatal("the new fields are not the last ones")
	}
	for n := range full {
		if n == len(old) {
			continue
		}
		if _, err := decodeAccount(full[:n]); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%d of %d octets: %v", n, len(full), err)
		}
	}
}
