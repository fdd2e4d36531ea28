//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"latchkey/store"
)

// Of part e. One mailbox has a fifth of all messages, the others share the rest.
const (
	leastGrowth = 100
	growthStep  = 10
	bigBox      = "big"
	boxes       = 199
	probes      = 16 // mailboxes that get the messages whose delivery is measured; they are drained afterwards

	smallLetter = 4096
	// Every mediumEvery-th message is of mediumLetter octets and every largeEvery-th of largeLetter: 5.3 GB in a million.
	mediumLetter, mediumEvery = 76_800, 64
	largeLetter, largeEvery   = 200_000, 5000

	// Deliveries are measured in batches at a rate that leaves the server idle in between: growth shall show, not the load.
	batches, batchSize, batchRate = 5, 2000, 1000.0
	// burstSize messages are sent at once before the server is killed.
	burstSize, burstConns = 5000, 64
	// samples of a latency, or fewer if they take longer than sampleTime, but leastSamples.
	samples, leastSamples, sampleTime = 300, 5, 5 * time.Second
	starts                            = 5
)

// growthMeasure is one curve of part e.
type growthMeasure struct {
	title, unit string
	want        bound
	// plotted is set for latencies.
	plotted bool
}

var (
	growthDelivery  = growthMeasure{"delivery, p99 of the reply to the end of DATA", "ms", below(1.5), true}
	growthRate      = growthMeasure{"deliveries, 64 connections", rateUnit, bound{}, false}
	growthLoginBig  = growthMeasure{"login + STAT, the largest mailbox", "ms", below(1.5), true}
	growthLogin     = growthMeasure{"login + STAT, another mailbox", "ms", below(1.5), true}
	growthUIDL      = growthMeasure{"UIDL to its first line, the largest mailbox", "ms", bound{}, true} // which waits for a buffer of listing
	growthUIDLOne   = growthMeasure{"UIDL of one message, the largest mailbox", "ms", below(1.5), true}
	growthListing   = growthMeasure{"UIDL to its end, a message", "µs", below(1.5), false}
	growthRetrBig   = growthMeasure{"RETR, the largest mailbox", "ms", below(1.5), true}
	growthRetr      = growthMeasure{"RETR, another mailbox", "ms", below(1.5), true}
	growthStart     = growthMeasure{"start to greeting after a clean stop", "ms", below(50).alone(), true}
	growthCrash     = growthMeasure{"start to greeting after a kill at rest", "ms", below(1.5), true}
	growthCrashLoad = growthMeasure{"start to greeting after a kill behind 5,000 deliveries", "ms", below(1.5), true}
	growthMemory    = growthMeasure{"memory of the process (RssAnon)", "MiB", bound{}, false}
)

func growthMeasures() []growthMeasure {
	return []growthMeasure{
		growthDelivery, growthRate, growthLoginBig, growthLogin, growthUIDL, growthUIDLOne, growthListing, growthRetrBig, growthRetr,
		growthStart, growthCrash, growthCrashLoad, growthMemory,
	}
}

// growth is one run of part e.
type growth struct {
	*run
	ours    *latchkey
	letters *letters
	sent    int // messages sent to the probes so far
	points  []growthPoint
}

// growthPoint is what was measured with so many messages stored.
type growthPoint struct {
	messages int
	figures  map[string]float64
}

// measureGrowth is part e: the same store with ever more messages.
func (r *run) measureGrowth(ctx context.Context) (err error) {
	g := &growth{run: r, letters: newLetters()}
	names := slices.Concat([]string{bigBox}, mailboxNames("box", boxes), mailboxNames("probe", probes))
	if g.ours, err = newLatchkey(ctx, r.root, "growth", r.binary, names); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.ours.stop(), os.RemoveAll(g.ours.dir)) }()
	have, octets := 0, 0
	for n := leastGrowth; ; n = min(n*growthStep, r.most) {
		fmt.Printf("growth: %s messages\n", grouped(int64(n)))
		begin := time.Now()
		if err := g.fill(ctx, have, n); err != nil {
			return err
		}
		for ; have < n; have++ {
			octets += sizeOf(have)
		}
		fmt.Printf("  filled in %s: %.2f GB\n", time.Since(begin).Round(time.Millisecond), float64(octets)/1e9)
		if err := g.point(ctx, n); err != nil {
			return fmt.Errorf("with %d messages: %w", n, err)
		}
		if n == r.most {
			break
		}
	}
	return g.report()
}

