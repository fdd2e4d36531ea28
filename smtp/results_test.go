package smtp

import (
	"strings"
	"testing"
)

// TestForgedResults: what claims to be a verdict of this server goes, whoever sends it; verdicts of others stay (RFC 8601 §5).
func TestForgedResults(t *testing.T) {
	forged := []string{
		"mail.example.com; dkim=pass", "MAIL.Example.COM; none", "mail.example.com 1; spf=pass", "(a (b) \\) c) mail.example.com ; x", "\"mail.example.com\"; x",
		"\r\n\tmail.example.com\r\n\t; x", "mail.example.com.; x", "mail.example.com(a); x", "mail.example.com",
	}
	honest := []string{"mail.other.example; dkim=pass", "example.com; x", "mail.example.com.other.example; x", "x; smtp.helo=mail.example.com", "(mail.example.com) x; y", "", ";"}
	for _, door := range []Door{MX, Submission} {
		f := newFixture(t, door).serve()
		if f.opts.Hostname != "mail.example.com" {
			t.Fatal(f.opts.Hostname)
		}
		c, from := f.greeted(), "x@remote.example"
		if door == Submission {
			c, from = f.loggedIn("alice"), "alice@example.com"
		}
		letter := "From: " + from + "\r\n"
		for _, v := range forged {
			letter += "Authentication-Results: " + v + "\r\n"
		}
		for _, v := range honest {
			letter += "authentication-results: " + v + "\r\n"
		}
		letter += "ARC-Authentication-Results: i=1; mail.example.com; dkim=pass\r\nX-Authentication-Results: mail.example.com; dkim=pass\r\n"
		if got := c.post(from, letter+"\r\nAuthentication-Results: mail.example.com; x\r\n.\r\n", "<bob@example.com>"); !strings.HasPrefix(got, "250 ") {
			t.Fatal(got)
		}
		mail := f.oneMail("bob")
		if strings.Contains(mail, "\r\nAuthentication-Results") && !strings.HasSuffix(mail, "\r\n\r\nAuthentication-Results: mail.example.com; x\r\n") ||
			strings.Count(mail, "\r\nAuthentication-Results") != 1 {
			t.Errorf("%s: forged results are there:\n%s", door, mail)
		}
		if n := strings.Count(mail, "\r\nauthentication-results: "); n != len(honest) || strings.Count(mail, "-Authentication-Results: ") != 2 {
			t.Errorf("%s: %d of %d results of others are there:\n%s", door, n, len(honest), mail)
		}
	}
}

// TestLoopOfNames: mail that comes back to a mailbox whose name is not ASCII is known again, by either form of its trace.
func TestLoopOfNames(t *testing.T) {
	a := address("grüße@example.com")
	for value, want := range map[string]bool{
		"grüße@example.com": true, "<GRÜSSE@example.com>": false, " =?utf-8?q?gr=C3=BC=C3=9Fe?=@Example.com ": true, "=?utf-8?q?gr=C3=BC?=@example.com": false, "": false,
	} {
		if got := names(value, a); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}
