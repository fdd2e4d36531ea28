package webmanager

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"latchkey/auth"
	"latchkey/internal/refusal"
	"latchkey/store"
)

// Who calls a route in the table of roles.
const (
	callStranger = iota
	callMailboxOwn
	callMailboxForeign
	callOwner
	callOperator
	calls
)

// mayCall is who may call each route: a letter for a stranger, for the owner of a mailbox about his own and about another, for the owner of the
// domain, and for the operator. A route that has no line here fails the test.
var mayCall = map[string]string{
	"GET /v1/accounts":                              "---YY",
	"POST /v1/accounts":                             "---YY",
	"GET /v1/accounts/{name}":                       "-Y-YY",
	"PATCH /v1/accounts/{name}":                     "-Y-YY",
	"PUT /v1/accounts/{name}/password":              "-Y-YY",
	"GET /v1/accounts/{name}/vacation":              "-Y-YY",
	"POST /v1/accounts/{name}/vacation/preview":     "-Y-YY",
	"GET /v1/accounts/{name}/retention":             "-Y-YY",
	"DELETE /v1/accounts/{name}":                    "---YY",
	"POST /v1/accounts/{name}/release":              "---YY",
	"POST /v1/accounts/{name}/purge":                "---YY",
	"POST /v1/accounts/{name}/complaints":           "----Y",
	"GET /v1/accounts/{name}/totp":                  "-Y-YY",
	"POST /v1/accounts/{name}/totp":                 "-Y---", // nobody makes it for another, and neither has a mailbox here
	"PUT /v1/accounts/{name}/totp":                  "-Y---",
	"POST /v1/accounts/{name}/totp/end":             "-Y-YY",
	"GET /v1/accounts/{name}/passkeys":              "-Y-YY",
	"POST /v1/accounts/{name}/passkeys":             "-Y---", // as with a code
	"PUT /v1/accounts/{name}/passkeys":              "-Y---",
	"DELETE /v1/accounts/{name}/passkeys/{passkey}": "-Y-YY",
	"GET /v1/accounts/{name}/messages":              "-Y-YY",
	"GET /v1/accounts/{name}/messages/{uid}":        "-Y-YY",
	"GET /v1/accounts/{name}/messages/{uid}/raw":    "-Y-YY",
	"GET /v1/clients":                               "-Y-YY",
	"GET /v1/devices":                               "-Y-YY",
	"POST /v1/accounts/{name}/devices":              "-Y-YY",
	"GET /v1/accounts/{name}/devices/{device}":      "-Y-YY",
	"PATCH /v1/accounts/{name}/devices/{device}":    "-Y-YY",
	"DELETE /v1/accounts/{name}/devices/{device}":   "-Y-YY",
	"GET /v1/version":                               "-YYYY",
	"GET /v1/overview":                              "---YY",
	"GET /v1/usage":                                 "---YY",
	"GET /v1/aliases":                               "---YY",
	"PUT /v1/aliases/{name}":                        "---YY",
	"DELETE /v1/aliases/{name}":                     "---YY",
	"GET /v1/settings":                              "---YY",
	"PATCH /v1/settings":                            "---YY",
	"POST /v1/settings/preview":                     "---YY",
	"GET /v1/audit":                                 "---YY",
	"GET /v1/suppressions":                          "---YY",
	"PUT /v1/suppressions/{address}":                "---YY",
	"DELETE /v1/suppressions/{address}":             "---YY",
	"GET /v1/bans":                                  "---YY",
	"POST /v1/bans":                                 "---YY",
	"POST /v1/bans/lift":                            "---YY",
	"GET /v1/refusals/{code}":                       "YYYYY",
	"GET /v1/grants":                                "-Y-YY",
	"POST /v1/grants/revoke":                        "-Y-YY",
	"GET /v1/holds":                                 "-YYYY", // only its own are in the answer: TestHoldsOfOne
	"GET /v1/trail":                                 "-Y-YY",
	"POST /v1/proofs":                               "-YYYY", // only of what it sent: TestTrailOfOne
	"POST /v1/proofs/check":                         "YYYYY",
	"GET /v1/reputation":                            "---YY",
	"GET /v1/queue":                                 "-Y-YY",
	"GET /v1/queue/{id}":                            "-YYYY", // only of what it sent: TestQueueOfOne
	"POST /v1/queue/retry":                          "---YY",
	"POST /v1/queue/hold":                           "---YY",
	"POST /v1/queue/release":                        "---YY",
	"POST /v1/queue/remove":                         "---YY",
	"GET /v1/dkim":                                  "---YY",
	"POST /v1/dkim":                                 "---YY",
	"POST /v1/dkim/check":                           "---YY",
	"POST /v1/dkim/{selector}/activate":             "---YY",
	"POST /v1/dkim/{selector}/retire":               "---YY",
	"POST /v1/dkim/{selector}/remove":               "---YY",
	"GET /v1/dns":                                   "---YY",
	"GET /v1/dns/check":                             "---YY",
	"GET /v1/check":                                 "----Y",
	"POST /v1/compact":                              "----Y",
	"GET /v1/metrics":                               "----Y",
	"POST /v1/relay-proof":                          "----Y",
	"POST /v1/backup":                               "----Y",
	"GET /v1/tokens":                                "----Y",
	"POST /v1/tokens":                               "----Y",
	"DELETE /v1/tokens/{id}":                        "----Y",
	"POST /v1/sign-in":                              "----Y",
}

