package relay

import (
	"context"
	"errors"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// What follows is particular to mail that is sent on from an address here. Its sender wrote to that address, and hears of nothing further: trouble
// is told to who sends it on.

// onwardNotice is how often the owner of a mailbox is told that its mail cannot be sent on to one address, where the mailbox keeps it.
const onwardNotice = 24 * time.Hour

// sentOn reports whether a job sends mail on.
func sentOn(j *store.Job) bool { return !j.ForwardedBy.IsZero() }

// oneLetter reports whether two jobs can go in one transaction: they are of one message, with one reverse-path and one header.
func oneLetter(a, b *store.Job) bool {
	return a.Message == b.Message && a.ReversePath == b.ReversePath && a.ForwardedBy == b.ForwardedBy
}

// letter opens what is sent of jobs of one letter, and returns them with the sizes that it has. What is sent on says where it has been, so that
// it is known again if it goes in circles (RFC 9228 §3): in ASCII, as it may go to a host that knows nothing else.
func (r *Runner) letter(ctx context.Context, jobs []store.Job) ([]store.Job, body) {
	open := r.body(ctx, jobs[0].ID)
	if !sentOn(&jobs[0]) {
		return jobs, open
	}
	return headed([]byte("Delivered-To: "+jobs[0].ForwardedBy.Trace()+"\r\n"), jobs, open)
}

// toldOf reports whether a failure of mail that was sent on is told to who sends it on: always where no copy was kept, because the report carries
// it then; else once in onwardNotice for each address.
func (r *Runner) toldOf(ctx context.Context, j *store.Job) bool {
	if !j.Kept {
		return true
	}
	left, err := r.noticesLeft(ctx, j, 0)
	return err == nil && left > 0
}

// told notes that a report was stored. It is not noted before, so that one that could not be stored is tried again.
func (r *Runner) told(ctx context.Context, j *store.Job) {
	if !j.Kept {
		return
	}
	if _, err := r.noticesLeft(ctx, j, 1); err != nil {
		r.trouble("counting notices", err) // one more will be given
	}
}

// noticesLeft takes from the notices that are left for an address today, 0 only asks.
func (r *Runner) noticesLeft(ctx context.Context, j *store.Job, cost int64) (int64, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	key := "onward-told/" + j.ForwardedBy.Local() + "/" + j.Recipient.String()
	key = key[:min(len(key), store.MaxCounterKey)]
	taken, err := r.opts.Store.Take(ctx, r.opts.Now(), key, cost, store.Limit{N: 1, Window: onwardNotice})
	return taken.Left, err
}

// hearer is somebody who may be told about a job, and where that leads.
type hearer struct {
	to    mailaddr.Address
	route store.Route
}

// hearers are who is told about a job, the first of them who can be: its sender, or for mail that is sent on the mailbox here that does so, and
// the postmaster, where that is an alias, gone, or has no room. They are not none.
func (r *Runner) hearers(ctx context.Context, j *store.Job, domain string) ([]hearer, error) {
	if !sentOn(j) {
		route, err := r.opts.Store.Resolve(ctx, j.ReversePath)
		return []hearer{{j.ReversePath, route}}, err
	}
	postmaster, err := mailaddr.New("postmaster", domain)
	if err != nil {
		return nil, err
	}
	var list []hearer
	for _, to := range []mailaddr.Address{j.ForwardedBy, postmaster} {
		route, err := r.opts.Store.Resolve(ctx, to)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if err == nil && len(route.Local) > 0 && !route.CatchAll {
			list = append(list, hearer{to, store.Route{Local: route.Local}})
		}
	}
	if len(list) == 0 {
		return nil, store.ErrNotFound
	}
	return list, nil
}
