package pop3_test

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/api.golden")

// TestAPI: what others can see of the library changes only on purpose (-update), and all of it is documented.
func TestAPI(t *testing.T) {
	var got []byte
	for _, dir := range []string{".", "pop3test"} {
		got = append(got, api(t, dir)...)
	}
	if *update {
		if err := os.WriteFile("testdata/api.golden", got, 0o644); err != nil { //nolint:gosec // a file of the repository
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/api.golden")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	before, after := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	for _, line := range before {
		if !slices.Contains(after, line) {
			t.Errorf("gone: %s", line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			t.Errorf("new: %s", line)
		}
	}
	t.Error("the API is another one: if that was meant, run go test ./pop3 -run TestAPI -update")
}

// api lists what a package exports, one declaration a line in order of name, and complains of what is not documented.
func api(t *testing.T, dir string) []byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var all []string
	name, documented := "", false
	set := token.NewFileSet()
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		name, documented = file.Name.Name, documented || file.Doc != nil
		for _, d := range file.Decls {
			all = append(all, declarations(t, set, d)...)
		}
	}
	if !documented {
		t.Errorf("package %s has no comment", name)
	}
	slices.Sort(all)
	return []byte("package " + name + "\n" + strings.Join(all, "\n") + "\n")
}

func text(set *token.FileSet, n any) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, set, n); err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// declarations lists what a declaration exports.
func declarations(t *testing.T, set *token.FileSet, d ast.Decl) (all []string) {
	need := func(name string, docs ...*ast.CommentGroup) {
		if !slices.ContainsFunc(docs, func(c *ast.CommentGroup) bool { return c != nil }) {
			t.Errorf("%s is not documented", name)
		}
	}
	if f, is := d.(*ast.FuncDecl); is {
		receiver := ""
		if f.Recv != nil {
			receiver = strings.TrimPrefix(text(set, f.Recv.List[0].Type), "*")
		}
		if !f.Name.IsExported() || receiver != "" && !ast.IsExported(receiver) {
			return nil
		}
		need(f.Name.Name, f.Doc)
		f.Body, f.Doc = nil, nil
		return []string{text(set, f)}
	}
	g := d.(*ast.GenDecl)
	for _, spec := range g.Specs {
		switch spec := spec.(type) {
		case *ast.ValueSpec:
			for i, n := range spec.Names {
				if !n.IsExported() {
					continue
				}
				need(n.Name, g.Doc, spec.Doc, spec.Comment)
				line := g.Tok.String() + " " + n.Name
				if spec.Type != nil {
					line += " " + text(set, spec.Type)
				}
				if g.Tok == token.CONST && i < len(spec.Values) {
					line += " = " + text(set, spec.Values[i])
				}
				all = append(all, line)
			}
		case *ast.TypeSpec:
			if !spec.Name.IsExported() {
				continue
			}
			need(spec.Name.Name, g.Doc, spec.Doc)
			all = append(all, members(t, set, spec, need)...)
		}
	}
	return all
}

// members lists a type with its fields or methods, one a line.
func members(t *testing.T, set *token.FileSet, spec *ast.TypeSpec, need func(name string, docs ...*ast.CommentGroup)) (all []string) {
	t.Helper()
	prefix := "type " + spec.Name.Name + " "
	var list *ast.FieldList
	switch of := spec.Type.(type) {
	case *ast.StructType:
		prefix, list = prefix+"struct", of.Fields
	case *ast.InterfaceType:
		prefix, list = prefix+"interface", of.Methods
	default:
		return []string{prefix + text(set, spec.Type)}
	}
	all = append(all, prefix)
	for _, f := range list.List {
		if len(f.Names) == 0 {
			all = append(all, prefix+": "+text(set, f.Type))
		}
		for _, n := range f.Names {
			if n.IsExported() {
				need(spec.Name.Name+"."+n.Name, f.Doc, f.Comment)
				all = append(all, prefix+": "+n.Name+" "+text(set, f.Type))
			}
		}
	}
	return all
}
