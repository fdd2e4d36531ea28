package smtp

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"latchkey/guard"
	"latchkey/store"
)

// refusedCase is one reason for which nothing stands in for AUTH.
type refusedCase struct {
	name, from string
	remote     string
	prepare    func(f *proofs)
	// want is the reply to MAIL at the MX door, submission that at the other; empty is the same.
	want, submission string
}

const (
	first  = `Relaying denied for 203.0.113.7: check mail for alice@example.com first, or turn on "My server requires authentication"`
	again  = `Relaying denied for 203.0.113.7: check mail for alice@example.com again, or turn on "My server requires authentication"`
	shared = `Relaying denied for 203.0.113.7: turn on "My server requires authentication"; many people share this address`
	family = `Relaying denied for 203.0.113.7: turn on "My server requires authentication"; mail was fetched over IPv6 but is sent over IPv4`
	login  = `Authenticate to send as this domain: turn on "My server requires authentication" in your mail program`
	need   = `530 5.7.0 Authentication required: turn on "My server requires authentication" in your mail program`
)

func refusedCases() []refusedCase {
	const alice = "alice@example.com"
	fetched := func(then func(f *proofs)) func(f *proofs) {
		return func(f *proofs) { f.fetch("alice", office); then(f) }
	}
	sleep := func(d time.Duration) func(f *proofs) { return fetched(func(*proofs) { time.Sleep(d) }) }
	return []refusedCase{
		{"never", alice, office, func(*proofs) {}, "550 5.7.1 " + first, ""},
		{"never, as typed", "Alice+x@EXAMPLE.com", office, func(*proofs) {}, "550 5.7.1 " + strings.Replace(first, alice, "Alice+x@example.com", 1), ""},
		{"nobody's address", "nobody@example.com", office, func(*proofs) {}, "550 5.7.1 " + strings.Replace(first, "alice", "nobody", 1), ""},
		{"nobody's address where a grant is", "nobody@example.com", office, fetched(func(*proofs) {}), "550 5.7.1 " + strings.Replace(first, "alice", "nobody", 1), ""},
		{"another's address where a grant is", "bob@example.com", office, fetched(func(*proofs) {}), "550 5.7.1 " + strings.Replace(first, "alice", "bob", 1), ""},
		{"nobody's address where one was revoked", "nobody@example.com", office, fetched(func(f *proofs) { f.revoke("alice") }), "550 5.7.1 " + strings.Replace(first, "alice", "nobody", 1), ""},
		{"another's address where one expired", "bob@example.com", office, sleep(guard.GrantWindow), "550 5.7.1 " + strings.Replace(first, "alice", "bob", 1), ""},
		{"suspended, never", "carol@example.com", office, func(*proofs) {}, "550 5.7.1 " + strings.Replace(first, "alice", "carol", 1), ""},
		{"elsewhere", alice, elsewhere, fetched(func(*proofs) {}), "550 5.7.1 " + strings.Replace(first, office, elsewhere, 1), ""},
		{"expired now", alice, office, sleep(guard.GrantWindow), "450 4.7.1 " + first, ""},
		{"expired, last moment", alice, office, sleep(guard.GrantWindow + store.GrantMemory - 1), "450 4.7.1 " + first, ""},
		{"expired too long ago", alice, office, sleep(guard.GrantWindow + store.GrantMemory), "550 5.7.1 " + first, ""},
		{"expired, by an alias", "sales@example.com", office, sleep(guard.GrantWindow), "450 4.7.1 " + strings.Replace(first, "alice", "sales", 1), ""},
		{"expired, by an alias of several", "team@example.com", office, sleep(guard.GrantWindow), "550 5.7.1 " + strings.Replace(first, "alice", "team", 1), ""},
		{"revoked", alice, office, fetched(func(f *proofs) { f.revoke("alice") }), "550 5.7.1 " + again, ""},
		{"revoked and expired", alice, office, fetched(func(f *proofs) { f.revoke("alice"); time.Sleep(guard.GrantWindow) }), "550 5.7.1 " + again, ""},
		{"password changed", alice, office, fetched(func(f *proofs) {
			f.update("alice", func(a *store.Account) { a.Verifier = "$argon2id$new" })
		}), "550 5.7.1 " + again, ""},
		{"suspended", alice, office, fetched(func(f *proofs) {
			f.update("alice", func(a *store.Account) { a.Suspended = true })
		}), "550 5.7.1 " + again, ""},
		{"shared by configuration", alice, office, fetched(func(f *proofs) {
			f.settings(func(s *store.Settings) { s.NoGrantNetworks = []netip.Prefix{netip.MustParsePrefix(office + "/32")} })
		}), "550 5.7.1 " + shared, ""},
		{"nobody's address, shared", "nobody@example.com", office, func(f *proofs) {
			f.settings(func(s *store.Settings) { s.NoGrantNetworks = []netip.Prefix{netip.MustParsePrefix(office + "/32")} })
		}, "550 5.7.1 " + shared, ""},
		{"carrier's NAT", alice, "100.64.0.1", func(f *proofs) { f.fetch("alice", "100.64.0.1") }, "550 5.7.1 " + strings.Replace(shared, office, "100.64.0.1", 1), ""},
		{"other family", alice, office, func(f *proofs) { f.fetch("alice", "2001:db8::7") }, "550 5.7.1 " + family, ""},
		{"other family, the other way", alice, "2001:db8::7", fetched(func(*proofs) {}), "550 5.7.1 " + strings.NewReplacer(office, "2001:db8::7", "IPv4", "IPv6", "IPv6", "IPv4").Replace(family), ""},
		{"other family, expired", alice, office, func(f *proofs) {
			f.fetch("alice", "2001:db8::7")
			time.Sleep(guard.GrantWindow)
		}, "550 5.7.1 " + first, ""},
		{"expired, then the other family", alice, office, fetched(func(f *proofs) {
			time.Sleep(guard.GrantWindow)
			f.fetch("alice", "2001:db8::7")
		}), "450 4.7.1 " + family, ""},
		{"switched off", alice, office, fetched(func(f *proofs) {
			f.settings(func(s *store.Settings) { s.POPBeforeSMTP = false })
		}), "550 5.7.1 " + login, need},
		{"outgoing mail off", alice, office, fetched(func(f *proofs) {
			f.settings(func(s *store.Settings) { s.OutgoingMail = false })
		}), "550 5.7.1 " + login, need},
		{"trusted, an address that does not exist", "nobody@example.com", printer, func(f *proofs) { f.settings(trust) },
			`550 5.7.1 Relaying denied for 198.51.100.9: send as an address that exists in this domain, or turn on "My server requires authentication"`, ""},
		{"trusted, authentication required", alice, printer, func(f *proofs) {
			f.settings(func(s *store.Settings) { trust(s); s.RequireAuth = true })
		}, "550 5.7.1 " + strings.Replace(first, office, printer, 1), ""},
		{"trusted, another network", alice, office, func(f *proofs) { f.settings(trust) }, "550 5.7.1 " + first, ""},
		{"trusted until", alice, printer, func(f *proofs) {
			f.settings(func(s *store.Settings) { trust(s); s.RequireAuthAt = time.Now().Add(time.Hour) })
			time.Sleep(time.Hour)
		}, "550 5.7.1 " + strings.Replace(first, office, printer, 1), ""},
		{"not ours", "x@remote.example", office, fetched(func(*proofs) {}), "250 ", need},
		{"null", "", office, fetched(func(*proofs) {}), "250 ", need},
	}
}

