package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// quoted is an address whose local part needs quotes.
func quoted(t testing.TB, local string) mailaddr.Address {
	t.Helper()
	a, err := mailaddr.New(local, "odd.example")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// oddEvents are events that are not as usual, in order of Seq.
func oddEvents(t testing.TB) []store.TrailEvent {
	t.Helper()
	anna, bob := mustAddress("anna@"+domain), mustAddress("bob@[IPv6:2001:db8::1]")
	accepted := func(id string, o store.Origin) store.TrailEvent {
		return store.TrailEvent{Kind: store.TrailAccepted, Sender: anna, HeaderID: id, Origin: o}
	}
	events := []store.TrailEvent{
		{Kind: store.TrailStored, Recipient: bob}, // the zero time, the null reverse-path
		{Kind: store.TrailStored, Message: 1<<64 - 1, Time: time.Unix(1<<40, 999_999_999).UTC(), Recipient: anna}, // far off
		{Kind: store.TrailStored, Message: 1, Time: time.Unix(-1<<40, 0).UTC(), Sender: quoted(t, `a"b@c d\`), Recipient: quoted(t, "@")},
		accepted("", store.Origin{}),
		accepted("no at sign", store.Origin{Door: "local"}),
		accepted("<a@b>", store.Origin{Remote: netip.MustParseAddr("192.0.2.1")}),
		accepted("<a@b", store.Origin{Remote: netip.MustParseAddr("::ffff:192.0.2.1")}),
		accepted("a@b>", store.Origin{Remote: netip.MustParseAddr("2001:db8::1")}),
		accepted("a@b", store.Origin{Remote: netip.MustParseAddr("fe80::1%eth0")}),
		accepted("<@>", store.Origin{Hello: "h\x00\xff"}),
		accepted("<@b@c@>", store.Origin{With: "ESMTPSA", Hello: "h"}),
		accepted("@", store.Origin{With: "h", Hello: "ESMTPSA"}),
		accepted("<>", store.Origin{Door: "mx", Remote: netip.MustParseAddr("192.0.2.1"), Hello: "mx.example", With: "ESMTPS"}),
	}
	events[7].Size, events[8].Size = 1<<62, 1
	for i, kind := range trailKinds {
		e := store.TrailEvent{Kind: kind, Message: store.MessageID(1000 - i), Time: time.Unix(0, int64(i)).UTC(), Sender: bob, Text: "words of " + string(kind)}
		if kind != store.TrailAccepted {
			e.Recipient, e.Account = anna, store.AccountID(i%3)
		} else {
			e.Subject = []store.SubjectToken{7, 1<<32 - 1, 7}
		}
		if clientKinds.has(uint8(i + 1)) {
			e.Origin = store.Origin{Door: "pop3", Remote: netip.MustParseAddr("192.0.2.1"), TLS: "TLS 1.3", Account: 1 << 63, Device: 1<<64 - 1}
		}
		if hostKinds.has(uint8(i + 1)) {
			e.Peer = store.Peer{Host: "mx.example", Addr: netip.MustParseAddr("2001:db8::25"), TLS: "TLS 1.2"}
		}
		events = append(events, e)
	}
	for i := range events {
		events[i].Seq = uint64(7*i*i + 1) // with gaps
	}
	return events
}

// encodeRun encodes events both ways; encoding them again must give the same octets.
func encodeRun(t testing.TB, events []store.TrailEvent) (block, open []byte) {
	t.Helper()
	used := newTrailRun()
	for i := range 2 {
		r := used
		if i > 0 {
			r = newTrailRun()
		}
		for i := range events {
			if err := r.add(&events[i]); err != nil {
				t.Fatal(err)
			}
		}
		b, o := encodeBlock(r), encodeOpen(r)
		if i > 0 && (!bytes.Equal(b, block) || !bytes.Equal(o, open)) {
			t.Error("the same events were encoded differently")
		}
		block, open = b, o
	}
	return block, open
}

// decodeRun returns the events of a block or run.
func decodeRun(id bucketID, b []byte) (events []store.TrailEvent, err error) {
	var d trailDecoder
	if err := d.openValue(id, b); err != nil {
		return nil, err
	}
	err = d.each(func() error {
		e, err := d.event()
		events = append(events, e)
		return err
	})
	return events, err
}

func TestTrailEncoding(t *testing.T) {
	m := newTraffic()
	var usual []store.TrailEvent
	for range 500 {
		usual = m.message(usual)
	}
	for i := range usual {
		usual[i].Seq = 1<<40 + uint64(i)
	}
	for name, events := range map[string][]store.TrailEvent{"odd": oddEvents(t), "usual": usual, "one": usual[:1]} {
		block, open := encodeRun(t, events)
		if len(block)%trailPiece != 0 {
			t.Errorf("%s: a block of %d octets is not whole pieces", name, len(block))
		}
		for id, b := range map[bucketID][]byte{bTrail: block, bTrailOpen: open} {
			got, err := decodeRun(id, b)
			if err != nil || len(got) != len(events) {
				t.Fatalf("%s %s: %d events (%v), want %d", name, id, len(got), err, len(events))
			}
			for i := range events {
				if !reflect.DeepEqual(got[i], events[i]) {
					t.Fatalf("%s %s: got %+v, want %+v", name, id, got[i], events[i])
				}
			}
		}
		h, err := decodeBlockHead(block)
		if err != nil {
			t.Fatal(err)
		}
		f := h.filterOf(block)
		for _, e := range events {
			if !h.accepts(uint64(e.Message)) && !f.has(messageWord(e.Message)) || e.HeaderID != "" && !f.has(textWord(e.HeaderID)) ||
				!e.Sender.IsZero() && !f.has(addressWord(e.Sender)) || !e.Recipient.IsZero() && !f.has(addressWord(e.Recipient)) ||
				e.Account != 0 && !f.has(accountWord(e.Account)) || e.Origin.Account != 0 && !f.has(accountWord(e.Origin.Account)) ||
				slices.ContainsFunc(e.Subject, func(t store.SubjectToken) bool { return !f.has(subjectWord(t)) }) {
				t.Fatalf("%s: the filter does not know %+v", name, e)
			}
		}
	}
}

// TestTrailHeaderIDs: a Message-ID is itself only, however it is kept.
func TestTrailHeaderIDs(t *testing.T) {
	ids := []string{"<a@b>", "<a@c>", "<c@b>", "<a@bb>", "<aa@b>", "a@b", "<a@b", "a@b>", "<a>", "<@>", "<>", "<@b>", "<a@>", "<a@b@c>", "<a@b>>", "<<a@b>", "@", "<", ">", ""}
	r := newTrailRun()
	for i, id := range ids {
		if err := r.add(&store.TrailEvent{Seq: uint64(i + 1), Kind: store.TrailAccepted, HeaderID: id}); err != nil {
			t.Fatal(err)
		}
	}
	var d trailDecoder
	if err := d.openValue(bTrail, encodeBlock(r)); err != nil {
		t.Fatal(err)
	}
	if err := d.each(func() error {
		for _, what := range ids {
			if is := ids[d.step.seq-1]; d.isHeaderID(what) != (is == what) {
				t.Errorf("%q is taken for %q: %v", is, what, d.isHeaderID(what))
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestTrailTexts: texts are kept to their bound, and cut beyond it.
func TestTrailTexts(t *testing.T) {
	for n := maxTrailText - 1; n <= maxTrailText+1; n++ {
		x := strings.Repeat("x", n)
		e := store.TrailEvent{Seq: 1, Message: 1, Kind: store.TrailAccepted, HeaderID: x, Text: x, Origin: store.Origin{Door: x, Hello: x, With: x, TLS: x}}
		e.Origin.Remote = netip.MustParseAddr("fe80::1%" + x)
		for i := range store.MaxSubjectTokens {
			e.Subject = append(e.Subject, store.SubjectToken(i))
		}
		r := newTrailRun()
		if err := r.add(&e); err != nil {
			t.Fatal(err)
		}
		if n := len(encodeOpen(r)); n > maxEventOctets {
			t.Errorf("one event is %d octets, want at most %d", n, maxEventOctets)
		}
		got, err := decodeRun(bTrail, encodeBlock(r))
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		want := x[:min(n, maxTrailText)]
		if g := got[0]; g.HeaderID != want || g.Text != want || g.Origin.Door != want || g.Origin.Hello != want || g.Origin.With != want ||
			g.Origin.TLS != want || !slices.Equal(g.Subject, e.Subject) {
			t.Errorf("texts of %d octets: got %+v", n, g)
		}
	}
}

func TestTrailAddRefuses(t *testing.T) {
	r := newTrailRun()
	if err := r.add(&store.TrailEvent{Seq: 5, Kind: store.TrailStored}); err != nil {
		t.Fatal(err)
	}
	for _, e := range []store.TrailEvent{{Seq: 5, Kind: store.TrailStored}, {Seq: 4, Kind: store.TrailStored}, {Seq: 6, Kind: "dreamt"}} {
		if err := r.add(&e); err == nil {
			t.Errorf("%+v was taken", e)
		}
	}
	if r.head.events != 1 {
		t.Errorf("%d events, want 1", r.head.events)
	}
}

// TestFilter: a filter knows all of its words and takes few others for them.
func TestFilter(t *testing.T) {
	const words, probes, most = 5000, 100_000, 200
	f := make(filter, words*wordBits/8)
	for i := range words {
		f.add(textWord(fmt.Sprintf("<%d@out.example>", i)))
	}
	wrong := 0
	for i := range probes {
		has := f.has(textWord(fmt.Sprintf("<%d@out.example>", i)))
		if i < words && !has {
			t.Fatalf("word %d is not known", i)
		}
		if i >= words && has {
			wrong++
		}
	}
	if wrong > most || wrong == 0 {
		t.Errorf("%d of %d words seem to be there, want 1 to %d", wrong, probes-words, most)
	}
}

// mend gives damaged octets checksums that are right.
func mend(id bucketID, b []byte) []byte {
	b = bytes.Clone(b)
	if id == bTrailOpen && len(b) >= crc32.Size {
		binary.BigEndian.PutUint32(b, crc32.Checksum(b[crc32.Size:], castagnoli()))
	}
	if h, err := decodeBlockHead(b); id == bTrail && err == nil && h.end() <= len(b) {
		binary.BigEndian.PutUint32(b, crc32.Checksum(b[sumsLen:h.end()], castagnoli()))
		binary.BigEndian.PutUint32(b[crc32.Size:], crc32.Checksum(b[h.end():], castagnoli()))
	}
	return b
}

// TestDamagedTrailValue: no flipped bit and no missing end goes unnoticed. With right checksums nothing worse than an error comes of it.
func TestDamagedTrailValue(t *testing.T) {
	block, open := encodeRun(t, oddEvents(t))
	for id, whole := range map[bucketID][]byte{bTrail: block, bTrailOpen: open} {
		for i := range whole {
			b := bytes.Clone(whole)
			b[i] ^= 1 << (i % 8)
			if _, err := decodeRun(id, b); !errors.Is(err, errShortRecord) {
				t.Fatalf("%s: octet %d of %d is wrong: %v", id, i, len(b), err)
			}
			if _, err := decodeRun(id, mend(id, b)); err != nil && !errors.Is(err, errShortRecord) {
				t.Fatalf("%s: octet %d of %d is wrong: %v", id, i, len(b), err)
			}
			if _, err := decodeRun(id, whole[:i]); !errors.Is(err, errShortRecord) {
				t.Fatalf("%s: cut at %d of %d: %v", id, i, len(whole), err)
			}
		}
	}
}

// TestTrailValueBounds: what a head says of lengths is believed up to the bounds only.
func TestTrailValueBounds(t *testing.T) {
	head := func(octets, filter uint32) []byte {
		e := encoder{b: make([]byte, sumsLen)}
		(&runHead{first: 1, last: 1, events: 1}).encode(&e)
		e.uint32(octets)
		e.uint32(filter)
		return e.b
	}
	for _, tt := range []struct {
		octets, filter uint32
		ok             bool
	}{
		{maxRunOctets, 1, true}, {maxRunOctets + 1, 1, false}, {1 << 31, 1, false}, {1<<32 - 1, 1, false},
		{1, 0, false}, {1, maxTrailValue, true}, {1, maxTrailValue + 1, false}, {1, 1<<32 - 1, false},
	} {
		if _, err := decodeBlockHead(head(tt.octets, tt.filter)); (err == nil) != tt.ok {
			t.Errorf("%d octets, a filter of %d: %v", tt.octets, tt.filter, err)
		}
	}
}

// withFilter is the block with an empty filter of some octets.
func withFilter(t testing.TB, block []byte, octets int) []byte {
	t.Helper()
	h, err := decodeBlockHead(block)
	if err != nil {
		t.Fatal(err)
	}
	packed := block[h.end():]
	h.filter = octets
	e := encoder{b: make([]byte, sumsLen)}
	h.encode(&e)
	e.raw(make([]byte, octets))
	e.raw(packed)
	return mend(bTrail, e.b)
}

// FuzzTrailBlock reads what a damaged index may hold, with and without right checksums: there is an error, or there are events that can be
// written again. Inputs are short, as the fuzzer takes time to make long ones shorter.
func FuzzTrailBlock(f *testing.F) {
	for _, events := range [][]store.TrailEvent{oddEvents(f)[:1], oddEvents(f)[3:9]} {
		block, open := encodeRun(f, events)
		f.Add(withFilter(f, block, 8))
		f.Add(open)
	}
	r := newTrailRun()
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, id := range []bucketID{bTrail, bTrailOpen} {
			for _, b := range [][]byte{b, mend(id, b)} {
				events, err := decodeRun(id, b)
				if err != nil {
					if !errors.Is(err, errShortRecord) {
						t.Errorf("%s: %v, want %v", id, err, errShortRecord)
					}
					continue
				}
				if tooLong(events) {
					continue
				}
				r.reset()
				for i := range events {
					if err := r.add(&events[i]); err != nil {
						t.Fatal(err)
					}
				}
				if again, err := decodeRun(bTrailOpen, encodeOpen(r)); err != nil || !reflect.DeepEqual(again, events) {
					t.Errorf("%s: %+v became %+v, %v", id, events, again, err)
				}
			}
		}
	})
}

// tooLong reports whether texts would be cut.
func tooLong(events []store.TrailEvent) bool {
	for _, e := range events {
		for _, text := range []string{e.HeaderID, e.Text, e.Origin.Door, e.Origin.Hello, e.Origin.With, e.Origin.Remote.Zone(), e.Origin.TLS, e.Peer.Host, e.Peer.TLS, e.Peer.Addr.Zone()} {
			if len(text) > maxTrailText-16 {
				return true
			}
		}
	}
	return false
}

// randomEvents are n events or some more of few messages and people: acceptances with what comes along, one in a while of many recipients, and
// what happens to messages after that.
func randomEvents(rng *rand.Rand, n int, now time.Time, last *store.MessageID) (events []store.TrailEvent) {
	person := func() mailaddr.Address { return mustAddress(fmt.Sprintf("p%d@%s", rng.IntN(300), domain)) }
	account := func() store.AccountID { return store.AccountID(rng.IntN(20)) }
	at := func() time.Time { return now.Add(-time.Duration(rng.Int64N(int64(40 * 24 * time.Hour)))) }
	for len(events) < n {
		if *last > 0 && rng.IntN(3) > 0 {
			e := store.TrailEvent{Kind: trailKinds[kindDelivered-1+rng.IntN(len(trailKinds)-kindDelivered+1)], Time: at(), Sender: person(), Recipient: person()}
			e.Message, e.Text, e.Account = 1+store.MessageID(rng.Uint64N(uint64(*last))), strings.Repeat("words ", rng.IntN(10)), account()
			events = append(events, e)
			continue
		}
		*last++
		a := store.TrailEvent{
			Kind: store.TrailAccepted, Message: *last, Time: at(), Sender: person(), HeaderID: fmt.Sprintf("<%d@out.example>", rng.IntN(1000)),
			Origin: store.Origin{Account: account()},
		}
		for range rng.IntN(4) {
			a.Subject = append(a.Subject, store.SubjectToken(rng.IntN(20)))
		}
		events = append(events, a)
		recipients := rng.IntN(4)
		if rng.IntN(200) == 0 {
			recipients = 2000
		}
		for range recipients {
			e := store.TrailEvent{Kind: trailKinds[kindStored-1+rng.IntN(3)], Message: a.Message, Time: a.Time, Sender: a.Sender, Recipient: person()}
			if recipients == 2000 {
				e.Text = strings.Repeat("x", 100) // so that they lie in several blocks
			}
			if e.Kind == store.TrailStored {
				e.Account = account()
			}
			events = append(events, e)
		}
	}
	return events
}
