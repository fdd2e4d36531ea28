//go:build torture

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/internal/gcpace"
	"latchkey/internal/mailaddr"
	"latchkey/internal/resolver/resolvertest"
	"latchkey/store"
	"latchkey/webmanager"
)

// relayTorture is a victim whose mail goes to a sink, and what was submitted.
type relayTorture struct {
	*victim
	sink  *sink
	acked map[string]bool // token -> the submission was acknowledged (else: sent, and no answer)
	kills []time.Time

	mu sync.Mutex // protects the fields below
	// shot is called at a step named at, when skip of them have passed.
	at   string
	skip int
	shot func()
}

// relayFlags make a victim deliver by a name server, to a port of loopback.
func relayFlags(dns *resolvertest.Server, port int) []string {
	return []string{
		"--relay-nameservers", dns.Addr().String(), "--relay-port", strconv.Itoa(port), "--relay-allow-networks", "127.0.0.0/8",
	}
}

// steps are the points of a transaction at which the process is killed, in turn; at "later" it is killed a few moments after the answer,
// while the outcome is being written.
var steps = []string{"connected", "mail", "rcpt", "data", "body", "taken", "answered", "later"}

// step is called by the sink.
func (r *relayTorture) step(point string) {
	r.mu.Lock()
	var shot func()
	later := point == "answered" && r.at == "later"
	if point == r.at || later {
		if r.skip--; r.skip < 0 {
			shot, r.shot, r.at = r.shot, nil, ""
		}
	}
	r.mu.Unlock()
	if shot == nil {
		return
	}
	if later {
		<-time.After(time.Duration(rand.IntN(8000)) * time.Microsecond) // at any moment: this is no waiting for something
	}
	shot()
}

// submit sends messages with AUTH, each for a recipient that exists and one that does not, until the connection breaks.
func (r *relayTorture) submit(round, count int) error {
	c, err := r.dialSubmission("bert")
	if err != nil {
		return err
	}
	defer func() { _ = c.conn.Close() }() // all is said, or the server is dead
	for i := range count {
		token := fmt.Sprintf("r%d-%d", round, i)
		if err := c.envelope("bert@example.com", "good-"+token+"@other.example", "bad-"+token+"@other.example"); err != nil {
			return err
		}
		r.acked[token] = false
		if err := c.ask("From: bert@example.com\r\nSubject: "+token+"\r\n\r\nbody\r\n.\r\n", "250"); err != nil {
			return err
		}
		r.acked[token] = true
	}
	return nil
}

// TestTortureRelay kills the process at every step of a delivery, over and over. No accepted message is lost, no bounce is doubled, and a
// message is at the receiver twice only where the process was killed between the receiver's 250 and the record of it.
func TestTortureRelay(t *testing.T) {
	r := &relayTorture{victim: newVictim(t, filepath.Join(t.TempDir(), "data")), acked: map[string]bool{}}
	r.sink = newSink(t, func(s *sink) {
		s.answer = func(rcpt string) string {
			if strings.HasPrefix(rcpt, "bad-") {
				return "550 5.1.1 no such mailbox"
			}
			return ""
		}
		s.step = r.step
	})
	r.flags = relayFlags(labDNS(t, "other.example"), r.sink.port())
	for round := range rounds(100, 16) {
		r.start()
		killed := make(chan struct{})
		process := r.cmd.Process
		r.mu.Lock()
		r.at, r.skip, r.shot = steps[round%len(steps)], rand.IntN(4), func() {
			_ = process.Kill() // waited for below
			close(killed)
		}
		r.mu.Unlock()
		_ = r.submit(round, 3) // the kill may break it off
		r.awaitKill(killed)
		r.kill()
		eventually(t, "the end of a dead server's connections", r.sink.idle)
		r.kills = append(r.kills, time.Now())
	}
	r.start()
	eventually(t, "an empty queue", r.idle)
	r.check()
	r.kill()
}

