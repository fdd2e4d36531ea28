package setup

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/smallstep/pkcs7"

	"latchkey/internal/clientsetup"
)

// profile sends a configuration profile for one address: signed where there is a certificate, and the device then says by whom.
func (h *Handler) profile(w http.ResponseWriter, r *http.Request) {
	s, ok := h.named(w, r)
	if !ok {
		return
	}
	text := plistDocument(profileOf(s))
	if h.options.Certificate != nil {
		signed, err := h.sign(text)
		if err == nil {
			text = signed
		} else {
			h.options.Logger.WarnContext(r.Context(), "profile not signed", "err", err)
		}
	}
	w.Header().Set("Content-Disposition", `attachment; filename="`+s.Domain+`.mobileconfig"`)
	write(w, "application/x-apple-aspen-config", text)
}

// named is the set-up for the address in a request. What is wrong with it has been answered if ok is unset.
func (h *Handler) named(w http.ResponseWriter, r *http.Request) (s clientsetup.Setup, ok bool) {
	if !reads(w, r) {
		return s, false
	}
	address, _ := parameter(r, "emailaddress")
	if address == anyAddress {
		address = ""
	}
	s, ok, err := h.setup(r.Context(), address)
	if err != nil {
		h.fail(w, r, err)
		return s, false
	}
	if !ok {
		http.Error(w, "give an address of this domain: ?emailaddress=", http.StatusNotFound)
	}
	return s, ok
}

// profileOf is the profile: one mail account of type POP (Apple, "Device Management", Mail). The program asks for the password.
func profileOf(s clientsetup.Setup) plistDict {
	fetch, send := bestOf(s.Fetch, clientsetup.Password), bestOf(s.Send, clientsetup.Password)
	account := plistDict{
		{"PayloadType", "com.apple.mail.managed"},
		{"PayloadVersion", 1},
		{"PayloadIdentifier", identifier(s.Domain, s.Address) + ".account"},
		{"PayloadUUID", uuid("account", s.Address)},
		{"PayloadDisplayName", s.Address},
		{"EmailAccountDescription", s.Domain},
		{"EmailAccountType", "EmailTypePOP"},
		{"EmailAddress", s.Address},
		{"IncomingMailServerAuthentication", "EmailAuthPassword"},
		{"IncomingMailServerHostName", fetch.Host},
		{"IncomingMailServerPortNumber", fetch.Port},
		{"IncomingMailServerUseSSL", fetch.Security != clientsetup.Clear},
		{"IncomingMailServerUsername", fetch.User},
		{"OutgoingMailServerAuthentication", "EmailAuthPassword"},
		{"OutgoingMailServerHostName", send.Host},
		{"OutgoingMailServerPortNumber", send.Port},
		{"OutgoingMailServerUseSSL", send.Security != clientsetup.Clear},
		{"OutgoingMailServerUsername", send.User},
		{"OutgoingPasswordSameAsIncomingPassword", true},
	}
	if send.User == "" {
		set(account, "OutgoingMailServerAuthentication", "EmailAuthNone")
		account = slices.DeleteFunc(account, func(e plistEntry) bool {
			return e.key == "OutgoingMailServerUsername" || e.key == "OutgoingPasswordSameAsIncomingPassword"
		})
	}
	return plistDict{
		{"PayloadType", "Configuration"},
		{"PayloadVersion", 1},
		{"PayloadIdentifier", identifier(s.Domain, s.Address)},
		{"PayloadUUID", uuid("profile", s.Address)},
		{"PayloadDisplayName", s.Address},
		{"PayloadDescription", "Mail for " + s.Address + ", by POP3"},
		{"PayloadOrganization", s.Domain},
		{"PayloadRemovalDisallowed", false},
		{"PayloadContent", []any{account}},
	}
}

func set(d plistDict, key string, value any) {
	for i := range d {
		if d[i].key == key {
			d[i].value = value
		}
	}
}

// identifier is the name by which a device knows a profile again, so that another download takes the place of the first.
func identifier(domain, address string) string {
	labels := strings.Split(domain, ".")
	slices.Reverse(labels)
	sum := sha256.Sum256([]byte(address))
	return strings.Join(labels, ".") + fmt.Sprintf(".mail.%x", sum[:8])
}

// uuid is made of what it names, so that it is always the same (RFC 9562 §5.8).
func uuid(what, address string) string {
	sum := sha256.Sum256([]byte("latchkey " + what + " " + address))
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]))
}

var errNoCertificate = errors.New("setup: no certificate to sign with")

// sign wraps a profile in signed data (RFC 5652 §5) with the certificate of the web server and its chain.
func (h *Handler) sign(text []byte) ([]byte, error) {
	certificate, err := h.options.Certificate()
	if err != nil {
		return nil, err
	}
	return signWith(certificate, text)
}

func signWith(certificate *tls.Certificate, text []byte) ([]byte, error) {
	if certificate == nil || len(certificate.Certificate) == 0 {
		return nil, errNoCertificate
	}
	var chain []*x509.Certificate
	for _, der := range certificate.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("setup: certificate: %w", err)
		}
		chain = append(chain, c)
	}
	data, err := pkcs7.NewSignedData(text)
	if err != nil {
		return nil, fmt.Errorf("setup: signed data: %w", err)
	}
	data.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := data.AddSignerChain(chain[0], certificate.PrivateKey, chain[1:], pkcs7.SignerInfoConfig{}); err != nil {
		return nil, fmt.Errorf("setup: sign: %w", err)
	}
	return data.Finish()
}

// ProfileURL is where the profile for an address is, below a base URL.
func ProfileURL(base, address string) string {
	return base + clientsetup.ProfilePath + "?emailaddress=" + url.QueryEscape(address)
}
