package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey/store"
	"latchkey/webmanager"
)

func newTrail(env *Env) *cobra.Command {
	cmd := addDataFlags(&cobra.Command{
		Use: "trail [ADDRESS-or-ID]", Short: "What became of messages: from the client that sent them to the host that took them, or the mailbox's owner",
		Long: "What became of the messages from or to an address (or mailbox name), of the message with an id that SMTP gave\n" +
			"(\"queued as\"), or of that with a Message-ID. Newest first; without anything that narrows it, of the newest of all.\n" +
			"A mailbox whose name is that of a command below is named with its domain.",
		Args: wants(0, 1),
	})
	asJSON := addJSONFlag(cmd)
	limit := cmd.Flags().Int("limit", webmanager.DefaultTrailLimit, fmt.Sprintf("most messages to show, 1 to %d", webmanager.MaxTrailLimit))
	texts := map[string]*string{}
	for _, f := range []struct{ name, help string }{
		{"from", "only those from this address or mailbox"},
		{"to", "only those to this address or mailbox"},
		{"subject", "only those whose subject has these words, of three letters or more, or numbers"},
		{"mailbox", "only those that this mailbox sent or got"},
		{"since", "only those accepted since then: 2026-04-01, 2026-04-01T12:00:00Z, or 36h or 7d for so long ago"},
		{"until", "only those accepted before then, in the same forms"},
		{"before", "only those with a lower message id: the page after another"},
	} {
		texts[f.name] = cmd.Flags().String(f.name, "", f.help)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		query := url.Values{"limit": {strconv.Itoa(*limit)}}
		if len(args) > 0 {
			query.Set("for", args[0])
		}
		for name, text := range texts {
			value := *text
			if name == "since" || name == "until" {
				var err error
				if value, err = moment(value, time.Now()); err != nil {
					return usagef("--%s: %w", name, err)
				}
			}
			if value != "" {
				query.Set(name, value)
			}
		}
		result, err := env.trail(cmd, query, *limit)
		if err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(result.Messages)
		}
		if len(result.Messages) == 0 {
			env.say("no trace of %s; the trail is kept for %d days", printable(cmp.Or(strings.Join(args, ""), "such a message")), int(store.TrailAge.Hours()/24))
		}
		for i, m := range result.Messages {
			if i > 0 {
				fmt.Fprintln(env.Stdout)
			}
			if err := env.printTrail(m); err != nil {
				return err
			}
		}
		if result.Next != "" {
			env.say("there may be more: --before %s", result.Next)
		}
		return nil
	}
	cmd.AddCommand(newTrailProof(env), newTrailVerify(env))
	return cmd
}

// moment reads a moment as people write one, and returns it as the API takes it.
func moment(text string, now time.Time) (string, error) {
	if text == "" {
		return "", nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.Format(time.RFC3339), nil
	}
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t.Format(time.RFC3339), nil
	}
	ago, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		ago = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || ago < 0 {
		return "", fmt.Errorf("%q is no moment: 2026-04-01, 2026-04-01T12:00:00Z, 36h or 7d", text)
	}
	return now.Add(-ago).UTC().Format(time.RFC3339), nil
}

// trail follows a search until it has limit messages or all: a page may have few.
func (env *Env) trail(cmd *cobra.Command, query url.Values, limit int) (all webmanager.TrailResult, err error) {
	client, done, err := env.connect(cmd)
	if err != nil {
		return all, err
	}
	defer done()
	all.Messages = []webmanager.TrailMessage{}
	for {
		var page webmanager.TrailResult
		if err := client.Do(cmd.Context(), http.MethodGet, webmanager.Path("trail")+"?"+query.Encode(), nil, &page); err != nil {
			return all, err
		}
		for _, gap := range page.Unreadable {
			env.say("a part of the trail cannot be read, %s: what they say is missing here; stop the server and run latchkey check --repair", gap)
		}
		all.Messages = append(all.Messages, page.Messages...)
		all.Next = page.Next
		left := limit - len(all.Messages)
		if page.Next == "" || left <= 0 {
			return all, nil
		}
		query.Set("before", page.Next)
		query.Set("limit", strconv.Itoa(left))
	}
}

func (env *Env) printTrail(m webmanager.TrailMessage) error {
	title := "message " + m.ID.String()
	lines := make([]string, len(m.Events)+1)
	for i := range m.Events {
		e := &m.Events[i]
		if e.Kind == store.TrailAccepted {
			title += fmt.Sprintf(", %d octets", e.Size)
			if e.HeaderID != "" {
				title += ", " + e.HeaderID
			}
		}
		lines[i+1] = "  " + timestamp(e.Time) + "  " + printable(sentence(e))
	}
	lines[0] = printable(title)
	_, err := fmt.Fprintln(env.Stdout, strings.Join(lines, "\n"))
	return err
}

