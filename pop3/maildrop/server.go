package maildrop

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/internal/refusal"
	"latchkey/pop3"
	"latchkey/store"
)

// ErrNoTLS: a door that is TLS from the first octet has no TLSConfig. It does not open, rather than open in the clear.
var ErrNoTLS = errors.New("maildrop: implicit TLS without a certificate")

// errTooManyLocks: maxLocks maildrops are locked.
var errTooManyLocks = errors.New("maildrop: too many maildrops are locked")

// Store is what POP3 needs of a store.
type Store interface {
	OpenMaildrop(ctx context.Context, account store.AccountID) (store.Maildrop, error)
	Account(ctx context.Context, id store.AccountID) (store.Account, error)
	Settings(ctx context.Context) (store.Settings, error)
	ExpireDaysInUse(ctx context.Context) ([]int, error)
}

// Grants is told of logins (POP before SMTP).
type Grants interface {
	// LoggedIn is called once for each successful login, when the maildrop is open and before the client learns of it.
	LoggedIn(ctx context.Context, p guard.Place, account store.AccountID, name string, credentialVersion uint64, device store.DeviceID)
}

// Options are what a POP3 door is made of. Store and Auth must be set.
type Options struct {
	Store Store
	Auth  *auth.Authenticator
	// Grants is told of logins; nil is nobody.
	Grants Grants
	// Loopback is set when the door's listener is bound to a loopback address; see [guard.Place].
	Loopback bool
	// Hostname is named in the greeting and in challenges: a domain in ASCII, as [pop3.Server] has it.
	Hostname string
	// TLSConfig makes STLS available, or with ImplicitTLS makes every connection TLS from its first octet (RFC 8314 §3).
	TLSConfig   *tls.Config
	ImplicitTLS bool
	// Sniff serves a client that begins with TLS on a door that starts in the clear as ImplicitTLS would; see [guard.ListenerOptions].
	Sniff bool
	// Proxies are addresses from which clients come through a proxy; see [guard.ListenerOptions].
	Proxies []netip.Prefix
	// OldClients makes this a door for old clients: it takes passwords in the clear, and has the mailbox asked for after each login. nil for
	// every other door. What TLS such a door speaks, TLSConfig says.
	OldClients OldClients
	// Delays keep the last logins for domains that want some time between two; all doors of a process share them. nil is a door's own.
	Delays *Delays
	// Locks keep who has which maildrop, for domains where one session at a time may; all doors of a process share them. nil is a door's own.
	Locks *Locks
	// Inventory is told of each session that is over, and Door is what the door is called there; nil is nobody. All doors of a process share one.
	Inventory *Inventory
	Door      string
	// Refusals remembers what was refused lately; nil is nobody.
	Refusals *refusal.Recent
	// Tally counts the messages that are fetched; nil counts nothing.
	Tally *store.Tally
	// Now is the clock of what is decided by time; nil means time.Now.
	Now func() time.Time
	// Connections and Times are the door's limits. Gate counts its connections together with those of other doors; nil: it counts alone.
	Connections guard.ConnLimits
	Gate        *guard.Gate
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
	if o.Delays == nil {
		o.Delays = new(Delays)
	}
	if o.Locks == nil {
		o.Locks = new(Locks)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{o: o, pop3: &pop3.Server{
		Backend: &backend{
			store: o.Store, auth: o.Auth, grants: o.Grants, loopback: o.Loopback, old: o.OldClients, hostname: o.Hostname, delays: o.Delays,
			locks: o.Locks, now: o.Now, inventory: o.Inventory, door: o.Door, refusals: o.Refusals, tally: o.Tally, log: o.Logger.With("service", "pop3"),
		},
		Hostname: o.Hostname, Implementation: o.Implementation, Limits: o.Times, Logger: o.Logger,
	}}
	if !o.ImplicitTLS {
		s.pop3.TLSConfig = o.TLSConfig
	}
	return s
}

// Serve accepts connections until the listener fails or the server is closed; then it returns pop3.ErrServerClosed. It closes the
// listener.
func (s *Server) Serve(l net.Listener) error {
	options := guard.ListenerOptions{
		Limits: s.o.Connections, Gate: s.o.Gate, Logger: s.o.Logger, Refusal: refusal.Of(refusal.ConnectionsFull).POP3Line() + "\r\n",
		Plaintext: refusal.Of(refusal.ConnectionClear).POP3Line() + "\r\n", Sniff: s.o.Sniff, SniffTLS: s.o.TLSConfig, Proxies: s.o.Proxies,
		Known: s.o.Auth.Known, Handle: s.pop3.ServeConn,
	}
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
