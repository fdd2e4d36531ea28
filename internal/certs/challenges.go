package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/crypto/acme"
)

// ALPN is the protocol by which a CA says that it looks for its proof in TLS (RFC 8737 §3).
const ALPN = acme.ALPNProto

// The types of challenges (RFC 8555 §8.3, RFC 8737 §3).
const (
	overHTTP = "http-01"
	inTLS    = "tls-alpn-01"
)

// Challenges answers a CA that looks whether a name is the operator's. It may be used from any goroutine. It holds an answer for each name
// while the CA is asked about it, and nothing for anybody else.
type Challenges struct {
	// HTTP says that Response is served at port 80 of each name, TLS that Config is at port 443. At least one is set.
	HTTP, TLS bool

	mu           sync.Mutex // protects the fields below
	responses    map[string]string
	certificates map[string]*tls.Certificate
}

// Response is the answer for the path of a request; ok is unset if there is none.
func (c *Challenges) Response(path string) (text string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text, ok = c.responses[path]
	return text, ok
}

// Config is for tls.Config.GetConfigForClient of the door of HTTPS, and of no other. It returns nil, which is the door's own configuration, for
// everybody but a CA that looks for its proof.
func (c *Challenges) Config(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != ALPN {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	certificate := c.certificates[strings.ToLower(hello.ServerName)]
	if certificate == nil {
		return nil, errors.New("certs: no proof is asked for that name")
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{ALPN}, Certificates: []tls.Certificate{*certificate}}, nil
}

// kinds are the types of challenges that can be met; turn puts another one first each time.
func (c *Challenges) kinds(turn int) []string {
	var list []string
	if c.HTTP {
		list = append(list, overHTTP)
	}
	if c.TLS {
		list = append(list, inTLS)
	}
	if len(list) == 2 && turn%2 == 1 {
		list[0], list[1] = list[1], list[0]
	}
	return list
}

// prove meets one authorization of an order.
func (c *Challenges) prove(ctx context.Context, client *acme.Client, z *acme.Authorization, kinds []string) error {
	for _, kind := range kinds {
		for _, challenge := range z.Challenges {
			if challenge.Type != kind {
				continue
			}
			withdraw, err := c.offer(client, challenge, z.Identifier.Value)
			if err != nil {
				return err
			}
			defer withdraw()
			if _, err := client.Accept(ctx, challenge); err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
			if _, err := client.WaitAuthorization(ctx, z.URI); err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
			return nil
		}
	}
	return fmt.Errorf("the CA does not take %s as a proof", strings.Join(kinds, " or "))
}

// offer makes the answer for a challenge known, until withdraw.
func (c *Challenges) offer(client *acme.Client, challenge *acme.Challenge, name string) (withdraw func(), err error) {
	if challenge.Type == overHTTP {
		text, err := client.HTTP01ChallengeResponse(challenge.Token)
		if err != nil {
			return nil, err
		}
		path := client.HTTP01ChallengePath(challenge.Token)
		put(&c.mu, &c.responses, path, text)
		return func() { remove(&c.mu, c.responses, path) }, nil
	}
	certificate, err := client.TLSALPN01ChallengeCert(challenge.Token, name)
	if err != nil {
		return nil, err
	}
	put(&c.mu, &c.certificates, name, &certificate)
	return func() { remove(&c.mu, c.certificates, name) }, nil
}

func put[V any](mu *sync.Mutex, m *map[string]V, key string, value V) {
	mu.Lock()
	defer mu.Unlock()
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = value
}

func remove[V any](mu *sync.Mutex, m map[string]V, key string) {
	mu.Lock()
	defer mu.Unlock()
	delete(m, key)
}
