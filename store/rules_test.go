package store

import (
	"bytes"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"latchkey/internal/mailaddr"
)

func addr(t *testing.T, s string) mailaddr.Address {
	t.Helper()
	a, err := mailaddr.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestSettingsValidate(t *testing.T) {
	own, foreign := addr(t, "news@example.org"), addr(t, "news@elsewhere.example")
	senders := func(n int) []mailaddr.Address {
		s := make([]mailaddr.Address, n)
		for i := range s {
			s[i] = own
		}
		return s
	}
	nets := func(texts ...string) (list []netip.Prefix) {
		for _, text := range texts {
			list = append(list, netip.MustParsePrefix(text))
		}
		return list
	}
	tests := []struct {
		name   string
		change func(*Settings)
		bad    int
	}{
		{"defaults", func(*Settings) {}, 0},
		{"no domain", func(s *Settings) { s.Domain = "" }, 1},
		{"domain not canonical", func(s *Settings) { s.Domain = "Example.org" }, 1},
		{"smallest message size", func(s *Settings) { s.MessageSize = MinMessageSize }, 0},
		{"message size too small", func(s *Settings) { s.MessageSize = MinMessageSize - 1 }, 1},
		{"largest message size", func(s *Settings) { s.MessageSize = MaxMessageSize }, 0},
		{"message size too large", func(s *Settings) { s.MessageSize = MaxMessageSize + 1 }, 1},
		{"fewest recipients", func(s *Settings) { s.Recipients = MinRecipients }, 0},
		{"too few recipients", func(s *Settings) { s.Recipients = MinRecipients - 1 }, 1},
		{"most recipients", func(s *Settings) { s.Recipients = MaxRecipients }, 0},
		{"too many recipients", func(s *Settings) { s.Recipients = MaxRecipients + 1 }, 1},
		{"largest quota of the domain", func(s *Settings) { s.DomainOctets, s.DomainMessages = math.MaxInt64, math.MaxInt64 }, 0},
		{"negative quota of the domain in octets", func(s *Settings) { s.DomainOctets = -1 }, 1},
		{"negative quota of the domain in messages", func(s *Settings) { s.DomainMessages = -1 }, 1},
		{"most outside senders", func(s *Settings) { s.OutsideSenders = senders(MaxOutsideSenders) }, 0},
		{"too many outside senders", func(s *Settings) { s.OutsideSenders = senders(MaxOutsideSenders + 1) }, 1},
		{"widest trusted networks", func(s *Settings) { s.TrustedNetworks = nets("10.1.0.0/16", "2001:db8:1::/48") }, 0},
		{"trusted IPv4 network too wide", func(s *Settings) { s.TrustedNetworks = nets("10.0.0.0/15") }, 1},
		{"trusted IPv6 network too wide", func(s *Settings) { s.TrustedNetworks = nets("2001:db8::/47") }, 1},
		{"the whole world trusted", func(s *Settings) { s.TrustedNetworks = nets("0.0.0.0/0", "::/0") }, 2},
		{"trusted network with host bits", func(s *Settings) { s.TrustedNetworks = nets("192.0.2.1/24") }, 1},
		{"trusted mapped network", func(s *Settings) { s.TrustedNetworks = nets("::ffff:192.0.2.0/120") }, 1},
		{"no trusted network at all", func(s *Settings) { s.TrustedNetworks = []netip.Prefix{{}} }, 1},
		{"most networks", func(s *Settings) {
			s.TrustedNetworks, s.NoGrantNetworks = slices.Repeat(nets("192.0.2.0/24"), MaxNetworks), slices.Repeat(nets("10.0.0.0/8"), MaxNetworks)
		}, 0},
		{"too many trusted networks", func(s *Settings) { s.TrustedNetworks = slices.Repeat(nets("192.0.2.0/24"), MaxNetworks+1) }, 1},
		{"too many networks without grants", func(s *Settings) { s.NoGrantNetworks = slices.Repeat(nets("10.0.0.0/8"), MaxNetworks+1) }, 1},
		{"network without grants with host bits", func(s *Settings) { s.NoGrantNetworks = nets("10.0.0.1/8") }, 1},
		{"least budgets", func(s *Settings) { s.TrustedRecipients, s.DailyRecipients = 1, 1 }, 0},
		{"no budget for trusted networks", func(s *Settings) { s.TrustedRecipients = 0 }, 1},
		{"no daily budget", func(s *Settings) { s.DailyRecipients = 0 }, 1},
		{"most budgets", func(s *Settings) { s.TrustedRecipients, s.DailyRecipients = MaxRecipientBudget, MaxRecipientBudget }, 0},
		{"no hourly budget", func(s *Settings) { s.HourlyRecipients = 0 }, 1},
		{"no daily budget of the domain", func(s *Settings) { s.DomainDailyRecipients = 0 }, 1},
		{"no hourly budget of the domain", func(s *Settings) { s.DomainHourlyRecipients = 0 }, 1},
		{"no new recipients", func(s *Settings) { s.NewRecipients = 0 }, 1},
		{"any octets", func(s *Settings) { s.DailyOctets = 0 }, 0},
		{"negative octets", func(s *Settings) { s.DailyOctets = -1 }, 1},
		{"budget too large", func(s *Settings) { s.DailyRecipients = MaxRecipientBudget + 1 }, 1},
		{"grants for one address", func(s *Settings) { s.GrantIPv6Bits = 128 }, 0},
		{"grants for a site", func(s *Settings) { s.GrantIPv6Bits = 48 }, 1},
		{"longest help URL", func(s *Settings) { s.HelpURL = "https://h/" + strings.Repeat("x", MaxHelpURL-10) }, 0},
		{"help URL too long", func(s *Settings) { s.HelpURL = "https://h/" + strings.Repeat("x", MaxHelpURL-9) }, 1},
		{"help URL of another kind", func(s *Settings) { s.HelpURL = "javascript:alert(1)" }, 1},
		{"help URL with a line end", func(s *Settings) { s.HelpURL = "https://h/\r\n250" }, 1},
		{"foreign outside sender", func(s *Settings) { s.OutsideSenders = []mailaddr.Address{own, foreign} }, 1},
		{"everything", func(s *Settings) { *s = Settings{Domain: "X", OutsideSenders: []mailaddr.Address{foreign}} }, 6},
	}
	for _, test := range tests {
		s := DefaultSettings("example.org")
		test.change(&s)
		wantProblems(t, test.name, s.Validate(), test.bad)
	}
}

func TestSettingsClone(t *testing.T) {
	s := DefaultSettings("example.org")
	s.OutsideSenders = []mailaddr.Address{addr(t, "news@example.org")}
	s.TrustedNetworks, s.NoGrantNetworks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	c := s.Clone()
	c.OutsideSenders[0], c.TrustedNetworks[0], c.NoGrantNetworks[0] = mailaddr.Address{}, netip.Prefix{}, netip.Prefix{}
	if s.OutsideSenders[0].IsZero() || !s.TrustedNetworks[0].IsValid() || !s.NoGrantNetworks[0].IsValid() {
		t.Error("a clone shares its lists")
	}
}

// "Authenticated SMTP" is on again from the very moment that was named.
func TestAuthRequired(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		name string
		on   bool
		at   time.Time
		now  time.Time
		want bool
	}{
		{"on", true, time.Time{}, at, true},
		{"on with a time left over", true, at.Add(time.Hour), at, true},
		{"off for good", false, time.Time{}, at, false},
		{"off a moment longer", false, at, at.Add(-1), false},
		{"on again", false, at, at, true},
		{"on again long since", false, at, at.Add(time.Hour), true},
	} {
		s := Settings{RequireAuth: test.on, RequireAuthAt: test.at}
		if got := s.AuthRequired(test.now); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
}

func TestEnvelopeValidate(t *testing.T) {
	const size = 100
	tests := []struct {
		name   string
		change func(*Envelope)
		bad    int
	}{
		{"plain", func(*Envelope) {}, 0},
		{"no recipients", func(e *Envelope) { e.Recipients = nil }, 1},
		{"most recipients", func(e *Envelope) { e.Recipients = make([]Recipient, MaxRecipients) }, 0},
		{"too many recipients", func(e *Envelope) { e.Recipients = make([]Recipient, MaxRecipients+1) }, 1},
		{"most reservations", func(e *Envelope) { e.Reserved = make([]ReservationID, MaxRecipients) }, 0},
		{"too many reservations", func(e *Envelope) { e.Reserved = make([]ReservationID, MaxRecipients+1) }, 1},
		{"longest prefix", func(e *Envelope) { e.Recipients[0].Prefix = make([]byte, MaxPrefixLen) }, 0},
		{"prefix too long", func(e *Envelope) { e.Recipients[0].Prefix = make([]byte, MaxPrefixLen+1) }, 1},
		{"prefix of a job", func(e *Envelope) { e.Recipients[0] = Recipient{Prefix: make([]byte, MaxPrefixLen+1)} }, 0},
		{"no header", func(e *Envelope) { e.HeaderLen = 0 }, 0},
		{"negative header", func(e *Envelope) { e.HeaderLen = -1 }, 1},
		{"all header", func(e *Envelope) { e.HeaderLen = size }, 0},
		{"more header than message", func(e *Envelope) { e.HeaderLen = size + 1 }, 1},
		{"longest Message-ID", func(e *Envelope) { e.HeaderID = strings.Repeat("i", MaxHeaderIDLen) }, 0},
		{"Message-ID too long", func(e *Envelope) { e.HeaderID = strings.Repeat("i", MaxHeaderIDLen+1) }, 1},
		{"outcomes", func(e *Envelope) { e.Settles = []Outcome{{Kind: Delivered}, {Kind: Deferred}, {Kind: Failed}} }, 0},
		{"unknown outcomes", func(e *Envelope) { e.Settles = []Outcome{{}, {Kind: "lost"}, {Kind: Failed}} }, 2},
	}
	for _, test := range tests {
		e := Envelope{Recipients: []Recipient{{Account: 1}}, HeaderLen: 50}
		test.change(&e)
		wantProblems(t, test.name, e.Validate(size), test.bad)
	}
}

func TestOutcomeValidate(t *testing.T) {
	for _, test := range []struct {
		o  Outcome
		ok bool
	}{
		{Outcome{Kind: Delivered}, true},
		{Outcome{Kind: Failed}, true},
		{Outcome{Kind: Deferred}, true},
		{Outcome{Kind: Deferred, Shared: true}, true},
		{Outcome{Kind: Deferred, Warned: true}, true},
		{Outcome{Kind: Deferred, Shared: true, Warned: true}, true},
		{Outcome{Kind: Delivered, Shared: true}, false},
		{Outcome{Kind: Delivered, Warned: true}, false},
		{Outcome{Kind: Failed, Shared: true}, false},
		{Outcome{Kind: Failed, Warned: true}, false},
		{Outcome{}, false},
		{Outcome{Kind: "lost"}, false},
	} {
		if err := test.o.Validate(); test.ok != (err == nil) || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", test.o, err)
		}
	}
}

