package pages

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"latchkey/guard"
	"latchkey/webmanager"
)

// classed are the texts of the elements of a class.
func (p *page) classed(name, class string) (list []string) {
	for _, n := range all(p.root, name) {
		if c, _ := attribute(n, "class"); slices.Contains(strings.Fields(c), class) {
			text := ""
			for d := range n.Descendants() {
				if d.Type == html.TextNode {
					text += d.Data
				}
			}
			list = append(list, text)
		}
	}
	return list
}

// TestBansJourney: bans are listed, found, made and lifted.
func TestBansJourney(t *testing.T) {
	s := newSite(t, nil)
	b := s.in("olga")
	b.get("/bans").shows(200, "Nobody is banned.")
	add := func(network, mailbox, length string) *page {
		t.Helper()
		return b.get("/bans").submitNth("/bans", 1, map[string]string{"network": network, "mailbox": mailbox, "for": length, "reason": "stolen phone"})
	}
	add("nonsense", "", "").shows(422, "is an address or a network")
	add("192.0.2.7", "nobody", "").shows(404, "There is no mailbox nobody@example.com")
	add("192.0.2.7", "", "soon").shows(422, "is a time such as")
	add("10.0.0.0/8", "", "").shows(422, "at most a /16 wide")
	add("192.0.2.0/24", "Anna", "2d").follow().shows(200, "192.0.2.0/24 is banned.", "stolen phone, by olga", "2026-04-03 12:00 UTC", "anna")
	add("198.51.100.7", "", "").follow().shows(200, "198.51.100.7/32 is banned.", "every mailbox", "2026-04-02 12:00 UTC")
	if p := b.get("/bans?find=ANNA"); !strings.Contains(p.text(), "192.0.2.0/24") || strings.Contains(p.text(), "198.51.100.7/32") {
		t.Errorf("those of anna: %s", p.text())
	}
	b.get("/bans?find=192.0.2").submit("/bans/lift", nil).follow().shows(200, "Bans lifted: 1.", "198.51.100.7/32")
	b.get("/bans").submit("/bans/lift", nil).follow().shows(200, "Nobody is banned.")
	b.get("/audit").shows(200, "ban.add", "ban.lift")
	for i := range guard.MaxBanRules {
		s.do("POST", webmanager.Path("bans"), webmanager.NewBan{Network: fmt.Sprintf("198.51.100.%d", i)}, nil)
	}
	b.get("/bans").submitNth("/bans", 1, map[string]string{"network": "203.0.113.1"}).shows(409, "as many bans by hand as there may be")
	for i := range guard.DefaultLoginLimits().Pair.N {
		s.logins.Failed(noon, netip.MustParseAddr("203.0.113.9"), "anna", 1, fmt.Sprint(i))
	}
	if p := b.get("/bans").shows(200, "200 of 201 are shown."); len(all(p.root, "tr")) != maxBansShown+1 {
		t.Errorf("%d lines", len(all(p.root, "tr")))
	}
	b.get("/bans?find=203.0").shows(200, "wrong passwords")
}

// TestSuppressionsJourney: addresses elsewhere are suppressed, and taken again.
func TestSuppressionsJourney(t *testing.T) {
	s := newSite(t, nil)
	b := s.in("olga")
	add := func(address, days string) *page {
		t.Helper()
		return b.get("/suppressions").submit("/suppressions", map[string]string{"address": address, "days": days, "reason": "asked for it"})
	}
	add("nonsense", "").shows(422, "is not a mail address")
	add("", "").shows(422, "is needed")
	add("..", "").shows(404)
	add("anna@example.com", "").shows(422, "is of this domain")
	for _, days := range []string{"0", "-1", "many", "3651"} {
		add("x@other.example", days).shows(422, "is 1 to 3650")
	}
	add(" x@other.example ", "1").follow().shows(200, "No mail is sent to x@other.example.", "asked for it", "by hand", "2026-04-02 12:00 UTC")
	b.get("/suppressions").submit("/suppressions/remove", nil).follow().shows(200, "Mail to x@other.example is taken again.", "None.")
	b.post("/suppressions/remove", url.Values{"address": {"x@other.example"}}).shows(404, "is not suppressed")
	for i := range pageSize + 1 {
		s.do("PUT", webmanager.Path("suppressions", fmt.Sprintf("r%03d@other.example", i)), webmanager.NewSuppression{}, nil)
	}
	b.get("/suppressions").shows(200, "r049@other.example", "Next page")
	b.get("/suppressions?after=r049@other.example").shows(200, "r050@other.example", "To the beginning")
}

