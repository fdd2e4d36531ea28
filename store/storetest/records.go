package storetest

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

var recordTests = []test{
	{"Settings", TestSettings},
	{"SettingsBounds", TestSettingsBounds},
	{"SettingsChanged", TestSettingsChanged},
	{"Secrets", TestSecrets},
	{"SecretBounds", TestSecretBounds},
	{"CounterLeaks", TestCounterLeaks},
	{"CounterRetryAfter", TestCounterRetryAfter},
	{"CounterGive", TestCounterGive},
	{"CounterBounds", TestCounterBounds},
	{"CountersForgetTheFullest", TestCountersForgetTheFullest},
	{"CountersAtOnce", TestCountersAtOnce},
	{"WebSessions", TestWebSessions},
	{"WebSessionBounds", TestWebSessionBounds},
	{"Audit", TestAudit},
	{"AuditBound", TestAuditBound},
	{"Stats", TestStats},
	{"StatNameBounds", TestStatNameBounds},
	{"StatBounds", TestStatBounds},
}

// TestSettings: a change needs the version that was read, and is kept.
func TestSettings(t *testing.T, f Factory) {
	h := open(t, f)
	first, err := h.s.Settings(h.ctx)
	h.must(err)
	want := store.DefaultSettings(Domain)
	want.Version = first.Version
	if !sameSettings(first, want) {
		t.Errorf("fresh settings %+v, want %+v", first, want)
	}
	changed := first.Clone()
	changed.MessageSize, changed.Recipients, changed.AuthOnMX, changed.CleartextLogin, changed.OutgoingMail = 1<<20, 200, false, true, false
	changed.OutsideSenders = []mailaddr.Address{address("news@" + Domain)}
	got, err := h.s.UpdateSettings(h.ctx, changed)
	h.must(err)
	if got.Version <= first.Version {
		t.Errorf("version %d after %d", got.Version, first.Version)
	}
	want = changed.Clone()
	want.Version = got.Version
	changed.OutsideSenders[0], got.OutsideSenders[0] = mailaddr.Address{}, mailaddr.Address{} // both are the caller's
	for range 2 {
		stored, err := h.s.Settings(h.ctx)
		h.must(err)
		if !sameSettings(stored, want) {
			t.Errorf("stored %+v, want %+v", stored, want)
		}
		stored.OutsideSenders[0] = mailaddr.Address{}
		h.reopen()
	}
	_, err = h.s.UpdateSettings(h.ctx, first)
	h.want(err, store.ErrConflict)
	other := want.Clone()
	other.Domain, other.OutsideSenders = "elsewhere.example", nil
	_, err = h.s.UpdateSettings(h.ctx, other)
	h.want(err, store.ErrInvalid)
}

func sameSettings(a, b store.Settings) bool {
	if !slices.Equal(a.OutsideSenders, b.OutsideSenders) {
		return false
	}
	a.OutsideSenders = b.OutsideSenders
	return reflect.DeepEqual(a, b)
}

// TestSettingsBounds: what Validate refuses is not stored, its edges are.
func TestSettingsBounds(t *testing.T, f Factory) {
	h := open(t, f)
	tests := []struct {
		name   string
		change func(*store.Settings)
		ok     bool
	}{
		{"smallest size", func(s *store.Settings) { s.MessageSize = store.MinMessageSize }, true},
		{"size too small", func(s *store.Settings) { s.MessageSize = store.MinMessageSize - 1 }, false},
		{"largest size", func(s *store.Settings) { s.MessageSize = store.MaxMessageSize }, true},
		{"size too large", func(s *store.Settings) { s.MessageSize = store.MaxMessageSize + 1 }, false},
		{"most recipients", func(s *store.Settings) { s.Recipients = store.MaxRecipients }, true},
		{"too many recipients", func(s *store.Settings) { s.Recipients = store.MaxRecipients + 1 }, false},
	}
	for _, test := range tests {
		before, err := h.s.Settings(h.ctx)
		h.must(err)
		changed := before.Clone()
		test.change(&changed)
		_, err = h.s.UpdateSettings(h.ctx, changed)
		after, readErr := h.s.Settings(h.ctx)
		h.must(readErr)
		if test.ok {
			h.must(err)
			continue
		}
		h.want(err, store.ErrInvalid)
		if !sameSettings(before, after) {
			t.Errorf("%s: refused, but stored %+v", test.name, after)
		}
	}
}

