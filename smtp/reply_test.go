package smtp

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	gosmtp "github.com/emersion/go-smtp"

	"latchkey/auth"
	"latchkey/internal/mailaddr"
	"latchkey/internal/message"
	"latchkey/internal/refusal"
	"latchkey/store"
)

// replies is every sentinel with its reply.
func replies() []replyCase {
	return []replyCase{
		{store.ErrNotFound, "550 5.1.1"},
		{store.ErrNotInitialised, "451 4.3.0"},
		{store.ErrExists, "451 4.3.0"},
		{store.ErrConflict, "451 4.3.0"},
		{store.ErrInvalid, "451 4.3.0"},
		{store.ErrReserved, "451 4.3.0"},
		{store.ErrBound, "451 4.3.0"},
		{store.ErrSuspended, "450 4.2.1"},
		{store.ErrMaildropFull, "452 4.2.2"},
		{store.ErrDomainFull, "452 4.3.1"},
		{store.ErrNoRecipients, "451 4.3.0"},
		{store.ErrSettled, "451 4.3.0"},
		{store.ErrLeaseLost, "451 4.3.0"},
		{store.ErrNoSpace, "452 4.3.1"},
		{store.ErrPoisoned, "451 4.3.0"},
		{store.ErrDamaged, "451 4.3.0"},
		{store.ErrClosed, "421 4.3.2"},
		{auth.ErrCredentials, "535 5.7.8"},
		{auth.ErrSuspended, "535 5.7.13"},
		{auth.ErrThrottled, "454 4.7.0"},
		{auth.ErrBanned, "421 4.7.0"},
		{auth.ErrCleartext, "538 5.7.11"},
		{auth.ErrBusy, "454 4.7.0"},
		{auth.ErrIdentity, "535 5.7.8"},
		{message.ErrBareCR, "550 5.5.2"},
		{message.ErrBareLF, "550 5.5.2"},
		{message.ErrHeaderTooLarge, "552 5.3.4"},
		{message.ErrTooManyFields, "552 5.3.4"},
		{message.ErrHeaderLine, "550 5.6.0"},
		{message.ErrHeaderNUL, "550 5.6.0"},
		{message.ErrInjection, "550 5.6.0"},
		{mailaddr.ErrSyntax, "553 5.1.3"},
		{errPanic, "421 4.3.0"},
		{errTooLarge, "552 5.3.4"},
		{gosmtp.ErrDataTooLarge, "552 5.3.4"},
		{gosmtp.ErrTooLongLine, "554 5.6.0"},
		{errIdle, "421 4.4.2"},
		{errSlow, "421 4.4.2"},
		{errExpired, "421 4.4.2"},
		{os.ErrDeadlineExceeded, "421 4.4.2"},
		{io.ErrUnexpectedEOF, "421 4.4.2"},
		{&net.OpError{Op: "read", Err: errors.New("reset")}, "421 4.4.2"},
		{context.Canceled, "421 4.3.2"},
		{context.DeadlineExceeded, "451 4.3.0"},
		{errors.New("/var/lib/secret: broken\r\n250 ok"), "451 4.3.0"},
		{refuse(refusal.RelayDenied).because(store.ErrNoSpace), "550 5.7.1"},
		{refuse(refusal.RelayTries).because(errors.New("secret")), "421 4.7.0"},
		// Of several recipients that failed, one that can be tried again decides.
		{errors.Join(store.ErrNoRecipients, &store.RecipientError{Err: store.ErrNotFound}, &store.RecipientError{Index: 1, Err: store.ErrMaildropFull}), "452 4.2.2"},
		{errors.Join(store.ErrNoRecipients, &store.RecipientError{Err: store.ErrNotFound}), "550 5.1.1"},
		// A name that is not in the table, and one of POP3.
		{refuse("secret"), "451 4.3.0"},
		{refuse(refusal.MailboxRemoved), "451 4.3.0"},
	}
}

type replyCase struct {
	err  error
	want string
}

func TestReplyFor(t *testing.T) {
	for _, tt := range replies() {
		once := fmt.Errorf("step: %w", tt.err)
		for depth, err := range []error{tt.err, once, fmt.Errorf("secret %w in /var/lib", once)} {
			r := replyFor(err)
			got := fmt.Sprintf("%d %d.%d.%d", r.Code, r.EnhancedCode[0], r.EnhancedCode[1], r.EnhancedCode[2])
			if got != tt.want {
				t.Errorf("%v, wrapped %d times: got %s, want %s", tt.err, depth, got, tt.want)
			}
			if r.Code/100 != r.EnhancedCode[0] {
				t.Errorf("%v: first digits of %s differ", tt.err, got)
			}
			if strings.Contains(r.Message, "secret") || strings.Contains(r.Message, "/var") || strings.ContainsAny(r.Message, "\r\n") || r.Message == "" {
				t.Errorf("%v: text %q", tt.err, r.Message)
			}
		}
	}
	if replyFor(nil) != nil {
		t.Error("replyFor(nil): want nil")
	}
}

// Every sentinel has a row of SMTP, and a first digit that says the same as the store does: what is ours passes.
func TestOutcomesAgree(t *testing.T) {
	for _, o := range outcomes() {
		r, ok := refusal.Lookup(o.name)
		if !ok || r.SMTP.Code == 0 {
			t.Errorf("%v: no row %q for SMTP", o.err, o.name)
		}
		if o.ours && r.SMTP.Code/100 != 4 {
			t.Errorf("%v: our fault, and %d", o.err, r.SMTP.Code)
		}
	}
}

// replyForm is what a literal reply looks like.
var replyForm = regexp.MustCompile(`^[245][0-9][0-9][ -]`)

// Every reply that refuses is a row of the table: nothing but refuse makes a refused, nothing but replyFor hands one to go-smtp, no
// text stands in the code, and refuse is given names of the table.
func TestRepliesComeFromTheTable(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	where := make(map[string]int)
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
				switch kind := types.ExprString(n.Type); kind {
				case "refused", "gosmtp.SMTPError":
					where[kind+" in "+function]++
				}
			case *ast.BasicLit:
				if s, err := strconv.Unquote(n.Value); err == nil && replyForm.MatchString(s) && s != readyForTLS {
					t.Errorf("%s: reply %q", name, s)
				}
			case *ast.CallExpr:
				if types.ExprString(n.Fun) == "refuse" {
					if arg := types.ExprString(n.Args[0]); !strings.HasPrefix(arg, "refusal.") && arg != "bad" && arg != "o.name" && !strings.HasPrefix(arg, "withoutGrant(") && arg != "name" {
						t.Errorf("%s: refuse(%s)", name, arg)
					}
				}
			}
			return true
		})
	}
	if want := map[string]int{"refused in refuse": 1, "gosmtp.SMTPError in replyFor": 1, "gosmtp.SMTPError in Data": 1}; !maps.Equal(where, want) {
		t.Errorf("replies are made %v, want %v", where, want)
	}
}
