package smtp

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"latchkey/guard"
	"latchkey/store"
)

// office is where mailbox owners fetch their mail, network a network of theirs, elsewhere neither.
const (
	office    = "203.0.113.7"
	network   = "198.51.100.0/24"
	printer   = "198.51.100.9"
	elsewhere = "192.0.2.1"
	away      = "victim@elsewhere.example"
)

// proofs is a fixture with everything that can stand in for AUTH.
type proofs struct {
	*fixture
	*pipes
	grants *guard.Grants
}

// onProofs runs a test on pipes, in fake time, against a server that knows grants and named networks.
func onProofs(t *testing.T, door Door, test func(t *testing.T, f *proofs), edit ...func(*Options)) {
	t.Helper()
	p := &proofs{}
	onPipes(t, door, func(t *testing.T, f *fixture, pipes *pipes) {
		p.fixture, p.pipes = f, pipes
		test(t, p)
	}, append([]func(*Options){func(o *Options) {
		o.Limits.Idle, o.Limits.LoginIdle, o.Limits.Envelope, o.Limits.Session = 24*time.Hour, 24*time.Hour, 24*time.Hour, 90*24*time.Hour
		o.Limits.RateWindow = 24 * time.Hour
		p.grants = provide(o)
	}}, edit...)...)
}

// provide gives a door grants and named networks, over the real guard.
func provide(o *Options) *guard.Grants {
	st := o.Store.(store.Store)
	none := func() ([]netip.Addr, error) { return nil, nil }
	hosts := guard.NewHosts(guard.HostsOptions{Interfaces: none, Gateways: none})
	grants := guard.NewGrants(guard.GrantOptions{Grants: st, Accounts: st, Settings: st, Hosts: hosts, Logger: o.Logger})
	o.Grants, o.Hosts, o.Sending = grants, hosts, guard.NewSending(st, nil)
	return grants
}

// fetch is a POP3 login of a mailbox from an address.
func (f *proofs) fetch(name, remote string) {
	f.t.Helper()
	a, err := f.store.Account(context.Background(), f.ids[name])
	f.must(err)
	f.grants.LoggedIn(context.Background(), guard.Place{Remote: netip.MustParseAddr(remote)}, a.ID, name, a.CredentialVersion, 0)
}

// granted is the grant of a mailbox.
func (f *proofs) granted(name string) store.Grant {
	f.t.Helper()
	list, err := f.store.ListGrants(context.Background(), store.GrantFilter{Account: f.ids[name]}, 0, 10)
	f.must(err)
	if len(list) == 0 {
		f.t.Fatalf("%s has no grant", name)
	}
	return list[len(list)-1]
}

func (f *proofs) revoke(name string) {
	f.t.Helper()
	_, err := f.store.RevokeGrants(context.Background(), time.Now(), store.GrantRevoked, f.granted(name).ID)
	f.must(err)
}

// leave makes a live grant have n recipients left.
func (f *proofs) leave(name string, n int) {
	f.t.Helper()
	g := f.granted(name)
	ok, err := f.store.SpendGrant(context.Background(), time.Now(), g.ID, g.Left-n)
	f.must(err)
	if !ok {
		f.t.Fatalf("cannot leave %d of %d", n, g.Left)
	}
}

// trust names a network, with authentication off.
func trust(s *store.Settings) {
	s.RequireAuth, s.TrustedNetworks = false, []netip.Prefix{netip.MustParsePrefix(network)}
}

// from connects from an address and says EHLO.
func (f *proofs) from(remote string) *client {
	f.t.Helper()
	c, _ := f.dialFrom(f.fixture, remote)
	c.expect("220 ")
	c.ask("EHLO client.example", "250 ")
	return c
}

// jobOf returns the only job, and removes it.
func (f *proofs) jobOf() store.Job {
	f.t.Helper()
	jobs := f.jobs()
	if len(jobs) != 1 {
		f.t.Fatalf("%d jobs, want 1", len(jobs))
	}
	f.must(f.store.RemoveJobs(context.Background(), jobs[0].ID))
	return jobs[0]
}

// senderCase is one reverse-path over the wire: what MAIL, RCPT of an address outside and the message are answered with.
type senderCase struct {
	name, from, header string
	mail, rcpt, data   string
}

