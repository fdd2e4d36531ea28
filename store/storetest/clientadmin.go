package storetest

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"latchkey/store"
)

// mostAccounts bounds the accounts that are there at once.
const mostAccounts = 12

// addAccount adds an account, perhaps under the name of one that was removed.
func (c *client) addAccount() error {
	a := &accountFact{token: c.token(), suspended: newRegister(false), sealed: newRegister("")}
	a.name = a.token
	there := 0
	c.l.ask(func() {
		for _, token := range slices.Sorted(maps.Keys(c.l.accounts)) {
			old := c.l.accounts[token]
			if old.fate != departed {
				there++
			} else if c.rng.IntN(2) == 0 {
				a.name = old.name
			}
		}
	})
	if there >= mostAccounts {
		return nil
	}
	c.l.ask(func() { c.l.accounts[a.token] = a })
	fresh := store.Account{Name: a.name, DisplayName: a.token, OldClientLogin: c.rng.IntN(4) > 0}
	if c.rng.IntN(4) == 0 {
		fresh.Quota.Messages = 8
	}
	added, err := c.s.AddAccount(c.ctx, fresh)
	if errors.Is(err, store.ErrExists) { // another client was quicker with the same old name
		c.l.hear(func() { a.fate = departed })
		return nil
	}
	if err != nil {
		return fmt.Errorf("add account: %w", err)
	}
	c.l.hear(func() { a.id, a.version, a.fate = added.ID, added.Version, acked })
	return c.l.saw("account", digits(added.ID), a.token)
}

// suspend suspends an account, or ends its suspension. Each is one client's to suspend.
func (c *client) suspend() error {
	a := c.anyAccount()
	if a == nil || int(a.id)%c.peers != c.index {
		return nil
	}
	return c.setSuspended(a)
}

// setSuspended turns the suspension of an account on or off.
func (c *client) setSuspended(a *accountFact) error {
	is, err := c.s.Account(c.ctx, a.id)
	if errors.Is(err, store.ErrNotFound) { // removed meanwhile
		return nil
	}
	if err != nil {
		return err
	}
	is.Suspended = !is.Suspended
	c.l.ask(func() {
		a.suspended.ask(is.Suspended)
		a.unsteady = true
	})
	now, err := c.s.UpdateAccount(c.ctx, is)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("update account: %w", err)
	}
	c.l.hear(func() {
		a.version = now.Version
		a.suspended.told(is.Suspended)
	})
	return nil
}

// seal seals a password of an account. Each is one client's to seal. Where only the settings allow it, it may be cleared at any time: of those
// Check says whether one is left.
func (c *client) seal() error {
	a := c.anyAccount()
	if a == nil || int(a.id)%c.peers != c.index {
		return nil
	}
	is, err := c.s.Account(c.ctx, a.id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	sealed := c.token()
	c.l.ask(func() { a.sealed.ask(sealed) })
	err = c.s.SealPassword(c.ctx, a.id, is.CredentialVersion, store.Sealed(sealed))
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict) && !is.OldClientLogin { // removed or switched off meanwhile
		return nil
	}
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	c.l.hear(func() { a.sealed.told(sealed) })
	return nil
}

// beSeen notes a session of the client itself with two accounts.
func (c *client) beSeen() error {
	program := fmt.Sprint("client ", c.index)
	var seen []store.Client
	facts := make(map[string]*seenFact)
	for range 2 {
		a := c.anyAccount()
		if a == nil {
			return nil
		}
		key := a.token + " " + program
		if facts[key] != nil {
			continue
		}
		c.l.ask(func() {
			if c.l.seen[key] == nil {
				c.l.seen[key] = &seenFact{account: a.token}
			}
			facts[key] = c.l.seen[key]
			facts[key].most++
		})
		now := time.Now()
		seen = append(seen, store.Client{Account: a.id, Program: program, First: now, Last: now, Sessions: 1})
	}
	if err := c.s.NoteClients(c.ctx, seen); err != nil {
		return fmt.Errorf("note clients: %w", err)
	}
	c.l.hear(func() {
		for _, f := range facts {
			f.least++
		}
	})
	return nil
}

