package cli

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"latchkey/store"
	"latchkey/webmanager"
)

// maxExamples is how many deliveries of a selection are shown before something is done to it.
const maxExamples = 10

func newQueue(env *Env) *cobra.Command {
	return addDataFlags(group("queue", "Mail on its way to other domains",
		newQueueList(env), newQueueShow(env), newQueueHolds(env),
		newQueueVerb(env, queueCommand{
			verb: "retry", done: "to be tried now", short: "Try deliveries now, whatever is known of their destination",
			long: "Try deliveries now that wait for a later attempt. Those that are held are refused: release them.", selects: "false",
		}),
		newQueueVerb(env, queueCommand{
			verb: "hold", done: "held", short: "Keep deliveries from being tried until they are released", selects: "false",
			long: "Keep deliveries from being tried until they are released. An attempt that is under way may still end well.\n" +
				"A held delivery is neither given up nor reported to its sender.",
		}),
		newQueueVerb(env, queueCommand{
			verb: "release", done: "released, to be tried now", short: "End the hold of deliveries, and try them now", selects: "true",
			long: "End the hold of deliveries, and try them now.",
		}),
		newQueueVerb(env, queueCommand{
			verb: "remove", done: "removed; their senders are not told", short: "Forget deliveries for good, without a bounce or with one",
			long: "Forget deliveries for good. Without --bounce nobody is told. With it each sender gets the usual notice of a failure, with the\n" +
				"reason; the running server sends it at once, and until then the deliveries are in the queue. An attempt that is under way may\n" +
				"still bring the message to its recipient.",
			asks: true,
		}),
	))
}

// queueSelection are the flags that name deliveries by what they are.
type queueSelection struct {
	from, to, host, message *string
	held                    *bool
}

func addQueueSelection(cmd *cobra.Command) queueSelection {
	return queueSelection{
		from:    cmd.Flags().String("from", "", "only those that this mailbox submitted, or that have this sender's address"),
		to:      cmd.Flags().String("to", "", "only those to this domain, or to this address"),
		host:    cmd.Flags().String("host", "", "only those that this host was last asked to take"),
		message: cmd.Flags().String("message", "", "only those of this message id"),
	}
}

// query is the selection as the API takes it.
func (s queueSelection) query() url.Values {
	query := url.Values{}
	set := func(value, address, other string) {
		switch {
		case value == "":
		case strings.Contains(value, "@"):
			query.Set(address, value)
		default:
			query.Set(other, value)
		}
	}
	set(*s.from, "sender", "submitter")
	set(*s.to, "recipient", "destination")
	set(*s.host, "host", "host")
	set(*s.message, "message", "message")
	if s.held != nil && *s.held {
		query.Set("held", "true")
	}
	return query
}

func newQueueList(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the queued deliveries, oldest first", Args: wants(0, 0)}
	asJSON := addJSONFlag(cmd)
	selection := addQueueSelection(cmd)
	selection.held = cmd.Flags().Bool("held", false, "only those that are held")
	limit := cmd.Flags().Int("limit", 0, "most to list; 0: all")
	after := cmd.Flags().Uint64("after", 0, "only those with a higher number")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *limit < 0 {
			return usagef("--limit is 0 or more")
		}
		query := selection.query()
		query.Set("after", strconv.FormatUint(*after, 10))
		client, done, err := env.connect(cmd)
		if err != nil {
			return err
		}
		defer done()
		if *asJSON {
			array := &jsonArray{out: env.Stdout}
			err := eachJobPage(cmd.Context(), client, query, *limit, func(jobs []store.Job) error {
				for _, j := range jobs {
					if err := array.print(j); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			return array.end()
		}
		table := env.newJobTable()
		return eachJobPage(cmd.Context(), client, query, *limit, func(jobs []store.Job) error { return table.print(jobRows(jobs)) })
	}
	return cmd
}

func (env *Env) newJobTable() *table {
	return env.newTable([]string{"ID", "MESSAGE", "RECEIVED", "FROM", "TO", "ATTEMPTS", "NEXT", "LAST WORD"})
}

func jobRows(jobs []store.Job) [][]string {
	rows := make([][]string, len(jobs))
	for i, j := range jobs {
		rows[i] = []string{
			strconv.FormatUint(uint64(j.ID), 10), j.Message.String(), timestamp(j.Received), j.ReversePath.Path(), j.Recipient.String(),
			strconv.Itoa(j.Attempts), due(j), orDash(j.LastText),
		}
	}
	return rows
}

// eachJobPage hands out the deliveries page by page, at most limit of them (0: all); the first page may be empty.
func eachJobPage(ctx context.Context, client *webmanager.Client, query url.Values, limit int, do func([]store.Job) error) error {
	for listed := 0; ; {
		size := webmanager.MaxListLimit
		if limit > 0 {
			size = min(size, limit-listed)
		}
		query.Set("limit", strconv.Itoa(size))
		var page webmanager.QueuePage
		if err := client.Do(ctx, http.MethodGet, webmanager.Path("queue")+"?"+query.Encode(), nil, &page); err != nil {
			return err
		}
		if err := do(page.Jobs); err != nil {
			return err
		}
		listed += len(page.Jobs)
		if page.Next == 0 || limit > 0 && listed >= limit {
			return nil
		}
		query.Set("after", strconv.FormatUint(uint64(page.Next), 10))
	}
}

func due(j store.Job) string {
	switch {
	case j.Held:
		return "held: " + j.HoldReason
	case j.GivenUp != "":
		return "given up: " + j.GivenUp
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
			{"asked for", yesOrNo(j.Released)},
			{"delay notice", yesOrNo(j.Warned)},
			{"last host", orDash(j.LastHost)},
			{"last word", orDash(j.LastText)},
		})
	}
	return cmd
}

func yesOrNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
