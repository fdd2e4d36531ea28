package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"latchkey/store"
)

// maxRounds bounds the random sequences of one run: an engine on a disk needs milliseconds for a step. With -short they are fewRounds, and rapid
// makes them half as long.
const maxRounds, fewRounds = 40, 10

// leaseFor is short against the steps of the clock, so that many leases expire.
const leaseFor = 20 * time.Minute

// TestRandom plays random verbs against a model and compares all that can be seen after each.
func TestRandom(t *testing.T, f Factory) {
	most := int64(maxRounds)
	if testing.Short() {
		most = fewRounds
	}
	var rounds atomic.Int64
	failed := false
	rapid.Check(t, func(rt *rapid.T) {
		// A failure is shrunk by further rounds, which do not count.
		if rounds.Add(1) > most && !failed {
			return
		}
		h := newHarness(t, f(t))
		h.t = rt
		p := &player{harness: h, m: newModel(h.now)}
		done := false
		defer func() {
			failed = failed || !done || rt.Failed()
			p.closeSnapshots()
			h.checkAndClose()
		}()
		for _, begin := range []func(*rapid.T){p.addAccount, p.addAccount, p.addAccount, p.commit, p.commit, p.commit, p.commit} {
			begin(rt)
		}
		actions := map[string]func(*rapid.T){
			"":                p.compare,
			"add account":     p.addAccount,
			"update account":  p.updateAccount,
			"remove account":  p.removeAccount,
			"put alias":       p.putAlias,
			"remove alias":    p.removeAlias,
			"commit":          p.commit,
			"commit more":     p.commit,
			"abort":           p.abort,
			"open maildrop":   p.openSnapshot,
			"expunge":         p.expungeSome,
			"close maildrop":  p.closeSnapshot,
			"expunge more":    p.expungeSome,
			"lease":           p.leaseSome,
			"lease more":      p.leaseSome,
			"finish":          p.finishSome,
			"finish more":     p.finishSome,
			"hold":            p.hold,
			"release":         p.releaseSome,
			"remove job":      p.removeJob,
			"give up":         p.giveUp,
			"return leases":   p.returnSome,
			"open grant":      p.openGrant,
			"open grants":     p.openGrant,
			"spend grant":     p.spendGrant,
			"revoke grants":   p.revokeGrants,
			"secret":          p.secret,
			"seal":            p.sealSome,
			"old clients":     p.switchOldClients,
			"note clients":    p.noteSome,
			"devices":         p.changeSomeDevice,
			"domain quota":    p.setDomainQuota,
			"reserve":         p.reserveSome,
			"reserve more":    p.reserveSome,
			"unreserve":       p.unreserveSome,
			"let time go by":  p.advance,
			"close and open":  p.closeAndOpen,
			"refuse nonsense": p.nonsense,
		}
		rt.Repeat(actions)
		rt.Repeat(actions) // rapid's sequences are short; what goes wrong needs a history
		done = true
	})
}

// player does the same to a store and to the model.
type player struct {
	*harness
	m         *model
	snapshots []*snapshot
	leases    []store.Job // all that were ever given
	serial    int
}

// snapshot is an open maildrop and what it should hold for ever.
type snapshot struct {
	store.Maildrop
	account store.AccountID
	copies  []modelCopy
	late    int  // how many comparisons ask for no list yet
	settled bool // what is marked as fetched cannot change any more
}

var (
	modelNames = []string{"anna", "bob", "carl", "postmaster", "anna+x"}
	modelRcpts = []string{"r1@one.example", "r2@one.example", "r3@two.example"}
	// modelDomains are those of modelRcpts, and one that nobody writes to.
	modelDomains = []string{"none.example", "one.example", "two.example"}
	modelKinds   = []store.OutcomeKind{store.Delivered, store.Deferred, store.Failed}
)

func draw[T any](rt *rapid.T, label string, from []T) T {
	return rapid.SampledFrom(from).Draw(rt, label)
}

func number(rt *rapid.T, label string, from, to int) int {
	return rapid.IntRange(from, to).Draw(rt, label)
}

