package pages

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"latchkey/store"
	"latchkey/webmanager"
)

// jobs are the deliveries that wait, as sender, recipient and state.
func (s *site) jobs() string {
	s.Helper()
	list, _, err := s.store.ListJobs(s.Context(), store.QueueFilter{}, 0, 100)
	if err != nil {
		s.Fatal(err)
	}
	var words []string
	for _, j := range list {
		state := "waits"
		switch {
		case j.Held:
			state = "held (" + j.HoldReason + ")"
		case j.GivenUp != "":
			state = "given up (" + j.GivenUp + ")"
		case j.Released:
			state = "tried"
		}
		words = append(words, j.Recipient.String()+" "+state)
	}
	return strings.Join(words, ", ")
}

// TestQueueJourney: deliveries are searched for, looked at, and acted on, each time after a page that says to how many.
func TestQueueJourney(t *testing.T) {
	s := newSite(t, nil)
	for _, to := range []string{"a@one.example", "b@one.example", "c@two.example"} {
		s.send("anna", "<1@example.com>", to)
	}
	s.send("bert", "<2@example.com>", "d@two.example")
	b := s.in("olga")
	all := b.get("/queue").shows(200, "a@one.example", "d@two.example")
	all.submit("/queue", map[string]string{"destination": "two.example"}).shows(200, "c@two.example", "With all that were found")
	if p := all.submit("/queue", map[string]string{"submitter": "bert"}); strings.Contains(p.text(), "c@two.example") || !strings.Contains(p.text(), "d@two.example") {
		t.Errorf("those of bert: %s", p.text())
	}
	all.submit("/queue", map[string]string{"recipient": "nobody"}).shows(422, "is not an address")
	all.submit("/queue", map[string]string{"recipient": "x@none.example"}).shows(200, "Nothing waits.")
	b.get("/queue/1").shows(200, "Waiting for a@one.example", "anna@example.com", "Attempts", "Next attempt")
	b.get("/queue/4711").shows(404, "There is no queued delivery 4711")

	ask := b.get("/queue/act?verb=hold&all=yes&destination=two.example").shows(200, "Put these on hold?", "Deliveries: 2", "anna@example.com → c@two.example", "bert@example.com → d@two.example")
	if got := s.jobs(); strings.Contains(got, "held") {
		t.Fatalf("a question did it: %s", got)
	}
	s.send("bert", "<3@example.com>", "later@two.example") // came after the question
	ask.submit("/queue/act", map[string]string{"reason": "looks odd"}).follow().shows(200, "Put on hold: 2.")
	if got, want := s.jobs(), "a@one.example waits, b@one.example waits, c@two.example held (looks odd), d@two.example held (looks odd), later@two.example waits"; got != want {
		t.Errorf("got %s", got)
	}
	b.get("/queue?held=true").shows(200, "c@two.example", "on hold")
	b.get("/queue/3").shows(200, "On hold: looks odd").submit("/queue/act", nil) // the first button is not sent by this browser
	b.get("/queue/act?verb=retry&id=1&id=3&id=4711").shows(200, "Deliveries: 1", "Left as they are, or gone already: 2.").
		submit("/queue/act", nil).follow().shows(200, "Tried now: 1.", "Left as they are, or gone already: 2.")
	b.get("/queue/act?verb=release&all=yes").shows(200, "Deliveries: 2").submit("/queue/act", nil).follow().shows(200, "Let go: 2.")
	b.get("/queue/act?verb=remove&id=1").shows(200, "Remove these?", "Tell the senders").submit("/queue/act", map[string]string{"reason": "too late"}).follow().shows(200, "Removed: 1.")
	b.get("/queue/act?verb=remove&id=2").submit("/queue/act", map[string]string{"bounce": ""}).follow().shows(200, "Removed: 1.")
	if got, want := s.jobs(), "a@one.example given up (too late), c@two.example tried, d@two.example tried, later@two.example waits"; got != want {
		t.Errorf("got %s", got)
	}
	b.get("/queue/act?verb=release&all=yes").shows(200, "There is none to which this can be done")
	for _, wrong := range []string{"verb=burn&all=yes", "verb=hold", "verb=hold&id=x", "verb=hold&id=0", "all=yes"} {
		b.get("/queue/act?" + wrong).shows(422)
	}
	b.post("/queue/act", url.Values{"verb": {"remove"}, "all": {"yes"}}).shows(422) // without the page before, nobody knows to how many
	b.post("/queue/act", url.Values{"verb": {"hold"}, "id": {"3"}, "reason": {strings.Repeat("x", 2000)}}).shows(422, "reason")
	b.get("/audit").shows(200, "queue.hold", "queue.remove", "looks odd")
}

