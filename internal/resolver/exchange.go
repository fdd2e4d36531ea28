package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const (
	// ednsSize is the size of answers over UDP that we ask for: what passes everywhere without fragments.
	ednsSize = 1232
	// udpBuffer is what we take, from servers that do not look at ednsSize.
	udpBuffer = 4096
	// maxStrays is how many packets over UDP may come that do not answer our question. After that somebody is guessing our id (RFC 5452
	// §9.2), and we ask over TCP.
	maxStrays = 16
)

// What a server did instead of answering.
var (
	errNoAnswer = errors.New("no answer in time")
	errStrays   = errors.New("too many packets that are no answers")
)

// exchange asks one server one question: over UDP, without EDNS0 if the server does not know that (RFC 6891 §7), over TCP if the
// answer does not fit (RFC 7766 §5). Each of those steps may take the time-out. An error is a server that could not answer.
func exchange(ctx context.Context, server netip.AddrPort, name string, qtype uint16, timeout time.Duration) (*dns.Msg, error) {
	network, edns := "udp", true
	for {
		query := &dns.Msg{}
		query.SetQuestion(name, qtype) // with a new random id, and recursion desired
		query.AuthenticatedData = true // asks whether the answer is validated, without the signatures (RFC 6840 §5.7)
		if edns {
			query.SetEdns0(ednsSize, false)
		}
		msg, err := askOnce(ctx, network, server, query, timeout)
		switch {
		case network == "udp" && (errors.Is(err, errStrays) || err == nil && msg.Truncated):
			network = "tcp"
		case err != nil:
			return nil, err
		case edns && (msg.Rcode == dns.RcodeFormatError || msg.Rcode == dns.RcodeNotImplemented):
			edns = false
		default:
			return msg, verdict(msg)
		}
	}
}

// askOnce sends a query from a new socket, so from a new random port, and waits for its answer. The kernel drops what comes from
// another address or port than the server's.
func askOnce(ctx context.Context, network string, server netip.AddrPort, query *dns.Msg, timeout time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, ioError(ctx, err)
	}
	defer func() { _ = c.Close() }() // nothing is lost
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	conn := &dns.Conn{Conn: c, UDPSize: udpBuffer}
	if err := conn.WriteMsg(query); err != nil {
		return nil, ioError(ctx, err)
	}
	for range maxStrays {
		var header dns.Header
		packet, err := conn.ReadMsgHeader(&header)
		if err != nil && !errors.Is(err, dns.ErrShortRead) {
			return nil, ioError(ctx, err)
		}
		if err == nil {
			msg, err := parse(packet, header)
			if answers(msg, query) {
				return msg, err
			}
		}
		if network == "tcp" {
			return nil, errors.New("answer to another question")
		}
	}
	return nil, errStrays
}

// parse reads a packet; with an error it gives what could be read before that. A message that was truncated may break off anywhere.
func parse(packet []byte, header dns.Header) (*dns.Msg, error) {
	msg := &dns.Msg{}
	err := msg.Unpack(packet)
	switch {
	case msg.Truncated:
		return msg, nil
	case err != nil:
		return msg, errors.New("malformed answer")
	case len(msg.Answer)+len(msg.Ns)+len(msg.Extra) < int(header.Ancount)+int(header.Nscount)+int(header.Arcount):
		// The library takes a message that ends between two records. Half a list of MX records is none.
		return msg, errors.New("answer breaks off")
	}
	for _, rr := range msg.Answer {
		if rr.Header().Rdlength == 0 {
			return msg, errors.New("record without data") // which the library takes, as updates have them
		}
	}
	return msg, nil
}

// answers reports whether a message is the answer to a query. Servers that refuse or fail may leave the question out (RFC 6891 §7
// wants that even of those that do not know EDNS0), but nothing can be learnt from them either.
func answers(msg, query *dns.Msg) bool {
	if msg.Id != query.Id || !msg.Response || msg.Opcode != dns.OpcodeQuery {
		return false
	}
	if len(msg.Question) == 0 {
		return msg.Rcode != dns.RcodeSuccess && msg.Rcode != dns.RcodeNameError
	}
	got, want := msg.Question[0], query.Question[0]
	return len(msg.Question) == 1 && strings.EqualFold(got.Name, want.Name) && got.Qtype == want.Qtype && got.Qclass == want.Qclass
}

// verdict says why an answer cannot be believed, or nil.
func verdict(msg *dns.Msg) error {
	switch msg.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
	default:
		if text, ok := dns.RcodeToString[msg.Rcode]; ok {
			return errors.New(text)
		}
		return fmt.Errorf("RCODE %d", msg.Rcode)
	}
	if msg.Truncated {
		return errors.New("truncated over TCP")
	}
	if msg.Authoritative || len(msg.Answer) > 0 {
		return nil
	}
	if !msg.RecursionAvailable {
		return errors.New("lame: the server does no recursion for us")
	}
	if msg.Rcode == dns.RcodeSuccess && isReferral(msg) {
		return errors.New("lame: a referral to other servers")
	}
	return nil
}

// isReferral tells a referral from "no data": it has NS records and no SOA record (RFC 2308 §2.2).
func isReferral(msg *dns.Msg) bool {
	ns := false
	for _, rr := range msg.Ns {
		switch rr.Header().Rrtype {
		case dns.TypeSOA:
			return false
		case dns.TypeNS:
			ns = true
		}
	}
	return ns
}

// ioError makes one short line of what the network said.
func ioError(ctx context.Context, err error) error {
	var timed net.Error
	if ctx.Err() != nil || errors.As(err, &timed) && timed.Timeout() {
		return errNoAnswer
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return errors.New("the connection broke off")
}
