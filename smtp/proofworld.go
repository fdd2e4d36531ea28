package smtp

import (
	"context"
	"encoding/base64"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"time"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// What follows is the world of a relay proof: the domain's own store to ask, and nothing behind it that keeps anything.

// proofBox is a mailbox that exists in a proof only.
type proofBox struct {
	account store.Account
	address mailaddr.Address
}

// proofStore answers as the domain's store does, knows two more mailboxes, and keeps nothing: what would be committed is only looked at.
type proofStore struct {
	Store
	settings store.Settings
	// own is the mailbox that has grants and logs in, other one more; nobody is an address of the domain that no mailbox has.
	own, other proofBox
	nobody     mailaddr.Address
	grants     []store.Grant

	mu sync.Mutex // protects what follows
	// resolved is where the last address that was asked for leads, zero for nowhere.
	resolved  store.Route
	committed []store.Recipient
}

// newProofStore wraps a store; token makes names that nobody has.
func newProofStore(s Store, settings store.Settings, token string) *proofStore {
	box := func(kind string, id store.AccountID) proofBox {
		name := "relay-proof-" + kind + "-" + token
		address, _ := mailaddr.New(name, settings.Domain) // a short name of letters, digits and hyphens, at our own domain
		return proofBox{store.Account{ID: id, Name: name, CredentialVersion: 1}, address}
	}
	p := &proofStore{Store: s, settings: settings, own: box("own", ^store.AccountID(0)), other: box("other", ^store.AccountID(0)-1)}
	p.nobody = box("nobody", 0).address
	return p
}

// controlAddress is an address of the domain that takes mail: postmaster or abuse if they lead to a mailbox that is not suspended, else that
// of the proof.
func (p *proofStore) controlAddress(ctx context.Context) (string, error) {
	for _, role := range []string{"postmaster", "abuse"} {
		address, err := mailaddr.New(role, p.settings.Domain)
		if err != nil {
			return "", err
		}
		route, err := p.Store.Resolve(ctx, address)
		if errors.Is(err, store.ErrNotFound) || len(route.Remote) > 0 {
			continue
		}
		if err != nil {
			return "", err
		}
		for _, id := range route.Local {
			switch account, err := p.Store.Account(ctx, id); {
			case errors.Is(err, store.ErrNotFound): // removed meanwhile
			case err != nil:
				return "", err
			case !account.Suspended:
				return address.String(), nil
			}
		}
	}
	return p.own.address.String(), nil
}

// begin forgets what was seen.
func (p *proofStore) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resolved, p.committed = store.Route{}, nil
}

// seen says what became of mail since begin: local is set when the last address that was asked for leads to mailboxes of the domain and
// nowhere else, away when a message would have left.
func (p *proofStore) seen() (local, away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.committed {
		away = away || r.Account == 0
	}
	return len(p.resolved.Local) > 0 && len(p.resolved.Remote) == 0, away
}

// Settings are those with which the proof began.
func (p *proofStore) Settings(context.Context) (store.Settings, error) {
	return p.settings.Clone(), nil
}

// Account knows the mailboxes of the proof too.
func (p *proofStore) Account(ctx context.Context, id store.AccountID) (store.Account, error) {
	switch id {
	case p.own.account.ID:
		return p.own.account, nil
	case p.other.account.ID:
		return p.other.account, nil
	}
	return p.Store.Account(ctx, id)
}

// AccountByName is what grants want of accounts; nobody guesses at passwords here.
func (p *proofStore) AccountByName(context.Context, string) (store.Account, error) {
	return store.Account{}, store.ErrNotFound
}

