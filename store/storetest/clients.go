package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"latchkey/store"
)

// Sizes of what clients send, in octets: most are small, some fill a good part of a segment, some get a file of their own.
const (
	smallest = 120
	small    = 2000
	medium   = 60_000
	large    = 132_000
)

// outside is where their jobs go.
const outside = "out.example"

// client does random things with a store until the power goes, and notes what it is told.
type client struct {
	t     *testing.T
	ctx   context.Context
	s     store.Store
	l     *ledger
	rng   *rand.Rand
	name  string   // of this client in this life
	index int      // the first one, 0, changes the settings
	peers int      // how many clients there are
	n     int      // attempts
	mine  []string // tokens of jobs that only it holds, releases and removes
	snap  *opened
}

func (c *client) token() string {
	c.n++
	return fmt.Sprintf("%s.%d", c.name, c.n)
}

// deed is something that clients do, and how often.
type deed struct {
	weight int
	do     func(c *client) error
}

// deeds are what clients do. There is more deleting than it looks: wipe leaves next to nothing of a maildrop.
func deeds() []deed {
	return []deed{
		{18, func(c *client) error { return c.send(smallest+c.rng.IntN(small), 1+c.rng.IntN(3), 0) }},
		{6, func(c *client) error { return c.send(smallest+c.rng.IntN(small), c.rng.IntN(2), 1+c.rng.IntN(2)) }},
		{6, func(c *client) error { return c.send(medium+c.rng.IntN(small), 1+c.rng.IntN(2), c.rng.IntN(2)) }},
		{4, func(c *client) error { return c.send(large+c.rng.IntN(medium), 1+c.rng.IntN(2), c.rng.IntN(2)) }},
		{9, func(c *client) error { return c.fetch(3) }},
		{7, func(c *client) error { return c.fetch(20) }},
		{5, (*client).browse},
		{9, (*client).runQueue},
		{3, (*client).bounce},
		{4, (*client).handleJob},
		{2, (*client).addAccount},
		{3, (*client).suspend},
		{1, (*client).removeAccount},
		{2, (*client).changeSettings},
		{2, (*client).changeSecret},
		{2, (*client).audit},
		{4, (*client).logIn},
		{2, (*client).seal},
		{2, (*client).beSeen},
		{3, (*client).changeDevice},
		{1, (*client).abandon},
	}
}

// work does n things; it ends early when the power goes.
func (c *client) work(n int) {
	all, total := deeds(), 0
	for _, v := range all {
		total += v.weight
	}
	for range n {
		at := c.rng.IntN(total)
		i := 0
		for ; at >= all[i].weight; i++ {
			at -= all[i].weight
		}
		if err := all[i].do(c); err != nil || c.l.dead() {
			if !c.l.dead() {
				c.t.Errorf("client %s: %v", c.name, err)
			}
			break
		}
	}
	if c.snap != nil {
		_ = c.snap.Close() // perhaps of a process that is no more
	}
}

// prepare makes sure that there are mailboxes, and that no more than one is suspended. It has the store for itself.
func (c *client) prepare() error {
	for {
		var living, suspended []*accountFact
		c.l.ask(func() { living = c.l.living() })
		for _, a := range living {
			if a.suspended.known() {
				suspended = append(suspended, a)
			}
		}
		var err error
		switch {
		case len(living) < 3:
			err = c.addAccount()
		case len(suspended) > 1:
			err = c.setSuspended(suspended[0])
		default:
			return nil
		}
		if err != nil || c.l.dead() {
			return err
		}
	}
}

// lookAround reads everything that the store of a killed process shows: from then on it is there for good.
func (c *client) lookAround() error {
	var living []*accountFact
	c.l.ask(func() { living = c.l.living() })
	for _, a := range living {
		md, err := c.s.OpenMaildrop(c.ctx, a.id)
		if errors.Is(err, store.ErrSuspended) {
			continue
		}
		if err == nil {
			_, _, err = c.readAll(&opened{Maildrop: md, c: c, a: a})
			err = errors.Join(err, md.Close())
		}
		if err != nil {
			return err
		}
	}
	jobs, err := c.lease(1000)
	if err = errors.Join(err, c.s.Return(c.ctx, jobs...)); err != nil {
		return err
	}
	return c.forgetGrants()
}

