package boltstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"latchkey/internal/journal"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// The kinds of journal records. docs/format.md lists their fields.
const (
	recMessage  journal.Kind = 1 + iota // one accepted message: envelope, copies, jobs, outcomes; the body, or the header of a large one
	recExpunge                          // what one QUIT deleted and fetched
	recOutcomes                         // what became of leased jobs
	recMoved                            // a message that was copied forward out of a segment that is mostly dead
)

// entry is one record of the journal in memory, without its body.
type entry interface {
	// encode appends the meta.
	encode(e *encoder)
	// apply writes what the record means into the index.
	apply(t *txn)
	// octets is about what the entry takes in memory.
	octets() int
}

// decodeEntry reads a record of the journal.
func decodeEntry(r *journal.Record) (entry, error) {
	d := decoder{b: r.Meta}
	var made entry
	switch r.Kind {
	case recMessage:
		made = decodeMessage(&d, int64(len(r.Meta)), r.Body)
	case recExpunge:
		made = decodeExpunge(&d)
	case recOutcomes:
		made = &outcomesEntry{outcomes: d.outcomes()}
	case recMoved:
		made = decodeMoved(&d, int64(len(r.Meta)), r.Body)
	default:
		return nil, fmt.Errorf("%w: journal record %d has the kind %d, which this program does not know", store.ErrDamaged, r.Seq, r.Kind)
	}
	if d.err != nil {
		return nil, fmt.Errorf("%w: journal record %d: %w", store.ErrDamaged, r.Seq, d.err)
	}
	return made, nil
}

// body says what a message's octets are: in the record itself, or in a file of large/ with the header in the record.
type body struct {
	size  int64 // octets of the message
	large bool
	token token  // of a large body's file
	sum   uint32 // of a large body's trailer
}

// holder is one place that a message goes to, as the record has it: a copy or a job.
type holder struct {
	account   store.AccountID // 0 is a job
	address   mailaddr.Address
	prefixLen int64
	// prefixAt is how far before the end of the meta the prefix's checksum begins. It is computed, not written.
	prefixAt int64
	notify   store.Notify
	original string
	onward   store.Onward
}

// leftOut is a recipient that was not served.
type leftOut struct {
	address mailaddr.Address
	why     string
}

// messageEntry is one Draft.Commit.
type messageEntry struct {
	id        store.MessageID
	firstCopy store.CopyID
	firstJob  store.JobID
	received  time.Time
	sender    mailaddr.Address
	submitter store.AccountID
	headerLen int64
	headerID  string
	subject   []store.SubjectToken
	origin    store.Origin
	eightBit  bool
	utf8      bool
	ours      bool
	tls       store.TLSDemand
	ret       store.Return
	envelope  string
	hold      string // why the jobs are held from the beginning; empty if they are not
	body      body
	holders   []holder
	failed    []leftOut
	outcomes  []store.Outcome
	prefixes  [][]byte // of the copies, in order; only while it is encoded
	metaLen   int64
	place     journal.Place
}

// Flags of a message.
const (
	flagEightBit = 1 << iota
	flagUTF8
	flagLarge
	flagHeld
	flagOurs
	flagTLSRequired
	flagTLSOptional
)

func (m *messageEntry) encode(e *encoder) {
	start := len(e.b)
	e.uvarint(uint64(m.id))
	e.uvarint(uint64(m.firstCopy))
	e.uvarint(uint64(m.firstJob))
	e.time(m.received)
	e.mailbox(m.sender)
	e.uvarint(uint64(m.submitter))
	e.uvarint(uint64(m.headerLen))
	e.string(m.headerID)
	e.string(m.origin.Door)
	e.addr(m.origin.Remote)
	e.string(m.origin.Hello)
	e.string(m.origin.With)
	e.string(m.origin.TLS)
	e.uvarint(uint64(m.origin.Device))
	e.uvarint(uint64(len(m.subject)))
	for _, token := range m.subject {
		e.uint32(uint32(token))
	}
	var flags uint8
	for _, f := range []struct {
		set bool
		bit uint8
	}{{m.eightBit, flagEightBit}, {m.utf8, flagUTF8}, {m.body.large, flagLarge}, {m.hold != "", flagHeld}, {m.ours, flagOurs},
		{m.tls == store.TLSRequired, flagTLSRequired}, {m.tls == store.TLSOptional, flagTLSOptional}} {
		if f.set {
			flags |= f.bit
		}
	}
	e.uint8(flags)
	e.string(string(m.ret))
	e.string(m.envelope)
	if m.hold != "" {
		e.string(m.hold)
	}
	e.body(&m.body)
	e.uvarint(uint64(len(m.holders)))
	for i := range m.holders {
		e.holder(&m.holders[i])
	}
	e.uvarint(uint64(len(m.failed)))
	for _, f := range m.failed {
		e.mailbox(f.address)
		e.string(f.why)
	}
	e.outcomes(m.outcomes)
	e.prefixes(m.holders, m.prefixes)
	m.metaLen = int64(len(e.b) - start)
	placePrefixes(m.holders)
}

