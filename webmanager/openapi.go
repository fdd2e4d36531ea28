package webmanager

import (
	"encoding"
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"time"
)

// OpenAPI describes the API in the form of OpenAPI 3.1, as docs/openapi.json: every route of the table, with its parameters, bodies and least role.
func OpenAPI() ([]byte, error) {
	s := &schemas{made: map[string]any{}}
	paths := map[string]any{}
	for _, rt := range new(API).routes() {
		methods, _ := paths[rt.path].(map[string]any)
		if methods == nil {
			methods = map[string]any{}
			paths[rt.path] = methods
		}
		methods[strings.ToLower(rt.method)] = s.operation(&rt)
	}
	s.of(reflect.TypeFor[Error]())
	doc := map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title": "Latchkey", "version": "1",
			"description": "The management API of one mail domain. A token is made by latchkey token add; what it may do is the role that each operation " +
				"names in x-least-role, and for a mailbox what has x-own-mailbox, about itself. A refusal is an Error.",
		},
		"servers":    []any{map[string]any{"url": "/api"}},
		"security":   []any{map[string]any{"token": []any{}}},
		"paths":      paths,
		"components": map[string]any{"schemas": s.made, "securitySchemes": map[string]any{"token": map[string]any{"type": "http", "scheme": "bearer"}}},
	}
	text, err := json.MarshalIndent(doc, "", "  ")
	return append(text, '\n'), err
}

// pathParameter finds the parameters of a path.
var pathParameter = regexp.MustCompile(`\{([a-z]+)\}`)

// operation describes a route.
func (s *schemas) operation(rt *route) map[string]any {
	op := map[string]any{
		"operationId": strings.ToLower(rt.method) + strings.NewReplacer("/v1/", "-", "/", "-", "{", "", "}", "").Replace(rt.path),
		"summary":     rt.summary, "x-least-role": rt.least, "x-own-mailbox": rt.self != selfNever, "x-changes": rt.changes,
	}
	var parameters []any
	for _, found := range pathParameter.FindAllStringSubmatch(rt.path, -1) {
		parameters = append(parameters, map[string]any{"name": found[1], "in": "path", "required": true, "schema": map[string]any{"type": "string"}})
	}
	for _, name := range rt.query {
		parameters = append(parameters, map[string]any{"name": name, "in": "query", "schema": map[string]any{"type": "string"}})
	}
	if parameters != nil {
		op["parameters"] = parameters
	}
	if rt.in != nil {
		op["requestBody"] = map[string]any{"required": true, "content": jsonOf(s.of(reflect.TypeOf(rt.in)))}
	}
	done := map[string]any{"description": "Done."}
	status := "204"
	switch {
	case rt.raw != nil:
		status, done["content"] = "200", map[string]any{rt.rawType: map[string]any{}}
	case rt.out != nil:
		status, done["content"] = "200", jsonOf(s.of(reflect.TypeOf(rt.out)))
	}
	refused := map[string]any{"description": "Refused.", "content": jsonOf(s.of(reflect.TypeFor[Error]()))}
	op["responses"] = map[string]any{status: done, "default": refused}
	return op
}

func jsonOf(schema any) map[string]any {
	return map[string]any{"application/json": map[string]any{"schema": schema}}
}

// schemas are made of Go types as encoding/json writes them.
type schemas struct {
	made map[string]any // by name
}

var (
	textType = reflect.TypeFor[encoding.TextMarshaler]()
	timeType = reflect.TypeFor[time.Time]()
	anyJSON  = reflect.TypeFor[json.RawMessage]()
)

// of is the schema of a type, or where it is.
func (s *schemas) of(t reflect.Type) map[string]any {
	switch {
	case t == timeType:
		return map[string]any{"type": "string", "format": "date-time"}
	case t == anyJSON:
		return map[string]any{} // anything
	case t.Kind() == reflect.Pointer:
		return s.of(t.Elem())
	case t.Implements(textType):
		return map[string]any{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": 0}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Slice, reflect.Array:
		return map[string]any{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		return s.object(t)
	}
	return map[string]any{} // anything
}

// object is the schema of a struct, kept under its name.
func (s *schemas) object(t reflect.Type) map[string]any {
	name := t.Name()
	if path := strings.Split(t.PkgPath(), "/"); t.PkgPath() != reflect.TypeFor[Error]().PkgPath() {
		room := path[len(path)-1]
		name = strings.ToUpper(room[:1]) + room[1:] + name
	}
	ref := map[string]any{"$ref": "#/components/schemas/" + name}
	if _, ok := s.made[name]; ok {
		return ref
	}
	schema := map[string]any{"type": "object"}
	s.made[name] = schema // before its fields, which may hold it again
	properties, required := map[string]any{}, []string{}
	for _, f := range reflect.VisibleFields(t) {
		tag := f.Tag.Get("json")
		field, options, _ := strings.Cut(tag, ",")
		switch {
		case !f.IsExported() || field == "-", f.Anonymous && field == "":
			continue // what an embedded struct has comes by itself
		case field == "":
			field = f.Name
		}
		if _, ok := properties[field]; ok {
			continue // the outer one comes first
		}
		properties[field] = s.of(f.Type)
		if !strings.Contains(options, "omit") {
			required = append(required, field)
		}
	}
	schema["properties"], schema["required"] = properties, required
	return ref
}
