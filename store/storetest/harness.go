package storetest

import (
	"context"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// harness is a store under test, and the shortest words for what most tests do with it.
type harness struct {
	t      reporter
	test   *testing.T
	ctx    context.Context
	e      Engine
	s      store.Store
	now    time.Time // a fixed moment near the real one: engines may prune by the real clock
	closed bool
}

// reporter is what the harness needs of *testing.T; in the random test it is a *rapid.T.
type reporter interface {
	Helper()
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

func newHarness(t *testing.T, e Engine) *harness {
	return &harness{t: t, test: t, ctx: t.Context(), e: e, s: e.Open(t), now: time.Now().UTC().Truncate(time.Second)}
}

func (h *harness) reopen() {
	h.t.Helper()
	h.s = h.e.Reopen(h.test)
}

// must ends the test if a verb that has to succeed did not.
func (h *harness) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("unexpected error: %v", err)
	}
}

// want reports an error that is not the wanted one.
func (h *harness) want(err, want error) {
	h.t.Helper()
	if !errors.Is(err, want) {
		h.t.Errorf("error %v, want %v", err, want)
	}
}

// refused reports a bound that was not enforced, where the contract leaves open which of the two errors says so.
func (h *harness) refused(err error) {
	h.t.Helper()
	if !errors.Is(err, store.ErrInvalid) && !errors.Is(err, store.ErrBound) {
		h.t.Errorf("error %v, want %v or %v", err, store.ErrInvalid, store.ErrBound)
	}
}

func (h *harness) account(name string) store.Account {
	h.t.Helper()
	a, err := h.s.AddAccount(h.ctx, store.Account{Name: name, Verifier: "$argon2id$" + store.Verifier(name), Created: h.now})
	h.must(err)
	return a
}

// update reads an account, changes it and puts it back.
func (h *harness) update(id store.AccountID, change func(*store.Account)) store.Account {
	h.t.Helper()
	a, err := h.s.Account(h.ctx, id)
	h.must(err)
	change(&a)
	a, err = h.s.UpdateAccount(h.ctx, a)
	h.must(err)
	return a
}

func (h *harness) alias(name string, targets ...store.AccountID) {
	h.t.Helper()
	h.must(h.s.PutAlias(h.ctx, store.Alias{Name: name, Targets: targets}))
}

func (h *harness) draft(body string) store.Draft {
	h.t.Helper()
	d, err := h.s.NewDraft(h.ctx)
	h.must(err)
	n, err := io.WriteString(d, body)
	h.must(err)
	if n != len(body) || d.Size() != int64(len(body)) {
		h.t.Fatalf("draft took %d octets and has %d, want %d", n, d.Size(), len(body))
	}
	return d
}

// envelope is a plain one for a body: from a stranger, received now.
func (h *harness) envelope(body string, to ...store.Recipient) store.Envelope {
	return store.Envelope{
		ReversePath: address("sender@elsewhere.example"),
		Recipients:  to,
		Received:    h.now,
		HeaderLen:   headerLen(body),
		Origin:      store.Origin{Door: "mx", Hello: "client.example", With: "ESMTP"},
	}
}

// send commits a body to recipients; it has to be stored.
func (h *harness) send(body string, to ...store.Recipient) store.Receipt {
	h.t.Helper()
	r, err := h.draft(body).Commit(h.ctx, h.envelope(body, to...))
	h.must(err)
	return r
}

// queue commits a body to one address outside and returns its job.
func (h *harness) queue(addr string) store.JobID {
	h.t.Helper()
	r := h.send("Subject: to "+addr+"\r\n\r\nhello\r\n", away(addr))
	if len(r.Jobs) != 1 {
		h.t.Fatalf("commit made %d jobs, want 1", len(r.Jobs))
	}
	return r.Jobs[0]
}

func (h *harness) maildrop(id store.AccountID) store.Maildrop {
	h.t.Helper()
	md, err := h.s.OpenMaildrop(h.ctx, id)
	h.must(err)
	return md
}

// list returns what a new snapshot of the account's maildrop holds.
func (h *harness) list(id store.AccountID) []store.Message {
	h.t.Helper()
	md := h.maildrop(id)
	messages := h.messages(md)
	h.must(md.Close())
	return messages
}

// messages returns what a snapshot lists, which has to be what it says that it holds.
func (h *harness) messages(md store.Maildrop) []store.Message {
	h.t.Helper()
	before := md.Stat()
	list, err := md.Messages(h.ctx)
	h.must(err)
	messages := slices.Collect(list)
	var sum store.Usage
	for _, m := range messages {
		sum = sum.Plus(store.Usage{Octets: m.Size, Messages: 1})
	}
	if after := md.Stat(); before != sum || after != sum {
		h.t.Errorf("the snapshot says that it holds %+v, and %+v after it was listed; it lists %+v", before, after, sum)
	}
	return messages
}

func (h *harness) read(md store.Maildrop, id store.CopyID) string {
	h.t.Helper()
	r, err := md.OpenMessage(h.ctx, id)
	h.must(err)
	return h.readAll(r)
}

func (h *harness) readAll(r io.ReadCloser) string {
	h.t.Helper()
	b, err := io.ReadAll(r)
	h.must(err)
	h.must(r.Close())
	return string(b)
}

// bodies returns what every message of the account's maildrop yields, in order.
func (h *harness) bodies(id store.AccountID) []string {
	h.t.Helper()
	md := h.maildrop(id)
	defer func() { h.must(md.Close()) }()
	var bodies []string
	for _, m := range h.messages(md) {
		bodies = append(bodies, h.read(md, m.ID))
	}
	return bodies
}

