package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"latchkey/store"
)

var quotaTests = []test{
	{"DomainUsage", TestDomainUsage},
	{"DomainQuota", TestDomainQuota},
	{"DomainQuotaInOrder", TestDomainQuotaInOrder},
	{"DomainQuotaBesideOthers", TestDomainQuotaBesideOthers},
	{"DomainQuotaSettings", TestDomainQuotaSettings},
	{"Reserve", TestReserve},
	{"ReserveInDomain", TestReserveInDomain},
	{"ReserveRefuses", TestReserveRefuses},
	{"ReserveAgainstCommits", TestReserveAgainstCommits},
	{"CommitUsesReservation", TestCommitUsesReservation},
	{"CommitAlwaysEndsReservations", TestCommitAlwaysEndsReservations},
	{"ReservationOfRemovedAccount", TestReservationOfRemovedAccount},
	{"ReservationsAreBounded", TestReservationsAreBounded},
	{"ReopenVoidsReservations", TestReopenVoidsReservations},
	{"OnePlaceForMany", TestOnePlaceForMany},
	{"JustFitsWhileOthersTry", TestJustFitsWhileOthersTry},
	{"OneReservationManyEnds", TestOneReservationManyEnds},
}

// TestDomainUsage: it is the sum of all maildrops, each copy at its full size, whatever is removed and how; jobs are no part of it.
func TestDomainUsage(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	h.wantDomainUsage(0, 0)
	prefixed := to(bob)
	prefixed.Prefix = []byte("P: 567890\r\n")[:10]
	body := strings.Repeat("x", 100)
	r := h.send(body, to(anna), prefixed, away("out@elsewhere.example"))
	h.send(body, to(anna))
	h.must(h.draft(body).Abort())
	for range 2 {
		h.wantDomainUsage(310, 3)
		h.reopen()
	}
	md := h.maildrop(anna.ID)
	for range 2 { // the second time it is gone already
		h.must(md.Expunge(h.ctx, []store.CopyID{r.Copies[0].ID}, nil))
		h.wantDomainUsage(210, 2)
	}
	h.must(md.Close())
	h.must(h.s.RemoveJobs(h.ctx, r.Jobs...))
	h.wantDomainUsage(210, 2)
	h.must(h.s.RemoveAccount(h.ctx, bob.ID))
	for range 2 {
		h.wantDomainUsage(100, 1)
		h.reopen()
	}
	h.must(h.s.RemoveAccount(h.ctx, anna.ID))
	h.wantDomainUsage(0, 0)
}

// TestDomainQuota: copies that fit exactly are taken, one octet or one message more is not; deleting and removing make room; jobs need
// none.
func TestDomainQuota(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	body := strings.Repeat("x", 100)
	h.domainQuota(store.Quota{Octets: 200})
	r := h.send(body, to(anna), to(bob)) // to the octet
	_, err := h.draft("x").Commit(h.ctx, h.envelope("x", to(anna)))
	h.want(err, store.ErrDomainFull)
	h.want(err, store.ErrNoRecipients)
	wantFailed(t, recipientErrors(err), map[int]error{0: store.ErrDomainFull})
	h.send("", to(anna)) // nothing into a full domain
	h.send(body, away("out@elsewhere.example"))
	h.reopen()
	_, err = h.draft("x").Commit(h.ctx, h.envelope("x", to(bob)))
	h.want(err, store.ErrDomainFull)
	h.expunge(anna.ID, r.Copies[0].ID)
	_, err = h.draft(body+"x").Commit(h.ctx, h.envelope(body+"x", to(bob)))
	h.want(err, store.ErrDomainFull)
	h.send(body, to(bob))

	h.domainQuota(store.Quota{Messages: 4})
	h.send(body, to(anna))
	_, err = h.draft("").Commit(h.ctx, h.envelope("", to(anna)))
	h.want(err, store.ErrDomainFull)
	h.must(h.s.RemoveAccount(h.ctx, bob.ID))
	h.wantDomainUsage(100, 2)
	h.send(body, to(anna))
	h.domainQuota(store.Quota{Octets: 1, Messages: 1}) // a lowered quota takes nothing away
	h.wantDomainUsage(200, 3)
	h.domainQuota(store.Quota{})
	h.send(body, to(anna))
	h.wantDomainUsage(300, 4)
}

