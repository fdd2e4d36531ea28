package storetest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"latchkey/store"
)

// verifier compares a store with a ledger. What it sees counts as acknowledged from then on, and what it does not see as gone.
type verifier struct {
	t   *testing.T
	ctx context.Context
	s   store.Store
	l   *ledger

	copies map[copyKey]int
	jobs   map[string]int
	blind  map[string]bool // accounts whose copies cannot be seen
}

func (v *verifier) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatalf("after the cut: %v", err)
	}
}

func (v *verifier) check(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Errorf("after the cut: %v", err)
	}
}

func (v *verifier) all() {
	v.t.Helper()
	problems, err := v.s.Check(v.ctx)
	v.must(err)
	for _, p := range problems {
		v.t.Errorf("Check found: %s: %s: %s", p.Kind, p.Object, p.Detail)
	}
	v.accounts()
	v.readJobs()
	v.whole()
	v.trail()
	v.settle()
	v.grants()
	v.clients()
	v.devices()
	v.records()
}

// accounts looks at the accounts and at what is in their maildrops.
func (v *verifier) accounts() {
	v.t.Helper()
	v.copies, v.blind = make(map[copyKey]int), make(map[string]bool)
	list, err := v.s.ListAccounts(v.ctx, "", 10_000)
	v.must(err)
	found := make(map[string]bool)
	for _, a := range list {
		token := a.DisplayName
		f := v.l.accounts[token]
		switch {
		case f == nil:
			v.t.Errorf("account %q was never asked for", token)
			continue
		case found[token]:
			v.t.Errorf("account %s is there twice", token)
		case f.fate == departed:
			v.t.Errorf("account %s was removed or refused, and is there", token)
		case a.Version < f.version:
			v.t.Errorf("account %s has version %d, and %d was acknowledged", token, a.Version, f.version)
		case a.Name != f.name || !f.suspended.can(a.Suspended):
			v.t.Errorf("account %s is %q, suspended %t, want %q and one of %t", token, a.Name, a.Suspended, f.name, f.suspended.may)
		}
		if a.OldClientLogin && !f.sealed.can(string(a.Sealed)) {
			v.t.Errorf("account %s has %q sealed, want one of %q", token, string(a.Sealed), f.sealed.may)
		}
		f.sealed.told(string(a.Sealed))
		found[token] = true
		v.check(v.l.saw("account", digits(a.ID), token))
		f.id, f.version, f.fate = a.ID, a.Version, acked
		f.suspended.told(a.Suspended)
		v.maildrop(a)
	}
	for token, f := range v.l.accounts {
		if f.fate == acked && !found[token] {
			v.t.Errorf("account %s was acknowledged, and is lost", token)
		}
		if !found[token] {
			f.fate = departed
		}
	}
}

// maildrop reads everything in one maildrop, and compares it with what is counted.
func (v *verifier) maildrop(a store.Account) {
	v.t.Helper()
	usage, err := v.s.Usage(v.ctx, a.ID)
	v.must(err)
	if a.Quota.Messages > 0 && usage.Messages > a.Quota.Messages {
		v.t.Errorf("account %s has %d messages with a quota of %d", a.DisplayName, usage.Messages, a.Quota.Messages)
	}
	if a.Suspended {
		v.blind[a.DisplayName] = true
		return
	}
	md, err := v.s.OpenMaildrop(v.ctx, a.ID)
	v.must(err)
	defer func() { v.check(md.Close()) }()
	messages, err := md.Messages(v.ctx)
	v.must(err)
	var is store.Usage
	for m := range messages {
		is.Messages++
		is.Octets += m.Size
		r, err := md.OpenMessage(v.ctx, m.ID)
		if err != nil {
			v.t.Errorf("copy %d of %s: %v", m.ID, a.DisplayName, err)
			continue
		}
		got := v.read(r)
		k, err := v.l.sent(got)
		v.check(err)
		if k.account != a.DisplayName || int64(len(got)) != m.Size || headerLen(got) != m.HeaderLen {
			v.t.Errorf("in the maildrop of %s: message %s of %d octets, listed with %d, of which %d are header", a.DisplayName, k, len(got), m.Size, m.HeaderLen)
		}
		v.check(v.l.saw("unique-id", m.UID, k.String()))
		v.check(v.l.saw("copy", digits(m.ID), k.String()))
		v.check(v.l.saw("message", digits(m.Of), k.message))
		v.copies[k]++
		if f := v.l.copies[k]; f != nil {
			f.id = m.ID
			v.l.messages[k.message].id = m.Of
			if f.fetched && !m.Fetched || m.Fetched && !f.asked {
				v.t.Errorf("copy %s is marked as fetched: %t; somebody fetched it: %t, and was told so: %t", k, m.Fetched, f.asked, f.fetched)
			}
			f.asked, f.fetched = m.Fetched, m.Fetched
		} else {
			v.t.Errorf("copy %s was never asked for", k)
		}
	}
	if is != usage {
		v.t.Errorf("account %s holds %+v, and is counted with %+v", a.DisplayName, is, usage)
	}
}

