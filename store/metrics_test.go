package store

import "testing"

func TestDistribution(t *testing.T) {
	var d Distribution
	if d.Quantile(0.99) != 0 {
		t.Error("nothing has a quantile")
	}
	for v := range uint64(100) {
		d.Add(v)
	}
	if d.Count != 100 || d.Sum != 4950 || d.Max != 99 {
		t.Errorf("%d values, sum %d, at most %d", d.Count, d.Sum, d.Max)
	}
	for _, tt := range []struct {
		q    float64
		want uint64
	}{{0.01, 1}, {0.5, 64}, {0.99, 99}, {1, 99}} {
		if got := d.Quantile(tt.q); got != tt.want {
			t.Errorf("quantile %v is %d, want %d", tt.q, got, tt.want)
		}
	}
	d.Add(1 << 63)
	if d.Buckets[len(d.Buckets)-1] != 1 || d.Quantile(1) != 1<<63 {
		t.Errorf("a value beyond all buckets: %v", d.Buckets)
	}
}
