//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// result is what the load generator says at its end; fields that a load does not have are zero.
type result struct {
	Acked   int     `json:"acked"`
	Seconds float64 `json:"seconds"`
	P99     float64 `json:"data_p99_ms"`
	Msgs    int     `json:"msgs"`
	MsgsS   float64 `json:"msgs_s"`
	Errors  int     `json:"errors"`
	Lost    int     `json:"lost"`
	Dups    int     `json:"dups"`
	Bad     int     `json:"bad"`
	NoToken int     `json:"no_token"`
	Unacked int     `json:"unacked_seen"`
}

// beside measures parts a, b and d: us and peers in turns, with the same load generator.
type beside struct {
	*run
	mailload string
	ours     *latchkey
	lmtp     *peer
	virtual  *peer
	sink     *sink
}

// cell is one load of part a. Fast servers get more messages, so that each load lasts some seconds.
type cell struct {
	title      string
	flags      []string
	conns      int
	fast, slow int
	rcpts      int // of a message; 0 is one
	// lmtp, virtual and ceiling are the wanted ratios to the peers and to the sink; 0 wants nothing.
	lmtp, virtual, ceiling float64
	noSink                 bool
	// b is set for the load that part b looks at.
	b bool
}

// copies is how many mailboxes get each message.
func (c cell) copies() int { return max(c.rcpts, 1) }

func cells() []cell {
	return []cell{
		{title: "4 KiB, 1 connection", conns: 1, fast: 4000, slow: 1000, lmtp: 5, virtual: 3, ceiling: 0.7},
		{title: "4 KiB, 16 connections", conns: 16, fast: 20000, slow: 2000, lmtp: 20, virtual: 8, ceiling: 0.7},
		{title: "4 KiB, 64 connections", conns: 64, fast: 30000, slow: 2500, lmtp: 25, virtual: 11, ceiling: 0.7, b: true},
		{title: "realistic mix, 64 connections", flags: []string{"-mix", "realistic"}, conns: 64, fast: 6000, slow: 1200, lmtp: 7, virtual: 3.5, ceiling: 0.7},
		{title: "4 KiB to five, 16 connections", flags: []string{"-rcpts-per-msg", "5"}, rcpts: 5, conns: 16, fast: 10000, slow: 1000, virtual: 10, ceiling: 0.7},
		{title: "1 MB, 4 connections", flags: []string{"-size", "1000000"}, conns: 4, fast: 200, slow: 100, noSink: true},
	}
}

const (
	p99Title   = "p99 of the reply to the end of DATA"
	cpuTitle   = "CPU of a message, all processes"
	rateUnit   = "msg/s"
	dovecot    = "Dovecot"
	lockstep   = "drain of 4 KiB with DELE, lockstep"
	pipelining = "drain of 4 KiB with DELE, pipelined"
)

// drained is the number of messages of each drain of part d; oursDrained is how often we are drained for each time that Dovecot is.
const (
	drained     = 8000
	oursDrained = 3
)

// declare adds the rows of the parts that were chosen.
func (b *beside) declare() {
	for _, c := range cells() {
		if !b.parts['a'] {
			continue
		}
		add := func(against string, ratio float64) {
			r := row{part: 'a', measure: c.title, unit: rateUnit, against: against}
			if ratio > 0 {
				r.want = atLeast(ratio)
			}
			b.sheet.want(r)
		}
		add(lmtpPeer, c.lmtp)
		add(virtualPeer, c.virtual)
		if !c.noSink {
			add(sinkPeer, c.ceiling)
		}
	}
	if b.parts['b'] {
		b.sheet.want(row{part: 'b', measure: p99Title, unit: "ms", against: virtualPeer, want: atMost(1. / 4)})
		b.sheet.want(row{part: 'b', measure: cpuTitle, unit: "ms", against: lmtpPeer, want: atMost(1. / 25)})
		b.sheet.want(row{part: 'b', measure: cpuTitle, unit: "ms", against: virtualPeer, want: atMost(1. / 8)})
	}
	if b.parts['d'] {
		b.sheet.want(row{part: 'd', measure: lockstep, unit: rateUnit, against: dovecot, want: atLeast(4)})
		b.sheet.want(row{part: 'd', measure: pipelining, unit: rateUnit, against: dovecot, want: atLeast(6)})
	}
}

