package relay

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/internal/mtasts"
	"latchkey/store"
)

const (
	// maxSessions bounds the TLS sessions that are kept for the next connection to a host.
	maxSessions = 256
	// storePause is how long the runner leaves a store alone that gave an error.
	storePause = 10 * time.Second
	// pressTime is how often slow attempts are looked at while destinations wait for a place.
	pressTime = time.Second
	// giveBackTime bounds the last words to the store at a stop.
	giveBackTime = 5 * time.Second
)

// Store is what the runner needs of the store.
type Store interface {
	Destinations(ctx context.Context, now time.Time, after store.Destination, limit int) ([]store.Destination, error)
	Lease(ctx context.Context, now time.Time, submitter store.AccountID, domain string, limit int, d time.Duration) ([]store.Job, error)
	Fresh() (list []store.Destination, more bool)
	OpenJob(ctx context.Context, id store.JobID) (io.ReadCloser, error)
	Finish(ctx context.Context, now time.Time, outcomes ...store.Outcome) (lost []store.JobID, err error)
	Return(ctx context.Context, jobs ...store.Job) error
	Changed() <-chan struct{}
	NewDraft(ctx context.Context) (store.Draft, error)
	Resolve(ctx context.Context, addr mailaddr.Address) (store.Route, error)
	Settings(ctx context.Context) (store.Settings, error)
	NoteFailures(ctx context.Context, failures []store.Failure) error
	Take(ctx context.Context, now time.Time, key string, cost int64, l store.Limit) (store.Taken, error)
	MessageTrail(ctx context.Context, id store.MessageID) ([]store.TrailEvent, error)
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
	// Routes come before that: the first that takes a destination and a sender counts. At most MaxRoutes.
	Routes []Route
	// Sources are the addresses of this host from which mail leaves; a family without any is left to the system.
	Sources []Source
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
	// Tally counts what became of deliveries; nil counts nothing.
	Tally *store.Tally
	// Signer signs mail that is the domain's own; nil signs nothing.
	Signer Signer
	// Sealer seals mail of others that is sent on; nil seals nothing.
	Sealer Sealer
	// Dial makes TCP connections from an address, or any if that is not valid; a net.Dialer's unless a test says otherwise.
	Dial   func(ctx context.Context, from netip.Addr, address string) (net.Conn, error)
	Logger *slog.Logger
	// Now is time.Now unless a test says otherwise: the clock of the retry schedule. Time-outs of connections go by the real clock.
	Now func() time.Time
	// Rand returns numbers in [0,1) for the jitter of the schedule.
	Rand   func() float64
	Limits Limits
}

// Runner sends what the queue holds. One Run at a time.
type Runner struct {
	opts    Options
	log     *slog.Logger
	limits  Limits
	targets *targets
	opener  *opener
	rules   []rule
	smarts  []smart
	// sts knows the policies of domains.
	sts *stsKeeper
	// policies fetches them.
	policies *mtasts.Fetcher
	// counter counts what became of TLS.
	counter *tlsCounter
	// backoff knows the routes that are out of reach.
	backoff    *memory
	hosts      *hosts
	providers  *providers
	signatures *signatures
	joins      joins
	// connecting and transferring have a place for each worker in that phase.
	connecting, transferring *places
	// poke asks for another look at the destinations.
	poke chan struct{}
	// workers are waited for at the end of Run.
	workers sync.WaitGroup

	mu sync.Mutex // protects what follows
	// active are the routes that are being worked on; at most as many as there are places, and workers that wait for a host's slot.
	active map[route]*activity
	agenda *agenda
	// queued counts workers that wait for a host's slot.
	queued int
	// senders are the mailboxes of the addresses that routes name, until a moment.
	senders      map[mailaddr.Address]store.AccountID
	sendersUntil time.Time
	// troubled is when the store last gave an error.
	troubled time.Time
	// stopped is closed at the stop of the run.
	stopped <-chan struct{}
	// halt ends the run, because outcomes cannot be kept any more; fatal is why.
	halt  context.CancelFunc
	fatal error
}

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
		o.Dial = dialFrom
	}
	if o.Port == 0 {
		o.Port = 25
	}
	o.TLS = resuming(o.TLS)
	r := &Runner{
		opts: o, log: o.Logger.With("service", "relay"), limits: o.Limits.withDefaults(),
		targets: newTargets(o.AllowNetworks, o.Own, o.Port),
		backoff: newMemory(maxRemembered), poke: make(chan struct{}, 1), active: map[route]*activity{}, agenda: newAgenda(),
		signatures: newSignatures(),
	}
	r.providers = newProviders()
	r.hosts = newHosts(r.limits.PerDestination)
	r.opener = &opener{
		hostname: o.Hostname, limits: r.limits, dial: o.Dial, tls: o.TLS, hurry: newHurry(), plain: newMemory(maxRemembered), sources: o.Sources,
		note: r.tlsResult,
	}
	r.policies = &mtasts.Fetcher{Dial: r.dialPolicyHost, TLS: o.TLS}
	r.counter = newTLSCounter(o.Store, o.Now, r.log)
	r.sts = newSTSKeeper(o.Store, o.Resolver, r.policies.Fetch, o.Now, r.log)
	r.connecting = newPlaces(r.limits.Connecting, true)
	r.transferring = newPlaces(r.limits.Transferring, true)
	if err := r.setRoutes(&o); err != nil {
		return nil, err
	}
	return r, nil
}

