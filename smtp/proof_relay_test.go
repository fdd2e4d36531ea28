package smtp

import (
	"cmp"
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/guard"
	"latchkey/internal/relayprobe"
	"latchkey/store"
)

// suspect is one kind of sender who tries every probe.
type suspect struct {
	name, remote string
	// login is who logs in first, if the door lets them; from is the reverse-path and the author of the probes that have none of their own.
	login, from string
	// spent is set for a grant with nothing left.
	spent bool
	// owns reports whether a reverse-path is the sender's own, by what it has proved under these settings.
	owns func(w world, reversePath string) bool
}

// world is what a probe meets: a door, and the owner's settings.
type world struct {
	door                                                         Door
	requireAuth, popBeforeSMTP, outgoing, networkNamed, authOnMX bool
}

func worlds(door Door) (list []world) {
	for i := range 1 << 5 {
		on := func(bit int) bool { return i&(1<<bit) != 0 }
		list = append(list, world{door, on(0), on(1), on(2), on(3), on(4)})
	}
	return list
}

func (w world) apply(s *store.Settings) {
	s.RequireAuth, s.POPBeforeSMTP, s.OutgoingMail, s.AuthOnMX = w.requireAuth, w.popBeforeSMTP, w.outgoing, w.authOnMX
	s.TrustedNetworks = []netip.Prefix{netip.MustParsePrefix("198.18.0.0/16")}
	if w.networkNamed {
		s.TrustedNetworks = append(s.TrustedNetworks, netip.MustParsePrefix(network))
	}
	s.TrustedRecipients, s.DailyRecipients = store.MaxRecipientBudget, store.MaxRecipientBudget
	s.HourlyRecipients, s.DomainDailyRecipients, s.DomainHourlyRecipients = store.MaxRecipientBudget, store.MaxRecipientBudget, store.MaxRecipientBudget
}

// suspects are every kind of sender, and whatever looks like one.
func suspects() []suspect {
	const alice, stranger = "alice@example.com", "x@remote.example"
	never := func(world, string) bool { return false }
	isAlice := func(addr string) bool { return strings.EqualFold(addr, alice) }
	grant := func(w world, addr string) bool { return w.popBeforeSMTP && w.outgoing && isAlice(addr) }
	named := func(w world, addr string) bool {
		return !w.requireAuth && w.networkNamed && w.outgoing && isAlice(addr)
	}
	return []suspect{
		{"anonymous", elsewhere, "", stranger, false, never},
		{"anonymous as our own", elsewhere, "", alice, false, never},
		{"authenticated", elsewhere, "alice", alice, false, func(w world, addr string) bool {
			return (w.door == Submission || w.authOnMX) && (addr == "" || isAlice(addr))
		}},
		{"granted", office, "", alice, false, grant},
		{"granted as a stranger", office, "", stranger, false, grant},
		{"granted as another", office, "", "bob@example.com", false, grant},
		{"trusted", printer, "", alice, false, named},
		{"trusted as a stranger", printer, "", stranger, false, named},
		{"trusted as nobody", printer, "", "nobody@example.com", false, named},
		{"expired grant", "203.0.113.21", "", alice, false, never},
		{"revoked grant", "203.0.113.22", "", alice, false, never},
		{"another mailbox's grant", "203.0.113.23", "", alice, false, never},
		{"spent grant", "203.0.113.24", "", alice, true, grant},
		{"grant of the other family", "203.0.113.25", "", alice, false, never},
		{"grant of an old password", "203.0.113.26", "", "erin@example.com", false, never},
		{"grant of one who was suspended", "203.0.113.27", "", "frank@example.com", false, never},
	}
}

