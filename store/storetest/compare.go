package storetest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

func (p *player) secret(rt *rapid.T) {
	name, blob := draw(rt, "name", []string{"a", "b"}), fmt.Sprint("blob ", p.serial)
	if number(rt, "remove", 0, 2) > 0 {
		p.must(p.s.PutSecret(p.ctx, name, []byte(blob)))
		p.m.secrets[name] = blob
		return
	}
	err := p.s.RemoveSecret(p.ctx, name)
	if _, ok := p.m.secrets[name]; !ok {
		p.want(err, store.ErrNotFound)
		return
	}
	p.must(err)
	delete(p.m.secrets, name)
}

// sealSome seals a password, by the right version or by another.
func (p *player) sealSome(rt *rapid.T) {
	a := p.anyAccount(rt)
	p.serial++
	sealed, version := store.Sealed(fmt.Sprint("sealed ", p.serial)), a.CredentialVersion+uint64(number(rt, "beside", 0, 3)/3)
	err := p.s.SealPassword(p.ctx, a.ID, version, sealed)
	if version != a.CredentialVersion || !p.m.maySeal(a) {
		p.want(err, store.ErrConflict)
		return
	}
	p.must(err)
	a.Sealed = sealed
}

// switchOldClients lets everybody log in with old clients, or ends that.
func (p *player) switchOldClients(*rapid.T) {
	p.m.oldLogin = !p.m.oldLogin
	p.oldClientLogin(p.m.oldLogin)
	for _, a := range p.m.accounts {
		if !p.m.maySeal(a) {
			a.Sealed = ""
		}
	}
}

// noteSome notes clients of accounts, perhaps of one that was removed.
func (p *player) noteSome(rt *rapid.T) {
	var seen []store.Client
	for range number(rt, "clients", 0, 3) {
		c := p.client(p.anyAccount(rt).Account, draw(rt, "program", []string{"Eudora", "Outlook", "Pegasus"}), number(rt, "minute", 0, 200))
		if len(p.m.removed) > 0 && number(rt, "nobody", 0, 5) == 0 {
			c.Account = draw(rt, "removed", p.m.removed)
		}
		seen = append(seen, c)
		a := p.m.byID(c.Account)
		if a == nil {
			continue
		}
		i := slices.IndexFunc(a.clients, func(k store.Client) bool { return k.Program == c.Program })
		if i < 0 {
			a.clients = append(a.clients, c)
			continue
		}
		k := &a.clients[i]
		if c.First.Before(k.First) {
			k.First = c.First
		}
		if !c.Last.Before(k.Last) {
			k.Last, k.Address = c.Last, c.Address
		}
		k.Sessions, k.Fetched, k.Deleted, k.Keeps = k.Sessions+c.Sessions, k.Fetched+c.Fetched, k.Deleted+c.Deleted, k.Keeps+c.Keeps
	}
	p.must(p.s.NoteClients(p.ctx, seen))
}

func (p *player) compareClients() {
	var want []store.Client
	for _, a := range p.m.accounts {
		want = append(want, a.clients...)
	}
	slices.SortFunc(want, func(a, b store.Client) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), b.Last.Compare(a.Last), cmp.Compare(a.Program, b.Program))
	})
	p.wantClients(0, 1000, want...)
}

func (p *player) advance(rt *rapid.T) {
	p.m.now = p.m.now.Add(time.Duration(number(rt, "minutes", 1, 90)) * time.Minute)
}

func (p *player) closeAndOpen(*rapid.T) {
	p.closeSnapshots()
	p.reopen()
	for _, j := range p.m.jobs {
		j.Lease = 0
	}
	clear(p.m.reserved)
}

// nonsense asks for what cannot be; compare then sees that nothing happened.
func (p *player) nonsense(rt *rapid.T) {
	job, account := p.m.lastJob+1, p.m.lastAccount+1
	p.want(p.s.HoldJobs(p.ctx, "", job), store.ErrNotFound)
	p.want(p.s.ReleaseJobs(p.ctx, p.m.now, job), store.ErrNotFound)
	p.want(p.s.RemoveAccount(p.ctx, account), store.ErrNotFound)
	_, err := p.s.OpenMaildrop(p.ctx, account)
	p.want(err, store.ErrNotFound)
	if len(p.m.jobs) > 0 {
		p.want(p.s.RemoveJobs(p.ctx, p.anyJob(rt).ID, job), store.ErrNotFound)
	}
	_, err = p.draft("x").Commit(p.ctx, store.Envelope{Received: p.m.now})
	p.want(err, store.ErrInvalid)
}

