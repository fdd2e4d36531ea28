package relay

import (
	"strings"
	"time"

	"latchkey/store"
)

const (
	// firstConnections is how many connections a host gets at once before anything is known of it.
	firstConnections = 2
	// ceilingTime is how long a host is not asked for more connections than it took when it last refused one, nor sent messages much
	// faster than when it last refused one.
	ceilingTime = 10 * time.Minute
	// leastPace is the first pause between two messages to a host that asks for less on a single connection, maxPace the longest. A host that
	// wants more than that is left alone for a while (maxPutOff).
	leastPace, maxPace = 100 * time.Millisecond, 2 * time.Second
)

// window is how many connections a host gets at once, and how fast the messages follow each other on the last one. It grows by one for
// each round of successes, and is halved when the host pushes back. The clock is an argument everywhere.
type window struct {
	limit int
	// good counts the successes since the limit last changed.
	good int
	// cut is when the limit was last halved: what was begun before is no news.
	cut time.Time
	// ceiling, if it is not 0, is not grown beyond until a moment, and floor is as fast as the messages get until then.
	ceiling      int
	floor        time.Duration
	ceilingUntil time.Time
	pace         time.Duration
	// next is when the next message may begin, where there is a pace.
	next time.Time
}

// success counts a delivery. most bounds the limit.
func (w *window) success(most int, now time.Time) {
	if !now.Before(w.ceilingUntil) {
		w.ceiling, w.floor = 0, 0
	}
	if w.pace = max(w.pace*7/8, w.floor); w.pace < leastPace {
		w.pace = 0
	}
	if w.ceiling > 0 {
		most = min(most, w.ceiling)
	}
	if w.limit >= most || w.pace > 0 {
		w.good = 0
		return
	}
	if w.good++; w.good >= w.limit {
		w.limit, w.good = w.limit+1, 0
	}
}

// pushBack halves the limit, because of an answer to what was begun at a moment; at 1 it slows down instead. Answers to what was begun
// before the last such cut belong to that one.
func (w *window) pushBack(begun, now time.Time) {
	if begun.Before(w.cut) {
		return
	}
	w.good, w.cut = 0, now
	if w.limit > 1 {
		w.limit /= 2
		return
	}
	w.floor, w.ceilingUntil = min(w.pace*5/4, maxPace), now.Add(ceilingTime)
	w.pace = min(max(2*w.pace, leastPace), maxPace)
}

// refused notes that a host took so many connections and not one more.
func (w *window) refused(took int, now time.Time) {
	w.limit, w.good, w.cut = max(took, 1), 0, now
	w.ceiling, w.ceilingUntil = w.limit, now.Add(ceilingTime)
}

// wait says how long the next message has to wait, and books its moment.
func (w *window) wait(now time.Time) time.Duration {
	if w.pace == 0 {
		return 0
	}
	at := now
	if w.next.After(now) {
		at = w.next
	}
	w.next = at.Add(w.pace)
	return at.Sub(now)
}

// pushesBack reports whether a verdict means that the host wants less of us, rather than not this message or not this recipient now.
// Greylisting does not: more patience is all it asks for.
func pushesBack(v verdict) bool {
	if v.kind != store.Deferred {
		return false
	}
	words := strings.ToLower(v.words)
	switch {
	case !v.answered:
		return v.peer.host != "" // a connection that broke, or did not come about
	case strings.Contains(words, "greylist"), strings.Contains(words, "graylist"), strings.Contains(words, "grey-list"):
		return false
	case strings.HasPrefix(words, "421"), v.status == "4.4.5", v.status == "4.3.2":
		return true
	case strings.HasPrefix(v.status, "4.1."), strings.HasPrefix(v.status, "4.2."), v.status == tooManyRecipients:
		return false // of one recipient, or one transaction
	}
	for _, part := range []string{"too many", "rate limit", "ratelimit", "throttl", "slow down", "too fast", "exceed", "overload", "congest", "busy"} {
		if strings.Contains(words, part) {
			return true
		}
	}
	return v.scope == aboutMessage
}
