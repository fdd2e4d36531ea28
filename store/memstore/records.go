package memstore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"latchkey/store"
)

// Settings implements store.SettingsStore.
func (s *Store) Settings(ctx context.Context) (store.Settings, error) {
	if err := s.begin(ctx); err != nil {
		return store.Settings{}, err
	}
	defer s.end()
	return s.d.settings.Clone(), nil
}

// UpdateSettings implements store.SettingsStore.
func (s *Store) UpdateSettings(ctx context.Context, settings store.Settings) (store.Settings, error) {
	if err := settings.Validate(); err != nil {
		return store.Settings{}, err
	}
	if err := s.begin(ctx); err != nil {
		return store.Settings{}, err
	}
	defer s.end()
	if settings.Domain != s.d.settings.Domain {
		return store.Settings{}, fmt.Errorf("%w: the domain never changes", store.ErrInvalid)
	}
	if settings.Version != s.d.settings.Version {
		return store.Settings{}, store.ErrConflict
	}
	settings.Version++
	s.d.settings = settings.Clone()
	for _, a := range s.d.accounts {
		if !a.MaySeal(settings) {
			a.Sealed = ""
		}
	}
	close(s.d.settingsChanged)
	s.d.settingsChanged = make(chan struct{})
	return settings.Clone(), nil
}

// SettingsChanged implements store.SettingsStore.
func (s *Store) SettingsChanged() <-chan struct{} {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	return s.d.settingsChanged
}

// PutSecret implements store.Secrets.
func (s *Store) PutSecret(ctx context.Context, name string, blob []byte) error {
	if name == "" || len(name) > store.MaxSecretName {
		return fmt.Errorf("%w: a secret's name has 1 to %d octets", store.ErrInvalid, store.MaxSecretName)
	}
	if len(blob) > store.MaxSecretSize {
		return fmt.Errorf("%w: a secret has at most %d octets", store.ErrBound, store.MaxSecretSize)
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	s.d.secrets[name] = slices.Clone(blob)
	return nil
}

// Secret implements store.Secrets.
func (s *Store) Secret(ctx context.Context, name string) ([]byte, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	blob, ok := s.d.secrets[name]
	if !ok {
		return nil, store.ErrNotFound
	}
	return slices.Clone(blob), nil
}

// RemoveSecret implements store.Secrets.
func (s *Store) RemoveSecret(ctx context.Context, name string) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	if _, ok := s.d.secrets[name]; !ok {
		return store.ErrNotFound
	}
	delete(s.d.secrets, name)
	return nil
}

// counter is a bucket that is not full, and the limit that it was last used with.
type counter struct {
	bucket store.Bucket
	limit  store.Limit
}

func (c *counter) fullAt() time.Time { return c.bucket.FullAt(c.limit) }

// Take implements store.Counters.
func (s *Store) Take(ctx context.Context, now time.Time, key string, cost int64, l store.Limit) (store.Taken, error) {
	if err := validCount(key, cost, l); err != nil {
		return store.Taken{}, err
	}
	if err := s.begin(ctx); err != nil {
		return store.Taken{}, err
	}
	defer s.end()
	c, known := s.d.counters[key]
	if !known {
		c = &counter{}
	}
	c.limit = l
	taken := c.bucket.Take(now, cost, l)
	if !known && c.bucket.Used > 0 {
		s.d.makeRoomForCounter(now)
		s.d.counters[key] = c
	}
	return taken, nil
}

// Give implements store.Counters.
func (s *Store) Give(ctx context.Context, now time.Time, key string, cost int64, l store.Limit) error {
	if err := validCount(key, cost, l); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	if c := s.d.counters[key]; c != nil {
		c.limit = l
		c.bucket.Give(now, cost, l)
	}
	return nil
}

func validCount(key string, cost int64, l store.Limit) error {
	if key == "" || len(key) > store.MaxCounterKey || cost < 0 {
		return fmt.Errorf("%w: a counter's key has 1 to %d octets, and its cost is not negative", store.ErrInvalid, store.MaxCounterKey)
	}
	return l.Validate()
}