// anyAccount draws a live account; there has to be one.
func (p *player) anyAccount(rt *rapid.T) *modelAccount {
	if len(p.m.accounts) == 0 {
		rt.Skip("no account")
	}
	return p.m.accounts[draw(rt, "account", slices.Sorted(maps.Keys(p.m.accounts)))]
}

// anyJob draws a job; there has to be one.
func (p *player) anyJob(rt *rapid.T) *modelJob {
	if len(p.m.jobs) == 0 {
		rt.Skip("no job")
	}
	return p.m.jobs[draw(rt, "job", slices.Sorted(maps.Keys(p.m.jobs)))]
}

func (p *player) addAccount(rt *rapid.T) {
	name := draw(rt, "name", modelNames)
	in := store.Account{Name: name, Verifier: "$v$1", Created: p.m.now, Quota: quota(rt)}
	a, err := p.s.AddAccount(p.ctx, in)
	if p.m.taken(name) {
		p.want(err, store.ErrExists)
		return
	}
	p.must(err)
	in.ID, in.CredentialVersion, in.Version = a.ID, 1, 1
	if !sameAccount(a, in) || a.ID <= p.m.lastAccount {
		rt.Errorf("added %+v, want %+v with an id above %d", a, in, p.m.lastAccount)
	}
	p.m.lastAccount = a.ID
	p.m.accounts[name] = &modelAccount{Account: a}
}

func quota(rt *rapid.T) store.Quota {
	return store.Quota{Octets: draw(rt, "octets", []int64{0, 0, 300}), Messages: draw(rt, "messages", []int64{0, 0, 2})}
}

func (p *player) updateAccount(rt *rapid.T) {
	old := p.anyAccount(rt)
	in := old.Account
	secret := false
	switch draw(rt, "change", []string{"name", "suspended", "verifier", "quota", "stale", "old clients", "in clear", "owner", "away"}) {
	case "name":
		in.Name = draw(rt, "name", modelNames)
	case "suspended":
		in.Suspended, secret = !in.Suspended, true
	case "verifier":
		in.Verifier, secret = in.Verifier+"1", true
	case "quota":
		in.Quota = quota(rt)
	case "owner":
		in.Owner = !in.Owner
	case "away":
		in.Vacation, in.ExpireDays = store.Vacation{On: !in.Vacation.On, Text: "away"}, in.ExpireDays+1
	case "stale":
		in.Version--
	case "old clients":
		in.OldClientLogin, in.Sealed, in.POP3.Last = !in.OldClientLogin, "a caller's", !in.POP3.Last
	case "in clear":
		in.ClearSince = in.Created.Add(time.Hour)
	}
	after := p.m.names()
	delete(after.accounts, old.Name)
	after.accounts[in.Name] = old
	got, err := p.s.UpdateAccount(p.ctx, in)
	switch {
	case in.Version != old.Version:
		p.want(err, store.ErrConflict)
		return
	case in.Name != old.Name && p.m.taken(in.Name):
		p.want(err, store.ErrExists)
		return
	case p.m.strands(after):
		p.want(err, store.ErrReserved)
		return
	}
	p.must(err)
	want := in
	want.Version, want.CredentialVersion, want.Sealed = got.Version, got.CredentialVersion, old.Sealed
	if in.Verifier != old.Verifier || !in.OldClientLogin && !p.m.oldLogin {
		want.Sealed = ""
	}
	if in.Verifier != old.Verifier {
		want.ClearSince = time.Time{}
	}
	if !sameAccount(got, want) || got.Version <= old.Version || secret != (got.CredentialVersion > old.CredentialVersion) || got.CredentialVersion < old.CredentialVersion {
		rt.Errorf("update of %+v returned %+v", old.Account, got)
	}
	delete(p.m.accounts, old.Name)
	old.Account = got
	p.m.accounts[got.Name] = old
}

func (p *player) removeAccount(rt *rapid.T) {
	a := p.anyAccount(rt)
	after := p.m.names()
	after.remove(a)
	err := p.s.RemoveAccount(p.ctx, a.ID)
	if p.m.strands(after) {
		p.want(err, store.ErrReserved)
		return
	}
	p.must(err)
	p.m.remove(a)
	p.m.removed = append(p.m.removed, a.ID)
	for _, c := range a.copies {
		p.m.deleted = append(p.m.deleted, c.ID)
	}
}

