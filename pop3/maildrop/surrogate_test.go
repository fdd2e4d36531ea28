package maildrop

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// deliverUTF8 delivers a message to alice as one that came with SMTPUTF8.
func (f *fixture) deliverUTF8(header, body string) {
	f.t.Helper()
	to, err := mailaddr.New("alice", "example.com")
	if err != nil {
		f.t.Fatal(err)
	}
	d, err := f.store.NewDraft(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := io.WriteString(d, header+body); err != nil {
		f.t.Fatal(err)
	}
	if _, err := d.Commit(f.t.Context(), store.Envelope{
		Received: time.Now(), HeaderLen: int64(len(header)), UTF8: true,
		Recipients: []store.Recipient{{Address: to, Account: f.alice.ID, Prefix: []byte("Return-Path: <boss@bücher.example>\r\n")}},
	}); err != nil {
		f.t.Fatal(err)
	}
}

// TestSurrogates: a client that did not say UTF8 sees a message from an international address, with the numbers, sizes and unique-ids that one
// with UTF8 sees, in ASCII but for its text; what came without SMTPUTF8 is left alone (RFC 6856 §2.1).
func TestSurrogates(t *testing.T) {
	f := newFixture(t)
	f.deliverUTF8("Received: from mx.bücher.example by mail.example.com; Sat, 28 Nov 2026 12:00:00 +0000\r\n"+
		"DKIM-Signature: v=1; d=xn--bcher-kva.example; b="+strings.Repeat("A", 300)+"\r\n"+
		"From: user@bücher.example\r\nSubject: Grüße\r\n\r\n", "Hällo\r\nsecond\r\n")
	f.deliverUTF8("Subject: ü", "")
	f.deliver("Subject: as ever ü\r\n\r\n", "3\r\n")
	last := len(f.messages())
	sizes := map[string][]string{}
	for _, mode := range []string{"UTF8", "NOOP"} {
		c := f.talk(t)
		if mode == "UTF8" {
			c.ask("UTF8", "+OK")
		}
		c.ask("USER alice", "+OK")
		c.ask("PASS open sesame", "+OK")
		sizes[mode] = append([]string{c.ask("STAT", "+OK")}, append(c.lines("LIST"), c.lines("UIDL")...)...)
		for n := last - 2; n <= last; n++ {
			var listed, octets int
			if _, err := fmt.Sscanf(c.ask(fmt.Sprintf("LIST %d", n), "+OK"), "+OK %d %d", &listed, &octets); err != nil {
				t.Fatal(err)
			}
			got := strings.Join(c.lines(fmt.Sprintf("RETR %d", n)), "\r\n") + "\r\n"
			if strings.HasSuffix(got, "Subject: ü\r\n") || strings.HasSuffix(got, "Subject: __\r\n") {
				octets += len("\r\n") // the line that RETR must end
			}
			if len(got) != octets {
				t.Errorf("%s: message %d has %d octets and is listed with %d", mode, n, len(got), octets)
			}
			header, _, _ := strings.Cut(got, "\r\n\r\n")
			top := strings.Join(c.lines(fmt.Sprintf("TOP %d 0", n)), "\r\n")
			if !strings.HasPrefix(top, header[:len(header)-len("ü")]) {
				t.Errorf("%s: TOP has %q, RETR %q", mode, top, header)
			}
			ascii := !strings.ContainsFunc(header, func(r rune) bool { return r > '~' })
			if left := mode == "UTF8" || strings.Contains(header, "as ever"); ascii && left && strings.Contains(header, "Subject: Gr") {
				t.Errorf("%s: a surrogate: %q", mode, header)
			} else if !ascii && !left {
				t.Errorf("%s: not ASCII: %q", mode, header)
			}
			if n == last-2 && !strings.Contains(got, "\r\n\r\nHällo\r\nsecond\r\n") {
				t.Errorf("text of %q", got)
			}
		}
		if mode == "NOOP" {
			top := strings.Join(c.lines(fmt.Sprintf("TOP %d 1", last-2)), "\n")
			if !strings.Contains(top, "\nHällo") || strings.Contains(top, "second") || !strings.Contains(top, "invalid@internationalized-address.invalid") {
				t.Errorf("TOP %q", top)
			}
		}
		c.ask("QUIT", "+OK")
	}
	if fmt.Sprint(sizes["UTF8"]) != fmt.Sprint(sizes["NOOP"]) {
		t.Errorf("with UTF8 %v, without %v", sizes["UTF8"], sizes["NOOP"])
	}
}

// TestEightBitMail: octets above 0x7F in the header of a message that came without SMTPUTF8, and in the body of any, go out as they came to a
// client that has not said UTF8: in UTF-8, in Latin-1 and in neither (docs/adr/0013).
func TestEightBitMail(t *testing.T) {
	f := newFixture(t)
	header, body := "From: gr\xfc\xdfe <a@example.com>\r\nSubject: as ever \u00fc\r\n\r\n", "H\xe4llo\r\nH\u00e4llo\r\n\xff\x80\r\n"
	f.deliver(header, body)
	n := len(f.messages())
	for _, mode := range []string{"NOOP", "UTF8"} {
		c := f.talk(t)
		if mode == "UTF8" {
			c.ask("UTF8", "+OK")
		}
		c.login("alice", "open sesame")
		if got := strings.Join(c.lines(fmt.Sprintf("RETR %d", n)), "\r\n") + "\r\n"; !strings.HasSuffix(got, header+body) {
			t.Errorf("%s: RETR has %q, want %q at its end", mode, got, header+body)
		}
		if got := strings.Join(c.lines(fmt.Sprintf("TOP %d 1", n)), "\r\n") + "\r\n"; !strings.HasSuffix(got, header+"H\xe4llo\r\n") {
			t.Errorf("%s: TOP has %q, want %q and a line", mode, got, header)
		}
		c.ask("QUIT", "+OK")
	}
}