func TestRecipientError(t *testing.T) {
	err := error(&RecipientError{Index: 3, Err: ErrMaildropFull})
	if !errors.Is(err, ErrMaildropFull) || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "3") {
		t.Errorf("error %v does not say who and why", err)
	}
}

func TestCleanText(t *testing.T) {
	x := strings.Repeat("x", MaxOutcomeText)
	tests := []struct{ name, in, want string }{
		{"empty", "", ""},
		{"plain", "450 4.2.1 später", "450 4.2.1 später"},
		{"one less", x[1:], x[1:]},
		{"exact", x, x},
		{"one more", x + "y", x},
		{"character across the cut", x[1:] + "é", x[1:]},
		{"character before the cut", x[2:] + "é!", x[2:] + "é"},
		{"line ends", "a\r\nb\tc\x00d\x7fe\u0085f", "a  b c d e f"},
		{"not UTF-8", "a\xff\xfeb", "a\uFFFDb"},
		{"grows when repaired", strings.Repeat("\xffa", MaxOutcomeText/2), strings.Repeat("\uFFFDa", MaxOutcomeText/4)},
	}
	for _, test := range tests {
		got := CleanText(test.in)
		if got != test.want || len(got) > MaxOutcomeText || !utf8.ValidString(got) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestDayOf(t *testing.T) {
	east, west := time.FixedZone("east", 14*3600), time.FixedZone("west", -12*3600)
	tests := []struct {
		t    time.Time
		want Day
	}{
		{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), 20260101},
		{time.Date(2026, 12, 31, 23, 59, 59, 999_999_999, time.UTC), 20261231},
		{time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC), 20240229},
		{time.Date(2026, 1, 1, 13, 59, 59, 0, east), 20251231},
		{time.Date(2026, 1, 1, 14, 0, 0, 0, east), 20260101},
		{time.Date(2026, 1, 31, 12, 0, 0, 0, west), 20260201},
		{time.Date(2026, 1, 31, 11, 59, 59, 0, west), 20260131},
	}
	for _, test := range tests {
		if got := DayOf(test.t); got != test.want {
			t.Errorf("%s is day %d, want %d", test.t, got, test.want)
		}
	}
}

