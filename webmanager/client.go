package webmanager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
)

// maxAnswer bounds what a client reads of one answer, in octets.
const maxAnswer = 256 << 20

// ErrNotServed: no server answers on the control socket of the data directory.
var ErrNotServed = errors.New("webmanager: no server on the control socket")

// Client speaks to an API.
type Client struct {
	transport http.RoundTripper
	close     func()
}

// DialControl returns a client of the server that runs on a data directory, or ErrNotServed. The caller closes it.
func DialControl(ctx context.Context, dir string) (*Client, error) {
	path := filepath.Join(dir, ControlSocket)
	dial := func(ctx context.Context) (net.Conn, error) {
		address, release, err := socketAddress(path)
		if err != nil {
			return nil, err
		}
		defer release()
		return (&net.Dialer{}).DialContext(ctx, "unix", address)
	}
	probe, err := dial(ctx)
	if notThere(err) {
		return nil, fmt.Errorf("%w: %w", ErrNotServed, err)
	}
	if err != nil {
		return nil, err
	}
	_ = probe.Close() // it has answered
	t := &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableCompression: true,
	}
	return &Client{transport: t, close: t.CloseIdleConnections}, nil
}

// InProcess returns a client of an API in this process.
func InProcess(api *API, actor Actor) *Client {
	return &Client{transport: direct{api, actor}, close: func() {}}
}

// notThere reports whether dialling failed because nobody listens: the socket is absent, or left behind by a process that died.
func notThere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// Close ends idle connections.
func (c *Client) Close() { c.close() }

// Do makes one request: in is sent as JSON unless it is nil, and the answer read into out unless that is nil. A refusal is an [*Error].
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://latchkey"+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := c.transport.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("the server broke off: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // read to its end, or no longer wanted
	answer := json.NewDecoder(io.LimitReader(response.Body, maxAnswer))
	switch {
	case response.StatusCode >= 300:
		return readRefusal(response)
	case out == nil || response.StatusCode == http.StatusNoContent:
		return nil
	default:
		return answer.Decode(out)
	}
}

// Path joins the segments of a path and quotes what needs it.
func Path(segments ...string) string {
	var b strings.Builder
	b.WriteString("/v1")
	for _, s := range segments {
		b.WriteString("/" + url.PathEscape(s))
	}
	return b.String()
}

// direct calls the handler in the caller's goroutine.
type direct struct {
	api   *API
	actor Actor
}

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := &buffered{header: http.Header{}, status: http.StatusOK}
	d.api.ServeHTTP(w, r.WithContext(WithActor(r.Context(), d.actor)))
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r,
	}, nil
}

// buffered is an answer in memory; listings are bounded, so it is too.
type buffered struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (b *buffered) Header() http.Header         { return b.header }
func (b *buffered) WriteHeader(status int)      { b.status = status }
func (b *buffered) Write(p []byte) (int, error) { return b.body.Write(p) }