// FetchPolicy gets the MTA-STS policy that a domain serves now, as it is got before mail is sent there; nothing is kept of it. The errors are those
// of mtasts.Fetcher.
func (r *Runner) FetchPolicy(ctx context.Context, domain string) (mtasts.Policy, error) {
	return r.policies.Fetch(ctx, domain)
}

// resuming is a TLS configuration that keeps sessions, so that the next handshake with a host is a short one. A session whose certificate
// was not verified is not resumed where it has to be: crypto/tls looks at that.
func resuming(base *tls.Config) *tls.Config {
	c := &tls.Config{}
	if base != nil {
		c = base.Clone()
	}
	if c.ClientSessionCache == nil {
		c.ClientSessionCache = tls.NewLRUClientSessionCache(maxSessions)
	}
	return c
}

// Run sends until stop ends. Then nothing new is begun: connections that are being made are given up, transactions under way may
// finish until abort ends, and what is left is cut off. Every lease is given back and every goroutine waited for before it returns.
// The error is nil after a stop. Otherwise the run ended by itself, because the store can keep no outcome until the process is started
// again: store.ErrPoisoned or store.ErrClosed.
func (r *Runner) Run(stop, abort context.Context) error {
	stop, halt := context.WithCancel(stop)
	r.mu.Lock()
	r.halt, r.fatal, r.stopped = halt, nil, stop.Done()
	r.mu.Unlock()
	r.joins.stop(false)
	defer func() {
		halt()
		r.joins.stop(true)
		r.workers.Wait()
		old, _ := r.hosts.expire(time.Now(), true)
		r.hangUp(old)
		r.workers.Wait()
	}()
	r.workers.Go(func() { r.tlsChores(stop) })
	var scanned time.Time // when the next look at the store is allowed
	for {
		changed := r.opts.Store.Changed()
		if err := r.learnSenders(stop); err != nil && stop.Err() == nil {
			r.trouble("looking for the mailboxes of routes", err)
		}
		r.note(r.opts.Store.Fresh())
		woke := time.Now()
		var retry time.Time
		if r.wantsScan() && !woke.Before(scanned) {
			err := r.scan(stop)
			if stop.Err() == nil && err != nil {
				r.trouble("looking for destinations", err)
				retry = r.opts.Now().Add(storePause)
				r.note(nil, true)
			}
			// A look costs more the more destinations there are: it may take a tenth of the time, not all of it.
			scanned = time.Now().Add(max(r.limits.Rescan, 10*time.Since(woke)))
			if !retry.IsZero() {
				scanned = time.Now().Add(storePause)
			}
		}
		crowded := r.begin(stop, abort)
		if stop.Err() != nil || !r.wait(stop, changed, scanned, crowded) {
			return r.whyEnded()
		}
		if !sleep(stop, r.limits.Wake-time.Since(woke)) {
			return r.whyEnded()
		}
	}
}

// note takes up where jobs have become due; more says that there are others too.
func (r *Runner) note(fresh []store.Destination, more bool) {
	now := r.opts.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.agenda.stale = r.agenda.stale || more
	for _, d := range fresh {
		if d.Due.After(now) {
			r.agenda.line(d.Submitter).later(d.Due)
		} else {
			r.offer(d)
		}
	}
}

