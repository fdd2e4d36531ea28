package pages

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/html"

	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/internal/refusal"
	"latchkey/internal/zone"
	"latchkey/store"
	"latchkey/webmanager"
)

// someStandings are those of a server that one list lists.
type someStandings struct{}

func (someStandings) Standings() []guard.Standing {
	at := netip.MustParseAddr("203.0.113.25")
	return []guard.Standing{
		{Address: at, List: "clean.example", State: guard.ListClean, Since: noon}, {Address: at, List: "dead.example", State: guard.ListDead, Since: noon},
		{Address: at, List: "bl.example", State: guard.ListListed, Since: noon, Link: "https://bl.example/why", Suspect: "anna", Detail: "127.0.0.2"},
		{Address: at, List: "mute.example", State: guard.ListError, Since: noon},
	}
}

// emptyDNS publishes nothing, and counts rounds by the questions for one record.
type emptyDNS struct{ rounds atomic.Int64 }

func (d *emptyDNS) Records(_ context.Context, name, rrtype string) ([]string, error) {
	if rrtype == "MX" && strings.TrimSuffix(name, ".") == domain {
		d.rounds.Add(1)
	}
	return nil, nil
}

// watchedSite is a site of a server that asks the DNS and blocklists.
func watchedSite(t *testing.T) (*site, *emptyDNS) {
	t.Helper()
	dns := new(emptyDNS)
	s := newSite(t, nil)
	s.api = webmanager.New(webmanager.Options{
		Store: s.store, Hasher: nil, Now: s.clock, Version: "v1", Reputation: someStandings{}, DNS: dns,
		Place:  func(context.Context) (zone.Place, error) { return zone.Place{Hostname: "mail." + domain}, nil },
		WebURL: func() string { return "http://127.0.0.1:2080" },
	})
	s.server = New(Options{API: s.api, Login: s.server.o.Login, Now: s.clock, Logger: s.server.log})
	return s, dns
}

func (s *site) figure(daysAgo int, name string, n int64) {
	s.Helper()
	if err := s.store.AddStat(s.Context(), store.DayOf(noon.AddDate(0, 0, -daysAgo)), name, n); err != nil {
		s.Fatal(err)
	}
}

// byID is the element of an id; the test fails without.
func (p *page) byID(id string) *html.Node {
	p.Helper()
	for d := range p.root.Descendants() {
		if got, ok := attribute(d, "id"); ok && got == id {
			return d
		}
	}
	p.Fatalf("nothing has the id %s", id)
	return nil
}

