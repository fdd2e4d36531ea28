package webmanager

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"latchkey/guard"
	"latchkey/store"
)

// DefaultBanTime is how long a ban lasts that somebody makes without saying it.
const DefaultBanTime = 24 * time.Hour

// Bans is what the API needs of bans: *guard.BanDesk.
type Bans interface {
	List(now time.Time) []guard.Ban
	Add(ctx context.Context, now time.Time, b guard.Ban) error
	Lift(ctx context.Context, now time.Time, network netip.Prefix, mailbox string) ([]guard.Ban, error)
}

// Ban is a ban as the API shows it.
type Ban struct {
	guard.Ban
	// NoMailbox is set where what was typed for a mailbox is none; it is not shown, as it may be somebody's password.
	NoMailbox bool `json:"no_mailbox,omitempty"`
}

// BanList is the answer to a question for bans: all of them, of which there are at most guard.MaxBans, MaxBanRules and MaxStrangers.
type BanList struct {
	Bans []Ban `json:"bans"`
}

// NewBan is the body that makes a ban.
type NewBan struct {
	// Network is a prefix or an address.
	Network string `json:"network"`
	// Mailbox is the one that its clients are kept from; empty is every mailbox.
	Mailbox string `json:"mailbox,omitempty"`
	Reason  string `json:"reason,omitempty"`
	// For is how long: 90m, 2h or 7d, at most 366d; empty is DefaultBanTime.
	For string `json:"for,omitempty"`
}

// BanLift is the body that ends bans: those of a network, of a mailbox, or of both together.
type BanLift struct {
	Network string `json:"network,omitempty"`
	Mailbox string `json:"mailbox,omitempty"`
}

// errNoBans: who serves the API keeps no bans.
var errNoBans = &Error{Code: CodeUnavailable, Message: "the bans cannot be read; start the server, and see its log"}

func (a *API) listBans(r *http.Request) (any, error) {
	if a.bans == nil {
		return nil, errNoBans
	}
	list, err := a.viewBans(r.Context(), a.bans.List(a.now()))
	return BanList{Bans: list}, err
}

// viewBans hides names that are nobody's.
func (a *API) viewBans(ctx context.Context, list []guard.Ban) ([]Ban, error) {
	views := make([]Ban, 0, len(list))
	for _, b := range list {
		view := Ban{Ban: b}
		if b.Mailbox != "" {
			_, err := a.store.AccountByName(ctx, b.Mailbox)
			if view.NoMailbox = errors.Is(err, store.ErrNotFound); view.NoMailbox {
				view.Mailbox = ""
			} else if err != nil {
				return nil, err
			}
		}
		views = append(views, view)
	}
	return views, nil
}

// banNetwork reads a prefix, or an address as the client that it counts for.
func banNetwork(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" {
		return guard.Prefix(address), nil
	}
	if prefix, err := netip.ParsePrefix(text); err == nil && !prefix.Addr().Is4In6() {
		return prefix.Masked(), nil
	}
	return netip.Prefix{}, invalid(Field{Field: "network", Message: "is an address or a network, as 192.0.2.7 or 192.0.2.0/24"})
}

func (a *API) addBan(r *http.Request) (any, error) {
	var body NewBan
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if a.bans == nil {
		return nil, errNoBans
	}
	network, err := banNetwork(body.Network)
	if err != nil {
		return nil, err
	}
	name, err := a.banMailbox(r.Context(), body.Mailbox)
	if err != nil {
		return nil, err
	}
	length := DefaultBanTime
	if body.For != "" {
		if length, err = readDuration(body.For); err != nil || length <= 0 || length > guard.MaxBanRuleTime {
			return nil, invalid(Field{Field: "for", Message: "is a time such as 90m, 2h or 7d, at most 366d"})
		}
	}
	actor := actorOf(r.Context())
	now := a.now()
	b := guard.Ban{Network: network, Mailbox: name, Door: guard.BanLogin, Reason: body.Reason, By: actor.Name, Since: now, Until: now.Add(length)}
	if err := b.Validate(); err != nil {
		return nil, &Error{Code: CodeInvalid, Message: strings.TrimPrefix(err.Error(), store.ErrInvalid.Error()+": ")}
	}
	if err := a.bans.Add(context.WithoutCancel(r.Context()), now, b); errors.Is(err, store.ErrBound) {
		return nil, &Error{Code: CodeConflict, Message: "there are as many bans by hand as there may be: lift one that is no longer needed"}
	} else if err != nil {
		return nil, err
	}
	return Ban{Ban: b}, a.audit(r.Context(), "ban.add", network.String(), nil, b)
}

// banMailbox is the canonical name of a mailbox that exists, "" for "".
func (a *API) banMailbox(ctx context.Context, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	settings, err := a.store.Settings(ctx)
	if err != nil {
		return "", err
	}
	account, err := a.accountNamed(ctx, name, settings.Domain)
	return account.Name, err
}

func (a *API) liftBans(r *http.Request) (any, error) {
	var body BanLift
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if a.bans == nil {
		return nil, errNoBans
	}
	var network netip.Prefix
	var err error
	if body.Network != "" {
		if network, err = banNetwork(body.Network); err != nil {
			return nil, err
		}
	}
	if body.Network == "" && body.Mailbox == "" {
		return nil, &Error{Code: CodeInvalid, Message: "say which bans: those of a network, of a mailbox, or of both"}
	}
	name, err := a.banMailbox(r.Context(), body.Mailbox)
	if err != nil {
		return nil, err
	}
	lifted, err := a.bans.Lift(context.WithoutCancel(r.Context()), a.now(), network, name)
	if err != nil {
		return nil, err
	}
	views, err := a.viewBans(r.Context(), lifted)
	if err != nil {
		return nil, err
	}
	object := name
	if network.IsValid() {
		object = strings.TrimSpace(network.String() + " " + name)
	}
	return BanList{Bans: views}, a.audit(r.Context(), "ban.lift", object, views, nil)
}