func (tt senderCase) run(f *proofs, c *client) {
	f.t.Helper()
	c.ask("MAIL FROM:<"+tt.from+">", tt.mail)
	if tt.mail != "250" {
		return
	}
	c.ask("RCPT TO:<"+away+">", tt.rcpt)
	if tt.rcpt != "250" {
		c.ask("RSET", "250 ")
		return
	}
	c.ask("DATA", "354 ")
	c.send(tt.header + "\r\n\r\nx\r\n.\r\n")
	c.expect(tt.data)
	if tt.data == "250" {
		f.jobOf()
	} else if n := len(f.jobs()); n != 0 {
		f.t.Errorf("%s: %d jobs", tt.name, n)
	}
}

// Whoever fetched mail from an address sends from there as that mailbox, at every door, and as nobody else (RFC 5321 §3.6.2).
func TestSenderKindsOnTheWire(t *testing.T) {
	const no, notYours = "550 5.7.1", "550 5.7.1"
	grant := []senderCase{
		{"own address", "alice@example.com", "From: alice@example.com", "250", "250", "250"},
		{"other case", "ALICE@Example.COM", "From: Alice <Alice@EXAMPLE.com>", "250", "250", "250"},
		{"plus form", "alice+x@example.com", "From: alice+y@example.com", "250", "250", "250"},
		{"alias", "sales@example.com", "From: Sales <sales@example.com>", "250", "250", "250"},
		{"lent", "press@partner.example", "From: press@partner.example", "250", "250", "250"},
		{"alias with several targets", "team@example.com", "", no, "", ""},
		{"another's", "bob@example.com", "", no, "", ""},
		{"catch-all", "anything@example.com", "", no, "", ""},
		{"From another's", "alice@example.com", "From: bob@example.com", "250", "250", notYours},
		{"From foreign", "alice@example.com", "From: ceo@bank.example", "250", "250", notYours},
		{"From with two, one foreign", "alice@example.com", "From: alice@example.com, ceo@bank.example", "250", "250", notYours},
		{"From catch-all", "alice@example.com", "From: anything@example.com", "250", "250", notYours},
		{"two From lines", "alice@example.com", "From: alice@example.com\r\nFrom: ceo@bank.example", "250", "250", "550 5.6.0"},
		{"no From", "alice@example.com", "Subject: x", "250", "250", "250"},
		{"redirect", "alice@example.com", "Resent-From: alice@example.com\r\nFrom: ceo@bank.example", "250", "250", "250"},
		{"redirect by another", "alice@example.com", "Resent-From: bob@example.com\r\nFrom: ceo@bank.example", "250", "250", notYours},
	}
	named := []senderCase{
		{"own address", "alice@example.com", "From: alice@example.com", "250", "250", "250"},
		{"another From of the domain", "alice@example.com", "From: bob@example.com", "250", "250", "250"},
		{"alias with several targets", "team@example.com", "From: team+x@example.com", "250", "250", "250"},
		{"plus form", "bob+scan@example.com", "From: bob@example.com", "250", "250", "250"},
		{"no From", "alice@example.com", "Subject: x", "250", "250", "250"},
		{"suspended", "carol@example.com", "", no, "", ""},
		{"catch-all", "anything@example.com", "", no, "", ""},
		{"From suspended", "alice@example.com", "From: carol@example.com", "250", "250", notYours},
		{"From catch-all", "alice@example.com", "From: anything@example.com", "250", "250", notYours},
		{"From foreign", "alice@example.com", "From: ceo@bank.example", "250", "250", notYours},
		{"From with two, one foreign", "alice@example.com", "From: alice@example.com, ceo@bank.example", "250", "250", notYours},
		{"redirect", "alice@example.com", "Resent-From: bob@example.com\r\nFrom: ceo@bank.example", "250", "250", "250"},
		{"lent to a mailbox", "press@partner.example", "", "stranger", "", ""},
	}
	// A reverse-path that proves nothing is a stranger's, who may deliver at the MX door and nothing at the other.
	stranger := map[Door]senderCase{MX: {mail: "250", rcpt: no}, Submission: {mail: "530 5.7.0"}}
	for _, door := range []Door{MX, Submission} {
		for remote, cases := range map[string][]senderCase{office: grant, printer: named} {
			for _, from := range []string{"", "x@remote.example", "alice@[127.0.0.1]"} {
				cases = append(cases, senderCase{name: "stranger <" + from + ">", from: from, mail: "stranger"})
			}
			for _, tt := range cases {
				if s := stranger[door]; tt.mail == "stranger" {
					tt.mail, tt.rcpt = s.mail, s.rcpt
				}
				t.Run(string(door)+" "+remote+" "+tt.name, func(t *testing.T) {
					onProofs(t, door, func(_ *testing.T, f *proofs) {
						f.must(f.store.PutAlias(context.Background(), store.Alias{Name: store.CatchAll, Targets: []store.AccountID{f.ids["alice"]}}))
						f.settings(trust)
						f.fetch("alice", office)
						tt.run(f, f.from(remote))
					})
				})
			}
		}
	}
}

