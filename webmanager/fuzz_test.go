package webmanager

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"latchkey/store/memstore"
)

// FuzzAPI: whatever is asked, the answer is one of ours, and the domain stays sound with its role names.
func FuzzAPI(f *testing.F) {
	for _, tt := range refused {
		f.Add(tt.method, tt.path, tt.body)
	}
	f.Add("PUT", "/v1/aliases/*", `{"targets":["anna"]}`)
	f.Add("PATCH", "/v1/settings", `{"recipients":100,"version":1}`)
	f.Add("PATCH", "/v1/settings", `{"require_auth":false,"require_auth_for":"2h","trusted_networks":["192.0.2.0/24","::1"],"confirm":"example.com"}`)
	f.Add("POST", "/v1/settings/preview", `{"pop_before_smtp":false,"no_grant_networks":["192.0.2.0/24"],"help_url":"https://x.example/"}`)
	f.Add("POST", "/v1/grants/revoke", `{"ids":[1,2]}`)
	f.Add("GET", "/v1/grants?live=true&mailbox=anna&address=192.0.2.7&after=1&limit=2", "")
	for _, verb := range []string{"retry", "hold", "release", "remove"} {
		f.Add("POST", "/v1/queue/"+verb, `{"ids":[1,2,1]}`)
	}
	f.Fuzz(func(t *testing.T, method, path, body string) {
		target, err := url.Parse("http://latchkey" + path)
		if err != nil || !strings.HasPrefix(path, "/") {
			return
		}
		s := memstore.New(domain)
		api := New(Options{Store: s, Hasher: fakeHasher{}})
		client := InProcess(api, Actor{Role: RoleOperator, Name: "tester"})
		for _, name := range []string{"postmaster", "anna", "bert"} {
			if err := client.Do(t.Context(), "POST", "/v1/accounts", NewAccount{Name: name, Password: "12345678"}, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := client.Do(t.Context(), "PUT", "/v1/aliases/abuse", AliasTargets{[]string{"postmaster"}}, nil); err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/", strings.NewReader(body))
		r.Method, r.URL = method, target
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r.WithContext(WithActor(t.Context(), Actor{Role: RoleOperator, Name: "tester"})))
		switch {
		case w.Code == http.StatusInternalServerError:
			t.Fatalf("%s %s %s: %s", method, path, body, w.Body)
		case w.Code >= 400:
			var e Error
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Code.Status() != w.Code || e.Message == "" {
				t.Fatalf("%s %s %s: %d %s", method, path, body, w.Code, w.Body)
			}
		}
		var result CheckResult
		if err := client.Do(t.Context(), "GET", "/v1/check", nil, &result); err != nil || len(result.Problems) > 0 {
			t.Fatalf("%s %s %s: %+v, %v", method, path, body, result, err)
		}
	})
}
