package pop3_test

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"strings"
	"testing"

	"latchkey/pop3"
)

// TestCRAMMD5: a mechanism in which the server speaks first.
func TestCRAMMD5(t *testing.T) {
	b := newBackend()
	b.Mechanisms = []string{"CRAM-MD5"}
	c := newClient(t, dial(t, serve(t, newServer(b))))
	c.line()
	seen := map[string]bool{}
	for _, tt := range []struct{ user, password, want string }{
		{"alice", "wrong", "-ERR [AUTH]"}, {"nobody", "secret", "-ERR [AUTH]"}, {"alice", "secret", "+OK 3 messages"},
	} {
		line := c.cmd("AUTH CRAM-MD5")
		challenge, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(line, "+ "))
		if err != nil || seen[line] {
			t.Fatalf("challenge %q: %v, seen %v", line, err, seen[line])
		}
		seen[line] = true
		mac := hmac.New(md5.New, []byte(tt.password))
		mac.Write(challenge)
		c.want(tt.want, base64.StdEncoding.EncodeToString([]byte(tt.user+" "+hex.EncodeToString(mac.Sum(nil)))))
	}
}

// TestLastOfEarlierSessions: LAST begins with what earlier sessions fetched (RFC 1460 §4), whatever became of their marks, and RSET makes it
// zero for this session alone.
func TestLastOfEarlierSessions(t *testing.T) {
	b := newBackend()
	b.Last = true
	address := serve(t, newServer(b))
	session := func(say ...string) {
		t.Helper()
		c := newClient(t, dial(t, address))
		c.login()
		for i := 0; i < len(say); i += 2 {
			c.want(say[i+1], say[i])
			for strings.HasPrefix(say[i], "RETR") && c.line() != "." {
			}
		}
		c.want("+OK", "QUIT")
		c.ended()
	}
	session("LAST", "+OK 0", "RETR 2", "+OK", "DELE 2", "+OK", "RSET", "+OK", "LAST", "+OK 0")
	session("LAST", "+OK 2", "RETR 1", "+OK", "LAST", "+OK 2", "RETR 3", "+OK", "LAST", "+OK 3", "DELE 3", "+OK", "LAST", "+OK 3")
	session("RETR 1", "+OK", "LAST", "+OK 2", "DELE 2", "+OK", "LAST", "+OK 2")
	b.Deliver("alice", messageLines)
	session("RSET", "+OK 2 messages", "LAST", "+OK 0")
	session("LAST", "+OK 1", "RETR 2", "+OK", "LAST", "+OK 2")
}

// TestHostname: the greeting never looks as if it had a response code (RFC 2449 §6.4), and the timestamp is always a msg-id (RFC 5322 §3.6.4).
func TestHostname(t *testing.T) {
	long := strings.Repeat("a.", 109) + "a"
	for name, want := range map[string]struct{ greeting, right string }{
		"pop.test":                 {"pop.test", "pop.test"},
		"pop_3.xn--bcher-kva.test": {"pop_3.xn--bcher-kva.test", "pop_3.xn--bcher-kva.test"},
		"[192.0.2.1]":              {"192.0.2.1", "[192.0.2.1]"},
		"[IPv6:2001:db8::1]":       {"IPv6:2001:db8::1", "[IPv6:2001:db8::1]"},
		long + "a":                 {long + "a", long + "a"},
		long + "aa":                {"localhost", "localhost"},
		"":                         {"localhost", "localhost"},
		"[":                        {"localhost", "localhost"},
		"[]":                       {"localhost", "localhost"},
		"[a":                       {"localhost", "localhost"},
		"[a]b]":                    {"localhost", "localhost"},
		"[SYS/TEMP] pop":           {"localhost", "localhost"},
		"a]":                       {"localhost", "localhost"},
		"a..b":                     {"localhost", "localhost"},
		"a.":                       {"localhost", "localhost"},
		"a b":                      {"localhost", "localhost"},
		"a>b":                      {"localhost", "localhost"},
		"a\r\n-ERR":                {"localhost", "localhost"},
		"b\u00fccher.test":         {"localhost", "localhost"},
	} {
		for _, apop := range []bool{false, true} {
			var backend pop3.Backend = newBackend()
			form := "+OK " + want.greeting + " POP3 server ready"
			if apop {
				backend = newBackend().APOP()
				form += " <1.0@" + want.right + ">"
			}
			s := newServer(backend)
			s.Hostname = name
			got := newClient(t, dial(t, serve(t, s))).line()
			if got = regexp.MustCompile(`<[0-9]+\.[0-9a-f]{16}@`).ReplaceAllString(got, "<1.0@"); got != form {
				t.Errorf("%q: got %q, want %q", name, got, form)
			}
		}
	}
}

// TestTimestamps: each greeting has another one, in the form of a msg-id (RFC 1939 §7, RFC 2449 §3).
func TestTimestamps(t *testing.T) {
	address := serve(t, newServer(newBackend().APOP()))
	form := regexp.MustCompile(`^\+OK pop\.test POP3 server ready <[0-9]+\.[0-9a-f]{16}@pop\.test>$`)
	seen := map[string]bool{}
	for range 20 {
		greeting := newClient(t, dial(t, address)).line()
		if !form.MatchString(greeting) || seen[greeting] {
			t.Fatalf("got %q, seen before: %v", greeting, seen[greeting])
		}
		seen[greeting] = true
	}
}