// forgetGrants strikes out the grants that the killed process had not written down.
func (c *client) forgetGrants() error {
	list, err := c.s.ListGrants(c.ctx, store.GrantFilter{}, 0, 100_000)
	if err != nil {
		return err
	}
	there := make(map[store.GrantID]bool)
	for _, g := range list {
		there[g.ID] = true
	}
	c.l.hear(func() {
		for id, f := range c.l.grants {
			if !there[id] && !f.kept && !f.revoked {
				delete(c.l.grants, id)
			}
		}
	})
	return nil
}

// anyAccount returns a living account, or nil.
func (c *client) anyAccount() (a *accountFact) {
	c.l.ask(func() {
		if living := c.l.living(); len(living) > 0 {
			a = living[c.rng.IntN(len(living))]
		}
	})
	return a
}

// send commits one message to accounts and to addresses outside.
func (c *client) send(size, accounts, remote int) error {
	return c.commit(size, accounts, remote, nil)
}

// bounce leases a job, and commits its failure with the message that reports it.
func (c *client) bounce() error {
	jobs, err := c.lease(1)
	if err != nil || len(jobs) == 0 {
		return err
	}
	return c.commit(smallest, 1, 0, &jobs[0])
}

func (c *client) commit(size, accounts, remote int, settled *store.Job) error {
	m := &messageFact{token: c.token()}
	body := text(m.token, size)
	m.text = body
	e := store.Envelope{ReversePath: address("sender@elsewhere.example"), Received: time.Now(), HeaderLen: headerLen(body), HeaderID: "<" + m.token + ">"}
	c.l.ask(func() {
		living := c.l.living()
		c.rng.Shuffle(len(living), func(i, j int) { living[i], living[j] = living[j], living[i] })
		for _, a := range living[:min(accounts, len(living))] {
			m.copies = append(m.copies, copyKey{m.token, a.token})
			e.Recipients = append(e.Recipients, store.Recipient{
				Address: address(a.name + "@" + Domain), Account: a.id, Prefix: []byte(deliveredTo + a.token + "\r\n"),
			})
		}
	})
	for range remote {
		token := c.token()
		m.jobs = append(m.jobs, token)
		e.Recipients = append(e.Recipients, away(token+"@"+outside))
	}
	if len(e.Recipients) == 0 {
		return nil
	}
	if remote > 0 && c.rng.IntN(5) == 0 {
		m.held, e.Hold = true, "looks odd"
	}
	if settled != nil {
		m.settles = settled.Recipient.Local()
		e.Settles = []store.Outcome{outcome(*settled, store.Failed, e.Received, e.Received)}
	}
	d, err := c.s.NewDraft(c.ctx)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(d, body); err != nil {
		return errors.Join(err, d.Abort())
	}
	c.l.open(m)
	r, err := d.Commit(c.ctx, e)
	switch {
	case errors.Is(err, store.ErrNoRecipients), errors.Is(err, store.ErrLeaseLost):
		c.l.refused(m)
		return nil
	case err != nil:
		return fmt.Errorf("commit: %w", err)
	}
	c.mine = append(c.mine, m.jobs...)
	return c.l.accepted(m, r)
}

// abandon writes a draft and forgets about it.
func (c *client) abandon() error {
	d, err := c.s.NewDraft(c.ctx)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(d, text("abandoned", c.rng.IntN(2*large))); err != nil {
		return errors.Join(err, d.Abort())
	}
	if c.rng.IntN(2) == 0 {
		return d.Abort()
	}
	return nil
}

// opened is a maildrop of somebody. What was acknowledged before it was opened is in it.
type opened struct {
	store.Maildrop
	c       *client
	a       *accountFact
	want    map[store.CopyID]*copyFact
	fetched map[store.CopyID]bool // known to be so before
}

