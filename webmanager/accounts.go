package webmanager

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"latchkey/auth"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// Bounds of a new password. MinPasswordChars is asked of what people choose; MaxPasswordLen is what a login takes.
const (
	MinPasswordChars = 8
	MaxPasswordLen   = auth.MaxPasswordLen
)

// Account is a mailbox as the API shows it.
type Account struct {
	ID          store.AccountID  `json:"id"`
	Name        string           `json:"name"`
	Address     mailaddr.Address `json:"address"`
	DisplayName string           `json:"display_name"`
	Suspended   bool             `json:"suspended"`
	// Owner is set when it may manage the whole domain.
	Owner  bool               `json:"owner"`
	Quota  store.Quota        `json:"quota"`
	Usage  store.Usage        `json:"usage"`
	SendAs []mailaddr.Address `json:"send_as"`
	// Forward is where its mail is sent on to; nothing for not at all.
	Forward store.Forward `json:"forward,omitzero"`
	// Vacation is what it answers while its owner is away.
	Vacation Vacation `json:"vacation,omitzero"`
	// ExpireDays is after how many days its messages are removed, fetched or not: nothing as the domain's, or -1 for never.
	ExpireDays int `json:"expire_days,omitempty"`
	// OldClientLogin lets the mailbox use the doors for old clients and challenge logins. PasswordKept is set when its password is kept, encrypted,
	// for these: from the next login with it, and as long as the mailbox or the domain has old-client login.
	OldClientLogin bool `json:"old_client_login"`
	PasswordKept   bool `json:"password_kept"`
	// POP3 is how the mailbox is shown to its client.
	POP3 store.POP3Options `json:"pop3"`
	// ClearSince is when its password was seen to cross the network in the clear; nothing for never.
	ClearSince time.Time `json:"clear_since,omitzero"`
	Created    time.Time `json:"created"`
	Version    uint64    `json:"version"`
}

// AccountPage is a part of the listing; ask for what comes after Next if it is not empty.
type AccountPage struct {
	Accounts []Account `json:"accounts"`
	Next     string    `json:"next,omitempty"`
}

// DomainUsage is what all mailboxes hold together, and how much they may.
type DomainUsage struct {
	Domain string      `json:"domain"`
	Quota  store.Quota `json:"quota"`
	Usage  store.Usage `json:"usage"`
}

// NewAccount is the body that adds a mailbox.
type NewAccount struct {
	// Name is a local part, or an address of this domain.
	Name        string `json:"name"`
	Password    string `json:"password"`
	DisplayName string `json:"display_name,omitempty"`
	// Owner lets it manage the domain; only the operator may say so.
	Owner bool `json:"owner,omitempty"`
}

// AccountChange is the body that changes a mailbox; what is nil stays.
type AccountChange struct {
	// Name renames it; its mail, password and aliases stay with it.
	Name        *string      `json:"name,omitempty"`
	DisplayName *string      `json:"display_name,omitempty"`
	Suspended   *bool        `json:"suspended,omitempty"`
	Quota       *store.Quota `json:"quota,omitempty"`
	SendAs      *[]string    `json:"send_as,omitempty"`
	// OldClientLogin switched off forgets the password that was kept, unless the domain has old-client login.
	OldClientLogin *bool       `json:"old_client_login,omitempty"`
	POP3           *POP3Change `json:"pop3,omitempty"`
	// Forward sends its mail on; without addresses it ends that.
	Forward *ForwardChange `json:"forward,omitempty"`
	// Vacation takes the place of what it answers as a whole.
	Vacation *Vacation `json:"vacation,omitempty"`
	// ExpireDays is after how many days its messages are removed: 0 as the domain's, 1 to store.MaxExpireDays, or -1 for never. Whatever removes
	// mail sooner than before needs Confirm.
	ExpireDays *int `json:"expire_days,omitempty"`
	// Confirm is the address of the mailbox, typed.
	Confirm string `json:"confirm,omitempty"`
	// Owner lets it manage the domain, or not; only the operator may say so.
	Owner *bool `json:"owner,omitempty"`
	// Version refuses the change if the mailbox was changed since; 0 does not look.
	Version uint64 `json:"version,omitempty"`
}

