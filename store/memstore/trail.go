package memstore

import (
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
	oldest := s.d.oldestTold()
	var events []store.TrailEvent
	for _, e := range s.d.trail {
		if e.Message == id && !e.Time.Before(oldest) {
			events = append(events, e)
		}
	}
	return events, nil
}

// SearchTrail implements store.Trail.
func (s *Store) SearchTrail(ctx context.Context, what string, limit int) ([]store.MessageID, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	if what == "" {
		return nil, nil // the null reverse-path is nobody's address
	}
	oldest := s.d.oldestTold()
	found := map[store.MessageID]bool{}
	var ids []store.MessageID
	for _, e := range s.d.trail {
		if !found[e.Message] && !e.Time.Before(oldest) && (e.HeaderID == what || e.Sender.String() == what || e.Recipient.String() == what) {
			found[e.Message] = true
			ids = append(ids, e.Message)
		}
	}
	slices.SortFunc(ids, func(a, b store.MessageID) int { return int(b) - int(a) })
	return ids[:min(len(ids), max(limit, 0))], nil
}
