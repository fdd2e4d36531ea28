package cli

import (
	"net/http"
	"strconv"

	"github.com/spf13/cobra"

	"latchkey/relay"
	"latchkey/webmanager"
)

// printSlow says to which providers mail goes slowly, and why.
func (env *Env) printSlow(list []relay.Slow) error {
	if len(list) == 0 {
		return nil
	}
	rows := make([][]string, len(list))
	for i, s := range list {
		rows[i] = []string{s.Provider, timestamp(s.Since), s.Pause.String(), timestamp(s.Next), timestamp(s.Until), s.Why}
	}
	return env.printTable([]string{"SLOW TO", "SINCE", "ONE MESSAGE IN", "NEXT", "UNTIL", "BECAUSE"}, rows)
}

func newReputation(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "reputation", Short: "Show whether blocklists list this server, and who sends how", Args: wants(0, 0),
		Long: "Show what the blocklists of the configuration say of this server's own addresses, asked every hour by the server that runs, and how the\n" +
			"mailboxes sent today and yesterday, those with most against them first. Providers that block this server, or may do so while it is listed,\n" +
			"are named with the pace at which mail goes to them until they take it again.",
	}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var view webmanager.ReputationView
		if err := env.get(cmd, webmanager.Path("reputation"), &view); err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(view)
		}
		if len(view.Standings) == 0 {
			env.say("no blocklist was asked: reputation.lists is empty, or this server has no public address (see reputation.addresses)")
		}
		rows := make([][]string, len(view.Standings))
		for i, s := range view.Standings {
			rows[i] = []string{s.Address.String(), s.List, string(s.State), timestamp(s.Since), orDash(s.Suspect), orDash(s.Detail), orDash(s.Link)}
		}
		if err := env.printTable([]string{"ADDRESS", "LIST", "STATE", "SINCE", "SUSPECT", "ANSWER", "LINK"}, rows); err != nil {
			return err
		}
		if err := env.printSlow(view.Slow); err != nil {
			return err
		}
		rows = make([][]string, len(view.Senders))
		for i, s := range view.Senders {
			rows[i] = []string{s.Mailbox}
			for _, n := range []int64{s.Recipients, s.Held, s.Failed, s.Refused, s.Complaints} {
				rows[i] = append(rows[i], strconv.FormatInt(n, 10))
			}
		}
		return env.printTable([]string{"MAILBOX", "RECIPIENTS", "HELD", "FAILED", "REFUSED", "COMPLAINTS"}, rows)
	}
	complaint := &cobra.Command{
		Use: "complaint NAME", Short: "Note that others complained of a mailbox's mail", Args: wants(1, 1), ValidArgsFunction: env.completeAccounts,
		Long: "Note that others complained of a mailbox's mail. When this server's address gets onto a blocklist, complaints point to the likely cause.",
	}
	count := complaint.Flags().Int("count", 1, "how many")
	complaint.RunE = func(cmd *cobra.Command, args []string) error {
		if err := env.do(cmd, http.MethodPost, webmanager.Path("accounts", args[0], "complaints"), webmanager.Complaint{Count: *count}, nil); err != nil {
			return err
		}
		env.say("noted")
		return nil
	}
	cmd.AddCommand(complaint)
	return addDataFlags(cmd)
}
