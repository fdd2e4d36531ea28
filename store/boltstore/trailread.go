package boltstore

import (
	"fmt"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// runReader reads the events of a run. What it yields points into the run. One reader may read several runs, one after the other.
type runReader struct {
	head    runHead
	columns [numColumns]decoder
	left    uint64
	step    trailStep
	names   [][]byte
	people  []runPerson
	places  []runPlace
	tokens  []store.SubjectToken
}

type runPerson struct {
	domain, local []byte
	account       store.AccountID
}

type runPlace struct {
	door, with, hello, tls, remote []byte
	account                        store.AccountID
	device                         store.DeviceID
}

// trailStep is one event. Texts are places in the run's tables where it has such.
type trailStep struct {
	mark
	kind      uint8
	recipient uint64
	text      []byte
	site      uint64 // counted from 1
	headerID  []byte
	size      uint64
	origin    uint64
	subject   [store.MaxSubjectTokens]uint64 // places in the run's table
	words     int                            // of the subject
}

func (s *trailStep) time() time.Time { return time.Unix(s.sec, s.nsec).UTC() }

// open begins to read the columns of a run. Nothing of them is needed after an error.
func (r *runReader) open(head runHead, b []byte) error {
	r.head, r.left = head, head.events
	r.step = trailStep{mark: mark{seq: head.first - 1, sender: nobody}}
	d := decoder{b: b}
	for i := range r.columns {
		r.columns[i] = decoder{b: d.take(d.uvarint())}
	}
	if d.err == nil && len(d.b) == 0 && r.tables() {
		return nil
	}
	return errShortRecord
}

// tables reads the tables, and reports whether they are whole.
func (r *runReader) tables() bool {
	r.names, r.people, r.places, r.tokens = r.names[:0], r.people[:0], r.places[:0], r.tokens[:0]
	for c := &r.columns[colNames]; len(c.b) > 0; {
		r.names = append(r.names, c.take(c.uvarint()))
	}
	for c := &r.columns[colPeople]; len(c.b) > 0; {
		r.people = append(r.people, runPerson{domain: r.name(c, c.uvarint()), local: c.take(c.uvarint()), account: store.AccountID(c.uvarint())})
	}
	for c := &r.columns[colPlaces]; len(c.b) > 0; {
		p := runPlace{door: r.name(c, c.uvarint()), with: r.name(c, c.uvarint()), hello: r.name(c, c.uvarint()), tls: r.name(c, c.uvarint())}
		p.remote = c.take(c.uvarint())
		p.account, p.device = store.AccountID(c.uvarint()), store.DeviceID(c.uvarint())
		r.places = append(r.places, p)
	}
	for c := &r.columns[colWords]; len(c.b) > 0; {
		r.tokens = append(r.tokens, store.SubjectToken(c.uint32()))
	}
	return r.whole()
}

// name returns a text of the table; c is the column that asks for it.
func (r *runReader) name(c *decoder, n uint64) []byte {
	if n >= uint64(len(r.names)) {
		c.fail()
		return nil
	}
	return r.names[n]
}

// place reads a place in a table of size entries.
func (d *decoder) place(size int) uint64 {
	n := d.uvarint()
	if d.err == nil && n >= uint64(size) {
		d.fail()
	}
	return n
}

func (r *runReader) whole() bool {
	for i := range r.columns {
		if r.columns[i].err != nil {
			return false
		}
	}
	return true
}

// next goes to the next event; more is false at the end. An end that is not where the head says is an error.
func (r *runReader) next() (more bool, err error) {
	c, s := &r.columns, &r.step
	if r.left == 0 {
		for i := range c {
			if len(c[i].b) > 0 {
				return false, errShortRecord
			}
		}
		if s.seq != r.head.last {
			return false, errShortRecord
		}
		return false, nil
	}
	r.left--
	code := c[colSteps].uint8()
	s.seq++
	if code == stepJump {
		s.seq += c[colMessages].uvarint()
		code = c[colSteps].uint8()
	}
	s.kind = code & stepKind
	if s.kind == 0 || int(s.kind) > len(trailKinds) || s.seq > r.head.last {
		return false, errShortRecord
	}
	if code&stepSameMessage == 0 {
		s.message += uint64(c[colMessages].varint())
	}
	if code&stepSameTime == 0 {
		s.sec += c[colSeconds].varint()
		s.nsec += c[colNanos].varint()
	}
	if code&stepSameSender == 0 {
		s.sender = c[colSenders].place(len(r.people))
	}
	if s.kind == kindAccepted {
		s.size = c[colSizes].uvarint()
		s.site = c[colSites].place(len(r.names) + 1)
		s.headerID = c[colHeaderIDs].take(c[colHeaderIDs].uvarint())
		r.subject()
	} else {
		s.recipient = c[colRecipients].place(len(r.people))
	}
	if (clientKinds | hostKinds).has(s.kind) {
		s.origin = c[colOrigins].place(len(r.places))
	}
	s.text = nil
	if code&stepText != 0 {
		s.text = c[colTexts].take(c[colTexts].uvarint())
	}
	if !r.whole() || s.sender == nobody || s.nsec < 0 || s.nsec >= int64(time.Second) {
		return false, errShortRecord
	}
	return true, nil
}

// subject reads the words of the subject.
func (r *runReader) subject() {
	c, s := &r.columns[colSubjects], &r.step
	n := c.uvarint()
	if n > uint64(len(s.subject)) {
		c.fail()
		n = 0
	}
	s.words = int(n)
	for i := range s.words {
		s.subject[i] = c.place(len(r.tokens))
	}
}

// each calls do at every event that is left, until there is an error.
func (r *runReader) each(do func() error) error {
	for {
		more, err := r.next()
		if err != nil || !more {
			return err
		}
		if err := do(); err != nil {
			return err
		}
	}
}

// event returns the event that the reader is at.
func (r *runReader) event() (store.TrailEvent, error) {
	s := &r.step
	e := store.TrailEvent{Seq: s.seq, Message: store.MessageID(s.message), Time: s.time(), Kind: trailKinds[s.kind-1], Text: string(s.text)}
	var err error
	if e.Sender, err = r.people[s.sender].address(); err != nil {
		return e, err
	}
	switch {
	case hostKinds.has(s.kind):
		o, err := r.places[s.origin].origin()
		if err != nil {
			return e, err
		}
		e.Peer = store.Peer{Host: o.Hello, Addr: o.Remote, TLS: o.TLS}
	case clientKinds.has(s.kind):
		if e.Origin, err = r.places[s.origin].origin(); err != nil {
			return e, err
		}
	}
	if s.kind != kindAccepted {
		e.Account = r.people[s.recipient].account
		e.Recipient, err = r.people[s.recipient].address()
		return e, err
	}
	e.Size = int64(s.size)
	if e.HeaderID = string(s.headerID); s.site > 0 {
		e.HeaderID = "<" + e.HeaderID + "@" + string(r.names[s.site-1]) + ">"
	}
	for _, place := range s.subject[:s.words] {
		e.Subject = append(e.Subject, r.tokens[place])
	}
	return e, nil
}

func (p *runPlace) origin() (store.Origin, error) {
	o := store.Origin{
		Door: string(p.door), With: string(p.with), Hello: string(p.hello), TLS: string(p.tls), Account: p.account, Device: p.device,
	}
	if err := o.Remote.UnmarshalBinary(p.remote); err != nil {
		return o, fmt.Errorf("%w: %w", errShortRecord, err)
	}
	return o, nil
}

func (p *runPerson) address() (mailaddr.Address, error) {
	if len(p.local)+len(p.domain) == 0 {
		return mailaddr.Address{}, nil
	}
	a, err := mailaddr.New(string(p.local), string(p.domain))
	if err != nil {
		err = fmt.Errorf("%w: %w", errShortRecord, err)
	}
	return a, err
}

// isHeaderID reports whether the reader is at the acceptance of a message with this Message-ID.
func (r *runReader) isHeaderID(what string) bool {
	s := &r.step
	if s.kind != kindAccepted {
		return false
	}
	if s.site == 0 {
		return string(s.headerID) == what
	}
	left, right := len(s.headerID), r.names[s.site-1]
	return len(what) == left+len(right)+3 && what[0] == '<' && what[1:left+1] == string(s.headerID) && what[left+1] == '@' &&
		what[left+2:len(what)-1] == string(right) && what[len(what)-1] == '>'
}

// isAddress reports whether the reader's entry of people is of an address.
func (p *runPerson) isAddress(a mailaddr.Address) bool {
	return string(p.local) == a.Local() && string(p.domain) == a.Domain()
}
