//go:build interop

package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"latchkey/internal/resolver/resolvertest"
)

// journeyServer has the mailboxes anna and bert, the doors on both families of loopback, a clock that tests turn, and the way to a sink that
// is the rest of the world.
func journeyServer(t *testing.T) (*testServer, *sink) {
	t.Helper()
	world := newSink(t)
	s := newTestServer(t, "example.com")
	s.config.Listen.MX = []string{"127.0.0.1:0", "[::1]:0"}
	s.config.Listen.POP3 = []string{"127.0.0.1:0", "[::1]:0"}
	s.sendsTo(world.port(), "other.example")
	s.start()
	s.addAccount("anna", annasPassword)
	s.addAccount("bert", bertsPassword)
	return s, world
}

// pollFetchmail fetches a mailbox's mail, from which address the server sees it as coming is the family's loopback address.
func (s *testServer) pollFetchmail(t *testing.T, address, user, password string) {
	t.Helper()
	dir := t.TempDir()
	host, port := hostPort(t, address)
	rc := file(t, "fetchmailrc", fmt.Sprintf("set no bouncemail\npoll %q protocol pop3 port %s auth password\n  user %q password %q sslproto \"\" keep\n  mda \"cat >>%s\"\n",
		host, port, user, password, filepath.Join(dir, "mail")))
	runFetchmail(t, rc, dir)
}

// postMsmtp sends without AUTH from an address of this machine, and returns what the server said when it refused; "" when it did not.
func postMsmtp(t *testing.T, door, source, from string, to ...string) string {
	t.Helper()
	host, port := hostPort(t, door)
	args := []string{"--host=" + host, "--port=" + port, "--auth=off", "--tls=off", "--from=" + from}
	if source != "" {
		args = append(args, "--source-ip="+source)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "msmtp", append(args, to...)...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "LC_ALL=C.UTF-8")
	cmd.Stdin = strings.NewReader("From: " + from + "\r\nSubject: by msmtp without AUTH\r\n\r\nbody\r\n")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Run(); err == nil {
		return ""
	}
	return strings.TrimSpace(errs.String())
}

// wantRefusal checks a code and the words of a refusal.
func wantRefusal(t *testing.T, what, got, code string, words ...string) {
	t.Helper()
	if got == "" {
		t.Errorf("%s: was taken, want %s", what, code)
		return
	}
	for _, word := range append(words, code) {
		if !strings.Contains(got, word) {
			t.Errorf("%s: got %q, want %q in it", what, got, word)
		}
	}
}

// The way of the notice: whoever fetched mail a moment ago may send from the same address without a password, as the mailbox that was
// fetched and no other, for a while, within a budget, and not after the owner said stop.
func TestInteropPOPBeforeSMTP(t *testing.T) {
	need(t, "fetchmail", "msmtp")
	s, world := journeyServer(t)
	const cure = `turn on "My server requires authentication"`
	delivered := 0
	taken := func(what, refusal string) {
		t.Helper()
		if refusal != "" {
			t.Fatalf("%s: refused: %s", what, refusal)
		}
		delivered++
		world.wait(delivered)
	}
	post := func(source, from string) string {
		return postMsmtp(t, s.addr("mx"), source, from, "friend@other.example")
	}
	fetch := func() { t.Helper(); s.pollFetchmail(t, s.addr("pop3"), "anna@example.com", annasPassword) }

	wantRefusal(t, "before any login", post("", "anna@example.com"), "550", "check mail for anna@example.com first", cure, "127.0.0.1")
	fetch()
	taken("from the same address", post("", "anna@example.com"))
	if got := world.all()[0]; got.from != "anna@example.com" || !strings.Contains(got.data, "POP-before-SMTP grant") || !strings.Contains(got.data, "with ESMTP ") {
		t.Errorf("delivered: %+v", got)
	}
	wantRefusal(t, "from another address", post("127.0.0.9", "anna@example.com"), "550", "127.0.0.9", cure)
	wantRefusal(t, "as another mailbox", post("", "bert@example.com"), "550", cure)
	wantRefusal(t, "as a stranger", post("", "somebody@else.example"), "550")

	s.stop()
	s.start()
	taken("after a restart", post("", "anna@example.com"))

	s.turnClock(20*time.Minute - time.Second)
	taken("a second before its end", post("", "anna@example.com"))
	s.turnClock(time.Second)
	wantRefusal(t, "after the window", post("", "anna@example.com"), "450", "check mail for anna@example.com first", cure)

	fetch()
	taken("after another login", post("", "anna@example.com"))
	if status, _, errs := s.latchkey("grant", "revoke", "--mailbox", "anna"); status != 0 {
		t.Fatalf("grant revoke: %s", errs)
	}
	wantRefusal(t, "after revocation", post("", "anna@example.com"), "550", cure)

	fetch()
	fifty := make([]string, 50)
	for i := range fifty {
		fifty[i] = fmt.Sprintf("friend%d@other.example", i)
	}
	if refusal := postMsmtp(t, s.addr("mx"), "", "anna@example.com", fifty...); refusal != "" {
		t.Fatalf("fifty recipients: %s", refusal)
	}
	delivered += 50
	world.wait(delivered)
	wantRefusal(t, "after the budget", post("", "anna@example.com"), "550", cure)

	s.turnClock(13 * time.Hour)
	fetch()
	taken("the next day", post("", "anna@example.com"))
	s.setPassword("anna", "another password: 18")
	wantRefusal(t, "after a password change", post("", "anna@example.com"), "550", cure)

	s.pollFetchmail(t, s.addrs("pop3")[1], "bert@example.com", bertsPassword)
	wantRefusal(t, "on the other family", post("", "bert@example.com"), "550", "IPv6", cure)
	taken("on the family of the login", postMsmtp(t, s.addrs("mx")[1], "", "bert@example.com", "friend@other.example"))

	if got := world.all(); len(got) != delivered {
		t.Errorf("%d messages left the domain, want %d", len(got), delivered)
	}
}

