package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"latchkey/store"
	"latchkey/webmanager"
)

// maxSelection bounds the deliveries that one command acts on: a selection keeps their numbers in memory.
const maxSelection = 1_000_000

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
			verb: "remove", done: "removed; their senders are not told", short: "Forget deliveries for good, without a bounce",
			long: "Forget deliveries for good. Nobody is told: there is no bounce to the sender. An attempt that is under way may still\n" +
				"bring the message to its recipient.",
			asks: true,
		}),
	))
}

// queueSelection are the flags that name deliveries by what they are.
type queueSelection struct {
	from, to, message *string
	held              *bool
}

func addQueueSelection(cmd *cobra.Command) queueSelection {
	return queueSelection{
		from:    cmd.Flags().String("from", "", "only those that this mailbox submitted"),
		to:      cmd.Flags().String("to", "", "only those to this domain"),
		message: cmd.Flags().String("message", "", "only those of this message id"),
	}
}

// query is the selection as the API takes it.
func (s queueSelection) query() url.Values {
	query := url.Values{}
	for name, value := range map[string]string{"submitter": *s.from, "destination": *s.to, "message": *s.message} {
		if value != "" {
			query.Set(name, value)
		}
	}
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
		table := env.newTable([]string{"ID", "MESSAGE", "RECEIVED", "FROM", "TO", "ATTEMPTS", "NEXT", "LAST WORD"})
		return eachJobPage(cmd.Context(), client, query, *limit, func(jobs []store.Job) error {
			rows := make([][]string, len(jobs))
			for i, j := range jobs {
				rows[i] = []string{
					strconv.FormatUint(uint64(j.ID), 10), j.Message.String(), timestamp(j.Received), j.ReversePath.Path(), j.Recipient.String(),
					strconv.Itoa(j.Attempts), due(j), orDash(j.LastText),
				}
			}
			return table.print(rows)
		})
	}
	return cmd
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
			{"asked for", yesOrNo(j.Released)},
			{"delay notice", yesOrNo(j.Warned)},
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

// queueCommand is one of the commands that act on deliveries.
type queueCommand struct {
	verb, done, short, long string
	// selects is what a selection asks of held: "true", "false" or "" for either.
	selects string
	// asks is set when a selection is to be confirmed by its number.
	asks bool
}

func newQueueVerb(env *Env, c queueCommand) *cobra.Command {
	cmd := &cobra.Command{
		Use: c.verb + " [ID...]", Short: c.short, Args: wants(0, -1),
		Long: c.long + "\n\nDeliveries are named by their numbers, or selected by --from, --to, --message or --all. Those that left the queue\n" +
			"meanwhile hold up nobody. The exit status is 1 if one that was named could not be acted on.",
	}
	selection := addQueueSelection(cmd)
	all := cmd.Flags().Bool("all", false, "all that are in the queue")
	if c.selects == "" {
		selection.held = cmd.Flags().Bool("held", false, "only those that are held")
	}
	body, yes, sender := webmanager.QueueAction{}, false, ""
	if c.verb == "release" {
		cmd.Flags().StringVar(&sender, "sender", "", "all of this mailbox, and what it sends from the networks that were put on hold: they are its own from now on")
	}
	if c.verb == "hold" {
		cmd.Flags().StringVar(&body.Reason, "reason", "", "why, for whoever looks at the queue")
	}
	if c.asks {
		cmd.Flags().BoolVar(&yes, "yes", false, "do not ask before a selection")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		query := selection.query()
		selected := *all || len(query) > 0
		if sender != "" {
			if selected || len(args) > 0 {
				return usagef("--sender stands alone; usage: %s", cmd.UseLine())
			}
			return env.releaseSender(cmd, sender)
		}
		if selected == (len(args) > 0) {
			return usagef("name deliveries by their numbers, or select them by --from, --to, --message or --all; usage: %s", cmd.UseLine())
		}
		ids, err := jobIDs(args)
		if err != nil {
			return err
		}
		client, done, err := env.connect(cmd)
		if err != nil {
			return err
		}
		defer done()
		if selected {
			if c.selects != "" {
				query.Set("held", c.selects)
			}
			if ids, err = env.selectJobs(cmd.Context(), client, query, c.asks && !yes); err != nil {
				return err
			}
		}
		body.IDs = ids
		return env.actOnJobs(cmd.Context(), client, c, body, selected)
	}
	return cmd
}

func jobIDs(args []string) ([]store.JobID, error) {
	ids := make([]store.JobID, len(args))
	for i, arg := range args {
		id, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || id == 0 {
			return nil, usagef("%q is not the number of a queued delivery", arg)
		}
		ids[i] = store.JobID(id)
	}
	return ids, nil
}

// selectJobs finds the deliveries of a selection; if ask is set, their number is to be typed before anything happens to them.
func (env *Env) selectJobs(ctx context.Context, client *webmanager.Client, query url.Values, ask bool) ([]store.JobID, error) {
	var ids []store.JobID
	err := eachJobPage(ctx, client, query, 0, func(jobs []store.Job) error {
		for _, j := range jobs {
			ids = append(ids, j.ID)
		}
		if len(ids) > maxSelection {
			return fmt.Errorf("more than %d deliveries are selected; nothing was done: select less", maxSelection)
		}
		return nil
	})
	if err != nil || len(ids) == 0 || !ask {
		return ids, err
	}
	if env.ReadLine == nil {
		return nil, usagef("selected: %s, and no terminal to confirm it: use --yes", deliveries(len(ids)))
	}
	typed, err := env.ReadLine(fmt.Sprintf("Selected: %s. Type the number to confirm: ", deliveries(len(ids))))
	if err != nil {
		return nil, err
	}
	if typed != strconv.Itoa(len(ids)) {
		return nil, errors.New("not confirmed; nothing was done")
	}
	return ids, nil
}

// actOnJobs sends the numbers in requests of at most webmanager.MaxActionIDs, and reports what became of each.
func (env *Env) actOnJobs(ctx context.Context, client *webmanager.Client, c queueCommand, body webmanager.QueueAction, selected bool) error {
	acted, left := 0, 0
	for part := range slices.Chunk(body.IDs, webmanager.MaxActionIDs) {
		var result webmanager.QueueResult
		request := webmanager.QueueAction{IDs: part, Reason: body.Reason}
		if err := client.Do(ctx, http.MethodPost, webmanager.Path("queue", c.verb), request, &result); err != nil {
			env.say("%s %s", deliveries(acted), c.done)
			return err
		}
		acted += len(result.Done)
		left += len(result.Gone) + len(result.Refused)
		for _, id := range result.Gone {
			env.say("delivery %d is not in the queue (any more); latchkey trail tells what became of its message", id)
		}
		for _, r := range result.Refused {
			env.say("delivery %d: %s", r.ID, printable(r.Why))
		}
	}
	env.say("%s %s", deliveries(acted), c.done)
	if left > 0 && !selected {
		return errors.New("not all that were named could be acted on")
	}
	return nil
}

func deliveries(n int) string {
	if n == 1 {
		return "1 delivery"
	}
	return strconv.Itoa(n) + " deliveries"
}
