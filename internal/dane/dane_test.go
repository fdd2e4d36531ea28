package dane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"latchkey/internal/resolver"
)

var today = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// maker signs certificates of a test.
type maker struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue makes a certificate that m signs, or that signs itself.
func (m *maker) issue(t *testing.T, name string, ca bool, until time.Time) *maker {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(name)) + until.Unix()), Subject: pkix.Name{CommonName: name}, IsCA: ca, BasicConstraintsValid: true,
		NotBefore: today.AddDate(-1, 0, 0), NotAfter: until,
	}
	if !ca {
		template.DNSNames = []string{name}
	}
	parent, signer := template, key
	if m != nil {
		parent, signer = m.cert, m.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &maker{t, cert, key}
}

// record is what a domain publishes for a certificate.
func record(usage, selector, matching uint8, c *x509.Certificate) resolver.TLSA {
	data := c.Raw
	if selector == 1 {
		data = c.RawSubjectPublicKeyInfo
	}
	switch matching {
	case 1:
		sum := sha256.Sum256(data)
		data = sum[:]
	case 2:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return resolver.TLSA{Usage: usage, Selector: selector, Matching: matching, Data: data}
}

func TestVerify(t *testing.T) {
	later := today.AddDate(1, 0, 0)
	root := (*maker)(nil).issue(t, "root", true, later)
	between := root.issue(t, "between", true, later)
	leaf := between.issue(t, "mx.remote.example", false, later)
	star := root.issue(t, "*.remote.example", false, later)
	old := root.issue(t, "mx.remote.example", false, today.AddDate(0, 0, -1))
	other := (*maker)(nil).issue(t, "mx.remote.example", false, later)
	stranger := (*maker)(nil).issue(t, "root", true, later)
	chain := []*x509.Certificate{leaf.cert, between.cert, root.cert}
	names := []string{"mx.remote.example", "remote.example"}
	const match, noMatch, wrongName, expired, untrusted = "match", "no match", "wrong name", "expired", "untrusted"
	type tlsas = []resolver.TLSA
	tests := []struct {
		name    string
		records tlsas
		chain   []*x509.Certificate
		names   []string
		want    string
	}{
		{"EE, whole certificate", tlsas{record(3, 0, 0, leaf.cert)}, chain, names, match},
		{"EE, SHA-256 of the certificate", tlsas{record(3, 0, 1, leaf.cert)}, chain, names, match},
		{"EE, SHA-512 of the certificate", tlsas{record(3, 0, 2, leaf.cert)}, chain, names, match},
		{"EE, whole key", tlsas{record(3, 1, 0, leaf.cert)}, chain, names, match},
		{"EE, SHA-256 of the key", tlsas{record(3, 1, 1, leaf.cert)}, chain, names, match},
		{"EE, SHA-512 of the key", tlsas{record(3, 1, 2, leaf.cert)}, chain, names, match},
		{"EE minds no names", tlsas{record(3, 1, 1, leaf.cert)}, chain, []string{"another.example"}, match},
		{"EE minds no dates", tlsas{record(3, 1, 1, old.cert)}, []*x509.Certificate{old.cert}, names, match},
		{"EE of another key", tlsas{record(3, 1, 1, other.cert)}, chain, names, noMatch},
		{"EE of the authority", tlsas{record(3, 1, 1, root.cert)}, chain, names, noMatch},
		{"EE: the selector counts", tlsas{record(3, 0, 1, leaf.cert)}, chain[:1], names, match},
		{"EE: the digest of the other part", tlsas{{Usage: 3, Selector: 1, Matching: 1, Data: record(3, 0, 1, leaf.cert).Data}}, chain, names, noMatch},
		{"TA, the root", tlsas{record(2, 0, 1, root.cert)}, chain, names, match},
		{"TA, one between", tlsas{record(2, 1, 1, between.cert)}, chain, names, match},
		{"TA, one between, without the root", tlsas{record(2, 1, 2, between.cert)}, chain[:2], names, match},
		{"TA that is whole in the record and not in the chain", tlsas{record(2, 0, 0, root.cert)}, chain[:2], names, match},
		{"TA by digest that is not in the chain", tlsas{record(2, 0, 1, root.cert)}, chain[:2], names, noMatch},
		{"TA for the domain's name", tlsas{record(2, 0, 1, root.cert)}, chain, []string{"a.example", "mx.remote.example"}, match},
		{"TA with a star", tlsas{record(2, 0, 1, root.cert)}, []*x509.Certificate{star.cert, root.cert}, names, match},
		{"TA minds names", tlsas{record(2, 0, 1, root.cert)}, chain, []string{"another.example"}, wrongName},
		{"TA minds dates", tlsas{record(2, 0, 1, root.cert)}, []*x509.Certificate{old.cert, root.cert}, names, expired},
		{"TA that did not sign", tlsas{record(2, 0, 1, stranger.cert)}, []*x509.Certificate{leaf.cert, stranger.cert}, names, untrusted},
		{"TA is not the host's own certificate", tlsas{record(2, 0, 1, leaf.cert)}, chain, names, noMatch},
		{"rollover: the next one first", tlsas{record(3, 1, 1, other.cert), record(3, 1, 1, leaf.cert)}, chain, names, match},
		{"rollover: the old one first", tlsas{record(3, 1, 1, leaf.cert), record(3, 1, 1, other.cert)}, chain, names, match},
		{"an EE that does not match and a TA that does", tlsas{record(3, 1, 1, other.cert), record(2, 1, 1, root.cert)}, chain, names, match},
		{"no certificate", tlsas{record(3, 1, 1, leaf.cert)}, nil, names, noMatch},
		{"no record", nil, chain, names, noMatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Verify(Usable(tt.records), tt.chain, tt.names, today)
			var host x509.HostnameError
			var invalid x509.CertificateInvalidError
			var unknown x509.UnknownAuthorityError
			got := match
			switch {
			case errors.Is(err, ErrNoMatch):
				got = noMatch
			case errors.As(err, &host):
				got = wrongName
			case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
				got = expired
			case errors.As(err, &unknown):
				got = untrusted
			case err != nil:
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %s (%v), want %s", got, err, tt.want)
			}
		})
	}
}

