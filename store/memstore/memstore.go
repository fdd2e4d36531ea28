package memstore

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// Store is a store.Store in memory. Make one with [New].
type Store struct {
	d      *data
	closed bool // guarded by d.mu
}

var _ store.Store = (*Store)(nil)

// data is what would be on disk. Every Store of a chain of Reopen calls has the same one.
type data struct {
	// mu guards everything below, and the closed field of every Store on this data.
	mu     sync.Mutex
	now    func() time.Time // for events of verbs that are not told the time
	bounds bounds

	settings        store.Settings
	settingsChanged chan struct{}

	lastAccount store.AccountID
	lastDevice  store.DeviceID
	accounts    map[store.AccountID]*account
	names       map[string]store.AccountID
	aliases     map[string][]store.AccountID
	usage       store.Usage // of all accounts together
	reserved    store.Reserved

	lastMessage store.MessageID
	lastCopy    store.CopyID
	lastJob     store.JobID
	lastLease   store.LeaseToken
	drafts      int // those that are not settled
	bodies      map[store.MessageID]*body
	jobs        map[store.JobID]*job
	queue       chan struct{} // closed and replaced when jobs are added or due sooner
	fresh       store.Fresh   // where they were
	looked      bool          // somebody has asked for fresh

	secrets   map[string][]byte
	counters  map[string]*counter
	lastGrant store.GrantID
	grants    map[store.GrantID]*store.Grant
	sessions  map[[32]byte]store.WebSession
	lastAudit uint64
	audit     []store.AuditEntry
	stats     map[store.Day]map[string]int64
	lastTrail uint64
	trail     []store.TrailEvent
}

// bounds are the contract's, so that tests can reach them with less.
type bounds struct {
	counters, grants, accountGrants, webSessions, auditEntries, statNames, trailEvents, reservations int
}

// epoch is the first half of every unique-id. Memory is never restored from a backup, so it stays.
const epoch = 1

// account is an account with its maildrop.
type account struct {
	store.Account
	// copies ascend by id. Snapshots share the slice: it is only appended to, or replaced.
	copies  []*copied
	usage   store.Usage
	clients []store.Client
	devices []store.Device // in order of id
	habits  habits
}

// copied is one local copy. It never changes: when it was fetched, another one takes its place.
type copied struct {
	store.Message
	prefix    []byte
	body      *body
	sender    mailaddr.Address
	recipient mailaddr.Address
}

// body is a message's octets, shared by its copies and jobs. Only refs ever changes.
type body struct {
	octets []byte
	sum    uint32
	refs   int
}

// New returns the empty store of a domain in canonical form, with store.DefaultSettings.
func New(domain string) *Store {
	d := &data{
		now: time.Now,
		bounds: bounds{
			counters: store.MaxCounters, grants: store.MaxGrants, accountGrants: store.MaxAccountGrants, webSessions: store.MaxWebSessions,
			auditEntries: store.MaxAuditEntries, statNames: store.MaxStatNames, trailEvents: store.MaxTrailEvents,
			reservations: store.MaxReservations,
		},
		settings:        store.DefaultSettings(domain),
		settingsChanged: make(chan struct{}),
		accounts:        map[store.AccountID]*account{},
		names:           map[string]store.AccountID{},
		aliases:         map[string][]store.AccountID{},
		bodies:          map[store.MessageID]*body{},
		jobs:            map[store.JobID]*job{},
		queue:           make(chan struct{}),
		secrets:         map[string][]byte{},
		counters:        map[string]*counter{},
		grants:          map[store.GrantID]*store.Grant{},
		sessions:        map[[32]byte]store.WebSession{},
		stats:           map[store.Day]map[string]int64{},
	}
	d.settings.Version = 1
	return &Store{d: d}
}

// Reopen closes the store and opens its data again, as a new process would: leases, reservations and open drafts are gone, the rest is there.
func (s *Store) Reopen() *Store {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.closed = true
	s.d.drafts = 0
	s.d.fresh, s.d.looked = store.Fresh{}, false
	s.d.reserved = store.Reserved{}
	for _, j := range s.d.jobs {
		j.leasedUntil = time.Time{}
		j.Lease = 0
	}
	return &Store{d: s.d}
}

// Close implements store.Store. The data stays, for Reopen.
func (s *Store) Close() error {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.closed = true
	return nil
}

