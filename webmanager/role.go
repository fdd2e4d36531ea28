package webmanager

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"latchkey/auth"
	"latchkey/store"
)

// Role says what an actor may do. Each may do what those before it may.
type Role uint8

// The roles. The zero value may ask what is no secret of anybody.
const (
	RoleAnyone Role = iota
	// RoleMailbox is the owner of one mailbox, who may act on that one.
	RoleMailbox
	// RoleOwner is the owner of the domain.
	RoleOwner
	// RoleOperator runs the server.
	RoleOperator
)

// roleNames are the words for the roles in JSON and on the command line.
var roleNames = [...]string{RoleAnyone: "anyone", RoleMailbox: "mailbox", RoleOwner: "owner", RoleOperator: "operator"}

// String is the word for the role.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("role %d", uint8(r))
}

// MarshalText writes the word.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the word; any other is an error.
func (r *Role) UnmarshalText(text []byte) error {
	for i, name := range roleNames {
		if string(text) == name {
			*r = Role(i)
			return nil
		}
	}
	return errors.New("is no role: mailbox, owner or operator")
}

// self says how a route is narrowed down to the mailbox that calls it for itself.
type self uint8

const (
	// selfNever: the least role is needed.
	selfNever self = iota
	// selfPath: {name} of the path must be the mailbox.
	selfPath
	// selfMailbox and selfSubmitter: the parameter mailbox, or submitter, must be the mailbox, and is if it is not given.
	selfMailbox
	selfSubmitter
	// selfHandler: the handler looks who calls.
	selfHandler
)

// parameter is the name of the query's parameter that a route is narrowed by; "" for none.
func (s self) parameter() string {
	switch s {
	case selfMailbox:
		return "mailbox"
	case selfSubmitter:
		return "submitter"
	}
	return ""
}

// actorOf is who makes a request; the zero value, who may do nothing, for nobody.
func actorOf(ctx context.Context) Actor {
	actor, _ := ctx.Value(actorKey{}).(Actor)
	return actor
}

// notAllowed is the refusal of what an actor may not do. It does not say whether what was asked for exists.
func notAllowed() *Error {
	return say("not_allowed").refusal(CodeForbidden)
}

// allow returns the request as its handler may see it, or refuses it.
func (a *API) allow(r *http.Request, rt *route) (*http.Request, error) {
	actor, ok := r.Context().Value(actorKey{}).(Actor)
	if !ok {
		return nil, errNoActor // a change must never lack its author
	}
	if actor.ReadOnly && rt.changes {
		return nil, &Error{Code: CodeForbidden, Message: "this token may only read"}
	}
	if actor.Role >= rt.least {
		return r, nil
	}
	if actor.Role != RoleMailbox || rt.self == selfNever {
		return nil, notAllowed()
	}
	own, domain, err := a.ownMailbox(r.Context(), actor)
	if err != nil {
		return nil, err
	}
	switch parameter := rt.self.parameter(); {
	case rt.self == selfPath:
		if name, mistake := localName(r.PathValue("name"), domain); !mistake.none() || name != own.Name {
			return nil, notAllowed()
		}
	case parameter != "":
		query := r.URL.Query()
		if text := query.Get(parameter); text != "" {
			if name, mistake := localName(text, domain); !mistake.none() || name != own.Name {
				return nil, notAllowed()
			}
		}
		query.Set(parameter, own.Name)
		r = r.Clone(r.Context())
		r.URL.RawQuery = query.Encode()
	}
	return r, nil
}

// May refuses an actor a route of the table, such as "POST /v1/accounts", that it may not call for anybody, and not for its own mailbox either. What
// is narrowed down to one mailbox is decided when it is called.
func (a *API) May(actor Actor, pattern string) error {
	rt, ok := a.table[pattern]
	if !ok || actor.ReadOnly && rt.changes || actor.Role < rt.least && (actor.Role != RoleMailbox || rt.self == selfNever) {
		return notAllowed()
	}
	return nil
}

// ownMailbox is the account of an actor, and the domain; a refusal if it has none (any more).
func (a *API) ownMailbox(ctx context.Context, actor Actor) (store.Account, string, error) {
	if actor.Account == 0 {
		return store.Account{}, "", notAllowed()
	}
	account, err := a.store.Account(ctx, actor.Account)
	if errors.Is(err, store.ErrNotFound) || err == nil && account.Suspended {
		return store.Account{}, "", notAllowed()
	}
	if err != nil {
		return store.Account{}, "", err
	}
	settings, err := a.store.Settings(ctx)
	return account, settings.Domain, err
}

// ErrNotCurrent is what [API.Person] returns for somebody whose password was changed, or whose mailbox is suspended or gone.
var ErrNotCurrent = errors.New("webmanager: the login does not count any more")

// Person is who logged in with the password of a mailbox, as an actor with the role that the mailbox has now. The caller sets Remote.
func (a *API) Person(ctx context.Context, id auth.Identity) (Actor, error) {
	account, err := a.store.Account(ctx, id.Account)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return Actor{}, ErrNotCurrent
	case err != nil:
		return Actor{}, err
	case account.Suspended || account.CredentialVersion != id.CredentialVersion || id.Device != 0:
		return Actor{}, ErrNotCurrent
	}
	actor := Actor{Name: account.Name, Role: RoleMailbox, Account: account.ID}
	if account.Owner {
		actor.Role = RoleOwner
	}
	return actor, nil
}

// Prover checks the password of a mailbox, or has its passkey checked: *auth.Authenticator is one.
type Prover interface {
	Login(ctx context.Context, at auth.Attempt, username, password string) (auth.Identity, error)
	Passkey(ctx context.Context, at auth.Attempt, account store.AccountID, right func() (bool, error)) (auth.Identity, error)
}

// errNoProver is the refusal where nobody can be asked.
var errNoProver = say("passwords_nowhere").refusal(CodeUnavailable)

// proveOwn asks whoever changes his own password for the present one: a browser that was left open is not enough.
func (a *API) proveOwn(ctx context.Context, account store.Account, current string) error {
	actor := actorOf(ctx)
	if actor.Account == 0 || actor.Account != account.ID {
		return nil
	}
	if a.prover == nil {
		return errNoProver
	}
	// The password came as the request came, which the pages and the token saw to.
	at := auth.Attempt{Service: "web", Mechanism: "PASSWORD", Remote: actor.Remote, TLS: true}
	id, err := a.prover.Login(ctx, at, account.Name, current)
	switch {
	case errors.Is(err, auth.ErrCredentials), errors.Is(err, auth.ErrThrottled), errors.Is(err, auth.ErrBanned), err == nil && id.Account != account.ID:
		return invalid(say("current_wrong").of("current"))
	case errors.Is(err, auth.ErrSuspended):
		return notAllowed()
	case errors.Is(err, auth.ErrExposed):
		return nil // it is right, and another one is the cure
	}
	return err
}
