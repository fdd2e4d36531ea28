package smtp

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"latchkey/store"
)

// probe is one attempt to make us relay: a dialogue whose replies may be anything. Its proof is in the store.
type probe struct {
	name string
	// hello, mail, rcpt are whole commands; empty ones are the usual.
	hello, mail string
	before      []string
	rcpt        string
	// data is what ends the transaction; empty is DATA and a message.
	data string
}

const victim = "victim@elsewhere.example"

// probes is the list of ways in which servers were made to relay.
func probes() []probe {
	list := []probe{
		{name: "plain third party"},
		{name: "from the null reverse-path", mail: "MAIL FROM:<>"},
		{name: "from our own domain", mail: "MAIL FROM:<alice@example.com>"},
		{name: "from a name without a domain", mail: "MAIL FROM:<alice>"},
		{name: "from localhost", mail: "MAIL FROM:<alice@localhost>"},
		{name: "from our address", mail: "MAIL FROM:<alice@[127.0.0.1]>"},
		{name: "after a valid recipient", before: []string{"RCPT TO:<bob@example.com>"}},
		{name: "after RSET", before: []string{"RCPT TO:<bob@example.com>", "RSET", "MAIL FROM:<x@remote.example>"}},
		{name: "after a failed AUTH", hello: "EHLO client.example\r\nAUTH PLAIN " + plain("alice", "wrong")},
		{name: "after an AUTH given up", hello: "EHLO client.example\r\nAUTH LOGIN\r\n*"},
		{name: "with HELO", hello: "HELO client.example"},
		{name: "with our own name in HELO", hello: "HELO mail.example.com"},
		{name: "with our domain in EHLO", hello: "EHLO example.com"},
		{name: "with EHLO localhost", hello: "EHLO localhost"},
		{name: "with NOTIFY and ORCPT", rcpt: "RCPT TO:<" + victim + "> NOTIFY=SUCCESS ORCPT=rfc822;bob@example.com"},
		{name: "with AUTH=", mail: "MAIL FROM:<x@remote.example> AUTH=alice@example.com"},
		{name: "by chunks", data: "BDAT 8 LAST\r\nA: 1\r\n\r\n"},
		{name: "by chunks after a bad MAIL", mail: "MAIL FROM:<bad", data: "BDAT 8 LAST\r\nA: 1\r\n\r\n"},
		{name: "by chunks without MAIL", mail: "NOOP", data: "BDAT 8 LAST\r\nA: 1\r\n\r\n"},
		{name: "without brackets", rcpt: "RCPT TO:" + victim},
		{name: "with blanks", rcpt: "RCPT TO: < " + victim + " >"},
		{name: "two in one", rcpt: "RCPT TO:<bob@example.com,victim@elsewhere.example>"},
		{name: "two in brackets", rcpt: "RCPT TO:<bob@example.com><victim@elsewhere.example>"},
	}
	for _, rcpt := range []string{
		"victim%elsewhere.example@example.com", "victim%elsewhere.example@[127.0.0.1]", "victim%elsewhere.example",
		`"victim@elsewhere.example"`, `"victim%elsewhere.example"`, "victim@elsewhere.example@example.com",
		`"victim@elsewhere.example"@example.com`, `"victim%elsewhere.example"@example.com`,
		"@example.com:victim@elsewhere.example", "@[127.0.0.1]:victim@elsewhere.example", "@mail.example.com,@example.com:victim@elsewhere.example",
		"elsewhere.example!victim", "elsewhere.example!victim@example.com", "elsewhere.example!victim@[127.0.0.1]",
		"victim@elsewhere.example.", "VICTIM@ELSEWHERE.EXAMPLE", "victim@exаmple.com", "victim@example.com.elsewhere.example",
		"victim@elsewhere.example%example.com", "victim@[192.0.2.1]", "victim@[IPv6:2001:db8::1]", "victim@192.0.2.1", "victim@localhost",
		`"victim\@elsewhere.example"@example.com`, "bob@example.com@elsewhere.example", `"bob@example.com"@elsewhere.example`,
		"bob%example.com@elsewhere.example", "bob+victim@elsewhere.example@example.com", "victim@elsewhere.example\x00@example.com", "*@elsewhere.example",
	} {
		list = append(list, probe{name: rcpt, rcpt: "RCPT TO:<" + rcpt + ">"})
	}
	return list
}

