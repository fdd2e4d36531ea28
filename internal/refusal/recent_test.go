package refusal

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestRecent: the last of each name are kept, whatever the number of others, the newest first.
func TestRecent(t *testing.T) {
	counted := map[Name]int{}
	r := &Recent{Counted: func(n Name) { counted[n]++ }}
	at := func(i int) time.Time { return time.Unix(int64(i), 0) }
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	r.Note(Event{Time: at(0), Name: RelayGrantExpired, Remote: two})
	for i := range MaxRecent * 3 {
		r.Note(Event{Time: at(i + 1), Name: AuthWrongPassword, Remote: one, Text: "x\r\ny", Why: strings.Repeat("w", maxWhy+1)})
	}
	r.Note(Event{Time: at(99), Name: "nothing"})
	got := r.List(AuthWrongPassword, netip.Addr{})
	if len(got) != MaxRecent || got[0].Time != at(MaxRecent*3) || got[MaxRecent-1].Time != at(MaxRecent*2+1) {
		t.Fatalf("%d events, %v to %v", len(got), got[0].Time, got[len(got)-1].Time)
	}
	if e := got[0]; e.Text != "xy" || len(e.Why) != maxWhy || e.Code != AuthWrongPassword.Code() {
		t.Errorf("%+v", e)
	}
	if got := r.List("", netip.Addr{}); len(got) != MaxRecent+1 || got[MaxRecent].Name != RelayGrantExpired {
		t.Errorf("%d events in all", len(got))
	}
	if got := r.List("", two); len(got) != 1 || len(r.List(AuthWrongPassword, two)) != 0 {
		t.Errorf("of one address: %+v", got)
	}
	if len(counted) != 2 || counted[AuthWrongPassword] != MaxRecent*3 || counted[RelayGrantExpired] != 1 {
		t.Errorf("counted: %v", counted)
	}
	var none *Recent
	none.Note(Event{Name: AuthWrongPassword})
	if none.List("", netip.Addr{}) != nil {
		t.Error("nobody remembers something")
	}
}
