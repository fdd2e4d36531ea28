package smtp

import (
	"context"
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
	if _, waits := tx.who.(waiting); n == 0 || waits {
		return nil // who waits has nothing to spend yet
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

// spending is one budget that a transaction takes recipients from.
type spending struct {
	take func(ctx context.Context, n int) (ok bool, wait time.Duration, err error)
	give func(ctx context.Context, n int) error
	// short is the refusal if it has not enough.
	short func(facts refusal.Facts) error
}

// budgets are those that hold the sender of a transaction, the closest first.
func (s *session) budgets(tx *transaction) []spending {
	sending, set := s.srv.opts.Sending, tx.settings
	counted := func(b guard.Budget, short *refused) spending {
		return spending{
			take:  func(ctx context.Context, n int) (bool, time.Duration, error) { return sending.Take(ctx, b, int64(n)) },
			give:  func(ctx context.Context, n int) error { return sending.Give(ctx, b, int64(n)) },
			short: func(facts refusal.Facts) error { return short.with(facts) },
		}
	}
	var list []spending
	switch who := tx.who.(type) {
	case trusted:
		list = append(list, counted(guard.AddressHour(s.remote, set.TrustedRecipients), refuse(refusal.RelayAddressLimit)))
	case granted:
		list = append(list, spending{
			take: func(ctx context.Context, n int) (bool, time.Duration, error) {
				ok, err := s.srv.opts.Grants.Spend(ctx, who.grant.ID, n)
				return ok, 0, err
			},
			give:  func(ctx context.Context, n int) error { return s.srv.opts.Grants.Refund(ctx, who.grant.ID, n) },
			short: func(facts refusal.Facts) error { return s.spent(who, facts) },
		})
	}
	if tx.who.way() != store.SentTrusted {
		list = append(list, counted(guard.MailboxHour(tx.who.account(), set.HourlyRecipients), refuse(refusal.RelayMailboxHour)),
			counted(guard.MailboxDay(tx.who.account(), set.DailyRecipients), refuse(refusal.RelayMailboxLimit)))
	}
	return append(list, counted(guard.DomainHour(set.DomainHourlyRecipients), refuse(refusal.RelayDomainLimit)),
		counted(guard.DomainDay(set.DomainDailyRecipients), refuse(refusal.RelayDomainLimit)))
}

// spend takes n recipients from every budget that holds the sender, or from none.
func (s *session) spend(tx *transaction, n int) error {
	if s.srv.opts.Sending == nil {
		// Nobody counts, so nobody sends.
		return refuse(refusal.OutgoingOff)
	}
	facts := s.facts(tx.reversePath, tx.settings)
	budgets := s.budgets(tx)
	for i, b := range budgets {
		ok, wait, err := b.take(s.ctx, n)
		if err == nil && ok {
			continue
		}
		if err == nil {
			facts.Wait = wait
			err = b.short(facts)
		}
		s.giveTo(budgets[:i], tx, n)
		return err
	}
	return nil
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

// refund gives n recipients back to all budgets.
func (s *session) refund(tx *transaction, n int) {
	s.unspendDevice(tx, -1)
	if n > 0 {
		s.giveTo(s.budgets(tx), tx, n)
	}
}

// giveTo gives n recipients back to some budgets. What cannot be given back is lost to the sender, and the log says so.
func (s *session) giveTo(budgets []spending, tx *transaction, n int) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), refundTime)
	defer cancel()
	for _, b := range budgets {
		if err := b.give(ctx, n); err != nil {
			s.log.Error("budget not given back", "sender", tx.who, "recipients", n, "err", err)
		}
	}
}

// octets takes what a message weighs, once for each recipient outside the domain, from the budget of its mailbox, and returns how to give it
// back.
func (s *session) octets(tx *transaction, size int64) (giveBack func(), err error) {
	n := size * int64(len(tx.remotes))
	if n == 0 || tx.settings.DailyOctets == 0 || tx.who.account() == 0 || s.srv.opts.Sending == nil {
		return func() {}, nil
	}
	b := guard.MailboxOctets(tx.who.account(), tx.settings.DailyOctets)
	ok, wait, err := s.srv.opts.Sending.Take(s.ctx, b, n)
	if err == nil && !ok {
		facts := s.facts(tx.reversePath, tx.settings)
		facts.Wait = wait
		err = refuse(refusal.RelayOctets).with(facts)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), refundTime)
		defer cancel()
		if err := s.srv.opts.Sending.Give(ctx, b, n); err != nil {
			s.log.Error("budget not given back", "sender", tx.who, "octets", n, "err", err)
		}
	}, err
}

// judged is what is thought of a message that is about to be taken; nil if nobody thinks.
func (s *session) judged(tx *transaction) (*guard.Opinion, error) {
	if s.srv.opts.Conduct == nil || len(tx.remotes) == 0 || tx.who.account() == 0 || tx.who.way() == store.SentTrusted {
		return nil, nil
	}
	return s.srv.opts.Conduct.Judge(s.ctx, guard.Outgoing{
		Account: tx.who.account(), Remote: s.remote, Recipients: slices.Collect(maps.Keys(tx.remotes)), NewRecipients: tx.settings.NewRecipients,
		Free: !tx.settings.HoldJumps,
	})
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
