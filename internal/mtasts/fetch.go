package mtasts

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"time"
)

const (
	// MaxPolicy bounds a policy's text, in octets (RFC 8461 §3.3: 64 kilobytes are reasonable).
	MaxPolicy = 64 << 10
	// FetchTime bounds a fetch, from the connection to the last octet (RFC 8461 §3.3: a minute is reasonable).
	FetchTime = time.Minute
	// maxHeader bounds the header of an answer, in octets.
	maxHeader = 16 << 10
)

// ErrCertificate: the policy host's certificate does not hold. ErrFetch is every other reason why there is no text.
var (
	ErrCertificate = errors.New("mtasts: the policy host's certificate does not hold")
	ErrFetch       = errors.New("mtasts: the policy cannot be fetched")
)

// Fetcher fetches policies. Its fields are not changed after the first call.
type Fetcher struct {
	// Dial connects to a host's port 443 by name.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS is the base of the configuration; nil is fine. Certificates are always checked.
	TLS *tls.Config
}

// Fetch gets a domain's policy (RFC 8461 §3.3). The domain is in canonical form. Redirections are not followed, nothing is cached here,
// and each call is one connection. Errors wrap ErrFetch, ErrCertificate or ErrInvalid.
func (f *Fetcher) Fetch(ctx context.Context, domain string) (Policy, error) {
	ctx, cancel := context.WithTimeout(ctx, FetchTime)
	defer cancel()
	c := &tls.Config{}
	if f.TLS != nil {
		c = f.TLS.Clone()
	}
	c.InsecureSkipVerify, c.MinVersion, c.ServerName = false, tls.VersionTLS12, ""
	transport := &http.Transport{
		DialContext: f.Dial, TLSClientConfig: c, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
	}
	defer transport.CloseIdleConnections()
	client := http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://mta-sts."+domain+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		return Policy{}, fmt.Errorf("%w: %w", ErrFetch, err)
	}
	response, err := client.Do(request)
	if err != nil {
		if bad := (*tls.CertificateVerificationError)(nil); errors.As(err, &bad) {
			return Policy{}, fmt.Errorf("%w: %w", ErrCertificate, err)
		}
		return Policy{}, fmt.Errorf("%w: %w", ErrFetch, err)
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	return read(response)
}

// read takes the policy out of an answer.
func read(response *http.Response) (Policy, error) {
	if response.StatusCode != http.StatusOK {
		return Policy{}, fmt.Errorf("%w: the policy host answers %d", ErrFetch, response.StatusCode)
	}
	if kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err != nil || kind != "text/plain" {
		return Policy{}, fmt.Errorf("%w: not text/plain", ErrFetch)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, MaxPolicy+1))
	switch {
	case err != nil:
		return Policy{}, fmt.Errorf("%w: %w", ErrFetch, err)
	case len(text) > MaxPolicy:
		return Policy{}, fmt.Errorf("%w: more than %d octets", ErrFetch, MaxPolicy)
	}
	return Parse(string(text))
}
