package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"latchkey/config"
	"latchkey/internal/archive"
	"latchkey/store"
	"latchkey/store/boltstore"
	"latchkey/webmanager"
)

// newRealWorld is a world whose data directories are real ones: memory cannot be backed up.
func newRealWorld(t *testing.T) *world {
	w := newWorld(t)
	options := boltstore.Options{}
	w.adapt = func(env *Env) {
		env.Init = func(ctx context.Context, dir, domain string) error {
			return boltstore.Init(ctx, dir, store.DefaultSettings(domain), options)
		}
		env.Open = func(ctx context.Context, c config.Config) (*webmanager.API, io.Closer, error) {
			s, err := boltstore.Open(ctx, c.Data, options)
			if err != nil {
				return nil, nil, locked(err)
			}
			return w.realAPI(s), s, nil
		}
		env.Restore = func(ctx context.Context, dir string, from archive.Source, hold bool) (Restored, error) {
			got, err := boltstore.Restore(ctx, dir, from, hold, options)
			return Restored(got), err
		}
		env.Verify = func(ctx context.Context, dir archive.Dir) (archive.Header, []store.Problem, error) {
			return boltstore.Verify(ctx, dir, options)
		}
		env.Diagnose = func(ctx context.Context, dir string) ([]store.Problem, error) {
			problems, err := boltstore.Diagnose(ctx, dir, options)
			return problems, locked(err)
		}
		env.Repair = func(ctx context.Context, dir string) (store.Repaired, error) {
			return boltstore.Repair(ctx, dir, options)
		}
	}
	w.real = w.damage
	return w
}

// damage does to real data what disks and people do.
//
//	flip SUBJECT         one bit of a message in the journal is turned
//	tear                 the index has a page that contradicts itself
//	orphan               a body that no message names
//	cut FILE             a file of a backup loses its last octet; FILE is a pattern in it
//	late SUBJECT...      mail comes that the index does not have when the process is killed
func (w *world) damage(action []string) {
	w.t.Helper()
	must := func(err error) {
		if err != nil {
			w.t.Helper()
			w.t.Fatalf("%v: %v", action, err)
		}
	}
	edit := func(pattern string, change func([]byte) []byte) {
		files, err := filepath.Glob(pattern)
		must(err)
		if len(files) != 1 {
			w.t.Fatalf("%v: %q are %v", action, pattern, files)
		}
		b, err := os.ReadFile(files[0])
		must(err)
		must(os.WriteFile(files[0], change(b), 0o600))
	}
	switch action[0] {
	case "flip":
		edit(filepath.Join(w.dir, "journal", "*.seg"), func(b []byte) []byte {
			at := bytes.Index(b, []byte("body of "+action[1]))
			if at < 0 {
				w.t.Fatalf("%v: it is not there", action)
			}
			b[at] ^= 1
			return b
		})
	case "tear":
		edit(filepath.Join(w.dir, "mail.db"), func(b []byte) []byte {
			for page := 2 * os.Getpagesize(); page < len(b); page += os.Getpagesize() {
				b[page+10] = 0xff // the number of entries
				b[page+11] = 0xff
			}
			return b
		})
	case "orphan":
		must(os.WriteFile(filepath.Join(w.dir, "large", strings.Repeat("0f", 16)), nil, 0o600))
	case "cut":
		edit(filepath.Join(filepath.Dir(w.dir), action[1]), func(b []byte) []byte { return b[:len(b)-1] })
	case "late":
		before, err := os.ReadFile(filepath.Join(w.dir, "mail.db"))
		must(err)
		w.inStore(func(s *boltstore.Store) {
			for _, subject := range action[1:] {
				w.deliver(s, subject)
			}
		})
		must(os.WriteFile(filepath.Join(w.dir, "mail.db"), before, 0o600))
	default:
		w.t.Fatalf("no such action: %v", action)
	}
}

func locked(err error) error {
	if errors.Is(err, boltstore.ErrLocked) {
		return fmt.Errorf("%w: %w", ErrLocked, err)
	}
	return err
}

func (w *world) realAPI(s *boltstore.Store) *webmanager.API {
	return webmanager.New(webmanager.Options{Store: s, Hasher: w.hasher, Version: "v1.2.3", Go: "go1.26"})
}

