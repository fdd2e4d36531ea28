package smtp

import (
	"encoding/base64"
	"strings"
	"testing"
)

func plain(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
}

const shortMessage = "From: x@remote.example\r\nSubject: hi\r\n\r\nhello\r\n"

func TestDeliverLocal(t *testing.T) {
	f := newFixture(t, MX).serve()
	c := f.greeted()
	c.message("x@remote.example", "bob@example.com", shortMessage)
	c.ask("QUIT", "221 2.")
	c.closed()
	got := f.oneMail("bob")
	if !strings.HasPrefix(got, "Return-Path: <x@remote.example>\r\nDelivered-To: bob@example.com\r\nReceived: from client.example ([127.0.0.1])\r\n\tby mail.example.com with ESMTP id ") ||
		!strings.HasSuffix(got, "\r\n"+shortMessage) {
		t.Errorf("got %q", got)
	}
}
