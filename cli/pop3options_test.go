package cli

import (
	"testing"

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
