package boltstore

import (
	"errors"
	"fmt"
	"slices"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// listing is what the index keeps of a copy of the message.
func (m *messageEntry) listing(id store.CopyID, h *holder) listing {
	l := listing{
		id: id, message: m.id, size: m.body.size + h.prefixLen, header: m.headerLen + h.prefixLen,
		sec: m.received.Unix(), nsec: int32(m.received.Nanosecond()), flags: m.flags(),
	}
	if m.utf8 {
		l.flags |= copyUTF8
	}
	l.move(whereOf(m.place, m.metaLen), h)
	return l
}

func (m *messageEntry) flags() (flags uint8) {
	if len(m.holders) > 1 || m.body.large {
		flags |= copyShared
	}
	if m.body.large {
		flags |= copyLarge
	}
	return flags
}

// apply makes the copies, jobs, outcomes and trail events of one message.
func (m *messageEntry) apply(t *txn) {
	t.tally.Message = max(t.tally.Message, uint64(m.id))
	t.event(&store.TrailEvent{
		Message: m.id, Time: m.received, Kind: store.TrailAccepted, Sender: m.sender, HeaderID: m.headerID, Origin: m.origin, Size: m.body.size,
		Subject: m.subject,
	})
	for _, f := range m.failed {
		t.event(m.step(store.TrailLeftOut, f.address, f.why))
	}
	refs := uint64(0)
	c, j := m.firstCopy, m.firstJob
	for i := range m.holders {
		h := &m.holders[i]
		if h.account == 0 {
			m.applyJob(t, j, h)
			j++
			refs++
			continue
		}
		if m.applyCopy(t, c, h) {
			refs++
		}
		c++
	}
	t.tally.Copy, t.tally.Job = max(t.tally.Copy, uint64(c)-1), max(t.tally.Job, uint64(j)-1)
	octets := recordOctets(m.body.size, m.headerLen, m.body.large)
	switch {
	case refs == 0 && m.body.large:
		t.freed = append(t.freed, m.body.token)
	case refs == 0:
	default:
		t.live(m.place.Generation, 1, octets)
		if m.flags()&copyShared != 0 {
			r := sharedRecord{Refs: refs, where: whereOf(m.place, m.metaLen), octets: octets, body: m.body}
			t.put(bBodies, key8(uint64(m.id)), r.encode())
		}
	}
	for i := range m.outcomes {
		t.settle(&m.outcomes[i], m.id)
	}
}

// step is a trail event about one recipient.
func (m *messageEntry) step(kind store.TrailKind, to mailaddr.Address, text string) *store.TrailEvent {
	return &store.TrailEvent{Message: m.id, Time: m.received, Kind: kind, Sender: m.sender, Recipient: to, Text: text}
}

// applyCopy makes one copy, unless its account was removed before it got here.
func (m *messageEntry) applyCopy(t *txn, id store.CopyID, h *holder) bool {
	if !t.exists(h.account) {
		return false
	}
	l := m.listing(id, h)
	t.putCopy(h.account, &l)
	t.charge(h.account, l.size, 1)
	e := m.step(store.TrailStored, h.address, "")
	e.Account = h.account
	t.event(e)
	return true
}

func (t *txn) putCopy(account store.AccountID, l *listing) {
	t.scratch.b = t.scratch.b[:0]
	l.encode(&t.scratch)
	t.put(bCopies, key16(uint64(account), uint64(l.id)), append([]byte(nil), t.scratch.b...))
}

// job is what the index keeps of a delivery that was not tried yet.
func (m *messageEntry) job(id store.JobID, h *holder) jobRecord {
	reversePath := m.sender
	if !h.onward.By.IsZero() {
		reversePath = h.onward.ReversePath
	}
	return jobRecord{where: whereOf(m.place, m.metaLen), flags: m.flags(), Job: store.Job{
		ID: id, Message: m.id, Submitter: m.submitter, ReversePath: reversePath, Recipient: h.address,
		ForwardedBy: h.onward.By, Kept: h.onward.Kept, Alone: m.oneJob(),
		Size: m.body.size, HeaderLen: m.headerLen, HeaderID: m.headerID, EightBit: m.eightBit, UTF8: m.utf8, Ours: m.ours, TLS: m.tls,
		Return: m.ret, EnvelopeID: m.envelope, Notify: h.notify, Original: h.original,
		Received: m.received, NextAttempt: m.received, Held: m.hold != "", HoldReason: m.hold,
	}}
}

// oneJob reports whether a message makes no more than one job.
func (m *messageEntry) oneJob() bool {
	n := 0
	for i := range m.holders {
		if m.holders[i].account == 0 {
			if n++; n > 1 {
				return false
			}
		}
	}
	return true
}

func (m *messageEntry) applyJob(t *txn, id store.JobID, h *holder) {
	j := m.job(id, h)
	t.put(bJobs, key8(uint64(id)), encodeJob(&j))
	t.event(m.step(store.TrailQueued, h.address, ""))
	if j.Held {
		t.event(m.step(store.TrailHeld, h.address, j.HoldReason))
		return
	}
	t.put(bDue, dueKey(&j.Job), nil)
}

func (o *outcomesEntry) apply(t *txn) {
	for i := range o.outcomes {
		t.settle(&o.outcomes[i], 0)
	}
}

// apply takes copies out of a maildrop, and marks those that were fetched and stay. Their places are those that the index knows: they may have
// moved since the record was written.
func (x *expungeEntry) apply(t *txn) {
	if !t.exists(x.account) {
		return
	}
	for _, id := range x.sent {
		if l, ok := t.copyOf(x.account, id); ok {
			t.ownerDid(store.TrailFetched, &l, x, store.TrailBrokeOff)
		}
	}
	for _, id := range x.fetched {
		l, ok := t.copyOf(x.account, id)
		if !ok {
			continue
		}
		t.ownerDid(store.TrailFetched, &l, x, "")
		if _, goes := slices.BinarySearch(x.deleted, id); !goes && !l.fetched() {
			l.flags |= copyFetched
			t.putCopy(x.account, &l)
		}
	}
	var fetched []store.CopyID // of those that go, by somebody before
	for _, id := range x.deleted {
		l, ok := t.copyOf(x.account, id)
		if !ok {
			continue
		}
		if l.fetched() {
			fetched = append(fetched, id)
		}
		t.ownerDid(store.TrailDeleted, &l, x, "")
		t.charge(x.account, -l.size, -1)
		t.removeCopy(x.account, &l)
	}
	t.s.tail.handFetched(x.account, fetched)
}

// copyOf returns a copy that is in the index.
func (t *txn) copyOf(account store.AccountID, id store.CopyID) (listing, bool) {
	key := key16(uint64(account), uint64(id))
	b := t.get(bCopies, key)
	if b == nil {
		return listing{}, false
	}
	l, err := decodeListing(key, b)
	t.fail(err)
	return l, err == nil
}

func (t *txn) removeCopy(account store.AccountID, l *listing) {
	t.delete(bCopies, key16(uint64(account), uint64(l.id)))
	t.unref(l.message, l.shared(), l.segment, l.octets())
}

// unref gives up one reference to a message; without any, its octets are dead.
func (t *txn) unref(id store.MessageID, shared bool, segment uint64, octets int64) {
	if !shared {
		t.live(segment, -1, -octets)
		return
	}
	key := key8(uint64(id))
	b := t.get(bBodies, key)
	if b == nil {
		t.fail(fmt.Errorf("message %s: its references are not in the index", id))
		return
	}
	r, err := decodeShared(b)
	if err != nil {
		t.fail(fmt.Errorf("message %s: %w", id, err))
		return
	}
	if r.Refs > 1 {
		r.Refs--
		t.put(bBodies, key, r.encode())
		return
	}
	t.delete(bBodies, key)
	t.live(r.segment, -1, -r.octets)
	if r.large {
		t.freed = append(t.freed, r.token)
	}
}

// ownerDid notes what the owner of a maildrop did. The addresses are in the message's record; if that cannot be read the event has none.
func (t *txn) ownerDid(kind store.TrailKind, l *listing, x *expungeEntry, text string) {
	sender, recipient, err := t.s.addresses(l)
	if err != nil {
		t.s.log.Error("the record of a message cannot be read", "message", l.message.String(), "error", err)
	}
	t.event(&store.TrailEvent{
		Message: l.message, Time: x.at, Kind: kind, Sender: sender, Recipient: recipient, Account: x.account, Origin: x.client,
		Text: text,
	})
}

// apply gives a message its new place, as far as anybody still has it at the old one.
func (m *movedEntry) apply(t *txn) {
	to := whereOf(m.place, m.metaLen)
	moved := false
	octets := m.place.Size
	c, j := 0, 0
	for i := range m.holders {
		h := &m.holders[i]
		if h.account != 0 {
			moved = m.moveCopy(t, m.copies[c], h, to) || moved
			c++
		} else {
			moved = m.moveJob(t, m.jobs[j], to) || moved
			j++
		}
	}
	if !moved {
		return
	}
	t.live(m.from.segment, -1, -octets)
	t.live(to.segment, 1, octets)
	key := key8(uint64(m.id))
	if b := t.get(bBodies, key); b != nil {
		r, err := decodeShared(b)
		t.fail(err)
		r.where = to
		t.put(bBodies, key, r.encode())
	}
}

func (m *movedEntry) moveCopy(t *txn, id store.CopyID, h *holder, to where) bool {
	l, ok := t.copyOf(h.account, id)
	if !ok || l.segment != m.from.segment || l.offset != m.from.offset {
		return false
	}
	l.move(to, h)
	t.putCopy(h.account, &l)
	return true
}

func (m *movedEntry) moveJob(t *txn, id store.JobID, to where) bool {
	j, err := t.job(id)
	if errors.Is(err, store.ErrNotFound) {
		return false
	}
	if t.fail(err); err != nil || j.segment != m.from.segment || j.offset != m.from.offset {
		return false
	}
	j.where = to
	t.put(bJobs, key8(uint64(id)), encodeJob(&j))
	return true
}
