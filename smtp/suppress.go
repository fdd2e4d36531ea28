package smtp

import (
	"errors"

	"latchkey/internal/refusal"
	"latchkey/store"
)

// suppressed refuses an address outside that failed for good lately, so that its sender hears of the slip at once, and its server is not asked for
// a mailbox that does not exist again and again. Mailboxes here are never suppressed.
func (s *session) suppressed(tx *transaction, route store.Route) error {
	if !tx.settings.SuppressFailed {
		return nil
	}
	for _, remote := range route.Remote {
		known, err := s.srv.opts.Store.Suppression(s.ctx, remote)
		switch {
		case errors.Is(err, store.ErrNotFound):
		case err != nil:
			return err
		case known.Active(s.srv.opts.Now()):
			return refuse(refusal.RecipientSuppressed).with(s.facts(tx.reversePath, tx.settings))
		}
	}
	return nil
}
