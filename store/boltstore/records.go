package boltstore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"latchkey/store"
)

// PutSecret implements store.Secrets.
func (s *Store) PutSecret(ctx context.Context, name string, blob []byte) error {
	if len(name) == 0 || len(name) > store.MaxSecretName {
		return fmt.Errorf("%w: a secret's name has 1 to %d octets", store.ErrInvalid, store.MaxSecretName)
	}
	if len(blob) > store.MaxSecretSize {
		return fmt.Errorf("%w: a secret has at most %d octets", store.ErrBound, store.MaxSecretSize)
	}
	blob = slices.Clone(blob)
	return s.submit(ctx, &request{octets: len(blob), apply: func(t *txn) error {
		t.put(bSecrets, []byte(name), blob)
		return nil
	}})
}

// Secret implements store.Secrets.
func (s *Store) Secret(ctx context.Context, name string) (blob []byte, err error) {
	err = s.read(ctx, func(v *view) error {
		b := v.get(bSecrets, []byte(name))
		if b == nil {
			return fmt.Errorf("secret: %w", store.ErrNotFound)
		}
		blob = slices.Clone(b)
		return nil
	})
	return blob, err
}

// RemoveSecret implements store.Secrets.
func (s *Store) RemoveSecret(ctx context.Context, name string) error {
	return s.write(ctx, func(t *txn) error {
		if !t.has(bSecrets, []byte(name)) {
			return fmt.Errorf("secret: %w", store.ErrNotFound)
		}
		t.delete(bSecrets, []byte(name))
		return nil
	})
}

// expiredPerPut bounds how many web sessions that have ended one new session removes.
const expiredPerPut = 16

func sessionOrderKey(expires time.Time, token []byte) []byte {
	return append(timeKey(expires), token...)
}

// PutWebSession implements store.WebSessions.
func (s *Store) PutWebSession(ctx context.Context, w store.WebSession) error {
	if len(w.Data) > store.MaxWebSessionSize {
		return fmt.Errorf("%w: a session has at most %d octets", store.ErrBound, store.MaxWebSessionSize)
	}
	var e encoder
	e.time(w.Expires)
	e.bytes(w.Data)
	return s.submit(ctx, &request{octets: len(e.b), apply: func(t *txn) error {
		t.removeSession(w.Token[:])
		t.pruneSessions(s.now())
		t.put(bSessions, w.Token[:], e.b)
		t.put(bSessionOrder, sessionOrderKey(w.Expires, w.Token[:]), nil)
		t.tally.Sessions++
		return nil
	}})
}

// pruneSessions makes room for one session: those that have ended go, a few at a time, and beyond the bound the one that ends first.
func (t *txn) pruneSessions(now time.Time) {
	var old [][]byte
	t.scan(bSessionOrder, nil, nil, func(key, _ []byte) bool {
		full := t.tally.Sessions-uint64(len(old)) >= t.s.bounds.sessions
		if !full && (timeOfKey(key).After(now) || len(old) >= expiredPerPut) {
			return false
		}
		old = append(old, slices.Clone(key[12:]))
		return true
	})
	for _, token := range old {
		t.removeSession(token)
	}
}

func (t *txn) removeSession(token []byte) {
	b := t.get(bSessions, token)
	if b == nil {
		return
	}
	d := decoder{b: b}
	order := sessionOrderKey(d.time(), token)
	t.fail(d.err)
	t.delete(bSessionOrder, order)
	t.delete(bSessions, token)
	t.tally.Sessions--
}

// WebSession implements store.WebSessions.
func (s *Store) WebSession(ctx context.Context, now time.Time, token [32]byte) (store.WebSession, error) {
	w := store.WebSession{Token: token}
	err := s.read(ctx, func(v *view) error {
		b := v.get(bSessions, token[:])
		if b == nil {
			return fmt.Errorf("session: %w", store.ErrNotFound)
		}
		d := decoder{b: b}
		w.Expires, w.Data = d.time(), d.bytes()
		if d.err == nil && !now.Before(w.Expires) {
			return fmt.Errorf("session: %w", store.ErrNotFound)
		}
		return d.err
	})
	if err != nil {
		return store.WebSession{}, err
	}
	return w, nil
}

// RemoveWebSession implements store.WebSessions.
func (s *Store) RemoveWebSession(ctx context.Context, token [32]byte) error {
	return s.write(ctx, func(t *txn) error {
		t.removeSession(token[:])
		return nil
	})
}

// maxAuditText bounds each text of an audit entry, in octets.
const maxAuditText = 64 << 10

// prunedAudit bounds how many old entries one new entry removes.
const prunedAudit = 4

// AppendAudit implements store.Audit.
func (s *Store) AppendAudit(ctx context.Context, a store.AuditEntry) error {
	for _, text := range []string{a.Actor, a.Action, a.Object, a.Before, a.After} {
		if len(text) > maxAuditText {
			return fmt.Errorf("%w: a text of an audit entry has at most %d octets", store.ErrInvalid, maxAuditText)
		}
	}
	return s.write(ctx, func(t *txn) error {
		t.tally.Audit++
		t.tally.Entries++
		a.Seq = t.tally.Audit
		t.put(bAudit, key8(a.Seq), encodeAudit(&a))
		for range prunedAudit {
			if t.tally.Entries <= s.bounds.entries {
				break
			}
			key, _ := t.bucket(bAudit).Cursor().First()
			t.delete(bAudit, slices.Clone(key))
			t.tally.Entries--
		}
		return nil
	})
}

func encodeAudit(a *store.AuditEntry) []byte {
	var e encoder
	e.uint64(a.Seq)
	e.time(a.Time)
	e.string(a.Actor)
	e.addr(a.Remote)
	for _, text := range []string{a.Action, a.Object, a.Before, a.After} {
		e.string(text)
	}
	return e.b
}

func decodeAudit(b []byte) (store.AuditEntry, error) {
	d := decoder{b: b}
	a := store.AuditEntry{Seq: d.uint64(), Time: d.time(), Actor: d.string(), Remote: d.addr()}
	a.Action, a.Object, a.Before, a.After = d.string(), d.string(), d.string(), d.string()
	return a, d.err
}

// ListAudit implements store.Audit.
func (s *Store) ListAudit(ctx context.Context, before uint64, limit int) (entries []store.AuditEntry, err error) {
	err = s.read(ctx, func(v *view) error {
		c := v.bucket(bAudit).Cursor()
		key, value := c.Last()
		if key != nil && before > 0 && id8(key) >= before {
			// There is a key at or above before, so the one that precedes it is the newest wanted.
			c.Seek(key8(before))
			key, value = c.Prev()
		}
		for ; key != nil && len(entries) < limit; key, value = c.Prev() {
			a, err := decodeAudit(value)
			if err != nil {
				return err
			}
			entries = append(entries, a)
		}
		return nil
	})
	return entries, err
}
