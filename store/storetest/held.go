package storetest

import (
	"strings"
	"testing"
	"time"

	"latchkey/store"
)

var heldTests = []test{
	{"CommitHeld", TestCommitHeld},
	{"CommitHeldReason", TestCommitHeldReason},
}

// TestCommitHeld: the jobs of a message that is put on hold are there with it, held, and are leased only once they are released; its local
// copies are delivered.
func TestCommitHeld(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	body := message("one")
	e := h.envelope(body, to(anna), away("a@elsewhere.example"), away("b@other.example"))
	e.Hold = "a jump"
	r, err := h.draft(body).Commit(h.ctx, e)
	h.must(err)
	if len(r.Copies) != 1 || len(r.Jobs) != 2 {
		t.Fatalf("receipt %+v, want a copy and two jobs", r)
	}
	for range 2 {
		for _, id := range r.Jobs {
			j, err := h.s.Job(h.ctx, id)
			h.must(err)
			if !j.Held || j.HoldReason != "a jump" || j.Attempts != 0 || j.Released {
				t.Errorf("job %+v, want it held", j)
			}
		}
		h.wantDestinations(h.now.Add(1000 * time.Hour))
		h.wantLeased(h.now.Add(1000*time.Hour), 10)
		h.reopen()
	}
	if n := len(h.list(anna.ID)); n != 1 {
		t.Errorf("the local copy: %d messages, want 1", n)
	}
	h.wantSteps(h.trail(r.Message)[1:], e.ReversePath,
		step{store.TrailStored, "anna@" + Domain}, step{store.TrailQueued, "a@elsewhere.example"}, step{store.TrailHeld, "a@elsewhere.example"},
		step{store.TrailQueued, "b@other.example"}, step{store.TrailHeld, "b@other.example"})
	h.must(h.s.ReleaseJobs(h.ctx, h.now, r.Jobs[0]))
	h.must(h.s.RemoveJobs(h.ctx, r.Jobs[1]))
	h.wantLeased(h.now, 10, r.Jobs[0])
}

// TestCommitHeldReason: it is made fit to be shown, and cut.
func TestCommitHeldReason(t *testing.T, f Factory) {
	h := open(t, f)
	body := message("one")
	e := h.envelope(body, away("a@elsewhere.example"))
	e.Hold = "a\r\nb " + strings.Repeat("x", 2*store.MaxOutcomeText)
	r, err := h.draft(body).Commit(h.ctx, e)
	h.must(err)
	h.reopen()
	j, err := h.s.Job(h.ctx, r.Jobs[0])
	h.must(err)
	if !j.Held || j.HoldReason != store.CleanText(e.Hold) {
		t.Errorf("job held %t for %q, want %q", j.Held, j.HoldReason, store.CleanText(e.Hold))
	}
}
