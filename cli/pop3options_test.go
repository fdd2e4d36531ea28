package cli

import (
	"strings"
	"testing"
	"time"

	"latchkey/relay"
	"latchkey/webmanager"
)

// TestOldClientLoginShown: a password may be kept for the domain's setting alone.
func TestOldClientLoginShown(t *testing.T) {
	for want, a := range map[string]webmanager.Account{
		"off": {}, "on": {OldClientLogin: true}, "off, password kept": {PasswordKept: true}, "on, password kept": {OldClientLogin: true, PasswordKept: true},
	} {
		if got := oldClientLogin(a); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestSeenInClearShown: account list and show, and device list, say of a password that it was seen in the clear.
func TestSeenInClearShown(t *testing.T) {
	since := time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)
	for want, a := range map[string]webmanager.Account{
		"open": {}, "suspended": {Suspended: true}, "open, password seen in the clear": {ClearSince: since},
		"suspended, password seen in the clear": {Suspended: true, ClearSince: since},
	} {
		if got := state(a); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	d := webmanager.Device{ClearSince: since}
	if got := deviceExpiry(d); got != "never, password seen in the clear" {
		t.Errorf("got %q", got)
	}
	d.Expires, d.Expired = since, true
	if got := deviceExpiry(d); got != "expired 2026-04-01T12:00:00Z, password seen in the clear" {
		t.Errorf("got %q", got)
	}
	if a, b := seenInClear(since), seenInClear(time.Time{}); a != "2026-04-01T12:00:00Z" || b != "-" {
		t.Errorf("got %q and %q", a, b)
	}
}

// TestSlowShown: a provider to which mail goes slowly is named with its pace and the reason; without one there is no table.
func TestSlowShown(t *testing.T) {
	var b strings.Builder
	env := &Env{Stdout: &b}
	if err := env.printSlow(nil); err != nil || b.String() != "" {
		t.Errorf("%q, %v", b.String(), err)
	}
	at := time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)
	if err := env.printSlow([]relay.Slow{{Provider: "example.net", Since: at, Until: at, Next: at, Pause: time.Minute, Why: "554 blocked"}}); err != nil {
		t.Error(err)
	}
	if want := "example.net  2026-04-01T12:00:00Z  1m0s            2026-04-01T12:00:00Z  2026-04-01T12:00:00Z  554 blocked\n"; !strings.HasSuffix(b.String(), want) {
		t.Errorf("got %q", b.String())
	}
}