// run plays a probe and takes every answer. It returns the reply to the probe's RCPT.
func (p probe) run(c *client, from string) (rcpt string) {
	c.f.t.Helper()
	or := func(s, usual string) string {
		if s == "" {
			return usual
		}
		return s
	}
	for line := range strings.SplitSeq(or(p.hello, "EHLO client.example"), "\r\n") {
		c.send(line + "\r\n")
		c.reply()
	}
	for _, line := range append([]string{or(p.mail, "MAIL FROM:<"+from+">")}, p.before...) {
		c.send(line + "\r\n")
		c.reply()
	}
	c.send(or(p.rcpt, "RCPT TO:<"+victim+">") + "\r\n")
	rcpt = c.reply()
	if p.data != "" {
		c.send(p.data)
		c.reply()
		return rcpt
	}
	c.send("DATA\r\n")
	if strings.HasPrefix(c.reply(), "354 ") {
		c.send("From: " + from + "\r\nSubject: probe\r\n\r\n.\r\n")
		c.reply()
	}
	return rcpt
}

// A stranger never relays, at no door and by no trick: whatever is said to a probe, no job ever appears, and 250 to a recipient means a
// message in a local maildrop. Between the probes a proper message goes through, so that the silence is not a broken server's.
func TestStrangersNeverRelay(t *testing.T) {
	for _, door := range []Door{MX, Submission} {
		for _, catchAll := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, catch-all %v", door, catchAll), func(t *testing.T) {
				f := newFixture(t, door)
				if catchAll {
					f.must(f.store.PutAlias(context.Background(), store.Alias{Name: store.CatchAll, Targets: []store.AccountID{f.ids["alice"]}}))
				}
				f.serve()
				for _, p := range probes() {
					before := len(f.mail("alice")) + len(f.mail("bob"))
					c := f.dial()
					c.expect("220 ")
					reply := p.run(c, "x@remote.example")
					after := len(f.mail("alice")) + len(f.mail("bob"))
					if jobs := f.jobs(); len(jobs) != 0 {
						t.Fatalf("%s: relayed: %+v", p.name, jobs)
					}
					if strings.HasPrefix(reply, "250") && strings.HasPrefix(p.rcpt, "RCPT") && after == before {
						t.Errorf("%s: accepted (%q) and not found in a maildrop", p.name, reply)
					}
					if door == Submission && after != before {
						t.Errorf("%s: delivered without AUTH", p.name)
					}
					f.control(door)
				}
				if n := len(f.mail("dave")); n != len(probes()) {
					t.Errorf("%d control messages arrived, want %d", n, len(probes()))
				}
			})
		}
	}
}

// control sends a proper message to dave.
func (f *fixture) control(door Door) {
	f.t.Helper()
	f.update("dave", func(a *store.Account) { a.Quota = store.Quota{} })
	if door == MX {
		f.greeted().message("x@remote.example", "dave@example.com", shortMessage)
		return
	}
	f.loggedIn("bob").message("bob@example.com", "dave@example.com", "From: bob@example.com\r\n\r\n")
}

// Who is authenticated relays exactly what the table says: never to another host than the one after the last @, never in another's name.
func TestAuthenticatedProbes(t *testing.T) {
	// The only probes that may make a job, and for which recipient.
	allowed := map[string]string{
		"plain third party": victim, "from the null reverse-path": victim, "from our own domain": victim, "after a valid recipient": victim,
		"after RSET": "", "with HELO": victim, "with our own name in HELO": victim, "with our domain in EHLO": victim, "with EHLO localhost": victim,
		"with NOTIFY and ORCPT": victim, "by chunks": victim, "without brackets": victim, "after a failed AUTH": victim, "after an AUTH given up": victim,
		"victim@elsewhere.example.":             victim,
		"VICTIM@ELSEWHERE.EXAMPLE":              "VICTIM@elsewhere.example",
		"@example.com:victim@elsewhere.example": victim, "@[127.0.0.1]:victim@elsewhere.example": victim,
		"@mail.example.com,@example.com:victim@elsewhere.example": victim,
		"victim@example.com.elsewhere.example":                    "victim@example.com.elsewhere.example",
		"victim@192.0.2.1":                                        "victim@192.0.2.1",
		"victim@localhost":                                        "victim@localhost",
		"*@elsewhere.example":                                     "*@elsewhere.example",
	}
	for _, door := range []Door{MX, Submission} {
		f := newFixture(t, door).serve()
		for _, p := range probes() {
			c := f.loggedIn("alice")
			p.run(c, "alice@example.com")
			want, ok := allowed[p.name]
			if want == "" {
				ok = false
			}
			jobs := f.jobs()
			for _, j := range jobs {
				if !ok || j.Recipient.String() != want || j.Submitter != f.ids["alice"] {
					t.Errorf("%s, %s: job for %s", door, p.name, j.Recipient)
				}
				if !slices.Contains([]string{"alice@example.com", ""}, j.ReversePath.String()) {
					t.Errorf("%s, %s: reverse-path %s", door, p.name, j.ReversePath)
				}
				f.must(f.store.RemoveJobs(context.Background(), j.ID))
			}
			if ok && len(jobs) != 1 {
				t.Errorf("%s, %s: %d jobs, want 1", door, p.name, len(jobs))
			}
			f.control(Submission)
		}
	}
}
