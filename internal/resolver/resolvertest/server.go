package resolvertest

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const (
	// DefaultTTL is the TTL of records, in seconds, until SetTTL. It is the TTL and the minimum of the SOA record as well.
	DefaultTTL = 300
	// patience bounds the waiting of Wait.
	patience = 20 * time.Second
	// maxAliases bounds the aliases that the server itself follows.
	maxAliases = 16
	// portTries is how often a port is looked for that is free for both UDP and TCP.
	portTries = 50
)

// Server is a name server. Its methods may be called while it is asked; those that can fail end the test, so they belong to the
// test's goroutine. It keeps a count for every name that it is asked for, for the length of one test.
type Server struct {
	t      testing.TB
	addr   netip.AddrPort
	closed chan struct{} // frees the answers that are held back

	mu       sync.Mutex // protects the fields below
	zone     map[string]map[uint16][]dns.RR
	rules    map[subject]rule
	signed   map[string]bool
	negative int // TTL of negative answers, less than 0 for none
	counts   map[count]int
	edns     map[subject]int
	asked    chan struct{} // closed and made anew with each query
}

// subject is a name and a type, of which 0 is every type. The name "" is every name.
type subject struct {
	name  string // lower case, with the trailing dot
	qtype uint16
}

type count struct {
	subject
	transport string
}

// rule is how a subject is answered.
type rule struct {
	behaviour Behaviour
	until     <-chan struct{}
}

// New starts a server on a free port of 127.0.0.1. It is stopped at the end of the test.
func New(t testing.TB) *Server {
	t.Helper()
	listener, conn := listen(t)
	s := &Server{
		t:        t,
		addr:     listener.Addr().(*net.TCPAddr).AddrPort(),
		closed:   make(chan struct{}),
		zone:     map[string]map[uint16][]dns.RR{},
		rules:    map[subject]rule{},
		signed:   map[string]bool{},
		negative: DefaultTTL,
		counts:   map[count]int{},
		edns:     map[subject]int{},
		asked:    make(chan struct{}),
	}
	servers := []*dns.Server{{Listener: listener}, {PacketConn: conn}}
	var running sync.WaitGroup
	for _, server := range servers {
		started := make(chan struct{})
		server.Handler = dns.HandlerFunc(s.serve)
		server.NotifyStartedFunc = func() { close(started) }
		running.Go(func() {
			if err := server.ActivateAndServe(); err != nil {
				t.Errorf("name server of the test: %v", err)
			}
		})
		<-started
	}
	t.Cleanup(func() {
		close(s.closed)
		for _, server := range servers {
			if err := server.Shutdown(); err != nil {
				t.Errorf("name server of the test: %v", err)
			}
		}
		running.Wait()
	})
	return s
}

// listen finds a port that is free for both transports.
func listen(t testing.TB) (net.Listener, net.PacketConn) {
	t.Helper()
	var last error
	for range portTries {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.ListenPacket("udp", listener.Addr().String())
		if err == nil {
			return listener, conn
		}
		last = err
		_ = listener.Close() // another port is tried
	}
	t.Fatal(last)
	return nil, nil
}

// Addr is where the server listens.
func (s *Server) Addr() netip.AddrPort { return s.addr }

