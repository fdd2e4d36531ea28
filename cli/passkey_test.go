package cli

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"latchkey/auth"
	"latchkey/internal/passkey/passkeytest"
	"latchkey/store"
	"latchkey/webmanager"
)

// anyPassword takes every password, and no passkey.
type anyPassword struct{ store store.Store }

// Login implements webmanager.Prover.
func (p anyPassword) Login(ctx context.Context, _ auth.Attempt, name, _ string) (auth.Identity, error) {
	a, err := p.store.AccountByName(ctx, name)
	return auth.Identity{Account: a.ID}, err
}

// Passkey implements webmanager.Prover.
func (anyPassword) Passkey(context.Context, auth.Attempt, store.AccountID, func() (bool, error)) (auth.Identity, error) {
	return auth.Identity{}, auth.ErrCredentials
}

// TestPasskeys: those that owners made on their pages are listed, and removed by number and by name.
func TestPasskeys(t *testing.T) {
	w := newWorld(t)
	w.vars["LATCHKEY_DATA"] = w.dir
	must := func(stdin string, args ...string) string {
		t.Helper()
		status, stdout, stderr := w.run(stdin, args...)
		if status != 0 {
			t.Fatalf("%v: %d %s", args, status, stderr)
		}
		return stdout + stderr
	}
	must("", "init", "--data", w.dir, "--domain", "example.com")
	must("password of anna\n", "account", "add", "anna", "--password-stdin")
	if got, want := must("", "passkey", "list", "anna"), "ID  NAME  CREATED  USED  SYNCED\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	st := w.stores[w.dir]
	api := webmanager.New(webmanager.Options{
		Store: st, Hasher: w.hasher, Prover: anyPassword{st}, WebURL: func() string { return "http://localhost:2080" }, Now: func() time.Time { return noon },
	})
	anna, err := st.AccountByName(t.Context(), "anna")
	if err != nil {
		t.Fatal(err)
	}
	own := webmanager.InProcess(api, webmanager.Actor{Name: "anna", Role: webmanager.RoleMailbox, Account: anna.ID})
	for _, name := range []string{"My telephone", "Key"} {
		var asked webmanager.PasskeyOptions
		if err := own.Do(t.Context(), http.MethodPost, webmanager.Path("accounts", "anna", "passkeys"), webmanager.NewPasskey{Name: name}, &asked); err != nil {
			t.Fatal(err)
		}
		response, err := passkeytest.New("http://localhost:2080").Create(asked.Options)
		if err != nil {
			t.Fatal(err)
		}
		made := webmanager.MadePasskey{Name: name, Ticket: asked.Ticket, Response: response}
		if err := own.Do(t.Context(), http.MethodPut, webmanager.Path("accounts", "anna", "passkeys"), made, nil); err != nil {
			t.Fatal(err)
		}
	}
	want := "ID  NAME          CREATED               USED   SYNCED\n" +
		"1   My telephone  2026-04-01T12:00:00Z  never  false\n" +
		"2   Key           2026-04-01T12:00:00Z  never  false\n"
	if got := must("", "passkey", "list", "anna"); got != want {
		t.Errorf("got\n%s", got)
	}
	if got := must("", "passkey", "remove", "anna", "1", "KEY"); got != "removed 1\nremoved KEY\n" {
		t.Errorf("got %q", got)
	}
	if got := must("", "passkey", "list", "anna", "--json"); strings.TrimSpace(got) != "[]" {
		t.Errorf("left: %s", got)
	}
	status, _, stderr := w.run("", "passkey", "remove", "anna", "1")
	if status != 1 || !strings.Contains(stderr, "has no such passkey") {
		t.Errorf("%d %s", status, stderr)
	}
}
