package config

import (
	"net/netip"
	"slices"
)

// Config is the configuration of one instance: one process, one virtual domain.
type Config struct {
	// Data is the data directory, everything that the domain keeps.
	Data string
	// Hostname is the name that greetings and Received lines show; "" means the machine's own.
	Hostname string
	// OldHostname is the name at which mail programs reach the doors for old clients; "" means Hostname.
	OldHostname string
	Listen      Listen
	TLS         TLS
	ACME        ACME
	Log         Log
	Limits      Limits
	// Proxies are what connections come through whose clients are told by a PROXY header.
	Proxies []netip.Prefix
	Relay   Relay
	Web     Web
	// Reputation watches over the addresses from which mail leaves.
	Reputation Reputation
}

// Listen holds the addresses of each door; a door without addresses stays shut.
type Listen struct {
	// Each address is host:port, or UnixPrefix and a path. POP3 is the POP3 door that starts in the clear and offers STLS, POP3S the one that
	// starts with TLS (RFC 8314 §3.3).
	POP3, POP3S []string
	// MX takes mail from other servers, and submission after AUTH for clients that know no other port.
	MX []string
	// Submission starts in the clear and offers STARTTLS (RFC 6409), SMTPS starts with TLS (RFC 8314 §3.3).
	Submission, SMTPS []string
	// OldPOP3, OldPOP3S, OldSubmission and OldSMTPS are the same for old clients: with TLS 1.0 and passwords in the clear, for those mailboxes
	// and networks that the owner of the domain lets in.
	OldPOP3, OldPOP3S, OldSubmission, OldSMTPS []string
	// Sniff names the doors that start in the clear and serve a client that begins with TLS all the same.
	Sniff []string
}

// Sniffs reports whether a door looks how a client begins.
func (l Listen) Sniffs(door string) bool { return slices.Contains(l.Sniff, door) }

// Web says where the pages are served.
type Web struct {
	// Listen are addresses as those of a door: plain HTTP on loopback and unix sockets, HTTPS elsewhere. None: there are no pages.
	Listen []string
	// URL is how browsers reach the pages, without a slash at its end; "" is what Listen says.
	URL string
	// STS is the mode of the domain's own MTA-STS policy; STSOff serves none. STSDays is how long others may keep it, in days.
	STS     STSMode
	STSDays int
}

// STSMode is what the domain's MTA-STS policy asks of others (RFC 8461 §5).
type STSMode string

// The modes.
const (
	STSOff     STSMode = "off"
	STSTesting STSMode = "testing"
	STSEnforce STSMode = "enforce"
	STSNone    STSMode = "none"
)

// TLS names the certificate chain and its key, both PEM files.
type TLS struct {
	Cert, Key string
}

// Log says what is logged and how.
type Log struct {
	// Level is "debug", "info", "warn" or "error".
	Level string
	// Format is "text" or "json".
	Format string
}

// Limits bounds the connections that are open at once, and what strangers may bring.
type Limits struct {
	// Connections bounds those of all listening addresses together; one of them may have three of four.
	Connections int
	// ConnectionsPerAddress bounds those of them from one client address (IPv6: one /64).
	ConnectionsPerAddress int
	// MessagesPerMailbox bounds what one mailbox takes from strangers in an hour, at least 1.
	MessagesPerMailbox int
}
