package main

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/auth"
	"latchkey/store"
)

// throttled reports whether an answer says that no password is looked at now.
func throttled(answer string) bool {
	return strings.HasPrefix(answer, "-ERR [SYS/TEMP]") || strings.HasPrefix(answer, "454 4.7.0") || strings.HasPrefix(answer, "421 4.7.0")
}

// TestAbuse03PasswordSpray: one address that tries a password on many mailboxes is heard some dozens of times, whichever door it uses: POP3
// and SMTP share the count. The owners of those mailboxes notice nothing.
func TestAbuse03PasswordSpray(t *testing.T) {
	onStreet(t, func(s *street) {
		const sprayer = "198.51.100.66"
		if got := s.popLogin("203.0.113.5", "anna", "password of anna"); !strings.HasPrefix(got, "+OK") {
			t.Fatal(got)
		}
		looked := 0
		for ; looked < 100; looked++ {
			name, answer := fmt.Sprintf("user%d", looked), ""
			if looked%10 == 0 {
				name = "anna"
			}
			if looked%2 == 0 {
				answer = s.popLogin(sprayer, name, fmt.Sprint("Summer", looked))
			} else {
				_, answer = s.smtpLogin(sprayer, name, fmt.Sprint("Summer", looked))
			}
			if throttled(answer) {
				break
			}
		}
		if looked < 5 || looked > 60 {
			t.Errorf("%d guesses were looked at", looked)
		}
		for _, answer := range []string{
			s.popLogin(sprayer, "bert", "password of bert"), // even the right one tells nothing now
			second(s.smtpLogin(sprayer, "bert", "password of bert")),
		} {
			if !throttled(answer) {
				t.Errorf("%d guesses, and still: %s", looked, answer)
			}
		}
		for _, name := range []string{"anna", "bert"} {
			if got := s.popLogin("203.0.113.5", name, "password of "+name); !strings.HasPrefix(got, "+OK") {
				t.Errorf("%s at home: %s", name, got)
			}
		}
	})
}

// second leaves out the client.
func second(_ *talk, answer string) string { return answer }

// TestAbuse04SlowSpray: one mailbox is tried from ever new addresses. After a hundred guesses an hour whoever tries from a new network waits before his
// password is looked at, four at a time, and others are not heard. Where its owner was before he never waits, and elsewhere he waits and is let in.
func TestAbuse04SlowSpray(t *testing.T) {
	onStreet(t, func(s *street) {
		const soon = 6 * time.Second // to hang up takes five here
		took := func(address, name string) time.Duration {
			s.t.Helper()
			begun := time.Now()
			if got := s.popLogin(address, name, "password of "+name); !strings.HasPrefix(got, "+OK") {
				s.t.Errorf("%s from %s: %s", name, address, got)
			}
			return time.Since(begun)
		}
		took("203.0.113.5", "anna")
		looked := s.guessTogether("anna", 40, 2*time.Minute)
		if most := 100 + 40 + 2*16 + 5; looked < 100 || looked > most { // the hundred, those that are under way then, and four each 15 seconds
			s.t.Errorf("%d guesses were looked at in two minutes, want at most %d", looked, most)
		}
		if d := took("192.0.2.99", "anna"); d < 15*time.Second || d > 15*time.Second+soon {
			s.t.Errorf("the owner in a new network waited %v", d)
		}
		for address, name := range map[string]string{"203.0.113.5": "anna", "192.0.2.98": "bert"} {
			if d := took(address, name); d > soon {
				s.t.Errorf("%s from %s waited %v", name, address, d)
			}
		}
	})
}

