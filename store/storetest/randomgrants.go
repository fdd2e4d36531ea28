package storetest

import (
	"slices"
	"time"

	"pgregory.net/rapid"

	"latchkey/store"
)

// modelNetworks are those that grants are for.
var modelNetworks = []string{"192.0.2.1/32", "192.0.2.2/32", "2001:db8::/64", "2001:db8::1/128"}

// modelMostLive is small, so that it is reached.
const modelMostLive = 2

func (p *player) openGrant(rt *rapid.T) {
	a := p.anyAccount(rt)
	r := grantFor(a.Account, draw(rt, "network", modelNetworks))
	r.CredentialVersion, r.MostLive, r.Recipients = a.CredentialVersion, modelMostLive, number(rt, "recipients", 1, 5)
	r.Window, r.Longest = time.Duration(number(rt, "window", 1, 60))*time.Minute, 100*time.Minute
	got, err := p.s.OpenGrant(p.ctx, p.m.now, r)
	same, live := -1, 0
	for i, g := range p.m.grants {
		switch good := p.m.live(g) && g.CredentialVersion == r.CredentialVersion; {
		case g.Account != r.Account:
		case g.Network == r.Network:
			same = i
		case good:
			live++
		}
	}
	if same >= 0 && p.m.live(p.m.grants[same]) && p.m.grants[same].CredentialVersion == r.CredentialVersion {
		p.must(err)
		g := &p.m.grants[same]
		g.LastLogin, g.Expires = p.m.now, p.m.now.Add(r.Window)
		if end := g.Created.Add(r.Longest); end.Before(g.Expires) {
			g.Expires = end
		}
		if inUTC(got) != *g {
			rt.Errorf("renewed %+v, want %+v", got, *g)
		}
		return
	}
	if live >= modelMostLive {
		p.want(err, store.ErrBound)
		return
	}
	p.must(err)
	if want := newGrant(got.ID, p.m.now, r); inUTC(got) != want || got.ID <= p.m.lastGrant {
		rt.Errorf("opened %+v, want %+v with an id above %d", got, want, p.m.lastGrant)
	}
	p.m.lastGrant = got.ID
	if same >= 0 {
		p.m.grants = slices.Delete(p.m.grants, same, same+1)
	}
	p.m.grants = append(p.m.grants, inUTC(got))
}

// live reports whether a grant is good now by all that the store knows.
func (m *model) live(g store.Grant) bool { return g.End == "" && m.now.Before(g.Expires) }

// anyGrant draws a grant; there has to be one.
func (p *player) anyGrant(rt *rapid.T) *store.Grant {
	if len(p.m.grants) == 0 {
		rt.Skip("no grant")
	}
	return &p.m.grants[number(rt, "grant", 0, len(p.m.grants)-1)]
}

func (p *player) spendGrant(rt *rapid.T) {
	g, n := p.anyGrant(rt), number(rt, "recipients", 0, 3)
	if number(rt, "refund", 0, 2) == 0 {
		p.must(p.s.RefundGrant(p.ctx, g.ID, n))
		g.Left = min(g.Left+n, g.Recipients)
		return
	}
	ok, err := p.s.SpendGrant(p.ctx, p.m.now, g.ID, n)
	p.must(err)
	if want := p.m.live(*g) && g.Left >= n; ok != want {
		rt.Fatalf("spending %d of %+v is %t, want %t", n, *g, ok, want)
	}
	if ok {
		g.Left -= n
	}
}

func (p *player) revokeGrants(rt *rapid.T) {
	ids := []store.GrantID{p.anyGrant(rt).ID, p.m.lastGrant + 1}
	all := number(rt, "all", 0, 4) == 0
	var want []store.GrantID
	for i := range p.m.grants {
		if g := &p.m.grants[i]; p.m.live(*g) && (all || slices.Contains(ids, g.ID)) {
			g.End, g.Ended = store.GrantRevoked, p.m.now
			want = append(want, g.ID)
		}
	}
	if all {
		n, err := p.s.RevokeAllGrants(p.ctx, p.m.now, store.GrantRevoked)
		p.must(err)
		if n != len(want) {
			rt.Errorf("revoked %d, want %d", n, len(want))
		}
		return
	}
	got, err := p.s.RevokeGrants(p.ctx, p.m.now, store.GrantRevoked, ids...)
	p.must(err)
	if !slices.Equal(got, want) {
		rt.Errorf("revoked %v, want %v", got, want)
	}
}

func (p *player) compareGrants() {
	got, err := p.s.ListGrants(p.ctx, store.GrantFilter{}, 0, 1000)
	p.must(err)
	if !slices.EqualFunc(got, p.m.grants, func(a, b store.Grant) bool { return inUTC(a) == b }) {
		p.t.Errorf("grants %+v, want %+v", got, p.m.grants)
	}
}
