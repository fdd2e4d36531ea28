package guard

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestWait: as long as it was said, unless the context or the process ends first; nothing is left of it.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewLogins(LoginLimits{})
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for _, tt := range []struct {
			wait func() error
			took time.Duration
			want error
		}{
			{func() error { return g.Wait(t.Context(), cafe, 7*time.Second) }, 7 * time.Second, nil},
			{func() error { return g.Wait(t.Context(), cafe, 0) }, 0, nil},
			{func() error { return g.WaitSlow(t.Context(), cafe, "anna") }, 15 * time.Second, nil},
			{func() error { return g.Wait(ended, cafe, time.Second) }, 0, context.Canceled},
			{func() error {
				time.AfterFunc(time.Second, g.EndWaits)
				return g.WaitSlow(t.Context(), cafe, "anna")
			}, time.Second, ErrCrowded},
			{func() error { g.EndWaits(); return g.Wait(t.Context(), cafe, time.Hour) }, 0, ErrCrowded},
		} {
			begun := time.Now()
			if err := tt.wait(); !errors.Is(err, tt.want) || time.Since(begun) != tt.took {
				t.Errorf("after %v %v, want %v %v", time.Since(begun), err, tt.took, tt.want)
			}
		}
		if w := g.waits; w.total != 0 || len(w.prefixes) != 0 || len(w.mailboxes) != 0 {
			t.Errorf("left: %d, %v, %v", w.total, w.prefixes, w.mailboxes)
		}
	})
}
