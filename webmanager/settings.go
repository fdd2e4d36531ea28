package webmanager

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// Setting is one line of the table of what the domain's owner decides.
type Setting struct {
	// Name is the field's name in JSON and on the command line.
	Name string
	// Help is one sentence for people.
	Help string

	read  func(text string) (any, error)
	apply func(s *store.Settings, value json.RawMessage) []Field
	show  func(s store.Settings) string
}

// Settings returns the table.
func Settings() []Setting {
	return []Setting{
		numberSetting("message_size", "largest message taken, in octets",
			func(s *store.Settings, n int64) { s.MessageSize = n }, func(s store.Settings) int64 { return s.MessageSize }),
		numberSetting("recipients", "most recipients of one message",
			func(s *store.Settings, n int64) { s.Recipients = int(n) }, func(s store.Settings) int64 { return int64(s.Recipients) }),
		boolSetting("auth_on_mx", "take logins on port 25 too, for clients that know no other port",
			func(s *store.Settings) *bool { return &s.AuthOnMX }),
		boolSetting("cleartext_login", "take passwords without TLS from anywhere: anybody on the way can read them",
			func(s *store.Settings) *bool { return &s.CleartextLogin }),
		boolSetting("outgoing_mail", "let mailboxes send to other domains",
			func(s *store.Settings) *bool { return &s.OutgoingMail }),
		{
			Name: "outside_senders", Help: "addresses of this domain that may arrive from outside without a login",
			read: func(text string) (any, error) {
				list := []string{}
				for field := range strings.SplitSeq(text, ",") {
					if field = strings.TrimSpace(field); field != "" {
						list = append(list, field)
					}
				}
				return list, nil
			},
			apply: func(s *store.Settings, value json.RawMessage) []Field {
				var texts []string
				if json.Unmarshal(value, &texts) != nil {
					return []Field{{"outside_senders", "is a list of addresses"}}
				}
				addresses, wrong := parseAddresses("outside_senders", texts, store.MaxOutsideSenders)
				s.OutsideSenders = addresses
				return wrong
			},
			show: func(s store.Settings) string {
				texts := make([]string, len(s.OutsideSenders))
				for i, address := range s.OutsideSenders {
					texts[i] = address.String()
				}
				return strings.Join(texts, ",")
			},
		},
	}
}

// Read turns the text of a command line into the value that the API takes.
func (s Setting) Read(text string) (any, error) { return s.read(text) }

// Show is the value as Read takes it.
func (s Setting) Show(settings store.Settings) string { return s.show(settings) }

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
				return []Field{{name, "is a whole number"}}
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
				return []Field{{name, "is true or false"}}
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

func (a *API) showSettings(r *http.Request) (any, error) {
	settings, err := a.store.Settings(r.Context())
	return complete(settings), err
}

// complete has lists where JSON would otherwise show null.
func complete(s store.Settings) store.Settings {
	if s.OutsideSenders == nil {
		s.OutsideSenders = []mailaddr.Address{}
	}
	if s.TrustedNetworks == nil {
		s.TrustedNetworks = []netip.Prefix{}
	}
	if s.NoGrantNetworks == nil {
		s.NoGrantNetworks = []netip.Prefix{}
	}
	return s
}

// changeSettings takes an object of settings by name, and the version that they were read at.
func (a *API) changeSettings(r *http.Request) (any, error) {
	var body map[string]json.RawMessage
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	before, err := a.store.Settings(r.Context())
	if err != nil {
		return nil, err
	}
	wanted, err := applySettings(before, body)
	if err != nil {
		return nil, err
	}
	after, err := a.store.UpdateSettings(r.Context(), wanted)
	if err != nil {
		return nil, err
	}
	if err := a.audit(r.Context(), "settings.change", after.Domain, before, after); err != nil {
		return nil, err
	}
	return complete(after), nil
}

// applySettings returns the settings as they are to be, or every mistake. Each value is also judged alone, so that the store's
// sentence about it can be put beside its name.
func applySettings(before store.Settings, body map[string]json.RawMessage) (store.Settings, error) {
	known := map[string]Setting{}
	for _, s := range Settings() {
		known[s.Name] = s
	}
	wanted := before.Clone()
	var wrong []Field
	for _, name := range slices.Sorted(maps.Keys(body)) {
		if name == "version" {
			if json.Unmarshal(body[name], &wanted.Version) != nil {
				wrong = append(wrong, Field{name, "is a whole number"})
			}
			continue
		}
		setting, ok := known[name]
		if !ok {
			wrong = append(wrong, Field{name, "is not a setting"})
			continue
		}
		alone := before.Clone()
		mistakes := setting.apply(&alone, body[name])
		if len(mistakes) == 0 {
			if err := alone.Validate(); err != nil {
				mistakes = []Field{{name, plain(err)}}
			}
		}
		wrong = append(wrong, mistakes...)
		setting.apply(&wanted, body[name])
	}
	switch {
	case len(wrong) > 0:
		return store.Settings{}, invalid(wrong...)
	case wanted.Version != before.Version:
		return store.Settings{}, store.ErrConflict
	}
	return wanted, nil
}