// bodyOf is a body with which a route gets as far as the question who calls.
func bodyOf(pattern, name string) any {
	switch pattern {
	case "POST /v1/grants/revoke":
		return GrantRevocation{Mailbox: name}
	case "PATCH /v1/accounts/{name}":
		return map[string]any{"display_name": "x"}
	case "PUT /v1/accounts/{name}/password":
		return Password{Password: "a new password", Current: "old"}
	}
	return map[string]any{}
}

// actorFor is who calls, as whose mailbox anna is.
func actorFor(f *fixture, call int) Actor {
	anna := f.account("anna").ID
	switch call {
	case callMailboxOwn, callMailboxForeign:
		return Actor{Name: "anna", Role: RoleMailbox, Account: anna}
	case callOwner:
		return Actor{Name: "owner", Role: RoleOwner}
	case callOperator:
		return Actor{Name: "operator", Role: RoleOperator}
	}
	return Actor{Name: "a stranger"}
}

// provingFixture is a fixture in which the password "old" is everybody's.
func provingFixture(t *testing.T) *fixture {
	f := newFixture(t)
	f.add("anna", "bert", "postmaster")
	f.api.prover = oldPassword{f}
	return f
}

// TestRoles calls every route in every role, about the own mailbox and about another.
func TestRoles(t *testing.T) {
	seen := map[string]bool{}
	for _, rt := range New(Options{Store: newFixture(t).store, Hasher: fakeHasher{}}).routes() {
		pattern := rt.pattern()
		seen[pattern] = true
		want, ok := mayCall[pattern]
		if !ok || len(want) != calls {
			t.Errorf("%s has no line in the table of roles", pattern)
			continue
		}
		for call := range calls {
			f := provingFixture(t)
			name := "anna"
			if call == callMailboxForeign {
				name = "bert"
			}
			path := strings.NewReplacer("{name}", name, "{device}", "1", "{passkey}", "1", "{address}", "x@other.example", "{code}", "auth-banned", "{id}", "7",
				"{selector}", "s", "{uid}", "1").Replace(rt.path)
			if parameter := rt.self.parameter(); parameter != "" {
				path += "?" + parameter + "=" + name
			}
			var in any
			if rt.method != http.MethodGet && rt.method != http.MethodDelete && pattern != "POST /v1/backup" {
				in = bodyOf(pattern, name)
			}
			err := InProcess(f.api, actorFor(f, call)).Do(t.Context(), rt.method, path, in, nil)
			if got := !isCode(err, CodeForbidden); got != (want[call] == 'Y') {
				t.Errorf("%s by caller %d: allowed %t (%v)", pattern, call, got, err)
			}
		}
	}
	for pattern := range mayCall {
		if !seen[pattern] {
			t.Errorf("%s is in the table of roles, and no route", pattern)
		}
	}
}

