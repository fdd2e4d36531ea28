package webmanager

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// Alias is a further name as the API shows it.
type Alias struct {
	Name    string           `json:"name"`
	Address mailaddr.Address `json:"address"`
	// Targets are the names of mailboxes, in order.
	Targets []string `json:"targets"`
	// Outside are addresses of other domains that its mail is sent on to.
	Outside []mailaddr.Address `json:"outside,omitempty"`
}

// Leads lists where it leads, for people.
func (a Alias) Leads() []string { return append(slices.Clone(a.Targets), texted(a.Outside)...) }

// AliasPage is a part of the listing; ask for what comes after Next if it is not empty.
type AliasPage struct {
	Aliases []Alias `json:"aliases"`
	Next    string  `json:"next,omitempty"`
}

// AliasTargets is the body that adds or replaces an alias.
type AliasTargets struct {
	// Targets are mailboxes of this domain, by local part or address, and addresses of other domains.
	Targets []string `json:"targets"`
}

func (a *API) listAliases(r *http.Request) (any, error) {
	limit, err := listLimit(r)
	if err != nil {
		return nil, err
	}
	settings, err := a.store.Settings(r.Context())
	if err != nil {
		return nil, err
	}
	aliases, err := a.store.ListAliases(r.Context(), r.URL.Query().Get("after"), limit)
	if err != nil {
		return nil, err
	}
	page := AliasPage{Aliases: make([]Alias, 0, len(aliases))}
	for _, alias := range aliases {
		v, err := a.viewAlias(r.Context(), alias, settings.Domain)
		if err != nil {
			return nil, err
		}
		page.Aliases = append(page.Aliases, v)
	}
	if len(aliases) == limit {
		page.Next = aliases[limit-1].Name
	}
	return page, nil
}

func (a *API) viewAlias(ctx context.Context, alias store.Alias, domain string) (Alias, error) {
	address, err := mailaddr.New(alias.Name, domain)
	if err != nil {
		return Alias{}, fmt.Errorf("address of an alias: %w", err)
	}
	v := Alias{Name: alias.Name, Address: address, Targets: make([]string, 0, len(alias.Targets)), Outside: alias.Outside}
	for _, id := range alias.Targets {
		account, err := a.store.Account(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return Alias{}, err
		}
		v.Targets = append(v.Targets, account.Name)
	}
	slices.Sort(v.Targets)
	return v, nil
}

func (a *API) putAlias(r *http.Request) (any, error) {
	var body AliasTargets
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	ctx := r.Context()
	settings, err := a.store.Settings(ctx)
	if err != nil {
		return nil, err
	}
	name, mistake := aliasName(r.PathValue("name"), settings.Domain)
	if !mistake.none() {
		return nil, invalid(mistake.of("name"))
	}
	ids, outside, err := a.targets(ctx, body.Targets, settings.Domain)
	if err != nil {
		return nil, err
	}
	before, existed, err := a.findAlias(ctx, name, settings.Domain)
	if err != nil {
		return nil, err
	}
	alias := store.Alias{Name: name, Targets: ids, Outside: outside}
	err = a.store.PutAlias(ctx, alias)
	switch {
	case errors.Is(err, store.ErrExists):
		return nil, &Error{Code: CodeExists, Message: "the name " + name + " is taken by a mailbox"}
	case errors.Is(err, store.ErrNotFound):
		return nil, &Error{Code: CodeConflict, Message: "a target was removed meanwhile: look again, then try again"}
	case err != nil:
		return nil, err
	}
	after, err := a.viewAlias(ctx, alias, settings.Domain)
	if err != nil {
		return nil, err
	}
	if existed {
		err = a.audit(ctx, "alias.change", name, before.Leads(), after.Leads())
	} else {
		err = a.audit(ctx, "alias.add", name, nil, after.Leads())
	}
	return after, err
}

func (a *API) removeAlias(r *http.Request) (any, error) {
	ctx := r.Context()
	settings, err := a.store.Settings(ctx)
	if err != nil {
		return nil, err
	}
	name, mistake := aliasName(r.PathValue("name"), settings.Domain)
	if !mistake.none() {
		return nil, invalid(mistake.of("name"))
	}
	before, existed, err := a.findAlias(ctx, name, settings.Domain)
	if err != nil {
		return nil, err
	}
	if existed {
		err = a.store.RemoveAlias(ctx, name)
	}
	if !existed || errors.Is(err, store.ErrNotFound) {
		return nil, &Error{Code: CodeNotFound, Message: "there is no alias " + name + "@" + settings.Domain}
	}
	if err != nil {
		return nil, err
	}
	return nil, a.audit(ctx, "alias.remove", name, before.Leads(), nil)
}

// aliasName is localName, and the catch-all.
func aliasName(text, domain string) (name string, mistake words) {
	if text == store.CatchAll || strings.EqualFold(text, store.CatchAll+"@"+domain) {
		return store.CatchAll, words{}
	}
	return localName(text, domain)
}

// targets finds the mailboxes that an alias is to lead to, and the addresses outside, or says about each what is wrong.
func (a *API) targets(ctx context.Context, texts []string, domain string) (ids []store.AccountID, outside []mailaddr.Address, err error) {
	if len(texts) == 0 || len(texts) > store.MaxAliasTargets {
		return nil, nil, invalid(Field{Field: "targets", Message: fmt.Sprintf("are 1 to %d mailboxes", store.MaxAliasTargets)})
	}
	var wrong []Field
	ids = make([]store.AccountID, 0, len(texts))
	for _, text := range texts {
		if address, err := mailaddr.Parse(text); err == nil && address.Domain() != domain {
			if address.IsLiteral() {
				wrong = append(wrong, Field{Field: "targets", Message: address.String() + " has no domain"})
			}
			if !slices.Contains(outside, address) {
				outside = append(outside, address)
			}
			continue
		}
		account, err := a.accountNamed(ctx, text, domain)
		var refusal *Error
		switch {
		case errors.As(err, &refusal) && refusal.Code == CodeNotFound:
			wrong = append(wrong, Field{Field: "targets", Message: refusal.Message})
		case errors.As(err, &refusal):
			wrong = append(wrong, Field{Field: "targets", Message: fmt.Sprintf("%q %s", text, refusal.Fields[0].Message)})
		case err != nil:
			return nil, nil, err
		default:
			ids = append(ids, account.ID)
		}
	}
	if len(outside) > store.MaxAliasOutside {
		wrong = append(wrong, Field{Field: "targets", Message: fmt.Sprintf("are at most %d addresses of other domains", store.MaxAliasOutside)})
	}
	if len(wrong) > 0 {
		return nil, nil, invalid(wrong...)
	}
	slices.Sort(ids)
	return slices.Compact(ids), outside, nil
}

// findAlias looks an alias up, for the audit log.
func (a *API) findAlias(ctx context.Context, name, domain string) (Alias, bool, error) {
	for after := ""; ; {
		aliases, err := a.store.ListAliases(ctx, after, MaxListLimit)
		if err != nil || len(aliases) == 0 {
			return Alias{}, false, err
		}
		for _, alias := range aliases {
			if alias.Name == name {
				v, err := a.viewAlias(ctx, alias, domain)
				return v, true, err
			}
		}
		after = aliases[len(aliases)-1].Name
	}
}
