package cli

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"latchkey/store"
	"latchkey/webmanager"
)

// vacationFlags are what of the vacation answers of a mailbox is to be another way.
type vacationFlags struct {
	on, off, stdin             *bool
	from, until, subject, text *string
}

func newAccountVacation(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "vacation NAME", Short: "Show what a mailbox answers while its owner is away, or change it", Args: wants(1, 1),
		ValidArgsFunction: env.completeAccounts,
		Long: "Show what a mailbox answers while its owner is away, or change it. A sender who wrote to the mailbox in person is answered once in seven\n" +
			"days; mailing lists, robots and other answers are not. What is not named stays as it is. Days are in UTC.",
	}
	f := vacationFlags{
		on: cmd.Flags().Bool("on", false, "answer"), off: cmd.Flags().Bool("off", false, "answer no more; the text is kept"),
		from:    cmd.Flags().String("from", "", "first day, such as 2026-07-01; empty for none"),
		until:   cmd.Flags().String("until", "", "last day; empty for none"),
		subject: cmd.Flags().String("subject", "", "subject of the answers; empty for that of the message"),
		text:    cmd.Flags().String("text", "", "what is answered"), stdin: cmd.Flags().Bool("text-stdin", false, "read it from standard input"),
	}
	preview := cmd.Flags().Bool("preview", false, "show the answer as its reader would see it, and change nothing")
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, done, err := env.connect(cmd)
		if err != nil {
			return err
		}
		defer done()
		var account webmanager.Account
		path := webmanager.Path("accounts", args[0])
		if err := client.Do(cmd.Context(), http.MethodGet, path, nil, &account); err != nil {
			return err
		}
		wanted, changed, err := f.apply(env, cmd, account.Vacation)
		switch {
		case err != nil:
			return err
		case *preview:
			var p webmanager.VacationPreview
			if err := client.Do(cmd.Context(), http.MethodPost, path+"/vacation/preview", wanted, &p); err != nil {
				return err
			}
			return env.printVacationPreview(p, *asJSON)
		case changed:
			body := webmanager.AccountChange{Vacation: &wanted, Version: account.Version}
			if err := client.Do(cmd.Context(), http.MethodPatch, path, body, &account); err != nil {
				return err
			}
			env.say("changed what %s answers", printable(account.Address.String()))
			return nil
		}
		var view webmanager.VacationView
		if err := client.Do(cmd.Context(), http.MethodGet, path+"/vacation", nil, &view); err != nil {
			return err
		}
		return env.printVacation(view, *asJSON)
	}
	return cmd
}

// apply lays the flags over what there is.
func (f vacationFlags) apply(env *Env, cmd *cobra.Command, v webmanager.Vacation) (wanted webmanager.Vacation, changed bool, err error) {
	given := cmd.Flags().Changed
	if *f.on && *f.off || *f.stdin && given("text") {
		return v, false, usagef("--on and --off exclude each other, and so do --text and --text-stdin")
	}
	if *f.on || *f.off {
		v.On, changed = *f.on, true
	}
	for name, field := range map[string]struct{ from, into *string }{
		"from": {f.from, &v.From}, "until": {f.until, &v.Until}, "subject": {f.subject, &v.Subject}, "text": {f.text, &v.Text},
	} {
		if given(name) {
			*field.into, changed = *field.from, true
		}
	}
	if *f.stdin {
		text, err := io.ReadAll(io.LimitReader(env.Stdin, 2*store.MaxVacationText)) // more than fits, so that too long a one is refused
		if err != nil {
			return v, false, fmt.Errorf("standard input: %w", err)
		}
		v.Text, changed = string(text), true
	}
	return v, changed, nil
}

func (env *Env) printVacationPreview(p webmanager.VacationPreview, asJSON bool) error {
	if asJSON {
		return env.printJSON(p)
	}
	now := "no"
	if p.Active {
		now = "yes"
	}
	err := env.printTable([]string{"from", p.From}, [][]string{{"to", p.To}, {"subject", p.Subject}, {"given-today", now}})
	if err != nil {
		return err
	}
	return env.printText(p.Text)
}

// printText prints a text below a table.
func (env *Env) printText(text string) error {
	if text == "" {
		return nil
	}
	for line := range strings.SplitSeq(text, "\n") {
		if _, err := fmt.Fprintln(env.Stdout, strings.TrimRight("  "+printable(line), " ")); err != nil {
			return err
		}
	}
	return nil
}

func (env *Env) printVacation(v webmanager.VacationView, asJSON bool) error {
	if asJSON {
		return env.printJSON(v)
	}
	err := env.printTable([]string{"answers", answers(v.Vacation, v.Active)}, [][]string{
		{"from", orDash(v.Vacation.From)},
		{"until", orDash(v.Vacation.Until)},
		{"subject", orDash(v.Vacation.Subject)},
		{"answered", strconv.Itoa(len(v.Senders)) + " in the last seven days"},
		{"left", fmt.Sprintf("%d of %d a day", v.Left, v.PerDay)},
	})
	if err != nil {
		return err
	}
	return env.printText(v.Vacation.Text)
}

// answers says whether a mailbox answers.
func answers(v webmanager.Vacation, active bool) string {
	switch {
	case active:
		return "on"
	case v.On:
		return "on, but not today"
	}
	return "off"
}
