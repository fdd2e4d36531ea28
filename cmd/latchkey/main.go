package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"latchkey/cli"
	"latchkey/config"
	"latchkey/guard"
	"latchkey/internal/archive"
	"latchkey/internal/resolver"
	"latchkey/store"
	"latchkey/store/boltstore"
	"latchkey/webmanager"
)

// maxLine bounds a line that is typed at the terminal, in octets.
const maxLine = 4 << 10

// version is set by the linker (-X main.version=...); without that the build information says what was built.
var version string

func main() {
	stop, abort := stopSignals()
	os.Exit(cli.Run(stop, newEnv(stop, abort), os.Args[1:]))
}

// stopSignals returns a context that the first SIGINT or SIGTERM ends, and one that the second ends. A third kills the process.
func stopSignals() (stop, abort context.Context) {
	stop, cancelStop := context.WithCancel(context.Background())
	abort, cancelAbort := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		cancelStop()
		<-signals
		cancelAbort()
		signal.Stop(signals)
	}()
	return stop, abort
}

// newEnv is the command line's world: this process.
func newEnv(stop, abort context.Context) cli.Env {
	env := cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, LookupEnv: os.LookupEnv,
		Version: buildVersion(), Go: runtime.Version(),
		Init: func(ctx context.Context, dir, domain string) error {
			return boltstore.Init(ctx, dir, store.DefaultSettings(domain), boltstore.Options{})
		},
		Open: openOffline,
		Restore: func(ctx context.Context, dir string, from archive.Source, hold bool) (cli.Restored, error) {
			got, err := boltstore.Restore(ctx, dir, from, hold, boltstore.Options{})
			return cli.Restored(got), err
		},
		Diagnose: func(ctx context.Context, dir string) ([]store.Problem, error) {
			problems, err := boltstore.Diagnose(ctx, dir, boltstore.Options{})
			return problems, lockedError(err)
		},
		Repair: repair,
		Verify: func(ctx context.Context, dir archive.Dir) (archive.Header, []store.Problem, error) {
			return boltstore.Verify(ctx, dir, boltstore.Options{})
		},
	}
	if fd := int(os.Stdin.Fd()); term.IsTerminal(fd) {
		env.ReadPassword = func(prompt string) (string, error) { return readPassword(stop, fd, prompt) }
		env.ReadLine = func(prompt string) (string, error) { return readLine(stop, prompt) }
	}
	env.Serve = func(ctx context.Context, c config.Config) error {
		out := newBatch(os.Stderr)
		defer out.Flush()
		return serve(ctx, abort, c, newLogger(out, c.Log))
	}
	env.Demo = func(ctx context.Context, d cli.Demo) error { return demo(ctx, abort, env, d) }
	return env
}

// readPassword asks on a terminal without echo. A signal ends it, and gives the terminal its echo back.
func readPassword(stop context.Context, fd int, prompt string) (string, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	fmt.Fprint(os.Stderr, prompt)
	defer fmt.Fprintln(os.Stderr)
	type answer struct {
		password []byte
		err      error
	}
	answered := make(chan answer, 1)
	go func() {
		password, err := term.ReadPassword(fd)
		answered <- answer{password, err}
	}()
	select {
	case a := <-answered:
		return string(a.password), a.err
	case <-stop.Done():
		return "", errors.Join(stop.Err(), term.Restore(fd, before)) // the reader ends with the process
	}
}

// readLine asks on a terminal. A signal ends it.
func readLine(stop context.Context, prompt string) (string, error) {
	fmt.Fprint(os.Stderr, prompt)
	type answer struct {
		line string
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		line, err := bufio.NewReader(io.LimitReader(os.Stdin, maxLine)).ReadString('\n')
		answered <- answer{strings.TrimSpace(line), err}
	}()
	select {
	case a := <-answered:
		return a.line, a.err
	case <-stop.Done():
		return "", stop.Err() // the reader ends with the process
	}
}

// openStore opens the store of a data directory for a command, with the errors that package cli explains.
func openStore(ctx context.Context, dir string) (*boltstore.Store, error) {
	return openServed(ctx, dir, nil)
}

// openServed is openStore for a server, whose log hears of damage, of a device that fails and of one that is slow.
func openServed(ctx context.Context, dir string, log *slog.Logger) (*boltstore.Store, error) {
	st, err := boltstore.Open(ctx, dir, boltstore.Options{Logger: log})
	return st, lockedError(err)
}

// lockedError lets package cli know that another process has the store.
func lockedError(err error) error {
	if errors.Is(err, boltstore.ErrLocked) {
		return fmt.Errorf("%w: %w", cli.ErrLocked, err)
	}
	return err
}

// repair mends a store, and tells whoever lost mail in it: what was removed is not found again by the next one.
func repair(ctx context.Context, dir string) (store.Repaired, error) {
	got, err := boltstore.Repair(ctx, dir, boltstore.Options{})
	if len(got.Lost) == 0 {
		return got, lockedError(err)
	}
	ctx = context.WithoutCancel(ctx)
	st, openErr := openStore(ctx, dir)
	if openErr != nil {
		return got, errors.Join(lockedError(err), fmt.Errorf("nobody was told what is lost: %w", openErr))
	}
	return got, errors.Join(err, webmanager.TellLost(ctx, st, got.Lost, time.Now()), st.Close())
}

// openOffline is for commands while no server runs.
func openOffline(ctx context.Context, c config.Config) (*webmanager.API, io.Closer, error) {
	st, err := openStore(ctx, c.Data)
	if err != nil {
		return nil, nil, err
	}
	settings, err := st.Settings(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, st.Close())
	}
	log := slog.New(slog.DiscardHandler) // the command reports; the audit log remembers
	return offlineAPI(ctx, c, st, hostname(c, settings.Domain), log), st, nil
}

// offlineAPI serves commands on a store that no server has open. name is what a server here would be called.
func offlineAPI(ctx context.Context, c config.Config, st store.Store, name string, log *slog.Logger) *webmanager.API {
	logins := guard.NewLogins(guard.LoginLimits{})
	keeper := guard.NewBanKeeper(logins, st, time.Now, log)
	o := webmanager.Options{RelayProof: newProver(st, name, log, time.Now).Report, Keys: newRing(st, time.Now), Place: placeOf(c, st, name)}
	if names, err := resolver.New(resolver.Options{Servers: c.Relay.Nameservers, Logger: log}); err == nil { // else the DNS cannot be asked
		o.DNS = names
	}
	if keeper.Load(ctx) == nil { // else they cannot be asked for, and all the rest can
		o.Bans = &guard.BanDesk{Logins: logins, Keeper: keeper}
	}
	return newAPI(o, st, newAuthenticator(st, logins, nil, nil, nil, log, time.Now), log, time.Now)
}

// buildVersion is what the linker was told, or else what the build information knows.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			revision = s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "-dirty"
		}
	}
	switch {
	case revision != "":
		return revision + modified
	case info.Main.Version != "" && info.Main.Version != "(devel)":
		return info.Main.Version
	default:
		return "devel"
	}
}
