package mailaddr

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	long := strings.Repeat("a", MaxLocalLen)
	tests := []struct{ in, want string }{
		{"user@example.com", "user@example.com"},
		{"User@EXAMPLE.com.", "User@example.com"},
		{"user+tag@example.com", "user+tag@example.com"},
		{`"a b"@example.com`, `"a b"@example.com`},
		{`"plain"@example.com`, "plain@example.com"},
		{`"x@y"@example.com`, `"x@y"@example.com`},
		{`"q\"\\"@example.com`, `"q\"\\"@example.com`},
		{"user@[192.0.2.1]", "user@[192.0.2.1]"},
		{"user@[IPV6:2001:DB8::1]", "user@[IPv6:2001:db8::1]"},
		{"jürgen@bücher.example", "jürgen@xn--bcher-kva.example"},
		{"u@host_name.example", "u@host_name.example"},
		{long + "@example.com", long + "@example.com"},
		{long + "a@example.com", ""},
		{"", ""}, {"user", ""}, {"@example.com", ""}, {"user@", ""}, {"user@.", ""},
		{"a..b@example.com", ""}, {".a@example.com", ""}, {"a b@example.com", ""},
		{"a@b@example.com", ""}, {"user@exa mple.com", ""}, {"user@-a.com", ""},
		{"@relay:user@example.com", ""}, {"<user@example.com>", ""},
		{"user@[192.0.2.1", ""}, {"user@[2001:db8::1]", ""}, {"user@[IPv6:192.0.2.1]", ""}, {"user@[IPv6:fe80::1%eth0]", ""},
		{"us\x00er@example.com", ""}, {"\"us\r\ner\"@example.com", ""}, {"\"a\xff\"@example.com", ""},
		{`"open@example.com`, ""}, {`"a"b@example.com`, ""}, {`""@example.com`, ""},
		{"u@" + strings.Repeat("a.", 126) + "example", ""},
	}
	for _, tt := range tests {
		got, err := Parse(tt.in)
		if got.String() != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("Parse(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
		}
		if err != nil {
			continue
		}
		again, err := Parse(got.String())
		if err != nil || again != got {
			t.Errorf("Parse(%q) again = %#v, %v; want %#v", got, again, err, got)
		}
	}
}

func TestFromUnquoted(t *testing.T) {
	a, err := FromUnquoted("x@y@example.com")
	if err != nil || a.Domain() != "example.com" || a.Local() != "x@y" || a.String() != `"x@y"@example.com` {
		t.Errorf("FromUnquoted: got %v (%v)", a, err)
	}
	if _, err := FromUnquoted("user"); err == nil {
		t.Error("no domain: want an error")
	}
}

func TestCanonicalLocal(t *testing.T) {
	tests := []struct{ in, want string }{
		{"User", "user"}, {"a.B", "a.b"}, {"JÜRGEN", "jürgen"}, {"ju\u0308rgen", "jürgen"}, {"a b", ""}, {"", ""}, {"a\n", ""}, {"*", "*"},
	}
	for _, tt := range tests {
		got, err := CanonicalLocal(tt.in)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("CanonicalLocal(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
}

func TestZero(t *testing.T) {
	var a Address
	if !a.IsZero() || a.String() != "" || a.Path() != "<>" {
		t.Errorf("zero address: got %q %q", a.String(), a.Path())
	}
	text, _ := a.MarshalText()
	if err := a.UnmarshalText(text); err != nil || !a.IsZero() {
		t.Errorf("round trip: %v %v", a, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"user@example.com", `"a b"@[IPv6:::1]`, "jürgen@bücher.example", "@a:b@c", "a@b@c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (Address, error){Parse, FromUnquoted} {
			a, err := parse(s)
			if err != nil {
				continue
			}
			if HasControl(a.String()) || len(a.Local()) > MaxLocalLen {
				t.Fatalf("accepted %q as %q", s, a)
			}
			again, err := Parse(a.String())
			if err != nil || again != a {
				t.Fatalf("%q -> %q -> %v, %v", s, a, again, err)
			}
		}
	})
}

// TestTrace: in ASCII, each address its own, and those that are ASCII as they are.
func TestTrace(t *testing.T) {
	long := strings.Repeat("ü", MaxLocalLen/2)
	for in, want := range map[string]string{
		"anna@example.org": "anna@example.org", "grüße@example.org": "=?utf-8?q?gr=C3=BC=C3=9Fe?=@example.org", `"a b"@example.org`: `"a b"@example.org`, long + "@example.org": "",
	} {
		a, err := Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		got := a.Trace()
		if b, err := Parse(got); err != nil && in != long+"@example.org" || err == nil && b.String() != got || strings.ContainsFunc(got, func(r rune) bool { return r > '~' || r == ' ' && in[0] != '"' }) {
			t.Errorf("%s: %s (%v)", in, got, err)
		}
		if want != "" && got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
