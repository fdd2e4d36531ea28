package storetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/store"
)

var spoolTests = []test{
	{"DraftSettlesOnce", TestDraftSettlesOnce},
	{"DraftAbortLeavesNothing", TestDraftAbortLeavesNothing},
	{"DraftIsGoneAfterReopen", TestDraftIsGoneAfterReopen},
	{"DraftInPieces", TestDraftInPieces},
	{"ManyDraftsAtOnce", TestManyDraftsAtOnce},
	{"EmptyBody", TestEmptyBody},
	{"LargeBody", TestLargeBody},
	{"Commit", TestCommit},
	{"CommitOnward", TestCommitOnward},
	{"CommitLeavesOut", TestCommitLeavesOut},
	{"CommitNoRecipients", TestCommitNoRecipients},
	{"CommitOneCopyAnAccount", TestCommitOneCopyAnAccount},
	{"CommitPrefix", TestCommitPrefix},
	{"CommitQuota", TestCommitQuota},
	{"CommitBounds", TestCommitBounds},
	{"CommitManyRecipients", TestCommitManyRecipients},
	{"CommitSettles", TestCommitSettles},
	{"CommitSettlesLostLease", TestCommitSettlesLostLease},
	{"MessageIDsAreNeverReused", TestMessageIDsAreNeverReused},
}

// TestDraftSettlesOnce: whatever Commit returned, the draft is used up.
func TestDraftSettlesOnce(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	body := message("one")
	good := h.envelope(body, to(anna))

	d := h.draft(body)
	_, err := d.Commit(h.ctx, good)
	h.must(err)
	_, err = d.Commit(h.ctx, good)
	h.want(err, store.ErrSettled)
	_, err = d.Write([]byte("x"))
	h.want(err, store.ErrSettled)
	h.must(d.Abort())

	refused := h.draft(body)
	_, err = refused.Commit(h.ctx, store.Envelope{})
	h.want(err, store.ErrInvalid)
	_, err = refused.Commit(h.ctx, good)
	h.want(err, store.ErrSettled)

	aborted := h.draft(body)
	h.must(aborted.Abort())
	h.must(aborted.Abort())
	_, err = aborted.Commit(h.ctx, good)
	h.want(err, store.ErrSettled)
	h.wantBodies(anna.ID, body)
	h.wantBodyCount(1)
}

// TestDraftAbortLeavesNothing: no copy, no job, no use, no trail, no body.
func TestDraftAbortLeavesNothing(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	for _, size := range []int{0, 10, 300 << 10} {
		h.must(h.draft(strings.Repeat("x", size)).Abort())
	}
	for range 2 {
		h.wantBodies(anna.ID)
		h.wantUsage(anna.ID, 0, 0)
		h.wantBodyCount(0)
		h.wantJobs()
		h.reopen()
	}
}

// TestDraftIsGoneAfterReopen: a draft that nobody settled leaves nothing in the data.
func TestDraftIsGoneAfterReopen(t *testing.T, f Factory) {
	h := open(t, f)
	h.draft(message("one"))
	h.draft(strings.Repeat("x", 300<<10))
	h.reopen()
	h.wantBodyCount(0)
}

// TestDraftInPieces: the pieces of a Write do not matter, and their octets stay the caller's.
func TestDraftInPieces(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	body := message("pieces") + strings.Repeat("0123456789\r\n", 500) + "\x00\xff.\r\n.\r\n..\r\n"
	d := h.draft("")
	piece := make([]byte, 0, 1024)
	for rest, n := body, 1; rest != ""; n = n*2%1021 + 1 {
		n = min(n, len(rest))
		piece = append(piece[:0], rest[:n]...)
		_, err := d.Write(piece)
		h.must(err)
		for i := range piece {
			piece[i] = '!'
		}
		rest = rest[n:]
	}
	_, err := d.Commit(h.ctx, h.envelope(body, to(anna)))
	h.must(err)
	h.wantBodies(anna.ID, body)
	h.reopen()
	h.wantBodies(anna.ID, body)
}