// guessTogether has n guessers try a mailbox, each guess from a network of its own, for a time. It returns how many guesses were looked at.
func (s *street) guessTogether(name string, n int, d time.Duration) int {
	s.t.Helper()
	var looked atomic.Int64
	var all sync.WaitGroup
	end := time.Now().Add(d)
	for i := range n {
		all.Go(func() {
			for k := 0; time.Now().Before(end); k++ {
				c := s.dial("pop3", fmt.Sprintf("%d.%d.1.9", 20+i, k)).secure("STLS", "+OK")
				c.want("+OK", "USER %s", name)
				switch got := c.ask("PASS guess %d of %d", k, i); {
				case strings.HasPrefix(got, "-ERR [AUTH]"):
					looked.Add(1)
				case !throttled(got):
					s.t.Errorf("guess: %s", got)
				}
				_ = c.conn.Close() // all is said
				time.Sleep(10 * time.Second)
			}
		})
	}
	all.Wait()
	return int(looked.Load())
}

// TestAbuse05OldPhoneInTheOffice: one telephone behind an office's address has an old password, and tries it every five minutes for a day. Nobody
// there is shut out, its owner neither, and he is told once.
func TestAbuse05OldPhoneInTheOffice(t *testing.T) {
	onStreet(t, func(s *street) {
		const office = "203.0.113.7"
		for minute := 0; minute < 24*60; minute += 5 {
			if got := s.popLogin(office, "anna", "last year's password"); !strings.HasPrefix(got, "-ERR [AUTH]") && !strings.HasPrefix(got, "-ERR [SYS/TEMP]") {
				t.Fatalf("minute %d: %s", minute, got)
			}
			if minute%240 == 0 {
				for _, name := range []string{"anna", "bert"} {
					if got := s.popLogin(office, name, "password of "+name); !strings.HasPrefix(got, "+OK") {
						t.Errorf("minute %d: %s is shut out: %s", minute, name, got)
					}
				}
			}
			time.Sleep(5 * time.Minute)
		}
		// Both are told that mail was fetched from a new place; anna of her telephone, besides.
		if anna, bert := s.holds("anna"), s.holds("bert"); anna != bert+1 {
			t.Errorf("anna was told %d times, bert %d times", anna, bert)
		}
	})
}

// TestAbuse11Hammering: a program that polls every five seconds for ten minutes costs hardly more than one that polls once: its password is
// hashed once. With a LOGIN-DELAY it is told so, before and with each refusal, one login before the time is forgiven, and a wrong password
// is told as a wrong password.
func TestAbuse11Hammering(t *testing.T) {
	onStreet(t, func(s *street) {
		const home = "203.0.113.5"
		for range 120 {
			if got := s.popLogin(home, "anna", "password of anna"); !strings.HasPrefix(got, "+OK") {
				t.Fatal(got)
			}
			time.Sleep(5 * time.Second)
		}
		s.settings(func(set *store.Settings) { set.LoginDelay = 300 })
		c := s.dial("pop3", home).secure("STLS", "+OK")
		c.want("+OK", "CAPA")
		var capa []string
		for line := c.line(); line != "."; line = c.line() {
			capa = append(capa, line)
		}
		if !strings.Contains(strings.Join(capa, "\n"), "LOGIN-DELAY 300") {
			t.Errorf("CAPA: %q", capa)
		}
		time.Sleep(10 * time.Minute)
		for i, want := range []string{"+OK", "+OK", "-ERR [LOGIN-DELAY]", "-ERR [LOGIN-DELAY]"} {
			if got := s.popLogin(home, "anna", "password of anna"); !strings.HasPrefix(got, want) {
				t.Errorf("login %d: %s, want %s", i+1, got, want)
			}
		}
		if got := s.popLogin(home, "anna", "wrong"); !strings.HasPrefix(got, "-ERR [AUTH]") {
			t.Errorf("a wrong password: %s", got)
		}
		time.Sleep(10 * time.Minute)
		if got := s.popLogin(home, "anna", "password of anna"); !strings.HasPrefix(got, "+OK") {
			t.Errorf("after the delay: %s", got)
		}
	})
}

