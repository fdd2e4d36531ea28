package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/store"
)

var lifeTests = []test{
	{"ReopenKeepsEverything", TestReopenKeepsEverything},
	{"Closed", TestClosed},
	{"Cancelled", TestCancelled},
	{"SlowReaderDoesNotBlockDelivery", TestSlowReaderDoesNotBlockDelivery},
	{"ManyAtOnce", TestManyAtOnce},
	{"RemovalIsOrderedWithDelivery", TestRemovalIsOrderedWithDelivery},
	{"Random", TestRandom},
}

// filled is a store with something of everything in it.
type filled struct {
	*harness
	anna, bob store.Account
	copies    []store.CopyID // anna's
	job       store.JobID    // leased
	lease     store.Job
	held      store.JobID
	message   store.MessageID
	grant     store.Grant // spent from
	device    store.Device
}

func fill(h *harness) *filled {
	h.t.Helper()
	x := &filled{harness: h, anna: h.account("anna"), bob: h.account("bob")}
	h.update(x.bob.ID, func(a *store.Account) { a.Suspended = true })
	x.anna = h.update(x.anna.ID, func(a *store.Account) {
		a.OldClientLogin, a.POP3 = true, store.POP3Options{StatusHeader: true, Select: "max=200"}
	})
	h.seal(x.anna.ID, "sealed")
	h.must(h.s.NoteClients(h.ctx, []store.Client{h.client(x.anna, "Eudora", 1), h.client(x.bob, "Outlook", 2)}))
	x.device = h.device(x.anna, "Scanner")
	h.alias("sales", x.anna.ID, x.bob.ID)
	for _, name := range []string{"one", "two", "three"} {
		x.copies = append(x.copies, h.send(message(name), to(x.anna)).Copies[0].ID)
	}
	h.expunge(x.anna.ID, x.copies[0])
	x.copies = x.copies[1:]
	h.fetch(x.anna.ID, x.copies[1])
	r := h.send(message("four"), to(x.anna), away("a@elsewhere.example"), away("b@elsewhere.example"))
	x.message, x.job, x.held = r.Message, r.Jobs[0], r.Jobs[1]
	h.must(h.s.HoldJobs(h.ctx, "looks odd", x.held))
	x.lease = h.wantLeased(h.now, 1, x.job)[0]
	s, err := h.s.Settings(h.ctx)
	h.must(err)
	s.Recipients = 321
	_, err = h.s.UpdateSettings(h.ctx, s)
	h.must(err)
	h.must(h.s.PutSecret(h.ctx, "key", []byte("secret")))
	h.take(h.now, "key", 7, hourly)
	x.grant = h.grant(x.anna, "192.0.2.1/32")
	h.spend(x.grant.ID, 2, true)
	h.revoke(h.grant(x.bob, "192.0.2.1/32").ID)
	h.must(h.s.PutWebSession(h.ctx, store.WebSession{Token: token(1), Data: []byte("data"), Expires: h.now.Add(time.Hour)}))
	h.must(h.s.AppendAudit(h.ctx, store.AuditEntry{Time: h.now, Action: "start"}))
	h.must(h.s.AddStat(h.ctx, store.DayOf(h.now), "accepted", 4))
	return x
}