func (p *player) putAlias(rt *rapid.T) {
	name := draw(rt, "name", append(modelNames, store.CatchAll, "abuse"))
	targets := []store.AccountID{p.anyAccount(rt).ID}
	if len(p.m.removed) > 0 && number(rt, "target", 0, 4) == 0 {
		targets = append(targets, draw(rt, "removed", p.m.removed))
	} else {
		targets = append(targets, p.anyAccount(rt).ID)
	}
	slices.Sort(targets)
	targets = slices.Compact(targets)
	err := p.s.PutAlias(p.ctx, store.Alias{Name: name, Targets: targets})
	switch {
	case p.m.accounts[name] != nil:
		p.want(err, store.ErrExists)
	case slices.ContainsFunc(targets, func(id store.AccountID) bool { return p.m.byID(id) == nil }):
		p.want(err, store.ErrNotFound)
	default:
		p.must(err)
		p.m.aliases[name] = targets
	}
}

func (p *player) removeAlias(rt *rapid.T) {
	name := draw(rt, "name", append(modelNames, store.CatchAll, "abuse"))
	after := p.m.names()
	delete(after.aliases, name)
	err := p.s.RemoveAlias(p.ctx, name)
	switch {
	case p.m.aliases[name] == nil:
		p.want(err, store.ErrNotFound)
	case p.m.strands(after):
		p.want(err, store.ErrReserved)
	default:
		p.must(err)
		delete(p.m.aliases, name)
	}
}

// body returns a text that was never used before.
func (p *player) body(rt *rapid.T) string {
	p.serial++
	return message(fmt.Sprint("n", p.serial)) + strings.Repeat("x", number(rt, "padding", 0, 150))
}

func (p *player) recipients(rt *rapid.T) []store.Recipient {
	var all []store.Recipient
	for _, name := range slices.Sorted(maps.Keys(p.m.accounts)) {
		r := to(p.m.accounts[name].Account)
		r.Prefix = []byte(fmt.Sprintf("Delivered-To: %s\r\n", name))
		all = append(all, r)
	}
	for _, id := range p.m.removed[max(0, len(p.m.removed)-2):] {
		all = append(all, store.Recipient{Address: address("removed@" + Domain), Account: id})
	}
	for _, rcpt := range modelRcpts {
		all = append(all, away(rcpt))
	}
	return rapid.SliceOfN(rapid.SampledFrom(all), 1, 4).Draw(rt, "recipients")
}

// outcomes draws outcomes of leases that were given once. If one was given for a time that is over, and nobody else has the job, only
// the queue's own verbs tell that it is lost: for those of a commit the contract names no clock.
func (p *player) outcomes(rt *rapid.T, most int, expired bool) []store.Outcome {
	var drawn []store.Outcome
	seen := map[store.JobID]bool{}
	for range number(rt, "outcomes", 0, min(most, len(p.leases))) {
		l := draw(rt, "lease", p.leases)
		j := p.m.jobs[l.ID]
		if over := j != nil && j.Lease == l.Lease && !p.m.now.Before(j.until); seen[l.ID] || over && !expired {
			continue
		}
		seen[l.ID] = true
		o := outcome(l, draw(rt, "kind", modelKinds), p.m.now, p.m.now.Add(time.Duration(number(rt, "next", 0, 3))*30*time.Minute))
		if o.Kind == store.Deferred {
			o.Shared, o.Warned = number(rt, "shared", 0, 2) == 0, number(rt, "warned", 0, 2) == 0
		}
		drawn = append(drawn, o)
	}
	return drawn
}

