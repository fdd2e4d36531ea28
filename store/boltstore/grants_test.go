package boltstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"latchkey/internal/vfs"
	"latchkey/internal/vfs/vfstest"
	"latchkey/store"
)

// grantFor is a request of anna's (account 1) for the nth network.
func grantFor(n int) store.GrantRequest {
	network := netip.PrefixFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 10<<24+uint32(n)))), 32)
	return store.GrantRequest{
		Account: 1, Network: network, CredentialVersion: 1, Window: 20 * time.Minute, Longest: 12 * time.Hour, Recipients: 50,
		MostLive: store.MaxAccountGrants,
	}
}

func openGrant(t *testing.T, s *Store, now time.Time, n int) store.Grant {
	t.Helper()
	g, err := s.OpenGrant(t.Context(), now, grantFor(n))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func allGrants(t *testing.T, s *Store) []store.Grant {
	t.Helper()
	list, err := s.ListGrants(t.Context(), store.GrantFilter{}, 0, store.MaxGrants)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// killed opens a copy of the data as kill -9 would leave it.
func killed(t *testing.T, dir string) *Store {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "copy")
	copyData(t, dir, copied)
	s := openData(t, copied, Options{})
	t.Cleanup(func() { closeData(t, s) })
	problems, err := s.Check(t.Context())
	if err != nil || len(problems) > 0 {
		t.Errorf("Check: %v, %v", problems, err)
	}
	return s
}

// inOneGroup makes verbs share one transaction, in this order. The store's file system is v.
func inOneGroup(t *testing.T, s *Store, v *vfstest.Trace, verbs ...func() error) {
	t.Helper()
	gate := v.Hold(t, vfstest.IndexWrite)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.PutSecret(context.Background(), "before the group", nil); err != nil {
			t.Error(err)
		}
	})
	gate.Wait()
	for i, verb := range verbs {
		wg.Go(func() {
			if err := verb(); err != nil {
				t.Errorf("verb %d: %v", i, err)
			}
		})
		for len(s.requests) <= i {
			runtime.Gosched()
		}
	}
	gate.Pass()
	gate.Wait()
	gate.Open()
	wg.Wait()
}

// TestNoSyncForGrants: after the first, which reserves ids, no login and no recipient waits for the device.
func TestNoSyncForGrants(t *testing.T) {
	r := vfstest.NewTrace(vfs.OS{})
	s, _ := fresh(t, Options{fs: r})
	s.lazy.flushing.Lock() // what is written later is written later
	first := openGrant(t, s, time.Now(), 0)
	commits := r.Count(vfstest.IndexSync)
	for n := range grantBlock / 10 {
		g := openGrant(t, s, time.Now(), n)
		if ok, err := s.SpendGrant(t.Context(), time.Now(), g.ID, 3); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := s.RefundGrant(t.Context(), g.ID, 1); err != nil {
			t.Fatal(err)
		}
	}
	if all := r.Count(vfstest.IndexSync); all != commits || commits == 0 {
		t.Errorf("%d commits for the first grant and %d for the others, want some and none", commits, all-commits)
	}
	s.lazy.flushing.Unlock()
	if err := s.flushLazy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.lazy.timer != nil || len(s.grants.dirty) > 0 {
		t.Errorf("after a flush %d grants are to be written", len(s.grants.dirty))
	}
	if got := openGrant(t, s, time.Now(), 0); got.ID != first.ID {
		t.Errorf("renewed %+v, want grant %s", got, first.ID)
	}
}

// TestGrantsAreWritten: with the flush, and without a Close; what comes after it is what a crash may forget.
func TestGrantsAreWritten(t *testing.T) {
	s, dir := fresh(t, Options{})
	now := time.Now()
	written, replaced := openGrant(t, s, now, 1), openGrant(t, s, now, 2)
	if ok, err := s.SpendGrant(t.Context(), now, written.ID, 7); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := s.flushLazy(t.Context()); err != nil {
		t.Fatal(err)
	}
	openGrant(t, s, replaced.Expires, 2)
	if err := s.flushLazy(t.Context()); err != nil {
		t.Fatal(err)
	}
	forgotten := openGrant(t, s, now, 3)
	again := killed(t, dir)
	got := allGrants(t, again)
	if len(got) != 2 || got[0].ID != written.ID || got[0].Left != written.Left-7 || got[1].Network != replaced.Network || got[1].ID == replaced.ID {
		t.Errorf("after a crash %+v, want %+v and another for %s", got, written, replaced.Network)
	}
	if g := openGrant(t, again, now, 4); g.ID <= forgotten.ID {
		t.Errorf("grant %s after a crash, but %s was given before", g.ID, forgotten.ID)
	}
}

