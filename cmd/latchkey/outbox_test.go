//go:build torture

package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/store"
	"latchkey/webmanager"
)

// The mailbox that submits, and the domain that its mail goes to. What the local part of a recipient begins with says what becomes of it.
const (
	submitter = "sue"
	abroad    = "@other.example"

	goodMail = "good" // taken
	lateMail = "late" // put off once or twice, then taken
	badMail  = "bad"  // refused for good: there is a bounce

	// submissions is how many messages for other domains are submitted in a round.
	submissions = 3
)

// outgoing is one recipient of a message that was submitted.
type outgoing struct {
	kind   string
	letter *letter
	tries  int // at the receiver
	// The following were said by the server after they were durable. ended is when the log said delivered or failed, deferrals how often it
	// said deferred; removed is when the operator was told so, held that it is held.
	ended     time.Time
	deferrals int
	removed   time.Time
	held      bool
	// bounce is the unique-id of the bounce.
	bounce string
}

// outbox is what was submitted, and what the outside and the operator know of it.
type outbox struct {
	v    *victim
	l    *ledger
	sink *sink

	mu    sync.Mutex // protects the fields below
	mails map[string]*outgoing
	kills []time.Time
	// known are the unique-ids of bounces, gone those that were deleted.
	known, gone map[string]bool
	// uncertain are recipients that an operator acted on without an answer, with what he wanted.
	uncertain map[string]string
}

func newOutbox(v *victim, l *ledger) *outbox {
	b := &outbox{v: v, l: l, mails: map[string]*outgoing{}, known: map[string]bool{}, gone: map[string]bool{}, uncertain: map[string]string{}}
	b.sink = newSink(v.t, func(s *sink) { s.answer = b.answer })
	v.flags = relayFlags(labDNS(v.t, abroad[1:]), b.sink.port())
	v.heard = b.heard
	return b
}

// answer is the receiver's, to RCPT.
func (b *outbox) answer(rcpt string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.mails[rcpt]
	if m == nil {
		b.l.problem("mail is sent to %s, whom nobody wrote to", rcpt)
		return ""
	}
	m.tries++
	h := fnv.New32a()
	_, _ = io.WriteString(h, rcpt) // a hash takes everything
	switch {
	case m.kind == badMail:
		return "550 5.1.1 no such mailbox"
	case m.kind == lateMail && m.tries <= 1+int(h.Sum32()%2):
		return "451 4.2.1 come later"
	}
	return ""
}

var outcomeLine = regexp.MustCompile(` msg=(delivered|deferred|failed) .* recipient=(\S+) `)

// heard reads the server's log: an outcome is told when it is durable.
func (b *outbox) heard(line string) {
	found := outcomeLine.FindStringSubmatch(line)
	if found == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.mails[found[2]]
	switch {
	case m == nil:
		b.l.problem("the log tells of %s, whom nobody wrote to", found[2])
	case found[1] == "deferred":
		m.deferrals++
	default:
		m.ended = time.Now()
	}
}