// Resolve knows the mailboxes of the proof too, and remembers its answer.
func (p *proofStore) Resolve(ctx context.Context, addr mailaddr.Address) (route store.Route, err error) {
	switch addr {
	case p.own.address:
		route.Local = []store.AccountID{p.own.account.ID}
	case p.other.address:
		route.Local = []store.AccountID{p.other.account.ID}
	default:
		route, err = p.Store.Resolve(ctx, addr)
		// Where an address here sends its mail on to is its owner's choice, not the sender's: in a proof that stays in the house.
		if leadsOnly(route) {
			route.Local = []store.AccountID{p.own.account.ID}
		}
		route.Forwards, route.Away = nil, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resolved = route
	return route, err
}

// Reserve takes no room.
func (p *proofStore) Reserve(context.Context, store.AccountID, int64) (store.ReservationID, error) {
	return 0, nil
}

// Room has no end: a full device is no reason to shut doors.
func (p *proofStore) Room(context.Context) error { return nil }

// Unreserve has nothing to give back.
func (p *proofStore) Unreserve(...store.ReservationID) {}

// AddStat counts nothing.
func (p *proofStore) AddStat(context.Context, store.Day, string, int64) error { return nil }

// Take counts nothing.
func (p *proofStore) Take(context.Context, time.Time, string, int64, store.Limit) (store.Taken, error) {
	return store.Taken{OK: true}, nil
}

// ClaimHabit marks nobody as answered.
func (p *proofStore) ClaimHabit(context.Context, store.Habit, time.Duration) (bool, error) {
	return false, nil
}

// NewDraft returns a draft that keeps nothing.
func (p *proofStore) NewDraft(context.Context) (store.Draft, error) {
	return &proofDraft{store: p}, nil
}

// proofDraft counts octets and forgets them.
type proofDraft struct {
	store *proofStore
	size  int64
}

// Write implements io.Writer.
func (d *proofDraft) Write(b []byte) (int, error) {
	d.size += int64(len(b))
	return len(b), nil
}

// Size implements store.Draft.
func (d *proofDraft) Size() int64 { return d.size }

// Commit tells the proof who would have got the message.
func (d *proofDraft) Commit(_ context.Context, e store.Envelope) (store.Receipt, error) {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	d.store.committed = append(d.store.committed, e.Recipients...)
	receipt := store.Receipt{Message: 1}
	for i, r := range e.Recipients {
		if r.Account == 0 {
			receipt.Jobs = append(receipt.Jobs, store.JobID(i+1))
		} else {
			receipt.Copies = append(receipt.Copies, store.Copy{ID: store.CopyID(i + 1), Account: r.Account})
		}
	}
	return receipt, nil
}

// Abort implements store.Draft.
func (d *proofDraft) Abort() error { return nil }

// proofAuth knows one mailbox, that of the proof. No other password is right, and none is looked at.
type proofAuth struct {
	box      proofBox
	password string
}

// command is AUTH for the mailbox of the proof.
func (a proofAuth) command() string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+a.box.account.Name+"\x00"+a.password)) + "\r\n"
}

// Login implements Authenticator.
func (a proofAuth) Login(_ context.Context, _ auth.Attempt, username, password string) (auth.Identity, error) {
	if !strings.EqualFold(username, a.box.account.Name) || password != a.password {
		return auth.Identity{}, auth.ErrCredentials
	}
	return auth.Identity{
		Account: a.box.account.ID, Name: a.box.account.Name, Address: a.box.address, CredentialVersion: a.box.account.CredentialVersion,
	}, nil
}

// CleartextAllowed implements Authenticator: a connection in memory is as good as loopback.
func (proofAuth) CleartextAllowed(context.Context, netip.Addr) bool { return true }

// ArrivedInClear implements Authenticator: it never does.
func (proofAuth) ArrivedInClear(auth.Attempt, string, string) {}

// Current implements Authenticator.
func (proofAuth) Current(context.Context, auth.Identity) error { return nil }

// CurrentDevice implements Authenticator: the proof has no device.
func (proofAuth) CurrentDevice(context.Context, auth.Identity, netip.Addr) (store.Device, error) {
	return store.Device{}, store.ErrNotFound
}

// proofSending has no end: what it lets through, no budget of the domain's must have kept back.
type proofSending struct{}

// Take implements Sending.
func (proofSending) Take(context.Context, guard.Budget, int64) (bool, time.Duration, error) {
	return true, 0, nil
}

// Give implements Sending.
func (proofSending) Give(context.Context, guard.Budget, int64) error { return nil }

// proofDesk gives grants as they are; nobody logs in while a proof waits for that.
type proofDesk struct{ *guard.Grants }

// Await implements Grants.
func (proofDesk) Await(context.Context, guard.Place, store.AccountID, string, func() bool) (store.Grant, bool, error) {
	return store.Grant{}, false, nil
}

// proofSettings are the settings of a proof for those who want a whole store of them. Nobody changes them.
type proofSettings struct {
	store.SettingsStore
	store *proofStore
}

// Settings implements store.SettingsStore.
func (s proofSettings) Settings(ctx context.Context) (store.Settings, error) {
	return s.store.Settings(ctx)
}

// proofGrants are grants that do not change. Nobody opens or ends one in a proof.
type proofGrants struct {
	store.Grants
	list []store.Grant
}

// Grant implements store.Grants.
func (g proofGrants) Grant(_ context.Context, id store.GrantID) (store.Grant, error) {
	for _, grant := range g.list {
		if grant.ID == id {
			return grant, nil
		}
	}
	return store.Grant{}, store.ErrNotFound
}

// ListGrants implements store.Grants.
func (g proofGrants) ListGrants(_ context.Context, f store.GrantFilter, after store.GrantID, limit int) (list []store.Grant, err error) {
	for _, grant := range g.list {
		if grant.ID > after && len(list) < limit && f.Matches(grant) {
			list = append(list, grant)
		}
	}
	return list, nil
}

// SpendGrant implements store.Grants.
func (g proofGrants) SpendGrant(_ context.Context, now time.Time, id store.GrantID, _ int) (bool, error) {
	grant, err := g.Grant(context.Background(), id)
	return err == nil && grant.Live(now), nil
}

// RefundGrant implements store.Grants.
func (g proofGrants) RefundGrant(context.Context, store.GrantID, int) error { return nil }
