package webmanager

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// GrantState says whether a grant of POP before SMTP counts, and why not.
type GrantState string

// The states. A grant that was ended has one of [store.GrantEnd] instead.
const (
	// GrantLive: it counts now.
	GrantLive GrantState = "live"
	// GrantExpired: its time is over.
	GrantExpired GrantState = "expired"
	// GrantVoid: the mailbox was suspended or got another password since, or the device that opened it has ended or may not send from there.
	GrantVoid GrantState = "void"
	// GrantOff: POP before SMTP, or all outgoing mail, is switched off.
	GrantOff GrantState = "off"
)

// Grant is a grant of POP before SMTP as the API shows it.
type Grant struct {
	ID      store.GrantID    `json:"id"`
	Mailbox string           `json:"mailbox"`
	Address mailaddr.Address `json:"address"`
	Network netip.Prefix     `json:"network"`
	State   GrantState       `json:"state"`
	// Device is the name of the device credential that opened it, empty for the main password.
	Device  string    `json:"device,omitempty"`
	Created time.Time `json:"created"`
	// LastLogin is the POP3 login that made or last renewed it.
	LastLogin time.Time `json:"last_login"`
	Expires   time.Time `json:"expires"`
	// Ended is set if it ended before it expired.
	Ended time.Time `json:"ended,omitzero"`
	// Recipients is how many recipients it was made for, Left how many of them may still be named.
	Recipients int `json:"recipients"`
	Left       int `json:"left"`
}

// GrantPage is a part of the listing; ask for what comes after Next if it is not 0.
type GrantPage struct {
	Grants []Grant       `json:"grants"`
	Next   store.GrantID `json:"next,omitempty"`
}

// GrantRevocation is the body that ends grants: by exactly one of its fields.
type GrantRevocation struct {
	// IDs are 1 to MaxActionIDs.
	IDs     []store.GrantID `json:"ids,omitempty"`
	Mailbox string          `json:"mailbox,omitempty"`
	All     bool            `json:"all,omitempty"`
}

// GrantsRevoked says how many grants were ended, and which of those that were named had ended already.
type GrantsRevoked struct {
	Revoked int             `json:"revoked"`
	NotLive []store.GrantID `json:"not_live"`
}

// stateOf decides whether a grant counts at now.
func stateOf(g store.Grant, owner store.Account, settings store.Settings, now time.Time) GrantState {
	switch {
	case g.End != "":
		return GrantState(g.End)
	case !g.Live(now):
		return GrantExpired
	case owner.Suspended || owner.CredentialVersion != g.CredentialVersion:
		return GrantVoid
	case !settings.POPBeforeSMTP || !settings.OutgoingMail:
		return GrantOff
	default:
		return GrantLive
	}
}

// listGrants takes the parameters after, limit, mailbox, address (of a client) and live (true: only those that count now).
func (a *API) listGrants(r *http.Request) (any, error) {
	limit, err := listLimit(r)
	if err != nil {
		return nil, err
	}
	after, err := numberParameter(r, "after")
	if err != nil {
		return nil, err
	}
	settings, err := a.store.Settings(r.Context())
	if err != nil {
		return nil, err
	}
	filter, err := a.grantFilter(r, settings)
	if err != nil {
		return nil, err
	}
	grants, err := a.store.ListGrants(r.Context(), filter, store.GrantID(after), limit)
	if err != nil {
		return nil, err
	}
	page := GrantPage{Grants: []Grant{}}
	for _, g := range grants {
		view, err := a.viewGrant(r.Context(), g, settings)
		if errors.Is(err, store.ErrNotFound) {
			continue // the mailbox was removed meanwhile, and its grants with it
		}
		if err != nil {
			return nil, err
		}
		if filter.LiveAt.IsZero() || view.State == GrantLive {
			page.Grants = append(page.Grants, view)
		}
	}
	if len(grants) == limit {
		page.Next = grants[limit-1].ID
	}
	return page, nil
}