// ForwardChange is where mail is to be sent on to.
type ForwardChange struct {
	// To are addresses of other domains, at most store.MaxForwards.
	To []string `json:"to"`
	// Keep leaves a copy in the mailbox.
	Keep bool `json:"keep,omitempty"`
}

// apply returns the forward, or every mistake.
func (c ForwardChange) apply(domain string) (store.Forward, []Field) {
	addresses, wrong := parseAddresses("forward", c.To, store.MaxForwards)
	for i, address := range addresses {
		switch {
		case address.Domain() == domain:
			wrong = append(wrong, say("forward_inside", address).of("forward"))
		case address.IsLiteral():
			wrong = append(wrong, say("no_domain", address).of("forward"))
		case slices.Contains(addresses[:i], address):
			wrong = append(wrong, say("named_twice", address).of("forward"))
		}
	}
	if len(addresses) == 0 {
		return store.Forward{}, wrong
	}
	return store.Forward{To: addresses, Keep: c.Keep}, wrong
}

// Password is the body that sets a password.
type Password struct {
	Password string `json:"password"`
	// Devices revokes the device credentials of the mailbox too; otherwise they stay as they are.
	Devices bool `json:"devices,omitempty"`
	// Current is the present password, which whoever changes the password of his own mailbox has to know.
	Current string `json:"current,omitempty"`
}

// auditedAccount is what the audit log keeps of a mailbox: everything that a change can change, but no credential.
type auditedAccount struct {
	ID          store.AccountID    `json:"id"`
	Name        string             `json:"name"`
	DisplayName string             `json:"display_name,omitempty"`
	Suspended   bool               `json:"suspended"`
	Owner       bool               `json:"owner,omitempty"`
	Quota       store.Quota        `json:"quota"`
	SendAs      []mailaddr.Address `json:"send_as,omitempty"`
	Forward     store.Forward      `json:"forward,omitzero"`

	OldClientLogin bool              `json:"old_client_login,omitempty"`
	POP3           store.POP3Options `json:"pop3,omitzero"`
	Vacation       auditedVacation   `json:"vacation,omitzero"`
	ExpireDays     int               `json:"expire_days,omitempty"`
}

func audited(a store.Account) auditedAccount {
	return auditedAccount{
		ID: a.ID, Name: a.Name, DisplayName: a.DisplayName, Suspended: a.Suspended, Owner: a.Owner, Quota: a.Quota, SendAs: a.SendAs, Forward: a.Forward,
		OldClientLogin: a.OldClientLogin, POP3: a.POP3, Vacation: auditVacation(a.Vacation), ExpireDays: a.ExpireDays,
	}
}

func (a *API) view(ctx context.Context, account store.Account, domain string) (Account, error) {
	address, err := mailaddr.New(account.Name, domain)
	if err != nil {
		return Account{}, fmt.Errorf("address of account %d: %w", account.ID, err)
	}
	usage, err := a.store.Usage(ctx, account.ID)
	if err != nil {
		return Account{}, fmt.Errorf("usage of account %d: %w", account.ID, err)
	}
	sendAs := account.SendAs
	if sendAs == nil {
		sendAs = []mailaddr.Address{}
	}
	return Account{
		ID: account.ID, Name: account.Name, Address: address, DisplayName: account.DisplayName, Suspended: account.Suspended, Owner: account.Owner,
		Quota: account.Quota, Usage: usage, SendAs: sendAs, Forward: account.Forward, OldClientLogin: account.OldClientLogin, PasswordKept: account.Sealed != "",
		POP3: account.POP3, ClearSince: account.ClearSince, Created: account.Created, Version: account.Version,
		Vacation: vacationOf(account.Vacation), ExpireDays: account.ExpireDays,
	}, nil
}

