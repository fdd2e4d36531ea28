package resolver

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

const (
	// MaxTLSA is how many TLSA records of one name are used.
	MaxTLSA = 64
	// MaxTXT is how many TXT records of one name are used, MaxTXTOctets how long each may be; a longer one is left out.
	MaxTXT       = 64
	MaxTXTOctets = 4096
)

// Trust says whose AD bit counts (RFC 6840 §5.8): a server that validates sets it, and so can anybody who stands in between.
type Trust int

const (
	// TrustLoopback: that of servers on a loopback address (RFC 7672 §2.1.3: the path to the validator must be safe).
	TrustLoopback Trust = iota
	// TrustServers: that of every server. The operator says that they validate and that the way to them is safe.
	TrustServers
	// TrustNobody: no answer is secure.
	TrustNobody
)

// trusts reports whether a server's AD bit counts.
func (r *Resolver) trusts(server netip.Addr) bool {
	return r.trust == TrustServers || r.trust == TrustLoopback && server.Unmap().IsLoopback()
}

// TLSA is one TLSA record (RFC 6698 §2.1).
type TLSA struct {
	Usage, Selector, Matching uint8
	Data                      []byte
}

// TLSASet is what a host's TLS is to be judged by (RFC 7672 §2.2.3). Without Records DANE does not apply.
type TLSASet struct {
	// Base is the name under which they were found: the name to ask for in the handshake (SNI) and to look for in certificates.
	Base    string
	Records []TLSA
}

// TLSA finds the records for a host's port: secure ones only, and only if the host's addresses are secure too. They are looked for
// where aliases lead, and then at the name itself; where the aliases lead out of what is signed, only at the name, if that is signed
// (RFC 7672 §2.2.2, §2.2.3). An error is ErrTemporary: what would tell is bogus or was not to be had, and the host must not be used
// (RFC 7672 §2.1.2).
func (r *Resolver) TLSA(ctx context.Context, host string, port uint16) (TLSASet, error) {
	name, ok := hostName(host)
	if !ok {
		return TLSASet{}, nil
	}
	bases, err := r.bases(ctx, name)
	for _, base := range bases {
		a := r.lookup(ctx, key{fmt.Sprintf("_%d._tcp.%s", port, base), dns.TypeTLSA})
		switch {
		case a.err != nil && errors.Is(a.err, ErrTemporary):
			return TLSASet{}, a.err
		case a.secure && len(a.tlsa) > 0:
			return TLSASet{Base: base, Records: slices.Clone(a.tlsa)}, nil
		}
	}
	return TLSASet{}, err
}

// bases are the names whose TLSA records are about a host, best first.
func (r *Resolver) bases(ctx context.Context, name string) ([]string, error) {
	alias, seen := "", false
	secure := true
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		// The answers are those that the addresses came from: cached, and if one is an error the other may still be good.
		if a := r.lookup(ctx, key{name, qtype}); len(a.addrs) > 0 {
			secure = secure && a.secure
			alias, seen = a.alias, true
		}
	}
	switch {
	case !seen:
		return nil, nil
	case secure && alias != "" && alias != name:
		return []string{alias, name}, nil
	case secure:
		return []string{name}, nil
	case alias == "":
		return nil, nil
	}
	a := r.lookup(ctx, key{name, dns.TypeCNAME})
	switch {
	case a.err != nil && errors.Is(a.err, ErrTemporary):
		return nil, a.err
	case a.secure && a.err == nil && !a.noData:
		return []string{name}, nil
	}
	return nil, nil
}

// TXT gives the TXT records of a name, each in one piece (RFC 7208 §3.3), as octets. None is ErrNotFound.
func (r *Resolver) TXT(ctx context.Context, name string) ([]string, error) {
	if _, ok := hostName(name); !ok {
		return nil, notFound("", "%+.64q is no domain name", name)
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	a := r.lookup(ctx, key{name, dns.TypeTXT})
	switch {
	case a.err != nil:
		return nil, a.err
	case a.noData:
		return nil, notFound("", "%s has no TXT record", name)
	}
	return slices.Clone(a.txt), nil
}

func readTLSA(records []dns.RR) *answer {
	a := &answer{}
	for _, rr := range records[:min(len(records), MaxTLSA)] {
		t := rr.(*dns.TLSA)
		// The library gives the data in hexadecimal, always well-formed where it came from a packet.
		if data, err := hex.DecodeString(t.Certificate); err == nil {
			a.tlsa = append(a.tlsa, TLSA{Usage: t.Usage, Selector: t.Selector, Matching: t.MatchingType, Data: data})
		}
	}
	if len(a.tlsa) == 0 {
		return &answer{noData: true}
	}
	return a
}

func readTXT(records []dns.RR) *answer {
	a := &answer{}
	for _, rr := range records {
		text := ""
		for _, part := range rr.(*dns.TXT).Txt {
			text += unescape(part)
		}
		if len(text) <= MaxTXTOctets && len(a.txt) < MaxTXT {
			a.txt = append(a.txt, text)
		}
	}
	if len(a.txt) == 0 {
		return &answer{noData: true}
	}
	return a
}
