package boltstore

import (
	"testing"

	"latchkey/internal/journal"
	"latchkey/store"
)

// TestMessageFlags: what the sender said of the message comes back from the journal, alone and all together.
func TestMessageFlags(t *testing.T) {
	for _, want := range []messageEntry{
		{}, {eightBit: true}, {utf8: true}, {hold: "why"}, {tls: store.TLSRequired}, {tls: store.TLSOptional},
		{eightBit: true, utf8: true, hold: "why", tls: store.TLSRequired}, {eightBit: true, utf8: true, hold: "why", tls: store.TLSOptional},
	} {
		var e encoder
		want.encode(&e)
		d := decoder{b: e.b}
		got := decodeMessage(&d, int64(len(e.b)), journal.Place{})
		if d.err != nil || got.eightBit != want.eightBit || got.utf8 != want.utf8 || got.hold != want.hold || got.tls != want.tls {
			t.Errorf("got %+v, %v, want %+v", got, d.err, want)
		}
	}
}
