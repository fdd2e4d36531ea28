package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"latchkey/config"
	"latchkey/internal/archive"
	"latchkey/store"
	"latchkey/webmanager"
)

// The exit statuses.
const (
	ExitDone   = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// ErrLocked is what [Env.Open] returns when another process has the store open.
var ErrLocked = errors.New("cli: the store is open in another process")

// Env is the world of a command.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// LookupEnv is os.LookupEnv.
	LookupEnv func(name string) (string, bool)
	// ReadPassword asks on the terminal without echo; nil when there is no terminal.
	ReadPassword func(prompt string) (string, error)
	// ReadLine asks on the terminal; nil when there is no terminal.
	ReadLine func(prompt string) (string, error)
	// Version and Go are those of the binary.
	Version, Go string

	// Serve runs a server until ctx ends.
	Serve func(ctx context.Context, c config.Config) error
	// Demo runs a demonstration domain until ctx ends.
	Demo func(ctx context.Context, d Demo) error
	// Init makes a data directory for a domain in canonical form; store.ErrExists if it holds one.
	Init func(ctx context.Context, dir, domain string) error
	// Open opens the store of the data directory that a configuration names, with the API over it. ErrLocked, store.ErrNotInitialised.
	Open func(ctx context.Context, c config.Config) (*webmanager.API, io.Closer, error)
	// Restore makes a data directory of a backup; store.ErrExists if it holds something. hold puts the queue on hold.
	Restore func(ctx context.Context, dir string, from archive.Source, hold bool) (Restored, error)
	// Diagnose says what keeps a data directory, which nobody has open, from being opened, if anything does.
	Diagnose func(ctx context.Context, dir string) ([]store.Problem, error)
	// Repair mends a data directory that nobody has open, and tells whoever lost mail in it. What it returns beside an error was done.
	Repair func(ctx context.Context, dir string) (store.Repaired, error)
	// Verify reads a backup and everything in it.
	Verify func(ctx context.Context, dir archive.Dir) (archive.Header, []store.Problem, error)
}

// Demo is what the demo command was asked for.
type Demo struct {
	// Dir is where the data, the certificate and demo.env are.
	Dir string
	// Domain is in canonical form; "" means the one that is there, or demo.localhost.
	Domain string
	// PortBase is added to the well-known ports.
	PortBase int
}

// usageError is the caller's mistake, not a failure.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// errProblems makes check end with ExitFailed after it has listed what it found.
var errProblems = errors.New("problems were found: see the list")

// Run runs one command and returns its exit status.
func Run(ctx context.Context, env Env, args []string) int {
	root := newRoot(&env)
	root.SetArgs(args)
	begun := false
	root.PersistentPreRun = func(*cobra.Command, []string) { begun = true }
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitDone
	}
	for line := range strings.SplitSeq(explain(err), "\n") {
		fmt.Fprintln(env.Stderr, "latchkey: "+line)
	}
	var usage *usageError
	var mistakes config.Mistakes
	if !begun || errors.As(err, &usage) || errors.As(err, &mistakes) {
		return ExitUsage
	}
	return ExitFailed
}

func newRoot(env *Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "latchkey",
		Short: "POP3 and SMTP for one virtual domain: one key opens both doors",
		Long: "Latchkey serves the mail of one virtual domain: POP3 and SMTP over one store, one password for both.\n\n" +
			"Commands that manage a domain speak to the running server, and work just the same when it is stopped.\n" +
			"Exit status: 0 done; 1 failed, refused, or check found something; 2 wrong usage or configuration.",
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(
		newServe(env), newInit(env), newDemo(env),
		newAccount(env), newDevice(env), newPasskey(env), newAlias(env), newSuppression(env), newSettings(env), newGrant(env), newBan(env), newQueue(env), newTrail(env),
		newOverview(env), newReputation(env), newDKIM(env), newDNS(env), newRelayProof(env), newExplain(env),
		newTLSReports(env),
		newBackup(env), newVerify(env), newRestore(env), newCheck(env), newCompact(env),
		newWebLogin(env), newToken(env), newMetrics(env), newAudit(env), newVersion(env),
	)
	return root
}

// group is a command that only has others below it.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("%s has no command %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}

