package boltstore

import (
	"context"
	"errors"
	"fmt"

	"latchkey/internal/journal"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// foundRecord is a record of a message that the journal has.
type foundRecord struct {
	entry entry
	where
	octets int64
}

// seek looks through the whole journal for records of messages, the older ones first. A segment that cannot be read on is left there.
func (s *Store) seek(ctx context.Context, upto uint64, wanted func(id store.MessageID, copies []store.CopyID, jobs []store.JobID) bool) ([]foundRecord, error) {
	var found []foundRecord
	segments, _, _ := s.journal.Segments()
	for _, info := range segments {
		err := s.journal.Scan(ctx, info.Generation, func(r journal.Record) error {
			if r.Kind != recMessage && r.Kind != recMoved || r.Seq > upto {
				return nil
			}
			made, err := decodeEntry(&r)
			if err != nil {
				return nil // it makes no sense
			}
			var id store.MessageID
			var copies []store.CopyID
			var jobs []store.JobID
			switch e := made.(type) {
			case *messageEntry:
				id = e.id
				copies, jobs = e.ids()
			case *movedEntry:
				id, copies, jobs = e.id, e.copies, e.jobs
			}
			if wanted(id, copies, jobs) {
				found = append(found, foundRecord{made, whereOf(r.Body, int64(len(r.Meta))), r.Body.Size})
			}
			return nil
		})
		if err != nil && !errors.Is(err, journal.ErrDamaged) {
			return nil, err
		}
	}
	return found, nil
}

// holder returns what a record says of a copy or a job, or nil.
func (f *foundRecord) holder(key unreadKey) *holder {
	var holders []holder
	var copies []store.CopyID
	var jobs []store.JobID
	switch e := f.entry.(type) {
	case *messageEntry:
		holders = e.holders
		copies, jobs = e.ids()
	case *movedEntry:
		holders, copies, jobs = e.holders, e.copies, e.jobs
	}
	for i := range holders {
		h := &holders[i]
		if h.account == 0 {
			if key.account == 0 && uint64(jobs[0]) == key.id {
				return h
			}
			jobs = jobs[1:]
			continue
		}
		if key.account == h.account && uint64(copies[0]) == key.id {
			return h
		}
		copies = copies[1:]
	}
	return nil
}

func (f *foundRecord) message() (id store.MessageID, b body) {
	switch e := f.entry.(type) {
	case *messageEntry:
		return e.id, e.body
	case *movedEntry:
		return e.id, e.body
	}
	return 0, body{}
}

// unreadable makes records of copies and jobs again that could not be read, from the journal.
func (x *structure) unreadable() {
	if len(x.m.unread) == 0 {
		return
	}
	wanted := make(map[unreadKey]struct{}, len(x.m.unread)) // there are few
	for _, key := range x.m.unread {
		wanted[key] = struct{}{}
	}
	x.m.unread = nil
	found := make(map[unreadKey][]foundRecord)
	records, err := x.s.seek(context.Background(), x.s.space.applied.Seq, func(store.MessageID, []store.CopyID, []store.JobID) bool { return true })
	x.t.fail(err)
	for i := range records {
		for key := range wanted {
			if records[i].holder(key) != nil {
				found[key] = append(found[key], records[i])
			}
		}
	}
	for key := range wanted {
		object := (&held{account: key.account, id: key.id}).object()
		if x.remake(key, found[key]) {
			x.mended(store.ProblemRecord, object, "its record was unreadable", "it was made again, from the journal")
			continue
		}
		x.lose(&held{account: key.account, id: key.id}, "its record in the index cannot be read, and the journal has none", "")
	}
}

func (x *structure) uid(key unreadKey) string {
	if key.account == 0 {
		return ""
	}
	return x.m.epochs.uniqueID(store.CopyID(key.id))
}

// remake writes a copy or a job as the records of its message say, of which the last one has its place.
func (x *structure) remake(key unreadKey, records []foundRecord) bool {
	for i := range records {
		first, ok := records[i].entry.(*messageEntry)
		if !ok {
			continue
		}
		last := &records[len(records)-1]
		h := last.holder(key)
		if key.account == 0 {
			j := first.job(store.JobID(key.id), h)
			j.where = last.where
			x.t.put(bJobs, key8(key.id), encodeJob(&j))
			return true
		}
		l := first.listing(store.CopyID(key.id), first.holderOf(key))
		l.move(last.where, h)
		x.t.putCopy(key.account, &l)
		return true
	}
	return false
}

func (m *messageEntry) holderOf(key unreadKey) *holder {
	return (&foundRecord{entry: m}).holder(key)
}

// sharing is a message that several copies and jobs share.
type sharing struct {
	holders []held
	record  *sharedRecord
}

// shared counts the references to messages, and lets all that share one agree where it is.
func (x *structure) shared() {
	all := make(map[store.MessageID]*sharing)
	of := func(id store.MessageID) *sharing {
		if all[id] == nil {
			all[id] = &sharing{}
		}
		return all[id]
	}
	x.t.fail(x.t.eachRecord(bBodies, func(key, value []byte) error {
		r, err := decodeShared(value)
		of(store.MessageID(id8(key))).record = &r
		return err
	}))
	x.t.fail(x.t.eachHolder(func(h *held) error {
		if h.shared() {
			m := of(h.message)
			m.holders = append(m.holders, *h)
		}
		return nil
	}))
	for id, m := range all {
		x.share(id, m)
	}
}

func (x *structure) sharedAgain() {
	x.again = true
	x.shared()
}

// share mends one message that is shared.
func (x *structure) share(id store.MessageID, m *sharing) {
	object, key := "message "+id.String(), key8(uint64(id))
	if len(m.holders) == 0 {
		x.t.delete(bBodies, key)
		x.mended(store.ProblemReference, object, "nothing refers to it", "it was removed")
		return
	}
	agree := m.record != nil
	for i := range m.holders {
		h := &m.holders[i]
		agree = agree && h.where == m.record.where && h.octets == m.record.octets && (h.flags&copyLarge != 0) == m.record.large
	}
	if !agree {
		x.agree(id, m)
		return
	}
	if refs := uint64(len(m.holders)); m.record.Refs != refs {
		x.mended(store.ProblemCounter, object, fmt.Sprintf("%d references noted, %d found", m.record.Refs, refs), "it was corrected")
		m.record.Refs = refs
		x.t.put(bBodies, key, m.record.encode())
	}
}

// agree finds the record of a message about whose place those that share it do not agree.
func (x *structure) agree(id store.MessageID, m *sharing) {
	var places []foundRecord
	if m.record != nil {
		places = append(places, foundRecord{where: m.record.where, octets: m.record.octets})
	}
	for i := range m.holders {
		places = append(places, foundRecord{where: m.holders[i].where, octets: m.holders[i].octets})
	}
	for i := range places {
		p := &places[i]
		if x.readAt(p) != nil {
			continue
		}
		if of, _ := p.message(); of == id {
			x.gather(id, m, p)
			return
		}
	}
	for i := range m.holders {
		if h := &m.holders[i]; x.again {
			x.lose(h, "nothing says where its octets are", "")
		} else {
			x.m.unread = append(x.m.unread, unreadKey{h.account, h.id})
		}
	}
	if m.record != nil {
		x.t.delete(bBodies, key8(uint64(id)))
	}
}

// readAt reads the record at a place.
func (x *structure) readAt(p *foundRecord) error {
	pin, err := x.s.journal.Pin(p.segment)
	if err != nil {
		return err
	}
	defer pin.Release()
	p.entry, err = readEntry(pin, p.where, p.octets)
	return err
}

// gather gives all that share a message the place of its record.
func (x *structure) gather(id store.MessageID, m *sharing, p *foundRecord) {
	_, b := p.message()
	r := sharedRecord{where: p.where, octets: p.octets, body: b}
	for i := range m.holders {
		if x.place(&m.holders[i], p) {
			r.Refs++
		} else {
			x.lose(&m.holders[i], "it is not in the record of its message", "")
		}
	}
	if r.Refs == 0 {
		x.t.delete(bBodies, key8(uint64(id)))
		return
	}
	x.t.put(bBodies, key8(uint64(id)), r.encode())
	x.mended(store.ProblemReference, "message "+id.String(), "what shares it did not agree where it is", "its record was found")
}

// place lets a copy or a job lie where a record is, with the lengths that it has there.
func (x *structure) place(at *held, p *foundRecord) bool {
	key := unreadKey{at.account, at.id}
	h := p.holder(key)
	if h == nil {
		return false
	}
	_, b := p.message()
	if at.account == 0 {
		j, err := x.t.job(store.JobID(at.id))
		if err != nil {
			return false
		}
		j.where, j.Size, j.flags = p.where, b.size, sizeFlags(j.flags, b)
		if first, ok := p.entry.(*messageEntry); ok {
			j.HeaderLen = first.headerLen
		}
		x.t.put(bJobs, key8(at.id), encodeJob(&j))
		return j.octets() == p.octets
	}
	l, ok := x.t.copyOf(at.account, store.CopyID(at.id))
	if !ok {
		return false
	}
	header := l.header - int64(l.prefixLen)
	if first, ok := p.entry.(*messageEntry); ok {
		header = first.headerLen
	}
	l.move(p.where, h)
	l.size, l.header, l.flags = b.size+h.prefixLen, min(header, b.size)+h.prefixLen, sizeFlags(l.flags, b)
	x.t.putCopy(at.account, &l)
	return l.octets() == p.octets
}

func sizeFlags(flags uint8, b body) uint8 {
	if flags &^= copyLarge; b.large {
		flags |= copyLarge
	}
	return flags
}

// lose removes a copy or a job whose octets are lost.
func (x *structure) lose(h *held, why, kept string) {
	l := x.describe(h)
	l.Why, l.Kept = why, kept
	if h.account != 0 {
		x.t.delete(bCopies, key16(uint64(h.account), h.id))
	} else {
		x.t.delete(bJobs, key8(h.id))
	}
	x.lost(l)
}

func (x *structure) lost(l store.Lost) {
	x.m.q.note("%s: message %s, mailbox %d, unique-id %q, to <%s>, received %s, %d octets: %s; kept in %q: it was removed",
		store.ProblemMessage, l.Message, l.Account, l.UID, l.Recipient, l.Received, l.Size, l.Why, l.Kept)
	x.m.report.Lost = append(x.m.report.Lost, l)
}

// describe says what the index knows of a copy or a job.
func (x *structure) describe(h *held) store.Lost {
	l := store.Lost{Account: h.account, Message: h.message}
	if h.account == 0 {
		if j, err := x.t.job(store.JobID(h.id)); err == nil {
			l.Submitter, l.Sender, l.Recipient, l.HeaderID = j.Submitter, j.ReversePath, j.Recipient, j.HeaderID
			l.Size, l.Received = j.Size, j.Received
		}
		return l
	}
	l.UID = x.uid(unreadKey{h.account, h.id})
	if c, ok := x.t.copyOf(h.account, store.CopyID(h.id)); ok {
		l.Size, l.Received = c.size, c.received()
	}
	if a, err := x.t.account(h.account); err == nil {
		l.Recipient, _ = mailaddr.New(a.Name, x.m.domain) // without one the account says enough
	}
	return l
}

// describe adds what the trail knows of the mail that is lost.
func (m *mender) describe(ctx context.Context, s *Store) {
	for i := range m.report.Lost {
		l := &m.report.Lost[i]
		if e := s.accepted(ctx, l.Message); l.Message != 0 && e != nil {
			l.Sender, l.HeaderID = e.Sender, e.HeaderID
			if l.Received.IsZero() {
				l.Size, l.Received = e.Size, e.Time
			}
		}
		m.q.note("message %s is from <%s>, Message-ID %q", l.Message, l.Sender, l.HeaderID)
	}
}

// mail reads the octets of everything. What cannot be read is looked for elsewhere in the journal, and put aside if it is not there. Nothing
// else runs.
func (m *mender) mail(ctx context.Context) (err error) {
	s, _, err := m.open(ctx)
	if err != nil || s == nil {
		return err
	}
	defer func() { err = errors.Join(err, s.closeStill()) }()
	defer m.describe(ctx, s)
	if err := m.orphans(ctx, s); err != nil {
		return err
	}
	damaged, err := s.unreadableMail(ctx)
	if err != nil || len(damaged) == 0 {
		return err
	}
	elsewhere, err := s.seek(ctx, s.tail.last, func(id store.MessageID, _ []store.CopyID, _ []store.JobID) bool {
		_, wanted := damaged[id]
		return wanted
	})
	if err != nil {
		return err
	}
	r := &request{frees: true, apply: func(t *txn) error {
		x := structure{m: m, t: t, s: s}
		t.fail(errors.Join(x.replace(damaged, elsewhere), m.q.flush()))
		return nil
	}}
	if err := errors.Join(s.tryBatch(nil, []*request{r}), r.err); err != nil {
		return err
	}
	m.quiet = true
	return m.structure(ctx, s)
}

// orphans puts files aside that no message names. They are gone from the one directory only when they are in the other.
func (m *mender) orphans(ctx context.Context, s *Store) error {
	tokens, err := s.orphans(ctx)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		path, err := m.q.move(t.String(), s.bodies.large(t))
		if err != nil {
			return err
		}
		m.mended(store.ProblemOrphan, "body "+t.String(), "no message names it", "it was put aside as "+path)
	}
	return m.q.flush()
}

