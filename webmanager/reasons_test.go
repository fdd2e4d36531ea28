package webmanager

import (
	"errors"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"latchkey/store"
)

// TestReasonsAreUsed: every reason that is given has its sentence, with a %s for each value, and every sentence is given somewhere.
func TestReasonsAreUsed(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	given := map[Reason]bool{}
	site := regexp.MustCompile(`\bsay\("([a-z0-9_]+)"`)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range site.FindAllStringSubmatch(string(source), -1) {
			given[Reason(m[1])] = true
		}
	}
	for reason := range given {
		if reasons[reason] == "" {
			t.Errorf("%s has no sentence", reason)
		}
	}
	for reason := range reasons {
		if !given[reason] {
			t.Errorf("%s is given nowhere", reason)
		}
	}
	all := Reasons()
	if all["one_wrong"] = "x"; reasons["one_wrong"] == "x" || !maps.Equal(Reasons(), reasons) {
		t.Error("who asks for the reasons can change them")
	}
}

// badValues are what no field of a type takes, or few.
func badValues(t reflect.Type) []any {
	long := strings.Repeat("x", 9000)
	switch t.Kind() {
	case reflect.String:
		return []any{"\x01", "control\x01characters", "0000000000000001", long, "@", "x@elsewhere.example", "2026-13-01", "", 1}
	case reflect.Bool:
		return []any{true, "x"}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.String {
			return []any{[]string{"@", "no address"}, slices.Repeat([]string{"x@y.example"}, 200), []string{"a@" + domain, "x@[192.0.2.1]"},
				[]string{"@-", "192.0.2.7/24"}, "x"}
		}
		return []any{slices.Repeat([]int{1}, 5000), []int{}, "x"}
	case reflect.Int, reflect.Int64:
		return []any{-7, 1 << 40, "x"}
	case reflect.Pointer:
		return badValues(t.Elem())
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return []any{"2001-01-01T00:00:00Z"}
		}
		var list []any
		for _, body := range badBodies(t) {
			list = append(list, body)
		}
		return append(list, "x")
	}
	return []any{"x"}
}

// badBodies have one bad value each, and one has of each field the first.
func badBodies(t reflect.Type) (list []map[string]any) {
	all := map[string]any{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		for i, bad := range badValues(f.Type) {
			if i == 0 {
				all[name] = bad
			}
			list = append(list, map[string]any{name: bad})
		}
	}
	return append(list, all)
}

// TestOwnersRefusalsHaveReasons asks every route that the owner of a mailbox may call for what it cannot do, and all that it is told has a reason, by
// which it can be said in another language.
func TestOwnersRefusalsHaveReasons(t *testing.T) {
	f := provingFixture(t)
	seen := map[Reason]bool{}
	anna := InProcess(f.api, actorFor(f, callMailboxOwn))
	ask := func(method, path string, in any) {
		t.Helper()
		var refusal *Error
		if err := anna.Do(t.Context(), method, path, in, nil); err == nil || !errors.As(err, &refusal) {
			return
		}
		if refusal.Reason == "" || strings.Contains(refusal.Error(), "%!") {
			t.Errorf("%s %.60s %v: %q has no reason", method, path, in, refusal.Message)
		}
		seen[refusal.Reason] = true
		for _, field := range refusal.Fields {
			if field.Reason == "" {
				t.Errorf("%s %.60s: %s %q has no reason", method, path, field.Field, field.Message)
			}
			seen[field.Reason] = true
		}
	}
	for _, rt := range f.api.routes() {
		if rt.least > RoleMailbox && rt.self == selfNever {
			continue
		}
		for _, segment := range []string{"anna", "bert", "1", "none", "x@elsewhere.example", strconv.Itoa(1 << 40)} {
			path := strings.NewReplacer("{name}", "anna", "{uid}", segment, "{device}", segment, "{id}", segment, "{code}", segment).Replace(rt.path)
			ask(rt.method, path, struct{}{})
			for _, name := range rt.query {
				for _, bad := range badValues(reflect.TypeFor[string]()) {
					if text, ok := bad.(string); ok {
						ask(rt.method, path+"?"+url.Values{name: {text}, "mailbox": {"anna"}, "submitter": {"anna"}}.Encode(), nil)
					}
				}
			}
			if rt.in == nil {
				continue
			}
			for _, body := range badBodies(reflect.TypeOf(rt.in)) {
				ask(rt.method, path, body)
			}
		}
	}
	for _, wanted := range []Reason{
		"not_yours", "password_short", "password_long", "control_or_utf8", "long_or_control", "addresses_many", "address_form", "no_domain", "forward_inside",
		"current_wrong", "vacation_day", "vacation_empty", "device_name", "device_idle", "device_size", "device_daily", "at_most", "network_form",
		"recipient_domain", "recipient_address", "pop3_select", "message_id", "name_or_address", "one_to", "too_long", "no_word", "time_form", "not_domain",
		"not_address", "true_or_false", "whole_number", "whole_number_to", "job_number", "not_allowed", "one_wrong", "some_wrong", "no_device", "no_job",
		"no_message", "no_trail", "no_refusal", "which_grants", "wrong_type",
	} {
		if !seen[wanted] {
			t.Errorf("nothing was refused for %s, so that this test proves less than it should", wanted)
		}
	}
}

// TestReasonsKeepTheirValues: a program gets the reason and what its sentence takes, beside the sentence.
func TestReasonsKeepTheirValues(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	err := f.client.Do(t.Context(), "PATCH", "/v1/accounts/anna", AccountChange{Forward: &ForwardChange{To: []string{"x@y.example", "@"}}}, nil)
	var refusal *Error
	want := Field{Field: "forward", Message: "number 2 is not an address", Reason: "address_form", Values: []string{"2"}}
	if !errors.As(err, &refusal) || len(refusal.Fields) != 1 || !reflect.DeepEqual(refusal.Fields[0], want) {
		t.Errorf("got %+v, want %+v", refusal, want)
	}
	if refusal := errorFor(store.ErrConflict); refusal.Reason != "conflict" || refusal.Values != nil {
		t.Errorf("got %+v", refusal)
	}
}
