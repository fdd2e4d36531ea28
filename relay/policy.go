package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"sync"
	"time"

	"latchkey/internal/dane"
	"latchkey/internal/mtasts"
	"latchkey/internal/resolver"
	"latchkey/internal/tlsrpt"
	"latchkey/store"
)

// plan is what was found out about a domain before its hosts are tried.
type plan struct {
	domain string
	demand store.TLSDemand
	// sts is the domain's MTA-STS policy, nil for none. trouble is why there is none or an old one only, for the report.
	sts     *mtasts.Policy
	trouble error
	// rua is where the domain wants reports of TLS, nil for nowhere.
	rua []string
}

// planFor looks for the policy of a domain, and for where it wants to hear of it.
func (r *Runner) planFor(ctx context.Context, domain string, d store.TLSDemand) plan {
	p := plan{domain: domain, demand: d}
	var both sync.WaitGroup
	both.Go(func() {
		if r.opts.NoTLSReports {
			return
		}
		if records, err := r.opts.Resolver.TXT(ctx, "_smtp._tls."+domain); err == nil {
			p.rua = tlsrpt.ParseRecord(records)
		}
	})
	p.sts, p.trouble = r.sts.policy(ctx, domain)
	both.Wait()
	if p.trouble != nil && ctx.Err() == nil {
		d := door{policy: domain, rua: p.rua, sts: p.sts}
		if d.sts == nil {
			d.sts = &mtasts.Policy{} // of which nothing is known but that there is one
		}
		r.tlsResult(d, peer{}, p.trouble)
	}
	return p
}

// daneProof is what a host's certificate is compared with.
type daneProof struct {
	records []resolver.TLSA
	// names are those that a certificate of a named authority may be for, the one to ask for first (RFC 7672 §3.2.2).
	names []string
}

// same reports whether two proofs ask for the same. The names are of the recipients' domain too.
func (p *daneProof) same(other *daneProof) bool {
	if p == nil || other == nil {
		return p == other
	}
	if len(p.records) != len(other.records) || !slices.Equal(p.names, other.names) {
		return false
	}
	for _, a := range p.records { // the DNS gives them in any order
		if !slices.ContainsFunc(other.records, func(b resolver.TLSA) bool {
			return a.Usage == b.Usage && a.Selector == b.Selector && a.Matching == b.Matching && bytes.Equal(a.Data, b.Data)
		}) {
			return false
		}
	}
	return true
}

// verify is tls.Config's VerifyConnection.
func (p *daneProof) verify(state tls.ConnectionState) error {
	return dane.Verify(p.records, state.PeerCertificates, p.names, time.Now())
}

// doorTo says how a mail exchanger of the planned domain is to be entered. A verdict says why it must not be. DANE goes before MTA-STS,
// and what fails by DANE is not saved by MTA-STS (RFC 8461 §2).
func (r *Runner) doorTo(ctx context.Context, p plan, mx resolver.MX) (door, *verdict) {
	d := door{mode: TLSOpportunistic, policy: p.domain, sts: p.sts, rua: p.rua, promise: p.demand == store.TLSRequired}
	if p.demand == store.TLSOptional {
		return d, nil
	}
	if mx.Secure {
		set, err := r.opts.Resolver.TLSA(ctx, mx.Host, r.opts.Port)
		if err != nil {
			// RFC 7672 §2.1.2, §2.2.3: whether there is something to keep to cannot be said, and somebody may want it so.
			v := lookupVerdict(err, "5.4.4")
			v.status = "4.7.5"
			v.peer.host = mx.Host
			r.tlsResult(d, v.peer, errTLSALookup)
			return d, &v
		}
		if len(set.Records) > 0 {
			d.wantedBy, d.mode, d.tlsa = ProofDANE, TLSRequired, set.Records
			if usable := dane.Usable(set.Records); len(usable) > 0 {
				d.dane = &daneProof{records: usable, names: []string{set.Base, mx.Host, p.domain}}
				return d, nil
			}
			// RFC 7672 §2.2: none of the records can be used, and TLS is mandatory all the same.
		}
	}
	return r.doorBySTS(p, mx, d)
}

