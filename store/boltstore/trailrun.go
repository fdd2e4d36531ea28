package boltstore

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// Bounds of what is kept together of the trail.
const (
	// maxTrailText bounds each text of an event, in octets; what is longer is cut. Neither a remote's words nor the name that a client
	// gives comes near.
	maxTrailText = 1000
	// maxEventOctets is more than any event adds to a run: seven texts, two addresses, the tokens of a subject, and what says how long they are.
	maxEventOctets = 9 << 10
	// sealAt is how many octets of events make a block.
	sealAt = 120 << 10
	// maxRunOctets bounds the events of a run, in octets, before they are compressed.
	maxRunOctets = sealAt + maxEventOctets
)

// The kinds of events. A kind is kept as its number; the list may grow at its end only, and to 15.
const (
	kindAccepted = 1 + iota
	kindStored
	kindQueued
	kindLeftOut
	kindDelivered
	kindDeferred
	kindFailed
	kindHeld
	kindReleased
	kindRemoved
	kindFetched
	kindDeleted
	kindReported
	kindGivenUp
)

// trailKinds are the names of the kinds, from the first on.
var trailKinds = [...]store.TrailKind{
	kindAccepted - 1: store.TrailAccepted, kindStored - 1: store.TrailStored, kindQueued - 1: store.TrailQueued, kindLeftOut - 1: store.TrailLeftOut,
	kindDelivered - 1: store.TrailDelivered, kindDeferred - 1: store.TrailDeferred, kindFailed - 1: store.TrailFailed, kindHeld - 1: store.TrailHeld,
	kindReleased - 1: store.TrailReleased, kindRemoved - 1: store.TrailRemoved, kindFetched - 1: store.TrailFetched, kindDeleted - 1: store.TrailDeleted,
	kindReported - 1: store.TrailReported, kindGivenUp - 1: store.TrailGivenUp,
}

// kindSet is a set of kinds.
type kindSet uint16

const (
	// hostKinds are attempts, and have a host.
	hostKinds kindSet = 1<<kindDelivered | 1<<kindDeferred | 1<<kindFailed
	// clientKinds have a client.
	clientKinds kindSet = 1<<kindAccepted | 1<<kindFetched | 1<<kindDeleted
	// joinKinds come with the acceptance of their message, one for each recipient.
	joinKinds kindSet = 1<<kindStored | 1<<kindQueued | 1<<kindLeftOut
)

func (s kindSet) has(kind uint8) bool { return s>>kind&1 == 1 }

// A step is one octet: the kind of the event, and what it has in common with the one before. stepJump instead of a kind says that events
// are left out, which lie in other runs.
const (
	stepJump        = 0
	stepKind        = 0x0f
	stepSameMessage = 0x10
	stepSameTime    = 0x20
	stepSameSender  = 0x40
	stepText        = 0x80
)

// The columns of a run. Events are kept column by column, in groups of columns that are compressed apart, as like compresses well with like.
const (
	colSteps      = iota // one step an event
	colMessages          // other message: how far from the one before; jump: how many events are left out
	colSeconds           // other time: seconds since the one before
	colTexts             // step with a text: the text
	colNames             // table: texts
	colPeople            // table: the domain's place in colNames, the local part unquoted, the mailbox; a null reverse-path has all empty
	colPlaces            // table of clients and hosts: places of door, keyword, greeting and TLS in colNames, the address in binary, mailbox, device
	colNanos             // other time: nanoseconds, less those of the one before
	colSenders           // other sender: its place in colPeople
	colRecipients        // unless accepted: its place in colPeople
	colSizes             // accepted: octets
	colSites             // accepted: 0, or the Message-ID is <left@right>: the place of right in colNames, counted from 1
	colOrigins           // accepted, fetched, deleted, attempts: its place in colPlaces
	colSubjects          // accepted: how many words its subject has, and their places in colWords
	colWords             // table: tokens of words of subjects, four octets each
	colHeaderIDs         // accepted: the Message-ID, or left of it
	numColumns
)

// columnGroups are where groups end: first what repeats itself, then numbers, then what is random.
var columnGroups = [...]int{colNanos, colWords, numColumns}

// runHead says what is in a run without a look at its events.
type runHead struct {
	first, last uint64 // the lowest and the highest Seq
	events      uint64 // how many
	newest      uint64 // the highest message id
	from, to    uint64 // what was accepted has message ids from .. to; both 0 if nothing was
	// joins, joined: the lowest and the highest message that was accepted in another run and has events here that came with that; 0 if there is none.
	joins, joined    uint64
	earliest, latest time.Time
}

// span is the lowest and the highest message whose acceptance, or part of it, is in the run; both 0 if there is none.
func (h *runHead) span() (from, to uint64) {
	if h.joins == 0 || h.from != 0 && h.from < h.joins {
		from = h.from
	} else {
		from = h.joins
	}
	return from, max(h.to, h.joined)
}

