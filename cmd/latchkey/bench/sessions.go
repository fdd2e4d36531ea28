//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"latchkey/store"
)

// Of part g.
const (
	plainVisits  = "login + STAT + QUIT, %d at a time"
	secureVisits = "login + STAT + QUIT over TLS, resumed, %d at a time"
	listTitle    = "UIDL + LIST of 100,000 messages"
	listedTitle  = "login, UIDL, LIST and QUIT with 100,000 messages"
	secureStep   = "drain of 4 KiB with DELE over TLS, lockstep"
	securePipe   = "drain of 4 KiB with DELE over TLS, pipelined"
	visitUnit    = "a second"
	// oneLogin is Dovecot with one login process. Each of its login processes has keys of its own for session tickets, so that a ticket is
	// refused by all but the one that gave it: only with one of them is every session resumed.
	oneLogin = "Dovecot, one login process"

	// visitTime is how long clients visit one server before it is the other's turn; visitTurns is how often in a round.
	visitTime  = 1500 * time.Millisecond
	visitTurns = 2
	// longList is the number of messages of the large mailbox, listTurns how often it is listed in a round.
	longList, listTurns = 100_000, 15
	listedLetter        = 1024
	// drainConns clients drain at once, with so many commands under way when they do not wait for each answer.
	drainConns, drainWindow = 16, 32
	// listedBox is the mailbox that is listed; the others are for visits and drains.
	listedBox = "user200"
)

// sessions is part g: POP3 sessions, of us and of Dovecot in turns, with one client for both. Both run all the time; who has no visitors
// costs nothing.
type sessions struct {
	*run
	ours    *latchkey
	dovecot *dovecotPeer
	bare    []string // the addresses of a server of constants, in the clear and with TLS
	letters *letters
	sent    int // sequence number of the next message
}

// visitors are how many visit at once.
func visitors() []int { return []int{1, 16, 64} }

// address is the login name of a mailbox that both servers know.
func address(name string) string { return name + "@" + domain }