// openMaildrop opens somebody's maildrop, nil if it cannot be. It does not ask for the list.
func (c *client) openMaildrop() (*opened, error) {
	a := c.anyAccount()
	if a == nil {
		return nil, nil
	}
	want, fetched := make(map[store.CopyID]*copyFact), make(map[store.CopyID]bool)
	c.l.ask(func() {
		for k, f := range c.l.copies {
			if f.fetched {
				fetched[f.id] = true
			}
			if k.account == a.token && f.fate == acked && f.id != 0 {
				want[f.id] = f
			}
		}
	})
	md, err := c.s.OpenMaildrop(c.ctx, a.id)
	if errors.Is(err, store.ErrSuspended) || errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open maildrop: %w", err)
	}
	return &opened{Maildrop: md, c: c, a: a, want: want, fetched: fetched}, nil
}

// list returns what the snapshot lists: all that it has to, and as much as it says.
func (o *opened) list() ([]store.Message, error) {
	list, err := o.Messages(o.c.ctx)
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	messages := slices.Collect(list)
	var sum store.Usage
	for _, m := range messages {
		sum = sum.Plus(store.Usage{Octets: m.Size, Messages: 1})
		delete(o.want, m.ID)
		if o.fetched[m.ID] && !m.Fetched {
			return nil, fmt.Errorf("copy %d of %s was fetched before the maildrop was opened, and is not marked", m.ID, o.a.token)
		}
	}
	if is := o.Stat(); is != sum {
		return nil, fmt.Errorf("the maildrop of %s lists %+v, and says that it holds %+v", o.a.token, sum, is)
	}
	o.c.l.hear(func() {
		for id, f := range o.want {
			if f.fate == acked && o.a.fate == acked { // nobody has asked for its removal
				err = fmt.Errorf("copy %d of %s was acknowledged, and is not listed", id, o.a.token)
			}
		}
	})
	return messages, err
}

// fetch reads a maildrop, and deletes all but one message of so many; of 3 only one.
func (c *client) fetch(of int) error {
	md, err := c.openMaildrop()
	if err != nil || md == nil {
		return err
	}
	defer func() { _ = md.Close() }() // perhaps of a process that is no more
	messages, keys, err := c.readAll(md)
	if err != nil {
		return err
	}
	var ids, fetched []store.CopyID
	var gone, stay []copyKey
	for i, m := range messages {
		read := of == 3 || c.rng.IntN(2) == 0
		if read {
			fetched = append(fetched, m.ID)
		}
		if one := c.rng.IntN(of) == 0; one == (of == 3) {
			ids, gone = append(ids, m.ID), append(gone, keys[i])
		} else if read {
			stay = append(stay, keys[i])
		}
	}
	c.l.ask(func() {
		for _, k := range stay {
			c.l.copies[k].asked = true
		}
		for _, k := range gone {
			if f := c.l.copies[k]; f.fate <= acked {
				f.fate = leaving
			}
		}
	})
	if err := md.Expunge(c.ctx, ids, fetched); err != nil {
		return fmt.Errorf("expunge: %w", err)
	}
	c.l.hear(func() {
		for _, k := range gone {
			f := c.l.copies[k]
			f.fate, f.expunge = departed, true
		}
		for _, k := range stay {
			c.l.copies[k].fetched = true
		}
	})
	return nil
}

// readAll reads every message of a maildrop, and looks at it.
func (c *client) readAll(md *opened) (messages []store.Message, keys []copyKey, err error) {
	if messages, err = md.list(); err != nil {
		return nil, nil, err
	}
	for _, m := range messages {
		r, err := md.OpenMessage(c.ctx, m.ID)
		if err != nil {
			return nil, nil, fmt.Errorf("open message: %w", err)
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return nil, nil, fmt.Errorf("read: %w", err)
		}
		k, err := c.l.sent(string(b))
		if err = firstOf(err, c.l.saw("unique-id", m.UID, k.String()), c.l.saw("copy", digits(m.ID), k.String())); err != nil {
			return nil, nil, err
		}
		c.l.hear(func() {
			f := c.l.copies[k]
			if f.fate == tried { // whoever sent it has not heard of it, but it is there
				f.fate, f.id = acked, m.ID
			}
			if f.fetched = f.fetched || m.Fetched; f.fetched && !f.asked {
				err = fmt.Errorf("copy %s is marked as fetched, which nobody did", k)
			}
		})
		if err != nil {
			return nil, nil, err
		}
		keys = append(keys, k)
	}
	return messages, keys, nil
}

