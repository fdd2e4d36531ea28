package smtp

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"latchkey/guard"
	"latchkey/internal/dialog"
	"latchkey/store"
)

// directives are the comments at the head of a transcript that say how it is played: "# door: mx", "# cleartext: off", "# after: bob=1
// jobs=0", which is what the store must hold in the end, "# quota: bob=1000 domain=2000", in octets, "# challenges: on" for
// those of scripted, and "# proof: live help", which is what can stand in for AUTH: see prove.
func directives(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimPrefix(line, "# "), ": "); ok && strings.HasPrefix(line, "# ") {
			switch key {
			case "door", "cleartext", "after", "proof", "quota", "challenges":
				d[key] = strings.TrimSpace(value)
			}
		}
	}
	return d
}

// prove makes what the words say of alice's grant for the player's address, and of the settings.
func (f *fixture) prove(words string) {
	f.t.Helper()
	ctx, now := context.Background(), time.Now()
	grant := func(network string, at time.Time) store.GrantID {
		g, err := f.store.OpenGrant(ctx, at, store.GrantRequest{
			Account: f.ids["alice"], Network: netip.MustParsePrefix(network), CredentialVersion: f.version("alice"),
			Window: guard.GrantWindow, Longest: guard.GrantLongest, Recipients: 2, MostLive: 5,
		})
		f.must(err)
		return g.ID
	}
	for word := range strings.FieldsSeq(words) {
		switch word {
		case "none":
		case "live":
			grant("127.0.0.1/32", now)
		case "expired":
			grant("127.0.0.1/32", now.Add(-time.Hour))
		case "revoked":
			_, err := f.store.RevokeGrants(ctx, now, store.GrantRevoked, grant("127.0.0.1/32", now))
			f.must(err)
		case "spent":
			_, err := f.store.SpendGrant(ctx, now, grant("127.0.0.1/32", now), 2)
			f.must(err)
		case "family":
			grant("::1/128", now)
		case "shared":
			f.settings(func(s *store.Settings) { s.NoGrantNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
		case "trusted":
			f.settings(func(s *store.Settings) {
				s.RequireAuth, s.TrustedNetworks, s.TrustedRecipients = false, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/16")}, 2
			})
		case "few":
			f.settings(func(s *store.Settings) { s.DailyRecipients = 1 })
		case "off":
			f.settings(func(s *store.Settings) { s.POPBeforeSMTP = false })
		case "help":
			f.settings(func(s *store.Settings) { s.HelpURL = "https://help.example.com/" })
		default:
			f.t.Fatalf("proof %q", word)
		}
	}
}

// TestTranscripts plays every dialogue of testdata, once as written and once octet by octet.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	for _, file := range files {
		d := directives(t, file)
		for _, split := range []int{0, 1} {
			t.Run(filepath.Base(file)+" "+strconv.Itoa(split), func(t *testing.T) {
				door := Door(d["door"])
				implicit, old := door == "implicit", door == "old"
				if implicit || old {
					door = Submission
				}
				if door != MX && door != Submission {
					t.Fatalf("door %q", door)
				}
				f := newFixture(t, door, func(o *Options) {
					o.ImplicitTLS = implicit
					if d["proof"] != "" {
						provide(o)
						o.Loopback = true
					}
				})
				if old {
					f.opts.OldClients = &onlyFor{account: f.ids["alice"]}
				}
				if d["challenges"] != "" {
					f.opts.Challenges = &scripted{f.auth}
				}
				f.prove(d["proof"])
				f.quotas(d["quota"])
				f.auth.cleartext = d["cleartext"] != "off"
				f.serve()
				conn, err := net.Dial("tcp", f.addr)
				f.must(err)
				dialog.Player{Protocol: dialog.SMTP, Split: split, Vars: map[string]string{
					"alice": plain("alice", "alice-pw"), "carol": plain("carol", "carol-pw"), "wrong": plain("alice", "wrong"), "bob": plain("bob", "bob-pw"),
					"cramwrong": b64(cramAnswer("bob")[:len(cramAnswer("bob"))-1] + "0"),
				}}.Run(t, conn, file)
				for want := range strings.FieldsSeq(d["after"]) {
					name, n, _ := strings.Cut(want, "=")
					got := 0
					if name == "jobs" {
						got = len(f.jobs())
					} else {
						got = len(f.mail(name))
					}
					if strconv.Itoa(got) != n {
						t.Errorf("after the dialogue: %s has %d, want %s", name, got, n)
					}
				}
			})
		}
	}
}