// Refusals say what to do, in one line, and the help URL behind it. What they tell of a mailbox they tell only to an address from which
// it had logged in, but for the family of addresses. Only what grew old may be tried again.
func TestRefusalsSayWhatToDo(t *testing.T) {
	const help = "https://help.example.com/mail"
	for _, door := range []Door{MX, Submission} {
		for _, tt := range refusedCases() {
			t.Run(string(door)+" "+tt.name, func(t *testing.T) {
				onProofs(t, door, func(t *testing.T, f *proofs) {
					tt.prepare(f)
					want := tt.want
					if door == Submission && tt.submission != "" {
						want = tt.submission
					}
					c := f.from(tt.remote)
					mail := "MAIL FROM:<" + tt.from + ">"
					if got := c.ask(mail, want); want != "250 " && got != want {
						t.Errorf("got %q, want %q", got, want)
					}
					f.settings(func(s *store.Settings) { s.HelpURL = help })
					c.ask("RSET", "250 ")
					if got := c.ask(mail, want); want != "250 " && got != want+" - see "+help {
						t.Errorf("with help: got %q", got)
					}
				})
			})
		}
	}
}

// Where strangers share an address no login opens it, and what was opened before is closed.
func TestCrowdedAddress(t *testing.T) {
	onProofs(t, MX, func(_ *testing.T, f *proofs) {
		f.fetch("alice", office)
		for i := range 100 {
			f.grants.LoggedIn(context.Background(), guard.Place{Remote: netip.MustParseAddr(office)}, store.AccountID(1000+i), "x", 1, 0)
		}
		f.from(office).ask("MAIL FROM:<bob@example.com>", "550 5.7.1 "+shared)
	})
}

