package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	bolterrors "go.etcd.io/bbolt/errors"

	"latchkey/store"
)

// maxProblems bounds what one Check reports: a store with more is damaged as a whole.
const maxProblems = 1000

// checker gathers what one Check finds.
type checker struct {
	s        *Store
	problems []store.Problem
	refs     map[store.MessageID]uint64 // references that copies and jobs hold
	bodies   []checkedBody
}

type checkedBody struct {
	id  store.MessageID
	ref bodyRef
}

// Check implements store.Store. The index is looked at in one read transaction; bodies are read after it, one after the other.
func (s *Store) Check(ctx context.Context) ([]store.Problem, error) {
	c := &checker{s: s, refs: make(map[store.MessageID]uint64)}
	if err := c.pages(ctx); err != nil || len(c.problems) > 0 {
		return c.problems, err // what a broken index says cannot be trusted
	}
	err := s.read(ctx, func(v *view) error {
		for _, check := range []func(*view){
			c.accounts, c.aliases, c.usage, c.copies, c.graves, c.jobs, c.bodyRecords, c.trail, c.trailOrder, c.sessions, c.grants, c.ids,
		} {
			check(v)
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	for _, b := range c.bodies {
		if err := c.body(ctx, b); err != nil {
			return nil, err
		}
	}
	return c.problems, c.orphans(ctx)
}

// pages lets bbolt look at its own pages. That needs the list of free pages to stand still, so the committer waits meanwhile.
func (c *checker) pages(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	tx, err := c.s.db.Begin(true)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return store.ErrClosed
	}
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	for err := range tx.Check() {
		c.found("damaged index", indexName, "%v", err)
	}
	return tx.Rollback()
}

func (c *checker) found(kind, object, format string, args ...any) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, store.Problem{Kind: kind, Object: object, Detail: fmt.Sprintf(format, args...)})
	}
}

// each calls check for every entry of a bucket; an error is a record that cannot be read.
func (c *checker) each(v *view, id bucketID, check func(key, value []byte) error) {
	v.scan(id, nil, nil, func(key, value []byte) bool {
		if err := check(key, value); err != nil {
			c.found("damaged record", fmt.Sprintf("%s %x", id, key), "%v", err)
		}
		return len(c.problems) < maxProblems
	})
}

func accountObject(id uint64) string { return fmt.Sprintf("account %d", id) }

func (c *checker) accounts(v *view) {
	c.each(v, bAccounts, func(key, value []byte) error {
		a, err := decodeAccount(value)
		if err != nil {
			return err
		}
		if uint64(a.ID) != id8(key) {
			c.found("dangling reference", accountObject(id8(key)), "its record is that of account %d", a.ID)
		}
		if b := v.get(bAccountNames, []byte(a.Name)); string(b) != string(key) {
			c.found("dangling reference", accountObject(id8(key)), "its name %q does not lead to it", a.Name)
		}
		return nil
	})
	c.each(v, bAccountNames, func(key, value []byte) error {
		if len(value) != 8 {
			return errShortRecord
		}
		if !v.has(bAccounts, value) {
			c.found("dangling reference", fmt.Sprintf("name %q", key), "account %d does not exist", id8(value))
		}
		return nil
	})
}

func (c *checker) aliases(v *view) {
	places := 0
	c.each(v, bAliases, func(key, value []byte) error {
		targets, err := decodeIDs(value)
		if v.has(bAccountNames, key) {
			c.found("dangling reference", fmt.Sprintf("alias %q", key), "an account has the same name")
		}
		for _, id := range targets {
			places++
			target := key8(uint64(id))
			if !v.has(bAccounts, target) || !v.has(bAliasTargets, append(target, key...)) {
				c.found("dangling reference", fmt.Sprintf("alias %q", key), "target %d is not an account that knows it", id)
			}
		}
		return err
	})
	c.counted(v, bAliasTargets, uint64(places))
}

// counted reports a bucket that has not the number of entries that others say.
func (c *checker) counted(v *view, id bucketID, want uint64) {
	got := uint64(0)
	c.each(v, id, func([]byte, []byte) error { got++; return nil })
	if got != want {
		c.found("counter off", id.String(), "%d entries, counted %d", got, want)
	}
}

func (c *checker) usage(v *view) {
	c.each(v, bUsage, func(key, value []byte) error {
		want, err := decodeUsage(value)
		if err != nil {
			return err
		}
		if !v.has(bAccounts, key) {
			c.found("dangling reference", "usage of "+accountObject(id8(key)), "the account does not exist")
		}
		var got store.Usage
		err = v.eachCopy(store.AccountID(id8(key)), func(l listing) { got.Octets += l.size; got.Messages++ })
		if got != want {
			c.found("counter off", "usage of "+accountObject(id8(key)), "%+v noted, %+v found", want, got)
		}
		return err
	})
}

func (c *checker) copies(v *view) {
	c.each(v, bCopies, func(key, value []byte) error {
		r, err := decodeCopy(value)
		if err != nil {
			return err
		}
		object := fmt.Sprintf("copy %d of account %d", id8(key[8:]), id8(key))
		if owner := key[:8]; !v.has(bUsage, owner) && !v.has(bCondemned, owner) {
			c.found("dangling reference", object, "the account has no maildrop")
		}
		body, err := v.body(r.Message)
		if err != nil {
			c.found("dangling reference", object, "%v", err)
		} else if int64(len(r.Prefix))+body.Size != r.Size || r.HeaderLen > r.Size {
			c.found("counter off", object, "%d octets, %d of them header, noted; its parts have %d and %d", r.Size, r.HeaderLen, len(r.Prefix), body.Size)
		}
		c.refs[r.Message]++
		return nil
	})
}