// TestManyDraftsAtOnce: open drafts do not disturb one another.
func TestManyDraftsAtOnce(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	drafts := make([]store.Draft, 40)
	for i := range drafts {
		drafts[i] = h.draft(fmt.Sprintf("Subject: %d\r\n\r\n", i))
	}
	var want []string
	for i, d := range drafts {
		if i%3 == 0 {
			h.must(d.Abort())
			continue
		}
		_, err := io.WriteString(d, "tail\r\n")
		h.must(err)
		body := fmt.Sprintf("Subject: %d\r\n\r\ntail\r\n", i)
		_, err = d.Commit(h.ctx, h.envelope(body, to(anna)))
		h.must(err)
		want = append(want, body)
	}
	h.wantBodies(anna.ID, want...)
}

// TestEmptyBody: no octets at all are a message too.
func TestEmptyBody(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	r := h.send("", to(anna), away("out@elsewhere.example"))
	h.reopen()
	m := h.list(anna.ID)
	if len(m) != 1 || m[0].Size != 0 || m[0].HeaderLen != 0 {
		t.Errorf("messages %+v, want one without octets", m)
	}
	h.wantBodies(anna.ID, "")
	h.wantUsage(anna.ID, 0, 1)
	body, err := h.s.OpenJob(h.ctx, r.Jobs[0])
	h.must(err)
	if got := h.readAll(body); got != "" {
		t.Errorf("job yields %q, want nothing", got)
	}
}

// TestLargeBody: 25 MB go in and come out in small pieces.
func TestLargeBody(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	const size, header = 25_000_000, 1000
	d := h.draft("")
	in, out := sha256.New(), sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(d, in)}, io.LimitReader(&pattern{}, size), make([]byte, 32<<10))
	h.must(err)
	if n != size || d.Size() != size {
		t.Fatalf("draft has %d of %d octets", d.Size(), n)
	}
	e := h.envelope("", to(anna), away("out@elsewhere.example"))
	e.HeaderLen = header
	r, err := d.Commit(h.ctx, e)
	h.must(err)
	h.reopen()
	h.wantUsage(anna.ID, size, 1)
	if m := h.list(anna.ID); m[0].Size != size || m[0].HeaderLen != header {
		t.Errorf("message %+v, want %d octets, %d of them header", m[0], size, header)
	}
	md := h.maildrop(anna.ID)
	defer func() { h.must(md.Close()) }()
	copied, err := md.OpenMessage(h.ctx, r.Copies[0].ID)
	h.must(err)
	queued, err := h.s.OpenJob(h.ctx, r.Jobs[0])
	h.must(err)
	for _, body := range []io.ReadCloser{copied, queued} {
		out.Reset()
		n, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{body}, make([]byte, 32<<10))
		h.must(err)
		h.must(body.Close())
		if n != size || !slices.Equal(in.Sum(nil), out.Sum(nil)) {
			t.Errorf("read %d octets with another hash than the %d written", n, size)
		}
	}
}

// pattern yields lines that do not repeat for long.
type pattern struct{ n uint64 }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		p.n = p.n*6364136223846793005 + 1442695040888963407
		if b[i] = byte(p.n >> 56); p.n>>50&63 == 0 {
			b[i] = '\n'
		}
	}
	return len(b), nil
}

