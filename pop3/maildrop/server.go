package maildrop

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/internal/refusal"
	"latchkey/pop3"
	"latchkey/store"
)

// ErrNoTLS: a door that is TLS from the first octet has no TLSConfig. It does not open, rather than open in the clear.
var ErrNoTLS = errors.New("maildrop: implicit TLS without a certificate")

// Store is what POP3 needs of a store.
type Store interface {
	OpenMaildrop(ctx context.Context, account store.AccountID) (store.Maildrop, error)
}

// Grants is told of logins (POP before SMTP).
type Grants interface {
	// LoggedIn is called once for each successful login, when the maildrop is open and before the client learns of it.
	LoggedIn(ctx context.Context, p guard.Place, account store.AccountID, name string, credentialVersion uint64)
}

// Options are what a POP3 door is made of. Store and Auth must be set.
type Options struct {
	Store Store
	Auth  *auth.Authenticator
	// Grants is told of logins; nil is nobody.
	Grants Grants
	// Loopback is set when the door's listener is bound to a loopback address; see [guard.Place].
	Loopback bool
	// Hostname is named in the greeting.
	Hostname string
	// TLSConfig makes STLS available, or with ImplicitTLS makes every connection TLS from its first octet (RFC 8314 §3).
	TLSConfig   *tls.Config
	ImplicitTLS bool
	// Connections and Times are the door's limits.
	Connections guard.ConnLimits
	Times       pop3.Limits
	// Implementation is told in CAPA; empty leaves it out.
	Implementation string
	// Logger gets the events of the door; nil discards them.
	Logger *slog.Logger
}

// Server is one POP3 door.
type Server struct {
	o    Options
	pop3 *pop3.Server
}

// New returns a door that is not open yet.
func New(o Options) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o, pop3: &pop3.Server{
		Backend: &backend{
			store: o.Store, auth: o.Auth, grants: o.Grants, loopback: o.Loopback, log: o.Logger.With("service", "pop3"),
		},
		Hostname: o.Hostname, Implementation: o.Implementation, Expire: "NEVER", Limits: o.Times, Logger: o.Logger,
	}}
	if !o.ImplicitTLS {
		s.pop3.TLSConfig = o.TLSConfig
	}
	return s
}

// Serve accepts connections until the listener fails or the server is closed; then it returns pop3.ErrServerClosed. It closes the
// listener.
func (s *Server) Serve(l net.Listener) error {
	options := guard.ListenerOptions{Limits: s.o.Connections, Refusal: refusal.Of(refusal.ConnectionsFull).POP3.Line() + "\r\n", Logger: s.o.Logger}
	if s.o.ImplicitTLS {
		if s.o.TLSConfig == nil {
			return errors.Join(ErrNoTLS, l.Close())
		}
		options.TLS = s.o.TLSConfig
	}
	return s.pop3.Serve(guard.NewListener(l, options))
}

// Shutdown stops listening and lets running commands finish until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error { return s.pop3.Shutdown(ctx) }

// Close stops listening and cuts all connections.
func (s *Server) Close() error { return s.pop3.Close() }
