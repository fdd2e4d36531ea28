package cli

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"latchkey/webmanager"
)

func newAccountClients(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "clients [NAME]", Short: "List the programs that use a mailbox, or those of all mailboxes that are old",
		Long: "List the programs that use a mailbox: what they are like by their habits, the door, how they log in, from where, since when, and\n" +
			"whether they delete mail or leave it. Without NAME, or with --old, list those that need what is old: a door for old clients, no\n" +
			"TLS, TLS 1.0 or 1.1, APOP or CRAM-MD5. What was seen in the last minute may be missing.",
		Args: wants(0, 1), ValidArgsFunction: env.completeAccounts,
	}
	old := cmd.Flags().Bool("old", false, "only those that are old; without NAME always")
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		query := url.Values{"limit": {strconv.Itoa(webmanager.DefaultListLimit)}}
		onlyOld := *old || len(args) == 0
		query.Set("old", strconv.FormatBool(onlyOld))
		if len(args) > 0 {
			query.Set("mailbox", args[0])
		}
		client, done, err := env.connect(cmd)
		if err != nil {
			return err
		}
		defer done()
		show, end := env.clientPrinter(onlyOld, *asJSON)
		for {
			var page webmanager.ClientPage
			if err := client.Do(cmd.Context(), http.MethodGet, webmanager.Path("clients")+"?"+query.Encode(), nil, &page); err != nil {
				return err
			}
			if err := show(page.Clients); err != nil {
				return err
			}
			if page.Next == "" {
				return end()
			}
			query.Set("after", page.Next)
		}
	}
	return cmd
}

// clientPrinter returns what prints some more clients, and what ends the list.
func (env *Env) clientPrinter(old, asJSON bool) (show func([]webmanager.MailClient) error, end func() error) {
	if asJSON {
		array := &jsonArray{out: env.Stdout}
		show = func(clients []webmanager.MailClient) error {
			for _, c := range clients {
				if err := array.print(c); err != nil {
					return err
				}
			}
			return nil
		}
		return show, array.end
	}
	heading, row := []string{"DOOR", "LOGIN", "TLS", "FROM", "SINCE", "LAST", "SESSIONS", "MAIL", "PROGRAM OR HABIT"}, clientRow
	if old {
		heading, row = []string{"MAILBOX", "SINCE", "LAST", "SESSIONS", "DOOR", "FROM", "OLD", "PROGRAM OR HABIT"}, oldClientRow
	}
	table := env.newTable(heading)
	show = func(clients []webmanager.MailClient) error {
		rows := make([][]string, len(clients))
		for i, c := range clients {
			rows[i] = row(c)
		}
		return table.print(rows)
	}
	return show, func() error { return nil }
}

func clientRow(c webmanager.MailClient) []string {
	return []string{
		c.Door, c.Mechanism, orDash(c.TLS), c.From.String(), timestamp(c.First), timestamp(c.Last),
		strconv.FormatInt(c.Sessions, 10), clientMail(c), ofDevice(c.Program, c.Device),
	}
}

func oldClientRow(c webmanager.MailClient) []string {
	return []string{
		c.Address.String(), timestamp(c.First), timestamp(c.Last), strconv.FormatInt(c.Sessions, 10), c.Door, c.From.String(),
		orDash(strings.Join(c.Old, ", ")), ofDevice(c.Program, c.Device),
	}
}

// clientMail says what becomes of mail.
func clientMail(c webmanager.MailClient) string {
	switch {
	case c.Deleted > 0 && c.Keeps > 0:
		return "deletes and leaves"
	case c.Deleted > 0:
		return "deletes"
	case c.Keeps > 0:
		return "leaves"
	}
	return "-"
}