// TestGrantIDsAfterACrash: no id is given again, however many were forgotten.
func TestGrantIDsAfterACrash(t *testing.T) {
	s, dir := fresh(t, Options{})
	s.lazy.flushing.Lock()
	defer s.lazy.flushing.Unlock()
	now := time.Now()
	last := store.GrantID(0)
	for n := range 2*grantBlock + 1 {
		g := openGrant(t, s, now.Add(time.Duration(n)*20*time.Minute), n)
		if g.ID != last+1 {
			t.Fatalf("grant %s after %s", g.ID, last)
		}
		if last = g.ID; n == grantBlock-1 || n == grantBlock || n == 2*grantBlock {
			if g := openGrant(t, killed(t, dir), now, 0); g.ID <= last {
				t.Errorf("grant %s after a crash, but %s was given before", g.ID, last)
			}
		}
	}
}

// TestReservationFails: without ids that are reserved for good there are no grants.
func TestReservationFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	f := vfstest.NewFaulty(vfs.OS{}, 0, false, func(op vfstest.Op) error {
		if op.Kind == vfstest.IndexSync {
			return syscall.EIO
		}
		return nil
	})
	s := openData(t, dir, Options{fs: f})
	f.FailNow()
	for range 2 {
		if g, err := s.OpenGrant(t.Context(), time.Now(), grantFor(1)); !errors.Is(err, store.ErrPoisoned) {
			t.Errorf("opened %+v, %v, want %v", g, err, store.ErrPoisoned)
		}
	}
	if got := allGrants(t, s); len(got) > 0 {
		t.Errorf("grants %+v, want none", got)
	}
	closeData(t, s)
}