// TestDNSJourney: the records are shown to be copied, compared line by line, and a key goes its way from the first record to its end.
func TestDNSJourney(t *testing.T) {
	s := newSite(t, nil)
	b := s.in("olga")
	b.get("/dns").shows(200, "10 mx.example.com.", "There is none, and mail leaves unsigned.").submit("/dns/keys", map[string]string{"rsa": "", "ed25519": ""}).
		follow().shows(200, "Keys made: 2.") // none ticked means both
	p := b.get("/dns")
	values, long := p.classed("code", "copy"), 0
	for _, v := range values {
		if strings.HasPrefix(v, "v=DKIM1") {
			long = max(long, len(v))
		}
	}
	if long < 300 || !slices.Contains(values, "10 mx.example.com.") {
		t.Errorf("the values to copy are %q", values)
	}
	if zone := strings.Join(p.classed("pre", "copy"), ""); !strings.Contains(zone, `" "`) {
		t.Errorf("a long record is in one string: %s", zone)
	}
	p.shows(200, "Publish its record; it signs once the record is seen.", "waits")
	step := func(selector, step string) *page {
		t.Helper()
		return b.post("/dns/keys/step", url.Values{"selector": {selector}, "step": {step}})
	}
	var keys webmanager.DKIMKeys
	s.do("GET", webmanager.Path("dkim"), nil, &keys)
	one, two := keys.Keys[0], keys.Keys[1]
	b.post("/dns/check", nil).shows(200, "The DNS compared", "to be mended", "Should be: 10 mx.example.com.", "Is: –", "What to do: Publish:")
	for _, k := range keys.Keys {
		s.dns[k.Name+" TXT"] = []string{k.Record}
	}
	s.dns["example.com MX"] = []string{"20 old.example.net."}
	b.post("/dns/check", nil).shows(200, "Is: 20 old.example.net.", "as it should be")
	step(one.Selector, "retire").shows(409, "The key is in another state")
	step(one.Selector, "burn").shows(422)
	step("nothing", "remove").shows(404, "There is no key of that selector")
	b.get("/dns").submit("/dns/keys/look", nil).follow().shows(200, "The records were looked for.", "In use; keep its record published.", "signs")
	step(one.Selector, "retire").follow().shows(200, one.Selector+" signs no more.", "keep its record published until")
	step(two.Selector, "retire").shows(409, "Mail would leave unsigned", "Do it all the same").submit("/dns/keys/step", nil).follow().
		shows(200, two.Selector+" signs no more.")
	step(one.Selector, "remove").shows(409, "Do it all the same").submit("/dns/keys/step", nil).follow().shows(200, one.Selector+" was removed.")
	b.get("/dns").submit("/dns/keys", map[string]string{"rsa": ""}).follow().shows(200, "Keys made: 1.")
	b.get("/dns").submit("/dns/keys", map[string]string{"rsa": ""}).shows(409, "A new key waits already")
	b.get("/audit").shows(200, "dkim.add", "dkim.retire", "dkim.remove", two.Selector)
}

// TestTokensJourney: a token is made by the operator, shown once, does what it may, and is revoked.
func TestTokensJourney(t *testing.T) {
	s := newSite(t, nil)
	b := s.operator()
	add := func(fields map[string]string) *page {
		return b.get("/tokens").shows(200, "Tokens").submit("/tokens", fields)
	}
	add(map[string]string{"name": ""}).shows(422, "has 1 to 100 octets", "is needed for the role mailbox")
	add(map[string]string{"name": "x", "role": "king"}).shows(422, "is mailbox, owner or operator")
	add(map[string]string{"name": "x", "role": "owner", "days": "many"}).shows(422, "is 0 (for ever) to")
	made := add(map[string]string{"name": "panel", "role": "mailbox", "mailbox": "anna", "days": "7"}).
		shows(200, "The token panel:", "It is shown this once.", "the owner of one mailbox: anna", "only reads", "2026-04-08 12:00 UTC")
	text := strings.Join(made.classed("code", "secret"), "")
	actor, err := s.api.TokenActor(t.Context(), text)
	if err != nil || actor.Role != webmanager.RoleMailbox || !actor.ReadOnly || actor.Account != s.account("anna").ID {
		t.Errorf("%q is %+v, %v", text, actor, err)
	}
	p := b.get("/tokens")
	if strings.Contains(p.body, text) {
		t.Error("a token is shown twice")
	}
	p.submit("/tokens/revoke", nil).follow().shows(200, "The token was revoked.", "There are none.")
	if _, err := s.api.TokenActor(t.Context(), text); err == nil {
		t.Error("it is a token still")
	}
	add(map[string]string{"name": "root", "role": "operator", "days": "", "read_only": ""}).shows(200, "the operator", "never")
	s.in("olga").get("/tokens").shows(403)
}
