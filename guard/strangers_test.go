package guard

import (
	"fmt"
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// TestRelayTries: the third try within the window ends the connection and blocks the client for half an hour, whatever the number of connections; a
// known client is never blocked.
func TestRelayTries(t *testing.T) {
	s := NewStrangers(StrangerLimits{}, friends("192.0.2.1"))
	for i, want := range []bool{false, false, true, true} {
		if got := s.Relayed(start, cafe); got != want {
			t.Errorf("try %d: got %v, want %v", i+1, got, want)
		}
	}
	for range 3 {
		s.Relayed(start, home)
	}
	blocked := func(after time.Duration, who netip.Addr, want bool) {
		t.Helper()
		until, got := s.Blocked(start.Add(after), who)
		if got != want || got && until != start.Add(RelayBlock) {
			t.Errorf("%v after %v: blocked %v until %v", who, after, got, until)
		}
	}
	blocked(0, cafe, true)
	blocked(0, home, false)
	blocked(0, netip.MustParseAddr("198.51.100.10"), false)
	blocked(RelayBlock-1, cafe, true)
	blocked(RelayBlock, cafe, false)
	if s.Relayed(start.Add(RelayBlock), cafe) {
		t.Error("half an hour later the first try ends the connection")
	}
	list := s.Blocks(start)
	if len(list) != 2 || list[1].Network != Prefix(cafe) || list[1].Door != BanMX || list[1].Since != start || list[1].Reason != BanRelaying {
		t.Errorf("listed: %+v", list)
	}
	if lifted := s.Lift(start, netip.MustParsePrefix("198.51.100.0/24")); len(lifted) != 1 {
		t.Errorf("lifted: %+v", lifted)
	}
	blocked(0, cafe, false)
}

// TestHarvest: over connections a client has so many unknown recipients at once, so many slowly, and then none; the networks around it three and nine
// times as many; messages that are accepted give some back.
func TestHarvest(t *testing.T) {
	l := DefaultStrangerLimits()
	s := NewStrangers(StrangerLimits{}, nil)
	ask := func(now time.Time, from netip.Addr, want Ask) {
		t.Helper()
		if got := s.Asked(now, from); got != want {
			t.Errorf("from %v: got %v, want %v", from, got, want)
		}
	}
	for i := range l.Asks.N {
		want := AskAnswered
		if i >= l.AsksAtOnce.N {
			want = AskSlow
		}
		ask(start, cafe, want)
	}
	ask(start, cafe, AskEnded)
	ask(start, home, AskAnswered)
	ask(start.Add(time.Hour), cafe, AskAnswered)

	s = NewStrangers(StrangerLimits{}, nil)
	for i := range 3 * l.AsksAtOnce.N {
		ask(start, netip.AddrFrom4([4]byte{198, 51, 100, byte(i % 6)}), AskAnswered)
	}
	ask(start, netip.MustParseAddr("198.51.100.60"), AskSlow) // the /26
	ask(start, netip.MustParseAddr("198.51.100.70"), AskAnswered)

	s = NewStrangers(StrangerLimits{}, nil)
	for range l.AsksAtOnce.N {
		ask(start, cafe, AskAnswered)
	}
	s.Accepted(start, cafe, 3)
	s.Accepted(start, home, 3)
	for range 3 {
		ask(start, cafe, AskAnswered)
	}
	ask(start, cafe, AskSlow)
	s.Accepted(start, cafe, 1000)
	for range maxAskBack {
		ask(start, cafe, AskAnswered)
	}
	ask(start, cafe, AskSlow)
}

// TestStrangersBound: the table is bounded, and asking makes no entry.
func TestStrangersBound(t *testing.T) {
	s := NewStrangers(StrangerLimits{}, nil)
	for i := range MaxStrangers + 10 {
		from := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		s.Blocked(start, from)
		s.Accepted(start, from, 1)
		if i == 0 && len(s.clients.entries) != 0 {
			t.Error("asking makes entries")
		}
		s.Asked(start, from)
	}
	if n := len(s.clients.entries); n != MaxStrangers {
		t.Errorf("%d entries, want %d", n, MaxStrangers)
	}
}

// TestBarredClients are told why in place of a greeting, and not counted in; others are let in.
func TestBarredClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, ListenerOptions{Bar: func(a netip.Addr) (string, bool) { return "421 later\r\n", a == cafe }})
		barred := s.connect(cafe.String())
		text, err := io.ReadAll(barred)
		if string(text) != "421 later\r\n" || err != nil || s.count() != 0 {
			t.Errorf("got %q (%v), %d counted", text, err, s.count())
		}
		s.connect("198.51.100.10")
		c, _ := s.take()
		_ = c.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestEarlyTalkersAreRefused where the door wants that, and counted; not those from where somebody logged in, who are marked, and not those who wait.
func TestEarlyTalkersAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, ListenerOptions{Sniff: true, Early: "421 wait\r\n", Known: friends("192.0.2.1")})
		for i := range 3 {
			early := s.connect(fmt.Sprintf("198.51.100.%d", i))
			if _, err := io.WriteString(early, "EHLO x\r\n"); err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(early)
			if synctest.Wait(); string(text) != "421 wait\r\n" || err != nil || s.count() != 0 {
				t.Errorf("got %q (%v), %d counted in", text, err, s.count())
			}
		}
		if n := s.EarlyTalkers(); n != 3 {
			t.Errorf("%d early talkers, want 3", n)
		}
		known := s.connect("192.0.2.1")
		if _, err := io.WriteString(known, "EHLO x\r\n"); err != nil {
			t.Fatal(err)
		}
		c, _ := s.take()
		if !EarlyTalker(c) {
			t.Error("a known one is not marked")
		}
		_ = c.Close()
		s.connect("198.51.100.9")
		c, _ = s.take()
		if EarlyTalker(c) {
			t.Error("one who waits is marked")
		}
		_ = c.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
