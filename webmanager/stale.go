package webmanager

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// TellStale puts a notice into the maildrop of a mailbox's owner: a device comes again and again with a password that is wrong. An error says that it is
// not there: the maildrop is full, or the mailbox suspended or gone.
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
	id := "<stale." + rand.Text() + "@" + settings.Domain + ">"
	header, body := staleNotice(from, to, id, d, programAt(clients, d), settings.HelpURL, now)
	draft, err := s.NewDraft(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = draft.Abort() }() // nothing to do after Commit
	if _, err := draft.Write(append(header, body...)); err != nil {
		return err
	}
	// RFC 5321 §4.4: final delivery adds the Return-Path; a notice has the null one.
	prefix := []byte("Return-Path: <>\r\nDelivered-To: " + to.String() + "\r\n")
	_, err = draft.Commit(ctx, store.Envelope{
		Received: now, HeaderLen: int64(len(header)), HeaderID: id, EightBit: true, Origin: store.Origin{Door: "local"},
		Recipients: []store.Recipient{{Address: to, Account: account.ID, Prefix: prefix}},
	})
	return err
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

// staleNotice writes the message; both parts end with CRLF.
func staleNotice(from, to mailaddr.Address, id string, d guard.StaleDevice, program, help string, now time.Time) (header, body []byte) {
	var h, b bytes.Buffer
	for _, line := range []string{
		fmt.Sprintf("From: Latchkey <%s>", from), fmt.Sprintf("To: <%s>", to), "Subject: A device with an old password",
		"Date: " + now.Format(time.RFC1123Z), "Message-ID: " + id, "Auto-Submitted: auto-generated", // RFC 3834 §5
		"MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", "",
	} {
		h.WriteString(line + "\r\n")
	}
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
	return h.Bytes(), bytes.TrimSuffix(b.Bytes(), []byte("\r\n"))
}