// measureSessions is part g.
func (r *run) measureSessions(ctx context.Context) (err error) {
	s := &sessions{run: r, letters: newLetters(), dovecot: newDovecot(r.tools, r.root)}
	s.declare()
	if s.ours, err = newLatchkey(ctx, r.root, "sessions", r.binary, mailboxNames("user", users+1)); err != nil {
		return err
	}
	s.ours.sniff = true // as it is by default
	bareEnds, addrs, err := startPair(bareHelper, s.ours.cert, s.ours.key)
	if err != nil {
		return err
	}
	s.bare = addrs
	defer func() { err = errors.Join(err, s.ours.stop(), s.dovecot.stop(ctx), bareEnds()) }()
	if err := s.fill(ctx); err != nil {
		return err
	}
	if _, err := s.ours.start(ctx); err != nil {
		return err
	}
	if err := s.dovecot.start(ctx); err != nil {
		return err
	}
	if err := s.dovecot.multiply(listedBox, s.scaled(longList, 1), s.letters.appendMessage(nil, 0, listedLetter)); err != nil {
		return err
	}
	if err := s.warm(ctx, true); err != nil {
		return err
	}
	for number := range r.rounds {
		fmt.Printf("sessions: round %d of %d\n", number+1, r.rounds)
		if err := s.round(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *sessions) declare() {
	want := func(measure, unit, against string, b bound) {
		s.sheet.want(row{part: 'g', measure: measure, unit: unit, against: against, want: b})
	}
	for _, conns := range visitors() {
		b := bound{}
		if conns != 16 {
			b = atLeast(4)
		}
		want(fmt.Sprintf(plainVisits, conns), visitUnit, dovecot, b)
		want(fmt.Sprintf(plainVisits, conns), visitUnit, oneLogin, b)
		want(fmt.Sprintf(plainVisits, conns), visitUnit, bareName, bound{})
	}
	for _, conns := range visitors() {
		b := bound{}
		if conns != 16 {
			b = atLeast(3)
		}
		want(fmt.Sprintf(secureVisits, conns), visitUnit, oneLogin, b)
		want(fmt.Sprintf(secureVisits, conns), visitUnit, dovecot, bound{})
		want(fmt.Sprintf(secureVisits, conns), visitUnit, bareName, bound{})
	}
	want(listTitle, "ms", dovecot, atMost(1./5))
	want(listedTitle, "ms", dovecot, bound{})
	want(secureStep, rateUnit, dovecot, atLeast(4))
	want(securePipe, rateUnit, dovecot, atLeast(4))
	want(idlePlain, "KiB", dovecot, atMost(12).alone())
	want(idleTLS, "KiB", dovecot, atMost(35).alone())
	want(heldTitle, "", "", atLeast(float64(heldSessions())))
	want(heldRate, rateUnit, "", bound{})
	want(heldVisits, visitUnit, "", bound{})
}

// fill puts the messages that are listed into our store.
func (s *sessions) fill(ctx context.Context) error {
	return s.ours.inStore(ctx, func(st store.Store) error {
		only, size := func(int) int { return 0 }, func(int) int { return listedLetter }
		return fillStore(ctx, st, []string{listedBox}, 0, s.scaled(longList, 1), s.letters, only, size)
	})
}

// warm has every mailbox logged in to once and the large one listed: passwords are known then, and what is made of a mailbox at its first
// opening is there.
func (s *sessions) warm(ctx context.Context, large bool) error {
	for _, addr := range []string{s.ours.pop, s.dovecot.pop3()} {
		if _, err := (&visitor{addr: addr, conns: 1}).visit(ctx, users); err != nil {
			return err
		}
		if large {
			if _, _, err := s.list(addr); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *sessions) round(ctx context.Context) error {
	for _, conns := range visitors() {
		if err := s.visits(ctx, fmt.Sprintf(plainVisits, conns), dovecot, conns, false, false); err != nil {
			return err
		}
	}
	for _, conns := range visitors() {
		if err := s.visits(ctx, fmt.Sprintf(secureVisits, conns), dovecot, conns, true, false); err != nil {
			return err
		}
	}
	for _, conns := range visitors() {
		err := s.visits(ctx, fmt.Sprintf(plainVisits, conns), bareName, conns, false, false)
		if err == nil {
			err = s.visits(ctx, fmt.Sprintf(secureVisits, conns), bareName, conns, true, true)
		}
		if err != nil {
			return err
		}
	}
	if err := s.listings(ctx); err != nil {
		return err
	}
	if err := s.drains(ctx); err != nil {
		return err
	}
	if err := s.dovecot.logins(ctx, 1); err != nil {
		return err
	}
	if err := s.warm(ctx, false); err != nil {
		return err
	}
	for _, conns := range visitors() {
		err := s.visits(ctx, fmt.Sprintf(plainVisits, conns), oneLogin, conns, false, false)
		if err == nil {
			err = s.visits(ctx, fmt.Sprintf(secureVisits, conns), oneLogin, conns, true, true)
		}
		if err != nil {
			return err
		}
	}
	if err := s.dovecot.logins(ctx, dovecotLogins); err != nil {
		return err
	}
	if err := s.theirIdle(ctx); err != nil {
		return err
	}
	return s.ourIdle(ctx)
}

// resuming is how clients do TLS here: with tickets, and with the key exchange that both servers know.
func resuming() *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, // its own certificate, on loopback
		ServerName:         "mail." + domain, ClientSessionCache: tls.NewLRUClientSessionCache(1), CurvePreferences: []tls.CurveID{tls.X25519},
	}
}

// visits measures one number of visitors: we and the other in turns. all is set if the other can resume every session of TLS; we must.
func (s *sessions) visits(ctx context.Context, title, against string, conns int, secure, all bool) error {
	plain, secured := s.dovecot.pop3(), s.dovecot.pop3s()
	if against == bareName {
		plain, secured = s.bare[0], s.bare[1]
	}
	ours, theirs := &visitor{addr: s.ours.pop, conns: conns}, &visitor{addr: plain, conns: conns}
	if secure {
		ours.addr, ours.tc, ours.resumes = s.ours.pops, resuming(), true
		theirs.addr, theirs.tc, theirs.resumes = secured, resuming(), all
	}
	for range visitTurns {
		for _, side := range []struct {
			name string
			v    *visitor
		}{{us, ours}, {against, theirs}} {
			rate, err := side.v.visitFor(ctx, time.Duration(float64(visitTime)*min(s.scale, 1)))
			if err != nil {
				return fmt.Errorf("%s, %s: %w", title, side.name, err)
			}
			s.figure(title, side.name, rate, visitUnit)
		}
	}
	return nil
}

// visitor is so many clients that connect, log in, ask for STAT and quit, over and over.
type visitor struct {
	addr  string
	conns int
	tc    *tls.Config // nil without TLS
	// resumes is set if every session must be resumed but the first.
	resumes bool
}

// errFull: a session was not resumed that had to be.
var errFull = errors.New("the TLS session was not resumed")

// visitFor visits for a while, and returns the visits a second.
func (v *visitor) visitFor(ctx context.Context, d time.Duration) (float64, error) {
	if err := newCaller(v).call(0, false); err != nil { // whoever resumes has a ticket now
		return 0, err
	}
	return v.run(ctx, func(_ int, since time.Duration) bool { return since < d })
}

// visit visits so many times.
func (v *visitor) visit(ctx context.Context, count int) (float64, error) {
	return v.run(ctx, func(n int, _ time.Duration) bool { return n < count })
}

func (v *visitor) run(ctx context.Context, more func(n int, since time.Duration) bool) (float64, error) {
	begin := time.Now()
	var next, done atomic.Int64
	errs := make([]error, v.conns)
	var wg sync.WaitGroup
	for i := range v.conns {
		wg.Go(func() {
			c := newCaller(v)
			for errs[i] == nil && ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if !more(n, time.Since(begin)) {
					return
				}
				if errs[i] = c.call(n%users, v.resumes); errs[i] == nil {
					done.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return float64(done.Load()) / time.Since(begin).Seconds(), errors.Join(errors.Join(errs...), ctx.Err())
}

// caller is one of the clients. It does as little as a client can.
type caller struct {
	v *visitor
	r *bufio.Reader
}

func newCaller(v *visitor) *caller { return &caller{v, bufio.NewReaderSize(nil, 1024)} }

// dial connects. A client that is alone blocks in its reads.
func (v *visitor) dial() (net.Conn, error) {
	if v.conns == 1 {
		return dialSocket(v.addr)
	}
	conn, err := net.DialTimeout("tcp", v.addr, answerTime)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(answerTime))
}

func (c *caller) call(user int, resumed bool) (err error) {
	conn, err := c.v.dial()
	if err != nil {
		return err
	}
	defer func(under net.Conn) { _ = under.Close() }(conn) // after QUIT, or after what is reported; nobody reads a farewell of TLS
	if c.v.tc != nil {
		secure := tls.Client(conn, c.v.tc)
		if err := secure.Handshake(); err != nil {
			return err
		}
		if resumed && !secure.ConnectionState().DidResume {
			return errFull
		}
		conn = secure
	}
	c.r.Reset(conn)
	for _, text := range []string{"", "USER user" + strconv.Itoa(user) + "@" + domain + "\r\n", "PASS " + password + "\r\n", "STAT\r\n", "QUIT\r\n"} {
		if text != "" {
			if _, err := io.WriteString(conn, text); err != nil {
				return err
			}
		}
		line, err := c.r.ReadSlice('\n')
		if err != nil || !bytes.HasPrefix(line, []byte("+OK")) {
			return fmt.Errorf("%.40q: got %q: %w", text, line, errors.Join(err, errNotOK))
		}
	}
	return nil
}

var errNotOK = errors.New("not what was wanted")

// listings measures UIDL and LIST of the large mailbox: we and the other in turns, each time in a session of its own.
func (s *sessions) listings(ctx context.Context) error {
	for range listTurns {
		for _, side := range []struct{ name, addr string }{{us, s.ours.pop}, {dovecot, s.dovecot.pop3()}} {
			commands, whole, err := s.list(side.addr)
			if err = errors.Join(err, ctx.Err()); err != nil {
				return fmt.Errorf("%s: %w", side.name, err)
			}
			s.figure(listTitle, side.name, millis(commands), "ms")
			s.figure(listedTitle, side.name, millis(whole), "ms")
		}
	}
	return nil
}

// list lists the large mailbox in a session, and returns how long the two commands took, and the session.
func (s *sessions) list(addr string) (commands, whole time.Duration, err error) {
	begin := time.Now()
	w, _, count, _, err := visit(addr, address(listedBox), nil, 256<<10)
	if err != nil {
		return 0, 0, err
	}
	defer w.close()
	if want := s.scaled(longList, 1); count != want {
		return 0, 0, fmt.Errorf("%d messages, want %d", count, want)
	}
	asked := time.Now()
	for _, command := range []string{"UIDL\r\n", "LIST\r\n"} {
		if _, err := w.ask(command, "+OK"); err != nil {
			return 0, 0, err
		}
		lines, err := w.skim()
		if err != nil || lines != count {
			return 0, 0, fmt.Errorf("%q: %d lines, want %d: %w", command, lines, count, errors.Join(err, errNotOK))
		}
	}
	commands = time.Since(asked)
	err = w.quit()
	return commands, time.Since(begin), err
}

// skim reads an answer of several lines up to its dot (RFC 1939 §3), and counts the lines before that. Nothing may follow.
func (w *wire) skim() (lines int, err error) {
	end := []byte("\r\n.\r\n")
	var last []byte // what was read last, as much of it as may be a part of the end
	for {
		if _, err := w.r.Peek(1); err != nil {
			return 0, err
		}
		piece, err := w.r.Peek(w.r.Buffered())
		if err != nil {
			return 0, err
		}
		lines += bytes.Count(piece, end[1:2])
		last = append(last, piece[max(0, len(piece)-len(end)):]...)
		last = last[max(0, len(last)-len(end)):]
		if _, err := w.r.Discard(len(piece)); err != nil {
			return 0, err
		}
		if bytes.Equal(last, end) || lines == 1 && string(last) == string(end[2:]) {
			return lines - 1, nil
		}
	}
}

// drains measures drains over TLS: we and the other in turns.
func (s *sessions) drains(ctx context.Context) error {
	count := s.scaled(drained, drainConns)
	for _, way := range []struct {
		title  string
		window int
	}{{secureStep, 1}, {securePipe, drainWindow}} {
		first, err := s.sendOurs(ctx, count)
		if err != nil {
			return err
		}
		if err := s.drain(ctx, way.title, us, s.ours.pops, way.window, first, count); err != nil {
			return err
		}
		first = s.sent
		s.sent += count
		for seq := first; seq < s.sent; seq++ {
			if err := s.dovecot.deliver("user"+strconv.Itoa(seq%users), seq, s.letters.appendMessage(nil, seq, smallLetter)); err != nil {
				return err
			}
		}
		if err := s.dovecot.settle(ctx); err != nil {
			return err
		}
		if err := s.drain(ctx, way.title, dovecot, s.dovecot.pop3s(), way.window, first, count); err != nil {
			return err
		}
	}
	return nil
}

// sendOurs sends so many messages to our mailboxes, and returns the number of the first.
func (s *sessions) sendOurs(ctx context.Context, count int) (first int, err error) {
	first = s.sent
	s.sent += count
	load := burst{
		addr: s.ours.mx, conns: drainConns, count: count, first: first, size: smallLetter, letters: s.letters,
		rcpt: func(seq int) string { return "user" + strconv.Itoa(seq%users) },
	}
	if _, _, err := load.send(ctx); err != nil {
		return first, err
	}
	_, err = quiet(ctx, s.ours.cpu)
	return first, err
}

// drain measures one drain of messages that are all there.
func (s *sessions) drain(ctx context.Context, title, name, addr string, window, first, count int) error {
	seen := newLedger(first, count)
	d := drainer{addr: addr, tc: resuming(), sessions: drainConns, window: window, letters: s.letters, seen: seen.see}
	for _, box := range mailboxNames("user", users) {
		d.names = append(d.names, address(box))
	}
	begin := time.Now()
	if err := d.drain(ctx); err != nil {
		return fmt.Errorf("%s, %s: %w", title, name, err)
	}
	rate := float64(count) / time.Since(begin).Seconds()
	if err := seen.whole(); err != nil {
		return fmt.Errorf("%s, %s: %w", title, name, err)
	}
	s.figure(title, name, rate, rateUnit)
	return nil
}
