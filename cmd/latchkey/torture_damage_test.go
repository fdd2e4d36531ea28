//go:build torture

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// TestTortureDamage flips octets of stored messages under a running server. What is damaged is never sent as mail, by neither door: the
// session ends without the final dot, or the message is refused; the log has it, check finds it, and the messages beside it are as before.
func TestTortureDamage(t *testing.T) {
	v, l := newVictim(t, filepath.Join(t.TempDir(), "data")), newLedger(mailboxes()...)
	v.populate("anna", "carl", submitter)
	b := newOutbox(v, l)
	v.start()
	const lines = 300<<10/lineLen - 10 // of the large one
	for _, tt := range []struct {
		name string
		size int
		line int // of the body, which is damaged
	}{
		{"small", 2000, 3}, {"first-block", 100 << 10, 1}, {"second-block", 100 << 10, 1000}, {"large", 300 << 10, lines / 2}, {"large-end", 300 << 10, lines},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v.t = t
			for _, token := range []string{"beside1-" + tt.name, tt.name, "beside2-" + tt.name} {
				c, err := v.dialMail("mx")
				if err == nil {
					err = errors.Join(c.send(l, token, tt.size, "bert"), c.conn.Close())
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			errorsBefore := len(v.log.wrong())
			undo := flipOctets(t, v.dir, bytes.TrimSpace(appendLine(nil, tt.name, tt.line)))
			v.wantDamaged(l, tt.name, tt.line)
			if wrong := v.log.wrong(); len(wrong) == errorsBefore {
				t.Errorf("the log has nothing of it\n%s", v.log.tail())
			}
			if out, err := v.tryCommand("check"); err == nil {
				t.Errorf("check finds nothing: %s", out)
			}
			undo()
			v.judge(l)
			v.sound()
			v.told(l)
		})
	}
	t.Run("queued", func(t *testing.T) {
		v.t = t
		b.damageQueued(t)
		v.told(l)
	})
	v.t = t
	v.stop()
}

// wantDamaged reads all of bert's messages and wants one to be refused or cut off, and the others whole.
func (v *victim) wantDamaged(l *ledger, token string, line int) {
	v.t.Helper()
	damaged := 0
	for n := 1; ; n++ {
		c, err := v.dialPOP("bert")
		if err != nil {
			v.t.Fatal(err)
		}
		list, err := c.list()
		if err != nil {
			v.t.Fatal(err)
		}
		if n > len(list) {
			_ = c.conn.Close() // nothing more to read
			if damaged != 1 {
				v.t.Errorf("%d messages are damaged, want 1", damaged)
			}
			return
		}
		var check letterCheck
		_, err = c.ask(fmt.Sprintf("RETR %d", n))
		if err == nil {
			err = c.lines(check.line)
		}
		_ = c.conn.Close() // the server has done so, or it has no more to say
		before := l.token("bert", list[n-1].uid)
		mine := before == token || check.token == token || n == len(list)-1 && before == ""
		if mine {
			damaged++
		}
		switch {
		case !mine && (err != nil || check.end() != nil):
			v.t.Errorf("message %d, %q beside the damaged one: %v, %v", n, check.token, err, check.end())
		case mine && err == nil:
			v.t.Errorf("the damaged message was sent to its end")
		case mine && !isRefused(err) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			v.t.Errorf("the damaged message: %v, want a refusal, or the end of the connection", err)
		case mine && (check.err != nil || check.got > line):
			v.t.Errorf("the damaged message: %d lines were sent, and line %d is the damaged one: %v", check.got, line, check.err)
		}
	}
}

// damageQueued damages a message that waits for the outside, and lets it be tried.
func (b *outbox) damageQueued(t *testing.T) {
	const token, size, line = "queued", 90 << 10, 900
	c, err := b.v.dialSubmission(submitter)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.conn.Close() }() // all is said
	rcpt := lateMail + "-" + token + abroad
	m := b.l.post(token, nil)
	b.mu.Lock()
	b.mails[rcpt] = &outgoing{kind: lateMail, letter: m}
	b.mu.Unlock()
	fields := "From: " + submitter + "@example.com\r\nDate: Mon, 2 Jan 2006 15:04:05 -0700\r\nMessage-ID: <" + token + "@example.com>\r\n"
	err = c.envelope(submitter+"@example.com", rcpt)
	if err == nil {
		err = c.ask(string(stuffed(appendLetter(nil, token, size, fields))), "250")
	}
	if err != nil {
		t.Fatal(err)
	}
	b.l.ack(m)
	tried := func(n int) func() bool {
		return func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.mails[rcpt].deferrals >= n
		}
	}
	eventually(t, "the first deferral", tried(1))
	errorsBefore := len(b.v.log.wrong())
	undo := flipOctets(t, b.v.dir, bytes.TrimSpace(appendLine(nil, token, line)))
	deferrals := 1
	for range 3 { // it is put off once or twice by the receiver
		b.tidy(t)
		eventually(t, "something said of the damaged message", func() bool {
			return tried(deferrals+1)() || len(b.v.log.wrong()) > errorsBefore
		})
		if len(b.v.log.wrong()) > errorsBefore {
			break
		}
		deferrals++
	}
	if len(b.v.log.wrong()) == errorsBefore {
		t.Errorf("the log has nothing of it\n%s", b.v.log.tail())
	}
	for _, m := range b.sink.all() {
		if strings.Contains(m.data, token) {
			t.Errorf("the damaged message was sent to %s", m.rcpt)
		}
	}
	undo()
	b.finish(t)
	if n := len(b.copies()[rcpt]); n != 1 {
		t.Errorf("%d copies after the damage was mended, want 1", n)
	}
}
