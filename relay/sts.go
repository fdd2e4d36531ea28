package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"latchkey/internal/mtasts"
	"latchkey/store"
)

const (
	// stsShards is how many blobs of the store hold the policies: each has room for a few hundred, and the most long-lived ones stay.
	stsShards = 32
	// stsRetry is how long a policy host is left alone that gave no policy (RFC 8461 §3.3: five minutes or more).
	stsRetry = 5 * time.Minute
	// stsRefresh is the age from which a policy is fetched again before it expires (RFC 8461 §10.2: daily), or half its life if that is less.
	stsRefresh = 24 * time.Hour
	// stsUnused is how long a policy is refreshed that no mail asks for.
	stsUnused = 30 * 24 * time.Hour
	// maxFailures bounds the policy hosts that are known to give none.
	maxFailures = 10_000
)

// Secrets is where the runner keeps small things over a restart: store.Secrets.
type Secrets interface {
	PutSecret(ctx context.Context, name string, blob []byte) error
	Secret(ctx context.Context, name string) ([]byte, error)
	RemoveSecret(ctx context.Context, name string) error
}

// stsEntry is a policy as it is kept.
type stsEntry struct {
	Policy mtasts.Policy `json:"policy"`
	ID     string        `json:"id"`
	// Fetched is when; Used is about when mail asked for it last.
	Fetched time.Time `json:"fetched"`
	Used    time.Time `json:"used"`
}

func (e *stsEntry) expires() time.Time { return e.Fetched.Add(e.Policy.MaxAge) }

// stsKeeper knows the MTA-STS policies of domains (RFC 8461 §3.3, §5.1), over restarts: whoever cuts a policy host off, or the DNS that
// leads to it, does not make senders forget.
type stsKeeper struct {
	secrets  Secrets
	resolver Resolver
	fetch    func(ctx context.Context, domain string) (mtasts.Policy, error)
	now      func() time.Time
	log      *slog.Logger

	mu       sync.Mutex // protects what follows; nothing is asked or kept under it
	loaded   [stsShards]map[string]stsEntry
	failures map[string]time.Time // until when a policy host is left alone; at most maxFailures
	flights  map[string]*stsFlight

	saving sync.Mutex // orders the writes of blobs, so that the last one has all; only those who write wait for it
}

// stsFlight is a fetch that others may wait for too.
type stsFlight struct {
	done chan struct{}
	// entry and err are set before done is closed.
	entry *stsEntry
	err   error
}

func newSTSKeeper(secrets Secrets, names Resolver, fetch func(context.Context, string) (mtasts.Policy, error), now func() time.Time,
	log *slog.Logger,
) *stsKeeper {
	return &stsKeeper{
		secrets: secrets, resolver: names, fetch: fetch, now: now, log: log, failures: map[string]time.Time{}, flights: map[string]*stsFlight{},
	}
}

// policy returns the policy that holds for mail to a domain now, nil for none. The error is for the domain's report: there should be a
// policy, or a newer one, and it cannot be had. Mail does not wait for that (RFC 8461 §5.1).
func (k *stsKeeper) policy(ctx context.Context, domain string) (*mtasts.Policy, error) {
	known := k.get(ctx, domain)
	id, ok := k.published(ctx, domain)
	if !ok || known != nil && known.ID == id {
		return k.use(ctx, domain, known), nil
	}
	e, err := k.renew(ctx, domain, id)
	if err != nil {
		e = known // RFC 8461 §5.1: what was fetched holds until it expires
	}
	return k.use(ctx, domain, e), err
}

// use notes that mail asks for a policy, to the day.
func (k *stsKeeper) use(ctx context.Context, domain string, e *stsEntry) *mtasts.Policy {
	if e == nil {
		return nil
	}
	if now := k.now(); now.Sub(e.Used) > stsRefresh {
		e.Used = now
		k.put(ctx, domain, *e)
	}
	return &e.Policy
}

// published is the id that the domain's TXT record names.
func (k *stsKeeper) published(ctx context.Context, domain string) (string, bool) {
	records, err := k.resolver.TXT(ctx, "_mta-sts."+domain)
	if err != nil {
		return "", false
	}
	return mtasts.ParseRecord(records)
}

// get returns what is known of a domain and has not expired.
func (k *stsKeeper) get(ctx context.Context, domain string) *stsEntry {
	shard := shardOf(domain)
	k.load(ctx, shard)
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.loaded[shard][domain]
	// A policy without a life serves the delivery that fetched it.
	if !ok || k.now().After(e.expires()) {
		return nil
	}
	return &e
}

func shardOf(domain string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(domain)) // never fails
	return int(h.Sum32() % stsShards)
}

func shardName(shard int) string { return fmt.Sprintf("mta-sts/%02d", shard) }

