package relay

import (
	"time"

	"latchkey/store"
)

// The retry schedule (RFC 5321 §4.5.4.1): soon at first, because greylisting and restarts are over in minutes, then seldom.
const (
	// GiveUpAge is how long a message is tried for, from when it was accepted (RFC 5321 §4.5.4.1: 4 to 5 days at least).
	GiveUpAge = 5 * 24 * time.Hour
	// jitterShare is how much earlier or later than the schedule a retry may be, so that what failed together does not come back together.
	jitterShare = 0.2
)

// delay is the time from a failed attempt to the next, by how many attempts there were, that one included.
func delay(attempts int) time.Duration {
	early := [...]time.Duration{
		5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, time.Hour, 2 * time.Hour,
	}
	switch {
	case attempts < 1:
		return early[0]
	case attempts <= len(early):
		return early[attempts-1]
	}
	return 4 * time.Hour
}

// next is when a job is tried again whose attempts-th attempt has just ended without success. r is a random number in [0,1). It is not
// later than the moment when the job is given up, so that the last attempt is made then.
func next(attempts int, received, now time.Time, r float64) time.Time {
	d := float64(delay(attempts))
	at := now.Add(time.Duration(d * (1 - jitterShare + 2*jitterShare*r)))
	return notBeyond(at, received)
}

// notBeyond keeps a moment to try again within the life of a job.
func notBeyond(at, received time.Time) time.Time {
	if end := received.Add(GiveUpAge); at.After(end) {
		return end
	}
	return at
}

// expired reports whether a job that has just failed once more is given up.
func expired(received, now time.Time) bool { return !now.Before(received.Add(GiveUpAge)) }

// noticeDue reports whether the sender is to be told that the job still waits, at the age of after (0: never): once, and only a sender who has
// an address and has not said otherwise (RFC 3461 §5.2.5).
func noticeDue(j *store.Job, now time.Time, after time.Duration) bool {
	return after > 0 && !sentOn(j) && !j.Warned && !j.ReversePath.IsZero() && !now.Before(j.Received.Add(after)) &&
		(j.Notify == 0 || j.Notify&store.NotifyDelay != 0)
}

// bounceDue reports whether the sender is to be told that the job failed (RFC 3461 §5.2.6).
func bounceDue(j *store.Job) bool {
	if sentOn(j) {
		return true // not the sender is told, but who sends it on
	}
	return !j.ReversePath.IsZero() && (j.Notify == 0 || j.Notify&store.NotifyFailure != 0)
}

// relayedDue reports whether the sender is to be told that the job was handed to a server which will tell nothing (RFC 3461 §5.2.2).
func relayedDue(j *store.Job) bool {
	return !sentOn(j) && !j.ReversePath.IsZero() && j.Notify&store.NotifySuccess != 0
}
