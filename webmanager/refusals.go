package webmanager

import (
	"context"
	"net/http"
	"net/netip"
	"slices"

	"latchkey/internal/mailaddr"
	"latchkey/internal/refusal"
)

// Explanation says what a refusal means, and when it was made lately.
type Explanation struct {
	Name  refusal.Name `json:"name"`
	Code  string       `json:"code"`
	SMTP  string       `json:"smtp,omitempty"`
	POP3  string       `json:"pop3,omitempty"`
	Cause string       `json:"cause"`
	Cure  string       `json:"cure"`
	// Events are the last ones, the newest first, at most refusal.MaxRecent; they are forgotten when the server ends.
	Events []refusal.Event `json:"events"`
}

// explainRefusal explains the refusal of a code or a name; the query may name an address, of which alone the events are wanted.
func (a *API) explainRefusal(r *http.Request) (any, error) {
	row, ok := refusal.Find(r.PathValue("code"))
	if !ok {
		return nil, say("no_refusal").refusal(CodeNotFound)
	}
	var remote netip.Addr
	if text := r.URL.Query().Get("address"); text != "" {
		var err error
		if remote, err = netip.ParseAddr(text); err != nil {
			return nil, invalid(say("not_ip").of("address"))
		}
		remote = remote.Unmap().WithZone("")
	}
	e := Explanation{Name: row.Name, Code: row.Name.Code(), Cause: row.Cause, Cure: row.Cure, Events: a.refusals.List(row.Name, remote)}
	mine, err := a.concerns(r.Context())
	if err != nil {
		return nil, err
	}
	e.Events = append([]refusal.Event{}, slices.DeleteFunc(e.Events, func(e refusal.Event) bool { return !mine(e) })...)
	e.SMTP, e.POP3 = row.Replies()
	return e, nil
}

// concerns says which events an actor may be told: the owner of the domain all, the owner of a mailbox those about its address, and a stranger none.
func (a *API) concerns(ctx context.Context) (func(refusal.Event) bool, error) {
	switch actor := actorOf(ctx); {
	case actor.Role >= RoleOwner:
		return func(refusal.Event) bool { return true }, nil
	case actor.Role == RoleMailbox:
		own, domain, err := a.ownMailbox(ctx, actor)
		if err != nil {
			return nil, err
		}
		address, err := mailaddr.New(own.Name, domain)
		return func(e refusal.Event) bool { return e.Mailbox == address.String() || e.Mailbox == own.Name }, err
	}
	return func(refusal.Event) bool { return false }, nil
}
