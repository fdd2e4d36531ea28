package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"latchkey/config"
	"latchkey/internal/archive"
	"latchkey/internal/vfs"
	"latchkey/store"
	"latchkey/webmanager"
)

// standardStream stands for standard input or output in place of a directory.
const standardStream = "-"

// Restored is what [Env.Restore] made.
type Restored struct {
	// Domain is what was restored, Taken when the backup was made.
	Domain string
	Taken  time.Time
	// Jobs are the deliveries to other domains that wait in the queue.
	Jobs int
}

func newBackup(env *Env) *cobra.Command {
	cmd := addDataFlags(&cobra.Command{
		Use: "backup DIR|-", Short: "Back the domain up, beside the running server or without it", Args: aPath,
		Long: "Back the domain up, beside the running server or without it. The backup holds every message, delete and change that\n" +
			"was acknowledged before it began.\n\n" +
			"DIR is made if need be; its parent must be there. The first backup brings everything, the next ones what is new. If one\n" +
			"breaks off, DIR still holds the one before. With - everything goes to standard output as one tar file.\n" +
			"A backup holds all mail and what passwords are checked against: keep it as you keep the data.",
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if args[0] == standardStream {
			return env.backupToStdout(cmd)
		}
		return env.backupToDir(cmd, backupDir(args[0]))
	}
	return cmd
}

// aPath checks that there is one argument; a path may be ".".
func aPath(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return usagef("usage: %s", cmd.UseLine())
	}
	return nil
}

func backupDir(path string) archive.Dir {
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	return archive.Dir{FS: vfs.OS{}, Path: path}
}

// requestBackup asks for a backup of what have does not list; the caller closes both.
func (env *Env) requestBackup(cmd *cobra.Command, have io.Reader) (stream io.ReadCloser, done func(), err error) {
	client, done, err := env.connect(cmd)
	if err != nil {
		return nil, nil, err
	}
	stream, err = client.Stream(cmd.Context(), http.MethodPost, webmanager.Path("backup"), webmanager.ManifestType, have)
	if err != nil {
		done()
		return nil, nil, err
	}
	return stream, done, nil
}

func (env *Env) backupToStdout(cmd *cobra.Command) error {
	if f, ok := env.Stdout.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return usagef("standard output is a terminal: lead it into a file or another program")
		}
	}
	stream, done, err := env.requestBackup(cmd, nil)
	if err != nil {
		return err
	}
	defer done()
	n, err := io.Copy(env.Stdout, stream)
	if err = errors.Join(err, stream.Close()); err != nil {
		return fmt.Errorf("%w; what was written is no backup", err)
	}
	env.say("%s written", octets(n))
	return nil
}

func (env *Env) backupToDir(cmd *cobra.Command, dir archive.Dir) error {
	if err := dir.Prepare(); err != nil {
		return err
	}
	have, listing := io.Pipe()
	listed := make(chan struct{})
	go func() {
		defer close(listed)
		_ = listing.CloseWithError(dir.Have(listing)) // never fails
	}()
	defer func() {
		_ = have.Close() // never fails
		<-listed
	}()
	stream, done, err := env.requestBackup(cmd, have)
	if err != nil {
		return err
	}
	defer done()
	got, err := dir.Receive(cmd.Context(), stream)
	if err = errors.Join(err, stream.Close()); err != nil {
		return fmt.Errorf("%w; %s", err, env.whatIsLeft(dir))
	}
	env.say("%s holds %s as it was at %s: %s in %d files, of which %s were new", dir.Path, got.Domain, timestamp(got.Taken), octets(got.Octets), got.Pieces, octets(got.New))
	return nil
}

// whatIsLeft says what a directory holds after a backup that failed.
func (env *Env) whatIsLeft(dir archive.Dir) string {
	h, err := dir.Header()
	if err != nil {
		return dir.Path + " holds no backup"
	}
	return fmt.Sprintf("%s holds the backup of %s", dir.Path, timestamp(h.Taken))
}

// octets shows a number of octets for people, and exactly.
func octets(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d octets", n)
	}
	v, prefix := float64(n), 0
	for v >= unit && prefix < len("kMGTPE") {
		v /= unit
		prefix++
	}
	return fmt.Sprintf("%.1f %cB", v, "kMGTPE"[prefix-1])
}