// TestReadOnly: whoever may only read is refused every change, and nothing else.
func TestReadOnly(t *testing.T) {
	f := provingFixture(t)
	client := InProcess(f.api, Actor{Name: "panel", Role: RoleOperator, ReadOnly: true})
	for _, rt := range f.api.routes() {
		mail := strings.Contains(rt.path, "/messages") // of others is nothing that is read by the way
		changes := mail || rt.method != http.MethodGet && !strings.HasSuffix(rt.path, "/preview") && rt.pattern() != "POST /v1/proofs/check"
		path := strings.NewReplacer("{name}", "anna", "{device}", "1", "{passkey}", "1", "{address}", "x@other.example", "{code}", "auth-banned", "{id}", "7", "{selector}", "s", "{uid}", "1").Replace(rt.path)
		err := client.Do(t.Context(), rt.method, path, map[string]any{}, nil)
		if isCode(err, CodeForbidden) != changes || rt.changes != changes {
			t.Errorf("%s: changes %t, the table says %t, refused with %v", rt.pattern(), changes, rt.changes, err)
		}
	}
	if entries := f.audit(); len(entries) != 3 { // the mailboxes of the fixture
		t.Errorf("%d changes were made: %+v", len(entries), entries)
	}
}

// TestOwnInOtherForms: no way of writing another mailbox, or of naming none, gets around the narrowing.
func TestOwnInOtherForms(t *testing.T) {
	f := provingFixture(t)
	client := InProcess(f.api, actorFor(f, callMailboxOwn))
	for path, allowed := range map[string]bool{
		"/v1/accounts/ANNA@EXAMPLE.COM":       true,
		"/v1/accounts/anna%40other.example":   false,
		"/v1/accounts/nobody":                 false,
		"/v1/accounts/anna%2F..%2Fbert":       false,
		"/v1/accounts/anna%2Bx":               false,
		"/v1/devices":                         true,
		"/v1/devices?mailbox=":                true,
		"/v1/devices?mailbox=anna":            true,
		"/v1/devices?mailbox=bert":            false,
		"/v1/devices?mailbox=bert;x&mailbox=": true, // not a parameter, so it is anna's
		"/v1/grants?mailbox=Bert":             false,
		"/v1/queue?submitter=bert":            false,
		"/v1/queue?sender=bert@example.com":   true, // and of anna
		"/v1/trail?mailbox=bert":              false,
		"/v1/audit":                           false,
	} {
		if err := client.Do(t.Context(), "GET", path, nil, nil); isCode(err, CodeForbidden) == allowed {
			t.Errorf("%s: %v, want allowed %t", path, err, allowed)
		}
	}
	var devices DevicePage
	f.do("POST", "/v1/accounts/bert/devices", DeviceRules{Name: "x", Send: true}, nil)
	for _, path := range []string{"/v1/devices", "/v1/devices?mailbox=anna&mailbox=bert", "/v1/devices?after=a&limit=9"} {
		if err := client.Do(t.Context(), "GET", path, nil, &devices); err != nil || len(devices.Devices) != 0 {
			t.Errorf("%s: %+v, %v", path, devices, err)
		}
	}
	gone := Actor{Name: "gone", Role: RoleMailbox, Account: 4711}
	if err := InProcess(f.api, gone).Do(t.Context(), "GET", "/v1/devices", nil, nil); !isCode(err, CodeForbidden) {
		t.Errorf("a mailbox that is gone: %v", err)
	}
	suspended := true
	f.do("PATCH", "/v1/accounts/anna", AccountChange{Suspended: &suspended}, nil)
	if err := client.Do(t.Context(), "GET", "/v1/accounts/anna", nil, nil); !isCode(err, CodeForbidden) {
		t.Errorf("a suspended mailbox: %v", err)
	}
}