// offer gives a destination that is due to those who work on its route already, or puts it in its line. False means that the line is
// full. r.mu is held.
func (r *Runner) offer(d store.Destination) bool {
	if a := r.active[r.routeOf(d)]; a != nil && !a.startable(d.Submitter) && a.join(d) {
		return true
	}
	return r.agenda.line(d.Submitter).add(d)
}

func (r *Runner) wantsScan() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.agenda.wants(r.opts.Now())
}

// wait waits until there is a reason to look again; false is the stop.
func (r *Runner) wait(stop context.Context, changed <-chan struct{}, scanned time.Time, crowded bool) bool {
	var due <-chan time.Time
	if at, ok := r.nextLook(scanned); ok {
		t := time.NewTimer(time.Until(at))
		defer t.Stop()
		due = t.C
	}
	var press <-chan time.Time
	if crowded {
		t := time.NewTicker(pressTime)
		defer t.Stop()
		press = t.C
	}
	for {
		old, next := r.hosts.expire(time.Now(), false)
		r.hangUp(old)
		var idle <-chan time.Time
		if !next.IsZero() {
			idle = time.After(time.Until(next))
		}
		select {
		case <-stop.Done():
			return false
		case <-changed:
		case <-r.poke:
		case <-due:
		case <-idle:
			continue
		case <-press:
			r.opener.hurry.press()
			continue
		}
		return true
	}
}

// nextLook is when the store has to be looked at again by itself, not before the moment when that is allowed.
func (r *Runner) nextLook(scanned time.Time) (at time.Time, ok bool) {
	now := r.opts.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.agenda.wants(now) {
		return scanned, true
	}
	next := r.agenda.next()
	if next.IsZero() {
		return at, false
	}
	at = time.Now().Add(next.Sub(now))
	if at.Before(scanned) {
		at = scanned
	}
	return at, true
}

