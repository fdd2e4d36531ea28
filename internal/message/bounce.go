package message

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
)

// Bounds of a bounce.
const (
	// MaxFailedRecipients bounds the recipients that one bounce reports; the rest is summed up in a line.
	MaxFailedRecipients = 1000
	// maxDiagnostic bounds the words on one recipient, in octets.
	maxDiagnostic = 800
	// dateForm is how a header writes a time (RFC 5322 §3.3).
	dateForm = "Mon, 2 Jan 2006 15:04:05 -0700"
)

// Report says what a [Bounce] tells of its recipients: the Action of RFC 3464 §2.3.3.
type Report int

// The reports. The zero value is the bounce proper.
const (
	// ReportFailed: given up.
	ReportFailed Report = iota
	// ReportDelayed: not delivered yet; it is tried on.
	ReportDelayed
	// ReportRelayed: handed to a server that gives no reports of its own (RFC 3461 §5.2.2), so this is the last that is heard of it.
	ReportRelayed
	// ReportDelivered: put into a mailbox of this server (RFC 3461 §5.2.3).
	ReportDelivered
)

// reportWords are what is particular to one kind of report.
type reportWords struct {
	action, subject, before, after string
}

func (r Report) words() reportWords {
	switch r {
	case ReportDelayed:
		return reportWords{
			action: "delayed", subject: "Delayed mail (still being tried)",
			before: "Your message has not been delivered yet to:",
			after:  "You need not send it again: it is tried again and again, and you are told if it has to be given up.",
		}
	case ReportRelayed:
		return reportWords{
			action: "relayed", subject: "Mail handed on",
			before: "As you asked to be told: your message was handed on for:",
			after:  "Those servers give no reports. If there is trouble further on you may hear of it, or not.",
		}
	case ReportDelivered:
		return reportWords{
			action: "delivered", subject: "Mail delivered",
			before: "As you asked to be told: your message was put into the mailbox of:",
			after:  "Whether it was read is not known.",
		}
	default:
		return reportWords{
			action: "failed", subject: "Undelivered mail returned to sender",
			before: "Your message could not be delivered to:",
			after:  "The others, if there were any, got it or are still being tried.",
		}
	}
}

// FailedRecipient is one recipient that a bounce reports, or any other report.
type FailedRecipient struct {
	Address mailaddr.Address
	// Original is the sender's ORCPT, "type;address"; "" if there was none.
	Original string
	// Status is the enhanced status code, such as 5.1.1 (RFC 3463).
	Status string
	// Diagnostic is why, in one line: the remote's reply or our own words. RemoteMTA is who said so, "" for ourselves.
	Diagnostic, RemoteMTA string
}

// Bounce is a report on the fate of a message, as a rule that it could not be delivered: a multipart/report (RFC 6522) with a delivery
// status (RFC 3464), or with their internationalised forms (RFC 6533) if UTF8 is set. It is written as a stream, whatever the size of
// what is returned.
type Bounce struct {
	// Report is what is told; the zero value is ReportFailed.
	Report Report
	// Hostname is who reports, Domain whose postmaster signs.
	Hostname, Domain string
	// To is the reverse-path of the message that is reported on. The bounce itself has a null reverse-path (RFC 5321 §6.1).
	To mailaddr.Address
	// Date is now; Arrived is when the message came, the zero time if that is unknown.
	Date, Arrived time.Time
	// RetryUntil is when a delayed message is given up (RFC 3464 §2.3.9), the zero time if that is unknown.
	RetryUntil time.Time
	// EnvelopeID is the sender's ENVID, "" if there was none.
	EnvelopeID string
	// ID makes the message id and the boundary: it must be random, 1 to 60 letters and digits, so that it occurs nowhere else.
	ID string
	// Failed are the recipients reported on, whatever the report.
	Failed []FailedRecipient
	UTF8   bool
}

// ErrBounce: the ID of a bounce is not usable, or there is nobody to report.
var ErrBounce = errors.New("message: bad bounce")