func (a *API) listAccounts(r *http.Request) (any, error) {
	limit, err := listLimit(r)
	if err != nil {
		return nil, err
	}
	settings, err := a.store.Settings(r.Context())
	if err != nil {
		return nil, err
	}
	accounts, err := a.store.ListAccounts(r.Context(), r.URL.Query().Get("after"), limit)
	if err != nil {
		return nil, err
	}
	page := AccountPage{Accounts: make([]Account, 0, len(accounts))}
	for _, account := range accounts {
		v, err := a.view(r.Context(), account, settings.Domain)
		if errors.Is(err, store.ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		page.Accounts = append(page.Accounts, v)
	}
	if len(accounts) == limit {
		page.Next = accounts[limit-1].Name
	}
	return page, nil
}

func (a *API) showUsage(r *http.Request) (any, error) {
	settings, err := a.store.Settings(r.Context())
	if err != nil {
		return nil, err
	}
	usage, err := a.store.DomainUsage(r.Context())
	return DomainUsage{Domain: settings.Domain, Quota: settings.DomainQuota(), Usage: usage}, err
}

func (a *API) addAccount(r *http.Request) (any, error) {
	var body NewAccount
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	ctx := r.Context()
	if body.Owner && actorOf(ctx).Role < RoleOperator {
		return nil, notAllowedFields("owner")
	}
	settings, err := a.store.Settings(ctx)
	if err != nil {
		return nil, err
	}
	var wrong []Field
	name, mistake := localName(body.Name, settings.Domain)
	if !mistake.none() {
		wrong = append(wrong, mistake.of("name"))
	}
	if mistake := passwordMistake(body.Password); !mistake.none() {
		wrong = append(wrong, mistake.of("password"))
	}
	if mistake := displayNameMistake(body.DisplayName); !mistake.none() {
		wrong = append(wrong, mistake.of("display_name"))
	}
	if len(wrong) > 0 {
		return nil, invalid(wrong...)
	}
	if _, err := a.store.AccountByName(ctx, name); err == nil {
		return nil, taken(name) // before the costly hash; AddAccount looks again
	}
	verifier, err := a.hasher.Hash(ctx, body.Password)
	if err != nil {
		return nil, err
	}
	added, err := a.store.AddAccount(ctx, store.Account{Name: name, DisplayName: body.DisplayName, Verifier: verifier, Owner: body.Owner, Created: a.now()})
	if errors.Is(err, store.ErrExists) {
		return nil, taken(name)
	}
	if err != nil {
		return nil, err
	}
	if err := a.audit(ctx, "account.add", name, nil, audited(added)); err != nil {
		return nil, err
	}
	return a.view(ctx, added, settings.Domain)
}

func (a *API) showAccount(r *http.Request) (any, error) {
	account, domain, err := a.pathAccount(r)
	if err != nil {
		return nil, err
	}
	return a.view(r.Context(), account, domain)
}

func (a *API) changeAccount(r *http.Request) (any, error) {
	var body AccountChange
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if err := body.allowed(actorOf(r.Context())); err != nil {
		return nil, err
	}
	for range maxConflicts {
		before, domain, err := a.pathAccount(r)
		if err != nil {
			return nil, err
		}
		if body.Version != 0 && body.Version != before.Version {
			return nil, store.ErrConflict
		}
		wanted, err := body.apply(before, domain)
		if err != nil {
			return nil, err
		}
		if err := a.confirmedSooner(r.Context(), before, wanted, domain, body.Confirm); err != nil {
			return nil, err
		}
		after, err := a.store.UpdateAccount(r.Context(), wanted)
		switch {
		case errors.Is(err, store.ErrConflict):
			continue
		case errors.Is(err, store.ErrExists):
			return nil, taken(wanted.Name)
		case err != nil:
			return nil, err
		}
		if err := a.audit(r.Context(), body.action(), before.Name, audited(before), audited(after)); err != nil {
			return nil, err
		}
		return a.view(r.Context(), after, domain)
	}
	return nil, store.ErrConflict
}

// allowed refuses the fields that are not the actor's to change. The owner of a mailbox changes what it shows, what it answers and where its mail goes;
// its name, what it may hold and how long, whom it sends as, and whether its password is kept for old clients are the domain's.
func (c AccountChange) allowed(actor Actor) error {
	var names []string
	add := func(given bool, least Role, name string) {
		if given && actor.Role < least {
			names = append(names, name)
		}
	}
	add(c.Name != nil, RoleOwner, "name")
	add(c.Suspended != nil, RoleOwner, "suspended")
	add(c.Quota != nil, RoleOwner, "quota")
	add(c.SendAs != nil, RoleOwner, "send_as")
	add(c.OldClientLogin != nil, RoleOwner, "old_client_login")
	add(c.ExpireDays != nil, RoleOwner, "expire_days")
	add(c.Owner != nil, RoleOperator, "owner")
	if len(names) > 0 {
		return notAllowedFields(names...)
	}
	return nil
}

// notAllowedFields is notAllowed for some fields of a body.
func notAllowedFields(names ...string) *Error {
	refusal := notAllowed()
	for _, name := range names {
		refusal.Fields = append(refusal.Fields, say("not_yours").of(name))
	}
	return refusal
}

// action is the word for the audit log.
func (c AccountChange) action() string {
	only := c.Name == nil && c.DisplayName == nil && c.Quota == nil && c.SendAs == nil && c.OldClientLogin == nil && c.POP3 == nil && c.Forward == nil &&
		c.Owner == nil && c.Vacation == nil && c.ExpireDays == nil
	switch {
	case only && c.Suspended != nil && *c.Suspended:
		return "account.suspend"
	case only && c.Suspended != nil:
		return "account.resume"
	default:
		return "account.change"
	}
}

// apply returns the account as it is to be, or every mistake.
func (c AccountChange) apply(account store.Account, domain string) (store.Account, error) {
	var wrong []Field
	if c.Name != nil {
		name, mistake := localName(*c.Name, domain)
		if !mistake.none() {
			wrong = append(wrong, mistake.of("name"))
		}
		account.Name = name
	}
	if c.DisplayName != nil {
		if mistake := displayNameMistake(*c.DisplayName); !mistake.none() {
			wrong = append(wrong, mistake.of("display_name"))
		}
		account.DisplayName = *c.DisplayName
	}
	set(&account.Suspended, c.Suspended)
	if c.Quota != nil {
		if c.Quota.Octets < 0 || c.Quota.Messages < 0 {
			wrong = append(wrong, Field{Field: "quota", Message: "is 0 (no bound) or more"})
		}
		account.Quota = *c.Quota
	}
	if c.SendAs != nil {
		addresses, mistakes := parseAddresses("send_as", *c.SendAs, store.MaxSendAs)
		wrong = append(wrong, mistakes...)
		account.SendAs = addresses
	}
	set(&account.OldClientLogin, c.OldClientLogin)
	set(&account.Owner, c.Owner)
	if c.POP3 != nil {
		wrong = append(wrong, c.POP3.apply(&account.POP3)...)
	}
	if c.Forward != nil {
		forward, mistakes := c.Forward.apply(domain)
		wrong = append(wrong, mistakes...)
		account.Forward = forward
	}
	if c.Vacation != nil {
		vacation, mistakes := c.Vacation.apply()
		wrong = append(wrong, mistakes...)
		account.Vacation = vacation
	}
	if c.ExpireDays != nil {
		if mistake := expireMistake(*c.ExpireDays); !mistake.none() {
			wrong = append(wrong, mistake.of("expire_days"))
		}
		account.ExpireDays = *c.ExpireDays
	}
	if len(wrong) > 0 {
		return store.Account{}, invalid(wrong...)
	}
	return account, nil
}

func (a *API) setPassword(r *http.Request) (any, error) {
	var body Password
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if mistake := passwordMistake(body.Password); !mistake.none() {
		return nil, invalid(mistake.of("password"))
	}
	account, _, err := a.pathAccount(r)
	if err != nil {
		return nil, err
	}
	if err := a.proveOwn(r.Context(), account, body.Current); err != nil {
		return nil, err
	}
	if err := a.newPassword(r.Context(), account.ID, body.Password); err != nil {
		return nil, err
	}
	if err := a.audit(r.Context(), "account.password", account.Name, nil, nil); err != nil || !body.Devices {
		return nil, err
	}
	_, err = a.revokeDevices(r.Context(), account)
	return nil, err
}

// newPassword changes the password of a mailbox, whatever else is changed of it meanwhile.
func (a *API) newPassword(ctx context.Context, id store.AccountID, password string) error {
	verifier, err := a.hasher.Hash(ctx, password)
	if err != nil {
		return err
	}
	for range maxConflicts {
		account, err := a.store.Account(ctx, id)
		if err != nil {
			return err
		}
		account.Verifier = verifier
		if _, err = a.store.UpdateAccount(ctx, account); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return store.ErrConflict
}

func (a *API) removeAccount(r *http.Request) (any, error) {
	account, _, err := a.pathAccount(r)
	if err != nil {
		return nil, err
	}
	if err := a.store.RemoveAccount(r.Context(), account.ID); err != nil {
		return nil, err
	}
	if _, err := a.dropPasskeys(r.Context(), account.ID); err != nil {
		a.log.Error("the passkeys of a removed mailbox are left, which nobody is let in by", "account", account.Name, "err", err)
	}
	if _, err := a.dropTOTP(r.Context(), account.ID); err != nil {
		a.log.Error("the secret of a removed mailbox is left, which nothing asks for", "account", account.Name, "err", err)
	}
	return nil, a.audit(r.Context(), "account.remove", account.Name, audited(account), nil)
}

// pathAccount finds the mailbox that the path names.
func (a *API) pathAccount(r *http.Request) (store.Account, string, error) {
	settings, err := a.store.Settings(r.Context())
	if err != nil {
		return store.Account{}, "", err
	}
	account, err := a.accountNamed(r.Context(), r.PathValue("name"), settings.Domain)
	return account, settings.Domain, err
}

func (a *API) accountNamed(ctx context.Context, text, domain string) (store.Account, error) {
	name, mistake := localName(text, domain)
	if !mistake.none() {
		return store.Account{}, invalid(mistake.of("name"))
	}
	account, err := a.store.AccountByName(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return store.Account{}, say("no_mailbox", name+"@"+domain).refusal(CodeNotFound)
	}
	return account, err
}

func taken(name string) *Error {
	return &Error{Code: CodeExists, Message: "the name " + name + " is taken by a mailbox or an alias"}
}

// localName returns the canonical local part of a name that is a local part or an address of the domain, or what is wrong with it.
func localName(text, domain string) (name string, mistake words) {
	local := text
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		given, err := mailaddr.CanonicalDomain(text[i+1:])
		if err != nil || given != domain {
			return "", say("name_elsewhere", domain)
		}
		local = text[:i]
	}
	name, err := mailaddr.CanonicalLocal(local)
	if err == nil {
		// Login names such as user%domain and domain/user, and relay tricks such as host!user, are told apart by these.
		if strings.ContainsAny(name, "%#/!*") {
			err = mailaddr.ErrSyntax
		} else {
			_, err = mailaddr.New(name, domain)
		}
	}
	if err != nil {
		return "", say("name_form", store.MaxNameLen)
	}
	return name, words{}
}

func passwordMistake(password string) words {
	switch {
	case utf8.RuneCountInString(password) < MinPasswordChars:
		return say("password_short", MinPasswordChars)
	case len(password) > MaxPasswordLen:
		return say("password_long", MaxPasswordLen)
	case mailaddr.HasControl(password):
		return say("control_or_utf8")
	}
	return words{}
}

func displayNameMistake(name string) words {
	const most = 200
	if len(name) > most || mailaddr.HasControl(name) {
		return say("long_or_control", most)
	}
	return words{}
}

// parseAddresses reads a list of addresses, and names every one that is none.
func parseAddresses(field string, texts []string, most int) ([]mailaddr.Address, []Field) {
	if len(texts) > most {
		return nil, []Field{say("addresses_many", most).of(field)}
	}
	addresses := make([]mailaddr.Address, 0, len(texts))
	var wrong []Field
	for i, text := range texts {
		address, err := mailaddr.Parse(text)
		if err != nil {
			wrong = append(wrong, say("address_form", i+1).of(field))
			continue
		}
		addresses = append(addresses, address)
	}
	return addresses, wrong
}