// compare looks at everything that can be seen.
func (p *player) compare(*rapid.T) {
	p.compareNames()
	for _, a := range p.m.accounts {
		p.compareMaildrop(a)
	}
	p.compareDomainUsage()
	for _, s := range p.snapshots {
		if s.late--; s.late < 0 {
			p.compareSnapshot(s)
		} else if got, want := s.Stat(), (&modelAccount{copies: s.copies}).usage(); got != want {
			p.t.Errorf("account %d: the snapshot holds %+v, want %+v", s.account, got, want)
		}
	}
	p.compareQueue()
	p.compareGrants()
	p.compareClients()
	p.compareDevices()
	for id, want := range p.m.trail {
		var got []step
		for _, e := range p.trail(id) {
			got = append(got, step{e.Kind, e.Recipient.String()})
		}
		if !slices.Equal(sorted(got), sorted(want)) {
			p.t.Errorf("trail of message %s is %q, want %q", id, got, want)
		}
	}
	for _, name := range []string{"a", "b"} {
		blob, err := p.s.Secret(p.ctx, name)
		want, ok := p.m.secrets[name]
		if string(blob) != want || (err == nil) != ok {
			p.t.Errorf("secret %q is %q (%v), want %q", name, blob, err, want)
		}
	}
	if len(p.snapshots) == 0 {
		p.wantBodyCount(len(p.m.messages()))
	}
}

func sorted(steps []step) []step {
	return slices.SortedFunc(slices.Values(steps), func(a, b step) int {
		return strings.Compare(string(a.kind)+a.to, string(b.kind)+b.to)
	})
}

func (p *player) compareNames() {
	got, err := p.s.ListAccounts(p.ctx, "", 100)
	p.must(err)
	names := slices.Sorted(maps.Keys(p.m.accounts))
	if !slices.EqualFunc(got, names, func(a store.Account, name string) bool { return sameAccount(a, p.m.accounts[name].Account) }) {
		p.t.Errorf("accounts %+v, want those of %q", got, names)
	}
	var aliases []store.Alias
	for _, name := range slices.Sorted(maps.Keys(p.m.aliases)) {
		aliases = append(aliases, store.Alias{Name: name, Targets: p.m.aliases[name]})
	}
	p.wantAliases(aliases...)
	for _, local := range []string{"anna", "anna+x", "anna+y", "bob", "bob+", "carl+x+y", "postmaster", "abuse", "nobody", "*"} {
		got, err := p.s.Resolve(p.ctx, address(local+"@"+Domain))
		want, ok := p.m.resolve(local)
		if !ok {
			p.want(err, store.ErrNotFound)
			continue
		}
		if err != nil || !slices.Equal(got.Local, want.Local) || got.CatchAll != want.CatchAll || !slices.Equal(got.Remote, []mailaddr.Address(nil)) {
			p.t.Errorf("%s leads to %+v (%v), want %+v", local, got, err, want)
		}
	}
	for _, id := range p.m.removed {
		_, err := p.s.Account(p.ctx, id)
		p.want(err, store.ErrNotFound)
	}
}

func (p *player) compareMaildrop(a *modelAccount) {
	usage, err := p.s.Usage(p.ctx, a.ID)
	p.must(err)
	if usage != a.usage() {
		p.t.Errorf("%s uses %+v, want %+v", a.Name, usage, a.usage())
	}
	if a.Suspended {
		_, err := p.s.OpenMaildrop(p.ctx, a.ID)
		p.want(err, store.ErrSuspended)
		return
	}
	md := p.maildrop(a.ID)
	p.compareSnapshot(&snapshot{Maildrop: md, account: a.ID, copies: a.copies, settled: true})
	p.must(md.Close())
}

func (p *player) compareSnapshot(s *snapshot) {
	got := p.messages(s)
	for i := range got { // what was fetched before it was listed may be marked
		if !s.settled && i < len(s.copies) && p.m.fetched[got[i].ID] {
			s.copies[i].Fetched = s.copies[i].Fetched || got[i].Fetched
		}
	}
	s.settled = true
	if !slices.EqualFunc(got, s.copies, func(m store.Message, c modelCopy) bool { return sameMessage(m, c.Message) }) {
		p.t.Errorf("account %d lists %+v, want %+v", s.account, got, s.copies)
	}
	for _, c := range s.copies {
		if text := p.read(s, c.ID); text != c.text {
			p.t.Errorf("copy %d reads %q, want %q", c.ID, text, c.text)
		}
		r, err := s.OpenHeader(p.ctx, c.ID)
		p.must(err)
		if header := p.readAll(r); header != c.text[:c.HeaderLen] {
			p.t.Errorf("the header of copy %d reads %q, want the first %d octets of %q", c.ID, header, c.HeaderLen, c.text)
		}
	}
}

func (p *player) compareQueue() {
	got, _, err := p.s.ListJobs(p.ctx, store.QueueFilter{}, 0, 1000)
	p.must(err)
	if ids := slices.Sorted(maps.Keys(p.m.jobs)); !slices.Equal(jobIDs(got), ids) {
		p.t.Fatalf("the queue holds jobs %v, want %v", jobIDs(got), ids)
	}
	for _, j := range got {
		want := p.m.jobs[j.ID]
		p.checkJob(j, want, 0)
		body, err := p.s.OpenJob(p.ctx, j.ID)
		p.must(err)
		if text := p.readAll(body); text != want.text {
			p.t.Errorf("job %d yields %q, want %q", j.ID, text, want.text)
		}
	}
	p.wantDestinations(p.m.now, p.m.destinations()...)
}
