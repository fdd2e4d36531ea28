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
	// maxEventOctets is more than any event adds to a run: six texts, two addresses and what says how long they are.
	maxEventOctets = 8 << 10
	// sealAt is how many octets of events make a block.
	sealAt = 120 << 10
	// maxRunOctets bounds the events of a run, in octets, before they are compressed.
	maxRunOctets = sealAt + maxEventOctets
)

// trailKinds are the kinds of events. A kind is kept as its place in this list, counted from 1; the list may grow at its end only.
var trailKinds = [...]store.TrailKind{
	store.TrailAccepted, store.TrailStored, store.TrailQueued, store.TrailLeftOut, store.TrailDelivered, store.TrailDeferred,
	store.TrailFailed, store.TrailHeld, store.TrailReleased, store.TrailRemoved, store.TrailFetched, store.TrailDeleted,
}

// A step is one octet: the kind of the event, and what it has in common with the one before. stepJump instead of a kind says that events
// are left out, which lie in other runs.
const (
	stepJump        = 0
	stepAccepted    = 1
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
	colPeople            // table: the domain's place in colNames, the local part unquoted; a null reverse-path has both empty
	colPlaces            // table of origins: places of door, keyword and greeting in colNames, the address in binary
	colNanos             // other time: nanoseconds, less those of the one before
	colSenders           // other sender: its place in colPeople
	colRecipients        // unless accepted: its place in colPeople
	colSizes             // accepted: octets
	colSites             // accepted: 0, or the Message-ID is <left@right>: the place of right in colNames, counted from 1
	colOrigins           // accepted: its place in colPlaces
	colHeaderIDs         // accepted: the Message-ID, or left of it
	numColumns
)

// columnGroups are where groups end: first what repeats itself, then numbers, then what is random.
var columnGroups = [...]int{colNanos, colHeaderIDs, numColumns}

// runHead says what is in a run without a look at its events.
type runHead struct {
	first, last uint64    // the lowest and the highest Seq
	events      uint64    // how many
	newest      uint64    // the highest message id
	from, to    uint64    // what was accepted has message ids from .. to; both 0 if nothing was
	latest      time.Time // the latest time
}

// accepts reports whether a message may have been accepted in the run.
func (h *runHead) accepts(message uint64) bool {
	return h.to != 0 && message >= h.from && message <= h.to
}

func (h *runHead) encode(e *encoder) {
	for _, n := range []uint64{h.first, h.last, h.events, h.newest, h.from, h.to} {
		e.uvarint(n)
	}
	e.time(h.latest)
}

func (d *decoder) runHead() runHead {
	h := runHead{
		first: d.uvarint(), last: d.uvarint(), events: d.uvarint(), newest: d.uvarint(), from: d.uvarint(), to: d.uvarint(), latest: d.time(),
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
	people  map[mailaddr.Address]uint64
	places  map[store.Origin]uint64
	words   []uint64 // hashes of what the events can be found by
	packer  packer
}

func newTrailRun() *trailRun {
	return &trailRun{names: make(map[string]uint64), people: make(map[mailaddr.Address]uint64), places: make(map[store.Origin]uint64)}
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
		to.sender = r.person(e.Sender)
		r.sender = e.Sender
	}
	if to.message == r.at.message && r.head.events > 0 {
		step |= stepSameMessage
	} else {
		r.columns[colMessages].varint(int64(to.message - r.at.message))
		if kind != stepAccepted && !r.head.accepts(to.message) {
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
	if kind == stepAccepted {
		r.accepted(e)
	} else {
		r.columns[colRecipients].uvarint(r.person(e.Recipient))
	}
	if e.Text != "" {
		step |= stepText
		r.columns[colTexts].string(cutText(e.Text))
	}
	r.columns[colSteps].uint8(step)
	r.passed(e, to)
	return nil
}

func (r *trailRun) passed(e *store.TrailEvent, to mark) {
	if r.head.events == 0 || e.Time.After(r.head.latest) {
		r.head.latest = time.Unix(to.sec, to.nsec).UTC()
	}
	if e.Kind == store.TrailAccepted {
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
	r.columns[colOrigins].uvarint(r.place(e.Origin))
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

func (r *trailRun) person(a mailaddr.Address) uint64 {
	n, ok := r.people[a]
	if !ok {
		n = uint64(len(r.people))
		r.people[a] = n
		r.columns[colPeople].uvarint(r.name(a.Domain()))
		r.columns[colPeople].string(a.Local())
		if !a.IsZero() {
			r.words = append(r.words, addressWord(a))
		}
	}
	return n
}

func (r *trailRun) place(o store.Origin) uint64 {
	n, ok := r.places[o]
	if !ok {
		n = uint64(len(r.places))
		r.places[o] = n
		c := &r.columns[colPlaces]
		for _, text := range []string{o.Door, o.With, o.Hello} {
			c.uvarint(r.name(cutText(text)))
		}
		remote, _ := o.Remote.MarshalBinary() // has no error to return
		c.bytes(remote[:min(len(remote), maxTrailText)])
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
