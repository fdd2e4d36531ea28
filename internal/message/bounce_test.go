package message

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
)

func testBounce() *Bounce {
	at := func(s string) mailaddr.Address {
		a, err := mailaddr.Parse(s)
		if err != nil {
			panic(err)
		}
		return a
	}
	return &Bounce{
		Hostname: "mail.example.com", Domain: "example.com", To: at("alice@example.com"), ID: "0123abcd",
		Date: time.Unix(1e9, 0).UTC(), Arrived: time.Unix(1e9-60, 0).UTC(), EnvelopeID: "E1",
		Failed: []FailedRecipient{
			{Address: at("bob@remote.example"), Original: "rfc822;b@remote.example", Status: "5.1.1", Diagnostic: "550 5.1.1 no such user\r\nBcc: x", RemoteMTA: "mx.remote.example", Answered: true},
			{Address: at("carol@example.com"), Status: "5.2.2", Diagnostic: "Mailbox is full"},
		},
	}
}

// readBounce takes a bounce apart with the standard library.
func readBounce(t *testing.T, raw []byte, headerLen int64) (types, bodies []string) {
	t.Helper()
	if !bytes.HasSuffix(raw[:headerLen], []byte("\r\n\r\n")) {
		t.Errorf("header length %d is not the end of the header", headerLen)
	}
	if bytes.Contains(bytes.ReplaceAll(raw, []byte(crlf), nil), []byte("\n")) {
		t.Error("bare LF in a bounce")
	}
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" {
		t.Fatalf("type %q: %v", kind, err)
	}
	types = append(types, params["report-type"])
	parts := multipart.NewReader(m.Body, params["boundary"])
	for {
		p, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return types, bodies
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		types, bodies = append(types, p.Header.Get("Content-Type")), append(bodies, string(b))
	}
}

