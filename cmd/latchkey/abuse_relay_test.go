package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"latchkey/guard"
	"latchkey/internal/relayprobe"
	"latchkey/store"
	"latchkey/webmanager"
)

// relayStranger is somebody who may not send, whatever he says.
type relayStranger struct {
	name string
	// address is where he is; "" is another address for each probe, as nobody hears a stranger at port 25 after his third try.
	address string
	// from is the reverse-path of the probes that have none of their own.
	from string
}

// TestAbuse01ThirdPartyRelay: every probe, at both doors, from a stranger and from addresses whose grants expired, were revoked or are
// another mailbox's: refused at RCPT, or taken for a mailbox here where the message then is; never queued. A message to a mailbox here is
// taken from the same address in between. The third try of a stranger is his last.
func TestAbuse01ThirdPartyRelay(t *testing.T) {
	onStreet(t, func(s *street) {
		s.addAccount("alice", "password of alice")
		s.addAccount("bob", "password of bob")
		for _, address := range []string{"198.51.100.1", "198.51.100.2"} {
			s.popLogin(address, "alice", "password of alice")
		}
		expired := s.liveGrants("alice")[0].Network.Addr().String()
		time.Sleep(guard.GrantWindow + time.Second)
		s.popLogin("198.51.100.2", "alice", "password of alice")
		_, err := s.store.RevokeGrants(t.Context(), time.Now(), store.GrantRevoked, s.liveGrants("alice")[0].ID)
		s.must(err)
		s.popLogin("198.51.100.3", "bert", "password of bert")
		for _, who := range []relayStranger{
			{"a stranger", "", "x@remote.example"}, {"a stranger as one of us", "", "alice@example.com"},
			{"an expired grant", expired, "alice@example.com"}, {"a revoked grant", "198.51.100.2", "alice@example.com"},
			{"another mailbox's grant", "198.51.100.3", "alice@example.com"},
		} {
			for _, door := range []string{"mx", "submission"} {
				s.probes(who, door)
			}
		}
		c := s.ehlo("mx", "203.0.113.77")
		c.want("250", "MAIL FROM:<x@remote.example>")
		c.want("550 5.7.1", "RCPT TO:<victim@elsewhere.example>")
		c.want("550 5.7.1", "RCPT TO:<victim@elsewhere.example>")
		c.want("421 4.7.0", "RCPT TO:<victim@elsewhere.example>")
		if n := strings.Count(s.log.String(), `msg="command refused"`); n < 300 {
			t.Errorf("%d refusals are in the log", n)
		}
	})
}

// probes plays all of them at a door, each on a connection of its own.
func (s *street) probes(who relayStranger, door string) {
	s.t.Helper()
	for _, p := range relayprobe.Probes() {
		before, address := s.everything(), who.address
		if address == "" {
			s.strangers++
			address = fmt.Sprintf("198.18.%d.%d", s.strangers>>8, s.strangers&255)
		}
		c := s.dial(door, address)
		taken := 0
		rcpt, _ := p.Play(who.from, func(octets string) string {
			reply := c.say(octets)
			if strings.HasPrefix(reply, "250 2.0.0 queued") {
				taken++
			}
			return reply
		})
		c.end()
		if len(s.jobs()) != 0 {
			s.t.Fatalf("%s at %s, %s: queued", who.name, door, p.Name)
		}
		if after := s.everything(); strings.HasPrefix(rcpt, "250") && p.Data == "" && (taken == 0 || after == before) {
			s.t.Errorf("%s at %s, %s: RCPT is answered %q, and nothing is in a mailbox here", who.name, door, p.Name, rcpt)
		}
		if rcpt != "" && rcpt[0] != '2' && rcpt[0] != '4' && rcpt[0] != '5' {
			s.t.Errorf("%s at %s, %s: %q", who.name, door, p.Name, rcpt)
		}
		control := s.ehlo("mx", address)
		if got := control.message("x@remote.example", "bert@example.com", "A: b\r\n\r\n"); !strings.HasPrefix(got, "250") {
			s.t.Fatalf("%s after %s: the control message is answered %q", who.name, p.Name, got)
		}
		control.end()
	}
}

// everything is how many messages there are.
func (s *street) everything() (n int64) {
	s.t.Helper()
	for _, name := range []string{"anna", "bert", "alice", "bob"} {
		n += s.holds(name)
	}
	return n
}

