package boltstore

import (
	"net/netip"
	"testing"
	"time"

	"latchkey/internal/journal"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// TestMessageRecord: each field of a message that its jobs need comes out of the journal as it went in: what the index has not seen is made of it
// after a crash.
func TestMessageRecord(t *testing.T) {
	sender, err := mailaddr.Parse("anna@example.com")
	if err != nil {
		t.Fatal(err)
	}
	received := time.Date(2026, 11, 28, 12, 0, 0, 7, time.UTC)
	full := messageEntry{
		id: 1, firstCopy: 2, firstJob: 3, received: received, sender: sender, submitter: 4, headerLen: 5, headerID: "<id>",
		origin:   store.Origin{Door: "submission", Remote: netip.MustParseAddr("192.0.2.1"), Hello: "h", With: "ESMTPSA"},
		eightBit: true, utf8: true, ours: true, ret: store.ReturnFull, tls: store.TLSRequired, envelope: "env", hold: "odd", body: body{size: 9},
		holders: []holder{{address: sender, notify: store.NotifyFailure, original: "rfc822;x"}},
	}
	for name, edit := range map[string]func(*messageEntry){
		"everything": func(*messageEntry) {}, "7 bits": func(m *messageEntry) { m.eightBit = false }, "ASCII": func(m *messageEntry) { m.utf8 = false },
		"not ours": func(m *messageEntry) { m.ours = false }, "not held": func(m *messageEntry) { m.hold = "" },
		"in the clear if need be": func(m *messageEntry) { m.tls = store.TLSOptional }, "no demand": func(m *messageEntry) { m.tls = store.TLSUnset },
	} {
		m := full
		edit(&m)
		var e encoder
		m.encode(&e)
		got, err := decodeEntry(&journal.Record{Kind: recMessage, Meta: e.b})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := m.job(3, &m.holders[0]).Job
		if job := got.(*messageEntry).job(3, &m.holders[0]).Job; job != want {
			t.Errorf("%s: %+v, want %+v", name, job, want)
		}
	}
}

// TestMessageFlags: what the sender said of the message comes back from the journal, alone and all together.
func TestMessageFlags(t *testing.T) {
	for _, want := range []messageEntry{
		{}, {eightBit: true}, {utf8: true}, {hold: "why"}, {ours: true}, {tls: store.TLSRequired}, {tls: store.TLSOptional},
		{eightBit: true, utf8: true, hold: "why", ours: true, tls: store.TLSRequired}, {eightBit: true, utf8: true, hold: "why", ours: true, tls: store.TLSOptional},
	} {
		var e encoder
		want.encode(&e)
		d := decoder{b: e.b}
		got := decodeMessage(&d, int64(len(e.b)), journal.Place{})
		if d.err != nil || got.eightBit != want.eightBit || got.utf8 != want.utf8 || got.hold != want.hold || got.tls != want.tls || got.ours != want.ours {
			t.Errorf("got %+v, %v, want %+v", got, d.err, want)
		}
	}
}