// MessageID returns the value of the bounce's Message-ID field.
func (b *Bounce) MessageID() string { return "<bounce." + b.ID + "@" + b.Hostname + ">" }

// WriteHeaders writes the bounce with the header of the message that failed, and returns the length of its own header.
func (b *Bounce) WriteHeaders(w io.Writer, header []byte) (headerLen int64, err error) {
	kind := "text/rfc822-headers"
	if b.UTF8 {
		kind = "message/global-headers"
	}
	return b.write(w, kind, bytes.NewReader(header))
}

// WriteMessage writes the bounce with the whole message that failed, and returns the length of its own header.
func (b *Bounce) WriteMessage(w io.Writer, message io.Reader) (headerLen int64, err error) {
	kind := "message/rfc822"
	if b.UTF8 {
		kind = "message/global"
	}
	return b.write(w, kind, message)
}

func (b *Bounce) write(w io.Writer, kind string, returned io.Reader) (headerLen int64, err error) {
	if len(b.Failed) == 0 || len(b.ID) == 0 || len(b.ID) > 60 || strings.ContainsFunc(b.ID, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return 0, ErrBounce
	}
	bw := bufio.NewWriter(w)
	head, err := b.header()
	if err != nil {
		return 0, err
	}
	bw.Write(head) //nolint:errcheck // bufio keeps the first error for Flush
	b.text(bw)
	if err := b.deliveryStatus(bw); err != nil {
		return 0, err
	}
	fmt.Fprintf(bw, "\r\n--%s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: 8bit\r\n\r\n", b.boundary(), kind)
	// What is returned must not break the form: line ends are made CRLF. The boundary is random, so nothing in it can be one.
	if _, err := io.Copy(bw, NewRepairReader(returned)); err != nil {
		return 0, err
	}
	fmt.Fprintf(bw, "\r\n--%s--\r\n", b.boundary())
	return int64(len(head)), bw.Flush()
}

func (b *Bounce) boundary() string { return "=_" + b.ID }

