package store

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"

	"latchkey/internal/mailaddr"
)

// TestVerifierNeverShows: whatever prints, logs or marshals an account does not show its verifier, nor what is sealed.
func TestVerifierNeverShows(t *testing.T) {
	const phc = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA"
	const sealed = "nonce-and-ciphertext"
	a := Account{ID: 1, Name: "anna", Verifier: phc, Sealed: sealed, OldClientLogin: true}
	type nested struct {
		A  Account
		V  Verifier
		VS []Verifier
		M  map[string]Verifier
		S  Sealed
		SS []Sealed
		SM map[string]Sealed
	}
	n := nested{a, phc, []Verifier{phc}, map[string]Verifier{"anna": phc}, sealed, []Sealed{sealed}, map[string]Sealed{"anna": sealed}}
	var out bytes.Buffer
	for _, v := range []any{a, &a, a.Verifier, &a.Verifier, a.Sealed, &a.Sealed, n, &n, []Account{a}, map[string]any{"a": a}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		}
		for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
			slog.New(h).Info("x", "value", v)
		}
	}
	for _, v := range []any{a.Verifier, a.Sealed} {
		b, err := xml.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	if s := out.String(); strings.Contains(s, "ciphertext") || strings.Contains(s, fmt.Sprintf("%x", "ciphertext")) {
		t.Errorf("what is sealed shows in %s", s)
	}
	if s := out.String(); strings.Contains(s, "argon2id") || strings.Contains(s, "c2FsdA") || strings.Contains(s, fmt.Sprintf("%x", "aGFzaA")) {
		t.Errorf("the verifier shows in %s", s)
	}
	if !strings.Contains(out.String(), "[redacted]") {
		t.Error("nothing was written at all")
	}
}

func TestQuotaFits(t *testing.T) {
	tests := []struct {
		name string
		q    Quota
		u    Usage
		size int64
		want bool
	}{
		{"no bound", Quota{}, Usage{math.MaxInt32, math.MaxInt32}, math.MaxInt32, true},
		{"one octet left", Quota{Octets: 100}, Usage{Octets: 89, Messages: 7}, 10, true},
		{"to the octet", Quota{Octets: 100}, Usage{Octets: 90, Messages: 7}, 10, true},
		{"one octet over", Quota{Octets: 100}, Usage{Octets: 91, Messages: 7}, 10, false},
		{"nothing into full", Quota{Octets: 100}, Usage{Octets: 100}, 0, true},
		{"over already", Quota{Octets: 100}, Usage{Octets: 101}, 0, false},
		{"last message", Quota{Messages: 3}, Usage{Messages: 2}, 1 << 40, true},
		{"one message over", Quota{Messages: 3}, Usage{Messages: 3}, 0, false},
		{"octets fit, messages do not", Quota{Octets: 100, Messages: 1}, Usage{Messages: 1}, 1, false},
		{"messages fit, octets do not", Quota{Octets: 100, Messages: 1}, Usage{}, 101, false},
	}
	for _, test := range tests {
		if got := test.q.Fits(test.u, test.size); got != test.want {
			t.Errorf("%s: %+v with %+v takes %d: %t, want %t", test.name, test.q, test.u, test.size, got, test.want)
		}
	}
}

func TestAccountValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Account)
		bad    int // how many fields
	}{
		{"plain", func(*Account) {}, 0},
		{"no name", func(a *Account) { a.Name = "" }, 1},
		{"longest name", func(a *Account) { a.Name = strings.Repeat("n", MaxNameLen) }, 0},
		{"name too long", func(a *Account) { a.Name = strings.Repeat("n", MaxNameLen+1) }, 1},
		{"longest name in octets", func(a *Account) { a.Name = strings.Repeat("é", MaxNameLen/2) }, 0},
		{"name too long in octets", func(a *Account) { a.Name = strings.Repeat("é", MaxNameLen/2) + "n" }, 1},
		{"upper case", func(a *Account) { a.Name = "Anna" }, 1},
		{"catch-all", func(a *Account) { a.Name = CatchAll }, 1},
		{"quoted", func(a *Account) { a.Name = "an na" }, 1},
		{"plus", func(a *Account) { a.Name = "anna+lists" }, 0},
		{"longest display name", func(a *Account) { a.DisplayName = strings.Repeat("d", 200) }, 0},
		{"display name too long", func(a *Account) { a.DisplayName = strings.Repeat("d", 201) }, 1},
		{"display name with line end", func(a *Account) { a.DisplayName = "Anna\r\nBcc: x" }, 1},
		{"display name not UTF-8", func(a *Account) { a.DisplayName = "\xff" }, 1},
		{"zero quota", func(a *Account) { a.Quota = Quota{} }, 0},
		{"negative octets", func(a *Account) { a.Quota.Octets = -1 }, 1},
		{"negative messages", func(a *Account) { a.Quota.Messages = -1 }, 1},
		{"most send-as", func(a *Account) { a.SendAs = make([]mailaddr.Address, MaxSendAs) }, 0},
		{"too many send-as", func(a *Account) { a.SendAs = make([]mailaddr.Address, MaxSendAs+1) }, 1},
		{"everything", func(a *Account) {
			*a = Account{DisplayName: "\n", Quota: Quota{Octets: -1}, SendAs: make([]mailaddr.Address, MaxSendAs+1)}
		}, 4},
	}
	for _, test := range tests {
		a := Account{Name: "anna"}
		test.change(&a)
		wantProblems(t, test.name, a.Validate(), test.bad)
	}
}

