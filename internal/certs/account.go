package certs

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
)

// Bounds of what is read.
const (
	// maxKeyFile bounds the files of keys and of the CA's certificates, in octets.
	maxKeyFile = 256 << 10
	// maxAnswer bounds one answer of the CA in octets, requestTime how long it may take.
	maxAnswer   = 1 << 20
	requestTime = 30 * time.Second
	// retries is how often one request is made again after an error of the CA's own side.
	retries = 3
)

// Account says how the CA is reached, and as whom. Its fields are not changed after the first use. It may be used from any goroutine, and by
// several keepers; they ask the CA one after the other.
type Account struct {
	// Directory is the URL of the CA's directory.
	Directory string
	// Contact are mail addresses.
	Contact []string
	// KeyFile holds the account's key. It is made if it is not there; whoever else makes it at the same time gets the same one.
	KeyFile string
	// EABKeyID and EABKeyFile bind the account to one that the CA knows; "" for none.
	EABKeyID, EABKeyFile string
	// CAFile has certificates by which the directory's is checked; "" is those of the system.
	CAFile string
	// UserAgent names the program to the CA (RFC 8555 §6.1).
	UserAgent string
	// Transport carries the requests; nil is HTTPS by CAFile.
	Transport http.RoundTripper

	asking sync.Mutex // held by whoever asks the CA
}

// connect returns a client that has the account, which is made if the CA does not know it yet; done gives back what it holds. The caller
// holds asking.
func (a *Account) connect(ctx context.Context) (client *acme.Client, done func(), err error) {
	transport, done, err := a.transport()
	if err != nil {
		return nil, nil, err
	}
	client = &acme.Client{
		DirectoryURL: a.Directory, UserAgent: a.UserAgent, RetryBackoff: retryAfter,
		HTTPClient: &http.Client{Transport: bounded{transport}, Timeout: requestTime},
	}
	if err := a.register(ctx, client); err != nil {
		done()
		return nil, nil, err
	}
	return client, done, nil
}

// register tells the CA of the account. One that it knows already is as good (RFC 8555 §7.3.1).
func (a *Account) register(ctx context.Context, client *acme.Client) (err error) {
	if client.Key, err = accountKey(a.KeyFile); err != nil {
		return err
	}
	account := &acme.Account{}
	for _, address := range a.Contact {
		account.Contact = append(account.Contact, "mailto:"+address)
	}
	if a.EABKeyID != "" {
		key, err := bindingKey(a.EABKeyFile)
		if err != nil {
			return err
		}
		account.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: a.EABKeyID, Key: key}
	}
	if _, err = client.Register(ctx, account, acme.AcceptTOS); errors.Is(err, acme.ErrAccountAlreadyExists) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("certs: the account with the CA: %w", err)
	}
	return nil
}

// transport carries requests until done is called.
func (a *Account) transport() (carrier http.RoundTripper, done func(), err error) {
	if a.Transport != nil {
		return a.Transport, func() {}, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.CAFile != "" {
		text, err := readFile(a.CAFile)
		if err != nil {
			return nil, nil, fmt.Errorf("certs: certificates of the CA: %w", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, nil, fmt.Errorf("certs: %s holds no certificate", a.CAFile)
		}
	}
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: c, ForceAttemptHTTP2: true}
	return t, t.CloseIdleConnections, nil
}

// retryAfter lets a request be made again a few times when the CA has a moment's trouble. Who is asked to come later does (see [Keeper.Run]).
func retryAfter(n int, _ *http.Request, response *http.Response) time.Duration {
	if n > retries || response.StatusCode == http.StatusTooManyRequests || response.Header.Get("Retry-After") != "" {
		return 0
	}
	return time.Second << (n - 1)
}

// bounded cuts answers off that are too large for any that a CA has to give.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		response.Body = cut{io.LimitReader(response.Body, maxAnswer), response.Body}
	}
	return response, err
}

type cut struct {
	io.Reader
	io.Closer
}

// accountKey reads the key of the account, or makes it. A file that is made appears with all that is in it, or not at all: of several processes
// that make it at once, one wins, and the others read what that one made.
func accountKey(path string) (crypto.Signer, error) {
	key, err := readAccountKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	fresh, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(fresh)
	if err != nil {
		return nil, err
	}
	if err := create(path, pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der})); err != nil {
		return nil, fmt.Errorf("certs: the account's key: %w", err)
	}
	return readAccountKey(path)
}

// pemKey is the type of the block of a private key (RFC 7468 §10).
const pemKey = "PRIVATE KEY"

// create makes a file that only its owner may read, unless it is there already. It is whole and durable when it appears.
func create(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".account-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readAccountKey reads the file of the key, which must not be open to everybody.
func readAccountKey(path string) (crypto.Signer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("certs: the account's key: %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("certs: the account's key %s is open to everybody on this host: chmod 600", path)
	}
	text, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("certs: the account's key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemKey {
		return nil, fmt.Errorf("certs: the account's key %s is not a PEM block %s", path, pemKey)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certs: the account's key %s: %w", path, err)
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok || signer.Curve != elliptic.P256() {
		return nil, fmt.Errorf("certs: the account's key %s is not one of ECDSA with P-256", path)
	}
	return signer, nil
}

// bindingKey reads what binds the account to one that the CA knows: base64url, with padding or without.
func bindingKey(path string) ([]byte, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("certs: the key of the account binding: %w", err)
	}
	line, err := bufio.NewReader(strings.NewReader(string(text))).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	key, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(line), "="))
	if err != nil || len(key) == 0 {
		return nil, fmt.Errorf("certs: the first line of %s is not base64url", path)
	}
	return key, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("%s is larger than %d octets", path, maxKeyFile)
	}
	return text, err
}
