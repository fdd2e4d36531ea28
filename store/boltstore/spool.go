package boltstore

import (
	"errors"
	"fmt"

	"latchkey/store"
)

// commit is one Draft.Commit in its group: the body is durable, the records are not there yet.
type commit struct {
	e       *store.Envelope
	body    bodyRef
	receipt store.Receipt
}

// envelopeOctets is about what a message adds to the index, for the bound of a group.
func envelopeOctets(e *store.Envelope) int {
	const message, recipient = 500, 500
	n := message + len(e.HeaderID)
	for i := range e.Recipients {
		n += recipient + len(e.Recipients[i].Prefix)
	}
	return n
}

// target is what becomes of one recipient.
type target struct {
	index int
	copy  bool
}

// apply makes the copies, jobs, outcomes and trail events of one message, or nothing.
func (c *commit) apply(t *txn) error {
	c.receipt = store.Receipt{} // of a first try that could not be committed
	if lost := t.lostLeases(c.e.Settles); len(lost) > 0 {
		return fmt.Errorf("%w: jobs %v", store.ErrLeaseLost, lost)
	}
	targets, err := c.choose(t)
	if err != nil {
		t.giveBack(c.e.Settles)
		return err
	}
	t.tally.Message++
	id := store.MessageID(t.tally.Message)
	c.receipt.Message = id
	t.event(&store.TrailEvent{
		Message: id, Time: c.e.Received, Kind: store.TrailAccepted, Sender: c.e.ReversePath,
		HeaderID: c.e.HeaderID, Origin: c.e.Origin, Size: c.body.Size,
	})
	for _, failed := range c.receipt.Failed {
		t.event(c.step(store.TrailLeftOut, failed.Index, failed.Err.Error()))
	}
	for _, target := range targets {
		if target.copy {
			c.addCopy(t, target.index)
		} else {
			c.addJob(t, target.index)
		}
	}
	t.put(bBodies, key8(uint64(id)), bodyRecord{bodyRef: c.body, Refs: uint64(len(targets))}.encode())
	for i := range c.e.Settles {
		t.settle(&c.e.Settles[i])
	}
	return nil
}

// step is a trail event about one recipient.
func (c *commit) step(kind store.TrailKind, i int, text string) *store.TrailEvent {
	return &store.TrailEvent{
		Message: c.receipt.Message, Time: c.e.Received, Kind: kind, Sender: c.e.ReversePath,
		Recipient: c.e.Recipients[i].Address, Text: text,
	}
}

// choose looks at every recipient again and says who is served. It changes nothing.
func (c *commit) choose(t *txn) ([]target, error) {
	targets := make([]target, 0, len(c.e.Recipients))
	served := make(map[store.AccountID]struct{})
	for i := range c.e.Recipients {
		r := &c.e.Recipients[i]
		if r.Account == 0 {
			targets = append(targets, target{index: i})
			continue
		}
		if _, twice := served[r.Account]; twice {
			continue
		}
		refused, err := t.refuses(r.Account, c.body.Size+int64(len(r.Prefix)))
		if err != nil {
			return nil, err
		}
		if refused != nil {
			c.receipt.Failed = append(c.receipt.Failed, &store.RecipientError{Index: i, Err: refused})
			continue
		}
		served[r.Account] = struct{}{}
		targets = append(targets, target{index: i, copy: true})
	}
	if len(targets) > 0 {
		return targets, nil
	}
	errs := []error{store.ErrNoRecipients}
	for _, failed := range c.receipt.Failed {
		errs = append(errs, failed)
	}
	return nil, errors.Join(errs...)
}

// refuses says why an account takes no message of this size, or nil.
func (t *txn) refuses(id store.AccountID, size int64) (refused, err error) {
	b := t.get(bAccounts, key8(uint64(id)))
	if b == nil {
		return store.ErrNotFound, nil
	}
	a, err := decodeAccount(b)
	if err != nil {
		return nil, err
	}
	if a.Suspended {
		return store.ErrSuspended, nil
	}
	u, err := decodeUsage(t.get(bUsage, key8(uint64(id))))
	if err != nil {
		return nil, err
	}
	if !a.Quota.Fits(u, size) {
		return store.ErrMaildropFull, nil
	}
	return nil, nil
}

func (c *commit) addCopy(t *txn, i int) {
	r := &c.e.Recipients[i]
	t.tally.Copy++
	id := store.CopyID(t.tally.Copy)
	size := c.body.Size + int64(len(r.Prefix))
	t.put(bCopies, key16(uint64(r.Account), uint64(id)), copyRecord{
		Message: c.receipt.Message, Size: size, HeaderLen: c.e.HeaderLen + int64(len(r.Prefix)), Received: c.e.Received,
		Sender: c.e.ReversePath, Recipient: r.Address, Prefix: r.Prefix,
	}.encode())
	t.charge(r.Account, size, 1)
	t.event(c.step(store.TrailStored, i, ""))
	c.receipt.Copies = append(c.receipt.Copies, store.Copy{ID: id, Account: r.Account, UID: store.UniqueID(t.s.epoch, id)})
}

func (c *commit) addJob(t *txn, i int) {
	r := &c.e.Recipients[i]
	t.tally.Job++
	j := store.Job{
		ID: store.JobID(t.tally.Job), Message: c.receipt.Message, Submitter: c.e.Submitter, ReversePath: c.e.ReversePath, Recipient: r.Address,
		Size: c.body.Size, HeaderLen: c.e.HeaderLen, HeaderID: c.e.HeaderID, EightBit: c.e.EightBit, UTF8: c.e.UTF8,
		Return: c.e.Return, EnvelopeID: c.e.EnvelopeID, Notify: r.Notify, Original: r.Original,
		Received: c.e.Received, NextAttempt: c.e.Received,
	}
	t.put(bJobs, key8(uint64(j.ID)), encodeJob(&j))
	t.put(bDue, dueKey(&j), nil)
	t.queued = true
	t.event(c.step(store.TrailQueued, i, ""))
	c.receipt.Jobs = append(c.receipt.Jobs, j.ID)
}
