package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/internal/refusal"
	"latchkey/internal/srs"
	"latchkey/store"
)

const (
	// maxLine bounds a line, of a command and of a message: the longest line of mail that is seen in the wild, and what one client can
	// make us keep. AUTH lines must have 12,288 octets (RFC 4954 §4).
	maxLine = 64 << 10
	// abortGrace is how long a forced stop waits for work that was cancelled.
	abortGrace = 2 * time.Second
)

// ErrServerClosed is returned by Serve after Shutdown or Close.
var ErrServerClosed = errors.New("smtp: server closed")

// Store is what the service needs of the store.
type Store interface {
	Account(ctx context.Context, id store.AccountID) (store.Account, error)
	Device(ctx context.Context, account store.AccountID, id store.DeviceID) (store.Device, error)
	Resolve(ctx context.Context, addr mailaddr.Address) (store.Route, error)
	LentTo(ctx context.Context, addr mailaddr.Address) ([]store.AccountID, error)
	Reserve(ctx context.Context, account store.AccountID, octets int64) (store.ReservationID, error)
	Unreserve(ids ...store.ReservationID)
	NewDraft(ctx context.Context) (store.Draft, error)
	Room(ctx context.Context) error
	Settings(ctx context.Context) (store.Settings, error)
	AddStat(ctx context.Context, day store.Day, name string, n int64) error
	Suppression(ctx context.Context, address mailaddr.Address) (store.Suppression, error)
	Take(ctx context.Context, now time.Time, key string, cost int64, l store.Limit) (store.Taken, error)
	KnownHabits(ctx context.Context, account store.AccountID, kind store.HabitKind, names ...string) ([]store.Habit, error)
	ClaimHabit(ctx context.Context, seen store.Habit, apart time.Duration) (claimed bool, err error)
}

// Authenticator is what the service needs of auth: *auth.Authenticator.
type Authenticator interface {
	Login(ctx context.Context, a auth.Attempt, username, password string) (auth.Identity, error)
	CleartextAllowed(ctx context.Context, remote netip.Addr) bool
	ArrivedInClear(a auth.Attempt, username, password string)
	Current(ctx context.Context, id auth.Identity) error
	CurrentDevice(ctx context.Context, id auth.Identity, remote netip.Addr) (store.Device, error)
}

// Grants is what the service needs of POP before SMTP: *guard.Grants.
type Grants interface {
	Live(ctx context.Context, p guard.Place, accounts []store.AccountID) ([]store.Grant, error)
	Current(ctx context.Context, p guard.Place, grant store.Grant) (bool, error)
	Why(ctx context.Context, p guard.Place, account store.AccountID) (guard.NoGrant, error)
	Spend(ctx context.Context, id store.GrantID, n int) (ok bool, err error)
	Refund(ctx context.Context, id store.GrantID, n int) error
	Await(ctx context.Context, p guard.Place, account store.AccountID, mailbox string, present func() bool) (store.Grant, bool, error)
}

// Sending is what the service needs of the budgets: *guard.Sending.
type Sending interface {
	Take(ctx context.Context, b guard.Budget, n int64) (ok bool, retryAfter time.Duration, err error)
	Give(ctx context.Context, b guard.Budget, n int64) error
}

// Strangers counts over all connections what clients without a login do: *guard.Strangers.
type Strangers interface {
	Relayed(now time.Time, remote netip.Addr) (end bool)
	Asked(now time.Time, remote netip.Addr) guard.Ask
	Accepted(now time.Time, remote netip.Addr, n int, mailboxes ...store.AccountID)
	Receives(now time.Time, mailbox store.AccountID) bool
	Blocked(now time.Time, remote netip.Addr) (until time.Time, blocked bool)
}

// Conduct is what the service needs to know of how a mailbox usually sends: *guard.Conduct.
type Conduct interface {
	Judge(ctx context.Context, m guard.Outgoing) (*guard.Opinion, error)
	Refused(ctx context.Context, account store.AccountID)
}

// Hosts is what the service needs to know of addresses: *guard.Hosts.
type Hosts interface {
	Eligible(p guard.Place) bool
}

// OldClients says who may use a door for old clients: *guard.OldClients.
type OldClients interface {
	Allowed(ctx context.Context, remote netip.Addr, account store.AccountID) (bool, error)
}

