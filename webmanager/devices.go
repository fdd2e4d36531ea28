package webmanager

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey/auth"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// DeviceRules are what a device credential may do.
type DeviceRules struct {
	Name string `json:"name"`
	// Send and Fetch: SMTP, POP3.
	Send  bool `json:"send"`
	Fetch bool `json:"fetch"`
	// Networks are those from which it may be used, or single addresses; none is from anywhere.
	Networks []string `json:"networks"`
	// OwnDomain and Recipients say to whom it may send: to the mailbox's domain, to addresses, to whole domains (@example.com). Without any, to all.
	OwnDomain  bool     `json:"own_domain"`
	Recipients []string `json:"recipients"`
	// MessageSize bounds a message in octets, DailyRecipients the recipients of a day; 0 is no bound of its own.
	MessageSize     int64 `json:"message_size"`
	DailyRecipients int   `json:"daily_recipients"`
	// Expires is when it ends by itself; zero is never.
	Expires time.Time `json:"expires,omitzero"`
}

// Device is a device credential as the API shows it.
type Device struct {
	ID store.DeviceID `json:"id"`
	// Mailbox and Address are whose it is.
	Mailbox string           `json:"mailbox"`
	Address mailaddr.Address `json:"address"`
	DeviceRules
	// Expired is set when it has ended by itself.
	Expired bool `json:"expired"`
	// ClearSince is when its password was seen to cross the network in the clear; nothing for never.
	ClearSince time.Time `json:"clear_since,omitzero"`
	Created    time.Time `json:"created"`
	Version    uint64    `json:"version"`
}

// AddedDevice is a device that was added, with its password, which is shown this once.
type AddedDevice struct {
	Device
	Password string `json:"password"`
}

// DevicePage is a part of the listing; ask for what comes after the mailbox Next if it is not empty.
type DevicePage struct {
	Devices []Device `json:"devices"`
	Next    string   `json:"next,omitempty"`
}

// DeviceChange is the body that changes a device; what is nil stays. Its password stays in any case.
type DeviceChange struct {
	Name            *string    `json:"name,omitempty"`
	Send            *bool      `json:"send,omitempty"`
	Fetch           *bool      `json:"fetch,omitempty"`
	Networks        *[]string  `json:"networks,omitempty"`
	OwnDomain       *bool      `json:"own_domain,omitempty"`
	Recipients      *[]string  `json:"recipients,omitempty"`
	MessageSize     *int64     `json:"message_size,omitempty"`
	DailyRecipients *int       `json:"daily_recipients,omitempty"`
	Expires         *time.Time `json:"expires,omitempty"`
	// Version refuses the change if the device was changed since; 0 does not look.
	Version uint64 `json:"version,omitempty"`
}

func (a *API) viewDevice(d store.Device, owner store.Account, domain string) (Device, error) {
	address, err := mailaddr.New(owner.Name, domain)
	if err != nil {
		return Device{}, fmt.Errorf("address of account %d: %w", owner.ID, err)
	}
	v := Device{
		ID: d.ID, Mailbox: owner.Name, Address: address, Expired: d.Expired(a.now()), ClearSince: d.ClearSince, Created: d.Created, Version: d.Version,
		DeviceRules: DeviceRules{
			Name: d.Name, Send: d.Send, Fetch: d.Fetch, Networks: []string{}, OwnDomain: d.OwnDomain, Recipients: []string{},
			MessageSize: d.MessageSize, DailyRecipients: d.DailyRecipients, Expires: d.Expires,
		},
	}
	for _, n := range d.Networks {
		v.Networks = append(v.Networks, n.String())
	}
	for _, address := range d.Addresses {
		v.Recipients = append(v.Recipients, address.String())
	}
	for _, name := range d.Domains {
		v.Recipients = append(v.Recipients, "@"+name)
	}
	return v, nil
}

// listDevices lists the devices of one mailbox, or of all in order of name: limit then counts mailboxes.
func (a *API) listDevices(r *http.Request) (any, error) {
	limit, err := listLimit(r)
	if err != nil {
		return nil, err
	}
	ctx, query := r.Context(), r.URL.Query()
	settings, err := a.store.Settings(ctx)
	if err != nil {
		return nil, err
	}
	page := DevicePage{Devices: []Device{}}
	var accounts []store.Account
	if mailbox := query.Get("mailbox"); mailbox != "" {
		account, err := a.accountNamed(ctx, mailbox, settings.Domain)
		if err != nil {
			return nil, err
		}
		accounts = []store.Account{account}
	} else {
		if accounts, err = a.store.ListAccounts(ctx, query.Get("after"), limit); err != nil {
			return nil, err
		}
		if len(accounts) == limit {
			page.Next = accounts[limit-1].Name
		}
	}
	for _, account := range accounts {
		devices, err := a.store.ListDevices(ctx, account.ID)
		if err != nil {
			return nil, err
		}
		for _, d := range devices {
			v, err := a.viewDevice(d, account, settings.Domain)
			if err != nil {
				return nil, err
			}
			page.Devices = append(page.Devices, v)
		}
	}
	return page, nil
}

