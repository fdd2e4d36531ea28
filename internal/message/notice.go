package message

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"
)

const (
	// noticeWidth is how long the lines for people are, where words allow it.
	noticeWidth = 76
	// maxSubject bounds the subject of a message as a report repeats it, in octets.
	maxSubject = 100
	// peopleForm is how a time is written for people.
	peopleForm = "Monday, 2 January 2006, 15:04 MST"
)

// errCharset: a subject is written in letters that the standard library does not know.
var errCharset = errors.New("message: unknown character set")

// SubjectOf is the Subject of a header as people see it: decoded, in one line, shortened. "" if there is none that can be read.
func SubjectOf(header []byte) string {
	h := Header{}
	if _, err := h.Read(strings.NewReader(string(header))); err != nil {
		return ""
	}
	values := h.Values("Subject")
	if len(values) == 0 {
		return ""
	}
	decoder := mime.WordDecoder{CharsetReader: func(charset string, _ io.Reader) (io.Reader, error) {
		return nil, fmt.Errorf("%w: %q", errCharset, charset)
	}}
	subject, err := decoder.DecodeHeader(values[0])
	if err != nil {
		return ""
	}
	subject = strings.Join(strings.Fields(oneLine(subject)), " ")
	if len(subject) > maxSubject {
		subject = strings.ToValidUTF8(subject[:maxSubject], "") + "..."
	}
	return subject
}

// whom are the recipients in a subject.
func (b *Bounce) whom() string {
	if len(b.Failed) != 1 {
		return fmt.Sprintf("%d addresses", len(b.Failed))
	}
	// A field without folding has at most 998 octets; an address can have 320, and a long one tells nobody anything.
	if a := b.Failed[0].Address; (b.UTF8 || a.IsASCII()) && len(a.String()) <= maxSubject {
		return a.String()
	}
	return "one address"
}

func (b *Bounce) subject() string {
	switch {
	case b.Report == ReportDelayed:
		return "Your message is delayed, and still being tried: " + b.whom()
	case b.Report == ReportRelayed:
		return "Your message was handed on: " + b.whom()
	case b.Report == ReportDelivered:
		return "Your message was delivered: " + b.whom()
	case !b.Forwarder.IsZero():
		return "A message for you could not be sent on: " + b.whom()
	}
	return "Not delivered: your message to " + b.whom()
}

// text is the part for people. It comes first, and says first what happened, then what to do.
func (b *Bounce) text() string {
	n := &notice{}
	fmt.Fprintf(&n.out, "--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n", b.boundary())
	n.paragraph("", b.opening())
	for i := range b.Failed {
		if i == MaxFailedRecipients {
			n.line("  ", fmt.Sprintf("... and %d more", len(b.Failed)-i))
			break
		}
		b.recipient(n, &b.Failed[i])
	}
	n.line("", "")
	for _, p := range b.closing() {
		n.paragraph("", p)
	}
	return n.out.String()
}

// opening says what happened.
func (b *Bounce) opening() string {
	message := "Your message"
	if b.Subject != "" {
		message = `Your message "` + b.Subject + `"`
	}
	addresses := "this address"
	if len(b.Failed) > 1 {
		addresses = "these addresses"
	}
	switch {
	case !b.Forwarder.IsZero():
		message = "A message"
		if b.Subject != "" {
			message = `The message "` + b.Subject + `"`
		}
		return "Mail for " + b.Forwarder.String() + " is sent on from here, as was set up. " + message + " could not be sent on to " + addresses + ":"
	case b.Report == ReportDelayed:
		return message + " has not been delivered yet to " + addresses + ". It is still being tried."
	case b.Report == ReportRelayed:
		return "You asked to be told: " + strings.ToLower(message[:1]) + message[1:] + " was handed on for " + addresses + ":"
	case b.Report == ReportDelivered:
		return "You asked to be told: " + strings.ToLower(message[:1]) + message[1:] + " was delivered to " + addresses + ":"
	}
	return message + " could not be delivered to " + addresses + ":"
}

// recipient says why of one recipient, what to do, and what was answered.
func (b *Bounce) recipient(n *notice, f *FailedRecipient) {
	r := b.reasonOf(f)
	n.line("  ", f.Address.String())
	n.wrap("    ", r.what)
	if r.cure != "" && b.Forwarder.IsZero() {
		n.wrap("    ", "What to do: "+strings.ToLower(r.cure[:1])+r.cure[1:])
	}
	words := oneLine(f.Diagnostic)
	switch {
	case words == "" || b.Report == ReportDelivered:
	case f.Answered:
		n.wrap("    ", "The server "+oneLine(f.RemoteMTA)+" answered:")
		n.wrap("      ", words)
		if link := linkIn(words); link != "" && b.Report != ReportRelayed {
			n.line("    ", "It names this page:")
			n.line("      ", link)
		}
	default:
		at := ""
		if f.RemoteMTA != "" {
			at = " (about the server " + oneLine(f.RemoteMTA) + ")"
		}
		n.wrap("    ", "In detail"+at+": "+strings.TrimRight(words, ".")+".")
	}
}

// closing says what happens next, and where there is help.
func (b *Bounce) closing() (paragraphs []string) {
	add := func(p string) { paragraphs = append(paragraphs, p) }
	switch {
	case b.Report == ReportDelayed:
		next := "It is tried again and again"
		if !b.Next.IsZero() {
			next = "It is tried again at about " + b.Next.Format("15:04 MST") + ", and after that again and again"
		}
		if !b.RetryUntil.IsZero() {
			next += ", until " + b.RetryUntil.Format(peopleForm)
		}
		add("You need do nothing, and need not send it again. " + next + ". You are told if it has to be given up.")
	case b.Report == ReportRelayed:
		add("Servers further on may report trouble, or may not. Whether it was read is not known.")
	case b.Report == ReportDelivered:
		add("Whether it was read is not known.")
	case !b.Forwarder.IsZero() && b.Kept:
		add("It is in your mailbox here. What to do: look whether the address to which your mail is sent on is still right. Its sender is not told of this, and you " +
			"are told once a day at most.")
	case !b.Forwarder.IsZero():
		add("It was not kept here, so you find it below, or attached to this report. What to do: look whether the address to which your mail is sent on is " +
			"still right. Its sender is not told of this.")
	default:
		add("It is not tried again. If you wrote to others as well, this report is not about them.")
	}
	add("For help write to postmaster@" + b.Domain + " and send this report along. What follows is for postmasters and their programs.")
	add("This is the mail server " + b.Hostname + ".")
	return paragraphs
}

// notice is a text for people while it is written.
type notice struct{ out strings.Builder }

func (n *notice) line(indent, text string) {
	n.out.WriteString(strings.TrimRight(indent+text, " "))
	n.out.WriteString(crlf)
}

func (n *notice) paragraph(indent, text string) {
	n.wrap(indent, text)
	n.line("", "")
}

// wrap breaks a text between its words.
func (n *notice) wrap(indent, text string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(indent)+len(line)+1+len(word) > noticeWidth {
			n.line(indent, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	n.line(indent, line)
}
