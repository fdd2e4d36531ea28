package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// subjectKey is the key of the store under test.
func (h *harness) subjectKey() store.SubjectKey {
	h.t.Helper()
	key, err := store.LoadSubjectKey(h.ctx, h.s)
	h.must(err)
	return key
}

// TestSearchTrailParts: each part of a query by itself, and together with others; a message has to have all of them.
func TestSearchTrailParts(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	key := h.subjectKey()
	const first, second, third = 0, 1, 2
	var ids [3]store.MessageID
	for i, m := range []struct {
		from, subject string
		by            store.AccountID
		to            []store.Recipient
	}{
		{"x@elsewhere.example", "Invoice 17 of the Plumber", 0, []store.Recipient{to(anna), to(bob)}},
		{"anna@" + Domain, "Re: invoice", anna.ID, []store.Recipient{to(bob), away("x@elsewhere.example")}},
		{"x@elsewhere.example", "Holidays", 0, []store.Recipient{to(bob)}},
	} {
		e := h.envelope(message("m"), m.to...)
		e.ReversePath, e.Submitter, e.HeaderID = address(m.from), m.by, fmt.Sprintf("<%d@elsewhere.example>", i)
		e.Received, e.Subject = h.now.Add(time.Duration(i)*time.Minute), key.Tokens(m.subject)
		r, err := h.draft(message("m")).Commit(h.ctx, e)
		h.must(err)
		ids[i] = r.Message
	}
	h.reopen()
	key = h.subjectKey() // the same
	x, minute := address("x@elsewhere.example"), func(n int) time.Time { return h.now.Add(time.Duration(n) * time.Minute) }
	for name, test := range map[string]struct {
		query store.TrailQuery
		want  []int
	}{
		"address":               {store.TrailQuery{Address: x}, []int{third, second, first}},
		"sender":                {store.TrailQuery{Sender: x}, []int{third, first}},
		"recipient":             {store.TrailQuery{Recipient: x}, []int{second}},
		"sender and recipient":  {store.TrailQuery{Sender: x, Recipient: address("anna@" + Domain)}, []int{first}},
		"sender and address":    {store.TrailQuery{Sender: x, Address: address("bob@" + Domain)}, []int{third, first}},
		"sender, not recipient": {store.TrailQuery{Sender: address("anna@" + Domain), Recipient: address("anna@" + Domain)}, nil},
		"word":                  {store.TrailQuery{Subject: key.Tokens("INVOICE")}, []int{second, first}},
		"two words":             {store.TrailQuery{Subject: key.Tokens("plumber invoice")}, []int{first}},
		"a word too many":       {store.TrailQuery{Subject: key.Tokens("plumber invoice holidays")}, nil},
		"number":                {store.TrailQuery{Subject: key.Tokens("17")}, []int{first}},
		"word and recipient":    {store.TrailQuery{Subject: key.Tokens("invoice"), Recipient: x}, []int{second}},
		"word and Message-ID":   {store.TrailQuery{Subject: key.Tokens("invoice"), HeaderID: "<2@elsewhere.example>"}, nil},
		"account sends":         {store.TrailQuery{Account: anna.ID}, []int{second, first}},
		"account gets":          {store.TrailQuery{Account: bob.ID}, []int{third, second, first}},
		"account and address":   {store.TrailQuery{Account: anna.ID, Recipient: address("anna@" + Domain)}, []int{first}},
		"no such account":       {store.TrailQuery{Account: bob.ID + 100}, nil},
		"since":                 {store.TrailQuery{Since: minute(1)}, []int{third, second}},
		"since, just beyond":    {store.TrailQuery{Since: minute(1).Add(1)}, []int{third}},
		"until":                 {store.TrailQuery{Until: minute(1)}, []int{first}},
		"until, just beyond":    {store.TrailQuery{Until: minute(1).Add(1)}, []int{second, first}},
		"between":               {store.TrailQuery{Since: minute(1), Until: minute(2), Address: x}, []int{second}},
		"before":                {store.TrailQuery{Before: ids[third]}, []int{second, first}},
		"before the first":      {store.TrailQuery{Before: ids[first]}, nil},
		"long Message-ID":       {store.TrailQuery{HeaderID: strings.Repeat("x", store.MaxHeaderIDLen+1)}, nil},
		"many words":            {store.TrailQuery{Subject: make([]store.SubjectToken, store.MaxSubjectTokens+1)}, nil},
	} {
		var want []store.MessageID
		for _, i := range test.want {
			want = append(want, ids[i])
		}
		if got := h.search(test.query, 10); !slices.Equal(got, want) {
			t.Errorf("%s: found %v, want %v", name, got, want)
		}
	}
}

