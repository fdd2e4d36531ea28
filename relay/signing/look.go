package signing

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"latchkey/internal/dkim"
	"latchkey/store"
)

// lookEvery is how often records are looked for while a key is New.
const lookEvery = 10 * time.Minute

// TXT returns the TXT records of a name, each with its strings joined. None is an empty list.
type TXT func(ctx context.Context, name string) ([]string, error)

// Look looks for the records of all keys, notes what it finds, and lets those New keys sign whose time has come. It returns the selectors
// of the keys that began to sign. A record that could not be looked for stays as it was known.
func (r *Ring) Look(ctx context.Context, domain string, txt TXT) (began []string, err error) {
	keys, err := r.Keys(ctx)
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	found := map[string]error{}
	for _, k := range keys {
		texts, err := txt(ctx, dkim.Name(k.Selector, domain))
		if err != nil {
			continue
		}
		found[k.Selector] = Published(texts, k.Record)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now := r.now()
	err = r.change(ctx, func(list []kept) ([]kept, error) {
		for i := range list {
			k := &list[i]
			finding, looked := found[k.Selector]
			if !looked {
				continue
			}
			k.note(finding, now)
			if k.State == New && due(list, k, now) {
				r.begin(list, i)
				began = append(began, k.Selector)
			}
		}
		return list, nil
	})
	return began, err
}

// note keeps what a look found.
func (k *Key) note(finding error, now time.Time) {
	k.Looked, k.Finding = now, ""
	switch {
	case finding != nil:
		k.Seen, k.Finding = time.Time{}, Words(finding)
	case k.Seen.IsZero():
		k.Seen = now
	}
}

// due reports whether a New key may sign.
func due(list []kept, k *kept, now time.Time) bool {
	if k.Seen.IsZero() {
		return false
	}
	first := !slices.ContainsFunc(list, func(o kept) bool { return o.State == Signing && o.Algorithm == k.Algorithm })
	return first || now.Sub(k.Seen) >= Settle
}

// Published says whether the texts at a key's name do for a verifier. nil: they do.
func Published(texts []string, record string) error {
	switch len(texts) {
	case 0:
		return dkim.ErrNoRecord
	case 1:
		return dkim.Compare(texts[0], record)
	}
	// RFC 6376 §3.6.2.2: what a verifier takes of several is undefined.
	return errSeveral
}

var errSeveral = errors.New("signing: there are several TXT records at the name, where one belongs")

// Words puts what [Published] returned into words for people.
func Words(finding error) string {
	text := finding.Error()
	if _, after, ok := strings.Cut(text, ": "); ok {
		return after
	}
	return text
}

// Watcher looks for the records of New keys as long as there are any.
type Watcher struct {
	Ring     *Ring
	Settings interface {
		Settings(ctx context.Context) (store.Settings, error)
	}
	TXT    TXT
	Logger *slog.Logger
}

// Run looks now and then, until ctx ends. It asks the DNS nothing while no key is New.
func (w *Watcher) Run(ctx context.Context) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		if err := w.look(ctx); err != nil && ctx.Err() == nil {
			w.Logger.Error("DKIM keys not looked at", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (w *Watcher) look(ctx context.Context) error {
	keys, err := w.Ring.Keys(ctx)
	if err != nil || !slices.ContainsFunc(keys, func(k Key) bool { return k.State == New }) {
		return err
	}
	settings, err := w.Settings.Settings(ctx)
	if err != nil {
		return err
	}
	began, err := w.Ring.Look(ctx, settings.Domain, w.TXT)
	for _, selector := range began {
		w.Logger.Info("DKIM key signs from now on", "selector", selector)
	}
	return err
}
