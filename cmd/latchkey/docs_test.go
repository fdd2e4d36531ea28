package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// declarations are all names that the documents may cite: "pkg.Func", "pkg.Type", "pkg.Type.Method" (pkg is the folder below the
// root, or its last element), and the plain names of tests, benchmarks and fuzz targets.
func declarations(t *testing.T) map[string]bool {
	t.Helper()
	names, err := allDeclarations()
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// allDeclarations reads the whole source, once.
var allDeclarations = sync.OnceValues(func() (map[string]bool, error) {
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
	return names, err
})

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

var (
	absolute = regexp.MustCompile(`\b(MUST|SHALL|REQUIRED)\b`)
	decision = regexp.MustCompile(`docs/adr/([0-9]{4})`)
)

// rfcRowError says what is wrong with a row of docs/rfc.md, or "": it names code; a rule that is said to hold has a test; what a RFC says absolutely
// holds, or is bent by a decision that exists.
func rfcRowError(cells []string) string {
	if len(cells) != 6 {
		return fmt.Sprintf("%d columns, want 6", len(cells))
	}
	rule, code, test, state := cells[2], cells[3], cells[4], strings.TrimSpace(cells[5])
	for _, number := range decision.FindAllStringSubmatch(state, -1) {
		if found, err := filepath.Glob(filepath.Join("..", "..", "docs", "adr", number[1]+"-*.md")); err != nil || len(found) != 1 {
			return "there is no decision " + number[1]
		}
	}
	word, _, _ := strings.Cut(state, " ")
	status := strings.Trim(word, ".,:;")
	switch status {
	case "Yes", "Partial", "Deviation", "No":
	default:
		return fmt.Sprintf("status %q, want Yes, Partial, No or Deviation", word)
	}
	switch {
	case !codeSpan.MatchString(code):
		return "no code is named"
	case status != "No" && !codeSpan.MatchString(test):
		return status + ", and no test is named"
	case absolute.MatchString(rule) && status != "Yes" && (status != "Deviation" || !decision.MatchString(state)):
		return status + " to what a RFC says absolutely, without a decision"
	}
	return ""
}

// TestRFCRows: what is wrong with a row is seen.
func TestRFCRows(t *testing.T) {
	for row, good := range map[string]bool{
		"1|2|a rule (MUST)|`a.b`|`TestC`|Yes: so": true, "1|2|a rule (MUST)|`a.b`|`TestC`|Deviation (docs/adr/0001): so": true,
		"1|2|a rule (SHOULD)|`a.b`||No": true, "1|2|a rule|`a.b`|`TestC`|Partial: so": true,
		"1|2|a rule|`a.b`|Yes": false, "1|2|a rule|`a.b`|`TestC`|Done": false, "1|2|a rule|a.b|`TestC`|Yes": false, "1|2|a rule|`a.b`|TestC|Yes": false,
		"1|2|a rule (MUST)|`a.b`|`TestC`|Deviation: so": false, "1|2|a rule (REQUIRED)|`a.b`|`TestC`|Partial (docs/adr/0001)": false,
		"1|2|a rule (MUST NOT)|`a.b`||No (docs/adr/0001)": false, "1|2|a rule (SHALL)|`a.b`|`TestC`|Deviation (docs/adr/9999): so": false,
	} {
		if err := rfcRowError(strings.Split(row, "|")); (err == "") != good {
			t.Errorf("%s: %q", row, err)
		}
	}
}

// TestRFCTable checks docs/rfc.md row by row.
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
		rows++
		if err := rfcRowError(strings.Split(strings.Trim(line, "|"), "|")); err != "" {
			t.Errorf("docs/rfc.md:%d: %s", i+1, err)
		}
	}
	if rows < 50 {
		t.Errorf("docs/rfc.md has %d rows only", rows)
	}
}
