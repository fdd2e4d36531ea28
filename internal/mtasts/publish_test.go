package mtasts

import (
	"reflect"
	"testing"
	"time"
)

// TestText: what is served is what others read, and its id is one that they take, which changes with every part of the policy.
func TestText(t *testing.T) {
	usual := Policy{Mode: Enforce, MX: []string{"mail.example.com"}, MaxAge: 14 * 24 * time.Hour}
	if got := usual.Text(); got != "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmax_age: 1209600\r\n" {
		t.Errorf("got %q", got)
	}
	seen := map[string]bool{}
	for _, p := range []Policy{
		usual, {Mode: Testing, MX: usual.MX, MaxAge: usual.MaxAge}, {Mode: None, MX: usual.MX, MaxAge: usual.MaxAge},
		{Mode: Enforce, MX: usual.MX, MaxAge: usual.MaxAge + time.Second},
		{Mode: Enforce, MX: []string{"mail.example.com", "*.example.net"}, MaxAge: usual.MaxAge},
		{Mode: Enforce, MX: usual.MX, MaxAge: MaxAge},
	} {
		got, err := Parse(p.Text())
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%+v reads as %+v, %v", p, got, err)
		}
		id, ok := ParseRecord([]string{p.Record()})
		if !ok || id != p.ID() || seen[id] {
			t.Errorf("%+v: record %q, id %q", p, p.Record(), id)
		}
		seen[id] = true
	}
	if again := (Policy{Mode: Enforce, MX: []string{"mail.example.com"}, MaxAge: usual.MaxAge}); again.ID() != usual.ID() {
		t.Error("the id changes by itself")
	}
}