func (v *verifier) read(r io.ReadCloser) string {
	v.t.Helper()
	b, err := io.ReadAll(r)
	v.check(errors.Join(err, r.Close()))
	return string(b)
}

// readJobs looks at the queue.
func (v *verifier) readJobs() {
	v.t.Helper()
	v.jobs = make(map[string]int)
	list, _, err := v.s.ListJobs(v.ctx, store.QueueFilter{}, 0, 100_000)
	v.must(err)
	for _, j := range list {
		token := j.Recipient.Local()
		f := v.l.jobs[token]
		if f == nil {
			v.t.Errorf("job %q was never asked for", token)
			continue
		}
		v.jobs[token]++
		v.check(v.l.saw("job", digits(j.ID), token))
		v.check(v.l.saw("message", digits(j.Message), f.message))
		v.l.messages[f.message].id = j.Message
		if j.Attempts < f.least || j.Attempts > f.most || !f.held.can(j.Held) {
			v.t.Errorf("job %s has %d attempts, held %t, want %d to %d, and one of %t", token, j.Attempts, j.Held, f.least, f.most, f.held.may)
		}
		f.least, f.most = j.Attempts, j.Attempts
		f.held.told(j.Held)
		r, err := v.s.OpenJob(v.ctx, j.ID)
		if err != nil {
			v.t.Errorf("job %s: %v", token, err)
			continue
		}
		got := v.read(r)
		k, err := v.l.sent(got)
		v.check(err)
		if k.message != f.message || k.account != "" || int64(len(got)) != j.Size {
			v.t.Errorf("job %s yields message %s of %d octets, want %s of %d", token, k, len(got), f.message, j.Size)
		}
	}
}

// whole looks at commits that nobody was told of: either all of it is there, or nothing.
func (v *verifier) whole() {
	v.t.Helper()
	for token, m := range v.l.messages {
		if m.told {
			continue
		}
		var there, missing []string
		for _, k := range m.copies {
			a := v.l.accounts[k.account]
			switch {
			case v.copies[k] > 0:
				there = append(there, k.String())
			case v.l.copies[k].fate <= acked && !a.unsteady && !v.full(a):
				missing = append(missing, k.String())
			}
		}
		for _, j := range m.jobs {
			if v.jobs[j] > 0 {
				there = append(there, j)
			} else if v.l.jobs[j].fate <= acked {
				missing = append(missing, j)
			}
		}
		if len(there) > 0 && len(missing) > 0 {
			v.t.Errorf("of message %s there is %q, and not %q", token, there, missing)
		}
		if v.jobs[m.settles] > 0 && len(there) > 0 {
			v.t.Errorf("message %s is there, and the job %s that it settles too", token, m.settles)
		}
		if j := v.l.jobs[m.settles]; j != nil && v.jobs[m.settles] == 0 && j.fate == leaving && len(missing) > 0 {
			v.t.Errorf("job %s was settled, and message %s, which does that, is not there", m.settles, token)
		}
	}
}

// full reports whether an account may have been full.
func (v *verifier) full(a *accountFact) bool {
	is, err := v.s.Account(v.ctx, a.id)
	return err != nil || is.Quota != store.Quota{}
}

// trail looks at what is noted of each message: everything once.
func (v *verifier) trail() {
	v.t.Helper()
	for token, m := range v.l.messages {
		if m.id == 0 {
			continue
		}
		events, err := v.s.MessageTrail(v.ctx, m.id)
		v.must(err)
		seen := make(map[string]int)
		for _, e := range events {
			seen[string(e.Kind)+" "+e.Recipient.Local()]++
		}
		want := func(what string, least, most int) {
			if n := seen[what]; n < least || n > most {
				v.t.Errorf("the trail of message %s has %d events %q, want %d to %d", token, n, what, least, most)
			}
		}
		want(string(store.TrailAccepted)+" ", 1, 1)
		for _, k := range m.copies {
			a := v.l.accounts[k.account]
			deleted := 0
			if v.l.copies[k].expunge && !a.unsteady {
				deleted = 1
			}
			want(string(store.TrailStored)+" "+a.name, v.copies[k], 1)
			want(string(store.TrailDeleted)+" "+a.name, deleted, 1-v.copies[k])
		}
		for _, j := range m.jobs {
			ends, f := 0, v.l.jobs[j]
			for _, kind := range []store.TrailKind{store.TrailDelivered, store.TrailFailed, store.TrailRemoved} {
				ends += seen[string(kind)+" "+j]
			}
			if ends > 1 || v.jobs[j] > 0 && ends > 0 || f.ended && ends == 0 {
				v.t.Errorf("the trail of message %s has %d ends of job %s, of which there are %d", token, ends, j, v.jobs[j])
			}
			want(string(store.TrailQueued)+" "+j, v.jobs[j], 1)
			want(string(store.TrailDeferred)+" "+j, f.least, f.most)
		}
	}
}

