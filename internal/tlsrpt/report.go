package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	// MaxReport bounds a report's JSON, in octets, also as it comes out of gzip.
	MaxReport = 4 << 20
	// MaxPolicies and MaxFailures bound the policies of a report and the failures of each that are read; a report with more is refused.
	MaxPolicies = 10_000
	MaxFailures = 10_000
	// MaxURIs bounds the places of a TXT record that reports are sent to; MaxURI one of them, in octets.
	MaxURIs = 4
	MaxURI  = 1000
)

// The types of policy (RFC 8460 §4.4).
const (
	PolicySTS  = "sts"
	PolicyTLSA = "tlsa"
	PolicyNone = "no-policy-found"
)

// The types of result (RFC 8460 §4.3).
const (
	StartTLSNotSupported = "starttls-not-supported"
	HostMismatch         = "certificate-host-mismatch"
	Expired              = "certificate-expired"
	NotTrusted           = "certificate-not-trusted"
	ValidationFailure    = "validation-failure"
	TLSAInvalid          = "tlsa-invalid"
	DNSSECInvalid        = "dnssec-invalid"
	STSFetchError        = "sts-policy-fetch-error"
	STSInvalid           = "sts-policy-invalid"
	STSWebPKIInvalid     = "sts-webpki-invalid"
)

// ErrInvalid: what was read is no report. ErrTooLarge: it goes beyond a bound.
var (
	ErrInvalid  = errors.New("tlsrpt: not a TLS report")
	ErrTooLarge = errors.New("tlsrpt: report too large")
)

// Report is a day of sessions with the hosts of a domain (RFC 8460 §4.4).
type Report struct {
	Organization string    `json:"organization-name"`
	Range        DateRange `json:"date-range"`
	Contact      string    `json:"contact-info"`
	ID           string    `json:"report-id"`
	Policies     []Result  `json:"policies"`
}

// DateRange is from the first second to the last.
type DateRange struct {
	Start time.Time `json:"start-datetime"`
	End   time.Time `json:"end-datetime"`
}

// Result is what became of sessions under one policy.
type Result struct {
	Policy   Policy    `json:"policy"`
	Summary  Summary   `json:"summary"`
	Failures []Failure `json:"failure-details,omitempty"`
}

// Policy is what the sessions were judged by.
type Policy struct {
	Type   string   `json:"policy-type"`
	String []string `json:"policy-string,omitempty"`
	Domain string   `json:"policy-domain"`
	MX     []string `json:"mx-host,omitempty"`
}

// Summary counts sessions.
type Summary struct {
	Successful int64 `json:"total-successful-session-count"`
	Failed     int64 `json:"total-failure-session-count"`
}

// Failure is one kind of failure at one host.
type Failure struct {
	Type        string `json:"result-type"`
	SendingIP   string `json:"sending-mta-ip,omitempty"`
	ReceivingMX string `json:"receiving-mx-hostname,omitempty"`
	ReceivingIP string `json:"receiving-ip,omitempty"`
	Sessions    int64  `json:"failed-session-count"`
	Info        string `json:"additional-information,omitempty"`
	Reason      string `json:"failure-reason-code,omitempty"`
}

// Encode writes a report as application/tlsrpt+gzip.
func (r *Report) Encode() ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if len(text) > MaxReport {
		return nil, ErrTooLarge
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Decode reads a report, under gzip or not. It never holds more than MaxReport octets of text, whatever gzip promises.
func Decode(r io.Reader) (*Report, error) {
	head := make([]byte, 2)
	n, err := io.ReadFull(r, head)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	r = io.MultiReader(bytes.NewReader(head[:n]), r)
	if head[0] == 0x1f && head[1] == 0x8b {
		unzipped, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		r = unzipped
	}
	text, err := io.ReadAll(io.LimitReader(r, MaxReport+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	case len(text) > MaxReport:
		return nil, ErrTooLarge
	}
	report := &Report{}
	if err := json.Unmarshal(text, report); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return report, report.check()
}

func (r *Report) check() error {
	if len(r.Policies) == 0 {
		return fmt.Errorf("%w: no policies", ErrInvalid)
	}
	if len(r.Policies) > MaxPolicies {
		return ErrTooLarge
	}
	for _, p := range r.Policies {
		if len(p.Failures) > MaxFailures {
			return ErrTooLarge
		}
		if p.Summary.Successful < 0 || p.Summary.Failed < 0 {
			return fmt.Errorf("%w: a count below zero", ErrInvalid)
		}
	}
	return nil
}

// ParseRecord finds where a domain wants reports in the TXT records of _smtp._tls.DOMAIN (RFC 8460 §3): mailto and https addresses,
// MaxURIs at most. Nothing if it wants none, or if several records say so.
func ParseRecord(records []string) []string {
	var ours []string
	for _, r := range records {
		version, _, more := strings.Cut(r, ";")
		if more && strings.TrimRight(version, " \t") == "v=TLSRPTv1" {
			ours = append(ours, r)
		}
	}
	if len(ours) != 1 {
		return nil
	}
	for field := range strings.SplitSeq(ours[0], ";") {
		name, value, _ := strings.Cut(strings.Trim(field, " \t"), "=")
		if strings.Trim(name, " \t") != "rua" {
			continue
		}
		var uris []string
		for uri := range strings.SplitSeq(value, ",") {
			uri = strings.Trim(uri, " \t")
			scheme, _, _ := strings.Cut(uri, ":")
			scheme = strings.ToLower(scheme)
			if (scheme == "mailto" || scheme == "https") && len(uri) <= MaxURI && len(uris) < MaxURIs {
				uris = append(uris, uri)
			}
		}
		return uris
	}
	return nil
}
