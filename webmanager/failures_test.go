package webmanager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"latchkey/store"
	"latchkey/store/memstore"
)

// failingStore refuses what its fields name.
type failingStore struct {
	*memstore.Store
	err error
}

func (s failingStore) AppendAudit(context.Context, store.AuditEntry) error { return s.err }
func (s failingStore) AddAccount(context.Context, store.Account) (store.Account, error) {
	return store.Account{}, s.err
}

func TestStoreFailures(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code Code
	}{
		{store.ErrNoSpace, CodeUnavailable}, {store.ErrPoisoned, CodeUnavailable}, {store.ErrClosed, CodeUnavailable},
		{store.ErrConflict, CodeConflict}, {store.ErrExists, CodeExists}, {store.ErrReserved, CodeReserved},
		{store.ErrNotFound, CodeNotFound}, {fmt.Errorf("%w: too odd", store.ErrInvalid), CodeInvalid}, {context.Canceled, CodeUnavailable},
		{errors.New("a path in /var/lib"), CodeInternal}, {store.ErrDamaged, CodeInternal},
	} {
		wrapped := fmt.Errorf("outer: %w", fmt.Errorf("inner: %w", tt.err))
		api := New(Options{Store: failingStore{memstore.New(domain), wrapped}, Hasher: fakeHasher{}})
		client := InProcess(api, Actor{Role: RoleOperator, Name: "tester"})
		err := client.Do(t.Context(), "POST", "/v1/accounts", NewAccount{Name: "x", Password: "12345678"}, nil)
		if !isCode(err, tt.code) || strings.Contains(err.Error(), "/var/lib") {
			t.Errorf("%v: got %v, want %s", tt.err, err, tt.code)
		}
	}
}

func TestUnauditedChangeIsReported(t *testing.T) {
	s := memstore.New(domain)
	api := New(Options{Store: failingStore{s, errors.New("disk on fire")}, Hasher: fakeHasher{}})
	err := InProcess(api, Actor{Role: RoleOperator, Name: "tester"}).Do(t.Context(), "PATCH", "/v1/settings", map[string]bool{"auth_on_mx": false}, nil)
	if !isCode(err, CodeInternal) || !strings.Contains(err.Error(), "the change was made, but could not be written to the audit log") {
		t.Errorf("got %v", err)
	}
	if now, _ := s.Settings(t.Context()); now.AuthOnMX {
		t.Error("the change was not made")
	}
}

// conflictingStore answers the first updates of an account as if somebody else had been quicker.
type conflictingStore struct {
	*memstore.Store
	left int
}

func (s *conflictingStore) UpdateAccount(ctx context.Context, a store.Account) (store.Account, error) {
	if s.left > 0 {
		s.left--
		return store.Account{}, store.ErrConflict
	}
	return s.Store.UpdateAccount(ctx, a)
}

func TestConflictsAreTriedAgain(t *testing.T) {
	for conflicts := maxConflicts - 1; conflicts <= maxConflicts; conflicts++ {
		s := &conflictingStore{Store: memstore.New(domain)}
		client := InProcess(New(Options{Store: s, Hasher: fakeHasher{}}), Actor{Role: RoleOperator, Name: "tester"})
		if err := client.Do(t.Context(), "POST", "/v1/accounts", NewAccount{Name: "x", Password: "12345678"}, nil); err != nil {
			t.Fatal(err)
		}
		on := true
		for _, change := range []struct {
			method, path string
			body         any
		}{{"PATCH", "/v1/accounts/x", AccountChange{Suspended: &on}}, {"PUT", "/v1/accounts/x/password", Password{Password: "new password"}}} {
			s.left = conflicts
			err := client.Do(t.Context(), change.method, change.path, change.body, nil)
			if conflicts < maxConflicts && err != nil || conflicts == maxConflicts && !isCode(err, CodeConflict) {
				t.Errorf("%s after %d conflicts: got %v", change.path, conflicts, err)
			}
		}
	}
}

// panickingHasher stands for a bug.
type panickingHasher struct{}

func (panickingHasher) Hash(context.Context, string) (store.Verifier, error) { panic("bug") }

func TestPanicIsAnswered(t *testing.T) {
	client := InProcess(New(Options{Store: memstore.New(domain), Hasher: panickingHasher{}}), Actor{Role: RoleOperator, Name: "tester"})
	err := client.Do(t.Context(), "POST", "/v1/accounts", NewAccount{Name: "x", Password: "12345678"}, nil)
	if !isCode(err, CodeInternal) {
		t.Errorf("got %v", err)
	}
}

func TestActorIsNeeded(t *testing.T) {
	f := newFixture(t)
	w := httptest.NewRecorder()
	r := httptest.NewRequest("PATCH", "/v1/settings", strings.NewReader(`{"auth_on_mx":false}`))
	r.Header.Set("Content-Type", "application/json")
	f.api.ServeHTTP(w, r)
	if w.Code != http.StatusInternalServerError {
		t.Errorf("got %d", w.Code)
	}
	if s, _ := f.store.Settings(t.Context()); !s.AuthOnMX {
		t.Error("a change was made in nobody's name")
	}
}

// holedStore has a trail of which a part cannot be read.
type holedStore struct{ *memstore.Store }

func (s holedStore) MessageTrail(ctx context.Context, id store.MessageID) ([]store.TrailEvent, error) {
	events, err := s.Store.MessageTrail(ctx, id)
	return events, errors.Join(err, store.TrailGaps{{From: 2, To: 5}})
}

func (s holedStore) SearchTrail(ctx context.Context, q store.TrailQuery, limit int) (store.TrailPage, error) {
	page, err := s.Store.SearchTrail(ctx, q, limit)
	return page, errors.Join(err, store.TrailGaps{{From: 4, To: 7}})
}

// TestTrailWithGaps: what was found is told, and that a part could not be looked at, there and in the log.
func TestTrailWithGaps(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert")
	receipt := f.deliver()
	var log strings.Builder
	api := New(Options{Store: holedStore{f.store}, Hasher: fakeHasher{}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	client := InProcess(api, Actor{Role: RoleOperator, Name: "tester"})
	for what, want := range map[string]store.TrailGap{"anna@example.com": {From: 4, To: 7}, receipt.Message.String(): {From: 2, To: 5}} {
		var result TrailResult
		if err := client.Do(t.Context(), "GET", "/v1/trail?for="+what, nil, &result); err != nil {
			t.Fatal(err)
		}
		if len(result.Messages) != 1 || len(result.Unreadable) != 1 || result.Unreadable[0] != want {
			t.Errorf("%s: got %+v, want one message and the gap %v", what, result, want)
		}
		if !strings.Contains(log.String(), "cannot be read: "+want.String()) {
			t.Errorf("the log says %q", log.String())
		}
		log.Reset()
	}
}