// hangUp ends connections that waited, and gives their slots back.
func (r *Runner) hangUp(old []*link) {
	for _, l := range old {
		r.workers.Go(func() {
			l.close()
			l.at.slots.give(closer)
		})
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

// scan looks at the destinations in the store: at those of each mailbox about which something may have changed, or its line has room again.
func (r *Runner) scan(stop context.Context) error {
	now := r.opts.Now()
	r.mu.Lock()
	whole := r.agenda.stale
	r.agenda.stale = false
	r.mu.Unlock()
	after := store.Destination{}
	for {
		first, err := r.opts.Store.Destinations(stop, now, after, 1)
		if err != nil {
			return err
		}
		if len(first) == 0 {
			break
		}
		submitter := first[0].Submitter
		r.mu.Lock()
		l := r.agenda.line(submitter)
		l.seen = true
		look := whole || l.wants(now)
		r.mu.Unlock()
		if look {
			if err := r.scanLine(stop, now, l); err != nil {
				return err
			}
		}
		if submitter+1 == 0 {
			break
		}
		after = store.Destination{Submitter: submitter + 1}
	}
	r.mu.Lock()
	r.agenda.tidy()
	r.mu.Unlock()
	return nil
}

// scanLine looks at the destinations of one mailbox, from where its line was full the last time and then from the beginning, so that each
// gets its turn.
func (r *Runner) scanLine(stop context.Context, now time.Time, l *line) error {
	r.mu.Lock()
	from := l.after
	l.more, l.after, l.next = false, "", time.Time{}
	r.mu.Unlock()
	full, err := r.scanRange(stop, now, l, from, "")
	if err == nil && !full && from != "" {
		_, err = r.scanRange(stop, now, l, "", from)
	}
	return err
}

// scanRange looks at the destinations of a mailbox behind one domain, up to another unless that is empty. full means that there was no
// room for all.
func (r *Runner) scanRange(stop context.Context, now time.Time, l *line, from, last string) (full bool, err error) {
	after := store.Destination{Submitter: l.submitter, Domain: from}
	for {
		page, err := r.opts.Store.Destinations(stop, now, after, r.limits.Page)
		if err != nil {
			return false, err
		}
		r.mu.Lock()
		for _, d := range page {
			if d.Submitter != l.submitter || last != "" && d.Domain > last {
				r.mu.Unlock()
				return false, nil
			}
			switch {
			case d.Due.After(now):
				l.later(d.Due)
			case !r.offer(d):
				l.more, l.after = true, after.Domain
				r.mu.Unlock()
				return true, nil
			}
			after = d
		}
		r.mu.Unlock()
		if len(page) < r.limits.Page {
			return false, nil
		}
	}
}

// begin starts workers for what is due, for one mailbox after another, as long as there are places. crowded means that some had to wait.
func (r *Runner) begin(stop, abort context.Context) (crowded bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for started := true; started; {
		started, crowded = false, false
		for _, l := range r.agenda.round(r.connecting.got) {
			d, ok := r.startable(l)
			if !ok {
				continue
			}
			if !r.connecting.tryTake(l.submitter) {
				crowded = true
				continue
			}
			l.due = slices.DeleteFunc(l.due, func(o store.Destination) bool { return o.Domain == d.Domain })
			r.agenda.last, started = l.submitter, true
			to := r.routeOf(d)
			if r.active[to] == nil {
				r.active[to] = &activity{owners: map[store.AccountID]int{}}
			}
			r.active[to].join(d)
			r.start(stop, abort, to, l.submitter)
		}
	}
	return crowded
}

// startable finds the first destination in a line that needs a worker. Those on whose route somebody works are left to them. r.mu is held.
func (r *Runner) startable(l *line) (found store.Destination, ok bool) {
	l.due = slices.DeleteFunc(l.due, func(d store.Destination) bool {
		a := r.active[r.routeOf(d)]
		if a == nil || a.startable(d.Submitter) {
			if !ok {
				found, ok = d, true
			}
			return false
		}
		return a.join(d)
	})
	return found, ok
}

// start begins a worker for a route, with a place among those that connect. r.mu is held.
func (r *Runner) start(stop, abort context.Context, to route, owner store.AccountID) {
	r.active[to].workers++
	r.active[to].owners[owner]++
	w := &worker{r: r, stop: stop, abort: abort, to: to, owner: owner, place: r.connecting}
	r.workers.Go(w.run)
}

// grow begins another worker for a route that goes well and has more to do, if the host takes another connection and there is a place.
func (r *Runner) grow(w *worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.active[w.to]
	if len(a.served) == 0 || a.workers >= r.limits.PerDestination || a.workers > a.connected || !w.link.at.slots.free() {
		return
	}
	if r.connecting.tryTake(w.owner) {
		r.start(w.stop, w.abort, w.to, w.owner)
	}
}

// turn returns the destination of a route whose turn it is.
func (r *Runner) turn(to route) (store.Destination, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.active[to].turn()
}

// newcomer returns a destination of a route whose mailbox a worker has no job of.
func (r *Runner) newcomer(to route, jobs []store.Job) (store.Destination, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	served := r.active[to].served
	if len(served) == 1 && len(jobs) > 0 && jobs[0].Submitter == served[0].Submitter {
		return store.Destination{}, false
	}
	for _, d := range served {
		if !slices.ContainsFunc(jobs, func(j store.Job) bool { return j.Submitter == d.Submitter }) {
			return d, true
		}
	}
	return store.Destination{}, false
}

// serves reports whether a destination is one that is served, so that there may be more in it.
func (r *Runner) serves(to route, d store.Destination) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.active[to]
	i := a.serves(d.Submitter)
	return i >= 0 && a.served[i].Domain == d.Domain
}

// exhausted notes that a destination has nothing more that is due, as far as a lease saw; another one of the same mailbox and route may take its
// place. What came since is found by noteNext.
func (r *Runner) exhausted(to route, d store.Destination) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.active[to]
	i := a.serves(d.Submitter)
	if i < 0 || a.served[i].Domain != d.Domain {
		return
	}
	a.served = slices.Delete(a.served, i, i+1)
	l := r.agenda.line(d.Submitter)
	if i := slices.IndexFunc(l.due, func(o store.Destination) bool { return r.routeOf(o) == to }); i >= 0 && a.join(l.due[i]) {
		l.due = slices.Delete(l.due, i, i+1)
	}
}

// later notes when a job is due again.
func (r *Runner) later(e ending) {
	if e.outcome.Kind == store.Deferred {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.agenda.line(e.job.Submitter).later(e.outcome.Next)
	}
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

// stopping is closed at the stop of the run.
func (r *Runner) stopping() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopped
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
