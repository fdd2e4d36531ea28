package cli

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"latchkey/store"
	"latchkey/webmanager"
)

func newQueue(env *Env) *cobra.Command {
	return addDataFlags(group("queue", "Mail on its way to other domains", newQueueList(env), newQueueShow(env)))
}

func newQueueList(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the queued deliveries, oldest first", Args: wants(0, 0)}
	asJSON := addJSONFlag(cmd)
	from := cmd.Flags().String("from", "", "only those that this mailbox submitted")
	to := cmd.Flags().String("to", "", "only those to this domain")
	message := cmd.Flags().String("message", "", "only those of this message id")
	held := cmd.Flags().Bool("held", false, "only those that are held")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		query := url.Values{"limit": {strconv.Itoa(webmanager.MaxListLimit)}}
		for name, value := range map[string]string{"submitter": *from, "destination": *to, "message": *message} {
			if value != "" {
				query.Set(name, value)
			}
		}
		if *held {
			query.Set("held", "true")
		}
		jobs, err := env.jobs(cmd, query)
		if err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(jobs)
		}
		rows := make([][]string, len(jobs))
		for i, j := range jobs {
			rows[i] = []string{
				strconv.FormatUint(uint64(j.ID), 10), j.Message.String(), timestamp(j.Received), j.ReversePath.Path(), j.Recipient.String(),
				strconv.Itoa(j.Attempts), due(j), orDash(j.LastText),
			}
		}
		return env.printTable([]string{"ID", "MESSAGE", "RECEIVED", "FROM", "TO", "ATTEMPTS", "NEXT", "LAST WORD"}, rows)
	}
	return cmd
}

func (env *Env) jobs(cmd *cobra.Command, query url.Values) ([]store.Job, error) {
	client, done, err := env.connect(cmd)
	if err != nil {
		return nil, err
	}
	defer done()
	all := []store.Job{}
	for {
		var page webmanager.QueuePage
		if err := client.Do(cmd.Context(), http.MethodGet, webmanager.Path("queue")+"?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Jobs...)
		if page.Next == 0 {
			return all, nil
		}
		query.Set("after", strconv.FormatUint(uint64(page.Next), 10))
	}
}

func due(j store.Job) string {
	if j.Held {
		return "held: " + j.HoldReason
	}
	return timestamp(j.NextAttempt)
}

func newQueueShow(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "show ID", Short: "Show one queued delivery", Args: wants(1, 1)}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var j store.Job
		if err := env.get(cmd, webmanager.Path("queue", args[0]), &j); err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(j)
		}
		return env.printTable([]string{"id", strconv.FormatUint(uint64(j.ID), 10)}, [][]string{
			{"message", j.Message.String()},
			{"message-id", orDash(j.HeaderID)},
			{"from", j.ReversePath.Path()},
			{"to", j.Recipient.String()},
			{"octets", strconv.FormatInt(j.Size, 10)},
			{"received", timestamp(j.Received)},
			{"attempts", strconv.Itoa(j.Attempts)},
			{"next", due(j)},
			{"last word", orDash(j.LastText)},
		})
	}
	return cmd
}

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
