package cli

import (
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"latchkey/webmanager"
)

func newQueueHolds(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "holds", Short: "List the networks from which a mailbox's mail is put on hold", Args: wants(0, 0),
		Long: "List the networks from which a mailbox's mail to other domains is put on hold, because it sent otherwise than usual there. Its mail\n" +
			"from its own networks goes on. latchkey queue release --sender ends that; latchkey account purge is for a password that somebody else has.",
	}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var holds []webmanager.Hold
		if err := env.get(cmd, webmanager.Path("holds"), &holds); err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(holds)
		}
		rows := make([][]string, len(holds))
		for i, h := range holds {
			rows[i] = []string{h.Mailbox, h.Network, timestamp(h.Since), h.Reason}
		}
		return env.printTable([]string{"MAILBOX", "NETWORK", "SINCE", "WHY"}, rows)
	}
	return cmd
}

// releaseSender is queue release --sender.
func (env *Env) releaseSender(cmd *cobra.Command, name string) error {
	var result webmanager.SenderReleased
	if err := env.do(cmd, http.MethodPost, webmanager.Path("accounts", name, "release"), nil, &result); err != nil {
		return err
	}
	env.say("%s released, to be tried now", deliveries(result.Released))
	if len(result.Networks) > 0 {
		env.say("no longer on hold: %s", printable(strings.Join(result.Networks, ", ")))
	}
	return nil
}

func newAccountPurge(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "purge NAME", Short: "Take a mailbox back from somebody who knows its password", Args: wants(1, 1),
		Long: "Give the mailbox a new password, which is printed, end its sessions, its devices and its grants, and remove the deliveries of it that are\n" +
			"held. Nobody is told of those. Mail in the mailbox stays, and deliveries that are not held: see latchkey queue list --from NAME.",
	}
	stdin := cmd.Flags().Bool("password-stdin", false, "read the new password from standard input, one line; otherwise one is made")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		password, made := GeneratePassword(), true
		if *stdin {
			text, err := readLine(env.Stdin)
			if err != nil {
				return err
			}
			password, made = text, false
		}
		var result webmanager.Purged
		body := webmanager.Purge{Password: password}
		if err := env.do(cmd, http.MethodPost, webmanager.Path("accounts", args[0], "purge"), body, &result); err != nil {
			return err
		}
		env.say("%s removed, grants that ended: %d, devices: %d, passkeys: %d; the old passwords open nothing any more",
			deliveries(result.Removed), result.GrantsRevoked, result.DevicesRevoked, result.PasskeysRemoved)
		return env.showMade(password, made)
	}
	return cmd
}
