package relay

import (
	"slices"

	"latchkey/store"
)

// demanded is what the sender of a message demands of its way. A report goes to whoever wants it: REQUIRETLS must not make it be lost
// (RFC 8689 §5), though it is passed on where it is understood.
func demanded(j *store.Job) store.TLSDemand {
	if j.TLS == store.TLSRequired && j.ReversePath.IsZero() {
		return store.TLSUnset
	}
	return j.TLS
}

// promises reports whether a connection is good enough for REQUIRETLS (RFC 8689 §4.2.1): the host is proved to be the right one, and
// promises the same of the way on.
func (l *link) promises() bool { return l.peer.facts.Proof != ProofNone && l.understands() }

// understands reports whether the host takes REQUIRETLS, which counts under TLS only.
func (l *link) understands() bool { return l.caps.requireTLS && l.peer.facts.Encrypted() }

// linkFor returns a connection that is good enough for a message: the worker's, or another one, which the caller closes. A verdict says
// why there is none.
func (w *worker) linkFor(j *store.Job) (*link, *verdict) {
	if demanded(j) != store.TLSRequired || w.link.promises() {
		return w.link, nil
	}
	l, v := w.r.reachFor(w.stop, w.to, store.TLSRequired)
	if v == nil {
		return l, nil
	}
	if isPolicy(*v) && v.cause == nil {
		// RFC 8689 §4.2.1: the sender is told, at once.
		v.kind, v.status, v.alarm = store.Failed, "5.7.10", false
	}
	v.scope, v.answered = aboutMessage, false // it says nothing about the destination's other mail
	return nil, v
}

// withoutLink is the verdict on the n jobs of a message for which linkFor has no connection; none at a stop, which cuts off the search.
func (w *worker) withoutLink(v verdict, n int) []verdict {
	all := make([]verdict, n)
	if w.stop.Err() != nil {
		return all
	}
	for i := range all {
		all[i] = v
	}
	return all
}

// isPolicy reports whether a verdict is about TLS that was demanded and not had.
func isPolicy(v verdict) bool { return v.status == "4.7.5" }

// doorFor makes the door of a host that somebody named, the operator or the sender, fit for a demand.
func (d door) doorFor(demand store.TLSDemand) door {
	if demand != store.TLSRequired {
		return d
	}
	d.promise = true
	if d.mode != TLSVerify && d.mode != TLSImplicit {
		d.mode, d.wantedBy = TLSVerify, ProofPKIX
	}
	return d
}

// sendRelaxed sends the leased messages whose sender wants them to go in the clear if need be (RFC 8689 §4.2.2), where the policy of
// their destination has just kept everybody out. The others stay as they are.
func (w *worker) sendRelaxed(v verdict) error {
	optional := func(j store.Job) bool { return demanded(&j) == store.TLSOptional }
	if !slices.ContainsFunc(w.jobs, optional) || !isPolicy(v) {
		return nil
	}
	l, worse := w.r.reachFor(w.stop, w.to, store.TLSOptional)
	if worse != nil {
		return nil // they share the first verdict
	}
	defer l.close()
	release := l.guard(w.abort)
	defer release()
	for i := slices.IndexFunc(w.jobs, optional); i >= 0 && !l.dead && w.stop.Err() == nil; i = slices.IndexFunc(w.jobs, optional) {
		message := w.jobs[i].Message
		var group, rest []store.Job
		for _, j := range w.jobs {
			if j.Message == message {
				group = append(group, j)
			} else {
				rest = append(rest, j)
			}
		}
		logAttempt(w.abort, w.r.log, w.to, l.peer, group)
		var decisions []decision
		for k, v := range l.transact(group, w.r.body(w.abort, group[0].ID)) {
			if v.kind == "" {
				rest = append(rest, group[k])
				continue
			}
			decisions = append(decisions, decision{job: group[k], verdict: v})
		}
		w.jobs = rest
		if err := w.r.settle(w.abort, decisions); err != nil {
			return err
		}
	}
	return nil
}

// reportDemand is that of a report on a message: it is protected as the message was (RFC 8689 §5).
func reportDemand(j *store.Job) store.TLSDemand {
	if j.TLS == store.TLSRequired {
		return store.TLSRequired
	}
	return store.TLSUnset
}