// TestAbuse02OwnDomainFromOutside: somebody outside who calls himself one of us is refused, at port 25 and though the mailbox is here; with
// the password, or after fetching mail, the same address is taken. What an outside sender's own domain says of him is not asked yet.
func TestAbuse02OwnDomainFromOutside(t *testing.T) {
	onStreet(t, func(s *street) {
		for _, from := range []string{"anna@example.com", "nobody@example.com", "ANNA@Example.COM", "anna+x@example.com"} {
			c := s.ehlo("mx", "203.0.113.1")
			got := c.ask("MAIL FROM:<%s>", from)
			if strings.HasPrefix(got, "250") {
				got = c.ask("RCPT TO:<bert@example.com>")
			}
			if !strings.HasPrefix(got, "550 5.7.1") || !strings.Contains(got, `turn on "My server requires authentication"`) {
				t.Errorf("from %s: %q", from, got)
			}
		}
		if got := s.ehlo("mx", "203.0.113.1").message("x@other.example", "bert@example.com", "A: b\r\n\r\n"); !strings.HasPrefix(got, "250") {
			t.Errorf("from outside: %q", got)
		}
		c, got := s.smtpLogin("203.0.113.1", "anna", "password of anna")
		if !strings.HasPrefix(got, "235") {
			t.Fatal(got)
		}
		if got := c.message("anna@example.com", "bert@example.com", "A: b\r\n\r\n"); !strings.HasPrefix(got, "250") {
			t.Errorf("with AUTH: %q", got)
		}
		s.popLogin("203.0.113.1", "anna", "password of anna")
		if got := s.ehlo("mx", "203.0.113.1").message("anna@example.com", "bert@example.com", "A: b\r\n\r\n"); !strings.HasPrefix(got, "250") {
			t.Errorf("after fetching mail: %q", got)
		}
		if n := s.holds("bert"); n != 3 {
			t.Errorf("bert has %d messages, want 3", n)
		}
	})
}

// TestAbuse08SharedAddress: an attacker behind the address from which anna fetches mail may send as anna only, to as many recipients as her
// grant is for. What he sent says how he came, and the owner sees the grant and what was spent of it.
func TestAbuse08SharedAddress(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "password of anna")
	s.addAccount("bert", "password of bert")
	if err := s.popOn(s.dialFrom("127.0.0.6", "pop3")).login("anna", "password of anna"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "as another mailbox", s.sendFrom("127.0.0.6", "bert@example.com", "v@other.example"), 550)
	wantCode(t, "as a stranger", s.sendFrom("127.0.0.6", "x@remote.example", "v@other.example"), 550)
	for n := range guard.GrantRecipients {
		if err := s.sendFrom("127.0.0.6", "anna@example.com", fmt.Sprintf("v%d@other.example", n)); err != nil {
			t.Fatalf("recipient %d: %v", n+1, err)
		}
	}
	wantCode(t, "one more", s.sendFrom("127.0.0.6", "anna@example.com", "v@other.example"), 550)
	if n := len(s.queue()); n != guard.GrantRecipients {
		t.Errorf("%d messages are queued", n)
	}
	if _, out, _ := s.latchkey("grant", "list"); !strings.Contains(out, "anna") || !strings.Contains(out, "127.0.0.6") {
		t.Errorf("the owner sees %q", out)
	}
	if log := s.log.String(); !strings.Contains(log, `msg="grant opened"`) || !strings.Contains(log, "network=127.0.0.6/32") {
		t.Errorf("log: %s", log)
	}
	var page webmanager.GrantPage
	s.do("GET", "/v1/grants?mailbox=anna", nil, &page)
	if len(page.Grants) != 1 || page.Grants[0].Left != 0 {
		t.Errorf("grants: %+v", page.Grants)
	}
}

// TestAbuse09GrantFarming: somebody with a stolen password logs in by POP3 from everywhere. Five addresses have a grant, whoever comes later
// gets the mail and none, also when he comes back all day.
func TestAbuse09GrantFarming(t *testing.T) {
	onStreet(t, func(s *street) {
		for round := range 4 {
			for host := range 40 {
				address := fmt.Sprintf("198.51.%d.9", host)
				if got := s.popLogin(address, "anna", "password of anna"); !strings.HasPrefix(got, "+OK") {
					t.Fatalf("round %d, %s: %s", round, address, got)
				}
				if n := len(s.liveGrants("anna")); n > guard.MaxLiveGrants {
					t.Fatalf("%d grants are live", n)
				}
			}
			time.Sleep(19 * time.Minute)
		}
		sent := 0
		for host := range 40 {
			c := s.ehlo("mx", fmt.Sprintf("198.51.%d.9", host))
			if got := c.ask("MAIL FROM:<anna@example.com>"); !strings.HasPrefix(got, "250") {
				continue
			}
			if got := c.ask("RCPT TO:<v@other.example>"); strings.HasPrefix(got, "250") {
				sent++
			}
		}
		if sent > guard.MaxLiveGrants {
			t.Errorf("%d addresses may send", sent)
		}
	})
}

