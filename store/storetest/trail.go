package storetest

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

var trailTests = []test{
	{"TrailOfCommit", TestTrailOfCommit},
	{"TrailOfQueue", TestTrailOfQueue},
	{"TrailOfMaildrop", TestTrailOfMaildrop},
	{"TrailOfSettles", TestTrailOfSettles},
	{"SearchTrail", TestSearchTrail},
	{"SearchTrailParts", TestSearchTrailParts},
	{"SearchTrailPages", TestSearchTrailPages},
	{"TrailFacts", TestTrailFacts},
	{"TrailAge", TestTrailAge},
	{"TrailBound", TestTrailBound},
}

// trail returns the events of a message; they have to ascend.
func (h *harness) trail(id store.MessageID) []store.TrailEvent {
	h.t.Helper()
	events, err := h.s.MessageTrail(h.ctx, id)
	h.must(err)
	for i, e := range events {
		if e.Message != id || e.Seq == 0 || i > 0 && e.Seq <= events[i-1].Seq {
			h.t.Errorf("event %+v of message %s comes after %+v", e, id, events[max(i-1, 0)])
		}
	}
	return events
}

// search returns the messages of all pages, at most limit to a page.
func (h *harness) search(q store.TrailQuery, limit int) (ids []store.MessageID) {
	h.t.Helper()
	for {
		page, err := h.s.SearchTrail(h.ctx, q, limit)
		h.must(err)
		if len(page.Messages) > limit {
			h.t.Errorf("a page of %d messages, want at most %d", len(page.Messages), limit)
		}
		if len(page.Trails) != len(page.Messages) {
			h.t.Fatalf("the trails of %d of %d messages", len(page.Trails), len(page.Messages))
		}
		for i, id := range page.Messages {
			if alone := h.trail(id); !reflect.DeepEqual(page.Trails[i], alone) {
				h.t.Errorf("the trail of %s on a page is %+v, alone %+v", id, page.Trails[i], alone)
			}
		}
		ids = append(ids, page.Messages...)
		if page.Next == 0 {
			return ids
		}
		if page.Next >= q.Before && q.Before != 0 || len(page.Messages) > 0 && page.Next > page.Messages[len(page.Messages)-1] {
			h.t.Fatalf("after page %+v before %s: it leads back", page, q.Before)
		}
		q.Before = page.Next
	}
}

// step is what a test expects of an event, besides its message and sender.
type step struct {
	kind store.TrailKind
	to   string
}

func (h *harness) wantSteps(events []store.TrailEvent, sender mailaddr.Address, want ...step) {
	h.t.Helper()
	var got []step
	for _, e := range events {
		got = append(got, step{e.Kind, e.Recipient.String()})
		if e.Sender != sender {
			h.t.Errorf("event %+v has another sender than %s", e, sender)
		}
	}
	if !slices.Equal(got, want) {
		h.t.Errorf("trail %q, want %q", got, want)
	}
}

// TestTrailOfCommit: accepted first, then what became of each recipient.
func TestTrailOfCommit(t *testing.T, f Factory) {
	h := open(t, f)
	gone, anna := h.account("gone"), h.account("anna")
	h.must(h.s.RemoveAccount(h.ctx, gone.ID))
	body := message("one")
	e := h.envelope(body, to(gone), to(anna), away("out@elsewhere.example"), to(anna))
	e.HeaderID = "<one@elsewhere.example>"
	e.Origin.Remote = netip.MustParseAddr("192.0.2.1")
	r, err := h.draft(body).Commit(h.ctx, e)
	h.must(err)
	h.reopen()
	events := h.trail(r.Message)
	if len(events) != 4 {
		t.Fatalf("trail %+v, want four events", events)
	}
	first := events[0]
	if first.Kind != store.TrailAccepted || first.HeaderID != e.HeaderID || first.Origin != e.Origin || first.Size != int64(len(body)) || !first.Recipient.IsZero() {
		t.Errorf("first event %+v, want the acceptance of %+v", first, e)
	}
	slices.SortFunc(events[1:], func(a, b store.TrailEvent) int { return int(a.Recipient.String()[0]) - int(b.Recipient.String()[0]) })
	h.wantSteps(events, e.ReversePath, step{store.TrailAccepted, ""}, step{store.TrailStored, "anna@" + Domain},
		step{store.TrailLeftOut, "gone@" + Domain}, step{store.TrailQueued, "out@elsewhere.example"})
	for _, event := range events {
		if !event.Time.Equal(e.Received) || event.Kind == store.TrailLeftOut && event.Text == "" {
			t.Errorf("event %+v, want it at %s, and a reason if left out", event, e.Received)
		}
	}
	if events := h.trail(r.Message + 1); len(events) != 0 {
		t.Errorf("an unknown message has the trail %+v", events)
	}
}

