package guide

import (
	"html"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"latchkey/internal/clientsetup"
	"latchkey/internal/refusal"
)

// Bounds of a search.
const (
	// maxQuery bounds what is searched for, in octets: what is beyond is not looked at. A message pasted as a whole fits.
	maxQuery = 1000
	// maxWords bounds the words that are looked for in titles and texts; numbers are looked for in all of the query.
	maxWords = 40
	// maxHits bounds how many pages and problems are found, maxRefused how many refusals.
	maxHits    = 20
	maxRefused = 5
	// maxExcerpt bounds the text under a hit, in letters.
	maxExcerpt = 160
)

// Hit is a page or a problem that was found.
type Hit struct {
	// URL is where it is, Title its heading, and Text something of it.
	URL, Title, Text string
}

// refused is a refusal of this server in words.
type refused struct {
	Code, Cause, Cure string
	// Says is what SMTP and POP3 say.
	Says []string
	// Foreign is set where the words are not in the language of the page.
	Foreign bool
}

// entry is something that can be found.
type entry struct {
	hit Hit
	// title, numbers and text are folded.
	title, text string
	numbers     []string
}

var (
	tag    = regexp.MustCompile(`<[^>]*>`)
	blanks = regexp.MustCompile(`\s+`)
	// hexNumber is an error number of Outlook, as people type it.
	hexNumber = regexp.MustCompile(`^(?:0x)?(8[0-9a-f]{7})$`)
)

// entries is what can be found in a language: problems first, then pages.
func (g *Guide) entries(l clientsetup.Lang) ([]entry, error) {
	var list []entry
	for i := range problems {
		p := problems[i].in(l)
		e := entry{hit: Hit{URL: g.root + "/problems#" + p.ID, Title: p.Title, Text: excerpt(p.Meaning)}}
		e.title, e.text = fold(p.Title), fold(p.Meaning+" "+strings.Join(p.Steps, " ")+" "+strings.Join(p.Numbers, " "))
		for _, n := range p.Numbers {
			e.numbers = append(e.numbers, fold(n))
		}
		list = append(list, e)
	}
	for _, c := range clients {
		f, err := g.Page(l, c.Name, Values{Setup: ExampleSetup(), Own: true})
		if err != nil {
			return nil, err
		}
		body := string(f.Body)
		if i := strings.Index(body, "<h2"); i >= 0 {
			body = body[i:] // the table is the same on every page
		}
		text := strings.TrimSpace(blanks.ReplaceAllString(html.UnescapeString(tag.ReplaceAllString(body, " ")), " "))
		list = append(list, entry{hit: Hit{URL: g.root + "/" + c.Name, Title: f.Title, Text: excerpt(text)}, title: fold(f.Title), text: fold(text)})
	}
	return list, nil
}

// excerpt cuts a text to maxExcerpt letters.
func excerpt(text string) string {
	letters := []rune(text)
	if len(letters) <= maxExcerpt {
		return text
	}
	cut := string(letters[:maxExcerpt])
	if i := strings.LastIndexByte(cut, ' '); i > 0 {
		cut = cut[:i]
	}
	return cut + " …"
}

// fold makes words comparable: small letters, umlauts as they are typed without them.
func fold(s string) string {
	return strings.NewReplacer("ä", "ae", "ö", "oe", "ü", "ue", "ß", "ss").Replace(strings.ToLower(s))
}

// wordsOf are the words that are searched for, folded.
func wordsOf(query string) []string {
	if len(query) > maxQuery {
		query = strings.ToValidUTF8(query[:maxQuery], "")
	}
	list := strings.FieldsFunc(fold(query), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(`,;:!?"'“”„()<>`, r)
	})
	for i, w := range list {
		if m := hexNumber.FindStringSubmatch(w); m != nil {
			list[i] = "0x" + m[1]
		}
	}
	return list
}

