package webmanager

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/store"
)

// sent counts messages that went out some days ago, as the doors do.
func (f *fixture) sent(daysAgo int, way store.SentWay, mailbox, address string, n int64) {
	f.Helper()
	day := store.DayOf(noon.AddDate(0, 0, -daysAgo))
	if mailbox != "" {
		if err := f.store.AddStat(f.Context(), day, store.SentByMailbox(way, f.account(mailbox).ID), n); err != nil {
			f.Fatal(err)
		}
	}
	if address != "" {
		if err := f.store.AddStat(f.Context(), day, store.SentFromAddress(way, netip.MustParseAddr(address)), n); err != nil {
			f.Fatal(err)
		}
	}
}

func (f *fixture) preview(body map[string]any) SettingsPreview {
	f.Helper()
	var p SettingsPreview
	f.do("POST", "/v1/settings/preview", body, &p)
	return p
}

// TestPreview: what is said of a change comes from the domain's own figures of 30 days, and nothing is changed.
func TestPreview(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert", "carl")
	f.sent(29, store.SentGrant, "anna", "192.0.2.7", 200)
	f.sent(0, store.SentGrant, "anna", "192.0.2.7", 5)
	f.sent(1, store.SentGrant, "bert", "192.0.2.7", 9)
	f.sent(30, store.SentGrant, "carl", "198.51.100.1", 1000) // too long ago
	f.sent(2, store.SentAuth, "carl", "192.0.2.8", 3)
	f.sent(2, store.SentTrusted, "", "192.0.2.9", 40)
	f.sent(2, store.SentTrusted, "carl", "203.0.113.1", 2)
	if err := f.store.AddStat(t.Context(), store.DayOf(noon), "sent/odd", 7); err != nil {
		t.Fatal(err)
	}
	before := settingsOf(t, f.store)
	for _, tt := range []struct {
		name    string
		body    map[string]any
		loosens bool
		want    []string
	}{
		{"nothing", map[string]any{"recipients": 1000}, false, nil},
		{"POP before SMTP off", map[string]any{"pop_before_smtp": false}, false, []string{
			"a POP3 login lets nobody send without AUTH any more",
			"2 mailboxes and 1 address sent 214 messages by POP before SMTP in the last 30 days; they will have to turn on AUTH: anna, bert",
		}},
		{"outgoing mail off", map[string]any{"outgoing_mail": false}, false, []string{
			"nobody can send to other domains any more",
			"3 mailboxes and 4 addresses sent 259 messages to other domains in the last 30 days; they cannot any more: anna, bert, carl",
		}},
		{"authentication off", map[string]any{"require_auth": false, "require_auth_for": "2h", "trusted_networks": []string{"192.0.2.0/24", "198.51.100.7"}}, true, []string{
			"whoever is in 192.0.2.0/24, 198.51.100.7/32 can send to other domains without AUTH, as any address of the domain that exists, to 100 recipients an hour for each address",
			"3 addresses sent 257 messages from 192.0.2.0/24 in the last 30 days: 192.0.2.7, 192.0.2.9, 192.0.2.8",
			"nobody sent from 198.51.100.7/32 in the last 30 days",
			"authentication is asked for again by itself from 1 April 2026, 14:00 UTC",
		}},
		{"authentication off without networks", map[string]any{"require_auth": false}, true, []string{
			"nobody can send without AUTH until a network is named in trusted_networks",
			"authentication stays off until somebody switches it on",
		}},
		{"networks while it is on", map[string]any{"trusted_networks": []string{"192.0.2.0/24"}}, false,
			[]string{"trusted_networks count only while authentication is off (require_auth)"}},
		{"no grants there", map[string]any{"no_grant_networks": []string{"192.0.2.0/24"}}, false, []string{
			"a POP3 login from 192.0.2.0/24 lets nobody send without AUTH any more",
			"1 address sent 214 messages by POP before SMTP from there in the last 30 days; they will have to turn on AUTH: 192.0.2.7",
		}},
		{"budgets", map[string]any{"hourly_recipients": 501, "new_recipients": 1, "domain_daily_recipients": 20001, "domain_hourly_recipients": 1,
			"daily_octets": 0, "hold_jumps": false, "send_then_check": true, "grant_notices": false}, true, []string{
			"a client without AUTH that sends first and fetches mail then is kept waiting for up to two minutes, and its message is taken when it has",
			"owners are told no more when their mail is fetched from a new place that may then send",
			"a mailbox can name 501 recipients at other domains an hour, before 500",
			"all senders together can name 20001 recipients at other domains a day, before 20000",
			"all senders together can name 1 recipient at other domains an hour, before 5000",
			"a mailbox can write to 1 recipient a day that it has not written to before, before 200; mail to more is put on hold",
			"whoever has a mailbox's password can send from anywhere to anybody, as far as its budgets go; mail that is on hold stays so",
			"a mailbox can send any amount of octets to other domains, before 4294967296 a day",
		}},
		{"the rest", map[string]any{"cleartext_login": true, "auth_on_mx": false, "grant_ipv6_bits": 128, "daily_recipients": 1,
			"trusted_recipients": 200, "outside_senders": []string{"news@example.com"}}, true, []string{
			"a POP3 login over IPv6 lets its mailbox send from the same /128, before from the same /64",
			"passwords are taken without TLS from anywhere, and anybody on the way can read them",
			"clients that send on port 25 cannot log in there any more",
			"a mailbox can name 1 recipient at other domains a day, before 2000",
			"an address in trusted_networks can name 200 recipients at other domains an hour, before 100",
			"mail from outside that claims to be from news@example.com is taken without proof",
		}},
	} {
		got := f.preview(tt.body)
		if !slices.Equal(got.Consequences, tt.want) || got.Loosens != tt.loosens || (len(got.Changes) == 0) != (tt.want == nil) {
			t.Errorf("%s: got %v\n%s\nwant\n%s", tt.name, got.Loosens, strings.Join(got.Consequences, "\n"), strings.Join(tt.want, "\n"))
		}
	}
	if now := settingsOf(t, f.store); now.Version != before.Version {
		t.Errorf("settings after previews: got %+v", now)
	}
	for _, e := range f.audit() {
		if e.Action == "settings.change" {
			t.Errorf("a preview was audited: %+v", e)
		}
	}
}

