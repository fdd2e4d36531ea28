package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey/config"
	"latchkey/store"
	"latchkey/webmanager"
)

func newCheck(env *Env) *cobra.Command {
	cmd := addDataFlags(&cobra.Command{
		Use: "check", Short: "Read everything that the domain keeps, and explain what does not hold together",
		Long: "Read everything that the domain keeps, and explain what does not hold together: what it is, what is lost by it, and what to\n" +
			"do. It may run beside the server. The exit status is 1 when something was found.\n\n" +
			"--repair mends what can be mended, while the server is stopped. Whatever it removes is put aside in the directory quarantine\n" +
			"first, owners of lost mail get a message that says what is lost, and the exit status is 1 if a problem is left.",
		Args: wants(0, 0),
	})
	asJSON := addJSONFlag(cmd)
	repair := cmd.Flags().Bool("repair", false, "mend what can be mended; the server must be stopped")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := config.Load(sources(env, cmd))
		if err != nil {
			return err
		}
		switch client, err := webmanager.DialControl(cmd.Context(), c.Data); {
		case err == nil:
			client.Close()
			if *repair {
				return fmt.Errorf("a server runs on %s: stop it first, a repair needs the data for itself", c.Data)
			}
		case !errors.Is(err, webmanager.ErrNotServed):
			return err
		case *repair:
			return env.repair(cmd, c.Data, *asJSON)
		default:
			// What cannot be opened can be explained still.
			problems, err := env.Diagnose(cmd.Context(), c.Data)
			if err != nil {
				return OpenError(c.Data, err)
			}
			if len(problems) > 0 {
				return env.showProblems(problems, *asJSON)
			}
		}
		var result webmanager.CheckResult
		if err := env.get(cmd, webmanager.Path("check"), &result); err != nil {
			return err
		}
		if err := env.showProblems(result.Problems, *asJSON); err != nil || *asJSON {
			return err
		}
		env.say("no problems")
		return nil
	}
	return cmd
}

// showProblems explains what was found, kind by kind; anything is errProblems.
func (env *Env) showProblems(problems []store.Problem, asJSON bool) error {
	if asJSON {
		if err := env.printJSON(append([]store.Problem{}, problems...)); err != nil {
			return err
		}
	}
	if len(problems) == 0 {
		return nil
	}
	if asJSON {
		return errProblems
	}
	var kinds []string
	byKind := make(map[string][]store.Problem)
	for _, p := range problems {
		if byKind[p.Kind] == nil {
			kinds = append(kinds, p.Kind)
		}
		byKind[p.Kind] = append(byKind[p.Kind], p)
	}
	for i, kind := range kinds {
		if i > 0 {
			if _, err := fmt.Fprintln(env.Stdout); err != nil {
				return err
			}
		}
		if err := env.showKind(kind, byKind[kind]); err != nil {
			return err
		}
	}
	return errProblems
}

func (env *Env) showKind(kind string, problems []store.Problem) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d\n", printable(kind), len(problems))
	e, ok := store.Explain(kind)
	if kind == webmanager.ProblemNoMailbox {
		e, ok = store.Explanation{
			What: "Mail for a name that every domain must have leads nowhere.", Lost: "Complaints and questions about the domain's mail.",
			Cure: "latchkey alias add NAME MAILBOX.",
		}, true
	}
	if ok {
		fmt.Fprintf(&b, "  what it is:   %s\n  what is lost: %s\n  what to do:   %s\n", e.What, e.Lost, e.Cure)
	}
	for _, p := range problems {
		fmt.Fprintf(&b, "  - %s: %s\n", printable(p.Object), printable(oneLine(p.Detail)))
	}
	_, err := env.Stdout.Write([]byte(b.String()))
	return err
}

// repair mends a domain that nobody serves.
func (env *Env) repair(cmd *cobra.Command, dir string, asJSON bool) error {
	got, err := env.Repair(cmd.Context(), dir)
	if err != nil && len(got.Mended)+len(got.Lost)+len(got.Left) == 0 {
		return OpenError(dir, err)
	}
	show := env.showRepaired
	if asJSON {
		show = func(got *store.Repaired) error { return env.printJSON(got) }
	}
	if err := errors.Join(err, show(&got)); err != nil {
		return err
	}
	if got.Quarantine != "" {
		env.say("what was removed, and a report, is in %s", got.Quarantine)
	}
	if len(got.Left) > 0 {
		if asJSON {
			return errProblems
		}
		return env.showProblems(got.Left, false)
	}
	env.say("%s, %s; no problems are left", counted(len(got.Mended), "problem was mended", "problems were mended"), counted(len(got.Lost), "copy or delivery is lost", "copies and deliveries are lost"))
	return nil
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func (env *Env) showRepaired(got *store.Repaired) error {
	if len(got.Mended) > 0 {
		rows := make([][]string, len(got.Mended))
		for i, m := range got.Mended {
			rows[i] = []string{m.Kind, m.Object, oneLine(m.Detail), m.Action}
		}
		if err := env.printTable([]string{"PROBLEM", "WHERE", "DETAIL", "DONE"}, rows); err != nil {
			return err
		}
	}
	if len(got.Lost) == 0 {
		return nil
	}
	rows := make([][]string, len(got.Lost))
	for i, l := range got.Lost {
		whose := "delivery"
		if l.Account != 0 {
			whose = fmt.Sprintf("mailbox %d", l.Account)
		}
		rows[i] = []string{
			l.Message.String(), whose, orDash(l.UID), "<" + l.Sender.String() + ">", "<" + l.Recipient.String() + ">", receivedAt(l.Received),
			oneLine(l.Why), orDash(l.Kept),
		}
	}
	return env.printTable([]string{"LOST", "OF", "UNIQUE-ID", "FROM", "TO", "RECEIVED", "WHY", "KEPT"}, rows)
}

func receivedAt(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return timestamp(t)
}
