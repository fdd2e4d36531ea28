//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
	"latchkey/store/boltstore"
)

// Of part j.
const (
	queueEnqueue = "queue: a message to one recipient, enqueued"
	queueLease   = "queue: lease of 10 jobs, and their return"
	queueFind    = "queue: a page of 50 destinations"
	queueList    = "queue: a page of 100 jobs listed"
	queueOpen    = "queue: the store opened"

	// Of ten queued recipients nine are of one mailbox; they are of so many domains.
	queueDomains   = 100
	queueEnvelope  = 10_000
	queueSamples   = 300
	queueMost      = 1_000_000
	queueBodyOctet = 4096
)

// measureQueue is part j: what the queue costs with ever more recipients in it.
func (r *run) measureQueue(ctx context.Context) (err error) {
	dir := filepath.Join(r.root, "queue")
	if err := boltstore.Init(ctx, dir, store.DefaultSettings(domain), boltstore.Options{}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	most, have := min(r.most, queueMost), 0
	least := min(1000, most)
	against := fmt.Sprintf("%s queued, not %s", grouped(int64(least)), grouped(int64(most)))
	for n := least; ; n = min(n*growthStep, most) {
		fmt.Printf("queue: %s recipients\n", grouped(int64(n)))
		st, err := boltstore.Open(ctx, dir, boltstore.Options{})
		if err != nil {
			return err
		}
		if err := errors.Join(enqueueTo(ctx, st, have, n), st.Close()); err != nil {
			return err
		}
		have = n
		figures, err := queueFigures(ctx, dir)
		if err != nil {
			return err
		}
		for measure, value := range figures {
			switch n {
			case most:
				r.figure(measure, us, value, "")
			case least:
				r.figure(measure, against, value, "")
			default:
				fmt.Printf("  %-58s %34s\n", measure, figure(value))
			}
		}
		if n == most {
			break
		}
	}
	for _, w := range []row{
		{measure: queueEnqueue, unit: "µs", want: below(1.5)}, {measure: queueLease, unit: "µs", want: below(1.5)},
		{measure: queueFind, unit: "µs", want: below(1.5)}, {measure: queueList, unit: "µs", want: below(1.5)},
		{measure: queueOpen, unit: "ms", want: below(1000).alone()},
	} {
		w.part, w.against = 'j', against
		r.sheet.want(w)
	}
	return nil
}

// queuedRecipient is who gets the n-th queued copy.
func queuedRecipient(n int) (mailaddr.Address, error) {
	return mailaddr.Parse(fmt.Sprintf("r%d@q%d.example", n, n%queueDomains))
}

// enqueueTo queues recipients have to n, of two mailboxes.
func enqueueTo(ctx context.Context, st store.Store, have, n int) error {
	for have < n {
		by := store.AccountID(1)
		if have/queueEnvelope%10 == 9 {
			by = 2
		}
		to := min(n, have+queueEnvelope)
		var recipients []store.Recipient
		for ; have < to; have++ {
			a, err := queuedRecipient(have)
			if err != nil {
				return err
			}
			recipients = append(recipients, store.Recipient{Address: a})
		}
		if err := enqueueOne(ctx, st, by, recipients...); err != nil {
			return err
		}
	}
	return nil
}

func enqueueOne(ctx context.Context, st store.Store, by store.AccountID, to ...store.Recipient) error {
	d, err := st.NewDraft(ctx)
	if err != nil {
		return err
	}
	body := newLetters().appendMessage(nil, 1, queueBodyOctet)
	if _, err := d.Write(body); err != nil {
		return errors.Join(err, d.Abort())
	}
	_, err = d.Commit(ctx, store.Envelope{
		Submitter: by, Recipients: to, Received: time.Now(), HeaderLen: headerLen(body), Origin: store.Origin{Door: "local"},
	})
	return err
}

// queueFigures measures a store as it is, and leaves it so but for what it enqueues.
func queueFigures(ctx context.Context, dir string) (map[string]float64, error) {
	begin := time.Now()
	st, err := boltstore.Open(ctx, dir, boltstore.Options{})
	if err != nil {
		return nil, err
	}
	figures := map[string]float64{queueOpen: millis(time.Since(begin))}
	for _, m := range []struct {
		measure string
		do      func(i int) error
	}{
		{queueLease, func(i int) error {
			jobs, err := st.Lease(ctx, time.Now(), 1, fmt.Sprintf("q%d.example", i%queueDomains), 10, time.Minute)
			return errors.Join(err, st.Return(ctx, jobs...))
		}},
		{queueFind, func(int) error {
			_, err := st.Destinations(ctx, time.Now(), store.Destination{Submitter: 1}, 50)
			return err
		}},
		{queueList, func(i int) error {
			_, _, err := st.ListJobs(ctx, store.QueueFilter{}, store.JobID(i), 100)
			return err
		}},
		{queueEnqueue, func(i int) error {
			a, err := queuedRecipient(i)
			if err != nil {
				return err
			}
			return enqueueOne(ctx, st, 3, store.Recipient{Address: a})
		}},
	} {
		var took []time.Duration
		for i := range queueSamples {
			begin := time.Now()
			if err := m.do(i); err != nil {
				return nil, errors.Join(fmt.Errorf("%s: %w", m.measure, err), st.Close())
			}
			took = append(took, time.Since(begin))
		}
		figures[m.measure] = 1000 * quantile(took, 0.5)
	}
	return figures, st.Close()
}