// load reads a shard once.
func (k *stsKeeper) load(ctx context.Context, shard int) {
	k.mu.Lock()
	loaded := k.loaded[shard] != nil
	k.mu.Unlock()
	if loaded {
		return
	}
	entries := map[string]stsEntry{}
	blob, err := k.secrets.Secret(ctx, shardName(shard))
	switch {
	case err == nil:
		if err := json.Unmarshal(blob, &entries); err != nil || entries == nil {
			k.log.Error("MTA-STS policies not readable, and forgotten", slog.String("blob", shardName(shard)), slog.Any("err", err))
			entries = map[string]stsEntry{}
		}
	case !errors.Is(err, store.ErrNotFound):
		logStore(k.log, "reading MTA-STS policies", err)
		return // another time
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.loaded[shard] == nil {
		k.loaded[shard] = entries
	}
}

// put remembers a policy, here and in the store. What the store cannot read it is not made to forget.
func (k *stsKeeper) put(ctx context.Context, domain string, e stsEntry) {
	shard := shardOf(domain)
	k.load(ctx, shard)
	k.saving.Lock()
	defer k.saving.Unlock()
	k.mu.Lock()
	if k.loaded[shard] == nil {
		k.mu.Unlock()
		return
	}
	k.loaded[shard][domain] = e
	blob := encodeShard(k.loaded[shard], k.now())
	k.mu.Unlock()
	if err := k.secrets.PutSecret(ctx, shardName(shard), blob); err != nil {
		logStore(k.log, "keeping MTA-STS policies", err)
	}
}

// encodeShard writes policies down. What has expired goes, and if they are too many, those that expire first.
func encodeShard(entries map[string]stsEntry, now time.Time) []byte {
	domains := make([]string, 0, len(entries))
	for domain, e := range entries {
		if now.After(e.expires()) {
			delete(entries, domain)
			continue
		}
		domains = append(domains, domain)
	}
	slices.SortFunc(domains, func(a, b string) int {
		ea, eb := entries[a], entries[b]
		return ea.expires().Compare(eb.expires())
	})
	for {
		blob, err := json.Marshal(entries)
		if err != nil {
			blob = []byte("{}") // a time beyond the year 9999, which the bounds of a policy do not allow
		}
		if len(blob) <= store.MaxSecretSize || len(domains) == 0 {
			return blob
		}
		n := max(1, len(domains)/10)
		for _, domain := range domains[:n] {
			delete(entries, domain)
		}
		domains = domains[n:]
	}
}

// renew fetches a domain's policy, once for all who want it at the same time, and not of a host that failed lately.
func (k *stsKeeper) renew(ctx context.Context, domain, id string) (*stsEntry, error) {
	for {
		k.mu.Lock()
		if until, failed := k.failures[domain]; failed && k.now().Before(until) {
			k.mu.Unlock()
			return nil, mtasts.ErrFetch
		}
		f, others := k.flights[domain]
		if !others {
			f = &stsFlight{done: make(chan struct{})}
			k.flights[domain] = f
		}
		k.mu.Unlock()
		if !others {
			k.fly(ctx, domain, id, f)
			return f.entry, f.err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if !errors.Is(f.err, context.Canceled) {
			return f.entry, f.err
		} // whoever fetched was stopped, and we were not
	}
}

// fly fetches a policy, and notes what became of it.
func (k *stsKeeper) fly(ctx context.Context, domain, id string, f *stsFlight) {
	policy, err := k.fetch(ctx, domain)
	now := k.now()
	if err == nil {
		f.entry = &stsEntry{Policy: policy, ID: id, Fetched: now, Used: now}
		if known := k.get(ctx, domain); known != nil {
			f.entry.Used = known.Used // a refresh is no use
		}
		k.put(ctx, domain, *f.entry)
		k.log.Info("MTA-STS policy", slog.String("domain", domain), slog.String("mode", string(policy.Mode)),
			slog.String("mx", strings.Join(policy.MX, " ")), slog.Duration("max_age", policy.MaxAge))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.flights, domain)
	delete(k.failures, domain)
	if err != nil && ctx.Err() == nil {
		k.log.Info("MTA-STS policy not fetched", slog.String("domain", domain), slog.Any("err", err))
		for other := range k.failures { // any: the bound matters more than whose turn it is
			if len(k.failures) < maxFailures {
				break
			}
			delete(k.failures, other)
		}
		k.failures[domain] = now.Add(stsRetry)
	}
	f.err = err
	close(f.done)
}

// refresh fetches the policies again that are a day old or have lived half their life, so that they do not expire while somebody keeps
// the DNS or the policy host away from us just when mail is sent (RFC 8461 §10.2).
func (k *stsKeeper) refresh(ctx context.Context) {
	for shard := range stsShards {
		k.load(ctx, shard)
		for _, domain := range k.due(shard) {
			if ctx.Err() != nil {
				return
			}
			if id, ok := k.published(ctx, domain); ok {
				_, _ = k.renew(ctx, domain, id) // a failure is logged, and what was fetched goes on
			}
		}
	}
}

// due are the policies of a shard that are to be refreshed.
func (k *stsKeeper) due(shard int) []string {
	now := k.now()
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []string
	for domain, e := range k.loaded[shard] {
		age := now.Sub(e.Fetched)
		wanted := now.Sub(e.Used) < stsUnused && e.Policy.Mode != mtasts.None
		if wanted && !now.After(e.expires()) && age >= min(stsRefresh, e.Policy.MaxAge/2) {
			list = append(list, domain)
		}
	}
	return list
}

// dialPolicyHost connects to a policy host, or to one that takes reports, by name. The addresses of this host's surroundings are closed to it as they are to mail.
func (r *Runner) dialPolicyHost(ctx context.Context, _, address string) (net.Conn, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, err
	}
	addrs, err := r.opts.Resolver.Addrs(ctx, host)
	if err != nil {
		return nil, err
	}
	open := newTargets(r.opts.AllowNetworks, nil, uint16(port))
	for _, a := range addrs[:min(len(addrs), r.limits.Addresses)] {
		if why := open.refused(a); why != "" {
			err = fmt.Errorf("relay: %s is %s", a, why)
			continue
		}
		dialling, done := context.WithTimeout(ctx, r.limits.Dial)
		var c net.Conn
		c, err = r.opts.Dial(dialling, netip.Addr{}, netip.AddrPortFrom(a, uint16(port)).String())
		done()
		if err == nil {
			return c, nil
		}
	}
	return nil, err
}
