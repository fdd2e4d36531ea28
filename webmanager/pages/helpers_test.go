package pages

import (
	"crypto/tls"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/internal/refusal"
	"latchkey/store"
)

// tlsState makes a request one that came by TLS.
var tlsState = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true}

// note remembers a refusal about a mailbox.
func (s *site) note(mailbox, why string) {
	s.refusals.Note(refusal.Event{
		Time: noon, Name: refusal.AuthBanned, Door: "submission", Remote: netip.MustParseAddr("192.0.2.9"), Mailbox: mailbox, Why: why,
	})
}

// put puts a message, whose lines end with \n here, into a mailbox, and returns its unique-id.
func (s *site) put(name, message string) string {
	s.Helper()
	to, err := mailaddr.Parse(name + "@" + domain)
	if err != nil {
		s.Fatal(err)
	}
	d, err := s.store.NewDraft(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	wire := strings.ReplaceAll(message, "\n", "\r\n")
	if _, err := d.Write([]byte(wire)); err != nil {
		s.Fatal(err)
	}
	header, _, _ := strings.Cut(wire, "\r\n\r\n")
	receipt, err := d.Commit(s.Context(), store.Envelope{
		Received: noon, HeaderLen: int64(min(len(header)+4, len(wire))), Origin: store.Origin{Door: "mx"},
		Recipients: []store.Recipient{{Address: to, Account: s.account(name).ID}},
	})
	if err != nil {
		s.Fatal(err)
	}
	return receipt.Copies[0].UID
}

// send stores a message of a mailbox, and returns its number. It is so late that the trail, which forgets by the real clock, keeps it.
func (s *site) send(from, headerID string, to ...string) string {
	s.Helper()
	parse := func(text string) mailaddr.Address {
		a, err := mailaddr.Parse(text)
		if err != nil {
			s.Fatal(err)
		}
		return a
	}
	d, err := s.store.NewDraft(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	e := store.Envelope{
		ReversePath: parse(from + "@" + domain), Submitter: s.account(from).ID, Received: time.Date(2099, 4, 1, 12, 0, 0, 0, time.UTC), HeaderID: headerID,
		Origin: store.Origin{Door: "submission", Remote: netip.MustParseAddr("192.0.2.9"), TLS: "TLS 1.3"},
	}
	for _, text := range to {
		r := store.Recipient{Address: parse(text)}
		if box, local := strings.CutSuffix(text, "@"+domain); local {
			r.Account = s.account(box).ID
		}
		e.Recipients = append(e.Recipients, r)
	}
	receipt, err := d.Commit(s.Context(), e)
	if err != nil {
		s.Fatal(err)
	}
	return receipt.Message.String()
}

// parse reads the fields of a form as a browser sends them.
func parse(t *testing.T, fields string) url.Values {
	t.Helper()
	values, err := url.ParseQuery(fields)
	if err != nil {
		t.Fatal(err)
	}
	return values
}