// TestCommit: copies and jobs appear together, with all that the envelope says, and stay.
func TestCommit(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	body := message("one")
	e := h.envelope(body,
		to(anna),
		store.Recipient{Address: address("out@elsewhere.example"), Prefix: []byte("Ignored: yes\r\n"), Notify: store.NotifySuccess | store.NotifyDelay, Original: "rfc822;x@y"},
		to(bob),
		away("Other@[192.0.2.9]"))
	e.Submitter, e.HeaderID, e.Return, e.EnvelopeID = bob.ID, "<one@elsewhere.example>", store.ReturnHeader, "env-1"
	e.EightBit, e.UTF8, e.Ours, e.TLS = true, true, true, store.TLSRequired
	r, err := h.draft(body).Commit(h.ctx, e)
	h.must(err)
	if r.Message == 0 || len(r.Copies) != 2 || len(r.Jobs) != 2 || len(r.Failed) != 0 {
		t.Fatalf("receipt %+v, want a message, two copies, two jobs", r)
	}
	h.reopen()
	for i, a := range []store.Account{anna, bob} {
		m := h.list(a.ID)
		if len(m) != 1 {
			t.Fatalf("%s has %d messages, want 1", a.Name, len(m))
		}
		if c := r.Copies[i]; c.Account != a.ID || c.ID != m[0].ID || c.UID != m[0].UID || m[0].Of != r.Message {
			t.Errorf("copy %+v of message %s, listed as %+v", c, r.Message, m[0])
		}
		if !m[0].Received.Equal(h.now) || m[0].Size != int64(len(body)) || m[0].HeaderLen != headerLen(body) {
			t.Errorf("listed %+v, want %d octets, %d of them header, received %s", m[0], len(body), headerLen(body), h.now)
		}
		h.wantBodies(a.ID, body)
	}
	for i, recipient := range []store.Recipient{e.Recipients[1], e.Recipients[3]} {
		got, err := h.s.Job(h.ctx, r.Jobs[i])
		h.must(err)
		want := store.Job{
			ID: r.Jobs[i], Message: r.Message, Submitter: bob.ID, ReversePath: e.ReversePath, Recipient: recipient.Address,
			Size: int64(len(body)), HeaderLen: headerLen(body), HeaderID: e.HeaderID, EightBit: true, UTF8: true, Ours: true, TLS: e.TLS,
			Return: e.Return, EnvelopeID: e.EnvelopeID, Notify: recipient.Notify, Original: recipient.Original,
			Received: e.Received, NextAttempt: got.NextAttempt,
		}
		if !sameJob(got, want) || got.NextAttempt.After(h.now) {
			t.Errorf("job %+v, want %+v, due by %s", got, want, h.now)
		}
		b, err := h.s.OpenJob(h.ctx, got.ID)
		h.must(err)
		if text := h.readAll(b); text != body {
			t.Errorf("job yields %q, want %q", text, body)
		}
	}
}

func sameJob(a, b store.Job) bool {
	if !a.Received.Equal(b.Received) || !a.NextAttempt.Equal(b.NextAttempt) {
		return false
	}
	a.Received, a.NextAttempt = b.Received, b.NextAttempt
	return reflect.DeepEqual(a, b)
}

// TestCommitOnward: a job that sends a message on has the reverse-path of that, null or not, and knows who sends it on; the others have theirs.
func TestCommitOnward(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	for _, body := range []string{message("onward"), message("onward") + strings.Repeat("a long line\r\n", 20_000)} {
		by, path := address("anna@"+Domain), address("srs0=x=y@"+Domain)
		e := h.envelope(body, to(anna), store.Recipient{Address: address("own@other.example")},
			store.Recipient{Address: address("a@other.example"), Onward: store.Onward{By: by, ReversePath: path, Kept: true}},
			store.Recipient{Address: address("b@other.example"), Onward: store.Onward{By: by}},
		)
		r, err := h.draft(body).Commit(h.ctx, e)
		h.must(err)
		for range 2 {
			for i, want := range []store.Onward{{ReversePath: e.ReversePath}, e.Recipients[2].Onward, e.Recipients[3].Onward} {
				j, err := h.s.Job(h.ctx, r.Jobs[i])
				h.must(err)
				if j.Alone {
					t.Errorf("job %d is alone", i)
				}
				if got := (store.Onward{By: j.ForwardedBy, ReversePath: j.ReversePath, Kept: j.Kept}); got != want {
					t.Errorf("job %d: %+v, want %+v", i, got, want)
				}
			}
			h.reopen()
		}
	}
	r, err := h.draft("x").Commit(h.ctx, h.envelope("x", to(anna), store.Recipient{Address: address("own@other.example")}))
	h.must(err)
	for range 2 {
		if j, err := h.s.Job(h.ctx, r.Jobs[0]); err != nil || !j.Alone {
			t.Errorf("the only job of a message beside a copy: %+v, %v", j, err)
		}
		h.reopen()
	}
	bad := h.envelope("x", store.Recipient{Address: address("a@other.example"), Onward: store.Onward{Kept: true}})
	_, err = h.draft("x").Commit(h.ctx, bad)
	h.want(err, store.ErrInvalid)
	bad = h.envelope("x", to(anna))
	bad.Recipients[0].Onward.By = address("anna@" + Domain)
	_, err = h.draft("x").Commit(h.ctx, bad)
	h.want(err, store.ErrInvalid)
}

