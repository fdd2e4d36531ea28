package setup

import (
	"encoding/xml"
	"net/http"

	"latchkey/internal/clientsetup"
)

// anyAddress stands for the address where nobody said it: the program puts it in (draft-ietf-mailmaint-autoconfig, "Placeholders").
const anyAddress = "%EMAILADDRESS%"

// clientConfig is the document of autoconfig, version 1.1.
type clientConfig struct {
	XMLName  xml.Name      `xml:"clientConfig"`
	Version  string        `xml:"version,attr"`
	Provider emailProvider `xml:"emailProvider"`
}

type emailProvider struct {
	ID        string             `xml:"id,attr"`
	Domain    string             `xml:"domain"`
	Name      string             `xml:"displayName"`
	ShortName string             `xml:"displayShortName"`
	Incoming  []autoconfigServer `xml:"incomingServer"`
	Outgoing  []autoconfigServer `xml:"outgoingServer"`
	Help      []documentation    `xml:"documentation,omitempty"`
}

// autoconfigServer never has useGlobalPreferredServer: with it Thunderbird sends by another provider's server.
type autoconfigServer struct {
	Type           string `xml:"type,attr"`
	Host           string `xml:"hostname"`
	Port           int    `xml:"port"`
	Socket         string `xml:"socketType"`
	User           string `xml:"username,omitempty"`
	Authentication string `xml:"authentication"`
}

type documentation struct {
	URL   string        `xml:"url,attr"`
	Descr []description `xml:"descr"`
}

type description struct {
	Lang string `xml:"lang,attr"`
	Text string `xml:",chardata"`
}

// sockets are the words of autoconfig for kinds of encryption.
var sockets = map[clientsetup.Security]string{clientsetup.TLS: "SSL", clientsetup.STARTTLS: "STARTTLS", clientsetup.Clear: "plain"}

func (h *Handler) autoconfig(w http.ResponseWriter, r *http.Request) {
	if !reads(w, r) {
		return
	}
	address, ok := parameter(r, "emailaddress")
	if !ok || address == "" {
		address = anyAddress
	}
	s, ok, err := h.setup(r.Context(), address)
	switch {
	case err != nil:
		h.fail(w, r, err)
		return
	case !ok:
		http.Error(w, "not an address of this domain", http.StatusNotFound)
		return
	}
	text, err := xml.MarshalIndent(h.configOf(s), "", "  ")
	if err != nil {
		h.fail(w, r, err)
		return
	}
	write(w, "text/xml; charset=utf-8", append([]byte(xml.Header), append(text, '\n')...))
}

func (h *Handler) configOf(s clientsetup.Setup) clientConfig {
	c := clientConfig{Version: "1.1", Provider: emailProvider{ID: s.Domain, Domain: s.Domain, Name: s.Domain, ShortName: s.Domain}}
	p := &c.Provider
	p.Incoming, p.Outgoing = autoconfigServers(s.Fetch), autoconfigServers(s.Send)
	if h.options.Help != "" {
		p.Help = []documentation{{URL: h.options.Help, Descr: []description{{"en", "Setting up mail programs"}, {"de", "E-Mail-Programme einrichten"}}}}
	}
	return c
}

// autoconfigServers are the ways with a login; those without are for a domain that has no other.
func autoconfigServers(ways []clientsetup.Way) (list []autoconfigServer) {
	for _, w := range ways {
		s := autoconfigServer{Type: string(w.Protocol), Host: w.Host, Port: w.Port, Socket: sockets[w.Security], User: w.User}
		switch w.Login {
		case clientsetup.Password:
			s.Authentication = "password-cleartext"
		case clientsetup.FetchFirst:
			s.Authentication = "smtp-after-pop"
		default:
			continue
		}
		if w.Login == clientsetup.Password || len(list) == 0 {
			list = append(list, s)
		}
	}
	return list
}
