package cli

import (
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"latchkey/webmanager"
)

func newAlias(env *Env) *cobra.Command {
	return addDataFlags(group("alias", "Further names that lead to mailboxes of the domain, or to other domains",
		newAliasAdd(env), newAliasList(env), newAliasRemove(env)))
}

func newAliasAdd(env *Env) *cobra.Command {
	return &cobra.Command{
		Use: "add NAME MAILBOX|ADDRESS...", Short: "Let NAME (or \"*\" for every other address) lead there, instead of where it leads now",
		Args: wants(2, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var alias webmanager.Alias
			body := webmanager.AliasTargets{Targets: args[1:]}
			if err := env.do(cmd, http.MethodPut, webmanager.Path("aliases", args[0]), body, &alias); err != nil {
				return err
			}
			env.say("%s leads to %s", printable(alias.Address.String()), printable(strings.Join(alias.Leads(), ", ")))
			return nil
		},
	}
}

func newAliasList(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the aliases", Args: wants(0, 0)}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, done, err := env.connect(cmd)
		if err != nil {
			return err
		}
		defer done()
		all, err := wholeList(cmd, client, "aliases", func(p webmanager.AliasPage) ([]webmanager.Alias, string) { return p.Aliases, p.Next })
		if err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(all)
		}
		rows := make([][]string, len(all))
		for i, a := range all {
			rows[i] = []string{a.Address.String(), strings.Join(a.Leads(), ", ")}
		}
		return env.printTable([]string{"ADDRESS", "LEADS TO"}, rows)
	}
	return cmd
}

func newAliasRemove(env *Env) *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Remove an alias", Args: wants(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := env.do(cmd, http.MethodDelete, webmanager.Path("aliases", args[0]), nil, nil); err != nil {
				return err
			}
			env.say("removed alias %s", printable(args[0]))
			return nil
		},
	}
}
