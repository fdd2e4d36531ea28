package boltstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"latchkey/internal/journal"
	"latchkey/store"
)

// A snapshot is a place among the records of the journal: it knows those up to the one that was the last when it was taken. Until somebody
// asks for its list that place is all there is, beside what the index and the tail say that it adds up to. The list is made later of what is
// still there, and of what was handed over: whoever takes copies away (an expunge, the sweep of a removed account) gives them, in the moment
// before nobody finds them any more, to every open snapshot that has no list.

// maxLooks is how often a snapshot that the index overtook is taken again, before one is listed at once.
const maxLooks = 3

// errOvertaken: the index has records from after the snapshot already, so what it counts is not what the snapshot holds; or its counter was
// found wrong before.
var errOvertaken = errors.New("boltstore: the index is ahead of the snapshot")

// maxForeseen bounds the list that is made on the word of a counter; a longer one grows as it is read.
const maxForeseen = 1 << 20

// OpenMaildrop implements store.Maildrops. It reads the account and what is counted for it, and none of its copies.
func (s *Store) OpenMaildrop(ctx context.Context, account store.AccountID) (store.Maildrop, error) {
	for looks := 1; ; looks++ {
		m := &maildrop{s: s, account: account, seen: s.snapshots.open(account)}
		err := m.measure(ctx, s.tail.begin(m))
		if errors.Is(err, errOvertaken) {
			if looks < maxLooks {
				m.release()
				continue
			}
			err = m.makeList(ctx)
		}
		if err != nil {
			m.release()
			return nil, err
		}
		return m, nil
	}
}

// measure reads whether the maildrop may be opened, and what the snapshot adds up to: what the index counts, and the tail's part of it.
func (m *maildrop) measure(ctx context.Context, part tailPart) error {
	return m.s.read(ctx, func(v *view) error {
		a, err := v.account(m.account)
		if err != nil {
			return err
		}
		if a.Suspended {
			return fmt.Errorf("account %d: %w", m.account, store.ErrSuspended)
		}
		applied, err := v.applied()
		if err != nil {
			return err
		}
		if applied.Seq > m.seq || m.s.snapshots.isMiscounted(m.account) {
			return errOvertaken
		}
		u, err := decodeUsage(v.get(bUsage, key8(uint64(m.account))))
		m.stat, m.measured = usageWith(u, part, applied.Seq), true
		return err
	})
}

// makeList makes the list, once. After an error there is none, and the next call tries again.
func (m *maildrop) makeList(ctx context.Context) error {
	switch {
	case m.closed:
		return store.ErrClosed
	case m.listed || m.broken != nil:
		return errors.Join(ctx.Err(), m.broken)
	}
	// While this is held no segment and no file goes: what the list names is pinned before.
	m.s.space.keep.RLock()
	defer m.s.space.keep.RUnlock()
	var found pins
	part := m.s.tail.look(m.account).upTo(m.seq)
	var list []listing
	err := m.s.read(ctx, func(v *view) (err error) {
		list, err = m.gather(v, part, &found)
		return err
	})
	if err == nil {
		err = found.pin(m.s, list)
	}
	if err != nil {
		found.release(m.s)
		return err
	}
	// What went between the look at the tail and that at the index has been handed over by now.
	handed, fetched := m.s.tail.leave(m)
	m.pins.join(m.s, &found)
	m.list, m.listed = withHanded(list, handed, m.last), true
	for _, ids := range fetched {
		markFetched(m.list, ids)
	}
	return m.compareStat()
}

// compareStat compares the list with what was counted. Where the counter is wrong this snapshot has no list: it would not be what the client was
// told. The next one does not believe the counter.
func (m *maildrop) compareStat() error {
	var sum store.Usage
	for i := range m.list {
		sum.Octets += m.list[i].size
		sum.Messages++
	}
	if !m.measured {
		m.stat = sum
	}
	if sum == m.stat {
		return nil
	}
	m.broken = fmt.Errorf("boltstore: account %d: %d messages of %d octets are listed, and %d of %d were counted",
		m.account, sum.Messages, sum.Octets, m.stat.Messages, m.stat.Octets)
	m.list, m.listed = nil, false
	m.s.log.Error("the messages of a mailbox were counted wrong: its next session lists them first", "account", uint64(m.account), "error", m.broken)
	m.s.snapshots.miscounted(m.account)
	return m.broken
}

// gather lists what of the snapshot the index and the tail have.
func (m *maildrop) gather(v *view, part tailPart, found *pins) ([]listing, error) {
	applied, err := v.applied()
	if err != nil {
		return nil, err
	}
	over := overlayOf(part, applied.Seq)
	list := make([]listing, 0, min(max(m.stat.Messages, 0), maxForeseen)+int64(len(over.copies)))
	err = v.eachCopy(m.account, func(l *listing) bool {
		if l.id > m.last {
			return false
		}
		if over.isGone(l.id) {
			return true
		}
		list = append(list, *l)
		if l.large() {
			if r, err := v.shared(l.message); err == nil { // without one the message is damaged, and no other
				found.body(m.s, l.message, r.body)
			}
		}
		return true
	})
	for i := range over.copies {
		c := &over.copies[i]
		if over.isGone(c.id) {
			continue
		}
		list = append(list, c.listing)
		if c.large != nil {
			found.body(m.s, c.message, *c.large)
		}
	}
	for i := range over.quits {
		markFetched(list, over.quits[i].fetched)
	}
	return list, err
}