// words are what can be read in an element.
func wordsOf(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// TestOverview: every figure is on the page as a number, beside the picture of it.
func TestOverview(t *testing.T) {
	s, _ := watchedSite(t)
	for i, d := range []store.Daily{store.DailyReceived, store.DailySubmitted, store.DailyHandedOver, store.DailyDelivered, store.DailyDeferred,
		store.DailyFailed, store.DailyFetched, store.DailyPOP3Login, store.DailyPOP3Refused, store.DailySMTPLogin, store.DailySMTPRefused,
		store.DailyWebLogin, store.DailyWebRefused} {
		s.figure(0, d.String(), int64(1001+i))
		s.figure(3, d.String(), int64(2001+i))
	}
	s.figure(2, store.DailyRan.String(), 1)
	s.figure(0, store.DailyRefused(refusal.RelayDenied), 11)
	for i, row := range refusal.All()[40 : 40+shownRows] {
		s.figure(3, store.DailyRefused(row.Name), int64(20+i))
	}
	for name, b := range map[string]*browser{"owner": s.in("olga"), "operator": s.operator()} {
		p := b.get("/").shows(200, "Overview", "Counted since 29 Mar")
		tiles := "Received today 1,001 Sent today 1,002 Refused today 11 Fetched today 1,007 Waiting to leave 0 Stored 0 B"
		if got := wordsOf(p.byID("main")); !strings.Contains(got, tiles) {
			t.Errorf("%s: no %q in %s", name, tiles, got)
		}
		for id, want := range map[string][]string{
			"mail": {"Received 3,002", "Sent by mailboxes 3,004",
				"2026-04-01 1001 1002 1007 2026-03-31 no figures 2026-03-30 0 0 0 2026-03-29 2001 2002 2007"},
			"delivery": {"Delivered to others 3,008", "Put off 3,010", "Failed 3,012", "Messages taken by other servers: 3,006, for so many recipients: 3,008.",
				"2026-04-01 1004 1005 1006 2026-03-31"},
			"logins": {"POP3 3,016", "SMTP 3,020", "These pages 3,024", "Refused 9,066", "Messages fetched by mail programs: 3,014.",
				"2026-04-01 1008 1010 1012 3033 2026-03-31"},
			"refused": {"Refused " + fmt.Sprint(11+20*shownRows+shownRows*(shownRows-1)/2), "2026-04-01 11 2026-03-31 no figures 2026-03-30 0", "1 more"},
			"reputation": {"bl.example 203.0.113.25, likely because of anna: 127.0.0.2 How to get off it listed",
				"clean.example 203.0.113.25 not listed", "does not work", "no answer"},
		} {
			for _, part := range want {
				if got := wordsOf(p.byID(id)); !strings.Contains(got, part) {
					t.Errorf("%s: %s lacks %q: %s", name, id, part, got)
				}
			}
		}
		for _, id := range []string{"mail", "delivery", "logins", "refused"} {
			charts := all(p.byID(id), "svg")
			if role, _ := attribute(charts[0], "role"); role != "img" || p.byID(id+"-title").Parent != charts[0] || p.byID(id+"-desc").Parent != charts[0] {
				t.Errorf("%s: the picture says nothing to a screen reader", id)
			}
		}
		if strings.Contains(p.body, "style=") || strings.Contains(p.body, "<script") {
			t.Errorf("%s: the page has what the policy forbids", name)
		}
		if _, current := attribute(all(all(p.root, "nav")[0], "a")[0], "aria-current"); !current {
			t.Errorf("%s: the navigation does not say where this is", name)
		}
		links := map[string]bool{}
		for _, a := range all(p.byID("refused"), "a") {
			to, _ := attribute(a, "href")
			links[to] = true
		}
		if !links["/explain/relay-denied"] || len(links) != shownRows+1 {
			t.Errorf("%s: causes lead to %v", name, links)
		}
	}
}

// TestOverviewSize: the page with its style sheet is small, also with a month of figures, and so is what it says of nothing.
func TestOverviewSize(t *testing.T) {
	s, _ := watchedSite(t)
	b := s.in("olga")
	if p := b.get("/").shows(200, "Nothing waits.", "Nothing in these days.", "no figures"); strings.Contains(wordsOf(p.byID("mail")), "2026-03-31") {
		t.Error("days before the first are listed")
	}
	for back := range webmanager.OverviewDays {
		for d := store.Daily(0); d.String() != "no figure"; d++ {
			s.figure(back, d.String(), int64(1000*(back+1)+int(d)))
		}
		for _, row := range refusal.All()[:40] {
			s.figure(back, store.DailyRefused(row.Name), 5)
		}
	}
	p := b.get("/").shows(200, "2026-03-03")
	if size := len(p.body) + len(b.get(s.server.render.style.path).body); size > 70<<10 {
		t.Errorf("the page takes %d octets", size)
	}
}

// alertsOf are what the page points at.
func alertsOf(p *page) (list []string) {
	for _, n := range all(p.root, "section") {
		if class, _ := attribute(n, "class"); class != "alerts" {
			continue
		}
		for _, a := range all(n, "a") {
			to, _ := attribute(a, "href")
			list = append(list, wordsOf(a)+" "+to)
		}
	}
	return list
}

// TestOverviewAlerts: what wants to be looked at is said first, at both sides of each limit.
func TestOverviewAlerts(t *testing.T) {
	s := newSite(t, nil)
	b := s.in("olga")
	want := func(what string, want ...string) {
		t.Helper()
		if got := alertsOf(b.get("/").shows(200)); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	want("an empty domain")
	s.hold("anna", 899)
	s.do("PATCH", webmanager.Path("accounts", "anna"), map[string]any{"quota": store.Quota{Octets: 1000}}, nil)
	want("below nine tenths")
	s.hold("anna", 1)
	full := "The mailbox anna is nearly full. /mailbox/anna"
	want("nine tenths", full)
	s.do("PATCH", webmanager.Path("settings"), map[string]any{"domain_octets": 1001, "confirm": domain}, nil)
	want("a larger quota of the domain", full)
	s.do("PATCH", webmanager.Path("settings"), map[string]any{"domain_octets": 1000, "confirm": domain}, nil)
	want("the quota of the domain", "The mailboxes together have used up nearly all that the domain may hold. #storage", full)
	s.do("PATCH", webmanager.Path("accounts", "anna"), map[string]any{"quota": store.Quota{}}, nil)
	s.do("PATCH", webmanager.Path("settings"), map[string]any{"domain_octets": 0, "confirm": domain}, nil)
	want("no quotas")
	s.waits("anna", "x@slow.example", noon.Add(-longWait+time.Second))
	want("not yet long")
	s.later(time.Second)
	late := "Deliveries that were tried in vain: 1, the oldest for 4 h #queue"
	want("long", late)
	id := s.waits("anna", "x@held.example", noon)
	if err := s.store.HoldJobs(t.Context(), "no", id); err != nil {
		t.Fatal(err)
	}
	want("on hold", "Deliveries on hold: 1 /holds", late)
}

// hold puts a message of so many octets into a mailbox.
func (s *site) hold(mailbox string, octets int) {
	s.Helper()
	d, err := s.store.NewDraft(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	if _, err := d.Write(make([]byte, octets)); err != nil {
		s.Fatal(err)
	}
	if _, err := d.Commit(s.Context(), store.Envelope{Received: noon, Recipients: []store.Recipient{{Account: s.account(mailbox).ID}}}); err != nil {
		s.Fatal(err)
	}
}

// waits puts a delivery into the queue that was tried in vain once.
func (s *site) waits(mailbox, to string, since time.Time) store.JobID {
	s.Helper()
	address, err := mailaddr.Parse(to)
	if err != nil {
		s.Fatal(err)
	}
	d, err := s.store.NewDraft(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	id := s.account(mailbox).ID
	if _, err := d.Commit(s.Context(), store.Envelope{Submitter: id, Received: since, Recipients: []store.Recipient{{Address: address}}}); err != nil {
		s.Fatal(err)
	}
	jobs, err := s.store.Lease(s.Context(), noon, id, address.Domain(), 1, time.Hour)
	if err != nil || len(jobs) != 1 {
		s.Fatal(err, jobs)
	}
	o := store.Outcome{Job: jobs[0].ID, Lease: jobs[0].Lease, Kind: store.Deferred, Text: "451 <b>later</b>", At: noon, Next: noon.Add(time.Hour)}
	if _, err := s.store.Finish(s.Context(), noon, o); err != nil {
		s.Fatal(err)
	}
	return jobs[0].ID
}

// TestOverviewLooksAgain: the page does not wait for the DNS; a button does, and then what is wrong is there with its cure.
func TestOverviewLooksAgain(t *testing.T) {
	s, dns := watchedSite(t)
	b := s.in("olga")
	p := b.get("/").shows(200, "They were not looked at since the server started.")
	if dns.rounds.Load() != 0 {
		t.Error("the page asked the DNS")
	}
	if p = p.submit("/overview/dns", nil); p.status != 303 || p.head.Get("Location") != "/#dns" {
		t.Errorf("%d to %q", p.status, p.head.Get("Location"))
	}
	p = b.get("/").shows(200, "The DNS was looked at just now.", "Looked at 2026-04-01 12:00 UTC", "wrong MX example.com", "To do:")
	if dns.rounds.Load() != 1 {
		t.Errorf("%d rounds", dns.rounds.Load())
	}
	if got := alertsOf(p); len(got) != 2 || got[0] != "203.0.113.25 is on the blocklist bl.example #reputation" ||
		!strings.HasPrefix(got[1], "Records in the DNS that are wrong: ") {
		t.Errorf("%q", got)
	}
	s.waits("anna", "x@slow.example", noon)
	b.get("/").shows(200, "451 <b>later</b>", "1 wait, the oldest for less than a minute.")
	// Where nobody can ask, the button says so, on the same page.
	plain := newSite(t, nil)
	plain.server.o.API = webmanager.New(webmanager.Options{Store: plain.store, Now: plain.clock, Version: "v1"})
	plain.in("olga").post("/overview/dns", nil).shows(503, "The DNS cannot be asked from here", "Mail in and out")
}

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "less than a minute", time.Minute - 1: "less than a minute", time.Minute: "1 min", 2*time.Hour - 1: "119 min", 2 * time.Hour: "2 h",
		48*time.Hour - 1: "47 h", 48 * time.Hour: "2 days", 120 * time.Hour: "5 days",
	} {
		if got := ago(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -7: "-7"} {
		if got := count(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	if dayOf("2026-04-01") != "1 Apr" || dayOf("x") != "x" {
		t.Error(dayOf("2026-04-01"))
	}
}
