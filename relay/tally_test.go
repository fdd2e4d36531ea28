package relay

import (
	"slices"
	"testing"

	"latchkey/store"
	"latchkey/store/memstore"
)

// TestTally: a message counts once for each time it was handed over, its recipients all, and what had no attempt not at all.
func TestTally(t *testing.T) {
	s := memstore.New("example.com")
	defer func() { _ = s.Close() }()
	ended := func(message store.MessageID, kind store.OutcomeKind, shared bool) ending {
		return ending{decision: decision{job: store.Job{Message: message}}, outcome: store.Outcome{Kind: kind, Shared: shared}}
	}
	for _, tt := range []struct {
		name    string
		endings []ending
		want    []string
	}{
		{"none", nil, nil},
		{"two recipients of one message", []ending{ended(1, store.Delivered, false), ended(1, store.Delivered, false)},
			[]string{"day/delivered=2", "day/handed-over=1"}},
		{"two messages in turn", []ending{ended(1, store.Delivered, false), ended(2, store.Delivered, false), ended(1, store.Delivered, false)},
			[]string{"day/delivered=3", "day/handed-over=2"}},
		{"one refused before one taken", []ending{ended(1, store.Failed, false), ended(1, store.Delivered, false)},
			[]string{"day/delivered=1", "day/failed=1", "day/handed-over=1"}},
		{"put off", []ending{ended(1, store.Deferred, false), ended(1, store.Deferred, true), ended(2, store.Deferred, true)}, []string{"day/deferred=1"}},
	} {
		counts := store.NewTally(s, nil, nil)
		tally(counts, tt.endings)
		list, err := counts.ListStats(t.Context(), 0, 99999999)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range list {
			got = append(got, f.Name+"="+string(rune('0'+f.N)))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	tally(nil, []ending{ended(1, store.Delivered, false)}) // counts nothing
}