// TestPreviewOfDomainQuota: it is held against what the mailboxes hold now, at both ends, and is nothing to confirm.
func TestPreviewOfDomainQuota(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	f.fill("anna", 100)
	f.fill("anna", 100)
	const full = "no mail comes in until some is deleted: senders are told to try again later"
	for _, tt := range []struct {
		body map[string]any
		want string
	}{
		{map[string]any{"domain_octets": 201}, "all mailboxes together can hold 201 octets, before any number; now they hold 200"},
		{map[string]any{"domain_octets": 200}, "all mailboxes together can hold 200 octets, before any number; now they hold 200|" + full},
		{map[string]any{"domain_messages": 3}, "all mailboxes together can hold 3 messages, before any number; now they hold 2"},
		{map[string]any{"domain_messages": 1, "domain_octets": 1}, "all mailboxes together can hold 1 octet, before any number; now they hold 200|" +
			"all mailboxes together can hold 1 message, before any number; now they hold 2|" + full},
	} {
		p := f.preview(tt.body)
		if got := strings.Join(p.Consequences, "|"); got != tt.want || p.Loosens {
			t.Errorf("%v: got %t\n%s\nwant\n%s", tt.body, p.Loosens, got, tt.want)
		}
	}
	f.do("PATCH", "/v1/settings", map[string]any{"domain_octets": 1000, "domain_messages": 10}, nil)
	for _, tt := range []struct {
		body map[string]any
		want string
	}{
		{map[string]any{"domain_octets": 2000}, "all mailboxes together can hold 2000 octets, before 1000; now they hold 200"},
		{map[string]any{"domain_messages": 0}, "the messages that all mailboxes together hold are bounded no more, before by 10"},
		{map[string]any{"recipients": 100}, ""},
	} {
		if got := strings.Join(f.preview(tt.body).Consequences, "|"); got != tt.want {
			t.Errorf("%v: got\n%s\nwant\n%s", tt.body, got, tt.want)
		}
	}
	var u DomainUsage
	f.do("GET", "/v1/usage", nil, &u)
	if want := (DomainUsage{Domain: domain, Quota: store.Quota{Octets: 1000, Messages: 10}, Usage: store.Usage{Octets: 200, Messages: 2}}); u != want {
		t.Errorf("usage of the domain %+v, want %+v", u, want)
	}
}

