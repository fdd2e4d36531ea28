package smtp

import (
	"context"
	"errors"

	"latchkey/internal/mailaddr"
	"latchkey/internal/refusal"
	"latchkey/store"
)

// mayWrite says why nothing that is not its sender's own goes to an address outside at present, or nil: it failed for good lately.
func (s *session) mayWrite(ctx context.Context, settings store.Settings, to mailaddr.Address) error {
	if !settings.SuppressFailed {
		return nil
	}
	known, err := s.srv.opts.Store.Suppression(ctx, to)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case known.Active(s.srv.opts.Now()):
		return errors.New("smtp: an address that does not exist")
	}
	return nil
}

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
