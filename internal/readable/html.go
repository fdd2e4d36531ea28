package readable

import (
	"io"
	"net/url"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// maxHTML bounds what is read of HTML, in octets of UTF-8: pictures may be written into it.
const maxHTML = 2 << 20

// unread are elements of which nothing is text for people.
var unread = map[atom.Atom]bool{
	atom.Script: true, atom.Style: true, atom.Title: true, atom.Template: true, atom.Svg: true, atom.Math: true, atom.Object: true, atom.Iframe: true,
	atom.Noscript: true, atom.Select: true, atom.Textarea: true, atom.Noembed: true, atom.Noframes: true,
}

// blocks are elements that begin a line, and end one.
var blocks = map[atom.Atom]bool{
	atom.P: true, atom.Div: true, atom.Br: true, atom.Tr: true, atom.Li: true, atom.Ul: true, atom.Ol: true, atom.Table: true, atom.Hr: true,
	atom.H1: true, atom.H2: true, atom.H3: true, atom.H4: true, atom.H5: true, atom.H6: true, atom.Blockquote: true, atom.Pre: true, atom.Section: true,
	atom.Article: true, atom.Header: true, atom.Footer: true, atom.Dl: true, atom.Dt: true, atom.Dd: true, atom.Form: true, atom.Address: true,
	atom.Center: true, atom.Body: true,
}

// plainer makes plain text of HTML.
type plainer struct {
	out  strings.Builder
	most int
	// gap is a blank that is due, breaks are line ends that are; neither is written before something follows.
	gap    bool
	breaks int
	pre    int
	// skip is the element of which nothing is read, until it ends.
	skip atom.Atom
	// link is where the open link leads, began how much was written when it began.
	link  string
	began int
}

// plain makes plain text, at most most octets, of HTML in UTF-8. more is set if there was more. No mistake in HTML is one
// here, and r fails by ending.
func plain(r io.Reader, most int) (text string, more bool) {
	bounded := &io.LimitedReader{R: r, N: maxHTML}
	z, p := html.NewTokenizer(bounded), &plainer{most: most}
	for p.out.Len() <= most {
		switch kind := z.Next(); kind {
		case html.ErrorToken:
			return cut(p.out.String(), most), bounded.N == 0
		case html.TextToken:
			if p.skip == 0 {
				p.text(string(z.Text()))
			}
		case html.StartTagToken, html.SelfClosingTagToken, html.EndTagToken:
			name, attributes := z.TagName()
			p.tag(kind, atom.Lookup(name), z, attributes)
		}
	}
	return cut(p.out.String(), most), true
}

// tag reads a tag.
func (p *plainer) tag(kind html.TokenType, name atom.Atom, z *html.Tokenizer, attributes bool) {
	switch {
	case p.skip != 0:
		if kind == html.EndTagToken && name == p.skip {
			p.skip = 0
		}
		return
	case unread[name]:
		if kind == html.StartTagToken {
			p.skip = name
		}
		return
	}
	if blocks[name] {
		p.lineEnd(name)
	}
	begins := kind != html.EndTagToken
	switch name {
	case atom.A:
		p.endLink()
		if begins {
			p.link, p.began = target(attribute(z, attributes, "href")), p.out.Len()
		}
	case atom.Img:
		if alt := attribute(z, attributes, "alt"); begins && strings.TrimSpace(alt) != "" {
			p.text("[" + alt + "]")
		}
	case atom.Li:
		if begins {
			p.text("- ")
		}
	case atom.Td, atom.Th:
		p.gap = true
	case atom.Pre:
		if begins {
			p.pre++
		} else if p.pre > 0 {
			p.pre--
		}
	}
}

// lineEnd asks for the end of a line; paragraphs have an empty one between them, and no more than one.
func (p *plainer) lineEnd(name atom.Atom) {
	most := 1
	if name == atom.P || name == atom.Br && p.breaks > 0 {
		most = 2
	}
	p.breaks, p.gap = max(p.breaks, most), false
}

// text writes text, with one blank for many.
func (p *plainer) text(text string) {
	if p.pre > 0 {
		p.due()
		p.out.WriteString(text[:min(len(text), p.room())])
		return
	}
	for len(text) > 0 && p.room() > 0 {
		rest := strings.TrimLeft(text, " \t\r\n\f\u00a0")
		p.gap = p.gap || len(rest) < len(text)
		end := strings.IndexAny(rest, " \t\r\n\f\u00a0")
		if end < 0 {
			end = len(rest)
		}
		if end > 0 {
			p.due()
			p.out.WriteString(rest[:min(end, p.room())])
		}
		text = rest[end:]
	}
}

// room is what may be written still: a little more than is shown, so that it is seen that there is more.
func (p *plainer) room() int { return max(0, p.most+1-p.out.Len()) }

// due writes the line ends or the blank that are due.
func (p *plainer) due() {
	switch {
	case p.out.Len() == 0:
	case p.breaks > 0:
		p.out.WriteString(strings.Repeat("\n", p.breaks))
	case p.gap:
		p.out.WriteByte(' ')
	}
	p.gap, p.breaks = false, 0
}

// endLink writes where a link leads behind what it says, unless that is what it says.
func (p *plainer) endLink() {
	if p.link != "" && p.out.Len() > p.began && !strings.Contains(p.out.String()[p.began:], p.link) {
		link := " <" + p.link + ">"
		p.out.WriteString(link[:min(len(link), p.room())])
	}
	p.link = ""
}

// attribute is the first attribute of a name of the tag that was just read.
func attribute(z *html.Tokenizer, more bool, name string) string {
	for more {
		var key, value []byte
		key, value, more = z.TagAttr()
		if string(key) == name {
			return string(value)
		}
	}
	return ""
}

// target is where a link leads, as text; "" for what leads nowhere that people would go.
func target(href string) string {
	href = strings.TrimSpace(href)
	u, err := url.Parse(href)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "mailto" {
		return ""
	}
	return cut(href, MaxValue)
}