// report adds the rows: the largest store beside the smallest.
func (g *growth) report() error {
	least, most := g.points[0], g.points[len(g.points)-1]
	against := fmt.Sprintf("%s messages, not %s", grouped(int64(least.messages)), grouped(int64(most.messages)))
	for _, m := range growthMeasures() {
		g.sheet.note(m.title, us, most.figures[m.title])
		g.sheet.note(m.title, against, least.figures[m.title])
		g.sheet.want(row{part: 'e', measure: m.title, unit: m.unit, against: against, want: m.want})
	}
	fmt.Print("\n", curveTable(g.points))
	if g.docs == "" {
		return nil
	}
	g.curve = curveTable(g.points)
	return os.WriteFile(filepath.Join(g.docs, "growth.svg"), []byte(plot(g.points)), 0o644)
}

// boxOf is the index of message seq's mailbox: 0 is the large one.
func boxOf(seq int) int {
	if seq%5 == 0 {
		return 0
	}
	return 1 + (seq-seq/5-1)%boxes
}

func sizeOf(seq int) int {
	switch {
	case seq%largeEvery == 17:
		return largeLetter
	case seq%mediumEvery == 5:
		return mediumLetter
	}
	return smallLetter
}

// fill puts messages have to n into the store.
func (g *growth) fill(ctx context.Context, have, n int) error {
	return g.ours.inStore(ctx, func(st store.Store) error {
		return fillStore(ctx, st, append([]string{bigBox}, mailboxNames("box", boxes)...), have, n, g.letters, boxOf, sizeOf)
	})
}

// fillStore puts messages have to n into a store, without SMTP. boxOf says which of the mailboxes gets a message.
func fillStore(ctx context.Context, st store.Store, names []string, have, n int, l *letters, boxOf, sizeOf func(seq int) int) error {
	c, err := newCommitter(st)
	if err != nil {
		return err
	}
	list := make([]mailbox, len(names))
	for i, name := range names {
		a, err := st.AccountByName(ctx, name)
		if err != nil {
			return err
		}
		if list[i], err = c.mailbox(a); err != nil {
			return err
		}
	}
	var next atomic.Int64
	next.Store(int64(have))
	errs := make([]error, burstConns)
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			var body []byte
			for errs[w] == nil && ctx.Err() == nil {
				seq := int(next.Add(1)) - 1
				if seq >= n {
					return
				}
				body = l.appendMessage(body[:0], seq, sizeOf(seq))
				errs[w] = c.commit(ctx, list[boxOf(seq)], seq, body, headerLen(body))
			}
		})
	}
	wg.Wait()
	return errors.Join(errors.Join(errs...), ctx.Err())
}

// point measures everything with n messages in the store.
func (g *growth) point(ctx context.Context, n int) error {
	runtime.GC() // what filling left of our own
	p := growthPoint{messages: n, figures: make(map[string]float64)}
	note := func(m growthMeasure, v float64) {
		p.figures[m.title] = v
		fmt.Printf("  %-58s %10s %s\n", m.title, figure(v), m.unit)
	}
	if err := g.startTimes(ctx, note); err != nil {
		return err
	}
	if _, err := quiet(ctx, g.ours.cpu); err != nil {
		return err
	}
	for _, step := range []func(context.Context, int, func(growthMeasure, float64)) error{g.sessions, g.deliveries, g.crashes} {
		if err := step(ctx, n, note); err != nil {
			return err
		}
	}
	g.points = append(g.points, p)
	return g.ours.stop()
}

