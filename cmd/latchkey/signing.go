package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	"latchkey/auth"
	"latchkey/config"
	"latchkey/internal/zone"
	"latchkey/relay/signing"
	"latchkey/store"
)

// maxCertificate bounds what is read of a certificate file, in octets.
const maxCertificate = 256 << 10

// newRing returns the DKIM keys of a store.
func newRing(st store.Store, now func() time.Time) *signing.Ring {
	return signing.NewRing(st, auth.NewVault(st, "DKIM keys"), now)
}

// placeOf is where the server stands, as far as its configuration says.
func placeOf(c config.Config, st store.Store, name string) func(context.Context) (zone.Place, error) {
	return func(ctx context.Context) (zone.Place, error) {
		p := zone.Place{
			Hostname: name, Smarthost: c.Relay.Smarthost, KeyDigest: keyDigest(c.TLS.Cert), Policy: stsPolicy(c, name),
			Ports: zone.Ports{
				POP3: portOf(c.Listen.POP3), POP3S: portOf(c.Listen.POP3S), Submission: portOf(c.Listen.Submission), Submissions: portOf(c.Listen.SMTPS),
			},
		}
		for _, a := range ownAddresses(c) {
			if isPublic(a) || slices.Contains(c.Reputation.Addresses, a) {
				p.Addresses = append(p.Addresses, a.Unmap())
			}
		}
		for _, s := range c.Relay.Sources {
			if isPublic(s.Addr) {
				p.Sources = append(p.Sources, zone.Source{Addr: s.Addr.Unmap(), Hostname: s.Hostname})
			}
		}
		for _, r := range c.Relay.Routes {
			if r.Host != "" && !slices.Contains(p.Routes, r.Host) {
				p.Routes = append(p.Routes, r.Host)
			}
		}
		var err error
		if c.ACME.On() {
			p.KeyDigest, p.NextKeyDigest, err = keptDigests(ctx, c.ACME, st)
		}
		return p, err
	}
}

// isPublic reports whether mail from an address comes from it for the rest of the world too.
func isPublic(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate()
}

// portOf is the port of the first address of a door that has one that is known.
func portOf(addresses []string) int {
	for _, address := range addresses {
		_, text, err := net.SplitHostPort(address)
		if err != nil {
			continue // a unix socket
		}
		if port, err := strconv.Atoi(text); err == nil && port > 0 {
			return port
		}
	}
	return 0
}

// keyDigest is the SHA-256 of the public key of the first certificate in a file (RFC 6698 §2.1: selector 1, matching type 1), in hex; "" if
// there is none.
func keyDigest(path string) string {
	if path == "" {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // only read from
	text, err := io.ReadAll(io.LimitReader(f, maxCertificate))
	if err != nil {
		return ""
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return ""
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
