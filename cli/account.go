package cli

import (
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

func newAccount(env *Env) *cobra.Command {
	cmd := group("account", "Mailboxes: add, list, show, change, suspend, remove; their clients; what all of them hold",
		newAccountAdd(env), newAccountList(env), newAccountShow(env), newAccountUsage(env), newAccountChange(env), newAccountPassword(env),
		newSuspend(env, "suspend NAME", "Close POP3 and SMTP to a mailbox; its incoming mail waits at the senders", true, "suspended"),
		newSuspend(env, "resume NAME", "Open a suspended mailbox again", false, "open again"),
		newAccountRemove(env), newAccountClients(env), newAccountPurge(env),
		newAccountVacation(env), newAccountRetention(env),
	)
	cmd.Aliases = []string{"mailbox"}
	return addDataFlags(cmd)
}

func newAccountAdd(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "add NAME", Short: "Add a mailbox; NAME is a local part or an address of the domain", Args: wants(1, 1)}
	display := cmd.Flags().String("display-name", "", "name for people")
	owner := cmd.Flags().Bool("owner", false, "it may manage the domain in the Webmanager")
	password := addPasswordFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		text, made, err := password.read(env)
		if err != nil {
			return err
		}
		var account webmanager.Account
		body := webmanager.NewAccount{Name: args[0], Password: text, DisplayName: *display, Owner: *owner}
		if err := env.do(cmd, http.MethodPost, webmanager.Path("accounts"), body, &account); err != nil {
			return err
		}
		env.say("added %s", printable(account.Address.String()))
		return env.showMade(text, made)
	}
	return cmd
}

// showMade prints a password that was made here: the only time that it is seen.
func (env *Env) showMade(password string, made bool) error {
	if !made {
		return nil
	}
	_, err := fmt.Fprintln(env.Stdout, password)
	return err
}

func newAccountList(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the mailboxes", Args: wants(0, 0)}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		accounts, err := env.accounts(cmd)
		if err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(accounts)
		}
		rows := make([][]string, len(accounts))
		for i, a := range accounts {
			rows[i] = []string{a.Address.String(), state(a), strconv.FormatInt(a.Usage.Messages, 10), strconv.FormatInt(a.Usage.Octets, 10), timestamp(a.Created), a.DisplayName}
		}
		return env.printTable([]string{"ADDRESS", "STATE", "MESSAGES", "OCTETS", "CREATED", "NAME"}, rows)
	}
	return cmd
}

func (env *Env) accounts(cmd *cobra.Command) ([]webmanager.Account, error) {
	client, done, err := env.connect(cmd)
	if err != nil {
		return nil, err
	}
	defer done()
	all := []webmanager.Account{}
	for after := ""; ; {
		var page webmanager.AccountPage
		query := url.Values{"limit": {strconv.Itoa(webmanager.MaxListLimit)}, "after": {after}}
		if err := client.Do(cmd.Context(), http.MethodGet, webmanager.Path("accounts")+"?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Accounts...)
		if after = page.Next; after == "" {
			return all, nil
		}
	}
}

func state(a webmanager.Account) string {
	text := "open"
	if a.Suspended {
		text = "suspended"
	}
	if !a.ClearSince.IsZero() {
		text += ", password seen in the clear"
	}
	return text
}

// seenInClear is when a password was seen to cross the network in the clear.
func seenInClear(since time.Time) string {
	if since.IsZero() {
		return "-"
	}
	return timestamp(since)
}

// standing is the state, and whether it manages the domain.
func standing(a webmanager.Account) string {
	if a.Owner {
		return state(a) + ", manages the domain"
	}
	return state(a)
}

func newAccountShow(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "show NAME", Short: "Show one mailbox", Args: wants(1, 1), ValidArgsFunction: env.completeAccounts}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var a webmanager.Account
		if err := env.get(cmd, webmanager.Path("accounts", args[0]), &a); err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(a)
		}
		sendAs := ""
		for i, address := range a.SendAs {
			if i > 0 {
				sendAs += ","
			}
			sendAs += address.String()
		}
		return env.printTable([]string{"address", a.Address.String()}, [][]string{
			{"state", standing(a)},
			{"display-name", orDash(a.DisplayName)},
			{"messages", strconv.FormatInt(a.Usage.Messages, 10) + of(a.Quota.Messages)},
			{"octets", strconv.FormatInt(a.Usage.Octets, 10) + of(a.Quota.Octets)},
			{"send-as", orDash(sendAs)},
			{"forward", orDash(forward(a.Forward))},
			{"vacation", answers(a.Vacation, a.Vacation.On)},
			{"expire-days", ownExpiry(a.ExpireDays)},
			{"old-client-login", oldClientLogin(a)},
			{"pop3", pop3Options(a.POP3)},
			{"seen-in-clear", seenInClear(a.ClearSince)},
			{"created", timestamp(a.Created)},
		})
	}
	return cmd
}

// forward says where mail is sent on to.
func forward(f store.Forward) string {
	texts := make([]string, len(f.To))
	for i, address := range f.To {
		texts[i] = address.String()
	}
	text := strings.Join(texts, ",")
	if f.Keep {
		text += " (a copy stays)"
	}
	return text
}

