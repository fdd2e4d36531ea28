package smtp

import (
	"errors"
	"slices"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/internal/message"
	"latchkey/internal/refusal"
	"latchkey/store"
)

// What follows sends mail on that came for an address here: the forward of a mailbox, or an alias that leads outside. A stranger who writes to it
// gets 250 for the address here and hears nothing of where his mail goes: its copy has a reverse-path of this domain (package srs), and what
// becomes of it is told to who sends it on.

// Bounds of mail that is sent on, and of reports that come back for it.
const (
	// onwardPerDay is how many copies one mailbox or alias may send on in a day. Beyond it a mailbox keeps its mail, and an alias takes none.
	onwardPerDay = 2000
	// returnsPerAddress and returnsPerHour are how many reports may come back to one sender in a day, and through the domain in an hour.
	returnsPerAddress = 50
	returnsPerHour    = 1000
)

// onward is one copy to send on, and the index of the address in transaction.addresses that leads there.
type onward struct {
	store.Forwarding
	of int
}

// leadsOnward takes up where an address that was just added is sent on to.
func (tx *transaction) leadsOnward(route store.Route) {
	for _, f := range route.Forwards {
		if !slices.ContainsFunc(tx.onward, func(known onward) bool { return known.To == f.To }) {
			tx.onward = append(tx.onward, onward{f, len(tx.addresses) - 1})
		}
	}
}

// leadsOnly reports whether a route leads to no mailbox, so that mail for it has to be sent on or refused.
func leadsOnly(route store.Route) bool {
	return len(route.Local) == 0 && len(route.Remote) == 0 && len(route.Forwards) > 0
}

// mayLeave says why no copy is sent on to an address at present, or nil.
func (s *session) mayLeave(settings store.Settings, to mailaddr.Address) error {
	switch {
	case s.srv.opts.SRS == nil || !settings.OutgoingMail:
		return errors.New("smtp: mail out of the domain is switched off")
	case to.Domain() == settings.Domain:
		return errors.New("smtp: sent on to an address of this domain")
	}
	return s.mayWrite(s.ctx, settings, to)
}