// TestAbuse12DeadClientHoldsTheMaildrop: where one session at a time may have a maildrop, one that has died does not keep its owner out: who
// comes from the same address a minute later takes over, somebody else is told that it is in use, and the dead one deletes nothing.
func TestAbuse12DeadClientHoldsTheMaildrop(t *testing.T) {
	onStreet(t, func(s *street) {
		const home = "203.0.113.5"
		s.settings(func(set *store.Settings) { set.ExclusiveMaildrop = true })
		if got := s.ehlo("mx", "192.0.2.1").message("x@other.example", "anna@example.com", "Subject: x\r\n\r\nx\r\n"); !strings.HasPrefix(got, "250") {
			t.Fatal(got)
		}
		dead := s.dial("pop3", home).secure("STLS", "+OK")
		dead.want("+OK", "USER anna")
		dead.want("+OK", "PASS password of anna")
		dead.want("+OK", "DELE 1")
		if got := s.popLogin(home, "anna", "password of anna"); !strings.HasPrefix(got, "-ERR [IN-USE]") {
			t.Errorf("at once: %s", got)
		}
		time.Sleep(61 * time.Second)
		if got := s.popLogin("198.51.100.1", "anna", "password of anna"); !strings.HasPrefix(got, "-ERR [IN-USE]") {
			t.Errorf("from elsewhere: %s", got)
		}
		if got := s.popLogin(home, "anna", "password of anna"); !strings.HasPrefix(got, "+OK") {
			t.Errorf("a minute later: %s", got)
		}
		if got := dead.ask("QUIT"); strings.HasPrefix(got, "+OK") {
			t.Errorf("the dead session ends with %q", got)
		}
		if n := s.holds("anna"); n != 1 {
			t.Errorf("%d messages are left, want 1", n)
		}
	})
}

// TestAbuse13SecondLoginFreesNoLock: who was refused a maildrop that is in use, and goes, does not free it (as a bug of hMailServer did).
func TestAbuse13SecondLoginFreesNoLock(t *testing.T) {
	onStreet(t, func(s *street) {
		s.settings(func(set *store.Settings) { set.ExclusiveMaildrop = true })
		first := s.dial("pop3", "203.0.113.5").secure("STLS", "+OK")
		first.want("+OK", "USER anna")
		first.want("+OK", "PASS password of anna")
		for range 3 {
			if got := s.popLogin("203.0.113.5", "anna", "password of anna"); !strings.HasPrefix(got, "-ERR [IN-USE]") {
				t.Errorf("got %s", got)
			}
			first.want("+OK", "NOOP")
		}
		first.want("+OK", "QUIT")
		if got := s.popLogin("203.0.113.5", "anna", "password of anna"); !strings.HasPrefix(got, "+OK") {
			t.Errorf("when it is free: %s", got)
		}
	})
}

// TestAbuse16Harvest: RCPT of unknown mailboxes is slowed down after three and ended at the tenth; a login of an unknown name looks like one
// with a wrong password.
func TestAbuse16Harvest(t *testing.T) {
	onStreet(t, func(s *street) {
		c := s.ehlo("mx", "198.51.100.66")
		c.want("250", "MAIL FROM:<x@other.example>")
		begun := time.Now()
		for n := 1; n < 10; n++ {
			c.want("550 5.1.1 No such mailbox here", "RCPT TO:<nobody%d@example.com>", n)
		}
		if d := time.Since(begun); d < 30*time.Second {
			t.Errorf("nine unknown recipients took %v", d)
		}
		c.want("421 4.7.0", "RCPT TO:<nobody@example.com>")
		if got := c.line(); got != "" {
			t.Errorf("after the last word: %q", got)
		}
		known, unknown := s.popLogin("198.51.100.67", "anna", "wrong"), s.popLogin("198.51.100.68", "nobody", "wrong")
		if known != unknown || !strings.HasPrefix(known, "-ERR [AUTH]") {
			t.Errorf("known mailbox: %q, unknown: %q", known, unknown)
		}
		_, known = s.smtpLogin("198.51.100.67", "anna", "wrong too")
		_, unknown = s.smtpLogin("198.51.100.68", "nobody", "wrong too")
		if known != unknown || !strings.HasPrefix(known, "535") {
			t.Errorf("known mailbox: %q, unknown: %q", known, unknown)
		}
	})
}

