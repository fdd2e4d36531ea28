package relay

import (
	"slices"

	"latchkey/store"
)

// demanded is what the sender of a message demands of its way. A report goes to whoever wants it: REQUIRETLS must not make it be lost
// (RFC 8689 §5), though it is passed on where it is understood. Of what is sent on somebody here is told, whatever its reverse-path is.
func demanded(j *store.Job) store.TLSDemand {
	if j.TLS == store.TLSRequired && j.ReversePath.IsZero() && !sentOn(j) {
		return store.TLSUnset
	}
	return j.TLS
}

// promises reports whether a connection is good enough for REQUIRETLS (RFC 8689 §4.2.1): the host is proved to be the right one, and
// promises the same of the way on.
func (l *link) promises() bool { return l.peer.facts.Proof != ProofNone && l.understands() }

// understands reports whether the host takes REQUIRETLS, which counts under TLS only.
func (l *link) understands() bool { return l.caps.requireTLS && l.peer.facts.Encrypted() }

// nextDemand is what the worker's next connection is looked for with: what the sender of the next message demands. One who wants it to go in
// the clear if need be gets that where the destination's policy has just kept everybody out (RFC 8689 §4.2.2), and not before.
func (w *worker) nextDemand() store.TLSDemand {
	d := demanded(&w.jobs[0])
	if d == store.TLSOptional {
		if known, holds := w.r.backoff.holds(w.to.key(), w.r.opts.Now()); !holds || !isPolicy(known.verdict) {
			return store.TLSUnset
		}
	}
	return d
}

// suits reports whether the worker's connection is the one for a message. One that was looked for with a demand is for such messages only:
// the others go to the best host, as their destination wants it.
func (w *worker) suits(j *store.Job) bool {
	switch demanded(j) {
	case store.TLSRequired:
		return w.link.promises()
	case store.TLSOptional:
		return w.demand != store.TLSRequired
	}
	return w.demand == store.TLSUnset
}

// unmet decides on the leased messages of a demand that no host of the destination meets. It says nothing about the others.
func (w *worker) unmet(demand store.TLSDemand, f findings) error {
	v := f.verdict
	logUnreachable(w.stop, w.r.log, w.to, v)
	if demand == store.TLSRequired && isPolicy(v) && v.cause == nil {
		// RFC 8689 §4.2.1: the sender is told, at once.
		v.kind, v.status, v.alarm = store.Failed, "5.7.10", false
	}
	v.scope = aboutMessage
	var decisions []decision
	w.jobs = slices.DeleteFunc(w.jobs, func(j store.Job) bool {
		is := demanded(&j) == demand
		if is {
			decisions = append(decisions, decision{job: j, verdict: v, shared: !f.until.IsZero(), until: f.until})
		}
		return is
	})
	return w.r.settle(w.abort, decisions)
}

// sparing deals with a destination that cannot be had, but leaves out the leased messages that may go in the clear if a policy is why.
func (w *worker) sparing(v verdict, deal func() error) error {
	var spared []store.Job
	if isPolicy(v) {
		w.jobs = slices.DeleteFunc(w.jobs, func(j store.Job) bool {
			optional := demanded(&j) == store.TLSOptional
			if optional {
				spared = append(spared, j)
			}
			return optional
		})
	}
	err := deal()
	w.jobs = append(w.jobs, spared...)
	return err
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

// reportDemand is that of a report on a message: it is protected as the message was (RFC 8689 §5).
func reportDemand(j *store.Job) store.TLSDemand {
	if j.TLS == store.TLSRequired {
		return store.TLSRequired
	}
	return store.TLSUnset
}