// TestAbuse10PasswordChanged: with the old password's end the grant ends at once and the SMTP session hears it at its next MAIL. A POP3
// session may finish what it does, and cannot come back.
func TestAbuse10PasswordChanged(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "first password")
	s.deliver("x@other.example", []string{"anna@example.com"}, message("one"))
	reading := s.popOn(s.dialFrom("127.0.0.6", "pop3"))
	if err := reading.login("anna", "first password"); err != nil {
		t.Fatal(err)
	}
	if err := s.sendFrom("127.0.0.6", "anna@example.com", "v@other.example"); err != nil {
		t.Fatal(err)
	}
	sending := s.submission("anna", "first password")
	s.setPassword("anna", "second password")
	wantCode(t, "by the grant", s.sendFrom("127.0.0.6", "anna@example.com", "v@other.example"), 550)
	wantCode(t, "in the session", sending.Mail("anna@example.com"), 421)
	if text := reading.multi("RETR 1"); !strings.Contains(text, "body of one") {
		t.Errorf("the session reads %q", text)
	}
	reading.must("DELE 1")
	reading.must("QUIT")
	wantAuthRefusal(t, "again", s.popOn(s.dialFrom("127.0.0.6", "pop3")).login("anna", "first password"))
	holds(t, s.fetch("anna", "second password"))
}

// TestAbuse22Backscatter: what cannot be delivered is refused while its sender is there, so nobody gets a bounce for what he never sent: not
// for an unknown or a full mailbox, and no report of a success that was asked for. Our own users get theirs.
func TestAbuse22Backscatter(t *testing.T) {
	onStreet(t, func(s *street) {
		a, err := s.store.AccountByName(t.Context(), "anna")
		s.must(err)
		a.Quota = store.Quota{Messages: 1}
		_, err = s.store.UpdateAccount(t.Context(), a)
		s.must(err)
		c := s.ehlo("mx", "203.0.113.1")
		c.want("250", "MAIL FROM:<forged@victim.example>")
		c.want("550 5.1.1", "RCPT TO:<nobody@example.com> NOTIFY=SUCCESS,FAILURE")
		c.want("250", "RCPT TO:<anna@example.com> NOTIFY=SUCCESS,FAILURE,DELAY")
		c.want("354", "DATA")
		c.want("250", "A: b\r\n\r\n.")
		c.want("250", "MAIL FROM:<forged@victim.example>")
		c.want("452 4.2.2", "RCPT TO:<anna@example.com> NOTIFY=FAILURE")
		if jobs := s.jobs(); len(jobs) != 0 {
			t.Errorf("reports to strangers: %+v", jobs)
		}
		own, got := s.smtpLogin("203.0.113.1", "bert", "password of bert")
		if !strings.HasPrefix(got, "235") {
			t.Fatal(got)
		}
		own.want("250", "MAIL FROM:<bert@example.com>")
		own.want("250", "RCPT TO:<bert@example.com> NOTIFY=SUCCESS")
		own.want("354", "DATA")
		own.want("250", "A: b\r\n\r\n.")
		if n := s.holds("bert"); n != 2 {
			t.Errorf("our own user has %d messages, want the message and its report", n)
		}
	})
}

// askSettings makes a change of the settings and returns the refusal, if it was refused.
func (s *testServer) askSettings(change map[string]any) *webmanager.Error {
	s.t.Helper()
	client, err := webmanager.DialControl(s.t.Context(), s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	defer client.Close()
	err = client.Do(s.t.Context(), "PATCH", "/v1/settings", change, nil)
	var refusal *webmanager.Error
	if err != nil && !errors.As(err, &refusal) {
		s.t.Fatal(err)
	}
	return refusal
}

// TestAbuse27OffInAnger: switching authentication off says first what it would do and wants the domain's name, is written down, told to
// postmaster, ends by itself, and never opens anything to a network that was not named.
func TestAbuse27OffInAnger(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "password of anna")
	off := map[string]any{"require_auth": false, "require_auth_for": "2h", "trusted_networks": []string{"127.0.0.9/32"}}
	if r := s.askSettings(off); r == nil || r.Code != webmanager.CodeConfirm || len(r.Consequences) == 0 {
		t.Fatalf("without a word: %+v", r)
	}
	wantCode(t, "not yet", s.sendFrom("127.0.0.9", "anna@example.com", "v@other.example"), 550)
	off["confirm"] = "example.com"
	if r := s.askSettings(off); r != nil {
		t.Fatal(r)
	}
	if err := s.sendFrom("127.0.0.9", "anna@example.com", "v@other.example"); err != nil {
		t.Errorf("the named network: %v", err)
	}
	wantCode(t, "an unnamed one", s.sendFrom("127.0.0.10", "anna@example.com", "v@other.example"), 550)
	wantCode(t, "as nobody here", s.sendFrom("127.0.0.9", "x@remote.example", "v@other.example"), 550)
	if got := strings.Join(s.fetch("postmaster", "password of postmaster"), "\n"); !strings.Contains(got, "127.0.0.9/32") {
		t.Errorf("postmaster reads %q", got)
	}
	if _, out, _ := s.latchkey("audit"); !strings.Contains(out, `"require_auth":true`) || !strings.Contains(out, `"require_auth":false`) {
		t.Errorf("audit: %s", out)
	}
	s.turnClock(2*time.Hour + time.Minute)
	wantCode(t, "when its time has come", s.sendFrom("127.0.0.9", "anna@example.com", "v@other.example"), 550)
}