func (e *encoder) body(b *body) {
	e.uvarint(uint64(b.size))
	if b.large {
		e.raw(b.token[:])
		e.uint32(b.sum)
	}
}

func (e *encoder) holder(h *holder) {
	e.uvarint(uint64(h.account))
	e.mailbox(h.address)
	if h.account != 0 {
		e.uvarint(uint64(h.prefixLen))
		return
	}
	e.uint8(uint8(h.notify))
	e.string(h.original)
	e.mailbox(h.onward.By)
	if !h.onward.By.IsZero() {
		e.mailbox(h.onward.ReversePath)
		e.bool(h.onward.Kept)
	}
}

// prefixes puts the prefixes of all copies at the end of the meta, each behind its CRC32C: the last one lies right before the body, so
// that a message for one mailbox is read in one piece.
func (e *encoder) prefixes(holders []holder, prefixes [][]byte) {
	next := 0
	for i := range holders {
		if holders[i].account == 0 {
			continue
		}
		e.uint32(crc32.Checksum(prefixes[next], castagnoli()))
		e.raw(prefixes[next])
		next++
	}
}

// placePrefixes computes where the prefixes lie, from the end of the meta.
func placePrefixes(holders []holder) {
	at := int64(0)
	for i := len(holders) - 1; i >= 0; i-- {
		if h := &holders[i]; h.account != 0 {
			at += sumSize + h.prefixLen
			h.prefixAt = at
		}
	}
}

func decodeMessage(d *decoder, metaLen int64, place journal.Place) *messageEntry {
	m := &messageEntry{metaLen: metaLen, place: place}
	m.id, m.firstCopy, m.firstJob = store.MessageID(d.uvarint()), store.CopyID(d.uvarint()), store.JobID(d.uvarint())
	m.received = d.time()
	m.sender = d.mailbox()
	m.submitter = store.AccountID(d.uvarint())
	m.headerLen = int64(d.uvarint())
	m.headerID = d.string()
	m.origin = store.Origin{
		Door: d.string(), Remote: d.addr(), Hello: d.string(), With: d.string(), TLS: d.string(), Device: store.DeviceID(d.uvarint()), Account: m.submitter,
	}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		m.subject = append(m.subject, store.SubjectToken(d.uint32()))
	}
	flags := d.uint8()
	m.eightBit, m.utf8, m.body.large = flags&flagEightBit != 0, flags&flagUTF8 != 0, flags&flagLarge != 0
	m.ours = flags&flagOurs != 0
	switch {
	case flags&flagTLSRequired != 0:
		m.tls = store.TLSRequired
	case flags&flagTLSOptional != 0:
		m.tls = store.TLSOptional
	}
	m.ret = store.Return(d.string())
	m.envelope = d.string()
	if flags&flagHeld != 0 {
		m.hold = d.string()
	}
	d.body(&m.body)
	m.holders = d.holders()
	for n := d.count(); n > 0; n-- {
		m.failed = append(m.failed, leftOut{address: d.mailbox(), why: d.string()})
	}
	m.outcomes = d.outcomes()
	placePrefixes(m.holders)
	return m
}

func (d *decoder) body(b *body) {
	b.size = int64(d.uvarint())
	if b.large {
		copy(b.token[:], d.take(uint64(len(b.token))))
		b.sum = d.uint32()
	}
}

// count reads a number of items, each of which takes at least one octet.
func (d *decoder) count() int {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) holders() []holder {
	n := d.count()
	holders := make([]holder, 0, n)
	for ; n > 0 && d.err == nil; n-- {
		h := holder{account: store.AccountID(d.uvarint()), address: d.mailbox()}
		if h.account != 0 {
			h.prefixLen = int64(d.uvarint())
		} else {
			h.notify, h.original = store.Notify(d.uint8()), d.string()
			if h.onward.By = d.mailbox(); !h.onward.By.IsZero() {
				h.onward.ReversePath, h.onward.Kept = d.mailbox(), d.bool()
			}
		}
		holders = append(holders, h)
	}
	return holders
}

