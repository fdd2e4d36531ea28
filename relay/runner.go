package relay

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/internal/mtasts"
	"latchkey/store"
)

const (
	// storePause is how long the runner leaves a store alone that gave an error.
	storePause = 10 * time.Second
	// pressTime is how often slow attempts are looked at while destinations wait for a place.
	pressTime = time.Second
	// giveBackTime bounds the last words to the store at a stop.
	giveBackTime = 5 * time.Second
)

// Store is what the runner needs of the store.
type Store interface {
	Destinations(ctx context.Context, now time.Time, after string, limit int) ([]store.Destination, error)
	Lease(ctx context.Context, now time.Time, destination string, limit int, d time.Duration) ([]store.Job, error)
	OpenJob(ctx context.Context, id store.JobID) (io.ReadCloser, error)
	Finish(ctx context.Context, now time.Time, outcomes ...store.Outcome) (lost []store.JobID, err error)
	Return(ctx context.Context, jobs ...store.Job) error
	Changed() <-chan struct{}
	NewDraft(ctx context.Context) (store.Draft, error)
	Resolve(ctx context.Context, addr mailaddr.Address) (store.Route, error)
	Settings(ctx context.Context) (store.Settings, error)
	Secrets
}

// Options make a Runner.
type Options struct {
	Store    Store
	Resolver Resolver
	// Hostname is this server's name in EHLO and in reports. A mail exchanger of that name is this server.
	Hostname string
	// Smarthost, if there is one, gets all mail; otherwise the mail exchangers of each recipient's domain do.
	Smarthost *Smarthost
	// AllowNetworks are networks for mail although they are private, loopback or the like.
	AllowNetworks []netip.Prefix
	// Own reports whether one of our own listeners answers at an address. Mail is never sent there, named or not.
	Own func(netip.AddrPort) bool
	// Port is 25 unless a laboratory says otherwise.
	Port uint16
	// TLS is the base of the configuration for connections; nil is fine. The server name, the least version (1.2) and whether the
	// certificate counts are set for each.
	TLS *tls.Config
	// NoTLSReports sends no reports of TLS (RFC 8460), and counts nothing for them.
	NoTLSReports bool
	// Failed is told of each delivery that was given up, once that is kept, with the mailbox that sent it, 0 for none. nil: nobody is.
	Failed func(ctx context.Context, submitter store.AccountID)
	// Dial makes connections; a net.Dialer's unless a test says otherwise.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Logger *slog.Logger
	// Now is time.Now unless a test says otherwise: the clock of the retry schedule. Time-outs of connections go by the real clock.
	Now func() time.Time
	// Rand returns numbers in [0,1) for the jitter of the schedule.
	Rand   func() float64
	Limits Limits
}

// Runner sends what the queue holds. One Run at a time.
type Runner struct {
	opts      Options
	log       *slog.Logger
	limits    Limits
	targets   *targets
	opener    *opener
	smartHost string
	smartPort uint16
	smartDoor door
	// sts knows the policies of domains.
	sts *stsKeeper
	// counter counts what became of TLS.
	counter *tlsCounter
	// backoff knows the routes that are out of reach.
	backoff *memory
	// connecting and transferring hold a token for each worker in that phase.
	connecting, transferring chan struct{}
	// poke asks for another look at the destinations.
	poke chan struct{}
	// workers are waited for at the end of Run.
	workers sync.WaitGroup

	mu sync.Mutex // protects what follows
	// active are the routes that are being worked on; at most as many as there are tokens.
	active map[route]*activity
	// troubled is when the store last gave an error.
	troubled time.Time
	// halt ends the run, because outcomes cannot be kept any more; fatal is why.
	halt  context.CancelFunc
	fatal error
}

// activity is what goes on for one route.
type activity struct{ workers, connected int }