// visible writes down all that can be seen of the store.
func (x *filled) visible() string {
	x.t.Helper()
	var b strings.Builder
	note := func(what string, err error, values ...any) {
		x.t.Helper()
		x.must(err)
		fmt.Fprintf(&b, "%s: %+v\n", what, values)
	}
	accounts, err := x.s.ListAccounts(x.ctx, "", 100)
	for _, a := range accounts {
		usage, usageErr := x.s.Usage(x.ctx, a.ID)
		a.Created = a.Created.UTC()
		note("account", errors.Join(err, usageErr), a, string(a.Verifier), string(a.Sealed), usage)
		devices, err := x.s.ListDevices(x.ctx, a.ID)
		for _, d := range devices {
			d.Expires, d.Created = d.Expires.UTC(), d.Created.UTC()
			note("device", err, d, string(d.Verifier))
		}
	}
	domain, err := x.s.DomainUsage(x.ctx)
	note("domain", err, domain)
	aliases, err := x.s.ListAliases(x.ctx, "", 100)
	note("aliases", err, aliases)
	md := x.maildrop(x.anna.ID)
	for _, m := range x.messages(md) {
		m.Received = m.Received.UTC()
		note("message", nil, m, x.read(md, m.ID))
	}
	x.must(md.Close())
	jobs, _, err := x.s.ListJobs(x.ctx, store.QueueFilter{}, 0, 100)
	for _, j := range jobs {
		j.Received, j.NextAttempt = j.Received.UTC(), j.NextAttempt.UTC()
		body, openErr := x.s.OpenJob(x.ctx, j.ID)
		x.must(openErr)
		note("job", err, j, x.readAll(body))
	}
	settings, err := x.s.Settings(x.ctx)
	note("settings", err, settings)
	secret, err := x.s.Secret(x.ctx, "key")
	note("secret", err, secret)
	taken, err := x.s.Take(x.ctx, x.now, "key", 0, hourly)
	note("counter", err, taken)
	grants, err := x.s.ListGrants(x.ctx, store.GrantFilter{}, 0, 100)
	for _, g := range grants {
		note("grant", err, inUTC(g))
	}
	clients, err := x.s.ListClients(x.ctx, 0, 100)
	for _, c := range clients {
		c.First, c.Last = c.First.UTC(), c.Last.UTC()
		note("client", err, c)
	}
	session, err := x.s.WebSession(x.ctx, x.now, token(1))
	session.Expires = session.Expires.UTC()
	note("session", err, session)
	audit, err := x.s.ListAudit(x.ctx, 0, 100)
	for _, e := range audit {
		e.Time = e.Time.UTC()
		note("audit", err, e)
	}
	stats, err := x.s.ListStats(x.ctx, 0, 99999999)
	note("stats", err, stats)
	for id := store.MessageID(1); id <= x.message; id++ {
		for _, e := range x.trail(id) {
			e.Time = e.Time.UTC()
			note("event", nil, e)
		}
	}
	return b.String()
}

// TestReopenKeepsEverything: a store that was closed in good order has forgotten nothing but leases.
func TestReopenKeepsEverything(t *testing.T, f Factory) {
	x := fill(open(t, f))
	before := x.visible()
	for range 2 {
		x.reopen()
		if after := x.visible(); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	}
}

// verb is one call of the contract that would succeed.
type verb struct {
	name string
	call func(ctx context.Context) error
}

// second drops the result of a verb.
func second[T any](_ T, err error) error { return err }

// verbs are all that take a context.
func (x *filled) verbs() []verb { return append(x.mailVerbs(), x.recordVerbs()...) }

