package boltstore

import (
	"errors"
	"sync"
	"testing"

	"latchkey/internal/vfs"
	"latchkey/internal/vfs/vfstest"
	"latchkey/store"
)

// bounded gives account 1 a quota of octets.
func bounded(t *testing.T, s *Store, octets int64) {
	t.Helper()
	a, err := s.Account(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	a.Quota.Octets = octets
	if _, err := s.UpdateAccount(t.Context(), a); err != nil {
		t.Fatal(err)
	}
}

// wantRoom checks how many octets can be reserved in account 1.
func wantRoom(t *testing.T, s *Store, octets int64) {
	t.Helper()
	for n, want := range map[int64]error{octets: nil, octets + 1: store.ErrMaildropFull} {
		id, err := s.Reserve(t.Context(), 1, n)
		if s.Unreserve(id); !errors.Is(err, want) {
			t.Errorf("%d octets: error %v, want %v", n, err, want)
		}
	}
}

func wantUsage(t *testing.T, s *Store, octets int64) {
	t.Helper()
	one, err := s.Usage(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.DomainUsage(t.Context())
	if err != nil || one.Octets != octets || all.Octets != octets {
		t.Errorf("usage %+v, of the domain %+v (%v), want %d octets", one, all, err, octets)
	}
}

func submit(t *testing.T, s *Store, octets int, reserved ...store.ReservationID) error {
	t.Helper()
	d, err := s.NewDraft(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(make([]byte, octets)); err != nil {
		t.Fatal(err)
	}
	e := envelopeTo(1)
	e.Recipients[0].Prefix, e.HeaderLen, e.Reserved = nil, 0, reserved
	_, err = d.Commit(t.Context(), e)
	return err
}

// TestRoomFollowsTheDisk: what is being committed counts for Reserve from the decision on and for nobody else before it is durable; what is
// being deleted makes no room before that is durable.
func TestRoomFollowsTheDisk(t *testing.T) {
	f := vfstest.NewTrace(vfs.OS{})
	s, _ := fresh(t, Options{fs: f})
	bounded(t, s, 1000)
	held, err := s.Reserve(t.Context(), 1, 100)
	if err != nil {
		t.Fatal(err)
	}
	wantRoom(t, s, 900)
	gate := f.Hold(t, vfstest.Sync)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := submit(t, s, 600, held); err != nil { // more than declared
			t.Error(err)
		}
	})
	gate.Wait()
	s.holdings.mu.Lock()
	usage, domain, coming, reserved := s.holdings.usage[1], s.holdings.domain, s.holdings.coming, s.holdings.reserved.Domain()
	s.holdings.mu.Unlock()
	if usage.Octets != 600 || domain.Octets != 600 || coming.Octets != 600 || reserved != (store.Usage{}) {
		t.Errorf("on the way: %+v and %+v, %+v of it coming, %+v reserved; want 600 octets, and none reserved", usage, domain, coming, reserved)
	}
	if u, err := s.DomainUsage(t.Context()); err != nil || u != (store.Usage{}) {
		t.Errorf("usage of the domain %+v (%v) before anything is durable", u, err)
	}
	gate.Open()
	wg.Wait()
	wantUsage(t, s, 600)
	wantRoom(t, s, 400)

	m, err := s.OpenMaildrop(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	gate = f.Hold(t, vfstest.Sync)
	wg.Go(func() {
		if err := m.Expunge(t.Context(), ids(t, m), nil); err != nil {
			t.Error(err)
		}
	})
	gate.Wait()
	s.holdings.mu.Lock()
	usage = s.holdings.usage[1]
	s.holdings.mu.Unlock()
	if u, err := s.DomainUsage(t.Context()); err != nil || u.Octets != 600 || usage.Octets != 600 {
		t.Errorf("usage %+v, of the domain %+v (%v), before the deletion is durable", usage, u, err)
	}
	gate.Open()
	wg.Wait()
	wantUsage(t, s, 0)
	wantRoom(t, s, 1000)
}

// TestRoomOfOneGroup: messages that become durable together are looked at one after the other.
func TestRoomOfOneGroup(t *testing.T) {
	f := vfstest.NewTrace(vfs.OS{})
	s, _ := fresh(t, Options{fs: f})
	bounded(t, s, 1000)
	gate := f.Hold(t, vfstest.Sync)
	var wg sync.WaitGroup
	wg.Go(func() { deliver(t, s, 20, 2) })
	gate.Wait()
	const senders = 5
	results := make(chan error, senders)
	for range senders {
		wg.Go(func() { results <- submit(t, s, 300) })
	}
	waitUntil(t, "all wait", func() bool { return len(s.postings) == senders })
	gate.Open()
	wg.Wait()
	stored := 0
	for range senders {
		switch err := <-results; {
		case err == nil:
			stored++
		case !errors.Is(err, store.ErrMaildropFull):
			t.Error(err)
		}
	}
	if stored != 3 {
		t.Errorf("%d messages of 300 octets in 1000, want 3", stored)
	}
	if u, err := s.Usage(t.Context(), 1); err != nil || u.Octets != 900 {
		t.Errorf("usage %+v, %v, want 900 octets", u, err)
	}
	wantRoom(t, s, 100)
}

// TestRoomOfFailedCommit: a commit that the device has no room for leaves neither its charge nor its reservation.
func TestRoomOfFailedCommit(t *testing.T) {
	f, refuse := refusing()
	s, _ := fresh(t, Options{fs: f})
	bounded(t, s, 1000)
	if err := submit(t, s, 100); err != nil {
		t.Fatal(err)
	}
	held, err := s.Reserve(t.Context(), 1, 500)
	if err != nil {
		t.Fatal(err)
	}
	refuse()
	if err := submit(t, s, 500, held); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("on a full device: %v, want %v", err, store.ErrNoSpace)
	}
	wantUsage(t, s, 100)
	wantRoom(t, s, 900)
	problems, err := s.Check(t.Context())
	if err != nil || len(problems) > 0 {
		t.Errorf("Check: %v, %v", problems, err)
	}
}

// TestCheckFindsWrongSums: the sums in memory are held against the index.
func TestCheckFindsWrongSums(t *testing.T) {
	for name, spoil := range map[string]func(p *holdings){
		"domain":          func(p *holdings) { p.domain.Octets++ },
		"account":         func(p *holdings) { p.usage[1] = store.Usage{} },
		"both":            func(p *holdings) { p.add(1, store.Usage{Messages: 1}) },
		"never durable":   func(p *holdings) { p.coming.Octets++ },
		"unknown account": func(p *holdings) { p.usage[77] = store.Usage{Octets: 1} },
		"account swapped": func(p *holdings) { p.usage[1], p.usage[2] = p.usage[2], p.usage[1] },
		"accounts' shares": func(p *holdings) {
			p.usage[1], p.usage[2] = p.usage[1].Plus(store.Usage{Octets: 1}), p.usage[2].Minus(store.Usage{Octets: 1})
		},
	} {
		s, _ := fresh(t, Options{})
		if err := submit(t, s, 100); err != nil {
			t.Fatal(err)
		}
		spoil(&s.holdings)
		problems, err := s.Check(t.Context())
		if err != nil || len(problems) == 0 || problems[0].Kind != "counter off" {
			t.Errorf("%s: Check found %+v (%v), want a counter that is off", name, problems, err)
		}
	}
}

// TestTwoQuitsOfOneGroup: two sessions that delete the same copy in one group free its room once.
func TestTwoQuitsOfOneGroup(t *testing.T) {
	f := vfstest.NewTrace(vfs.OS{})
	s, _ := fresh(t, Options{fs: f})
	for range 2 {
		deliver(t, s, 1000, 1)
	}
	want, err := s.DomainUsage(t.Context())
	noError(t, err)
	want.Octets, want.Messages = want.Octets/2+1000, 2 // one of the two, and the one below
	drops := []store.Maildrop{openDrop(t, s, 1), openDrop(t, s, 1)}
	gate := f.Hold(t, vfstest.Sync)
	var verbs sync.WaitGroup
	verbs.Go(func() {
		if _, err := commitTo(t, s, 1000, 1); err != nil {
			t.Error(err)
		}
	})
	gate.Wait()
	for _, m := range drops {
		verbs.Go(func() {
			if err := m.Expunge(t.Context(), ids(t, m)[:1], nil); err != nil {
				t.Error(err)
			}
		})
	}
	waitUntil(t, "both wait for the next group", func() bool { return len(s.postings) == len(drops) })
	gate.Open()
	verbs.Wait()
	for _, settled := range []string{"in the tail", "in the index"} {
		domain, err := s.DomainUsage(t.Context())
		noError(t, err)
		mailbox, err := s.Usage(t.Context(), 1)
		noError(t, err)
		if domain != want || mailbox != want {
			t.Errorf("%s: the domain has %+v, the mailbox %+v, want %+v", settled, domain, mailbox, want)
		}
		noError(t, s.settle(t.Context(), true))
	}
	mustBeSound(t, s)
}
