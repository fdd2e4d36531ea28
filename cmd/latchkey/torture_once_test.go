//go:build torture

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/store"
	"latchkey/webmanager"
)

// oncePoints are the moments of a delivery at which the process is killed, in turn. Up to "data" the receiver has nothing. At "body" it has the
// whole message, at "taken" it has taken it, and its 250 is not sent; at "answered" it is; "write" and "sync" are the system calls by which the outcome is kept, "later" is any moment
// around them, and at "recorded" the log has told the outcome.
var oncePoints = []string{
	"accepted", "connected", "hello", "mail", "rcpt", "data", "body", "taken", "answered", "write", "sync", "later", "recorded",
}

// early reports whether the receiver cannot have the message at a point.
func early(point string) bool {
	return slices.Index(oncePoints, point) < slices.Index(oncePoints, "body")
}

// onceTorture is a victim whose mail goes to a sink that stands still at a point, and what its log told of deliveries.
type onceTorture struct {
	*victim
	sink *sink
	gate *turnstile

	mu   sync.Mutex           // protects told
	told map[string]time.Time // recipient -> when the log said that it is delivered, which is after its record is durable
}

// turnstile holds a transaction at a point, once.
type turnstile struct {
	mu      sync.Mutex // protects the fields below
	at      string
	holds   bool // or lets it go on
	reached chan struct{}
	open    chan struct{}
	// then, unless it is nil, is called at the point.
	then func()
}

// set chooses the next point. Whoever waits at another one goes on.
func (g *turnstile) set(at string, holds bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at, g.holds, g.reached, g.open, g.then = at, holds, make(chan struct{}), make(chan struct{}), nil
}

// step is called by the sink.
func (g *turnstile) step(point string) {
	g.mu.Lock()
	if point != g.at {
		g.mu.Unlock()
		return
	}
	g.at = ""
	close(g.reached)
	holds, open, then := g.holds, g.open, g.then
	g.mu.Unlock()
	if then != nil {
		then()
	}
	if holds {
		<-open
	}
}

// line reads the log.
func (x *onceTorture) line(line string) {
	if !strings.Contains(line, " msg=delivered ") {
		return
	}
	_, after, _ := strings.Cut(line, " recipient=")
	rcpt, _, _ := strings.Cut(after, " ")
	x.mu.Lock()
	defer x.mu.Unlock()
	x.told[rcpt] = time.Now()
}

// toldOf returns when the log told of a delivery, or a zero time.
func (x *onceTorture) toldOf(rcpt string) time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.told[rcpt]
}

// copies is how many the receiver has.
func (x *onceTorture) copies(rcpt string) (n int) {
	for _, m := range x.sink.all() {
		if m.rcpt == rcpt {
			n++
		}
	}
	return n
}

// submit sends messages over one connection, one for each recipient, all of which are taken.
func (x *onceTorture) submit(rcpts ...string) {
	x.t.Helper()
	c, err := x.dialSubmission("bert")
	if err != nil {
		x.t.Fatal(err)
	}
	defer func() { _ = c.conn.Close() }() // all is said
	for _, rcpt := range rcpts {
		if err = c.envelope("bert@example.com", rcpt); err == nil {
			err = c.ask("From: bert@example.com\r\nSubject: once\r\n\r\nbody\r\n.\r\n", "250")
		}
		if err != nil {
			x.t.Fatalf("%s: %v\n%s", x.where, err, x.log.tail())
		}
	}
}

// hangUp closes the connections that wait for the next message.
func (s *sink) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		_ = c.Close() // nothing is under way
	}
}

// empty reports whether nothing is queued.
func (x *onceTorture) empty() bool {
	client, err := webmanager.DialControl(context.Background(), x.dir)
	if err != nil {
		return false
	}
	defer client.Close()
	var page webmanager.QueuePage
	err = client.Do(context.Background(), "GET", "/v1/queue?limit=1", nil, &page)
	return err == nil && len(page.Jobs) == 0
}

// waiting reports whether a recipient is in the queue of the dead server.
func (x *onceTorture) waiting(rcpt string) bool {
	x.t.Helper()
	st, err := openStore(context.Background(), x.dir)
	if err != nil {
		x.t.Fatal(err)
	}
	jobs, _, err := st.ListJobs(context.Background(), store.QueueFilter{}, 0, 100)
	if err != nil {
		x.t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		x.t.Fatal(err)
	}
	return slices.ContainsFunc(jobs, func(j store.Job) bool { return j.Recipient.String() == rcpt })
}