func (p *player) commit(rt *rapid.T) {
	body := p.body(rt)
	e := p.envelope(body, p.recipients(rt)...)
	e.Received, e.Submitter = p.m.now, p.submitter(rt)
	e.HeaderID, e.UTF8, e.Ours = fmt.Sprintf("<%d@elsewhere.example>", p.serial), number(rt, "utf8", 0, 2) == 0, number(rt, "ours", 0, 1) == 0
	e.TLS = store.TLSDemand(number(rt, "tls", 0, 2))
	if number(rt, "settles", 0, 4) == 0 {
		e.Settles = p.outcomes(rt, 2, false)
	}
	if number(rt, "hold", 0, 4) == 0 {
		e.Hold = "looks odd"
	}
	e.Reserved = p.someReserved(rt)
	r, err := p.draft(body).Commit(p.ctx, e)
	p.m.unreserve(e.Reserved...)
	lost := slices.ContainsFunc(e.Settles, func(o store.Outcome) bool { return !p.m.holds(o.Job, o.Lease) })
	failed, served := p.judge(e, len(body))
	if lost && served == 0 {
		if !errors.Is(err, store.ErrNoRecipients) {
			p.want(err, store.ErrLeaseLost)
		}
		return
	}
	if lost {
		p.want(err, store.ErrLeaseLost)
		return
	}
	if served == 0 {
		p.want(err, store.ErrNoRecipients)
		p.wantFailed(recipientErrors(err), failed)
		return
	}
	p.must(err)
	p.wantFailed(r.Failed, failed)
	p.accept(rt, e, r, body, failed)
	for _, o := range e.Settles {
		j := p.m.jobs[o.Job]
		p.m.settle(o)
		j.note(p.m, store.TrailReported)
	}
}

// judge says which recipients the model leaves out, and how many get a copy or a job.
func (p *player) judge(e store.Envelope, size int) (failed map[int]error, served int) {
	failed = map[int]error{}
	has := map[store.AccountID]bool{}
	var added store.Usage
	for i, r := range e.Recipients {
		if has[r.Account] {
			continue
		}
		if r.Account != 0 {
			octets := int64(size + len(r.Prefix))
			if err := p.m.refusal(r.Account, octets, added); err != nil {
				failed[i] = err
				continue
			}
			has[r.Account] = true
			added.Octets, added.Messages = added.Octets+octets, added.Messages+1
		}
		served++
	}
	return failed, served
}

func (p *player) wantFailed(got []*store.RecipientError, want map[int]error) {
	p.t.Helper()
	for _, f := range got {
		if want[f.Index] == nil || !errors.Is(f, want[f.Index]) {
			p.t.Errorf("recipient %d failed with %v, want %v", f.Index, f.Err, want[f.Index])
		}
	}
	if len(got) != len(want) {
		p.t.Errorf("failed recipients %v, want %v", got, want)
	}
}

// accept takes one acknowledged commit into the model. What the store was free to choose (ids) it takes from the receipt.
func (p *player) accept(rt *rapid.T, e store.Envelope, r store.Receipt, body string, failed map[int]error) {
	m := p.m
	if r.Message <= m.lastMessage {
		rt.Errorf("message id %s after %s", r.Message, m.lastMessage)
	}
	m.lastMessage = r.Message
	steps := []step{{store.TrailAccepted, ""}}
	has := map[store.AccountID]bool{}
	copies, jobs := r.Copies, r.Jobs
	for i, rcpt := range e.Recipients {
		switch {
		case failed[i] != nil:
			steps = append(steps, step{store.TrailLeftOut, rcpt.Address.String()})
		case rcpt.Account == 0:
			if len(jobs) == 0 || jobs[0] <= m.lastJob {
				rt.Fatalf("jobs %v of receipt %+v, want ids above %d", jobs, r, m.lastJob)
			}
			steps = append(steps, step{store.TrailQueued, rcpt.Address.String()})
			if e.Hold != "" {
				steps = append(steps, step{store.TrailHeld, rcpt.Address.String()})
			}
			m.lastJob, jobs = jobs[0], jobs[1:]
			m.jobs[m.lastJob] = p.newJob(rt, e, rcpt, r, body)
		case !has[rcpt.Account]:
			if len(copies) == 0 || copies[0].ID <= m.lastCopy || copies[0].Account != rcpt.Account {
				rt.Fatalf("copies %v of receipt %+v, want ids above %d", copies, r, m.lastCopy)
			}
			has[rcpt.Account] = true
			steps = append(steps, step{store.TrailStored, rcpt.Address.String()})
			text := string(rcpt.Prefix) + body
			a := m.byID(rcpt.Account)
			a.copies = append(a.copies, modelCopy{rcpt: rcpt.Address.String(), text: text, Message: store.Message{
				ID: copies[0].ID, Of: r.Message, UID: copies[0].UID, Size: int64(len(text)), HeaderLen: int64(len(rcpt.Prefix)) + e.HeaderLen, Received: m.now,
				UTF8: e.UTF8,
			}})
			m.lastCopy, copies = copies[0].ID, copies[1:]
		}
	}
	if len(jobs)+len(copies) != 0 {
		rt.Errorf("receipt %+v has too many copies or jobs", r)
	}
	m.trail[r.Message] = steps
}

