package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"latchkey/config"
)

// Bounds of a batch of log lines.
const (
	// batchTime is how long a line waits for others.
	batchTime = 10 * time.Millisecond
	// batchSize is how many octets of lines do not wait longer.
	batchSize = 32 << 10
)

// newLogger writes to w. If that is a batch, warnings and errors do not wait in it.
func newLogger(w io.Writer, c config.Log) *slog.Logger {
	options := &slog.HandlerOptions{}
	switch c.Level {
	case "debug":
		options.Level = slog.LevelDebug
	case "warn":
		options.Level = slog.LevelWarn
	case "error":
		options.Level = slog.LevelError
	}
	var h slog.Handler = slog.NewTextHandler(w, options)
	if c.Format == "json" {
		h = slog.NewJSONHandler(w, options)
	}
	if b, ok := w.(*batch); ok {
		h = &urgentHandler{h, b}
	}
	return slog.New(h)
}

// batch collects log lines, so that thousands of events a second are some dozens of writes. The lines of the last batchTime are lost if
// the process is killed; what happened to a message is in its trail all the same.
type batch struct {
	w       io.Writer
	writing sync.Mutex // held during a write, so that lines stay in order

	mu    sync.Mutex // protects what follows
	lines []byte
	spare []byte // memory of a batch that was written
	armed bool   // a timer will flush
}

func newBatch(w io.Writer) *batch { return &batch{w: w} }

// Write takes one line, or more. It waits for the writer only when batchSize octets have come together.
func (b *batch) Write(p []byte) (int, error) {
	b.mu.Lock()
	b.lines = append(b.lines, p...)
	full, arm := len(b.lines) >= batchSize, !b.armed
	b.armed = true
	b.mu.Unlock()
	switch {
	case full:
		b.Flush()
	case arm:
		time.AfterFunc(batchTime, b.Flush)
	}
	return len(p), nil
}

// Flush writes what has come together. There is nobody to tell if that fails: it is the log.
func (b *batch) Flush() {
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.Lock()
	lines := b.lines
	b.lines, b.spare, b.armed = b.spare[:0], nil, false
	b.mu.Unlock()
	if len(lines) > 0 {
		_, _ = b.w.Write(lines)
	}
	if cap(lines) <= 2*batchSize {
		b.mu.Lock()
		b.spare = lines[:0]
		b.mu.Unlock()
	}
}

// urgentHandler flushes after warnings and errors.
type urgentHandler struct {
	slog.Handler
	out *batch
}

// Handle implements slog.Handler.
func (h *urgentHandler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		h.out.Flush()
	}
	return err
}

// WithAttrs implements slog.Handler.
func (h *urgentHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &urgentHandler{h.Handler.WithAttrs(attrs), h.out}
}

// WithGroup implements slog.Handler.
func (h *urgentHandler) WithGroup(name string) slog.Handler {
	return &urgentHandler{h.Handler.WithGroup(name), h.out}
}
