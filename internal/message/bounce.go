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

// FailedRecipient is one recipient that a bounce reports, or any other report.
type FailedRecipient struct {
	Address mailaddr.Address
	// Original is the sender's ORCPT, "type;address"; "" if there was none.
	Original string
	// Status is the enhanced status code, such as 5.1.1 (RFC 3463).
	Status string
	// Expanded makes "expanded" of "delivered": the address leads to several (RFC 3464 §2.3.3).
	Expanded bool
	// Diagnostic is why, in one line: the remote's reply or our own words. RemoteMTA is the server that was asked, "" for none.
	Diagnostic, RemoteMTA string
	// Answered is set if the diagnostic is what RemoteMTA replied, and not our words on what went wrong with it.
	Answered bool
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
	// RetryUntil is when a delayed message is given up (RFC 3464 §2.3.9), Next when it is tried next; the zero time if that is unknown.
	RetryUntil, Next time.Time
	// Subject is that of the message reported on, decoded, for people; "" if it is unknown.
	Subject string
	// Forwarder is set where the message was to be sent on by an address of this domain, whose owner is told in place of the sender. Kept says
	// that the message is in the mailbox all the same.
	Forwarder mailaddr.Address
	Kept      bool
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
	bw.Write(head)           //nolint:errcheck // bufio keeps the first error for Flush
	bw.WriteString(b.text()) //nolint:errcheck // as above
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
		{"Subject", b.subject()},
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

// deliveryStatus is the part for programs: the fields of the message, then those of each recipient (RFC 3464 §2).
func (b *Bounce) deliveryStatus(w io.Writer) error {
	kind, addressType := "message/delivery-status", "rfc822"
	if b.UTF8 {
		// RFC 6533 §4: what is not 7-bit says so.
		kind, addressType = "message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit", "utf-8"
	}
	fmt.Fprintf(w, "--%s\r\nContent-Type: %s\r\n\r\n", b.boundary(), kind)
	fields := [][2]string{{"Original-Envelope-Id", b.EnvelopeID}, {"Reporting-MTA", "dns; " + b.Hostname}, {"Arrival-Date", ""}}
	if !b.Arrived.IsZero() {
		fields[2][1] = b.Arrived.Format(dateForm)
	}
	if err := writeBlock(w, fields); err != nil {
		return err
	}
	for _, f := range b.Failed[:min(len(b.Failed), MaxFailedRecipients)] {
		fields := [][2]string{
			{"Original-Recipient", b.original(f.Original)},
			{"Final-Recipient", addressType + "; " + f.Address.String()},
			{"Action", b.action(&f)},
			{"Status", f.Status},
			{"Remote-MTA", ""},
			{"Diagnostic-Code", f.diagnosticType() + "; " + b.plain(oneLine(f.Diagnostic))},
			{"Will-Retry-Until", ""},
		}
		if b.Report == ReportDelayed && !b.RetryUntil.IsZero() {
			fields[6][1] = b.RetryUntil.Format(dateForm)
		}
		if f.RemoteMTA != "" {
			fields[4][1] = "dns; " + b.plain(oneLine(f.RemoteMTA))
		}
		if err := writeBlock(w, fields); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bounce) action(f *FailedRecipient) string {
	switch {
	case b.Report == ReportDelayed:
		return "delayed"
	case b.Report == ReportRelayed:
		return "relayed"
	case b.Report == ReportDelivered && f.Expanded:
		return "expanded"
	case b.Report == ReportDelivered:
		return "delivered"
	}
	return "failed"
}

// original is an ORCPT as a field has it. In a report that is not international an address in UTF-8 has the form for that (RFC 6533 §3).
func (b *Bounce) original(typed string) string {
	kind, address, found := strings.Cut(typed, ";")
	if !found {
		return typed
	}
	if b.UTF8 {
		return kind + "; " + address
	}
	var out strings.Builder
	for _, r := range address {
		if r < 0x80 {
			out.WriteRune(r)
			continue
		}
		fmt.Fprintf(&out, `\x{%02X}`, r)
	}
	return kind + "; " + out.String()
}

// plain makes a text fit for a report that is not international: its fields are ASCII (RFC 3464 §2.1).
func (b *Bounce) plain(s string) string {
	if b.UTF8 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r >= 0x80 {
			return '?'
		}
		return r
	}, s)
}

// diagnosticType is that of RFC 3464 §2.3.6: smtp is for what an SMTP server replied, our own words have a type of their own.
func (f *FailedRecipient) diagnosticType() string {
	if !f.Answered {
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