// Challenges are the SASL mechanisms that carry no password.
type Challenges interface {
	// Mechanisms lists the names of those that a connection should be offered, in capitals, in the order in which they come behind PLAIN and
	// LOGIN. state is nil without TLS.
	Mechanisms(ctx context.Context, at auth.Attempt, state *tls.ConnectionState) []string
	// Begin begins an exchange of at.Mechanism, one of them. The server that it returns calls proved once, when it knows who the client is and
	// before it is done, and hands the error of that on. What it has to say last it says as a challenge, to which the client answers with
	// nothing: a success carries no data here (RFC 4954 §4). Its other errors are those of auth.Login, auth.ErrBinding, and
	// sasl.ErrUnexpectedClientResponse for what is out of form.
	Begin(ctx context.Context, at auth.Attempt, state *tls.ConnectionState, proved func(auth.Identity) error) (sasl.Server, error)
}

// Inventory is told which clients log in: *maildrop.Inventory.
type Inventory interface {
	// Note is called once for each successful login. It must not block.
	Note(c store.Client)
}

// Options make a Server.
type Options struct {
	// Door is MX or Submission.
	Door Door
	// ImplicitTLS begins every connection with a TLS handshake (RFC 8314 §3.3); otherwise STARTTLS is offered if there is a TLSConfig.
	ImplicitTLS bool
	Store       Store
	Auth        Authenticator
	// Sending counts recipients outside the domain; nil: nobody sends there.
	Sending Sending
	// Conduct puts mail on hold; nil: none is.
	Conduct Conduct
	// Grants are those of POP before SMTP; nil: there are none.
	Grants Grants
	// Hosts knows which addresses are a client's own; nil: none, so that no network is trusted.
	Hosts Hosts
	// Loopback is set when the listener is bound to a loopback address; see [guard.Place].
	Loopback bool
	// Hostname is this server's name in the greeting, Received lines and message ids.
	Hostname  string
	TLSConfig *tls.Config
	Logger    *slog.Logger
	// Now is time.Now unless a test says otherwise. Time-outs of connections go by the real clock.
	Now    func() time.Time
	Limits Limits
	// Connections bound the listeners, Gate counts their connections together with those of other doors; nil: each listener counts alone.
	Connections guard.ConnLimits
	Gate        *guard.Gate
	// Known reports whether somebody logged in from an address lately; see [guard.ListenerOptions]. nil knows nobody.
	Known func(netip.Addr) bool
	// Strangers counts what clients without a login do, and keeps those from the MX door that try to relay; nil: each session counts alone.
	Strangers Strangers
	// Sniff serves a client that begins with TLS on a door that starts in the clear as ImplicitTLS would, and marks clients that speak before
	// they are greeted; see [guard.ListenerOptions].
	Sniff bool
	// Proxies are addresses from which clients come through a proxy; see [guard.ListenerOptions].
	Proxies []netip.Prefix
	// OldClients makes this a door for old clients: it takes passwords in the clear, shows AUTH in the old form too, and has the mailbox
	// asked for after each login. nil for every other door. What TLS such a door speaks, TLSConfig says.
	OldClients OldClients
	// Challenges are the SASL mechanisms that carry no password; nil: there are none.
	Challenges Challenges
	// Refusals remembers what was refused lately; nil: nobody does.
	Refusals *refusal.Recent
	// Tally counts the messages that are accepted; nil counts nothing.
	Tally *store.Tally
	// Subjects makes of a subject what the trail keeps of it; zero: nothing.
	Subjects store.SubjectKey
	// SRS makes the reverse-paths of mail that is sent on; nil: none is, and it stays in the mailboxes.
	SRS *srs.Rewriter
	// Inventory is told of logins, and Name is what the door is called there; nil: nobody is told.
	Inventory Inventory
	Name      string
}

// Server is one door of the service, on any number of listeners.
type Server struct {
	opts   Options
	log    *slog.Logger
	limits Limits
	reg    *registry
	// ctx ends when the server is closed by force.
	ctx    context.Context
	cancel context.CancelFunc
	conns  atomic.Uint64
	// serves are the calls of Serve, engines what they hand connections to.
	serves, engines sync.WaitGroup
	intakes         sync.Pool // of *intake

	mu        sync.Mutex // protects what follows
	closed    bool
	listeners map[net.Listener]struct{}
	engine    *engine
}

// New returns a server that serves nothing yet.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		opts: o, limits: o.Limits.withDefaults(o.Door), reg: newRegistry(), listeners: make(map[net.Listener]struct{}),
		log: o.Logger.With(slog.String("service", "smtp"), slog.String("door", string(o.Door))),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Serve accepts connections on raw, which it closes in the end, until Shutdown or Close; then it returns ErrServerClosed.
