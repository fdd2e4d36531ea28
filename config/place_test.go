package config

import (
	"testing"

	"latchkey/internal/clientsetup"
)

// TestPlace: ports are those of the doors that are open, and sockets behind a proxy are at the usual ones.
func TestPlace(t *testing.T) {
	c := Config{
		OldHostname: "old.example.com", TLS: TLS{Cert: "cert.pem"},
		Listen: Listen{
			POP3: []string{"unix:/run/pop3", "192.0.2.1:1110"}, POP3S: []string{"unix:/run/pop3s"}, MX: []string{"[2001:db8::1]:25"}, Submission: []string{},
			OldPOP3: []string{"192.0.2.2:110"}, OldSMTPS: []string{"unix:/run/old"},
		},
	}
	want := clientsetup.Place{
		Domain: "example.com", Host: "mail.example.com", OldHost: "old.example.com", TLS: true, POP3: 1110, POP3S: 995, MX: 25, OldPOP3: 110, OldSubmissions: 465,
	}
	if got := c.Place("example.com", "mail.example.com"); got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}
