//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Of part h.
const (
	floodDelivery = "p99 of a delivery, from connecting to the 250"
	floodLogin    = "p99 of a POP3 login, every second one not in the cache"
	floodFresh    = "p99 of those not in the cache, with Argon2id"
	floodBefore   = "memory (RssAnon) before the flood"
	floodMost     = "the most while it lasts"
	floodAfter    = "after it"
	floodGuesses  = "passwords guessed, a second"
	floodHeld     = "connections of the attackers"
	// quietTurn is the same server without attackers.
	quietTurn = "quiet"

	// floodTime is how long owners are measured, once without and once with the flood; floodWarm is before that, and floodRest after it.
	floodTime = 30 * time.Second
	floodWarm = 5 * time.Second
	floodRest = 10 * time.Second
	// So many connections guess a password each second, and so many do nothing.
	floodGuessers, floodHolders = 500, 500
	// deliveryPace and loginPace are the pauses between two deliveries and two logins of owners.
	deliveryPace, loginPace = 50 * time.Millisecond, 125 * time.Millisecond
	// ownerHomes is from how many addresses owners come.
	ownerHomes  = 16
	floodLetter = 4096
)

// flood is part h: owners and other servers go on while a crowd attacks, each stranger from an address of its own in 127.0.0.0/8.
type flood struct {
	*run
	ours    *latchkey
	letters *letters
	fresh   atomic.Int64 // mailboxes that were logged in to
	sent    atomic.Int64
	guesses atomic.Int64
	held    atomic.Int64
}

// floodLogins is how many logins of owners there are in a turn.
func floodLogins() int { return int(floodTime / loginPace) }

// freshBoxes are those that are logged in to once; they are enough for all rounds.
func (f *flood) freshBoxes() []string { return mailboxNames("fresh", f.rounds*2*(floodLogins()/2+2)) }

// measureFlood is part h.
func (r *run) measureFlood(ctx context.Context) (err error) {
	f := &flood{run: r, letters: newLetters()}
	for _, w := range []row{
		{measure: floodDelivery, unit: "ms", against: quietTurn, want: atMost(3)}, {measure: floodLogin, unit: "ms", against: quietTurn, want: atMost(3)},
		{measure: floodFresh, unit: "ms", against: quietTurn, want: atMost(3)}, {measure: floodGuesses, want: atLeast(450)},
		{measure: floodHeld, want: atLeast(950)}, {measure: floodBefore, unit: "MiB"}, {measure: floodMost, unit: "MiB", want: atMost(160)},
		{measure: floodAfter, unit: "MiB", want: atMost(64)},
	} {
		w.part = 'h'
		r.sheet.want(w)
	}
	names := append(mailboxNames("user", users), f.freshBoxes()...)
	if f.ours, err = newLatchkey(ctx, r.root, "flood", r.binary, names); err != nil {
		return err
	}
	f.ours.sniff = true // as it is by default
	defer func() { err = errors.Join(err, f.ours.stop()) }()
	for number := range r.rounds {
		fmt.Printf("flood: round %d of %d\n", number+1, r.rounds)
		// What is known of owners is known by the process: each round has one of its own, at home with those who come.
		if _, err := f.ours.start(ctx); err != nil {
			return err
		}
		if err := errors.Join(f.round(ctx), f.ours.stop()); err != nil {
			return err
		}
	}
	return nil
}

func (f *flood) round(ctx context.Context) error {
	for n := range ownerHomes {
		if _, err := f.login(n, "user"+strconv.Itoa(n)); err != nil {
			return fmt.Errorf("at home: %w", err)
		}
		if _, err := f.deliver(n); err != nil {
			return err
		}
	}
	if err := f.turn(ctx, quietTurn); err != nil {
		return err
	}
	if err := f.memory(floodBefore); err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	var crowd sync.WaitGroup
	for n := range floodGuessers {
		crowd.Go(func() { f.guess(ctx, n) })
	}
	for n := range floodHolders {
		crowd.Go(func() { f.hold(ctx, n) })
	}
	err := pause(ctx, floodWarm)
	before, begun := f.guesses.Load(), time.Now()
	if err == nil {
		err = f.turn(ctx, us)
	}
	f.figure(floodGuesses, us, float64(f.guesses.Load()-before)/time.Since(begun).Seconds(), "")
	f.figure(floodHeld, us, float64(f.held.Load()), "")
	err = errors.Join(err, f.memory(floodMost))
	end()
	crowd.Wait()
	if err != nil {
		return err
	}
	if err := pause(context.WithoutCancel(ctx), floodRest); err != nil {
		return err
	}
	return f.memory(floodAfter)
}

// memory notes what the server has. What it had most before is part of it for a while: nothing that a flood took is given back within it.
func (f *flood) memory(measure string) error {
	kib, err := procNumber(f.ours.pid(), "status", "RssAnon")
	if err == nil {
		f.figure(measure, us, float64(kib)/1024, "MiB")
	}
	return err
}

