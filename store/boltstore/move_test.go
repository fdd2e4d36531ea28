package boltstore

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"latchkey/store"
)

// withPrefix delivers a message of so many octets to anna, with lines before it.
func withPrefix(t *testing.T, s *Store, octets int) store.CopyID {
	t.Helper()
	d, err := s.NewDraft(t.Context())
	noError(t, err)
	_, err = io.WriteString(d, strings.Repeat("x", octets))
	noError(t, err)
	e := envelopeTo(1)
	e.Recipients[0].Prefix = []byte("Return-Path: <sender@out.example>\r\n")
	r, err := d.Commit(t.Context(), e)
	noError(t, err)
	return r.Copies[0].ID
}

// TestDamageIsNotMoved: a segment that is mostly dead and of which something alive is damaged stays as it is: the damage is told once, it
// does not get a checksum of its own elsewhere, and the segments beside it are emptied.
func TestDamageIsNotMoved(t *testing.T) {
	for name, at := range map[string]func(l *listing) int64{
		"prefix": func(l *listing) int64 { return l.offset - int64(l.prefixAt) + sumSize + 3 },
		"body":   func(l *listing) int64 { return l.offset + sumSize + 3 },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			initData(t, dir)
			var log strings.Builder
			s := openData(t, dir, Options{journal: smallSegments(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
			defer closeData(t, s)
			var kept []store.CopyID
			for i := range 40 { // three segments
				if id := withPrefix(t, s, 9_000); i%10 == 3 {
					kept = append(kept, id)
				}
			}
			m := openDrop(t, s, 1)
			l, err := m.(*maildrop).lookUp(t.Context(), kept[0])
			noError(t, err)
			place := *l
			noError(t, flip(int(at(l)))(segmentFile(dir, place.segment)))
			noError(t, m.Expunge(t.Context(), except(ids(t, m), kept), nil))
			noError(t, m.Close())
			sweepAll(t, s)
			deliver(t, s, 100, 2) // it is looked again
			sweepAll(t, s)
			m = openDrop(t, s, 1)
			for i, id := range kept {
				r, err := m.OpenMessage(t.Context(), id)
				noError(t, err)
				b, err := io.ReadAll(r)
				noError(t, r.Close())
				if is := errors.Is(err, store.ErrDamaged); is != (i == 0) || !is && err != nil {
					t.Errorf("message %d: %d octets, %v", i, len(b), err)
				}
				now, err := m.(*maildrop).lookUp(t.Context(), id)
				noError(t, err)
				if stays := now.segment == place.segment; i == 0 && !stays || i == len(kept)-2 && stays {
					t.Errorf("message %d of segment %d is in segment %d", i, place.segment, now.segment)
				}
			}
			if told := strings.Count(log.String(), fmt.Sprintf("copied forward\" segment=%d ", place.segment)); told != 1 {
				t.Errorf("the damage was told %d times:\n%s", told, log.String())
			}
		})
	}
}

// except returns the ids that are not among others.
func except(all, others []store.CopyID) (rest []store.CopyID) {
	has := make(map[store.CopyID]bool)
	for _, id := range others {
		has[id] = true
	}
	for _, id := range all {
		if !has[id] {
			rest = append(rest, id)
		}
	}
	return rest
}
