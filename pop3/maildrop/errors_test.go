package maildrop

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"strings"
	"testing"

	"latchkey/internal/refusal"
	"latchkey/pop3"
)

// Every reply that refuses is a row of the table: nothing but reply makes one, and it is given names of the table.
func TestRepliesComeFromTheTable(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	made := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		function := ""
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				function = n.Name.Name
			case *ast.CompositeLit:
				if types.ExprString(n.Type) == "pop3.Error" {
					made++
					if function != "reply" {
						t.Errorf("%s: a reply is made in %s", name, function)
					}
				}
			case *ast.BasicLit:
				if strings.Contains(n.Value, "-ERR") {
					t.Errorf("%s: reply %s", name, n.Value)
				}
			case *ast.CallExpr:
				if types.ExprString(n.Fun) == "reply" && !strings.HasPrefix(types.ExprString(n.Args[0]), "refusal.") {
					t.Errorf("%s: %s", name, types.ExprString(n))
				}
			}
			return true
		})
	}
	if made != 1 {
		t.Errorf("%d makers of replies, want 1", made)
	}
}

func TestReply(t *testing.T) {
	cause := errors.New("cause")
	got := reply(refusal.MailboxRemoved, cause)
	if got.Code != pop3.CodeAuth || got.Text != "ask your mail administrator: this mailbox was removed (L-9YH)" || !got.Close || !errors.Is(got.Err, cause) {
		t.Errorf("got %+v", got)
	}
	// What POP3 does not say is a temporary failure, never an empty line.
	for _, name := range []refusal.Name{"nothing", refusal.RelayDenied} {
		if got := reply(name, nil); got.Code != pop3.CodeTemp || got.Text != "try again later: temporary failure (L-JE6)" {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}
