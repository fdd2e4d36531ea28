//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// The receivers of part i: each has a domain and an address of its own.
const (
	receiverCount = 500
	// receiverMost is how many connections a sender may have to one receiver at once: what both servers are set to.
	receiverMost = 20
	// slowTime is how long a slow one thinks about a message.
	slowTime = 100 * time.Millisecond
	// shortMessages is after how many messages some say 421, narrowRoom how many connections some take at once.
	shortMessages, narrowRoom = 10, 5
)

// manner is how a receiver treats its mail.
type manner int

const (
	fast manner = iota
	slow
	grey   // puts each recipient off once
	short  // says 421 after shortMessages messages of a connection
	narrow // says 421 to more than narrowRoom connections at once
)

// mannerOf spreads the manners: of ten receivers six are fast, two slow, one is grey, and of the last ones every second is short, the
// others are narrow.
func mannerOf(i int) manner {
	switch {
	case i%10 < 6:
		return fast
	case i%10 < 8:
		return slow
	case i%10 == 8:
		return grey
	case i%20 == 9:
		return short
	}
	return narrow
}

func receiverDomain(i int) string { return fmt.Sprintf("d%03d.rate.example", i) }
func receiverAddr(i int) string   { return fmt.Sprintf("127.20.%d.%d", i/250, 1+i%250) }

// receivers take the mail of part i.
type receivers struct {
	port      int
	listeners []net.Listener
	names     *dns.Server
	ctx       context.Context
	work      sync.WaitGroup
	all       [receiverCount]receiver

	settled atomic.Int64 // messages that arrived, or were put off by a grey one
	last    atomic.Int64 // when the last was, in nanoseconds
	doubled atomic.Int64
	seen    []atomic.Bool // by number of the message

	mu    sync.Mutex // protects fresh
	fresh map[string]time.Time
}

type receiver struct {
	manner manner
	mu     sync.Mutex // protects what follows
	greyed map[string]bool
	open   int
	most   int
	turned int // connections that were turned away
}

// newReceivers listens at all addresses, on one port, and answers questions about their names. count is how many messages there will be.
func newReceivers(ctx context.Context, count int) (*receivers, error) {
	r := &receivers{ctx: ctx, seen: make([]atomic.Bool, count), fresh: map[string]time.Time{}}
	for i := range r.all {
		r.all[i] = receiver{manner: mannerOf(i), greyed: map[string]bool{}}
		l, err := net.Listen("tcp", net.JoinHostPort(receiverAddr(i), strconv.Itoa(r.port)))
		if err != nil {
			return nil, errors.Join(err, r.close())
		}
		r.port = l.Addr().(*net.TCPAddr).Port // of the first, any; of the others, the same
		r.listeners = append(r.listeners, l)
		r.work.Go(func() { r.accept(l, &r.all[i]) })
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	r.names = &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(answerName)}
	r.work.Go(func() { _ = r.names.ActivateAndServe() }) // until close
	return r, nil
}

// answerName answers for the receivers' domains: each is its own mail exchanger, and has nothing else. What there is not is said with the
// SOA record that every name server gives, so that it can be remembered (RFC 2308 §3).
func answerName(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	name := strings.ToLower(q.Question[0].Name)
	n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(name, "d"), ".rate.example."))
	head := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: 3600}
	switch {
	case err != nil || n < 0 || n >= receiverCount:
		m.Rcode = dns.RcodeNameError
	case head.Rrtype == dns.TypeMX:
		m.Answer = []dns.RR{&dns.MX{Hdr: head, Preference: 10, Mx: name}}
	case head.Rrtype == dns.TypeA:
		m.Answer = []dns.RR{&dns.A{Hdr: head, A: net.ParseIP(receiverAddr(n))}}
	}
	if len(m.Answer) == 0 {
		m.Ns = []dns.RR{&dns.SOA{
			Hdr: dns.RR_Header{Name: "rate.example.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 3600}, Ns: "ns.rate.example.",
			Mbox: "hostmaster.rate.example.", Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: 3600,
		}}
	}
	_ = w.WriteMsg(m) // whoever asks asks again
}

// close ends it all, and waits for it.
func (r *receivers) close() error {
	var errs []error
	for _, l := range r.listeners {
		errs = append(errs, l.Close())
	}
	if r.names != nil {
		errs = append(errs, r.names.Shutdown())
	}
	r.work.Wait()
	return errors.Join(errs...)
}

func (r *receivers) accept(l net.Listener, to *receiver) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		r.work.Go(func() {
			stop := context.AfterFunc(r.ctx, func() { _ = c.Close() })
			defer stop()
			defer func() { _ = c.Close() }() // it was served
			if c.SetDeadline(time.Now().Add(settleTime)) == nil {
				r.serve(c, to)
			}
		})
	}
}

// enter counts a connection, and reports whether it is taken.
func (to *receiver) enter() bool {
	to.mu.Lock()
	defer to.mu.Unlock()
	if to.manner == narrow && to.open >= narrowRoom {
		to.turned++
		return false
	}
	to.open++
	to.most = max(to.most, to.open)
	return true
}