// Flags of an outcome.
const (
	flagShared = 1 << iota
	flagWarned
)

func (e *encoder) outcomes(outcomes []store.Outcome) {
	e.uvarint(uint64(len(outcomes)))
	for i := range outcomes {
		o := &outcomes[i]
		e.uvarint(uint64(o.Job))
		e.string(string(o.Kind))
		e.string(o.Text)
		peer := o.Peer.Clean()
		e.string(peer.Host)
		e.addr(peer.Addr)
		e.string(peer.TLS)
		var flags uint8
		if o.Shared {
			flags |= flagShared
		}
		if o.Warned {
			flags |= flagWarned
		}
		e.uint8(flags)
		e.time(o.At)
		e.time(o.Next)
	}
}

func (d *decoder) outcomes() (outcomes []store.Outcome) {
	for n := d.count(); n > 0 && d.err == nil; n-- {
		o := store.Outcome{Job: store.JobID(d.uvarint()), Kind: store.OutcomeKind(d.string()), Text: d.string()}
		o.Peer = store.Peer{Host: d.string(), Addr: d.addr(), TLS: d.string()}
		flags := d.uint8()
		o.Shared, o.Warned = flags&flagShared != 0, flags&flagWarned != 0
		o.At, o.Next = d.time(), d.time()
		outcomes = append(outcomes, o)
	}
	return outcomes
}

// outcomesEntry is one Finish.
type outcomesEntry struct{ outcomes []store.Outcome }

func (o *outcomesEntry) encode(e *encoder) { e.outcomes(o.outcomes) }

// expungeEntry is what one QUIT did: copies deleted, and copies fetched, in ascending order.
type expungeEntry struct {
	account          store.AccountID
	client           store.Origin // whose session it was
	at               time.Time
	deleted, fetched []store.CopyID
	// sent were fetched in a session that broke off: they are for the trail only.
	sent []store.CopyID
	// freed is what the deleted copies took of the quota.
	freed store.Usage
	// by is the snapshot that deletes them, until readers see it; it lists them. It is not in the record.
	by *maildrop
}

func (x *expungeEntry) encode(e *encoder) {
	e.uvarint(uint64(x.account))
	e.time(x.at)
	e.string(x.client.Door)
	e.addr(x.client.Remote)
	e.string(x.client.TLS)
	e.uvarint(uint64(x.client.Device))
	e.varint(x.freed.Octets)
	e.copyIDs(x.deleted)
	e.copyIDs(x.fetched)
	e.copyIDs(x.sent)
}

// copyIDs keeps ascending ids by their differences.
func (e *encoder) copyIDs(ids []store.CopyID) {
	e.uvarint(uint64(len(ids)))
	before := store.CopyID(0)
	for _, id := range ids {
		e.uvarint(uint64(id - before))
		before = id
	}
}

func (d *decoder) copyIDs() []store.CopyID {
	n := d.count()
	ids := make([]store.CopyID, 0, n)
	before := store.CopyID(0)
	for ; n > 0 && d.err == nil; n-- {
		before += store.CopyID(d.uvarint())
		ids = append(ids, before)
	}
	return ids
}

func decodeExpunge(d *decoder) *expungeEntry {
	x := &expungeEntry{account: store.AccountID(d.uvarint()), at: d.time()}
	x.client = store.Origin{Door: d.string(), Remote: d.addr(), TLS: d.string(), Device: store.DeviceID(d.uvarint()), Account: x.account}
	x.freed.Octets = d.varint()
	x.deleted, x.fetched, x.sent = d.copyIDs(), d.copyIDs(), d.copyIDs()
	x.freed.Messages = int64(len(x.deleted))
	return x
}

// movedEntry is a message that has a new place. Its body is in the record; a large one stays where it is, and its header moves.
type movedEntry struct {
	id       store.MessageID
	from     where // where the holders had it
	sender   mailaddr.Address
	body     body
	holders  []holder
	copies   []store.CopyID // of the holders that are copies, in order
	jobs     []store.JobID  // of those that are jobs
	prefixes [][]byte
	metaLen  int64
	place    journal.Place
}