// accepts reports whether a message may have been accepted in the run.
func (h *runHead) accepts(message uint64) bool {
	return h.to != 0 && message >= h.from && message <= h.to
}

func (h *runHead) encode(e *encoder) {
	for _, n := range []uint64{h.first, h.last, h.events, h.newest, h.from, h.to, h.joins, h.joined} {
		e.uvarint(n)
	}
	e.time(h.earliest)
	e.time(h.latest)
}

func (d *decoder) runHead() runHead {
	h := runHead{
		first: d.uvarint(), last: d.uvarint(), events: d.uvarint(), newest: d.uvarint(), from: d.uvarint(), to: d.uvarint(),
		joins: d.uvarint(), joined: d.uvarint(), earliest: d.time(), latest: d.time(),
	}
	if d.err == nil && (h.first == 0 || h.events == 0 || h.last < h.first || h.events-1 > h.last-h.first) {
		d.fail()
	}
	return h
}

// mark is where an event stands; the next one is kept as the difference.
type mark struct {
	seq, message uint64
	sec          int64
	nsec         int64
	sender       uint64 // its place in the table of people
}

// nobody is no place in the table of people.
const nobody = 1<<64 - 1

// trailRun encodes events that follow each other. What is encoded follows from the events alone. The zero value is not ready: see newTrailRun.
type trailRun struct {
	head    runHead
	at      mark
	sender  mailaddr.Address // of the event before
	columns [numColumns]encoder
	names   map[string]uint64
	people  map[party]uint64
	places  map[store.Origin]uint64
	tokens  map[store.SubjectToken]uint64
	words   []uint64 // hashes of what the events can be found by
	packer  packer
}

// party is an address, and the mailbox that a copy for it is in.
type party struct {
	mailaddr.Address
	account store.AccountID
}

func newTrailRun() *trailRun {
	return &trailRun{
		names: make(map[string]uint64), people: make(map[party]uint64), places: make(map[store.Origin]uint64),
		tokens: make(map[store.SubjectToken]uint64),
	}
}

// reset makes the run empty.
func (r *trailRun) reset() {
	r.head, r.at, r.sender, r.words = runHead{}, mark{}, mailaddr.Address{}, r.words[:0]
	for i := range r.columns {
		r.columns[i].b = r.columns[i].b[:0]
	}
	clear(r.names)
	clear(r.people)
	clear(r.places)
	clear(r.tokens)
}

// octets is how long the run is, but for a few octets.
func (r *trailRun) octets() int {
	n := 0
	for i := range r.columns {
		n += len(r.columns[i].b)
	}
	return n
}

// add encodes an event. It fails for a Seq that is not higher than that of the event before, and for a kind that is not in trailKinds.
func (r *trailRun) add(e *store.TrailEvent) error {
	kind := slices.Index(trailKinds[:], e.Kind) + 1
	if kind == 0 {
		return fmt.Errorf("trail: event of the unknown kind %q", e.Kind)
	}
	if e.Seq <= r.head.last {
		return fmt.Errorf("trail: event %d after event %d", e.Seq, r.head.last)
	}
	if r.head.events == 0 {
		r.head.first = e.Seq
		r.at = mark{seq: e.Seq - 1, sender: nobody}
	}
	if jump := e.Seq - r.at.seq - 1; jump > 0 {
		r.columns[colSteps].uint8(stepJump)
		r.columns[colMessages].uvarint(jump)
	}
	step := uint8(kind)
	to := mark{seq: e.Seq, message: uint64(e.Message), sec: e.Time.Unix(), nsec: int64(e.Time.Nanosecond()), sender: r.at.sender}
	if e.Sender != r.sender || to.sender == nobody {
		to.sender = r.person(party{Address: e.Sender})
		r.sender = e.Sender
	}
	if to.message == r.at.message && r.head.events > 0 {
		step |= stepSameMessage
	} else {
		r.columns[colMessages].varint(int64(to.message - r.at.message))
		if kind != kindAccepted && !r.head.accepts(to.message) {
			r.words = append(r.words, messageWord(e.Message))
		}
	}
	if to.sec == r.at.sec && to.nsec == r.at.nsec {
		step |= stepSameTime
	} else {
		r.columns[colSeconds].varint(to.sec - r.at.sec)
		r.columns[colNanos].varint(to.nsec - r.at.nsec)
	}
	if to.sender == r.at.sender {
		step |= stepSameSender
	} else {
		r.columns[colSenders].uvarint(to.sender)
	}
	if kind == kindAccepted {
		r.accepted(e)
	} else {
		r.columns[colRecipients].uvarint(r.person(party{e.Recipient, e.Account}))
	}
	r.placed(uint8(kind), e)
	if e.Text != "" {
		step |= stepText
		r.columns[colTexts].string(cutText(e.Text))
	}
	r.columns[colSteps].uint8(step)
	r.passed(e, to)
	return nil
}