// TestCommitLeavesOut: a recipient that cannot be served is reported and holds nobody up.
func TestCommitLeavesOut(t *testing.T, f Factory) {
	h := open(t, f)
	gone, asleep, full, anna := h.account("gone"), h.account("asleep"), h.account("full"), h.account("anna")
	body := message("one")
	d := h.draft(body)
	h.must(h.s.RemoveAccount(h.ctx, gone.ID))
	h.update(asleep.ID, func(a *store.Account) { a.Suspended = true })
	h.update(full.ID, func(a *store.Account) { a.Quota.Octets = int64(len(body)) - 1 })
	r, err := d.Commit(h.ctx, h.envelope(body, to(gone), to(anna), to(asleep), away("out@elsewhere.example"), to(full)))
	h.must(err)
	if len(r.Copies) != 1 || r.Copies[0].Account != anna.ID || len(r.Jobs) != 1 {
		t.Errorf("receipt %+v, want a copy for anna and a job", r)
	}
	wantFailed(t, r.Failed, map[int]error{0: store.ErrNotFound, 2: store.ErrSuspended, 4: store.ErrMaildropFull})
	if !slices.IsSortedFunc(r.Failed, func(a, b *store.RecipientError) int { return a.Index - b.Index }) {
		t.Errorf("failed recipients are not in order: %v", r.Failed)
	}
	h.reopen()
	h.wantBodies(anna.ID, body)
	h.wantUsage(full.ID, 0, 0)
	h.wantUsage(asleep.ID, 0, 0)
}

func wantFailed(t *testing.T, failed []*store.RecipientError, want map[int]error) {
	t.Helper()
	got := map[int]bool{}
	for _, f := range failed {
		if got[f.Index] = true; want[f.Index] == nil || !errors.Is(f, want[f.Index]) {
			t.Errorf("recipient %d failed with %v, want %v", f.Index, f.Err, want[f.Index])
		}
	}
	if len(failed) != len(want) || len(got) != len(want) {
		t.Errorf("failed recipients %v, want %v", failed, want)
	}
}

// TestCommitNoRecipients: if nobody is left, nothing is stored, and every reason is told.
func TestCommitNoRecipients(t *testing.T, f Factory) {
	h := open(t, f)
	gone, full := h.account("gone"), h.account("full")
	job := h.queue("first@elsewhere.example")
	leased := h.lease(h.now, 1, time.Minute)
	h.must(h.s.RemoveAccount(h.ctx, gone.ID))
	h.update(full.ID, func(a *store.Account) { a.Quota.Octets = 1 })
	body := message("one")
	e := h.envelope(body, to(gone), to(full), to(gone))
	e.HeaderID = "<nobody@elsewhere.example>"
	e.Settles = []store.Outcome{outcome(leased[0], store.Failed, h.now, time.Time{})}
	_, err := h.draft(body).Commit(h.ctx, e)
	h.want(err, store.ErrNoRecipients)
	h.want(err, store.ErrNotFound)
	h.want(err, store.ErrMaildropFull)
	wantFailed(t, recipientErrors(err), map[int]error{0: store.ErrNotFound, 1: store.ErrMaildropFull, 2: store.ErrNotFound})
	h.wantUsage(full.ID, 0, 0)
	h.wantBodyCount(1)
	h.wantJobs(job)
	if ids := h.search(store.TrailQuery{HeaderID: e.HeaderID}, 10); len(ids) != 0 {
		t.Errorf("the trail knows message %v, which was not stored", ids)
	}
}