func (m *movedEntry) encode(e *encoder) {
	start := len(e.b)
	e.uvarint(uint64(m.id))
	e.uvarint(m.from.segment)
	e.uvarint(uint64(m.from.offset))
	e.mailbox(m.sender)
	e.bool(m.body.large)
	e.body(&m.body)
	e.uvarint(uint64(len(m.holders)))
	for i := range m.holders {
		e.holder(&m.holders[i])
	}
	for _, id := range m.copies {
		e.uvarint(uint64(id))
	}
	for _, id := range m.jobs {
		e.uvarint(uint64(id))
	}
	e.prefixes(m.holders, m.prefixes)
	m.metaLen = int64(len(e.b) - start)
	placePrefixes(m.holders)
}

func decodeMoved(d *decoder, metaLen int64, place journal.Place) *movedEntry {
	m := &movedEntry{metaLen: metaLen, place: place}
	m.id = store.MessageID(d.uvarint())
	m.from.segment, m.from.offset = d.uvarint(), int64(d.uvarint())
	m.sender = d.mailbox()
	m.body.large = d.bool()
	d.body(&m.body)
	m.holders = d.holders()
	for i := range m.holders {
		if m.holders[i].account != 0 {
			m.copies = append(m.copies, 0)
		} else {
			m.jobs = append(m.jobs, 0)
		}
	}
	for i := range m.copies {
		m.copies[i] = store.CopyID(d.uvarint())
	}
	for i := range m.jobs {
		m.jobs[i] = store.JobID(d.uvarint())
	}
	placePrefixes(m.holders)
	return m
}

// copyIDs and jobIDs number the holders of a message: ids are given out in the order of the holders.
func (m *messageEntry) ids() (copies []store.CopyID, jobs []store.JobID) {
	c, j := m.firstCopy, m.firstJob
	for i := range m.holders {
		if m.holders[i].account != 0 {
			copies = append(copies, c)
			c++
		} else {
			jobs = append(jobs, j)
			j++
		}
	}
	return copies, jobs
}

func (m *messageEntry) octets() int {
	n := 300 + len(m.headerID) + len(m.envelope) + 4*len(m.subject)
	n += (120 + len(m.hold)) * len(m.holders)
	for i := range m.holders {
		n += len(m.holders[i].original)
	}
	return n + 100*len(m.failed) + outcomesOctets(m.outcomes)
}

func outcomesOctets(outcomes []store.Outcome) (n int) {
	for i := range outcomes {
		n += 450 + len(outcomes[i].Text) + len(outcomes[i].Peer.Host) + len(outcomes[i].Peer.TLS) // each changes a job, a place in the order of jobs, and the trail
	}
	return n
}

func (o *outcomesEntry) octets() int { return outcomesOctets(o.outcomes) }
func (x *expungeEntry) octets() int  { return 150 + 8*(len(x.deleted)+len(x.fetched)+len(x.sent)) }
func (m *movedEntry) octets() int    { return 200 + 120*len(m.holders) }

// where is the place of a message's record in the journal, as its copies and jobs know it.
type where struct {
	segment uint64 // generation
	offset  int64  // of the body's sums; the meta ends there
	metaLen int64
}

func whereOf(p journal.Place, metaLen int64) where {
	return where{segment: p.Generation, offset: p.Offset, metaLen: metaLen}
}

func (e *encoder) where(w *where) {
	e.uvarint(w.segment)
	e.uvarint(uint64(w.offset))
	e.uvarint(uint64(w.metaLen))
}

func (d *decoder) where() (w where) {
	w.segment, w.offset, w.metaLen = d.uvarint(), int64(d.uvarint()), int64(d.uvarint())
	return w
}

// headKept is the longest header of a large message that its record holds too, so that the header is read without the file.
const headKept = blockSize

// recordOctets is how much of a message lies in its record.
func recordOctets(size, headerLen int64, large bool) int64 {
	if large {
		return min(headerLen, headKept)
	}
	return size
}

// checkedPrefix reports whether b begins with a CRC32C of the n octets behind it, and returns these.
func checkedPrefix(b []byte, n int64) ([]byte, bool) {
	if int64(len(b)) < sumSize+n {
		return nil, false
	}
	p := b[sumSize : sumSize+n]
	return p, binary.BigEndian.Uint32(b) == crc32.Checksum(p, castagnoli())
}