// What goes out says how its sender had proved itself (RFC 3848 keeps ESMTPA for AUTH), and who answers for it is charged.
func TestProofIsTraced(t *testing.T) {
	tests := []struct {
		name, remote, from, with, comment string
		login                             string
		submitter                         string
		way                               store.SentWay
	}{
		{"authenticated", elsewhere, "alice@example.com", "ESMTPA", "", "alice", "alice", store.SentAuth},
		{"authenticated where a grant is", office, "alice@example.com", "ESMTPA", "", "alice", "alice", store.SentAuth},
		{"another authenticated where a grant is", office, "bob@example.com", "ESMTPA", "", "bob", "bob", store.SentAuth},
		{"granted", office, "sales@example.com", "ESMTP", "\r\n\t(POP-before-SMTP grant 1 of alice@example.com)\r\n\tfor <", "", "alice", store.SentGrant},
		{"trusted", printer, "bob+x@example.com", "ESMTP", "\r\n\t(trusted network 198.51.100.0/24)\r\n\tfor <", "", "bob", store.SentTrusted},
		{"trusted, an alias of several", printer, "team@example.com", "ESMTP", "\r\n\t(trusted network 198.51.100.0/24)\r\n\tfor <", "", "", store.SentTrusted},
	}
	for _, door := range []Door{MX, Submission} {
		for _, tt := range tests {
			t.Run(string(door)+" "+tt.name, func(t *testing.T) {
				onProofs(t, door, func(t *testing.T, f *proofs) {
					f.settings(trust)
					f.fetch("alice", office)
					c := f.from(tt.remote)
					if tt.login != "" {
						c.login(tt.login)
					}
					c.ask("MAIL FROM:<"+tt.from+">", "250 ")
					c.ask("RCPT TO:<bob@example.com>", "250 ")
					c.ask("DATA", "354 ")
					c.send("From: " + tt.from + "\r\n\r\n.\r\n")
					c.expect("250 ")
					got := f.oneMail("bob")
					if !strings.Contains(got, " with "+tt.with+" id ") || !strings.Contains(got, tt.comment) || tt.comment == "" && strings.Contains(got, "\t(") {
						t.Errorf("got %q", got)
					}
					if n := len(f.figures()); n != 0 {
						t.Errorf("a local message is counted: %v", f.figures())
					}
					c.message(tt.from, away, "From: "+tt.from+"\r\n\r\n")
					if j := f.jobOf(); j.Submitter != f.ids[tt.submitter] {
						t.Errorf("submitter %d, want %s", j.Submitter, tt.submitter)
					}
					want := map[string]int64{store.SentFromAddress(tt.way, netip.MustParseAddr(tt.remote)): 1}
					if tt.submitter != "" {
						want[store.SentByMailbox(tt.way, f.ids[tt.submitter])] = 1
					}
					if figures := f.figures(); fmt.Sprint(figures) != fmt.Sprint(want) {
						t.Errorf("figures %v, want %v", figures, want)
					}
				})
			})
		}
	}
}

// figures are all daily figures.
func (f *fixture) figures() map[string]int64 {
	f.t.Helper()
	list, err := f.store.ListStats(context.Background(), 0, store.DayOf(time.Now()))
	f.must(err)
	m := make(map[string]int64)
	for _, s := range list {
		m[s.Name] += s.N
	}
	return m
}