// TestAbuse17USERTellsNothing: USER is answered alike, whoever it names; so are VRFY and EXPN on the other door.
func TestAbuse17USERTellsNothing(t *testing.T) {
	onStreet(t, func(s *street) {
		pop, answers := s.dial("pop3", "198.51.100.66").secure("STLS", "+OK"), map[string]bool{}
		for _, name := range []string{"anna", "nobody", "anna@example.com", "x@elsewhere.example", strings.Repeat("a", 60)} {
			answers[pop.want("+OK", "USER %s", name)] = true
		}
		mx := s.ehlo("mx", "198.51.100.66")
		for _, command := range []string{"VRFY", "EXPN"} {
			if a, b := mx.ask("%s anna", command), mx.ask("%s nobody", command); a != b {
				t.Errorf("%s: %q for a mailbox, %q for none", command, a, b)
			}
		}
		if len(answers) != 1 {
			t.Errorf("answers to USER: %v", answers)
		}
	})
}

// TestAbuse33PasswordInClear: no password is taken before TLS, by any mechanism, right or wrong, and the answer says what to turn on. AUTH
// is not even offered.
func TestAbuse33PasswordInClear(t *testing.T) {
	onStreet(t, func(s *street) {
		for _, password := range []string{"password of anna", "wrong"} {
			pop := s.dial("pop3", "203.0.113.5")
			for _, try := range []string{"USER anna", "AUTH PLAIN " + plainAuth("anna", password)} {
				if got := pop.ask("%s", try); !strings.HasPrefix(got, "-ERR [AUTH] turn on encryption") {
					t.Errorf("POP3 %s: %q", strings.Fields(try)[0], got)
				}
			}
		}
		for _, door := range []string{"mx", "submission"} {
			c := s.dial(door, "203.0.113.5")
			if _, err := c.conn.Write([]byte("EHLO client.example\r\n")); err != nil {
				t.Fatal(err)
			}
			for offered := true; offered; {
				line, err := c.r.ReadString('\n')
				if err != nil || strings.Contains(line, "AUTH") {
					t.Fatalf("%s: %q, %v", door, line, err)
				}
				offered = line[3] == '-'
			}
			for _, try := range []string{"AUTH PLAIN " + plainAuth("anna", "password of anna"), "AUTH PLAIN", "AUTH LOGIN"} {
				if got := c.ask("%s", try); !strings.HasPrefix(got, "538 5.7.11 Turn on encryption") {
					t.Errorf("%s, %s: %q", door, strings.Fields(try)[1], got)
				}
			}
		}
	})
}

// inClear sends a password before TLS, as a program does that does not look at answers, and returns them.
func (s *street) inClear(door, remote, name, password string) (answers string) {
	s.t.Helper()
	c := s.dial(door, remote)
	defer c.end()
	if door == "pop3" {
		return c.ask("USER %s", name) + "\n" + c.ask("PASS %s", password)
	}
	c.want("250", "EHLO client.example")
	return c.ask("AUTH PLAIN %s", plainAuth(name, password))
}