// settle compares copies and jobs with what is known of them, and brings the ledger up to date.
func (v *verifier) settle() {
	v.t.Helper()
	for k, f := range v.l.copies {
		if v.blind[k.account] {
			continue
		}
		gone := v.l.accounts[k.account].fate == departed
		f.fate = v.judge("copy "+k.String(), f.fate, v.copies[k], gone)
	}
	for token, f := range v.l.jobs {
		f.fate = v.judge("job "+token, f.fate, v.jobs[token], false)
	}
	for _, m := range v.l.messages {
		// What was not told is known now, unless some of it is out of sight.
		m.told = m.told || !v.hidden(m)
	}
}

func (v *verifier) hidden(m *messageFact) bool {
	for _, k := range m.copies {
		if v.blind[k.account] && v.l.copies[k].fate == tried {
			return true
		}
	}
	return false
}

// judge says what is wrong with a thing that was found so many times, and what is known of it now. What went with its account may be gone.
func (v *verifier) judge(what string, f fate, n int, gone bool) fate {
	v.t.Helper()
	switch {
	case n > 1:
		v.t.Errorf("%s is there %d times", what, n)
	case n == 1 && f == departed:
		v.t.Errorf("%s was removed or refused, and is there", what)
	case n == 0 && f == acked && !gone:
		v.t.Errorf("%s was acknowledged, and is lost", what)
	}
	if n > 0 {
		return acked
	}
	return departed
}

// grants: what was revoked is there and ended, and what was written down in good order is there. The rest may be forgotten.
func (v *verifier) grants() {
	v.t.Helper()
	found := make(map[store.GrantID]store.Grant)
	list, err := v.s.ListGrants(v.ctx, store.GrantFilter{}, 0, 100_000)
	v.must(err)
	for _, g := range list {
		v.check(v.l.saw("grant", g.ID.String(), g.Network.String()))
		found[g.ID] = g
		f := v.l.grants[g.ID]
		if f == nil { // it was made, and nobody heard of it
			f = &grantFact{}
			for token, a := range v.l.accounts {
				if a.id == g.Account {
					f.account = token
				}
			}
			v.l.grants[g.ID] = f
		}
		if a := v.l.accounts[f.account]; a == nil || a.id != g.Account || a.fate == departed {
			v.t.Errorf("grant %s is of account %d, want that of %q, which is there", g.ID, g.Account, f.account)
		}
	}
	for id, f := range v.l.grants {
		g, there := found[id]
		if v.l.accounts[f.account].fate != departed && (f.revoked && g.End == "" || f.kept && !there) {
			v.t.Errorf("grant %s, revoked %t, kept %t: there %t, end %q", id, f.revoked, f.kept, there, g.End)
		}
		if f.revoked, f.kept = g.End != "", true; !there {
			delete(v.l.grants, id)
		}
	}
}

// clients: each session that was noted is counted, once, of accounts that are there.
func (v *verifier) clients() {
	v.t.Helper()
	list, err := v.s.ListClients(v.ctx, 0, 100_000)
	v.must(err)
	found := make(map[string]int64)
	for _, c := range list {
		a, err := v.s.Account(v.ctx, c.Account)
		v.check(err)
		found[a.DisplayName+" "+c.Program] += c.Sessions
	}
	for key, n := range found {
		if v.l.seen[key] == nil {
			v.t.Errorf("client %q was never noted, and has %d sessions", key, n)
		}
	}
	for key, f := range v.l.seen {
		n := found[key]
		if gone := v.l.accounts[f.account].fate == departed; n > f.most || n < f.least && !gone {
			v.t.Errorf("client %q has %d sessions, want %d to %d", key, n, f.least, f.most)
		}
		f.least, f.most = n, n
	}
}

// records looks at the settings, the secrets and the audit log.
func (v *verifier) records() {
	v.t.Helper()
	s, err := v.s.Settings(v.ctx)
	v.must(err)
	if s.Version < v.l.version || !v.l.settings.can(s.HelpURL) {
		v.t.Errorf("settings of version %d with %q, want at least %d and one of %q", s.Version, s.HelpURL, v.l.version, v.l.settings.may)
	}
	v.l.version = s.Version
	v.l.settings.told(s.HelpURL)
	for name, r := range v.l.secrets {
		b, err := v.s.Secret(v.ctx, name)
		if !errors.Is(err, store.ErrNotFound) {
			v.must(err)
		}
		if !r.can(string(b)) {
			v.t.Errorf("%s is %q, want one of %q", name, b, r.may)
		}
		r.told(string(b))
	}
	entries, err := v.s.ListAudit(v.ctx, 0, store.MaxAuditEntries)
	v.must(err)
	found := make(map[string]int)
	for _, e := range entries {
		found[e.Object]++
		if _, ok := v.l.audit[e.Object]; !ok || strings.TrimSpace(e.Object) == "" {
			v.t.Errorf("an audit entry of %q, which nobody made", e.Object)
		}
	}
	for token, f := range v.l.audit {
		v.l.audit[token] = v.judge("audit entry "+token, f, found[token], false)
	}
}
