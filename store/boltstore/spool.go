package boltstore

import (
	"errors"
	"fmt"

	"latchkey/internal/journal"
	"latchkey/store"
)

// commit is one Draft.Commit in its group.
type commit struct {
	s       *Store
	e       *store.Envelope
	body    body
	octets  journal.Body // what the record carries
	receipt store.Receipt
}

// envelopeOctets is about what an envelope adds to the journal, for the bound of a group.
func envelopeOctets(e *store.Envelope) int {
	const message, recipient = 300, 100
	n := message + len(e.HeaderID) + len(e.Hold)
	for i := range e.Recipients {
		n += recipient + len(e.Recipients[i].Prefix)
	}
	return n
}

// stage decides about one message and appends its record, or says why not.
func (c *commit) stage(g *group) error {
	c.receipt = store.Receipt{} // of a first try that could not be written
	if lost := c.s.leases.takeAll(c.e.Settles); len(lost) > 0 {
		return fmt.Errorf("%w: jobs %v", store.ErrLeaseLost, lost)
	}
	m, charged, err := c.choose()
	if err == nil {
		c.number(m)
		err = g.append(recMessage, m, c.octets, false, func(p journal.Place) { m.place = p })
	}
	undo := func() {
		c.s.holdings.takeBack(charged)
		c.s.leases.giveBack(c.e.Settles)
	}
	if err != nil {
		undo()
		return err
	}
	m.prefixes = nil
	g.undo = append(g.undo, undo)
	g.durable = append(g.durable, func() {
		c.s.holdings.arrived(charged)
		if fresh := c.fresh(); fresh.Some() {
			c.s.announceJobs(fresh)
		}
	})
	return nil
}

// fresh is where the message has jobs to be tried.
func (c *commit) fresh() *store.Fresh {
	var f store.Fresh
	for i := range c.e.Recipients {
		if r := &c.e.Recipients[i]; r.Account == 0 && c.e.Hold == "" {
			f.Add(store.Destination{Submitter: c.e.Submitter, Domain: r.Address.Domain(), Due: c.e.Received})
		}
	}
	return &f
}

// choose looks at every recipient again, charges the copies, and makes the entry for those who are served.
func (c *commit) choose() (*messageEntry, []charge, error) {
	e := c.e
	seats := make([]seat, len(e.Recipients))
	for i := range e.Recipients {
		if r := &e.Recipients[i]; r.Account != 0 {
			var err error
			if seats[i], err = c.s.seat(r.Account, c.body.size+int64(len(r.Prefix))); err != nil {
				return nil, nil, err
			}
		}
	}
	charged := c.s.holdings.admit(c.s.quota(), e.Reserved, seats)
	m := &messageEntry{
		received: e.Received, sender: e.ReversePath, submitter: e.Submitter, headerLen: e.HeaderLen, headerID: e.HeaderID, subject: e.Subject,
		origin: e.Origin, eightBit: e.EightBit, utf8: e.UTF8, ours: e.Ours, tls: e.TLS, ret: e.Return, envelope: e.EnvelopeID,
		hold: store.CleanText(e.Hold), body: c.body, outcomes: e.Settles,
		holders: make([]holder, 0, len(seats)), prefixes: make([][]byte, 0, len(charged)),
	}
	m.origin.Account = e.Submitter
	m.origin.TLS = m.origin.TLS[:min(len(m.origin.TLS), store.MaxPeerText)]
	for i := range seats {
		r, seat := &e.Recipients[i], &seats[i]
		switch {
		case seat.again:
		case seat.err != nil:
			c.receipt.Failed = append(c.receipt.Failed, &store.RecipientError{Index: i, Err: seat.err})
			m.failed = append(m.failed, leftOut{address: r.Address, why: seat.err.Error()})
		case seat.account == 0:
			m.holders = append(m.holders, holder{address: r.Address, notify: r.Notify, original: r.Original, onward: r.Onward})
		default:
			m.holders = append(m.holders, holder{account: r.Account, address: r.Address, prefixLen: int64(len(r.Prefix))})
			m.prefixes = append(m.prefixes, r.Prefix)
		}
	}
	if len(m.holders) > 0 {
		return m, charged, nil
	}
	errs := []error{store.ErrNoRecipients}
	for _, failed := range c.receipt.Failed {
		errs = append(errs, failed)
	}
	return nil, charged, errors.Join(errs...)
}

// number gives out the ids of a message. Those of a group that is not written are left out.
func (c *commit) number(m *messageEntry) {
	ids := &c.s.ids
	ids.message++
	m.id, m.firstCopy, m.firstJob = ids.message, ids.copied+1, ids.job+1
	c.receipt.Message = m.id
	for i := range m.holders {
		if account := m.holders[i].account; account != 0 {
			ids.copied++
			c.receipt.Copies = append(c.receipt.Copies, store.Copy{ID: ids.copied, Account: account, UID: c.s.epochs.uniqueID(ids.copied)})
		} else {
			ids.job++
			c.receipt.Jobs = append(c.receipt.Jobs, ids.job)
		}
	}
}

// lastIDs are those given out last. Only the committer uses it.
type lastIDs struct {
	message store.MessageID
	copied  store.CopyID
	job     store.JobID
}
