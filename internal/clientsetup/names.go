package clientsetup

// Service is an SRV name by which mail programs find a door (RFC 6186, RFC 8314 §5.1).
type Service struct {
	// Name stands before the domain.
	Name string
	// Port is 0 for a service that is not there, which is said too (RFC 6186 §3.4).
	Port int
	// What it is, in English.
	What string
}

// Services lists the SRV names of the doors of a place, POP3 first. There is no IMAP.
func Services(p Place) []Service {
	return []Service{
		{"_pop3s._tcp", p.POP3S, "POP3 with TLS"}, {"_pop3._tcp", p.POP3, "POP3 with STLS"},
		{"_submissions._tcp", p.Submissions, "submission with TLS"}, {"_submission._tcp", p.Submission, "submission with STARTTLS"},
		{"_imaps._tcp", 0, "IMAP"}, {"_imap._tcp", 0, "IMAP"},
	}
}

// WebName is a name below the domain at which mail programs look for set-up data over HTTPS.
type WebName struct {
	// Name stands before the domain.
	Name string
	// For whom it is, and what they look for there, in English.
	For, What string
}

// WebNames lists the names that must lead to the web server for mail programs to set themselves up.
func WebNames() []WebName {
	return []WebName{{"autoconfig", "Thunderbird and others", "autoconfig"}, {"autodiscover", "Outlook", "autodiscover"}}
}

// Paths of the web server at which set-up data is (package webmanager/setup), for ?emailaddress=.
const (
	// ProfilePath is a configuration profile for Apple's programs.
	ProfilePath = "/apple/mail.mobileconfig"
	// QRCodePath is an SVG picture of the URL of the profile.
	QRCodePath = "/apple/mail.svg"
)