func (to *receiver) leave() {
	to.mu.Lock()
	defer to.mu.Unlock()
	to.open--
}

// putOff reports whether a recipient is put off, once.
func (to *receiver) putOff(rcpt string) bool {
	to.mu.Lock()
	defer to.mu.Unlock()
	if to.manner != grey || to.greyed[rcpt] {
		return false
	}
	to.greyed[rcpt] = true
	return true
}

// session is one connection to a receiver.
type session struct {
	r        *receivers
	to       *receiver
	in       *bufio.Reader
	out      *bufio.Writer
	messages int
	rcpts    []string
}

func (r *receivers) serve(c net.Conn, to *receiver) {
	s := &session{r: r, to: to, in: bufio.NewReaderSize(c, 4096), out: bufio.NewWriterSize(c, 512)}
	if !to.enter() {
		_, _ = io.WriteString(c, "421 4.7.0 too many connections\r\n") // that is all
		return
	}
	entered := true
	leave := func() {
		if entered {
			to.leave()
		}
		entered = false
	}
	defer leave()
	s.say("220 receiver ESMTP")
	for {
		if s.in.Buffered() == 0 && s.out.Flush() != nil {
			return
		}
		line, err := s.in.ReadSlice('\n')
		if err != nil {
			return
		}
		text := strings.TrimRight(string(line), "\r\n")
		if strings.EqualFold(text, "QUIT") {
			leave() // before the other side knows
			s.say("221 2.0.0 bye")
		} else if s.command(text) {
			continue
		}
		_ = s.out.Flush() // the end, whether it is heard or not
		return
	}
}

func (s *session) say(reply string) { _, _ = s.out.WriteString(reply + "\r\n") } // an error shows at Flush

// command answers one command; false ends the connection.
func (s *session) command(text string) bool {
	verb, _, _ := strings.Cut(strings.ToUpper(text), " ")
	switch verb {
	case "EHLO", "HELO":
		s.say("250-receiver\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-8BITMIME\r\n250 SIZE 10000000")
	case "MAIL":
		if s.rcpts = nil; s.to.manner == short && s.messages >= shortMessages {
			s.say("421 4.7.0 enough for one connection")
			return false
		}
		s.say("250 2.1.0 ok")
	case "RCPT":
		s.rcpt(text)
	case "DATA":
		if len(s.rcpts) == 0 {
			s.say("503 5.5.1 no recipients")
			break
		}
		s.say("354 go on")
		if s.out.Flush() != nil || !s.body() {
			return false
		}
		return s.taken()
	case "BDAT":
		n, err := strconv.Atoi(strings.Fields(text + " x")[1])
		if err != nil {
			return false
		}
		if _, err := s.in.Discard(n); err != nil {
			return false
		}
		return s.taken()
	default:
		s.say("250 2.0.0 ok")
	}
	return true
}

// rcpt answers RCPT.
func (s *session) rcpt(text string) {
	_, path, _ := strings.Cut(text, "<")
	name, _, _ := strings.Cut(path, "@")
	if s.to.putOff(name) {
		s.r.settle(name)
		s.say("450 4.7.1 greylisted, come back later")
		return
	}
	s.rcpts = append(s.rcpts, name)
	s.say("250 2.1.5 ok")
}

// body reads a message up to its dot.
func (s *session) body() bool {
	for {
		line, err := s.in.ReadSlice('\n')
		if err != nil {
			return false
		}
		if string(line) == ".\r\n" {
			return true
		}
	}
}

// taken answers the end of a message.
func (s *session) taken() bool {
	if s.to.manner == slow && pause(s.r.ctx, slowTime) != nil {
		return false
	}
	s.messages++
	if len(s.rcpts) == 0 {
		s.say("503 5.5.1 no recipients")
		return true
	}
	for _, name := range s.rcpts {
		s.r.settle(name)
	}
	s.rcpts = nil
	s.say("250 2.0.0 taken")
	return true
}

// settle notes a message that arrived or was put off for long: one of the burst, whose name is a number, or a fresh one.
func (r *receivers) settle(name string) {
	n, err := strconv.Atoi(strings.TrimPrefix(name, "m"))
	if err != nil || n < 0 || n >= len(r.seen) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.fresh[name] = time.Now()
		return
	}
	if r.seen[n].Swap(true) {
		r.doubled.Add(1)
		return
	}
	r.last.Store(time.Now().UnixNano())
	r.settled.Add(1)
}

// arrived returns when a fresh message was there.
func (r *receivers) arrived(name string) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.fresh[name]
	return at, ok
}

// crowd returns the most connections that any receiver had at once, and how many were turned away.
func (r *receivers) crowd() (most, turned int) {
	for i := range r.all {
		to := &r.all[i]
		to.mu.Lock()
		most, turned = max(most, to.most), turned+to.turned
		to.mu.Unlock()
	}
	return most, turned
}
