package smtp

import (
	"context"
	"log/slog"

	"latchkey/internal/mailaddr"
	"latchkey/internal/message"
	"latchkey/store"
)

// The events below are for the operator. Their messages and keys are fixed; bodies, passwords and AUTH lines are in none of them.

// logAccept notes that the store took responsibility for a message.
func logAccept(ctx context.Context, log *slog.Logger, tx *transaction, id store.MessageID, size, longLines int64, hold string) {
	if hold != "" {
		log = log.With(slog.String("hold", hold))
	}
	log.LogAttrs(ctx, slog.LevelInfo, "message accepted",
		slog.String("id", id.String()), slog.Any("sender", tx.who), slog.String("from", tx.reversePath.String()),
		slog.Int("recipients", len(tx.recipients)), slog.Int64("size", size), slog.Int64("long_lines", longLines),
		slog.String("with", tx.with))
}

// logLeftOut notes a recipient that the commit could not serve although RCPT could.
func logLeftOut(ctx context.Context, log *slog.Logger, id store.MessageID, rcpt mailaddr.Address, err error) {
	log.LogAttrs(ctx, slog.LevelWarn, "recipient left out",
		slog.String("id", id.String()), slog.String("recipient", rcpt.String()), slog.Any("err", err))
}

// logReject notes a command that was refused. The peer's fault is Info, ours is Error.
func logReject(ctx context.Context, log *slog.Logger, command string, r *refused, ours bool, err error) {
	level := slog.LevelInfo
	if ours {
		level = slog.LevelError
	}
	log.LogAttrs(ctx, level, "command refused", slog.String("command", command), slog.Int("code", r.row().SMTP.Code),
		slog.String("refusal", string(r.name)), slog.String("reply", r.text()), slog.Any("err", err))
}

// logAnswered notes a vacation answer that the store took.
func logAnswered(ctx context.Context, log *slog.Logger, id store.MessageID, a *message.Answer) {
	log.LogAttrs(ctx, slog.LevelInfo, "vacation answered",
		slog.String("id", id.String()), slog.String("mailbox", a.From.String()), slog.String("to", a.To.String()))
}

// logNotAnswered notes why a message to a mailbox with vacation answers is not answered.
func logNotAnswered(ctx context.Context, log *slog.Logger, id store.MessageID, why string) {
	log.LogAttrs(ctx, slog.LevelDebug, "vacation not answered", slog.String("id", id.String()), slog.String("why", why))
}
