package boltstore

import (
	"context"
	"errors"
	"fmt"
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
	refs     map[store.MessageID]uint64 // references that copies and jobs hold to what is shared
	segments map[uint64]live            // what copies, jobs and shared records need
	records  []checkedRecord
	bodies   []checkedBody
	lost     map[store.MessageID]string // messages that cannot be read, and why
}

type checkedBody struct {
	id store.MessageID
	body
}

// checkedRecord is a message's record in the journal that somebody needs.
type checkedRecord struct {
	id store.MessageID
	where
	octets int64
}

// Check implements store.Store. The index is brought up to date and looked at in one read transaction; bodies are read after it, one after
// the other.
func (s *Store) Check(ctx context.Context) ([]store.Problem, error) {
	c := newChecker(s)
	stuck := s.settle(ctx, true)
	if err := c.pages(ctx); err != nil || len(c.problems) > 0 {
		return c.problems, err // what a broken index says cannot be trusted
	}
	if stuck == nil {
		stuck = c.holdings(ctx)
	}
	if stuck != nil && (ctx.Err() != nil || errors.Is(stuck, store.ErrClosed)) {
		return nil, stuck
	}
	if stuck != nil {
		c.found(store.ProblemReference, journalName, "its records do not fit the index: %v", stuck)
	}
	err := s.read(ctx, func(v *view) error {
		for _, check := range []func(*view){
			c.accounts, c.aliases, c.usage, c.copies, c.condemned, c.jobs, c.sharedRecords, c.liveOctets, c.trail, c.counts, c.sessions,
			c.grants, c.clients, c.devices, c.habits, c.ids, c.rest,
		} {
			check(v)
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(c.headers(ctx), c.readAll(ctx), c.tellLost(ctx)); err != nil {
		return nil, err
	}
	return c.problems, c.orphans(ctx)
}

// pages lets bbolt look at its own pages. That needs the list of free pages to stand still, so the committer waits meanwhile.
func (c *checker) pages(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	db := c.s.index()
	tx, err := db.Begin(true)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		if db == c.s.index() {
			return store.ErrClosed
		}
		return c.pages(ctx) // compacted meanwhile
	}
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	for err := range tx.Check() {
		c.found(store.ProblemIndex, indexName, "%v", err)
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
		err := id.readable(key, value)
		if err == nil {
			err = check(key, value)
		}
		if err != nil {
			c.found(store.ProblemRecord, fmt.Sprintf("%s %x", id, key), "%v", err)
		}
		return len(c.problems) < maxProblems
	})
}

func accountObject(id uint64) string { return fmt.Sprintf("account %d", id) }

func (c *checker) accounts(v *view) {
	lent := make(map[string]struct{})
	settings, err := v.settings()
	if err != nil {
		c.found(store.ProblemRecord, "meta settings", "%v", err)
	}
	c.each(v, bAccounts, func(key, value []byte) error {
		a, err := decodeAccount(value)
		if err != nil {
			return err
		}
		if uint64(a.ID) != id8(key) {
			c.found(store.ProblemReference, accountObject(id8(key)), "its record is that of account %d", a.ID)
		}
		_, wrong := oldClients(a, settings)
		for _, text := range wrong {
			c.found(store.ProblemReference, accountObject(id8(key)), "%s", text)
		}
		if b := v.get(bAccountNames, []byte(a.Name)); string(b) != string(key) {
			c.found(store.ProblemReference, accountObject(id8(key)), "its name %q does not lead to it", a.Name)
		}
		for _, addr := range a.SendAs {
			place := lentKey(addr, c.s.domain, a.ID)
			if lent[string(place)] = struct{}{}; !v.has(bLent, place) {
				c.found(store.ProblemReference, accountObject(id8(key)), "it may send as %s, and cannot be found by that", addr)
			}
		}
		return nil
	})
	c.counted(v, bLent, uint64(len(lent)))
	c.each(v, bAccountNames, func(key, value []byte) error {
		if len(value) != 8 {
			return errShortRecord
		}
		if !v.has(bAccounts, value) {
			c.found(store.ProblemReference, fmt.Sprintf("name %q", key), "account %d does not exist", id8(value))
		}
		return nil
	})
}

func (c *checker) aliases(v *view) {
	places := 0
	c.each(v, bAliases, func(key, value []byte) error {
		alias, err := decodeAlias(key, value)
		if err == nil {
			err = alias.Validate()
		}
		if v.has(bAccountNames, key) {
			c.found(store.ProblemReference, fmt.Sprintf("alias %q", key), "an account has the same name")
		}
		for _, id := range alias.Targets {
			places++
			target := key8(uint64(id))
			if !v.has(bAccounts, target) || !v.has(bAliasTargets, append(target, key...)) {
				c.found(store.ProblemReference, fmt.Sprintf("alias %q", key), "target %d is not an account that knows it", id)
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
		c.found(store.ProblemCounter, id.String(), "%d entries, counted %d", got, want)
	}
}

func (c *checker) usage(v *view) {
	c.each(v, bUsage, func(key, value []byte) error {
		want, err := decodeUsage(value)
		if err != nil {
			return err
		}
		if !v.has(bAccounts, key) {
			c.found(store.ProblemReference, "usage of "+accountObject(id8(key)), "the account does not exist")
		}
		var got store.Usage
		err = v.eachCopy(store.AccountID(id8(key)), func(l *listing) bool {
			got.Octets += l.size
			got.Messages++
			return true
		})
		if got != want {
			c.found(store.ProblemCounter, "usage of "+accountObject(id8(key)), "%+v noted, %+v found", want, got)
		}
		return err
	})
}

func (c *checker) copies(v *view) {
	c.each(v, bCopies, func(key, value []byte) error {
		l, err := decodeListing(key, value)
		if err != nil {
			return err
		}
		object := fmt.Sprintf("copy %d of account %d", id8(key[8:]), id8(key))
		if owner := key[:8]; !v.has(bAccounts, owner) && !v.has(bCondemned, owner) {
			c.found(store.ProblemReference, object, "the account does not exist")
		}
		c.held(v, object, l.message, l.where(), l.octets(), l.flags)
		return nil
	})
}

// held notes that a copy or a job needs a message's record.
func (c *checker) held(v *view, object string, id store.MessageID, w where, octets int64, flags uint8) {
	if flags&copyShared == 0 {
		c.need(id, w, octets)
		return
	}
	c.refs[id]++
	r, err := v.shared(id)
	switch {
	case err != nil:
		c.found(store.ProblemReference, object, "%v", err)
	case r.where != w || r.octets != octets || r.large != (flags&copyLarge != 0):
		c.found(store.ProblemReference, object, "it is at %+v with %d octets, what it shares at %+v with %d", w, octets, r.where, r.octets)
	}
}

// need notes a record that is needed once.
func (c *checker) need(id store.MessageID, w where, octets int64) {
	l := c.segments[w.segment]
	l.Messages++
	l.Octets += octets
	c.segments[w.segment] = l
	c.records = append(c.records, checkedRecord{id: id, where: w, octets: octets})
}

func (c *checker) condemned(v *view) {
	c.each(v, bCondemned, func(key, _ []byte) error {
		if v.has(bAccounts, key) {
			c.found(store.ProblemReference, accountObject(id8(key)), "it is removed and present")
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
		if !j.Held {
			due++
			if !v.has(bDue, dueKey(&j.Job)) {
				c.found(store.ProblemReference, object, "it is not held, and not in the order of time")
			}
		}
		c.held(v, object, j.Message, j.where, j.octets(), j.flags)
		return nil
	})
	c.counted(v, bDue, due)
}

func (c *checker) sharedRecords(v *view) {
	c.each(v, bBodies, func(key, value []byte) error {
		r, err := decodeShared(value)
		if err != nil {
			return err
		}
		id := store.MessageID(id8(key))
		if refs := c.refs[id]; refs != r.Refs {
			c.found(store.ProblemCounter, "message "+id.String(), "%d references noted, %d found", r.Refs, refs)
		}
		c.need(id, r.where, r.octets)
		if r.large {
			c.bodies = append(c.bodies, checkedBody{id: id, body: r.body})
		}
		return nil
	})
}

// liveOctets compares what of the segments is needed with what the index says.
func (c *checker) liveOctets(v *view) {
	c.each(v, bSegments, func(key, value []byte) error {
		l, err := decodeLive(value)
		if found := c.segments[id8(key)]; l != found {
			c.found(store.ProblemCounter, fmt.Sprintf("segment %d", id8(key)), "%+v noted, %+v found", l, found)
		}
		delete(c.segments, id8(key))
		return err
	})
	for segment, l := range c.segments {
		c.found(store.ProblemCounter, fmt.Sprintf("segment %d", segment), "nothing noted, %+v found", l)
	}
}

// trail reads every event, and asks the filters for what they have to know.
func (c *checker) trail(v *view) {
	var k trailChecker
	for _, id := range []bucketID{bTrail, bTrailOpen} {
		err := v.eachTrail(id, func(p *pieces) error {
			if err := k.check(id, p); err != nil {
				c.found(store.ProblemRecord, fmt.Sprintf("%s %d", id, p.last), "%v", err)
			}
			return nil
		})
		if err != nil {
			c.found(store.ProblemRecord, id.String(), "%v", err)
		}
	}
	if t, err := decodeTally(v.get(bMeta, []byte(metaTally))); err == nil && t.Open != k.open {
		c.found(store.ProblemCounter, bTrailOpen.String(), "%d octets noted, counted %d", t.Open, k.open)
	}
}

func (c *checker) counts(v *view) {
	t, err := decodeTally(v.get(bMeta, []byte(metaTally)))
	if err != nil {
		c.found(store.ProblemRecord, "meta tally", "%v", err)
		return
	}
	c.counted(v, bAudit, t.Entries)
	c.counted(v, bSessions, t.Sessions)
	c.counted(v, bSessionOrder, t.Sessions)
}

func (c *checker) sessions(v *view) {
	c.each(v, bSessionOrder, func(key, _ []byte) error {
		if !v.has(bSessions, key[12:]) {
			c.found(store.ProblemReference, "session", "it is in the order of time only")
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
			c.found(store.ProblemReference, object, "account %d does not exist", g.Account)
		}
		if uint64(g.ID) > t.Grant {
			c.found(store.ProblemCounter, object, "it exists, the last one reserved is %d", t.Grant)
		}
		return nil
	})
}

func (c *checker) clients(v *view) {
	k := clientSeeker{v: v}
	c.each(v, bClients, func(key, value []byte) error {
		client, err := decodeClient(key, value)
		if err != nil {
			return err
		}
		if why := k.stray(key, client); why != "" {
			c.found(store.ProblemReference, clientObject(key), "%s", why)
		}
		return nil
	})
}

func (c *checker) devices(v *view) {
	t, err := decodeTally(v.get(bMeta, []byte(metaTally)))
	if err != nil {
		return // reported before
	}
	k := deviceSeeker{v: v}
	c.each(v, bDevices, func(key, value []byte) error {
		d, err := decodeDevice(key, value)
		if err != nil {
			return err
		}
		if why := k.stray(d); why != "" {
			c.found(store.ProblemReference, deviceObject(d), "%s", why)
		}
		if uint64(d.ID) > t.Device {
			c.found(store.ProblemCounter, deviceObject(d), "it exists, the last one noted is %d", t.Device)
		}
		return nil
	})
}

func (c *checker) habits(v *view) {
	c.each(v, bHabits, func(key, value []byte) error {
		if _, err := decodeHabit(key, value); err != nil {
			return err
		}
		if !v.has(bAccounts, key[:8]) {
			c.found(store.ProblemReference, habitObject(key), "account %d does not exist", id8(key))
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
	}{{bAccounts, t.Account}, {bBodies, t.Message}, {bJobs, t.Job}, {bTrail, t.Trail}, {bTrailOpen, t.Trail}, {bAudit, t.Audit}} {
		if key, _ := v.bucket(last.bucket).Cursor().Last(); len(key) >= 8 && id8(key) > last.given {
			c.found(store.ProblemCounter, last.bucket.String(), "id %d exists, the last one noted is %d", id8(key), last.given)
		}
	}
	c.each(v, bCopies, func(key, _ []byte) error {
		if id := id8(key[8:]); id > t.Copy {
			c.found(store.ProblemCounter, "copies", "id %d exists, the last one noted is %d", id, t.Copy)
		}
		return nil
	})
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
		c.found(store.ProblemOrphan, "body "+t.String(), "no message names it")
	}
	return nil
}