// startTimes measures starts after a clean stop; the server runs at the end.
func (g *growth) startTimes(ctx context.Context, note func(growthMeasure, float64)) error {
	var took []time.Duration
	for i := range starts + 1 {
		d, err := g.ours.start(ctx)
		if err != nil {
			return err
		}
		if i > 0 { // the first one came after the filling
			took = append(took, d)
		}
		if i < starts {
			if err := g.ours.stop(); err != nil {
				return err
			}
		}
	}
	note(growthStart, quantile(took, 0.5))
	rss, err := procNumber(g.ours.pid(), "status", "RssAnon")
	note(growthMemory, float64(rss)/1024)
	return err
}

// sample measures something repeatedly, in milliseconds, and returns the median.
func sample(ctx context.Context, f func(i int) (time.Duration, error)) (float64, error) {
	var took []time.Duration
	for begin := time.Now(); ctx.Err() == nil && len(took) < samples && (len(took) < leastSamples || time.Since(begin) < sampleTime); {
		d, err := f(len(took))
		if err != nil {
			return 0, err
		}
		took = append(took, d)
	}
	return quantile(took, 0.5), ctx.Err()
}

// sessions measures what POP3 clients feel, at the largest mailbox and at others.
func (g *growth) sessions(ctx context.Context, n int, note func(growthMeasure, float64)) error {
	const some = 20
	big := []string{bigBox}
	for _, s := range []struct {
		names       []string
		login, retr growthMeasure
	}{{big, growthLoginBig, growthRetrBig}, {mailboxNames("box", some), growthLogin, growthRetr}} {
		for _, name := range s.names { // passwords are verified now, and known afterwards
			if w, _, _, _, err := visit(g.ours.pop, name, nil, 64<<10); err != nil {
				return err
			} else if err := w.quit(); err != nil {
				return err
			}
		}
		login, err := sample(ctx, func(i int) (time.Duration, error) {
			w, took, count, _, err := visit(g.ours.pop, s.names[i%len(s.names)], nil, 64<<10)
			if err != nil {
				return 0, err
			}
			if s.names[0] == bigBox && count != (n+4)/5 {
				return 0, fmt.Errorf("the largest mailbox has %d messages, want %d", count, (n+4)/5)
			}
			return took, w.quit()
		})
		if err != nil {
			return err
		}
		note(s.login, login)
		if err := g.reads(ctx, s.names[0], s.retr, note); err != nil {
			return err
		}
	}
	return nil
}

// warm reads all files of a data directory, so that the system has them in memory: it may have put aside what was written a while ago, and
// then it is the device that is measured.
func warm(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !entry.Type().IsRegular() {
			return nil // gone meanwhile, or nothing to read
		}
		if err != nil {
			return err
		}
		file, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, file)
		return errors.Join(err, file.Close())
	})
}

// reads measures RETR of messages here and there in one mailbox, and in the largest UIDL.
func (g *growth) reads(ctx context.Context, name string, m growthMeasure, note func(growthMeasure, float64)) error {
	w, _, count, _, err := visit(g.ours.pop, name, nil, 64<<10)
	if err != nil {
		return err
	}
	defer w.close()
	if count == 0 {
		return fmt.Errorf("%s is empty", name)
	}
	if err := warm(g.ours.dir); err != nil {
		return err
	}
	var raw, room []byte
	retr, err := sample(ctx, func(int) (time.Duration, error) {
		for {
			begin := time.Now()
			if _, err = w.ask("RETR "+strconv.Itoa(1+rand.IntN(count))+"\r\n", "+OK"); err != nil {
				return 0, err
			}
			if raw, err = w.multi(raw[:0]); err != nil {
				return 0, err
			}
			took := time.Since(begin)
			if _, room, err = g.letters.check(raw, room); err != nil {
				return 0, err
			}
			if len(raw) < mediumLetter/2 { // the others take longer of their own
				return took, nil
			}
		}
	})
	if err != nil {
		return err
	}
	note(m, retr)
	if name == bigBox {
		if err := g.listings(ctx, w, count, note); err != nil {
			return err
		}
	}
	return w.quit()
}