// TestFieldsOfRoles: fields of a mailbox, and settings, that are not everybody's.
func TestFieldsOfRoles(t *testing.T) {
	for _, tt := range []struct {
		method, path, body string
		least              Role
	}{
		{"PATCH", "/v1/accounts/anna", `{"display_name":"A"}`, RoleMailbox},
		{"PATCH", "/v1/accounts/anna", `{"forward":{"to":["a@other.example"],"keep":true}}`, RoleMailbox},
		{"PATCH", "/v1/accounts/anna", `{"pop3":{"last":true}}`, RoleMailbox},
		{"PATCH", "/v1/accounts/anna", `{"vacation":{"on":true,"text":"away"}}`, RoleMailbox},
		{"PATCH", "/v1/accounts/anna", `{"expire_days":-1}`, RoleOwner},
		{"PATCH", "/v1/accounts/anna", `{"name":"anna2"}`, RoleOwner},
		{"PATCH", "/v1/accounts/anna", `{"suspended":false}`, RoleOwner},
		{"PATCH", "/v1/accounts/anna", `{"quota":{"octets":0,"messages":0}}`, RoleOwner},
		{"PATCH", "/v1/accounts/anna", `{"send_as":["boss@example.com"]}`, RoleOwner},
		{"PATCH", "/v1/accounts/anna", `{"old_client_login":true}`, RoleOwner},
		{"PATCH", "/v1/accounts/anna", `{"display_name":"A","owner":true}`, RoleOperator},
		{"POST", "/v1/accounts", `{"name":"new","password":"12345678"}`, RoleOwner},
		{"POST", "/v1/accounts", `{"name":"new","password":"12345678","owner":true}`, RoleOperator},
		{"PATCH", "/v1/settings", `{"hold_jumps":true}`, RoleOwner},
		{"PATCH", "/v1/settings", `{"domain_octets":1}`, RoleOperator},
		{"PATCH", "/v1/settings", `{"domain_messages":1}`, RoleOperator},
		{"PATCH", "/v1/settings", `{"domain_daily_recipients":1}`, RoleOperator},
		{"PATCH", "/v1/settings", `{"domain_hourly_recipients":1}`, RoleOperator},
		{"POST", "/v1/settings/preview", `{"domain_octets":1}`, RoleOperator},
	} {
		for role, call := range map[Role]int{RoleMailbox: callMailboxOwn, RoleOwner: callOwner, RoleOperator: callOperator} {
			f := provingFixture(t)
			var body any = rawJSON(tt.body)
			err := InProcess(f.api, actorFor(f, call)).Do(t.Context(), tt.method, tt.path, body, nil)
			if allowed := role >= tt.least; isCode(err, CodeForbidden) == allowed || allowed && err != nil {
				t.Errorf("%s %s %s by %s: %v", tt.method, tt.path, tt.body, role, err)
			}
		}
	}
}

type rawJSON string

// MarshalJSON is the text itself.
func (r rawJSON) MarshalJSON() ([]byte, error) { return []byte(r), nil }

// TestOwnPassword: whoever changes his own password has to know the present one, whatever his role; the owner of the domain does not for others.
func TestOwnPassword(t *testing.T) {
	f := provingFixture(t)
	anna := f.account("anna").ID
	for _, role := range []Role{RoleMailbox, RoleOwner} {
		own := InProcess(f.api, Actor{Name: "anna", Role: role, Account: anna})
		before := f.account("anna").CredentialVersion
		for _, current := range []string{"", "wrong"} {
			err := own.Do(t.Context(), "PUT", "/v1/accounts/anna/password", Password{Password: "a new password", Current: current}, nil)
			if !isCode(err, CodeInvalid) || !strings.Contains(err.Error(), "current: ") {
				t.Errorf("%s with %q: %v", role, current, err)
			}
		}
		if f.account("anna").CredentialVersion != before {
			t.Fatal("the password was changed")
		}
		if err := own.Do(t.Context(), "PUT", "/v1/accounts/anna/password", Password{Password: "new password " + role.String(), Current: "old"}, nil); err != nil {
			t.Errorf("%s: %v", role, err)
		}
		if f.account("anna").CredentialVersion == before {
			t.Error("the password was not changed")
		}
	}
	owner := InProcess(f.api, Actor{Name: "anna", Role: RoleOwner, Account: anna})
	if err := owner.Do(t.Context(), "PUT", "/v1/accounts/bert/password", Password{Password: "a new password"}, nil); err != nil {
		t.Error(err)
	}
	f.api.prover = nil
	if err := owner.Do(t.Context(), "PUT", "/v1/accounts/anna/password", Password{Password: "a new password", Current: "old"}, nil); !isCode(err, CodeUnavailable) {
		t.Errorf("without somebody who checks passwords: %v", err)
	}
}