// TestReservationIsRenewed: with a flush, before it is used up.
func TestReservationIsRenewed(t *testing.T) {
	r := vfstest.NewTrace(vfs.OS{})
	s, _ := fresh(t, Options{fs: r})
	now := time.Now()
	for n := range 2 * grantBlock {
		openGrant(t, s, now.Add(time.Duration(n)*20*time.Minute), n)
		if n%(grantBlock/4) == 0 {
			if err := s.flushLazy(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Open, the first reservation, and the flushes.
	if most, commits := 1+1+8, r.Count(vfstest.IndexSync); commits > most {
		t.Errorf("%d commits, want at most %d", commits, most)
	}
}

// TestRevocationIsDurable: before the verb returns, written grant or not, and beside a flush of the same grant.
func TestRevocationIsDurable(t *testing.T) {
	now := time.Now()
	for _, flushed := range []bool{false, true} {
		for name, order := range map[string][]int{"alone": {0}, "before a flush": {0, 1}, "behind a flush": {1, 0}} {
			v := vfstest.NewTrace(vfs.OS{})
			s, dir := fresh(t, Options{fs: v})
			g := openGrant(t, s, now, 1)
			if flushed {
				if err := s.flushLazy(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if ok, err := s.SpendGrant(t.Context(), now, g.ID, 1); !ok || err != nil {
				t.Fatal(ok, err)
			}
			revoke := func() error {
				revoked, err := s.RevokeGrants(context.Background(), now, store.GrantRevoked, g.ID)
				if len(revoked) != 1 {
					err = errors.Join(err, fmt.Errorf("revoked %v", revoked))
				}
				return err
			}
			verbs := []func() error{revoke, func() error { return s.flushLazy(context.Background()) }}
			var group []func() error
			for _, i := range order {
				group = append(group, verbs[i])
			}
			inOneGroup(t, s, v, group...)
			got := allGrants(t, killed(t, dir))
			if len(got) != 1 || got[0].End != store.GrantRevoked || got[0].Left != 49 {
				t.Errorf("flushed %t, revoked %s: after a crash %+v", flushed, name, got)
			}
		}
	}
}

// TestRevocationFails: what could not be written did not happen, here and after the next start.
func TestRevocationFails(t *testing.T) {
	for _, op := range []vfstest.Kind{vfstest.IndexWrite, vfstest.IndexSync} {
		dir := filepath.Join(t.TempDir(), "data")
		initData(t, dir)
		f := vfstest.NewFaulty(vfs.OS{}, 0, false, func(failing vfstest.Op) error {
			if failing.Kind == op {
				return syscall.EIO
			}
			return nil
		})
		s := openData(t, dir, Options{fs: f})
		g := openGrant(t, s, time.Now(), 1)
		if err := s.flushLazy(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.FailNow()
		if n, err := s.RevokeAllGrants(t.Context(), time.Now(), store.GrantRevoked); !errors.Is(err, store.ErrPoisoned) {
			t.Errorf("%s: revoked %d, %v, want %v", op, n, err, store.ErrPoisoned)
		}
		if ok, err := s.SpendGrant(t.Context(), time.Now(), g.ID, 1); !ok || err != nil {
			t.Errorf("%s: spending after a revocation that failed: %t, %v", op, ok, err)
		}
		if got := openGrant(t, s, time.Now(), 1); got.ID != g.ID {
			t.Errorf("%s: renewed %+v, want grant %s", op, got, g.ID)
		}
		closeData(t, s)
	}
}

// TestRevocationOnFullDevice: it goes on with the reserve.
func TestRevocationOnFullDevice(t *testing.T) {
	f := &vfstest.Full{}
	clock := newClock(time.Now())
	s, dir := fresh(t, Options{fs: f, Now: clock.now})
	g := openGrant(t, s, clock.now(), 1)
	f.SetRoom(0)
	revoked, err := s.RevokeGrants(t.Context(), time.Now(), store.GrantGuessed, g.ID)
	if err != nil || len(revoked) != 1 {
		t.Errorf("revoked %v, %v", revoked, err)
	}
	if got := allGrants(t, killed(t, dir)); len(got) != 1 || got[0].End != store.GrantGuessed {
		t.Errorf("after a crash %+v", got)
	}
	f.SetRoom(-1)
	clock.pass(reserveRetry)
}

// TestRevokedWhileReplaced: a login between a revocation and its failure has its own grant; the failure takes nothing from it.
func TestRevokedWhileReplaced(t *testing.T) {
	s, _ := fresh(t, Options{})
	now := time.Now()
	other, g := openGrant(t, s, now, 2), openGrant(t, s, now, 1)
	var next store.Grant
	failed := errors.New("as if the device had failed")
	err := s.write(t.Context(), func(tx *txn) error {
		z := &s.grants
		z.mu.Lock()
		old := z.byID[g.ID]
		old.End, old.Ended = store.GrantRevoked, now
		z.mu.Unlock()
		tx.undo = append(tx.undo, func() { z.unrevoke(old) })
		next = openGrant(t, s, now, 1)
		z.mu.Lock()
		z.forget(z.byID[other.ID]) // as if there were too many: the revoked one's place is nowhere now
		z.mu.Unlock()
		tx.fail(failed)
		return nil
	})
	if !errors.Is(err, failed) || next.ID == g.ID {
		t.Fatalf("%v, %+v", err, next)
	}
	if got := allGrants(t, s); len(got) != 1 || got[0].ID != next.ID {
		t.Errorf("grants %+v, want %+v", got, next)
	}
}

// TestRemovedAccountKeepsNoGrant: whatever shares the transaction that removes it.
func TestRemovedAccountKeepsNoGrant(t *testing.T) {
	now := time.Now()
	for name, order := range map[string][]int{
		"flush first": {1, 0}, "flush last": {0, 1}, "revoked first": {2, 0}, "revoked last": {0, 2}, "all": {1, 0, 2},
	} {
		v := vfstest.NewTrace(vfs.OS{})
		s, dir := fresh(t, Options{fs: v})
		openGrant(t, s, now, 1)
		verbs := []func() error{
			func() error { return s.RemoveAccount(context.Background(), 1) },
			func() error { return s.flushLazy(context.Background()) },
			func() error {
				_, err := s.RevokeAllGrants(context.Background(), now, store.GrantRevoked)
				return err
			},
		}
		var group []func() error
		for _, i := range order {
			group = append(group, verbs[i])
		}
		inOneGroup(t, s, v, group...)
		if err := s.flushLazy(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := append(allGrants(t, s), allGrants(t, killed(t, dir))...); len(got) > 0 {
			t.Errorf("%s: grants %+v of a removed account", name, got)
		}
		if z := &s.grants; len(z.byAccount)+len(z.byNetwork)+len(z.order)+len(z.dirty) > 0 {
			t.Errorf("%s: memory keeps something of a removed account", name)
		}
	}
}

// TestGrantsOfACrash: a crash may leave two grants for one network, of which the later one counts; one that cannot be read is nobody's;
// old ones are forgotten.
func TestGrantsOfACrash(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	now := time.Now().UTC()
	grant := func(id store.GrantID, n int, expires time.Time) store.Grant {
		r := grantFor(n)
		return store.Grant{ID: id, Account: 1, Network: r.Network, CredentialVersion: 1, Expires: expires, Recipients: 9, Left: 9}
	}
	change(t, dir, func(tx *bolt.Tx) error {
		err := put(bMeta, []byte(metaTally), (&tally{Account: 2, Grant: 9}).encode())(tx)
		for _, g := range []store.Grant{
			grant(3, 1, now.Add(time.Hour)), grant(5, 1, now.Add(time.Minute)), grant(6, 2, now.Add(-store.GrantMemory)),
			grant(7, 3, now.Add(time.Hour-store.GrantMemory)),
		} {
			err = errors.Join(err, put(bGrants, key16(1, uint64(g.ID)), encodeGrant(&g))(tx))
		}
		return errors.Join(err, put(bGrants, key16(1, 8), []byte{1, 2, 3})(tx))
	})
	s := openData(t, dir, Options{})
	for range 2 {
		got := allGrants(t, s)
		if len(got) != 2 || got[0].ID != 5 || got[1].ID != 7 {
			t.Errorf("grants %+v, want 5 and 7", got)
		}
		closeData(t, s)
		s = openData(t, dir, Options{})
	}
	defer closeData(t, s)
	problems, err := s.Check(t.Context())
	if err != nil || len(problems) != 1 || problems[0].Kind != "damaged record" {
		t.Errorf("Check: %v, %v, want one damaged record", problems, err)
	}
	if g := openGrant(t, s, now, 4); g.ID != 10 {
		t.Errorf("opened %+v, want grant 10", g)
	}
}

// TestGrantCodec: every field comes back, and none that cannot be.
func TestGrantCodec(t *testing.T) {
	now := time.Now().UTC()
	for _, network := range []string{"192.0.2.1/32", "2001:db8::/64", "2001:db8::1/128"} {
		g := store.Grant{
			ID: 7, Account: 3, Network: netip.MustParsePrefix(network), CredentialVersion: 9, Created: now, LastLogin: now.Add(1),
			Expires: now.Add(2), Recipients: 50, Left: 49, End: store.GrantGuessed, Ended: now.Add(3),
		}
		key := grantKey{g.Account, g.ID}.octets()
		got, err := decodeGrant(key, encodeGrant(&g))
		if err != nil || got != g {
			t.Errorf("read %+v (%v), wrote %+v", got, err, g)
		}
		record := encodeGrant(&g)
		for n := range record {
			if _, err := decodeGrant(key, record[:n]); err == nil {
				t.Errorf("a record of %d octets of %d was read", n, len(record))
			}
		}
		g.Left = 51
		if _, err := decodeGrant(key, encodeGrant(&g)); err == nil {
			t.Error("a grant with more left than it was made with was read")
		}
		if _, err := decodeGrant(key[:8], record); err == nil {
			t.Error("a grant without an id was read")
		}
	}
}
