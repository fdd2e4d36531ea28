package cli

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"latchkey/config"
	"latchkey/store"
	"latchkey/store/memstore"
	"latchkey/webmanager"
)

// holedStore has a trail of which a part cannot be read.
type holedStore struct{ *memstore.Store }

func (s holedStore) SearchTrail(ctx context.Context, q store.TrailQuery, limit int) (store.TrailPage, error) {
	page, err := s.Store.SearchTrail(ctx, q, limit)
	return page, errors.Join(err, store.TrailGaps{{From: 4, To: 7}, {From: 20, To: 21}})
}

// TestTrailWithGaps: the command shows what was found, and says which events it could not look at.
func TestTrailWithGaps(t *testing.T) {
	w := newWorld(t)
	w.adapt = func(env *Env) {
		env.Open = func(context.Context, config.Config) (*webmanager.API, io.Closer, error) {
			s := holedStore{memstore.New("example.com")}
			return webmanager.New(webmanager.Options{Store: s, Hasher: w.hasher}), io.NopCloser(nil), nil
		}
	}
	for _, form := range [][]string{nil, {"--json"}} {
		status, _, stderr := w.run("", append([]string{"trail", "anna@example.com", "--data", w.dir}, form...)...)
		if status != 0 || !strings.Contains(stderr, "cannot be read, events 4 to 7:") || !strings.Contains(stderr, "cannot be read, events 20 to 21:") || !strings.Contains(stderr, "check --repair") {
			t.Errorf("status %d, it says %q", status, stderr)
		}
	}
}
