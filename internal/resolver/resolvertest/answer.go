package resolvertest

import (
	"net"
	"strings"

	"github.com/miekg/dns"
)

// Behaviour is how a question is answered.
type Behaviour int

// The behaviours.
const (
	// Normal answers out of the zone.
	Normal Behaviour = iota
	// Truncate answers over UDP with the TC bit and no records, and over TCP as Normal.
	Truncate
	// TruncateAlways does that over TCP as well.
	TruncateAlways
	// TruncateThenClose answers over UDP as Truncate, and closes TCP.
	TruncateThenClose
	// ServFail answers SERVFAIL.
	ServFail
	// Refuse answers REFUSED.
	Refuse
	// Drop does not answer; over TCP it closes.
	Drop
	// Lame answers without recursion and without any record, as a server that serves other zones only.
	Lame
	// Referral answers with the name of another server.
	Referral
	// Malformed answers with a message that ends inside its last record.
	Malformed
	// BreakOff answers with a message that ends between two records.
	BreakOff
	// Empty answers with a record that has no data at all.
	Empty
	// WrongID answers under another id.
	WrongID
	// WrongQuestion answers another question.
	WrongQuestion
	// Forge sends forgeries over UDP before the right answer: under another id, to another question, a question instead of an answer,
	// and one with everything right but from another port. They lead to ForgedHost and ForgedAddress.
	Forge
	// Flood sends forgeries under other ids over UDP, more than a resolver should bear with, and no answer.
	Flood
	// NoEDNS answers FORMERR to what has EDNS0, without repeating the question, and Normal to the rest.
	NoEDNS
	// OneAlias answers with one alias (CNAME) of a chain and nothing behind it.
	OneAlias
)

// What Forge and Flood lead to.
const (
	ForgedHost    = "forged.invalid"
	ForgedAddress = "203.0.113.66"

	floodSize = 64
)

// serve answers one question.
func (s *Server) serve(w dns.ResponseWriter, q *dns.Msg) {
	transport := w.LocalAddr().Network()
	sub := subject{strings.ToLower(q.Question[0].Name), q.Question[0].Qtype}
	r := s.arrived(sub, transport, q)
	if r.until != nil {
		select {
		case <-r.until:
		case <-s.closed:
			return
		}
	}
	udp := transport == "udp"
	switch r.behaviour {
	case Drop:
		_ = w.Close() // of UDP nothing
		return
	case TruncateThenClose:
		if !udp {
			_ = w.Close() // the asker may be gone
			return
		}
	case Forge:
		if udp {
			s.forge(w, q)
		}
	case Flood:
		if udp {
			for i := range floodSize {
				m := forged(q)
				m.Id += uint16(i + 1)
				s.write(w, m)
			}
			return
		}
	}
	s.reply(w, q, r.behaviour, udp)
}

// arrived counts a question and gives the rule for it.
func (s *Server) arrived(sub subject, transport string, q *dns.Msg) rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[count{sub, transport}]++
	s.edns[sub] = 0
	if opt := q.IsEdns0(); opt != nil {
		s.edns[sub] = int(opt.UDPSize())
	}
	close(s.asked)
	s.asked = make(chan struct{})
	for _, by := range []subject{sub, {name: sub.name}, {qtype: sub.qtype}, {}} {
		if r, ok := s.rules[by]; ok {
			return r
		}
	}
	return rule{}
}

// reply writes the answer of one behaviour.
func (s *Server) reply(w dns.ResponseWriter, q *dns.Msg, b Behaviour, udp bool) {
	m := s.answer(q, b == OneAlias)
	switch b {
	case ServFail:
		m = new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	case Refuse:
		m = new(dns.Msg).SetRcode(q, dns.RcodeRefused)
	case Lame:
		m = new(dns.Msg).SetReply(q)
	case Referral:
		m = new(dns.Msg).SetReply(q)
		m.RecursionAvailable = true
		m.Ns = []dns.RR{&dns.NS{Hdr: header(topOf(q.Question[0].Name), dns.TypeNS), Ns: "ns.elsewhere.invalid."}}
	case NoEDNS:
		if q.IsEdns0() != nil {
			m = new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
			m.Question = nil
		}
	case WrongID:
		m.Id++
	case WrongQuestion:
		m.Question[0].Name = "other." + m.Question[0].Name
	case Empty:
		m.Answer = []dns.RR{&dns.RFC3597{Hdr: header(q.Question[0].Name, q.Question[0].Qtype)}}
	}
	if b == TruncateAlways || b == TruncateThenClose || b == Truncate && udp {
		m.Answer, m.Ns, m.Truncated = nil, nil, true
	}
	if udp {
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = int(opt.UDPSize())
		}
		m.Truncate(size)
	}
	if b != Malformed && b != BreakOff {
		s.write(w, m)
		return
	}
	raw, err := m.Pack()
	if err != nil {
		s.t.Errorf("answer of the test's name server: %v", err)
		return
	}
	if b == Malformed {
		raw = raw[:len(raw)-2]
	} else {
		raw[7]++ // ANCOUNT (RFC 1035 §4.1.1)
	}
	_, _ = w.Write(raw) // the asker may be gone
}