func TestBounceHeaders(t *testing.T) {
	var out bytes.Buffer
	n, err := testBounce().WriteHeaders(&out, []byte("From: alice\r\nSubject: x\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	types, bodies := readBounce(t, out.Bytes(), n)
	if got, want := fmt.Sprint(types), "[delivery-status text/plain; charset=utf-8 message/delivery-status text/rfc822-headers]"; got != want {
		t.Errorf("types: got %s, want %s", got, want)
	}
	if !strings.Contains(bodies[0], "bob@remote.example") || bodies[2] != "From: alice\r\nSubject: x\r\n" {
		t.Errorf("bodies: %q", bodies)
	}
	r := textproto.NewReader(bufio.NewReader(strings.NewReader(bodies[1])))
	want := []map[string]string{
		{"Reporting-Mta": "dns; mail.example.com", "Original-Envelope-Id": "E1", "Arrival-Date": "Sun, 9 Sep 2001 01:45:40 +0000"},
		{
			"Original-Recipient": "rfc822; b@remote.example", "Final-Recipient": "rfc822; bob@remote.example", "Action": "failed",
			"Status": "5.1.1", "Remote-Mta": "dns; mx.remote.example", "Diagnostic-Code": "smtp; 550 5.1.1 no such user  Bcc: x",
		},
		{"Final-Recipient": "rfc822; carol@example.com", "Action": "failed", "Status": "5.2.2", "Diagnostic-Code": "x-latchkey; Mailbox is full"},
	}
	for i, w := range want {
		got, err := r.ReadMIMEHeader()
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if len(got) != len(w) {
			t.Errorf("block %d: got %v", i, got)
		}
		for k, v := range w {
			if got.Get(k) != v {
				t.Errorf("block %d, %s: got %q, want %q", i, k, got.Get(k), v)
			}
		}
	}
}

func TestBounceMessage(t *testing.T) {
	b := testBounce()
	b.UTF8 = true
	var out bytes.Buffer
	n, err := b.WriteMessage(&out, strings.NewReader("A: 1\n\n.\nx"))
	if err != nil {
		t.Fatal(err)
	}
	types, bodies := readBounce(t, out.Bytes(), n)
	if got, want := fmt.Sprint(types), "[global-delivery-status text/plain; charset=utf-8 message/global-delivery-status message/global]"; got != want {
		t.Errorf("types: got %s, want %s", got, want)
	}
	if bodies[2] != "A: 1\r\n\r\n.\r\nx\r\n" {
		t.Errorf("returned message: %q", bodies[2])
	}
	if !strings.Contains(bodies[1], "Final-Recipient: utf-8; bob@remote.example\r\n") {
		t.Errorf("status: %q", bodies[1])
	}
}

// TestReports reads each kind of report: its action, its subject, and the date until which is tried only where it means something.
func TestReports(t *testing.T) {
	tests := []struct {
		report          Report
		action, subject string
		until           bool
	}{
		{ReportFailed, "failed", "Not delivered: your message to 2 addresses", false},
		{ReportDelayed, "delayed", "Your message is delayed, and still being tried: 2 addresses", true},
		{ReportRelayed, "relayed", "Your message was handed on: 2 addresses", false},
		{ReportDelivered, "delivered", "Your message was delivered: 2 addresses", false},
	}
	for _, tt := range tests {
		b := testBounce()
		b.Report, b.RetryUntil = tt.report, time.Unix(1e9+3600, 0).UTC()
		var out bytes.Buffer
		n, err := b.WriteHeaders(&out, []byte("From: alice\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		_, bodies := readBounce(t, out.Bytes(), n)
		if got := strings.Count(bodies[1], "\r\nAction: "+tt.action+"\r\n"); got != len(b.Failed) {
			t.Errorf("%s: %d actions of it in %q", tt.action, got, bodies[1])
		}
		if !strings.Contains(out.String()[:n], "\r\nSubject: "+tt.subject+"\r\n") {
			t.Errorf("%s: header %q", tt.action, out.String()[:n])
		}
		if got := strings.Contains(bodies[1], "\r\nWill-Retry-Until: Sun, 9 Sep 2001 02:46:40 +0000\r\n"); got != tt.until {
			t.Errorf("%s: Will-Retry-Until %v, want %v", tt.action, got, tt.until)
		}
		if got := strings.Contains(bodies[0], "spelt right"); got != (tt.report == ReportFailed) {
			t.Errorf("%s: a cure in the text: %v", tt.action, got)
		}
	}
}

func TestBounceBounds(t *testing.T) {
	b := testBounce()
	for len(b.Failed) < MaxFailedRecipients+5 {
		b.Failed = append(b.Failed, b.Failed[1])
	}
	var out bytes.Buffer
	if _, err := b.WriteHeaders(&out, nil); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "Final-Recipient:"); n != MaxFailedRecipients {
		t.Errorf("%d recipients reported, want %d", n, MaxFailedRecipients)
	}
	if !strings.Contains(out.String(), "... and 5 more\r\n") {
		t.Error("the rest is not summed up")
	}
	for _, id := range []string{"", "a b", "a\r\nB: c", strings.Repeat("a", 61)} {
		bad := testBounce()
		bad.ID = id
		if _, err := bad.WriteHeaders(io.Discard, nil); !errors.Is(err, ErrBounce) {
			t.Errorf("ID %q: got %v", id, err)
		}
	}
	if _, err := (&Bounce{ID: "a"}).WriteHeaders(io.Discard, nil); !errors.Is(err, ErrBounce) {
		t.Errorf("nobody to report: got %v", err)
	}
}

func FuzzBounce(f *testing.F) {
	f.Add("550 no\r\nX: y", "A: 1\r\n", "rfc822;x")
	f.Fuzz(func(t *testing.T, diagnostic, header, original string) {
		b := testBounce()
		b.Failed[0].Diagnostic, b.Failed[0].Original = diagnostic, original
		var out bytes.Buffer
		n, err := b.WriteHeaders(&out, []byte(header))
		if err != nil {
			if errors.Is(err, ErrInjection) {
				return
			}
			t.Fatal(err)
		}
		if _, err := NewStrictReader(bytes.NewReader(out.Bytes())).Read(make([]byte, out.Len()+2)); err != nil {
			t.Fatal(err)
		}
		types, _ := readBounce(t, out.Bytes(), n)
		if len(types) != 4 {
			t.Fatalf("parts: %v", types)
		}
	})
}
