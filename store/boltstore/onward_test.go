package boltstore

import (
	"testing"
	"time"

	"latchkey/internal/journal"
	"latchkey/store"
)

// TestOnwardRecord: what is particular to a job that sends mail on is in the journal, as a start after a crash reads it.
func TestOnwardRecord(t *testing.T) {
	by, path := mustAddress("anna@"+domain), mustAddress("srs0=x@"+domain)
	m := &messageEntry{
		id: 7, firstCopy: 1, firstJob: 2, received: time.Unix(1_000_000_000, 0), sender: mustAddress("x@out.example"), body: body{size: 3},
		holders: []holder{
			{address: mustAddress("a@out.example"), notify: store.NotifyNever, original: "rfc822;a"},
			{address: mustAddress("b@out.example"), onward: store.Onward{By: by, ReversePath: path, Kept: true}},
			{address: mustAddress("c@out.example"), onward: store.Onward{By: by}},
		},
	}
	var e encoder
	m.encode(&e)
	d := decoder{b: e.b}
	got := decodeMessage(&d, int64(len(e.b)), journal.Place{})
	if d.err != nil || len(d.b) != 0 || len(got.holders) != len(m.holders) {
		t.Fatalf("%v, %d octets left, %d holders", d.err, len(d.b), len(got.holders))
	}
	for i, reversePath := range []string{"x@out.example", path.String(), ""} {
		if got.holders[i].onward != m.holders[i].onward {
			t.Errorf("holder %d: %+v, want %+v", i, got.holders[i].onward, m.holders[i].onward)
		}
		j := got.job(store.JobID(i), &got.holders[i])
		if j.ReversePath.String() != reversePath || j.ForwardedBy != m.holders[i].onward.By || j.Kept != m.holders[i].onward.Kept {
			t.Errorf("job %d: %+v", i, j.Job)
		}
	}
}
