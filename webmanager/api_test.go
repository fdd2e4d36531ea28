package webmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"latchkey/auth"
	"latchkey/internal/mailaddr"
	"latchkey/store"
	"latchkey/store/memstore"
)

const domain = "example.com"

var noon = time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)

// received is when messages come: so late that the trail, which forgets by the real clock, keeps them.
var received = time.Date(2099, 4, 1, 12, 0, 0, 0, time.UTC)

// fakeHasher makes verifiers that tests can tell apart; a password that says so fails with that error.
type fakeHasher map[string]error

func (h fakeHasher) Hash(_ context.Context, password string) (store.Verifier, error) {
	return store.Verifier("hash of " + password), h[password]
}

// fixture is an API over a store in memory.
type fixture struct {
	*testing.T
	store  *memstore.Store
	api    *API
	client *Client
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	s := memstore.New(domain)
	t.Cleanup(func() {
		problems, err := s.Check(context.Background())
		if err != nil || len(problems) > 0 {
			t.Errorf("check at the end: %v, %v", problems, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	api := New(Options{
		Store: s, Hasher: fakeHasher{"password busy": auth.ErrBusy, "password broken": errors.New("secret cause")},
		Now: func() time.Time { return noon }, Version: "v1", Go: "go1",
	})
	return &fixture{t, s, api, InProcess(api, Actor{Role: RoleOperator, Name: "tester", Remote: netip.MustParseAddr("192.0.2.1")})}
}

func (f *fixture) do(method, path string, in, out any) {
	f.Helper()
	if err := f.client.Do(f.Context(), method, path, in, out); err != nil {
		f.Fatalf("%s %s: %v", method, path, err)
	}
}

func (f *fixture) add(names ...string) {
	f.Helper()
	for _, name := range names {
		f.do(http.MethodPost, "/v1/accounts", NewAccount{Name: name, Password: "password of " + name}, nil)
	}
}

func (f *fixture) account(name string) store.Account {
	f.Helper()
	a, err := f.store.AccountByName(f.Context(), name)
	if err != nil {
		f.Fatal(err)
	}
	return a
}

// raw makes a request with any body, and returns the status and the answer.
func (f *fixture) raw(method, target, media, body string) (int, string) {
	f.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if media != "" {
		r.Header.Set("Content-Type", media)
	}
	w := httptest.NewRecorder()
	f.api.ServeHTTP(w, r.WithContext(WithActor(f.Context(), Actor{Role: RoleOperator, Name: "tester"})))
	return w.Code, w.Body.String()
}

func (f *fixture) audit() []store.AuditEntry {
	f.Helper()
	entries, err := f.store.ListAudit(f.Context(), 0, 1000)
	if err != nil {
		f.Fatal(err)
	}
	return entries
}

// refused is the table of everything that the API refuses, on a domain with the mailboxes anna, bert and postmaster, and the alias
// abuse for postmaster.
var refused = []struct {
	name, method, path, body string
	code                     Code
	words                    string
}{
	{"no such path", "GET", "/v1/nothing", "", CodeNotFound, "no such path"},
	{"wrong method", "PUT", "/v1/accounts", "", CodeMethod, "not with this method"},
	{"empty body", "POST", "/v1/accounts", "", CodeInvalid, "ends too early"},
	{"half a body", "POST", "/v1/accounts", `{"name":"x"`, CodeInvalid, "ends too early"},
	{"two bodies", "POST", "/v1/accounts", `{} {}`, CodeInvalid, "more than one value"},
	{"no object", "POST", "/v1/accounts", `[]`, CodeInvalid, "not the JSON object"},
	{"no JSON", "POST", "/v1/accounts", `name=x`, CodeInvalid, "not the JSON object"},
	{"unknown field", "POST", "/v1/accounts", `{"name":"x","password":"12345678","admin":true}`, CodeInvalid, `unknown field "admin"`},
	{"wrong type", "POST", "/v1/accounts", `{"name":7}`, CodeInvalid, "name: is not of the right type"},
	{"all fields of a new mailbox", "POST", "/v1/accounts", `{"name":"a b","password":"short","display_name":"a\u0007"}`, CodeInvalid,
		"name: is not a mailbox name: letters, digits, and . - _ + between them, 1 to 64 octets; password: has fewer than 8 characters; display_name: has more than 200 octets, or control characters"},
	{"name of a foreign domain", "POST", "/v1/accounts", `{"name":"x@other.example","password":"12345678"}`, CodeInvalid, "name: is at another domain; this one is example.com"},
	{"percent in a name", "POST", "/v1/accounts", `{"name":"a%b","password":"12345678"}`, CodeInvalid, "name: "},
	{"catch-all as a mailbox", "POST", "/v1/accounts", `{"name":"*","password":"12345678"}`, CodeInvalid, "name: "},
	{"control character in a password", "POST", "/v1/accounts", `{"name":"x","password":"12345678\u0000"}`, CodeInvalid, "password: has control characters"},
	{"mailbox exists", "POST", "/v1/accounts", `{"name":"ANNA","password":"12345678"}`, CodeExists, "the name anna is taken"},
	{"alias exists", "POST", "/v1/accounts", `{"name":"abuse","password":"12345678"}`, CodeExists, "the name abuse is taken"},
	{"hashing busy", "POST", "/v1/accounts", `{"name":"x","password":"password busy"}`, CodeUnavailable, "too many passwords"},
	{"hashing broken", "POST", "/v1/accounts", `{"name":"x","password":"password broken"}`, CodeInternal, "something failed inside"},
	{"show no mailbox", "GET", "/v1/accounts/nobody", "", CodeNotFound, "there is no mailbox nobody@example.com"},
	{"show a bad name", "GET", "/v1/accounts/a%20b", "", CodeInvalid, "name: "},
	{"show an alias as a mailbox", "GET", "/v1/accounts/abuse", "", CodeNotFound, "there is no mailbox abuse@example.com"},
	{"list limit 0", "GET", "/v1/accounts?limit=0", "", CodeInvalid, "limit: is a whole number of 1 to 1000"},
	{"list limit too high", "GET", "/v1/accounts?limit=1001", "", CodeInvalid, "limit: "},
	{"change no mailbox", "PATCH", "/v1/accounts/nobody", `{"suspended":true}`, CodeNotFound, "there is no mailbox"},
	{"change all wrong", "PATCH", "/v1/accounts/anna", `{"name":"a@b@c","display_name":"\u0000","quota":{"octets":-1,"messages":0},"send_as":["x","y@example.com"]}`, CodeInvalid,
		"name: is at another domain; this one is example.com; display_name: has more than 200 octets, or control characters; quota: is 0 (no bound) or more; send_as: number 1 is not an address"},
	{"change of an old version", "PATCH", "/v1/accounts/anna", `{"display_name":"x","version":999}`, CodeConflict, "changed by somebody else"},
	{"rename to a taken name", "PATCH", "/v1/accounts/anna", `{"name":"bert"}`, CodeExists, "the name bert is taken"},
	{"rename postmaster", "PATCH", "/v1/accounts/postmaster", `{"name":"chief"}`, CodeReserved, "postmaster and abuse must lead to a mailbox"},
	{"short new password", "PUT", "/v1/accounts/anna/password", `{"password":"1234567"}`, CodeInvalid, "password: has fewer than 8 characters"},
	{"password of no mailbox", "PUT", "/v1/accounts/nobody/password", `{"password":"12345678"}`, CodeNotFound, "there is no mailbox"},
	{"remove no mailbox", "DELETE", "/v1/accounts/nobody", "", CodeNotFound, "there is no mailbox"},
	{"remove postmaster", "DELETE", "/v1/accounts/postmaster", "", CodeReserved, "postmaster and abuse must lead to a mailbox"},
	{"alias without targets", "PUT", "/v1/aliases/sales", `{"targets":[]}`, CodeInvalid, "targets: are 1 to 1000 mailboxes"},
	{"alias to an address literal", "PUT", "/v1/aliases/sales", `{"targets":["anna","x@[192.0.2.1]"]}`, CodeInvalid, "targets: x@[192.0.2.1] has no domain"},
	{"abuse outside", "PUT", "/v1/aliases/abuse", `{"targets":["x@other.example"]}`, CodeReserved, "postmaster and abuse must lead to a mailbox"},
	{"forward of the wrong type", "PATCH", "/v1/accounts/anna", `{"forward":"x@other.example"}`, CodeInvalid, "forward: is not of the right type"},
	{"forward to nothing", "PATCH", "/v1/accounts/anna", `{"forward":{"to":["x"]}}`, CodeInvalid, "forward: "},
	{"forward to ourselves", "PATCH", "/v1/accounts/anna", `{"forward":{"to":["bert@example.com"]}}`, CodeInvalid, "forward: bert@example.com is of this domain"},
	{"forward twice", "PATCH", "/v1/accounts/anna", `{"forward":{"to":["x@other.example","x@Other.example"]}}`, CodeInvalid, "named twice"},
	{"forward to a literal", "PATCH", "/v1/accounts/anna", `{"forward":{"to":["x@[192.0.2.1]"]}}`, CodeInvalid, "has no domain"},
	{
		"forward to many", "PATCH", "/v1/accounts/anna",
		`{"forward":{"to":["a@o.example","b@o.example","c@o.example","d@o.example","e@o.example","f@o.example","g@o.example","h@o.example","i@o.example",` +
			`"j@o.example","k@o.example"]}}`, CodeInvalid, "forward: ",
	},
	{"alias with all targets wrong", "PUT", "/v1/aliases/sales", `{"targets":["nobody","a b","x@other.example"]}`, CodeInvalid,
		`targets: there is no mailbox nobody@example.com; targets: "a b" is not a mailbox name: letters, digits, and . - _ + between them, 1 to 64 octets`},
	{"alias of an alias", "PUT", "/v1/aliases/sales", `{"targets":["abuse"]}`, CodeInvalid, "targets: there is no mailbox abuse@example.com"},
	{"alias with a mailbox's name", "PUT", "/v1/aliases/anna", `{"targets":["bert"]}`, CodeExists, "the name anna is taken by a mailbox"},
	{"alias with a bad name", "PUT", "/v1/aliases/a%20b", `{"targets":["bert"]}`, CodeInvalid, "name: "},
	{"suppress nothing", "PUT", "/v1/suppressions/x", `{}`, CodeInvalid, "address: is not a mail address"},
	{"suppress a mailbox", "PUT", "/v1/suppressions/anna@example.com", `{}`, CodeInvalid, "address: is of this domain"},
	{"suppress for ever", "PUT", "/v1/suppressions/a@b.example", `{"days":3651}`, CodeInvalid, "days: is 1 to 3650"},
	{"suppress for less than a day", "PUT", "/v1/suppressions/a@b.example", `{"days":-1}`, CodeInvalid, "days: is 1 to 3650"},
	{"suppress for a bad reason", "PUT", "/v1/suppressions/a@b.example", `{"reason":"a\nb"}`, CodeInvalid, "reason of more than 300"},
	{"remove no suppression", "DELETE", "/v1/suppressions/a@b.example", "", CodeNotFound, "a@b.example is not suppressed"},
	{"remove the suppression of nothing", "DELETE", "/v1/suppressions/a", "", CodeInvalid, "address: is not a mail address"},
	{"delay notice", "PATCH", "/v1/settings", `{"delay_notice":97}`, CodeInvalid, "delay_notice is 0 (never) to 96 hours"},
	{"remove no alias", "DELETE", "/v1/aliases/sales", "", CodeNotFound, "there is no alias sales@example.com"},
	{"remove abuse", "DELETE", "/v1/aliases/abuse", "", CodeReserved, "postmaster and abuse must lead to a mailbox"},
	{"alias of a foreign domain", "DELETE", "/v1/aliases/x@other.example", "", CodeInvalid, "name: is at another domain"},
	{"settings all wrong", "PATCH", "/v1/settings",
		`{"message_size":65535,"recipients":"many","auth_on_mx":null,"outside_senders":["a@other.example"],"domain":"x.example","version":"one"}`, CodeInvalid,
		"auth_on_mx: is true or false; domain: is not a setting; message_size: message_size is 65536 to 2147483648 octets; " +
			"outside_senders: outside sender a@other.example is not an address of example.com; recipients: is a whole number; version: is a whole number"},
	{"settings of an old version", "PATCH", "/v1/settings", `{"auth_on_mx":false,"version":99}`, CodeConflict, "changed by somebody else"},
	{"settings with a fraction", "PATCH", "/v1/settings", `{"recipients":100.5}`, CodeInvalid, "recipients: is a whole number"},
	{"outside senders no addresses", "PATCH", "/v1/settings", `{"outside_senders":["x","a@example.com","y"]}`, CodeInvalid, "outside_senders: number 1 is not an address; outside_senders: number 3"},
	{"outside senders no list", "PATCH", "/v1/settings", `{"outside_senders":"a@example.com"}`, CodeInvalid, "outside_senders: is a list of addresses"},
	{"loosening", "PATCH", "/v1/settings", `{"cleartext_login":true,"confirm":"example"}`, CodeConfirm, "nothing was changed: passwords are taken without TLS"},
	{"preview of what is wrong", "POST", "/v1/settings/preview", `{"recipients":1,"nonsense":2}`, CodeInvalid, "nonsense: is not a setting; recipients: recipients is 100 to 10000"},
	{"preview of an old version", "POST", "/v1/settings/preview", `{"recipients":200,"version":99}`, CodeConflict, "changed by somebody else"},
	{"networks no list", "PATCH", "/v1/settings", `{"trusted_networks":"192.0.2.0/24"}`, CodeInvalid, "trusted_networks: is a list of networks"},
	{"help no URL", "PATCH", "/v1/settings", `{"help_url":"javascript:alert(1)"}`, CodeInvalid, "help_url: help_url is an http or https URL"},
	{"grants parameters", "GET", "/v1/grants?live=perhaps&address=192.0.2.0/24", "", CodeInvalid, "live: is true or false; address: is an IP address"},
	{"grants limit", "GET", "/v1/grants?limit=1001", "", CodeInvalid, "limit: "},
	{"grants after", "GET", "/v1/grants?after=x", "", CodeInvalid, "after: "},
	{"grants of nobody", "GET", "/v1/grants?mailbox=nobody", "", CodeNotFound, "there is no mailbox"},
	{"revoke what", "POST", "/v1/grants/revoke", `{}`, CodeInvalid, "say which grants: ids, a mailbox, or all"},
	{"revoke too much", "POST", "/v1/grants/revoke", `{"ids":[1],"all":true}`, CodeInvalid, "say which grants"},
	{"revoke none", "POST", "/v1/grants/revoke", `{"ids":[]}`, CodeInvalid, "ids: are 1 to 1000 numbers of grants"},
	{"revoke of nobody", "POST", "/v1/grants/revoke", `{"mailbox":"nobody"}`, CodeNotFound, "there is no mailbox"},
	{"queue verb", "POST", "/v1/queue/bounce", `{"ids":[1]}`, CodeMethod, "not with this method"},
	{"hold none", "POST", "/v1/queue/hold", `{"ids":[],"reason":"a\u0007"}`, CodeInvalid, "ids: are 1 to 1000 numbers of queued deliveries; reason: has more than 1000 octets, or control characters"},
	{"reason of a retry", "POST", "/v1/queue/retry", `{"ids":[1],"reason":"x"}`, CodeInvalid, "reason: is for hold only"},
	{"ids no numbers", "POST", "/v1/queue/remove", `{"ids":["1"]}`, CodeInvalid, "ids: is not of the right type"},
	{"queue parameters", "GET", "/v1/queue?message=1&destination=-x-&held=maybe", "", CodeInvalid,
		"message: is a message id of 16 hex digits; destination: is not a domain; held: is true or false"},
	{"queue after", "GET", "/v1/queue?after=-1", "", CodeInvalid, "after: is a whole number"},
	{"queue limit", "GET", "/v1/queue?limit=x", "", CodeInvalid, "limit: "},
	{"queue submitter", "GET", "/v1/queue?submitter=nobody", "", CodeNotFound, "there is no mailbox"},
	{"no job", "GET", "/v1/queue/7", "", CodeNotFound, "there is no queued delivery 7"},
	{"job 0", "GET", "/v1/queue/0", "", CodeInvalid, "id: "},
	{"job by name", "GET", "/v1/queue/x", "", CodeInvalid, "id: "},
	{"trail without a moment", "GET", "/v1/trail?since=monday", "", CodeInvalid, "since: is a time"},
	{"trail before nothing", "GET", "/v1/trail?before=x", "", CodeInvalid, "before: is a message id"},
	{"trail of short words", "GET", "/v1/trail?subject=Re%3A+a+b", "", CodeInvalid, "subject: has no word"},
	{"trail from a host", "GET", "/v1/trail?from=%40x", "", CodeInvalid, "from: is an address"},
	{"trail of a mailbox that is none", "GET", "/v1/trail?mailbox=carl", "", CodeNotFound, "no mailbox carl@example.com"},
	{"proof of what", "POST", "/v1/proofs", `{"message":"x","recipient":"@","days":366}`, CodeInvalid, "message: "},
	{"proof of nothing", "POST", "/v1/proofs", `{"message":"00000000000000ff"}`, CodeNotFound, "the trail has no message 00000000000000ff"},
	{"no proof yet", "POST", "/v1/proofs/check", `{"token":"x"}`, CodeInvalid, "has signed no proof"},
	{"queue of a sender that is none", "GET", "/v1/queue?sender=x&recipient=y", "", CodeInvalid, "is not an address"},
	{"bounce of a hold", "POST", "/v1/queue/hold", `{"ids":[1],"bounce":true}`, CodeInvalid, "bounce: is for remove only"},
	{"trail limit", "GET", "/v1/trail?for=anna&limit=101", "", CodeInvalid, "limit: is a whole number of 1 to 100"},
	{"audit limit", "GET", "/v1/audit?limit=1001", "", CodeInvalid, "limit: "},
	{"audit before", "GET", "/v1/audit?before=x", "", CodeInvalid, "before: is a whole number"},
}

func TestRefusals(t *testing.T) {
	f := newFixture(t)
	f.add("postmaster", "anna", "bert")
	f.do("PUT", "/v1/aliases/abuse", AliasTargets{[]string{"postmaster"}}, nil)
	before := len(f.audit())
	for _, tt := range refused {
		status, body := f.raw(tt.method, tt.path, "application/json", tt.body)
		var e Error
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Errorf("%s: answer %q is no error: %v", tt.name, body, err)
			continue
		}
		if e.Code != tt.code || status != tt.code.Status() || !strings.Contains(e.Error(), tt.words) {
			t.Errorf("%s: got %d %s %q, want %d %s %q", tt.name, status, e.Code, e.Error(), tt.code.Status(), tt.code, tt.words)
		}
		if strings.Contains(body, "secret cause") || strings.Contains(body, "store:") || strings.Contains(body, "mailaddr:") {
			t.Errorf("%s: the answer leaks: %s", tt.name, body)
		}
	}
	if after := len(f.audit()); after != before {
		t.Errorf("refused requests wrote %d audit entries", after-before)
	}
}

func TestAccountLife(t *testing.T) {
	f := newFixture(t)
	var a Account
	f.do("POST", "/v1/accounts", NewAccount{Name: "Anna@EXAMPLE.com", Password: "password 1", DisplayName: "Anna A."}, &a)
	if a.Name != "anna" || a.Address.String() != "anna@example.com" || a.DisplayName != "Anna A." || !a.Created.Equal(noon) || a.Suspended {
		t.Fatalf("added: got %+v", a)
	}
	first := f.account("anna")
	if first.Verifier != "hash of password 1" {
		t.Errorf("verifier: got %q", string(first.Verifier))
	}
	f.do("PUT", "/v1/accounts/anna@example.com/password", Password{Password: "password 2"}, nil)
	if got := f.account("anna"); got.Verifier != "hash of password 2" || got.CredentialVersion <= first.CredentialVersion {
		t.Errorf("after the password: got %+v", got)
	}
	on, off, name := true, false, "anne"
	f.do("PATCH", "/v1/accounts/anna", AccountChange{Suspended: &on}, &a)
	if !a.Suspended || !f.account("anna").Suspended {
		t.Error("not suspended")
	}
	f.do("PATCH", "/v1/accounts/anna", AccountChange{Suspended: &off}, &a)
	f.do("PATCH", "/v1/accounts/anna", AccountChange{Name: &name, Quota: &store.Quota{Octets: 5, Messages: 6}, SendAs: &[]string{"sales@example.com"}, Version: a.Version}, &a)
	if a.Name != "anne" || a.Quota.Octets != 5 || len(a.SendAs) != 1 || a.Suspended {
		t.Errorf("changed: got %+v", a)
	}
	f.do("GET", "/v1/accounts/anne", nil, &a)
	f.do("DELETE", "/v1/accounts/anne", nil, nil)
	f.add("anne")
	if again := f.account("anne"); again.ID == first.ID || len(again.SendAs) > 0 {
		t.Errorf("re-added: got %+v", again)
	}

	entries := f.audit()
	want := []string{"account.add", "account.remove", "account.change", "account.resume", "account.suspend", "account.password", "account.add"}
	if len(entries) != len(want) {
		t.Fatalf("audit: got %+v", entries)
	}
	for i, e := range entries {
		if e.Action != want[i] || e.Actor != "tester" || e.Remote.String() != "192.0.2.1" || !e.Time.Equal(noon) {
			t.Errorf("audit %d: got %+v, want %s", i, e, want[i])
		}
		if strings.Contains(e.Before+e.After, "password") || strings.Contains(e.Before+e.After, "hash") {
			t.Errorf("audit %d holds a credential: %+v", i, e)
		}
	}
	if suspend := entries[4]; !strings.Contains(suspend.Before, `"suspended":false`) || !strings.Contains(suspend.After, `"suspended":true`) {
		t.Errorf("before and after: got %+v", suspend)
	}
}

func TestAliasLife(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert", "postmaster", "abuse")
	var a Alias
	f.do("PUT", "/v1/aliases/Sales", AliasTargets{[]string{"bert", "anna@example.com", "BERT"}}, &a)
	if a.Name != "sales" || fmt.Sprint(a.Targets) != "[anna bert]" {
		t.Errorf("got %+v", a)
	}
	f.do("PUT", "/v1/aliases/sales@example.com", AliasTargets{[]string{"bert"}}, nil)
	f.do("PUT", "/v1/aliases/*", AliasTargets{[]string{"anna"}}, &a)
	if a.Name != store.CatchAll || a.Address.String() != "*@example.com" {
		t.Errorf("catch-all: got %+v", a)
	}
	var page AliasPage
	f.do("GET", "/v1/aliases", nil, &page)
	if len(page.Aliases) != 2 || page.Next != "" {
		t.Errorf("list: got %+v", page)
	}
	f.do("GET", "/v1/aliases?limit=1", nil, &page)
	if len(page.Aliases) != 1 || page.Next != page.Aliases[0].Name {
		t.Errorf("first page: got %+v", page)
	}
	f.do("DELETE", "/v1/aliases/*@example.com", nil, nil)
	f.do("DELETE", "/v1/aliases/sales", nil, nil)
	var words []string
	for _, e := range f.audit() {
		if strings.HasPrefix(e.Action, "alias") {
			words = append(words, strings.TrimSpace(e.Action+" "+e.Object+" "+e.Before+">"+e.After))
		}
	}
	want := `alias.remove sales ["bert"]>|alias.remove * ["anna"]>|alias.add * >["anna"]|alias.change sales ["anna","bert"]>["bert"]|alias.add sales >["anna","bert"]`
	if got := strings.Join(words, "|"); got != want {
		t.Errorf("audit: got %s, want %s", got, want)
	}
}

func TestSettings(t *testing.T) {
	f := newFixture(t)
	var s store.Settings
	f.do("GET", "/v1/settings", nil, &s)
	body := map[string]any{"message_size": 1 << 20, "auth_on_mx": false, "outside_senders": []string{"news@example.com"}, "version": s.Version, "confirm": "Example.COM"}
	var after store.Settings
	f.do("PATCH", "/v1/settings", body, &after)
	if after.Version != s.Version+1 || after.MessageSize != 1<<20 || after.AuthOnMX || len(after.OutsideSenders) != 1 || after.Recipients != s.Recipients {
		t.Errorf("got %+v", after)
	}
	if err := f.client.Do(t.Context(), "PATCH", "/v1/settings", body, nil); !isCode(err, CodeConflict) {
		t.Errorf("old version: got %v", err)
	}
	if _, answer := f.raw("GET", "/v1/settings", "", ""); !strings.Contains(answer, `"outside_senders":["news@example.com"]`) {
		t.Errorf("got %s", answer)
	}
	entries := f.audit()
	if len(entries) != 1 || entries[0].Action != "settings.change" || !strings.Contains(entries[0].Before, `"auth_on_mx":true`) || !strings.Contains(entries[0].After, `"auth_on_mx":false`) {
		t.Errorf("audit: got %+v", entries)
	}
	for _, setting := range Settings() {
		value, err := setting.Read(setting.Show(after))
		if err != nil {
			t.Errorf("%s: what it shows it does not read: %v", setting.Name, err)
			continue
		}
		f.do("PATCH", "/v1/settings", map[string]any{setting.Name: value}, nil)
	}
}

func isCode(err error, code Code) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

// deliver stores a message from anna to bert and to two strangers.
func (f *fixture) deliver() store.Receipt {
	f.Helper()
	anna, bert := f.account("anna"), f.account("bert")
	d, err := f.store.NewDraft(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	if _, err := d.Write([]byte("Subject: x\r\n\r\nbody\r\n")); err != nil {
		f.Fatal(err)
	}
	address := func(s string) mailaddr.Address {
		a, err := mailaddr.Parse(s)
		if err != nil {
			f.Fatal(err)
		}
		return a
	}
	receipt, err := d.Commit(f.Context(), store.Envelope{
		ReversePath: address("anna@example.com"), Submitter: anna.ID, Received: received, HeaderLen: 14, HeaderID: "<1@example.com>",
		Origin: store.Origin{Door: "submission", Remote: netip.MustParseAddr("192.0.2.9"), With: "ESMTPSA"},
		Recipients: []store.Recipient{
			{Address: address("bert@example.com"), Account: bert.ID}, {Address: address("x@one.example")}, {Address: address("y@two.example")},
		},
	})
	if err != nil {
		f.Fatal(err)
	}
	return receipt
}

func TestQueueAndTrail(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert")
	receipt := f.deliver()
	var q QueuePage
	for _, tt := range []struct {
		query string
		want  int
	}{
		{"", 2}, {"?destination=TWO.example", 1}, {"?submitter=anna", 2}, {"?submitter=bert", 0}, {"?held=true", 0}, {"?held=false", 2},
		{"?message=" + receipt.Message.String(), 2}, {"?message=00000000000000ff", 0},
	} {
		q = QueuePage{}
		f.do("GET", "/v1/queue"+tt.query, nil, &q)
		if len(q.Jobs) != tt.want || q.Next != 0 {
			t.Errorf("queue %s: got %d jobs, next %d, want %d", tt.query, len(q.Jobs), q.Next, tt.want)
		}
	}
	f.do("GET", "/v1/queue?limit=1", nil, &q)
	if q.Next != receipt.Jobs[0] {
		t.Errorf("next: got %d", q.Next)
	}
	f.do("GET", fmt.Sprintf("/v1/queue?after=%d", q.Next), nil, &q)
	if len(q.Jobs) != 1 || q.Jobs[0].ID != receipt.Jobs[1] {
		t.Errorf("second page: got %+v", q)
	}
	var job store.Job
	f.do("GET", fmt.Sprintf("/v1/queue/%d", receipt.Jobs[0]), nil, &job)
	if job.Recipient.String() != "x@one.example" || job.Message != receipt.Message {
		t.Errorf("job: got %+v", job)
	}
	for _, what := range []string{receipt.Message.String(), "anna", "anna@example.com", "bert@EXAMPLE.com", "x@one.example", "%3C1@example.com%3E"} {
		var result TrailResult
		f.do("GET", "/v1/trail?for="+what, nil, &result)
		if len(result.Messages) != 1 || result.Messages[0].ID != receipt.Message || len(result.Messages[0].Events) != 4 {
			t.Errorf("trail of %s: got %+v", what, result)
		}
	}
	for _, what := range []string{"00000000000000ff", "nobody", "nobody@other.example"} {
		if _, answer := f.raw("GET", "/v1/trail?for="+what, "", ""); strings.TrimSpace(answer) != `{"messages":[]}` {
			t.Errorf("trail of %s: got %s", what, answer)
		}
	}
}

func TestCheckVersionAudit(t *testing.T) {
	f := newFixture(t)
	var check CheckResult
	f.do("GET", "/v1/check", nil, &check)
	if len(check.Problems) != 2 || check.Problems[0].Kind != ProblemNoMailbox || check.Problems[0].Object != "postmaster@example.com" {
		t.Errorf("check of an empty domain: got %+v", check)
	}
	f.add("postmaster")
	f.do("PUT", "/v1/aliases/abuse", AliasTargets{[]string{"postmaster"}}, nil)
	f.do("GET", "/v1/check", nil, &check)
	if len(check.Problems) != 0 {
		t.Errorf("check: got %+v", check)
	}
	var v Version
	f.do("GET", "/v1/version", nil, &v)
	if v != (Version{Version: "v1", Go: "go1", Domain: domain}) {
		t.Errorf("version: got %+v", v)
	}
	var page AuditPage
	f.do("GET", "/v1/audit?limit=1", nil, &page)
	if len(page.Entries) != 1 || page.Entries[0].Action != "alias.add" || page.Next != page.Entries[0].Seq {
		t.Errorf("audit: got %+v", page)
	}
	before := page.Next
	page = AuditPage{}
	f.do("GET", fmt.Sprintf("/v1/audit?before=%d", before), nil, &page)
	if len(page.Entries) != 1 || page.Entries[0].Action != "account.add" || page.Next != 0 {
		t.Errorf("audit, second page: got %+v", page)
	}
}
