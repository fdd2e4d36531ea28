//go:build torture

package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net/smtp"
	"slices"
	"strings"
	"testing"

	"latchkey/internal/relayprobe"
	"latchkey/store"
	"latchkey/webmanager"
)

// suspect is a kind of sender at the doors of a whole server, told from the others by its address.
type suspect struct {
	name, address string
	// from is the reverse-path and the author of the probes that have none of their own.
	from  string
	login bool
	// relays says whether a reverse-path may leave the domain under these settings.
	relays func(s store.Settings, door, reversePath string) bool
}

func relaySuspects() []suspect {
	const alice, stranger = "alice@example.com", "x@remote.example"
	isAlice := func(path string) bool { return strings.EqualFold(path, alice) }
	never := func(store.Settings, string, string) bool { return false }
	grant := func(s store.Settings, _, path string) bool { return s.OutgoingMail && s.POPBeforeSMTP && isAlice(path) }
	named := func(s store.Settings, _, path string) bool {
		return s.OutgoingMail && !s.RequireAuth && len(s.TrustedNetworks) > 0 && isAlice(path)
	}
	return []suspect{
		{"anonymous", "127.0.0.8", stranger, false, never},
		{"anonymous as our own", "127.0.0.8", alice, false, never},
		{"authenticated", "127.0.0.7", alice, true, func(s store.Settings, door, path string) bool {
			return s.OutgoingMail && (door != "mx" || s.AuthOnMX) && (path == "" || isAlice(path))
		}},
		{"granted", "127.0.0.6", alice, false, grant},
		{"granted as a stranger", "127.0.0.6", stranger, false, grant},
		{"trusted", "127.0.0.9", alice, false, named},
		{"trusted as a stranger", "127.0.0.9", stranger, false, named},
	}
}

// TestTortureRelayProof tries every probe at both doors, as every kind of sender, under every combination of the settings, on a whole server
// that delivers to a sink. What arrives there is exactly what the table allows. After each probe a message to a local mailbox is taken from
// the same address, so that the silence is neither a broken server's nor a blocked client's.
func TestTortureRelayProof(t *testing.T) {
	world := newSink(t)
	s := newTestServer(t, "example.com")
	s.sendsTo(world.port(), "elsewhere.example", "example.com.elsewhere.example")
	s.start()
	for _, name := range []string{"alice", "bob", "control"} {
		s.addAccount(name, name+"'s password")
	}
	for _, who := range relaySuspects() {
		s.introduce(who.address)
	}
	bits := 5
	if rounds(1, 0) == 0 {
		bits = 3 // AuthOnMX and the named network stay as they are
	}
	arrived, controls := 0, 0
	for combination := range 1 << bits {
		settings := s.setAll(combination)
		for _, door := range []string{"mx", "submission"} {
			for _, who := range relaySuspects() {
				var want []string
				for _, p := range relayprobe.Probes() {
					s.freshGrant(settings)
					s.try(door, who, p)
					controls++
					s.control(who, controls)
					to := relayprobe.Allowed()[p.Name]
					// The message's author must be the sender's own as well; those by chunks name none.
					author := p.Data != "" || who.relays(settings, door, who.from)
					if to != "" && reachable(to) && author && who.relays(settings, door, p.ReversePath(who.from)) {
						want = append(want, to)
					}
				}
				eventually(t, "an empty queue", func() bool { return len(s.queue()) == 0 })
				var got []string
				for _, m := range world.all()[arrived:] {
					if m.from != "alice@example.com" && m.from != "" {
						t.Errorf("left as %q", m.from)
					}
					got = append(got, m.rcpt)
				}
				arrived += len(got)
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Fatalf("%s at %s, auth required %t, POP before SMTP %t, outgoing %t, networks %v, AUTH on 25 %t:\narrived %q\nwant    %q", who.name, door,
						settings.RequireAuth, settings.POPBeforeSMTP, settings.OutgoingMail, settings.TrustedNetworks, settings.AuthOnMX, got, want)
				}
			}
		}
	}
	p := s.pop("pop3s")
	if err := p.login("control", "control's password"); err != nil {
		t.Fatal(err)
	}
	if got := p.must("STAT"); !strings.HasPrefix(got, fmt.Sprintf("+OK %d ", controls)) {
		t.Errorf("control messages: %s, want %d", got, controls)
	}
	p.must("QUIT")
	t.Logf("%d probes, %d of them left the domain as they may", controls, arrived)
}