// TestQueuePages: a page has so many deliveries, and all are on some page.
func TestQueuePages(t *testing.T) {
	s := newSite(t, nil)
	for i := range pageSize + 1 {
		s.send("anna", fmt.Sprintf("<%d@example.com>", i), fmt.Sprintf("r%d@one.example", i))
	}
	b := s.operator()
	first := b.get("/queue?destination=one.example")
	if strings.Contains(first.text(), fmt.Sprintf("r%d@", pageSize)) || !strings.Contains(first.text(), fmt.Sprintf("r%d@", pageSize-1)) {
		t.Error("the first page has another end")
	}
	more := ""
	for _, n := range all(first.root, "a") {
		if to, _ := attribute(n, "href"); strings.Contains(to, "after=") {
			more = to
		}
	}
	b.get(more).shows(200, fmt.Sprintf("r%d@one.example", pageSize), "To the beginning")
	b.get("/queue/act?verb=hold&all=yes").shows(200, fmt.Sprintf("Deliveries: %d", pageSize+1))
}

// TestOwnQueue: the owner of a mailbox sees what waits of his own, and can do nothing to it.
func TestOwnQueue(t *testing.T) {
	s := newSite(t, nil)
	s.send("anna", "<1@example.com>", "a@one.example")
	s.send("bert", "<2@example.com>", "b@one.example")
	b := s.in("anna")
	p := b.get("/queue").shows(200, "a@one.example", "Mail that you sent")
	for _, hidden := range []string{"b@one.example", "Put on hold", "Sent by the mailbox"} {
		if strings.Contains(p.text(), hidden) {
			t.Errorf("it has %q", hidden)
		}
	}
	b.get("/queue?submitter=bert").shows(200, "a@one.example")                                                                        // is no field of hers
	if p := b.get("/queue/1").shows(200, "Waiting for a@one.example", "The owner of the domain can"); len(all(p.root, "form")) != 1 { // signing out
		t.Error("it has a form")
	}
	b.get("/queue/2").shows(404)
	b.get("/queue/act?verb=remove&id=1").shows(403)
	b.post("/queue/act", url.Values{"verb": {"remove"}, "id": {"1"}}).shows(403)
	b.header.Set("Accept-Language", "de")
	b.get("/queue").shows(200, "Wartende Post", "a@one.example")
	if got := s.jobs(); got != "a@one.example waits, b@one.example waits" {
		t.Errorf("got %s", got)
	}
}

// TestQueueTooMany: beyond so many deliveries a form acts on none.
func TestQueueTooMany(t *testing.T) {
	for n, want := range map[int]bool{maxQueueAct - 1: false, maxQueueAct: false, maxQueueAct + 1: true} {
		d := &queueAct{Verb: "hold"}
		got, err := countTo(d, n)
		if err != nil || d.TooMany != want || !want && got != n {
			t.Errorf("%d: too many %t, %d counted, %v", n, d.TooMany, got, err)
		}
	}
}

// countTo runs eachPage over so many deliveries.
func countTo(d *queueAct, n int) (counted int, err error) {
	page := func(query url.Values) (p webmanager.QueuePage, err error) {
		var after store.JobID
		_, _ = fmt.Sscan(query.Get("after"), &after)
		for id := after + 1; id <= store.JobID(n) && len(p.Jobs) < webmanager.MaxActionIDs; id++ {
			p.Jobs = append(p.Jobs, store.Job{ID: id})
			p.Next = id
		}
		if p.Next == store.JobID(n) {
			p.Next = 0
		}
		return p, nil
	}
	return counted, d.eachPage(page, func(jobs []store.Job) error {
		counted += len(jobs)
		return nil
	})
}
