package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rapidLibrary tries less with -short.
const rapidLibrary = "pgregory.net/rapid"

// source is what a Go file says about -short.
type source struct {
	pkg     string // its folder, "./" before it
	test    bool
	shorter bool // it asks for -short, or uses what does
	imports []string
	unraced []string // its tests, if it is not built with the race detector
}

// readSource parses a file of the tree, whose root and slash-separated name are given.
func readSource(root, name string) (source, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, filepath.FromSlash(name)), nil, parser.ParseComments)
	if err != nil {
		return source{}, err
	}
	s := source{pkg: "./" + path.Dir(name), test: strings.HasSuffix(name, "_test.go")}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return source{}, err
		}
		s.imports = append(s.imports, imported)
	}
	s.shorter = slices.Contains(s.imports, rapidLibrary)
	raceless := len(parsed.Comments) > 0 && parsed.Comments[0].List[0].Text == "//go:build !race"
	ast.Inspect(parsed, func(n ast.Node) bool {
		if f, ok := n.(*ast.FuncDecl); ok && raceless && testName.MatchString(f.Name.Name) {
			s.unraced = append(s.unraced, f.Name.Name)
		}
		if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Short" {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "testing" {
				s.shorter = true
			}
		}
		return true
	})
	return s, nil
}

// readSources parses all of the tree.
func readSources(t *testing.T) (all []source) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := d.Name(); d.IsDir() && name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "bin" || base == "demo-data") {
			return fs.SkipDir
		}
		if d.IsDir() || path.Ext(name) != ".go" {
			return nil
		}
		s, err := readSource(root, name)
		all = append(all, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestShortenedPackages: what does less with -short, which `make test` says beside -race, is what `make test` runs whole without it. A test does
// less if it asks for -short, or uses a package that does. Tests of this package that the race detector does not even build are named there.
func TestShortenedPackages(t *testing.T) {
	all := readSources(t)
	suites := map[string]bool{}
	for _, s := range all {
		if s.shorter && !s.test {
			suites["latchkey/"+strings.TrimPrefix(s.pkg, "./")] = true
		}
	}
	if len(suites) == 0 {
		t.Error("no suite for several packages is found: is the root right?")
	}
	shortened := map[string]bool{}
	for _, s := range all {
		if s.test && (s.shorter || slices.ContainsFunc(s.imports, func(imported string) bool { return suites[imported] })) {
			shortened[s.pkg] = true
		}
	}
	makefile, err := os.ReadFile(filepath.Join("..", "..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^SHORTENED := (.*)$`).FindSubmatch(makefile)
	if line == nil || !strings.Contains(string(makefile), "-shuffle=on -timeout 10m $(SHORTENED)\n") {
		t.Fatal("the Makefile does not say what is SHORTENED, or does not test it")
	}
	var unraced []string
	for _, s := range all {
		if s.pkg == "./cmd/latchkey" {
			unraced = append(unraced, s.unraced...)
		} else if len(s.unraced) > 0 && !shortened[s.pkg] {
			t.Errorf("%s has %q, which no run of make test builds", s.pkg, s.unraced)
		}
	}
	slices.Sort(unraced)
	if want := "UNWATCHED := ^(" + strings.Join(unraced, "|") + ")$$\n"; !strings.Contains(string(makefile), want) || len(unraced) == 0 {
		t.Errorf("the Makefile has no line %q", want)
	}
	got := slices.Sorted(slices.Values(strings.Fields(string(line[1]))))
	if want := slices.Sorted(maps.Keys(shortened)); !slices.Equal(got, want) {
		t.Errorf("SHORTENED of the Makefile is\n%q, want\n%q", got, want)
	}
}