// onwardOpen refuses an address that leads outside only, while nothing can be sent there.
func (s *session) onwardOpen(tx *transaction, route store.Route) error {
	if !leadsOnly(route) {
		return nil
	}
	var errs []error
	for _, f := range route.Forwards {
		err := s.mayLeave(tx.settings, f.To)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return refuse(refusal.ForwardPaused).because(errors.Join(errs...))
}

// sendOn decides at the end of a message which copies are sent on, and puts them into the envelope. What a mailbox may not send on now stays in
// it; what an alias may not refuses the message, while its sender is there. A message that has been here on its way goes in circles (RFC 9228 §3).
func (s *session) sendOn(tx *transaction, h *message.Header) error {
	been := h.Values("Delivered-To")
	for len(tx.onward) > 0 {
		by := tx.onward[0].Forwarding
		var group []onward
		tx.onward = slices.DeleteFunc(tx.onward, func(o onward) bool {
			mine := o.By == by.By
			if mine {
				group = append(group, o)
			}
			return mine
		})
		if slices.ContainsFunc(been, func(v string) bool { return names(v, by.By) }) {
			return refuse(refusal.MessageLoop)
		}
		if by.Account != 0 && !tx.holds(by.Account) {
			continue // the mailbox is closed or full, and so is its forward
		}
		going, err := s.going(tx, group)
		if err != nil {
			return err
		}
		if by.Account == 0 && len(going) == 0 && !tx.servesAddress(group[0].of) {
			return refuse(refusal.ForwardPaused)
		}
		tx.putOnward(going, len(going) == len(group), s.srv.opts.SRS.Forward(tx.reversePath, s.srv.opts.Now()))
	}
	return nil
}

// names reports whether a Delivered-To is of an address.
func names(value string, a mailaddr.Address) bool {
	value = strings.Trim(value, " \t<>")
	return strings.EqualFold(value, a.String()) || strings.EqualFold(value, a.Trace())
}

// going are the copies of one mailbox or alias that leave now: those that may, if its budget has room for all of them.
func (s *session) going(tx *transaction, group []onward) ([]onward, error) {
	var going []onward
	for _, o := range group {
		if err := s.mayLeave(tx.settings, o.To); err != nil {
			s.log.Info("not sent on", "by", o.By.String(), "to", o.To.String(), "why", err)
			continue
		}
		going = append(going, o)
	}
	if len(going) == 0 {
		return nil, nil
	}
	limit := store.Limit{N: onwardPerDay, Window: 24 * time.Hour}
	taken, err := s.srv.opts.Store.Take(s.ctx, s.srv.opts.Now(), "onward/"+group[0].By.Local(), int64(len(going)), limit)
	if err != nil {
		return nil, err
	}
	if !taken.OK {
		s.log.Warn("not sent on: as much as may be in a day", "by", group[0].By.String(), "limit", onwardPerDay)
		return nil, nil
	}
	return going, nil
}

// servesAddress reports whether an address has a mailbox that gets a copy.
func (tx *transaction) servesAddress(i int) bool { return len(tx.wishes[i].accounts) > 0 }

// putOnward puts copies of one mailbox or alias into the envelope. A mailbox that keeps none and of which all are sent on gets none itself.
func (tx *transaction) putOnward(going []onward, all bool, reversePath mailaddr.Address) {
	if len(going) == 0 {
		return
	}
	f := going[0].Forwarding
	kept := f.Account != 0 && (f.Keep || !all)
	for _, o := range going {
		tx.recipients = append(tx.recipients, store.Recipient{
			Address: o.To, Onward: store.Onward{By: o.By, ReversePath: reversePath, Kept: kept},
		})
		tx.of = append(tx.of, o.of)
		tx.wishes[o.of].sentOn = true
	}
	if f.Account == 0 || kept {
		return
	}
	i := slices.IndexFunc(tx.recipients, func(r store.Recipient) bool { return r.Account == f.Account })
	if i >= 0 {
		tx.recipients, tx.of = slices.Delete(tx.recipients, i, i+1), slices.Delete(tx.of, i, i+1)
	}
}

// returning is where a report leads that comes back for mail that was sent on: to its sender, if the address is one that was made here (package
// srs). Only reports do, from the null reverse-path (RFC 5321 §4.5.5), and only so many; nothing else ever leaves the domain this way.
func (s *session) returning(tx *transaction, addr mailaddr.Address) (store.Route, error) {
	if !tx.reversePath.IsZero() {
		return store.Route{}, refuse(refusal.ReturnAddress)
	}
	now := s.srv.opts.Now()
	to, err := s.srv.opts.SRS.Reverse(addr, now)
	if err != nil {
		return store.Route{}, refuse(refusal.ReturnAddress).because(err)
	}
	route, err := s.srv.opts.Store.Resolve(s.ctx, to)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return store.Route{}, refuse(refusal.ReturnAddress).because(err)
	case err != nil:
		return store.Route{}, err
	case len(route.Remote) == 0:
		route.Forwards, route.Away = nil, nil // a report stays here
		return route, nil
	case hasRouting(to) || s.srv.opts.Door != MX:
		return store.Route{}, refuse(refusal.ReturnAddress)
	case !tx.settings.OutgoingMail:
		return store.Route{}, refuse(refusal.ForwardPaused)
	}
	for _, bound := range []struct {
		key   string
		limit store.Limit
	}{
		{"return/" + returnKey(to), store.Limit{N: returnsPerAddress, Window: 24 * time.Hour}},
		{"return", store.Limit{N: returnsPerHour, Window: time.Hour}},
	} {
		taken, err := s.srv.opts.Store.Take(s.ctx, now, bound.key, 1, bound.limit)
		if err != nil {
			return store.Route{}, err
		}
		if !taken.OK {
			return store.Route{}, refuse(refusal.ForwardPaused)
		}
	}
	return route, nil
}

// addReturn adds the address of a report that comes back, and whom it goes to. It is charged to nobody here.
func (tx *transaction) addReturn(addr, to mailaddr.Address) error {
	if len(tx.recipients)+len(tx.onward) >= store.MaxRecipients {
		return tooManyRecipients()
	}
	tx.addresses, tx.wishes = append(tx.addresses, addr), append(tx.wishes, wish{notify: store.NotifyNever})
	tx.put(store.Recipient{Address: to, Notify: store.NotifyNever})
	return nil
}

// returnKey is an address as a part of a counter's key.
func returnKey(a mailaddr.Address) string {
	key := strings.ToLower(a.String()) // of one hash there are many spellings
	return key[:min(len(key), store.MaxCounterKey-len("return/"))]
}
