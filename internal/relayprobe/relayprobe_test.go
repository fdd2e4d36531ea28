package relayprobe

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestListIsComplete: every trick of the list that the specification names has a probe, whatever the domain is called.
func TestListIsComplete(t *testing.T) {
	for _, target := range []Target{Example(), {Domain: "kümmel.invalid", Host: "mx.invalid", Address: "2001:db8::7", Sender: "a@kümmel.invalid", Recipient: "b@kümmel.invalid"}} {
		var rcpts, all []string
		names := map[string]bool{}
		for _, p := range target.Probes() {
			if names[p.Name] {
				t.Errorf("%s: twice", p.Name)
			}
			names[p.Name] = true
			rcpts = append(rcpts, p.Command())
			all = append(all, p.Hello, p.Mail, p.Data, p.Command(), strings.Join(p.Before, "\r\n"))
		}
		us, ip := target.Domain, target.literal()
		for _, rcpt := range []string{
			"victim@elsewhere.example", "victim%elsewhere.example@" + us, "victim%elsewhere.example@" + ip, `"victim@elsewhere.example"`,
			`"victim%elsewhere.example"`, "victim@elsewhere.example@" + us, `"victim@elsewhere.example"@` + us, "@" + us + ":victim@elsewhere.example",
			"@" + ip + ":victim@elsewhere.example", "elsewhere.example!victim", "elsewhere.example!victim@" + us, "victim@elsewhere.example.",
			"ViCtIm@eLsEwHeRe.ExAmPlE", "victim@" + target.lookAlike(),
		} {
			if !slices.Contains(rcpts, "RCPT TO:<"+rcpt+">") {
				t.Errorf("no probe for %s", rcpt)
			}
		}
		text := strings.Join(all, "\r\n")
		for _, trick := range []string{
			"MAIL FROM:<>", "MAIL FROM:<" + target.Sender + ">", "MAIL FROM:<a", "@localhost>", "@" + ip + ">", "RSET", "AUTH PLAIN ", "HELO client.example",
			"HELO " + target.Host, "NOTIFY=", "ORCPT=", "BDAT ", "MAIL FROM:<bad",
		} {
			if !strings.Contains(text, trick) {
				t.Errorf("no probe with %s", trick)
			}
		}
		if target.lookAlike() == us || strings.ContainsRune(us, 'а') {
			t.Errorf("%s looks like itself", us)
		}
	}
}

func TestOwns(t *testing.T) {
	for command, want := range map[string]bool{
		"RCPT TO:<bob@example.com>": true, "RCPT TO:<bob@EXAMPLE.com> NOTIFY=NEVER": true, "RCPT TO:<x@[127.0.0.1]>": true, "RCPT TO:<x>": true,
		`RCPT TO:<"x@elsewhere.example">`: true, "RCPT TO:<x@elsewhere.example>": false, "RCPT TO: < x@elsewhere.example >": false,
		"RCPT TO:x@elsewhere.example": false, "RCPT TO:<@example.com:x@elsewhere.example>": false, "RCPT TO:<x@example.com@elsewhere.example>": false,
		"RCPT TO:<x@elsewhere.example> ORCPT=rfc822;bob@example.com": false, "RCPT TO:<x@example.com.elsewhere.example>": false,
	} {
		if got := Example().owns(command); got != want {
			t.Errorf("%s: %v, want %v", command, got, want)
		}
	}
}

func TestConclude(t *testing.T) {
	good := func() Report {
		return Report{Results: []Result{{Verdict: VerdictRefused}, {Verdict: VerdictLocal}}, Controls: []Control{{Tried: 2, Passed: 2}}}
	}
	tests := []struct {
		name   string
		change func(*Report)
		fault  string
	}{
		{"good", func(*Report) {}, ""},
		{"relayed after unclear", func(r *Report) {
			r.Results[0].Verdict = VerdictUnclear
			r.Results = append(r.Results, Result{Verdict: VerdictRelayed})
		}, "relays"},
		{"stopped", func(r *Report) { r.Results[1].Verdict, r.Stopped = VerdictUnclear, "after 2 of 3 probes: x" }, "not all was tried"},
		{"relayed and stopped", func(r *Report) { r.Results[1].Verdict, r.Stopped = VerdictRelayed, "after 2 of 3 probes: x" }, "relays"},
		{"unclear", func(r *Report) { r.Results[1].Verdict = VerdictUnclear }, "no clear answer"},
		{"no verdict", func(r *Report) { r.Results[1].Verdict = "" }, "no clear answer"},
		{"control", func(r *Report) { r.Controls[0].Passed = 1 }, "control"},
		{"nothing tried", func(r *Report) { r.Results = nil }, "nothing was tried"},
		{"no control", func(r *Report) { r.Controls = nil }, "nothing was tried"},
	}
	for _, test := range tests {
		r := good()
		test.change(&r)
		r.Conclude()
		if r.Passed != (test.fault == "") || !strings.HasPrefix(r.Fault, test.fault) {
			t.Errorf("%s: %v %q", test.name, r.Passed, r.Fault)
		}
	}
}

// TestClientIsBounded: a server that never ends its reply, or says what is none, ends the dialogue.
func TestClientIsBounded(t *testing.T) {
	for name, says := range map[string]string{
		"a line without end": strings.Repeat("2", maxReplyLine+1), "lines without end": strings.Repeat("250-x\r\n", maxReplyLines+1),
		"no reply": "hello\r\n", "too short": "25\r\n",
	} {
		near, far := net.Pipe()
		go func() {
			_, _ = far.Write([]byte("220 x\r\n" + says)) // the client may have gone
			_ = far.Close()
		}()
		c, err := NewClient(context.Background(), near)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := c.reply(); got != "" || c.Err() == nil || errors.Is(c.Err(), context.DeadlineExceeded) {
			t.Errorf("%s: %q, %v", name, got, c.Err())
		}
		if got := c.Say("NOOP\r\n"); got != "" {
			t.Errorf("%s: goes on with %q", name, got)
		}
		_ = c.Close()
	}
	near, far := net.Pipe()
	defer func() { _ = far.Close() }() // never says anything
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := NewClient(ctx, near); err == nil {
		t.Error("a server that says nothing is a server")
	}
}
