package relay

import (
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

var origin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// TestSchedule walks the whole life of a job that never gets through, without jitter.
func TestSchedule(t *testing.T) {
	want := []time.Duration{
		5 * time.Minute, 15 * time.Minute, 35 * time.Minute, 75 * time.Minute, 135 * time.Minute, 255 * time.Minute, 495 * time.Minute,
	}
	now, attempts, noticed := origin, 0, time.Duration(0)
	j := store.Job{Received: origin, ReversePath: addr(t, "a@example.org")}
	for !expired(origin, now) {
		attempts++
		if noticed == 0 && noticeDue(&j, now, 4*time.Hour) {
			noticed, j.Warned = now.Sub(origin), true
		}
		at := next(attempts, origin, now, 0.5)
		if attempts <= len(want) && at.Sub(origin) != want[attempts-1] {
			t.Errorf("attempt %d is followed by one at %v, want %v", attempts, at.Sub(origin), want[attempts-1])
		}
		if at.Sub(now) > 4*time.Hour || !at.After(now) {
			t.Fatalf("attempt %d at %v is followed by one at %v", attempts, now.Sub(origin), at.Sub(origin))
		}
		now = at
	}
	if now.Sub(origin) != GiveUpAge {
		t.Errorf("last attempt at %v, want %v", now.Sub(origin), GiveUpAge)
	}
	if noticed != 255*time.Minute {
		t.Errorf("notice at %v, want 4h15m", noticed)
	}
	if attempts != 35 {
		t.Errorf("%d attempts before the last one, want 35", attempts)
	}
}

func TestJitter(t *testing.T) {
	for _, tt := range []struct {
		r    float64
		want time.Duration
	}{{0, 4 * time.Minute}, {0.5, 5 * time.Minute}, {0.9999999999, 6 * time.Minute}} {
		got := next(1, origin, origin, tt.r).Sub(origin)
		if diff := (got - tt.want).Abs(); diff > time.Millisecond {
			t.Errorf("jitter %v: next attempt after %v, want %v", tt.r, got, tt.want)
		}
	}
}

func TestExpiryEdge(t *testing.T) {
	for _, tt := range []struct {
		age  time.Duration
		want bool
	}{{GiveUpAge - 1, false}, {GiveUpAge, true}, {GiveUpAge + 1, true}} {
		if got := expired(origin, origin.Add(tt.age)); got != tt.want {
			t.Errorf("age %v: expired %v, want %v", tt.age, got, tt.want)
		}
	}
}

// TestNotify is RFC 3461 §5.2 as a table: which reports a recipient's NOTIFY asks for.
func TestNotify(t *testing.T) {
	const after = 4 * time.Hour
	old := origin.Add(after)
	for _, tt := range []struct {
		name                    string
		notify                  store.Notify
		null, warned            bool
		now                     time.Time
		notice, bounce, relayed bool
	}{
		{name: "unset", now: old, notice: true, bounce: true},
		{name: "unset, young", now: old.Add(-1), bounce: true},
		{name: "unset, told", now: old, warned: true, bounce: true},
		{name: "null reverse-path", now: old, null: true, notify: store.NotifySuccess | store.NotifyFailure | store.NotifyDelay},
		{name: "null reverse-path, unset", now: old, null: true},
		{name: "never", now: old, notify: store.NotifyNever},
		{name: "success", now: old, notify: store.NotifySuccess, relayed: true},
		{name: "failure", now: old, notify: store.NotifyFailure, bounce: true},
		{name: "delay", now: old, notify: store.NotifyDelay, notice: true},
		{name: "all", now: old, notify: store.NotifySuccess | store.NotifyFailure | store.NotifyDelay, notice: true, bounce: true, relayed: true},
	} {
		j := store.Job{Received: origin, Notify: tt.notify, Warned: tt.warned}
		if !tt.null {
			j.ReversePath = addr(t, "a@example.org")
		}
		if n, b, r := noticeDue(&j, tt.now, after), bounceDue(&j), relayedDue(&j); n != tt.notice || b != tt.bounce || r != tt.relayed {
			t.Errorf("%s: notice %v, bounce %v, relayed %v", tt.name, n, b, r)
		}
		if noticeDue(&j, tt.now.Add(time.Hour), 0) {
			t.Errorf("%s: a notice although there are none", tt.name)
		}
	}
}

func addr(t testing.TB, s string) mailaddr.Address {
	t.Helper()
	a, err := mailaddr.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
