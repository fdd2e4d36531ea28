package smtp

import (
	"context"
	"strings"
	"testing"

	"latchkey/store"
)

// TestRequireTLS: REQUIRETLS and TLS-Required stay with the message (RFC 8689 §4.1).
func TestRequireTLS(t *testing.T) {
	for _, tt := range []struct {
		name, param, header string
		want                store.TLSDemand
	}{
		{"nothing", "", "", store.TLSUnset},
		{"REQUIRETLS", " REQUIRETLS", "", store.TLSRequired},
		{"the header field", "", "TLS-Required: No\r\n", store.TLSOptional},
		{"the header field, any letters", "", "tls-required:\r\n no \r\n", store.TLSOptional},
		{"both: the field is ignored", " REQUIRETLS", "TLS-Required: No\r\n", store.TLSRequired},
		{"another value", "", "TLS-Required: Yes\r\n", store.TLSUnset},
		{"twice", "", "TLS-Required: No\r\nTLS-Required: No\r\n", store.TLSUnset},
		{"in the body", "", "Subject: x\r\n\r\nTLS-Required: No\r\n", store.TLSUnset},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, Submission).serve()
			c := f.greeted()
			c.starttls()
			c.ask("EHLO client.example", "250")
			c.login("alice")
			c.ask("MAIL FROM:<alice@example.com>"+tt.param, "250 ")
			c.ask("RCPT TO:<x@remote.example>", "250 ")
			c.ask("RCPT TO:<y@remote.example>", "250 ")
			c.ask("DATA", "354 ")
			c.send("From: alice@example.com\r\n" + tt.header + "\r\nbody\r\n.\r\n")
			c.expect("250 2.")
			jobs := f.jobs()
			if len(jobs) != 2 || jobs[0].TLS != tt.want || jobs[1].TLS != tt.want {
				t.Errorf("jobs %+v, want %d", jobs, tt.want)
			}
		})
	}
}

// hooked is a store that does something before each commit.
type hooked struct {
	Store
	before func()
}

type hookedDraft struct {
	store.Draft
	before func()
}

func (h hooked) NewDraft(ctx context.Context) (store.Draft, error) {
	d, err := h.Store.NewDraft(ctx)
	return hookedDraft{d, h.before}, err
}

func (d hookedDraft) Commit(ctx context.Context, e store.Envelope) (store.Receipt, error) {
	d.before()
	return d.Draft.Commit(ctx, e)
}

// TestRequireTLSReport: a report on such a message is protected as it was (RFC 8689 §5). What changes in the last moment is reported to strangers too.
func TestRequireTLSReport(t *testing.T) {
	var f *fixture
	f = newFixture(t, MX, func(o *Options) {
		o.Store = hooked{o.Store, func() { f.update("bob", func(a *store.Account) { a.Suspended = true }) }}
	}).serve()
	c := f.greeted()
	c.starttls()
	if lines := strings.Join(c.ehlo(), "\n"); !strings.Contains(lines, "REQUIRETLS") {
		t.Fatalf("offered: %s", lines)
	}
	c.ask("MAIL FROM:<x@remote.example> REQUIRETLS", "250 ")
	c.ask("RCPT TO:<bob@example.com>", "250 ")
	c.ask("RCPT TO:<alice@example.com>", "250 ")
	c.ask("DATA", "354 ")
	c.send("From: x@remote.example\r\n\r\nbody\r\n.\r\n")
	c.expect("250 2.")
	if jobs := f.jobs(); len(jobs) != 1 || jobs[0].TLS != store.TLSRequired || !jobs[0].ReversePath.IsZero() {
		t.Errorf("jobs %+v", jobs)
	}
}