func (s *Server) Serve(raw net.Listener) error {
	lo := guard.ListenerOptions{
		Wrap: s.wrap, Limits: s.opts.Connections, Gate: s.opts.Gate, Known: s.opts.Known, Proxies: s.opts.Proxies, Logger: s.log,
		Refusal: s.farewell(refusal.ConnectionsFull), Plaintext: s.farewell(refusal.ConnectionClear),
	}
	if s.opts.ImplicitTLS {
		lo.TLS = s.opts.TLSConfig
	} else {
		lo.Sniff, lo.SniffTLS = s.opts.Sniff, s.opts.TLSConfig
	}
	if s.opts.Door == MX {
		lo.Early, lo.Bar = s.farewell(refusal.ConnectionEarly), s.bar
	}
	l := guard.NewListener(raw, lo)
	if !s.addListener(l) {
		return errors.Join(ErrServerClosed, l.Close())
	}
	defer s.serves.Done()
	for {
		c, err := l.Accept()
		if err != nil {
			if s.removeListener(l) {
				return ErrServerClosed
			}
			return errors.Join(fmt.Errorf("smtp: accept: %w", err), l.Close())
		}
		if err := s.hand(c); err != nil {
			s.log.Error("connection dropped", "err", err)
			_ = c.Close() // it was not served
		}
	}
}

// bar says of a client whether it is kept from this door.
func (s *Server) bar(remote netip.Addr) (line string, barred bool) {
	if s.opts.Strangers == nil {
		return "", false
	}
	now := s.opts.Now()
	until, blocked := s.opts.Strangers.Blocked(now, remote)
	if !blocked {
		return "", false
	}
	facts := refusal.Facts{Remote: remote, Wait: until.Sub(now)}
	if settings, err := s.opts.Store.Settings(s.ctx); err == nil {
		facts.Help = settings.HelpURL
	}
	return s.inPlaceOfGreeting(refuse(refusal.ConnectionBlocked).with(facts)), true
}

// farewell is a refusal in place of the greeting.
func (s *Server) farewell(name refusal.Name) string { return s.inPlaceOfGreeting(refuse(name)) }

func (s *Server) inPlaceOfGreeting(why *refused) string {
	r := replyFor(why)
	return fmt.Sprintf("%d %d.%d.%d %s %s\r\n", r.Code, r.EnhancedCode[0], r.EnhancedCode[1], r.EnhancedCode[2], s.opts.Hostname, r.Message)
}

func (s *Server) addListener(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.listeners[l] = struct{}{}
	s.serves.Add(1)
	return true
}

// removeListener reports whether the server is closed.
func (s *Server) removeListener(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
	return s.closed
}

// wrap puts the wire under a new connection.
func (s *Server) wrap(c net.Conn) net.Conn {
	w := newWire(s.ctx, c, s.limits, s.reg)
	if !s.reg.add(w) {
		_ = w.abort() // the server is stopping
	}
	return w
}

// hand gives a connection to go-smtp, under the settings as they are now.
func (s *Server) hand(c net.Conn) error {
	w, secure := wireOf(c)
	if w == nil {
		return errors.New("smtp: connection without a wire")
	}
	for adopted := false; ; adopted = true {
		e, err := s.currentEngine()
		if err != nil {
			return err
		}
		if !adopted {
			w.adopt(secure)
		}
		if e.give(c) {
			return nil
		}
		// The settings changed meanwhile: there is a new engine.
	}
}

// wireOf finds the wire of a connection, below TLS if there is TLS.
func wireOf(c net.Conn) (w *wire, secure bool) {
	if t, ok := c.(*tls.Conn); ok {
		c, secure = t.NetConn(), true
	}
	w, _ = c.(*wire)
	return w, secure
}

// Shutdown stops accepting, lets idle clients go with 421 and open transactions finish. When ctx ends first, what is left is cut off and
// ctx's error returned.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.closeListeners()
	s.reg.drain()
	if waitErr := s.reg.wait(ctx); waitErr != nil {
		return errors.Join(err, waitErr, s.abort())
	}
	s.stopEngine()
	s.cancel()
	return err
}

// Close cuts everything off at once. It works after Shutdown too, and any number of times.
func (s *Server) Close() error {
	return errors.Join(s.closeListeners(), s.abort())
}