// usableFrom reports whether a device may be used from somewhere in a network.
func usableFrom(d store.Device, network netip.Prefix) bool {
	return len(d.Networks) == 0 || slices.ContainsFunc(d.Networks, network.Overlaps)
}

// pathDevice finds the device that the path names, by its name or its number.
func (a *API) pathDevice(r *http.Request) (store.Device, store.Account, string, error) {
	account, domain, err := a.pathAccount(r)
	if err != nil {
		return store.Device{}, account, domain, err
	}
	devices, err := a.store.ListDevices(r.Context(), account.ID)
	if err != nil {
		return store.Device{}, account, domain, err
	}
	text := r.PathValue("device")
	for _, matches := range []func(store.Device) bool{
		func(d store.Device) bool { return store.SameDeviceName(d.Name, text) },
		func(d store.Device) bool { return d.ID.String() == text },
	} {
		if i := slices.IndexFunc(devices, matches); i >= 0 {
			return devices[i], account, domain, nil
		}
	}
	return store.Device{}, account, domain, say("no_device", account.Name).refusal(CodeNotFound)
}

func (a *API) showDevice(r *http.Request) (any, error) {
	d, account, domain, err := a.pathDevice(r)
	if err != nil {
		return nil, err
	}
	return a.viewDevice(d, account, domain)
}

func (a *API) addDevice(r *http.Request) (any, error) {
	var body DeviceRules
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	account, domain, err := a.pathAccount(r)
	if err != nil {
		return nil, err
	}
	wanted := DeviceChange{
		Name: &body.Name, Send: &body.Send, Fetch: &body.Fetch, Networks: &body.Networks, OwnDomain: &body.OwnDomain, Recipients: &body.Recipients,
		MessageSize: &body.MessageSize, DailyRecipients: &body.DailyRecipients, Expires: &body.Expires,
	}
	d, err := wanted.apply(store.Device{Account: account.ID, Created: a.now()}, a.now())
	if err != nil {
		return nil, err
	}
	secret := auth.NewDeviceSecret()
	d.Verifier = secret.Verifier
	added, err := a.store.AddDevice(r.Context(), d)
	if err != nil {
		return nil, deviceRefusal(err, account.Name, d.Name)
	}
	if err := a.audit(r.Context(), "device.add", deviceObject(account, added), nil, added); err != nil {
		return nil, err
	}
	v, err := a.viewDevice(added, account, domain)
	return AddedDevice{Device: v, Password: secret.Password(added.ID)}, err
}

func (a *API) changeDevice(r *http.Request) (any, error) {
	var body DeviceChange
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	for range maxConflicts {
		before, account, domain, err := a.pathDevice(r)
		if err != nil {
			return nil, err
		}
		if body.Version != 0 && body.Version != before.Version {
			return nil, store.ErrConflict
		}
		wanted, err := body.apply(before, a.now())
		if err != nil {
			return nil, err
		}
		after, err := a.store.UpdateDevice(r.Context(), wanted)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err != nil {
			return nil, deviceRefusal(err, account.Name, wanted.Name)
		}
		if err := a.audit(r.Context(), "device.change", deviceObject(account, before), before, after); err != nil {
			return nil, err
		}
		return a.viewDevice(after, account, domain)
	}
	return nil, store.ErrConflict
}

func (a *API) revokeDevice(r *http.Request) (any, error) {
	d, account, _, err := a.pathDevice(r)
	if err != nil {
		return nil, err
	}
	return nil, a.revokeOne(r.Context(), account, d)
}

