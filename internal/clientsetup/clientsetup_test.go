package clientsetup

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// everyDoor is a server with all doors open.
var everyDoor = Place{
	Domain: "example.com", Host: "mail.example.com", POP3: 110, POP3S: 995, MX: 25, Submission: 587, Submissions: 465,
	OldPOP3: 2110, OldPOP3S: 2995, OldSubmission: 2587, OldSubmissions: 2465, TLS: true,
}

var usual = Rules{RequireAuth: true, POPBeforeSMTP: true, OutgoingMail: true, AuthOnMX: true, MessageSize: 50 << 20}

// short writes ways as "port security login", old ones with a star, those of networks with them.
func short(ways []Way) string {
	var list []string
	for _, w := range ways {
		star := ""
		if w.Old {
			star = "*"
		}
		for _, n := range w.Networks {
			star += " from " + n.String()
		}
		list = append(list, fmt.Sprintf("%d %s %s%s", w.Port, w.Security, w.Login, star))
	}
	return strings.Join(list, ", ")
}

// TestNew: which ways there are, and in which order.
func TestNew(t *testing.T) {
	office := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	const safeFetch, safeSend = "995 tls password, 110 starttls password", "465 tls password, 587 starttls password, 25 starttls password"
	const granted = "465 tls fetch-first, 587 starttls fetch-first, 25 starttls fetch-first, 587 clear fetch-first, 25 clear fetch-first"
	for _, tt := range []struct {
		name        string
		place       func(p *Place)
		rules       func(r *Rules)
		old         bool
		fetch, send string
		last, trial bool
	}{
		{name: "the defaults", fetch: safeFetch, send: safeSend + ", " + granted},
		{name: "no POP before SMTP", rules: func(r *Rules) { r.POPBeforeSMTP = false }, fetch: safeFetch, send: safeSend},
		{
			name: "no AUTH on 25", rules: func(r *Rules) { r.POPBeforeSMTP, r.AuthOnMX = false, false }, fetch: safeFetch,
			send: "465 tls password, 587 starttls password",
		},
		{
			name: "authentication off", rules: func(r *Rules) { r.RequireAuth = false }, fetch: safeFetch, send: safeSend + ", " + granted, last: true,
		},
		{
			name: "authentication off for an office", fetch: safeFetch,
			rules: func(r *Rules) { r.RequireAuth, r.POPBeforeSMTP, r.TrustedNetworks = false, false, office },
			send:  safeSend + ", " + strings.ReplaceAll(strings.ReplaceAll(granted, "fetch-first", "network"), "network", "network from 192.0.2.0/24"),
		},
		{name: "networks without effect", rules: func(r *Rules) { r.TrustedNetworks, r.POPBeforeSMTP = office, false }, fetch: safeFetch, send: safeSend},
		{
			name: "an old client", old: true, rules: func(r *Rules) { r.POPBeforeSMTP = false },
			fetch: safeFetch + ", 2995 tls password*, 2110 starttls password*, 2110 clear challenge*, 2110 clear password*",
			send:  safeSend + ", 2465 tls password*, 2587 starttls password*, 2587 clear challenge*, 2587 clear password*",
		},
		{
			name: "old clients of an office", rules: func(r *Rules) { r.POPBeforeSMTP, r.OldClientNetworks = false, office },
			fetch: safeFetch + ", 2995 tls password* from 192.0.2.0/24, 2110 starttls password* from 192.0.2.0/24, 2110 clear password* from 192.0.2.0/24",
			send:  safeSend + ", 2465 tls password* from 192.0.2.0/24, 2587 starttls password* from 192.0.2.0/24, 2587 clear password* from 192.0.2.0/24",
		},
		{
			name: "every old client", rules: func(r *Rules) { r.POPBeforeSMTP, r.OldClientLogin, r.OldClientNetworks = false, true, office },
			fetch: safeFetch + ", 2995 tls password*, 2110 starttls password*, 2110 clear challenge*, 2110 clear password*",
			send:  safeSend + ", 2465 tls password*, 2587 starttls password*, 2587 clear challenge*, 2587 clear password*",
		},
		{
			name: "passwords in the clear", rules: func(r *Rules) { r.POPBeforeSMTP, r.CleartextLogin = false, true },
			fetch: safeFetch + ", 110 clear password", send: safeSend + ", 587 clear password, 25 clear password",
		},
		{
			name: "a trial on one computer", place: func(p *Place) { p.Host = "mail.demo.localhost" }, rules: func(r *Rules) { r.POPBeforeSMTP = false },
			fetch: safeFetch + ", 110 clear password", send: safeSend + ", 587 clear password, 25 clear password", trial: true,
		},
		{
			name: "no trial", place: func(p *Place) { p.Host = "mail.notlocalhost" }, rules: func(r *Rules) { r.POPBeforeSMTP = false },
			fetch: safeFetch, send: safeSend,
		},
		{name: "no certificate", place: func(p *Place) { p.TLS = false }, rules: func(r *Rules) { r.POPBeforeSMTP = false }},
		{
			name: "no certificate and no care", place: func(p *Place) { p.TLS = false },
			rules: func(r *Rules) { r.CleartextLogin = true },
			fetch: "110 clear password", send: "587 clear password, 25 clear password, 587 clear fetch-first, 25 clear fetch-first",
		},
		{
			name: "two doors", place: func(p *Place) { *p = Place{POP3S: 995, Submissions: 465, TLS: true} }, old: true,
			fetch: "995 tls password", send: "465 tls password, 465 tls fetch-first",
		},
		{name: "no door", place: func(p *Place) { *p = Place{TLS: true} }, old: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, r := everyDoor, usual
			if tt.place != nil {
				tt.place(&p)
			}
			if tt.rules != nil {
				tt.rules(&r)
			}
			s := New(p, r, Mailbox{Address: "anna@example.com", OldClientLogin: tt.old})
			if got := short(s.Fetch); got != tt.fetch {
				t.Errorf("fetch:\n got %s\nwant %s", got, tt.fetch)
			}
			if got := short(s.Send); got != tt.send {
				t.Errorf("send:\n got %s\nwant %s", got, tt.send)
			}
			if s.SMTPLast != tt.last {
				t.Errorf("SMTPLast is %v", s.SMTPLast)
			}
			if s.Trial != tt.trial {
				t.Errorf("Trial is %v", s.Trial)
			}
		})
	}
}

