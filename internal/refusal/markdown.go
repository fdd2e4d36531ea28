//go:generate go test -run TestDocumentIsUpToDate -update

package refusal

import (
	"fmt"
	"strings"
)

// Markdown returns docs/refusals.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString(`# Refusals

Generated from the table in ` + "`internal/refusal/table.go`" + ` by ` + "`go generate ./internal/refusal`" + `; a test keeps it up to date.

Everything that this server refuses by its own decision, under names that never change. What the protocol libraries answer to commands
that are out of form or out of order is not here. In the texts ` + "`{remote}`" + ` is the client's address and ` + "`{here}`" + ` its family (IPv4 or IPv6),
` + "`{there}`" + ` the other family, ` + "`{mailbox}`" + ` the address of this domain that the client gave, ` + "`{wait}`" + ` a time, and ` + "`{help}`" + ` the
domain's ` + "`help_url`" + `, if there is one. Nothing else that a client sent is ever repeated.

Each text ends with its code. ` + "`latchkey explain CODE`" + ` says what is said here, and what the running server decided lately, with its facts.

| name | code | SMTP | POP3 | why | what to do |
|---|---|---|---|---|---|
`)
	for _, r := range rows {
		smtp, pop3 := r.Replies()
		if smtp != "" {
			smtp = "`" + smtp + "`"
		}
		if pop3 != "" {
			pop3 = "`" + pop3 + "`"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s | %s |\n", r.Name, r.Name.Code(), smtp, pop3, r.Cause, r.Cure)
	}
	return b.String()
}