func (b *Bounce) header() ([]byte, error) {
	status := "delivery-status"
	if b.UTF8 {
		status = "global-delivery-status"
	}
	h := &Header{ended: true}
	for _, f := range [][]string{
		{"From", "Mail Delivery System <postmaster@" + b.Domain + ">"},
		{"To", b.To.Path()},
		{"Subject", b.Report.words().subject},
		{"Date", b.Date.Format(dateForm)},
		{"Message-ID", b.MessageID()},
		{"Auto-Submitted", "auto-replied"}, // RFC 3834 §5
		{"MIME-Version", "1.0"},
		{"Content-Type", "multipart/report; report-type=" + status + ";", `boundary="` + b.boundary() + `"`},
	} {
		if err := h.Append(f[0], f[1:]...); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	_, err := h.WriteTo(&out)
	return out.Bytes(), err
}

// text is the part for people.
func (b *Bounce) text(w io.Writer) {
	words := b.Report.words()
	fmt.Fprintf(w, "--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n", b.boundary())
	fmt.Fprintf(w, "This is the mail server %s. %s\r\n\r\n", b.Hostname, words.before)
	for i, f := range b.Failed {
		if i == MaxFailedRecipients {
			fmt.Fprintf(w, "  ... and %d more\r\n", len(b.Failed)-i)
			break
		}
		fmt.Fprintf(w, "  %s\r\n    %s\r\n", f.Address, oneLine(f.Diagnostic))
		if cure := b.cure(f.Status); cure != "" {
			fmt.Fprintf(w, "    %s\r\n", cure)
		}
	}
	fmt.Fprintf(w, "\r\n%s\r\n", words.after)
	if b.Report == ReportDelayed && !b.RetryUntil.IsZero() {
		fmt.Fprintf(w, "It is given up on %s.\r\n", b.RetryUntil.Format(dateForm))
	}
	fmt.Fprint(w, "For help write to postmaster@"+b.Domain+".\r\n\r\n")
}

// cure says what the sender of a failed message can do, by the status (RFC 3463 §3); "" where nothing is known that helps.
func (b *Bounce) cure(status string) string {
	if b.Report != ReportFailed {
		return ""
	}
	_, detail, _ := strings.Cut(status, ".")
	switch detail {
	case "1.1", "1.3", "1.6":
		return "Look whether the address is spelt right, and send the message again."
	case "1.2", "1.10", "4.4":
		return "Look whether the part behind the @ is spelt right; that domain takes no mail."
	case "2.1":
		return "The mailbox is closed. Reach the recipient in another way."
	case "2.2":
		return "The mailbox is full. Tell the recipient in another way, and send the message again later."
	case "2.3", "3.4":
		return "The message is too large. Send less, or put the attachments where they can be fetched."
	case "4.6":
		return "This is a mistake in the set-up of a mail server. Tell the postmaster."
	case "4.7":
		return "The other server could not be reached, or put the message off, for too long. Look at the address, or send it again later."
	case "6.3", "6.7":
		return "The other server is old. Write the message with plain (ASCII) letters only, and send it again."
	}
	if strings.HasPrefix(detail, "7.") {
		return "The other server refuses it by a rule of its own. Its words above may say why; its postmaster can change it."
	}
	return ""
}

// deliveryStatus is the part for programs: the fields of the message, then those of each recipient (RFC 3464 §2).
func (b *Bounce) deliveryStatus(w io.Writer) error {
	kind, addressType := "message/delivery-status", "rfc822"
	if b.UTF8 {
		kind, addressType = "message/global-delivery-status", "utf-8"
	}
	fmt.Fprintf(w, "--%s\r\nContent-Type: %s\r\n\r\n", b.boundary(), kind)
	fields := [][2]string{{"Original-Envelope-Id", b.EnvelopeID}, {"Reporting-MTA", "dns; " + b.Hostname}, {"Arrival-Date", ""}}
	if !b.Arrived.IsZero() {
		fields[2][1] = b.Arrived.Format(dateForm)
	}
	if err := writeBlock(w, fields); err != nil {
		return err
	}
	action := b.Report.words().action
	for _, f := range b.Failed[:min(len(b.Failed), MaxFailedRecipients)] {
		fields := [][2]string{
			{"Original-Recipient", strings.Replace(f.Original, ";", "; ", 1)},
			{"Final-Recipient", addressType + "; " + f.Address.String()},
			{"Action", action},
			{"Status", f.Status},
			{"Remote-MTA", ""},
			{"Diagnostic-Code", f.diagnosticType() + "; " + oneLine(f.Diagnostic)},
			{"Will-Retry-Until", ""},
		}
		if b.Report == ReportDelayed && !b.RetryUntil.IsZero() {
			fields[6][1] = b.RetryUntil.Format(dateForm)
		}
		if f.RemoteMTA != "" {
			fields[4][1] = "dns; " + oneLine(f.RemoteMTA)
		}
		if err := writeBlock(w, fields); err != nil {
			return err
		}
	}
	return nil
}

// diagnosticType is that of RFC 3464 §2.3.6: smtp is for what an SMTP server replied, our own words have a type of their own.
func (f *FailedRecipient) diagnosticType() string {
	if f.RemoteMTA == "" {
		return "x-latchkey"
	}
	return "smtp"
}

// writeBlock writes the fields that have a value, and an empty line before them.
func writeBlock(w io.Writer, fields [][2]string) error {
	var out []byte
	for _, f := range fields {
		if f[1] == "" {
			continue
		}
		line, err := Field(f[0], f[1])
		if err != nil {
			return err
		}
		out = append(out, line...)
	}
	_, err := w.Write(append(out, crlf...))
	return err
}

// oneLine makes a remote's words fit for a header.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxDiagnostic {
		s = strings.ToValidUTF8(s[:maxDiagnostic], "")
	}
	return s
}