// A device that knows nothing gets its message completed, whatever stands in for AUTH (RFC 6409 §8).
func TestProofFixUps(t *testing.T) {
	tests := []struct{ name, remote, from, in, want string }{
		{
			"granted", office, "alice@example.com", "From: alice@example.com\nBcc: secret@example.com\n\nbody\n\r\n",
			"From: alice@example.com\r\nDate: D\r\nMessage-ID: M\r\n\r\nbody\r\n\r\n",
		},
		{
			"granted, lent", office, "press@partner.example", "Date: D\r\nMessage-ID: M\r\nFrom: press@partner.example\r\n\r\n",
			"Date: D\r\nMessage-ID: M\r\nFrom: press@partner.example\r\nSender: alice@example.com\r\n\r\n",
		},
		{
			"granted, Sender somebody else", office, "alice@example.com", "Date: D\r\nMessage-ID: M\r\nFrom: alice@example.com\r\nSender: bob@example.com\r\n\r\n",
			"Date: D\r\nMessage-ID: M\r\nFrom: alice@example.com\r\nSender: alice@example.com\r\n\r\n",
		},
		{
			"trusted", printer, "bob+scan@example.com", "Subject: scan\n\nbody\n\r\n",
			"Subject: scan\r\nFrom: bob+scan@example.com\r\nDate: D\r\nMessage-ID: M\r\n\r\nbody\r\n\r\n",
		},
		{
			"trusted, Sender foreign", printer, "bob@example.com", "Date: D\r\nMessage-ID: M\r\nFrom: alice@example.com\r\nSender: x@bank.example\r\n\r\n",
			"Date: D\r\nMessage-ID: M\r\nFrom: alice@example.com\r\nSender: bob@example.com\r\n\r\n",
		},
		{
			"trusted, Sender of the domain", printer, "bob@example.com", "Date: D\r\nMessage-ID: M\r\nFrom: alice@example.com\r\nSender: team@example.com\r\n\r\n",
			"Date: D\r\nMessage-ID: M\r\nFrom: alice@example.com\r\nSender: team@example.com\r\n\r\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onProofs(t, MX, func(t *testing.T, f *proofs) {
				f.settings(trust)
				f.fetch("alice", office)
				f.from(tt.remote).message(tt.from, "bob@example.com", tt.in)
				var got []string
				for line := range strings.SplitAfterSeq(f.submitted(), "\r\n") {
					for _, name := range []string{"Date", "Message-ID"} {
						if strings.HasPrefix(line, name+": ") {
							line = name + ": " + name[:1] + "\r\n"
						}
					}
					got = append(got, line)
				}
				if s := strings.Join(got, ""); s != tt.want {
					t.Errorf("got  %q\nwant %q", s, tt.want)
				}
			})
		})
	}
}

// change is something that ends what stood in for AUTH.
type change struct {
	name   string
	do     func(f *proofs)
	rcpt   string // the reply to the next RCPT
	commit string // the reply to a message whose RCPT came before
}

// A grant is asked again at RCPT and before the commit. What only grew old in between is good for the message that was begun.
func TestGrantIsAskedAgain(t *testing.T) {
	changes := []change{
		{"nothing", func(*proofs) {}, "250 ", "250 "},
		{"expired", func(*proofs) { time.Sleep(guard.GrantWindow) }, "450 4.7.1 Relaying denied", "250 "},
		{"almost expired", func(*proofs) { time.Sleep(guard.GrantWindow - 1) }, "250 ", "250 "},
		{"expired and fetched again", func(f *proofs) { time.Sleep(guard.GrantWindow); f.fetch("alice", office) }, "450 4.7.1", "250 "},
		{"revoked", func(f *proofs) { f.revoke("alice") }, "550 5.7.1", "550 5.7.1"},
		{"password", func(f *proofs) { f.update("alice", func(a *store.Account) { a.Verifier = "$argon2id$new" }) }, "550 5.7.1", "550 5.7.1"},
		{"suspended", func(f *proofs) { f.update("alice", func(a *store.Account) { a.Suspended = true }) }, "550 5.7.1", "550 5.7.1"},
		{"switched off", func(f *proofs) { f.settings(func(s *store.Settings) { s.POPBeforeSMTP = false }) }, "5", "5"},
		{"outgoing mail off", func(f *proofs) { f.settings(func(s *store.Settings) { s.OutgoingMail = false }) }, "5", "5"},
		{"network excluded", func(f *proofs) {
			f.settings(func(s *store.Settings) { s.NoGrantNetworks = []netip.Prefix{netip.MustParsePrefix(office + "/32")} })
		}, "550 5.7.1", "550 5.7.1"},
		{"removed", func(f *proofs) {
			f.must(f.store.RemoveAlias(context.Background(), "sales"))
			f.must(f.store.RemoveAccount(context.Background(), f.ids["alice"]))
		}, "550 5.7.1", "550 5.7.1"},
	}
	for _, door := range []Door{MX, Submission} {
		for _, change := range changes {
			t.Run(string(door)+" "+change.name, func(t *testing.T) {
				onProofs(t, door, func(t *testing.T, f *proofs) {
					f.fetch("alice", office)
					change.play(t, f, office, "alice@example.com")
				})
			})
		}
	}
}

