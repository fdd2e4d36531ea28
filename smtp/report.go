package smtp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/internal/message"
	"latchkey/store"
)

// leftOut answers for recipients that the commit could not serve although RCPT could. The sender gets a bounce, in a commit of its own
// after the message's: a crash between the two loses the bounce, and the trail still shows who was left out.
func (s *session) leftOut(tx *transaction, h *message.Header, receipt store.Receipt) {
	if len(receipt.Failed) == 0 {
		return
	}
	// The bounce is owed even if the client hangs up meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), bounceTime)
	defer cancel()
	var report []message.FailedRecipient
	reported := make(map[int]bool)
	for _, f := range receipt.Failed {
		i := tx.of[f.Index]
		if reported[i] || tx.wishes[i].sentOn || s.served(ctx, tx.addresses[i], receipt.Copies) {
			continue
		}
		reported[i] = true
		logLeftOut(ctx, s.log, receipt.Message, tx.addresses[i], f.Err)
		w := tx.wishes[i]
		// RFC 3461 §4.1: NOTIFY without FAILURE wants no bounce.
		if w.notify != 0 && w.notify&store.NotifyFailure == 0 {
			continue
		}
		v, _ := verdictOn(f.Err)
		report = append(report, message.FailedRecipient{
			Address: tx.addresses[i], Original: w.original,
			Status: fmt.Sprintf("5.%d.%d", v.row().SMTP.Status[1], v.row().SMTP.Status[2]), Diagnostic: v.text(),
		})
	}
	// RFC 5321 §4.5.5: never to the null reverse-path.
	if len(report) == 0 || tx.reversePath.IsZero() {
		return
	}
	if err := s.report(ctx, tx, h, message.ReportFailed, report); err != nil {
		s.log.Error("bounce not sent", "id", receipt.Message.String(), "err", err)
	}
}

// delivered tells our own users of copies in local mailboxes, where they asked for it (RFC 3461 §5.2.3). What is sent on from here counts as
// delivered: where to is nobody's business but the recipient's (RFC 3461 §5.2.7.4).
//
// Deviation: strangers are not told. Whoever forges a reverse-path could have us send mail to anybody.
func (s *session) delivered(tx *transaction, h *message.Header, receipt store.Receipt) {
	if !submits(tx.who) || tx.reversePath.IsZero() {
		return
	}
	var report []message.FailedRecipient
	for i, w := range tx.wishes {
		// By address and not by copy: who names a mailbox twice gets one copy of it, and an answer for each name.
		stored := func(c store.Copy) bool { return slices.Contains(w.accounts, c.Account) }
		if w.notify&store.NotifySuccess == 0 || !w.sentOn && !slices.ContainsFunc(receipt.Copies, stored) {
			continue
		}
		f := message.FailedRecipient{
			Address: tx.addresses[i], Original: w.original, Status: "2.0.0", Diagnostic: "put into the mailbox", Expanded: len(w.accounts)+w.outside > 1,
		}
		if f.Expanded { // RFC 3461 §5.2.7.3 (c)
			f.Diagnostic = "put into the mailboxes that the address leads to"
		}
		report = append(report, f)
	}
	if len(report) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), bounceTime)
	defer cancel()
	if err := s.report(ctx, tx, h, message.ReportDelivered, report); err != nil {
		s.log.Error("report of delivery not sent", "id", receipt.Message.String(), "err", err)
	}
}

// served reports whether an address of which one mailbox was left out still got the message: by another mailbox of the same alias.
func (s *session) served(ctx context.Context, addr mailaddr.Address, copies []store.Copy) bool {
	route, err := s.srv.opts.Store.Resolve(ctx, addr)
	return err == nil && slices.ContainsFunc(copies, func(c store.Copy) bool { return slices.Contains(route.Local, c.Account) })
}

// needsUTF8 reports whether a bounce needs the international form (RFC 6533). Many programs declare SMTPUTF8 whatever they send, and the
// plain form is the one that every mail program can show.
func needsUTF8(tx *transaction, h *message.Header, report []message.FailedRecipient) bool {
	return !tx.reversePath.IsASCII() || slices.ContainsFunc(h.Octets(), func(c byte) bool { return c >= 0x80 }) ||
		slices.ContainsFunc(report, func(f message.FailedRecipient) bool { return !f.Address.IsASCII() })
}

// bounceTime bounds the commit of one report.
const bounceTime = 30 * time.Second

// report puts a report about the message to its reverse-path into the store.
func (s *session) report(
	ctx context.Context, tx *transaction, h *message.Header, kind message.Report, recipients []message.FailedRecipient,
) error {
	route, err := s.srv.opts.Store.Resolve(ctx, tx.reversePath)
	if err != nil {
		return err
	}
	if len(route.Remote) > 0 && !tx.settings.OutgoingMail {
		return errors.New("smtp: mail out of the domain is switched off")
	}
	b := message.Bounce{
		Hostname: s.srv.opts.Hostname, Domain: tx.settings.Domain, To: tx.reversePath, Date: s.srv.opts.Now(), Arrived: s.srv.opts.Now(),
		Report: kind, EnvelopeID: tx.envelopeID, ID: randomID() + randomID(), Failed: recipients,
		UTF8: tx.utf8 && needsUTF8(tx, h, recipients), Subject: message.SubjectOf(h.Octets()),
	}
	draft, err := s.srv.opts.Store.NewDraft(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = draft.Abort() }() // nothing to do after Commit
	headerLen, err := b.WriteHeaders(draft, h.Octets())
	if err != nil {
		return err
	}
	e := store.Envelope{
		Received: s.srv.opts.Now(), HeaderLen: headerLen, HeaderID: b.MessageID(), UTF8: b.UTF8, Ours: true,
		// What is returned is as it came, whatever was declared of it, and so are the words.
		EightBit: true, Origin: store.Origin{Door: "local"},
	}
	if tx.tls == store.TLSRequired {
		e.TLS = store.TLSRequired // RFC 8689 §5: a report is protected as what it is about
	}
	for _, id := range route.Local {
		e.Recipients = append(e.Recipients, store.Recipient{
			Address: tx.reversePath, Account: id, Prefix: prefix(mailaddr.Address{}, tx.reversePath),
		})
	}
	for _, a := range route.Remote {
		e.Recipients = append(e.Recipients, store.Recipient{Address: a, Notify: store.NotifyNever})
	}
	_, err = draft.Commit(ctx, e)
	return err
}