// TestPerson: a login counts as long as its credential does, and has the role that the mailbox has now.
func TestPerson(t *testing.T) {
	f := provingFixture(t)
	anna := f.account("anna")
	id := auth.Identity{Account: anna.ID, Name: "anna", CredentialVersion: anna.CredentialVersion}
	want := func(role Role, wanted error) {
		t.Helper()
		actor, err := f.api.Person(t.Context(), id)
		if !errors.Is(err, wanted) || err == nil && (actor.Role != role || actor.Account != anna.ID || actor.Name != "anna") {
			t.Errorf("got %+v, %v, want %s, %v", actor, err, role, wanted)
		}
	}
	yes, no := true, false
	want(RoleMailbox, nil)
	f.do("PATCH", "/v1/accounts/anna", AccountChange{Owner: &yes}, nil)
	want(RoleOwner, nil)
	f.do("PATCH", "/v1/accounts/anna", AccountChange{Owner: &no}, nil)
	want(RoleMailbox, nil)
	if entries := f.audit(); !strings.Contains(entries[0].Before, `"owner":true`) || strings.Contains(entries[0].After, `"owner"`) {
		t.Errorf("audited as %+v", entries[0])
	}
	device := id
	device.Device = 1
	if _, err := f.api.Person(t.Context(), device); !errors.Is(err, ErrNotCurrent) {
		t.Errorf("a device: %v", err)
	}
	f.do("PUT", "/v1/accounts/anna/password", Password{Password: "another password"}, nil)
	want(RoleAnyone, ErrNotCurrent)
	id.CredentialVersion = f.account("anna").CredentialVersion
	want(RoleMailbox, nil)
	f.do("DELETE", "/v1/accounts/anna", nil, nil)
	want(RoleAnyone, ErrNotCurrent)
}

// TestHoldsOfOne: the owner of a mailbox is told of its own holds only.
func TestHoldsOfOne(t *testing.T) {
	f := provingFixture(t)
	for _, name := range []string{"anna", "bert"} {
		h := store.Habit{Account: f.account(name).ID, Kind: store.HabitHeld, Name: "192.0.2.0/24", Text: "odd", First: noon, Last: noon}
		if err := f.store.NoteHabits(t.Context(), []store.Habit{h}); err != nil {
			t.Fatal(err)
		}
	}
	for call, want := range map[int][]string{callMailboxOwn: {"anna"}, callOwner: {"anna", "bert"}} {
		var holds []Hold
		if err := InProcess(f.api, actorFor(f, call)).Do(t.Context(), "GET", "/v1/holds", nil, &holds); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, h := range holds {
			got = append(got, h.Mailbox)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("caller %d sees %v, want %v", call, got, want)
		}
	}
}

// TestRefusalsOfOne: events are told to those whom they concern.
func TestRefusalsOfOne(t *testing.T) {
	f := provingFixture(t)
	f.api.refusals = new(refusal.Recent)
	for _, mailbox := range []string{"anna@example.com", "anna", "bert@example.com", ""} {
		f.api.refusals.Note(refusal.Event{Time: noon, Name: refusal.AuthBanned, Mailbox: mailbox})
	}
	for call, want := range map[int]int{callStranger: 0, callMailboxOwn: 2, callOwner: 4, callOperator: 4} {
		var e Explanation
		if err := InProcess(f.api, actorFor(f, call)).Do(t.Context(), "GET", "/v1/refusals/auth-banned", nil, &e); err != nil || len(e.Events) != want {
			t.Errorf("caller %d is told of %d events, want %d (%v)", call, len(e.Events), want, err)
		}
	}
}

// TestGrantsOfOne: the owner of a mailbox ends its own grants by number, and no other is there to it.
func TestGrantsOfOne(t *testing.T) {
	f := provingFixture(t)
	client := InProcess(f.api, actorFor(f, callMailboxOwn))
	own, other := f.grant("anna", "192.0.2.1/32", 1).ID, f.grant("bert", "192.0.2.2/32", 1).ID
	var result GrantsRevoked
	if err := client.Do(t.Context(), "POST", "/v1/grants/revoke", GrantRevocation{IDs: []store.GrantID{own, other}}, &result); err != nil {
		t.Fatal(err)
	}
	if result.Revoked != 1 || !slices.Equal(result.NotLive, []store.GrantID{other}) {
		t.Errorf("got %+v", result)
	}
	if err := client.Do(t.Context(), "POST", "/v1/grants/revoke", GrantRevocation{All: true}, nil); !isCode(err, CodeForbidden) {
		t.Errorf("all: %v", err)
	}
	if g, err := f.store.Grant(t.Context(), other); err != nil || g.End != "" {
		t.Errorf("the other's grant: %+v, %v", g, err)
	}
}

// oldPassword takes "old" for everybody's password.
type oldPassword struct{ f *fixture }