// TestSearchTrailPages: page by page everything is found once, whatever the size of a page, and however many recipients a message has.
func TestSearchTrailPages(t *testing.T, f Factory) {
	h := open(t, f)
	n, recipients := min(h.bounds().TrailEvents/4, 300), min(h.bounds().TrailEvents/4, 3000)
	if testing.Short() {
		recipients = min(recipients, 300)
	}
	var want []store.MessageID
	send := func(to ...store.Recipient) {
		e := h.envelope(message("m"), to...)
		e.Subject = []store.SubjectToken{7}
		r, err := h.draft(message("m")).Commit(h.ctx, e)
		h.must(err)
		h.must(h.s.RemoveJobs(h.ctx, r.Jobs...))
		want = append(want, r.Message)
	}
	for i := range n / 3 {
		if i == n/6 {
			var many []store.Recipient
			for k := range recipients {
				many = append(many, away(fmt.Sprintf("a.subscriber.with.a.long.name.%d@host%d.example", k*k, k)))
			}
			send(append(many, away("out@elsewhere.example"))...)
		}
		send(away("out@elsewhere.example"))
	}
	slices.Reverse(want)
	out := address("out@elsewhere.example")
	for _, limit := range []int{1, 7, len(want) - 1, len(want), len(want) + 1} {
		for name, q := range map[string]store.TrailQuery{
			"address": {Recipient: out}, "word and address": {Subject: []store.SubjectToken{7}, Recipient: out}, "all": {},
		} {
			got := h.search(q, limit)
			if got = got[:min(len(got), len(want))]; !slices.Equal(got, want) {
				t.Fatalf("%s, %d to a page: found %v, want %v", name, limit, got, want)
			}
		}
	}
}

// TestTrailFacts: who was at the other end, and how; what is too long is cut.
func TestTrailFacts(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	sent := store.Origin{Door: "submission", Remote: netip.MustParseAddr("192.0.2.1"), Hello: "pc", With: "ESMTPSA", TLS: "TLS 1.3", Account: 99, Device: 3}
	read := store.Origin{Door: "pop3", Remote: netip.MustParseAddr("2001:db8::1"), TLS: "TLS 1.2", Account: 99, Device: 4}
	peer := store.Peer{Host: "mx.elsewhere.example", Addr: netip.MustParseAddr("192.0.2.25"), TLS: "TLS 1.3, DANE"}
	e := h.envelope(message("m"), to(anna), away("out@elsewhere.example"))
	e.Origin, e.Submitter, e.Subject = sent, anna.ID, []store.SubjectToken{1 << 31, 2}
	r, err := h.draft(message("m")).Commit(h.ctx, e)
	h.must(err)
	for i, kind := range []store.OutcomeKind{store.Deferred, store.Deferred, store.Delivered} {
		jobs, err := h.s.Lease(h.ctx, h.now, anna.ID, elsewhere, 1, time.Hour)
		h.must(err)
		o := outcome(jobs[0], kind, h.now, h.now)
		if o.Peer = peer; i == 1 {
			o.Peer = store.Peer{Host: strings.Repeat("h", store.MaxPeerText+1), TLS: "a\r\nb"}
		}
		_, err = h.s.Finish(h.ctx, h.now, o)
		h.must(err)
		if kind == store.Deferred {
			j, err := h.s.Job(h.ctx, r.Jobs[0])
			h.must(err)
			if want := o.Peer.Clean().Host; j.LastHost != want {
				t.Errorf("the job's last host is %q, want %q", j.LastHost, want)
			}
		}
	}
	md := h.maildrop(anna.ID)
	md.ReadBy(read)
	h.must(md.Expunge(h.ctx, []store.CopyID{r.Copies[0].ID}, []store.CopyID{r.Copies[0].ID}))
	h.must(md.Close())
	h.reopen()
	sent.Account, read.Account = anna.ID, anna.ID
	out, mine := address("out@elsewhere.example"), address("anna@"+Domain)
	want := []store.TrailEvent{
		{Kind: store.TrailAccepted, Origin: sent, Subject: e.Subject, Size: int64(len(message("m")))},
		{Kind: store.TrailStored, Recipient: mine, Account: anna.ID},
		{Kind: store.TrailQueued, Recipient: out},
		{Kind: store.TrailDeferred, Recipient: out, Peer: peer},
		{Kind: store.TrailDeferred, Recipient: out, Peer: store.Peer{Host: strings.Repeat("h", store.MaxPeerText), TLS: "a  b"}},
		{Kind: store.TrailDelivered, Recipient: out, Peer: peer},
		{Kind: store.TrailFetched, Recipient: mine, Account: anna.ID, Origin: read},
		{Kind: store.TrailDeleted, Recipient: mine, Account: anna.ID, Origin: read},
	}
	got := h.trail(r.Message)
	if len(got) != len(want) {
		t.Fatalf("trail %+v, want %d events", got, len(want))
	}
	for i, e := range got {
		want[i].Message, want[i].Sender = r.Message, address("sender@elsewhere.example")
		e.Seq, e.Time, e.Text = 0, time.Time{}, ""
		if !reflect.DeepEqual(e, want[i]) {
			t.Errorf("event %d is %+v, want %+v", i, e, want[i])
		}
	}
}

