package smtp

import (
	"context"
	"errors"
	"strings"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/internal/refusal"
	"latchkey/store"
)

// deviceOf returns the device credential by which a sender proved itself, as it was at MAIL; nil for the main password, and for whoever has none.
func deviceOf(who sender) *store.Device {
	switch who := who.(type) {
	case authenticated:
		return who.device
	case granted:
		return who.device
	}
	return nil
}

// withDevice completes who has logged in with a device's password by what the device may do now. One that may not send from here any more ends
// the session.
func (s *session) withDevice(who authenticated) (authenticated, error) {
	if who.identity.Device == 0 {
		return who, nil
	}
	d, err := s.srv.opts.Auth.CurrentDevice(s.ctx, who.identity, s.remote)
	switch {
	case errors.Is(err, auth.ErrCredentials), errors.Is(err, auth.ErrDeviceExpired), errors.Is(err, auth.ErrDeviceNetwork),
		errors.Is(err, auth.ErrDeviceScope), errors.Is(err, auth.ErrExposed):
		return who, refuse(refusal.AuthDeviceRevoked).because(err)
	case err != nil:
		return who, err
	}
	who.device = &d
	return who, nil
}

// notThisPassword adds what a client should know to the refusal of a password that is right.
func (s *session) notThisPassword(err error) error {
	settings, failed := s.srv.opts.Store.Settings(s.ctx)
	if failed != nil {
		return failed
	}
	r, _ := verdictOn(err)
	return r.with(s.facts(mailaddr.Address{}, settings)).because(err)
}

// grantDevice is the device that opened a grant, nil for the main password; gone is set if it was revoked in this moment.
func (s *session) grantDevice(g store.Grant) (d *store.Device, gone bool, err error) {
	if g.Device == 0 {
		return nil, false, nil
	}
	found, err := s.srv.opts.Store.Device(s.ctx, g.Account, g.Device)
	if errors.Is(err, store.ErrNotFound) {
		return nil, true, nil
	}
	return &found, false, err
}

// sizeLimit is how many octets a message of the sender may have, and what is wrong with a larger one (RFC 1870 §6.1).
func sizeLimit(who sender, settings store.Settings) (most int64, over error) {
	if d := deviceOf(who); d != nil && d.MessageSize > 0 && d.MessageSize < settings.MessageSize {
		return d.MessageSize, refuse(refusal.DeviceMessageSize).with(refusal.Facts{Help: settings.HelpURL})
	}
	return settings.MessageSize, errTooLarge
}

// deviceRcpt refuses a recipient to which the sender's device may not send.
func (s *session) deviceRcpt(tx *transaction, addr mailaddr.Address) error {
	if d := deviceOf(tx.who); d != nil && !d.SendsTo(addr, tx.settings.Domain) {
		return refuse(refusal.DeviceRecipient).with(s.facts(tx.reversePath, tx.settings))
	}
	return nil
}

// becameDevice holds a transaction whose sender was not known at RCPT to the bounds of the device that it turned out to be. A refusal takes nothing.
func (s *session) becameDevice(tx *transaction) error {
	for _, addr := range tx.addresses {
		if err := s.deviceRcpt(tx, addr); err != nil {
			return err
		}
	}
	return s.spendDevice(tx, len(tx.addresses))
}

// spendDevice takes n recipients, whatever their domain, from the budget of the sender's device, for this transaction. A refusal takes nothing.
func (s *session) spendDevice(tx *transaction, n int) error {
	d := deviceOf(tx.who)
	if d == nil || d.DailyRecipients == 0 {
		return nil
	}
	if s.srv.opts.Sending == nil { // nobody counts, so nobody sends
		return refuse(refusal.OutgoingOff)
	}
	ok, wait, err := s.srv.opts.Sending.Take(s.ctx, guard.DeviceDay(d.ID, d.DailyRecipients), int64(n))
	if err != nil {
		return err
	}
	if !ok {
		facts := s.facts(tx.reversePath, tx.settings)
		facts.Wait = wait
		return refuse(refusal.DeviceLimit).with(facts)
	}
	tx.mu.Lock()
	held := tx.phase == open
	if held {
		tx.deviceSpent += n
	}
	tx.mu.Unlock()
	if !held { // the transaction ended meanwhile
		s.refundDevice(d, n)
		return refuse(refusal.ConnectionClosing)
	}
	return nil
}

// unspendDevice gives n recipients of a transaction that is open, or was given up, back to the device; n below 0 is all of them. What is being
// committed, or was, is left alone.
func (s *session) unspendDevice(tx *transaction, n int) {
	tx.mu.Lock()
	if tx.phase == sealed {
		n = 0
	}
	if n < 0 || n > tx.deviceSpent {
		n = tx.deviceSpent
	}
	tx.deviceSpent -= n
	tx.mu.Unlock()
	if n > 0 {
		s.refundDevice(deviceOf(tx.who), n)
	}
}

// keepDevice makes what the transaction took from the device's budget spent for good.
func (tx *transaction) keepDevice() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.deviceSpent = 0
}

func (s *session) refundDevice(d *store.Device, n int) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), refundTime)
	defer cancel()
	if err := s.srv.opts.Sending.Give(ctx, guard.DeviceDay(d.ID, d.DailyRecipients), int64(n)); err != nil {
		s.log.Error("budget not given back", "device", d.Name, "recipients", n, "err", err)
	}
}

// deviceComment names a device for a comment of a header (RFC 5322 §3.2.2): what such a comment may not have becomes a question mark.
func deviceComment(d *store.Device) string {
	name := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune(`()\"`, r) {
			return '?'
		}
		return r
	}, d.Name)
	return `device "` + name + `"`
}
