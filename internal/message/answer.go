package message

import (
	"bytes"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
)

// Bounds of an answer.
const (
	// answerWidth is the longest line of a text that goes as it is, in octets; longer ones, and what is not ASCII, are encoded.
	answerWidth = 76
	// maxReferences bounds the References of an answer, maxMessageID each of them in octets.
	maxReferences = 20
	maxMessageID  = 250
	// answerMark begins the subject of an answer (RFC 3834 §3.1.5).
	answerMark = "Auto: "
	// answerSubject stands for the subject of a message that has none.
	answerSubject = "your message"
)

// Answer is an automatic answer to a message, in the name of a person (RFC 3834, a personal responder). It has nothing of the message's body.
type Answer struct {
	// From is the mailbox that answers, and Name who has it, for people. To is the reverse-path of the message.
	From mailaddr.Address
	Name string
	To   mailaddr.Address
	// Hostname and ID make the message id: ID must be random letters and digits.
	Hostname, ID string
	Date         time.Time
	// Subject is the answer's own; "" for that of the message.
	Subject string
	// Text is UTF-8, its lines ended by LF.
	Text string
	// Header is that of the message which is answered, as it came; nil for a preview.
	Header *Header
}

// MessageID returns the value of the answer's Message-ID field.
func (a *Answer) MessageID() string { return "<answer." + a.ID + "@" + a.Hostname + ">" }

// UTF8 reports whether the answer can travel with SMTPUTF8 only: one of its addresses is not ASCII.
func (a *Answer) UTF8() bool { return !a.From.IsASCII() || !a.To.IsASCII() }

// Octets returns the answer, in which all but addresses is ASCII, and the length of its header. ErrInjection if a field could not be written.
func (a *Answer) Octets() (octets []byte, headerLen int, err error) {
	text, encoding := encodedText(a.Text)
	h := &Header{ended: true}
	for _, f := range [][]string{
		{"From", a.author()},
		{"To", a.To.Path()},
		append([]string{"Subject"}, a.subject()...),
		{"Date", a.Date.Format(dateForm)},
		{"Message-ID", a.MessageID()},
		append([]string{"In-Reply-To"}, a.answered()...),
		append([]string{"References"}, a.references()...),
		{"Auto-Submitted", "auto-replied"}, // RFC 3834 §5.2
		// What older responders, and Exchange's, know in place of it (RFC 3834 §3.1.8).
		{"Precedence", "bulk"},
		{"X-Auto-Response-Suppress", "All"},
		{"X-Loop", a.From.String()},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", encoding},
	} {
		if len(f) == 1 {
			continue
		}
		if err := h.Append(f[0], f[1:]...); err != nil {
			return nil, 0, err
		}
	}
	var out bytes.Buffer
	n, err := h.WriteTo(&out)
	if err != nil {
		return nil, 0, err
	}
	out.Write(text)
	return out.Bytes(), int(n), nil
}

// author is From: the mailbox, with the name that people gave it.
func (a *Answer) author() string {
	if a.Name == "" {
		return a.From.Path()
	}
	// net/mail quotes the name, or encodes it; the address is ours and has its own form.
	named := (&mail.Address{Name: oneLine(a.Name), Address: "a@b"}).String()
	return strings.TrimSuffix(named, "<a@b>") + a.From.Path()
}

// subject is the subject in parts of a line each: the mark, and what the answer or else the message has.
func (a *Answer) subject() []string {
	subject := oneLine(a.Subject)
	if subject == "" && a.Header != nil {
		subject = SubjectOf(a.Header.Octets())
	}
	if subject == "" {
		subject = answerSubject
	}
	if rest, marked := strings.CutPrefix(subject, answerMark); marked {
		subject = rest
	}
	encoded := mime.QEncoding.Encode("utf-8", subject)
	if encoded == subject {
		return []string{answerMark + subject}
	}
	words := strings.Split(encoded, " ") // an encoded word has no blank
	words[0] = answerMark + words[0]
	return words
}

// answered is the id of the message that is answered, in a list; nothing if it has none of a sound form.
func (a *Answer) answered() []string {
	if a.Header == nil {
		return nil
	}
	if ids := messageIDs(a.Header.Values("Message-ID")); len(ids) == 1 {
		return ids
	}
	return nil
}

// references are those of the message, or else what it answered, and itself (RFC 5322 §3.6.4).
func (a *Answer) references() []string {
	self := a.answered()
	if self == nil {
		return nil
	}
	before := messageIDs(a.Header.Values("References"))
	if len(before) == 0 {
		if before = messageIDs(a.Header.Values("In-Reply-To")); len(before) > 1 {
			before = nil
		}
	}
	if most := maxReferences - 1; len(before) > most {
		before = before[len(before)-most:]
	}
	return append(before, self...)
}

// messageIDs are the ids in the values of a field that are of a sound form; what is not is left out.
func messageIDs(values []string) (ids []string) {
	for _, value := range values {
		for word := range strings.FieldsSeq(value) {
			inner, ok := strings.CutPrefix(word, "<")
			inner, closed := strings.CutSuffix(inner, ">")
			if !ok || !closed || len(word) > maxMessageID || !strings.Contains(inner, "@") ||
				strings.ContainsFunc(inner, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '<' || r == '>' }) {
				continue
			}
			ids = append(ids, word)
		}
	}
	return ids
}

// encodedText is a text as a body, and its encoding.
func encodedText(text string) ([]byte, string) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	plain := true
	for _, l := range lines {
		plain = plain && len(l) <= answerWidth && !strings.ContainsFunc(l, func(r rune) bool { return r >= 0x7f })
	}
	body := []byte(strings.Join(lines, crlf) + crlf)
	if plain {
		return body, "7bit"
	}
	var out bytes.Buffer
	w := quotedprintable.NewWriter(&out)
	_, _ = w.Write(body) // into memory
	_ = w.Close()        // as above
	return out.Bytes(), "quoted-printable"
}
