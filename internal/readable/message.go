package readable

import (
	"bufio"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"strings"

	"golang.org/x/net/html/charset"
)

// Bounds of a message.
const (
	// MaxText bounds the text that is shown of a message, in octets.
	MaxText = 128 << 10
	// MaxParts bounds the parts that are listed, and those whose text is shown; MaxDepth how deep they are nested: what is deeper is one part.
	MaxParts = 100
	MaxDepth = 16
	// MaxRead bounds what is read of a message, in octets; what follows is said to be missing.
	MaxRead = 256 << 20
	// MaxFileName bounds the name of a part, in octets.
	MaxFileName = 200
	// maxHeaderText bounds the header as it is shown, in octets.
	maxHeaderText = 32 << 10
	// maxQuotedLine bounds a line of quoted-printable in octets; RFC 2045 §6.7 allows 76.
	maxQuotedLine = 16 << 10
	// maxUndecoded bounds the octets of a text before they are decoded: no charset needs more for what is shown.
	maxUndecoded = 8 * MaxText
)

// Message is a message as people can look at it.
type Message struct {
	Summary
	To string `json:"to"`
	Cc string `json:"cc,omitempty"`
	// Header is all of it, as it came but for what is escaped, one field in a line or more.
	Header string `json:"header"`
	// Text is what its writer wrote: the plain text, or what HTML says if there is none; lines end with \n.
	Text string `json:"text"`
	// OfHTML is set where Text was made of HTML, Cut where there is more of it, or of the message, than is here.
	OfHTML bool `json:"of_html,omitempty"`
	Cut    bool `json:"cut,omitempty"`
	// Escaped is set where something in it was written out, as [U+202E], because it is seen as nothing or turns text around.
	Escaped bool `json:"escaped,omitempty"`
	// Damaged is set where a part could not be decoded to its end.
	Damaged bool `json:"damaged,omitempty"`
	// Parts are those that are no text to read, at most MaxParts; MoreParts is how many others there are.
	Parts     []Part `json:"parts"`
	MoreParts int    `json:"more_parts,omitempty"`
}

// Part is one attachment, or whatever else is in a message beside its text.
type Part struct {
	// Name is the name of the file as its writer gave it, for people and no file system; "" if there is none.
	Name string `json:"name"`
	// Type is the media type, such as image/png.
	Type string `json:"type"`
	// Size is the number of octets that it has when it is decoded.
	Size int64 `json:"size"`
}

// walker reads one message.
type walker struct {
	s    *scanner
	m    Message
	text strings.Builder // of plain text
	html strings.Builder
	more [2]bool // plain text, HTML: there is more
	// texts are how many of both there were, isHTML is set if there was HTML.
	texts  int
	isHTML bool
}

// Read reads a message to its end. The error is the reader's; what was read until then is in m.
func Read(r io.Reader) (m Message, err error) {
	bounded := &io.LimitedReader{R: r, N: MaxRead}
	w := &walker{s: newScanner(bounded), m: Message{Parts: []Part{}}}
	h, bodyless := w.s.header()
	w.m.Summary, w.m.To, w.m.Cc = h.summary(), h.text("To"), h.text("Cc")
	header := strings.ReplaceAll(unlabelled(string(h.raw)), "\r\n", "\n")
	var escaped bool
	w.m.Header, escaped = escape(cut(header, maxHeaderText), true)
	w.m.Escaped = escaped
	if !bodyless {
		w.entity(h, "text/plain", 0)
	}
	w.choose()
	if bounded.N == 0 {
		w.m.Cut = true
	}
	return w.m, w.s.err
}

// choose takes the plain text, or what HTML says if there is none.
func (w *walker) choose() {
	text := strings.TrimPrefix(w.text.String(), "\uFEFF")
	w.m.Cut = w.more[0]
	if strings.TrimSpace(text) == "" && w.isHTML {
		text, w.m.Cut, w.m.OfHTML = w.html.String(), w.more[1], true
	}
	safe, escaped := escape(text, true)
	w.m.Text = cut(strings.Trim(safe, "\n"), MaxText)
	w.m.Cut = w.m.Cut || len(w.m.Text) < len(strings.Trim(safe, "\n"))
	w.m.Escaped = w.m.Escaped || escaped
}

// entity reads the body of an entity; otherwise is its type if it says none (RFC 2046 §5.1.5).
func (w *walker) entity(h header, otherwise string, depth int) {
	value := h.value("Content-Type")
	media, params, err := mime.ParseMediaType(value)
	if err != nil {
		media, _, _ = strings.Cut(value, ";")
		media, params = strings.ToLower(strings.TrimSpace(media)), nil
	}
	if !strings.Contains(media, "/") {
		media = otherwise
	}
	if boundary := boundaryOf(params); strings.HasPrefix(media, "multipart/") && boundary != "" && depth < MaxDepth {
		w.multipart(boundary, media, depth)
		return
	}
	w.leaf(h, media, params, value)
}

