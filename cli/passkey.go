package cli

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"latchkey/webmanager"
)

func newPasskey(env *Env) *cobra.Command {
	return addDataFlags(group("passkey", "Passkeys, with which owners of mailboxes sign in to the Webmanager's pages; they make them there",
		newPasskeyList(env), newPasskeyRemove(env)))
}

func newPasskeyList(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list MAILBOX", Short: "List the passkeys of a mailbox", Args: wants(1, 1), ValidArgsFunction: env.completeAccounts}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var list webmanager.PasskeyList
		if err := env.get(cmd, webmanager.Path("accounts", args[0], "passkeys"), &list); err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(list.Passkeys)
		}
		rows := make([][]string, len(list.Passkeys))
		for i, k := range list.Passkeys {
			rows[i] = []string{strconv.Itoa(k.ID), k.Name, timestamp(k.Created), passkeyUse(k.Used), strconv.FormatBool(k.Synced)}
		}
		return env.printTable([]string{"ID", "NAME", "CREATED", "USED", "SYNCED"}, rows)
	}
	return cmd
}

func passkeyUse(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return timestamp(t)
}

func newPasskeyRemove(env *Env) *cobra.Command {
	return &cobra.Command{
		Use: "remove MAILBOX PASSKEY...", Short: "Remove passkeys, by number or name, as of a device that was lost: they let nobody in any more",
		Args: wants(2, -1), ValidArgsFunction: env.completeAccounts,
		RunE: func(cmd *cobra.Command, args []string) error {
			var failed error
			for _, passkey := range args[1:] {
				err := env.do(cmd, http.MethodDelete, webmanager.Path("accounts", args[0], "passkeys", passkey), nil, nil)
				if err == nil {
					env.say("removed %s", printable(passkey))
				}
				failed = errors.Join(failed, err)
			}
			return failed
		},
	}
}
