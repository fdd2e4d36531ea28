package main

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/internal/refusal"
	"latchkey/store"
	"latchkey/store/memstore"
)

// year is a domain's life in an hour of nobody's time: the decisions of guard as the doors ask for them, on a false clock, with owners, their
// devices and attackers who all act by the same dice. There is no network and no hashing: a password is right or wrong.
type year struct {
	t    testing.TB
	dice *rand.Rand
	now  time.Time

	store   *memstore.Store
	logins  *guard.Logins
	grants  *guard.Grants
	sending *guard.Sending
	conduct *guard.Conduct
	limits  store.Settings
	// slow are when the looks at passwords end that wait, by mailbox, and wait is how long the last answer was kept back.
	slow map[string][]time.Time
	wait time.Duration

	boxes  []*yearBox
	byName map[string]*yearBox
	agenda agenda
	// met is what owners met, but for those in an office under siege: see besieger.
	met   encounters
	siege struct {
		at       netip.Addr
		from, to time.Time
		met      encounters
	}
	sent  int
	wrong int // logins of owners with a password that is wrong
}

// encounters are what owners did who were in the right, and what of it was refused, by the refusal.
type encounters struct {
	tried   int
	refused map[refusal.Name]int
}

// of is how many were refused, and how many put on hold.
func (e encounters) of() (refused, held int) {
	for name, n := range e.refused {
		if name == heldName {
			held += n
		} else {
			refused += n
		}
	}
	return refused, held
}

// yearBox is a mailbox and its owner.
type yearBox struct {
	id                 store.AccountID
	name               string
	password, previous string
	version            uint64
	changed            time.Time
	met                int
	// held is when mail was first put on hold, since the last time that somebody looked after it.
	held   time.Time
	robbed bool // somebody else has the password
}

// actor does something and says how long it is until it does the next thing; 0 is never.
type actor interface {
	act(y *year) (next time.Duration)
}

// agenda is who does something when, the next one first.
type agenda []appointment

type appointment struct {
	at  time.Time
	who actor
}

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }

// Push and Pop are for package heap.
func (a *agenda) Push(x any) { *a = append(*a, x.(appointment)) }
func (a *agenda) Pop() any {
	old := *a
	last := old[len(old)-1]
	*a = old[:len(old)-1]
	return last
}

// newYearsDay is when it begins.
func newYearsDay() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

// newYear has the mailboxes and nobody else.
func newYear(t testing.TB, seed uint64, mailboxes int) *year {
	t.Helper()
	y := &year{
		t: t, dice: rand.New(rand.NewPCG(seed, 2026)), now: newYearsDay(), //nolint:gosec // it has to come again
		store: memstore.New("example.com"), logins: guard.NewLogins(guard.LoginLimits{}), byName: map[string]*yearBox{}, met: encounters{refused: map[refusal.Name]int{}},
		slow: map[string][]time.Time{},
	}
	clock := func() time.Time { return y.now }
	settings, err := y.store.Settings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	y.limits = settings
	y.siege.met.refused = map[refusal.Name]int{}
	kept := &yearGrants{of: map[store.AccountID][]store.Grant{}}
	for i := range mailboxes {
		b := &yearBox{id: store.AccountID(i + 1), name: fmt.Sprintf("m%d", i), password: fmt.Sprintf("m%d/0", i), version: 1}
		y.boxes, y.byName[b.name] = append(y.boxes, b), b
		if made, err := y.store.AddAccount(t.Context(), store.Account{Name: b.name}); err != nil || made.ID != b.id {
			t.Fatalf("account %d: %+v, %v", b.id, made, err)
		}
	}
	nobody := func() ([]netip.Addr, error) { return nil, nil }
	y.sending = guard.NewSending(y.store, clock)
	y.conduct = guard.NewConduct(guard.ConductOptions{Store: yearStore{y.store, (*yearAccounts)(y)}, Now: clock})
	y.grants = guard.NewGrants(guard.GrantOptions{
		Conduct: y.conduct, Grants: kept, Accounts: (*yearAccounts)(y), Settings: y.store, Now: clock, Hosts: guard.NewHosts(guard.HostsOptions{
			Interfaces: nobody, Gateways: nobody, Now: clock,
		}),
	})
	return y
}

// join puts somebody on the agenda, at some moment of the time that lies between two of his acts.
func (y *year) join(who actor, within time.Duration) {
	heap.Push(&y.agenda, appointment{y.now.Add(time.Duration(y.dice.Int64N(int64(within)))), who})
}

// joinAt puts somebody on the agenda at a time.
func (y *year) joinAt(who actor, at time.Time) { heap.Push(&y.agenda, appointment{at, who}) }