func TestUsable(t *testing.T) {
	leaf := (*maker)(nil).issue(t, "mx.remote.example", false, today.AddDate(1, 0, 0)).cert
	good := record(3, 1, 1, leaf)
	with := func(change func(*resolver.TLSA)) resolver.TLSA {
		r := good
		change(&r)
		return r
	}
	for name, bad := range map[string]resolver.TLSA{
		"PKIX-TA":            with(func(r *resolver.TLSA) { r.Usage = 0 }),
		"PKIX-EE":            with(func(r *resolver.TLSA) { r.Usage = 1 }),
		"unknown usage":      with(func(r *resolver.TLSA) { r.Usage = 4 }),
		"unknown selector":   with(func(r *resolver.TLSA) { r.Selector = 2 }),
		"unknown digest":     with(func(r *resolver.TLSA) { r.Matching = 3 }),
		"short digest":       with(func(r *resolver.TLSA) { r.Data = r.Data[:31] }),
		"long digest":        with(func(r *resolver.TLSA) { r.Data = append([]byte{0}, r.Data...) }),
		"SHA-256 as SHA-512": with(func(r *resolver.TLSA) { r.Matching = 2 }),
		"broken certificate": {Usage: 3, Selector: 0, Matching: 0, Data: leaf.Raw[1:]},
		"broken key":         {Usage: 2, Selector: 1, Matching: 0, Data: leaf.Raw},
		"no data":            {Usage: 3, Selector: 1, Matching: 0},
	} {
		if got := Usable([]resolver.TLSA{bad}); len(got) != 0 {
			t.Errorf("%s: usable", name)
		}
		if got := Usable([]resolver.TLSA{bad, good}); len(got) != 1 {
			t.Errorf("%s beside a good one: %d usable", name, len(got))
		}
	}
	// RFC 7671 §9: the weaker digest counts only where there is no stronger one of the same usage and selector.
	strong, whole, ta := record(3, 1, 2, leaf), record(3, 1, 0, leaf), record(2, 1, 1, leaf)
	got := Usable([]resolver.TLSA{good, strong, whole, ta, record(3, 0, 1, leaf)})
	if len(got) != 4 || got[0].Matching != 2 {
		t.Errorf("with both digests: %d usable, the first of type %d", len(got), got[0].Matching)
	}
}