// listings measures UIDL: for one message, up to the first line of the list, and the list itself.
func (g *growth) listings(ctx context.Context, w *wire, count int, note func(growthMeasure, float64)) error {
	one, err := sample(ctx, func(int) (time.Duration, error) {
		begin := time.Now()
		_, err := w.ask("UIDL "+strconv.Itoa(1+rand.IntN(count))+"\r\n", "+OK")
		return time.Since(begin), err
	})
	if err != nil {
		return err
	}
	note(growthUIDLOne, one)
	var whole []float64
	var list []byte
	first, err := sample(ctx, func(int) (time.Duration, error) {
		begin := time.Now()
		if _, err := w.ask("UIDL\r\n", "+OK"); err != nil {
			return 0, err
		}
		took := time.Since(begin)
		var err error
		list, err = w.multi(list[:0])
		whole = append(whole, float64(time.Since(begin).Microseconds())/float64(count))
		return took, err
	})
	note(growthUIDL, first)
	note(growthListing, median(whole))
	return err
}

// probe sends messages to the probes, and lets the caller do something before they are fetched and compared.
func (g *growth) probe(ctx context.Context, b burst, before func() error) (replies []time.Duration, took time.Duration, err error) {
	b.addr, b.first, b.size, b.letters = g.ours.mx, g.sent, smallLetter, g.letters
	b.rcpt = func(seq int) string { return "probe" + strconv.Itoa(seq%probes) }
	g.sent += b.count
	if replies, took, err = b.send(ctx); err != nil {
		return nil, 0, err
	}
	if err := before(); err != nil {
		return nil, 0, err
	}
	seen := newLedger(b.first, b.count)
	d := drainer{addr: g.ours.pop, names: mailboxNames("probe", probes), sessions: 4, window: drainWindow, letters: g.letters, seen: seen.see}
	if err := d.drain(ctx); err != nil {
		return nil, 0, err
	}
	return replies, took, seen.whole()
}

func (g *growth) deliveries(ctx context.Context, _ int, note func(growthMeasure, float64)) error {
	var p99s []float64
	for range batches {
		count := g.scaled(batchSize, probes)
		replies, _, err := g.probe(ctx, burst{conns: probes, count: count, rate: batchRate}, func() error { return nil })
		if err != nil {
			return err
		}
		p99s = append(p99s, quantile(replies, 0.99))
	}
	note(growthDelivery, median(p99s))
	return nil
}

// crashes measures starts after kills: right behind deliveries, and at rest. What was acknowledged must be there.
func (g *growth) crashes(ctx context.Context, _ int, note func(growthMeasure, float64)) error {
	var loaded, rested []time.Duration
	var rates []float64
	for range starts {
		b := burst{conns: burstConns, count: g.scaled(burstSize, burstConns)}
		_, took, err := g.probe(ctx, b, func() error {
			return g.restart(ctx, &loaded)
		})
		if err != nil {
			return err
		}
		rates = append(rates, float64(b.count)/took.Seconds())
		if _, err := quiet(ctx, g.ours.cpu); err != nil {
			return err
		}
		if err := g.restart(ctx, &rested); err != nil {
			return err
		}
	}
	note(growthRate, median(rates))
	note(growthCrashLoad, quantile(loaded, 0.5))
	note(growthCrash, quantile(rested, 0.5))
	return nil
}

// restart kills the server, starts it again, and adds how long that took.
func (g *growth) restart(ctx context.Context, took *[]time.Duration) error {
	if err := g.ours.kill(); err != nil {
		return err
	}
	d, err := g.ours.start(ctx)
	*took = append(*took, d)
	return err
}
