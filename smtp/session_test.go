package smtp

import (
	"context"
	"encoding/base64"
	"net/netip"
	"strings"
	"testing"

	"latchkey/store"
)

func plain(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
}

const shortMessage = "From: x@remote.example\r\nSubject: hi\r\n\r\nhello\r\n"

func TestDeliverLocal(t *testing.T) {
	f := newFixture(t, MX).serve()
	c := f.greeted()
	c.ask("MAIL FROM:<x@remote.example>", "250 2.")
	c.ask("RCPT TO:<bob@example.com>", "250 2.")
	c.ask("DATA", "354 ")
	c.send(shortMessage + ".\r\n")
	line := c.expect("250 2.0.0 queued as ")
	c.ask("QUIT", "221 2.")
	c.closed()
	got := f.oneMail("bob")
	if !strings.HasPrefix(got, "Return-Path: <x@remote.example>\r\nDelivered-To: bob@example.com\r\nReceived: from client.example ([127.0.0.1])\r\n\tby mail.example.com with ESMTP id ") ||
		!strings.HasSuffix(got, "\r\n"+shortMessage) {
		t.Errorf("got %q", got)
	}
	id, err := store.ParseMessageID(strings.TrimPrefix(line, "250 2.0.0 queued as "))
	f.must(err)
	events, err := f.store.MessageTrail(context.Background(), id)
	f.must(err)
	want := store.Origin{Door: "mx", Remote: netip.MustParseAddr("127.0.0.1"), Hello: "client.example", With: "ESMTP"}
	if len(events) != 2 || events[0].Origin != want {
		t.Errorf("trail: %+v", events)
	}
}