func (p *player) newJob(rt *rapid.T, e store.Envelope, rcpt store.Recipient, r store.Receipt, body string) *modelJob {
	stored, err := p.s.Job(p.ctx, p.m.lastJob)
	p.must(err)
	if stored.NextAttempt.After(p.m.now) {
		rt.Errorf("new job %+v is not due at once", stored)
	}
	return &modelJob{text: body, Job: store.Job{
		ID: p.m.lastJob, Message: r.Message, Submitter: e.Submitter, ReversePath: e.ReversePath, Recipient: rcpt.Address, Size: int64(len(body)),
		HeaderLen: e.HeaderLen, HeaderID: e.HeaderID, UTF8: e.UTF8, Ours: e.Ours, TLS: e.TLS, Received: p.m.now, NextAttempt: stored.NextAttempt,
		Held: e.Hold != "", HoldReason: e.Hold, Alone: len(r.Jobs) == 1,
	}}
}

func (p *player) abort(rt *rapid.T) { p.must(p.draft(p.body(rt)).Abort()) }

func (p *player) openSnapshot(rt *rapid.T) {
	a := p.anyAccount(rt)
	if len(p.snapshots) >= 3 {
		rt.Skip("enough maildrops are open")
	}
	md, err := p.s.OpenMaildrop(p.ctx, a.ID)
	if a.Suspended {
		p.want(err, store.ErrSuspended)
		return
	}
	p.must(err)
	p.snapshots = append(p.snapshots, &snapshot{Maildrop: md, account: a.ID, copies: slices.Clone(a.copies), late: number(rt, "late", 0, 9)})
}

func (p *player) anySnapshot(rt *rapid.T) (i int) {
	if len(p.snapshots) == 0 {
		rt.Skip("no open maildrop")
	}
	return number(rt, "maildrop", 0, len(p.snapshots)-1)
}

func (p *player) closeSnapshot(rt *rapid.T) {
	i := p.anySnapshot(rt)
	p.must(p.snapshots[i].Close())
	p.snapshots = slices.Delete(p.snapshots, i, i+1)
}

func (p *player) closeSnapshots() {
	for _, s := range p.snapshots {
		p.must(s.Close())
	}
	p.snapshots = nil
}

func (p *player) expungeSome(rt *rapid.T) {
	s := p.snapshots[p.anySnapshot(rt)]
	ids := []store.CopyID{0, 1 << 60}
	for _, c := range s.copies {
		ids = append(ids, c.ID, c.ID, c.ID)
	}
	for _, a := range p.m.accounts {
		if a.ID != s.account {
			for _, c := range a.copies {
				ids = append(ids, c.ID)
			}
		}
	}
	slices.Sort(ids)
	some := rapid.SliceOfN(rapid.SampledFrom(append(ids, p.m.deleted...)), 0, 4)
	deleted, fetched := some.Draw(rt, "deleted"), some.Draw(rt, "fetched")
	p.must(s.Expunge(p.ctx, deleted, fetched))
	a := p.m.byID(s.account)
	if a == nil {
		return
	}
	var left []modelCopy
	for _, c := range a.copies {
		listed := slices.ContainsFunc(s.copies, func(o modelCopy) bool { return o.ID == c.ID })
		if listed && slices.Contains(fetched, c.ID) {
			p.m.trail[c.Of] = append(p.m.trail[c.Of], step{store.TrailFetched, c.rcpt})
			c.Fetched, p.m.fetched[c.ID] = true, true
		}
		if listed && slices.Contains(deleted, c.ID) {
			p.m.trail[c.Of] = append(p.m.trail[c.Of], step{store.TrailDeleted, c.rcpt})
			p.m.deleted = append(p.m.deleted, c.ID)
			continue
		}
		left = append(left, c)
	}
	a.copies = left
}