// submits sends messages to other domains, some of them to a mailbox here too, until something breaks.
func (b *outbox) submits(dice *rand.Rand, name string, count int) error {
	c, err := b.v.dialSubmission(submitter)
	if err != nil {
		return err
	}
	defer func() { _ = c.conn.Close() }() // all is said, or the server is dead
	for i := range count {
		token := fmt.Sprintf("%s-%d", name, i)
		kinds := []string{goodMail, lateMail, badMail}
		dice.Shuffle(3, func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
		var rcpts, accounts []string
		for _, kind := range kinds[:1+dice.IntN(3)] {
			rcpts = append(rcpts, kind+"-"+token+abroad)
		}
		remote := rcpts
		if dice.IntN(3) == 0 {
			rcpts, accounts = append(rcpts, "bert@example.com"), []string{"bert"}
		}
		if err := c.envelope(submitter+"@example.com", rcpts...); err != nil {
			return err
		}
		fields := "From: " + submitter + "@example.com\r\nDate: Mon, 2 Jan 2006 15:04:05 -0700\r\nMessage-ID: <" + token + "@example.com>\r\n"
		text := stuffed(appendLetter(nil, token, min(letterSize(dice), 40_000), fields))
		m := b.l.post(token, accounts)
		b.mu.Lock()
		for _, rcpt := range remote {
			kind, _, _ := strings.Cut(rcpt, "-")
			b.mails[rcpt] = &outgoing{kind: kind, letter: m}
		}
		b.mu.Unlock()
		if err := c.ask(string(text), "250"); err != nil {
			if isRefused(err) {
				b.l.refuse(m)
			}
			return err
		}
		b.l.ack(m)
	}
	return nil
}

// control makes a request on the management socket.
func (v *victim) control(method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := webmanager.DialControl(ctx, v.dir)
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Do(ctx, method, path, in, out)
}

// queue lists what waits; there is less than one page of it.
func (b *outbox) queue() ([]store.Job, error) {
	var page webmanager.QueuePage
	err := b.v.control("GET", fmt.Sprintf("/v1/queue?limit=%d", webmanager.MaxListLimit), nil, &page)
	return page.Jobs, err
}

// operates lets an operator act on what waits, one action after the other, until the end.
func (b *outbox) operates(f *traffic, dice *rand.Rand) error {
	for !f.stopped() {
		jobs, err := b.queue()
		if err != nil {
			return err
		}
		pause(dice, 20*time.Millisecond)
		if len(jobs) == 0 {
			continue
		}
		j := jobs[dice.IntN(len(jobs))]
		verb := ""
		switch n := dice.IntN(16); {
		case !strings.HasPrefix(j.Recipient.String(), lateMail):
			continue
		case n == 0:
			verb = "remove"
		case j.Held:
			verb = "release"
		case n < 8:
			verb = "hold"
		default:
			verb = "retry"
		}
		if err := b.act(verb, j); err != nil {
			return err
		}
	}
	return nil
}

func (b *outbox) act(verb string, j store.Job) error {
	rcpt := j.Recipient.String()
	b.mu.Lock()
	b.uncertain[rcpt] = verb
	b.mu.Unlock()
	var result webmanager.QueueResult
	err := b.v.control("POST", "/v1/queue/"+verb, webmanager.QueueAction{IDs: []store.JobID{j.ID}}, &result)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		return err
	}
	delete(b.uncertain, rcpt)
	if m := b.mails[rcpt]; m != nil && len(result.Done) == 1 {
		switch verb {
		case "hold":
			m.held = true
		case "release":
			m.held = false
		case "remove":
			m.removed = time.Now()
		}
	}
	return nil
}

// begin lets mail be submitted, and an operator act, beside other traffic.
func (b *outbox) begin(f *traffic, dice *rand.Rand) {
	submitting, operating := rand.New(rand.NewPCG(dice.Uint64(), 1)), rand.New(rand.NewPCG(dice.Uint64(), 2))
	f.work.Go(func() { f.ended(b.submits(submitting, "o"+f.name, submissions)) })
	f.work.Go(func() { f.ended(b.operates(f, operating)) })
}

// killed notes that the server was killed, when all that it had sent is at the receiver.
func (b *outbox) killed() {
	eventually(b.v.t, "the end of a dead server's connections", b.sink.idle)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kills = append(b.kills, time.Now())
}

// reconcile compares the queue of a server that has just started, and the bounces, with what is certain. Nobody submits meanwhile.
func (b *outbox) reconcile(t testing.TB) {
	t.Helper()
	told := b.told() // before the queue is listed: the server goes on working on it
	jobs, err := b.queue()
	if err != nil {
		t.Fatal(err)
	}
	bounces := b.v.bounced(submitter)
	copies := b.copies()
	b.mu.Lock()
	defer b.mu.Unlock()
	queued := map[string]bool{}
	for _, j := range jobs {
		b.job(j, told[j.Recipient.String()], queued)
	}
	for _, bounce := range bounces {
		m := b.mails[bounce.rcpt]
		switch {
		case b.gone[bounce.uid]:
			b.l.problem("the bounce %s is there although it was deleted", bounce.uid)
		case m == nil || m.kind != badMail:
			b.l.problem("a bounce for %s", bounce.rcpt)
		case m.bounce != "" && m.bounce != bounce.uid:
			b.l.problem("%s was bounced twice", bounce.rcpt)
		default:
			m.bounce, b.known[bounce.uid] = bounce.uid, true
		}
	}
	b.decide(func(rcpt string, m *outgoing) bool { return queued[rcpt] || len(copies[rcpt]) > 0 || m.bounce != "" })
	for rcpt, m := range b.mails {
		done := len(copies[rcpt]) > 0 || m.bounce != "" || !m.removed.IsZero() || b.uncertain[rcpt] == "remove"
		if m.letter.fate == kept && !queued[rcpt] && !done {
			b.l.problem("accepted and lost: %s", rcpt)
		}
		b.doubles(rcpt, m, copies[rcpt])
	}
}