// TestAbuse33SeenInClear: a password that came before TLS is refused as any is, whatever it is, and in the same time; but a right one is noted, told
// to its owner once, and refused over TLS too after the days that the owner of the domain sets. Until then, and with a new password, all is well.
func TestAbuse33SeenInClear(t *testing.T) {
	for _, door := range []string{"pop3", "submission", "mx"} {
		onStreet(t, func(s *street) {
			s.settings(func(set *store.Settings) { set.ClearPasswordDays = 3 })
			const at = "203.0.113.5"
			answers := map[string]bool{}
			for _, try := range [][2]string{{"anna", "wrong"}, {"nobody", "wrong"}, {"anna", "password of anna"}, {"bert", "password of anna"}} {
				before := time.Now()
				answers[s.inClear(door, at, try[0], try[1])+time.Since(before).String()] = true
			}
			if len(answers) != 1 {
				t.Errorf("%s: answers tell passwords apart: %v", door, answers)
			}
			since := func(name string) time.Time {
				a, err := s.store.AccountByName(s.t.Context(), name)
				s.must(err)
				return a.ClearSince
			}
			if since("anna").IsZero() || !since("bert").IsZero() || s.holds("anna") != 1 || s.holds("bert") != 0 {
				t.Fatalf("%s: since %v and %v, %d and %d messages", door, since("anna"), since("bert"), s.holds("anna"), s.holds("bert"))
			}
			both := func(pop, smtp string) {
				t.Helper()
				if got := s.popLogin(at, "anna", "password of anna"); !strings.HasPrefix(got, pop) {
					t.Errorf("%s, then POP3: %s", door, got)
				}
				if _, got := s.smtpLogin(at, "anna", "password of anna"); !strings.HasPrefix(got, smtp) {
					t.Errorf("%s, then SMTP: %s", door, got)
				}
			}
			time.Sleep(time.Until(since("anna").AddDate(0, 0, 3)) - time.Minute)
			both("+OK", "235")
			for range 3 { // a program that comes again and again
				s.inClear(door, at, "anna", "password of anna")
			}
			time.Sleep(time.Minute)
			both("-ERR [AUTH] have a new password set", "535 5.7.8 Have a new password set")
			if got := s.holds("anna"); got != 1 {
				t.Errorf("%s: told %d times", door, got)
			}
			a, err := s.store.AccountByName(s.t.Context(), "anna")
			s.must(err)
			a.Verifier, err = s.o.auth.Hash(s.t.Context(), "another one")
			s.must(err)
			_, err = s.store.UpdateAccount(s.t.Context(), a)
			s.must(err)
			if got := s.popLogin(at, "anna", "another one"); !strings.HasPrefix(got, "+OK") || !since("anna").IsZero() {
				t.Errorf("%s: with a new password: %s, %v", door, got, since("anna"))
			}
			if log := s.log.String(); strings.Contains(log, "password of") || !strings.Contains(log, "a right password came in the clear, and was refused") {
				t.Errorf("%s: the log: %s", door, log)
			}
		})
	}
}

// TestAbuse33FloodInClear: ten thousand names and passwords in the clear, and every guess at one mailbox, hold up nobody who logs in over TLS, not
// even from the same address, and what is looked at of them is bounded.
func TestAbuse33FloodInClear(t *testing.T) {
	onStreet(t, func(s *street) {
		const flood = "198.51.100.66"
		s.settings(func(set *store.Settings) { set.GrantNotices = false })
		login := func(from, name string) time.Duration {
			before := time.Now()
			if got := s.popLogin(from, name, "password of "+name); !strings.HasPrefix(got, "+OK") {
				t.Errorf("%s from %s: %s", name, from, got)
			}
			return time.Since(before)
		}
		quiet := login("192.0.2.7", "bert")
		arrives := func(name, password string) {
			s.o.auth.ArrivedInClear(auth.Attempt{Service: "pop3", Remote: netip.MustParseAddr(flood)}, name, password)
		}
		for i := range 10_000 {
			name := fmt.Sprint("user", i)
			if i%2 == 0 {
				name = "anna"
			}
			arrives(name, fmt.Sprint("guess ", i))
			if i%100 == 0 {
				synctest.Wait()
			}
		}
		arrives("anna", "password of anna") // its network is heard no more for now
		for _, from := range []string{flood, "203.0.113.5"} {
			if took := login(from, "anna"); took != quiet {
				t.Errorf("a login from %s takes %v, and %v on a quiet day", from, took, quiet)
			}
		}
		if a, err := s.store.AccountByName(s.t.Context(), "anna"); err != nil || !a.ClearSince.IsZero() || s.holds("anna") != 0 {
			t.Errorf("noted since %v, %v, told %d times", a.ClearSince, err, s.holds("anna"))
		}
		s.inClear("pop3", "203.0.113.5", "anna", "password of anna")
		if got := s.holds("anna"); got != 1 {
			t.Errorf("from elsewhere: told %d times", got)
		}
	})
}