// Search finds problems and pages, the best first: first those whose number is in the query, then those with all of its words, titles before texts. A
// message that was pasted as a whole has words that nothing has: then those with the most of them.
func (g *Guide) Search(l clientsetup.Lang, query string) []Hit {
	words := wordsOf(query)
	joined := " " + strings.Join(words, " ") + " "
	type scored struct {
		hit   Hit
		score int
	}
	var found []scored
	for _, e := range g.index[g.known(l)] {
		s := e.score(words, joined)
		if s > 0 {
			found = append(found, scored{e.hit, s})
		}
	}
	slices.SortStableFunc(found, func(a, b scored) int { return b.score - a.score })
	var hits []Hit
	for _, f := range found[:min(len(found), maxHits)] {
		if 3*f.score < found[0].score {
			break // much worse than the best
		}
		hits = append(hits, f.hit)
	}
	return hits
}

// score says how well an entry answers; 0 is not at all.
func (e *entry) score(words []string, joined string) int {
	score, matched := 0, 0
	for _, n := range e.numbers {
		if strings.Contains(joined, " "+strings.Join(wordsOf(n), " ")+" ") {
			score += 100
		}
	}
	words = words[:min(len(words), maxWords)]
	for _, w := range words {
		switch {
		case len(w) < 2:
		case strings.Contains(e.title, w):
			score, matched = score+8, matched+1
		case strings.Contains(e.text, w):
			score, matched = score+2, matched+1
		}
	}
	switch {
	case matched == 0 && score == 0:
		return 0
	case matched == len(words):
		return score + 20
	case 2*matched > len(words):
		return score
	case score >= 100:
		return score
	}
	return 0
}

// known is a language that there are pages in.
func (g *Guide) known(l clientsetup.Lang) clientsetup.Lang {
	if _, ok := g.languages[l]; ok {
		return l
	}
	return clientsetup.English
}

var (
	refusalCode = regexp.MustCompile(`(?i)\bL-[0-9A-Z]{3}\b`)
	smtpCode    = regexp.MustCompile(`\b([45]\d\d)[ -]([45]\.\d{1,3}\.\d{1,3})\b`)
)

// refusals are those of this server that a query names: by their code or name, or else by the code of SMTP if there are few of it.
func refusals(l clientsetup.Lang, query string) (list []refused) {
	if len(query) > maxQuery {
		query = query[:maxQuery]
	}
	seen := map[refusal.Name]bool{}
	add := func(r refusal.Refusal) {
		if seen[r.Name] || len(list) == maxRefused {
			return
		}
		seen[r.Name] = true
		one := refused{Code: r.Name.Code(), Cause: r.Cause, Cure: r.Cure, Foreign: l == clientsetup.German}
		if g, ok := german[r.Name]; ok && one.Foreign {
			one.Cause, one.Cure, one.Foreign = g.cause, g.cure, false
		}
		smtp, pop3 := r.Replies()
		for _, says := range []string{smtp, pop3} {
			if says != "" {
				one.Says = append(one.Says, plain(says))
			}
		}
		list = append(list, one)
	}
	for _, code := range refusalCode.FindAllString(query, maxRefused) {
		if r, ok := refusal.Find(code); ok {
			add(r)
		}
	}
	if r, ok := refusal.Find(query); ok {
		add(r)
	}
	if m := smtpCode.FindStringSubmatch(query); m != nil && len(list) == 0 {
		var same []refusal.Refusal
		for _, r := range refusal.All() {
			if smtp, _ := r.Replies(); strings.HasPrefix(smtp, m[1]+" "+m[2]+" ") {
				same = append(same, r)
			}
		}
		if len(same) <= maxRefused {
			for _, r := range same {
				add(r)
			}
		}
	}
	return list
}

// plain puts dots where a text has facts of a connection.
func plain(text string) string {
	return strings.NewReplacer("{help}", "", "{remote}", "…", "{mailbox}", "…", "{wait}", "…", "{here}", "…", "{there}", "…").Replace(text)
}

// Results is the page with what Search and the table of refusals have on a query.
func (g *Guide) Results(l clientsetup.Lang, query string, v Values) (Fragment, error) {
	d := g.view(l, v)
	d.Words = query
	if len(query) > maxQuery {
		d.Words = strings.ToValidUTF8(query[:maxQuery], "")
	}
	d.Hits, d.Refused = g.Search(l, query), refusals(l, query)
	title := "Search"
	if l == clientsetup.German {
		title = "Suche"
	}
	return g.fragment(l, title, d, "results.html")
}
