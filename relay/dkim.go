package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"latchkey/internal/dkim"
	"latchkey/internal/message"
	"latchkey/store"
)

const (
	// maxSignatures bounds the messages whose signatures or seals are kept for their other recipients, maxSignature each of them in octets.
	maxSignatures = 1000
	maxSignature  = 4 << 10
	// signatureAge is how long they are used: a later attempt signs anew, with the keys of then.
	signatureAge = time.Hour
)

// Signer signs messages; *signing.Signer is one.
type Signer interface {
	// Sign reads a message to its end, octet for octet as it will be sent but for the dots, and returns the header fields to put before
	// it: none if there is no key. dkim.ErrHeader and dkim.ErrNoFrom mean that no signature can be made of this message.
	Sign(ctx context.Context, domain string, content io.Reader) ([]byte, error)
}

// signed puts the domain's signatures before a message, and returns its jobs with the sizes that it has then. A message that is not the
// domain's own is not signed: a signature would vouch for what somebody else wrote, and could not be aligned with its From (RFC 7489 §3.1)
// anyway. If it is sent on from here it is sealed. A verdict says why the message cannot be sent now.
//
// It is signed here and not when it is accepted, so that local copies have none, a new key counts for what waits, and what is hashed is
// what is sent: nothing converts or edits a message behind this point.
func (r *Runner) signed(ctx context.Context, jobs []store.Job, open body) ([]store.Job, body, *verdict) {
	first := &jobs[0]
	var vouch func(context.Context, *store.Job, body) ([]byte, *verdict)
	switch {
	case first.Ours && r.opts.Signer != nil:
		vouch = r.sign
	case !first.Ours && sentOn(first) && r.opts.Sealer != nil:
		vouch = r.seal
	default:
		return jobs, open, nil
	}
	fields, ok := r.signatures.get(first.Message, ageOf(first), r.opts.Now())
	if !ok {
		var v *verdict
		if fields, v = vouch(ctx, first, open); v != nil {
			return nil, nil, v
		}
		r.signatures.put(first.Message, fields, r.opts.Now())
	}
	if len(fields) == 0 {
		return jobs, open, nil
	}
	jobs, open = headed(fields, jobs, open)
	return jobs, open, nil
}

// sign makes the signatures of a message.
func (r *Runner) sign(ctx context.Context, first *store.Job, open body) ([]byte, *verdict) {
	settings, err := r.opts.Store.Settings(ctx)
	if err != nil {
		return nil, unsigned(err)
	}
	content := &lateBody{open: open}
	defer content.close()
	source := &bodyReader{r: content}
	fields, err := r.opts.Signer.Sign(ctx, settings.Domain, message.NewRepairReader(source))
	switch {
	case source.err != nil:
		v := unreadable(source.err)
		return nil, &v
	case errors.Is(err, dkim.ErrHeader) || errors.Is(err, dkim.ErrNoFrom):
		r.log.LogAttrs(ctx, slog.LevelInfo, "message not signed", slog.String("id", first.Message.String()), slog.Any("err", err))
		return nil, nil
	case err != nil:
		return nil, unsigned(err)
	}
	return fields, nil
}

// lateBody is a body that is opened when it is first read: while there are no keys it never is.
type lateBody struct {
	open    body
	content io.ReadCloser
}

func (l *lateBody) Read(p []byte) (int, error) {
	if l.content == nil {
		content, err := l.open()
		if err != nil {
			return 0, err
		}
		l.content = content
	}
	return l.content.Read(p)
}

func (l *lateBody) close() {
	if l.content != nil {
		_ = l.content.Close() // it was only read
	}
}

// unsigned is the verdict on a message while the keys cannot be had: where receivers want signatures it would be lost in a junk folder.
func unsigned(err error) *verdict {
	v := ours(store.Deferred, aboutMessage, "4.3.0", "the message cannot be signed")
	v.alarm, v.cause = !errors.Is(err, context.Canceled), err
	return &v
}

// headed puts fields before a message, and returns its jobs with the sizes that it has then.
func headed(fields []byte, jobs []store.Job, open body) ([]store.Job, body) {
	jobs = slices.Clone(jobs)
	for i := range jobs {
		jobs[i].Size += int64(len(fields))
		jobs[i].HeaderLen += int64(len(fields))
	}
	return jobs, func() (io.ReadCloser, error) {
		content, err := open()
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(fields), content), content}, nil
	}
}

// signatures keeps those of the messages that were signed last, so that one message to many destinations is hashed and signed once.
type signatures struct {
	mu   sync.Mutex // protects what follows
	kept map[store.MessageID]signature
	// order are the messages in the order in which they came; next is where the next one goes, in the place of the oldest.
	order []store.MessageID
	next  int
}

type signature struct {
	fields []byte
	at     time.Time
}

func newSignatures() *signatures { return &signatures{kept: map[store.MessageID]signature{}} }

func (s *signatures) get(id store.MessageID, age time.Duration, now time.Time) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, ok := s.kept[id]
	return kept.fields, ok && now.Sub(kept.at) < age
}

func (s *signatures) put(id store.MessageID, fields []byte, now time.Time) {
	if len(fields) == 0 || len(fields) > maxSignature {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.kept[id]; !ok {
		if len(s.order) < maxSignatures {
			s.order = append(s.order, id)
		} else {
			delete(s.kept, s.order[s.next])
			s.order[s.next] = id
			s.next = (s.next + 1) % maxSignatures
		}
	}
	s.kept[id] = signature{fields: fields, at: now}
}