var giveUpTests = []test{
	{"GiveUpJobs", TestGiveUpJobs},
	{"ListJobsBy", TestListJobsBy},
	{"ListJobsPages", TestListJobsPages},
	{"SubjectKeyDamaged", TestSubjectKeyDamaged},
}

// TestGiveUpJobs: a job that is given up is due at once, held or not, and says why; somebody who releases or holds it thinks again.
func TestGiveUpJobs(t *testing.T, f Factory) {
	h := open(t, f)
	id := h.queue("a@elsewhere.example")
	h.must(h.s.HoldJobs(h.ctx, "odd", id))
	for _, reason := range []string{"", strings.Repeat("x", store.MaxOutcomeText+1)} {
		h.want(h.s.GiveUpJobs(h.ctx, h.now, reason, id), store.ErrInvalid)
	}
	longest := strings.Repeat("x", store.MaxOutcomeText)
	h.must(h.s.GiveUpJobs(h.ctx, h.now, longest, id))
	changed := h.s.Changed()
	h.must(h.s.GiveUpJobs(h.ctx, h.now, "no\nhope", id))
	if !closed(changed) {
		t.Error("nobody is told of a job that is given up")
	}
	h.reopen()
	leased := h.lease(h.now, 10, time.Hour)
	if len(leased) != 1 || leased[0].GivenUp != "no hope" || leased[0].Held {
		t.Fatalf("leased %+v, want the job that is given up", leased)
	}
	for _, again := range []func() error{
		func() error { return h.s.ReleaseJobs(h.ctx, h.now, id) }, func() error { return h.s.HoldJobs(h.ctx, "odd", id) },
	} {
		h.must(h.s.GiveUpJobs(h.ctx, h.now, "no hope", id))
		h.must(again())
		if j, err := h.s.Job(h.ctx, id); err != nil || j.GivenUp != "" {
			t.Errorf("job %+v (%v), want it to be tried", j, err)
		}
	}
	events := h.trail(1)
	h.wantSteps(events[3:], address("sender@elsewhere.example"), step{store.TrailGivenUp, "a@elsewhere.example"}, step{store.TrailGivenUp, "a@elsewhere.example"},
		step{store.TrailGivenUp, "a@elsewhere.example"}, step{store.TrailReleased, "a@elsewhere.example"}, step{store.TrailGivenUp, "a@elsewhere.example"},
		step{store.TrailHeld, "a@elsewhere.example"})
	if events[4].Text != "no hope" {
		t.Errorf("event %+v, want the reason", events[4])
	}
}

