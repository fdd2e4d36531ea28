package webmanager

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/internal/relayprobe"
	"latchkey/store"
)

// proveRelay runs the relay proof, which takes a part of a second, and answers with its report.
func (a *API) proveRelay(r *http.Request) (any, error) {
	if a.relayProof == nil {
		return nil, errors.New("webmanager: nothing to prove with")
	}
	report, err := a.relayProof(r.Context())
	if err != nil {
		return nil, err
	}
	return &report, nil
}

// TellRelay puts a notice into the maildrops that postmaster leads to: the relay proof failed, and what the server did about it.
func TellRelay(ctx context.Context, s Store, report relayprobe.Report, now time.Time) error {
	postmaster, err := mailaddr.New("postmaster", report.Domain)
	if err != nil {
		return err
	}
	route, err := s.Resolve(ctx, postmaster)
	if err != nil {
		return err
	}
	if len(route.Local) == 0 {
		return errors.New("webmanager: postmaster leads nowhere")
	}
	id := "<relay." + rand.Text() + "@" + report.Domain + ">"
	header, body := relayNotice(postmaster, id, report, now)
	draft, err := s.NewDraft(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = draft.Abort() }() // nothing to do after Commit
	if _, err := draft.Write(append(header, body...)); err != nil {
		return err
	}
	e := store.Envelope{Received: now, HeaderLen: int64(len(header)), HeaderID: id, EightBit: true, Origin: store.Origin{Door: "local"}}
	for _, account := range route.Local {
		// RFC 5321 §4.4: final delivery adds the Return-Path; a notice has the null one.
		prefix := []byte("Return-Path: <>\r\nDelivered-To: " + postmaster.String() + "\r\n")
		e.Recipients = append(e.Recipients, store.Recipient{Address: postmaster, Account: account, Prefix: prefix})
	}
	_, err = draft.Commit(ctx, e)
	return err
}

// relayNotice writes the message; both parts end with CRLF.
func relayNotice(to mailaddr.Address, id string, report relayprobe.Report, now time.Time) (header, body []byte) {
	var h, b bytes.Buffer
	for _, line := range []string{
		fmt.Sprintf("From: Latchkey <%s>", to), fmt.Sprintf("To: <%s>", to), "Subject: The relay proof failed: ports 25, 465 and 587 are closed",
		"Date: " + now.Format(time.RFC1123Z), "Message-ID: " + id, "Auto-Submitted: auto-generated", // RFC 3834 §5
		"MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", "",
	} {
		h.WriteString(line + "\r\n")
	}
	wrap := func(text, indent string) {
		for _, l := range broken(text, noticeWidth-len(indent)) {
			b.WriteString(indent + l + "\r\n")
		}
		b.WriteString("\r\n")
	}
	wrap(fmt.Sprintf("At %s this server tried on itself whether strangers can send mail through it, and did not pass:", now.UTC().Format(time.RFC3339)), "")
	wrap(plainText(report.Fault), "  ")
	wrap("It takes no more mail by SMTP, so that nobody sends spam through it; mail can be fetched as before. Mail from outside waits at its senders.", "")
	wrap("latchkey relay-proof shows the whole report, latchkey audit who changed what, and latchkey queue list what waits to be sent. "+
		"When it is mended, start the server again: it begins with this proof.", "")
	return h.Bytes(), b.Bytes()
}