// TestAbuse29WideNetwork: nobody can name half the Internet as his own network, confirmed or not.
func TestAbuse29WideNetwork(t *testing.T) {
	s := startServer(t, "example.com")
	for _, network := range []string{"0.0.0.0/0", "10.0.0.0/8", "172.16.0.0/12", "192.0.0.0/15", "::/0", "2001:db8::/32", "2001:db8::/47", "::ffff:0:0/96"} {
		r := s.askSettings(map[string]any{"require_auth": false, "trusted_networks": []string{network}, "confirm": "example.com"})
		if r == nil || r.Code != webmanager.CodeInvalid {
			t.Errorf("%s: %+v", network, r)
		}
	}
	for _, network := range []string{"192.0.0.0/16", "2001:db8::/48"} {
		if r := s.askSettings(map[string]any{"require_auth": false, "trusted_networks": []string{network}, "confirm": "example.com"}); r != nil {
			t.Errorf("%s: %v", network, r)
		}
	}
	var shown map[string]json.RawMessage
	s.do("GET", "/v1/settings", nil, &shown)
	if got := string(shown["trusted_networks"]); got != `["2001:db8::/48"]` {
		t.Errorf("trusted: %s", got)
	}
}

// TestAbuse36WayIn: an attacker's name server says that the mail for his domain goes to loopback, to a private or a link-local address of
// either family, or to our own door. The message comes back with 5.4.6, and nothing listens to it there; our own door not even where the
// operator has named the network.
func TestAbuse36WayIn(t *testing.T) {
	inside := newSink(t)
	s := newTestServer(t, "example.com")
	domains := map[string][2]string{
		"loopback.example": {"A", "127.0.0.1"}, "private.example": {"A", "10.1.2.3"}, "inner.example": {"A", "192.168.1.1"},
		"link.example": {"A", "169.254.169.254"}, "six.example": {"AAAA", "::1"}, "unique.example": {"AAAA", "fd00::1"},
		"mapped.example": {"AAAA", "::ffff:127.0.0.1"}, "translated.example": {"AAAA", "64:ff9b::7f00:1"}, "zero.example": {"A", "0.0.0.0"},
	}
	var names, to []string
	for name := range domains {
		names, to = append(names, name), append(to, "x@"+name)
	}
	dns := s.sendsTo(inside.port(), names...)
	for name, record := range domains {
		dns.Set("mail."+name, "A")
		dns.Set("mail."+name, "AAAA")
		dns.Set("mail."+name, record[0], record[1])
	}
	s.config.Relay.AllowNetworks = nil
	s.start()
	s.addAccount("anna", "password of anna")
	s.send("anna", "password of anna", to, message("in"))
	eventually(t, "an empty queue", func() bool { return len(s.queue()) == 0 })
	bounces := strings.Join(s.fetch("anna", "password of anna"), "\n")
	for _, name := range names {
		if !strings.Contains(bounces, "rfc822; x@"+name) {
			t.Errorf("%s: no bounce", name)
		}
	}
	if n := strings.Count(bounces, "Status: 5.4.6"); n != len(domains) || len(inside.all()) != 0 {
		t.Errorf("%d of %d bounces with 5.4.6; delivered: %+v\n%s", n, len(domains), inside.all(), bounces)
	}

	ours := newTestServer(t, "example.org")
	port := freePort(t)
	ours.config.Listen.MX = []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	ours.sendsTo(port, "other.example")
	ours.config.Relay.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	ours.start()
	ours.addAccount("anna", "password of anna")
	ours.send("anna", "password of anna", []string{"postmaster@other.example"}, message("to ourselves"))
	if bounce := ours.arrived("anna", "password of anna", 1)[0]; !strings.Contains(bounce, "Status: 5.4.6") {
		t.Errorf("to our own door: %s", bounce)
	}
}