// awaitKill waits until the process is killed, or has nothing left to send: then it is killed idle.
func (r *relayTorture) awaitKill(killed <-chan struct{}) {
	r.t.Helper()
	over := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-killed:
			return
		case <-over:
			r.t.Fatal("the process is neither killed nor idle")
		case <-tick.C:
			r.mu.Lock()
			armed := r.shot != nil
			r.mu.Unlock()
			if armed && r.idle() {
				return
			}
		}
	}
}

// idle reports whether the queue is empty; a process that is being killed is not.
func (r *relayTorture) idle() bool {
	client, err := webmanager.DialControl(context.Background(), r.dir)
	if err != nil {
		return false
	}
	defer client.Close()
	var page webmanager.QueuePage
	err = client.Do(context.Background(), "GET", "/v1/queue?limit=1", nil, &page)
	return err == nil && len(page.Jobs) == 0
}

// check compares what was submitted with what arrived.
func (r *relayTorture) check() {
	r.t.Helper()
	copies := map[string][]time.Time{}
	for _, m := range r.sink.all() {
		token := strings.TrimSuffix(strings.TrimPrefix(m.rcpt, "good-"), "@other.example")
		copies[token] = append(copies[token], m.at)
	}
	bounces := map[string]int{}
	for _, failed := range r.bounced("bert") {
		bounces[strings.TrimSuffix(strings.TrimPrefix(failed.rcpt, "bad-"), "@other.example")]++
	}
	twice := 0
	for token, acked := range r.acked {
		n, b := len(copies[token]), bounces[token]
		if acked && n == 0 || n > 0 && b != 1 || n == 0 && b > 0 {
			r.t.Errorf("%s: acknowledged %t, %d copies, %d bounces", token, acked, n, b)
		}
		for i := 1; i < n; i++ {
			twice++
			before, after := copies[token][i-1], copies[token][i]
			if !slices.ContainsFunc(r.kills, func(k time.Time) bool { return k.After(before) && k.Before(after) }) {
				r.t.Errorf("%s: sent twice with no kill in between", token)
			}
		}
	}
	r.t.Logf("%d messages submitted, %d of them acknowledged, %d copies sent twice", len(r.acked), r.count(), twice)
}

// bounced is one recipient whom a bounce reports as failed.
type bounced struct{ uid, rcpt string }

// bounced reads the bounces that a mailbox holds; nothing else is in it.
func (v *victim) bounced(account string) (all []bounced) {
	v.t.Helper()
	c, err := v.dialPOP(account)
	if err != nil {
		v.t.Fatal(err)
	}
	defer func() { _ = c.conn.Close() }() // after QUIT, or after what is reported
	list, err := c.list()
	for i := range list {
		if err == nil {
			_, err = c.ask(fmt.Sprintf("RETR %d", i+1))
		}
		if err == nil {
			err = c.lines(func(line []byte) {
				if rcpt, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "Final-Recipient: rfc822; "); ok {
					all = append(all, bounced{list[i].uid, rcpt})
				}
			})
		}
	}
	if err == nil {
		_, err = c.ask("QUIT")
	}
	if err != nil {
		v.t.Fatal(err)
	}
	return all
}

func (r *relayTorture) count() (acked int) {
	for _, is := range r.acked {
		if is {
			acked++
		}
	}
	return acked
}