// multipart reads the parts of a multipart, and what stands around them.
func (w *walker) multipart(boundary, media string, depth int) {
	inner := "text/plain"
	if media == "multipart/digest" {
		inner = "message/rfc822"
	}
	mine := len(w.s.open)
	w.s.open = append(w.s.open, boundary)
	w.s.pass()
	for w.s.at == mine && !w.s.ended {
		h, bodyless := w.s.header()
		if !bodyless {
			w.entity(h, inner, depth+1)
		}
	}
	w.s.open = w.s.open[:mine]
	switch {
	case w.s.at == mine: // its end; what follows is nobody's
		w.s.pass()
	case w.s.eof:
		w.m.Damaged = true
	}
}

// leaf reads an entity that is no multipart.
func (w *walker) leaf(h header, media string, params map[string]string, typeValue string) {
	raw := &body{s: w.s}
	decode := &counter{r: transferDecoded(raw, h.value("Content-Transfer-Encoding"))}
	defer func() { w.m.Damaged = w.m.Damaged || decode.failed }()
	disposition, name := h.disposition(params)
	isText := disposition != "attachment" && (media == "text/plain" || media == "text/html") && w.texts < MaxParts
	switch {
	case !isText:
		drain(decode)
	case media == "text/plain":
		w.texts++
		w.plainText(decode, typeValue)
	default:
		w.texts++
		w.htmlText(decode, typeValue)
	}
	if !isText || name != "" {
		w.list(Part{Name: name, Type: line(media, 100), Size: decode.n})
	}
	drain(raw) // what could not be decoded
}

// list lists a part.
func (w *walker) list(p Part) {
	if len(w.m.Parts) == MaxParts {
		w.m.MoreParts++
		return
	}
	w.m.Parts = append(w.m.Parts, p)
}

// drain reads what is not shown. What goes wrong is known to its reader.
func drain(r io.Reader) { _, _ = io.Copy(io.Discard, r) }

// plainText gathers plain text.
func (w *walker) plainText(r *counter, typeValue string) {
	if room := MaxText - w.text.Len(); room > 0 {
		if w.text.Len() > 0 {
			w.text.WriteString("\n")
		}
		bounded := io.LimitReader(inUTF8(io.LimitReader(r, maxUndecoded), typeValue), int64(room)+1)
		n, _ := io.Copy(&w.text, bounded) // r fails by ending
		w.more[0] = w.more[0] || n > int64(room)
	}
	kept := r.n
	drain(r)
	w.more[0] = w.more[0] || r.n > kept
}

// htmlText gathers what HTML says.
func (w *walker) htmlText(r *counter, typeValue string) {
	w.isHTML = true
	if room := MaxText - w.html.Len(); room > 0 {
		if w.html.Len() > 0 {
			w.html.WriteString("\n\n")
		}
		text, more := plain(inUTF8(r, typeValue), room)
		w.html.WriteString(text)
		w.more[1] = w.more[1] || more
	} else {
		w.more[1] = true
	}
	drain(r)
}

// inUTF8 decodes the charset that a type names. One that nobody knows, UTF-7 among them, and none at all, are UTF-8 or what old Windows programs write,
// whichever the text looks like.
func inUTF8(r io.Reader, typeValue string) io.Reader {
	decoded, err := charset.NewReader(r, typeValue)
	if err != nil {
		return strings.NewReader("") // an empty text
	}
	return decoded
}

// transferDecoded undoes a transfer encoding (RFC 2045 §6); what is unknown stays as it is.
func transferDecoded(r io.Reader, encoding string) io.Reader {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, r)
	case "quoted-printable":
		return quotedprintable.NewReader(bufio.NewReaderSize(r, maxQuotedLine))
	}
	return r
}

// disposition is how a part wants to be shown (RFC 2183), and its name.
func (h header) disposition(params map[string]string) (kind, name string) {
	value := h.value("Content-Disposition")
	kind, more, err := mime.ParseMediaType(value)
	if err != nil {
		kind, _, _ = strings.Cut(value, ";")
		kind = strings.ToLower(strings.TrimSpace(kind))
	}
	if name = more["filename"]; name == "" {
		name = params["name"]
	}
	return kind, decoded(name, MaxFileName)
}

// counter counts what is read, and ends where it cannot be decoded.
type counter struct {
	r      io.Reader
	n      int64
	failed bool
}

// Read implements io.Reader. Its only error is io.EOF.
func (c *counter) Read(p []byte) (int, error) {
	if c.failed {
		return 0, io.EOF
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		c.failed = true
		err = io.EOF
	}
	return n, err
}