// killAt submits a message and kills the process when its delivery is at a point.
func (x *onceTorture) killAt(point, rcpt string, dice *rand.Rand) {
	x.t.Helper()
	arrive := func(what string, reached <-chan struct{}) {
		x.t.Helper()
		select {
		case <-reached:
		case <-time.After(patience):
			x.t.Fatalf("%s: a delivery does not come to %s\n%s", x.where, what, x.log.tail())
		}
	}
	defer func() {
		x.kill()
		close(x.gate.open)
		eventually(x.t, "the end of a dead server's connections", x.sink.idle)
	}()
	switch point {
	case "accepted":
		x.gate.set("", false)
		x.submit(rcpt)
	case "write", "sync":
		x.gate.set("taken", true)
		x.submit(rcpt)
		arrive(point, x.gate.reached)
		tr := x.trace(map[string]string{"write": "pwrite64", "sync": "fdatasync"}[point], "signal=SIGKILL:when=1")
		x.gate.open <- struct{}{}
		eventually(x.t, "the death of the server at a system call", x.gone)
		x.kill()
		tr.detach()
	case "later":
		process, dead := x.cmd.Process, make(chan struct{})
		x.gate.set("answered", false)
		x.gate.then = func() {
			pause(dice, 8*time.Millisecond)
			_ = process.Kill() // waited for below
			close(dead)
		}
		x.submit(rcpt)
		arrive(point, dead)
	case "recorded":
		x.gate.set("", false)
		x.submit(rcpt)
		eventually(x.t, "a word of the delivery in the log", func() bool { return !x.toldOf(rcpt).IsZero() })
	default:
		x.gate.set(point, true)
		x.submit(rcpt)
		arrive(point, x.gate.reached)
	}
}

// TestTortureExactlyOnce kills the process at every step of a delivery, over and over. The receiver has each message once; twice only where it had it
// when the process was killed and the outcome was not kept yet, which the log had not told either. Then it measures how long that is.
func TestTortureExactlyOnce(t *testing.T) {
	need(t, "strace")
	x := &onceTorture{victim: newVictim(t, filepath.Join(t.TempDir(), "data")), gate: &turnstile{}, told: map[string]time.Time{}}
	x.populate("anna", "carl")
	x.sink = newSink(t, func(s *sink) { s.step = x.gate.step })
	x.flags = relayFlags(labDNS(t, "other.example"), x.sink.port())
	x.heard = x.line
	seed := newSeed(t)
	once, twice := map[string]int{}, map[string]int{}
	x.start()
	for round := range rounds(200, 20) {
		point, rcpt := oncePoints[round%len(oncePoints)], fmt.Sprintf("e%d@other.example", round)
		x.where = fmt.Sprintf("round %d, %s", round, point)
		x.killAt(point, rcpt, rand.New(rand.NewPCG(seed, uint64(round))))
		had, told, waits := x.copies(rcpt), !x.toldOf(rcpt).IsZero(), x.waiting(rcpt)
		if had == 0 && !waits || had > 0 && told && waits || had > 1 || early(point) && had > 0 || point == "recorded" && (had == 0 || waits) {
			t.Errorf("%s: the receiver had %d copies, the log had told %t, it waits %t", x.where, had, told, waits)
		}
		x.gate.set("", false)
		x.start()
		eventually(t, "an empty queue", x.empty)
		want := 1
		if had == 1 && waits { // it was in the window
			want = 2
		}
		if got := x.copies(rcpt); got != want {
			t.Errorf("%s: the receiver has %d copies, want %d", x.where, got, want)
		}
		if want == 2 {
			twice[point]++
		} else {
			once[point]++
		}
		x.healthy()
		if t.Failed() {
			return
		}
		x.sink.hangUp() // the next delivery begins with a connection
		eventually(t, "the end of connections", x.sink.idle)
	}
	for _, point := range oncePoints {
		t.Logf("killed at %-9s %3d once, %3d twice", point+":", once[point], twice[point])
	}
	if twice["taken"] == 0 {
		t.Error("no message arrived twice that the receiver had taken: the test shows nothing")
	}
	x.measure("one at a time", 1, rounds(500, 50))
	x.measure("a hundred at a time", 100, rounds(10, 2))
	x.stop()
	x.sound()
}

// measure tells how long the window is: from before the receiver's 250 is sent until the log tells of the outcome, which is after it is durable.
func (x *onceTorture) measure(name string, together, times int) {
	x.t.Helper()
	var all []time.Duration
	for i := range times {
		var rcpts []string
		for k := range together {
			rcpts = append(rcpts, fmt.Sprintf("w%d-%d-%d@other.example", together, i, k))
		}
		x.submit(rcpts...)
		eventually(x.t, "words of the deliveries in the log", func() bool {
			return !slices.ContainsFunc(rcpts, func(rcpt string) bool { return x.toldOf(rcpt).IsZero() })
		})
	}
	for _, m := range x.sink.all() {
		if strings.HasPrefix(m.rcpt, fmt.Sprintf("w%d-", together)) {
			all = append(all, x.toldOf(m.rcpt).Sub(m.at))
		}
	}
	slices.Sort(all)
	if len(all) != times*together || all[0] <= 0 {
		x.t.Fatalf("%s: %d deliveries, want %d; the shortest window is %v", name, len(all), times*together, all[0])
	}
	at := func(part int) time.Duration { return all[(len(all)-1)*part/100].Round(10 * time.Microsecond) }
	x.t.Logf("window, %s: median %v, 99 of 100 within %v, longest %v (%d deliveries)", name, at(50), at(99), at(100), len(all))
}