// TestSettingsChanged: who asks for the channel and then reads misses nothing.
func TestSettingsChanged(t *testing.T, f Factory) {
	h := open(t, f)
	changed := h.s.SettingsChanged()
	s, err := h.s.Settings(h.ctx)
	h.must(err)
	bad := s.Clone()
	bad.Version++
	_, err = h.s.UpdateSettings(h.ctx, bad)
	h.want(err, store.ErrConflict)
	if closed(changed) {
		t.Error("a refused change closed the channel")
	}
	_, err = h.s.UpdateSettings(h.ctx, s)
	h.must(err)
	if !closed(changed) {
		t.Error("a change did not close the channel")
	}
	if closed(h.s.SettingsChanged()) {
		t.Error("a new channel is closed before the next change")
	}
}

// TestSecrets: put, replace, get, remove; the octets are the caller's on both sides.
func TestSecrets(t *testing.T, f Factory) {
	h := open(t, f)
	blob := []byte("\x00key\xff")
	h.must(h.s.PutSecret(h.ctx, "dkim/2026", []byte("old")))
	h.must(h.s.PutSecret(h.ctx, "dkim/2026", blob))
	h.must(h.s.PutSecret(h.ctx, "empty", nil))
	blob[0] = '!'
	for range 2 {
		got, err := h.s.Secret(h.ctx, "dkim/2026")
		h.must(err)
		if string(got) != "\x00key\xff" {
			t.Errorf("secret %q", got)
		}
		got[0] = '!'
		got, err = h.s.Secret(h.ctx, "empty")
		h.must(err)
		if len(got) != 0 {
			t.Errorf("empty secret %q", got)
		}
		h.reopen()
	}
	h.must(h.s.RemoveSecret(h.ctx, "dkim/2026"))
	h.want(h.s.RemoveSecret(h.ctx, "dkim/2026"), store.ErrNotFound)
	h.reopen()
	_, err := h.s.Secret(h.ctx, "dkim/2026")
	h.want(err, store.ErrNotFound)
}

// TestSecretBounds: the edges of size and name.
func TestSecretBounds(t *testing.T, f Factory) {
	h := open(t, f)
	name := strings.Repeat("n", store.MaxSecretName)
	blob := bytes.Repeat([]byte{7}, store.MaxSecretSize+1)
	h.must(h.s.PutSecret(h.ctx, name, blob[1:]))
	h.want(h.s.PutSecret(h.ctx, name, blob), store.ErrBound)
	h.refused(h.s.PutSecret(h.ctx, name+"n", nil))
	h.refused(h.s.PutSecret(h.ctx, "", nil))
	h.reopen()
	got, err := h.s.Secret(h.ctx, name)
	h.must(err)
	if !bytes.Equal(got, blob[1:]) {
		t.Errorf("kept %d octets, want %d", len(got), store.MaxSecretSize)
	}
}

func (h *harness) take(now time.Time, key string, cost int64, l store.Limit) store.Taken {
	h.t.Helper()
	taken, err := h.s.Take(h.ctx, now, key, cost, l)
	h.must(err)
	return taken
}

func (h *harness) wantTaken(now time.Time, key string, cost int64, l store.Limit, want store.Taken) {
	h.t.Helper()
	if got := h.take(now, key, cost, l); got != want {
		h.t.Errorf("took %d of %s: %+v, want %+v", cost, key, got, want)
	}
}

// hourly gives one unit back every minute.
var hourly = store.Limit{N: 60, Window: time.Hour}

