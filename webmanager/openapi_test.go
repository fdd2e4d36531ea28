package webmanager

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/openapi.json")

// document is what this test looks at of the file.
type document struct {
	OpenAPI string `json:"openapi"`
	Paths   map[string]map[string]struct {
		Parameters []struct {
			Name, In string
			Required bool
		}
		RequestBody *struct {
			Content map[string]struct{ Schema map[string]any }
		}
		Responses map[string]struct {
			Content map[string]struct{ Schema map[string]any }
		}
		Role string `json:"x-least-role"`
	}
	Components struct{ Schemas map[string]map[string]any }
}

func readDocument(t *testing.T) document {
	t.Helper()
	path := filepath.Join("..", "docs", "openapi.json")
	want, err := OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("docs/openapi.json is not what the routes say (%v); run go test ./webmanager -run TestOpenAPI -update", err)
	}
	var doc document
	if err := json.Unmarshal(got, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestOpenAPI: the file has every route with its method, role, path parameters and bodies, no other, and every schema that it points to.
func TestOpenAPI(t *testing.T) {
	doc := readDocument(t)
	operations := 0
	for _, methods := range doc.Paths {
		operations += len(methods)
	}
	routes := newFixture(t).api.routes()
	if operations != len(routes) || doc.OpenAPI != "3.1.0" {
		t.Errorf("%d operations, %d routes", operations, len(routes))
	}
	for _, rt := range routes {
		op, ok := doc.Paths[rt.path][strings.ToLower(rt.method)]
		if !ok || op.Role != rt.least.String() || (op.RequestBody != nil) != (rt.in != nil) || len(op.Responses) != 2 {
			t.Errorf("%s: %t %+v", rt.pattern(), ok, op)
			continue
		}
		var path, query []string
		for _, p := range op.Parameters {
			if p.In == "path" && p.Required {
				path = append(path, "{"+p.Name+"}")
			} else {
				query = append(query, p.Name)
			}
		}
		var want []string
		for segment := range strings.SplitSeq(rt.path, "/") {
			if strings.HasPrefix(segment, "{") {
				want = append(want, segment)
			}
		}
		if !slices.Equal(path, want) || !slices.Equal(query, rt.query) {
			t.Errorf("%s: parameters %v %v", rt.pattern(), path, query)
		}
	}
	text, _ := os.ReadFile(filepath.Join("..", "docs", "openapi.json"))
	for _, part := range strings.Split(string(text), `"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(part, `"`)
		if doc.Components.Schemas[name] == nil {
			t.Errorf("there is no schema %s", name)
		}
	}
}

// TestAnswersFit: what the API answers to questions is what the file says, field by field.
func TestAnswersFit(t *testing.T) {
	doc := readDocument(t)
	f := provingFixture(t)
	f.do("PUT", "/v1/aliases/info", AliasTargets{[]string{"anna", "x@other.example"}}, nil)
	f.device("anna", "Scanner")
	f.grant("anna", "192.0.2.1/32", 1)
	f.sentBy("anna", 0, "x", "bert@example.com", "x@other.example")
	f.put("anna", "Subject: x\nContent-Type: application/pdf\n\nx\n")
	f.do("POST", "/v1/tokens", NewToken{Name: "n", Role: RoleOwner}, nil)
	f.do("PUT", "/v1/suppressions/x@other.example", NewSuppression{Days: 1}, nil)
	answered := 0
	for _, rt := range f.api.routes() {
		if rt.method != http.MethodGet {
			continue
		}
		if rt.rawType != "" {
			continue
		}
		path := strings.NewReplacer("{name}", "anna", "{device}", "Scanner", "{id}", "1", "{code}", "auth-banned", "{uid}", f.uids("anna")[0]).Replace(rt.path)
		status, body := f.raw("GET", path, "", "")
		var answer any
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Errorf("%s: %v", rt.pattern(), err)
			continue
		}
		key := "default"
		if status == http.StatusOK {
			key, answered = "200", answered+1
		}
		for _, mistake := range doc.fits(answer, doc.Paths[rt.path]["get"].Responses[key].Content["application/json"].Schema, rt.pattern()) {
			t.Error(mistake)
		}
	}
	if answered < 15 {
		t.Errorf("%d routes were answered only", answered)
	}
}

// fits lists what is wrong with a value.
func (d document) fits(value any, schema map[string]any, at string) (mistakes []string) {
	if ref, ok := schema["$ref"].(string); ok {
		schema = d.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")]
	}
	kind, _ := schema["type"].(string)
	wrong := func() []string { return []string{fmt.Sprintf("%s is %v, and no %s", at, value, kind)} }
	switch v := value.(type) {
	case map[string]any:
		if kind != "object" {
			return wrong()
		}
		properties, _ := schema["properties"].(map[string]any)
		for name, inner := range v {
			property, ok := properties[name].(map[string]any)
			if !ok && schema["additionalProperties"] == nil {
				mistakes = append(mistakes, at+" has a field "+name+" that the file does not know")
				continue
			}
			mistakes = append(mistakes, d.fits(inner, property, at+"."+name)...)
		}
		required, _ := schema["required"].([]any)
		for _, name := range required {
			if _, ok := v[fmt.Sprint(name)]; !ok {
				mistakes = append(mistakes, at+" has no field "+fmt.Sprint(name))
			}
		}
	case []any:
		items, _ := schema["items"].(map[string]any)
		if kind != "array" {
			return wrong()
		}
		for i, inner := range v {
			mistakes = append(mistakes, d.fits(inner, items, fmt.Sprintf("%s[%d]", at, i))...)
		}
	case string:
		if kind != "string" && kind != "" {
			return wrong()
		}
	case float64:
		if kind != "integer" && kind != "number" && kind != "" {
			return wrong()
		}
	case bool:
		if kind != "boolean" && kind != "" {
			return wrong()
		}
	}
	return mistakes
}