// newBeside builds the tools and starts our server and the sink.
func newBeside(ctx context.Context, r *run) (*beside, error) {
	b := &beside{run: r}
	var err error
	if b.mailload, err = r.build(ctx, "mailload"); err != nil {
		return nil, err
	}
	sinkBinary, err := r.build(ctx, "sink")
	if err != nil {
		return nil, err
	}
	if b.sink, err = newSink(r.root, sinkBinary); err != nil {
		return nil, err
	}
	b.lmtp = newPeer(lmtpPeer, "lmtp", r.tools, r.root)
	b.virtual = newPeer(virtualPeer, "virtual", r.tools, r.root)
	if b.ours, err = newLatchkey(ctx, r.root, "beside", r.binary, mailboxNames("user", users)); err != nil {
		return nil, err
	}
	if _, err = b.ours.start(ctx); err != nil {
		return nil, err
	}
	b.declare()
	return b, b.warm(ctx, b.ours)
}

// close stops everything.
func (b *beside) close(ctx context.Context) error {
	return errors.Join(b.ours.stop(), b.lmtp.stop(ctx), b.virtual.stop(ctx), b.sink.stop())
}

// warm logs in to every mailbox once, one client at a time: passwords are verified now, and known afterwards. Then it sends some mail
// over as many connections as there will be: Postfix starts its processes now.
func (b *beside) warm(ctx context.Context, s server) error {
	if _, err := b.load(ctx, s, "pop3", "-mode", "poll", "-conns", "1", "-count", strconv.Itoa(users)); err != nil {
		return err
	}
	const some = 256
	if _, err := b.load(ctx, s, "smtp", "-conns", "64", "-count", strconv.Itoa(some), "-manifest", b.manifest()); err != nil {
		return err
	}
	if err := s.fetchable(ctx); err != nil {
		return err
	}
	_, err := b.drain(ctx, s, some)
	return err
}

// manifest is where the load generator notes what was acknowledged.
func (b *beside) manifest() string { return filepath.Join(b.root, "manifest") }

