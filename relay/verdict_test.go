package relay

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"os"
	"strings"
	"syscall"
	"testing"

	gosmtp "github.com/emersion/go-smtp"

	"latchkey/store"
)

// TestClassify is the meaning of every answer at every stage.
func TestClassify(t *testing.T) {
	reply := func(code int, enhanced string, text string) error {
		e := &gosmtp.SMTPError{Code: code, Message: text}
		if enhanced != "" {
			_, _ = fmt.Sscanf(enhanced, "%d.%d.%d", &e.EnhancedCode[0], &e.EnhancedCode[1], &e.EnhancedCode[2])
		}
		return fmt.Errorf("wrapped: %w", e)
	}
	tests := []struct {
		at       stage
		accepted int
		err      error
		kind     store.OutcomeKind
		scope    scope
		status   string
	}{
		{atGreeting, 0, reply(554, "5.7.1", "no"), store.Failed, aboutHost, "5.7.1"},
		{atGreeting, 0, reply(421, "", "busy"), store.Deferred, aboutHost, "4.0.0"},
		{atGreeting, 0, reply(450, "", "busy"), store.Deferred, aboutHost, "4.0.0"},
		{atGreeting, 0, reply(250, "", "odd"), store.Deferred, aboutHost, "4.5.0"},
		{atHello, 0, reply(550, "", "no"), store.Failed, aboutHost, "5.0.0"},
		{atHello, 0, reply(451, "4.3.0", "no"), store.Deferred, aboutHost, "4.3.0"},
		{atTLS, 0, reply(454, "", "no"), store.Deferred, aboutHost, "4.0.0"},
		{atAuth, 0, reply(535, "5.7.8", "no"), store.Deferred, aboutHost, "4.7.8"},
		{atAuth, 0, reply(454, "4.7.0", "no"), store.Deferred, aboutHost, "4.7.8"},
		{atMail, 0, reply(550, "5.7.1", "no"), store.Failed, aboutMessage, "5.7.1"},
		{atMail, 0, reply(451, "4.7.1", "no"), store.Deferred, aboutMessage, "4.7.1"},
		{atMail, 0, reply(421, "4.7.0", "slow down"), store.Deferred, aboutHost, "4.7.0"},
		{atMail, 0, reply(354, "", "odd"), store.Deferred, aboutHost, "4.5.0"},
		{atMail, 0, reply(650, "", "odd"), store.Deferred, aboutHost, "4.5.0"},
		{atMail, 0, reply(399, "", "odd"), store.Deferred, aboutHost, "4.5.0"},
		{atMail, 0, reply(599, "", "odd"), store.Failed, aboutMessage, "5.0.0"},
		{atRcpt, 0, reply(550, "5.1.1", "no"), store.Failed, aboutRecipient, "5.1.1"},
		{atRcpt, 0, reply(450, "4.7.1", "grey"), store.Deferred, aboutRecipient, "4.7.1"},
		{atRcpt, 3, reply(421, "", "no"), store.Deferred, aboutHost, "4.0.0"},
		{atRcpt, 0, reply(552, "", "full"), store.Failed, aboutRecipient, "5.0.0"},
		{atRcpt, 1, reply(552, "", "too many"), store.Deferred, aboutRecipient, tooManyRecipients},
		{atRcpt, 1, reply(552, "5.5.3", "too many"), store.Deferred, aboutRecipient, tooManyRecipients},
		{atRcpt, 1, reply(552, "5.2.2", "mailbox full"), store.Failed, aboutRecipient, "5.2.2"},
		{atRcpt, 0, reply(452, "", "full"), store.Deferred, aboutRecipient, "4.0.0"},
		{atRcpt, 1, reply(452, "", "too many"), store.Deferred, aboutRecipient, tooManyRecipients},
		{atRcpt, 1, reply(452, "4.5.3", "too many"), store.Deferred, aboutRecipient, tooManyRecipients},
		{atRcpt, 1, reply(452, "4.2.2", "mailbox full"), store.Deferred, aboutRecipient, "4.2.2"},
		{atData, 1, reply(554, "5.5.1", "no valid recipients"), store.Failed, aboutMessage, "5.5.1"},
		{atData, 1, reply(451, "", "no"), store.Deferred, aboutMessage, "4.0.0"},
		{atData, 1, reply(250, "", "odd"), store.Deferred, aboutHost, "4.5.0"},
		{atEnd, 1, reply(554, "5.7.1", "spam"), store.Failed, aboutMessage, "5.7.1"},
		{atEnd, 1, reply(451, "4.7.1", "later"), store.Deferred, aboutMessage, "4.7.1"},
		{atEnd, 1, reply(421, "", "closing"), store.Deferred, aboutHost, "4.0.0"},
		// A class of status that is not the code's is not believed (RFC 2034 §4).
		{atRcpt, 0, reply(450, "5.1.1", "odd"), store.Deferred, aboutRecipient, "4.0.0"},
		{atRcpt, 0, reply(550, "4.1.1", "odd"), store.Failed, aboutRecipient, "5.0.0"},
		{atDial, 0, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, store.Deferred, aboutHost, "4.4.1"},
		{atGreeting, 0, io.EOF, store.Deferred, aboutHost, "4.4.2"},
		{atEnd, 1, io.EOF, store.Deferred, aboutHost, "4.4.2"},
	}
	for _, tt := range tests {
		v := classify(tt.at, tt.accepted, tt.err)
		if v.kind != tt.kind || v.scope != tt.scope || v.status != tt.status {
			t.Errorf("%v, %d accepted, %v: got %s, scope %d, %s; want %s, scope %d, %s",
				tt.at, tt.accepted, tt.err, v.kind, v.scope, v.status, tt.kind, tt.scope, tt.status)
		}
		if first := "4"; v.kind == store.Deferred && v.status[:1] != first {
			t.Errorf("%v: a deferred job with status %s", tt.err, v.status)
		}
	}
}