// TestTortureLongQueue: behind a million jobs to 1,000 dead destinations (the short form: 20,000) the mail for ten living ones goes out at
// once, the process starts as fast as ever, and needs little more memory than without them.
func TestTortureLongQueue(t *testing.T) {
	const dead, living = 1000, 10
	each := rounds(1000, 20) // jobs for each dead destination
	v := newVictim(t, filepath.Join(t.TempDir(), "data"))
	world := newSink(t)
	silent := silentServer(t, fmt.Sprintf("127.0.0.2:%d", world.port()))
	dns := labDNS(t)
	for i := range dead {
		// One half refuses connections, the other takes them and never says a word.
		labHost(dns, fmt.Sprintf("dead%d.example", i), fmt.Sprintf("127.0.0.%d", 2+i%2))
	}
	for i := range living {
		labHost(dns, fmt.Sprintf("living%d.example", i), "127.0.0.1")
	}
	v.flags = relayFlags(dns, world.port())
	v.start()
	v.warmUp()
	idle := v.rssAnon()
	v.kill()
	for i := range each {
		v.enqueue(dead, fmt.Sprintf("x%d@dead%%d.example", i))
	}
	v.enqueue(living, "friend@living%d.example")
	v.start()
	if v.startup > time.Second {
		t.Errorf("the start took %v with %d jobs", v.startup, dead*each)
	}
	stop := v.watchMemory()
	world.wait(living)
	if n := silent(); n == 0 {
		t.Error("no silent destination is being tried: the test shows nothing")
	}
	if each <= 100 { // a list of a million is nothing for the eyes
		if lines := strings.Count(v.command("queue", "list"), "\n"); lines < dead*each/2 {
			t.Errorf("queue list has %d lines", lines)
		}
	}
	if lines := strings.Count(v.command("queue", "list", "--limit", "10"), "\n"); lines > 13 {
		t.Errorf("a page of ten has %d lines", lines)
	}
	<-time.After(time.Duration(rounds(20, 5)) * time.Second) // let it work on the dead ones
	largest := stop()
	t.Logf("RssAnon %.1f MiB idle, at most %.1f MiB with %d jobs waiting", float64(idle)/(1<<20), float64(largest)/(1<<20), dead*each)
	if largest-idle > maxQueueGrowth {
		t.Errorf("grew by %.1f MiB, want at most %d", float64(largest-idle)/(1<<20), maxQueueGrowth>>20)
	}
	v.kill()
}

// maxQueueGrowth is how much the memory of a process may grow with a long queue: a thousand connections that wait, pages of the index, and
// what a busy process leaves to the collector.
const maxQueueGrowth = 64<<20 + gcpace.Headroom

// enqueue commits one message for count recipients, as form makes them of a number.
func (v *victim) enqueue(count int, form string) {
	v.t.Helper()
	st, err := openStore(context.Background(), v.dir)
	if err != nil {
		v.t.Fatal(err)
	}
	recipients := make([]store.Recipient, count)
	for i := range recipients {
		address, err := mailaddr.Parse(fmt.Sprintf(form, i))
		if err != nil {
			v.t.Fatal(err)
		}
		recipients[i].Address = address
	}
	draft, err := st.NewDraft(context.Background())
	if err != nil {
		v.t.Fatal(err)
	}
	const body = "Subject: many\r\n\r\nbody\r\n"
	_, err = io.WriteString(draft, body)
	if err == nil {
		_, err = draft.Commit(context.Background(), store.Envelope{
			ReversePath: recipients[0].Address, Recipients: recipients, Received: time.Now(), HeaderLen: int64(len(body) - len("body\r\n")),
			Origin: store.Origin{Door: "local"},
		})
	}
	if err := errors.Join(err, st.Close()); err != nil {
		v.t.Fatal(err)
	}
}

func labHost(dns *resolvertest.Server, domain, address string) {
	dns.Set(domain, "A", address)
	for _, kind := range []string{"MX", "AAAA"} {
		dns.Set(domain, kind)
	}
	for _, kind := range []string{"MX", "A", "AAAA"} {
		dns.Behave(domain, kind, resolvertest.Normal)
	}
}

// silentServer takes connections and says nothing. It returns how many there were.
func silentServer(t *testing.T, address string) (count func() int64) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	var work sync.WaitGroup
	over := make(chan struct{})
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			work.Go(func() {
				<-over
				_ = c.Close() // it has served
			})
		}
	})
	t.Cleanup(func() {
		err := l.Close()
		close(over)
		work.Wait()
		if err != nil {
			t.Error(err)
		}
	})
	return n.Load
}
