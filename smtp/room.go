package smtp

import (
	"errors"

	"latchkey/internal/refusal"
	"latchkey/store"
)

// place is room that is reserved in one maildrop.
type place struct {
	account store.AccountID
	id      store.ReservationID
}

// places are room that no transaction holds yet.
type places []place

// admit takes room in the mailboxes that an address leads to and budget for what leaves the domain, for this transaction. A refusal takes
// nothing.
func (s *session) admit(tx *transaction, route store.Route) error {
	var taken places
	// What the transaction did not take over goes back, whatever happens on the way.
	defer func() { s.giveBack(taken) }()
	if err := s.room(tx, route, &taken); err != nil {
		return err
	}
	if err := s.spendDevice(tx, 1); err != nil {
		return err
	}
	if err := s.reserve(tx, tx.news(route)); err != nil {
		s.unspendDevice(tx, 1)
		return err
	}
	if !tx.hold(taken) { // it ended meanwhile
		return refuse(refusal.ConnectionClosing)
	}
	taken = nil
	return nil
}

// room reserves the declared size (RFC 1870 §4) in each mailbox of an address; in those that the transaction holds room in already there is
// but one copy. It refuses an address of which no mailbox can take the message now, so that nobody sends a body in vain; of several, those
// that cannot are left out at the commit, unless they can by then.
func (s *session) room(tx *transaction, route store.Route, taken *places) error {
	var refused error
	served := len(route.Remote) > 0
	for _, account := range route.Local {
		if tx.holds(account) {
			served = true
			continue
		}
		if !s.receives(tx, account) {
			refused = errors.Join(refused, refuse(refusal.RecipientBombed))
			continue
		}
		// No message is empty: a mailbox that is full to the octet is refused whatever was declared.
		id, err := s.srv.opts.Store.Reserve(s.ctx, account, max(tx.size, 1))
		if err != nil {
			refused = errors.Join(refused, err)
			continue
		}
		served = true
		*taken = append(*taken, place{account, id})
	}
	if served {
		return nil
	}
	return refused
}

// receives reports whether a mailbox takes more mail of this sender's kind: of strangers it takes so much an hour.
func (s *session) receives(tx *transaction, account store.AccountID) bool {
	strangers := s.srv.opts.Strangers
	return strangers == nil || submits(tx.who) || strangers.Receives(s.srv.opts.Now(), account)
}

func (s *session) giveBack(taken places) {
	if len(taken) == 0 {
		return
	}
	ids := make([]store.ReservationID, len(taken))
	for i, p := range taken {
		ids[i] = p.id
	}
	s.srv.opts.Store.Unreserve(ids...)
}

// holds reports whether the transaction holds room in a maildrop.
func (tx *transaction) holds(account store.AccountID) bool {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	_, ok := tx.rooms[account]
	return ok
}

// hold makes the transaction the owner of places; false means that it has ended.
func (tx *transaction) hold(taken places) bool {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.phase != open {
		return false
	}
	if tx.rooms == nil {
		tx.rooms = make(map[store.AccountID]store.ReservationID, len(taken))
	}
	for _, p := range taken {
		tx.rooms[p.account] = p.id
	}
	return true
}
