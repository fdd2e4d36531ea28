package smtp

import (
	"fmt"
	"slices"
	"testing"

	"latchkey/guard"
	"latchkey/internal/refusal"
	"latchkey/store"
)

// TestMessagesAreCounted: what strangers bring and what our own send are told apart at every door, and what is refused is neither.
func TestMessagesAreCounted(t *testing.T) {
	for _, door := range []Door{MX, Submission} {
		t.Run(string(door), func(t *testing.T) {
			f := newFixture(t, door)
			f.settings(func(s *store.Settings) { s.AuthOnMX = true })
			tally := store.NewTally(f.store, nil, nil)
			f.opts.Tally, f.opts.Refusals = tally, &refusal.Recent{Counted: tally.Refused}
			f.opts.Sending = guard.NewSending(f.store, nil)
			f.serve()
			c := f.loggedIn("alice")
			for range 2 {
				c.ask("MAIL FROM:<alice@example.com>", "250 2.")
				c.ask("RCPT TO:<bob@example.com>", "250 2.")
				c.ask("RCPT TO:<x@remote.example>", "250 2.")
				c.ask("DATA", "354 ")
				c.send("From: alice@example.com\r\n\r\nbody\r\n.\r\n")
				c.expect("250 2.0.0 queued as ")
			}
			want := []string{"day/refused/recipient-unknown 1", "day/submitted 2"}
			c.ask("MAIL FROM:<alice@example.com>", "250 2.")
			c.ask("RCPT TO:<nobody@example.com>", "550 5.")
			if door == MX {
				c := f.greeted()
				c.ask("MAIL FROM:<x@remote.example>", "250 2.")
				c.ask("RCPT TO:<bob@example.com>", "250 2.")
				c.ask("DATA", "354 ")
				c.send("From: x@remote.example\r\n\r\nbody\r\n.\r\n")
				c.expect("250 2.0.0 queued as ")
				want = []string{"day/received 1", "day/refused/recipient-unknown 1", "day/submitted 2"}
			}
			list, err := tally.ListStats(t.Context(), 0, 99999999)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range list {
				if name := fmt.Sprint(s.Name, " ", s.N); name[:4] == "day/" {
					got = append(got, name)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}
