package relay

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"latchkey/store"
)

// SetListed notes whether an address of this server is on a blocklist. While it is, the mail to each provider goes one message after another until
// that provider has taken some: then it does not mind. It does not block.
func (r *Runner) SetListed(listed bool) { r.providers.setListed(listed) }

// Slow returns the providers to which mail goes slowly now, by name: they block this server, or may do so while it is on a blocklist.
func (r *Runner) Slow() []Slow {
	list := r.providers.all(r.opts.Now())
	slices.SortFunc(list, func(a, b Slow) int { return strings.Compare(a.Provider, b.Provider) })
	return list
}

// slowVerdict puts a message off whose turn has not come. It is no answer to the message, so it never ends one, however old that is.
func slowVerdict(s Slow) verdict {
	v := ours(store.Deferred, aboutDestination, "4.7.0", store.CleanText(fmt.Sprintf(
		"mail to %s goes slowly, one message in %v, until it takes %d in a row: %s", s.Provider, s.Pause, calmAfter, s.Why)))
	v.slow = true
	return v
}

// mayEnter says whether mail may go to a host now, or adds to the findings when it may.
func (s *search) mayEnter(host string) bool {
	if !s.wish.cautious || s.wish.force {
		return true
	}
	until, slow, ok := s.runner.providers.turn(host, s.runner.opts.Now(), false)
	if !ok {
		s.note(slowVerdict(slow))
		if s.until.IsZero() || until.Before(s.until) {
			s.until = until
		}
	}
	return ok
}

// cautious reports whether the route goes to a provider of others. A smarthost is the operator's own.
func (w *worker) cautious() bool { return w.to.domain != "" }

// yields puts what is leased off if the next message's turn at the provider has not come, and reports whether it did. What somebody wants tried now
// stays.
func (w *worker) yields() (did bool, err error) {
	if !w.cautious() || w.jobs[0].Released {
		return false, nil
	}
	now := w.r.opts.Now()
	until, slow, ok := w.r.providers.turn(w.link.peer.host, now, true)
	if ok {
		return false, nil
	}
	v := slowVerdict(slow)
	known, _ := w.r.backoff.get(w.to.key())
	known.until, known.verdict = until, v
	w.r.backoff.put(w.to.key(), known, now)
	var wanted []store.Job
	w.jobs = slices.DeleteFunc(w.jobs, func(j store.Job) bool {
		if j.Released {
			wanted = append(wanted, j)
		}
		return j.Released
	})
	err = w.putOffAll(v, until)
	if w.jobs = wanted; len(wanted) == 0 {
		w.hangUp()
	}
	return true, err
}

// judged tells of what a transaction says about this server's standing with a provider.
func (w *worker) judged(host string, decisions []decision) {
	if !w.cautious() {
		return
	}
	now := w.r.opts.Now()
	if i := slices.IndexFunc(decisions, func(d decision) bool { return blocks(d.verdict) }); i >= 0 {
		w.r.blockedBy(host, decisions[i].verdict, now)
	} else if slices.ContainsFunc(decisions, func(d decision) bool { return d.verdict.kind == store.Delivered }) {
		if w.r.providers.succeeded(host, now) {
			w.r.log.LogAttrs(context.Background(), slog.LevelInfo, "mail to a provider goes as ever", slog.String("provider", providerOf(host)))
		}
	}
}

// blockedBy notes an answer that blocks this server.
func (r *Runner) blockedBy(host string, v verdict, now time.Time) {
	if r.providers.blocked(host, v.text(), now) {
		r.log.LogAttrs(context.Background(), slog.LevelWarn, "mail to a provider goes slowly", slog.String("provider", providerOf(host)),
			slog.String("reason", v.text()))
	}
}
