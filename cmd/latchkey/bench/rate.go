//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"latchkey/store"
)

// Of part i.
const (
	rateMeasure  = "burst to 500 domains, messages out a second"
	rateFresh    = "longest way of a fresh message of another mailbox meanwhile"
	rateCPU      = "CPU of a message, in and out"
	rateMemory   = "memory (RssAnon) at most"
	rateCrowd    = "connections to one receiver, at most"
	rateTurned   = "connections that receivers turned away"
	rateLeft     = "messages that were put off for longer than the run"
	postfixOut   = "Postfix"
	rateMessages = 50_000
	rateLetter   = 4096
	rateConns    = 64
	// freshPace is the pause between two fresh messages.
	freshPace = 250 * time.Millisecond
	// rateStall is after how long without a message out a burst is over: what is left waits for minutes.
	rateStall = 8 * time.Second
)

// rate is part i: a burst goes out to receivers of many manners, from our server and from Postfix in turn.
type rate struct {
	*run
	letters *letters
	count   int
}

// measureRate is part i.
func (r *run) measureRate(ctx context.Context) error {
	p := &rate{run: r, letters: newLetters(), count: r.scaled(rateMessages, receiverCount)}
	for _, w := range []row{
		{measure: rateMeasure, against: postfixOut, want: atLeast(5)}, {measure: rateFresh, unit: "ms", against: postfixOut, want: below(1000).alone()},
		{measure: rateCPU, unit: "ms", against: postfixOut}, {measure: rateMemory, unit: "MiB", want: below(64)}, {measure: rateCrowd, against: postfixOut, want: atMost(receiverMost).alone()},
		{measure: rateTurned, against: postfixOut}, {measure: rateLeft, against: postfixOut, want: atMost(0).alone()},
	} {
		w.part = 'i'
		r.sheet.want(w)
	}
	for number := range r.rounds {
		fmt.Printf("rate: round %d of %d\n", number+1, r.rounds)
		if err := errors.Join(p.ours(ctx), ctx.Err()); err != nil {
			return err
		}
		if err := errors.Join(p.postfix(ctx), ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// ours is the turn of our server.
func (p *rate) ours(ctx context.Context) (err error) {
	to, err := newReceivers(ctx, p.count)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.close()) }()
	l, err := newLatchkey(ctx, p.root, "rate", p.binary, mailboxNames("user", 2))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.stop(), os.RemoveAll(l.dir)) }()
	err = l.inStore(ctx, func(st store.Store) error {
		s, err := st.Settings(ctx)
		if err != nil {
			return err
		}
		s.RequireAuth, s.TrustedNetworks = false, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/16")}
		const most = store.MaxRecipientBudget
		s.TrustedRecipients, s.DailyRecipients, s.HourlyRecipients, s.NewRecipients = most, most, most, most
		s.DomainDailyRecipients, s.DomainHourlyRecipients, s.HoldJumps, s.DailyOctets = most, most, false, 0
		_, err = st.UpdateSettings(ctx, s)
		return err
	})
	if err != nil {
		return err
	}
	l.extra = []string{
		"--relay-nameservers", to.names.PacketConn.LocalAddr().String(), "--relay-port", strconv.Itoa(to.port),
		"--relay-allow-networks", "127.0.0.0/8",
	}
	if _, err := l.start(ctx); err != nil {
		return err
	}
	var most atomic.Int64
	stop := watch(func() {
		if kib, err := procNumber(l.pid(), "status", "RssAnon"); err == nil {
			most.Store(max(most.Load(), kib))
		}
	})
	err = p.burst(ctx, l, to)
	stop()
	p.figure(rateMemory, us, float64(most.Load())/1024, "MiB")
	if n := to.doubled.Load(); err == nil && n > 0 {
		err = fmt.Errorf("%d messages came twice", n)
	}
	return err
}

// watch does something ten times a second until it is stopped.
func watch(do func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var w sync.WaitGroup
	w.Go(func() {
		for ; pause(ctx, 100*time.Millisecond) == nil; do() {
		}
	})
	return func() {
		cancel()
		w.Wait()
	}
}

// postfix is the turn of Postfix. It is told where the receivers are, and need not ask.
func (p *rate) postfix(ctx context.Context) (err error) {
	to, err := newReceivers(ctx, p.count)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.close()) }()
	peer := newPeer(postfixOut, "virtual", p.tools, p.root)
	defer func() { err = errors.Join(err, peer.stop(ctx)) }()
	if err := peer.start(ctx); err != nil {
		return err
	}
	etc := filepath.Join(p.root, "peer-postfix", "etc")
	var table strings.Builder
	for i := range receiverCount {
		fmt.Fprintf(&table, "%s smtp:[%s]:%d\n", receiverDomain(i), receiverAddr(i), to.port)
	}
	transport := filepath.Join(etc, "transport")
	if err := os.WriteFile(transport, []byte(table.String()), 0o644); err != nil {
		return err
	}
	for _, c := range [][]string{
		{"postmap", "-c", etc, "hash:" + transport},
		{"postconf", "-c", etc, "-e", "transport_maps=hash:" + transport, "mynetworks=127.0.0.0/8",
			"smtpd_relay_restrictions=permit_mynetworks,reject", "smtpd_recipient_restrictions=permit_mynetworks,reject",
			"smtp_destination_concurrency_limit=" + strconv.Itoa(receiverMost)},
		{"postfix", "-c", etc, "reload"},
	} {
		if _, err := command(ctx, nil, c[0], c[1:]...); err != nil {
			return err
		}
	}
	if err := pause(ctx, time.Second); err != nil { // the reload is done
		return err
	}
	return p.burst(ctx, peer, to)
}

