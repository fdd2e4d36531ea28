package main

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/smtp"
	"strings"
	"testing"

	"latchkey/store"
	"latchkey/webmanager"
)

// TestInventoryOfAProcess: what came to all doors is there when the process has stopped, and is told by the next one.
func TestInventoryOfAProcess(t *testing.T) {
	s := oldServer(t)
	for _, door := range []string{"pop3", "pop3s", "old_pop3", "old_pop3s"} {
		s.wantPOPLogin(s.dial(door), "anna", true)
	}
	conn, err := s.dialAs("old_pop3s", tls.VersionTLS10)
	if err != nil {
		t.Fatal(err)
	}
	s.wantPOPLogin(conn, "anna", true)
	for _, door := range []string{"mx", "submission", "smtps", "old_submission", "old_smtps"} {
		client, err := smtp.NewClient(s.dial(door), "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Auth(smtp.PlainAuth("", "anna", "password of anna", "127.0.0.1")); err != nil {
			t.Errorf("%s: %v", door, err)
		}
	}
	s.wantPOPLogin(s.dial("old_pop3"), "bert", false)
	s.stop()
	got := map[string]string{}
	s.inStore(func(st store.Store) {
		seen, err := st.ListClients(t.Context(), 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range seen {
			if c.Sessions != 1 || c.First.IsZero() || !c.Address.IsLoopback() {
				t.Errorf("seen: %+v", c)
			}
			got[c.Door+" "+c.TLS] = c.Mechanism
		}
		if text, err := json.Marshal(seen); err != nil || strings.Contains(string(text), "anna") {
			t.Errorf("%v: %s", err, text)
		}
	})
	for _, want := range []string{
		"pop3 ", "pop3s TLS 1.3", "old_pop3 ", "old_pop3s TLS 1.0", "old_pop3s TLS 1.3", "mx ", "submission ", "smtps TLS 1.3", "old_submission ",
		"old_smtps TLS 1.3",
	} {
		mechanism := "USER"
		if !strings.Contains(want, "pop3") {
			mechanism = "PLAIN"
		}
		if got[want] != mechanism {
			t.Errorf("%q: got %q, want %q", want, got[want], mechanism)
		}
		delete(got, want)
	}
	if len(got) > 0 {
		t.Errorf("seen besides: %v", got)
	}
	s.start()
	client, err := webmanager.DialControl(t.Context(), s.config.Data)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var page webmanager.ClientPage
	if err := client.Do(t.Context(), http.MethodGet, webmanager.Path("clients")+"?old=true", nil, &page); err != nil || len(page.Clients) != 5 {
		t.Errorf("old clients: %v, %+v", err, page)
	}
}