func newVerify(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify DIR", Short: "Read a backup and check everything in it", Args: aPath,
		Long: "Read a backup and check everything in it: every file against the checksums of its manifest, and then what they hold as\n" +
			"check does with a domain's data. Nothing in DIR is changed; TMPDIR must have room for a copy of the index.\n" +
			"The exit status is 1 when something was found.",
	}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		dir := backupDir(args[0])
		h, problems, err := env.Verify(cmd.Context(), dir)
		if err != nil {
			return backupError(dir, err)
		}
		if err := env.showProblems(problems, *asJSON); err != nil {
			return err
		}
		env.say("%s holds %s as it was at %s: no problems", dir.Path, h.Domain, timestamp(h.Taken))
		return nil
	}
	return cmd
}

// backupError puts into words why a backup cannot be used.
func backupError(dir archive.Dir, err error) error {
	if errors.Is(err, archive.ErrNone) {
		return fmt.Errorf("%s holds no complete backup", dir.Path)
	}
	return err
}

func newRestore(env *Env) *cobra.Command {
	cmd := addDataFlags(&cobra.Command{
		Use: "restore DIR|-", Short: "Make a data directory of a backup", Args: aPath,
		Long: "Make the data directory that --data names of a backup in DIR, or of one tar file on standard input (-). A directory that\n" +
			"holds a domain is refused. After a failure it may be run again.\n\n" +
			"Messages keep their unique-ids, so nobody fetches them twice; new ones get ids that were never given out. Whoever sends by\n" +
			"POP before SMTP has to check mail again. What the queue holds for other domains is sent when the server starts, even\n" +
			"what was sent since the backup was made: --hold-queue keeps it until it is released.",
	})
	hold := cmd.Flags().Bool("hold-queue", false, "put what waits for other domains on hold")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := config.Load(sources(env, cmd))
		if err != nil {
			return err
		}
		var from archive.Source = archive.Stream{R: env.Stdin}
		dir := backupDir(args[0])
		if args[0] != standardStream {
			from = dir
		}
		got, err := env.Restore(cmd.Context(), c.Data, from, *hold)
		switch {
		case errors.Is(err, store.ErrExists):
			return fmt.Errorf("%s is not empty: restore into a directory that holds nothing, and put it in the other's place", c.Data)
		case err != nil:
			return restoreError(c.Data, dir, err)
		}
		env.say("%s serves %s as it was at %s", c.Data, got.Domain, timestamp(got.Taken))
		env.sayQueue(got.Jobs, *hold)
		return nil
	}
	return cmd
}

func restoreError(data string, dir archive.Dir, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w; %s holds no domain: mend it and run restore again", backupError(dir, err), data)
}

// sayQueue tells what will become of the queue of a domain that was restored.
func (env *Env) sayQueue(jobs int, held bool) {
	switch {
	case jobs == 0:
	case held:
		env.say("%d deliveries to other domains are on hold: see latchkey queue list, queue release, queue remove", jobs)
	default:
		env.say("%d deliveries to other domains will be tried when the server starts, also those that were done since the backup was made", jobs)
	}
}

func newCompact(env *Env) *cobra.Command {
	cmd := addDataFlags(&cobra.Command{
		Use: "compact", Short: "Give back the space of what was deleted, now", Args: wants(0, 0),
		Long: "Give back the space of what was deleted, now: the server does it by itself when it is worth the work. It may run beside\n" +
			"the server, and needs room for a copy of the index and of the mail that it moves.",
	})
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var result webmanager.Compacted
		if err := env.do(cmd, http.MethodPost, webmanager.Path("compact"), nil, &result); err != nil {
			return err
		}
		if *asJSON {
			return env.printJSON(result)
		}
		return env.printTable([]string{"PART", "BEFORE", "AFTER"}, [][]string{
			{"index", octets(result.IndexBefore), octets(result.IndexAfter)},
			{"journal", octets(result.JournalBefore), octets(result.JournalAfter)},
		})
	}
	return cmd
}
