package webmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"latchkey/store"
)

// Of a backup's request and answer.
const (
	// BackupType is the media type of the answer: the stream of package internal/archive.
	BackupType = "application/x-tar"
	// ManifestType is the media type of the request: what the receiver has already, or nothing.
	ManifestType = "text/plain"
	// MaxManifestSize bounds the request in octets; the longest manifest has some 90 octets a piece.
	MaxManifestSize = 512 << 20
	// backupStall is how long a receiver may take nothing before the backup is given up: it keeps space from being freed.
	backupStall = 2 * time.Minute
	// manifestTime is how long the request may take to arrive.
	manifestTime = 10 * time.Minute
	// refusalTrailer carries the refusal of an answer that broke off, as JSON.
	refusalTrailer = "Latchkey-Refusal"
)

// errNoArchive is for stores that keep nothing.
var errNoArchive = &Error{Code: CodeUnavailable, Message: "this kind of store cannot be backed up"}

// backup streams a backup. What goes wrong after the first octet is said in the trailer; an answer without its manifest is no backup anyway.
func (a *API) backup(w http.ResponseWriter, r *http.Request) {
	refuse := func(err error) {
		refusal := a.refusal(r, withDamage(err))
		writeJSON(w, refusal.Code.Status(), refusal)
	}
	archiver, ok := a.store.(store.Archiver)
	if !ok {
		refuse(errNoArchive)
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(manifestTime)) // not everybody has deadlines: a caller in this process has none
	w.Header().Set("Trailer", refusalTrailer)
	out := &rollingWriter{w: w, control: control, stall: a.backupStall, media: BackupType}
	err := a.archive(r, archiver, http.MaxBytesReader(w, r.Body, a.maxManifest), out)
	if err == nil {
		err = a.audit(r.Context(), "backup", "", nil, nil)
	}
	switch {
	case err != nil && !out.begun:
		w.Header().Del("Trailer")
		refuse(err)
	case err != nil:
		text, _ := json.Marshal(a.refusal(r, withDamage(err))) // it is three strings
		w.Header().Set(refusalTrailer, string(text))
	}
}

// archive is the store's, whose panic ends this answer and nothing else.
func (a *API) archive(r *http.Request, s store.Archiver, have io.Reader, w io.Writer) (err error) {
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("panic in the management API", "panic", p, "stack", string(debug.Stack()))
			err = internalError()
		}
	}()
	return s.Archive(r.Context(), have, w)
}

// withDamage lets whoever cares for the data know what of it is damaged, or too large.
func withDamage(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &Error{Code: CodeTooLarge, Message: fmt.Sprintf("the manifest of the older backup is larger than %d octets", tooLarge.Limit)}
	case !errors.Is(err, store.ErrDamaged):
		return err
	}
	text := strings.ReplaceAll(strings.ReplaceAll(err.Error(), store.ErrDamaged.Error()+": ", ""), "\n", "; ")
	return &Error{Code: CodeDamaged, Message: "something that is stored is damaged: " + text + "; see latchkey check"}
}

// rollingWriter gives up when nothing was taken for too long.
type rollingWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	// media is the type of what is written.
	media string
	begun bool
}

func (o *rollingWriter) Write(p []byte) (int, error) {
	if !o.begun {
		o.begun = true
		o.w.Header().Set("Content-Type", o.media)
		o.w.Header().Set("Cache-Control", "no-store")
	}
	_ = o.control.SetWriteDeadline(time.Now().Add(o.stall)) // see backup
	return o.w.Write(p)
}

// Stream makes one request whose answer is read as it comes: r is the body, or nil. Reading the answer to its end reports what broke it off.
// The caller closes it.
func (c *Client) Stream(ctx context.Context, method, path, mediaType string, body io.Reader) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://latchkey"+path, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", mediaType)
	send := c.transport.RoundTrip
	if d, ok := c.transport.(direct); ok {
		send = d.stream
	}
	response, err := send(r)
	if err != nil {
		return nil, fmt.Errorf("the server broke off: %w", err)
	}
	if response.StatusCode >= 300 {
		defer func() { _ = response.Body.Close() }() // the refusal is read
		return nil, readRefusal(response)
	}
	return &streamed{response}, nil
}

// readRefusal reads the answer of a request that was refused.
func readRefusal(response *http.Response) error {
	refusal := &Error{}
	err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(refusal)
	if err != nil || refusal.Message == "" {
		return fmt.Errorf("the server answered %s", response.Status)
	}
	return refusal
}

// streamed is the body of an answer whose trailer may hold a refusal.
type streamed struct{ response *http.Response }

func (s *streamed) Read(p []byte) (int, error) {
	n, err := s.response.Body.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	text := s.response.Trailer.Get(refusalTrailer)
	if text == "" {
		return n, err
	}
	refusal := &Error{}
	if json.Unmarshal([]byte(text), refusal) != nil || refusal.Message == "" {
		return n, io.ErrUnexpectedEOF
	}
	return n, refusal
}

func (s *streamed) Close() error { return s.response.Body.Close() }

// stream calls the handler in a goroutine of its own, which has ended when the body is closed or read to its end.
func (d direct) stream(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	body, out := io.Pipe()
	w := &piped{header: http.Header{}, out: out, begun: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		d.api.ServeHTTP(w, r.WithContext(WithActor(r.Context(), d.actor)))
		w.begin(http.StatusOK)
		w.response.Trailer.Set(refusalTrailer, w.header.Get(refusalTrailer))
		_ = out.Close() // never fails
	}()
	<-w.begun
	w.response.Body, w.response.Request = &pipedBody{body, w.ended}, r
	return &w.response, nil
}

// piped is an answer that goes through a pipe.
type piped struct {
	header       http.Header
	response     http.Response
	out          *io.PipeWriter
	begun, ended chan struct{}
	once         bool
}

func (p *piped) begin(status int) {
	if p.once {
		return
	}
	p.once = true
	p.response = http.Response{
		Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: p.header.Clone(), Trailer: http.Header{}, ContentLength: -1,
	}
	close(p.begun)
}

func (p *piped) Header() http.Header    { return p.header }
func (p *piped) WriteHeader(status int) { p.begin(status) }

func (p *piped) Write(b []byte) (int, error) {
	p.begin(http.StatusOK)
	return p.out.Write(b)
}

// pipedBody waits for the handler when it is closed.
type pipedBody struct {
	*io.PipeReader
	ended chan struct{}
}

func (b *pipedBody) Close() error {
	err := b.PipeReader.Close()
	<-b.ended
	return err
}

// Compacted is what a compaction did.
type Compacted = store.Compaction

func (a *API) compact(r *http.Request) (any, error) {
	compacter, ok := a.store.(store.Compacter)
	if !ok {
		return nil, &Error{Code: CodeUnavailable, Message: "this kind of store has nothing to compact"}
	}
	result, err := compacter.Compact(r.Context())
	if err != nil {
		return nil, withDamage(err)
	}
	return result, a.audit(r.Context(), "compact", "", nil, result)
}
