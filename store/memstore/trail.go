package memstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"latchkey/store"
)

// event adds a step to the trail; the oldest beyond the bounds go.
func (d *data) event(e store.TrailEvent) {
	d.lastTrail++
	e.Seq = d.lastTrail
	d.trail = append(d.trail, e)
	d.trail = d.trail[max(len(d.trail)-d.bounds.trailEvents, 0):]
	oldest := d.oldestTold()
	young := slices.IndexFunc(d.trail, func(e store.TrailEvent) bool { return !e.Time.Before(oldest) })
	if young < 0 {
		young = len(d.trail)
	}
	d.trail = d.trail[young:]
}

// oldestTold is the time before which events are not told.
func (d *data) oldestTold() time.Time { return d.now().Add(-store.TrailAge) }

// MessageTrail implements store.Trail.
func (s *Store) MessageTrail(ctx context.Context, id store.MessageID) ([]store.TrailEvent, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	return s.d.trailOf(id), nil
}

// trailOf are the events of a message.
func (d *data) trailOf(id store.MessageID) (events []store.TrailEvent) {
	oldest := d.oldestTold()
	for _, e := range d.trail {
		if e.Message == id && !e.Time.Before(oldest) {
			events = append(events, e)
		}
	}
	return events
}

// SearchTrail implements store.Trail. It has no bound but the limit: this engine is for small stores.
func (s *Store) SearchTrail(ctx context.Context, q store.TrailQuery, limit int) (store.TrailPage, error) {
	if err := s.begin(ctx); err != nil {
		return store.TrailPage{}, err
	}
	defer s.end()
	oldest := s.d.oldestTold()
	has := map[store.MessageID]store.TrailFacts{} // of those whose acceptance is told
	for i := range s.d.trail {
		e := &s.d.trail[i]
		if _, told := has[e.Message]; e.Time.Before(oldest) || !told && e.Kind != store.TrailAccepted {
			continue
		}
		has[e.Message] |= q.Facts(e)
	}
	var page store.TrailPage
	for id, facts := range has {
		if facts.Have(q.Wanted()) && (q.Before == 0 || id < q.Before) {
			page.Messages = append(page.Messages, id)
		}
	}
	slices.SortFunc(page.Messages, func(a, b store.MessageID) int { return cmp.Compare(b, a) })
	if limit = max(limit, 0); len(page.Messages) > limit {
		page.Messages = page.Messages[:limit]
		if limit > 0 {
			page.Next = page.Messages[limit-1]
		}
	}
	for _, id := range page.Messages {
		page.Trails = append(page.Trails, s.d.trailOf(id))
	}
	return page, nil
}