// reachable reports whether the laboratory's name server knows where an address leads.
func reachable(to string) bool { return strings.HasSuffix(to, "elsewhere.example") }

// setAll sets every combination of what says who may relay; the bits of n are the switches.
func (s *testServer) setAll(n int) store.Settings {
	s.t.Helper()
	on := func(bit int) bool { return n&(1<<bit) != 0 }
	networks := []string{"127.0.0.9/32"}
	if on(4) {
		networks = []string{}
	}
	s.do("PATCH", "/v1/settings", map[string]any{
		"require_auth": on(0), "pop_before_smtp": on(1), "outgoing_mail": on(2), "auth_on_mx": !on(3), "trusted_networks": networks,
		"trusted_recipients": store.MaxRecipientBudget, "daily_recipients": store.MaxRecipientBudget, "hold_jumps": false,
		"hourly_recipients": store.MaxRecipientBudget, "domain_hourly_recipients": store.MaxRecipientBudget,
		"domain_daily_recipients": store.MaxRecipientBudget, "confirm": s.domain,
	}, nil)
	var settings store.Settings
	s.do("GET", "/v1/settings", nil, &settings)
	return settings
}

// introduce makes a client known, without a grant: a stranger would not be heard any more after his third try to relay.
func (s *testServer) introduce(address string) {
	s.t.Helper()
	p := s.popOn(s.dialFrom(address, "pop3"))
	if err := p.login("control", "control's password"); err != nil {
		s.t.Fatal(err)
	}
	p.must("QUIT")
	s.do("POST", "/v1/grants/revoke", map[string]any{"mailbox": "control"}, nil)
}

// freshGrant makes a grant for alice where the granted suspect stands, with its whole budget.
func (s *testServer) freshGrant(settings store.Settings) {
	s.t.Helper()
	if !settings.POPBeforeSMTP || !settings.OutgoingMail {
		return
	}
	var page webmanager.GrantPage
	s.do("GET", "/v1/grants?mailbox=alice&live=true", nil, &page)
	for _, g := range page.Grants {
		if g.Left > 10 {
			return
		}
	}
	s.do("POST", "/v1/grants/revoke", map[string]any{"mailbox": "alice"}, nil)
	p := s.popOn(s.dialFrom("127.0.0.6", "pop3"))
	if err := p.login("alice", "alice's password"); err != nil {
		s.t.Fatal(err)
	}
	p.must("QUIT")
}

// control delivers a message from where a suspect stands.
func (s *testServer) control(who suspect, n int) {
	s.t.Helper()
	client, err := smtp.NewClient(s.dialFrom(who.address, "mx"), "127.0.0.1")
	if err != nil {
		s.t.Fatalf("control %d from %s: %v", n, who.address, err)
	}
	defer func() { _ = client.Close() }() // after QUIT, or after what is reported
	if err := transact(client, "x@remote.example", []string{"control@example.com"}, message(fmt.Sprint(n))); err != nil {
		s.t.Fatalf("control %d from %s: %v", n, who.address, err)
	}
}

// try plays one probe.
func (s *testServer) try(door string, who suspect, p relayprobe.Probe) {
	s.t.Helper()
	conn := s.dialFrom(who.address, door)
	defer func() { _ = conn.Close() }() // whatever became of it
	r := bufio.NewReader(conn)
	say := func(octets string) string {
		if _, err := io.WriteString(conn, octets); err != nil {
			return ""
		}
		for {
			line, err := r.ReadString('\n')
			if err != nil || len(line) < 4 || line[3] != '-' {
				return line // empty when the server has hung up
			}
		}
	}
	if greeting := say(""); !strings.HasPrefix(greeting, "220") {
		s.t.Fatalf("greeting: %q", greeting)
	}
	if who.login {
		say("EHLO client.example\r\n")
		say("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00alice\x00alice's password")) + "\r\n")
	}
	p.Play(who.from, say)
}
