package cli

import (
	"net/http"

	"github.com/spf13/cobra"

	"latchkey/guard"
	"latchkey/webmanager"
)

func newBan(env *Env) *cobra.Command {
	return addDataFlags(group("ban", "Who may not log in for a while", newBanList(env), newBanLift(env), newBanAdd(env)))
}

func newBanList(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the bans: network, mailbox, why and until when", Args: wants(0, 0)}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var list webmanager.BanList
		if err := env.get(cmd, webmanager.Path("bans"), &list); err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(list.Bans)
		}
		return env.printBans(list.Bans)
	}
	return cmd
}

func (env *Env) printBans(bans []webmanager.Ban) error {
	rows := make([][]string, len(bans))
	for i, b := range bans {
		rows[i] = []string{b.Network.String(), bannedFrom(b), orDash(b.Reason), orDash(b.By), timestamp(b.Since), timestamp(b.Until)}
	}
	return env.printTable([]string{"NETWORK", "FROM", "REASON", "BY", "SINCE", "UNTIL"}, rows)
}

// bannedFrom says what the clients of a ban are kept from.
func bannedFrom(b webmanager.Ban) string {
	switch {
	case b.Door == guard.BanMX:
		return "port 25"
	case b.NoMailbox:
		return "a name that is no mailbox"
	case b.Mailbox == "":
		return "all mailboxes"
	}
	return b.Mailbox
}

func newBanLift(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "lift [NETWORK]", Short: "End bans: those of a network or address, of a mailbox, or of both together", Args: wants(0, 1),
		Long: "End the bans of a network or address, those of a mailbox, or those of a mailbox at a network. The wrong passwords that were\n" +
			"counted there are forgotten too, so that the next login begins anew. Without --mailbox the network may use port 25 again too.",
	}
	mailbox := cmd.Flags().String("mailbox", "", "those of this mailbox")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		body := webmanager.BanLift{Mailbox: *mailbox}
		if len(args) > 0 {
			body.Network = args[0]
		}
		if body == (webmanager.BanLift{}) {
			return usagef("name a network or address, or use --mailbox; usage: %s", cmd.UseLine())
		}
		var lifted webmanager.BanList
		if err := env.do(cmd, http.MethodPost, webmanager.Path("bans", "lift"), body, &lifted); err != nil {
			return err
		}
		for _, b := range lifted.Bans {
			env.say("%s may use %s again", b.Network, bannedFrom(b))
		}
		env.say("bans lifted: %d", len(lifted.Bans))
		return nil
	}
	return cmd
}

func newBanAdd(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "add NETWORK", Short: "Keep a network or address from logging in for a while", Args: wants(1, 1),
		Long: "Keep a network or address from logging in to one mailbox, or to all, by POP3 and for sending. Mail for the domain is taken from\n" +
			"there all the same, and sessions that are open go on: to end what somebody who knows a password can do, change it.",
	}
	mailbox := cmd.Flags().String("mailbox", "", "this mailbox only; otherwise all")
	reason := cmd.Flags().String("reason", "", "why, for those who see the list")
	last := cmd.Flags().String("for", "24h", "how long, such as 90m, 2h or 7d")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		body := webmanager.NewBan{Network: args[0], Mailbox: *mailbox, Reason: *reason, For: *last}
		var b webmanager.Ban
		if err := env.do(cmd, http.MethodPost, webmanager.Path("bans"), body, &b); err != nil {
			return err
		}
		env.say("%s may not log in to %s until %s", b.Network, bannedFrom(b), timestamp(b.Until))
		return nil
	}
	return cmd
}
