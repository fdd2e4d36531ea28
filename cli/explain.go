package cli

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"latchkey/webmanager"
)

func newExplain(env *Env) *cobra.Command {
	cmd := addDataFlags(&cobra.Command{
		Use: "explain CODE", Short: "Explain a refusal by its code, such as L-7QK, or its name", Args: wants(1, 1),
		Long: "Explain a refusal by the code at its end, such as L-7QK, or by its name: what is said, why, and what to do. A running server also\n" +
			"tells when it last refused so, to whom, and by which facts it decided; that is forgotten when it ends.",
	})
	asJSON := addJSONFlag(cmd)
	address := cmd.Flags().String("address", "", "only what was refused to this client address")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path := webmanager.Path("refusals", args[0])
		if *address != "" {
			path += "?" + url.Values{"address": {*address}}.Encode()
		}
		var e webmanager.Explanation
		if err := env.get(cmd, path, &e); err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(e)
		}
		return env.explain(e)
	}
	return cmd
}

func (env *Env) explain(e webmanager.Explanation) error {
	var b strings.Builder
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%-11s %s\n", name, printable(text))
		}
	}
	line(e.Code, string(e.Name))
	line("SMTP says", e.SMTP)
	line("POP3 says", e.POP3)
	line("because", e.Cause)
	line("what to do", e.Cure)
	if len(e.Events) == 0 {
		line("lately", "never, since the server was started")
	}
	for _, event := range e.Events {
		b.WriteString("\n")
		remote := "no address"
		if event.Remote.IsValid() {
			remote = event.Remote.String()
		}
		line("refused", strings.TrimSpace(fmt.Sprintf("%s at %s to %s %s", timestamp(event.Time), event.Door, remote, event.Command)))
		line("mailbox", event.Mailbox)
		line("with", event.Text)
		line("facts", event.Why)
	}
	_, err := fmt.Fprint(env.Stdout, b.String())
	return err
}