// deliver puts a message for anna and a stranger into a store.
func (w *world) deliver(s *boltstore.Store, subject string) {
	w.t.Helper()
	anna, err := s.AccountByName(w.t.Context(), "anna")
	if err != nil {
		w.t.Fatal(err)
	}
	d, err := s.NewDraft(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	header := "Subject: " + subject + "\r\n\r\n"
	if _, err := io.WriteString(d, header+"body of "+subject+"\r\n"); err != nil {
		w.t.Fatal(err)
	}
	if _, err := d.Commit(w.t.Context(), store.Envelope{
		ReversePath: address(w.t, "sender@out.example"), Received: received, HeaderLen: int64(len(header)), HeaderID: "<" + subject + "@out.example>",
		Recipients: []store.Recipient{{Address: address(w.t, "anna@example.com"), Account: anna.ID}, {Address: address(w.t, "x@other.example")}},
	}); err != nil {
		w.t.Fatal(err)
	}
}

// inStore does something in the data directory, which nobody has open.
func (w *world) inStore(do func(*boltstore.Store)) {
	w.t.Helper()
	s, err := boltstore.Open(w.t.Context(), w.dir, boltstore.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	do(s)
	if err := s.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// seedReal makes example.com with postmaster, anna, and two messages.
func (w *world) seedReal() {
	w.t.Helper()
	for _, args := range [][]string{
		{"init", "--data", w.dir, "--domain", "example.com"},
		{"account", "add", "anna", "--generate", "--data", w.dir},
	} {
		if status, _, stderr := w.run("", args...); status != 0 {
			w.t.Fatalf("%v: %s", args, stderr)
		}
	}
	w.inStore(func(s *boltstore.Store) {
		w.deliver(s, "one")
		w.deliver(s, "two")
	})
}

// serveReal puts a server before the data directory.
func (w *world) serveReal() {
	w.t.Helper()
	s, err := boltstore.Open(context.Background(), w.dir, boltstore.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := webmanager.ListenControl(w.dir, w.realAPI(s), slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- c.Serve() }()
	w.t.Cleanup(func() {
		if err := errors.Join(c.Shutdown(context.Background()), <-served, s.Close()); err != nil {
			w.t.Error(err)
		}
	})
}

// TestBackupScripts plays testdata/real/*.txt on real data, each against a stopped and a running server.
func TestBackupScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/real/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		script, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range []string{"stopped", "running"} {
			name, only, _ := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".txt"), "_")
			if only != "" && only != mode {
				continue
			}
			t.Run(name+"/"+mode, func(t *testing.T) {
				w := newRealWorld(t)
				w.seedReal()
				if mode == "running" {
					w.serveReal()
				}
				w.play(file, string(script))
			})
		}
	}
}

// TestBackupThroughAPipe: what goes to standard output is restored from standard input, and is the same as a directory when it is unpacked.
func TestBackupThroughAPipe(t *testing.T) {
	w := newRealWorld(t)
	w.seedReal()
	status, stdout, stderr := w.run("", "backup", "-", "--data", w.dir)
	if status != 0 || !strings.HasSuffix(stderr, "kB written\n") {
		t.Fatalf("backup: %d %q", status, stderr)
	}
	to := filepath.Join(t.TempDir(), "new")
	if status, _, stderr := w.run(stdout, "restore", "-", "--data", to); status != 0 || !strings.Contains(stderr, "serves example.com as it was at ") {
		t.Fatalf("restore: %d %q", status, stderr)
	}
	if status, _, stderr := w.run("", "check", "--data", to); status != 0 || stderr != "no problems\n" {
		t.Errorf("check: %d %q", status, stderr)
	}
	cut := filepath.Join(t.TempDir(), "cut")
	status, _, stderr = w.run(stdout[:len(stdout)/2], "restore", "-", "--data", cut)
	if status != 1 || !strings.Contains(stderr, "was broken off") || !strings.Contains(stderr, "holds no domain: mend it and run restore again") {
		t.Errorf("half a backup: %d %q", status, stderr)
	}
	if status, _, stderr := w.run(stdout, "restore", "-", "--data", cut); status != 0 {
		t.Errorf("again: %d %q", status, stderr)
	}
}

// TestBrokenBackupSaysWhatIsLeft: a stream that breaks off leaves the backup before, and says so.
func TestBrokenBackupSaysWhatIsLeft(t *testing.T) {
	w := newRealWorld(t)
	w.seedReal()
	dir := filepath.Join(filepath.Dir(w.dir), "backup")
	if status, _, stderr := w.run("", "backup", dir, "--data", w.dir); status != 0 {
		t.Fatal(stderr)
	}
	before, err := os.ReadFile(filepath.Join(dir, archive.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(w.dir, "journal", "*.seg"))
	if err != nil || len(segments) == 0 {
		t.Fatal(err)
	}
	for _, s := range segments {
		if err := os.WriteFile(s, make([]byte, 5000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	status, _, stderr := w.run("", "backup", dir, "--data", w.dir)
	if status != 1 || !strings.Contains(stderr, "damaged") {
		t.Errorf("got %d %q", status, stderr)
	}
	after, err := os.ReadFile(filepath.Join(dir, archive.ManifestName))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the manifest changed: %v", err)
	}
}