// recipientErrors collects the RecipientErrors of a joined error.
func recipientErrors(err error) []*store.RecipientError {
	if r, ok := err.(*store.RecipientError); ok { //nolint:errorlint // the tree is walked here node by node
		return []*store.RecipientError{r}
	}
	var found []*store.RecipientError
	switch e := err.(type) { //nolint:errorlint // see above
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			found = append(found, recipientErrors(inner)...)
		}
	case interface{ Unwrap() error }:
		found = recipientErrors(e.Unwrap())
	}
	return found
}

// TestCommitOneCopyAnAccount: several addresses of one account make one copy, the first.
func TestCommitOneCopyAnAccount(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	body := message("one")
	prefixed := func(a store.Account, prefix string) store.Recipient {
		r := to(a)
		r.Prefix = []byte(prefix)
		return r
	}
	r := h.send(body, prefixed(anna, "A: 1\r\n"), to(bob), prefixed(anna, "A: 2\r\n"), away("x@elsewhere.example"), away("y@elsewhere.example"))
	if len(r.Copies) != 2 || r.Copies[0].Account != anna.ID || r.Copies[1].Account != bob.ID || len(r.Failed) != 0 || len(r.Jobs) != 2 {
		t.Errorf("receipt %+v, want one copy each for anna and bob, and two jobs", r)
	}
	h.wantBodies(anna.ID, "A: 1\r\n"+body)
}

// TestCommitPrefix: it is part of the copy, of its size, of its header, and of nobody else's.
func TestCommitPrefix(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	body := message("one")
	prefix := "Return-Path: <sender@elsewhere.example>\r\nDelivered-To: anna@example.org\r\n"
	given := []byte(prefix)
	h.send(body, store.Recipient{Address: address("anna@" + Domain), Account: anna.ID, Prefix: given}, to(bob))
	given[0] = '!' // the caller's own
	h.send("no header end", store.Recipient{Address: address("anna@" + Domain), Account: anna.ID, Prefix: []byte(prefix)})
	h.reopen()
	h.wantBodies(anna.ID, prefix+body, prefix+"no header end")
	h.wantBodies(bob.ID, body)
	h.wantUsage(anna.ID, int64(2*len(prefix)+len(body)+len("no header end")), 2)
	h.wantUsage(bob.ID, int64(len(body)), 1)
	m := h.list(anna.ID)
	if m[0].Size != int64(len(prefix+body)) || m[0].HeaderLen != int64(len(prefix))+headerLen(body) {
		t.Errorf("listed %+v, want %d octets, %d of them header", m[0], len(prefix+body), int64(len(prefix))+headerLen(body))
	}
	if m[1].HeaderLen != m[1].Size {
		t.Errorf("listed %+v, want all of it header", m[1])
	}
}

