package guard

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// reloadInterval is how often at most the files of a certificate are looked at.
const reloadInterval = time.Second

// selfSignedLife is how long a self-signed certificate is valid.
const selfSignedLife = 10 * 365 * 24 * time.Hour

// Certificate is a certificate from files, read again when they change.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	now               func() time.Time

	mu      sync.Mutex // protects the fields below; files are read under it, at most once in reloadInterval
	current *tls.Certificate
	stamps  [2]stamp // of what is current
	bad     [2]stamp // of what could not be loaded, so that it is logged once
	looked  time.Time
}

type stamp struct {
	modified time.Time
	size     int64
}

// LoadCertificate reads a PEM certificate chain and its key.
func LoadCertificate(certFile, keyFile string, logger *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: logger, now: time.Now}
	stamps, err := c.stat()
	if err != nil {
		return nil, err
	}
	if err := c.load(); err != nil {
		return nil, err
	}
	c.stamps, c.looked = stamps, c.now()
	return c, nil
}

// GetCertificate is for tls.Config. Files that changed are read again; if the new ones are bad, the old certificate stays.
func (c *Certificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if now.Sub(c.looked) < reloadInterval {
		return c.current, nil
	}
	c.looked = now
	stamps, err := c.stat()
	if err == nil && stamps == c.stamps {
		return c.current, nil
	}
	if err == nil {
		err = c.load()
	}
	if err != nil {
		if stamps != c.bad {
			c.log.Error("certificate not reloaded, the old one stays", "file", c.certFile, "err", err)
		}
		c.bad = stamps
		return c.current, nil
	}
	c.stamps, c.bad = stamps, [2]stamp{}
	c.log.Info("certificate reloaded", "file", c.certFile, "sha256", c.fingerprint())
	return c.current, nil
}

// Fingerprint returns the SHA-256 of the certificate in hex.
func (c *Certificate) Fingerprint() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fingerprint()
}

// Leaf returns the certificate itself, or nil if it cannot be parsed.
func (c *Certificate) Leaf() *x509.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current.Leaf
}

func (c *Certificate) fingerprint() string {
	sum := sha256.Sum256(c.current.Certificate[0])
	return hex.EncodeToString(sum[:])
}

func (c *Certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("guard: certificate %s: %w", c.certFile, err)
	}
	c.current = &pair
	return nil
}

func (c *Certificate) stat() (stamps [2]stamp, err error) {
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return stamps, fmt.Errorf("guard: certificate: %w", err)
		}
		stamps[i] = stamp{info.ModTime(), info.Size()}
	}
	return stamps, nil
}

// TLSConfig returns the configuration of all doors but those of [OldTLSConfig]: TLS 1.2 or later (RFC 8314 §4.1). Records are as large as they
// can be from the first one on: no mail program shows the first kilobyte of a message before it has the rest.
func TLSConfig(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: get, DynamicRecordSizingDisabled: true}
}

// OldTLSConfig returns the configuration of the doors for old clients, and of no other: TLS 1.0 or later, with the cipher suites of its time
// (RSA key exchange, CBC, 3DES).
//
// Deviation: RFC 8314 §4.1 and RFC 8996 §4 and §5 say TLS 1.2 or later. Outlook Express, Outlook up to 2003 and Eudora up to 7 know nothing
// later than TLS 1.0. SSL 3.0 stays out (RFC 7568 §3), and so does RC4 (RFC 7465 §2): those programs have 3DES too.
func OldTLSConfig(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	c := TLSConfig(get)
	c.MinVersion = tls.VersionTLS10
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if !strings.Contains(suite.Name, "_RC4_") {
			c.CipherSuites = append(c.CipherSuites, suite.ID)
		}
	}
	return c
}

// OldClientNote says why old clients may not be able to use the certificate; it is empty if nothing is known against that.
func (c *Certificate) OldClientNote() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.current.PrivateKey.(type) {
	case *rsa.PrivateKey:
		return ""
	case ed25519.PrivateKey:
		return "its key is Ed25519, which no client below TLS 1.2 can use: have one of RSA"
	default:
		return "its key is not of RSA, which is all that Outlook Express and its contemporaries know: have one of RSA"
	}
}

// SelfSigned makes a key and a self-signed certificate for hosts (names and addresses) and this machine, unless both files are there.
// It is for trying things out: clients must be told to trust the file. If one file is there without the other nothing is written: it may
// be somebody's key.
func SelfSigned(certFile, keyFile string, hosts []string) error {
	_, certErr := os.Stat(certFile)
	_, keyErr := os.Stat(keyFile)
	if err := errors.Join(unlessMissing(certErr), unlessMissing(keyErr)); err != nil {
		return err
	}
	switch {
	case certErr == nil && keyErr == nil:
		return nil
	case certErr == nil || keyErr == nil:
		return fmt.Errorf("guard: of %s and %s one is missing: remove the other too, or put it back", certFile, keyFile)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := SelfSign(key, append(slices.Clone(hosts), "localhost", "127.0.0.1", "::1"))
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(keyFile, "PRIVATE KEY", keyDER, 0o600); err != nil {
		return err
	}
	if err := writePEM(certFile, "CERTIFICATE", der, 0o644); err != nil {
		return errors.Join(err, os.Remove(keyFile))
	}
	return nil
}

// SelfSign makes a certificate (DER) for a key and hosts, names and addresses, that nobody vouches for.
func SelfSign(key crypto.Signer, hosts []string) (der []byte, err error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: hosts[0]}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(selfSignedLife),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	for i, host := range hosts {
		if slices.Contains(hosts[:i], host) {
			continue
		}
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}

// writePEM writes a file that is not there yet.
func writePEM(name, kind string, der []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	return errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Close())
}

func unlessMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