// live lets everybody act until the time is over.
func (y *year) live(d time.Duration) {
	end := y.now.Add(d)
	for len(y.agenda) > 0 && y.agenda[0].at.Before(end) {
		next := &y.agenda[0]
		y.now = next.at
		if wait := next.who.act(y); wait > 0 {
			next.at = y.now.Add(wait)
			heap.Fix(&y.agenda, 0)
		} else {
			heap.Pop(&y.agenda)
		}
	}
	y.now = end
}

// about is a time that is d on average, and never regular.
func (y *year) about(d time.Duration) time.Duration {
	return d/2 + time.Duration(y.dice.Int64N(int64(d)))
}

// answer is what became of a login.
type answer int

const (
	isIn answer = iota
	isWrong
	isTurnedAway
)

// login is what auth does with a password, whatever the door.
func (y *year) login(remote netip.Addr, name, password string) answer {
	b := y.byName[name]
	var version uint64
	if b != nil {
		version = b.version
	}
	y.wait = 0
	switch y.logins.Check(y.now, remote, name, version, password) {
	case guard.Stale:
		return isWrong
	case guard.Throttled, guard.Banned:
		return isTurnedAway
	case guard.Slow:
		if !y.waitSlow(name) {
			return isTurnedAway
		}
	case guard.Proceed:
	}
	if b != nil && password == b.password {
		y.logins.Succeeded(y.now, remote, name)
		return isIn
	}
	if b != nil && password == b.previous {
		y.logins.Outdated(y.now, remote, name, version, password)
		return isWrong
	}
	if y.logins.Failed(y.now, remote, name, version, password) {
		y.grants.Guessed(context.Background(), remote, name)
		y.wait = y.logins.Delay(y.now, remote, name)
	}
	return isWrong
}

// waitSlow is guard.Logins.WaitSlow without the wait: it is false where too many wait already.
func (y *year) waitSlow(name string) bool {
	waiting := slices.DeleteFunc(y.slow[name], func(end time.Time) bool { return !y.now.Before(end) })
	if len(waiting) >= guard.MaxSlowPerMailbox {
		y.slow[name] = waiting
		return false
	}
	y.slow[name] = append(waiting, y.now.Add(guard.DefaultLoginLimits().Slow))
	return true
}

// fetch is a POP3 session.
func (y *year) fetch(remote netip.Addr, name, password string) answer {
	a := y.login(remote, name, password)
	if a == isIn {
		b := y.byName[name]
		y.grants.LoggedIn(context.Background(), guard.Place{Remote: remote}, b.id, name, b.version, 0)
	}
	return a
}

// yearFate is what became of a message.
type yearFate int

const (
	wentOut yearFate = iota
	onHold
	overBudget
	noGrant
	grantSpent
)

// submit sends as a mailbox that has proved itself: budgets, then what is thought of it.
func (y *year) submit(remote netip.Addr, b *yearBox, to []mailaddr.Address) yearFate {
	ctx, n := context.Background(), int64(len(to))
	for _, budget := range []guard.Budget{
		guard.MailboxHour(b.id, y.limits.HourlyRecipients), guard.MailboxDay(b.id, y.limits.DailyRecipients),
		guard.DomainHour(y.limits.DomainHourlyRecipients), guard.DomainDay(y.limits.DomainDailyRecipients),
	} {
		ok, _, err := y.sending.Take(ctx, budget, n)
		if err != nil {
			y.t.Fatal(err)
		}
		if !ok {
			return overBudget
		}
	}
	opinion, err := y.conduct.Judge(ctx, guard.Outgoing{Account: b.id, Remote: remote, Recipients: to, NewRecipients: y.limits.NewRecipients})
	if err != nil {
		y.t.Fatal(err)
	}
	opinion.Took(ctx)
	if opinion.Hold == "" {
		return wentOut
	}
	if b.held.IsZero() {
		b.held = y.now
	}
	return onHold
}

// byGrant sends without AUTH, as a mailbox.
func (y *year) byGrant(remote netip.Addr, b *yearBox, to []mailaddr.Address) yearFate {
	live, err := y.grants.Live(context.Background(), guard.Place{Remote: remote}, []store.AccountID{b.id})
	if err != nil {
		y.t.Fatal(err)
	}
	for _, g := range live {
		ok, err := y.grants.Spend(context.Background(), g.ID, len(to))
		if err != nil {
			y.t.Fatal(err)
		}
		if ok {
			return y.submit(remote, b, to)
		}
	}
	if len(live) > 0 {
		return grantSpent
	}
	return noGrant
}

// address is somebody outside.
func (y *year) address(local, domain string) mailaddr.Address {
	a, err := mailaddr.New(local, domain+".example")
	if err != nil {
		y.t.Fatal(err)
	}
	return a
}

