package memstore

import (
	"context"
	"errors"
	"hash/crc32"
	"slices"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// draft implements store.Draft. Its octets are held in memory, like all of this engine.
type draft struct {
	s       *Store
	octets  []byte
	size    int64
	settled bool
}

// Room implements store.Spool: memory is never full.
func (s *Store) Room(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	s.end()
	return nil
}

// NewDraft implements store.Spool.
func (s *Store) NewDraft(ctx context.Context) (store.Draft, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	s.d.drafts++
	return &draft{s: s}, nil
}

// Write implements store.Draft.
func (d *draft) Write(p []byte) (int, error) {
	if d.settled {
		return 0, store.ErrSettled
	}
	d.octets = append(d.octets, p...)
	d.size += int64(len(p))
	return len(p), nil
}

// Size implements store.Draft.
func (d *draft) Size() int64 { return d.size }

// Abort implements store.Draft.
func (d *draft) Abort() error {
	d.s.d.mu.Lock()
	defer d.s.d.mu.Unlock()
	d.settle()
	return nil
}

// settle uses the draft up and returns its octets. The lock is held.
func (d *draft) settle() []byte {
	octets := d.octets
	d.octets = nil
	if !d.settled && !d.s.closed {
		d.s.d.drafts--
	}
	d.settled = true
	return octets
}

// Commit implements store.Draft. Everything that can fail is decided before anything is changed.
func (d *draft) Commit(ctx context.Context, e store.Envelope) (store.Receipt, error) {
	data := d.s.d
	data.mu.Lock()
	defer data.mu.Unlock()
	data.reserved.Remove(e.Reserved...) // however this ends; nobody looks before the lock is given back
	if d.settled {
		return store.Receipt{}, store.ErrSettled
	}
	octets := d.settle()
	if d.s.closed {
		return store.Receipt{}, store.ErrClosed
	}
	if err := errors.Join(ctx.Err(), e.Validate(d.size)); err != nil {
		return store.Receipt{}, err
	}
	for i, o := range e.Settles {
		again := slices.ContainsFunc(e.Settles[:i], func(earlier store.Outcome) bool { return earlier.Job == o.Job })
		if again || !data.holds(e.Received, o.Job, o.Lease) {
			return store.Receipt{}, store.ErrLeaseLost
		}
	}
	stays, failed := data.servable(e, d.size)
	if len(stays) == 0 {
		errs := []error{store.ErrNoRecipients}
		for _, f := range failed {
			errs = append(errs, f)
		}
		return store.Receipt{}, errors.Join(errs...)
	}
	receipt := data.store(e, octets, stays, failed)
	for _, o := range e.Settles {
		data.settle(o, receipt.Message)
	}
	return receipt, nil
}

// servable looks at every recipient again. stays are the indexes of those that get a copy or a job.
func (d *data) servable(e store.Envelope, size int64) (stays []int, failed []*store.RecipientError) {
	served := map[store.AccountID]bool{}
	var added store.Usage // by this message, to the domain
	for i, r := range e.Recipients {
		if r.Account == 0 {
			stays = append(stays, i)
			continue
		}
		if served[r.Account] {
			continue
		}
		octets := size + int64(len(r.Prefix))
		if err := d.room(r.Account, added, octets); err != nil {
			failed = append(failed, &store.RecipientError{Index: i, Err: err})
			continue
		}
		served[r.Account] = true
		added = added.Plus(store.Usage{Octets: octets, Messages: 1})
		stays = append(stays, i)
	}
	return stays, failed
}

// store makes the copies and jobs of the recipients that stay, and the trail of all.
func (d *data) store(e store.Envelope, octets []byte, stays []int, failed []*store.RecipientError) store.Receipt {
	d.lastMessage++
	id, size := d.lastMessage, int64(len(octets))
	b := &body{octets: octets, sum: crc32.ChecksumIEEE(octets), refs: len(stays)}
	d.bodies[id] = b
	origin := e.Origin
	origin.Account = e.Submitter
	d.event(store.TrailEvent{
		Message: id, Time: e.Received, Kind: store.TrailAccepted, Sender: e.ReversePath, HeaderID: e.HeaderID, Origin: origin, Size: size,
		Subject: slices.Clone(e.Subject),
	})
	event := func(kind store.TrailKind, to mailaddr.Address, in store.AccountID, text string) {
		d.event(store.TrailEvent{Message: id, Time: e.Received, Kind: kind, Sender: e.ReversePath, Recipient: to, Account: in, Text: text})
	}
	receipt := store.Receipt{Message: id, Failed: failed}
	hold := store.CleanText(e.Hold)
	for _, i := range stays {
		r := e.Recipients[i]
		if r.Account == 0 {
			event(store.TrailQueued, r.Address, 0, "")
			if hold != "" {
				event(store.TrailHeld, r.Address, 0, hold)
			}
			receipt.Jobs = append(receipt.Jobs, d.addJob(e, r, id, size))
			continue
		}
		event(store.TrailStored, r.Address, r.Account, "")
		receipt.Copies = append(receipt.Copies, d.addCopy(e, r, id, b))
	}
	for _, f := range failed {
		event(store.TrailLeftOut, e.Recipients[f.Index].Address, 0, f.Err.Error())
	}
	for _, id := range receipt.Jobs {
		d.signalQueue(d.jobs[id])
	}
	return receipt
}

func (d *data) addCopy(e store.Envelope, r store.Recipient, id store.MessageID, b *body) store.Copy {
	d.lastCopy++
	a := d.accounts[r.Account]
	prefix := slices.Clone(r.Prefix)
	c := &copied{
		Message: store.Message{
			ID: d.lastCopy, Of: id, UID: store.UniqueID(epoch, d.lastCopy), Size: int64(len(prefix) + len(b.octets)),
			HeaderLen: int64(len(prefix)) + e.HeaderLen, Received: e.Received, UTF8: e.UTF8,
		},
		prefix: prefix, body: b, sender: e.ReversePath, recipient: r.Address,
	}
	a.copies = append(a.copies, c)
	d.charge(a, store.Usage{Octets: c.Size, Messages: 1})
	return store.Copy{ID: c.ID, Account: r.Account, UID: c.UID}
}

// oneJob reports whether an envelope makes no more than one job.
func oneJob(list []store.Recipient) bool {
	n := 0
	for i := range list {
		if list[i].Account == 0 {
			n++
		}
	}
	return n <= 1
}

func (d *data) addJob(e store.Envelope, r store.Recipient, id store.MessageID, size int64) store.JobID {
	d.lastJob++
	reversePath := e.ReversePath
	if !r.Onward.By.IsZero() {
		reversePath = r.Onward.ReversePath
	}
	d.jobs[d.lastJob] = &job{Job: store.Job{
		ID: d.lastJob, Message: id, Submitter: e.Submitter, ReversePath: reversePath, Recipient: r.Address,
		ForwardedBy: r.Onward.By, Kept: r.Onward.Kept, Alone: oneJob(e.Recipients),
		Size: size, HeaderLen: e.HeaderLen, HeaderID: e.HeaderID, EightBit: e.EightBit, UTF8: e.UTF8, Ours: e.Ours, TLS: e.TLS,
		Return: e.Return, EnvelopeID: e.EnvelopeID, Notify: r.Notify, Original: r.Original,
		Received: e.Received, NextAttempt: e.Received, Held: e.Hold != "", HoldReason: store.CleanText(e.Hold),
	}}
	return d.lastJob
}