func (r *trailRun) passed(e *store.TrailEvent, to mark) {
	at := time.Unix(to.sec, to.nsec).UTC()
	if r.head.events == 0 || at.After(r.head.latest) {
		r.head.latest = at
	}
	if r.head.events == 0 || at.Before(r.head.earliest) {
		r.head.earliest = at
	}
	switch e.Kind {
	case store.TrailStored, store.TrailQueued, store.TrailLeftOut:
		if !r.head.accepts(to.message) {
			if r.head.joins == 0 || to.message < r.head.joins {
				r.head.joins = to.message
			}
			r.head.joined = max(r.head.joined, to.message)
		}
	case store.TrailAccepted:
		if r.head.to == 0 || to.message < r.head.from {
			r.head.from = to.message
		}
		r.head.to = max(r.head.to, to.message)
	}
	r.head.events++
	r.head.last = to.seq
	r.head.newest = max(r.head.newest, to.message)
	r.at = to
}

// accepted encodes what only the acceptance has.
func (r *trailRun) accepted(e *store.TrailEvent) {
	id, site := cutText(e.HeaderID), uint64(0)
	if id != "" {
		r.words = append(r.words, textWord(id))
	}
	if i := strings.LastIndexByte(id, '@'); i > 0 && id[0] == '<' && id[len(id)-1] == '>' {
		site = r.name(id[i+1:len(id)-1]) + 1
		id = id[1:i]
	}
	r.columns[colSites].uvarint(site)
	r.columns[colHeaderIDs].string(id)
	r.columns[colSizes].uvarint(uint64(e.Size))
	subject := e.Subject[:min(len(e.Subject), store.MaxSubjectTokens)]
	r.columns[colSubjects].uvarint(uint64(len(subject)))
	for _, token := range subject {
		r.columns[colSubjects].uvarint(r.token(token))
	}
}

// placed encodes who was at the other end.
func (r *trailRun) placed(kind uint8, e *store.TrailEvent) {
	switch {
	case clientKinds.has(kind):
		r.columns[colOrigins].uvarint(r.place(e.Origin))
	case hostKinds.has(kind):
		r.columns[colOrigins].uvarint(r.place(store.Origin{Hello: e.Peer.Host, Remote: e.Peer.Addr, TLS: e.Peer.TLS}))
	}
}

func (r *trailRun) token(t store.SubjectToken) uint64 {
	n, ok := r.tokens[t]
	if !ok {
		n = uint64(len(r.tokens))
		r.tokens[t] = n
		r.columns[colWords].uint32(uint32(t))
		r.words = append(r.words, subjectWord(t))
	}
	return n
}

func cutText(s string) string { return s[:min(len(s), maxTrailText)] }

func (r *trailRun) name(s string) uint64 {
	n, ok := r.names[s]
	if !ok {
		n = uint64(len(r.names))
		r.names[s] = n
		r.columns[colNames].string(s)
	}
	return n
}

func (r *trailRun) person(a party) uint64 {
	n, ok := r.people[a]
	if !ok {
		n = uint64(len(r.people))
		r.people[a] = n
		r.columns[colPeople].uvarint(r.name(a.Domain()))
		r.columns[colPeople].string(a.Local())
		r.columns[colPeople].uvarint(uint64(a.account))
		if !a.IsZero() {
			r.words = append(r.words, addressWord(a.Address))
		}
		r.owned(a.account)
	}
	return n
}

// owned lets the run be found by a mailbox.
func (r *trailRun) owned(account store.AccountID) {
	if account != 0 {
		r.words = append(r.words, accountWord(account))
	}
}

func (r *trailRun) place(o store.Origin) uint64 {
	n, ok := r.places[o]
	if !ok {
		n = uint64(len(r.places))
		r.places[o] = n
		c := &r.columns[colPlaces]
		for _, text := range []string{o.Door, o.With, o.Hello, o.TLS} {
			c.uvarint(r.name(cutText(text)))
		}
		remote, _ := o.Remote.MarshalBinary() // has no error to return
		c.bytes(remote[:min(len(remote), maxTrailText)])
		c.uvarint(uint64(o.Account))
		c.uvarint(uint64(o.Device))
		r.owned(o.Account)
	}
	return n
}

// appendColumns appends some of the run's columns to b, each with its length before it.
func (r *trailRun) appendColumns(b []byte, from, to int) []byte {
	e := encoder{b: b}
	for i := from; i < to; i++ {
		e.bytes(r.columns[i].b)
	}
	return e.b
}