// wants checks the number of arguments, and that each could name something: these others would be lost in a path.
func wants(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		for _, arg := range args {
			if arg == "" || arg == "." || arg == ".." {
				return usagef("%q names nothing; usage: %s", arg, cmd.UseLine())
			}
		}
		if len(args) < least || most >= 0 && len(args) > most {
			return usagef("usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// explain puts an error into words for whoever typed the command, with the cure.
func explain(err error) string {
	var refusal *webmanager.Error
	switch {
	case errors.As(err, &refusal) && len(refusal.Consequences) > 0:
		return explainConsequences(err, refusal)
	case errors.As(err, &refusal):
		return oneLine(refusal.Error())
	case errors.Is(err, fs.ErrPermission):
		return oneLine(err.Error()) + ": run it as the user of the server, or as root"
	case errors.Is(err, context.Canceled):
		return "interrupted"
	}
	var mistakes config.Mistakes
	if errors.As(err, &mistakes) {
		return mistakes.Error()
	}
	return oneLine(err.Error())
}

// explainConsequences gives each consequence a line of its own, and then what was put behind the refusal: the cure.
func explainConsequences(err error, refusal *webmanager.Error) string {
	lines := append([]string{oneLine(refusal.Message)}, refusal.Consequences...)
	for i := range lines[1:] {
		lines[i+1] = "- " + oneLine(printable(lines[i+1]))
	}
	if _, cure, ok := strings.Cut(err.Error(), refusal.Error()+"\n"); ok {
		lines = append(lines, oneLine(cure))
	}
	return strings.Join(lines, "\n")
}

func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }

// connect returns a client for the data directory that the command names, by socket or in-process. The caller calls done.
func (env *Env) connect(cmd *cobra.Command) (client *webmanager.Client, done func(), err error) {
	c, err := config.Load(sources(env, cmd))
	if err != nil {
		return nil, nil, err
	}
	return env.connectTo(cmd.Context(), c)
}

func (env *Env) connectTo(ctx context.Context, c config.Config) (client *webmanager.Client, done func(), err error) {
	dir := c.Data
	client, err = webmanager.DialControl(ctx, dir)
	if err == nil {
		return client, client.Close, nil
	}
	if !errors.Is(err, webmanager.ErrNotServed) {
		return nil, nil, err
	}
	api, closer, err := env.Open(ctx, c)
	if err != nil {
		return nil, nil, OpenError(dir, err)
	}
	done = func() {
		if err := closer.Close(); err != nil {
			fmt.Fprintf(env.Stderr, "latchkey: closing %s: %v\n", dir, err)
		}
	}
	return webmanager.InProcess(api, webmanager.LocalActor(os.Getuid())), done, nil
}

// OpenError puts into words why the store of a data directory cannot be opened, with the cure.
func OpenError(dir string, err error) error {
	switch {
	case errors.Is(err, ErrLocked):
		return fmt.Errorf("%s is in use by a process that does not answer on %s: it is starting or stopping, or another command is at work; try again",
			dir, webmanager.ControlSocket)
	case errors.Is(err, store.ErrNotInitialised), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s holds no domain; make one: latchkey init --data %s --domain NAME", dir, dir)
	default:
		return fmt.Errorf("%s cannot be opened: %w", dir, err)
	}
}

// wholeList asks for all pages of a list of that path. of takes a page apart: its entries, and where the next one begins, empty after the last.
func wholeList[Page, Entry any](cmd *cobra.Command, client *webmanager.Client, path string, of func(Page) ([]Entry, string)) ([]Entry, error) {
	all := []Entry{}
	for after := ""; ; {
		var page Page
		query := url.Values{"limit": {strconv.Itoa(webmanager.MaxListLimit)}, "after": {after}}
		if err := client.Do(cmd.Context(), http.MethodGet, webmanager.Path(path)+"?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		var entries []Entry
		entries, after = of(page)
		if all = append(all, entries...); after == "" {
			return all, nil
		}
	}
}

// do connects, makes one request and disconnects.
func (env *Env) do(cmd *cobra.Command, method, path string, in, out any) error {
	client, done, err := env.connect(cmd)
	if err != nil {
		return err
	}
	defer done()
	return client.Do(cmd.Context(), method, path, in, out)
}

// get is do for a question.
func (env *Env) get(cmd *cobra.Command, path string, out any) error {
	return env.do(cmd, http.MethodGet, path, nil, out)
}

// say tells the caller what was done, beside the data.
func (env *Env) say(format string, args ...any) { fmt.Fprintf(env.Stderr, format+"\n", args...) }
