package maildrop

import (
	"testing"

	"latchkey/store"
)

// TestFetchedIsCounted: messages that were sent to their end count once in a session, however it ends; a look at the beginning of one does not.
func TestFetchedIsCounted(t *testing.T) {
	f := newFixture(t)
	for range 3 {
		f.deliver("A: 1\r\n", "body\r\n")
	}
	tally := store.NewTally(f.store, nil, nil)
	address := f.serve(Options{Tally: tally}, nil)
	f.visit(f.dial(address), "RETR 1", "RETR 1", "RETR 2", "TOP 3 0", "QUIT")
	f.visit(f.dial(address), "RETR 1", "RSET")
	f.visit(f.dial(address), "STAT", "QUIT")
	f.count()
	list, err := tally.ListStats(t.Context(), 0, 99999999)
	if err != nil || len(list) != 1 || list[0].Name != store.DailyFetched.String() || list[0].N != 3 {
		t.Errorf("got %v, %v", list, err)
	}
}
