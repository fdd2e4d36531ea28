package boltstore

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSlowCommitsAreTold: the operator hears of a commit that takes long, of the journal and of the index, and of none that does not.
func TestSlowCommitsAreTold(t *testing.T) {
	for _, tt := range []struct {
		slow time.Duration
		want bool
	}{{time.Nanosecond, true}, {time.Hour, false}} {
		var log bytes.Buffer
		dir := filepath.Join(t.TempDir(), "data")
		initData(t, dir)
		s := openData(t, dir, Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), slow: tt.slow})
		deliver(t, s, 100, 1)
		noError(t, s.settle(t.Context(), true))
		closeData(t, s)
		for _, of := range []string{"journal", "index"} {
			if told := strings.Contains(log.String(), `level=WARN msg="a commit took long" of=`+of+" took="); told != tt.want {
				t.Errorf("bound %v, %s: told %t, want %t\n%s", tt.slow, of, told, tt.want, log.String())
			}
		}
	}
}