// TestCounterLeaks: a bucket starts full, and what was taken comes back evenly.
func TestCounterLeaks(t *testing.T, f Factory) {
	h := open(t, f)
	h.wantTaken(h.now, "a", 0, hourly, store.Taken{OK: true, Left: 60})
	h.wantTaken(h.now, "a", 10, hourly, store.Taken{OK: true, Left: 50})
	h.wantTaken(h.now, "a", 50, hourly, store.Taken{OK: true, Left: 0})
	h.wantTaken(h.now, "a", 0, hourly, store.Taken{OK: true, Left: 0})
	h.wantTaken(h.now, "b", 60, hourly, store.Taken{OK: true, Left: 0}) // another key
	h.wantTaken(h.now, "a", 1, hourly, store.Taken{RetryAfter: time.Minute})
	h.wantTaken(h.now.Add(time.Minute-time.Nanosecond), "a", 0, hourly, store.Taken{OK: true})
	h.wantTaken(h.now.Add(time.Minute), "a", 0, hourly, store.Taken{OK: true, Left: 1})
	h.wantTaken(h.now.Add(90*time.Second), "a", 1, hourly, store.Taken{OK: true, Left: 0}) // the half unit is not lost
	h.wantTaken(h.now.Add(2*time.Minute), "a", 1, hourly, store.Taken{OK: true, Left: 0})
	h.wantTaken(h.now.Add(32*time.Minute), "a", 0, hourly, store.Taken{OK: true, Left: 30})
	h.wantTaken(h.now.Add(62*time.Minute), "a", 0, hourly, store.Taken{OK: true, Left: 60})
	h.wantTaken(h.now.Add(999*time.Hour), "a", 0, hourly, store.Taken{OK: true, Left: 60}) // never more than full

	h.take(h.now, "kept", 20, hourly)
	h.reopen() // Close writes it down
	h.wantTaken(h.now, "kept", 0, hourly, store.Taken{OK: true, Left: 40})
}

// TestCounterRetryAfter: waiting exactly so long is enough, and nothing less is.
func TestCounterRetryAfter(t *testing.T, f Factory) {
	h := open(t, f)
	for i, l := range []store.Limit{hourly, {N: 1, Window: time.Second}, {N: 7, Window: time.Hour}, {N: 1 << 40, Window: 24 * time.Hour}} {
		key := fmt.Sprint("k", i)
		h.wantTaken(h.now, key, l.N+1, l, store.Taken{Left: l.N, RetryAfter: l.Window})
		h.wantTaken(h.now, key, l.N, l, store.Taken{OK: true})
		now := h.now
		for _, cost := range []int64{1, (l.N + 1) / 2, l.N} {
			refused := h.take(now, key, cost, l)
			if refused.OK || refused.RetryAfter <= 0 || refused.RetryAfter > l.Window {
				t.Errorf("limit %+v: took %d of nothing: %+v", l, cost, refused)
			}
			now = now.Add(max(refused.RetryAfter-time.Microsecond, 0))
			if h.take(now, key, cost, l).OK {
				t.Errorf("limit %+v: took %d before the wait of %s was over", l, cost, refused.RetryAfter)
			}
		}
		wait := h.take(now, key, l.N, l).RetryAfter
		h.wantTaken(now.Add(wait), key, l.N, l, store.Taken{OK: true})
	}
}

// TestCounterGive: what is given back may be taken again, and fills no bucket over the brim.
func TestCounterGive(t *testing.T, f Factory) {
	h := open(t, f)
	h.must(h.s.Give(h.ctx, h.now, "a", 5, hourly))
	h.wantTaken(h.now, "a", 0, hourly, store.Taken{OK: true, Left: 60})
	h.take(h.now, "a", 60, hourly)
	h.must(h.s.Give(h.ctx, h.now, "a", 20, hourly))
	h.wantTaken(h.now, "a", 0, hourly, store.Taken{OK: true, Left: 20})
	h.must(h.s.Give(h.ctx, h.now, "a", 1000, hourly))
	h.wantTaken(h.now, "a", 60, hourly, store.Taken{OK: true, Left: 0})
}

// TestCounterBounds: the edges of the key, and limits and costs that mean nothing.
func TestCounterBounds(t *testing.T, f Factory) {
	h := open(t, f)
	key := strings.Repeat("k", store.MaxCounterKey)
	h.take(h.now, key, 1, hourly)
	for _, bad := range []struct {
		key  string
		cost int64
		l    store.Limit
	}{
		{key + "k", 1, hourly}, {"", 1, hourly}, {"a", -1, hourly},
		{"a", 1, store.Limit{Window: time.Hour}}, {"a", 1, store.Limit{N: 1}}, {"a", 1, store.Limit{N: -1, Window: time.Hour}},
	} {
		_, err := h.s.Take(h.ctx, h.now, bad.key, bad.cost, bad.l)
		h.refused(err)
		h.refused(h.s.Give(h.ctx, h.now, bad.key, bad.cost, bad.l))
	}
}

