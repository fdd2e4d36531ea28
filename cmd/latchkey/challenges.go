package main

import (
	"context"
	"fmt"

	"github.com/emersion/go-sasl"

	"latchkey/auth"
)

// challenges are the mechanisms that an SMTP door for old clients has beside PLAIN and LOGIN.
type challenges struct {
	auth     *auth.Authenticator
	hostname string
}

// Mechanisms lists what old clients know. SCRAM is not among it.
func (c *challenges) Mechanisms() []string { return []string{auth.CRAMMD5} }

// Begin begins an exchange.
func (c *challenges) Begin(ctx context.Context, at auth.Attempt, mechanism string, proved func(auth.Identity) error) (sasl.Server, error) {
	if mechanism != auth.CRAMMD5 {
		return nil, fmt.Errorf("%s is not offered", mechanism)
	}
	return c.auth.NewCRAMMD5Server(ctx, at, c.hostname, proved), nil
}