func (c *checker) graves(v *view) {
	c.each(v, bGraves, func(key, _ []byte) error {
		if !v.has(bCopies, key) {
			c.found("dangling reference", fmt.Sprintf("grave of copy %d of account %d", id8(key[8:]), id8(key)), "the copy does not exist")
		}
		return nil
	})
	c.each(v, bCondemned, func(key, _ []byte) error {
		if v.has(bAccounts, key) {
			c.found("dangling reference", accountObject(id8(key)), "it is removed and present")
		}
		return nil
	})
}

func (c *checker) jobs(v *view) {
	due := uint64(0)
	c.each(v, bJobs, func(key, value []byte) error {
		j, err := decodeJob(value)
		if err != nil {
			return err
		}
		object := fmt.Sprintf("job %d", id8(key))
		if _, err := v.body(j.Message); err != nil {
			c.found("dangling reference", object, "%v", err)
		}
		if !j.Held {
			due++
			if !v.has(bDue, dueKey(&j)) {
				c.found("dangling reference", object, "it is not held, and not in the order of time")
			}
		}
		c.refs[j.Message]++
		return nil
	})
	c.counted(v, bDue, due)
}

func (c *checker) bodyRecords(v *view) {
	c.each(v, bBodies, func(key, value []byte) error {
		body, err := decodeBody(value)
		if err != nil {
			return err
		}
		id := store.MessageID(id8(key))
		if refs := c.refs[id]; refs != body.Refs {
			c.found("counter off", "message "+id.String(), "%d references noted, %d found", body.Refs, refs)
		}
		c.bodies = append(c.bodies, checkedBody{id: id, ref: body.bodyRef})
		return nil
	})
}

func (c *checker) trail(v *view) {
	c.each(v, bTrail, func(key, value []byte) error {
		if len(key) != 16 {
			return errShortRecord
		}
		_, err := decodeEvent(value)
		if !v.has(bTrailOrder, key[8:]) {
			c.found("dangling reference", fmt.Sprintf("event %d", id8(key[8:])), "it is not in the order of events")
		}
		return err
	})
}

func (c *checker) trailOrder(v *view) {
	t, err := decodeTally(v.get(bMeta, []byte(metaTally)))
	if err != nil {
		c.found("damaged record", "meta tally", "%v", err)
		return
	}
	c.counted(v, bTrail, t.Events)
	c.counted(v, bTrailOrder, t.Events)
	c.counted(v, bAudit, t.Entries)
	c.counted(v, bSessions, t.Sessions)
	c.counted(v, bSessionOrder, t.Sessions)
}

func (c *checker) sessions(v *view) {
	c.each(v, bSessionOrder, func(key, _ []byte) error {
		if !v.has(bSessions, key[12:]) {
			c.found("dangling reference", "session", "it is in the order of time only")
		}
		return nil
	})
}

func (c *checker) grants(v *view) {
	t, err := decodeTally(v.get(bMeta, []byte(metaTally)))
	if err != nil {
		return // reported before
	}
	c.each(v, bGrants, func(key, value []byte) error {
		g, err := decodeGrant(key, value)
		if err != nil {
			return err
		}
		object := "grant " + g.ID.String()
		if !v.has(bAccounts, key[:8]) {
			c.found("dangling reference", object, "account %d does not exist", g.Account)
		}
		if uint64(g.ID) > t.Grant {
			c.found("counter off", object, "it exists, the last one reserved is %d", t.Grant)
		}
		return nil
	})
}

// ids reports ids that were given out and could be given out again.
func (c *checker) ids(v *view) {
	t, err := decodeTally(v.get(bMeta, []byte(metaTally)))
	if err != nil {
		return // reported above
	}
	for _, last := range []struct {
		bucket bucketID
		given  uint64
	}{{bAccounts, t.Account}, {bBodies, t.Message}, {bJobs, t.Job}, {bTrailOrder, t.Trail}, {bAudit, t.Audit}} {
		if key, _ := v.bucket(last.bucket).Cursor().Last(); key != nil && id8(key) > last.given {
			c.found("counter off", last.bucket.String(), "id %d exists, the last one noted is %d", id8(key), last.given)
		}
	}
	c.each(v, bCopies, func(key, _ []byte) error {
		if id := id8(key[8:]); id > t.Copy {
			c.found("counter off", "copies", "id %d exists, the last one noted is %d", id, t.Copy)
		}
		return nil
	})
}

// body reads one body. One that went meanwhile is no problem if its message went too.
func (c *checker) body(ctx context.Context, b checkedBody) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := c.s.bodies.open(b.ref)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
		err = errors.Join(err, r.Close())
	}
	if err == nil {
		return nil
	}
	gone := false
	if err := c.s.read(ctx, func(v *view) error {
		gone = !v.has(bBodies, key8(uint64(b.id)))
		return nil
	}); err != nil || gone {
		return err
	}
	kind := "unreadable body"
	if errors.Is(err, store.ErrDamaged) {
		kind = "damaged body"
	}
	c.found(kind, "message "+b.id.String(), "%v", err)
	return nil
}

// orphans reports files that no message names. A body is in the index, or flying, or gone at every moment, so one that is seen to be
// neither and is there afterwards is an orphan.
func (c *checker) orphans(ctx context.Context) error {
	tokens, err := c.s.orphans(ctx)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if c.s.bodies.isFlying(t) {
			continue
		}
		f, err := c.s.fs.Open(c.s.bodies.large(t))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return fmt.Errorf("body %s: %w", t, err)
		}
		c.found("orphan body", "body "+t.String(), "no message names it")
	}
	return nil
}
