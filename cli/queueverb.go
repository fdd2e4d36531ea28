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
		Long: c.long + "\n\nDeliveries are named by their numbers, or selected by --from, --to, --host, --message or --all. Those that left the queue\n" +
			"meanwhile hold up nobody. The exit status is 1 if one that was named could not be acted on.",
	}
	v := queueRun{env: env, queueCommand: c}
	selection := addQueueSelection(cmd)
	all := cmd.Flags().Bool("all", false, "all that are in the queue")
	if c.selects == "" {
		selection.held = cmd.Flags().Bool("held", false, "only those that are held")
	}
	cmd.Flags().BoolVar(&v.dry, "dry-run", false, "do nothing, and say how many it would be done to, with some of them")
	cmd.Flags().BoolVar(&v.asJSON, "json", false, "print JSON")
	sender := ""
	if c.verb == "release" {
		cmd.Flags().StringVar(&sender, "sender", "", "all of this mailbox, and what it sends from the networks that were put on hold: they are its own from now on")
	}
	if c.verb == "hold" {
		cmd.Flags().StringVar(&v.body.Reason, "reason", "", "why, for whoever looks at the queue")
	}
	if c.asks {
		cmd.Flags().BoolVar(&v.yes, "yes", false, "do not ask before a selection")
		cmd.Flags().BoolVar(&v.body.Bounce, "bounce", false, "tell the senders, with the usual notice of a failure")
		cmd.Flags().StringVar(&v.body.Reason, "reason", "", "with --bounce: why, for the sender to read")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		query := selection.query()
		selected := *all || len(query) > 0
		if sender != "" {
			if selected || len(args) > 0 || v.dry || v.asJSON {
				return usagef("--sender stands alone; usage: %s", cmd.UseLine())
			}
			return env.releaseSender(cmd, sender)
		}
		if selected == (len(args) > 0) {
			return usagef("name deliveries by their numbers, or select them by --from, --to, --host, --message or --all; usage: %s", cmd.UseLine())
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
		v.client, v.ctx, v.selected = client, cmd.Context(), selected
		if v.body.Bounce {
			v.done = "given up; the running server tells their senders"
		}
		if !selected {
			return v.named(ids)
		}
		if c.selects != "" {
			query.Set("held", c.selects)
		}
		return v.selection(query)
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

// queueRun is one run of such a command.
type queueRun struct {
	queueCommand
	env              *Env
	ctx              context.Context // of the command, and as long as the run
	client           *webmanager.Client
	body             webmanager.QueueAction
	dry, asJSON, yes bool
	selected         bool
	result           queueSummary
}

// queueSummary says in numbers what became of the deliveries.
type queueSummary struct {
	// Selected are those that were named, or found.
	Selected int `json:"selected"`
	Done     int `json:"done"`
	// Gone were not in the queue any more, Refused left as they are.
	Gone    int `json:"gone"`
	Refused int `json:"refused"`
	// DryRun is set when nothing was done, and Examples are then some of them.
	DryRun   bool        `json:"dry_run,omitempty"`
	Examples []store.Job `json:"examples,omitempty"`
}

// named acts on deliveries by their numbers.
func (v *queueRun) named(ids []store.JobID) error {
	if v.dry {
		for _, id := range ids {
			var j store.Job
			err := v.client.Do(v.ctx, http.MethodGet, webmanager.Path("queue", strconv.FormatUint(uint64(id), 10)), nil, &j)
			var refused *webmanager.Error
			switch {
			case errors.As(err, &refused) && refused.Code == webmanager.CodeNotFound:
				v.result.Gone++
			case err != nil:
				return err
			default:
				v.example(j)
			}
		}
		return v.told()
	}
	for part := range slices.Chunk(ids, webmanager.MaxActionIDs) {
		if err := v.act(part); err != nil {
			return err
		}
	}
	return v.told()
}

// example notes a delivery that it would be done to.
func (v *queueRun) example(j store.Job) {
	if v.result.Selected++; len(v.result.Examples) < maxExamples {
		v.result.Examples = append(v.result.Examples, j)
	}
}

// selection acts on all that match, page by page: no more than a page is in memory. Where it is counted first, what came into the queue after that
// is left alone.
func (v *queueRun) selection(query url.Values) error {
	if v.dry || v.asks && !v.yes {
		last := store.JobID(0)
		err := eachJobPage(v.ctx, v.client, query, 0, func(jobs []store.Job) error {
			for _, j := range jobs {
				v.example(j)
				last = j.ID
			}
			return nil
		})
		if err != nil {
			return err
		}
		if v.dry || v.result.Selected == 0 {
			return v.told()
		}
		if err := v.confirm(); err != nil {
			return err
		}
		v.result = queueSummary{}
		query.Del("after")
		query.Set("up_to", strconv.FormatUint(uint64(last), 10))
	}
	err := eachJobPage(v.ctx, v.client, query, 0, func(jobs []store.Job) error {
		ids := make([]store.JobID, len(jobs))
		for i, j := range jobs {
			ids[i] = j.ID
		}
		return v.act(ids)
	})
	if err != nil {
		return err
	}
	return v.told()
}

// confirm asks for the number of the deliveries.
func (v *queueRun) confirm() error {
	n := v.result.Selected
	if v.env.ReadLine == nil {
		return usagef("selected: %s, and no terminal to confirm it: use --yes", deliveries(n))
	}
	typed, err := v.env.ReadLine(fmt.Sprintf("Selected: %s. Type the number to confirm: ", deliveries(n)))
	if err != nil {
		return err
	}
	if typed != strconv.Itoa(n) {
		return errors.New("not confirmed; nothing was done")
	}
	return nil
}

// act acts on at most webmanager.MaxActionIDs deliveries, and says what became of those that were left.
func (v *queueRun) act(ids []store.JobID) error {
	if len(ids) == 0 {
		return nil
	}
	var result webmanager.QueueResult
	request := v.body
	request.IDs = ids
	if err := v.client.Do(v.ctx, http.MethodPost, webmanager.Path("queue", v.verb), request, &result); err != nil {
		v.env.say("%s %s", deliveries(v.result.Done), v.done)
		return err
	}
	v.result.Selected += len(ids)
	v.result.Done += len(result.Done)
	v.result.Gone += len(result.Gone)
	v.result.Refused += len(result.Refused)
	for _, id := range result.Gone {
		v.env.say("delivery %d is not in the queue (any more); latchkey trail tells what became of its message", id)
	}
	for _, r := range result.Refused {
		v.env.say("delivery %d: %s", r.ID, printable(r.Why))
	}
	return nil
}

// told says what was done, or would be.
func (v *queueRun) told() error {
	v.result.DryRun = v.dry
	switch {
	case v.asJSON:
		if err := v.env.printJSON(v.result); err != nil {
			return err
		}
	case v.dry:
		v.env.say("%s: it would be done to %s%s", v.verb, deliveries(v.result.Selected), someOf(v.result))
		if len(v.result.Examples) > 0 {
			if err := v.env.newJobTable().print(jobRows(v.result.Examples)); err != nil {
				return err
			}
		}
	default:
		v.env.say("%s %s", deliveries(v.result.Done), v.done)
	}
	if v.result.Gone+v.result.Refused > 0 && !v.selected {
		return errors.New("not all that were named could be acted on")
	}
	return nil
}

// someOf says that there are more than the examples.
func someOf(s queueSummary) string {
	switch {
	case s.Selected > len(s.Examples):
		return fmt.Sprintf("; the first %d of them:", len(s.Examples))
	case s.Selected > 0:
		return ":"
	}
	return ""
}

func deliveries(n int) string {
	if n == 1 {
		return "1 delivery"
	}
	return strconv.Itoa(n) + " deliveries"
}