// doorBySTS is doorTo where DANE does not prove anything.
func (r *Runner) doorBySTS(p plan, mx resolver.MX, d door) (door, *verdict) {
	if p.sts != nil && p.sts.Mode != mtasts.None {
		named := p.sts.Matches(mx.Host)
		enforced := p.sts.Mode == mtasts.Enforce || p.demand == store.TLSRequired
		switch {
		case !named && enforced:
			v := ours(store.Deferred, aboutHost, "4.7.5", "the policy of "+p.domain+" (MTA-STS) does not name this mail exchanger, so nothing is sent to it")
			v.peer.host = mx.Host
			r.tlsResult(d, v.peer, errNotNamed)
			return d, &v
		case enforced:
			d.wantedBy, d.mode = ProofSTS, TLSVerify
			return d, nil
		case !named:
			r.tlsResult(d, peer{host: mx.Host}, errNotNamed)
		default:
			d.observed = true
		}
	}
	if p.demand == store.TLSRequired {
		if !mx.Secure {
			// RFC 8689 §4.2.1: neither DNSSEC nor MTA-STS says that this host is the right one.
			v := ours(store.Failed, aboutHost, "5.7.10", "nothing proves that this host takes mail for "+p.domain+
				" (neither DNSSEC nor MTA-STS), and the sender requires TLS all the way (REQUIRETLS)")
			v.peer.host = mx.Host
			return d, &v
		}
		d.wantedBy, d.mode = ProofPKIX, TLSVerify
	}
	return d, nil
}

// Why a host's TLS is not good enough, beside what crypto/tls and package dane say.
var (
	errNotNamed   = errors.New("relay: the MTA-STS policy does not name the host")
	errTLSALookup = errors.New("relay: the TLSA lookup failed")
	errNoStartTLS = errors.New("relay: no STARTTLS offered")
)

// tlsConfig is the configuration of a handshake, and the proof that it gives when it succeeds. observed gets the verdict on a
// certificate that does not decide.
func (o *opener) tlsConfig(host string, d door, observed *error) (*tls.Config, Proof) {
	c := &tls.Config{}
	if o.tls != nil {
		c = o.tls.Clone()
	}
	c.ServerName, c.MinVersion = host, tls.VersionTLS12
	switch {
	case d.dane != nil:
		// RFC 7672 §3.1: the records decide, not the public authorities.
		c.ServerName, c.InsecureSkipVerify, c.VerifyConnection = d.dane.names[0], true, d.dane.verify
		c.ClientSessionCache = nil // a resumed session has the certificate of then, and the records are those of now
		return c, ProofDANE
	case d.mode == TLSVerify || d.mode == TLSImplicit:
		c.InsecureSkipVerify = false
		if d.wantedBy == ProofSTS {
			return c, ProofSTS
		}
		return c, ProofPKIX
	}
	c.InsecureSkipVerify = true
	if d.observed {
		roots := c.RootCAs
		c.ClientSessionCache = nil
		c.VerifyConnection = func(state tls.ConnectionState) error {
			*observed = verifyChain(state, roots, host)
			return nil
		}
	}
	return c, ProofNone
}

// verifyChain is what crypto/tls does by itself where a certificate decides.
func verifyChain(state tls.ConnectionState, roots *x509.CertPool, host string) error {
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: host})
	return err
}

// demandOf says who wants what a host did not give, for people.
func (d door) demandOf() string {
	switch d.wantedBy {
	case ProofDANE:
		return d.policy + " requires it (DANE)"
	case ProofSTS:
		return "the policy of " + d.policy + " requires it (MTA-STS)"
	case ProofPKIX:
		return "the sender requires it (REQUIRETLS)"
	}
	return "which is required"
}

// certificateWords say what is wrong with a certificate.
func certificateWords(err error) string {
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.Is(err, dane.ErrNoMatch):
		return "the certificate is none of those that the domain publishes in the DNS"
	case errors.As(err, &host):
		return "the certificate is for another name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate has expired or is not valid yet"
	case errors.As(err, &unknown):
		return "the certificate is signed by nobody who is trusted"
	}
	return "the certificate does not hold for the host"
}

// isCertificate reports whether an error is the verdict on a certificate.
func isCertificate(err error) bool {
	var verification *tls.CertificateVerificationError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	return errors.Is(err, dane.ErrNoMatch) || errors.As(err, &verification) || errors.As(err, &host) || errors.As(err, &invalid) ||
		errors.As(err, &unknown)
}
