package cli

import (
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"latchkey/webmanager"
)

func newWebLogin(env *Env) *cobra.Command {
	return addDataFlags(&cobra.Command{
		Use: "web-login", Short: "Print a link that signs the operator in to the Webmanager's pages, once, within five minutes", Args: wants(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var link webmanager.SignInLink
			if err := env.do(cmd, http.MethodPost, webmanager.Path("sign-in"), nil, &link); err != nil {
				return err
			}
			env.say("valid until %s, once:", timestamp(link.Expires))
			return env.showMade(link.URL, true)
		},
	})
}

func newToken(env *Env) *cobra.Command {
	return addDataFlags(group("token", "Tokens of the JSON API, for programs such as a hoster's own panel", newTokenAdd(env), newTokenList(env), newTokenRevoke(env)))
}

func newTokenAdd(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Make a token, and print it: the only time that it is seen; NAME is for people",
		Long: "Make a token, and print it: the only time that it is seen. A program shows it as Authorization: Bearer TOKEN at /api/v1/ of the\n" +
			"Webmanager's pages, and may do what its role may: operator, owner (of the domain), or mailbox (one, and what its owner may).",
		Args: wants(1, 1),
	}
	role := cmd.Flags().String("role", "owner", "what it may do: mailbox, owner or operator")
	body := webmanager.NewToken{}
	cmd.Flags().StringVar(&body.Mailbox, "mailbox", "", "the mailbox of a token with the role mailbox")
	cmd.Flags().BoolVar(&body.ReadOnly, "read-only", false, "it may change nothing")
	cmd.Flags().IntVar(&body.Days, "days", 0, "days until it ends by itself; 0: never")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := body.Role.UnmarshalText([]byte(*role)); err != nil || body.Role == webmanager.RoleAnyone {
			return usagef("--role is mailbox, owner or operator, not %q", *role)
		}
		body.Name = args[0]
		var added webmanager.AddedToken
		if err := env.do(cmd, http.MethodPost, webmanager.Path("tokens"), body, &added); err != nil {
			return err
		}
		env.say("added token %s; its text:", added.ID)
		return env.showMade(added.Text, true)
	}
	return cmd
}

func newTokenList(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the tokens", Args: wants(0, 0)}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var list webmanager.TokenList
		if err := env.get(cmd, webmanager.Path("tokens"), &list); err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(list.Tokens)
		}
		rows := make([][]string, len(list.Tokens))
		for i, t := range list.Tokens {
			rows[i] = []string{t.ID, t.Role.String(), orDash(t.Mailbox), strconv.FormatBool(t.ReadOnly), timestamp(t.Created), tokenEnd(t.Expires), t.Name}
		}
		return env.printTable([]string{"ID", "ROLE", "MAILBOX", "READ-ONLY", "CREATED", "EXPIRES", "NAME"}, rows)
	}
	return cmd
}

func tokenEnd(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return timestamp(t)
}

func newTokenRevoke(env *Env) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Revoke a token; it ends at once", Args: wants(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := env.do(cmd, http.MethodDelete, webmanager.Path("tokens", args[0]), nil, nil); err != nil {
				return err
			}
			env.say("revoked token %s", printable(args[0]))
			return nil
		},
	}
}
