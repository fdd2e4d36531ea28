package clientsetup

import (
	"net/netip"
	"slices"
	"strings"

	"latchkey/internal/mailaddr"
)

// Protocol is what is spoken at a door.
type Protocol string

// The protocols.
const (
	POP3 Protocol = "pop3"
	SMTP Protocol = "smtp"
)

// Security is how a connection is encrypted.
type Security string

// The kinds of encryption.
const (
	// TLS begins with the first octet (RFC 8314 §3.3): mail programs call it SSL, or SSL/TLS.
	TLS Security = "tls"
	// STARTTLS begins by a command, STLS in POP3 (RFC 2595, RFC 3207).
	STARTTLS Security = "starttls"
	// Clear is none.
	Clear Security = "clear"
)

// Login is how a mail program shows whose mailbox it is for.
type Login string

// The kinds of login.
const (
	// Password sends the password: USER and PASS, AUTH PLAIN or LOGIN.
	Password Login = "password"
	// Challenge proves it without sending it: APOP or CRAM-MD5.
	Challenge Login = "challenge"
	// FetchFirst is no login: mail was fetched from the same address a while ago (POP before SMTP).
	FetchFirst Login = "fetch-first"
	// Network is no login: the address is in a network that the domain's owner named.
	Network Login = "network"
)

// Kind is one way of speaking to the server, without names and numbers.
type Kind struct {
	Protocol Protocol
	Security Security
	Login    Login
	// Old is a door for old programs, where TLS 1.0 and passwords in the clear are taken of those who may use it.
	Old bool
}

// Way is one way to fetch or to send, with all that is to be typed into a mail program but the password.
type Way struct {
	Kind
	Host string
	Port int
	// User is the user name; "" where there is no login.
	User string
	// Networks are those from which alone the way is open; empty means from everywhere.
	Networks []netip.Prefix
}

// Place is where the server stands, as the public sees it: port numbers by door, 0 for one that is closed.
type Place struct {
	// Domain is the mail domain, Host the name that mail programs connect to and the certificate has.
	Domain, Host string
	// POP3 and POP3S are the doors of POP3; MX is port 25, Submission 587, Submissions 465.
	POP3, POP3S, MX, Submission, Submissions int
	// The doors for old programs.
	OldPOP3, OldPOP3S, OldSubmission, OldSubmissions int
	// OldHost is the name at which the doors for old programs are, if it is another one.
	OldHost string
	// TLS is set where there is a certificate: without one nothing is encrypted.
	TLS bool
}

// Rules are what the domain's owner decided, as far as mail programs feel it.
type Rules struct {
	// RequireAuth is "Authenticated SMTP" at present; off, TrustedNetworks send without a login.
	RequireAuth     bool
	TrustedNetworks []netip.Prefix
	// POPBeforeSMTP lets a mailbox send without a login after it was fetched from.
	POPBeforeSMTP bool
	// OutgoingMail off: nobody sends out of the domain.
	OutgoingMail bool
	// AuthOnMX takes logins at port 25 too.
	AuthOnMX bool
	// CleartextLogin takes passwords without encryption from everywhere.
	CleartextLogin bool
	// OldClientLogin lets every mailbox use the doors for old programs, OldClientNetworks whoever comes from there.
	OldClientLogin    bool
	OldClientNetworks []netip.Prefix
	// MessageSize is the largest message in octets.
	MessageSize int64
}

// Mailbox is whom it is for.
type Mailbox struct {
	// Address is the whole address, which is the user name too.
	Address string
	// OldClientLogin lets the mailbox use the doors for old programs.
	OldClientLogin bool
}

// Setup is how a mailbox is reached. The best way of each list is its first.
type Setup struct {
	Domain, Host string
	// Address is that of the mailbox, and its user name.
	Address string
	Fetch   []Way
	Send    []Way
	// Trial is set where the server is a trial on the computer of whoever reads it: its name ends in .localhost (RFC 6761 §6.3). Nothing leaves the computer,
	// nobody signs certificates for such names, and passwords are taken without encryption.
	Trial bool
	// SMTPLast is set where mail programs are to fetch before they send, in place of logging in to send: the owner switched authenticated SMTP off,
	// and POP before SMTP is on. Logging in works as well.
	SMTPLast bool
	// Outgoing is unset where mail to other domains is switched off.
	Outgoing bool
	// MessageSize is the largest message in octets.
	MessageSize int64
}