func (a *API) grantFilter(r *http.Request, settings store.Settings) (store.GrantFilter, error) {
	var f store.GrantFilter
	var wrong []Field
	query := r.URL.Query()
	if text := query.Get("live"); text != "" {
		live, err := strconv.ParseBool(text)
		if err != nil {
			wrong = append(wrong, say("true_or_false").of("live"))
		}
		if live {
			f.LiveAt = a.now()
		}
	}
	if text := query.Get("address"); text != "" {
		address, err := netip.ParseAddr(text)
		if err != nil || address.Zone() != "" {
			wrong = append(wrong, say("not_ip").of("address"))
		}
		f.Remote = address.Unmap()
	}
	if len(wrong) > 0 {
		return f, invalid(wrong...)
	}
	if text := query.Get("mailbox"); text != "" {
		account, err := a.accountNamed(r.Context(), text, settings.Domain)
		if err != nil {
			return f, err
		}
		f.Account = account.ID
	}
	return f, nil
}

func (a *API) viewGrant(ctx context.Context, g store.Grant, settings store.Settings) (Grant, error) {
	owner, err := a.store.Account(ctx, g.Account)
	if err != nil {
		return Grant{}, err
	}
	address, err := mailaddr.New(owner.Name, settings.Domain)
	if err != nil {
		return Grant{}, fmt.Errorf("address of account %d: %w", owner.ID, err)
	}
	v := Grant{
		ID: g.ID, Mailbox: owner.Name, Address: address, Network: g.Network, State: stateOf(g, owner, settings, a.now()),
		Created: g.Created, LastLogin: g.LastLogin, Expires: g.Expires, Ended: g.Ended, Recipients: g.Recipients, Left: g.Left,
	}
	if g.Device == 0 {
		return v, nil
	}
	d, err := a.store.Device(ctx, g.Account, g.Device)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return Grant{}, err
	}
	if v.Device = d.Name; err != nil {
		v.Device = "device " + g.Device.String() // revoked
	}
	if v.State == GrantLive && (err != nil || !d.Send || !d.Fetch || d.Expired(a.now()) || !usableFrom(d, g.Network)) {
		v.State = GrantVoid
	}
	return v, nil
}

// revokeGrants ends grants by number, of a mailbox, or all.
func (a *API) revokeGrants(r *http.Request) (any, error) {
	var body GrantRevocation
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	own, err := a.revokesOwn(r.Context(), &body)
	if err != nil {
		return nil, err
	}
	ways := 0
	for _, given := range []bool{body.IDs != nil, body.Mailbox != "", body.All} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		return nil, say("which_grants").refusal(CodeInvalid)
	case body.All:
		return a.revokeAll(r.Context(), store.GrantRevoked)
	case body.Mailbox != "":
		return a.revokeOfMailbox(r.Context(), body.Mailbox)
	case len(body.IDs) == 0 || len(body.IDs) > MaxActionIDs:
		return nil, invalid(say("grant_numbers", MaxActionIDs).of("ids"))
	default:
		return a.revokeByID(r.Context(), body.IDs, own)
	}
}

// revokesOwn narrows a request of the owner of a mailbox down to its own grants, and returns that mailbox; 0 for others.
func (a *API) revokesOwn(ctx context.Context, body *GrantRevocation) (store.AccountID, error) {
	actor := actorOf(ctx)
	if actor.Role >= RoleOwner {
		return 0, nil
	}
	own, domain, err := a.ownMailbox(ctx, actor)
	if err != nil {
		return 0, err
	}
	name, mistake := localName(body.Mailbox, domain)
	if body.All || body.Mailbox != "" && (!mistake.none() || name != own.Name) {
		return 0, notAllowed()
	}
	return own.ID, nil
}

// auditedGrants is what the audit log keeps when many grants ended at once.
type auditedGrants struct {
	Reason  store.GrantEnd `json:"reason"`
	Revoked int            `json:"revoked"`
}

// revokeAll ends every grant, and notes it if there was one.
func (a *API) revokeAll(ctx context.Context, end store.GrantEnd) (GrantsRevoked, error) {
	result := GrantsRevoked{NotLive: []store.GrantID{}}
	n, err := a.store.RevokeAllGrants(ctx, a.now(), end)
	if err != nil || n == 0 {
		return result, err
	}
	result.Revoked = n
	return result, a.audit(ctx, "grant.revoke", "all", nil, auditedGrants{Reason: end, Revoked: n})
}