// mailVerbs are those of accounts, maildrops and the queue. Those of drafts and maildrops were begun while the store was open.
func (x *filled) mailVerbs() []verb {
	s, md, d := x.s, x.maildrop(x.anna.ID), x.draft(message("five"))
	e := x.envelope(message("five"), to(x.anna), away("c@elsewhere.example"))
	e.Settles = []store.Outcome{outcome(x.lease, store.Failed, x.now, time.Time{})}
	anna := x.anna
	anna.DisplayName = "changed"
	return []verb{
		{"Account", func(ctx context.Context) error { return second(s.Account(ctx, x.anna.ID)) }},
		{"AccountByName", func(ctx context.Context) error { return second(s.AccountByName(ctx, "anna")) }},
		{"ListAccounts", func(ctx context.Context) error { return second(s.ListAccounts(ctx, "", 10)) }},
		{"AddAccount", func(ctx context.Context) error { return second(s.AddAccount(ctx, store.Account{Name: "carl"})) }},
		{"UpdateAccount", func(ctx context.Context) error { return second(s.UpdateAccount(ctx, anna)) }},
		{"SealPassword", func(ctx context.Context) error {
			return s.SealPassword(ctx, x.anna.ID, x.anna.CredentialVersion, "again")
		}},
		{"RemoveAccount", func(ctx context.Context) error { return s.RemoveAccount(ctx, x.bob.ID) }},
		{"ListAliases", func(ctx context.Context) error { return second(s.ListAliases(ctx, "", 10)) }},
		{"PutAlias", func(ctx context.Context) error {
			return s.PutAlias(ctx, store.Alias{Name: "info", Targets: []store.AccountID{x.anna.ID}})
		}},
		{"RemoveAlias", func(ctx context.Context) error { return s.RemoveAlias(ctx, "sales") }},
		{"Resolve", func(ctx context.Context) error { return second(s.Resolve(ctx, address("anna@"+Domain))) }},
		{"OpenMaildrop", func(ctx context.Context) error { return second(s.OpenMaildrop(ctx, x.anna.ID)) }},
		{"Usage", func(ctx context.Context) error { return second(s.Usage(ctx, x.anna.ID)) }},
		{"DomainUsage", func(ctx context.Context) error { return second(s.DomainUsage(ctx)) }},
		{"Reserve", func(ctx context.Context) error { return second(s.Reserve(ctx, x.anna.ID, 1)) }},
		{"OpenHeader", func(ctx context.Context) error { return second(md.OpenHeader(ctx, x.copies[0])) }},
		{"OpenMessage", func(ctx context.Context) error { return second(md.OpenMessage(ctx, x.copies[0])) }},
		{"Messages", func(ctx context.Context) error { return second(md.Messages(ctx)) }},
		{"Expunge", func(ctx context.Context) error { return md.Expunge(ctx, x.copies, x.copies) }},
		{"NewDraft", func(ctx context.Context) error { return second(s.NewDraft(ctx)) }},
		{"Room", s.Room},
		{"Commit", func(ctx context.Context) error { return second(d.Commit(ctx, e)) }},
		{"Destinations", func(ctx context.Context) error { return second(s.Destinations(ctx, x.now, store.Destination{}, 10)) }},
		{"Lease", func(ctx context.Context) error {
			return second(s.Lease(ctx, x.now.Add(time.Hour), 0, elsewhere, 10, time.Hour))
		}},
		{"Return", func(ctx context.Context) error { return s.Return(ctx, x.lease) }},
		{"OpenJob", func(ctx context.Context) error { return second(s.OpenJob(ctx, x.job)) }},
		{"Finish", func(ctx context.Context) error {
			return second(s.Finish(ctx, x.now, outcome(x.lease, store.Delivered, x.now, time.Time{})))
		}},
		{"Job", func(ctx context.Context) error { return second(s.Job(ctx, x.job)) }},
		{"ListJobs", func(ctx context.Context) error {
			_, _, err := s.ListJobs(ctx, store.QueueFilter{}, 0, 10)
			return err
		}},
		{"HoldJobs", func(ctx context.Context) error { return s.HoldJobs(ctx, "", x.job) }},
		{"ReleaseJobs", func(ctx context.Context) error { return s.ReleaseJobs(ctx, x.now, x.held) }},
		{"GiveUpJobs", func(ctx context.Context) error { return s.GiveUpJobs(ctx, x.now, "why", x.job) }},
		{"RemoveJobs", func(ctx context.Context) error { return s.RemoveJobs(ctx, x.job) }},
	}
}