func newAccountUsage(env *Env) *cobra.Command {
	cmd := &cobra.Command{Use: "usage", Short: "Show what all mailboxes together hold, and the quota of the domain", Args: wants(0, 0)}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var u webmanager.DomainUsage
		if err := env.get(cmd, webmanager.Path("usage"), &u); err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(u)
		}
		return env.printTable([]string{"domain", u.Domain}, [][]string{
			{"messages", strconv.FormatInt(u.Usage.Messages, 10) + of(u.Quota.Messages)},
			{"octets", strconv.FormatInt(u.Usage.Octets, 10) + of(u.Quota.Octets)},
		})
	}
	return cmd
}

func of(bound int64) string {
	if bound == 0 {
		return ""
	}
	return " of " + strconv.FormatInt(bound, 10)
}

func newAccountChange(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "change NAME", Short: "Rename a mailbox, or change its display name, quota, further sender addresses or options for old clients",
		Args: wants(1, 1), ValidArgsFunction: env.completeAccounts,
	}
	rename := cmd.Flags().String("rename", "", "new name; mail, password and aliases stay")
	display := cmd.Flags().String("display-name", "", "name for people")
	sendAs := cmd.Flags().StringSlice("send-as", nil, "addresses that it may send as besides its own, instead of those it has")
	forwards := cmd.Flags().StringSlice("forward", nil, "addresses of other domains that its mail is sent on to, instead of those it has")
	none := cmd.Flags().Bool("no-forward", false, "send its mail on to nobody any more")
	keep := cmd.Flags().Bool("forward-keep", false, "leave a copy in the mailbox of what is sent on")
	octets := cmd.Flags().Int64("quota-octets", 0, "most octets that it holds; 0: no bound")
	messages := cmd.Flags().Int64("quota-messages", 0, "most messages that it holds; 0: no bound")
	owner := cmd.Flags().Bool("owner", false, "it may manage the domain in the Webmanager (=false: no more)")
	options := addPOP3Flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var body webmanager.AccountChange
		given := cmd.Flags().Changed
		if given("rename") {
			body.Name = rename
		}
		if given("display-name") {
			body.DisplayName = display
		}
		if given("owner") {
			body.Owner = owner
		}
		if given("send-as") {
			body.SendAs = sendAs
		}
		switch {
		case *none && (given("forward") || *keep):
			return usagef("--no-forward goes without --forward and --forward-keep")
		case *none:
			body.Forward = &webmanager.ForwardChange{To: []string{}}
		case given("forward"):
			body.Forward = &webmanager.ForwardChange{To: *forwards, Keep: *keep}
		case given("forward-keep"):
			return usagef("--forward-keep goes with --forward")
		}
		options(&body)
		client, done, err := env.connect(cmd)
		if err != nil {
			return err
		}
		defer done()
		var account webmanager.Account
		if given("quota-octets") || given("quota-messages") {
			if err := client.Do(cmd.Context(), http.MethodGet, webmanager.Path("accounts", args[0]), nil, &account); err != nil {
				return err
			}
			body.Quota, body.Version = &store.Quota{Octets: account.Quota.Octets, Messages: account.Quota.Messages}, account.Version
			if given("quota-octets") {
				body.Quota.Octets = *octets
			}
			if given("quota-messages") {
				body.Quota.Messages = *messages
			}
		}
		if body == (webmanager.AccountChange{}) {
			return usagef("nothing to change; see %s --help", cmd.CommandPath())
		}
		if err := client.Do(cmd.Context(), http.MethodPatch, webmanager.Path("accounts", args[0]), body, &account); err != nil {
			return err
		}
		env.say("changed %s", printable(account.Address.String()))
		return nil
	}
	return cmd
}

func newAccountPassword(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "set-password NAME", Short: "Set the password of a mailbox, for POP3 and SMTP at once; its devices keep theirs",
		Args: wants(1, 1), ValidArgsFunction: env.completeAccounts,
	}
	password := addPasswordFlags(cmd)
	devices := cmd.Flags().String("devices", "keep", "device credentials of the mailbox: keep, or too, which revokes them")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *devices != "keep" && *devices != "too" {
			return usagef("--devices is keep or too, not %q", *devices)
		}
		text, made, err := password.read(env)
		if err != nil {
			return err
		}
		body := webmanager.Password{Password: text, Devices: *devices == "too"}
		if err := env.do(cmd, http.MethodPut, webmanager.Path("accounts", args[0], "password"), body, nil); err != nil {
			return err
		}
		env.say("password of %s set", printable(args[0]))
		return env.showMade(text, made)
	}
	return cmd
}

func newSuspend(env *Env, use, short string, suspended bool, done string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: wants(1, 1), ValidArgsFunction: env.completeAccounts,
		RunE: func(cmd *cobra.Command, args []string) error {
			var account webmanager.Account
			body := webmanager.AccountChange{Suspended: &suspended}
			if err := env.do(cmd, http.MethodPatch, webmanager.Path("accounts", args[0]), body, &account); err != nil {
				return err
			}
			env.say("%s is %s", printable(account.Address.String()), done)
			return nil
		},
	}
}

func newAccountRemove(env *Env) *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Remove a mailbox and all mail in it, for good", Args: wants(1, 1), ValidArgsFunction: env.completeAccounts,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := env.do(cmd, http.MethodDelete, webmanager.Path("accounts", args[0]), nil, nil); err != nil {
				return err
			}
			env.say("removed %s and its mail", printable(args[0]))
			return nil
		},
	}
}

// completeAccounts offers the names of mailboxes to the shell; whatever goes wrong, it offers none.
func (env *Env) completeAccounts(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	accounts, err := env.accounts(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]string, len(accounts))
	for i, a := range accounts {
		names[i] = a.Name
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