// decide decides messages that had no answer: one recipient for whom something was done stands for all.
func (b *outbox) decide(done func(rcpt string, m *outgoing) bool) {
	b.l.mu.Lock()
	defer b.l.mu.Unlock()
	for rcpt, m := range b.mails {
		if m.letter.fate == unknown && done(rcpt, m) {
			b.l.keep(m.letter)
		}
	}
	for _, m := range b.mails {
		if m.letter.fate == unknown {
			b.l.drop(m.letter)
		}
	}
}

// told is what was said of each recipient so far.
func (b *outbox) told() map[string]outgoing {
	b.mu.Lock()
	defer b.mu.Unlock()
	told := map[string]outgoing{}
	for rcpt, m := range b.mails {
		told[rcpt] = *m
	}
	return told
}

// job looks at one job of the queue, that was listed after certain things had been told.
func (b *outbox) job(j store.Job, told outgoing, queued map[string]bool) {
	rcpt := j.Recipient.String()
	m := b.mails[rcpt]
	switch {
	case m == nil:
		b.l.problem("queued for %s, whom nobody wrote to", rcpt)
		return
	case queued[rcpt]:
		b.l.problem("queued twice for %s", rcpt)
	case !told.ended.IsZero():
		b.l.problem("queued for %s although the log said at %s that it was over", rcpt, told.ended.Format(time.StampMicro))
	case !m.removed.IsZero():
		b.l.problem("queued for %s although the operator was told that it is removed", rcpt)
	case m.letter.fate == void:
		b.l.problem("queued for %s although the message is not stored", rcpt)
	case j.Attempts < told.deferrals:
		b.l.problem("%s has %d attempts, and %d were put off", rcpt, j.Attempts, told.deferrals)
	case m.held && !j.Held && b.uncertain[rcpt] == "":
		b.l.problem("%s is not held any more", rcpt)
	}
	queued[rcpt] = true
	m.held = j.Held // an action without an answer is decided
	delete(b.uncertain, rcpt)
}

// copies are the times at which each recipient's mail was taken.
func (b *outbox) copies() map[string][]time.Time {
	copies := map[string][]time.Time{}
	for _, m := range b.sink.all() {
		copies[m.rcpt] = append(copies[m.rcpt], m.at)
	}
	return copies
}

// doubles looks at what the receiver got: again only with a kill in between, and never after the server had noted it.
func (b *outbox) doubles(rcpt string, m *outgoing, times []time.Time) {
	if len(times) > 0 && m.letter.fate == void {
		b.l.problem("%s got what is not stored", rcpt)
	}
	for i, at := range times {
		if i > 0 && !b.killedBetween(times[i-1], at) {
			b.l.problem("%s got it twice with no kill in between", rcpt)
		}
		if !m.ended.IsZero() && at.After(m.ended) {
			b.l.problem("%s got it again although the log had said that it was over", rcpt)
		}
		if !m.removed.IsZero() && b.killedBetween(m.removed, at) {
			b.l.problem("%s got it although it was removed, before a kill", rcpt)
		}
	}
}

func (b *outbox) killedBetween(before, after time.Time) bool {
	for _, k := range b.kills {
		if k.After(before) && k.Before(after) {
			return true
		}
	}
	return false
}

// tidy deletes the bounces when there are many, and has what waits tried again.
func (b *outbox) tidy(t testing.TB) {
	t.Helper()
	jobs, err := b.queue()
	if err != nil {
		t.Fatal(err)
	}
	var retry, release []store.JobID
	for _, j := range jobs {
		if j.Held {
			release = append(release, j.ID)
		} else {
			retry = append(retry, j.ID)
		}
	}
	for verb, ids := range map[string][]store.JobID{"retry": retry, "release": release} {
		if len(ids) == 0 {
			continue
		}
		if err := b.v.control("POST", "/v1/queue/"+verb, webmanager.QueueAction{IDs: ids}, nil); err != nil {
			t.Fatal(err)
		}
	}
	b.mu.Lock()
	for _, m := range b.mails {
		m.held = false
	}
	b.mu.Unlock()
	c, err := b.v.dialPOP(submitter)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.conn.Close() }() // after QUIT, or after what is reported
	list, err := c.list()
	var numbers []int
	for i, e := range list {
		if b.known[e.uid] { // it was counted
			numbers = append(numbers, i+1)
		}
	}
	if err == nil {
		err = c.delete(numbers)
	}
	if err == nil {
		_, err = c.ask("QUIT")
	}
	if err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range numbers {
		b.gone[list[n-1].uid] = true
	}
}

// idle reports whether nobody is connected.
func (s *sink) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open) == 0
}
