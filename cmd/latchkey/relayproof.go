package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"time"

	"latchkey/internal/relayprobe"
	"latchkey/smtp"
	"latchkey/store"
)

// When the relay proof runs.
const (
	// proofSecret is the record of the last pass in the store.
	proofSecret = "relay-proof"
	// proofHour is when the nightly one begins, by the local clock, plus up to an hour by the domain: many processes share a host.
	proofHour = 3
	// proofLook bounds how long the prover waits without looking at the clock: clocks are put right, and hosts sleep.
	proofLook = time.Hour
	// proofPause is how long it waits after a change of the settings: several come together.
	proofPause = 2 * time.Second
)

// errRelays ends a process that would relay, or is not sure.
var errRelays = errors.New("the relay proof failed")

// prover runs the relay proof: at start if the settings or the program are not those that passed last, when the settings change, every night,
// and when somebody asks.
type prover struct {
	store   store.Store
	proof   smtp.RelayProof
	version string
	log     *slog.Logger
	now     func() time.Time
	// failed is called with a report that did not pass, once for each.
	failed func(context.Context, relayprobe.Report)

	running sync.Mutex // one proof at a time
}

// passed is the record of a pass.
type passed struct {
	Fingerprint string    `json:"fingerprint"`
	Time        time.Time `json:"time"`
}

func newProver(st store.Store, hostname string, log *slog.Logger, now func() time.Time) *prover {
	return &prover{
		store: st, proof: smtp.RelayProof{Store: st, Hostname: hostname, Now: now}, version: buildVersion(), log: log, now: now,
		failed: func(context.Context, relayprobe.Report) {},
	}
}

// fingerprint is what a pass is good for: the settings, the name of this server, the program and its list of probes.
func (p *prover) fingerprint(ctx context.Context) (string, error) {
	settings, err := p.store.Settings(ctx)
	if err != nil {
		return "", err
	}
	settings.Version = 0 // the same settings are as good as they were
	program := struct {
		Version, Go, Host string
		Size, Modified    int64
		Settings          store.Settings
		Probes            []relayprobe.Probe
	}{Version: p.version, Go: runtime.Version(), Host: p.proof.Hostname, Settings: settings, Probes: relayprobe.Probes()}
	if path, err := os.Executable(); err == nil {
		if info, err := os.Stat(path); err == nil {
			program.Size, program.Modified = info.Size(), info.ModTime().UnixNano()
		}
	}
	text, err := json.Marshal(program)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// last is the last pass; the zero value if there is none, or the record cannot be read.
func (p *prover) last(ctx context.Context) passed {
	var last passed
	blob, err := p.store.Secret(ctx, proofSecret)
	if err == nil {
		err = json.Unmarshal(blob, &last)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		p.log.Warn("the record of the last relay proof cannot be read", "err", err)
		return passed{}
	}
	return last
}

// atStart proves unless what is there has passed already. An error wraps errRelays if mail must not be served.
func (p *prover) atStart(ctx context.Context) error {
	fingerprint, err := p.fingerprint(ctx)
	if err != nil {
		return err
	}
	if p.last(ctx).Fingerprint == fingerprint {
		return nil
	}
	report, err := p.prove(ctx)
	if err != nil {
		return err
	}
	if !report.Passed {
		return fmt.Errorf("%w: %s; ports 25, 465 and 587 stay shut, because whoever finds an open relay sends through it: "+
			"latchkey relay-proof shows all of it, latchkey settings the settings", errRelays, report.Fault)
	}
	return nil
}

// Report proves now, for whoever asks, with the consequences that it always has.
func (p *prover) Report(ctx context.Context) (relayprobe.Report, error) {
	report, err := p.prove(ctx)
	if err == nil && !report.Passed {
		p.failed(ctx, report)
	}
	return report, err
}

// prove runs the proof and remembers a pass. What is unclear is tried twice: this machine may have stood still.
func (p *prover) prove(ctx context.Context) (relayprobe.Report, error) {
	p.running.Lock()
	defer p.running.Unlock()
	fingerprint, err := p.fingerprint(ctx)
	if err != nil {
		return relayprobe.Report{}, err
	}
	report, err := p.proof.Run(ctx)
	if err == nil && !report.Passed && report.Count(relayprobe.VerdictRelayed) == 0 {
		p.log.Warn("the relay proof was not clear and is tried again", "fault", report.Fault)
		report, err = p.proof.Run(ctx)
	}
	if err != nil {
		return relayprobe.Report{}, err
	}
	report.Version = p.version
	if !report.Passed {
		p.log.Error("relay proof failed", "fault", report.Fault, "probes", len(report.Results))
		return report, nil
	}
	p.log.Info("relay proof passed", "probes", len(report.Results), "seconds", report.Took)
	record, err := json.Marshal(passed{fingerprint, report.Time})
	if err == nil {
		err = p.store.PutSecret(ctx, proofSecret, record)
	}
	if err != nil { // then the next start proves again
		p.log.Warn("the relay proof passed, but that cannot be written down", "err", err)
	}
	return report, nil
}

// Run proves every night, and when the settings were changed, until ctx ends or a proof fails.
func (p *prover) Run(ctx context.Context) {
	next := p.night(ctx, p.now())
	for ctx.Err() == nil {
		changed := p.store.SettingsChanged()
		now := p.now()
		due := !now.Before(next)
		if fingerprint, err := p.fingerprint(ctx); err == nil && fingerprint != p.last(ctx).Fingerprint {
			due = true
		}
		if due {
			report, err := p.prove(ctx)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				p.log.Error("the relay proof could not be made", "err", err)
			case !report.Passed:
				p.failed(ctx, report)
				return
			}
			next = p.night(ctx, now)
		}
		wait := min(proofLook, max(next.Sub(p.now()), time.Second))
		if restFor(ctx, wait, changed) {
			restFor(ctx, proofPause, nil)
		}
	}
}

// night is when the next nightly proof begins.
func (p *prover) night(ctx context.Context, now time.Time) time.Time {
	spread := time.Duration(0)
	if settings, err := p.store.Settings(ctx); err == nil {
		h := fnv.New32a()
		_, _ = h.Write([]byte(settings.Domain)) // never fails
		spread = time.Duration(h.Sum32()%3600) * time.Second
	}
	y, m, d := now.Date()
	at := time.Date(y, m, d, proofHour, 0, 0, 0, now.Location()).Add(spread)
	if !at.After(now) {
		at = time.Date(y, m, d+1, proofHour, 0, 0, 0, now.Location()).Add(spread)
	}
	return at
}

// restFor waits, and reports whether it was for something that happened.
func restFor(ctx context.Context, d time.Duration, happens <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-happens:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}