// abort cuts off what is left and gives cancelled work a moment to end.
func (s *Server) abort() error {
	s.cancel()
	s.reg.abort()
	s.stopEngine()
	ctx, cancel := context.WithTimeout(context.Background(), abortGrace)
	defer cancel()
	if err := s.reg.wait(ctx); err != nil {
		return fmt.Errorf("smtp: work goes on after close: %w", err)
	}
	return nil
}

func (s *Server) closeListeners() error {
	s.mu.Lock()
	s.closed = true
	listeners := make([]net.Listener, 0, len(s.listeners))
	for l := range s.listeners {
		listeners = append(listeners, l)
	}
	s.mu.Unlock()
	var errs []error
	for _, l := range listeners {
		errs = append(errs, ignoreClosed(l.Close()))
	}
	s.serves.Wait()
	return errors.Join(errs...)
}

// engine is a go-smtp server for one version of the settings. go-smtp reads its fields without a lock, so a change of settings makes
// another one; connections that are open keep theirs, and every decision asks the settings anyway.
type engine struct {
	version uint64
	conns   chan net.Conn
	done    chan struct{}
}

func (s *Server) currentEngine() (*engine, error) {
	settings, err := s.opts.Store.Settings(s.ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine != nil && s.engine.version == settings.Version {
		return s.engine, nil
	}
	if s.engine != nil {
		close(s.engine.done)
	}
	s.engine = &engine{version: settings.Version, conns: make(chan net.Conn), done: make(chan struct{})}
	e, library := s.engine, s.library(settings)
	s.engines.Go(func() { s.run(e, library) })
	return e, nil
}

// run serves an engine until it is done.
func (s *Server) run(e *engine, library *gosmtp.Server) {
	if err := library.Serve(e); !errors.Is(err, net.ErrClosed) {
		s.log.Error("serving ended", "err", err)
	}
}

// stopEngine ends the present engine and waits for it and those before it. Nothing listens any more, so no other is begun.
func (s *Server) stopEngine() {
	s.mu.Lock()
	if s.engine != nil {
		close(s.engine.done)
		s.engine = nil
	}
	s.mu.Unlock()
	s.engines.Wait()
}

// library sets up go-smtp.
func (s *Server) library(settings store.Settings) *gosmtp.Server {
	g := gosmtp.NewServer(gosmtp.BackendFunc(s.newSession))
	g.Domain = s.opts.Hostname
	if !s.opts.ImplicitTLS {
		g.TLSConfig = s.opts.TLSConfig
	}
	// Deviation: SIZE announces one octet too many, because go-smtp refuses a message of exactly its limit. The real limit is enforced
	// in MAIL and in the reader of the message.
	g.MaxMessageBytes = settings.MessageSize + 1
	g.MaxRecipients = settings.Recipients
	g.MaxLineLength = maxLine
	// AUTH in the clear is refused by the session: go-smtp's own code for it is not the one of RFC 4954 §6.
	g.AllowInsecureAuth = true
	// The wire ignores these deadlines; go-smtp wants them set.
	g.ReadTimeout, g.WriteTimeout = s.limits.Session, s.limits.Session
	g.EnableSMTPUTF8, g.EnableDSN = true, true
	g.EnableREQUIRETLS = s.opts.OldClients == nil // offered under TLS only; TLS 1.0 is not what its senders mean
	g.ErrorLog = libraryLog{s.log}
	return g
}

// give hands a connection over; false means that the engine was replaced meanwhile.
func (e *engine) give(c net.Conn) bool {
	select {
	case e.conns <- c:
		return true
	case <-e.done:
		return false
	}
}

// Accept makes an engine the listener of its go-smtp server.
func (e *engine) Accept() (net.Conn, error) {
	select {
	case c := <-e.conns:
		return c, nil
	case <-e.done:
		return nil, net.ErrClosed
	}
}

// Close does nothing: stopEngine ends an engine.
func (e *engine) Close() error { return nil }

// Addr has no meaning here.
func (e *engine) Addr() net.Addr { return &net.TCPAddr{} }

// libraryLog takes what go-smtp has to say: errors of connections, and panics that the session did not catch.
type libraryLog struct{ log *slog.Logger }

func (l libraryLog) Printf(format string, v ...any) {
	l.log.Info("connection ended with an error", "detail", fmt.Sprintf(format, v...))
}

func (l libraryLog) Println(v ...any) {
	l.log.Info("connection ended with an error", "detail", fmt.Sprintln(v...))
}