// forbidden reports whether no login could get such a grant under the settings: its network gets none, or it is wider than they say.
func forbidden(g store.Grant, s store.Settings) bool {
	return g.Network.Addr().Is6() && g.Network.Bits() < s.GrantIPv6Bits ||
		slices.ContainsFunc(s.NoGrantNetworks, g.Network.Overlaps)
}

// revokeForbidden ends the grants that the settings do not allow, page by page.
func (a *API) revokeForbidden(ctx context.Context, s store.Settings) (GrantsRevoked, error) {
	total := GrantsRevoked{NotLive: []store.GrantID{}}
	filter := store.GrantFilter{LiveAt: a.now()}
	for after := store.GrantID(0); ; {
		grants, err := a.store.ListGrants(ctx, filter, after, MaxListLimit)
		if err != nil || len(grants) == 0 {
			return total, err
		}
		after = grants[len(grants)-1].ID
		grants = slices.DeleteFunc(grants, func(g store.Grant) bool { return !forbidden(g, s) })
		if len(grants) == 0 {
			continue
		}
		revoked, err := a.revoke(ctx, grants, GrantsRevoked{})
		total.Revoked += revoked.Revoked
		if err != nil {
			return total, err
		}
	}
}

func (a *API) revokeOfMailbox(ctx context.Context, name string) (GrantsRevoked, error) {
	result := GrantsRevoked{NotLive: []store.GrantID{}}
	settings, err := a.store.Settings(ctx)
	if err != nil {
		return result, err
	}
	account, err := a.accountNamed(ctx, name, settings.Domain)
	if err != nil {
		return result, err
	}
	// An account has at most MaxAccountGrants, and fewer are live.
	grants, err := a.store.ListGrants(ctx, store.GrantFilter{Account: account.ID, LiveAt: a.now()}, 0, store.MaxAccountGrants)
	if err != nil || len(grants) == 0 {
		return result, err
	}
	return a.revoke(ctx, grants, result)
}

// revokeByID ends the grants with these numbers; of is the mailbox whose they must be, 0 for any.
func (a *API) revokeByID(ctx context.Context, ids []store.GrantID, of store.AccountID) (GrantsRevoked, error) {
	result := GrantsRevoked{NotLive: []store.GrantID{}}
	ids = slices.Clone(ids)
	slices.Sort(ids)
	var grants []store.Grant
	for _, id := range slices.Compact(ids) {
		switch g, err := a.store.Grant(ctx, id); {
		case errors.Is(err, store.ErrNotFound), err == nil && of != 0 && g.Account != of:
			result.NotLive = append(result.NotLive, id) // to its owner alone it is there
		case err != nil:
			return result, err
		default:
			grants = append(grants, g)
		}
	}
	if len(grants) == 0 {
		return result, nil
	}
	return a.revoke(ctx, grants, result)
}

// revoke ends grants in one transaction, and notes for each mailbox which of its grants ended.
func (a *API) revoke(ctx context.Context, grants []store.Grant, result GrantsRevoked) (GrantsRevoked, error) {
	ids := make([]store.GrantID, len(grants))
	for i, g := range grants {
		ids[i] = g.ID
	}
	revoked, err := a.store.RevokeGrants(ctx, a.now(), store.GrantRevoked, ids...)
	if err != nil {
		return result, err
	}
	result.Revoked = len(revoked)
	ended := map[store.AccountID][]string{}
	var owners []store.AccountID
	for _, g := range grants {
		if !slices.Contains(revoked, g.ID) {
			result.NotLive = append(result.NotLive, g.ID)
			continue
		}
		if ended[g.Account] == nil {
			owners = append(owners, g.Account)
		}
		ended[g.Account] = append(ended[g.Account], fmt.Sprintf("%s %s", g.ID, g.Network))
	}
	slices.Sort(result.NotLive)
	for _, id := range owners {
		name := fmt.Sprintf("account %d", id) // removed meanwhile
		if owner, err := a.store.Account(context.WithoutCancel(ctx), id); err == nil {
			name = owner.Name
		}
		if err := a.audit(ctx, "grant.revoke", name, ended[id], nil); err != nil {
			return result, err
		}
	}
	return result, nil
}
