package config

import (
	"net"
	"strconv"

	"latchkey/internal/clientsetup"
)

// Place is where mail programs find the doors of a domain, as far as the configuration says: host is the name of the server. A door that is behind a
// proxy only, on a unix socket, is taken to be at its usual port.
func (c Config) Place(domain, host string) clientsetup.Place {
	l := c.Listen
	return clientsetup.Place{
		Domain: domain, Host: host, OldHost: c.OldHostname, TLS: c.TLS.Cert != "" || c.ACME.On(),
		POP3: publicPort(l.POP3, 110), POP3S: publicPort(l.POP3S, 995),
		MX: publicPort(l.MX, 25), Submission: publicPort(l.Submission, 587), Submissions: publicPort(l.SMTPS, 465),
		OldPOP3: publicPort(l.OldPOP3, 110), OldPOP3S: publicPort(l.OldPOP3S, 995),
		OldSubmission: publicPort(l.OldSubmission, 587), OldSubmissions: publicPort(l.OldSMTPS, 465),
	}
}

// publicPort is the port of the first address of a door that has one; 0 if it is shut.
func publicPort(addresses []string, usual int) int {
	for _, address := range addresses {
		_, text, err := net.SplitHostPort(address)
		if err != nil {
			continue // a unix socket
		}
		if port, err := strconv.Atoi(text); err == nil && port > 0 {
			return port
		}
	}
	if len(addresses) > 0 {
		return usual
	}
	return 0
}
