package smtp

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"latchkey/guard"
	"latchkey/internal/refusal"
	"latchkey/store"
)

// refundTime bounds giving back what a transaction had reserved.
const refundTime = 5 * time.Second

// phase is what became of a transaction's reservations: recipients in budgets and room in maildrops. It goes from open to one of the others, and from sealed to settled.
type phase int

const (
	// open: RCPT adds to it, and whatever ends the transaction gives it back.
	open phase = iota
	// sealed: the message is being committed; only who commits decides.
	sealed
	// settled: kept or given back.
	settled
)

// reserve takes n recipients outside the domain from the budgets of the sender, for this transaction. A refusal takes nothing.
func (s *session) reserve(tx *transaction, n int) error {
	if n == 0 {
		return nil
	}
	if err := s.spend(tx, n); err != nil {
		return err
	}
	tx.mu.Lock()
	held := tx.phase == open
	if held {
		tx.reserved += n
	}
	tx.mu.Unlock()
	if !held { // the transaction ended meanwhile
		s.refund(tx, n)
		return refuse(refusal.ConnectionClosing)
	}
	return nil
}

// spend takes n recipients from every budget that holds the sender, or from none.
func (s *session) spend(tx *transaction, n int) error {
	sending := s.srv.opts.Sending
	if sending == nil {
		// Nobody counts, so nobody sends.
		return refuse(refusal.OutgoingOff)
	}
	facts := s.facts(tx.reversePath, tx.settings)
	switch who := tx.who.(type) {
	case trusted:
		ok, wait, err := sending.Address(s.ctx, s.remote, n, tx.settings.TrustedRecipients)
		if err == nil && !ok {
			facts.Wait = wait
			return refuse(refusal.RelayAddressLimit).with(facts)
		}
		return err
	case granted:
		ok, err := s.srv.opts.Grants.Spend(s.ctx, who.grant.ID, n)
		if err == nil && !ok {
			return s.spent(who, facts)
		}
		if err != nil {
			return err
		}
	}
	ok, wait, err := sending.Mailbox(s.ctx, tx.who.account(), n, tx.settings.DailyRecipients)
	if err == nil && ok {
		return nil
	}
	if who, is := tx.who.(granted); is {
		err = errors.Join(err, s.refundGrant(who, n))
	}
	if err != nil {
		return err
	}
	facts.Wait = wait
	return refuse(refusal.RelayMailboxLimit).with(facts)
}

// spent says why a grant gave nothing: it ended in this moment, or has less left than was asked for.
func (s *session) spent(who granted, facts refusal.Facts) error {
	why, err := s.srv.opts.Grants.Why(s.ctx, s.place(), who.grant.Account)
	if err != nil {
		return err
	}
	if why.Kind == "" {
		why.Kind = guard.NoGrantSpent
	}
	return refuse(withoutGrant(why, s.srv.opts.Door)).with(facts)
}

// refund gives n recipients back. What cannot be given back is lost to the sender, and the log says so.
func (s *session) refund(tx *transaction, n int) {
	s.unspendDevice(tx, -1)
	if n == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), refundTime)
	defer cancel()
	sending := s.srv.opts.Sending
	var err error
	switch who := tx.who.(type) {
	case trusted:
		err = sending.RefundAddress(ctx, s.remote, n, tx.settings.TrustedRecipients)
	case granted:
		err = errors.Join(s.refundGrant(who, n), sending.RefundMailbox(ctx, who.account(), n, tx.settings.DailyRecipients))
	default:
		err = sending.RefundMailbox(ctx, who.account(), n, tx.settings.DailyRecipients)
	}
	if err != nil {
		s.log.Error("budget not given back", "sender", tx.who, "recipients", n, "err", err)
	}
}

func (s *session) refundGrant(who granted, n int) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), refundTime)
	defer cancel()
	return s.srv.opts.Grants.Refund(ctx, who.grant.ID, n)
}

// forget ends the transaction of the session, if there is one, and gives back what it had reserved. It may be called from any
// goroutine, at any time and any number of times: what is being committed, or was, is left alone.
func (s *session) forget() {
	if tx := s.tx.Swap(nil); tx != nil {
		n, rooms := tx.settle(open)
		s.srv.opts.Store.Unreserve(rooms...)
		s.refund(tx, n)
	}
}

// seal makes the transaction one that is committed, and returns the room that goes with it: from here on nothing but the outcome of the
// commit settles it. False means that it was given up meanwhile.
func (tx *transaction) seal() (rooms []store.ReservationID, ok bool) {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.phase != open {
		return nil, false
	}
	tx.phase = sealed
	return slices.Collect(maps.Values(tx.rooms)), true
}

// settle ends the reservations if they are in a phase, and returns what was held; nothing if they are in another.
func (tx *transaction) settle(from phase) (recipients int, rooms []store.ReservationID) {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.phase != from {
		return 0, nil
	}
	tx.phase = settled
	return tx.reserved, slices.Collect(maps.Values(tx.rooms))
}