// makeRoomForCounter forgets, when the bound is reached, all buckets that are full again, which changes nothing, or else the one
// that will be first.
func (d *data) makeRoomForCounter(now time.Time) {
	if len(d.counters) < d.bounds.counters {
		return
	}
	maps.DeleteFunc(d.counters, func(_ string, c *counter) bool { return !c.fullAt().After(now) })
	if len(d.counters) < d.bounds.counters {
		return
	}
	fullest := slices.MinFunc(slices.Collect(maps.Keys(d.counters)), func(a, b string) int {
		return d.counters[a].fullAt().Compare(d.counters[b].fullAt())
	})
	delete(d.counters, fullest)
}

// PutWebSession implements store.WebSessions.
func (s *Store) PutWebSession(ctx context.Context, w store.WebSession) error {
	if len(w.Data) > store.MaxWebSessionSize {
		return fmt.Errorf("%w: a web session has at most %d octets", store.ErrBound, store.MaxWebSessionSize)
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	w.Data = slices.Clone(w.Data)
	s.d.sessions[w.Token] = w
	if len(s.d.sessions) > s.d.bounds.webSessions {
		delete(s.d.sessions, slices.MinFunc(slices.Collect(maps.Keys(s.d.sessions)), func(a, b [32]byte) int {
			return s.d.sessions[a].Expires.Compare(s.d.sessions[b].Expires)
		}))
	}
	return nil
}

// WebSession implements store.WebSessions.
func (s *Store) WebSession(ctx context.Context, now time.Time, token [32]byte) (store.WebSession, error) {
	if err := s.begin(ctx); err != nil {
		return store.WebSession{}, err
	}
	defer s.end()
	w, ok := s.d.sessions[token]
	if !ok || !now.Before(w.Expires) {
		return store.WebSession{}, store.ErrNotFound
	}
	w.Data = slices.Clone(w.Data)
	return w, nil
}

// RemoveWebSession implements store.WebSessions.
func (s *Store) RemoveWebSession(ctx context.Context, token [32]byte) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	delete(s.d.sessions, token)
	return nil
}

// AppendAudit implements store.Audit.
func (s *Store) AppendAudit(ctx context.Context, e store.AuditEntry) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	s.d.lastAudit++
	e.Seq = s.d.lastAudit
	s.d.audit = append(s.d.audit, e)
	s.d.audit = s.d.audit[max(len(s.d.audit)-s.d.bounds.auditEntries, 0):]
	return nil
}

// ListAudit implements store.Audit.
func (s *Store) ListAudit(ctx context.Context, before uint64, limit int) ([]store.AuditEntry, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var list []store.AuditEntry
	for _, e := range slices.Backward(s.d.audit) {
		if len(list) >= limit {
			break
		}
		if before == 0 || e.Seq < before {
			list = append(list, e)
		}
	}
	return list, nil
}

// AddStat implements store.Stats.
func (s *Store) AddStat(ctx context.Context, day store.Day, name string, n int64) error {
	if name == "" || len(name) > store.MaxStatName {
		return fmt.Errorf("%w: a figure's name has 1 to %d octets", store.ErrInvalid, store.MaxStatName)
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	names := s.d.stats[day]
	if names == nil {
		names = map[string]int64{}
		s.d.stats[day] = names
	}
	if _, known := names[name]; known || len(names) < s.d.bounds.statNames {
		names[name] += n
	}
	if len(s.d.stats) > store.MaxStatDays {
		delete(s.d.stats, slices.Min(slices.Collect(maps.Keys(s.d.stats))))
	}
	return nil
}

// Stat implements store.Stats.
func (s *Store) Stat(ctx context.Context, day store.Day, name string) (int64, error) {
	if err := s.begin(ctx); err != nil {
		return 0, err
	}
	defer s.end()
	return s.d.stats[day][name], nil
}

// ListStats implements store.Stats.
func (s *Store) ListStats(ctx context.Context, from, to store.Day) ([]store.Stat, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var list []store.Stat
	for day, names := range s.d.stats {
		if day < from || day > to {
			continue
		}
		for name, n := range names {
			list = append(list, store.Stat{Day: day, Name: name, N: n})
		}
	}
	slices.SortFunc(list, func(a, b store.Stat) int { return cmp.Or(cmp.Compare(a.Day, b.Day), cmp.Compare(a.Name, b.Name)) })
	return list, nil
}
