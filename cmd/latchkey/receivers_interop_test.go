//go:build interop

package main

import (
	"fmt"
	"net"
	"net/smtp"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"latchkey/store"
)

// TestInteropReceivers: mail goes out to Postfix, Exim and OpenSMTPD as Debian has them, over STARTTLS where it works, and is there octet for octet; what they
// refuse or do not offer comes back as one bounce, their report of success comes back, and the trail has their own words.
func TestInteropReceivers(t *testing.T) {
	for name, start := range map[string]func(*testing.T, *testServer, string) *receiver{
		"Postfix": postfixReceiver, "Exim": eximReceiver, "OpenSMTPD": openSMTPDReceiver,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := newTestServer(t, "example.com")
			back := net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
			home.config.Listen.MX = []string{back}
			r := start(t, home, back)
			home.sendsTo(r.port, r.domain)
			home.start()
			home.addAccount("anna", "password of anna")
			most := strconv.Itoa(store.MaxRecipientBudget)
			home.mustRun("settings", "set", "hold_jumps=off", "new_recipients="+most, "hourly_recipients="+most, "--confirm", "example.com")
			r.takesAttachments(t, home)
			r.takesUTF8(t, home)
			r.takesSome(t, home)
			r.refusesLarge(t, home)
		})
	}
}

// post submits a message with parameters of MAIL and RCPT.
func (s *testServer) post(t *testing.T, mail, rcpt, body string, to ...string) {
	t.Helper()
	c := s.submission("anna", "password of anna")
	defer func() { _ = c.Close() }() // after QUIT, or after what is reported
	say := func(code int, format string, args ...any) {
		t.Helper()
		id, err := c.Text.Cmd(format, args...)
		if err == nil {
			c.Text.StartResponse(id)
			defer c.Text.EndResponse(id)
			_, _, err = c.Text.ReadResponse(code)
		}
		if err != nil {
			t.Fatalf(format+": %v", append(args, err)...)
		}
	}
	say(250, "MAIL FROM:<anna@example.com>%s", mail)
	for _, address := range to {
		say(250, "RCPT TO:<%s>%s", address, rcpt)
	}
	data(t, c, body)
}

