package cli

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"latchkey/store"
	"latchkey/webmanager"
)

func newTrail(env *Env) *cobra.Command {
	cmd := addDataFlags(&cobra.Command{
		Use: "trail ADDRESS-or-ID", Short: "What became of the messages from or to an address, or of one message",
		Long: "What became of the messages from or to an address (or mailbox name), of the message with an id that SMTP gave\n" +
			"(\"queued as\"), or of that with a Message-ID. Newest first.",
		Args: wants(1, 1),
	})
	asJSON := addJSONFlag(cmd)
	limit := cmd.Flags().Int("limit", webmanager.DefaultTrailLimit, fmt.Sprintf("most messages to show, 1 to %d", webmanager.MaxTrailLimit))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var result webmanager.TrailResult
		query := url.Values{"for": {args[0]}, "limit": {strconv.Itoa(*limit)}}
		if err := env.get(cmd, webmanager.Path("trail")+"?"+query.Encode(), &result); err != nil {
			return err
		}
		for _, gap := range result.Unreadable {
			env.say("a part of the trail cannot be read, %s: what they say is missing here; stop the server and run latchkey check --repair", gap)
		}
		if *asJSON {
			return env.printJSON(result.Messages)
		}
		if len(result.Messages) == 0 {
			env.say("no trace of %s; the trail is kept for %d days", printable(args[0]), int(store.TrailAge.Hours()/24))
		}
		for i, m := range result.Messages {
			if i > 0 {
				fmt.Fprintln(env.Stdout)
			}
			if err := env.printTrail(m); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

func (env *Env) printTrail(m webmanager.TrailMessage) error {
	rows := make([][]string, len(m.Events))
	for i, e := range m.Events {
		rows[i] = []string{"  " + timestamp(e.Time), string(e.Kind), trailDetail(e)}
	}
	return env.printTable([]string{"message " + m.ID.String()}, rows)
}

func trailDetail(e store.TrailEvent) string {
	var words []string
	if e.Kind == store.TrailAccepted {
		words = append(words, "from "+e.Sender.Path(), fmt.Sprintf("%d octets", e.Size))
		if e.Origin.Remote.IsValid() {
			words = append(words, "by "+e.Origin.Remote.String())
		}
		words = append(words, "at the "+e.Origin.Door+" door")
		if e.HeaderID != "" {
			words = append(words, e.HeaderID)
		}
	} else if !e.Recipient.IsZero() {
		words = append(words, e.Recipient.Path())
	}
	if e.Text != "" {
		words = append(words, e.Text)
	}
	return strings.Join(words, ", ")
}
