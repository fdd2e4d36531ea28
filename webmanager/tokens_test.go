package webmanager

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"latchkey/store"
)

// TestTokens: a token is shown once, lets in whom it says until it is revoked or over, and lies in the store as a hash.
func TestTokens(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	now := noon
	f.api.now = func() time.Time { return now }
	var added AddedToken
	f.do("POST", "/v1/tokens", NewToken{Name: "Panel", Role: RoleOwner, ReadOnly: true, Days: 1}, &added)
	if !strings.HasPrefix(added.Text, "lkt_"+added.ID+"_") || len(added.Text) > maxTokenText {
		t.Errorf("the token is %q", added.Text)
	}
	actor, err := f.api.TokenActor(t.Context(), added.Text)
	if err != nil || actor.Role != RoleOwner || !actor.ReadOnly || actor.Account != 0 || actor.Name != "token "+added.ID+" (Panel)" {
		t.Errorf("got %+v, %v", actor, err)
	}
	var mine AddedToken
	f.do("POST", "/v1/tokens", NewToken{Name: "Anna's script", Role: RoleMailbox, Mailbox: "Anna@example.com"}, &mine)
	if actor, err := f.api.TokenActor(t.Context(), mine.Text); err != nil || actor.Role != RoleMailbox || actor.Account != f.account("anna").ID {
		t.Errorf("got %+v, %v", actor, err)
	}
	blob, err := f.store.Secret(t.Context(), tokensName)
	if err != nil || strings.Contains(string(blob), added.Text) || strings.Contains(string(blob), added.Text[len("lkt_")+len(added.ID)+1:]) {
		t.Errorf("the store has %s, %v", blob, err)
	}
	for _, e := range f.audit() {
		if strings.Contains(e.After+e.Before, added.Text[13:]) {
			t.Errorf("the audit log has the token: %+v", e)
		}
	}
	var list TokenList
	f.do("GET", "/v1/tokens", nil, &list)
	if len(list.Tokens) != 2 || list.Tokens[0] != added.Token || list.Tokens[1].Mailbox != "anna" {
		t.Errorf("listed %+v", list)
	}
	void := func(what, text string) {
		t.Helper()
		if actor, err := f.api.TokenActor(t.Context(), text); !errors.Is(err, ErrNoToken) || actor.Role != RoleAnyone {
			t.Errorf("%s: %+v, %v", what, actor, err)
		}
	}
	for _, text := range []string{"", "lkt_", "lkt_x", "lkt__x", added.Text + "x", added.Text[:len(added.Text)-1], "lkt_" + mine.ID + added.Text[12:], strings.Repeat("x", 1<<16)} {
		void("not a token", text)
	}
	now = noon.AddDate(0, 0, 1).Add(-time.Second)
	if _, err := f.api.TokenActor(t.Context(), added.Text); err != nil {
		t.Errorf("just before its end: %v", err)
	}
	now = now.Add(time.Second)
	void("at its end", added.Text)
	f.do("DELETE", "/v1/tokens/"+mine.ID, nil, nil)
	void("revoked", mine.Text)
	if err := f.client.Do(t.Context(), "DELETE", "/v1/tokens/"+mine.ID, nil, nil); !isCode(err, CodeNotFound) {
		t.Errorf("revoked twice: %v", err)
	}
}

// TestTokenBounds: both ends of what a token may be, and the number of them.
func TestTokenBounds(t *testing.T) {
	f := newFixture(t)
	for i, tt := range []struct {
		token NewToken
		wrong string
	}{
		{NewToken{Name: strings.Repeat("n", MaxTokenName), Role: RoleOperator, Days: MaxTokenDays}, ""},
		{NewToken{Name: strings.Repeat("n", MaxTokenName+1), Role: RoleOperator}, "name: "},
		{NewToken{Role: RoleOwner}, "name: "},
		{NewToken{Name: "a\nb", Role: RoleOwner}, "name: "},
		{NewToken{Name: "n", Role: RoleOwner, Days: MaxTokenDays + 1}, "days: "},
		{NewToken{Name: "n", Role: RoleOwner, Days: -1}, "days: "},
		{NewToken{Name: "n"}, "role: "},
		{NewToken{Name: "n", Role: RoleMailbox}, "mailbox: "},
		{NewToken{Name: "n", Role: RoleOwner, Mailbox: "anna"}, "mailbox: "},
		{NewToken{Name: "n", Role: RoleMailbox, Mailbox: "nobody"}, "no mailbox"},
	} {
		err := f.client.Do(t.Context(), "POST", "/v1/tokens", tt.token, nil)
		if (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("%d: %v, want %q", i, err, tt.wrong)
		}
	}
	for i := 1; i < MaxTokens; i++ {
		f.do("POST", "/v1/tokens", NewToken{Name: fmt.Sprint(i), Role: RoleOwner}, nil)
	}
	if err := f.client.Do(t.Context(), "POST", "/v1/tokens", NewToken{Name: "n", Role: RoleOwner}, nil); !isCode(err, CodeConflict) {
		t.Errorf("one too many: %v", err)
	}
	if blob, err := f.store.Secret(t.Context(), tokensName); err != nil || len(blob) > store.MaxSecretSize/2 {
		t.Errorf("they take %d octets, %v", len(blob), err)
	}
}

// TestSignInLinks: a link works once, for five minutes, and only where pages are served.
func TestSignInLinks(t *testing.T) {
	f := newFixture(t)
	now := noon
	f.api.now = func() time.Time { return now }
	if err := f.client.Do(t.Context(), "POST", "/v1/sign-in", struct{}{}, nil); !isCode(err, CodeUnavailable) {
		t.Errorf("without pages: %v", err)
	}
	f.api.webURL = func() string { return "https://mail.example.com" }
	link := func() string {
		t.Helper()
		var made SignInLink
		f.do("POST", "/v1/sign-in", struct{}{}, &made)
		token, ok := strings.CutPrefix(made.URL, "https://mail.example.com/sign-in?token=")
		if !ok || !made.Expires.Equal(now.Add(SignInTime)) {
			t.Fatalf("got %+v", made)
		}
		return token
	}
	token := link()
	if _, ok := f.api.RedeemSignIn(token + "x"); ok {
		t.Error("another token signed in")
	}
	if actor, ok := f.api.RedeemSignIn(token); !ok || actor.Role != RoleOperator || !strings.Contains(actor.Name, "tester") {
		t.Errorf("got %+v, %t", actor, ok)
	}
	if _, ok := f.api.RedeemSignIn(token); ok {
		t.Error("it signed in twice")
	}
	old := link()
	now = now.Add(SignInTime)
	if _, ok := f.api.RedeemSignIn(old); ok {
		t.Error("it signed in when its time was over")
	}
	first := link()
	for range maxSignIns {
		link()
	}
	if _, ok := f.api.RedeemSignIn(first); ok {
		t.Error("there are more links than there may be")
	}
	for _, e := range f.audit() {
		if strings.Contains(e.After+e.Object, token) {
			t.Errorf("the audit log has a token: %+v", e)
		}
	}
}