// TestTrailOfQueue: attempts and what people do.
func TestTrailOfQueue(t *testing.T, f Factory) {
	h := open(t, f)
	const rcpt = "out@elsewhere.example"
	r := h.send(message("one"), away(rcpt), away("b@elsewhere.example"), away("c@elsewhere.example"))
	accepted := len(h.trail(r.Message))
	at := h.now.Add(time.Minute)
	leased := byID(h.lease(at, 10, time.Hour))
	o := outcome(leased[r.Jobs[0]], store.Deferred, at, at)
	o.Text = "450 4.2.1 later\r\nplease"
	_, err := h.s.Finish(h.ctx, at, o)
	h.must(err)
	h.must(h.s.HoldJobs(h.ctx, "looks odd", r.Jobs[0]))
	h.must(h.s.ReleaseJobs(h.ctx, at, r.Jobs[0]))
	h.finish(at, h.lease(at, 1, time.Hour)[0], store.Delivered, time.Time{})
	h.finish(at, leased[r.Jobs[1]], store.Failed, time.Time{})
	h.must(h.s.RemoveJobs(h.ctx, r.Jobs[2]))
	lost, err := h.s.Finish(h.ctx, at, outcome(leased[r.Jobs[2]], store.Delivered, at, time.Time{})) // lost: no event
	h.must(err)
	if len(lost) != 1 {
		t.Error("a removed job was finished")
	}
	h.reopen()
	events := h.trail(r.Message)[accepted:]
	h.wantSteps(events, address("sender@elsewhere.example"), step{store.TrailDeferred, rcpt}, step{store.TrailHeld, rcpt},
		step{store.TrailReleased, rcpt}, step{store.TrailDelivered, rcpt}, step{store.TrailFailed, "b@elsewhere.example"}, step{store.TrailRemoved, "c@elsewhere.example"})
	if len(events) == 6 && (events[0].Text != store.CleanText(o.Text) || !events[0].Time.Equal(at) || events[1].Text != "looks odd" || events[3].Text == "") {
		t.Errorf("trail %+v, want the remote's words, the time of the attempt and the reason of the hold", events)
	}
}

// TestTrailOfMaildrop: what was fetched and deleted, once each, of this maildrop only.
func TestTrailOfMaildrop(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	r := h.send(message("one"), to(anna), to(bob))
	accepted := len(h.trail(r.Message))
	mine, others := r.Copies[0].ID, r.Copies[1].ID
	md, later := h.maildrop(anna.ID), h.maildrop(anna.ID)
	h.must(md.Expunge(h.ctx, nil, []store.CopyID{mine, others, mine, 1 << 60}))
	h.must(md.Expunge(h.ctx, []store.CopyID{mine, others}, []store.CopyID{mine}))
	h.must(later.Expunge(h.ctx, []store.CopyID{mine}, []store.CopyID{mine})) // gone already
	h.must(md.Close())
	h.must(later.Close())
	h.reopen()
	const rcpt = "anna@" + Domain
	h.wantSteps(h.trail(r.Message)[accepted:], address("sender@elsewhere.example"),
		step{store.TrailFetched, rcpt}, step{store.TrailFetched, rcpt}, step{store.TrailDeleted, rcpt})
}

// TestTrailOfSettles: the outcomes that a commit settles are in the trail of their own messages.
func TestTrailOfSettles(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	original := h.send(message("one"), away("out@elsewhere.example"))
	leased := h.lease(h.now, 1, time.Hour)
	e := h.envelope(message("bounce"), to(anna))
	e.ReversePath = mailaddr.Address{}
	e.Settles = []store.Outcome{outcome(leased[0], store.Failed, h.now, time.Time{})}
	bounce, err := h.draft(message("bounce")).Commit(h.ctx, e)
	h.must(err)
	h.wantSteps(h.trail(original.Message), address("sender@elsewhere.example"), step{store.TrailAccepted, ""},
		step{store.TrailQueued, "out@elsewhere.example"}, step{store.TrailFailed, "out@elsewhere.example"},
		step{store.TrailReported, "out@elsewhere.example"})
	if events := h.trail(original.Message); events[len(events)-1].Text != bounce.Message.String() {
		t.Errorf("trail %+v, want the report's id %s at its end", events, bounce.Message)
	}
	h.wantSteps(h.trail(bounce.Message), mailaddr.Address{}, step{store.TrailAccepted, ""}, step{store.TrailStored, "anna@" + Domain})
}

