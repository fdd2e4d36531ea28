package relay

import (
	"context"
	"log/slog"

	"latchkey/store"
)

// The events below are for the operator. Their messages and keys are fixed; bodies and passwords are in none of them.

// logAttempt notes that a message is sent to a host now, for whoever looks for why that takes its time: the line of its outcome says as much.
func logAttempt(ctx context.Context, log *slog.Logger, to route, p peer, group []store.Job) {
	if !log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	log.LogAttrs(ctx, slog.LevelDebug, "delivery attempt", slog.String("id", group[0].Message.String()), slog.String("route", to.key()),
		slog.String("host", p.String()), slog.Int("recipients", len(group)))
}

// forTrail is a host as the store keeps it with an attempt.
func (p peer) forTrail() store.Peer {
	return store.Peer{Host: p.host, Addr: p.addr, TLS: p.facts.Short()}
}

// logEnding notes an outcome that is kept. What is put off because its destination is out of reach is not worth a line for each.
func logEnding(ctx context.Context, log *slog.Logger, e ending) {
	attrs := []slog.Attr{
		slog.String("id", e.job.Message.String()), slog.Uint64("job", uint64(e.job.ID)), slog.String("from", e.job.ReversePath.String()),
		slog.String("recipient", e.job.Recipient.String()), slog.Int64("size", e.job.Size), slog.Int("attempt", e.job.Attempts+1),
		slog.String("reply", e.outcome.Text), slog.String("tls", e.verdict.peer.facts.String()), slog.Bool("reported", e.reported),
	}
	level, event := slog.LevelInfo, "delivered"
	switch e.outcome.Kind {
	case store.Deferred:
		event = "deferred"
		attrs = append(attrs, slog.Time("next", e.outcome.Next))
		if e.outcome.Shared {
			level = slog.LevelDebug
		}
	case store.Failed:
		event = "failed"
	}
	log.LogAttrs(ctx, level, event, attrs...)
}

// logHost notes a host that could not be used.
func logHost(ctx context.Context, log *slog.Logger, v verdict) {
	log.LogAttrs(ctx, slog.LevelInfo, "host not reached", slog.String("host", v.peer.String()), slog.String("reason", v.words))
}

// logUnreachable notes a destination none of whose hosts can be used.
func logUnreachable(ctx context.Context, log *slog.Logger, to route, v verdict) {
	log.LogAttrs(ctx, slog.LevelInfo, "destination not reached", slog.String("route", to.key()), slog.String("reason", v.text()),
		slog.Any("err", v.cause))
}

// logAlarm notes what the operator has to see to: no sender can cure it.
func logAlarm(ctx context.Context, log *slog.Logger, v verdict) {
	log.LogAttrs(ctx, slog.LevelError, "outgoing mail waits for the operator", slog.String("reason", v.text()), slog.Any("err", v.cause))
}

// logNoReport notes a sender who cannot be told.
func logNoReport(ctx context.Context, log *slog.Logger, e ending, err error) {
	log.LogAttrs(ctx, slog.LevelWarn, "report not stored", slog.String("id", e.job.Message.String()),
		slog.String("to", e.job.ReversePath.String()), slog.Any("err", err))
}

// logBody notes a body that could not be put into a report.
func logBody(ctx context.Context, log *slog.Logger, j *store.Job, err error) {
	log.LogAttrs(ctx, slog.LevelError, "message not readable for its report", slog.String("id", j.Message.String()), slog.Any("err", err))
}

// logStore notes an error of the store.
func logStore(log *slog.Logger, doing string, err error) {
	log.LogAttrs(context.Background(), slog.LevelError, "store", slog.String("doing", doing), slog.Any("err", err))
}