// TestCountersForgetTheFullest: beyond the bound the bucket that is nearest to full goes, and no other.
func TestCountersForgetTheFullest(t *testing.T, f Factory) {
	h := open(t, f)
	n := h.bounds().Counters
	for i := range n - 1 {
		h.take(h.now, fmt.Sprint("k", i), 40, hourly)
	}
	h.take(h.now, "fullest", 30, hourly)
	h.wantTaken(h.now, "fullest", 0, hourly, store.Taken{OK: true, Left: 30})
	h.take(h.now, "one more", 40, hourly)
	h.wantTaken(h.now, "fullest", 0, hourly, store.Taken{OK: true, Left: 60})
	for _, key := range []string{"k0", fmt.Sprint("k", n/2), fmt.Sprint("k", n-2), "one more"} {
		h.wantTaken(h.now, key, 0, hourly, store.Taken{OK: true, Left: 20})
	}
	later := h.now.Add(40 * time.Minute) // all are full again
	for i := range n {
		h.take(later, fmt.Sprint("later", i), 40, hourly)
	}
	h.wantTaken(later, "later0", 0, hourly, store.Taken{OK: true, Left: 20})
}

// TestCountersAtOnce: no unit is taken twice.
func TestCountersAtOnce(t *testing.T, f Factory) {
	h := open(t, f)
	taken := make([]int, 8)
	inParallel(len(taken), func(i int) {
		for range 20 {
			got, err := h.s.Take(h.ctx, h.now, "shared", 1, hourly)
			if err != nil {
				t.Error(err)
			} else if got.OK {
				taken[i]++
			}
		}
	})
	sum := 0
	for _, n := range taken {
		sum += n
	}
	if sum != 60 {
		t.Errorf("%d units were taken of 60", sum)
	}
}

func token(i int) (token [32]byte) {
	copy(token[:], fmt.Sprintf("token %d", i))
	return token
}

// TestWebSessions: put, replace, expiry, removal.
func TestWebSessions(t *testing.T, f Factory) {
	h := open(t, f)
	data := []byte("anna")
	h.must(h.s.PutWebSession(h.ctx, store.WebSession{Token: token(1), Data: []byte("old"), Expires: h.now.Add(time.Minute)}))
	h.must(h.s.PutWebSession(h.ctx, store.WebSession{Token: token(1), Data: data, Expires: h.now.Add(time.Hour)}))
	h.must(h.s.PutWebSession(h.ctx, store.WebSession{Token: token(2), Expires: h.now.Add(time.Hour)}))
	data[0] = '!'
	for range 2 {
		w, err := h.s.WebSession(h.ctx, h.now.Add(time.Hour-time.Nanosecond), token(1))
		h.must(err)
		if w.Token != token(1) || string(w.Data) != "anna" || !w.Expires.Equal(h.now.Add(time.Hour)) {
			t.Errorf("session %+v", w)
		}
		w.Data[0] = '!'
		h.reopen() // Close writes it down
	}
	_, err := h.s.WebSession(h.ctx, h.now.Add(time.Hour), token(1))
	h.want(err, store.ErrNotFound)
	_, err = h.s.WebSession(h.ctx, h.now, token(3))
	h.want(err, store.ErrNotFound)
	h.must(h.s.RemoveWebSession(h.ctx, token(2)))
	h.must(h.s.RemoveWebSession(h.ctx, token(2)))
	h.reopen()
	_, err = h.s.WebSession(h.ctx, h.now, token(2))
	h.want(err, store.ErrNotFound)
}