// TestPreviewOfPOP3: what concerns old clients, sessions and what is kept, there and back.
func TestPreviewOfPOP3(t *testing.T) {
	f := newFixture(t)
	type body = map[string]any
	const everybody = "every mailbox can use the doors for old clients, where passwords and mail may pass without TLS, or with an old one, and anybody on the " +
		"way can read them; its password is kept, encrypted, from its next login"
	for _, tt := range []struct {
		body              body
		loosens, destroys bool
		want              string
	}{
		{body{"old_client_networks": []string{"192.0.2.7", "198.51.100.0/24"}}, true, false,
			"every mailbox can use the doors for old clients from 192.0.2.7/32, 198.51.100.0/24"},
		{body{"old_client_networks": []string{"192.0.2.7"}}, false, false,
			"mailboxes cannot use the doors for old clients from 198.51.100.0/24 any more, but by an old_client_login of their own"},
		{body{"old_client_networks": []string{"192.0.2.0/24"}, "old_client_login": true}, true, false,
			everybody + "|old_client_networks count only while old_client_login is off"},
		{body{"old_client_networks": []string{}}, false, false, ""},
		{body{"old_client_login": false}, false, false, "mailboxes without an old_client_login of their own cannot use the doors for old clients any more, but " +
			"from old_client_networks; their passwords that were kept are forgotten"},
		{body{"old_client_login": true}, true, false, everybody},
		{body{"exclusive_maildrop": true}, false, false,
			"a POP3 login to a mailbox that another session has is refused from now on; sessions that are open now go on, and keep nobody out"},
		{body{"exclusive_maildrop": false}, false, false, "any number of POP3 sessions can have a mailbox at the same time"},
		{body{"login_delay": 1}, false, false, "between two POP3 logins of a mailbox there must be 1 second, before 0; one more is let in"},
		{body{"login_delay": 90}, false, false, "between two POP3 logins of a mailbox there must be 90 seconds, before 1; one more is let in"},
		{body{"login_delay": 0}, false, false, "a mailbox can be opened by POP3 as often as anybody likes"},
		{body{"expire_days": 30}, false, true,
			"messages that came more than 30 days ago are removed, fetched or not, the first of them at once; nobody can bring them back"},
		{body{"expire_days": 60}, false, false, "messages are removed after 60 days, before after 30"},
		{body{"expire_days": 0}, false, false, "messages are kept until somebody deletes them"},
	} {
		p := f.preview(tt.body)
		if got := strings.Join(p.Consequences, "|"); got != tt.want || p.Loosens != tt.loosens || p.Destroys != tt.destroys {
			t.Errorf("%v: got %t %t\n%s\nwant\n%s", tt.body, p.Loosens, p.Destroys, got, tt.want)
		}
		tt.body["confirm"] = domain
		f.do("PATCH", "/v1/settings", tt.body, nil)
	}
}