// recordVerbs are the others.
func (x *filled) recordVerbs() []verb {
	s := x.s
	settings, err := s.Settings(x.ctx)
	x.must(err)
	return []verb{
		{"LentTo", func(ctx context.Context) error { return second(s.LentTo(ctx, address("anna@other.example"))) }},
		{"Settings", func(ctx context.Context) error { return second(s.Settings(ctx)) }},
		{"UpdateSettings", func(ctx context.Context) error { return second(s.UpdateSettings(ctx, settings)) }},
		{"PutSecret", func(ctx context.Context) error { return s.PutSecret(ctx, "key", nil) }},
		{"Secret", func(ctx context.Context) error { return second(s.Secret(ctx, "key")) }},
		{"RemoveSecret", func(ctx context.Context) error { return s.RemoveSecret(ctx, "key") }},
		{"Take", func(ctx context.Context) error { return second(s.Take(ctx, x.now, "key", 1, hourly)) }},
		{"Give", func(ctx context.Context) error { return s.Give(ctx, x.now, "key", 1, hourly) }},
		{"OpenGrant", func(ctx context.Context) error {
			return second(s.OpenGrant(ctx, x.now, grantFor(x.anna, "2001:db8::/64")))
		}},
		{"Grant", func(ctx context.Context) error { return second(s.Grant(ctx, x.grant.ID)) }},
		{"SpendGrant", func(ctx context.Context) error { return second(s.SpendGrant(ctx, x.now, x.grant.ID, 1)) }},
		{"RefundGrant", func(ctx context.Context) error { return s.RefundGrant(ctx, x.grant.ID, 1) }},
		{"ListGrants", func(ctx context.Context) error { return second(s.ListGrants(ctx, store.GrantFilter{}, 0, 10)) }},
		{"RevokeGrants", func(ctx context.Context) error {
			return second(s.RevokeGrants(ctx, x.now, store.GrantRevoked, x.grant.ID))
		}},
		{"RevokeAllGrants", func(ctx context.Context) error { return second(s.RevokeAllGrants(ctx, x.now, store.GrantRevoked)) }},
		{"Device", func(ctx context.Context) error { return second(s.Device(ctx, x.anna.ID, x.device.ID)) }},
		{"ListDevices", func(ctx context.Context) error { return second(s.ListDevices(ctx, x.anna.ID)) }},
		{"AddDevice", func(ctx context.Context) error { return second(s.AddDevice(ctx, deviceFor(x.anna, "new"))) }},
		{"UpdateDevice", func(ctx context.Context) error { return second(s.UpdateDevice(ctx, x.device)) }},
		{"RemoveDevice", func(ctx context.Context) error { return s.RemoveDevice(ctx, x.anna.ID, x.device.ID) }},
		{"NoteClients", func(ctx context.Context) error {
			return s.NoteClients(ctx, []store.Client{x.client(x.anna, "other", 1)})
		}},
		{"ListClients", func(ctx context.Context) error { return second(s.ListClients(ctx, 0, 10)) }},
		{"NoteHabits", func(ctx context.Context) error {
			return s.NoteHabits(ctx, []store.Habit{x.habit(x.anna, store.HabitNetwork, "x", 1)})
		}},
		{"ClaimHabit", func(ctx context.Context) error {
			return second(s.ClaimHabit(ctx, x.habit(x.anna, store.HabitAnswered, "x", 1), time.Hour))
		}},
		{"ExpireDaysInUse", func(ctx context.Context) error { return second(s.ExpireDaysInUse(ctx)) }},
		{"KnownHabits", func(ctx context.Context) error { return second(s.KnownHabits(ctx, x.anna.ID, store.HabitNetwork, "x")) }},
		{"ListHabits", func(ctx context.Context) error { return second(s.ListHabits(ctx, 0, store.HabitNetwork, 10)) }},
		{"ForgetHabits", func(ctx context.Context) error { return s.ForgetHabits(ctx, x.anna.ID, store.HabitNetwork) }},
		{"PutWebSession", func(ctx context.Context) error { return s.PutWebSession(ctx, store.WebSession{Token: token(1)}) }},
		{"WebSession", func(ctx context.Context) error { return second(s.WebSession(ctx, x.now, token(1))) }},
		{"RemoveWebSession", func(ctx context.Context) error { return s.RemoveWebSession(ctx, token(1)) }},
		{"AppendAudit", func(ctx context.Context) error { return s.AppendAudit(ctx, store.AuditEntry{}) }},
		{"ListAudit", func(ctx context.Context) error { return second(s.ListAudit(ctx, 0, 10)) }},
		{"AddStat", func(ctx context.Context) error { return s.AddStat(ctx, store.DayOf(x.now), "accepted", 1) }},
		{"Stat", func(ctx context.Context) error { return second(s.Stat(ctx, store.DayOf(x.now), "accepted")) }},
		{"ListStats", func(ctx context.Context) error { return second(s.ListStats(ctx, 0, 99999999)) }},
		{"MessageTrail", func(ctx context.Context) error { return second(s.MessageTrail(ctx, x.message)) }},
		{"SearchTrail", func(ctx context.Context) error {
			return second(s.SearchTrail(ctx, store.TrailQuery{Address: address("anna@" + Domain)}, 10))
		}},
		{"Check", func(ctx context.Context) error { return second(s.Check(ctx)) }},
	}
}