// wantProblems checks that an error joins so many, each an ErrInvalid.
func wantProblems(t *testing.T, name string, err error, want int) {
	t.Helper()
	if err == nil {
		if want != 0 {
			t.Errorf("%s: no error, want %d", name, want)
		}
		return
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != want {
		t.Errorf("%s: error %v, want %d joined", name, err, want)
		return
	}
	for _, e := range joined.Unwrap() {
		if !errors.Is(e, ErrInvalid) {
			t.Errorf("%s: %v is no %v", name, e, ErrInvalid)
		}
	}
}

func TestAliasValidate(t *testing.T) {
	ascending := func(n int) []AccountID {
		ids := make([]AccountID, n)
		for i := range ids {
			ids[i] = AccountID(i + 1)
		}
		return ids
	}
	outside := func(n int) (list []mailaddr.Address) {
		for i := range n {
			a, err := mailaddr.Parse(fmt.Sprintf("x%d@other.example", i))
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, a)
		}
		return list
	}
	for _, f := range []struct {
		forward Forward
		bad     int
	}{
		{Forward{}, 0}, {Forward{To: outside(MaxForwards)}, 0}, {Forward{To: outside(MaxForwards + 1)}, 1}, {Forward{Keep: true}, 1},
		{Forward{To: append(outside(2), outside(1)...), Keep: true}, 1},
	} {
		wantProblems(t, fmt.Sprint(f.forward), Account{Name: "anna", Forward: f.forward}.Validate(), f.bad)
	}
	tests := []struct {
		name  string
		alias Alias
		bad   int
	}{
		{"plain", Alias{Name: "sales", Targets: ascending(2)}, 0},
		{"catch-all", Alias{Name: CatchAll, Targets: ascending(1)}, 0},
		{"no name", Alias{Name: "", Targets: ascending(1)}, 1},
		{"longest name", Alias{Name: strings.Repeat("n", MaxNameLen), Targets: ascending(1)}, 0},
		{"name too long", Alias{Name: strings.Repeat("n", MaxNameLen+1), Targets: ascending(1)}, 1},
		{"upper case", Alias{Name: "Sales", Targets: ascending(1)}, 1},
		{"no targets", Alias{Name: "sales", Targets: nil}, 1},
		{"most targets", Alias{Name: "sales", Targets: ascending(MaxAliasTargets)}, 0},
		{"too many targets", Alias{Name: "sales", Targets: ascending(MaxAliasTargets + 1)}, 1},
		{"twice", Alias{Name: "sales", Targets: []AccountID{1, 1}}, 1},
		{"descending", Alias{Name: "sales", Targets: []AccountID{2, 1}}, 1},
		{"outside only", Alias{Name: "sales", Outside: outside(MaxAliasOutside)}, 0},
		{"too many outside", Alias{Name: "sales", Outside: outside(MaxAliasOutside + 1)}, 1},
		{"outside twice", Alias{Name: "sales", Outside: append(outside(1), outside(1)...)}, 1},
		{"no address outside", Alias{Name: "sales", Outside: make([]mailaddr.Address, 1)}, 1},
		{"everything", Alias{Name: "Sales", Targets: make([]AccountID, MaxAliasTargets+1)}, 3},
	}
	for _, test := range tests {
		wantProblems(t, test.name, test.alias.Validate(), test.bad)
	}
}
