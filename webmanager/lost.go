package webmanager

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// maxToldLost bounds the messages that one notice names.
const maxToldLost = 500

// TellLost puts a notice into the maildrop of everybody who has lost mail in a repair: of copies their owners, of deliveries to other domains
// their senders. Who cannot be told (the maildrop is full, the mailbox suspended) is in the error; the others are told in any case.
func TellLost(ctx context.Context, s Store, lost []store.Lost, now time.Time) error {
	byAccount := make(map[store.AccountID][]store.Lost)
	for _, l := range lost {
		id := l.Account
		if id == 0 {
			id = l.Submitter
		}
		if id != 0 {
			byAccount[id] = append(byAccount[id], l)
		}
	}
	settings, err := s.Settings(ctx)
	if err != nil {
		return err
	}
	var untold []error
	for _, id := range slices.Sorted(maps.Keys(byAccount)) {
		a, err := s.Account(ctx, id)
		if err == nil {
			err = tellLost(ctx, s, a, settings.Domain, byAccount[id], now)
		}
		if err != nil {
			untold = append(untold, fmt.Errorf("mailbox %d (%s) was not told: %w", id, a.Name, err))
		}
	}
	return errors.Join(untold...)
}

func tellLost(ctx context.Context, s Store, a store.Account, domain string, lost []store.Lost, now time.Time) error {
	to, err := mailaddr.New(a.Name, domain)
	if err != nil {
		return err
	}
	postmaster, err := mailaddr.New("postmaster", domain)
	if err != nil {
		return err
	}
	id := "<lost." + rand.Text() + "@" + domain + ">"
	header, body := lostNotice(postmaster, to, id, lost, now)
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
		Recipients: []store.Recipient{{Address: to, Account: a.ID, Prefix: prefix}},
	})
	return err
}

// lostNotice writes the message; both parts end with CRLF.
func lostNotice(from, to mailaddr.Address, id string, lost []store.Lost, now time.Time) (header, body []byte) {
	var h, b bytes.Buffer
	for _, line := range []string{
		fmt.Sprintf("From: Latchkey <%s>", from), fmt.Sprintf("To: <%s>", to), "Subject: Mail that was lost",
		"Date: " + now.Format(time.RFC1123Z), "Message-ID: " + id, "Auto-Submitted: auto-generated", // RFC 3834 §5
		"MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", "",
	} {
		h.WriteString(line + "\r\n")
	}
	wrap := func(text, indent string) {
		for _, l := range broken(text, noticeWidth-len(indent)) {
			b.WriteString(indent + l + "\r\n")
			indent = strings.Repeat(" ", len(indent))
		}
	}
	wrap("The disk of this mail server did not keep what was written on it. The mail below can no longer be read, and was removed. Please ask its senders for it again; what you had sent, send again. Whoever runs the server may have parts of it, or a backup.", "")
	b.WriteString("\r\n")
	for i := range lost {
		if i == maxToldLost {
			wrap(fmt.Sprintf("and %d more", len(lost)-i), "- ")
			break
		}
		wrap(lostLine(&lost[i]), "- ")
	}
	return h.Bytes(), b.Bytes()
}

func lostLine(l *store.Lost) string {
	var b strings.Builder
	if l.Account != 0 {
		fmt.Fprintf(&b, "from <%s>", l.Sender)
	} else {
		fmt.Fprintf(&b, "to <%s>, not delivered", l.Recipient)
	}
	if !l.Received.IsZero() {
		fmt.Fprintf(&b, ", received %s, %d octets", l.Received.UTC().Format(time.RFC3339), l.Size)
	}
	if l.HeaderID != "" {
		fmt.Fprintf(&b, ", Message-ID %s", l.HeaderID)
	}
	if l.UID != "" {
		fmt.Fprintf(&b, ", unique-id %s", l.UID)
	}
	return plainText(b.String())
}
