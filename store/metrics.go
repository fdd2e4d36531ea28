package store

import (
	"math/bits"
	"time"
)

// Metered is an engine that measures itself. Engines without a journal need not be.
type Metered interface {
	// Metrics returns the figures of this moment; it waits for no disk.
	Metrics() Metrics
}

// Metrics are figures of an open store since it was opened. Octets are those of files.
type Metrics struct {
	// Groups counts the groups of verbs that shared a sync of the journal; GroupSize and the latencies are their distributions.
	Groups    uint64       `json:"groups"`
	GroupSize Distribution `json:"group_size"`
	// Commit is the time from a group's beginning to its end, Sync that of writing and syncing the journal in it, Index that of one transaction of
	// the index; in microseconds.
	Commit Distribution `json:"commit_us"`
	Sync   Distribution `json:"sync_us"`
	Index  Distribution `json:"index_us"`
	// Lag is how many records are durable in the journal and not yet in the index, LagOctets about their memory, LagAge the age of the
	// oldest.
	Lag       int           `json:"lag"`
	LagOctets int           `json:"lag_octets"`
	LagAge    time.Duration `json:"lag_age"`
	// Segments are the journal's files with records, Spares those without. LiveOctets are those of bodies that are still needed, DeadOctets
	// the rest of what was written in segments.
	Segments    int   `json:"segments"`
	Spares      int   `json:"spares"`
	SpareOctets int64 `json:"spare_octets"`
	LiveOctets  int64 `json:"live_octets"`
	DeadOctets  int64 `json:"dead_octets"`
	// IndexOctets is the size of mail.db, IndexFree what of it holds nothing.
	IndexOctets int64 `json:"index_octets"`
	IndexFree   int64 `json:"index_free"`
}

// Distribution is a histogram by powers of two: Buckets[i] counts the values below 2^i that are not in an earlier bucket.
type Distribution struct {
	Count   uint64     `json:"count"`
	Sum     uint64     `json:"sum"`
	Max     uint64     `json:"max"`
	Buckets [32]uint64 `json:"buckets"`
}

// Add counts one value.
func (d *Distribution) Add(v uint64) {
	d.Count++
	d.Sum += v
	d.Max = max(d.Max, v)
	d.Buckets[min(bits.Len64(v), len(d.Buckets)-1)]++
}

// Quantile returns an upper bound of the q-th part (0 to 1) of the values, to the next power of two; 0 if there are none.
func (d *Distribution) Quantile(q float64) uint64 {
	wanted := uint64(q * float64(d.Count))
	seen := uint64(0)
	for i, n := range d.Buckets {
		if seen += n; n > 0 && seen >= wanted && i < len(d.Buckets)-1 {
			return min(1<<i, d.Max)
		}
	}
	return d.Max
}
