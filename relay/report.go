package relay

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"latchkey/internal/mailaddr"
	"latchkey/internal/message"
	"latchkey/store"
)

// commitReport stores a report on jobs of one message and their outcomes in one commit. The report goes to the reverse-path, from the
// null reverse-path, and is never reported on itself (RFC 5321 §6.1).
func (r *Runner) commitReport(abort context.Context, group []ending) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(abort), settleTime)
	defer cancel()
	first := &group[0].job
	settings, err := r.opts.Store.Settings(ctx)
	if err != nil {
		return err
	}
	list, err := r.hearers(ctx, first, settings.Domain)
	if err != nil {
		return err
	}
	for _, h := range list {
		if err = r.commitReportTo(ctx, h, group, settings.Domain); !errors.Is(err, store.ErrNoRecipients) {
			break
		}
	}
	return err
}

func (r *Runner) commitReportTo(ctx context.Context, h hearer, group []ending, domain string) (err error) {
	first := &group[0].job
	b := r.newReport(group, h.to, domain)
	b.Subject = r.subject(ctx, first)
	if !b.UTF8 && first.UTF8 {
		// Many programs declare SMTPUTF8 whatever they send. The plain form is the one that every mail program can show.
		plain, err := onlyASCII(r.body(ctx, first.ID), first.HeaderLen)
		b.UTF8 = err == nil && !plain
	}
	// What cannot be read, or finds no room, is left out: the sender is owed the news rather than the copy.
	for _, form := range returnedForms(first, b.Report) {
		err = r.commitForm(ctx, b, form, h.route, group)
		switch {
		case errors.Is(err, errBody):
			logBody(ctx, r.log, first, err)
		case form != withMessage || !errors.Is(err, store.ErrMaildropFull) && !errors.Is(err, store.ErrDomainFull):
			return err
		}
	}
	return err
}

// form says what of the message a report carries.
type form int

const (
	withMessage form = iota
	withHeader
	withNothing
)

// returnedForms are what to try, best first. RFC 3461 §4.3 gives the sender the choice where the message failed, and headers alone
// where it did not; unset is ours, and a header is enough to know a message by.
func returnedForms(j *store.Job, report message.Report) []form {
	whole := j.Return == store.ReturnFull && j.TLS != store.TLSRequired // RFC 8689 §5
	if sentOn(j) {                                                      // What was to be sent on and not kept is nowhere else; and this report goes nowhere else.
		whole = !j.Kept
	}
	if whole && report == message.ReportFailed {
		return []form{withMessage, withHeader, withNothing}
	}
	return []form{withHeader, withNothing}
}

func (r *Runner) newReport(group []ending, to mailaddr.Address, domain string) *message.Bounce {
	first := &group[0].job
	b := &message.Bounce{
		Report: group[0].report, Hostname: r.opts.Hostname, Domain: domain, To: to, Date: r.opts.Now(),
		Arrived: first.Received, EnvelopeID: first.EnvelopeID, ID: randomID(),
		UTF8: !to.IsASCII(), Forwarder: first.ForwardedBy, Kept: first.Kept,
	}
	if sentOn(first) {
		b.EnvelopeID = "" // the sender's, who hears of nothing (RFC 3461 §5.2.7.1)
	}
	if b.Report == message.ReportDelayed {
		b.RetryUntil = first.Received.Add(GiveUpAge)
	}
	for i := range group {
		e := &group[i]
		if next := e.outcome.Next; b.Report == message.ReportDelayed && (b.Next.IsZero() || next.Before(b.Next)) {
			b.Next = next
		}
		b.UTF8 = b.UTF8 || !e.job.Recipient.IsASCII()
		b.Failed = append(b.Failed, message.FailedRecipient{
			Address: e.job.Recipient, Original: e.job.Original, Status: e.verdict.status,
			Diagnostic: e.verdict.words, RemoteMTA: e.verdict.peer.host,
			Answered: e.verdict.answered || e.verdict.kind == store.Delivered,
		})
	}
	return b
}

// subject is that of a job's message, as its sender knows it by; "" if it has none that can be read.
func (r *Runner) subject(ctx context.Context, j *store.Job) string {
	content, err := r.body(ctx, j.ID)()
	if err != nil {
		return ""
	}
	defer func() { _ = content.Close() }() // it was only read
	header, err := io.ReadAll(io.LimitReader(content, min(j.HeaderLen, message.MaxHeaderOctets)))
	if err != nil {
		return ""
	}
	return message.SubjectOf(header)
}

// commitForm writes the report in one form and commits it.
func (r *Runner) commitForm(ctx context.Context, b *message.Bounce, f form, route store.Route, group []ending) error {
	draft, err := r.opts.Store.NewDraft(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = draft.Abort() }() // nothing to do after Commit
	w := &eightBitWriter{w: draft}
	headerLen, err := r.write(ctx, w, b, f, &group[0].job)
	if err != nil {
		return err
	}
	e := store.Envelope{
		Received: r.opts.Now(), HeaderLen: headerLen, HeaderID: b.MessageID(), EightBit: w.seen, UTF8: b.UTF8, Ours: true,
		TLS:    reportDemand(&group[0].job),
		Origin: store.Origin{Door: "local"}, Settles: outcomesOf(group),
	}
	for _, id := range route.Local {
		e.Recipients = append(e.Recipients, store.Recipient{
			Address: b.To, Account: id, Prefix: []byte("Return-Path: <>\r\nDelivered-To: " + b.To.String() + "\r\n"),
		})
	}
	for _, a := range route.Remote {
		e.Recipients = append(e.Recipients, store.Recipient{Address: a, Notify: store.NotifyNever})
	}
	if len(e.Recipients) == 0 {
		return store.ErrNoRecipients
	}
	_, err = draft.Commit(ctx, e)
	return err
}

func (r *Runner) write(ctx context.Context, w io.Writer, b *message.Bounce, f form, j *store.Job) (int64, error) {
	if f == withNothing {
		return b.WriteHeaders(w, nil)
	}
	content, err := r.body(ctx, j.ID)()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errBody, err)
	}
	defer func() { _ = content.Close() }() // it was only read
	source := &bodyReader{r: content}
	var n int64
	if f == withMessage {
		n, err = b.WriteMessage(w, source)
	} else {
		var header []byte
		if header, err = io.ReadAll(io.LimitReader(source, min(j.HeaderLen, message.MaxHeaderOctets))); err == nil {
			n, err = b.WriteHeaders(w, header)
		}
	}
	if source.err != nil {
		return 0, source.err
	}
	return n, err
}

// body opens the octets of a job.
func (r *Runner) body(ctx context.Context, id store.JobID) body {
	return func() (io.ReadCloser, error) { return r.opts.Store.OpenJob(context.WithoutCancel(ctx), id) }
}

// eightBitWriter notes whether what passes needs 8BITMIME on its way.
type eightBitWriter struct {
	w    io.Writer
	seen bool
}

func (e *eightBitWriter) Write(p []byte) (int, error) {
	for _, c := range p {
		e.seen = e.seen || c >= 0x80
	}
	return e.w.Write(p)
}

// randomID makes a report's message id and boundary: 32 hex digits.
func randomID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