// sentence is one step in plain words.
func sentence(e *webmanager.TrailStep) string {
	to := e.Recipient.Path()
	with := func(words string) string {
		if e.Text != "" {
			words += ": " + e.Text
		}
		return words
	}
	switch e.Kind {
	case store.TrailAccepted:
		return "accepted from " + e.Sender.Path() + by(e) + at(e.Origin)
	case store.TrailStored:
		if e.Mailbox != "" {
			return "for " + to + ": put into the mailbox " + e.Mailbox
		}
		return "for " + to + ": put into a mailbox"
	case store.TrailQueued:
		return "for " + to + ": queued"
	case store.TrailLeftOut:
		return with("for " + to + ": left out")
	case store.TrailDelivered:
		return with("for " + to + ": delivered")
	case store.TrailDeferred:
		return with("for " + to + ": not yet, it is tried again")
	case store.TrailFailed:
		return with("for " + to + ": failed, given up")
	case store.TrailHeld:
		return with("for " + to + ": put on hold")
	case store.TrailReleased:
		return "for " + to + ": to be tried now, by hand"
	case store.TrailRemoved:
		return "for " + to + ": taken out of the queue by hand, nobody was told"
	case store.TrailGivenUp:
		return with("for " + to + ": to be given up, by hand")
	case store.TrailFetched:
		return with("from the mailbox of " + to + ": fetched" + by(e) + at(e.Origin))
	case store.TrailDeleted:
		if e.Origin.Door == "local" {
			return "from the mailbox of " + to + ": deleted by this server, for its age"
		}
		return "from the mailbox of " + to + ": deleted" + by(e) + at(e.Origin)
	case store.TrailReported:
		return "for " + to + ": the sender was told, in message " + e.Text
	}
	return with(string(e.Kind) + " " + to)
}

// by says who a client was.
func by(e *webmanager.TrailStep) string {
	var who string
	if e.Mailbox != "" && e.Kind == store.TrailAccepted {
		who = ", by the mailbox " + e.Mailbox
	}
	switch {
	case e.Device != "":
		who += fmt.Sprintf(", with the password of the device %q", e.Device)
	case e.Origin.Device != 0:
		who += fmt.Sprintf(", with the password of the device %s, which is gone", e.Origin.Device)
	}
	return who
}

// at says where a client was.
func at(o store.Origin) string {
	var where string
	if o.Remote.IsValid() {
		where = ", from " + o.Remote.String()
	}
	switch {
	case o.Door == "local":
		return ", made by this server"
	case o.Door == "":
		return where
	case o.TLS == "":
		return where + " by " + o.Door + " in the clear"
	}
	return where + " by " + o.Door + " with " + o.TLS
}

func newTrailProof(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "proof MESSAGE-ID", Short: "Make a proof of delivery to be shown to others: who, to whom, when, and the words of the host that took it",
		Long: "Make a proof that a message was delivered to a recipient: a line of text, signed by this server, that has the id of the message,\n" +
			"sender, recipient, times, the host that took it and its words, and nothing of the content. Whoever has it can read it, and can\n" +
			"check it with latchkey trail verify, here or, with --key, anywhere.",
		Args: wants(1, 1),
	}
	asJSON := addJSONFlag(cmd)
	body := webmanager.ProofRequest{}
	cmd.Flags().StringVar(&body.Recipient, "recipient", "", "the recipient, where the message has several")
	cmd.Flags().IntVar(&body.Days, "days", webmanager.DefaultProofDays, fmt.Sprintf("how long it is valid, 1 to %d", webmanager.MaxProofDays))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if body.Days < 1 || body.Days > webmanager.MaxProofDays {
			return usagef("--days is 1 to %d", webmanager.MaxProofDays)
		}
		body.Message = args[0]
		client, done, err := env.connect(cmd)
		if err != nil {
			return err
		}
		defer done()
		var made webmanager.ProofToken
		if err := client.Do(cmd.Context(), http.MethodPost, webmanager.Path("proofs"), body, &made); err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(made)
		}
		env.say("%s", printableLines(made.Proof.Text()))
		env.say("anybody can check it: latchkey trail verify --key %s TOKEN", made.Key)
		_, err = fmt.Fprintln(env.Stdout, made.Token)
		return err
	}
	return cmd
}

func newTrailVerify(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify TOKEN", Short: "Check a proof of delivery, and say what it proves",
		Long: "Check a proof of delivery, and say what it proves. Without --key it is one of this server; with the key that its maker tells, no\n" +
			"server is needed. The exit status is 1 if it proves nothing.",
		Args: wants(1, 1),
	}
	asJSON := addJSONFlag(cmd)
	key := cmd.Flags().String("key", "", "the public key of the server that made it, in hex")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := env.checkProof(cmd.Context(), cmd, args[0], *key)
		if err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(p)
		}
		_, err = fmt.Fprint(env.Stdout, printableLines(p.Text()))
		return err
	}
	return cmd
}

func (env *Env) checkProof(ctx context.Context, cmd *cobra.Command, token, key string) (p webmanager.Proof, err error) {
	if key != "" {
		public, err := webmanager.ParseProofKey(key)
		if err != nil {
			return p, usagef("--key: %w", err)
		}
		p, err = webmanager.OpenProof(token, public, time.Now())
		if err != nil {
			return p, fmt.Errorf("the proof does not count: %w", err)
		}
		return p, nil
	}
	client, done, err := env.connect(cmd)
	if err != nil {
		return p, err
	}
	defer done()
	return p, client.Do(ctx, http.MethodPost, webmanager.Path("proofs", "check"), webmanager.ProofCheck{Token: token}, &p)
}

// printableLines is printable for a text of several lines.
func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n")
}
