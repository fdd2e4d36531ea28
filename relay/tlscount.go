package relay

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"latchkey/internal/dane"
	"latchkey/internal/mtasts"
	"latchkey/internal/tlsrpt"
	"latchkey/store"
)

const (
	// countShards is how many blobs of the store hold the sessions of one day.
	countShards = 16
	// maxCounted bounds the domains of a shard, maxCountedPolicies the policies of a domain that differ in a day, maxCountedFailures the
	// kinds of failure under one. What is beyond them is not counted, or only in the sum.
	maxCounted         = 500
	maxCountedPolicies = 4
	maxCountedFailures = 20
	// maxPolicyString bounds the lines of a policy that a report repeats.
	maxPolicyString = 20
)

// counted are the sessions of one day with the hosts of one domain.
type counted struct {
	// URIs are where the domain wants its report, Sent those that have it.
	URIs []string `json:"uris"`
	Sent []string `json:"sent,omitempty"`
	// Results have no failure twice.
	Results []tlsrpt.Result `json:"results"`
}

// dayShard is a part of the domains of a day.
type dayShard struct {
	day   string // as time.DateOnly, UTC
	shard int
}

func (d dayShard) name() string { return fmt.Sprintf("tlsrpt/%s/%02d", d.day, d.shard) }

// tlsCounter counts the sessions with domains that want reports (RFC 8460 §4). What it counted in the last minutes is lost in a crash.
type tlsCounter struct {
	secrets Secrets
	now     func() time.Time
	log     *slog.Logger

	mu     sync.Mutex // protects what follows
	shards map[dayShard]map[string]*counted
	dirty  map[dayShard]bool
}

func newTLSCounter(secrets Secrets, now func() time.Time, log *slog.Logger) *tlsCounter {
	return &tlsCounter{secrets: secrets, now: now, log: log, shards: map[dayShard]map[string]*counted{}, dirty: map[dayShard]bool{}}
}

func dayOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// tlsResult counts one session, or one that did not come about because of TLS; nil is success.
func (r *Runner) tlsResult(d door, p peer, err error) {
	if len(d.rua) == 0 {
		return
	}
	policy := policyOf(d)
	if err == nil && policy.Type == tlsrpt.PolicyTLSA && d.dane == nil {
		err = errTLSAUnusable
	}
	var failure *tlsrpt.Failure
	if err != nil {
		f := tlsrpt.Failure{Type: resultType(err), ReceivingMX: p.host, Sessions: 1}
		if p.addr.IsValid() {
			f.ReceivingIP = p.addr.Unmap().String()
		}
		if p.from.IsValid() {
			f.SendingIP = p.from.Unmap().String()
		}
		failure = &f
	}
	r.counter.add(d.policy, d.rua, policy, failure)
}

// errTLSAUnusable: there are TLSA records, and none of them can be used.
var errTLSAUnusable = errors.New("relay: no usable TLSA record")

// policyOf is the policy that a host was held to, as a report shows it (RFC 8460 §4.4).
func policyOf(d door) tlsrpt.Policy {
	p := tlsrpt.Policy{Type: tlsrpt.PolicyNone, Domain: d.policy}
	switch {
	case len(d.tlsa) > 0:
		p.Type = tlsrpt.PolicyTLSA
		for _, t := range d.tlsa[:min(len(d.tlsa), maxPolicyString)] {
			p.String = append(p.String, fmt.Sprintf("%d %d %d %s", t.Usage, t.Selector, t.Matching, hex.EncodeToString(t.Data[:min(len(t.Data), 64)])))
		}
	case d.sts != nil && d.sts.Mode == "":
		p.Type = tlsrpt.PolicySTS // it was not to be had
	case d.sts != nil && d.sts.Mode != mtasts.None:
		p.Type = tlsrpt.PolicySTS
		p.String = []string{"version: STSv1", "mode: " + string(d.sts.Mode)}
		p.MX = d.sts.MX[:min(len(d.sts.MX), maxPolicyString)]
		for _, mx := range p.MX {
			p.String = append(p.String, "mx: "+mx)
		}
		p.String = append(p.String, fmt.Sprintf("max_age: %d", int64(d.sts.MaxAge/time.Second)))
	}
	return p
}

// resultType names a failure as RFC 8460 §4.3 does.
func resultType(err error) string {
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.Is(err, errNoStartTLS):
		return tlsrpt.StartTLSNotSupported
	case errors.Is(err, errTLSALookup):
		return tlsrpt.DNSSECInvalid
	case errors.Is(err, errTLSAUnusable):
		return tlsrpt.TLSAInvalid
	case errors.Is(err, mtasts.ErrInvalid):
		return tlsrpt.STSInvalid
	case errors.Is(err, mtasts.ErrCertificate):
		return tlsrpt.STSWebPKIInvalid
	case errors.Is(err, mtasts.ErrFetch):
		return tlsrpt.STSFetchError
	case errors.Is(err, dane.ErrNoMatch):
		return tlsrpt.ValidationFailure
	case errors.As(err, &host):
		return tlsrpt.HostMismatch
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return tlsrpt.Expired
	case errors.As(err, &unknown):
		return tlsrpt.NotTrusted
	}
	return tlsrpt.ValidationFailure
}

