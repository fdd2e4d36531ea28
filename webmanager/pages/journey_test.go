package pages

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"latchkey/auth"
	"latchkey/internal/refusal"
	"latchkey/store"
	"latchkey/webmanager"
)

// TestMailboxJourney: the owner of a mailbox signs in with the name of the mailbox or its address, and looks after it.
func TestMailboxJourney(t *testing.T) {
	s := newSite(t, nil)
	b := s.browser()
	b.get("/").follow().shows(200, "Sign in", "It is the password that your mail program uses.")
	b.login(" ANNA@example.com ", "password of anna").follow().follow().shows(200, "anna@example.com", "My mailbox", "Passwords for devices")
	p := b.get("/mailbox/anna")
	for _, hidden := range []string{"Remove it for good", "Suspend", "Aliases", "Who may send"} {
		if strings.Contains(p.text(), hidden) {
			t.Errorf("the page of a mailbox owner has %q", hidden)
		}
	}
	p.submit("/mailbox/anna/change", map[string]string{"display_name": "Anna A."}).follow().shows(200, "anna@example.com was changed.")
	p.submit("/mailbox/anna/forward", map[string]string{"forward": "anna@other.example\nbad"}).shows(422, "number 2 is not an address")
	p.submit("/mailbox/anna/forward", map[string]string{"forward": "anna@other.example"}).follow().
		shows(200, "Mail is sent on to anna@other.example. A copy stays here.")
	if a := s.account("anna"); a.DisplayName != "Anna A." || len(a.Forward.To) != 1 || !a.Forward.Keep {
		t.Errorf("got %+v", a)
	}
	made := b.get("/mailbox/anna").submit("/mailbox/anna/devices/add", map[string]string{"device_name": "Scanner", "networks": "192.0.2.0/24"}).
		shows(200, "The password of the device Scanner:", "It is shown this once.")
	secret := ""
	for _, n := range all(made.root, "code") {
		if class, _ := attribute(n, "class"); class == "secret" {
			secret = n.FirstChild.Data
		}
	}
	at := auth.Attempt{Service: "smtp", Mechanism: "PLAIN", Remote: netip.MustParseAddr("192.0.2.7"), TLS: true}
	if id, err := s.server.o.Login.Login(t.Context(), at, "anna", secret); err != nil || id.DeviceName != "Scanner" {
		t.Errorf("the password %q: %+v, %v", secret, id, err)
	}
	if again := b.get("/mailbox/anna"); strings.Contains(again.body, secret) {
		t.Error("the password is shown twice")
	}
	b.get("/mailbox/anna").submit("/mailbox/anna/devices/revoke", nil).follow().shows(200, "The password of the device was revoked.")
	for _, path := range []string{"/mailboxes", "/mailbox/bert", "/aliases", "/sending", "/sending/all", "/grants?mailbox=bert", "/audit", "/mailboxes?find=bert"} {
		b.get(path).shows(403, "Not for you")
	}
	b.post("/logout", nil)
	b.get("/mailbox/anna").follow().shows(200, "Sign in")
}

// TestPasswordJourney: whoever changes his password gives the present one, and every session that the old one opened ends, this one too.
func TestPasswordJourney(t *testing.T) {
	s := newSite(t, nil)
	b, other := s.in("anna"), s.in("anna")
	form := func(current, password, repeat string) *page {
		return b.get("/mailbox/anna").submit("/mailbox/anna/password", map[string]string{"current": current, "password": password, "repeat": repeat})
	}
	form("wrong", "a long password", "a long password").shows(422, "is not the present password")
	form("password of anna", "a long password", "another").shows(422, "is not the same as the one above")
	form("password of anna", "short", "short").shows(422, "has fewer than 8 characters")
	for _, p := range []*page{form("password of anna", "short", "short"), form("wrong", "a long password", "a long password")} {
		for _, secret := range []string{"password of anna", "a long password", `value="short"`} {
			if strings.Contains(p.body, secret) {
				t.Errorf("a page repeats %q", secret)
			}
		}
	}
	form("password of anna", "a long password", "a long password").shows(200, "The password was set.")
	for _, b := range []*browser{b, other} {
		b.get("/mailbox/anna").follow().shows(200, "Sign in")
	}
	s.browser().login("anna", "password of anna").shows(401, "That did not let you in")
	s.browser().login("anna", "a long password").follow()
}