// submitter draws who sends: nobody, or accounts that need not exist any more.
func (p *player) submitter(rt *rapid.T) store.AccountID {
	return draw(rt, "submitter", []store.AccountID{0, 1, 1 << 40})
}

func (p *player) leaseSome(rt *rapid.T) {
	submitter, domain, limit := p.submitter(rt), draw(rt, "destination", modelDomains), number(rt, "limit", 0, 3)
	want := p.m.due(submitter, domain)
	want = want[:min(len(want), limit)]
	got, err := p.s.Lease(p.ctx, p.m.now, submitter, domain, limit, leaseFor)
	p.must(err)
	if len(got) != len(want) {
		rt.Fatalf("leased %d jobs, want %d", len(got), len(want))
	}
	for i, l := range got {
		j := want[i]
		if slices.ContainsFunc(p.leases, func(old store.Job) bool { return old.Lease == l.Lease }) {
			rt.Errorf("token %d was given before", l.Lease)
		}
		j.Lease, j.until = l.Lease, p.m.now.Add(leaseFor)
		p.leases = append(p.leases, l)
		p.checkJob(l, j, l.Lease)
	}
}

// returnSome returns leases that were given once, good ones or not.
func (p *player) returnSome(rt *rapid.T) {
	if len(p.leases) == 0 {
		rt.Skip("no lease")
	}
	some := rapid.SliceOfN(rapid.SampledFrom(p.leases), 0, 3).Draw(rt, "leases")
	p.must(p.s.Return(p.ctx, some...))
	for _, l := range some {
		if j := p.m.jobs[l.ID]; j != nil && j.Lease == l.Lease {
			j.Lease = 0
		}
	}
}

// checkJob compares a job that the store returned with the model's.
func (p *player) checkJob(got store.Job, j *modelJob, token store.LeaseToken) {
	p.t.Helper()
	want := j.Job
	want.Lease = token
	if !sameJob(got, want) {
		p.t.Errorf("job %+v, want %+v", got, want)
	}
}

func (p *player) finishSome(rt *rapid.T) {
	outcomes := p.outcomes(rt, 3, true)
	var want []store.JobID
	for _, o := range outcomes {
		if !p.m.holds(o.Job, o.Lease) {
			want = append(want, o.Job)
		}
	}
	lost, err := p.s.Finish(p.ctx, p.m.now, outcomes...)
	p.must(err)
	if !slices.Equal(lost, want) {
		rt.Fatalf("lost %v, want %v", lost, want)
	}
	for _, o := range outcomes {
		if !slices.Contains(want, o.Job) {
			p.m.settle(o)
		}
	}
}

func (p *player) hold(rt *rapid.T) {
	j := p.anyJob(rt)
	p.must(p.s.HoldJobs(p.ctx, "why not", j.ID))
	j.Held, j.HoldReason, j.Released, j.GivenUp = true, "why not", false, ""
	j.note(p.m, store.TrailHeld)
}

func (p *player) releaseSome(rt *rapid.T) {
	j := p.anyJob(rt)
	due := p.m.now.Add(time.Duration(number(rt, "due", -1, 2)) * time.Hour)
	p.must(p.s.ReleaseJobs(p.ctx, due, j.ID))
	j.Held, j.HoldReason, j.NextAttempt, j.Released, j.GivenUp = false, "", due, true, ""
	j.note(p.m, store.TrailReleased)
}

func (p *player) removeJob(rt *rapid.T) {
	j := p.anyJob(rt)
	p.must(p.s.RemoveJobs(p.ctx, j.ID))
	j.note(p.m, store.TrailRemoved)
	delete(p.m.jobs, j.ID)
}