// data sends the message itself.
func data(t *testing.T, c *smtp.Client, body string) {
	t.Helper()
	w, err := c.Data()
	if err == nil {
		_, err = w.Write([]byte(body))
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = c.Quit()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// comesBack waits for a message in the sender's mailbox that has all the words, and returns it.
func (s *testServer) comesBack(t *testing.T, words ...string) (found string) {
	t.Helper()
	eventually(t, fmt.Sprintf("a report with %q", words), func() bool {
		n := 0
		for _, m := range s.fetch("anna", "password of anna") {
			if all(m, words) {
				n, found = n+1, m
			}
		}
		if n > 1 {
			t.Fatalf("%d reports with %q", n, words)
		}
		return n == 1
	})
	return found
}

// all reports whether a text has all the words, in whatever case.
func all(text string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(strings.ToLower(text), strings.ToLower(word)) {
			return false
		}
	}
	return true
}

// wantTrail wants one event of a recipient in the trail.
func (s *testServer) wantTrail(t *testing.T, rcpt, pattern string) {
	t.Helper()
	eventually(t, "the end of the delivery to "+rcpt, func() bool {
		_, out, _ := s.latchkey("trail", rcpt)
		return regexp.MustCompile(pattern).MatchString(out)
	})
}

// letter is a message of the laboratory. Nothing has to be added to it, so that it arrives as it is.
func labLetter(subject, body string) string {
	return "From: Anna <anna@example.com>\r\nTo: someone@else.example\r\nSubject: " + subject + "\r\nDate: Sat, 28 Nov 2026 12:00:00 +0000\r\n" +
		"Message-ID: <" + strconv.Itoa(len(body)) + "." + strconv.Itoa(len(subject)) + "@example.com>\r\nMIME-Version: 1.0\r\n" + body
}

func (r *receiver) takesAttachments(t *testing.T, home *testServer) {
	line := strings.Repeat("QUJDREVGR0hJSktM", 4) + "\r\n"
	body := labLetter("attachments", "Content-Type: multipart/mixed; boundary=\"cut\"\r\n\r\n--cut\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"+
		"Gr\u00fc\u00dfe aus K\u00f6ln\r\n.\r\n..two dots\r\n.one dot\r\nFrom here\r\ntrailing blanks  \t\r\n"+strings.Repeat("x", 998)+"\r\n\r\n"+
		"--cut\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"+strings.Repeat(line, 6000)+
		"--cut\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xe9\xe8\xff\r\n--cut--\r\n\r\n\r\n")
	to := "attached@" + r.domain
	home.post(t, " BODY=8BITMIME RET=HDRS ENVID=lab-1", " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;"+to, body, to)
	eventually(t, "the message", func() bool { return len(r.messages("attached")) > 0 })
	got := r.messages("attached")
	if len(got) != 1 || !strings.HasSuffix(got[0], body) {
		t.Errorf("%d messages; not octet for octet:\n%.4000s", len(got), got[0])
	}
	if n := strings.Count(strings.TrimSuffix(got[0], body), "Received: from "); n != 2 {
		t.Errorf("%d Received fields above it, want ours and the receiver's:\n%.3000s", n, got[0])
	}
	secured := ""
	if r.tls {
		secured = ` TLS 1\.3`
	}
	home.wantTrail(t, to, `for <`+to+`>: delivered: mail\.`+r.domain+` \[127\.0\.0\.1\]`+secured+`: `+r.reply)
	if r.name == "opensmtpd" { // whose report is its own form
		home.comesBack(t, "Subject: Delivery status notification", to)
		return
	}
	home.comesBack(t, "Final-Recipient: rfc822;", to, "Action: delivered", "Original-Envelope-Id: lab-1")
}

func (r *receiver) takesUTF8(t *testing.T, home *testServer) {
	to := "utf8@" + r.domain
	body := labLetter("Gr\u00fc\u00dfe", "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\u65e5\u672c\r\n")
	home.post(t, " BODY=8BITMIME SMTPUTF8", "", body, to)
	if !r.utf8 {
		home.comesBack(t, to, "Action: failed", "Status: 5.6.7")
		home.wantTrail(t, to, `failed, given up`)
		if got := r.messages("utf8"); len(got) != 0 {
			t.Errorf("arrived: %q", got)
		}
		return
	}
	eventually(t, "the message", func() bool { return len(r.messages("utf8")) > 0 })
	if got := r.messages("utf8"); len(got) != 1 || !strings.HasSuffix(got[0], body) {
		t.Errorf("%d messages; not octet for octet:\n%s", len(got), got[0])
	}
	home.wantTrail(t, to, `for <`+to+`>: delivered: .*`+r.reply)
}

func (r *receiver) takesSome(t *testing.T, home *testServer) {
	var to []string
	for i := range 25 {
		to = append(to, fmt.Sprintf("box%02d@%s", i, r.domain), fmt.Sprintf("nobody%02d@%s", i, r.domain))
	}
	body := labLetter("to fifty", "\r\nA line.\r\n")
	home.post(t, "", "", body, to...)
	// Postfix says 421 at the 20th refusal of a connection: who was refused has failed, the others wait for the next attempt.
	eventually(t, "the end of all deliveries", func() bool {
		jobs := home.queue()
		retry := []string{"queue", "retry"}
		for _, j := range jobs {
			if j.Attempts == 0 {
				return false
			}
			retry = append(retry, strconv.FormatUint(uint64(j.ID), 10))
		}
		if len(jobs) > 0 {
			_, _, _ = home.latchkey(retry...) // some may have ended meanwhile
		}
		return len(jobs) == 0
	})
	failures, reports := map[string]int{}, 0
	for _, m := range home.fetch("anna", "password of anna") {
		if !strings.Contains(m, "Subject: to fifty") {
			continue
		}
		reports++
		for _, found := range regexp.MustCompile(`Final-Recipient: rfc822; (\S+)`).FindAllStringSubmatch(m, -1) {
			failures[found[1]]++
		}
	}
	for _, address := range to {
		if got, want := failures[address], strings.Count(address, "nobody"); got != want {
			t.Errorf("%d failures of %s are reported, want %d", got, address, want)
		}
	}
	if most := 1 + strings.Count(r.name, "postfix"); reports != most {
		t.Errorf("%d reports, want %d", reports, most)
	}
	for i := range 25 {
		box := fmt.Sprintf("box%02d", i)
		eventually(t, "the message for "+box, func() bool { return len(r.messages(box)) > 0 })
		if got := r.messages(box); len(got) != 1 || !strings.HasSuffix(got[0], body) {
			t.Errorf("%s has %q", box, got)
		}
	}
	home.wantTrail(t, "box24@"+r.domain, `for <box24@`+r.domain+`>: delivered: .*`+r.reply)
	home.wantTrail(t, "nobody24@"+r.domain, `for <nobody24@`+r.domain+`>: failed, given up: .*: 5[25][04]`)
}

func (r *receiver) refusesLarge(t *testing.T, home *testServer) {
	to := "large@" + r.domain
	home.post(t, "", "", labLetter("large", "\r\n"+strings.Repeat(strings.Repeat("x", 70)+"\r\n", receiverLimit/72+100)), to)
	home.comesBack(t, to, "Action: failed", "Status: 5.3.4")
	home.wantTrail(t, to, `for <`+to+`>: failed, given up`)
	if got := r.messages("large"); len(got) != 0 {
		t.Errorf("arrived: %d", len(got))
	}
}