// TestDomainQuotaInOrder: recipients are looked at one after the other, and what this message has added by then counts.
func TestDomainQuotaInOrder(t *testing.T, f Factory) {
	h := open(t, f)
	var accounts []store.Account
	for _, name := range []string{"a", "b", "c", "d", "full"} {
		accounts = append(accounts, h.account(name))
	}
	a, b, c, d, full := accounts[0], accounts[1], accounts[2], accounts[3], accounts[4]
	h.update(full.ID, func(v *store.Account) { v.Quota.Octets = 99 })
	body := strings.Repeat("x", 100)
	h.domainQuota(store.Quota{Octets: 320})
	prefixed := func(a store.Account, n int) store.Recipient {
		r := to(a)
		r.Prefix = []byte(strings.Repeat("p", n))
		return r
	}
	// full takes nothing of the domain's room, its second naming neither; b does not fit with its prefix, and d does without; a gets one copy.
	r := h.send(body, to(full), to(a), prefixed(c, 20), to(a), prefixed(b, 101), away("out@elsewhere.example"), to(d), to(full))
	wantFailed(t, r.Failed, map[int]error{0: store.ErrMaildropFull, 4: store.ErrDomainFull, 7: store.ErrMaildropFull})
	if len(r.Copies) != 3 || r.Copies[0].Account != a.ID || r.Copies[1].Account != c.ID || r.Copies[2].Account != d.ID || len(r.Jobs) != 1 {
		t.Errorf("receipt %+v, want copies for a, c and d, and a job", r)
	}
	h.wantDomainUsage(320, 3)
	left := 0
	for _, e := range h.trail(r.Message) {
		if e.Kind == store.TrailLeftOut && e.Recipient == address("b@"+Domain) {
			left++
			if e.Text != store.ErrDomainFull.Error() {
				t.Errorf("the trail says %q of who was left out, want %q", e.Text, store.ErrDomainFull)
			}
		}
	}
	if left != 1 {
		t.Errorf("the trail says %d times that b was left out, want once", left)
	}
	h.domainQuota(store.Quota{Octets: 359})
	r = h.send("", prefixed(a, 20), prefixed(b, 20)) // the prefix of one counts against the other
	wantFailed(t, r.Failed, map[int]error{1: store.ErrDomainFull})
	h.expunge(a.ID, r.Copies[0].ID)
	h.domainQuota(store.Quota{Messages: 5})
	r = h.send("", to(d), to(c), to(b), to(a))
	wantFailed(t, r.Failed, map[int]error{2: store.ErrDomainFull, 3: store.ErrDomainFull})
	h.wantDomainUsage(320, 5)
}

// TestDomainQuotaBesideOthers: where a maildrop and the domain are both full, the maildrop is named: its owner can help.
func TestDomainQuotaBesideOthers(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	h.update(anna.ID, func(a *store.Account) { a.Quota.Octets = 5 })
	h.domainQuota(store.Quota{Octets: 5})
	body := "longer than that"
	_, err := h.draft(body).Commit(h.ctx, h.envelope(body, to(anna)))
	wantFailed(t, recipientErrors(err), map[int]error{0: store.ErrMaildropFull})
	h.wantReserve(anna, 6, store.ErrMaildropFull)
}

// TestDomainQuotaSettings: the quota is part of the settings, survives, and is never negative.
func TestDomainQuotaSettings(t *testing.T, f Factory) {
	h := open(t, f)
	s, err := h.s.Settings(h.ctx)
	h.must(err)
	if s.DomainQuota() != (store.Quota{}) {
		t.Errorf("a new domain has the quota %+v, want no bound", s.DomainQuota())
	}
	for _, q := range []store.Quota{{Octets: -1}, {Messages: -1}} {
		wrong := s
		wrong.DomainOctets, wrong.DomainMessages = q.Octets, q.Messages
		_, err := h.s.UpdateSettings(h.ctx, wrong)
		h.want(err, store.ErrInvalid)
	}
	want := store.Quota{Octets: 1 << 40, Messages: 1 << 33}
	h.domainQuota(want)
	h.reopen()
	if s, err = h.s.Settings(h.ctx); err != nil || s.DomainQuota() != want {
		t.Errorf("the quota is %+v (%v), want %+v", s.DomainQuota(), err, want)
	}
}