// browse opens a maildrop and leaves it open, with or without its list; the next time it reads what was in it, whatever others have deleted.
func (c *client) browse() error {
	if c.snap == nil {
		md, err := c.openMaildrop()
		if c.snap = md; md != nil && c.rng.IntN(2) == 0 {
			_, err = md.list()
		}
		return err
	}
	_, _, err := c.readAll(c.snap)
	err = firstOf(err, c.snap.Close())
	c.snap = nil
	return err
}

func (c *client) lease(n int) ([]store.Job, error) {
	jobs, err := c.s.Lease(c.ctx, time.Now().Add(time.Minute), 0, outside, n, time.Hour)
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	for _, j := range jobs {
		if err := c.l.saw("job", digits(j.ID), j.Recipient.Local()); err != nil {
			return nil, err
		}
		c.l.hear(func() {
			if f := c.l.jobs[j.Recipient.Local()]; f.fate == tried { // likewise
				f.fate = acked
			}
		})
	}
	return jobs, nil
}

// runQueue works off some jobs.
func (c *client) runQueue() error {
	jobs, err := c.lease(1 + c.rng.IntN(4))
	if err != nil || len(jobs) == 0 {
		return err
	}
	now := time.Now()
	var outcomes []store.Outcome
	c.l.ask(func() {
		for _, j := range jobs {
			kind := []store.OutcomeKind{store.Delivered, store.Delivered, store.Deferred, store.Failed}[c.rng.IntN(4)]
			outcomes = append(outcomes, outcome(j, kind, now, now))
			if f := c.l.jobs[j.Recipient.Local()]; kind == store.Deferred {
				f.most++
			} else {
				f.leave()
			}
		}
	})
	if r, err := c.s.OpenJob(c.ctx, jobs[0].ID); err == nil {
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("read job: %w", err)
		}
		if _, err := c.l.sent(string(b)); err != nil {
			return err
		}
	} else if !errors.Is(err, store.ErrNotFound) { // its owner has removed it
		return fmt.Errorf("open job: %w", err)
	}
	lost, err := c.s.Finish(c.ctx, now, outcomes...)
	if err != nil {
		return fmt.Errorf("finish: %w", err)
	}
	c.l.hear(func() {
		for i, o := range outcomes {
			f := c.l.jobs[jobs[i].Recipient.Local()]
			switch gone := slices.Contains(lost, o.Job); {
			case gone && o.Kind == store.Deferred:
				f.most--
			case gone: // its owner has removed it
			case o.Kind == store.Deferred:
				f.least++
			default:
				f.left()
			}
		}
	})
	return nil
}

// handleJob holds, releases or removes a job of its own.
func (c *client) handleJob() error {
	if len(c.mine) == 0 {
		return nil
	}
	token := c.mine[c.rng.IntN(len(c.mine))]
	jobs, err := c.s.ListJobs(c.ctx, store.QueueFilter{Destination: outside}, 0, 10_000)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(jobs, func(j store.Job) bool { return j.Recipient.Local() == token })
	if i < 0 {
		return nil // done
	}
	var f *jobFact
	what := c.rng.IntN(3)
	c.l.ask(func() {
		f = c.l.jobs[token]
		if what == 2 {
			f.leave()
		} else {
			f.held.ask(what == 0)
		}
	})
	switch what {
	case 0:
		err = c.s.HoldJobs(c.ctx, "why not", jobs[i].ID)
	case 1:
		err = c.s.ReleaseJobs(c.ctx, time.Now(), jobs[i].ID)
	case 2:
		err = c.s.RemoveJobs(c.ctx, jobs[i].ID)
	}
	if errors.Is(err, store.ErrNotFound) { // delivered meanwhile
		return nil
	}
	if err == nil {
		c.l.hear(func() {
			if what == 2 {
				f.left()
			} else {
				f.held.told(what == 0)
			}
		})
	}
	return err
}
