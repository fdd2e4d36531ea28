package boltstore

import (
	"context"
	"encoding/json"
	"fmt"

	"latchkey/store"
)

// Settings implements store.SettingsStore.
func (s *Store) Settings(ctx context.Context) (store.Settings, error) {
	if err := ctx.Err(); err != nil {
		return store.Settings{}, err
	}
	if s.isClosing() {
		return store.Settings{}, store.ErrClosed
	}
	s.signals.Lock()
	defer s.signals.Unlock()
	return s.settings.Clone(), nil
}

// UpdateSettings implements store.SettingsStore.
func (s *Store) UpdateSettings(ctx context.Context, given store.Settings) (store.Settings, error) {
	if err := given.Validate(); err != nil {
		return store.Settings{}, err
	}
	if given.Domain != s.domain {
		return store.Settings{}, fmt.Errorf("%w: the domain is %s and stays so", store.ErrInvalid, s.domain)
	}
	given = given.Clone()
	var next store.Settings
	err := s.write(ctx, func(t *txn) error {
		old, err := t.settings()
		if err != nil {
			return err
		}
		if old.Version != given.Version {
			return fmt.Errorf("settings: %w", store.ErrConflict)
		}
		next = given.Clone()
		next.Version++
		if err := t.putSettings(next); err != nil {
			return err
		}
		if old.OldClientLogin && !next.OldClientLogin {
			t.unsealOthers(next)
		}
		stored := next.Clone()
		t.durable = append(t.durable, func() { s.announceSettings(stored) })
		return nil
	})
	if err != nil {
		return store.Settings{}, err
	}
	return next, nil
}

func (v *view) settings() (settings store.Settings, err error) {
	if err := json.Unmarshal(v.get(bMeta, []byte(metaSettings)), &settings); err != nil {
		return settings, fmt.Errorf("settings in the index: %w", err)
	}
	return settings, nil
}

func (t *txn) putSettings(settings store.Settings) error {
	b, err := json.Marshal(settings)
	if err != nil {
		return err
	}
	t.put(bMeta, []byte(metaSettings), b)
	return nil
}

// SettingsChanged implements store.SettingsStore.
func (s *Store) SettingsChanged() <-chan struct{} {
	s.signals.Lock()
	defer s.signals.Unlock()
	return s.settingsChanged
}

func (s *Store) announceSettings(settings store.Settings) {
	s.signals.Lock()
	defer s.signals.Unlock()
	s.settings = settings
	close(s.settingsChanged)
	s.settingsChanged = make(chan struct{})
}
