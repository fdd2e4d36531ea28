package boltstore

import (
	"sync"
	"time"

	"latchkey/store"
)

// metrics gathers what Metrics shows.
type metrics struct {
	mu sync.Mutex // guards m
	m  store.Metrics
}

func (z *metrics) group(size int, took time.Duration) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.m.Groups++
	z.m.GroupSize.Add(uint64(size))
	z.m.Commit.Add(uint64(took.Microseconds()))
}

func (z *metrics) synced(took time.Duration) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.m.Sync.Add(uint64(took.Microseconds()))
}

func (z *metrics) indexed(took time.Duration) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.m.Index.Add(uint64(took.Microseconds()))
}

// slowCommit is what a commit may take before the operator is told: every sender waits for those of the journal, and what is done to
// accounts and settings for those of the index.
const slowCommit = 2 * time.Second

// watch tells of a commit that took long. There is one at a time of each, so the lines are few.
func (s *Store) watch(what string, took time.Duration, changes int) {
	if took >= s.options.slow {
		s.log.Warn("a commit took long", "of", what, "took", took.Round(time.Millisecond), "changes", changes)
	}
}

// Metrics implements store.Metered.
func (s *Store) Metrics() store.Metrics {
	s.metrics.mu.Lock()
	m := s.metrics.m
	s.metrics.mu.Unlock()
	entries, octets, since := s.tail.waits()
	if m.Lag, m.LagOctets = entries, octets; entries > 0 {
		m.LagAge = time.Since(since)
	}
	segments, spares, spareOctets := s.journal.Segments()
	m.Segments, m.Spares, m.SpareOctets = len(segments), spares, spareOctets
	m.LiveOctets = s.space.usage().Octets
	for _, info := range segments {
		m.DeadOctets += info.Used
	}
	m.DeadOctets = max(m.DeadOctets-m.LiveOctets, 0)
	m.IndexOctets, m.IndexFree = s.indexSize()
	return m
}