// burst sends the messages in, and waits until they are out.
func (p *rate) burst(ctx context.Context, from server, to *receivers) error {
	name, addr := from.name(), from.smtp()
	used, err := from.cpu(ctx)
	if err != nil {
		return err
	}
	begin := time.Now()
	to.last.Store(begin.UnixNano())
	over, end := context.WithCancel(ctx)
	var fresh sync.WaitGroup
	var slowest time.Duration
	var freshErr error
	fresh.Go(func() { slowest, freshErr = p.fresh(over, addr, to) })
	err = p.inject(ctx, addr)
	injected := time.Since(begin)
	for err == nil && to.settled.Load() < int64(p.count) && time.Since(time.Unix(0, to.last.Load())) < rateStall {
		err = pause(ctx, 10*time.Millisecond)
	}
	end()
	fresh.Wait()
	if err = errors.Join(err, freshErr); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	took := time.Unix(0, to.last.Load()).Sub(begin)
	fmt.Printf("  %s: in after %s, out after %s\n", name, injected.Round(time.Millisecond), took.Round(time.Millisecond))
	now, err := from.cpu(ctx)
	if err != nil {
		return err
	}
	most, turned := to.crowd()
	p.figure(rateMeasure, name, float64(to.settled.Load())/took.Seconds(), "")
	p.figure(rateCPU, name, 1000*(now-used)/float64(p.count), "ms")
	p.figure(rateFresh, name, millis(slowest), "ms")
	p.figure(rateCrowd, name, float64(most), "")
	p.figure(rateTurned, name, float64(turned), "")
	p.figure(rateLeft, name, float64(int64(p.count)-to.settled.Load()), "")
	return nil
}

// inject sends the burst in, from one mailbox, to all domains in turn.
func (p *rate) inject(ctx context.Context, addr string) error {
	var next atomic.Int64
	errs := make([]error, rateConns)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			w, err := p.sender(addr)
			if err != nil {
				errs[i] = err
				return
			}
			defer w.close()
			var data []byte
			for errs[i] = ctx.Err(); errs[i] == nil; {
				n := int(next.Add(1)) - 1
				if n >= p.count {
					return
				}
				data = p.letter(data[:0], "user0", n)
				errs[i] = w.post("user0", fmt.Sprintf("m%d@%s", n, receiverDomain(n%receiverCount)), data)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// letter appends a message from a mailbox, with the dot that ends it.
func (p *rate) letter(b []byte, from string, seq int) []byte {
	made := p.letters.appendMessage(nil, seq, rateLetter)
	_, rest, _ := bytes.Cut(made, []byte("\r\n")) // the first line says who
	return append(append(fmt.Appendf(b, "From: <%s>\r\n", address(from)), rest...), ".\r\n"...)
}

func (p *rate) sender(addr string) (*wire, error) {
	w, err := dial(addr, nil, 512)
	if err != nil {
		return nil, err
	}
	if _, err = w.ask("", "220"); err == nil {
		_, err = w.ask("EHLO client.example\r\n", "250")
	}
	if err != nil {
		w.close()
	}
	return w, err
}

// post is one message from a mailbox to an address outside.
func (w *wire) post(from, to string, data []byte) error {
	for _, step := range []struct{ text, want string }{
		{"MAIL FROM:<" + address(from) + ">\r\n", "250"}, {"RCPT TO:<" + to + ">\r\n", "250"}, {"DATA\r\n", "354"}, {string(data), "250"},
	} {
		if _, err := w.ask(step.text, step.want); err != nil {
			return err
		}
	}
	return nil
}

// fresh sends single messages of another mailbox to one fast receiver after the other, and returns how long the slowest took from the
// reply that took it to its receiver. One that is not there at the end counts as long as it has waited.
func (p *rate) fresh(ctx context.Context, addr string, to *receivers) (slowest time.Duration, err error) {
	w, err := p.sender(addr)
	if err != nil {
		return 0, err
	}
	defer w.close()
	var sent []time.Time
	for pause(ctx, freshPace) == nil {
		i := len(sent)
		if err := w.post("user1", fmt.Sprintf("f%d@%s", i, receiverDomain((i*10)%receiverCount)), p.letter(nil, "user1", p.count+i)); err != nil {
			return 0, err
		}
		sent = append(sent, time.Now())
	}
	end := time.Now()
	for i, at := range sent {
		there, ok := to.arrived("f" + strconv.Itoa(i))
		if !ok {
			there = end
		}
		slowest = max(slowest, there.Sub(at))
	}
	return slowest, nil
}
