package storetest

import (
	"maps"
	"slices"

	"pgregory.net/rapid"

	"latchkey/store"
)

// modelRoom is one reservation.
type modelRoom struct {
	account store.AccountID
	octets  int64
}

// refusal says why an account cannot take a copy of so many octets beside what is reserved and what the same message added to the domain,
// nil if it can.
func (m *model) refusal(id store.AccountID, octets int64, added store.Usage) error {
	a := m.byID(id)
	switch {
	case a == nil:
		return store.ErrNotFound
	case a.Suspended:
		return store.ErrSuspended
	}
	mine, all := a.usage(), m.usage()
	for _, r := range m.reserved {
		all.Octets, all.Messages = all.Octets+r.octets, all.Messages+1
		if r.account == id {
			mine.Octets, mine.Messages = mine.Octets+r.octets, mine.Messages+1
		}
	}
	beyond := func(q store.Quota, u store.Usage) bool {
		return q.Octets > 0 && u.Octets+octets > q.Octets || q.Messages > 0 && u.Messages >= q.Messages
	}
	all.Octets, all.Messages = all.Octets+added.Octets, all.Messages+added.Messages
	switch {
	case beyond(a.Quota, mine):
		return store.ErrMaildropFull
	case beyond(m.quota, all):
		return store.ErrDomainFull
	}
	return nil
}

// usage is what all accounts hold.
func (m *model) usage() store.Usage {
	var all store.Usage
	for _, a := range m.accounts {
		u := a.usage()
		all.Octets, all.Messages = all.Octets+u.Octets, all.Messages+u.Messages
	}
	return all
}

func (m *model) unreserve(ids ...store.ReservationID) {
	for _, id := range ids {
		delete(m.reserved, id)
	}
}

func (p *player) setDomainQuota(rt *rapid.T) {
	p.m.quota = store.Quota{Octets: draw(rt, "octets", []int64{0, 600, 900}), Messages: draw(rt, "messages", []int64{0, 0, 6})}
	p.domainQuota(p.m.quota)
}

func (p *player) reserveSome(rt *rapid.T) {
	account, octets := p.m.lastAccount+1, int64(number(rt, "octets", 0, 300))
	if len(p.m.accounts) > 0 && number(rt, "known", 0, 9) > 0 {
		account = p.anyAccount(rt).ID
	}
	if len(p.m.reserved) >= 6 {
		rt.Skip("enough room is reserved")
	}
	id, err := p.s.Reserve(p.ctx, account, octets)
	if want := p.m.refusal(account, octets, store.Usage{}); want != nil {
		p.want(err, want)
		return
	}
	p.must(err)
	if _, held := p.m.reserved[id]; held || id == 0 {
		rt.Errorf("reservation %d is held already, or has no id", id)
	}
	p.m.reserved[id] = modelRoom{account, octets}
}

// someReserved draws reservations that are held, each once or twice.
func (p *player) someReserved(rt *rapid.T) []store.ReservationID {
	if len(p.m.reserved) == 0 || number(rt, "reserved", 0, 1) == 0 {
		return nil
	}
	// Ids are no part of what rapid may shrink by: places in their order are.
	ids := slices.Sorted(maps.Keys(p.m.reserved))
	var drawn []store.ReservationID
	for range number(rt, "reservations", 1, 2) {
		drawn = append(drawn, ids[number(rt, "reservation", 0, len(ids)-1)])
	}
	return drawn
}

func (p *player) unreserveSome(rt *rapid.T) {
	ids := p.someReserved(rt)
	p.s.Unreserve(ids...)
	p.m.unreserve(ids...)
}

func (p *player) compareDomainUsage() {
	got, err := p.s.DomainUsage(p.ctx)
	p.must(err)
	if want := p.m.usage(); got != want {
		p.t.Errorf("the domain uses %+v, want %+v", got, want)
	}
}