// Login implements Prover.
func (p oldPassword) Login(_ context.Context, at auth.Attempt, username, password string) (auth.Identity, error) {
	if at.Service != "web" || password != "old" {
		return auth.Identity{}, auth.ErrCredentials
	}
	return auth.Identity{Account: p.f.account(username).ID}, nil
}

// Passkey implements Prover, and counts nothing.
func (p oldPassword) Passkey(ctx context.Context, at auth.Attempt, id store.AccountID, right func() (bool, error)) (auth.Identity, error) {
	ok, err := right()
	account, known := p.f.store.Account(ctx, id)
	if err == nil && (!ok || known != nil || at.Service != "web") {
		err = auth.ErrCredentials
	}
	return auth.Identity{Account: account.ID, Name: account.Name, CredentialVersion: account.CredentialVersion}, err
}

// TestTrailOfOne: the owner of a mailbox finds what it sent, with what became of it but for others' reading, and of what it got its own copy: nothing
// of other recipients, also not by searching for them; and proofs of what it sent.
func TestTrailOfOne(t *testing.T) {
	f := provingFixture(t)
	sent := f.sentBy("anna", 0, "Offer", "bert@example.com", "carl@other.example")
	got := f.sentBy("bert", 0, "Party", "anna@example.com", "postmaster@example.com", "dora@other.example")
	others := f.sentBy("bert", 0, "Secret", "postmaster@example.com")
	own, owner := InProcess(f.api, actorFor(f, callMailboxOwn)), InProcess(f.api, actorFor(f, callOwner))
	search := func(c *Client, query string) (found []string, all string) {
		t.Helper()
		var result TrailResult
		if err := c.Do(t.Context(), "GET", "/v1/trail?"+query, nil, &result); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		for _, m := range result.Messages {
			found = append(found, m.ID.String())
			for _, e := range m.Events {
				all += fmt.Sprintf("%s %s %s; ", e.Kind, e.Recipient, e.Origin.Remote)
			}
		}
		return found, all
	}
	for query, want := range map[string][]store.MessageID{
		"":                                                {got.Message, sent.Message},
		"mailbox=anna":                                    {got.Message, sent.Message},
		"for=" + sent.Message.String():                    {sent.Message},
		"for=" + got.Message.String():                     {got.Message},
		"for=" + others.Message.String():                  nil,
		"to=carl@other.example":                           {sent.Message},
		"to=dora@other.example":                           nil,
		"to=postmaster@example.com":                       nil,
		"for=postmaster@example.com":                      nil,
		"from=bert@example.com":                           {got.Message},
		"from=bert@example.com&to=postmaster":             nil,
		"from=bert@example.com&to=anna":                   {got.Message},
		"subject=Party":                                   {got.Message},
		"subject=Secret":                                  nil,
		"for=dora@other.example&subject=Party":            nil,
		"for=bert@example.com&since=2026-01-01T00:00:00Z": {got.Message, sent.Message},
	} {
		found, _ := search(own, query)
		if !slices.Equal(found, texted(want)) {
			t.Errorf("%q: found %v, want %v", query, found, texted(want))
		}
	}
	if _, all := search(own, "for="+got.Message.String()); strings.Contains(all, "dora") || strings.Contains(all, "postmaster") || strings.Contains(all, "192.0.2") ||
		!strings.Contains(all, "stored anna@example.com") {
		t.Errorf("of a message that it got it is told: %s", all)
	}
	if _, all := search(own, "for="+sent.Message.String()); !strings.Contains(all, "stored bert@example.com") || !strings.Contains(all, "carl") {
		t.Errorf("of a message that it sent it is told: %s", all)
	}
	if _, all := search(owner, "for="+got.Message.String()); !strings.Contains(all, "dora") {
		t.Errorf("the owner of the domain is told: %s", all)
	}
	for id, allowed := range map[store.MessageID]bool{sent.Message: true, got.Message: false, others.Message: false} {
		recipient := map[bool]string{true: "bert@example.com", false: "anna@example.com"}[allowed]
		err := own.Do(t.Context(), "POST", "/v1/proofs", ProofRequest{Message: id.String(), Recipient: recipient}, nil)
		if allowed && err != nil || !allowed && !isCode(err, CodeNotFound) {
			t.Errorf("a proof of %s: %v", id, err)
		}
	}
}
