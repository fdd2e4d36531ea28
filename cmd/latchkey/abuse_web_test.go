package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestAbuse28Webmanager: a mailbox that is signed in to the pages gets at no other one, another site's form changes nothing although the browser
// is signed in, and what is changed is in the audit log with who, and from where. That guesses count with those at the other doors is
// TestGuessesCount; every route in every role is TestRoles and TestPagesByRole.
func TestAbuse28Webmanager(t *testing.T) {
	s := newTestServer(t, "example.com")
	s.config.Web.Listen = []string{"127.0.0.1:0"}
	s.start()
	for _, name := range []string{"anna", "bert"} {
		s.addAccount(name, "password of "+name)
	}
	bert := newVisitor(t, "http://"+s.addr("web"))
	bert.has(bert.ask("/login", url.Values{"name": {"bert"}, "password": {"password of bert"}}), "200 OK", "My mailbox")
	change := func(now string) url.Values {
		return url.Values{"current": {now}, "password": {"a new password"}, "repeat": {"a new password"}}
	}

	for _, path := range []string{"/mailbox/anna", "/mailboxes", "/aliases", "/sending", "/sending/all", "/audit"} {
		if got := bert.ask(path, nil); strings.HasPrefix(got, "200 ") {
			t.Errorf("bert sees %s", path)
		}
	}
	for _, own := range []string{"password of anna", "password of bert"} {
		bert.has(bert.ask("/mailbox/anna/password", change(own)), "403 ")
	}

	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, bert.base+"/mailbox/bert/password", strings.NewReader(change("password of bert").Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "https://evil.example")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	answer, err := bert.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close() // its status is enough
	if answer.StatusCode != http.StatusForbidden {
		t.Errorf("another site's form gets %s", answer.Status)
	}
	for _, name := range []string{"anna", "bert"} {
		if err := s.pop("pop3s").login(name, "password of "+name); err != nil {
			t.Errorf("%s after all that: %v", name, err)
		}
	}

	bert.has(bert.ask("/mailbox/bert/password", change("password of bert")), "200 OK")
	if err := s.pop("pop3s").login("bert", "a new password"); err != nil {
		t.Error(err)
	}
	_, log, _ := s.latchkey("audit")
	for _, words := range []string{"bert", "127.0.0.1", "password"} {
		if !strings.Contains(log, words) {
			t.Errorf("%q is not in the audit log:\n%s", words, log)
		}
	}
	if strings.Contains(log, "a new password") || strings.Contains(s.log.String(), "a new password") {
		t.Error("the password is in a log")
	}
}