func (s *Server) write(w dns.ResponseWriter, m *dns.Msg) {
	if _, err := m.Pack(); err != nil {
		s.t.Errorf("answer of the test's name server: %v", err)
		return
	}
	_ = w.WriteMsg(m) // the asker may be gone
}

// answer makes the answer out of the zone.
func (s *Server) answer(q *dns.Msg, oneAlias bool) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	m.Compress = true
	if q.IsEdns0() != nil {
		m.SetEdns0(dns.DefaultMsgSize, false)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name, qtype := strings.ToLower(q.Question[0].Name), q.Question[0].Qtype
	m.AuthenticatedData = q.AuthenticatedData
	for range maxAliases {
		m.AuthenticatedData = m.AuthenticatedData && s.isSigned(name)
		if records := s.zone[name][qtype]; len(records) > 0 {
			m.Answer = append(m.Answer, records...)
			return m
		}
		aliases := s.zone[name][dns.TypeCNAME]
		if len(aliases) == 0 {
			break
		}
		m.Answer = append(m.Answer, aliases[0])
		if oneAlias {
			return m
		}
		name = strings.ToLower(aliases[0].(*dns.CNAME).Target)
	}
	if !s.exists(name) {
		m.Rcode = dns.RcodeNameError
	}
	if s.negative >= 0 {
		soa := &dns.SOA{Hdr: header(topOf(name), dns.TypeSOA), Ns: "ns.invalid.", Mbox: "hostmaster.invalid.", Serial: 1, Refresh: 3600,
			Retry: 600, Expire: 86400, Minttl: uint32(s.negative)}
		m.Ns = []dns.RR{soa}
	}
	return m
}

// isSigned reports whether a name is in what Sign named.
func (s *Server) isSigned(name string) bool {
	best, signed := 0, false
	for top, is := range s.signed {
		if (name == top || strings.HasSuffix(name, "."+top)) && len(top) > best {
			best, signed = len(top), is
		}
	}
	return signed
}

// exists reports whether a name, or one below it, is in the zone.
func (s *Server) exists(name string) bool {
	for known := range s.zone {
		if known == name || strings.HasSuffix(known, "."+name) {
			return true
		}
	}
	return false
}

// topOf is the last label of a name, as the owner of what is said about its zone.
func topOf(name string) string {
	labels := dns.SplitDomainName(name)
	if len(labels) == 0 {
		return "."
	}
	return labels[len(labels)-1] + "."
}

func header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: DefaultTTL}
}

// forged is an answer that looks right and leads astray.
func forged(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	h := header(q.Question[0].Name, q.Question[0].Qtype)
	switch h.Rrtype {
	case dns.TypeMX:
		m.Answer = []dns.RR{&dns.MX{Hdr: h, Mx: dns.Fqdn(ForgedHost)}}
	case dns.TypeA:
		m.Answer = []dns.RR{&dns.A{Hdr: h, A: net.ParseIP(ForgedAddress)}}
	case dns.TypeAAAA:
		m.Answer = []dns.RR{&dns.AAAA{Hdr: h, AAAA: net.ParseIP("2001:db8::66")}}
	}
	return m
}

// forge sends the forgeries of Forge.
func (s *Server) forge(w dns.ResponseWriter, q *dns.Msg) {
	id, question, echo, port := forged(q), forged(q), forged(q), forged(q)
	id.Id++
	question.Question[0].Name = "other." + question.Question[0].Name
	echo.Response = false
	for _, m := range []*dns.Msg{id, question, echo} {
		s.write(w, m)
	}
	raw, err := port.Pack()
	if err != nil {
		s.t.Errorf("forgery of the test's name server: %v", err)
		return
	}
	stranger, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		s.t.Errorf("forgery of the test's name server: %v", err)
		return
	}
	defer func() { _ = stranger.Close() }() // nothing is lost
	if _, err := stranger.WriteTo(raw, w.RemoteAddr()); err != nil {
		s.t.Errorf("forgery of the test's name server: %v", err)
	}
}
