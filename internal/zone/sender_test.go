package zone

import (
	"net/netip"
	"testing"

	"latchkey/internal/mailaddr"
)

// TestSenderResult: whose policy counts, and what it says; a DNS that does not answer is no verdict.
func TestSenderResult(t *testing.T) {
	dns := published{
		"far.example TXT": {"v=spf1 ip4:203.0.113.7 -all"}, "mx.far.example TXT": {"v=spf1 a -all"}, "mx.far.example A": {"203.0.113.7"},
		"soft.example TXT": {"v=spf1 ~all"}, "two.example TXT": {"v=spf1 -all", "v=spf1 +all"}, "away.example !": {""},
	}
	for _, tt := range []struct{ from, hello, sender, result, domain string }{
		{"203.0.113.7", "mx.far.example", "x@far.example", "pass", "far.example"},
		{"203.0.113.8", "mx.far.example", "x@far.example", "fail", "far.example"},
		{"2001:db8::1", "mx.far.example", "x@far.example", "fail", "far.example"},
		{"203.0.113.7", "mx.far.example", "x@soft.example", "softfail", "soft.example"},
		{"203.0.113.7", "mx.far.example", "x@two.example", "permerror", "two.example"},
		{"203.0.113.7", "mx.far.example", "x@none.example", "none", "none.example"},
		{"203.0.113.7", "mx.far.example", "x@away.example", "temperror", "away.example"},
		{"203.0.113.7", "mx.far.example", "", "pass", "mx.far.example"},
		{"203.0.113.8", "mx.far.example", "", "fail", "mx.far.example"},
		{"203.0.113.7", "[203.0.113.7]", "", "none", ""},
		{"203.0.113.7", "no name?", "", "none", ""},
		{"203.0.113.7", "mx.far.example", "x@[203.0.113.7]", "none", ""},
	} {
		var sender mailaddr.Address
		if tt.sender != "" {
			var err error
			if sender, err = mailaddr.Parse(tt.sender); err != nil {
				t.Fatal(err)
			}
		}
		result, domain := SenderResult(t.Context(), dns, netip.MustParseAddr(tt.from), tt.hello, sender)
		if result != tt.result || domain != tt.domain {
			t.Errorf("%s %s <%s>: %s of %q, want %s of %q", tt.from, tt.hello, tt.sender, result, domain, tt.result, tt.domain)
		}
	}
}