// TestUserNames: the whole address where there is a login, and nothing else.
func TestUserNames(t *testing.T) {
	r := usual
	r.RequireAuth, r.TrustedNetworks, r.CleartextLogin = false, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, true
	s := New(everyDoor, r, Mailbox{Address: "anna@example.com", OldClientLogin: true})
	for _, w := range slices.Concat(s.Fetch, s.Send) {
		want := "anna@example.com"
		if w.Login == FetchFirst || w.Login == Network {
			want = ""
		}
		if w.User != want || w.Host != "mail.example.com" {
			t.Errorf("%+v: user %q, want %q", w.Kind, w.User, want)
		}
	}
	if s.Local() != "anna" {
		t.Errorf("local part %q", s.Local())
	}
	s.Send[len(s.Send)-1].Networks[0] = netip.Prefix{}
	if !r.TrustedNetworks[0].IsValid() {
		t.Error("the setup shares memory with the rules")
	}
}

// TestOldHost: the doors for old programs may have a name of their own.
func TestOldHost(t *testing.T) {
	p := everyDoor
	p.OldHost = "old.example.com"
	s := New(p, usual, Mailbox{Address: "anna@example.com", OldClientLogin: true})
	for _, w := range slices.Concat(s.Fetch, s.Send) {
		if w.Old != (w.Host == "old.example.com") {
			t.Errorf("%+v is at %s", w.Kind, w.Host)
		}
	}
}

// TestPick: the program's order counts, not that of the ways.
func TestPick(t *testing.T) {
	s := New(everyDoor, usual, Mailbox{Address: "anna@example.com", OldClientLogin: true})
	w, ok := Pick(s.Fetch, Kind{POP3, Clear, Challenge, true}, Kind{POP3, TLS, Password, false})
	if !ok || w.Port != 2110 {
		t.Errorf("picked %+v", w)
	}
	if w, ok := Pick(s.Fetch, Kind{SMTP, TLS, Password, false}); ok || !reflect.DeepEqual(w, Way{}) {
		t.Errorf("picked %+v", w)
	}
}

// TestWords: every way is described, in each language otherwise.
func TestWords(t *testing.T) {
	r := usual
	r.RequireAuth, r.TrustedNetworks, r.CleartextLogin = false, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, true
	s := New(everyDoor, r, Mailbox{Address: "anna@example.com", OldClientLogin: true})
	for _, w := range slices.Concat(s.Fetch, s.Send) {
		if w.Words(English) == w.Words(German) || w.Login.Words(English) == w.Login.Words(German) {
			t.Errorf("%+v has the same words twice", w.Kind)
		}
		unsafe := w.Security == Clear
		if said := w.Words(English) == "Encrypted. Recommended."; said && (unsafe || w.Old || w.User == "") {
			t.Errorf("%+v is recommended", w.Kind)
		}
	}
}

// TestServices: the SRV names follow the doors, and IMAP is said not to be there.
func TestServices(t *testing.T) {
	var got []string
	for _, s := range Services(Place{POP3S: 995, Submission: 587}) {
		got = append(got, fmt.Sprintf("%s %d", s.Name, s.Port))
	}
	want := "_pop3s._tcp 995, _pop3._tcp 0, _submissions._tcp 0, _submission._tcp 587, _imaps._tcp 0, _imap._tcp 0"
	if strings.Join(got, ", ") != want {
		t.Errorf("got %s", strings.Join(got, ", "))
	}
}