// fill puts a message of so many octets into a mailbox.
func (f *fixture) fill(name string, octets int) {
	f.Helper()
	d, err := f.store.NewDraft(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	if _, err := d.Write(make([]byte, octets)); err != nil {
		f.Fatal(err)
	}
	if _, err := d.Commit(f.Context(), store.Envelope{Received: noon, Recipients: []store.Recipient{{Account: f.account(name).ID}}}); err != nil {
		f.Fatal(err)
	}
}

// TestPreviewOfTheWayBack: authentication on again names those who sent without it.
func TestPreviewOfTheWayBack(t *testing.T) {
	f := newFixture(t)
	f.add("carl")
	f.sent(29, store.SentTrusted, "", "192.0.2.9", 40)
	f.sent(2, store.SentTrusted, "carl", "198.51.100.1", 2)
	f.do("PATCH", "/v1/settings", map[string]any{"require_auth": false, "trusted_networks": []string{"192.0.2.0/24", "198.51.100.0/24"}, "confirm": domain}, nil)
	for _, tt := range []struct {
		body map[string]any
		want string
	}{
		{map[string]any{"require_auth": true},
			"1 mailbox and 2 addresses sent 42 messages without AUTH from trusted networks in the last 30 days; they will have to turn on AUTH: carl"},
		{map[string]any{"trusted_networks": []string{"198.51.100.0/24"}},
			"1 address sent 40 messages without AUTH from 192.0.2.0/24 in the last 30 days; they will have to turn on AUTH: 192.0.2.9"},
		{map[string]any{"trusted_networks": []string{}}, "nobody can send without AUTH until a network is named in trusted_networks|" +
			"2 addresses sent 42 messages without AUTH from 192.0.2.0/24, 198.51.100.0/24 in the last 30 days; they will have to turn on AUTH: 192.0.2.9, 198.51.100.1"},
		{map[string]any{"trusted_networks": []string{"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"}},
			"whoever is in 203.0.113.0/24 can send to other domains without AUTH, as any address of the domain that exists, to 100 recipients an hour for each address|" +
				"nobody sent from 203.0.113.0/24 in the last 30 days"},
		{map[string]any{"require_auth_at": noon.Add(time.Hour)}, "authentication is asked for again by itself from 1 April 2026, 13:00 UTC"},
	} {
		if got := strings.Join(f.preview(tt.body).Consequences, "|"); got != tt.want {
			t.Errorf("%v: got\n%s\nwant\n%s", tt.body, got, tt.want)
		}
	}
}

// TestPreviewIsHonest: it says since when there are figures, and when there are none.
func TestPreviewIsHonest(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	last := func() string {
		consequences := f.preview(map[string]any{"pop_before_smtp": false}).Consequences
		return consequences[len(consequences)-1]
	}
	if got := last(); got != "nothing was counted yet, so nobody can be named whom this concerns" {
		t.Errorf("without figures: got %q", got)
	}
	if got := f.preview(map[string]any{"pop_before_smtp": false}).Consequences; len(got) != 2 {
		t.Errorf("without figures: got %q", got) // nobody was counted, which is not to say that nobody sent
	}
	for _, tt := range []struct {
		started int // days ago
		want    string
	}{
		{0, "counting began on 2026-04-01: the figures are not of 30 whole days"},
		{28, "counting began on 2026-03-04: the figures are not of 30 whole days"},
		{29, "nobody sent by POP before SMTP in the last 30 days"},
		{30, "nobody sent by POP before SMTP in the last 30 days"},
		{store.MaxStatDays - 1, "nobody sent by POP before SMTP in the last 30 days"},
	} {
		if err := f.store.AddStat(t.Context(), store.DayOf(noon.AddDate(0, 0, -tt.started)), statStarts, 1); err != nil {
			t.Fatal(err)
		}
		if got := last(); got != tt.want {
			t.Errorf("started %d days ago: got %q, want %q", tt.started, got, tt.want)
		}
	}
}

// TestPreviewIsBounded: ten are named, the others counted; removed mailboxes keep their figures.
func TestPreviewIsBounded(t *testing.T) {
	for n := maxNamed - 1; n <= maxNamed+1; n++ {
		f := newFixture(t)
		for i := range n {
			name := fmt.Sprintf("m%02d", i)
			f.add(name)
			f.sent(0, store.SentGrant, name, "192.0.2.7", int64(100-i))
		}
		f.do("DELETE", "/v1/accounts/m00", nil, nil)
		got := f.preview(map[string]any{"pop_before_smtp": false}).Consequences[1]
		want := fmt.Sprintf("%d mailboxes and 1 address sent ", n)
		if !strings.HasPrefix(got, want) || !strings.Contains(got, ": removed mailbox 1, m01, ") ||
			strings.HasSuffix(got, ", and 1 more") != (n > maxNamed) {
			t.Errorf("%d mailboxes: got %q", n, got)
		}
	}
}

// TestPreviewOfFullDays: a day with as many figures as are kept may miss some.
func TestPreviewOfFullDays(t *testing.T) {
	for n := store.MaxStatNames - 1; n <= store.MaxStatNames; n++ {
		f := newFixture(t)
		for i := range n {
			if err := f.store.AddStat(t.Context(), store.DayOf(noon), fmt.Sprintf("sent/grant/mailbox/%d", i+1), 1); err != nil {
				t.Fatal(err)
			}
		}
		got := f.preview(map[string]any{"pop_before_smtp": false}).Consequences
		if slices.Contains(got, "on some days there were more senders than are counted") != (n == store.MaxStatNames) {
			t.Errorf("%d figures: got %q", n, got)
		}
	}
}