func (c *client) removeAccount() error {
	a := c.anyAccount()
	if a == nil {
		return nil
	}
	enough := false
	c.l.ask(func() {
		if enough = len(c.l.living()) > 3; enough && a.fate == acked {
			a.fate, a.unsteady = leaving, true
		}
	})
	if !enough {
		return nil
	}
	if err := c.s.RemoveAccount(c.ctx, a.id); err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("remove account: %w", err)
	}
	c.l.hear(func() { a.fate = departed })
	return nil
}

func (c *client) changeSettings() error {
	if c.index != 0 {
		return nil
	}
	s, err := c.s.Settings(c.ctx)
	if err != nil {
		return err
	}
	s.HelpURL = "https://help.example/" + c.token()
	s.OldClientLogin = c.rng.IntN(2) == 0
	c.l.ask(func() { c.l.settings.ask(s.HelpURL) })
	now, err := c.s.UpdateSettings(c.ctx, s)
	if err != nil {
		return fmt.Errorf("update settings: %w", err)
	}
	c.l.hear(func() {
		c.l.settings.told(s.HelpURL)
		c.l.version = now.Version
	})
	return nil
}

// changeSecret puts or removes a secret of the client's own.
func (c *client) changeSecret() error {
	name, value := fmt.Sprint("secret of client ", c.index), c.token()
	var r *register[string]
	c.l.ask(func() {
		if r = c.l.secrets[name]; r == nil {
			none := newRegister("")
			r = &none
			c.l.secrets[name] = r
		}
		if r.known() != "" && c.rng.IntN(3) == 0 {
			value = ""
		}
		r.ask(value)
	})
	var err error
	if value == "" {
		err = c.s.RemoveSecret(c.ctx, name)
	} else {
		err = c.s.PutSecret(c.ctx, name, []byte(value))
	}
	if value == "" && errors.Is(err, store.ErrNotFound) { // the last life ended before it was there
		err = nil
	}
	if err == nil {
		c.l.hear(func() { r.told(value) })
	}
	return err
}

func (c *client) audit() error {
	token := c.token()
	c.l.ask(func() { c.l.audit[token] = tried })
	err := c.s.AppendAudit(c.ctx, store.AuditEntry{Time: time.Now(), Actor: "a client", Action: "test", Object: token})
	if err == nil {
		c.l.hear(func() { c.l.audit[token] = acked })
	}
	return err
}

// logIn opens a grant for a network that had none, spends from it, and may end it.
func (c *client) logIn() error {
	a := c.anyAccount()
	if a == nil {
		return nil
	}
	n := 0
	c.l.ask(func() { c.l.networks++; n = c.l.networks })
	network := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 32)
	now := time.Now()
	g, err := c.s.OpenGrant(c.ctx, now, store.GrantRequest{
		Account: a.id, Network: network, CredentialVersion: 1, Window: time.Hour, Longest: time.Hour, Recipients: 50, MostLive: store.MaxAccountGrants,
	})
	if errors.Is(err, store.ErrNotFound) { // removed meanwhile
		return nil
	}
	if err != nil {
		return fmt.Errorf("open grant: %w", err)
	}
	c.l.hear(func() { c.l.grants[g.ID] = &grantFact{account: a.token} })
	if err := c.l.saw("grant", g.ID.String(), network.String()); err != nil {
		return err
	}
	if _, err := c.s.SpendGrant(c.ctx, now, g.ID, 1); err != nil {
		return fmt.Errorf("spend grant: %w", err)
	}
	if c.rng.IntN(2) == 0 {
		return nil
	}
	revoked, err := c.s.RevokeGrants(c.ctx, now, store.GrantRevoked, g.ID)
	if err != nil {
		return fmt.Errorf("revoke grant: %w", err)
	}
	c.l.hear(func() {
		for _, id := range revoked {
			c.l.grants[id].revoked = true
		}
	})
	return nil
}
