package smtp

import (
	"strings"
	"testing"
)

// A mailbox owner who asked for it is told of delivery into a mailbox, once for each address that was named; nobody else is (RFC 3461 §5.2.3).
func TestDeliveredReport(t *testing.T) {
	for _, tt := range []struct {
		name, login, from string
		rcpts             []string
		told              string // the address that is reported to alice, "" for no report
		action            string
	}{
		{"asked for", "alice", "alice@example.com", []string{"<bob@example.com> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bobby@example.com"}, "bob@example.com", "delivered"},
		{"alias of several, once", "alice", "alice@example.com", []string{"<team@example.com> NOTIFY=SUCCESS"}, "team@example.com", "expanded"},
		{
			"a mailbox that has its copy by an alias already", "alice", "alice@example.com",
			[]string{"<team@example.com>", "<bob@example.com> NOTIFY=SUCCESS"}, "bob@example.com", "delivered",
		},
		{"of two, the one that was asked for", "alice", "alice@example.com", []string{"<x@remote.example>", "<bob@example.com> NOTIFY=SUCCESS"}, "bob@example.com", "delivered"},
		{"not asked for", "alice", "alice@example.com", []string{"<bob@example.com>"}, "", "delivered"},
		{"failures only", "alice", "alice@example.com", []string{"<bob@example.com> NOTIFY=FAILURE,DELAY"}, "", "delivered"},
		{"never", "alice", "alice@example.com", []string{"<bob@example.com> NOTIFY=NEVER"}, "", "delivered"},
		{"outside, where another server has the say", "alice", "alice@example.com", []string{"<x@remote.example> NOTIFY=SUCCESS"}, "", "delivered"},
		{"from the null reverse-path", "alice", "", []string{"<bob@example.com> NOTIFY=SUCCESS"}, "", "delivered"},
		{"by a stranger", "", "x@remote.example", []string{"<bob@example.com> NOTIFY=SUCCESS"}, "", "delivered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, MX).serve()
			c := f.greeted()
			if tt.login != "" {
				c = f.loggedIn(tt.login)
			}
			before := len(f.jobs())
			c.ask("MAIL FROM:<"+tt.from+"> ENVID=E1", "250 ")
			for _, r := range tt.rcpts {
				c.ask("RCPT TO:"+r, "250 ")
			}
			c.ask("DATA", "354 ")
			c.send("From: alice@example.com\r\nSubject: original\r\n\r\nbody\r\n.\r\n")
			c.expect("250 2.")
			var reports []string
			for _, m := range f.mail("alice") {
				if strings.HasPrefix(m, "Return-Path: <>") {
					reports = append(reports, m)
				}
			}
			if tt.told == "" {
				for _, j := range f.jobs()[before:] {
					if j.ReversePath.IsZero() && tt.from != "" {
						t.Errorf("a report goes to %s", j.Recipient)
					}
				}
				if len(reports) != 0 {
					t.Errorf("told: %q", reports)
				}
				return
			}
			if len(reports) != 1 || strings.Count(reports[0], "Final-Recipient: ") != 1 {
				t.Fatalf("%d reports: %q", len(reports), reports)
			}
			for _, part := range []string{
				"Final-Recipient: rfc822; " + tt.told + "\r\n", "Action: " + tt.action + "\r\nStatus: 2.0.0\r\n", "Original-Envelope-Id: E1\r\n", "Subject: original\r\n",
			} {
				if !strings.Contains(reports[0], part) {
					t.Errorf("%q is not in the report: %q", part, reports[0])
				}
			}
			if strings.Contains(reports[0], "body\r\n") {
				t.Errorf("too much in the report: %q", reports[0])
			}
		})
	}
}
