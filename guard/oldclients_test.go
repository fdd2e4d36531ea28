package guard

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"latchkey/store"
	"latchkey/store/memstore"
)

// TestOldClientsAllowed: the mailbox, all mailboxes, or the network; and nothing is remembered.
func TestOldClientsAllowed(t *testing.T) {
	st := memstore.New("example.com")
	ours, err := st.AddAccount(t.Context(), store.Account{Name: "anna"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := st.AddAccount(t.Context(), store.Account{Name: "bert", OldClientLogin: true})
	if err != nil {
		t.Fatal(err)
	}
	host, proxy := netip.MustParseAddr("192.0.2.10"), netip.MustParsePrefix("192.0.2.20/32")
	hosts := NewHosts(HostsOptions{
		Proxies: []netip.Prefix{proxy}, Interfaces: addrs(host.String()), Gateways: addrs(),
	})
	set := func(all bool, networks ...string) {
		t.Helper()
		s, err := st.Settings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.OldClientLogin, s.OldClientNetworks = all, nil
		for _, n := range networks {
			s.OldClientNetworks = append(s.OldClientNetworks, netip.MustParsePrefix(n))
		}
		if _, err := st.UpdateSettings(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name     string
		all      bool
		networks []string
		loopback bool
		remote   string
		account  store.AccountID
		want     bool
	}{
		{"nothing", false, nil, false, "198.51.100.1", ours.ID, false},
		{"the mailbox", false, nil, false, "198.51.100.1", other.ID, true},
		{"all", true, nil, false, "198.51.100.1", ours.ID, true},
		{"the network", false, []string{"203.0.113.0/24", "198.51.100.0/24"}, false, "198.51.100.1", ours.ID, true},
		{"the network, mapped", false, []string{"198.51.100.0/24"}, false, "::ffff:198.51.100.1", ours.ID, true},
		{"IPv6", false, []string{"2001:db8::/48"}, false, "2001:db8::1%eth0", ours.ID, true},
		{"another network", false, []string{"198.51.100.0/24"}, false, "198.51.101.1", ours.ID, false},
		{"a proxy in the network", false, []string{"192.0.2.0/24"}, false, "192.0.2.20", ours.ID, false},
		{"this host in the network", false, []string{"192.0.2.0/24"}, false, "192.0.2.10", ours.ID, false},
		{"loopback at an outer door", false, []string{"127.0.0.0/16"}, false, "127.0.0.1", ours.ID, false},
		{"loopback at an inner door", false, []string{"127.0.0.0/16"}, true, "127.0.0.1", ours.ID, true},
		{"a proxy, for a mailbox that may", false, []string{"192.0.2.0/24"}, false, "192.0.2.20", other.ID, true},
		{"no such mailbox", false, nil, false, "198.51.100.1", 4711, false},
	} {
		set(tt.all, tt.networks...)
		got, err := NewOldClients(st, hosts, tt.loopback).Allowed(t.Context(), netip.MustParseAddr(tt.remote), tt.account)
		if err != nil || got != tt.want {
			t.Errorf("%s: got %v, %v", tt.name, got, err)
		}
	}
	rule := NewOldClients(st, hosts, false)
	for _, on := range []bool{true, false, true} {
		set(on)
		if got, err := rule.Allowed(t.Context(), netip.MustParseAddr("198.51.100.1"), ours.ID); err != nil || got != on {
			t.Errorf("switched to %v: got %v, %v", on, got, err)
		}
	}
}

// failingStore cannot be asked.
type failingStore struct {
	OldClientStore
	settings, account error
}

func (f failingStore) Settings(ctx context.Context) (store.Settings, error) {
	if f.settings != nil {
		return store.Settings{OldClientLogin: true}, f.settings
	}
	return f.OldClientStore.Settings(ctx)
}

func (f failingStore) Account(ctx context.Context, id store.AccountID) (store.Account, error) {
	if f.account != nil {
		return store.Account{OldClientLogin: true}, f.account
	}
	return f.OldClientStore.Account(ctx, id)
}

// TestOldClientsFailClosed: what cannot be asked is an error, and no.
func TestOldClientsFailClosed(t *testing.T) {
	broken := errors.New("broken")
	hosts := NewHosts(HostsOptions{Interfaces: addrs(), Gateways: addrs()})
	for _, f := range []failingStore{{settings: broken}, {account: broken}} {
		f.OldClientStore = memstore.New("example.com")
		ok, err := NewOldClients(f, hosts, false).Allowed(t.Context(), netip.MustParseAddr("198.51.100.1"), 1)
		if ok || !errors.Is(err, broken) {
			t.Errorf("got %v, %v", ok, err)
		}
	}
}