// TestFactorJourney: codes of an authenticator are switched on with the password and a code, asked for after the password, counted, and switched off by
// the owner of the domain for whoever lost his telephone.
func TestFactorJourney(t *testing.T) {
	s := newSite(t, nil)
	b := s.in("anna")
	b.get("/mailbox/anna").submit("/mailbox/anna/factor", map[string]string{"totp_current": "wrong"}).shows(422, "is not the present password")
	shown := b.get("/mailbox/anna").submit("/mailbox/anna/factor", map[string]string{"totp_current": "password of anna"}).shows(200, "Type this into the authenticator:")
	secret := ""
	for _, n := range all(shown.root, "code") {
		if class, _ := attribute(n, "class"); class == "secret" {
			secret = n.FirstChild.Data
		}
	}
	if !strings.Contains(shown.body, "<svg xmlns") {
		t.Error("there is nothing to photograph")
	}
	again := shown.submit("/mailbox/anna/factor/start", map[string]string{"code": "000000"}).shows(422, "is not right", secret)
	again.submit("/mailbox/anna/factor/start", map[string]string{"code": s.code(secret)}).follow().shows(200, "From now on a code is needed.")

	b = s.browser()
	asked := b.login("anna", "password of anna").shows(200, "One more step")
	if len(b.cookies) > 0 {
		t.Errorf("half a login has a session: %v", b.cookies)
	}
	asked.submit("/login/code", map[string]string{"code": s.code(secret)}).shows(401, "was used already")
	s.later(time.Minute)
	asked.submit("/login/code", map[string]string{"code": s.code(secret)[:3] + " " + s.code(secret)[3:]}).follow().follow().shows(200, "My mailbox")
	if p := asked.submit("/login/code", map[string]string{"code": s.code(secret)}); p.status != 401 || !strings.Contains(p.text(), "Password") {
		t.Errorf("the same step twice: %d %s", p.status, p.text())
	}
	asked = s.browser().login("anna", "password of anna")
	s.later(halfTime)
	asked.submit("/login/code", map[string]string{"code": s.code(secret)}).shows(401, "That did not let you in")
	asked = s.browser().login("anna", "password of anna")
	for range halfTries {
		asked.submit("/login/code", map[string]string{"code": "x"}).shows(401, "That is not right")
	}
	asked.submit("/login/code", map[string]string{"code": s.code(secret)}).shows(401, "That did not let you in")
	s.browser().post("/login/code", map[string][]string{"half": {""}, "code": {s.code(secret)}}).shows(401, "That did not let you in")

	s.in("olga").get("/mailbox/anna").submit("/mailbox/anna/factor/end", nil).follow().shows(200, "No code is needed any more.")
	s.in("anna")
}

// code is what an authenticator shows now.
func (s *site) code(secret string) string {
	s.Helper()
	key, err := base32.StdEncoding.DecodeString(secret)
	if err != nil {
		s.Fatal(err)
	}
	mac := hmac.New(sha1.New, key)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(s.clock().Unix()/30)))
	sum := mac.Sum(nil)
	at := sum[19] & 15
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:])&0x7fffffff%1_000_000)
}