// TestWebSessionBounds: the edges of the size; beyond the number the one that expires first ends.
func TestWebSessionBounds(t *testing.T, f Factory) {
	h := open(t, f)
	big := store.WebSession{Token: token(-1), Data: make([]byte, store.MaxWebSessionSize+1), Expires: h.now.Add(time.Hour)}
	h.refused(h.s.PutWebSession(h.ctx, big))
	big.Data = big.Data[1:]
	h.must(h.s.PutWebSession(h.ctx, big))
	n := h.bounds().WebSessions
	for i := range n - 1 {
		expires := h.now.Add(time.Hour + time.Duration(i)*time.Second)
		if i == n/2 {
			expires = h.now.Add(time.Minute)
		}
		h.must(h.s.PutWebSession(h.ctx, store.WebSession{Token: token(i), Expires: expires}))
	}
	wantEnded := func(i int, ended bool) {
		t.Helper()
		if _, err := h.s.WebSession(h.ctx, h.now, token(i)); (err != nil) != ended {
			t.Errorf("session %d: %v, want it ended: %t", i, err, ended)
		}
	}
	wantEnded(n/2, false)
	h.must(h.s.PutWebSession(h.ctx, store.WebSession{Token: token(n), Expires: h.now.Add(3 * time.Hour)}))
	for _, i := range []int{-1, 0, n / 2, n - 2, n} {
		wantEnded(i, i == n/2)
	}
}

func (h *harness) wantAudit(before uint64, limit int, want ...store.AuditEntry) {
	h.t.Helper()
	got, err := h.s.ListAudit(h.ctx, before, limit)
	h.must(err)
	if !slices.EqualFunc(got, want, func(a, b store.AuditEntry) bool {
		same := a.Time.Equal(b.Time)
		a.Time = b.Time
		return same && a == b
	}) {
		h.t.Errorf("audit before %d: %+v, want %+v", before, got, want)
	}
}

// TestAudit: newest first, with every field, in pages.
func TestAudit(t *testing.T, f Factory) {
	h := open(t, f)
	h.wantAudit(0, 10)
	var all []store.AuditEntry // newest first
	for i := range 5 {
		e := store.AuditEntry{
			Seq: 99, Time: h.now.Add(time.Duration(i) * time.Nanosecond), Actor: "anna", Remote: netip.MustParseAddr("2001:db8::1"),
			Action: "account.add", Object: fmt.Sprint("account ", i), Before: "nothing", After: "something",
		}
		if i == 2 {
			e = store.AuditEntry{Time: h.now, Action: "start"}
			h.reopen()
		}
		h.must(h.s.AppendAudit(h.ctx, e))
		e.Seq = uint64(i + 1)
		all = slices.Insert(all, 0, e)
	}
	for range 2 {
		h.wantAudit(0, 10, all...)
		h.wantAudit(0, 2, all[:2]...)
		h.wantAudit(4, 2, all[2:4]...)
		h.wantAudit(2, 10, all[4])
		h.wantAudit(1, 10)
		h.wantAudit(100, 10, all...)
		h.reopen()
	}
}

// maxLoop is how far the suite goes to reach a bound whose every step may wait for a disk.
const maxLoop = 5000

// TestAuditBound: beyond the bound the oldest entries go.
func TestAuditBound(t *testing.T, f Factory) {
	h := open(t, f)
	n := h.bounds().AuditEntries
	if n > maxLoop {
		t.Skipf("the engine keeps %d audit entries; set smaller Bounds to reach them", n)
	}
	for i := range n + 2 {
		h.must(h.s.AppendAudit(h.ctx, store.AuditEntry{Time: h.now, Object: fmt.Sprint(i)}))
	}
	got, err := h.s.ListAudit(h.ctx, 0, n+10)
	h.must(err)
	if len(got) != n || got[0].Seq != uint64(n+2) || got[n-1].Seq != 3 {
		t.Errorf("%d entries are kept, want the newest %d", len(got), n)
	}
}

func (h *harness) wantStats(from, to store.Day, want ...store.Stat) {
	h.t.Helper()
	got, err := h.s.ListStats(h.ctx, from, to)
	h.must(err)
	if !slices.Equal(got, want) {
		h.t.Errorf("stats %d..%d: %+v, want %+v", from, to, got, want)
	}
}