func (h *harness) wantBodies(id store.AccountID, want ...string) {
	h.t.Helper()
	if got := h.bodies(id); !reflect.DeepEqual(got, want) {
		h.t.Errorf("maildrop holds %q, want %q", got, want)
	}
}

func (h *harness) expunge(id store.AccountID, copies ...store.CopyID) {
	h.t.Helper()
	md := h.maildrop(id)
	h.must(md.Expunge(h.ctx, copies, nil))
	h.must(md.Close())
}

func (h *harness) wantUsage(id store.AccountID, octets, messages int64) {
	h.t.Helper()
	u, err := h.s.Usage(h.ctx, id)
	h.must(err)
	if want := (store.Usage{Octets: octets, Messages: messages}); u != want {
		h.t.Errorf("usage %+v, want %+v", u, want)
	}
}

func (h *harness) wantDomainUsage(octets, messages int64) {
	h.t.Helper()
	u, err := h.s.DomainUsage(h.ctx)
	h.must(err)
	if want := (store.Usage{Octets: octets, Messages: messages}); u != want {
		h.t.Errorf("usage of the domain %+v, want %+v", u, want)
	}
}

// domainQuota sets the quota of the domain.
func (h *harness) domainQuota(q store.Quota) {
	h.t.Helper()
	s, err := h.s.Settings(h.ctx)
	h.must(err)
	s.DomainOctets, s.DomainMessages = q.Octets, q.Messages
	_, err = h.s.UpdateSettings(h.ctx, s)
	h.must(err)
}

// reserve reserves room, which has to be there.
func (h *harness) reserve(a store.Account, octets int64) store.ReservationID {
	h.t.Helper()
	id, err := h.s.Reserve(h.ctx, a.ID, octets)
	h.must(err)
	if id == 0 {
		h.t.Errorf("a reservation has the id 0")
	}
	return id
}

// wantReserve tries to reserve room and gives it back: what is wanted is an error, or nil.
func (h *harness) wantReserve(a store.Account, octets int64, want error) {
	h.t.Helper()
	id, err := h.s.Reserve(h.ctx, a.ID, octets)
	if want == nil {
		h.must(err)
		h.s.Unreserve(id)
		return
	}
	if h.want(err, want); err == nil {
		h.s.Unreserve(id)
	}
}

// elsewhere is the destination of most jobs.
const elsewhere = "elsewhere.example"

// lease leases jobs to elsewhere.
func (h *harness) lease(now time.Time, limit int, d time.Duration) []store.Job {
	h.t.Helper()
	jobs, err := h.s.Lease(h.ctx, now, 0, elsewhere, limit, d)
	h.must(err)
	return jobs
}

// finish makes one outcome of a leased job durable; its lease has to hold.
func (h *harness) finish(now time.Time, j store.Job, kind store.OutcomeKind, next time.Time) {
	h.t.Helper()
	lost, err := h.s.Finish(h.ctx, now, outcome(j, kind, now, next))
	h.must(err)
	if len(lost) != 0 {
		h.t.Fatalf("lease of job %d was lost", j.ID)
	}
}

// wantBodyCount compares the number of bodies kept, if the engine can tell.
func (h *harness) wantBodyCount(want int) {
	h.t.Helper()
	if c, ok := h.e.(BodyCounter); ok {
		if got := c.Bodies(h.test); got != want {
			h.t.Errorf("the engine keeps %d bodies, want %d", got, want)
		}
	}
}

// bounds returns the engine's bounds, the contract's where it has none of its own.
func (h *harness) bounds() Bounds {
	var b Bounds
	if e, ok := h.e.(BoundedEngine); ok {
		b = e.Bounds()
	}
	for _, f := range []struct {
		field *int
		max   int
	}{
		{&b.Counters, store.MaxCounters}, {&b.Grants, store.MaxGrants}, {&b.AccountGrants, store.MaxAccountGrants},
		{&b.WebSessions, store.MaxWebSessions}, {&b.AuditEntries, store.MaxAuditEntries},
		{&b.StatNames, store.MaxStatNames}, {&b.TrailEvents, store.MaxTrailEvents}, {&b.Reservations, store.MaxReservations},
	} {
		if *f.field == 0 {
			*f.field = f.max
		}
	}
	return b
}

func outcome(j store.Job, kind store.OutcomeKind, at, next time.Time) store.Outcome {
	return store.Outcome{Job: j.ID, Lease: j.Lease, Kind: kind, Text: "250 2.0.0 so it went", At: at, Next: next}
}

// to is a recipient with a maildrop, as plain delivery names it.
func to(a store.Account) store.Recipient {
	return store.Recipient{Address: address(a.Name + "@" + Domain), Account: a.ID}
}

// away is a recipient outside the domain.
func away(addr string) store.Recipient { return store.Recipient{Address: address(addr)} }

// address parses an address that the suite itself wrote.
func address(s string) mailaddr.Address {
	a, err := mailaddr.Parse(s)
	if err != nil {
		panic("storetest: " + err.Error())
	}
	return a
}

func headerLen(body string) int64 {
	if strings.HasPrefix(body, "\r\n") {
		return 2
	}
	if i := strings.Index(body, "\r\n\r\n"); i >= 0 {
		return int64(i + 4)
	}
	return int64(len(body))
}

// message returns a small message that is like no other with a different name.
func message(name string) string {
	return "Subject: " + name + "\r\nMessage-ID: <" + name + "@elsewhere.example>\r\n\r\nThis is " + name + ".\r\n"
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