func TestReasons(t *testing.T) {
	for _, tt := range []struct {
		at   stage
		err  error
		want string
	}{
		{atDial, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "no connection: connection refused"},
		{atDial, &net.OpError{Op: "dial", Err: syscall.ENETUNREACH}, "no connection: no way to that network from here"},
		{atDial, errHurried, "no connection: no answer in time"},
		{atGreeting, os.ErrDeadlineExceeded, "no answer in time while waiting for the greeting"},
		{atMail, syscall.ECONNRESET, "connection lost at MAIL"},
		{atRcpt, textproto.ProtocolError("x"), "an answer that is not SMTP at RCPT"},
		{atData, errReplyTooLong, "the host's reply has no end at DATA"},
		{atEnd, io.ErrUnexpectedEOF, "connection lost after the message was sent, before the reply; it may arrive twice"},
		{atMail, errors.New("secret path /x"), "connection failed at MAIL"},
	} {
		if got := broken(tt.at, tt.err).words; got != tt.want {
			t.Errorf("%v at %v: got %q, want %q", tt.err, tt.at, got, tt.want)
		}
	}
}

// TestWords: a reply becomes one line, with its host in front.
func TestWords(t *testing.T) {
	v := classify(atRcpt, 0, toReply(550, "5.1.1 no\n5.1.1 such\x00\x1b[2J user"))
	v.peer = peer{host: "mx.remote.example", addr: netip.MustParseAddr("2001:db8::1"), facts: TLSFacts{Version: tls.VersionTLS13}}
	if got, want := v.text(), "mx.remote.example [IPv6:2001:db8::1] TLS 1.3: 550 5.1.1 no such  [2J user"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	long := classify(atRcpt, 0, toReply(550, strings.Repeat("x", 5000)))
	if len(long.words) > store.MaxOutcomeText {
		t.Errorf("%d octets of words", len(long.words))
	}
}

func TestConcludePrefersHope(t *testing.T) {
	refused := ours(store.Failed, aboutDestination, "5.4.6", "forbidden")
	answered := verdict{kind: store.Failed, status: "5.7.1", words: "554", answered: true}
	silent := verdict{kind: store.Deferred, status: "4.4.1", words: "silent"}
	busy := verdict{kind: store.Deferred, status: "4.0.0", words: "421", answered: true}
	for _, tt := range []struct {
		list []verdict
		want string
	}{
		{nil, "no host of the destination could be tried"},
		{[]verdict{refused}, "forbidden"}, {[]verdict{refused, answered}, "554"}, {[]verdict{answered, silent, refused}, "silent"},
		{[]verdict{silent, busy, answered}, "421"}, {[]verdict{busy, silent}, "421"},
	} {
		if got := conclude(tt.list); got.words != tt.want || got.scope != aboutDestination {
			t.Errorf("%+v: got %+v", tt.list, got)
		}
	}
}