// unreadableMail reads the octets of everything, and returns the messages that cannot be read, and why.
func (s *Store) unreadableMail(ctx context.Context) (map[store.MessageID]string, error) {
	c := newChecker(s)
	err := s.read(ctx, func(v *view) error {
		c.copies(v)
		c.jobs(v)
		c.sharedRecords(v)
		return ctx.Err()
	})
	if err == nil {
		err = c.readAll(ctx)
	}
	return c.lost, err
}

// replace gives messages that cannot be read another place, or removes what refers to them.
func (x *structure) replace(damaged map[store.MessageID]string, elsewhere []foundRecord) error {
	holders := make(map[store.MessageID][]held)
	err := x.t.eachHolder(func(h *held) error {
		if _, bad := damaged[h.message]; bad {
			holders[h.message] = append(holders[h.message], *h)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id, why := range damaged {
		var whole *foundRecord
		for i := range elsewhere {
			f := &elsewhere[i]
			if of, b := f.message(); of == id && x.s.wholeMessage(f, id, b) == nil {
				whole = f // the last one
			}
		}
		if whole == nil {
			if err := x.bury(id, holders[id], why); err != nil {
				return err
			}
			continue
		}
		x.moveTo(id, holders[id], whole, why)
	}
	return nil
}

// wholeMessage reads the octets of a message at another place.
func (s *Store) wholeMessage(f *foundRecord, id store.MessageID, b body) error {
	err := s.verifyRecord(checkedRecord{id: id, where: f.where, octets: f.octets})
	if err == nil && b.large {
		err = s.verifyBody(b)
	}
	return err
}

func (x *structure) moveTo(id store.MessageID, holders []held, to *foundRecord, why string) {
	refs := uint64(0)
	shared := false
	for i := range holders {
		h := &holders[i]
		shared = shared || h.shared()
		if x.place(h, to) {
			refs++
		} else {
			x.lose(h, why, "")
		}
	}
	if shared && refs > 0 {
		_, b := to.message()
		x.t.put(bBodies, key8(uint64(id)), (&sharedRecord{Refs: refs, where: to.where, octets: to.octets, body: b}).encode())
	}
	x.mended(store.ProblemMessage, "message "+id.String(), why, "the journal has its octets elsewhere")
}

// bury puts aside what there is of a message, and removes its copies and jobs.
func (x *structure) bury(id store.MessageID, holders []held, why string) error {
	kept := ""
	if len(holders) > 0 {
		var err error
		if kept, err = x.exhume(id, &holders[0]); err != nil {
			return err
		}
	}
	for i := range holders {
		x.lose(&holders[i], why, kept)
	}
	x.t.delete(bBodies, key8(uint64(id)))
	return nil
}

// exhume puts the octets of a message aside as they are.
func (x *structure) exhume(id store.MessageID, h *held) (kept string, err error) {
	name := id.String() + ".eml"
	if r, err := x.t.shared(id); h.shared() && err == nil && r.large {
		from := x.s.bodies.large(r.token)
		if f, err := x.m.fs.Open(from); err == nil {
			if err := f.Close(); err != nil {
				return "", err
			}
			return x.m.q.move(name, from)
		}
	}
	pin, err := x.s.journal.Pin(h.segment)
	if err != nil {
		return "", nil // there is nothing
	}
	defer pin.Release()
	return x.m.q.copy(name, pin, h.offset+journal.SumsSize(h.octets), h.octets)
}

// look opens the data as a server does, and checks it.
func (m *mender) look(ctx context.Context) (err error) {
	s, err := Open(ctx, m.dir, m.o)
	if errors.Is(err, store.ErrDamaged) {
		m.left(store.ProblemIndex, indexName, err)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for _, l := range m.report.Lost {
		if err := s.AppendAudit(ctx, store.AuditEntry{
			Time: m.o.Now(), Actor: "repair", Action: "mail.lost", Object: "message " + l.Message.String(),
			Before: fmt.Sprintf("mailbox %d, unique-id %s, from <%s>, received %s: %s", l.Account, l.UID, l.Sender, l.Received, l.Why),
		}); err != nil {
			return err
		}
	}
	m.report.Left, err = s.Check(ctx)
	return err
}