// round measures every server once, in another order each time.
func (b *beside) round(ctx context.Context, number int) error {
	turns := []func(context.Context) error{b.lmtpTurn, b.ourTurn, b.virtualTurn, b.sinkTurn}
	for i := range turns {
		if number%2 == 1 {
			i = len(turns) - 1 - i
		}
		if err := turns[i](ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *beside) ourTurn(ctx context.Context) error {
	if err := b.deliveries(ctx, b.ours); err != nil {
		return err
	}
	for range oursDrained {
		if err := b.drains(ctx, b.ours, us); err != nil {
			return err
		}
	}
	return nil
}

func (b *beside) lmtpTurn(ctx context.Context) error {
	if !b.parts['a'] && !b.parts['b'] {
		return nil
	}
	return b.peerTurn(ctx, b.lmtp, b.deliveries)
}

func (b *beside) virtualTurn(ctx context.Context) error {
	return b.peerTurn(ctx, b.virtual, func(ctx context.Context, s server) error {
		if err := b.deliveries(ctx, s); err != nil {
			return err
		}
		return b.drains(ctx, s, dovecot)
	})
}

func (b *beside) peerTurn(ctx context.Context, p *peer, measure func(context.Context, server) error) error {
	err := p.start(ctx)
	if err == nil {
		err = b.warm(ctx, p)
	}
	if err == nil {
		err = measure(ctx, p)
	}
	return errors.Join(err, p.stop(ctx))
}

func (b *beside) sinkTurn(ctx context.Context) error {
	if !b.parts['a'] {
		return nil
	}
	err := b.sink.start(ctx)
	if err == nil {
		err = b.deliveries(ctx, b.sink)
	}
	return errors.Join(err, b.sink.stop())
}

// deliveries measures parts a and b of one server.
func (b *beside) deliveries(ctx context.Context, s server) error {
	for _, c := range cells() {
		wanted := b.parts['a'] || b.parts['b'] && c.b
		if !wanted || s.name() == sinkPeer && c.noSink {
			continue
		}
		if err := b.deliver(ctx, s, c); err != nil {
			return fmt.Errorf("%s, %s: %w", s.name(), c.title, err)
		}
	}
	return nil
}

// deliver sends one load, waits until it can be fetched, and drains it.
func (b *beside) deliver(ctx context.Context, s server, c cell) error {
	count := c.slow
	if s.name() == us || s.name() == sinkPeer {
		count = c.fast
	}
	count = b.scaled(count, c.conns)
	var cpu float64
	var err error
	if c.b {
		if cpu, err = quiet(ctx, s.cpu); err != nil {
			return err
		}
	}
	flags := append([]string{"-conns", strconv.Itoa(c.conns), "-count", strconv.Itoa(count), "-manifest", b.manifest()}, c.flags...)
	sent, err := b.load(ctx, s, "smtp", flags...)
	if err != nil {
		return err
	}
	acked := time.Now()
	if err := s.fetchable(ctx); err != nil {
		return err
	}
	rate := float64(count) / (sent.Seconds + time.Since(acked).Seconds())
	b.figure(c.title, s.name(), rate, rateUnit)
	if c.b {
		b.figure(p99Title, s.name(), sent.P99, "ms")
		now, err := quiet(ctx, s.cpu)
		if err != nil {
			return err
		}
		b.figure(cpuTitle, s.name(), (now-cpu)*1000/float64(count), "ms")
	}
	if s.pop3() == "" {
		return nil
	}
	_, err = b.drain(ctx, s, count*c.copies(), "-pipelining")
	return err
}

// drain fetches and deletes everything, which must be so many copies. A message that is lost, doubled, changed or unknown is an error.
func (b *beside) drain(ctx context.Context, s server, copies int, flags ...string) (result, error) {
	got, err := b.load(ctx, s, "pop3", append([]string{"-mode", "drain", "-conns", "16", "-manifest", b.manifest()}, flags...)...)
	if err == nil && got.Msgs != copies { // what an earlier drain left is none of this manifest
		err = fmt.Errorf("%s: %d copies were there, want %d", s.name(), got.Msgs, copies)
	}
	return got, err
}

// drains measures the drains of part d of one server.
func (b *beside) drains(ctx context.Context, s server, name string) error {
	if !b.parts['d'] {
		return nil
	}
	count := b.scaled(drained, 16)
	for _, way := range []struct {
		title string
		flags []string
	}{{lockstep, nil}, {pipelining, []string{"-pipelining"}}} {
		if _, err := b.load(ctx, s, "smtp", "-conns", "16", "-count", strconv.Itoa(count), "-manifest", b.manifest()); err != nil {
			return err
		}
		if err := s.fetchable(ctx); err != nil {
			return err
		}
		if _, err := quiet(ctx, s.cpu); err != nil {
			return err
		}
		got, err := b.drain(ctx, s, count, way.flags...)
		if err != nil {
			return err
		}
		b.figure(way.title, name, got.MsgsS, rateUnit)
	}
	return nil
}

// load runs the load generator. It is an error if not everything was acknowledged or fetched as it had been sent.
func (b *beside) load(ctx context.Context, s server, kind string, flags ...string) (result, error) {
	args := []string{kind, "-addr", s.smtp(), "-users", strconv.Itoa(users), "-maxtime", loadTime.String()}
	if kind == "pop3" {
		args[2] = s.pop3()
		args = append(args, "-pass", password)
	}
	out, err := command(ctx, nil, b.mailload, append(args, flags...)...)
	if err != nil {
		return result{}, err
	}
	var r result
	if err := json.Unmarshal([]byte(lastLine(out)), &r); err != nil {
		return r, fmt.Errorf("mailload says %q: %w", lastLine(out), err)
	}
	if r.Errors+r.Lost+r.Dups+r.Bad+r.NoToken+r.Unacked > 0 {
		return r, fmt.Errorf("%s of %s: %s", strings.Join(flags, " "), s.name(), lastLine(out))
	}
	return r, nil
}
