package resolver

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"latchkey/internal/resolver/resolvertest"
)

// TestRecords: records of any type in one form, fresh each time, through aliases; nothing is no error, and no answer is one.
func TestRecords(t *testing.T) {
	server := resolvertest.New(t)
	long := strings.Repeat("x", 255)
	server.Set("a.example", "TXT", `"v=spf1 " "-all"`, `"`+long+`" "tail"`, `"quote \" back \\ high \200"`)
	server.Set("a.example", "MX", "10 Mail.Example.")
	server.Set("_pop3s._tcp.a.example", "SRV", "0 1 995 mail.example.")
	server.Set("1.2.0.192.in-addr.arpa", "PTR", "mail.example.")
	server.Set("alias.example", "CNAME", "a.example.")
	server.Set("silent.example", "A", "192.0.2.1")
	server.Behave("broken.example", "", resolvertest.ServFail)
	r, err := New(Options{Servers: []netip.AddrPort{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	txt := []string{"v=spf1 -all", long + "tail", "quote \" back \\ high \xc8"}
	for _, tt := range []struct {
		name, rrtype string
		want         []string
	}{
		{"a.example", "TXT", txt},
		{"A.Example.", "TXT", txt},
		{"alias.example", "TXT", txt},
		{"alias.example", "CNAME", []string{"a.example."}},
		{"a.example", "MX", []string{"10 mail.example."}},
		{"_pop3s._tcp.a.example", "SRV", []string{"0 1 995 mail.example."}},
		{ReverseName(netip.MustParseAddr("::ffff:192.0.2.1")), "PTR", []string{"mail.example."}},
		{"silent.example", "TXT", nil},
		{"nobody.example", "TXT", nil},
		{strings.Repeat("x", 64) + ".example", "TXT", nil},
	} {
		for range 2 {
			got, err := r.Records(t.Context(), tt.name, tt.rrtype)
			slices.Sort(got)
			want := slices.Sorted(slices.Values(tt.want))
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s %s: %q, %v; want %q", tt.name, tt.rrtype, got, err, tt.want)
			}
		}
	}
	if n := server.Count("silent.example", "TXT", ""); n != 2 {
		t.Errorf("asked %d times, want twice: nothing comes out of a cache", n)
	}
	if _, err := r.Records(t.Context(), "broken.example", "TXT"); !errors.Is(err, ErrTemporary) {
		t.Errorf("no answer: %v, want %v", err, ErrTemporary)
	}
	if _, err := r.Records(t.Context(), "a.example", "NONSENSE"); !errors.Is(err, ErrTemporary) {
		t.Errorf("no type: %v", err)
	}
}
