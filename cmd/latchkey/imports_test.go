package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "latchkey"

// levels is the rule of docs/architecture.md: a package may import packages of lower levels only. A path ending in "/..." covers
// all packages below it.
var levels = []struct {
	path  string
	level int
}{
	{"cmd/latchkey", 6},
	{"cmd/latchkey/bench", 6},
	{"cli", 5},
	{"webmanager/pages", 5},
	{"webmanager", 4},
	{"webmanager/guide", 4},
	{"webmanager/setup", 4},
	{"config", 4},
	{"pop3/maildrop", 3},
	{"smtp", 3},
	{"relay", 3},
	{"relay/signing", 2},
	{"auth", 2},
	{"guard", 2},
	{"store/boltstore", 2},
	{"store/memstore", 2},
	{"store/storetest", 2},
	{"pop3/pop3test", 2},
	{"pop3", 1},
	{"store", 1},
	{"internal/...", 0},
}

// reserved names who alone may import a foreign package, test files included.
var reserved = []struct {
	foreign string
	rooms   []string
}{
	{"go.etcd.io/bbolt", []string{"store/boltstore"}},
	{"github.com/emersion/go-smtp", []string{"smtp", "relay"}},
	{"github.com/miekg/dns", []string{"internal/resolver", "internal/resolver/resolvertest", "cmd/latchkey/bench"}},
	{"github.com/go-webauthn/webauthn", []string{"internal/passkey"}},
	{"golang.org/x/crypto/acme", []string{"internal/certs"}},
	{"golang.org/x/crypto", []string{"auth"}},
	{"github.com/xdg-go/scram", []string{"auth"}},
	{"github.com/xdg-go/stringprep", []string{"auth"}},
}

func levelOf(pkg string) (int, bool) {
	for _, l := range levels {
		if prefix, deep := strings.CutSuffix(l.path, "/..."); pkg == l.path || deep && strings.HasPrefix(pkg, prefix+"/") {
			return l.level, true
		}
	}
	return 0, false
}

// importError says what is wrong with one import, or "".
func importError(from string, test bool, imported string) string {
	for _, r := range reserved {
		if imported == r.foreign || strings.HasPrefix(imported, r.foreign+"/") {
			for _, room := range r.rooms {
				if from == room {
					return ""
				}
			}
			return "only " + strings.Join(r.rooms, ", ") + " may import " + imported
		}
	}
	target, ours := strings.CutPrefix(imported, module+"/")
	if strings.HasPrefix(from, "pop3") && from != "pop3/maildrop" {
		switch {
		case target == "store" || strings.HasPrefix(target, "store/") || target == "auth" || target == "guard":
			return "the POP3 library must not know " + imported
		case from == "pop3" && !test && strings.Contains(imported, ".") && imported != "github.com/emersion/go-sasl":
			return "pop3 imports the standard library and go-sasl only, not " + imported
		}
	}
	if !ours || test {
		return ""
	}
	level, ok := levelOf(from)
	if !ok {
		return "package has no level in this test"
	}
	below, ok := levelOf(target)
	if !ok {
		return imported + " has no level in this test"
	}
	if from == "auth" && target == "guard" || below < level || level == 0 && below == 0 {
		return ""
	}
	return "imports " + imported + " of the same or a higher level"
}

// TestImportsOnlyDownwards reads the tree itself: `go list` would let the test cache hide a new import.
func TestImportsOnlyDownwards(t *testing.T) {
	root := filepath.Join("..", "..")
	files := 0
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); file != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || name == "demo-data") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		pkg := path.Dir(filepath.ToSlash(rel))
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		files++
		if _, ok := levelOf(pkg); !ok {
			t.Errorf("%s: package %s has no level", rel, pkg)
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if msg := importError(pkg, strings.HasSuffix(file, "_test.go"), imported); msg != "" {
				t.Errorf("%s: %s", rel, msg)
			}
			if imported == "github.com/emersion/go-smtp" && (spec.Name == nil || spec.Name.Name != "gosmtp") {
				t.Errorf("%s: import go-smtp as gosmtp", rel)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 10 {
		t.Fatalf("looked at %d files only: is the root right?", files)
	}
}

func TestImportError(t *testing.T) {
	tests := []struct {
		from     string
		test     bool
		imported string
		wrong    bool
	}{
		{"smtp", false, "latchkey/store", false},
		{"smtp", false, "latchkey/auth", false},
		{"smtp", false, "latchkey/webmanager", true},
		{"smtp", false, "latchkey/pop3/maildrop", true},
		{"smtp", true, "latchkey/store/memstore", false},
		{"smtp", false, "github.com/emersion/go-smtp", false},
		{"cli", false, "github.com/emersion/go-smtp", true},
		{"auth", false, "latchkey/guard", false},
		{"guard", false, "latchkey/auth", true},
		{"store", false, "latchkey/store/boltstore", true},
		{"store/memstore", false, "latchkey/store/storetest", true},
		{"store/memstore", true, "go.etcd.io/bbolt", true},
		{"pop3", false, "github.com/emersion/go-sasl", false},
		{"auth", false, "github.com/xdg-go/scram", false},
		{"pop3/maildrop", true, "github.com/xdg-go/scram", true},
		{"pop3", false, "golang.org/x/net/idna", true},
		{"pop3", false, "latchkey/internal/mailaddr", false},
		{"pop3", true, "latchkey/store", true},
		{"pop3/pop3test", true, "latchkey/auth", true},
		{"pop3/maildrop", false, "latchkey/store", false},
		{"internal/message", false, "latchkey/internal/mailaddr", false},
		{"internal/message", false, "latchkey/store", true},
		{"newroom", false, "latchkey/store", true},
		{"webmanager", false, "latchkey/config", true},
	}
	for _, tt := range tests {
		if msg := importError(tt.from, tt.test, tt.imported); (msg != "") != tt.wrong {
			t.Errorf("%s (test %v) imports %s: got %q, want an error: %v", tt.from, tt.test, tt.imported, msg, tt.wrong)
		}
	}
}
