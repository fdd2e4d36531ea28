package webmanager

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey/store"
)

// Setting is one line of the table of what the domain's owner decides.
type Setting struct {
	// Name is the field's name in JSON and on the command line.
	Name string
	// Help is one sentence for people.
	Help string
	// Operator is set where the owner of the domain may not change it: what the domain as a whole may take of the server.
	Operator bool

	read  func(text string) (any, error)
	apply func(s *store.Settings, value json.RawMessage) []Field
	show  func(s store.Settings) string
}

// Read turns the text of a command line into the value that the API takes.
func (s Setting) Read(text string) (any, error) { return s.read(text) }

// Show is the value as Read takes it.
func (s Setting) Show(settings store.Settings) string { return s.show(settings) }

// operatorSettings are those that say what the domain as a whole may take of the server.
var operatorSettings = []string{"domain_octets", "domain_messages", "domain_daily_recipients", "domain_hourly_recipients"}

// Settings returns the table.
func Settings() []Setting {
	table := settings()
	for i := range table {
		table[i].Operator = slices.Contains(operatorSettings, table[i].Name)
	}
	return table
}

func settings() []Setting {
	return []Setting{
		numberSetting("message_size", "largest message taken, in octets",
			func(s *store.Settings, n int64) { s.MessageSize = n }, func(s store.Settings) int64 { return s.MessageSize }),
		numberSetting("recipients", "most recipients of one message",
			func(s *store.Settings, n int64) { s.Recipients = int(n) }, func(s store.Settings) int64 { return int64(s.Recipients) }),
		numberSetting("domain_octets", "most octets that all mailboxes together hold; 0: no bound",
			func(s *store.Settings, n int64) { s.DomainOctets = n }, func(s store.Settings) int64 { return s.DomainOctets }),
		numberSetting("domain_messages", "most messages that all mailboxes together hold; 0: no bound",
			func(s *store.Settings, n int64) { s.DomainMessages = n }, func(s store.Settings) int64 { return s.DomainMessages }),
		boolSetting("auth_on_mx", "take logins on port 25 too, for clients that know no other port",
			func(s *store.Settings) *bool { return &s.AuthOnMX }),
		boolSetting("cleartext_login", "take passwords without TLS from anywhere: anybody on the way can read them",
			func(s *store.Settings) *bool { return &s.CleartextLogin }),
		numberSetting("clear_password_days", "days after which a password is refused that came without TLS where it is needed, until it is changed; 0: never",
			func(s *store.Settings, n int64) { s.ClearPasswordDays = int(n) }, func(s store.Settings) int64 { return int64(s.ClearPasswordDays) }),
		boolSetting("old_client_login", "let every mailbox use the doors for old clients, and keep its password, encrypted, for challenge logins there",
			func(s *store.Settings) *bool { return &s.OldClientLogin }),
		networksSetting("old_client_networks", "networks that may use the doors for old clients, for every mailbox",
			func(s *store.Settings) *[]netip.Prefix { return &s.OldClientNetworks }),
		boolSetting("exclusive_maildrop", "let one POP3 session at a time have a mailbox; off: each sees it as it was at its login",
			func(s *store.Settings) *bool { return &s.ExclusiveMaildrop }),
		numberSetting("login_delay", "seconds between two POP3 logins of a mailbox; 0: none",
			func(s *store.Settings, n int64) { s.LoginDelay = int(n) }, func(s store.Settings) int64 { return int64(s.LoginDelay) }),
		numberSetting("expire_days", "days after which messages are removed, fetched or not; 0: never",
			func(s *store.Settings, n int64) { s.ExpireDays = int(n) }, func(s store.Settings) int64 { return int64(s.ExpireDays) }),
		boolSetting("outgoing_mail", "let mailboxes send to other domains",
			func(s *store.Settings) *bool { return &s.OutgoingMail }),
		boolSetting("require_auth", "off: trusted_networks may send to other domains without AUTH",
			func(s *store.Settings) *bool { return &s.RequireAuth }),
		authTimeSetting(),
		networksSetting("trusted_networks", "networks that require_auth=off is about, at least /16 (IPv4) or /48 (IPv6)",
			func(s *store.Settings) *[]netip.Prefix { return &s.TrustedNetworks }),
		numberSetting("trusted_recipients", "most recipients at other domains of one address there, an hour",
			func(s *store.Settings, n int64) { s.TrustedRecipients = int(n) }, func(s store.Settings) int64 { return int64(s.TrustedRecipients) }),
		boolSetting("pop_before_smtp", "a POP3 login lets its mailbox send from that address without AUTH for a while",
			func(s *store.Settings) *bool { return &s.POPBeforeSMTP }),
		numberSetting("grant_ipv6_bits", "how much of an IPv6 address that is bound to: 64 or 128",
			func(s *store.Settings, n int64) { s.GrantIPv6Bits = int(n) }, func(s store.Settings) int64 { return int64(s.GrantIPv6Bits) }),
		networksSetting("no_grant_networks", "networks where a POP3 login lets nobody send, because strangers share an address there",
			func(s *store.Settings) *[]netip.Prefix { return &s.NoGrantNetworks }),
		numberSetting("daily_recipients", "most recipients at other domains of one mailbox, a day",
			func(s *store.Settings, n int64) { s.DailyRecipients = int(n) }, func(s store.Settings) int64 { return int64(s.DailyRecipients) }),
		numberSetting("hourly_recipients", "most recipients at other domains of one mailbox, an hour",
			func(s *store.Settings, n int64) { s.HourlyRecipients = int(n) }, func(s store.Settings) int64 { return int64(s.HourlyRecipients) }),
		numberSetting("new_recipients", "most recipients that a mailbox has not written to before, a day; mail to more is put on hold",
			func(s *store.Settings, n int64) { s.NewRecipients = int(n) }, func(s store.Settings) int64 { return int64(s.NewRecipients) }),
		boolSetting("hold_jumps", "put mail of a mailbox on hold when it sends otherwise than usual: from new networks, to many new recipients, or to many that fail",
			func(s *store.Settings) *bool { return &s.HoldJumps }),
		numberSetting("daily_octets", "most octets that one mailbox sends to other domains, a day, counted for each recipient; 0: no bound",
			func(s *store.Settings, n int64) { s.DailyOctets = n }, func(s store.Settings) int64 { return s.DailyOctets }),
		numberSetting("domain_daily_recipients", "most recipients at other domains of all senders together, a day",
			func(s *store.Settings, n int64) { s.DomainDailyRecipients = int(n) }, func(s store.Settings) int64 { return int64(s.DomainDailyRecipients) }),
		numberSetting("domain_hourly_recipients", "most recipients at other domains of all senders together, an hour",
			func(s *store.Settings, n int64) { s.DomainHourlyRecipients = int(n) }, func(s store.Settings) int64 { return int64(s.DomainHourlyRecipients) }),
		boolSetting("grant_notices", "tell the owner of a mailbox when its mail is fetched from a new place that may then send without AUTH",
			func(s *store.Settings) *bool { return &s.GrantNotices }),
		boolSetting("send_then_check", "keep a client without AUTH waiting for up to two minutes, and take its message if its mail is fetched meanwhile",
			func(s *store.Settings) *bool { return &s.SendThenCheck }),
		boolSetting("suppress_failed", "refuse mail to addresses at other domains whose servers said twice within a week that they do not exist, for 30 days",
			func(s *store.Settings) *bool { return &s.SuppressFailed }),
		numberSetting("delay_notice", "hours after which the sender of a message that still waits is told so, once; 0: never",
			func(s *store.Settings, n int64) { s.DelayNotice = int(n) }, func(s store.Settings) int64 { return int64(s.DelayNotice) }),
		helpURLSetting(),
		outsideSendersSetting(),
	}
}