// stage opens the grants that the suspects have, or had.
func (f *proofs) stage() {
	ctx := context.Background()
	for _, name := range []string{"erin", "frank"} {
		a, err := f.store.AddAccount(ctx, store.Account{Name: name})
		f.must(err)
		f.ids[name] = a.ID
	}
	f.update("dave", func(a *store.Account) { a.Quota = store.Quota{} })
	f.fetch("alice", "203.0.113.21")
	time.Sleep(guard.GrantWindow)
	f.fetch("alice", "203.0.113.22")
	f.revoke("alice")
	f.fetch("bob", "203.0.113.23")
	f.fetch("alice", "203.0.113.24")
	f.leave("alice", 0)
	f.fetch("alice", "2001:db8::25")
	f.fetch("erin", "203.0.113.26")
	f.update("erin", func(a *store.Account) { a.Verifier = "$argon2id$new" })
	f.fetch("frank", "203.0.113.27")
	f.update("frank", func(a *store.Account) { a.Suspended = true })
}

// refill gives alice a new grant at the office.
func (f *proofs) refill() {
	list, err := f.store.ListGrants(context.Background(), store.GrantFilter{Remote: netip.MustParseAddr(office)}, 0, 10)
	f.must(err)
	for _, g := range list {
		_, err := f.store.RevokeGrants(context.Background(), time.Now(), store.GrantRevoked, g.ID)
		f.must(err)
	}
	a, err := f.store.Account(context.Background(), f.ids["alice"])
	f.must(err)
	_, err = f.store.OpenGrant(context.Background(), time.Now(), store.GrantRequest{
		Account: a.ID, Network: netip.MustParsePrefix(office + "/32"), CredentialVersion: a.CredentialVersion,
		Window: guard.GrantWindow, Longest: guard.GrantLongest, Recipients: guard.GrantRecipients, MostLive: guard.MaxLiveGrants,
	})
	f.must(err)
}

// job is what a probe of a suspect must leave in the queue, "" for nothing.
func (s suspect) job(w world, p relayprobe.Probe) string {
	to, from := relayprobe.Allowed()[p.Name], p.ReversePath(s.from)
	// The author of a probe is the suspect's usual address, but in those by chunks, which have none.
	if to == "" || s.spent || !w.outgoing || !s.owns(w, from) || p.Data == "" && !s.owns(w, s.from) {
		return ""
	}
	return "<" + from + "> to " + to
}

// delivers reports whether a probe of a suspect may end in a mailbox here.
func (s suspect) delivers(w world, p relayprobe.Probe) bool {
	from := p.ReversePath(s.from)
	return s.owns(w, from) || w.door == MX && !strings.HasSuffix(from, "@"+testDomain)
}

// Whatever the owner's settings, a door and a sender's kind: every probe leaves exactly the jobs that the rule allows, and 250 means a
// message that is found. The oracle is the store, and the rule is written a second time above. Between the senders a proper message
// goes through. (Under the race detector not every sender tries every probe in every world: see thinning.)
func TestRelayProof(t *testing.T) {
	for _, door := range []Door{MX, Submission} {
		t.Run(string(door), func(t *testing.T) {
			t.Parallel()
			onProofs(t, door, func(t *testing.T, f *proofs) {
				f.stage()
				relayed, controls := 0, 0
				for i, w := range worlds(door) {
					f.settings(w.apply)
					for k, s := range suspects() {
						f.refill()
						relayed += f.prove(w, s, i+k)
						f.controlled(w)
						controls++
					}
				}
				if relayed < 100 {
					t.Errorf("only %d messages were relayed: the proof proves nothing", relayed)
				}
				if n := len(f.mail("dave")); n != controls {
					t.Errorf("%d control messages arrived, want %d", n, controls)
				}
			}, func(o *Options) {
				// Every probe is to be tried: nobody is cut off before. The log would be long.
				l := &o.Limits
				l.RelayTries, l.UnknownMax, l.UnknownFree, l.IdleReplies, l.AuthAttempts, l.AuthFailures = 1<<30, 1<<30, 1<<30, 1<<30, 1<<30, 1<<30
				o.Logger = nil
			})
		})
	}
}

// controlled sends a proper message to dave.
func (f *proofs) controlled(w world) {
	f.t.Helper()
	c := f.from(elsewhere)
	if w.door == MX {
		c.message("x@remote.example", "dave@example.com", shortMessage)
	} else {
		c.login("bob")
		c.message("bob@example.com", "dave@example.com", "From: bob@example.com\r\n\r\n")
	}
	f.must(c.conn.Close())
}

