package webmanager

import (
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"

	"latchkey/guard"
	"latchkey/relay"
	"latchkey/store"
)

type oneStanding struct{}

func (oneStanding) Standings() []guard.Standing {
	return []guard.Standing{{Address: netip.MustParseAddr("192.0.2.1"), List: "bl.example", State: guard.ListListed, Suspect: "bert"}}
}

// TestReputation: what lists say, and who sent how today and yesterday, the worst first; complaints are noted with the audit log.
func TestReputation(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert", "carl")
	var view ReputationView
	if err := f.client.Do(t.Context(), http.MethodGet, "/v1/reputation", nil, &view); !isCode(err, CodeUnavailable) {
		t.Errorf("where no server runs: %v", err)
	}
	f.api.reputation = oneStanding{}
	f.api.slow = func() []relay.Slow {
		return []relay.Slow{{Provider: "example.net", Pause: time.Minute, Why: "554 blocked"}}
	}
	for _, s := range []struct {
		daysAgo int
		figure  store.SendingFigure
		mailbox string
		n       int64
	}{
		{0, store.FigureRecipients, "anna", 100}, {1, store.FigureRecipients, "anna", 50}, {2, store.FigureRecipients, "anna", 1000},
		{0, store.FigureHeld, "anna", 140}, {0, store.FigureRecipients, "bert", 20}, {0, store.FigureFailed, "bert", 3}, {1, store.FigureRefused, "bert", 4},
	} {
		if err := f.store.AddStat(t.Context(), store.DayOf(noon.AddDate(0, 0, -s.daysAgo)), store.SendingOf(s.figure, f.account(s.mailbox).ID), s.n); err != nil {
			t.Fatal(err)
		}
	}
	f.do(http.MethodGet, "/v1/reputation", nil, &view)
	want := []Sender{{Mailbox: "bert", Recipients: 20, Failed: 3, Refused: 4}, {Mailbox: "anna", Recipients: 150, Held: 140}}
	if !slices.Equal(view.Senders, want) || len(view.Standings) != 1 || view.Standings[0].Suspect != "bert" || len(view.Slow) != 1 ||
		view.Slow[0].Pause != time.Minute {
		t.Errorf("got %+v, want %+v", view, want)
	}
	f.do(http.MethodPost, "/v1/accounts/anna/complaints", Complaint{Count: 3}, nil)
	f.do(http.MethodPost, "/v1/accounts/anna/complaints", Complaint{}, nil)
	f.do(http.MethodGet, "/v1/reputation", nil, &view)
	if view.Senders[0].Mailbox != "anna" || view.Senders[0].Complaints != 4 || len(f.actions("sender.complaint")) != 2 {
		t.Errorf("after complaints: %+v", view.Senders)
	}
	for _, n := range []int{-1, 1001} {
		if err := f.client.Do(t.Context(), http.MethodPost, "/v1/accounts/anna/complaints", Complaint{Count: n}, nil); !isCode(err, CodeInvalid) {
			t.Errorf("%d complaints: %v", n, err)
		}
	}
}