// New returns a runner that does nothing yet. An error says what is wrong with the smarthost.
func New(o Options) (*Runner, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Port == 0 {
		o.Port = 25
	}
	r := &Runner{
		opts: o, log: o.Logger.With("service", "relay"), limits: o.Limits.withDefaults(),
		targets: newTargets(o.AllowNetworks, o.Own, o.Port),
		backoff: newMemory(maxRemembered), poke: make(chan struct{}, 1), active: map[route]*activity{},
	}
	r.opener = &opener{
		hostname: o.Hostname, limits: r.limits, dial: o.Dial, tls: o.TLS, hurry: newHurry(), plain: newMemory(maxRemembered), note: r.tlsResult,
	}
	policies := &mtasts.Fetcher{Dial: r.dialPolicyHost, TLS: o.TLS}
	r.counter = newTLSCounter(o.Store, o.Now, r.log)
	r.sts = newSTSKeeper(o.Store, o.Resolver, policies.Fetch, o.Now, r.log)
	r.connecting = make(chan struct{}, r.limits.Connecting)
	r.transferring = make(chan struct{}, r.limits.Transferring)
	if o.Smarthost != nil {
		var err error
		if r.smartHost, r.smartPort, r.smartDoor, err = o.Smarthost.prepare(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Run sends until stop ends. Then nothing new is begun: connections that are being made are given up, transactions under way may
// finish until abort ends, and what is left is cut off. Every lease is given back and every goroutine waited for before it returns.
// The error is nil after a stop. Otherwise the run ended by itself, because the store can keep no outcome until the process is started
// again: store.ErrPoisoned or store.ErrClosed.
func (r *Runner) Run(stop, abort context.Context) error {
	stop, halt := context.WithCancel(stop)
	r.mu.Lock()
	r.halt, r.fatal = halt, nil
	r.mu.Unlock()
	defer func() {
		halt()
		r.workers.Wait()
	}()
	r.workers.Go(func() { r.tlsChores(stop) })
	cursor := ""
	for {
		changed := r.opts.Store.Changed()
		began := time.Now()
		look, err := r.scan(stop, abort, cursor)
		cost := time.Since(began)
		switch {
		case stop.Err() != nil:
			return r.whyEnded()
		case err != nil:
			r.trouble("looking for destinations", err)
			look = sight{next: r.opts.Now().Add(storePause)}
		}
		cursor = look.cursor
		if !r.wait(stop, changed, look) {
			return r.whyEnded()
		}
		// A look costs more the more destinations there are: it may take a tenth of the time, not all of it.
		if !sleep(stop, max(r.limits.Rescan, 10*cost)-time.Since(began)) {
			return r.whyEnded()
		}
	}
}

// wait waits until there is a reason to look again; false is the stop.
func (r *Runner) wait(stop context.Context, changed <-chan struct{}, look sight) bool {
	var timer <-chan time.Time
	if !look.next.IsZero() {
		t := time.NewTimer(look.next.Sub(r.opts.Now()))
		defer t.Stop()
		timer = t.C
	}
	var press <-chan time.Time
	if look.crowded {
		t := time.NewTicker(pressTime)
		defer t.Stop()
		press = t.C
	}
	for {
		select {
		case <-stop.Done():
			return false
		case <-changed:
		case <-r.poke:
		case <-timer:
		case <-press:
			r.opener.hurry.press()
			continue
		}
		return true
	}
}

// sleep waits for a time; false is the end of ctx.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// sight is what a look at the destinations showed.
type sight struct {
	// next is the earliest moment when a destination becomes due, zero for none.
	next time.Time
	// crowded is set when destinations are due and all places taken; cursor is where to go on then.
	crowded bool
	cursor  string
}

// scan looks at all destinations and starts workers for those that are due, from the cursor on and then from the beginning, so that
// each gets its turn.
func (r *Runner) scan(stop, abort context.Context, cursor string) (sight, error) {
	now := r.opts.Now()
	var look sight
	err := r.scanRange(stop, abort, now, cursor, "", &look)
	if err == nil && !look.crowded && cursor != "" {
		err = r.scanRange(stop, abort, now, "", cursor, &look)
	}
	return look, err
}

// scanRange looks at the destinations behind after, up to last unless that is empty.
func (r *Runner) scanRange(stop, abort context.Context, now time.Time, after, last string, look *sight) error {
	for {
		page, err := r.opts.Store.Destinations(stop, now, after, r.limits.Page)
		if err != nil {
			return err
		}
		for _, d := range page {
			if last != "" && d.Domain > last {
				return nil
			}
			switch {
			case d.Due.After(now):
				if look.next.IsZero() || d.Due.Before(look.next) {
					look.next = d.Due
				}
			case !r.start(stop, abort, r.routeOf(d.Domain)):
				look.crowded, look.cursor = true, after
				return nil
			}
			after = d.Domain
		}
		if len(page) < r.limits.Page {
			return nil
		}
	}
}

func (r *Runner) routeOf(domain string) route {
	if r.opts.Smarthost != nil {
		return route{}
	}
	return route{domain: domain}
}

// start begins a worker for a route, unless it has enough of them, or one that does not know yet whether there is anybody. False means
// that all places are taken.
func (r *Runner) start(stop, abort context.Context, to route) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.active[to]
	if a != nil && (a.workers >= r.limits.PerDestination || a.workers > a.connected) {
		return true
	}
	select {
	case r.connecting <- struct{}{}:
	default:
		return false
	}
	if a == nil {
		a = &activity{}
		r.active[to] = a
	}
	a.workers++
	w := &worker{r: r, stop: stop, abort: abort, to: to, place: r.connecting}
	r.workers.Go(w.run)
	return true
}

// pokeRunner asks for another look.
func (r *Runner) pokeRunner() {
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

// trouble notes an error of the store.
func (r *Runner) trouble(doing string, err error) {
	logStore(r.log, doing, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.troubled = r.opts.Now()
	if fatal(err) {
		// What is delivered now could not be noted, and would be delivered again.
		r.fatal = err
		r.halt()
	}
}

// whyEnded returns why the run ends: nil for a stop.
func (r *Runner) whyEnded() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fatal
}

// afterTrouble waits until the store may be asked again; false is the stop.
func (r *Runner) afterTrouble(stop context.Context) bool {
	r.mu.Lock()
	left := r.troubled.Add(storePause).Sub(r.opts.Now())
	r.mu.Unlock()
	return sleep(stop, left)
}