// markFetched marks those of a list's copies that are among ids. Both ascend.
func markFetched(list []listing, ids []store.CopyID) {
	for _, id := range ids {
		i, ok := findCopy(list, id)
		if ok {
			list[i].flags |= copyFetched
		}
		list = list[i:]
	}
}

// withHanded adds to a list what was handed over of the copies up to last. Some may be in both: then the list knows better whether they were
// fetched than the session that deleted them did.
func withHanded(list []listing, handed [][]listing, last store.CopyID) []listing {
	n := len(list)
	for _, some := range handed {
		for i := range some {
			if some[i].id <= last {
				list = append(list, some[i])
			}
		}
	}
	if len(list) == n {
		return list
	}
	slices.SortStableFunc(list, func(a, b listing) int { return cmp.Compare(a.id, b.id) })
	return slices.CompactFunc(list, func(a, b listing) bool { return a.id == b.id })
}

// eachCopy calls each for the account's copies in order of arrival, until it returns false. It shows all of them in one place.
func (v *view) eachCopy(account store.AccountID, each func(*listing) bool) (err error) {
	l := new(listing)
	v.scan(bCopies, key8(uint64(account)), nil, func(key, value []byte) bool {
		if err = l.decode(key, value); err != nil {
			return false
		}
		return each(l)
	})
	return err
}

// handOver gives copies that go to the open snapshots that have no list and hold them. from pins what they name. z.mu is held, so that no
// snapshot is taken or listed meanwhile. It reads and writes nothing.
func (z *tail) handOver(s *Store, account store.AccountID, going []listing, from *pins) {
	for _, m := range z.unlisted[account] {
		if len(going) > 0 && going[0].id <= m.last {
			m.handed = append(m.handed, going)
			m.pins.borrow(s, from, going)
		}
	}
}

// handFetched tells the open snapshots that have no list which of the copies that go were fetched before: the session that deletes them need not
// know, and nobody else will when the transaction of the index that calls this is durable. If it fails this is no less true.
func (z *tail) handFetched(account store.AccountID, ids []store.CopyID) {
	if len(ids) == 0 {
		return
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, m := range z.unlisted[account] {
		if ids[0] <= m.last {
			m.fetched = append(m.fetched, ids)
		}
	}
}

// handOverSwept is handOver for copies of a removed account that the next transaction of the index takes away.
func (s *Store) handOverSwept(v *view, account store.AccountID, going []listing) error {
	if !s.tail.hasUnlisted(account) { // and it will not: the account cannot be opened any more
		return nil
	}
	var kept pins
	defer kept.release(s)
	for i := range going {
		if l := &going[i]; l.large() {
			if r, err := v.shared(l.message); err == nil {
				kept.body(s, l.message, r.body)
			}
		}
	}
	if err := kept.pin(s, going); err != nil {
		return err
	}
	s.tail.mu.Lock()
	defer s.tail.mu.Unlock()
	s.tail.handOver(s, account, going, &kept)
	return nil
}

// begin puts a snapshot at the end of what is durable, and returns the part of the tail that concerns it. Until leave it is handed what goes.
func (z *tail) begin(m *maildrop) tailPart {
	z.mu.Lock()
	defer z.mu.Unlock()
	m.seq, m.last = z.last, z.lastCopy
	z.unlisted[m.account] = append(z.unlisted[m.account], m)
	return z.part(m.account)
}

// leave ends what begin began, and returns what was handed over, and of what it was told that it was fetched. The snapshot's pins are its own from
// then on. It may be called twice.
func (z *tail) leave(m *maildrop) (handed [][]listing, fetched [][]store.CopyID) {
	z.mu.Lock()
	defer z.mu.Unlock()
	all := z.unlisted[m.account]
	if i := slices.Index(all, m); i >= 0 {
		all = slices.Delete(all, i, i+1)
	}
	if z.unlisted[m.account] = all; len(all) == 0 {
		delete(z.unlisted, m.account)
	}
	handed, fetched = m.handed, m.fetched
	m.handed, m.fetched = nil, nil
	return handed, fetched
}

func (z *tail) hasUnlisted(account store.AccountID) bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	return len(z.unlisted[account]) > 0
}

// pin pins the segments of a list.
func (p *pins) pin(s *Store, list []listing) error {
	for i := range list {
		if err := p.segment(s, list[i].segment); err != nil && !errors.Is(err, journal.ErrGone) {
			return err // one that is gone is damage, of these messages alone
		}
	}
	return nil
}
