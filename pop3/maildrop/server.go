package maildrop

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/pop3"
	"latchkey/store"
)

// refusal is the greeting of a connection over a cap.
const refusal = "-ERR [SYS/TEMP] try again later: too many connections from your address or in all\r\n"

// ErrNoTLS: a door that is TLS from the first octet has no TLSConfig. It does not open, rather than open in the clear.
var ErrNoTLS = errors.New("maildrop: implicit TLS without a certificate")

// Store is what POP3 needs of a store.
type Store interface {
	store.Maildrops
}

// Options are what a POP3 door is made of. Store and Auth must be set.
type Options struct {
	Store Store
	Auth  *auth.Authenticator
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
		Backend: &backend{store: o.Store, auth: o.Auth, log: o.Logger.With("service", "pop3")}, Hostname: o.Hostname, Implementation: o.Implementation,
		Expire: "NEVER", Limits: o.Times, Logger: o.Logger,
	}}
	if !o.ImplicitTLS {
		s.pop3.TLSConfig = o.TLSConfig
	}
	return s
}

// Serve accepts connections until the listener fails or the server is closed; then it returns pop3.ErrServerClosed. It closes the
// listener.
func (s *Server) Serve(l net.Listener) error {
	options := guard.ListenerOptions{Limits: s.o.Connections, Refusal: refusal, Logger: s.o.Logger}
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
