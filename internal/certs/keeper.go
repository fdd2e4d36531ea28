package certs

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
)

// Bounds in time.
const (
	// firstRetry is the wait after the first attempt that failed; it doubles up to maxRetry. Let's Encrypt takes five failures an hour.
	firstRetry = 5 * time.Minute
	maxRetry   = 6 * time.Hour
	// restartRetry is the longest wait that a restart does not cut short: whoever mended something restarts, and a server that is started again
	// and again asks no more often than this.
	restartRetry = 15 * time.Minute
	// maxAsked bounds how long a CA can put us off.
	maxAsked = 24 * time.Hour
	// successWait is the least time between two certificates, a third of their life if that is less: a clock that is wrong orders no more.
	successWait = 24 * time.Hour
	// attemptTime bounds one attempt.
	attemptTime = 5 * time.Minute
	// renewEarly is the longest time before its end at which a certificate is renewed; a third of its life if that is less.
	renewEarly = 30 * 24 * time.Hour
	// maxFault bounds the reason of a failure that is kept, in octets.
	maxFault = 1000
)

// UnderWay is the fault of an attempt that has not ended, or that a stop cut off.
const UnderWay = "an attempt began and has not ended"

// Options are what a Keeper is made of. All but Logger and Now must be set.
type Options struct {
	Kind KeyKind
	// Names are those of the certificate. The first must be in it, the others are left out while the CA finds that they are not the operator's.
	Names      []string
	Account    *Account
	Challenges *Challenges
	Box        Box
	// SelfSign makes a certificate (DER) for a key and names that nobody vouches for.
	SelfSign func(key crypto.Signer, names []string) ([]byte, error)
	// Logger gets what happens; nil discards it.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Keeper has a certificate. It may be used from any goroutine; Run is called once.
type Keeper struct {
	o       Options
	log     *slog.Logger
	key     crypto.Signer
	current atomic.Pointer[tls.Certificate]

	mu     sync.Mutex // protects the fields below
	kept   record
	issued bool // current is the CA's
}

// State says how a certificate stands.
type State struct {
	// Kind is that of its key, Names are those that it is for.
	Kind  KeyKind  `json:"kind"`
	Names []string `json:"names"`
	// Issued is unset for one that nobody vouches for, as there is none of the CA yet.
	Issued bool `json:"issued"`
	// Expires is when it ends, DaysLeft the whole days until then; negative if it has ended.
	Expires  time.Time `json:"expires"`
	DaysLeft int       `json:"days_left"`
	// Failures counts the attempts to have a new one since the last that succeeded, Fault is why the last of them failed. Next is when the CA is asked
	// again.
	Failures int       `json:"failures,omitempty"`
	Fault    string    `json:"fault,omitempty"`
	Next     time.Time `json:"next"`
}

// New returns a Keeper that has a certificate: the one that is kept, or a self-signed one. It asks nobody.
func New(ctx context.Context, o Options) (*Keeper, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	k := &Keeper{o: o, log: o.Logger.With("key", string(o.Kind))}
	kept, key, fresh, err := load(ctx, o.Box, o.Kind)
	if errors.Is(err, ErrDamaged) {
		k.log.Error("the kept certificate is lost, and with it its key: TLSA records are to be changed", "err", err)
		if err = o.Box.Put(ctx, nil); err == nil {
			kept, key, fresh, err = load(ctx, o.Box, o.Kind)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("certs: what is kept: %w", err)
	}
	k.kept, k.key = kept, key
	if fresh {
		k.log.Info("a key for the certificate was made")
	}
	if now := o.Now(); !kept.Asked && kept.Retry.Sub(now) > 0 {
		k.kept.Retry = earlier(kept.Retry, kept.Tried.Add(restartRetry))
	}
	return k, k.begin()
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// begin takes the kept chain, or makes a self-signed one.
func (k *Keeper) begin() error {
	if len(k.kept.Chain) > 0 {
		certificate, err := pair(k.kept.Chain, k.key, k.o.Names[0])
		if err == nil {
			k.issued = true
			k.current.Store(certificate)
			return nil
		}
		k.log.Warn("the kept certificate cannot be used any more", "err", err)
	}
	der, err := k.o.SelfSign(k.key, k.o.Names)
	if err != nil {
		return fmt.Errorf("certs: a self-signed certificate: %w", err)
	}
	certificate, err := pair([][]byte{der}, k.key, k.o.Names[0])
	if err != nil {
		return fmt.Errorf("certs: a self-signed certificate: %w", err)
	}
	k.current.Store(certificate)
	return nil
}

// GetCertificate is for tls.Config. It answers at once and the same to everybody, whatever name was asked for; hello may be nil.
func (k *Keeper) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return k.current.Load(), nil
}

// Fingerprint returns the SHA-256 of the present certificate in hex.
func (k *Keeper) Fingerprint() string {
	sum := sha256.Sum256(k.current.Load().Certificate[0])
	return hex.EncodeToString(sum[:])
}

// State says how the certificate stands now.
func (k *Keeper) State() State {
	k.mu.Lock()
	defer k.mu.Unlock()
	leaf := k.current.Load().Leaf
	return State{
		Kind: k.o.Kind, Names: append([]string{}, leaf.DNSNames...), Issued: k.issued, Expires: leaf.NotAfter, DaysLeft: k.daysLeft(),
		Failures: k.kept.Failures, Fault: k.kept.Fault, Next: k.next(),
	}
}

// daysLeft is rounded down.
func (k *Keeper) daysLeft() int {
	left := k.current.Load().Leaf.NotAfter.Sub(k.o.Now())
	days := int(left / (24 * time.Hour))
	if left < 0 {
		days--
	}
	return days
}

// due is when a new certificate is wanted. The caller holds mu.
func (k *Keeper) due() time.Time {
	leaf := k.current.Load().Leaf
	if !k.issued || len(missing(leaf, k.o.Names)) > 0 {
		return time.Time{}
	}
	return k.renewal()
}

// renewal is when the present certificate of the CA is to be renewed. Servers that got theirs in the same hour do not come back in the same one.
func (k *Keeper) renewal() time.Time {
	leaf := k.current.Load().Leaf
	early := min(leaf.NotAfter.Sub(leaf.NotBefore)/3, renewEarly)
	sum := sha256.Sum256(leaf.Raw)
	spread := early / 10 * time.Duration(sum[0]) / 256
	return leaf.NotAfter.Add(-early - spread)
}

// next is when the CA is asked next. The caller holds mu.
func (k *Keeper) next() time.Time {
	if due := k.due(); due.After(k.kept.Retry) {
		return due
	}
	return k.kept.Retry
}

// Run asks the CA when it is time, until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	k.mu.Lock()
	if !k.issued {
		k.log.Warn("the certificate is self-signed until the CA has issued one: programs will not trust it", "names", k.o.Names)
	}
	k.mu.Unlock()
	for {
		k.mu.Lock()
		wait := k.next().Sub(k.o.Now())
		k.mu.Unlock()
		if !sleep(ctx, min(wait, 24*time.Hour)) {
			return
		}
		if wait <= 24*time.Hour {
			k.attempt(ctx)
		}
	}
}

// sleep waits, and reports whether it was for the whole time.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}

// attempt asks the CA once. That it does is kept before, so that a crash counts as a failure.
func (k *Keeper) attempt(ctx context.Context) {
	k.o.Account.asking.Lock()
	defer k.o.Account.asking.Unlock()
	if ctx.Err() != nil {
		return
	}
	k.mu.Lock()
	k.kept.Failures++
	k.kept.Tried, k.kept.Asked, k.kept.Fault = k.o.Now(), false, UnderWay
	k.kept.Retry = k.kept.Tried.Add(backoff(k.kept.Failures))
	turn, err := k.kept.Failures-1, k.kept.save(ctx, k.o.Box)
	if err != nil {
		k.kept.Fault = "the store: " + err.Error()
	}
	k.mu.Unlock()
	if err != nil {
		k.log.Error("the CA is not asked for a certificate, as that could not be noted", "err", err)
		return
	}
	limited, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	chain, lacking, err := k.issue(limited, turn)
	if ctx.Err() != nil && err != nil {
		return // a stop
	}
	if err == nil {
		err = k.take(ctx, chain, lacking)
	}
	if err != nil {
		k.fail(ctx, err)
	}
}

// backoff is the wait after a number of failures in a row, a little more each time.
func backoff(failures int) time.Duration {
	wait := maxRetry
	if shift := failures - 1; shift < 10 {
		wait = min(firstRetry<<shift, maxRetry)
	}
	return wait + time.Duration(rand.Int64N(int64(wait/4)))
}

// take makes a new chain the present certificate, and keeps it. lacking says why names are not in it.
func (k *Keeper) take(ctx context.Context, chain [][]byte, lacking error) error {
	certificate, err := pair(chain, k.key, k.o.Names[0])
	if err != nil {
		return fmt.Errorf("certs: what the CA issued: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current.Store(certificate)
	k.issued = true
	k.kept.Chain = chain
	if lacking == nil {
		life := certificate.Leaf.NotAfter.Sub(certificate.Leaf.NotBefore)
		k.kept.Failures, k.kept.Retry, k.kept.Fault = 0, k.kept.Tried.Add(min(life/3, successWait)), ""
	} else {
		k.kept.Fault = fault(lacking)
	}
	k.log.Info("certificate issued", "names", certificate.Leaf.DNSNames, "days", k.daysLeft(), "fingerprint_sha256", k.Fingerprint())
	if lacking != nil {
		k.log.Warn("names are not in the certificate", "names", missing(certificate.Leaf, k.o.Names), "next", k.kept.Retry, "err", lacking)
	}
	if err := k.kept.save(ctx, k.o.Box); err != nil {
		k.log.Error("the certificate could not be kept: a restart asks the CA again", "err", err)
	}
	return nil
}

// fail notes why there is no certificate, and when the next attempt is.
func (k *Keeper) fail(ctx context.Context, cause error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept.Fault = fault(cause)
	if asked, ok := putOff(cause); ok {
		if at := k.kept.Tried.Add(min(asked, maxAsked)); at.After(k.kept.Retry) {
			k.kept.Retry, k.kept.Asked = at, true
		}
	}
	if err := k.kept.save(ctx, k.o.Box); err != nil {
		k.log.Error("a failure could not be noted", "err", err)
	}
	level := slog.LevelWarn
	if !k.issued || k.o.Now().After(k.renewal().Add(k.current.Load().Leaf.NotAfter.Sub(k.renewal())/2)) {
		level = slog.LevelError // there is none, or half of the time for it is over
	}
	k.log.Log(ctx, level, "no certificate from the CA", "err", cause, "failures", k.kept.Failures, "next", k.kept.Retry, "issued", k.issued,
		"days_left", k.daysLeft())
}

// fault is a reason for people, bounded.
func fault(err error) string {
	text := strings.ToValidUTF8(err.Error(), "?")
	if len(text) > maxFault {
		text = strings.ToValidUTF8(text[:maxFault], "") + "..."
	}
	return text
}

// putOff finds in an error how long the CA wants to be left alone (RFC 8555 §6.6).
func putOff(err error) (time.Duration, bool) {
	var problem *acme.Error
	if !errors.As(err, &problem) {
		return 0, false
	}
	if problem.Header.Get("Retry-After") == "" {
		return 0, false
	}
	// Other problems may say it too, such as that the CA is busy.
	wait, _ := acme.RateLimit(&acme.Error{ProblemType: rateLimited, Header: problem.Header})
	return wait, wait > 0
}

// rateLimited is the type of the problem by which a CA says that it was asked too often.
const rateLimited = "urn:ietf:params:acme:error:rateLimited"
