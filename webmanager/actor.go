package webmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/user"
	"strconv"
	"strings"
	"unicode/utf8"

	"latchkey/store"
)

// Actor is who makes a request, for the audit log.
type Actor struct {
	// Name is for people, for example "root (uid 0)".
	Name string
	// Remote is the address that the request came from; the zero Addr for this host.
	Remote netip.Addr
	// Role says what the actor may do; ReadOnly takes all changes from that.
	Role     Role
	ReadOnly bool
	// Account is the mailbox of somebody who logged in with its password; 0 for others.
	Account store.AccountID
	// Session names the session of the pages that a request is made in: what is begun in one is ended in it. Empty for none.
	Session string
}

type actorKey struct{}

// WithActor says who makes the requests of this context.
func WithActor(ctx context.Context, actor Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// LocalActor is the user of this host with the given id: whoever may connect to the control socket is an operator.
func LocalActor(uid int) Actor {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return Actor{Name: fmt.Sprintf("%s (uid %s)", u.Username, id), Role: RoleOperator}
	}
	return Actor{Name: "uid " + id, Role: RoleOperator}
}

// errNoActor is a mistake of whoever serves the API.
var errNoActor = errors.New("webmanager: request without an actor")

// audit notes a change that was made, even if whoever made it has gone. If the note fails the change stands, and whoever made it is told so.
func (a *API) audit(ctx context.Context, action, object string, before, after any) error {
	actor := actorOf(ctx) // allow saw to it that there is one
	err := a.store.AppendAudit(context.WithoutCancel(ctx), store.AuditEntry{
		Time: a.now(), Actor: actor.Name, Remote: actor.Remote, Action: action, Object: object,
		Before: auditText(before), After: auditText(after),
	})
	if err != nil {
		a.log.Error("change not audited", "action", action, "object", object, "actor", actor.Name, "err", err)
		return say("audit_failed").refusal(CodeInternal)
	}
	a.log.Info("changed", "action", action, "object", object, "actor", actor.Name)
	return nil
}

// auditText is the JSON of a state, cut to maxAuditText; "" for no state.
func auditText(state any) string {
	if state == nil {
		return ""
	}
	data, err := json.Marshal(state)
	if err != nil {
		return "not to be written as JSON"
	}
	text := string(data)
	if len(text) <= maxAuditText {
		return text
	}
	const cut = "..."
	end := maxAuditText - len(cut)
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return strings.Clone(text[:end]) + cut
}
