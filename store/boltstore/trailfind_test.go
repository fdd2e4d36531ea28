package boltstore

import (
	"slices"
	"testing"
	"time"

	"latchkey/store"
)

// TestTrailLooks: a page opens so many blocks and no more, says where the next one begins, and nothing is lost between the two.
func TestTrailLooks(t *testing.T) {
	now := time.Now()
	s := trailStore(t, clockAt(now), store.MaxTrailEvents)
	write := func(id store.MessageID, header string) {
		t.Helper()
		events := eventsOf(t, sealRest, 1)
		for i := range events {
			events[i].Message = id
		}
		events[0].HeaderID = header
		writeEvents(t, s, events)
	}
	sender := mustAddress("a@out.example")
	futile := store.TrailQuery{Sender: sender, Recipient: mustAddress("anna@" + domain)} // as no copy of theirs was stored
	for id := range store.MessageID(maxTrailLooks) {
		write(id+1, "<some@out.example>")
	}
	if page, err := s.SearchTrail(t.Context(), futile, 10); err != nil || len(page.Messages) > 0 || page.Next != 0 {
		t.Errorf("%d blocks: page %+v, %v, want an empty one and the last", maxTrailLooks, page, err)
	}
	const more = 6
	for id := range store.MessageID(more) {
		write(maxTrailLooks+id+1, "<other@out.example>")
	}
	page, err := s.SearchTrail(t.Context(), futile, 10)
	if err != nil || len(page.Messages) > 0 || page.Next != more+1 {
		t.Errorf("%d blocks: page %+v, %v, want an empty one and then those before %d", maxTrailLooks+more, page, err, more+1)
	}
	futile.Before = page.Next
	if page, err = s.SearchTrail(t.Context(), futile, 10); err != nil || len(page.Messages) > 0 || page.Next != 0 {
		t.Errorf("the page after it: %+v, %v, want an empty one and the last", page, err)
	}
	var want []store.MessageID
	for id := store.MessageID(maxTrailLooks + more); id > 0; id-- {
		want = append(want, id)
	}
	for _, limit := range []int{1, maxTrailLooks - 1, maxTrailLooks, maxTrailLooks + 1, 1000} {
		if got := allPages(t, s, store.TrailQuery{Sender: sender}, limit); !slices.Equal(got, want) {
			t.Errorf("%d to a page: found %v, want %v", limit, got, want)
		}
	}
}

// TestTrailOpened: a search keeps the blocks that it opened, up to its bound, and finds the same in those beyond it.
func TestTrailOpened(t *testing.T) {
	s := trailStore(t, clockAt(time.Now()), store.MaxTrailEvents)
	sender := mustAddress("a@out.example")
	for n := 1; n <= maxOpened+1; n++ {
		events := eventsOf(t, sealRest, 1)
		for i := range events {
			events[i].Message = store.MessageID(n)
		}
		writeEvents(t, s, events)
		if n < maxOpened-1 {
			continue
		}
		err := s.lookThrough(t.Context(), func(through *search) error {
			f := finder{search: through, query: &store.TrailQuery{Sender: sender}}
			f.wanted = f.query.Wanted()
			page, err := f.page(t.Context(), 2*maxOpened)
			if len(page.Messages) != n || len(through.opened) != min(n, maxOpened) {
				t.Errorf("%d blocks: %d messages, %d kept", n, len(page.Messages), len(through.opened))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