// TestCommitQuota: a copy that fits exactly is taken, one octet or one message more is not; deleting makes room.
func TestCommitQuota(t *testing.T, f Factory) {
	h := open(t, f)
	octets, count := h.account("octets"), h.account("count")
	body := strings.Repeat("x", 100)
	h.update(octets.ID, func(a *store.Account) { a.Quota.Octets = 210 })
	h.update(count.ID, func(a *store.Account) { a.Quota.Messages = 2 })
	prefixed := to(octets)
	prefixed.Prefix = []byte("P: 567890\r\n")[:10]
	r := h.send(body, prefixed, to(count))
	h.send(body, to(octets), to(count)) // fits to the octet
	_, err := h.draft(body).Commit(h.ctx, h.envelope(body, to(count)))
	h.want(err, store.ErrMaildropFull)
	_, err = h.draft("x").Commit(h.ctx, h.envelope("x", to(octets)))
	h.want(err, store.ErrMaildropFull)
	h.send("", to(octets))
	h.wantUsage(octets.ID, 210, 3)
	h.reopen()
	h.wantUsage(octets.ID, 210, 3)
	h.wantUsage(count.ID, 200, 2)

	h.expunge(octets.ID, r.Copies[0].ID)
	h.wantUsage(octets.ID, 100, 2)
	_, err = h.draft(body+"12345678901").Commit(h.ctx, h.envelope(body, to(octets)))
	h.want(err, store.ErrMaildropFull)
	h.send(body+"1234567890", to(octets))
	h.update(octets.ID, func(a *store.Account) { a.Quota.Octets = 5 }) // a lowered quota takes nothing away
	h.wantUsage(octets.ID, 210, 3)
}

// TestCommitBounds: an envelope out of bounds is refused as a whole, with nothing stored.
func TestCommitBounds(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	body := message("one")
	tests := []struct {
		name   string
		change func(*store.Envelope)
		ok     bool
	}{
		{"no recipients", func(e *store.Envelope) { e.Recipients = nil }, false},
		{"too many recipients", func(e *store.Envelope) { e.Recipients = make([]store.Recipient, store.MaxRecipients+1) }, false},
		{"longest prefix", func(e *store.Envelope) { e.Recipients[0].Prefix = make([]byte, store.MaxPrefixLen) }, true},
		{"prefix too long", func(e *store.Envelope) { e.Recipients[0].Prefix = make([]byte, store.MaxPrefixLen+1) }, false},
		{"negative header", func(e *store.Envelope) { e.HeaderLen = -1 }, false},
		{"all header", func(e *store.Envelope) { e.HeaderLen = int64(len(body)) }, true},
		{"header too long", func(e *store.Envelope) { e.HeaderLen = int64(len(body)) + 1 }, false},
		{"longest Message-ID", func(e *store.Envelope) { e.HeaderID = strings.Repeat("i", store.MaxHeaderIDLen) }, true},
		{"Message-ID too long", func(e *store.Envelope) { e.HeaderID = strings.Repeat("i", store.MaxHeaderIDLen+1) }, false},
		{"unknown outcome", func(e *store.Envelope) { e.Settles = []store.Outcome{{Job: 1, Kind: "lost"}} }, false},
	}
	stored := 0
	for _, test := range tests {
		e := h.envelope(body, to(anna))
		test.change(&e)
		_, err := h.draft(body).Commit(h.ctx, e)
		if test.ok {
			stored++
			h.must(err)
		} else if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: error %v, want %v", test.name, err, store.ErrInvalid)
		}
		if got := len(h.list(anna.ID)); got != stored {
			t.Fatalf("%s: %d messages, want %d", test.name, got, stored)
		}
	}
}

// TestCommitManyRecipients: the largest envelope is one body and one transaction.
func TestCommitManyRecipients(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	recipients := []store.Recipient{to(anna)}
	for i := range store.MaxRecipients - 1 {
		recipients = append(recipients, away(fmt.Sprintf("r%d@elsewhere.example", i)))
	}
	r := h.send(message("many"), recipients...)
	if len(r.Jobs) != store.MaxRecipients-1 || !slices.IsSorted(r.Jobs) {
		t.Errorf("%d jobs (sorted: %t), want %d", len(r.Jobs), slices.IsSorted(r.Jobs), store.MaxRecipients-1)
	}
	h.reopen()
	h.wantBodies(anna.ID, message("many"))
	h.wantBodyCount(1)
	jobs, _, err := h.s.ListJobs(h.ctx, store.QueueFilter{}, 0, 2*store.MaxRecipients)
	h.must(err)
	if len(jobs) != len(r.Jobs) {
		t.Errorf("%d jobs listed, want %d", len(jobs), len(r.Jobs))
	}
}