// Set makes records all that a name has of a type, written as in a zone file without owner, TTL and type: Set("example.org", "MX",
// "10 mail.example.org."). Names in records end in a dot. With no records the name exists and has none of the type.
func (s *Server) Set(name, rrtype string, records ...string) {
	s.t.Helper()
	sub := s.subject(name, rrtype)
	rrs := make([]dns.RR, 0, len(records))
	for _, record := range records {
		rr, err := dns.NewRR(sub.name + " " + rrtype + " " + record)
		if err != nil || rr == nil {
			s.t.Fatalf("record %s %s %s: %v", name, rrtype, record, err)
		}
		rr.Header().Ttl = DefaultTTL
		rrs = append(rrs, rr)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.zone[sub.name] == nil {
		s.zone[sub.name] = map[uint16][]dns.RR{}
	}
	s.zone[sub.name][sub.qtype] = rrs
}

// SetTTL changes the TTL of the records that a name has of a type now.
func (s *Server) SetTTL(name, rrtype string, ttl uint32) {
	s.t.Helper()
	sub := s.subject(name, rrtype)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, rr := range s.zone[sub.name][sub.qtype] {
		changed := dns.Copy(rr) // the old one may be on its way into an answer
		changed.Header().Ttl = ttl
		s.zone[sub.name][sub.qtype][i] = changed
	}
}

// SetNegativeTTL changes for how long, in seconds, it holds that something does not exist. Less than 0 leaves out the SOA record that
// says so.
func (s *Server) SetNegativeTTL(ttl int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.negative = ttl
}

// Remove makes a name not exist.
func (s *Server) Remove(name string) {
	s.t.Helper()
	sub := s.subject(name, "")
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.zone, sub.name)
}

// Sign makes answers about a name and all below it say that they are validated, as a server does that has checked their signatures, to
// whoever asks for that. What is said of a longer name goes before. A name that is bogus behaves as ServFail.
func (s *Server) Sign(name string, signed bool) {
	s.t.Helper()
	sub := s.subject(name, "")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signed[sub.name] = signed
}

// Behave says how questions for a name and a type are answered. "" is every name, or every type. What is said of a name goes
// before what is said of all names, and of that in turn what is said of a type.
func (s *Server) Behave(name, rrtype string, b Behaviour) {
	s.t.Helper()
	s.change(name, rrtype, func(r *rule) { r.behaviour = b })
}

// Delay holds back every answer for a name and a type, as in Behave, until a channel is closed or the server stops.
func (s *Server) Delay(name, rrtype string, until <-chan struct{}) {
	s.t.Helper()
	s.change(name, rrtype, func(r *rule) { r.until = until })
}

func (s *Server) change(name, rrtype string, change func(*rule)) {
	s.t.Helper()
	sub := s.subject(name, rrtype)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rules[sub]
	change(&r)
	s.rules[sub] = r
}

// Count is how many questions came for a name and a type over a transport, "udp" or "tcp". "" is all of each.
func (s *Server) Count(name, rrtype, transport string) int {
	s.t.Helper()
	sub := s.subject(name, rrtype)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count(sub, transport)
}

func (s *Server) count(sub subject, transport string) int {
	n := 0
	for c, k := range s.counts {
		if (sub.name == "" || sub.name == c.name) && (sub.qtype == 0 || sub.qtype == c.qtype) &&
			(transport == "" || transport == c.transport) {
			n += k
		}
	}
	return n
}

// Wait waits until at least n questions came for a name and a type, as in Count.
func (s *Server) Wait(name, rrtype string, n int) {
	s.t.Helper()
	sub := s.subject(name, rrtype)
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		s.mu.Lock()
		got, asked := s.count(sub, ""), s.asked
		s.mu.Unlock()
		if got >= n {
			return
		}
		select {
		case <-asked:
		case <-limit.C:
			s.t.Fatalf("%d questions for %s %s after %s, want %d", got, name, rrtype, patience, n)
		}
	}
}

// EDNS is the size that the last question for a name and a type offered by EDNS0, or 0 if it had no EDNS0.
func (s *Server) EDNS(name, rrtype string) int {
	s.t.Helper()
	sub := s.subject(name, rrtype)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.edns[sub]
}

func (s *Server) subject(name, rrtype string) subject {
	s.t.Helper()
	sub := subject{}
	if name != "" {
		sub.name = strings.ToLower(dns.Fqdn(name))
	}
	if rrtype != "" {
		qtype, ok := dns.StringToType[rrtype]
		if !ok {
			s.t.Fatalf("unknown type %q of records", rrtype)
		}
		sub.qtype = qtype
	}
	return sub
}
