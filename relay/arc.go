package relay

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"latchkey/internal/dkim"
	"latchkey/internal/message"
	"latchkey/store"
)

const (
	// sealAge is how long a seal is used: it says how a message came, and that is known best when it has just come.
	sealAge = GiveUpAge
	// sealTries is how many attempts are put off because a key of the message's chain cannot be looked up. Then the chain counts as failed
	// (RFC 8617 §5.2.1): mail is worth more than its history.
	sealTries = 3
)

// Sealer seals messages of others that are sent on; *signing.Sealer is one.
type Sealer interface {
	// Seal reads a message to its end, octet for octet as it will be sent but for the dots, and returns the header fields to put before
	// it: none if nothing is to be said. accepted is how it came. dkim.ErrTemporary comes with fields that are as good as can be now.
	// dkim.ErrHeader and dkim.ErrNoFrom mean that nothing can be said of this message.
	Seal(ctx context.Context, domain string, accepted store.TrailEvent, content io.Reader) ([]byte, error)
}

// seal makes the seal of a message.
func (r *Runner) seal(ctx context.Context, first *store.Job, open body) ([]byte, *verdict) {
	settings, err := r.opts.Store.Settings(ctx)
	if err != nil {
		return nil, unsigned(err)
	}
	content := &lateBody{open: open}
	defer content.close()
	source := &bodyReader{r: content}
	fields, err := r.opts.Sealer.Seal(ctx, settings.Domain, r.accepted(ctx, first), message.NewRepairReader(source))
	switch {
	case source.err != nil:
		v := unreadable(source.err)
		return nil, &v
	case errors.Is(err, dkim.ErrTemporary) && first.Attempts < sealTries:
		v := ours(store.Deferred, aboutMessage, "4.4.3", "how the message came here cannot be verified now: the DNS does not answer")
		v.cause = err
		return nil, &v
	case errors.Is(err, dkim.ErrTemporary):
		r.log.LogAttrs(ctx, slog.LevelInfo, "chain of seals not verified", slog.String("id", first.Message.String()), slog.Any("err", err))
	case errors.Is(err, dkim.ErrHeader) || errors.Is(err, dkim.ErrNoFrom):
		r.log.LogAttrs(ctx, slog.LevelInfo, "message not sealed", slog.String("id", first.Message.String()), slog.Any("err", err))
		return nil, nil
	case err != nil:
		return nil, unsigned(err)
	}
	return fields, nil
}

// accepted is how a message came, as far as the trail knows. Mail is sent on without it too.
func (r *Runner) accepted(ctx context.Context, j *store.Job) store.TrailEvent {
	events, err := r.opts.Store.MessageTrail(ctx, j.Message)
	for _, e := range events {
		if e.Kind == store.TrailAccepted {
			return e
		}
	}
	if err != nil {
		r.log.LogAttrs(ctx, slog.LevelInfo, "trail not read", slog.String("id", j.Message.String()), slog.Any("err", err))
	}
	return store.TrailEvent{Message: j.Message, Time: j.Received}
}

// ageOf is how long what was put before a message is used.
func ageOf(j *store.Job) time.Duration {
	if j.Ours {
		return signatureAge
	}
	return sealAge
}