// AUTH opens the way out on every door.
func TestInteropAuthenticatedOut(t *testing.T) {
	need(t, "swaks")
	s, world := journeyServer(t)
	for i, door := range []string{"mx", "submission", "smtps"} {
		_, port := hostPort(t, s.addr(door))
		args := []string{
			"swaks", "--server", "127.0.0.1", "--port", port, "--auth", "PLAIN", "--auth-user", "anna@example.com",
			"--auth-password", annasPassword, "--from", "anna@example.com", "--to", "friend@other.example", "--tls-verify", "--tls-ca-path", s.config.TLS.Cert,
		}
		if door == "smtps" {
			args = append(args, "--tls-on-connect")
		} else {
			args = append(args, "--tls")
		}
		run(t, "", args...)
		got := world.wait(i + 1)[i]
		if got.from != "anna@example.com" || got.rcpt != "friend@other.example" || !strings.Contains(got.data, "with ESMTPSA") {
			t.Errorf("%s: %+v", door, got)
		}
	}
}

// The owner switches authentication off for one network and for an hour, and it is on again by itself.
func TestInteropAuthenticationOff(t *testing.T) {
	need(t, "msmtp")
	s, world := journeyServer(t)
	const printer = "127.0.0.9"
	post := func(source, from string) string {
		return postMsmtp(t, s.addr("mx"), source, from, "friend@other.example")
	}
	wantRefusal(t, "before", post(printer, "anna@example.com"), "550")
	change := []string{"settings", "set", "require_auth=off", "trusted_networks=127.0.0.9/32", "--for", "1h"}
	if status, _, errs := s.latchkey(change...); status == 0 || !strings.Contains(errs, "confirm") {
		t.Errorf("without confirmation: status %d, %s", status, errs)
	}
	wantRefusal(t, "without confirmation", post(printer, "anna@example.com"), "550")
	if status, _, errs := s.latchkey(append(change, "--confirm", "example.com")...); status != 0 {
		t.Fatalf("settings set: %s", errs)
	}
	if refusal := post(printer, "anna@example.com"); refusal != "" {
		t.Fatalf("from the named network: %s", refusal)
	}
	if got := world.wait(1)[0]; !strings.Contains(got.data, "trusted network 127.0.0.9/32") {
		t.Errorf("delivered: %+v", got)
	}
	wantRefusal(t, "from an unnamed network", post("127.0.0.8", "anna@example.com"), "550")
	wantRefusal(t, "as nobody of the domain", post(printer, "nobody@example.com"), "550")
	wantRefusal(t, "as a stranger", post(printer, "somebody@else.example"), "550")
	s.turnClock(time.Hour + time.Second) // times of settings are whole seconds
	wantRefusal(t, "when its time has come", post(printer, "anna@example.com"), "550")
	s.stop()
	s.start() // the timer goes by the real clock, and at the start it catches up
	eventually(t, "the setting to be on again", func() bool {
		_, out, _ := s.latchkey("settings", "show", "--json")
		return strings.Contains(out, `"require_auth": true`)
	})
	if _, out, _ := s.latchkey("audit"); !strings.Contains(out, "timer") {
		t.Errorf("audit: %s", out)
	}
	if got := world.all(); len(got) != 1 {
		t.Errorf("%d messages left the domain, want 1", len(got))
	}
}

// A name server that does not answer costs time and nothing else: the next one is asked.
func TestInteropSilentNameServer(t *testing.T) {
	t.Parallel()
	world := newSink(t)
	s := newTestServer(t, "example.com")
	s.sendsTo(world.port(), "other.example")
	silent := labDNS(t)
	silent.Behave("", "", resolvertest.Drop)
	s.config.Relay.Nameservers = []netip.AddrPort{silent.Addr(), s.config.Relay.Nameservers[0]}
	s.start()
	s.addAccount("anna", annasPassword)
	s.send("anna", annasPassword, []string{"friend@other.example"}, message("patience"))
	world.wait(1)
	if silent.Count("other.example", "MX", "") == 0 {
		t.Error("the silent server was not asked")
	}
}
