package cli

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/spf13/cobra"

	"latchkey/store"
	"latchkey/webmanager"
)

func newAccountRetention(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "retention NAME", Short: "Show how long mail of a mailbox is kept, or change it", Args: wants(1, 1),
		ValidArgsFunction: env.completeAccounts,
		Long: "Show how long mail of a mailbox is kept, or change it. What removes mail sooner than before shows how many messages would go, and is to be\n" +
			"confirmed with the address of the mailbox.",
	}
	days := cmd.Flags().String("days", "", "days after which a message is removed, fetched or not; never; or domain, for what expire_days says")
	preview := cmd.Flags().Bool("preview", false, "say what the change would do, and change nothing")
	confirm := cmd.Flags().String("confirm", "", "address of the mailbox, to confirm that mail is removed sooner")
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path := webmanager.Path("accounts", args[0])
		if *days == "" {
			if *preview || *confirm != "" {
				return usagef("--preview and --confirm go with --days")
			}
			return env.showRetention(cmd, path+"/retention", *asJSON)
		}
		own, err := expireDays(*days)
		if err != nil {
			return err
		}
		if *preview {
			return env.showRetention(cmd, path+"/retention?days="+strconv.Itoa(own), *asJSON)
		}
		return env.setRetention(cmd, path, webmanager.AccountChange{ExpireDays: &own, Confirm: *confirm})
	}
	return cmd
}

// expireDays reads days as they are typed.
func expireDays(text string) (int, error) {
	switch text {
	case "domain":
		return 0, nil
	case "never":
		return store.ExpireNever, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > store.MaxExpireDays {
		return 0, usagef("--days is 1 to %d, never, or domain, not %q", store.MaxExpireDays, text)
	}
	return n, nil
}

func (env *Env) showRetention(cmd *cobra.Command, path string, asJSON bool) error {
	var r webmanager.Retention
	if err := env.do(cmd, http.MethodGet, path, nil, &r); err != nil {
		return err
	}
	if asJSON {
		return env.printJSON(r)
	}
	whole := map[bool]string{false: "never", true: strconv.Itoa(r.Domain)}[r.Domain > 0]
	if err := env.printTable([]string{"own", ownExpiry(r.Own)}, [][]string{{"domain", whole}}); err != nil {
		return err
	}
	for _, sentence := range r.Consequences {
		if _, err := fmt.Fprintln(env.Stdout, "- "+printable(sentence)); err != nil {
			return err
		}
	}
	return nil
}

// ownExpiry is a mailbox's own number of days as --days takes it.
func ownExpiry(days int) string {
	switch days {
	case 0:
		return "domain"
	case store.ExpireNever:
		return "never"
	}
	return strconv.Itoa(days)
}

// setRetention makes the change; if it is to be confirmed and there is a terminal, it asks there.
func (env *Env) setRetention(cmd *cobra.Command, path string, body webmanager.AccountChange) error {
	var account webmanager.Account
	err := env.do(cmd, http.MethodPatch, path, body, &account)
	var refusal *webmanager.Error
	if errors.As(err, &refusal) && refusal.Code == webmanager.CodeConfirm && body.Confirm == "" {
		if env.ReadLine == nil {
			return fmt.Errorf("%w\non the command line: --confirm ADDRESS", err)
		}
		for _, sentence := range refusal.Consequences {
			env.say("- %s", printable(sentence))
		}
		if body.Confirm, err = env.ReadLine("This removes mail for good. Type the address of the mailbox to confirm it: "); err != nil {
			return err
		}
		if body.Confirm == "" {
			return errors.New("not confirmed; nothing was changed")
		}
		err = env.do(cmd, http.MethodPatch, path, body, &account)
		if errors.As(err, &refusal) && refusal.Code == webmanager.CodeConfirm {
			return errors.New(refusal.Message) // the consequences were shown
		}
	}
	if err != nil {
		return err
	}
	env.say("changed how long mail of %s is kept", printable(account.Address.String()))
	return nil
}