// TestClosed: a closed store does nothing, says so, and its data is as it was.
func TestClosed(t *testing.T, f Factory) {
	x := fill(open(t, f))
	before := x.visible()
	verbs := x.verbs()
	left := x.draft("never settled")
	h := x.harness
	h.must(h.s.Close())
	h.must(h.s.Close())
	h.s.Unreserve(1)
	for _, v := range verbs {
		if err := v.call(h.ctx); !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: error %v, want %v", v.name, err, store.ErrClosed)
		}
	}
	_, err := left.Commit(h.ctx, h.envelope("never settled", to(x.anna)))
	h.want(err, store.ErrClosed)
	h.must(left.Abort())
	h.reopen()
	if after := x.visible(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// TestCancelled: a verb whose context is over before it began does nothing, and returns the context's error.
func TestCancelled(t *testing.T, f Factory) {
	x := fill(open(t, f))
	before := x.visible()
	verbs := x.verbs()
	ctx, cancel := context.WithCancel(x.ctx)
	cancel()
	for _, v := range verbs {
		if err := v.call(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v, want %v", v.name, err, context.Canceled)
		}
	}
	if after := x.visible(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	x.finish(x.now, x.lease, store.Delivered, time.Time{}) // its lease was not lost
}

// patience is how long something may take that must not wait for a reader. It is no measure, only better than a hanging test.
const patience = time.Minute

// TestSlowReaderDoesNotBlockDelivery: a client that stops reading in the middle of a message holds up nobody: not commits, though
// the data grows, not other sessions, not deletion of the very message.
func TestSlowReaderDoesNotBlockDelivery(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	body := message("slow") + strings.Repeat("0123456789abcde\r\n", 30_000)
	id := h.send(body, to(anna)).Copies[0].ID
	md := h.maildrop(anna.ID)
	reader, err := md.OpenMessage(h.ctx, id)
	h.must(err)
	half := make([]byte, len(body)/2)
	_, err = io.ReadFull(reader, half)
	h.must(err)

	const senders, each = 8, 25
	ctx, cancel := context.WithTimeout(h.ctx, patience)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		others := strings.Repeat("some more octets\r\n", 1000)
		inParallel(senders, func(int) {
			for range each {
				if err := deliver(ctx, h, others, to(anna), to(bob), away("out@elsewhere.example")); err != nil {
					t.Errorf("commit beside a slow reader: %v", err)
				}
			}
		})
		other, err := h.s.OpenMaildrop(ctx, anna.ID)
		if err != nil {
			t.Errorf("login beside a slow reader: %v", err)
			return
		}
		if err := errors.Join(other.Expunge(ctx, []store.CopyID{id}, nil), other.Close()); err != nil {
			t.Errorf("deletion beside a slow reader: %v", err)
		}
	}()
	select {
	case <-done:
	case <-ctx.Done():
		h.must(reader.Close()) // so that the others can end
		<-done
		t.Fatal("a slow reader blocks the others")
	}
	if got := string(half) + h.readAll(reader); got != body {
		t.Error("the slow reader got other octets than were stored")
	}
	h.must(md.Close())
	if got := len(h.list(anna.ID)); got != senders*each {
		t.Errorf("%d messages after the deletion, want %d", got, senders*each)
	}
}

// deliver commits a body from any goroutine.
func deliver(ctx context.Context, h *harness, body string, to ...store.Recipient) error {
	d, err := h.s.NewDraft(ctx)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(d, body); err != nil {
		return errors.Join(err, d.Abort())
	}
	_, err = d.Commit(ctx, h.envelope(body, to...))
	return err
}

// TestManyAtOnce: committers, readers who delete, a queue runner and Check, all at once; at the end every message was read once, and
// every job finished once.
func TestManyAtOnce(t *testing.T, f Factory) {
	h := open(t, f)
	accounts := []store.Account{h.account("anna"), h.account("bob"), h.account("carl")}
	const committers, each = 6, 12
	var sending atomic.Int64
	var read, finished atomic.Int64
	sending.Store(committers)
	work := func(i int) error {
		if i < committers {
			defer sending.Add(-1)
			for n := range each {
				body := message(fmt.Sprintf("m%d-%d", i, n)) + strings.Repeat("x", n*1000)
				if err := deliver(h.ctx, h, body, to(accounts[i%3]), to(accounts[(i+1)%3]), away("out@elsewhere.example")); err != nil {
					return err
				}
			}
			return nil
		}
		for last := false; ; {
			n, err := int64(0), error(nil)
			switch i - committers {
			case 0, 1, 2:
				n, err = readAndDelete(h, accounts[i-committers].ID)
				read.Add(n)
			case 3:
				n, err = runQueue(h)
				finished.Add(n)
			case 4:
				var problems []store.Problem
				if problems, err = h.s.Check(h.ctx); len(problems) > 0 {
					err = fmt.Errorf("beside normal work Check found %+v", problems)
				}
			case 5:
				err = lookAround(h, accounts[0].ID)
			}
			if err != nil || last && n == 0 {
				return err
			}
			last = sending.Load() == 0 // one more look after the last commit
		}
	}
	inParallel(committers+6, func(i int) {
		if err := work(i); err != nil {
			t.Errorf("worker %d: %v", i, err)
		}
	})
	if read.Load() != 2*committers*each || finished.Load() != committers*each {
		t.Errorf("%d messages were read and %d jobs finished, want %d and %d", read.Load(), finished.Load(), 2*committers*each, committers*each)
	}
	for _, a := range accounts {
		h.wantUsage(a.ID, 0, 0)
	}
	h.wantBodyCount(0)
}

// readAndDelete is a POP3 session: it reads what is there and deletes it.
func readAndDelete(h *harness, id store.AccountID) (int64, error) {
	md, err := h.s.OpenMaildrop(h.ctx, id)
	if err != nil {
		return 0, err
	}
	messages, err := md.Messages(h.ctx)
	if err != nil {
		return 0, err
	}
	var ids []store.CopyID
	for m := range messages {
		r, err := md.OpenMessage(h.ctx, m.ID)
		if err != nil {
			return 0, err
		}
		n, err := io.Copy(io.Discard, r)
		if err := errors.Join(err, r.Close()); err != nil || n != m.Size {
			return 0, fmt.Errorf("copy %d yields %d of %d octets: %w", m.ID, n, m.Size, err)
		}
		ids = append(ids, m.ID)
	}
	return int64(len(ids)), errors.Join(md.Expunge(h.ctx, ids, ids), md.Close())
}

// lookAround uses the verbs that have no part in delivery: people and their pages.
func lookAround(h *harness, id store.AccountID) error {
	a, err := h.s.Account(h.ctx, id)
	if err != nil {
		return err
	}
	a.DisplayName += "."
	if len(a.DisplayName) > 100 {
		a.DisplayName = ""
	}
	held, heldErr := h.s.Reserve(h.ctx, id, 100)
	h.s.Unreserve(held)
	g, grantErr := h.s.OpenGrant(h.ctx, h.now, grantFor(a, "2001:db8::/64"))
	jobs, _, jobsErr := h.s.ListJobs(h.ctx, store.QueueFilter{}, 0, 10)
	errs := []error{
		heldErr, grantErr, jobsErr, second(h.s.DomainUsage(h.ctx)), second(h.s.SpendGrant(h.ctx, h.now, g.ID, 1)), h.s.RefundGrant(h.ctx, g.ID, 1),
		second(h.s.ListGrants(h.ctx, store.GrantFilter{}, 0, 10)), second(h.s.RevokeAllGrants(h.ctx, h.now, store.GrantRevoked)),
		second(h.s.Destinations(h.ctx, h.now, store.Destination{}, 10)), second(h.s.UpdateAccount(h.ctx, a)), second(h.s.ListAccounts(h.ctx, "", 10)), second(h.s.Usage(h.ctx, id)),
		second(h.s.Resolve(h.ctx, address(a.Name+"@"+Domain))), second(h.s.AccountByName(h.ctx, a.Name)),
		h.s.PutAlias(h.ctx, store.Alias{Name: "sales", Targets: []store.AccountID{id}}), second(h.s.ListAliases(h.ctx, "", 10)),
		second(h.s.Settings(h.ctx)), h.s.PutSecret(h.ctx, "key", []byte(a.DisplayName)), second(h.s.Secret(h.ctx, "key")),
		second(h.s.Take(h.ctx, h.now, "key", 1, hourly)), h.s.Give(h.ctx, h.now, "key", 1, hourly),
		h.s.PutWebSession(h.ctx, store.WebSession{Token: token(1), Expires: h.now.Add(time.Hour)}), second(h.s.WebSession(h.ctx, h.now, token(1))),
		h.s.AppendAudit(h.ctx, store.AuditEntry{Time: h.now, Action: "look"}), second(h.s.ListAudit(h.ctx, 0, 10)),
		h.s.AddStat(h.ctx, store.DayOf(h.now), "looks", 1), second(h.s.ListStats(h.ctx, 0, 99999999)),
		second(h.s.Stat(h.ctx, store.DayOf(h.now), "looks")),
		h.s.NoteHabits(h.ctx, []store.Habit{h.habit(a, store.HabitNetwork, "x", 1)}), second(h.s.KnownHabits(h.ctx, id, store.HabitNetwork, "x")),
		second(h.s.ClaimHabit(h.ctx, h.habit(a, store.HabitAnswered, "x", 1), time.Hour)), second(h.s.ExpireDaysInUse(h.ctx)),
		second(h.s.ListHabits(h.ctx, 0, store.HabitNetwork, 10)), h.s.ForgetHabits(h.ctx, id, store.HabitNetwork, "x"),
		second(h.s.SearchTrail(h.ctx, store.TrailQuery{Sender: address("sender@elsewhere.example")}, 10)),
		h.s.NoteClients(h.ctx, []store.Client{h.client(a, "Eudora", 1)}), second(h.s.ListClients(h.ctx, id, 10)),
	}
	for _, j := range jobs {
		if _, err := h.s.Job(h.ctx, j.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
			errs = append(errs, err)
		}
		errs = append(errs, second(h.s.MessageTrail(h.ctx, j.Message)))
	}
	if closed(h.s.SettingsChanged()) {
		errs = append(errs, errors.New("the settings changed by themselves"))
	}
	return errors.Join(errs...)
}

// runQueue delivers some jobs.
func runQueue(h *harness) (int64, error) {
	jobs, err := h.s.Lease(h.ctx, h.now, 0, elsewhere, 5, time.Hour)
	if err != nil {
		return 0, err
	}
	var outcomes []store.Outcome
	for _, j := range jobs {
		outcomes = append(outcomes, outcome(j, store.Delivered, h.now, time.Time{}))
	}
	lost, err := h.s.Finish(h.ctx, h.now, outcomes...)
	if len(lost) > 0 {
		err = errors.Join(err, fmt.Errorf("lost the leases of jobs %v", lost))
	}
	return int64(len(jobs)), err
}

// TestRemovalIsOrderedWithDelivery: a commit that begins after RemoveAccount returned makes no copy for the account, and the name's
// next owner sees none of those before.
func TestRemovalIsOrderedWithDelivery(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	var removed atomic.Bool
	inParallel(4, func(i int) {
		if i == 0 {
			if err := h.s.RemoveAccount(h.ctx, anna.ID); err != nil {
				t.Error(err)
			}
			removed.Store(true)
			return
		}
		for range 10 {
			after := removed.Load()
			d, err := h.s.NewDraft(h.ctx)
			if err != nil {
				t.Error(err)
				return
			}
			r, err := d.Commit(h.ctx, h.envelope("", to(anna), to(bob)))
			if err != nil || after && len(r.Copies) != 1 || len(r.Copies)+len(r.Failed) != 2 {
				t.Errorf("commit (begun after the removal: %t): %+v, %v", after, r, err)
			}
		}
	})
	h.wantUsage(bob.ID, 0, 30)
	again := h.account("anna")
	h.wantUsage(again.ID, 0, 0)
	h.must(h.s.RemoveAccount(h.ctx, bob.ID))
	h.wantBodyCount(0)
}
