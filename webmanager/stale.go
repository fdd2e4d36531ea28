package webmanager

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// TellStale puts a notice into the maildrop of a mailbox's owner: a device comes again and again with a password that is wrong. An error says that
// it is not there: the maildrop is full, or the mailbox suspended or gone.
func TellStale(ctx context.Context, s Store, d guard.StaleDevice, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, noticeTime)
	defer cancel()
	account, err := s.Account(ctx, d.Account)
	if err != nil {
		return err
	}
	settings, err := s.Settings(ctx)
	if err != nil {
		return err
	}
	to, err := mailaddr.New(account.Name, settings.Domain)
	if err != nil {
		return err
	}
	from, err := mailaddr.New("postmaster", settings.Domain)
	if err != nil {
		return err
	}
	clients, err := s.ListClients(ctx, d.Account, store.MaxClients)
	if err != nil {
		return err
	}
	return deliverLetter(ctx, s, letter{
		from: from, to: to, recipients: []store.Recipient{localCopy(to, account.ID)}, subject: "A device with an old password", kind: "stale", now: now,
		body: staleNotice(to, d, programAt(clients, d), settings.HelpURL),
	})
}

// programAt is the program that was last seen to use the mailbox from there; "" if none was.
func programAt(clients []store.Client, d guard.StaleDevice) string {
	for _, c := range clients { // the last seen first
		if guard.Prefix(c.Address) == guard.Prefix(d.Remote) {
			return c.Program
		}
	}
	return ""
}

// staleNotice writes the text, whose lines end with CRLF.
func staleNotice(to mailaddr.Address, d guard.StaleDevice, program, help string) []byte {
	var b bytes.Buffer
	paragraph := func(text string) {
		for _, l := range broken(text, noticeWidth) {
			b.WriteString(l + "\r\n")
		}
		b.WriteString("\r\n")
	}
	which := "the same wrong password"
	if d.Previous {
		which = "a password of this mailbox that was changed since"
	}
	paragraph(fmt.Sprintf("A program tries to log in to the mailbox %s with %s. It came %d times between %s and %s.",
		to, which, d.Times, d.First.UTC().Format(time.RFC3339), d.Last.UTC().Format(time.RFC3339)))
	door := map[string]string{"pop3": "incoming mail (POP3)", "smtp": "outgoing mail (SMTP)", "web": "the web pages"}[d.Door]
	if door == "" {
		door = d.Door
	}
	for _, line := range []string{"address: " + d.Remote.String(), "for: " + door, "login: " + d.Mechanism, "program seen there before: " + program} {
		if !strings.HasSuffix(line, ": ") {
			b.WriteString("  " + plainText(line) + "\r\n")
		}
	}
	b.WriteString("\r\n")
	paragraph("Most likely it is a phone, a computer or a printer of yours that still has the old password: give it the new one, or remove the mailbox from it. " +
		"Nothing is locked, and your other devices are not concerned. If you have no device at that address, somebody else tries that password there: " +
		"it does not let them in, and as long as the present password is used nowhere else there is nothing to do.")
	if help != "" {
		b.WriteString("Help: " + plainText(help) + "\r\n\r\n")
	}
	paragraph("There is one such message a day for each device at most.")
	return bytes.TrimSuffix(b.Bytes(), []byte("\r\n"))
}