// yearStore has the accounts of the year.
type yearStore struct {
	*memstore.Store
	accounts *yearAccounts
}

func (s yearStore) Account(ctx context.Context, id store.AccountID) (store.Account, error) {
	return s.accounts.Account(ctx, id)
}

// yearAccounts is who there is.
type yearAccounts year

func (a *yearAccounts) Account(_ context.Context, id store.AccountID) (store.Account, error) {
	if id < 1 || int(id) > len(a.boxes) {
		return store.Account{}, store.ErrNotFound
	}
	b := a.boxes[id-1]
	return store.Account{ID: id, Name: b.name, CredentialVersion: b.version, Created: newYearsDay()}, nil
}

func (a *yearAccounts) AccountByName(ctx context.Context, name string) (store.Account, error) {
	b := a.byName[name]
	if b == nil {
		return store.Account{}, store.ErrNotFound
	}
	return a.Account(ctx, b.id)
}

// yearGrants keeps grants as long as they live, by mailbox: a store in memory looks at all that there were, for each login. A grant's number
// names its mailbox.
type yearGrants struct {
	of   map[store.AccountID][]store.Grant
	last store.GrantID
}

const grantShift = 32

// live forgets what is over and returns the rest.
func (g *yearGrants) live(now time.Time, account store.AccountID) []store.Grant {
	g.of[account] = slices.DeleteFunc(g.of[account], func(one store.Grant) bool { return !one.Live(now) })
	return g.of[account]
}

// find returns nil if there is none.
func (g *yearGrants) find(id store.GrantID) *store.Grant {
	list := g.of[store.AccountID(id>>grantShift)]
	if i := slices.IndexFunc(list, func(one store.Grant) bool { return one.ID == id }); i >= 0 {
		return &list[i]
	}
	return nil
}

func (g *yearGrants) OpenGrant(_ context.Context, now time.Time, r store.GrantRequest) (store.Grant, error) {
	others := 0
	list := g.live(now, r.Account)
	for i := range list {
		one := &list[i]
		if one.Network == r.Network && one.CredentialVersion == r.CredentialVersion {
			one.LastLogin, one.Expires = now, r.Expires(now, one.Created)
			return *one, nil
		}
		if one.CredentialVersion == r.CredentialVersion {
			others++
		}
	}
	if others >= r.MostLive {
		return store.Grant{}, store.ErrBound
	}
	g.last++
	made := store.Grant{
		ID: store.GrantID(r.Account)<<grantShift | g.last, Account: r.Account, Network: r.Network, CredentialVersion: r.CredentialVersion,
		Created: now, LastLogin: now, Expires: r.Expires(now, now), Recipients: r.Recipients, Left: r.Recipients,
	}
	g.of[r.Account] = append(list, made)
	return made, nil
}

func (g *yearGrants) Grant(_ context.Context, id store.GrantID) (store.Grant, error) {
	if one := g.find(id); one != nil {
		return *one, nil
	}
	return store.Grant{}, store.ErrNotFound
}

func (g *yearGrants) SpendGrant(_ context.Context, now time.Time, id store.GrantID, n int) (bool, error) {
	one := g.find(id)
	if one == nil || !one.Live(now) || one.Left < n {
		return false, nil
	}
	one.Left -= n
	return true, nil
}

func (g *yearGrants) RefundGrant(_ context.Context, id store.GrantID, n int) error {
	if one := g.find(id); one != nil {
		one.Left = min(one.Left+n, one.Recipients)
	}
	return nil
}

func (g *yearGrants) ListGrants(_ context.Context, f store.GrantFilter, after store.GrantID, limit int) (list []store.Grant, err error) {
	for account, grants := range g.of {
		if f.Account != 0 && account != f.Account {
			continue
		}
		for _, one := range grants {
			if one.ID > after && f.Matches(one) {
				list = append(list, one)
			}
		}
	}
	slices.SortFunc(list, func(a, b store.Grant) int { return cmp.Compare(a.ID, b.ID) })
	return list[:min(len(list), limit)], nil
}

func (g *yearGrants) RevokeGrants(_ context.Context, now time.Time, _ store.GrantEnd, ids ...store.GrantID) (revoked []store.GrantID, err error) {
	for _, id := range ids {
		if one := g.find(id); one != nil && one.Live(now) {
			one.Expires = now
			revoked = append(revoked, id)
		}
	}
	return revoked, nil
}

func (g *yearGrants) RevokeAllGrants(_ context.Context, now time.Time, _ store.GrantEnd) (n int, err error) {
	for account := range g.of {
		n += len(g.live(now, account))
		g.of[account] = nil
	}
	return n, nil
}
