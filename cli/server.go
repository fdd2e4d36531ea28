package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"latchkey/config"
	"latchkey/internal/mailaddr"
	"latchkey/store"
	"latchkey/webmanager"
)

// Bounds of the demo's port base: every port is above 1024 and at most 65535.
const (
	MinPortBase     = 1000
	MaxPortBase     = 64_000
	DefaultPortBase = 2000
)

// ErrComplete is what [InitDomain] returns when there is nothing left to make.
var ErrComplete = errors.New("the domain is there already")

func newServe(env *Env) *cobra.Command {
	return addServerFlags(&cobra.Command{
		Use: "serve", Short: "Run the server of one domain until SIGINT or SIGTERM", Args: wants(0, 0),
		Long: "Run the server of one domain until SIGINT or SIGTERM; a second signal ends it at once.\n" +
			"A flag wins over the variable in brackets, the variable over the file, the file over the default.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.LoadServer(sources(env, cmd))
			if err != nil {
				return err
			}
			return env.Serve(cmd.Context(), c)
		},
	})
}

func newDemo(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "demo", Short: "Run a demonstration domain on loopback, with two mailboxes", Args: wants(0, 0),
		Long: "Run a demonstration domain on 127.0.0.1 with the mailboxes alice and bob until SIGINT or SIGTERM. Ports are the\n" +
			"port base plus 25, 110, 465, 587 and 995. What scripts need is in demo.env in its directory. A second start goes\n" +
			"on with the same data and passwords.",
	}
	dir := cmd.Flags().String("data", "./demo-data", "directory of the data, the certificate and demo.env")
	base := cmd.Flags().Int("port-base", DefaultPortBase, fmt.Sprintf("%d to %d", MinPortBase, MaxPortBase))
	domain := cmd.Flags().String("domain", "", "domain to serve (default demo.localhost)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *base < MinPortBase || *base > MaxPortBase {
			return usagef("--port-base is %d to %d", MinPortBase, MaxPortBase)
		}
		if *dir == "" {
			return usagef("--data is empty")
		}
		d := Demo{Dir: *dir, PortBase: *base}
		if *domain != "" {
			var err error
			if d.Domain, err = mailDomain(*domain); err != nil {
				return err
			}
		}
		return env.Demo(cmd.Context(), d)
	}
	return cmd
}

func newInit(env *Env) *cobra.Command {
	cmd := addDataFlags(&cobra.Command{
		Use: "init", Short: "Make the data directory of a domain, with a mailbox for postmaster and abuse", Args: wants(0, 0),
		Long: "Make the data directory of a domain, with a mailbox that gets the mail for postmaster and abuse: every mail domain\n" +
			"must have both. Its password is made and printed, unless one is given. After a failure it may be run again.",
	})
	domain := cmd.Flags().String("domain", "", "domain to serve; must be set, and never changes")
	postmaster := cmd.Flags().String("postmaster", "postmaster", "mailbox that gets the mail for postmaster and abuse")
	stdin := cmd.Flags().Bool("password-stdin", false, "read its password from standard input, one line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *domain == "" {
			return usagef("--domain is missing")
		}
		name, err := mailDomain(*domain)
		if err != nil {
			return err
		}
		c, err := config.Load(sources(env, cmd))
		if err != nil {
			return err
		}
		made := !*stdin
		password, _, err := passwordFlags{stdin: stdin, generate: &made}.read(env)
		if err != nil {
			return err
		}
		if err := InitDomain(cmd.Context(), env, c.Data, name, *postmaster, password); err != nil {
			return err
		}
		env.say("%s serves %s; the mailbox %s gets the mail for postmaster and abuse", c.Data, name, printable(*postmaster))
		return env.showMade(password, made)
	}
	return cmd
}

func mailDomain(text string) (string, error) {
	domain, err := mailaddr.CanonicalDomain(text)
	if err != nil || strings.HasPrefix(domain, "[") {
		return "", usagef("%q is not a domain", text)
	}
	return domain, nil
}

// InitDomain makes the data directory of a domain, the mailbox postmaster with the password, and aliases so that every role name leads
// to it. It completes what an earlier call began; a directory that is complete is an error.
func InitDomain(ctx context.Context, env *Env, dir, domain, postmaster, password string) error {
	existed := false
	if err := env.Init(ctx, dir, domain); errors.Is(err, store.ErrExists) {
		existed = true
	} else if err != nil {
		return fmt.Errorf("%s cannot be made: %w", dir, err)
	}
	client, done, err := env.connectTo(ctx, config.Config{Data: dir})
	if err != nil {
		return err
	}
	defer done()
	missing, err := missingRoles(ctx, client, domain)
	if err != nil {
		return err
	}
	if existed && len(missing) == 0 {
		return fmt.Errorf("%w: %s in %s", ErrComplete, domain, dir)
	}
	body := webmanager.NewAccount{Name: postmaster, Password: password, Owner: true}
	var account webmanager.Account
	err = client.Do(ctx, http.MethodPost, webmanager.Path("accounts"), body, &account)
	var refusal *webmanager.Error
	if errors.As(err, &refusal) && refusal.Code == webmanager.CodeExists {
		// Its password was never shown: the call that added it did not come to its end.
		err = client.Do(ctx, http.MethodPut, webmanager.Path("accounts", postmaster, "password"), webmanager.Password{Password: password}, nil)
		if err == nil {
			err = client.Do(ctx, http.MethodGet, webmanager.Path("accounts", postmaster), nil, &account)
		}
	}
	if err != nil {
		return err
	}
	for _, role := range missing {
		if role == account.Name {
			continue
		}
		targets := webmanager.AliasTargets{Targets: []string{account.Name}}
		if err := client.Do(ctx, http.MethodPut, webmanager.Path("aliases", role), targets, nil); err != nil {
			return err
		}
	}
	return nil
}

// missingRoles are the role names that lead nowhere yet. A directory that holds another domain is an error.
func missingRoles(ctx context.Context, client *webmanager.Client, domain string) ([]string, error) {
	var version webmanager.Version
	if err := client.Do(ctx, http.MethodGet, webmanager.Path("version"), nil, &version); err != nil {
		return nil, err
	}
	if version.Domain != domain {
		return nil, fmt.Errorf("the data directory holds the domain %s, not %s", version.Domain, domain)
	}
	var result webmanager.CheckResult
	if err := client.Do(ctx, http.MethodGet, webmanager.Path("check"), nil, &result); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(webmanager.RoleNames(), func(role string) bool {
		return !slices.ContainsFunc(result.Problems, func(p store.Problem) bool {
			return p.Kind == webmanager.ProblemNoMailbox && p.Object == role+"@"+domain
		})
	}), nil
}
