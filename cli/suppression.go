package cli

import (
	"net/http"
	"strconv"

	"github.com/spf13/cobra"

	"latchkey/webmanager"
)

func newSuppression(env *Env) *cobra.Command {
	return addDataFlags(group("suppression", "Addresses at other domains that are not written to for a while, because they do not exist",
		newSuppressionList(env), newSuppressionAdd(env), newSuppressionRemove(env)))
}

func newSuppressionList(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the addresses, those too that failed only once", Args: wants(0, 0)}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, done, err := env.connect(cmd)
		if err != nil {
			return err
		}
		defer done()
		all, err := wholeList(cmd, client, "suppressions", func(p webmanager.SuppressionPage) ([]webmanager.Suppression, string) { return p.Suppressions, p.Next })
		if err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(all)
		}
		rows := make([][]string, len(all))
		for i, s := range all {
			until, by := "-", "failures"
			if s.Active {
				until = timestamp(s.Until)
			}
			if s.Manual {
				by = "hand"
			}
			rows[i] = []string{s.Address.String(), until, by, strconv.Itoa(s.Failures), timestamp(s.Last), orDash(s.Reason)}
		}
		return env.printTable([]string{"ADDRESS", "REFUSED UNTIL", "BY", "FAILURES", "LAST", "REASON"}, rows)
	}
	return cmd
}

func newSuppressionAdd(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "add ADDRESS", Short: "Let nobody here write to an address for a while", Args: wants(1, 1)}
	days := cmd.Flags().Int("days", 0, "how long (default 30)")
	reason := cmd.Flags().String("reason", "", "why, for people")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var s webmanager.Suppression
		body := webmanager.NewSuppression{Days: *days, Reason: *reason}
		if err := env.do(cmd, http.MethodPut, webmanager.Path("suppressions", args[0]), body, &s); err != nil {
			return err
		}
		env.say("mail to %s is refused until %s", printable(s.Address.String()), timestamp(s.Until))
		return nil
	}
	return cmd
}

func newSuppressionRemove(env *Env) *cobra.Command {
	return &cobra.Command{
		Use: "remove ADDRESS", Short: "Let mail to an address be tried again", Args: wants(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := env.do(cmd, http.MethodDelete, webmanager.Path("suppressions", args[0]), nil, nil); err != nil {
				return err
			}
			env.say("mail to %s is tried again", printable(args[0]))
			return nil
		},
	}
}