// TestCommitSettles: a bounce and the failures that it reports become true together.
func TestCommitSettles(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	failed, deferred, other := h.queue("a@elsewhere.example"), h.queue("b@elsewhere.example"), h.queue("c@elsewhere.example")
	leased := byID(h.lease(h.now, 10, time.Hour))
	next := h.now.Add(time.Hour)
	body := message("bounce")
	e := h.envelope(body, to(anna))
	e.Settles = []store.Outcome{
		outcome(leased[failed], store.Failed, h.now, time.Time{}),
		outcome(leased[deferred], store.Deferred, h.now, next),
	}
	_, err := h.draft(body).Commit(h.ctx, e)
	h.must(err)
	h.reopen()
	h.wantBodies(anna.ID, body)
	h.wantJobs(deferred, other)
	j, err := h.s.Job(h.ctx, deferred)
	h.must(err)
	if j.Attempts != 1 || !j.NextAttempt.Equal(next) || j.LastText != e.Settles[1].Text {
		t.Errorf("deferred job %+v, want one attempt, due at %s", j, next)
	}
	h.wantBodyCount(3)
}

// TestCommitSettlesLostLease: if one lease is gone, nothing is stored and no outcome counts.
func TestCommitSettlesLostLease(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	kept, lost := h.queue("a@elsewhere.example"), h.queue("b@elsewhere.example")
	leased := byID(h.lease(h.now, 10, time.Hour))
	body := message("bounce")
	try := func(second store.Outcome) {
		t.Helper()
		e := h.envelope(body, to(anna))
		e.Settles = []store.Outcome{outcome(leased[kept], store.Failed, h.now, time.Time{}), second}
		_, err := h.draft(body).Commit(h.ctx, e)
		h.want(err, store.ErrLeaseLost)
		h.wantBodies(anna.ID)
		h.wantUsage(anna.ID, 0, 0)
		if j, err := h.s.Job(h.ctx, kept); err != nil || j.Attempts != 0 {
			t.Errorf("the job beside the lost one is %+v (%v), want it untouched", j, err)
		}
	}
	wrong := outcome(leased[lost], store.Failed, h.now, time.Time{})
	wrong.Lease++
	try(wrong)
	none := wrong
	none.Lease = 0
	try(none)
	h.must(h.s.RemoveJobs(h.ctx, lost))
	try(outcome(leased[lost], store.Failed, h.now, time.Time{}))
	h.finish(h.now, leased[kept], store.Delivered, time.Time{}) // the failed commits did not use up its lease
	h.wantJobs()
	h.wantBodyCount(0)
}

// TestMessageIDsAreNeverReused: messages, copies and jobs get new ids after everything was removed and the store opened again.
func TestMessageIDsAreNeverReused(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	var last store.Receipt
	for range 3 {
		for range 2 {
			r := h.send(message("one"), to(anna), away("out@elsewhere.example"))
			if last.Message != 0 && (r.Message <= last.Message || r.Copies[0].ID <= last.Copies[0].ID || r.Jobs[0] <= last.Jobs[0]) {
				t.Fatalf("receipt %+v after %+v: ids do not ascend", r, last)
			}
			h.expunge(anna.ID, r.Copies[0].ID)
			h.must(h.s.RemoveJobs(h.ctx, r.Jobs[0]))
			last = r
		}
		h.wantBodyCount(0)
		h.reopen()
	}
}

func byID(jobs []store.Job) map[store.JobID]store.Job {
	m := make(map[store.JobID]store.Job, len(jobs))
	for _, j := range jobs {
		m[j.ID] = j
	}
	return m
}

// inParallel runs n goroutines and waits for them.
func inParallel(n int, run func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { run(i) })
	}
	wg.Wait()
}
