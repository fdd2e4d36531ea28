package boltstore

import (
	"errors"
	"testing"

	"latchkey/internal/journal"
	"latchkey/store"
)

// TestSweepInSteps: the copies of a removed account go in bounded steps, and until the last of them is gone the index knows that it is to be
// swept, so that a crash in between forgets nothing.
func TestSweepInSteps(t *testing.T) {
	const gone, segment = store.AccountID(77), 1 << 40
	for _, tt := range []struct{ copies, steps int }{{sweptPerTxn - 1, 1}, {sweptPerTxn, 1}, {sweptPerTxn + 1, 2}, {3*sweptPerTxn + 1, 4}} {
		s, _ := fresh(t, Options{})
		noError(t, s.write(t.Context(), func(t *txn) error {
			for i := range tt.copies {
				t.putCopy(gone, &listing{id: store.CopyID(i + 1), message: store.MessageID(i + 1), size: 10, segment: segment})
			}
			t.live(segment, int64(tt.copies), int64(10*tt.copies))
			t.put(bCondemned, key8(uint64(gone)), nil)
			return nil
		}))
		noError(t, s.write(t.Context(), func(tx *txn) error {
			more, err := tx.sweepAccount(gone)
			noError(t, err)
			known := tx.has(bCondemned, key8(uint64(gone)))
			if want := tt.steps > 1; more != want || known != want {
				t.Errorf("%d copies: after one step there is more: %v, and it is known: %v, want %v", tt.copies, more, known, want)
			}
			return nil
		}))
		s.condemn(gone)
		sweepAll(t, s)
		left := 0
		noError(t, s.read(t.Context(), func(v *view) error {
			v.scan(bCopies, key8(uint64(gone)), nil, func(_, _ []byte) bool { left++; return true })
			if v.has(bCondemned, key8(uint64(gone))) {
				t.Errorf("%d copies: the account is to be swept still", tt.copies)
			}
			return nil
		}))
		if n := s.space.usage().Messages; left != 0 || n != 0 {
			t.Errorf("%d copies: %d are left, %d messages are needed", tt.copies, left, n)
		}
	}
}

// TestMailOfARemovedAccount: a record that comes to the index after the removal of one of its accounts makes no copy for it, and deletes
// nothing of it; the others get theirs.
func TestMailOfARemovedAccount(t *testing.T) {
	s, _ := fresh(t, Options{})
	const gone, first = store.AccountID(77), store.CopyID(5000)
	m := &messageEntry{
		id: 1000, firstCopy: first, received: s.now(), body: body{size: 10}, place: journal.Place{Generation: 1 << 40, Offset: 5000, Size: 10},
		holders: []holder{{account: gone, address: mustAddress("gone@" + domain)}, {account: 1, address: mustAddress("anna@" + domain)}},
	}
	undone := errors.New("undone")
	err := s.write(t.Context(), func(tx *txn) error {
		m.apply(tx)
		(&expungeEntry{account: gone, at: s.now(), deleted: []store.CopyID{first}}).apply(tx)
		r, err := tx.shared(m.id)
		if err != nil || r.Refs != 1 {
			t.Errorf("%d references, %v, want 1", r.Refs, err)
		}
		if tx.has(bCopies, key16(uint64(gone), uint64(first))) || !tx.has(bCopies, key16(1, uint64(first+1))) || tx.charges[gone] != (store.Usage{}) {
			t.Errorf("the account that is gone is charged %+v; it has a copy, or the other has none", tx.charges[gone])
		}
		return undone
	})
	if !errors.Is(err, undone) {
		t.Errorf("got %v", err)
	}
}
