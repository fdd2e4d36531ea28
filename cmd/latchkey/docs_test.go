package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// declarations are all names that the documents may cite: "pkg.Func", "pkg.Type", "pkg.Type.Method" (pkg is the folder below the
// root, or its last element), and the plain names of tests, benchmarks and fuzz targets.
func declarations(t *testing.T) map[string]bool {
	t.Helper()
	root := filepath.Join("..", "..")
	names := map[string]bool{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); file != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
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
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := path.Dir(filepath.ToSlash(rel))
		for _, decl := range parsed.Decls {
			for _, name := range declared(decl) {
				names[dir+"."+name] = true
				names[path.Base(dir)+"."+name] = true
				if strings.HasSuffix(file, "_test.go") || strings.HasPrefix(dir, "store/storetest") {
					names[name] = true
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func declared(decl ast.Decl) []string {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil || len(d.Recv.List) == 0 {
			return []string{d.Name.Name}
		}
		typ := d.Recv.List[0].Type
		if star, ok := typ.(*ast.StarExpr); ok {
			typ = star.X
		}
		if ident, ok := typ.(*ast.Ident); ok {
			return []string{ident.Name + "." + d.Name.Name}
		}
	case *ast.GenDecl:
		var names []string
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				names = append(names, s.Name.Name)
				if i, ok := s.Type.(*ast.InterfaceType); ok {
					for _, m := range i.Methods.List {
						for _, n := range m.Names {
							names = append(names, s.Name.Name+"."+n.Name)
						}
					}
				}
				if st, ok := s.Type.(*ast.StructType); ok {
					for _, f := range st.Fields.List {
						for _, n := range f.Names {
							names = append(names, s.Name.Name+"."+n.Name)
						}
					}
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					names = append(names, n.Name)
				}
			}
		}
		return names
	}
	return nil
}

var (
	codeSpan   = regexp.MustCompile("`([^`]+)`")
	identifier = regexp.MustCompile(`^[a-z][a-z0-9/]*\.[A-Za-z]\w*(\.[A-Za-z]\w*)?$`)
	testName   = regexp.MustCompile(`^(Test|Fuzz|Benchmark|Example)\w*(/\w+)*$`)
	filePath   = regexp.MustCompile(`^[\w./-]+\.(txt|go|md|sh)$`)
)

// TestDocumentsNameWhatExists keeps the tables and flows of docs/ from rotting: every name of code, every test and every file that
// they cite must exist.
func TestDocumentsNameWhatExists(t *testing.T) {
	names := declarations(t)
	for _, doc := range []string{"rfc.md", "flow.md", "testing.md", "abuse.md", "../pop3/maildrop/testdata/clients/README.md"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", doc))
		if err != nil {
			t.Error(err)
			continue
		}
		cited := 0
		for i, line := range strings.Split(string(text), "\n") {
			for _, span := range codeSpan.FindAllStringSubmatch(line, -1) {
				name := strings.TrimSuffix(span[1], "()")
				var found bool
				switch {
				case filePath.MatchString(name) && strings.Contains(name, "/"):
					_, err := os.Stat(filepath.Join("..", "..", name))
					found = err == nil
				case testName.MatchString(name):
					found = names[strings.SplitN(name, "/", 2)[0]]
				case identifier.MatchString(name):
					found = names[name]
				default:
					continue
				}
				cited++
				if !found {
					t.Errorf("docs/%s:%d cites %s, which does not exist", doc, i+1, span[1])
				}
			}
		}
		if cited < 5 {
			t.Errorf("docs/%s cites %d names only", doc, cited)
		}
	}
}

// TestRFCTable checks the form of docs/rfc.md: six columns, a known status, and a test for every rule that is said to hold.
func TestRFCTable(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "rfc.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for i, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| RFC ") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 6 {
			t.Errorf("docs/rfc.md:%d has %d columns, want 6", i+1, len(cells))
			continue
		}
		rows++
		status, _, _ := strings.Cut(strings.TrimSpace(cells[5]), " ")
		switch strings.Trim(status, ".,:;") {
		case "Yes", "Partial", "Deviation":
			if !codeSpan.MatchString(cells[4]) {
				t.Errorf("docs/rfc.md:%d: %s, and no test is named", i+1, status)
			}
		case "No":
		default:
			t.Errorf("docs/rfc.md:%d: status %q, want Yes, Partial, No or Deviation", i+1, status)
		}
	}
	if rows < 50 {
		t.Errorf("docs/rfc.md has %d rows only", rows)
	}
}
