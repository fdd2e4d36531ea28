package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"latchkey/auth"
	"latchkey/config"
	"latchkey/guard"
	"latchkey/internal/certs"
	"latchkey/store"
)

// loadCertificate has the certificate of all doors, if there is one: of files, or of a CA.
func (o *opener) loadCertificate(ctx context.Context) error {
	if o.config.ACME.On() {
		return o.keepCertificates(ctx)
	}
	c := o.config.TLS
	if c.Cert == "" {
		return nil
	}
	certificate, err := guard.LoadCertificate(c.Cert, c.Key, o.process.log)
	if err != nil {
		return fmt.Errorf("tls.cert and tls.key: %w", err)
	}
	o.tls, o.old = guard.TLSConfig(certificate.GetCertificate), guard.OldTLSConfig(certificate.GetCertificate)
	o.process.fingerprint = certificate.Fingerprint()
	o.process.certificates = func() []certs.State { return fileState(certificate, o.now()) }
	for _, k := range o.kinds() {
		if note := certificate.OldClientNote(); k.old && len(k.addresses) > 0 && note != "" {
			o.process.log.Warn("certificate is not for old clients", "door", k.name, "why", note)
		}
	}
	return nil
}

// fileState says how a certificate of files stands.
func fileState(c *guard.Certificate, now time.Time) []certs.State {
	leaf := c.Leaf()
	if leaf == nil {
		return nil
	}
	s := certs.State{Kind: certs.RSA, Names: append([]string{}, leaf.DNSNames...), Issued: true, Expires: leaf.NotAfter}
	if _, ok := leaf.PublicKey.(*ecdsa.PublicKey); ok {
		s.Kind = certs.ECDSA
	}
	s.DaysLeft = int(math.Floor(leaf.NotAfter.Sub(now).Hours() / 24))
	return []certs.State{s}
}

// keepCertificates begins with what is kept of the CA, or with a self-signed certificate: the CA is asked once the doors are open. The doors for
// old clients have a certificate of their own, as their programs know no key but RSA.
func (o *opener) keepCertificates(ctx context.Context) error {
	a, p := o.config.ACME, o.process
	o.challenges = &certs.Challenges{HTTP: len(a.HTTPListen) > 0, TLS: o.config.Web.ServesHTTPS()}
	account := &certs.Account{
		Directory: a.Directory, Contact: a.Contact, KeyFile: a.AccountKey, EABKeyID: a.EABKeyID, EABKeyFile: a.EABKeyFile, CAFile: a.CAFile,
		UserAgent: "latchkey/" + buildVersion(),
	}
	keep := func(kind certs.KeyKind) (*certs.Keeper, error) {
		k, err := certs.New(ctx, certs.Options{
			Kind: kind, Names: a.CertificateNames(p.domain, p.hostname), Account: account, Challenges: o.challenges,
			Box: newSealedBox(o.store, kind, a.KeyNumber), SelfSign: guard.SelfSign, Logger: p.log, Now: o.now,
		})
		if err == nil {
			p.keepers = append(p.keepers, k)
		}
		return k, err
	}
	k, err := keep(certs.ECDSA)
	if err != nil {
		return err
	}
	if _, _, err := keptDigests(ctx, a, o.store); err != nil { // the next key is made now, as it can be asked for from now on
		return err
	}
	o.tls, p.fingerprint = guard.TLSConfig(k.GetCertificate), k.Fingerprint()
	if o.servesOldClients() {
		if k, err = keep(certs.RSA); err != nil {
			return err
		}
		o.old = guard.OldTLSConfig(k.GetCertificate)
	}
	p.certificates = func() (list []certs.State) {
		for _, k := range p.keepers {
			list = append(list, k.State())
		}
		return list
	}
	return nil
}

// servesOldClients reports whether a door for old clients is open.
func (o *opener) servesOldClients() bool {
	for _, k := range o.kinds() {
		if k.old && len(k.addresses) > 0 {
			return true
		}
	}
	return false
}

// webTLS is the configuration of the pages, where the CA may look for its proof too; nil without a certificate.
func (o *opener) webTLS() *tls.Config {
	if o.challenges == nil || !o.challenges.TLS {
		return o.tls
	}
	c := o.tls.Clone()
	c.GetConfigForClient = o.challenges.Config
	return c
}

// sealedBox keeps a certificate and its key in the store, sealed as DKIM keys are.
type sealedBox struct {
	store store.Secrets
	vault *auth.Vault
	name  string
}

// newSealedBox returns that of a kind of key and the number of the key.
func newSealedBox(st store.Store, kind certs.KeyKind, number int) sealedBox {
	return sealedBox{store: st, vault: auth.NewVault(st, "certificates"), name: "tls/" + string(kind) + "/" + strconv.Itoa(number)}
}

// Get implements certs.Box.
func (b sealedBox) Get(ctx context.Context) ([]byte, error) {
	sealed, err := b.store.Secret(ctx, b.name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	content, err := b.vault.Open(ctx, b.name, sealed)
	if errors.Is(err, auth.ErrVault) {
		err = fmt.Errorf("%w: %w", certs.ErrDamaged, err)
	}
	return content, err
}

// Put implements certs.Box.
func (b sealedBox) Put(ctx context.Context, content []byte) error {
	if content == nil {
		if err := b.store.RemoveSecret(ctx, b.name); !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return nil
	}
	sealed, err := b.vault.Seal(ctx, b.name, content)
	if err != nil {
		return err
	}
	return b.store.PutSecret(ctx, b.name, sealed)
}

// keptDigests are those of the present key of the certificate and of the next one, for TLSA records. Both are made if they are not there, so
// that their records can be published before they are used.
func keptDigests(ctx context.Context, a config.ACME, st store.Store) (present, next string, err error) {
	if present, err = certs.KeyDigest(ctx, newSealedBox(st, certs.ECDSA, a.KeyNumber), certs.ECDSA); err != nil {
		return "", "", err
	}
	next, err = certs.KeyDigest(ctx, newSealedBox(st, certs.ECDSA, a.KeyNumber+1), certs.ECDSA)
	return present, next, err
}