// revokeOne ends a device and the grants that it opened. The grants are void without it already: what ends them makes room for others, and shows.
func (a *API) revokeOne(ctx context.Context, account store.Account, d store.Device) error {
	if err := a.store.RemoveDevice(ctx, account.ID, d.ID); err != nil {
		return err
	}
	if err := a.audit(ctx, "device.revoke", deviceObject(account, d), d, nil); err != nil {
		return err
	}
	grants, err := a.store.ListGrants(ctx, store.GrantFilter{Account: account.ID, LiveAt: a.now()}, 0, store.MaxAccountGrants)
	if err != nil {
		return err
	}
	var ids []store.GrantID
	for _, g := range grants {
		if g.Device == d.ID {
			ids = append(ids, g.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err = a.store.RevokeGrants(ctx, a.now(), store.GrantRevoked, ids...)
	return err
}

// revokeDevices ends all devices of a mailbox, and returns how many it ended.
func (a *API) revokeDevices(ctx context.Context, account store.Account) (revoked int, err error) {
	devices, err := a.store.ListDevices(ctx, account.ID)
	if err != nil {
		return 0, err
	}
	for _, d := range devices {
		err := a.revokeOne(ctx, account, d)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return revoked, fmt.Errorf("device %s: %w", d.ID, err)
		}
		revoked++
	}
	return revoked, nil
}

func deviceObject(account store.Account, d store.Device) string {
	return account.Name + " device " + d.ID.String()
}

func deviceRefusal(err error, mailbox, name string) error {
	switch {
	case errors.Is(err, store.ErrExists):
		return say("device_exists", mailbox, strconv.Quote(name)).refusal(CodeExists)
	case errors.Is(err, store.ErrBound):
		return say("devices_many", mailbox, store.MaxDevices).refusal(CodeInvalid)
	}
	return err
}

// apply returns the device as it is to be, or every mistake.
func (c DeviceChange) apply(d store.Device, now time.Time) (store.Device, error) {
	d = d.Clone()
	var wrong []Field
	set(&d.Name, c.Name)
	set(&d.Send, c.Send)
	set(&d.Fetch, c.Fetch)
	set(&d.OwnDomain, c.OwnDomain)
	set(&d.MessageSize, c.MessageSize)
	set(&d.DailyRecipients, c.DailyRecipients)
	if d.Name == "" || len(d.Name) > store.MaxDeviceName || mailaddr.HasControl(d.Name) || strings.TrimSpace(d.Name) != d.Name {
		wrong = append(wrong, say("device_name", store.MaxDeviceName).of("name"))
	}
	if !d.Send && !d.Fetch {
		wrong = append(wrong, say("device_idle").of("send"))
	}
	if d.MessageSize < 0 {
		wrong = append(wrong, say("device_size").of("message_size"))
	}
	if d.DailyRecipients < 0 || d.DailyRecipients > store.MaxRecipientBudget {
		wrong = append(wrong, say("device_daily", store.MaxRecipientBudget).of("daily_recipients"))
	}
	if c.Expires != nil {
		if d.Expires = *c.Expires; !d.Expires.IsZero() && !d.Expires.After(now) {
			wrong = append(wrong, say("device_past").of("expires"))
		}
	}
	if c.Networks != nil {
		networks, mistakes := parseDeviceNetworks(*c.Networks)
		d.Networks, wrong = networks, append(wrong, mistakes...)
	}
	if c.Recipients != nil {
		wrong = append(wrong, applyRecipients(&d, *c.Recipients)...)
	}
	if len(wrong) > 0 {
		return store.Device{}, invalid(wrong...)
	}
	return d, nil
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

func parseDeviceNetworks(texts []string) (networks []netip.Prefix, wrong []Field) {
	if len(texts) > store.MaxDeviceNetworks {
		return nil, []Field{say("at_most", store.MaxDeviceNetworks).of("networks")}
	}
	for _, text := range texts {
		network, ok := parseNetwork(text)
		if !ok || network != network.Masked() || network.Addr().Is4In6() {
			wrong = append(wrong, say("network_form", fmt.Sprintf("%.50q", text)).of("networks"))
			continue
		}
		networks = append(networks, network)
	}
	slices.SortFunc(networks, netip.Prefix.Compare)
	return slices.Compact(networks), wrong
}

// applyRecipients reads addresses, and domains with an @ before them.
func applyRecipients(d *store.Device, texts []string) (wrong []Field) {
	if len(texts) > store.MaxDeviceRecipients {
		return []Field{say("at_most", store.MaxDeviceRecipients).of("recipients")}
	}
	d.Addresses, d.Domains = nil, nil
	for i, text := range texts {
		if name, whole := strings.CutPrefix(text, "@"); whole {
			canonical, err := mailaddr.CanonicalDomain(name)
			if err != nil {
				wrong = append(wrong, say("recipient_domain", i+1).of("recipients"))
			} else if !slices.Contains(d.Domains, canonical) {
				d.Domains = append(d.Domains, canonical)
			}
			continue
		}
		address, err := mailaddr.Parse(text)
		if err != nil {
			wrong = append(wrong, say("recipient_address", i+1).of("recipients"))
			continue
		}
		d.Addresses = append(d.Addresses, address)
	}
	return wrong
}