// TestSentNames: every way, mailbox and address has a name of its own, which a store takes.
func TestSentNames(t *testing.T) {
	seen := map[string]bool{}
	note := func(name string) {
		t.Helper()
		if seen[name] || name == "" || len(name) > MaxStatName {
			t.Errorf("%q (%d octets) names two figures, or is too long", name, len(name))
		}
		seen[name] = true
	}
	for _, way := range []SentWay{SentAuth, SentGrant, SentTrusted} {
		for _, id := range []AccountID{0, 1, 11, math.MaxUint64} {
			note(SentByMailbox(way, id))
		}
		for _, text := range []string{
			"0.0.0.0", "1.1.1.1", "192.0.2.1", "192.0.2.11", "::", "::1", "2001:db8::1", "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255",
		} {
			note(SentFromAddress(way, netip.MustParseAddr(text)))
		}
	}
	if want := 3 * (4 + 8); len(seen) != want {
		t.Errorf("%d names, want %d", len(seen), want)
	}
}

func TestLimitValidate(t *testing.T) {
	for l, ok := range map[Limit]bool{
		{1, 1}: true, {math.MaxInt64, math.MaxInt64}: true, {0, 1}: false, {1, 0}: false, {-1, 1}: false, {1, -1}: false,
	} {
		if err := l.Validate(); ok && err != nil || !ok && !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

// TestBucketExtremes: nothing overflows, and nothing is given for nothing.
func TestBucketExtremes(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, l := range []Limit{{1, 1}, {math.MaxInt64, time.Hour}, {1, math.MaxInt64}, {math.MaxInt64, math.MaxInt64}, {3, time.Nanosecond}} {
		var b Bucket
		if got := b.Take(now, l.N, l); !got.OK || got.Left != 0 {
			t.Errorf("%+v: took all: %+v", l, got)
		}
		if got := b.Take(now, 1, l); got.OK || got.RetryAfter <= 0 || got.RetryAfter > l.Window {
			t.Errorf("%+v: took one more: %+v", l, got)
		}
		if got := b.Take(now.Add(-time.Hour), 1, l); got.OK {
			t.Errorf("%+v: a clock that goes back gave something back", l)
		}
		if got := b.Take(now.Add(l.Window), l.N, l); !got.OK {
			t.Errorf("%+v: a window later: %+v", l, got)
		}
	}
}

// TestBucketShrunkLimit: a bucket that holds out more than a lowered limit has nothing left, not less.
func TestBucketShrunkLimit(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var b Bucket
	b.Take(now, 100, Limit{N: 100, Window: time.Hour})
	if got := b.Take(now, 1, Limit{N: 10, Window: time.Hour}); got.OK || got.Left != 0 || got.RetryAfter <= 0 {
		t.Errorf("took %+v", got)
	}
}

// TestBucketNeverGivesTooMuch: in any run of takes, whatever the clock does, at most N units and what came back meanwhile are out;
// and who waits for RetryAfter is served.
func TestBucketNeverGivesTooMuch(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := Limit{N: rapid.Int64Range(1, 1000).Draw(rt, "n"), Window: time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(rt, "window"))}
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		now := start
		var b Bucket
		var out int64
		for range rapid.IntRange(1, 30).Draw(rt, "takes") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(l.Window)/4).Draw(rt, "pause")))
			cost := rapid.Int64Range(0, l.N).Draw(rt, "cost")
			got := b.Take(now, cost, l)
			if !got.OK {
				now = now.Add(got.RetryAfter)
				if again := b.Take(now, cost, l); !again.OK {
					rt.Fatalf("refused after the wait that was asked for: %+v, then %+v", got, again)
				}
			}
			out += cost
			back := float64(now.Sub(start)) * float64(l.N) / float64(l.Window)
			if float64(out) > float64(l.N)+back+1e-6 {
				rt.Fatalf("%d units out after %s with %+v", out, now.Sub(start), l)
			}
			if left := b.Take(now, 0, l).Left; left < 0 || left > l.N {
				rt.Fatalf("%d left of %d", left, l.N)
			}
		}
	})
}