// TestStats: sums by day and name, in order.
func TestStats(t *testing.T, f Factory) {
	h := open(t, f)
	first := store.DayOf(h.now)
	second := store.DayOf(h.now.Add(24 * time.Hour))
	third := store.DayOf(h.now.Add(48 * time.Hour))
	for _, s := range []store.Stat{
		{Day: second, Name: "b", N: 1}, {Day: first, Name: "z", N: 5}, {Day: second, Name: "a", N: 2}, {Day: second, Name: "b", N: 10}, {Day: third, Name: "a", N: 7},
		{Day: first, Name: "z", N: -2},
	} {
		h.must(h.s.AddStat(h.ctx, s.Day, s.Name, s.N))
	}
	all := []store.Stat{{Day: first, Name: "z", N: 3}, {Day: second, Name: "a", N: 2}, {Day: second, Name: "b", N: 11}, {Day: third, Name: "a", N: 7}}
	for range 2 {
		h.wantStats(first, third, all...)
		h.wantStats(0, 99999999, all...)
		h.wantStats(second, second, all[1:3]...)
		for name, want := range map[string]int64{"a": 2, "b": 11, "z": 0, "": 0} {
			if n, err := h.s.Stat(h.ctx, second, name); n != want || err != nil {
				t.Errorf("figure %q: %d, %v, want %d", name, n, err, want)
			}
		}
		h.wantStats(third+1, 99999999)
		h.wantStats(third, first)
		h.reopen() // Close writes it down
	}
	h.must(h.s.AddStat(h.ctx, first, "z", 4)) // and it is gone on with
	h.wantStats(first, first, store.Stat{Day: first, Name: "z", N: 7})
}

// TestStatNameBounds: a name that is too long, or none, counts nothing.
func TestStatNameBounds(t *testing.T, f Factory) {
	h := open(t, f)
	today := store.DayOf(h.now)
	longest := strings.Repeat("x", store.MaxStatName)
	h.want(h.s.AddStat(h.ctx, today, "", 1), store.ErrInvalid)
	h.want(h.s.AddStat(h.ctx, today, longest+"x", 1), store.ErrInvalid)
	h.wantStats(today, today)
	h.must(h.s.AddStat(h.ctx, today, longest, 1))
	h.wantStats(today, today, store.Stat{Day: today, Name: longest, N: 1})
}

// TestStatBounds: further names of a full day are not counted; beyond the days the oldest goes.
func TestStatBounds(t *testing.T, f Factory) {
	h := open(t, f)
	n := h.bounds().StatNames
	today := store.DayOf(h.now)
	for i := range n + 1 {
		h.must(h.s.AddStat(h.ctx, today, fmt.Sprintf("n%06d", i), 1))
	}
	h.must(h.s.AddStat(h.ctx, today, "n000000", 1))
	got, err := h.s.ListStats(h.ctx, today, today)
	h.must(err)
	if len(got) != n || got[0].N != 2 || got[n-1].Name != fmt.Sprintf("n%06d", n-1) {
		t.Errorf("%d names are kept, want the first %d", len(got), n)
	}
	for i := 1; i < store.MaxStatDays; i++ {
		h.must(h.s.AddStat(h.ctx, store.DayOf(h.now.Add(time.Duration(i)*24*time.Hour)), "a", 1))
	}
	days := func() []store.Day {
		stats, err := h.s.ListStats(h.ctx, 0, 99999999)
		h.must(err)
		var days []store.Day
		for _, s := range stats {
			days = append(days, s.Day)
		}
		return slices.Compact(days)
	}
	if got := days(); len(got) != store.MaxStatDays || got[0] != today {
		t.Errorf("%d days are kept from %d, want %d from %d", len(got), got[0], store.MaxStatDays, today)
	}
	h.must(h.s.AddStat(h.ctx, store.DayOf(h.now.Add(store.MaxStatDays*24*time.Hour)), "a", 1))
	if got, tomorrow := days(), store.DayOf(h.now.Add(24*time.Hour)); len(got) != store.MaxStatDays || got[0] != tomorrow {
		t.Errorf("%d days are kept from %d, want %d from %d", len(got), got[0], store.MaxStatDays, tomorrow)
	}
}
