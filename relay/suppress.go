package relay

import (
	"context"
	"slices"
	"time"

	"latchkey/internal/message"
	"latchkey/store"
)

// noticeAge is the age from which the sender of a message that still waits is told so, 0 for never.
func (r *Runner) noticeAge(ctx context.Context) time.Duration {
	settings, err := r.opts.Store.Settings(context.WithoutCancel(ctx))
	if err != nil {
		r.trouble("reading the settings", err)
		return 0 // the next attempt is soon enough
	}
	return time.Duration(settings.DelayNotice) * time.Hour
}

// noteFailures counts the addresses whose servers said that there is no such mailbox. Whether anything follows of that is for those to decide
// who take mail for them.
func (r *Runner) noteFailures(abort context.Context, endings []ending) {
	var failures []store.Failure
	for i := range endings {
		e := &endings[i]
		v := &e.verdict
		if e.outcome.Kind == store.Failed && v.answered && v.scope == aboutRecipient && message.NoSuchMailbox(v.status, v.words) {
			failures = append(failures, store.Failure{Address: e.job.Recipient, At: e.outcome.At, Text: v.words})
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(abort), settleTime)
	defer cancel()
	for some := range slices.Chunk(failures, store.MaxNotedFailures) {
		if err := r.opts.Store.NoteFailures(ctx, some); err != nil {
			r.trouble("counting failed addresses", err) // the bounce was sent; one more will be
		}
	}
}