// local is how many messages alice and bob have.
func (f *proofs) local() (n int64) {
	f.t.Helper()
	for _, name := range []string{"alice", "bob"} {
		u, err := f.store.Usage(context.Background(), f.ids[name])
		f.must(err)
		n += u.Messages
	}
	return n
}

// prove tries all probes in a world, and returns how many of them rightly left a job. Under the race detector it tries the first few, and
// of the others those whose turn it is: every sender still meets each of them, in other worlds.
func (f *proofs) prove(w world, s suspect, turn int) (relayed int) {
	f.t.Helper()
	c := &prober{f: f, s: s}
	before := f.local()
	for i, p := range relayprobe.Probes() {
		if i >= 8 && (i+turn)%thinning != 0 {
			continue
		}
		queued := c.run(p)
		var got []string
		for _, j := range f.jobs() {
			got = append(got, j.ReversePath.Path()+" to "+j.Recipient.String())
			f.must(f.store.RemoveJobs(context.Background(), j.ID))
		}
		var want []string
		if job := s.job(w, p); job != "" {
			want = []string{job}
		}
		if !slices.Equal(got, want) {
			f.t.Fatalf("%+v, %s, %s: relayed %q, want %q", w, s.name, p.Name, got, want)
		}
		after := f.local()
		if found := after > before; found && !s.delivers(w, p) || found && !queued || queued && !found && len(got) == 0 {
			f.t.Errorf("%+v, %s, %s: said to be queued: %v, delivered: %v", w, s.name, p.Name, queued, found)
		}
		before = after
		relayed += len(got)
	}
	c.hangUp()
	return relayed
}

// prober is a client that plays probes one after the other, over a new connection when the old one is at its end.
type prober struct {
	f *proofs
	s suspect
	c *client
}

func (c *prober) hangUp() {
	if c.c != nil {
		_ = c.c.conn.Close() // it may be closed already
		c.c = nil
	}
}

// say sends lines at once and returns the last line of the reply to each; empty ones when there is no connection any more.
func (c *prober) say(lines ...string) []string {
	replies := make([]string, len(lines))
	if c.c == nil {
		return replies
	}
	if _, err := io.WriteString(c.c.conn, strings.Join(lines, "\r\n")+"\r\n"); err != nil {
		c.hangUp()
		return replies
	}
	for i := range replies {
		for done := false; !done; {
			line, err := c.c.r.ReadLine()
			if err != nil {
				c.hangUp()
				return replies
			}
			replies[i], done = line, len(line) > 3 && line[3] == ' '
		}
	}
	return replies
}

// run plays a probe and reports whether the message was said to be taken.
func (c *prober) run(p relayprobe.Probe) (queued bool) {
	hello := "EHLO client.example"
	if p.Hello != "" {
		hello = p.Hello
		c.hangUp()
	}
	if c.c == nil {
		c.c, _ = c.f.dialFrom(c.f.fixture, c.s.remote)
		c.c.expect("220 ")
		if c.s.login != "" {
			c.say("EHLO client.example", "AUTH PLAIN "+plain(c.s.login, c.s.login+"-pw"))
		}
		for line := range strings.SplitSeq(hello, "\r\n") {
			c.say(line)
		}
	}
	lines := []string{"RSET", cmp.Or(p.Mail, "MAIL FROM:<"+c.s.from+">")}
	lines = append(append(lines, p.Before...), cmp.Or(p.Rcpt, "RCPT TO:<"+relayprobe.Victim+">"))
	last := ""
	if p.Data != "" {
		c.say(lines...)
		last = c.say(strings.TrimSuffix(p.Data, "\r\n"))[0]
	} else {
		replies := c.say(append(lines, "DATA")...)
		if strings.HasPrefix(replies[len(replies)-1], "354 ") {
			last = c.say("From: " + c.s.from + "\r\nSubject: probe\r\n\r\n.")[0]
		}
	}
	if p.Hello != "" {
		c.hangUp()
	}
	return strings.HasPrefix(last, "250 2.0.0 queued")
}