// add counts.
func (c *tlsCounter) add(domain string, uris []string, policy tlsrpt.Policy, failure *tlsrpt.Failure) {
	key := dayShard{dayOf(c.now()), shardOf(domain) % countShards}
	c.load(key)
	c.mu.Lock()
	defer c.mu.Unlock()
	domains := c.shards[key]
	one := domains[domain]
	if one == nil {
		if domains == nil || len(domains) >= maxCounted {
			return
		}
		one = &counted{}
		domains[domain] = one
	}
	one.URIs = uris
	if result := one.result(policy); result != nil {
		count(result, failure)
		c.dirty[key] = true
	}
}

// result finds where to count a policy, nil if there are too many.
func (c *counted) result(policy tlsrpt.Policy) *tlsrpt.Result {
	for i := range c.Results {
		if p := &c.Results[i].Policy; p.Type == policy.Type && slices.Equal(p.String, policy.String) {
			return &c.Results[i]
		}
	}
	if len(c.Results) >= maxCountedPolicies {
		return nil
	}
	c.Results = append(c.Results, tlsrpt.Result{Policy: policy})
	return &c.Results[len(c.Results)-1]
}

func count(r *tlsrpt.Result, failure *tlsrpt.Failure) {
	if failure == nil {
		r.Summary.Successful++
		return
	}
	r.Summary.Failed++
	for i := range r.Failures {
		known := r.Failures[i]
		known.Sessions = failure.Sessions
		if known == *failure {
			r.Failures[i].Sessions++
			return
		}
	}
	if len(r.Failures) < maxCountedFailures {
		r.Failures = append(r.Failures, *failure)
	}
}

// load reads a shard once. A shard that the store does not give now is not counted in.
func (c *tlsCounter) load(key dayShard) {
	c.mu.Lock()
	_, loaded := c.shards[key]
	c.mu.Unlock()
	if loaded {
		return
	}
	domains := map[string]*counted{}
	ctx, cancel := context.WithTimeout(context.Background(), settleTime)
	defer cancel()
	blob, err := c.secrets.Secret(ctx, key.name())
	switch {
	case err == nil:
		if err := json.Unmarshal(blob, &domains); err != nil || domains == nil {
			c.log.Error("counts of TLS sessions not readable, and forgotten", slog.String("blob", key.name()), slog.Any("err", err))
			domains = map[string]*counted{}
		}
		maps.DeleteFunc(domains, func(_ string, one *counted) bool { return one == nil })
	case !errors.Is(err, store.ErrNotFound):
		logStore(c.log, "reading counts of TLS sessions", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, loaded := c.shards[key]; !loaded {
		c.shards[key] = domains
	}
}

// flush keeps what was counted since the last time.
func (c *tlsCounter) flush(ctx context.Context) {
	c.mu.Lock()
	blobs := map[dayShard][]byte{}
	for key := range c.dirty {
		blobs[key] = encodeCounts(c.shards[key])
	}
	clear(c.dirty)
	c.mu.Unlock()
	for key, blob := range blobs {
		if err := c.secrets.PutSecret(ctx, key.name(), blob); err != nil {
			logStore(c.log, "keeping counts of TLS sessions", err)
			c.mu.Lock()
			c.dirty[key] = true
			c.mu.Unlock()
		}
	}
}

// encodeCounts writes a shard down. If it is too large, domains are forgotten, any.
func encodeCounts(domains map[string]*counted) []byte {
	for {
		blob, err := json.Marshal(domains)
		if err != nil {
			return []byte("{}") // numbers and strings always can be written
		}
		if len(blob) <= store.MaxSecretSize {
			return blob
		}
		left := 1 + len(domains)/10
		for domain := range domains {
			if left == 0 {
				break
			}
			left--
			delete(domains, domain)
		}
	}
}

// drop forgets a shard that was reported, or is too old to be.
func (c *tlsCounter) drop(ctx context.Context, key dayShard) {
	c.mu.Lock()
	delete(c.shards, key)
	delete(c.dirty, key)
	c.mu.Unlock()
	if err := c.secrets.RemoveSecret(ctx, key.name()); err != nil && !errors.Is(err, store.ErrNotFound) {
		logStore(c.log, "forgetting counts of TLS sessions", err)
	}
}

// domains are those of a shard, to be reported: copies.
func (c *tlsCounter) domains(key dayShard) map[string]counted {
	c.load(key)
	c.mu.Lock()
	defer c.mu.Unlock()
	list := map[string]counted{}
	for domain, one := range c.shards[key] {
		list[domain] = counted{URIs: slices.Clone(one.URIs), Sent: slices.Clone(one.Sent), Results: slices.Clone(one.Results)}
	}
	return list
}

// sent notes that a place has its report.
func (c *tlsCounter) sent(key dayShard, domain, uri string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.shards[key][domain]; one != nil {
		one.Sent = append(one.Sent, uri)
		c.dirty[key] = true
	}
}