func TestBucketFullAt(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	l := Limit{N: 60, Window: time.Hour}
	var b Bucket
	b.Take(now, 15, l)
	if got, want := b.FullAt(l), now.Add(15*time.Minute); !got.Equal(want) {
		t.Errorf("full at %s, want %s", got, want)
	}
	b.Give(now, 10, l)
	if got, want := b.FullAt(l), now.Add(5*time.Minute); !got.Equal(want) {
		t.Errorf("full at %s, want %s", got, want)
	}
}

// TestBoundsFitTogether: what one bound allows, another must not forbid.
func TestBoundsFitTogether(t *testing.T) {
	if MaxNameLen != mailaddr.MaxLocalLen {
		t.Errorf("names have %d octets, local parts %d", MaxNameLen, mailaddr.MaxLocalLen)
	}
	if MaxReservations < MaxRecipients {
		t.Error("the largest envelope cannot be reserved for")
	}
	if math.MaxInt64/MaxReservations <= MaxMessageSize {
		t.Error("the sum of all reservations may overflow")
	}
	if MaxAliasTargets > MaxRecipients {
		t.Error("one alias makes more recipients than an envelope may have")
	}
	d := DefaultSettings("example.org")
	if err := d.Validate(); err != nil || bytes.ContainsAny([]byte(d.Domain), "@") {
		t.Errorf("the defaults are not valid: %v", err)
	}
}