// TestReserve: room is reserved to the octet and to the message, counts against the next, and is there again when given back, once.
func TestReserve(t *testing.T, f Factory) {
	h := open(t, f)
	octets, count, free := h.account("octets"), h.account("count"), h.account("free")
	h.update(octets.ID, func(a *store.Account) { a.Quota.Octets = 110 })
	h.update(count.ID, func(a *store.Account) { a.Quota.Messages = 3 })
	h.send("0123456789", to(octets), to(count))

	h.wantReserve(octets, 101, store.ErrMaildropFull)
	h.wantReserve(octets, 100, nil)
	first := h.reserve(octets, 60)
	h.wantReserve(octets, 41, store.ErrMaildropFull)
	second := h.reserve(octets, 40)
	h.wantReserve(octets, 1, store.ErrMaildropFull)
	h.wantReserve(octets, 0, nil) // nothing into full
	h.s.Unreserve(first, first)
	h.s.Unreserve(first)
	h.wantReserve(octets, 61, store.ErrMaildropFull)
	h.wantReserve(octets, 60, nil)
	h.s.Unreserve()
	h.s.Unreserve(0, 1<<62, second)
	h.wantReserve(octets, 100, nil)

	a, b := h.reserve(count, 0), h.reserve(count, store.MaxMessageSize)
	h.wantReserve(count, 0, store.ErrMaildropFull)
	h.s.Unreserve(a)
	h.wantReserve(count, 0, nil)
	h.s.Unreserve(b)

	for range 10 { // no bound, no end
		defer h.s.Unreserve(h.reserve(free, store.MaxMessageSize))
	}
	h.wantUsage(octets.ID, 10, 1)
	h.wantUsage(count.ID, 10, 1)
	h.wantDomainUsage(20, 2)
}

// TestReserveInDomain: what is reserved in one maildrop counts in the domain, against the others.
func TestReserveInDomain(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	h.send("0123456789", to(anna))
	h.domainQuota(store.Quota{Octets: 110})
	h.wantReserve(bob, 101, store.ErrDomainFull)
	held := h.reserve(anna, 60)
	h.wantReserve(bob, 41, store.ErrDomainFull)
	h.wantReserve(bob, 40, nil)
	h.domainQuota(store.Quota{Messages: 2})
	h.wantReserve(bob, 0, store.ErrDomainFull)
	h.s.Unreserve(held)
	h.wantReserve(bob, 0, nil)
	held = h.reserve(bob, 0)
	h.wantReserve(anna, 0, store.ErrDomainFull)
	h.s.Unreserve(held)
}

// TestReserveRefuses: what is no mailbox, no size, or closed to mail.
func TestReserveRefuses(t *testing.T, f Factory) {
	h := open(t, f)
	anna, gone, asleep := h.account("anna"), h.account("gone"), h.account("asleep")
	h.update(asleep.ID, func(a *store.Account) { a.Suspended = true })
	h.must(h.s.RemoveAccount(h.ctx, gone.ID))
	h.wantReserve(gone, 1, store.ErrNotFound)
	h.wantReserve(store.Account{}, 1, store.ErrNotFound)
	h.wantReserve(asleep, 1, store.ErrSuspended)
	h.wantReserve(anna, -1, store.ErrInvalid)
	h.wantReserve(anna, store.MaxMessageSize+1, store.ErrInvalid)
	h.wantReserve(anna, store.MaxMessageSize, nil)
}

// TestReserveAgainstCommits: a commit without the reservation does not take the reserved room, neither in the maildrop nor in the domain.
func TestReserveAgainstCommits(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	body := strings.Repeat("x", 100)
	h.update(anna.ID, func(a *store.Account) { a.Quota.Octets = 199 })
	held := h.reserve(anna, 100)
	_, err := h.draft(body).Commit(h.ctx, h.envelope(body, to(anna)))
	h.want(err, store.ErrMaildropFull)
	h.send(body[:99], to(anna))
	h.s.Unreserve(held)
	h.send(body, to(anna))
	h.domainQuota(store.Quota{Octets: 398})
	held = h.reserve(bob, 100)
	_, err = h.draft(body).Commit(h.ctx, h.envelope(body, to(bob)))
	h.want(err, store.ErrDomainFull)
	h.send(body[:99], to(bob))
	e := h.envelope(body, to(bob))
	e.Reserved = []store.ReservationID{held}
	_, err = h.draft(body).Commit(h.ctx, e)
	h.must(err)
	h.wantDomainUsage(398, 4)
}