func numberSetting(name, help string, set func(*store.Settings, int64), get func(store.Settings) int64) Setting {
	return Setting{
		Name: name, Help: help,
		read: func(text string) (any, error) {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("%s is a whole number, not %q", name, text)
			}
			return n, nil
		},
		apply: func(s *store.Settings, value json.RawMessage) []Field {
			var n int64
			if string(value) == "null" || json.Unmarshal(value, &n) != nil || int64(int(n)) != n {
				return []Field{{Field: name, Message: "is a whole number"}}
			}
			set(s, n)
			return nil
		},
		show: func(s store.Settings) string { return strconv.FormatInt(get(s), 10) },
	}
}

func boolSetting(name, help string, field func(*store.Settings) *bool) Setting {
	return Setting{
		Name: name, Help: help,
		read: func(text string) (any, error) {
			switch strings.ToLower(text) {
			case "on", "true", "yes":
				return true, nil
			case "off", "false", "no":
				return false, nil
			}
			return nil, fmt.Errorf("%s is on or off, not %q", name, text)
		},
		apply: func(s *store.Settings, value json.RawMessage) []Field {
			var b bool
			if string(value) == "null" || json.Unmarshal(value, &b) != nil {
				return []Field{{Field: name, Message: "is true or false"}}
			}
			*field(s) = b
			return nil
		},
		show: func(s store.Settings) string {
			if *field(&s) {
				return "on"
			}
			return "off"
		},
	}
}

