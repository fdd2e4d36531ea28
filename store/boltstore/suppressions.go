package boltstore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// perSuppression is about what one record takes in a transaction, in octets.
const perSuppression = 300

func suppressionKey(a mailaddr.Address) []byte { return []byte(a.String()) }

func encodeSuppression(s *store.Suppression) []byte {
	var e encoder
	e.mailbox(s.Address)
	e.uvarint(uint64(s.Failures))
	e.time(s.First)
	e.time(s.Last)
	e.time(s.Until)
	e.bool(s.Manual)
	e.string(s.Reason)
	return e.b
}

func decodeSuppression(key, b []byte) (store.Suppression, error) {
	d := decoder{b: b}
	s := store.Suppression{
		Address: d.mailbox(), Failures: int(d.uvarint()), First: d.time(), Last: d.time(), Until: d.time(), Manual: d.bool(), Reason: d.string(),
	}
	if d.err == nil && (s.Validate() != nil || s.Address.String() != string(key)) {
		d.fail()
	}
	return s, d.err
}

// suppression returns the record of an address; known is false if there is none.
func (v *view) suppression(a mailaddr.Address) (s store.Suppression, known bool, err error) {
	key := suppressionKey(a)
	b := v.get(bSuppressions, key)
	if b == nil {
		return store.Suppression{}, false, nil
	}
	s, err = decodeSuppression(key, b)
	return s, err == nil, err
}

func (v *view) suppressions(after string, limit int) (list []store.Suppression, err error) {
	v.scan(bSuppressions, nil, []byte(after), func(key, value []byte) bool {
		if len(list) >= limit {
			return false
		}
		if string(key) == after {
			return true
		}
		var s store.Suppression
		if s, err = decodeSuppression(key, value); err != nil {
			return false
		}
		list = append(list, s)
		return true
	})
	return list, err
}

// putSuppressions writes records beside those that there are, and takes out what is too much.
func (t *txn) putSuppressions(all []store.Suppression, added map[string]store.Suppression, now time.Time) {
	all = slices.DeleteFunc(all, func(s store.Suppression) bool {
		_, again := added[s.Address.String()]
		return again
	})
	for _, s := range added {
		all = append(all, s)
	}
	for _, s := range store.SurplusSuppressions(all, now) {
		delete(added, s.Address.String())
		if key := suppressionKey(s.Address); t.has(bSuppressions, key) {
			t.delete(bSuppressions, key)
		}
	}
	for key, s := range added {
		t.put(bSuppressions, []byte(key), encodeSuppression(&s))
	}
}

// NoteFailures implements store.Suppressions.
func (s *Store) NoteFailures(ctx context.Context, failures []store.Failure) error {
	if err := store.ValidateFailures(failures); err != nil {
		return err
	}
	failures = slices.Clone(failures)
	return s.submit(ctx, &request{octets: perSuppression * len(failures), apply: func(t *txn) error {
		all, err := t.suppressions("", store.MaxSuppressions+store.MaxNotedFailures)
		if err != nil {
			return err
		}
		added := make(map[string]store.Suppression, len(failures))
		var now time.Time
		for _, f := range failures {
			known, again := added[f.Address.String()]
			if !again {
				if known, _, err = t.suppression(f.Address); err != nil {
					return err
				}
			}
			added[f.Address.String()] = known.Failed(f)
			if f.At.After(now) {
				now = f.At
			}
		}
		t.putSuppressions(all, added, now)
		return nil
	}})
}

// PutSuppression implements store.Suppressions.
func (s *Store) PutSuppression(ctx context.Context, now time.Time, one store.Suppression) error {
	if err := one.Validate(); err != nil {
		return err
	}
	return s.write(ctx, func(t *txn) error {
		all, err := t.suppressions("", store.MaxSuppressions+store.MaxNotedFailures)
		if err != nil {
			return err
		}
		manual := 0
		for i := range all {
			if all[i].Manual && all[i].Address != one.Address {
				manual++
			}
		}
		if manual >= store.MaxSuppressions {
			return fmt.Errorf("%w: at most %d suppressions by hand", store.ErrBound, store.MaxSuppressions)
		}
		t.putSuppressions(all, map[string]store.Suppression{one.Address.String(): one}, now)
		return nil
	})
}

// Suppression implements store.Suppressions.
func (s *Store) Suppression(ctx context.Context, address mailaddr.Address) (one store.Suppression, err error) {
	err = s.read(ctx, func(v *view) error {
		var known bool
		if one, known, err = v.suppression(address); err == nil && !known {
			return fmt.Errorf("suppression of %s: %w", address, store.ErrNotFound)
		}
		return err
	})
	return one, err
}

// ListSuppressions implements store.Suppressions.
func (s *Store) ListSuppressions(ctx context.Context, after string, limit int) (list []store.Suppression, err error) {
	err = s.read(ctx, func(v *view) (err error) {
		list, err = v.suppressions(after, limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// RemoveSuppression implements store.Suppressions.
func (s *Store) RemoveSuppression(ctx context.Context, address mailaddr.Address) error {
	key := suppressionKey(address)
	return s.release(ctx, func(t *txn) error {
		if !t.has(bSuppressions, key) {
			return fmt.Errorf("suppression of %s: %w", address, store.ErrNotFound)
		}
		t.delete(bSuppressions, key)
		return nil
	})
}