// TestSearchTrail: by sender, by recipient wherever it went, by Message-ID; newest first.
func TestSearchTrail(t *testing.T, f Factory) {
	h := open(t, f)
	anna, gone := h.account("anna"), h.account("gone")
	h.must(h.s.RemoveAccount(h.ctx, gone.ID))
	var ids []store.MessageID
	for i := range 4 {
		body := message(fmt.Sprint(i))
		e := h.envelope(body, to(anna))
		e.HeaderID = fmt.Sprintf("<%d@elsewhere.example>", i)
		switch i {
		case 1:
			e.Recipients = append(e.Recipients, away("out@elsewhere.example"), away("out@elsewhere.example"))
		case 2:
			e.Recipients = append(e.Recipients, to(gone))
			e.ReversePath = mailaddr.Address{}
		case 3:
			e.ReversePath = address("out@elsewhere.example")
		}
		r, err := h.draft(body).Commit(h.ctx, e)
		h.must(err)
		ids = append(ids, r.Message)
	}
	h.reopen()
	for _, test := range []struct {
		query store.TrailQuery
		limit int
		want  []store.MessageID
	}{
		{store.TrailQuery{Address: address("anna@" + Domain)}, 10, []store.MessageID{ids[3], ids[2], ids[1], ids[0]}},
		{store.TrailQuery{Address: address("anna@" + Domain)}, 2, []store.MessageID{ids[3], ids[2]}},
		{store.TrailQuery{Address: address("out@elsewhere.example")}, 10, []store.MessageID{ids[3], ids[1]}},
		{store.TrailQuery{Address: address("sender@elsewhere.example")}, 10, []store.MessageID{ids[1], ids[0]}},
		{store.TrailQuery{Address: address("gone@" + Domain)}, 10, []store.MessageID{ids[2]}},
		{store.TrailQuery{HeaderID: "<2@elsewhere.example>"}, 10, []store.MessageID{ids[2]}},
		{store.TrailQuery{HeaderID: "2@elsewhere.example"}, 10, nil},
		{store.TrailQuery{Address: address("anna@" + Domain + "x")}, 10, nil},
		{store.TrailQuery{}, 10, []store.MessageID{ids[3], ids[2], ids[1], ids[0]}},
		{store.TrailQuery{}, 0, nil},
	} {
		page, err := h.s.SearchTrail(h.ctx, test.query, test.limit)
		h.must(err)
		if !slices.Equal(page.Messages, test.want) {
			t.Errorf("SearchTrail(%+v, %d) = %v, want %v", test.query, test.limit, page, test.want)
		}
	}
}

// TestTrailAge: what is too old is not told any more, whatever came before it.
func TestTrailAge(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	send := func(age time.Duration) store.MessageID {
		e := h.envelope(message("one"), to(anna))
		e.Received = h.now.Add(-age)
		e.HeaderID = "<one@elsewhere.example>"
		r, err := h.draft(message("one")).Commit(h.ctx, e)
		h.must(err)
		return r.Message
	}
	recent, old, fresh := send(store.TrailAge-time.Hour), send(store.TrailAge+time.Hour), send(0)
	h.reopen()
	if events := h.trail(old); len(events) != 0 {
		t.Errorf("trail %+v is older than %s", events, store.TrailAge)
	}
	if len(h.trail(recent)) != 2 || len(h.trail(fresh)) != 2 {
		t.Error("a trail that is young enough is gone")
	}
	got := h.search(store.TrailQuery{HeaderID: "<one@elsewhere.example>"}, 10)
	if want := []store.MessageID{fresh, recent}; !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
	h.wantUsage(anna.ID, int64(3*len(message("one"))), 3) // the mail itself stays
}

// TestTrailBound: beyond the bound the oldest events go.
func TestTrailBound(t *testing.T, f Factory) {
	h := open(t, f)
	n := h.bounds().TrailEvents
	perMessage := min(n/10, 1000)
	if n > 10*maxLoop {
		t.Skipf("the engine keeps %d events; set smaller Bounds to reach them", n)
	}
	recipients := make([]store.Recipient, perMessage)
	for i := range recipients {
		recipients[i] = away(fmt.Sprintf("r%d@elsewhere.example", i))
	}
	first := h.send(message("first"), away("first@elsewhere.example"))
	var last store.Receipt
	for events := 2; events < n+2; events += 2*perMessage + 1 {
		if events <= n && len(h.trail(first.Message)) != 2 {
			t.Fatalf("the first event is gone after %d of %d", events, n)
		}
		last = h.send(message("more"), recipients...)
		h.must(h.s.RemoveJobs(h.ctx, last.Jobs...))
	}
	if got := h.trail(first.Message); len(got) != 0 {
		t.Errorf("the oldest events are still there: %+v", got)
	}
	if got := h.trail(last.Message); len(got) != 2*perMessage+1 {
		t.Errorf("%d of the newest events are there, want %d", len(got), 2*perMessage+1)
	}
}