// RCPT of somebody who has not proved anything names AUTH, for a reverse-path that could not get a grant.
func TestRelayDeniedAtRcpt(t *testing.T) {
	onProofs(t, MX, func(t *testing.T, f *proofs) {
		f.settings(func(s *store.Settings) { s.HelpURL = "https://h.example/" })
		f.fetch("alice", office)
		c := f.from(office)
		c.ask("MAIL FROM:<x@remote.example>", "250 ")
		want := `550 5.7.1 Relaying denied for 203.0.113.7: turn on "My server requires authentication" in your mail program, with the user name and password of your incoming mail - see https://h.example/`
		if got := c.ask("RCPT TO:<"+away+">", "550"); got != want {
			t.Errorf("got %q", got)
		}
		// And mail for the domain's own is taken from there as from anywhere.
		c.ask("RCPT TO:<bob@example.com>", "250 ")
	})
}

// A trusted sender is asked again at RCPT and before the commit, under the settings of that moment.
func TestTrustedIsAskedAgain(t *testing.T) {
	set := func(change func(s *store.Settings)) func(f *proofs) { return func(f *proofs) { f.settings(change) } }
	for _, ch := range []change{
		{"nothing", func(*proofs) {}, "250 ", "250 "},
		{"authentication required", set(func(s *store.Settings) { s.RequireAuth = true }), "550 5.7.1", "550 5.7.1"},
		{"network not named", set(func(s *store.Settings) { s.TrustedNetworks = nil }), "550 5.7.1", "550 5.7.1"},
		{"another network named", set(func(s *store.Settings) {
			s.TrustedNetworks = []netip.Prefix{netip.MustParsePrefix("198.51.0.0/16")}
		}), "550 5.7.1", "550 5.7.1"},
		{"outgoing mail off", set(func(s *store.Settings) { s.OutgoingMail = false }), "550 5.7.1", "550 5.7.1"},
		{"time is up", func(f *proofs) {
			f.settings(func(s *store.Settings) { s.RequireAuthAt = time.Now().Add(time.Minute) })
			time.Sleep(time.Minute)
		}, "550 5.7.1", "550 5.7.1"},
		{"suspended", func(f *proofs) { f.update("alice", func(a *store.Account) { a.Suspended = true }) }, "550 5.7.1", "550 5.7.1"},
	} {
		for _, door := range []Door{MX, Submission} {
			t.Run(string(door)+" "+ch.name, func(t *testing.T) {
				onProofs(t, door, func(t *testing.T, f *proofs) {
					f.settings(trust)
					ch.play(t, f, printer, "alice@example.com")
				})
			})
		}
	}
}

// Owners of mailboxes may mistype as often as they like, however they prove themselves; who is only near one may not.
func TestHarvestByProof(t *testing.T) {
	onProofs(t, MX, func(_ *testing.T, f *proofs) {
		f.settings(trust)
		f.fetch("alice", office)
		c := f.from(office)
		c.ask("MAIL FROM:<alice@example.com>", "250 ")
		for range 2 * defaultLimits().UnknownMax {
			c.ask("RCPT TO:<nobody@example.com>", "550 5.1.1")
		}
		for range 2 * defaultLimits().RelayTries {
			c.ask("RCPT TO:<x%y@remote.example>", "550 5.1.2")
		}
		c = f.from(printer)
		c.ask("MAIL FROM:<alice@example.com>", "250 ")
		for range defaultLimits().UnknownMax - 1 {
			c.ask("RCPT TO:<nobody@example.com>", "550 5.1.1")
		}
		c.ask("RCPT TO:<nobody@example.com>", "421 4.7.0")
	})
}

// What a door is not given, it does not have: no grants, no trusted networks, and nobody's mail leaves without a count.
func TestDoorWithoutGuard(t *testing.T) {
	for name, without := range map[string]func(*Options){
		"grants":       func(o *Options) { o.Grants = nil },
		"hosts":        func(o *Options) { o.Hosts = nil },
		"sending":      func(o *Options) { o.Sending = nil },
		"all of these": func(o *Options) { o.Grants, o.Hosts, o.Sending = nil, nil, nil },
	} {
		for _, door := range []Door{MX, Submission} {
			t.Run(string(door)+" "+name, func(t *testing.T) {
				onProofs(t, door, func(t *testing.T, f *proofs) {
					f.settings(trust)
					f.fetch("alice", office)
					sends := func(c *client) bool {
						c.send("MAIL FROM:<alice@example.com>\r\n")
						if !strings.HasPrefix(c.reply(), "250 ") {
							return false
						}
						c.send("RCPT TO:<" + away + ">\r\n")
						return strings.HasPrefix(c.reply(), "250 ")
					}
					auth := f.from(elsewhere)
					auth.login("alice")
					if got, want := sends(auth), f.opts.Sending != nil; got != want {
						t.Errorf("authenticated sends: %v", got)
					}
					if got, want := sends(f.from(office)), f.opts.Sending != nil && f.opts.Grants != nil; got != want {
						t.Errorf("granted sends: %v", got)
					}
					if got, want := sends(f.from(printer)), f.opts.Sending != nil && f.opts.Hosts != nil; got != want {
						t.Errorf("trusted sends: %v", got)
					}
				}, without)
			})
		}
	}
}