// TestOwnerJourney: the owner of the domain adds, changes, suspends and removes mailboxes.
func TestOwnerJourney(t *testing.T) {
	s := newSite(t, nil)
	b := s.in("olga")
	b.get("/").shows(200, "Overview", "Mail in and out")
	b.get("/mailboxes").shows(200, "Mailboxes", "anna@example.com", "manages the domain")
	add := b.get("/mailboxes/add")
	add.submit("/mailboxes/add", map[string]string{"name": "anna", "password": "12345678"}).shows(409, "is taken")
	add.submit("/mailboxes/add", map[string]string{"name": "a b", "password": "1"}).shows(422, "is not a mailbox name", "has fewer than 8 characters")
	add.submit("/mailboxes/add", map[string]string{"name": "Carl", "display_name": "Carl C.", "password": "12345678"}).follow().shows(200, "carl@example.com is there.")
	carl := b.get("/mailbox/carl")
	carl.submit("/mailbox/carl/change", map[string]string{
		"quota_mb": "1.5", "quota_messages": "7", "send_as": "sales@example.com", "old_client_login": "on", "display_name": "C",
	}).follow().shows(200, "was changed")
	a := s.account("carl")
	if a.Quota != (store.Quota{Octets: 3 << 19, Messages: 7}) || len(a.SendAs) != 1 || !a.OldClientLogin || a.DisplayName != "C" {
		t.Errorf("got %+v", a)
	}
	b.get("/mailbox/carl").submit("/mailbox/carl/change", nil).follow()
	if same := s.account("carl"); same.Quota != a.Quota || !same.OldClientLogin || len(same.SendAs) != 1 {
		t.Errorf("a form that was sent as it came changed %+v", same)
	}
	b.get("/mailbox/carl").submit("/mailbox/carl/change", map[string]string{"quota_mb": "much", "quota_messages": "1.5"}).shows(422, "is a number, or empty")
	b.get("/mailbox/carl").submit("/mailbox/carl/suspend", nil).follow().shows(200, "carl@example.com is suspended.", "Open it again")
	b.get("/mailbox/carl").submit("/mailbox/carl/suspend", nil).follow().shows(200, "is open again")
	b.get("/mailbox/carl").submit("/mailbox/carl/password", map[string]string{"password": "87654321", "repeat": "87654321"}).follow().shows(200, "The password was set.")
	b.get("/mailbox/carl").submit("/mailbox/carl/remove", map[string]string{"confirm": "carl"}).shows(428, "To confirm, type carl@example.com")
	b.get("/mailbox/carl").submit("/mailbox/carl/remove", map[string]string{"confirm": " carl@EXAMPLE.com"}).follow().shows(200, "carl@example.com and its mail are gone.")
	b.get("/mailbox/carl").shows(404, "There is no mailbox carl@example.com")
	b.get("/mailboxes").submit("/mailboxes", map[string]string{"find": "Bert@example.com"}).follow().shows(200, "bert@example.com")
	b.get("/audit").shows(200, "olga, from 127.0.0.1", "account.remove", "account.suspend", "false → true")

	b.get("/aliases").submit("/aliases", map[string]string{"name": "info", "targets": "anna, bert\nx@other.example"}).follow().
		shows(200, "info@example.com leads to anna, bert, x@other.example.")
	b.get("/aliases").submit("/aliases", map[string]string{"name": "anna", "targets": "bert"}).shows(409, "is taken by a mailbox")
	b.get("/aliases").submit("/aliases", map[string]string{"name": "x", "targets": "nobody"}).shows(422, "there is no mailbox nobody")
	b.get("/aliases").submit("/aliases/remove", nil).follow().shows(200, "The alias info was removed.")
}

// TestSendingJourney is the journey of the notice: Authenticated SMTP is switched off for a network, after a look at what that does, with the name
// of the domain, and is on again by itself.
func TestSendingJourney(t *testing.T) {
	s := newSite(t, nil)
	b := s.in("olga")
	form := b.get("/sending").shows(200, "Authenticated SMTP is on")
	off := map[string]string{"require_auth": "off", "trusted_networks": "192.0.2.0/24", "off": "1h"}
	preview := form.submit("/sending", off).shows(200, "What this would do", "Whoever is in 192.0.2.0/24 can send to other domains without AUTH",
		"asked for again by itself", "type the name of the domain: example.com")
	if settings := s.settings(); !settings.RequireAuth {
		t.Fatal("a preview changed the settings")
	}
	preview.submit("/sending/apply", map[string]string{"confirm": "example.net"}).
		shows(428, "What was typed to confirm is not the name of the domain", "Whoever is in 192.0.2.0/24").
		submit("/sending/apply", map[string]string{"confirm": "Example.com"}).follow().
		shows(200, "The settings were changed.", "Authenticated SMTP is off", "It is on again by itself: 2026-04-01 13:00 UTC")
	if settings := s.settings(); settings.RequireAuth || !settings.RequireAuthAt.Equal(noon.Add(time.Hour)) || len(settings.TrustedNetworks) != 1 {
		t.Errorf("got %+v", settings)
	}
	b.get("/sending").submit("/sending", nil).follow().shows(200, "That is how it is already")
	s.later(time.Hour)
	b = s.in("olga")
	b.get("/sending").shows(200, "Authenticated SMTP is on")
	b.get("/sending").submit("/sending", map[string]string{"trusted_networks": "192.0.0.0/8"}).shows(422, "trusted_networks")
	b.get("/sending").submit("/sending", map[string]string{"outgoing_mail": ""}).
		submit("/sending/apply", nil).follow().shows(200, "Outgoing mail is off")
	stale := b.get("/sending").submit("/sending", map[string]string{"pop_before_smtp": ""})
	s.do("PATCH", webmanager.Path("settings"), map[string]any{"recipients": 200}, nil)
	stale.submit("/sending/apply", nil).shows(409, "changed by somebody else meanwhile")
}

