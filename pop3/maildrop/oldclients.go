package maildrop

import (
	"context"
	"errors"
	"net/netip"

	"latchkey/guard"
	"latchkey/internal/refusal"
	"latchkey/store"
)

// OldClients says who may use a door for old clients: *guard.OldClients.
type OldClients interface {
	Allowed(ctx context.Context, remote netip.Addr, account store.AccountID) (bool, error)
}

// errNotForOldClients is for the log only.
var errNotForOldClients = errors.New("maildrop: the password is right, but the mailbox may not use the door for old clients")

// mayUseDoor refuses a mailbox whose login succeeded, by whatever mechanism, at a door for old clients that is not open for it. Who listens on the way
// learns no more than of a wrong password (RFC 8314 §4.1); under TLS the client is told where to go.
func (s *session) mayUseDoor(ctx context.Context) error {
	if s.old == nil {
		return nil
	}
	allowed, err := s.old.Allowed(ctx, guard.Unmap(s.conn.RemoteAddr()), s.who.Account)
	switch {
	case err != nil:
		return storeError(err)
	case !allowed && s.tlsState() == nil:
		return reply(refusal.AuthWrongPassword, errNotForOldClients)
	case !allowed:
		return reply(refusal.AuthOldClient, nil)
	}
	return nil
}