// turn measures owners for a while. They come when it is their time, whether those before them are done or not.
func (f *flood) turn(ctx context.Context, name string) error {
	var (
		mu                         sync.Mutex // protects what follows
		deliveries, logins, hashed []time.Duration
		failed                     error
	)
	note := func(list *[]time.Duration, took time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()
		*list, failed = append(*list, took), errors.Join(failed, err)
	}
	var owners sync.WaitGroup
	every := func(pace time.Duration, count int, do func(n int)) {
		owners.Go(func() {
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for n := range count {
				owners.Go(func() { do(n) })
				<-tick.C
			}
		})
	}
	every(deliveryPace, int(floodTime/deliveryPace), func(n int) {
		took, err := f.deliver(n)
		note(&deliveries, took, err)
	})
	every(loginPace, floodLogins(), func(n int) {
		box, list := "user"+strconv.Itoa(n%ownerHomes), &[]time.Duration{}
		if n%2 == 0 {
			box, list = "fresh"+strconv.FormatInt(f.fresh.Add(1)-1, 10), &hashed
		}
		took, err := f.login(n, box)
		note(list, took, err)
		note(&logins, took, nil)
	})
	owners.Wait()
	if failed != nil || ctx.Err() != nil {
		return fmt.Errorf("%s: %w", name, errors.Join(failed, ctx.Err()))
	}
	f.figure(floodDelivery, name, quantile(deliveries, 0.99), "ms")
	f.figure(floodLogin, name, quantile(logins, 0.99), "ms")
	f.figure(floodFresh, name, quantile(hashed, 0.99), "ms")
	return nil
}

// dialFrom connects from one of the addresses of this machine.
func dialFrom(source, addr string) (*wire, error) {
	d := net.Dialer{Timeout: answerTime, LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	w := newWire(conn, 1024)
	return w, w.patience()
}

// ownerHome is where an owner is.
func ownerHome(n int) string { return "127.9.0." + strconv.Itoa(1+n%ownerHomes) }

// login is a POP3 login of an owner. It returns how long it took from connecting to the answer to PASS.
func (f *flood) login(n int, box string) (time.Duration, error) {
	begin := time.Now()
	w, err := dialFrom(ownerHome(n), f.ours.pop)
	if err != nil {
		return 0, err
	}
	defer w.close()
	for _, text := range []string{"", "USER " + address(box) + "\r\n", "PASS " + password + "\r\n"} {
		if _, err := w.ask(text, "+OK"); err != nil {
			return 0, fmt.Errorf("login of %s: %w", box, err)
		}
	}
	took := time.Since(begin)
	_, err = w.ask("QUIT\r\n", "+OK")
	return took, err
}

// deliver is a message from another server, on a connection of its own.
func (f *flood) deliver(n int) (time.Duration, error) {
	begin := time.Now()
	w, err := dialFrom("127.8.0."+strconv.Itoa(1+n%ownerHomes), f.ours.mx)
	if err != nil {
		return 0, err
	}
	defer w.close()
	if _, err := w.answer("", "220"); err != nil {
		return 0, err
	}
	if _, err := w.ask("EHLO client.example\r\n", "250"); err != nil {
		return 0, err
	}
	seq := int(f.sent.Add(1))
	if _, err := w.transact("user"+strconv.Itoa(seq%users), append(f.letters.appendMessage(nil, seq, floodLetter), ".\r\n"...)); err != nil {
		return 0, err
	}
	return time.Since(begin), nil
}

// strangerAddress is where one of the crowd is, for once.
func strangerAddress() string {
	return fmt.Sprintf("127.%d.%d.%d", 64+rand.IntN(64), rand.IntN(256), 1+rand.IntN(254))
}

// guess tries a password a second, each from another address, and does not wait longer than that for the answer.
func (f *flood) guess(ctx context.Context, n int) {
	// They do not all begin at the same moment.
	err := pause(ctx, time.Duration(n)*time.Second/floodGuessers)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ; err == nil; err = ctx.Err() {
		f.guessOnce()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (f *flood) guessOnce() {
	w, err := dialFrom(strangerAddress(), f.ours.pop)
	if err != nil {
		return
	}
	defer w.close()
	f.held.Add(1)
	defer f.held.Add(-1)
	if err := w.conn.SetDeadline(time.Now().Add(950 * time.Millisecond)); err != nil {
		return
	}
	r := bufio.NewReader(w.conn)
	if greeting, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(greeting, "+OK") {
		return // turned away
	}
	if _, err := fmt.Fprintf(w.conn, "USER user%d\r\nPASS guess%d\r\n", rand.IntN(2*users), rand.Int()); err != nil {
		return
	}
	f.guesses.Add(1)
	_, _ = io.Copy(io.Discard, r) // until the time is over
}

// hold keeps a connection that does nothing, and makes another when it is ended.
func (f *flood) hold(ctx context.Context, n int) {
	addr := f.ours.pop
	if n%2 == 0 {
		addr = f.ours.mx
	}
	for ctx.Err() == nil {
		w, err := dialFrom(strangerAddress(), addr)
		if err != nil {
			if pause(ctx, 100*time.Millisecond) != nil {
				return
			}
			continue
		}
		f.held.Add(1)
		stop := context.AfterFunc(ctx, w.close)
		if w.conn.SetDeadline(time.Time{}) == nil {
			_, _ = io.Copy(io.Discard, w.conn) // until one side ends it
		}
		stop()
		w.close()
		f.held.Add(-1)
		if pause(ctx, 10*time.Millisecond) != nil {
			return
		}
	}
}
