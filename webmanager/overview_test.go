package webmanager

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/internal/refusal"
	"latchkey/internal/zone"
	"latchkey/relay"
	"latchkey/store"
	"latchkey/store/memstore"
)

// figure adds to a daily figure of some days ago.
func (f *fixture) figure(daysAgo int, name string, n int64) {
	f.Helper()
	if err := f.store.AddStat(f.Context(), store.DayOf(noon.AddDate(0, 0, -daysAgo)), name, n); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) overview(query string) (o Overview) {
	f.Helper()
	f.do(http.MethodGet, "/v1/overview"+query, nil, &o)
	return o
}

// TestOverviewDays: each figure is shown on its day, for as many days as are asked for, and a day without any is no day with zeros.
func TestOverviewDays(t *testing.T) {
	f := newFixture(t)
	for d := store.Daily(0); d.String() != "no figure"; d++ {
		f.figure(0, d.String(), int64(d)+1)
	}
	f.figure(0, store.DailyRefused(refusal.AuthBanned), 7)
	f.figure(1, store.DailyRan.String(), 1)
	f.figure(29, store.DailyReceived.String(), 29)
	f.figure(30, store.DailyReceived.String(), 30)
	f.figure(399, store.DailyReceived.String(), 399)
	o := f.overview("")
	want := OverviewDay{
		Day: "2026-04-01", Counted: true, Received: 2, Submitted: 3, HandedOver: 4, Delivered: 5, Deferred: 6, Failed: 7, Fetched: 8, Refused: 7,
		POP3: LoginFigures{9, 10}, SMTP: LoginFigures{11, 12}, Web: LoginFigures{13, 14},
	}
	if len(o.Days) != 30 || o.Days[29] != want {
		t.Errorf("%d days, the last is %+v, want %+v", len(o.Days), o.Days[len(o.Days)-1], want)
	}
	if o.Days[28] != (OverviewDay{Day: "2026-03-31", Counted: true}) || o.Days[27] != (OverviewDay{Day: "2026-03-30"}) {
		t.Errorf("days without mail: %+v, %+v", o.Days[28], o.Days[27])
	}
	if first := (OverviewDay{Day: "2026-03-03", Counted: true, Received: 29}); o.Days[0] != first {
		t.Errorf("the first day is %+v, want %+v", o.Days[0], first)
	}
	for query, days := range map[string]int{"?days=1": 1, "?days=31": 31, "?days=400": 400} {
		if o := f.overview(query); len(o.Days) != days || o.Days[days-1] != want {
			t.Errorf("%s: %d days", query, len(o.Days))
		} else if days == 400 && o.Days[0].Received != 399 {
			t.Errorf("the oldest day: %+v", o.Days[0])
		}
	}
	for _, query := range []string{"?days=0", "?days=401", "?days=x", "?days=-1", "?days="} {
		if status, body := f.raw("GET", "/v1/overview"+query, "", ""); status != http.StatusUnprocessableEntity && status != http.StatusBadRequest ||
			!strings.Contains(body, "is a whole number of 1 to 400") {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
}

// TestOverviewFull: a day with as many figures as are kept is said to lack some.
func TestOverviewFull(t *testing.T) {
	f := newFixture(t)
	for i := range store.MaxStatNames - 1 {
		f.figure(0, fmt.Sprint("sent/", i), 1)
	}
	if f.overview("?days=1").Days[0].Full {
		t.Error("a day is full before it is")
	}
	f.figure(0, "sent/last", 1)
	if !f.overview("?days=1").Days[0].Full {
		t.Error("a full day is not called so")
	}
}

// TestOverviewRefusals: by cause over all days, the most frequent first, also those that the table has no more.
func TestOverviewRefusals(t *testing.T) {
	f := newFixture(t)
	f.figure(0, store.DailyRefused(refusal.AuthBanned), 2)
	f.figure(3, store.DailyRefused(refusal.AuthBanned), 3)
	f.figure(3, store.DailyRefused(refusal.RelayDenied), 9)
	f.figure(4, store.DailyRefused("of-old"), 5)
	f.figure(40, store.DailyRefused(refusal.AuthBusy), 50)
	var got []string
	for _, r := range f.overview("").Refusals {
		got = append(got, fmt.Sprint(r.N, " ", r.Name, " ", r.Code == r.Name.Code(), " ", r.Cause != ""))
	}
	if want := []string{"9 relay-denied true true", "5 auth-banned true true", "5 of-old true false"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestOverviewTally: what was counted a moment ago is in the answer.
func TestOverviewTally(t *testing.T) {
	f := newFixture(t)
	f.api.tally = store.NewTally(f.store, f.api.now, nil)
	f.figure(0, store.DailyReceived.String(), 2)
	f.api.tally.Count(store.DailyReceived, 3)
	f.api.tally.Refused(refusal.RelayDenied)
	if o := f.overview(""); o.Days[29].Received != 5 || o.Days[29].Refused != 1 || len(o.Refusals) != 1 || o.Days[28].Received != 0 {
		t.Errorf("%+v %+v", o.Days[28:], o.Refusals)
	}
}

// TestOverviewStorage: what the mailboxes hold, the largest first, and no more of them than are shown.
func TestOverviewStorage(t *testing.T) {
	f := newFixture(t)
	names := []string{"empty"}
	for i := range maxLargest + 1 {
		names = append(names, fmt.Sprintf("box%02d", i))
	}
	f.add(names...)
	total := int64(0)
	for i, name := range names[1:] {
		f.fill(name, 100*(i+1))
		total += 100 * int64(i+1)
	}
	f.do(http.MethodPatch, "/v1/accounts/box10", map[string]any{"quota": store.Quota{Octets: 5000}}, nil)
	s := f.overview("").Storage
	if s.Usage != (store.Usage{Octets: total, Messages: maxLargest + 1}) || s.Mailboxes != maxLargest+2 || s.More || len(s.Largest) != maxLargest {
		t.Errorf("%+v", s)
	}
	if first, last := s.Largest[0], s.Largest[maxLargest-1]; first.Mailbox != "box10" || first.Usage.Octets != 1100 || first.Quota.Octets != 5000 ||
		last.Mailbox != "box01" {
		t.Errorf("%+v ... %+v", first, last)
	}
}

// TestOverviewPrograms: a program counts once for each mailbox that used it in these days, and as old where it is used in an old way.
func TestOverviewPrograms(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert")
	first := time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC)
	far := netip.MustParseAddr("192.0.2.1")
	client := func(mailbox, program, door, tls string, last time.Time) store.Client {
		return store.Client{Account: f.account(mailbox).ID, Program: program, Door: door, TLS: tls, Address: far, First: last, Last: last, Sessions: 2}
	}
	if err := f.store.NoteClients(t.Context(), []store.Client{
		client("anna", "Eudora", "pop3", "TLS 1.3", noon), client("anna", "Eudora", "pop3", "", first), client("bert", "Eudora", "pop3", "TLS 1.3", first),
		client("anna", "Eudora", "old_pop3", "TLS 1.3", noon), client("bert", "EHLO", "submission", "TLS 1.3", first.Add(-time.Nanosecond)),
	}); err != nil {
		t.Fatal(err)
	}
	want := []ProgramFigure{
		{Program: "Eudora", Door: "pop3", Mailboxes: 2, Old: 1, Sessions: 6, Last: noon},
		{Program: "Eudora", Door: "old_pop3", Mailboxes: 1, Old: 1, Sessions: 2, Last: noon},
	}
	if got := f.overview("").Programs; !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := f.overview("?days=31").Programs; len(got) != 3 {
		t.Errorf("a day more: %+v", got)
	}
}

// TestOverviewQueue: what waits, what of it was tried in vain, and where it is to go.
func TestOverviewQueue(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	if q := f.overview("").Queue; q.Waiting != 0 || !q.Oldest.IsZero() || len(q.Destinations) != 0 {
		t.Errorf("an empty queue: %+v", q)
	}
	f.sentBy("anna", 0, "1", "x@slow.example", "y@slow.example", "x@held.example", "x@new.example")
	for i := range maxDestinations {
		f.sentBy("anna", 0, "2", fmt.Sprintf("x@d%02d.example", i))
	}
	id := f.account("anna").ID
	for _, place := range append([]string{"slow.example", "held.example"}, "d00.example", "d01.example", "d02.example", "d03.example", "d04.example",
		"d05.example", "d06.example", "d07.example", "d08.example", "d09.example") {
		jobs, err := f.store.Lease(t.Context(), received.AddDate(1, 0, 0), id, place, 10, time.Hour)
		if err != nil || len(jobs) == 0 {
			t.Fatal(err, place)
		}
		for _, j := range jobs {
			o := store.Outcome{Job: j.ID, Lease: j.Lease, Kind: store.Deferred, Text: "451 of " + place, At: noon, Next: noon.Add(time.Hour)}
			o.Shared = place == "d00.example"
			if _, err := f.store.Finish(t.Context(), noon, o); err != nil {
				t.Fatal(err)
			}
			if place == "held.example" {
				if err := f.store.HoldJobs(t.Context(), "no", j.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	q := f.overview("").Queue
	if q.Waiting != 4+maxDestinations || q.Held != 1 || q.Deferred != 2+maxDestinations || q.More || q.Oldest.IsZero() {
		t.Errorf("%+v", q)
	}
	if len(q.Destinations) != maxDestinations || q.Destinations[0].Domain != "slow.example" || q.Destinations[0].Deferred != 2 ||
		q.Destinations[0].Last != "451 of slow.example" || q.Destinations[1].Domain != "d00.example" || q.Destinations[1].Last != "451 of d00.example" {
		t.Errorf("%+v", q.Destinations)
	}
}

// TestOverviewReputation: what lists say is there where a server runs, and says that nobody asks where none does.
func TestOverviewReputation(t *testing.T) {
	f := newFixture(t)
	if o := f.overview(""); o.Watched || len(o.Standings) != 0 || o.DNS.Looking || !o.DNS.At.IsZero() {
		t.Errorf("where no server runs: %+v", o)
	}
	f.api.reputation = oneStanding{}
	f.api.slow = func() []relay.Slow { return []relay.Slow{{Provider: "example.net"}} }
	if o := f.overview(""); !o.Watched || len(o.Standings) != 1 || o.Standings[0].State != guard.ListListed || len(o.Slow) != 1 {
		t.Errorf("%+v", o)
	}
}

// countingDNS counts rounds of questions by those for one record.
type countingDNS struct{ rounds atomic.Int64 }

func (d *countingDNS) Records(_ context.Context, name, rrtype string) ([]string, error) {
	if name == domain && rrtype == "MX" || name == domain+"." && rrtype == "MX" {
		d.rounds.Add(1)
	}
	return nil, nil
}

// TestOverviewDNS: the overview never waits for the DNS. It shows what was found last, and has it looked at in the background when that is an
// hour old.
func TestOverviewDNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dns := memstore.New(domain), new(countingDNS)
		defer func() { _ = s.Close() }()
		place := func(context.Context) (zone.Place, error) { return zone.Place{Hostname: "mail." + domain}, nil }
		api := New(Options{Store: s, Hasher: fakeHasher{}, DNS: dns, Place: place})
		client := InProcess(api, Actor{Role: RoleOwner, Name: "tester"})
		ask := func() (look DNSLook) {
			t.Helper()
			var o Overview
			if err := client.Do(t.Context(), http.MethodGet, "/v1/overview", nil, &o); err != nil {
				t.Fatal(err)
			}
			return o.DNS
		}
		if look := ask(); look.Looking {
			t.Error("somebody is said to look where nobody does")
		}
		stop := run(t, api)
		synctest.Wait()
		if n := dns.rounds.Load(); n != 0 {
			t.Errorf("%d rounds before anybody wanted to know", n)
		}
		if look := ask(); !look.Looking || !look.At.IsZero() || len(look.Findings) != 0 {
			t.Errorf("the first answer: %+v", look)
		}
		synctest.Wait()
		first := time.Now()
		for range 3 {
			if look := ask(); look.Looking || !look.At.Equal(first) || len(look.Findings) == 0 {
				t.Errorf("afterwards: %+v", look)
			}
		}
		time.Sleep(dnsFresh - time.Nanosecond)
		ask()
		synctest.Wait()
		if n := dns.rounds.Load(); n != 1 {
			t.Errorf("%d rounds within an hour", n)
		}
		time.Sleep(time.Nanosecond)
		if look := ask(); !look.Looking || !look.At.Equal(first) || len(look.Findings) == 0 {
			t.Errorf("after an hour: %+v", look)
		}
		synctest.Wait()
		if n := dns.rounds.Load(); n != 2 {
			t.Errorf("%d rounds after an hour", n)
		}
		// Whoever asks himself has the overview know it too.
		time.Sleep(time.Minute)
		if err := client.Do(t.Context(), http.MethodGet, "/v1/dns/check", nil, nil); err != nil {
			t.Fatal(err)
		}
		if look := ask(); !look.At.Equal(time.Now()) {
			t.Errorf("after a question: %+v", look)
		}
		stop()
		time.Sleep(2 * dnsFresh)
		if look := ask(); look.Looking {
			t.Error("somebody is said to look after the end")
		}
	})
}

// TestDNSWatchPauses: a look that failed is not made again at once.
func TestDNSWatchPauses(t *testing.T) {
	w := &dnsWatch{wanted: make(chan struct{}, 1), running: true}
	wanted := func(at time.Time) bool {
		t.Helper()
		w.look(at)
		select {
		case <-w.wanted:
			return true
		default:
			return false
		}
	}
	if !wanted(noon) || wanted(noon.Add(dnsPause)) {
		t.Error("one look at a time")
	}
	w.last.Looking = false // it failed
	if wanted(noon.Add(dnsPause - 1)) {
		t.Error("again too early")
	}
	if !wanted(noon.Add(dnsPause)) {
		t.Error("never again")
	}
}

// TestOverviewOldest: the oldest delivery is that which was accepted first, in whatever order they are read, of all and of each destination.
func TestOverviewOldest(t *testing.T) {
	var q QueueFigures
	places := map[string]*DestinationFigure{}
	for i, hour := range []time.Duration{2, 0, 1} {
		to, err := mailaddr.New("x", fmt.Sprintf("d%d.example", i%2))
		if err != nil {
			t.Fatal(err)
		}
		q.add(&store.Job{Recipient: to, Received: noon.Add(hour * time.Hour), Attempts: 1, LastText: fmt.Sprint("word ", i)}, places)
	}
	if !q.Oldest.Equal(noon) || !places["d0.example"].Oldest.Equal(noon.Add(time.Hour)) || !places["d1.example"].Oldest.Equal(noon) ||
		places["d0.example"].Last != "word 2" {
		t.Errorf("%+v %+v", q, places)
	}
}
