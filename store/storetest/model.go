package storetest

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"latchkey/store"
)

// model is what a store should hold, kept in the most simple-minded way.
type model struct {
	now      time.Time
	accounts map[string]*modelAccount // by name
	aliases  map[string][]store.AccountID
	jobs     map[store.JobID]*modelJob
	trail    map[store.MessageID][]step // in no order
	secrets  map[string]string
	grants   []store.Grant // in order of id
	quota    store.Quota   // of the domain
	oldLogin bool          // of everybody
	reserved map[store.ReservationID]modelRoom

	removed     []store.AccountID
	deleted     []store.CopyID
	fetched     map[store.CopyID]bool // at some time
	lastAccount store.AccountID
	lastMessage store.MessageID
	lastCopy    store.CopyID
	lastJob     store.JobID
	lastGrant   store.GrantID
	lastDevice  store.DeviceID
}

type modelAccount struct {
	store.Account
	copies  []modelCopy
	clients []store.Client
	devices []store.Device
}

// maySeal says whether something may be sealed.
func (m *model) maySeal(a *modelAccount) bool { return a.OldClientLogin || m.oldLogin }

// modelCopy is a copy and the octets that it yields.
type modelCopy struct {
	store.Message
	text string
	rcpt string
}

// modelJob is a job and the octets that it yields. Its Lease and until are the lease that is out, if any.
type modelJob struct {
	store.Job
	text  string
	until time.Time
}

func newModel(now time.Time) *model {
	return &model{
		now: now, accounts: map[string]*modelAccount{}, aliases: map[string][]store.AccountID{}, jobs: map[store.JobID]*modelJob{},
		trail: map[store.MessageID][]step{}, secrets: map[string]string{}, reserved: map[store.ReservationID]modelRoom{}, fetched: map[store.CopyID]bool{},
	}
}

// byID returns a live account, or nil.
func (m *model) byID(id store.AccountID) *modelAccount {
	for _, a := range m.accounts {
		if a.ID == id {
			return a
		}
	}
	return nil
}

func (m *model) taken(name string) bool {
	return m.accounts[name] != nil || m.aliases[name] != nil
}

// resolve says where a lower-case local part leads; ok is false when nobody takes it.
func (m *model) resolve(local string) (r store.Route, ok bool) {
	base, _, _ := strings.Cut(local, "+")
	for _, name := range []string{local, base} {
		if a := m.accounts[name]; a != nil {
			return store.Route{Local: []store.AccountID{a.ID}}, true
		}
		if targets := m.aliases[name]; targets != nil && name != store.CatchAll {
			return store.Route{Local: targets}, true
		}
	}
	if targets := m.aliases[store.CatchAll]; targets != nil {
		return store.Route{Local: targets, CatchAll: true}, true
	}
	return store.Route{}, false
}

// names is the part of the model that decides where names lead.
func (m *model) names() *model {
	return &model{accounts: maps.Clone(m.accounts), aliases: maps.Clone(m.aliases)}
}

// strands reports whether postmaster or abuse would lose its mailbox if the names became those of after.
func (m *model) strands(after *model) bool {
	for _, name := range []string{"postmaster", "abuse"} {
		_, before := m.resolve(name)
		if _, still := after.resolve(name); before && !still {
			return true
		}
	}
	return false
}

func (m *model) remove(a *modelAccount) {
	delete(m.accounts, a.Name)
	m.grants = slices.DeleteFunc(m.grants, func(g store.Grant) bool { return g.Account == a.ID })
	for name, targets := range m.aliases {
		left := slices.DeleteFunc(slices.Clone(targets), func(id store.AccountID) bool { return id == a.ID })
		if m.aliases[name] = left; len(left) == 0 {
			delete(m.aliases, name)
		}
	}
}

func (a *modelAccount) usage() store.Usage {
	var u store.Usage
	for _, c := range a.copies {
		u.Octets += int64(len(c.text))
		u.Messages++
	}
	return u
}

// holds reports whether a token is good now.
func (m *model) holds(id store.JobID, token store.LeaseToken) bool {
	j := m.jobs[id]
	return j != nil && token != 0 && j.Lease == token && m.now.Before(j.until)
}

// settle makes an outcome true.
func (m *model) settle(o store.Outcome) {
	j := m.jobs[o.Job]
	if !o.Shared {
		j.note(m, store.TrailKind(o.Kind))
		j.Attempts++
	}
	if o.Kind != store.Deferred {
		delete(m.jobs, o.Job)
		return
	}
	j.Lease, j.NextAttempt, j.LastText, j.Released = 0, o.Next, o.Text, false
	j.Warned = j.Warned || o.Warned
}

func (j *modelJob) note(m *model, kind store.TrailKind) {
	m.trail[j.Message] = append(m.trail[j.Message], step{kind, j.Recipient.String()})
}

// free reports whether a job could be leased now, were it due.
func (m *model) free(j *modelJob) bool { return !j.Held && (j.Lease == 0 || !m.now.Before(j.until)) }

// due returns the jobs of a submitter to a domain that may be leased now, in the order in which they are.
func (m *model) due(submitter store.AccountID, domain string) []*modelJob {
	var due []*modelJob
	for _, id := range slices.Sorted(maps.Keys(m.jobs)) {
		if j := m.jobs[id]; m.free(j) && j.Submitter == submitter && j.Recipient.Domain() == domain && !j.NextAttempt.After(m.now) {
			due = append(due, j)
		}
	}
	slices.SortStableFunc(due, func(a, b *modelJob) int { return a.NextAttempt.Compare(b.NextAttempt) })
	return due
}

// destinations returns those that have free jobs.
func (m *model) destinations() []store.Destination {
	due := map[store.Destination]time.Time{}
	for _, j := range m.jobs {
		d := store.Destination{Submitter: j.Submitter, Domain: j.Recipient.Domain()}
		if earliest, found := due[d]; m.free(j) && (!found || j.NextAttempt.Before(earliest)) {
			due[d] = j.NextAttempt
		}
	}
	var list []store.Destination
	for d, earliest := range due {
		d.Due = earliest
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b store.Destination) int {
		return cmp.Or(cmp.Compare(a.Submitter, b.Submitter), cmp.Compare(a.Domain, b.Domain))
	})
	return list
}

// messages returns the messages whose bodies are still needed.
func (m *model) messages() map[store.MessageID]bool {
	needed := map[store.MessageID]bool{}
	for _, a := range m.accounts {
		for _, c := range a.copies {
			needed[c.Of] = true
		}
	}
	for _, j := range m.jobs {
		needed[j.Message] = true
	}
	return needed
}
