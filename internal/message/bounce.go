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
)

// FailedRecipient is one recipient that a bounce reports.
type FailedRecipient struct {
	Address mailaddr.Address
	// Original is the sender's ORCPT, "type;address"; "" if there was none.
	Original string
	// Status is the enhanced status code, such as 5.1.1 (RFC 3463).
	Status string
	// Diagnostic is why, in one line: the remote's reply or our own words. RemoteMTA is who said so, "" for ourselves.
	Diagnostic, RemoteMTA string
}

// Bounce is a report that a message could not be delivered: a multipart/report (RFC 6522) with a delivery status (RFC 3464), or with
// their internationalised forms (RFC 6533) if UTF8 is set. It is written as a stream, whatever the size of what is returned.
type Bounce struct {
	// Hostname is who reports, Domain whose postmaster signs.
	Hostname, Domain string
	// To is the reverse-path of the message that failed. The bounce itself has a null reverse-path (RFC 5321 §6.1).
	To mailaddr.Address
	// Date is now; Arrived is when the message came, the zero time if that is unknown.
	Date, Arrived time.Time
	// EnvelopeID is the sender's ENVID, "" if there was none.
	EnvelopeID string
	// ID makes the message id and the boundary: it must be random, 1 to 60 letters and digits, so that it occurs nowhere else.
	ID     string
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
		{"Subject", "Undelivered mail returned to sender"},
		{"Date", b.Date.Format("Mon, 2 Jan 2006 15:04:05 -0700")},
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
	fmt.Fprintf(w, "--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n", b.boundary())
	fmt.Fprintf(w, "This is the mail server %s. Your message could not be delivered to:\r\n\r\n", b.Hostname)
	for i, f := range b.Failed {
		if i == MaxFailedRecipients {
			fmt.Fprintf(w, "  ... and %d more\r\n", len(b.Failed)-i)
			break
		}
		fmt.Fprintf(w, "  %s\r\n    %s\r\n", f.Address, oneLine(f.Diagnostic))
	}
	fmt.Fprint(w, "\r\nThe others, if there were any, got it. For help write to postmaster@"+b.Domain+".\r\n\r\n")
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
		fields[2][1] = b.Arrived.Format("Mon, 2 Jan 2006 15:04:05 -0700")
	}
	if err := writeBlock(w, fields); err != nil {
		return err
	}
	for _, f := range b.Failed[:min(len(b.Failed), MaxFailedRecipients)] {
		fields := [][2]string{
			{"Original-Recipient", strings.Replace(f.Original, ";", "; ", 1)},
			{"Final-Recipient", addressType + "; " + f.Address.String()},
			{"Action", "failed"},
			{"Status", f.Status},
			{"Remote-MTA", ""},
			{"Diagnostic-Code", "smtp; " + oneLine(f.Diagnostic)},
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