// TestAbuse34StoredSecrets: APOP and CRAM-MD5 are offered nowhere but at the doors for old clients, the greeting has no timestamp, and no
// password is kept that could be stolen; for one whose owner wanted it, the mailbox says so.
func TestAbuse34StoredSecrets(t *testing.T) {
	onStreet(t, func(s *street) {
		c := s.connect("pop3", "203.0.113.5")
		if greeting := c.line(); strings.ContainsAny(greeting, "<>") {
			t.Errorf("greeting: %q", greeting)
		}
		c.secure("STLS", "+OK")
		if got := c.ask("APOP anna c4c9334bac560ecc979e58001b3e22fb"); !strings.HasPrefix(got, "-ERR") {
			t.Errorf("APOP: %q", got)
		}
		m := s.ehlo("submission", "203.0.113.5").secure("STARTTLS", "220")
		if _, err := m.conn.Write([]byte("EHLO client.example\r\n")); err != nil {
			t.Fatal(err)
		}
		for {
			line, err := m.r.ReadString('\n')
			if err != nil || strings.Contains(line, "CRAM") || strings.Contains(line, "NTLM") {
				t.Fatalf("%q, %v", line, err)
			}
			if line[3] == ' ' {
				break
			}
		}
		if got := s.popLogin("203.0.113.5", "anna", "password of anna"); !strings.HasPrefix(got, "+OK") {
			t.Fatal(got)
		}
		a, err := s.store.AccountByName(t.Context(), "anna")
		s.must(err)
		if a.OldClientLogin || len(a.Sealed) > 0 {
			t.Errorf("a password is kept of an account that never asked for it: %+v", a)
		}
		s.settings(func(set *store.Settings) { set.OldClientLogin = true })
		if got := s.popLogin("203.0.113.5", "bert", "password of bert"); !strings.HasPrefix(got, "+OK") {
			t.Fatal(got)
		}
		b, err := s.store.AccountByName(t.Context(), "bert")
		s.must(err)
		if len(b.Sealed) == 0 || strings.Contains(string(b.Sealed), "password of bert") {
			t.Errorf("kept: %q", b.Sealed)
		}
	})
}

// TestAbuse37NextOfTheName: a mailbox is removed and its name given to somebody else. What was the first one's never reaches the second: old
// mail, the grant, the session that still sends, the session that still reads.
func TestAbuse37NextOfTheName(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "old password")
	s.deliver("x@other.example", []string{"anna@example.com"}, message("old mail"))
	reading := s.popOn(s.dialFrom("127.0.0.6", "pop3"))
	if err := reading.login("anna", "old password"); err != nil {
		t.Fatal(err)
	}
	sending := s.submission("anna", "old password")
	if err := s.sendFrom("127.0.0.6", "anna@example.com", "friend@other.example"); err != nil {
		t.Fatalf("by the grant: %v", err)
	}

	s.do("DELETE", "/v1/accounts/anna", nil, nil)
	s.addAccount("anna", "new password")

	wantCode(t, "by the old grant", s.sendFrom("127.0.0.6", "anna@example.com", "friend@other.example"), 550)
	wantCode(t, "in the old session", sending.Mail("anna@example.com"), 421)
	wantAuthRefusal(t, "with the old password", s.pop("pop3s").login("anna", "old password"))
	holds(t, s.fetch("anna", "new password"))
	s.deliver("x@other.example", []string{"anna@example.com"}, message("new mail"))
	if line, err := reading.cmd("STAT"); err == nil && strings.HasPrefix(line, "+OK 2") {
		t.Errorf("the old session sees the new one's mail: %s", line)
	}
	if _, err := reading.cmd("QUIT"); err != nil {
		t.Logf("the old session ends: %v", err)
	}
	holds(t, s.fetch("anna", "new password"), "new mail")
}
