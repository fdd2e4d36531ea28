package main

import (
	"context"
	"crypto/tls"

	"github.com/emersion/go-sasl"

	"latchkey/auth"
)

// challenges are the mechanisms without a password of the SMTP doors: those that auth lists for a connection, as at the POP3 doors.
type challenges struct {
	auth     *auth.Authenticator
	hostname string
}

// Mechanisms lists them.
func (c *challenges) Mechanisms(ctx context.Context, at auth.Attempt, state *tls.ConnectionState) []string {
	return c.auth.ChallengeMechanisms(ctx, at, state)
}

// Begin begins an exchange.
func (c *challenges) Begin(
	ctx context.Context, at auth.Attempt, state *tls.ConnectionState, proved func(auth.Identity) error,
) (sasl.Server, error) {
	if at.Mechanism == auth.CRAMMD5 {
		return c.auth.NewCRAMMD5Server(ctx, at, c.hostname, proved), nil
	}
	return c.auth.NewSCRAMServer(ctx, at, state, proved), nil
}
