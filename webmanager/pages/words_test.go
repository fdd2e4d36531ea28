package pages

import (
	"regexp"
	"strings"
	"testing"

	"latchkey/internal/refusal"
	"latchkey/relay/signing"
	"latchkey/webmanager"
)

// commandLine finds a verb of the command line.
var commandLine = regexp.MustCompile(`latchkey [a-z][a-z-]+( [a-z]+)?`)

// onlyByCommand are the verbs that no page has a button or a link for.
var onlyByCommand = map[string]bool{
	// The rules of a device are changed there alone: a page makes and revokes its password.
	"latchkey device change": true,
	// What is damaged is the operator's, and so is the link that signs him in.
	"latchkey check and": true, "latchkey web-login": true,
}

// TestPagesNamePages: what a page or a refusal says is to be done is on a page too, where there is one for it, and not told as a verb of the command
// line.
func TestPagesNamePages(t *testing.T) {
	s := newSite(t, nil)
	s.do("POST", "/v1/dkim", webmanager.NewDKIMKeys{}, nil)
	var keys webmanager.DKIMKeys
	s.do("GET", "/v1/dkim", nil, &keys)
	selector := keys.Keys[0].Selector
	s.do("POST", webmanager.Path("dkim", selector, "activate"), webmanager.DKIMStep{Force: true}, nil)
	b := s.in("olga")
	look := func(p *page) {
		t.Helper()
		for _, verb := range commandLine.FindAllString(p.text(), -1) {
			if !onlyByCommand[verb] {
				t.Errorf("a page says %q: %s", verb, p.text())
			}
		}
	}
	step := func(selector, step, force string) *page {
		return b.post("/dns/keys/step", map[string][]string{"selector": {selector}, "step": {step}, "force": {force}})
	}
	look(step("none", "retire", ""))
	look(step(selector, "remove", ""))
	look(step(selector, "retire", "").shows(409, "Mail would leave unsigned"))
	look(step(keys.Keys[1].Selector, "activate", "").shows(409, "publish it, then have it looked for"))
	look(b.post("/dns/keys", map[string][]string{"rsa": {"on"}, "ed25519": {"on"}}).shows(409))
	step(selector, "retire", "yes").follow()
	s.later(signing.Overlap + 1)
	b = s.in("olga")
	look(b.get("/dns").shows(200, "Remove its record from the DNS, then the key."))
	look(b.post("/dns/check", nil).shows(200, "Remove the key "+selector+" (DKIM keys)"))
	for _, pattern := range append(s.patterns("GET"), "/queue/act?verb=remove&all=yes", "/explain/nothing") {
		look(b.get(concrete(pattern)))
	}
	for _, r := range refusal.All() {
		look(b.get("/explain/"+r.Name.Code()).shows(200, sentence(r.Cure)))
	}
	for key, text := range englishTexts {
		if commandLine.MatchString(text) {
			t.Errorf("%s says %q", key, text)
		}
	}
}

// TestCuresNamePages: the page that the cure of a refusal names is one of the pages.
func TestCuresNamePages(t *testing.T) {
	titles := map[string]bool{}
	for key, text := range englishTexts {
		if strings.HasSuffix(key, ".title") {
			titles[text] = true
		}
	}
	named := regexp.MustCompile(`on the pages? ([A-Z][a-z]+(?: [a-z]+)?)(?: and ([A-Z][a-z]+(?: [a-z]+)?))?[.,;]`)
	found := 0
	for _, r := range refusal.All() {
		for _, m := range named.FindAllStringSubmatch(r.Cure, -1) {
			for _, title := range m[1:] {
				if title != "" && !titles[title] {
					t.Errorf("%s: there is no page %q", r.Name, title)
				}
				found++
			}
		}
	}
	if found == 0 {
		t.Error("no cure names a page")
	}
}
