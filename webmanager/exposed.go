package webmanager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"latchkey/auth"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// clearActor is who notes a password in the clear, for the audit log.
const clearActor = "system"

// NoteExposed tells a mailbox's owner, once, that a password of his crossed the network in the clear, and then notes it in the account or device.
// In this order a process that ends between the two tells him again at the next time, rather than never. A password that was changed meanwhile is
// none of these. The password is noted also where the owner cannot be told, because his maildrop is full or closed; the error then says so.
func NoteExposed(ctx context.Context, s Store, e auth.Exposed, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, noticeTime)
	defer cancel()
	account, err := s.Account(ctx, e.Account.ID)
	if err != nil {
		return gone(err)
	}
	if e.Device.ID == 0 && (account.Verifier != e.Account.Verifier || !account.ClearSince.IsZero()) {
		return nil
	}
	settings, err := s.Settings(ctx)
	if err != nil {
		return err
	}
	told := tellExposed(ctx, s, e, account, settings, now)
	object := account.Name
	if e.Device.ID == 0 {
		err = noteAccount(ctx, s, e)
	} else {
		object += " device " + e.Device.ID.String()
		err = noteDevice(ctx, s, e)
	}
	if err != nil {
		return errors.Join(gone(err), told)
	}
	return errors.Join(told, s.AppendAudit(ctx, store.AuditEntry{
		Time: now, Actor: clearActor, Remote: e.At.Remote, Action: "password.clear", Object: object,
		After: auditText(map[string]any{"service": e.At.Service, "clear_since": e.When.UTC()}),
	}))
}

// gone is nothing to complain about: the mailbox or device was removed meanwhile.
func gone(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

func noteAccount(ctx context.Context, s Store, e auth.Exposed) error {
	for range maxConflicts {
		account, err := s.Account(ctx, e.Account.ID)
		if err != nil || account.Verifier != e.Account.Verifier || !account.ClearSince.IsZero() {
			return err
		}
		account.ClearSince = e.When
		if _, err := s.UpdateAccount(ctx, account); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return store.ErrConflict
}

func noteDevice(ctx context.Context, s Store, e auth.Exposed) error {
	for range maxConflicts {
		d, err := s.Device(ctx, e.Account.ID, e.Device.ID)
		if err != nil || !d.ClearSince.IsZero() {
			return err
		}
		d.ClearSince = e.When
		if _, err := s.UpdateDevice(ctx, d); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return store.ErrConflict
}

// tellExposed puts the notice into the maildrop.
func tellExposed(ctx context.Context, s Store, e auth.Exposed, account store.Account, settings store.Settings, now time.Time) error {
	to, err := mailaddr.New(account.Name, settings.Domain)
	if err != nil {
		return err
	}
	from, err := mailaddr.New("postmaster", settings.Domain)
	if err != nil {
		return err
	}
	return deliverLetter(ctx, s, letter{
		from: from, to: to, recipients: []store.Recipient{localCopy(to, account.ID)}, subject: "Your password went over the network in the clear",
		kind: "exposed", now: now, body: exposedNotice(to, e, settings),
	})
}

// exposedNotice writes the text, whose lines end with CRLF.
func exposedNotice(to mailaddr.Address, e auth.Exposed, settings store.Settings) []byte {
	var b bytes.Buffer
	paragraph := func(text string) {
		for _, l := range broken(text, noticeWidth) {
			b.WriteString(l + "\r\n")
		}
		b.WriteString("\r\n")
	}
	whose, cure := "of the mailbox "+to.String(), "then have a new password set and give it to all your programs"
	if e.Device.ID != 0 {
		whose = fmt.Sprintf("of the device %q of the mailbox %s", plainText(e.Device.Name), to)
		cure = "then have the device's password revoked and a new one made"
	}
	paragraph(fmt.Sprintf("A program sent the password %s over the network without encryption, at %s. It was refused, but anybody on the way could "+
		"read the password.", whose, e.When.UTC().Format(time.RFC3339)))
	door := map[string]string{"pop3": "incoming mail (POP3)", "smtp": "outgoing mail (SMTP)"}[e.At.Service]
	if door == "" {
		door = e.At.Service
	}
	for _, line := range []string{"address: " + e.At.Remote.String(), "for: " + door} {
		b.WriteString("  " + plainText(line) + "\r\n")
	}
	b.WriteString("\r\n")
	paragraph("Turn on encryption (SSL/TLS, or STARTTLS) in the program there, for incoming and for outgoing mail; " + cure + ".")
	if ends := settings.ClearPasswordEnds(e.When); !ends.IsZero() {
		paragraph("Until " + ends.UTC().Format(time.RFC3339) + " the password is taken from programs with encryption. From then on it is refused everywhere.")
	}
	if settings.HelpURL != "" {
		b.WriteString("Help: " + plainText(settings.HelpURL) + "\r\n\r\n")
	}
	paragraph("There is one such message for each password.")
	return bytes.TrimSuffix(b.Bytes(), []byte("\r\n"))
}

// endedPasswords is how many mailboxes and devices have a password that ends by a change of settings at once.
func (a *API) endedPasswords(ctx context.Context, before, after store.Settings) (n int64, err error) {
	now := a.now()
	ended := func(s store.Settings, since time.Time) bool {
		ends := s.ClearPasswordEnds(since)
		return !ends.IsZero() && !now.Before(ends)
	}
	for name := ""; ; {
		accounts, err := a.store.ListAccounts(ctx, name, MaxListLimit)
		if err != nil {
			return n, err
		}
		for _, account := range accounts {
			name = account.Name
			seen := []time.Time{account.ClearSince}
			devices, err := a.store.ListDevices(ctx, account.ID)
			if err != nil {
				return n, err
			}
			for _, d := range devices {
				seen = append(seen, d.ClearSince)
			}
			for _, since := range seen {
				if ended(after, since) && !ended(before, since) {
					n++
				}
			}
		}
		if len(accounts) < MaxListLimit {
			return n, nil
		}
	}
}

// clearPasswords tells what becomes of passwords that were seen in the clear.
func (t *teller) clearPasswords() {
	was, is := t.before.ClearPasswordDays, t.after.ClearPasswordDays
	switch {
	case was == is:
		return
	case is == 0:
		t.say("a password that came without TLS where it is needed is good until it is changed")
	default:
		t.say("a password that came without TLS where it is needed is refused %s later, until it is changed", count(int64(is), "day", "days"))
	}
	if t.figures.ended > 0 {
		t.say("%s at once: the lists of mailboxes and of devices say which", count(t.figures.ended, "password ends", "passwords end"))
	}
}