// TestCommitUsesReservation: the reserved room is the message's own, its true size is what is charged, and nothing stays reserved.
func TestCommitUsesReservation(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	h.update(anna.ID, func(a *store.Account) { a.Quota = store.Quota{Octets: 300, Messages: 3} })
	commit := func(octets int, want error, reserved []store.ReservationID, rcpt ...store.Recipient) store.Receipt {
		t.Helper()
		body := strings.Repeat("x", octets)
		e := h.envelope(body, rcpt...)
		e.Reserved = reserved
		r, err := h.draft(body).Commit(h.ctx, e)
		h.want(err, want)
		return r
	}
	one, other := h.reserve(anna, 200), h.reserve(anna, 100)
	commit(200, nil, []store.ReservationID{one}, to(anna)) // just as declared
	h.wantUsage(anna.ID, 200, 1)
	h.wantReserve(anna, 1, store.ErrMaildropFull) // the other's still counts
	commit(101, store.ErrMaildropFull, []store.ReservationID{other}, to(anna))
	h.wantReserve(anna, 100, nil) // and is no longer held
	r := commit(40, nil, []store.ReservationID{h.reserve(anna, 100), h.reserve(bob, 100), one, 0}, to(anna), to(bob))
	if len(r.Copies) != 2 {
		t.Errorf("receipt %+v, want two copies", r)
	}
	h.wantUsage(anna.ID, 240, 2) // less than declared
	h.wantReserve(anna, 60, nil)
	commit(61, store.ErrMaildropFull, []store.ReservationID{h.reserve(anna, 20)}, to(anna)) // more than declared
	commit(60, nil, []store.ReservationID{h.reserve(anna, 20)}, to(anna))
	h.wantReserve(anna, 0, store.ErrMaildropFull)
	h.reopen()
	h.wantUsage(anna.ID, 300, 3)
	h.wantDomainUsage(340, 4)
}

// empty deletes all that is in a maildrop.
func (h *harness) empty(id store.AccountID) {
	h.t.Helper()
	for _, m := range h.list(id) {
		h.expunge(id, m.ID)
	}
}

// TestCommitAlwaysEndsReservations: whatever Commit returns.
func TestCommitAlwaysEndsReservations(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	job := h.queue("out@elsewhere.example")
	h.update(anna.ID, func(a *store.Account) { a.Quota.Octets = 100 })
	settled := h.draft("")
	h.must(settled.Abort())
	body := message("one")
	for _, test := range []struct {
		name   string
		draft  store.Draft
		change func(*store.Envelope)
		want   error
	}{
		{"stored", h.draft(body), func(*store.Envelope) {}, nil},
		{"invalid", h.draft(body), func(e *store.Envelope) { e.HeaderLen = -1 }, store.ErrInvalid},
		{"nobody", h.draft(body), func(e *store.Envelope) { e.Recipients[0].Account++ }, store.ErrNoRecipients},
		{"only a job", h.draft(body), func(e *store.Envelope) { e.Recipients[0].Account = 0 }, nil},
		{"too large", h.draft(body + body + body), func(*store.Envelope) {}, store.ErrMaildropFull},
		{"lost lease", h.draft(body), func(e *store.Envelope) {
			e.Settles = []store.Outcome{{Job: job, Lease: 1, Kind: store.Delivered}}
		}, store.ErrLeaseLost},
		{"settled", settled, func(*store.Envelope) {}, store.ErrSettled},
	} {
		h.empty(anna.ID)
		e := h.envelope(body, to(anna))
		e.Reserved = []store.ReservationID{h.reserve(anna, 100)}
		test.change(&e)
		if _, err := test.draft.Commit(h.ctx, e); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", test.name, err, test.want)
		}
		u, err := h.s.Usage(h.ctx, anna.ID)
		h.must(err)
		if id, err := h.s.Reserve(h.ctx, anna.ID, 100-u.Octets); err != nil {
			t.Errorf("%s: all that is left cannot be reserved: %v", test.name, err)
		} else {
			h.s.Unreserve(id)
		}
	}
	e := h.envelope(body, to(anna))
	e.Reserved = make([]store.ReservationID, store.MaxRecipients+1)
	_, err := h.draft(body).Commit(h.ctx, e)
	h.want(err, store.ErrInvalid)
	e.Reserved = e.Reserved[1:]
	h.empty(anna.ID)
	_, err = h.draft(body).Commit(h.ctx, e)
	h.must(err)
}

// TestReservationOfRemovedAccount: it holds the domain's room until it is given back, and nothing of the one who has the name next.
func TestReservationOfRemovedAccount(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	h.domainQuota(store.Quota{Octets: 100})
	held := h.reserve(anna, 60)
	h.must(h.s.RemoveAccount(h.ctx, anna.ID))
	again := h.account("anna")
	h.update(again.ID, func(a *store.Account) { a.Quota.Messages = 1 })
	h.wantReserve(again, 41, store.ErrDomainFull)
	h.wantReserve(again, 40, nil)
	h.s.Unreserve(held)
	h.wantReserve(again, 100, nil)
}