// play makes the change once before RCPT of one session, and once before the end of the message of another.
func (ch change) play(t *testing.T, f *proofs, remote, from string) {
	t.Helper()
	c, other := f.from(remote), f.from(remote)
	for _, c := range []*client{c, other} {
		c.ask("MAIL FROM:<"+from+">", "250 ")
	}
	other.ask("RCPT TO:<"+away+">", "250 ")
	other.ask("DATA", "354 ")
	ch.do(f)
	c.ask("RCPT TO:<"+away+">", ch.rcpt)
	c.ask("RSET", "250 ")
	other.send("From: " + from + "\r\n\r\n.\r\n")
	other.expect(ch.commit)
	if n := len(f.jobs()); (n == 1) != strings.HasPrefix(ch.commit, "250") || n > 1 {
		t.Errorf("%d jobs after %q", n, ch.commit)
	}
}

// An address that is not the client's own proves nothing, whatever was granted to it or named: this host's, a proxy's, a default gateway's
// on a private net, and loopback at a door that others reach too.
func TestPlacesThatProveNothing(t *testing.T) {
	tests := []struct {
		name, remote string
		loopback     bool
		want         string
	}{
		{"a client's own", "10.0.0.9", false, "250 "},
		{"this host's", "10.0.0.1", false, "550 5.7.1"},
		{"the gateway's", "10.0.0.2", false, "550 5.7.1"},
		{"a proxy's", "10.0.0.3", false, "550 5.7.1"},
		{"loopback at a door on loopback", "127.0.0.1", true, "250 "},
		{"loopback at another door", "127.0.0.1", false, "550 5.7.1"},
	}
	list := func(s string) func() ([]netip.Addr, error) {
		return func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr(s)}, nil }
	}
	for _, tt := range tests {
		for _, way := range []string{"granted", "trusted"} {
			t.Run(way+" "+tt.name, func(t *testing.T) {
				onProofs(t, MX, func(_ *testing.T, f *proofs) {
					if way == "trusted" {
						f.settings(func(s *store.Settings) {
							s.RequireAuth = false
							s.TrustedNetworks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("127.0.0.0/24")}
						})
					} else {
						_, err := f.store.OpenGrant(context.Background(), time.Now(), store.GrantRequest{
							Account: f.ids["alice"], Network: netip.MustParsePrefix(tt.remote + "/32"), CredentialVersion: f.version("alice"),
							Window: time.Hour, Longest: time.Hour, Recipients: 1, MostLive: 1,
						})
						f.must(err)
					}
					c := f.from(tt.remote)
					if c.ask("MAIL FROM:<alice@example.com>", tt.want); tt.want == "250 " {
						c.ask("RCPT TO:<"+away+">", "250 ")
						return
					}
					c.ask("MAIL FROM:<x@remote.example>", "250 ")
					c.ask("RCPT TO:<"+away+">", "550 5.7.1 Relaying denied")
				}, func(o *Options) {
					st := o.Store.(store.Store)
					hosts := guard.NewHosts(guard.HostsOptions{
						Interfaces: list("10.0.0.1"), Gateways: list("10.0.0.2"), Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.3/32")},
					})
					o.Hosts, o.Loopback = hosts, tt.loopback
					o.Grants = guard.NewGrants(guard.GrantOptions{Grants: st, Accounts: st, Settings: st, Hosts: hosts})
				})
			})
		}
	}
}