// New returns how a mailbox is reached.
func New(p Place, r Rules, m Mailbox) Setup {
	b := builder{Place: p, Rules: r, user: m.Address}
	trial := mailaddr.IsLocalhost(p.Host)
	b.CleartextLogin = b.CleartextLogin || trial
	b.old = m.OldClientLogin || r.OldClientLogin
	if !b.old {
		b.oldFrom = r.OldClientNetworks
	}
	return Setup{
		Domain: p.Domain, Host: p.Host, Address: m.Address, Fetch: b.fetch(), Send: b.send(), Trial: trial,
		SMTPLast: !r.RequireAuth && r.POPBeforeSMTP, Outgoing: r.OutgoingMail, MessageSize: r.MessageSize,
	}
}

// builder collects ways.
type builder struct {
	Place
	Rules
	user string
	// old is set where the mailbox may use the doors for old programs; else it may from oldFrom.
	old     bool
	oldFrom []netip.Prefix
	ways    []Way
}

// add adds a way, if its door is open and the encryption is to be had.
func (b *builder) add(port int, k Kind, networks []netip.Prefix) {
	if port == 0 || k.Security != Clear && !b.TLS || k.Old && !b.old && len(b.oldFrom) == 0 {
		return
	}
	w := Way{Kind: k, Host: b.Host, Port: port, Networks: slices.Clone(networks)}
	if k.Login == Password || k.Login == Challenge {
		w.User = b.user
	}
	if k.Old {
		w.Networks = slices.Clone(b.oldFrom)
	}
	if k.Old && b.OldHost != "" {
		w.Host = b.OldHost
	}
	b.ways = append(b.ways, w)
}

// fetch lists the ways to fetch: what is encrypted first, then what hides the password, then the rest.
func (b *builder) fetch() []Way {
	b.ways = nil
	b.add(b.POP3S, Kind{POP3, TLS, Password, false}, nil)
	b.add(b.POP3, Kind{POP3, STARTTLS, Password, false}, nil)
	b.add(b.OldPOP3S, Kind{POP3, TLS, Password, true}, nil)
	b.add(b.OldPOP3, Kind{POP3, STARTTLS, Password, true}, nil)
	if b.old { // who may come from a network only has no password that is kept for it
		b.add(b.OldPOP3, Kind{POP3, Clear, Challenge, true}, nil)
	}
	if b.CleartextLogin {
		b.add(b.POP3, Kind{POP3, Clear, Password, false}, nil)
	}
	b.add(b.OldPOP3, Kind{POP3, Clear, Password, true}, nil)
	return b.ways
}

// send lists the ways to send: those with a login in the order of fetch, then those without.
func (b *builder) send() []Way {
	b.ways = nil
	b.add(b.Submissions, Kind{SMTP, TLS, Password, false}, nil)
	b.add(b.Submission, Kind{SMTP, STARTTLS, Password, false}, nil)
	if b.AuthOnMX {
		b.add(b.MX, Kind{SMTP, STARTTLS, Password, false}, nil)
	}
	b.add(b.OldSubmissions, Kind{SMTP, TLS, Password, true}, nil)
	b.add(b.OldSubmission, Kind{SMTP, STARTTLS, Password, true}, nil)
	if b.old {
		b.add(b.OldSubmission, Kind{SMTP, Clear, Challenge, true}, nil)
	}
	if b.CleartextLogin {
		b.add(b.Submission, Kind{SMTP, Clear, Password, false}, nil)
		if b.AuthOnMX {
			b.add(b.MX, Kind{SMTP, Clear, Password, false}, nil)
		}
	}
	b.add(b.OldSubmission, Kind{SMTP, Clear, Password, true}, nil)
	if b.POPBeforeSMTP {
		b.sendWithoutLogin(FetchFirst, nil)
	}
	if !b.RequireAuth && len(b.TrustedNetworks) > 0 {
		b.sendWithoutLogin(Network, b.TrustedNetworks)
	}
	return b.ways
}

func (b *builder) sendWithoutLogin(login Login, networks []netip.Prefix) {
	b.add(b.Submissions, Kind{SMTP, TLS, login, false}, networks)
	b.add(b.Submission, Kind{SMTP, STARTTLS, login, false}, networks)
	b.add(b.MX, Kind{SMTP, STARTTLS, login, false}, networks)
	b.add(b.Submission, Kind{SMTP, Clear, login, false}, networks)
	b.add(b.MX, Kind{SMTP, Clear, login, false}, networks)
}

// Pick returns the first way of one of the kinds, which are in order of preference. A program that can do several is best told by it.
func Pick(ways []Way, kinds ...Kind) (Way, bool) {
	for _, k := range kinds {
		for _, w := range ways {
			if w.Kind == k {
				return w, true
			}
		}
	}
	return Way{}, false
}

// Local is the local part of the address.
func (s Setup) Local() string {
	if i := strings.LastIndexByte(s.Address, '@'); i >= 0 {
		return s.Address[:i]
	}
	return s.Address
}