func (s *site) settings() store.Settings {
	s.Helper()
	settings, err := s.store.Settings(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	return settings
}

// TestAllSettingsJourney: the page of all settings sends back what is changed only, and has nothing of the operator's for the owner of the domain.
func TestAllSettingsJourney(t *testing.T) {
	s := newSite(t, nil)
	b := s.in("olga")
	p := b.get("/sending/all").shows(200, "hold_jumps")
	p.submit("/sending/all", nil).follow().shows(200, "That is how it is already")
	p.submit("/sending/all", map[string]string{"daily_recipients": "many"}).shows(422, "daily_recipients is a whole number")
	p.submit("/sending/all", map[string]string{"daily_recipients": "10", "no_grant_networks": "192.0.2.0/24\n198.51.100.0/24", "auth_on_mx": ""}).
		shows(200, "A mailbox can name 10 recipients at other domains a day", "cannot log in there any more").
		submit("/sending/apply", nil).follow().shows(200, "The settings were changed.")
	if settings := s.settings(); settings.DailyRecipients != 10 || len(settings.NoGrantNetworks) != 2 || settings.AuthOnMX {
		t.Errorf("got %+v", settings)
	}
	if strings.Contains(p.text(), "domain_octets") {
		t.Error("the owner of the domain is offered the operator's settings")
	}
	operator := s.operator()
	operator.get("/sending/all").shows(200, "domain_octets").submit("/sending/all", map[string]string{"domain_octets": "1000"}).submit("/sending/apply", nil).follow()
	if s.settings().DomainOctets != 1000 {
		t.Error("the operator's setting was not set")
	}
	operator.get("/audit").shows(200, "operator, by a link of tester")
}

// TestGrantsAndHoldsJourney: grants are revoked, and what is on hold goes its way or the mailbox is taken back.
func TestGrantsAndHoldsJourney(t *testing.T) {
	s := newSite(t, nil)
	b := s.in("olga")
	b.get("/grants").shows(200, "Nobody, just now.")
	for _, name := range []string{"anna", "bert"} {
		a := s.account(name)
		if _, err := s.store.OpenGrant(t.Context(), noon, store.GrantRequest{
			Account: a.ID, Network: netip.MustParsePrefix("192.0.2.1/32"), CredentialVersion: a.CredentialVersion, Window: 20 * time.Minute, Longest: time.Hour,
			Recipients: 50, MostLive: 5,
		}); err != nil {
			t.Fatal(err)
		}
		if err := s.store.NoteHabits(t.Context(), []store.Habit{{Account: a.ID, Kind: store.HabitHeld, Name: "192.0.2.0/24", Text: "25 new recipients", First: noon, Last: noon}}); err != nil {
			t.Fatal(err)
		}
	}
	b.get("/grants").shows(200, "anna@example.com", "bert@example.com", "192.0.2.1/32", "50/50").submit("/grants/revoke", nil).follow().shows(200, "1 ended.")
	s.in("bert").get("/mailbox/bert").shows(200, "may send from 192.0.2.1/32", "25 new recipients").submit("/grants/revoke", nil).follow().shows(200, "1 ended.")
	b.get("/grants").shows(200, "Nobody, just now.")
	b.get("/holds").shows(200, "anna@example.com", "bert@example.com", "25 new recipients").submit("/mailbox/anna/release", nil).follow().shows(200, "It goes its way now")
	if p := b.get("/holds"); strings.Contains(p.text(), "anna@example.com") {
		t.Errorf("anna is on hold still: %s", p.text())
	}
	b.get("/mailbox/bert").submit("/mailbox/bert/purge", map[string]string{"password": "a new password"}).follow().shows(200, "The mailbox is yours again")
	s.browser().login("bert", "password of bert").shows(401)
	s.browser().login("bert", "a new password").follow()
	b.get("/holds").shows(200, "Nothing is on hold.")
}

// TestExplainJourney: what a code means is told to anybody, when it happened to those whom it concerns.
func TestExplainJourney(t *testing.T) {
	s := newSite(t, nil)
	s.note("anna@example.com", "the facts of anna")
	stranger := s.browser()
	code := stranger.get("/explain").submit("/explain", map[string]string{"code": " auth-banned "}).follow().shows(200, "Why", "What to do", "Sign in to see")
	if strings.Contains(code.text(), "the facts of anna") {
		t.Error("a stranger is told facts")
	}
	stranger.get("/explain/L-000").shows(404, "There is no refusal of that code")
	s.in("anna").get("/explain/auth-banned").shows(200, "the facts of anna")
	s.in("olga").get("/explain/auth-banned").shows(200, "the facts of anna")
	if p := s.in("bert").get("/explain/auth-banned"); strings.Contains(p.text(), "the facts of anna") {
		t.Error("a neighbour is told facts")
	}
}

// TestExplainInGerman: what a refusal means is told in German to who reads that, where it is translated.
func TestExplainInGerman(t *testing.T) {
	s := newSite(t, func(o *Options) {
		o.InGerman = func(name refusal.Name) (cause, cure string, ok bool) {
			return "Die Ursache", "Die Abhilfe", name == refusal.AuthBanned
		}
	})
	b := s.browser()
	b.get("/explain/auth-banned").shows(200, "Too many different wrong passwords")
	b.header.Set("Accept-Language", "de")
	b.get("/explain/auth-banned").shows(200, "Die Ursache.", "Die Abhilfe.")
	b.get("/explain/auth-busy").shows(200, refusal.Of(refusal.AuthBusy).Cause)
}

// TestPasswordsOfTwoForms: what is wrong with a password stands beside the field in which it was typed, and at no other.
func TestPasswordsOfTwoForms(t *testing.T) {
	b := newSite(t, nil).in("olga")
	for _, form := range []string{"password", "purge"} {
		p := b.post("/mailbox/bert/"+form, url.Values{"password": {"short"}, "repeat": {"short"}}).shows(422, "has fewer than 8 characters")
		var wrong []string
		for _, n := range all(p.root, "input") {
			if _, invalid := attribute(n, "aria-invalid"); invalid {
				id, _ := attribute(n, "id")
				wrong = append(wrong, id)
			}
		}
		if want := map[string]string{"password": "password", "purge": "purge-password"}[form]; len(wrong) != 1 || wrong[0] != want {
			t.Errorf("sent to %s: %q are wrong", form, wrong)
		}
	}
}

// TestTrailJourney: a message is found, its steps are told in plain words, and a proof of its delivery is shared with a stranger.
func TestTrailJourney(t *testing.T) {
	s := newSite(t, nil)
	id := s.send("anna", "<1@example.com>", "bert@example.com", "carl@other.example")
	b := s.in("anna")
	p := b.get("/trail").submit("/trail", map[string]string{"for": "bert"}).
		shows(200, "From anna@example.com to bert@example.com, carl@other.example", "This server took it from anna@example.com", "at the address 192.0.2.9",
			"It was put into the mailbox of bert@example.com", "It waits to be sent to carl@other.example", "Number "+id)
	p.submit("/trail", map[string]string{"for": "nobody@other.example"}).shows(200, "No such message")
	p.submit("/trail", map[string]string{"from": "a b"}).shows(422, "is an address or the name of a mailbox")
	made := p.submit("/trail/proof", nil).shows(200, "A proof of delivery", "was delivered on")
	link := ""
	for _, n := range all(made.root, "a") {
		if to, _ := attribute(n, "href"); strings.Contains(to, "/proof?token=") {
			link = to
		}
	}
	stranger := s.browser()
	stranger.get(link).shows(200, "This proof is genuine", "to bert@example.com was delivered")
	stranger.get(link[:len(link)-6]).shows(422, "it was not signed with that key")
	stranger.get("/proof").submit("/proof", map[string]string{"token": "rubbish"}).shows(422, "not a proof")
	if p := s.in("postmaster").get("/trail?for=" + id); strings.Contains(p.text(), "This server took it") {
		t.Errorf("a neighbour sees the message: %s", p.text())
	}
	stranger.get("/trail?for="+id).follow().shows(http.StatusOK, "Sign in")
}
