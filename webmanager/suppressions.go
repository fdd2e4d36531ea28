package webmanager

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// Suppression is an address outside as the API shows it.
type Suppression struct {
	store.Suppression
	// Active is set while mail to it is refused.
	Active bool `json:"active"`
}

// SuppressionPage is a part of the listing; ask for what comes after Next if it is not empty.
type SuppressionPage struct {
	Suppressions []Suppression `json:"suppressions"`
	Next         string        `json:"next,omitempty"`
}

// NewSuppression is the body that puts an address in.
type NewSuppression struct {
	// Days is how long, 1 to store.MaxSuppressionDays; 0 is as long as for one that failed.
	Days int `json:"days,omitempty"`
	// Reason is for people.
	Reason string `json:"reason,omitempty"`
}

func (a *API) listSuppressions(r *http.Request) (any, error) {
	limit, err := listLimit(r)
	if err != nil {
		return nil, err
	}
	list, err := a.store.ListSuppressions(r.Context(), r.URL.Query().Get("after"), limit)
	if err != nil {
		return nil, err
	}
	page := SuppressionPage{Suppressions: make([]Suppression, 0, len(list))}
	now := a.now()
	for _, s := range list {
		if !s.Over(now) {
			page.Suppressions = append(page.Suppressions, Suppression{Suppression: s, Active: s.Active(now)})
		}
	}
	if len(list) == limit {
		page.Next = list[limit-1].Address.String()
	}
	return page, nil
}

// outsideAddress reads an address that is not of this domain.
func (a *API) outsideAddress(r *http.Request) (mailaddr.Address, error) {
	settings, err := a.store.Settings(r.Context())
	if err != nil {
		return mailaddr.Address{}, err
	}
	address, err := mailaddr.Parse(r.PathValue("address"))
	switch {
	case err != nil:
		return mailaddr.Address{}, invalid(Field{Field: "address", Message: "is not a mail address"})
	case address.Domain() == settings.Domain:
		return mailaddr.Address{}, invalid(Field{Field: "address", Message: "is of this domain, whose mailboxes are never suppressed"})
	}
	return address, nil
}

func (a *API) putSuppression(r *http.Request) (any, error) {
	var body NewSuppression
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	address, err := a.outsideAddress(r)
	if err != nil {
		return nil, err
	}
	length := store.SuppressTime
	switch {
	case body.Days < 0 || body.Days > store.MaxSuppressionDays:
		return nil, invalid(Field{Field: "days", Message: fmt.Sprintf("is 1 to %d", store.MaxSuppressionDays)})
	case body.Days > 0:
		length = time.Duration(body.Days) * 24 * time.Hour
	}
	now := a.now()
	s := store.Suppression{Address: address, First: now, Last: now, Until: now.Add(length), Manual: true, Reason: body.Reason}
	err = a.store.PutSuppression(r.Context(), now, s)
	switch {
	case errors.Is(err, store.ErrInvalid):
		return nil, &Error{Code: CodeInvalid, Message: strings.TrimPrefix(err.Error(), store.ErrInvalid.Error()+": ")}
	case errors.Is(err, store.ErrBound):
		return nil, &Error{Code: CodeConflict, Message: "there are as many suppressions by hand as there may be: remove one that is no longer needed"}
	case err != nil:
		return nil, err
	}
	return Suppression{Suppression: s, Active: true}, a.audit(r.Context(), "suppression.add", address.String(), nil, s)
}

func (a *API) removeSuppression(r *http.Request) (any, error) {
	address, err := a.outsideAddress(r)
	if err != nil {
		return nil, err
	}
	before, err := a.store.Suppression(r.Context(), address)
	if err == nil {
		err = a.store.RemoveSuppression(r.Context(), address)
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil, &Error{Code: CodeNotFound, Message: address.String() + " is not suppressed"}
	}
	if err != nil {
		return nil, err
	}
	return nil, a.audit(r.Context(), "suppression.remove", address.String(), before, nil)
}