// authTimeSetting is a moment, or nothing.
func authTimeSetting() Setting {
	const name = "require_auth_at"
	return Setting{
		Name: name, Help: "when require_auth is on again by itself; empty: never",
		read: func(text string) (any, error) {
			if text == "" {
				return nil, nil
			}
			at, err := time.Parse(time.RFC3339, text)
			if err != nil {
				return nil, fmt.Errorf("%s is a time such as 2026-04-01T18:00:00Z, not %q", name, text)
			}
			return at, nil
		},
		apply: func(s *store.Settings, value json.RawMessage) []Field {
			at := time.Time{}
			if string(value) != "null" && json.Unmarshal(value, &at) != nil {
				return []Field{{Field: name, Message: "is a time (RFC 3339), or null"}}
			}
			s.RequireAuthAt = at.UTC()
			return nil
		},
		show: func(s store.Settings) string {
			if s.RequireAuthAt.IsZero() {
				return ""
			}
			return s.RequireAuthAt.UTC().Format(time.RFC3339)
		},
	}
}

// networksSetting is a list of networks; an address alone is a network of one.
func networksSetting(name, help string, field func(*store.Settings) *[]netip.Prefix) Setting {
	return Setting{
		Name: name, Help: help,
		read: func(text string) (any, error) { return splitList(text), nil },
		apply: func(s *store.Settings, value json.RawMessage) []Field {
			var texts []string
			if json.Unmarshal(value, &texts) != nil {
				return []Field{{Field: name, Message: "is a list of networks"}}
			}
			if len(texts) > store.MaxNetworks {
				return []Field{{Field: name, Message: fmt.Sprintf("has more than %d networks", store.MaxNetworks)}}
			}
			var wrong []Field
			networks := make([]netip.Prefix, 0, len(texts))
			for i, text := range texts {
				network, ok := parseNetwork(text)
				if !ok {
					wrong = append(wrong, Field{Field: name, Message: fmt.Sprintf("number %d is not a network such as 192.0.2.0/24", i+1)})
					continue
				}
				networks = append(networks, network)
			}
			slices.SortFunc(networks, netip.Prefix.Compare)
			*field(s) = slices.Compact(networks)
			return wrong
		},
		show: func(s store.Settings) string { return joinTexts(*field(&s)) },
	}
}

func parseNetwork(text string) (netip.Prefix, bool) {
	if address, err := netip.ParseAddr(text); err == nil {
		address = address.Unmap()
		return netip.PrefixFrom(address, address.BitLen()), address.Zone() == ""
	}
	network, err := netip.ParsePrefix(text)
	return network, err == nil
}

func helpURLSetting() Setting {
	const name = "help_url"
	return Setting{
		Name: name, Help: "page that refusals point to; empty: none",
		read: func(text string) (any, error) { return text, nil },
		apply: func(s *store.Settings, value json.RawMessage) []Field {
			var text string
			if json.Unmarshal(value, &text) != nil {
				return []Field{{Field: name, Message: "is a text"}}
			}
			s.HelpURL = text
			return nil
		},
		show: func(s store.Settings) string { return s.HelpURL },
	}
}

func outsideSendersSetting() Setting {
	const name = "outside_senders"
	return Setting{
		Name: name, Help: "addresses of this domain that may arrive from outside without a login",
		read: func(text string) (any, error) { return splitList(text), nil },
		apply: func(s *store.Settings, value json.RawMessage) []Field {
			var texts []string
			if json.Unmarshal(value, &texts) != nil {
				return []Field{{Field: name, Message: "is a list of addresses"}}
			}
			addresses, wrong := parseAddresses(name, texts, store.MaxOutsideSenders)
			s.OutsideSenders = addresses
			return wrong
		},
		show: func(s store.Settings) string { return joinTexts(s.OutsideSenders) },
	}
}

// splitList reads a list with commas between; blanks around them do not count.
func splitList(text string) []string {
	list := []string{}
	for field := range strings.SplitSeq(text, ",") {
		if field = strings.TrimSpace(field); field != "" {
			list = append(list, field)
		}
	}
	return list
}

func joinTexts[T fmt.Stringer](items []T) string { return strings.Join(texted(items), ",") }
