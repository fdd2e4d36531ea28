package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"latchkey/store"
)

var fetchedTests = []test{
	{"Fetched", TestFetched},
	{"FetchedAndDeleted", TestFetchedAndDeleted},
	{"FetchedByOthers", TestFetchedByOthers},
	{"FetchedBeforeDeleted", TestFetchedBeforeDeleted},
	{"FetchedBeforeRemoval", TestFetchedBeforeRemoval},
	{"FetchedBrokeOff", TestFetchedBrokeOff},
	{"UTF8", TestUTF8},
}

// fetch notes copies as fetched, in a session of its own.
func (h *harness) fetch(id store.AccountID, copies ...store.CopyID) {
	h.t.Helper()
	md := h.maildrop(id)
	h.must(md.Expunge(h.ctx, nil, copies))
	h.must(md.Close())
}

// fetchedOf returns the ids of those that are marked.
func fetchedOf(messages []store.Message) (ids []store.CopyID) {
	for _, m := range messages {
		if m.Fetched {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// wantFetched compares what a snapshot that is taken now has marked.
func (h *harness) wantFetched(id store.AccountID, want ...store.CopyID) {
	h.t.Helper()
	if got := fetchedOf(h.list(id)); !slices.Equal(got, want) {
		h.t.Errorf("of account %d copies %v are marked as fetched, want %v", id, got, want)
	}
}

// TestFetched: what a session told Expunge that it fetched is marked from then on, for good, in every snapshot to come and in no other copy.
func TestFetched(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	var ids, bobs []store.CopyID
	for i := range 5 {
		body := message(fmt.Sprint(i))
		if i == 3 {
			body = largeBody("large")
		}
		r := h.send(body, to(anna), to(bob))
		ids, bobs = append(ids, r.Copies[0].ID), append(bobs, r.Copies[1].ID)
	}
	h.wantFetched(anna.ID)
	before := h.maildrop(anna.ID)
	listed := h.messages(before)
	h.fetch(anna.ID, ids[3], ids[1], ids[3], bobs[0], 1<<60)
	h.wantFetched(anna.ID, ids[1], ids[3])
	if got := h.messages(before); !slices.EqualFunc(got, listed, sameMessage) {
		t.Errorf("the snapshot from before lists %+v, want %+v", got, listed)
	}
	h.must(before.Close())
	for range 2 {
		h.reopen()
		h.wantFetched(anna.ID, ids[1], ids[3])
		h.wantFetched(bob.ID)
	}
	h.fetch(anna.ID, ids...) // some of them once more
	h.wantFetched(anna.ID, ids...)
	late := h.send(message("late"), to(anna)).Copies[0].ID
	h.wantFetched(anna.ID, ids...)
	h.expunge(anna.ID, ids[0])
	h.reopen()
	h.wantFetched(anna.ID, ids[1:]...)
	h.fetch(anna.ID, late)
	h.wantFetched(anna.ID, append(ids[1:], late)...)
	h.wantFetched(bob.ID)
	h.must(h.s.RemoveAccount(h.ctx, anna.ID))
	h.reopen()
	h.wantFetched(bob.ID)
}

// TestFetchedAndDeleted: one QUIT that deletes what it fetched, in part.
func TestFetchedAndDeleted(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	var ids []store.CopyID
	for i := range 4 {
		ids = append(ids, h.send(message(fmt.Sprint(i)), to(anna)).Copies[0].ID)
	}
	md := h.maildrop(anna.ID)
	h.must(md.Expunge(h.ctx, []store.CopyID{ids[0], ids[2]}, []store.CopyID{ids[0], ids[1], ids[2]}))
	h.must(md.Close())
	for range 2 {
		if got := h.list(anna.ID); len(got) != 2 || got[0].ID != ids[1] || !got[0].Fetched || got[1].ID != ids[3] || got[1].Fetched {
			t.Errorf("listed %+v", got)
		}
		h.reopen()
	}
}

// lookAt brings an engine whose readers of the trail wait up to date, in some of the runs.
func (h *harness) lookAt(run, bit int, id store.MessageID) {
	h.t.Helper()
	if run&(1<<bit) != 0 {
		_, err := h.s.MessageTrail(h.ctx, id)
		h.must(err)
	}
}

// TestFetchedByOthers: a snapshot shows what was fetched before it was taken, whenever it is listed; of what is fetched later it may show some until it
// is listed, and nothing new afterwards.
func TestFetchedByOthers(t *testing.T, f Factory) {
	for run := range 8 {
		t.Run(fmt.Sprintf("%03b", run), func(t *testing.T) {
			h := open(t, f)
			anna := h.account("anna")
			var ids []store.CopyID
			var last store.MessageID
			for i := range 3 {
				r := h.send(message(fmt.Sprint(i)), to(anna))
				ids, last = append(ids, r.Copies[0].ID), r.Message
			}
			h.lookAt(run, 0, last)
			h.fetch(anna.ID, ids[0])
			h.lookAt(run, 1, last)
			late, atOnce := h.maildrop(anna.ID), h.maildrop(anna.ID)
			want := []store.CopyID{ids[0]}
			if got := fetchedOf(h.messages(atOnce)); !slices.Equal(got, want) {
				t.Errorf("listed at once: %v, want %v", got, want)
			}
			h.fetch(anna.ID, ids[1])
			h.lookAt(run, 2, last)
			first := fetchedOf(h.messages(late))
			if !slices.Equal(first, want) && !slices.Equal(first, ids[:2]) {
				t.Errorf("listed late: %v, want %v, perhaps with %d", first, want, ids[1])
			}
			h.fetch(anna.ID, ids[2])
			h.lookAt(run, 2, last)
			if got := fetchedOf(h.messages(late)); !slices.Equal(got, first) {
				t.Errorf("listed again: %v, first %v", got, first)
			}
			if got := fetchedOf(h.messages(atOnce)); !slices.Equal(got, want) {
				t.Errorf("listed at once and again: %v, want %v", got, want)
			}
			h.must(errors.Join(late.Close(), atOnce.Close()))
			h.wantFetched(anna.ID, ids...)
		})
	}
}

// TestFetchedBeforeDeleted: a snapshot without a list has marked what was fetched before it was taken, though who deletes it meanwhile does not know.
func TestFetchedBeforeDeleted(t *testing.T, f Factory) {
	for run := range 16 {
		t.Run(fmt.Sprintf("%04b", run), func(t *testing.T) {
			h := open(t, f)
			anna := h.account("anna")
			var ids []store.CopyID
			var last store.MessageID
			for i := range 4 {
				r := h.send(message(fmt.Sprint(i)), to(anna))
				ids, last = append(ids, r.Copies[0].ID), r.Message
			}
			h.lookAt(run, 0, last)
			unaware := h.maildrop(anna.ID)
			h.messages(unaware)
			h.fetch(anna.ID, ids[0], ids[2])
			h.lookAt(run, 1, last)
			late := h.maildrop(anna.ID)
			h.fetch(anna.ID, ids[3])
			h.lookAt(run, 2, last)
			h.must(unaware.Expunge(h.ctx, []store.CopyID{ids[0], ids[1]}, nil))
			h.lookAt(run, 3, last)
			messages := h.messages(late)
			got := fetchedOf(messages)
			if want := []store.CopyID{ids[0], ids[2]}; len(messages) != 4 || !slices.Equal(got, want) && !slices.Equal(got, append(want, ids[3])) {
				t.Errorf("of %d messages %v are marked as fetched, want %v, perhaps with %d", len(messages), got, want, ids[3])
			}
			h.must(errors.Join(unaware.Close(), late.Close()))
			h.wantFetched(anna.ID, ids[2:]...)
		})
	}
}

// TestFetchedBeforeRemoval: the same if the account was removed meanwhile.
func TestFetchedBeforeRemoval(t *testing.T, f Factory) {
	for _, swept := range []bool{false, true} {
		h := open(t, f)
		anna := h.account("anna")
		var ids []store.CopyID
		for i := range 3 {
			ids = append(ids, h.send(message(fmt.Sprint(i)), to(anna)).Copies[0].ID)
		}
		h.fetch(anna.ID, ids[1])
		late := h.maildrop(anna.ID)
		h.must(h.s.RemoveAccount(h.ctx, anna.ID))
		if swept {
			h.wantBodyCount(0)
		}
		if got := h.messages(late); len(got) != 3 || !slices.Equal(fetchedOf(got), ids[1:2]) {
			t.Errorf("swept %t: listed %+v", swept, got)
		}
		h.must(late.Close())
	}
}

// TestUTF8: it is the envelope's, of every copy, whatever else is known of them.
func TestUTF8(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	var want []bool
	for _, body := range []string{message("one"), largeBody("two")} {
		for _, utf8 := range []bool{false, true} {
			for _, recipients := range [][]store.Recipient{{to(anna)}, {to(anna), to(bob), away("out@elsewhere.example")}} {
				e := h.envelope(body, recipients...)
				e.UTF8 = utf8
				r, err := h.draft(body).Commit(h.ctx, e)
				h.must(err)
				want = append(want, utf8)
				if len(r.Jobs) == 1 {
					j, err := h.s.Job(h.ctx, r.Jobs[0])
					if h.must(err); j.UTF8 != utf8 {
						t.Errorf("the job has UTF8 %t, want %t", j.UTF8, utf8)
					}
				}
			}
		}
	}
	check := func(id store.AccountID, want []bool, fetched bool) {
		t.Helper()
		for i, m := range h.list(id) {
			if m.UTF8 != want[i] || m.Fetched != fetched {
				t.Errorf("message %d: UTF8 %t, fetched %t, want %t, %t", i, m.UTF8, m.Fetched, want[i], fetched)
			}
		}
	}
	shared := []bool{want[1], want[3], want[5], want[7]}
	for range 2 {
		check(anna.ID, want, false)
		check(bob.ID, shared, false)
		h.reopen()
	}
	for _, m := range h.list(anna.ID) {
		h.fetch(anna.ID, m.ID)
	}
	for range 2 {
		check(anna.ID, want, true)
		check(bob.ID, shared, false)
		h.reopen()
	}
}

// TestFetchedBrokeOff: what was fetched in a session that broke off is in the trail and nowhere else.
func TestFetchedBrokeOff(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	r := h.send(message("one"), to(anna), to(bob))
	mine, others := r.Copies[0].ID, r.Copies[1].ID
	md := h.maildrop(anna.ID)
	client := store.Origin{Door: "pop3", TLS: "TLS 1.3"}
	md.ReadBy(client)
	h.must(md.BrokeOff(h.ctx, nil))
	h.must(md.BrokeOff(h.ctx, []store.CopyID{mine, others, mine, 1 << 60}))
	h.must(md.Close())
	h.want(md.BrokeOff(h.ctx, []store.CopyID{mine}), store.ErrClosed)
	h.reopen()
	h.wantFetched(anna.ID)
	events := h.trail(r.Message)
	h.wantSteps(events[3:], address("sender@elsewhere.example"), step{store.TrailFetched, "anna@" + Domain})
	if client.Account = anna.ID; events[3].Text != store.TrailBrokeOff || events[3].Origin != client {
		t.Errorf("event %+v, want it of %+v, and that the session broke off", events[3], client)
	}
}
