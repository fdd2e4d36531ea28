package message

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestAddresses(t *testing.T) {
	tests := []struct{ in, want string }{
		{"a@b.example", "[a@b.example]"},
		{"A <a@b.example>, \"x, y\" <c@d.example>", "[a@b.example c@d.example]"},
		{`"me@ours.example" <victim@bank.example>`, "[victim@bank.example]"},
		{"a@b.example (comment <x@y.example>)", "[a@b.example]"},
		{"=?windows-1252?q?J=FCrgen?= <j@b.example>", "[j@b.example]"},
		{"=?unknown-charset?q?x?= <j@b.example>", "[j@b.example]"},
		{"jürgen <jürgen@bücher.example>", "[jürgen@xn--bcher-kva.example]"},
		{`"a b"@c.example`, `["a b"@c.example]`},
		{"friends: a@b.example, c@d.example;", "[a@b.example c@d.example]"},
		{"undisclosed-recipients:;", ""},
		{"", ""},
		{"scanner", ""},
		{"a@b.example c@d.example", ""},
		{"<a@b.example", ""},
		{"a@b.example, @", ""},
	}
	for _, tt := range tests {
		got, err := Addresses(tt.in)
		if tt.want == "" {
			if !errors.Is(err, ErrAddressField) {
				t.Errorf("Addresses(%q): got %v, %v; want an error", tt.in, got, err)
			}
			continue
		}
		if err != nil || fmt.Sprint(got) != tt.want {
			t.Errorf("Addresses(%q): got %v, %v; want %s", tt.in, got, err, tt.want)
		}
	}
	list := func(n int) string { return strings.TrimSuffix(strings.Repeat("a@b.example,", n), ",") }
	for n, ok := range map[int]bool{MaxFieldAddresses - 1: true, MaxFieldAddresses: true, MaxFieldAddresses + 1: false} {
		if _, err := Addresses(list(n)); (err == nil) != ok {
			t.Errorf("%d addresses: got %v", n, err)
		}
	}
}

func FuzzAddresses(f *testing.F) {
	for _, s := range []string{"a@b", "A <a@b>, c@d", `"x" <y@z>`, "g: a@b;", "=?utf-8?q?x?= <a@b>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		addrs, err := Addresses(s)
		if (err == nil) != (len(addrs) > 0) {
			t.Fatalf("%v, %v", addrs, err)
		}
		for _, a := range addrs {
			if a.IsZero() || strings.ContainsAny(a.String(), "\r\n\x00") {
				t.Fatalf("address %q", a)
			}
		}
	})
}