// TestReservationsAreBounded: beyond the bound there are no more, and one given back makes room for one.
func TestReservationsAreBounded(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	var held []store.ReservationID
	for range h.bounds().Reservations {
		held = append(held, h.reserve(anna, 1))
	}
	h.wantReserve(anna, 1, store.ErrBound)
	h.s.Unreserve(held[0])
	held[0] = h.reserve(anna, 1)
	h.wantReserve(anna, 1, store.ErrBound)
	h.s.Unreserve(held...)
	h.wantReserve(anna, 1, nil)
}

// TestReopenVoidsReservations: they live in memory, and an id of the process before names nothing in the next.
func TestReopenVoidsReservations(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	h.update(anna.ID, func(a *store.Account) { a.Quota.Octets = 100 })
	old := h.reserve(anna, 100)
	h.reopen()
	h.wantUsage(anna.ID, 0, 0)
	held := h.reserve(anna, 100)
	h.s.Unreserve(old)
	h.wantReserve(anna, 1, store.ErrMaildropFull)
	h.s.Unreserve(held)
}

// TestOnePlaceForMany: of many who want the last place at once, one has it, in each round, and the sums are right in the end.
func TestOnePlaceForMany(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	h.update(anna.ID, func(a *store.Account) { a.Quota.Octets = 100 })
	h.domainQuota(store.Quota{Messages: 1})
	const senders = 8
	for round := range 20 {
		var won atomic.Int64
		var ids [senders]store.ReservationID
		inParallel(senders, func(i int) {
			who := []store.Account{anna, bob}[i%2] // two maildrops, one place in the domain
			id, err := h.s.Reserve(h.ctx, who.ID, 60)
			switch {
			case err == nil:
				won.Add(1)
				ids[i] = id
			case !errors.Is(err, store.ErrMaildropFull) && !errors.Is(err, store.ErrDomainFull):
				h.t.Errorf("error %v, want a full maildrop or domain", err)
			}
		})
		if won.Load() != 1 {
			t.Fatalf("round %d: %d senders have the one place", round, won.Load())
		}
		h.s.Unreserve(ids[:]...)
	}
	h.wantReserve(anna, 100, nil)
	h.wantReserve(bob, 100, nil)
}

// TestJustFitsWhileOthersTry: while a message uses its reservation, others see the one or the other, never both and never neither: what
// just fits beside it is always there, and one octet more never is.
func TestJustFitsWhileOthersTry(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	body := strings.Repeat("x", 100)
	h.update(anna.ID, func(a *store.Account) { a.Quota.Octets = 250 })
	h.domainQuota(store.Quota{Octets: 250})
	for range 20 {
		e := h.envelope(body, to(anna))
		e.Reserved = []store.ReservationID{h.reserve(anna, 100)}
		d := h.draft(body)
		done := make(chan struct{})
		inParallel(3, func(i int) {
			if i == 0 {
				defer close(done)
				if _, err := d.Commit(h.ctx, e); err != nil {
					h.t.Errorf("what was reserved for is not stored: %v", err)
				}
				return
			}
			for !closed(done) {
				id, err := h.s.Reserve(h.ctx, anna.ID, 149+int64(i))
				if h.s.Unreserve(id); (err == nil) != (i == 1) {
					h.t.Errorf("%d octets beside 100 of 250: error %v", 149+i, err)
					return
				}
			}
		})
		h.wantReserve(anna, 150, nil)
		h.wantReserve(anna, 151, store.ErrMaildropFull)
		h.empty(anna.ID)
	}
	h.wantDomainUsage(0, 0)
	h.wantReserve(anna, 250, nil)
}

// TestOneReservationManyEnds: given back by several at once, also while it is used, it is given back once.
func TestOneReservationManyEnds(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	h.update(anna.ID, func(a *store.Account) { a.Quota.Octets = 1000 })
	for round := range 10 {
		keep, held := h.reserve(anna, 500), h.reserve(anna, 400)
		body := fmt.Sprintf("%0100d", round)
		inParallel(4, func(i int) {
			if i > 0 {
				h.s.Unreserve(held)
				return
			}
			e := h.envelope(body, to(anna))
			e.Reserved = []store.ReservationID{held}
			if _, err := h.draft(body).Commit(h.ctx, e); err != nil {
				h.t.Errorf("commit: %v", err)
			}
		})
		h.wantReserve(anna, 401, store.ErrMaildropFull)
		h.wantReserve(anna, 400, nil)
		h.s.Unreserve(keep)
		h.empty(anna.ID)
	}
}