// begin is how every verb starts: it takes the lock, unless the verb is not to happen. end gives it back.
func (s *Store) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.d.mu.Lock()
	if s.closed {
		s.d.mu.Unlock()
		return store.ErrClosed
	}
	return nil
}

func (s *Store) end() { s.d.mu.Unlock() }

// release drops one reference to a message's body, and the body with the last.
func (d *data) release(id store.MessageID) {
	b := d.bodies[id]
	if b.refs--; b.refs == 0 {
		delete(d.bodies, id)
	}
}

// Check implements store.Store.
func (s *Store) Check(ctx context.Context) ([]store.Problem, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	c := checker{d: s.d, refs: map[store.MessageID]int{}}
	c.accounts()
	c.names()
	for id, j := range s.d.jobs {
		object := fmt.Sprintf("job %d", id)
		c.body(object, j.Message, j.Size)
		c.expect("job id", object, j.ID, id)
	}
	for id, g := range s.d.grants {
		object := "grant " + id.String()
		c.expect("grant id", object, g.ID == id && id <= s.d.lastGrant, true)
		c.expect("account of a grant", object, s.d.accounts[g.Account] != nil, true)
		c.expect("budget of a grant", object, g.Left >= 0 && g.Left <= g.Recipients, true)
	}
	for id, b := range s.d.bodies {
		object := fmt.Sprintf("message %s", id)
		c.expect("body references", object, b.refs, c.refs[id])
		c.expect("body checksum", object, crc32.ChecksumIEEE(b.octets), b.sum)
	}
	return c.problems, nil
}

// checker collects what does not hold together.
type checker struct {
	d        *data
	refs     map[store.MessageID]int
	problems []store.Problem
}

func (c *checker) expect(kind, object string, got, want any) {
	if got != want {
		c.problems = append(c.problems, store.Problem{Kind: kind, Object: object, Detail: fmt.Sprintf("found %v, expected %v", got, want)})
	}
}

func (c *checker) accounts() {
	seen := map[store.CopyID]bool{}
	var domain store.Usage
	for id, a := range c.d.accounts {
		object := fmt.Sprintf("account %d", id)
		c.expect("account id", object, a.ID, id)
		c.expect("account name", object, c.d.names[a.Name], id)
		c.expect("sealed password", object, a.Sealed == "" || a.MaySeal(c.d.settings), true)
		c.expect("clients", object, len(a.clients) <= store.MaxClients, true)
		c.devices(object, a)
		var usage store.Usage
		var last store.CopyID
		for _, m := range a.copies {
			usage.Octets += m.Size
			usage.Messages++
			c.expect("order of copies", object, m.ID > last && m.ID <= c.d.lastCopy && !seen[m.ID], true)
			last, seen[m.ID] = m.ID, true
			c.body(fmt.Sprintf("copy %d", m.ID), m.Of, m.Size-int64(len(m.prefix)))
		}
		c.expect("usage", object, a.usage, usage)
		domain = domain.Plus(usage)
	}
	c.expect("usage", "domain", c.d.usage, domain)
}

// devices looks at the device credentials of one account.
func (c *checker) devices(object string, a *account) {
	var last store.DeviceID
	for _, d := range a.devices {
		c.expect("device", object, errors.Join(d.CheckNew(), store.PlaceDevice(a.devices, d)), error(nil))
		c.expect("order of devices", object, d.Account == a.ID && d.ID > last && d.ID <= c.d.lastDevice, true)
		last = d.ID
	}
}

func (c *checker) names() {
	c.expect("names", "accounts", len(c.d.names), len(c.d.accounts))
	for name, targets := range c.d.aliases {
		object := "alias " + name
		_, taken := c.d.names[name]
		c.expect("name taken twice", object, taken, false)
		c.expect("alias without targets", object, len(targets) == 0, false)
		for _, id := range targets {
			c.expect("alias target", object, c.d.accounts[id] != nil, true)
		}
	}
}

// body notes a reference to a message's body and compares its size.
func (c *checker) body(object string, id store.MessageID, size int64) {
	b := c.d.bodies[id]
	if b == nil {
		c.expect("missing body", object, "none", id)
		return
	}
	c.refs[id]++
	c.expect("body size", object, int64(len(b.octets)), size)
}