// TestListJobsBy: each part of a filter.
func TestListJobsBy(t *testing.T, f Factory) {
	h := open(t, f)
	a, b := h.queue("a@elsewhere.example"), h.queue("B@elsewhere.example")
	e := h.envelope(message("m"), away("a@other.example"))
	e.ReversePath = mailaddr.Address{}
	r, err := h.draft(message("m")).Commit(h.ctx, e)
	h.must(err)
	c := r.Jobs[0]
	o := outcome(h.lease(h.now, 1, time.Hour)[0], store.Deferred, h.now, h.now)
	o.Peer.Host = "mx.elsewhere.example"
	_, err = h.s.Finish(h.ctx, h.now, o)
	h.must(err)
	held := true
	h.must(h.s.HoldJobs(h.ctx, "odd", b))
	for name, test := range map[string]struct {
		filter store.QueueFilter
		want   []store.JobID
	}{
		"sender":      {store.QueueFilter{Sender: address("sender@elsewhere.example")}, []store.JobID{a, b}},
		"recipient":   {store.QueueFilter{Recipient: address("a@elsewhere.example")}, []store.JobID{a}},
		"destination": {store.QueueFilter{Destination: "other.example"}, []store.JobID{c}},
		"host":        {store.QueueFilter{Host: "MX.elsewhere.example"}, []store.JobID{a}},
		"message":     {store.QueueFilter{Message: r.Message}, []store.JobID{c}},
		"held":        {store.QueueFilter{Held: &held}, []store.JobID{b}},
		"up to":       {store.QueueFilter{UpTo: b}, []store.JobID{a, b}},
		"together":    {store.QueueFilter{Sender: address("sender@elsewhere.example"), Host: "mx.elsewhere.example", UpTo: c}, []store.JobID{a}},
		"nothing":     {store.QueueFilter{Sender: address("sender@elsewhere.example"), Destination: "other.example"}, nil},
	} {
		jobs, next, err := h.s.ListJobs(h.ctx, test.filter, 0, 10)
		h.must(err)
		var got []store.JobID
		for _, j := range jobs {
			got = append(got, j.ID)
		}
		if !slices.Equal(got, test.want) || next != 0 {
			t.Errorf("%s: jobs %v and then %d, want %v", name, got, next, test.want)
		}
	}
}

// TestListJobsPages: a page ends where its limit is, or where enough was looked at, and the next one goes on there.
func TestListJobsPages(t *testing.T, f Factory) {
	if testing.Short() {
		t.Skip("it queues more than one look at the queue goes through")
	}
	h := open(t, f)
	const each = store.MaxRecipients
	var last store.JobID
	for n := 0; n < store.MaxListScan+1; n += each {
		var many []store.Recipient
		for i := range each {
			many = append(many, away(fmt.Sprintf("r%d@elsewhere.example", n+i)))
		}
		r := h.send(message("m"), many...)
		last = r.Jobs[each-1]
	}
	rare := store.QueueFilter{Recipient: address(fmt.Sprintf("r%d@elsewhere.example", store.MaxListScan))} // the first that is not looked at
	jobs, next, err := h.s.ListJobs(h.ctx, rare, 0, 10)
	h.must(err)
	if len(jobs) != 0 || next != store.MaxListScan {
		t.Fatalf("found %d jobs and then %d, want none and then %d", len(jobs), next, store.MaxListScan)
	}
	jobs, next, err = h.s.ListJobs(h.ctx, rare, next, 10)
	h.must(err)
	if len(jobs) != 1 || jobs[0].ID != store.MaxListScan+1 || next != 0 {
		t.Errorf("found %+v and then %d, want job %d", jobs, next, store.MaxListScan+1)
	}
	for _, test := range []struct {
		after, upTo store.JobID
		limit, n    int
		next        store.JobID
	}{{0, 0, 2, 2, 2}, {last - 2, 0, 2, 2, 0}, {last - 3, 0, 2, 2, last - 1}, {last, 0, 2, 0, 0}, {0, 2, 2, 2, 0}, {0, 3, 2, 2, 2}, {1<<64 - 1, 0, 2, 0, 0}} {
		jobs, next, err := h.s.ListJobs(h.ctx, store.QueueFilter{UpTo: test.upTo}, test.after, test.limit)
		h.must(err)
		if len(jobs) != test.n || next != test.next {
			t.Errorf("after %d, up to %d: %d jobs and then %d, want %d and %d", test.after, test.upTo, len(jobs), next, test.n, test.next)
		}
	}
}

// TestSubjectKeyDamaged: what is no key is an error, and no key is made over it.
func TestSubjectKeyDamaged(t *testing.T, f Factory) {
	h := open(t, f)
	key := h.subjectKey()
	if tokens := key.Tokens("invoice"); len(tokens) != 1 {
		t.Errorf("tokens %v, want one", tokens)
	}
	h.must(h.s.PutSecret(h.ctx, "trail/subject-key", []byte("short")))
	if _, err := store.LoadSubjectKey(context.Background(), h.s); !errors.Is(err, store.ErrSubjectKey) {
		t.Errorf("error %v, want %v", err, store.ErrSubjectKey)
	}
}

func (p *player) giveUp(rt *rapid.T) {
	j := p.anyJob(rt)
	p.must(p.s.GiveUpJobs(p.ctx, p.m.now, "no hope", j.ID))
	j.Held, j.HoldReason, j.NextAttempt, j.Released, j.GivenUp = false, "", p.m.now, true, "no hope"
	j.note(p.m, store.TrailGivenUp)
}
