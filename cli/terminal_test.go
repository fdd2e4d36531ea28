package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"latchkey/config"
	"latchkey/store"
	"latchkey/store/memstore"
	"latchkey/webmanager"
)

// TestConfirmOnTerminal: a change that loosens shows what it does and wants the domain typed; one that tightens asks nothing.
func TestConfirmOnTerminal(t *testing.T) {
	const question = "This allows more than before, or removes mail. Type the name of the domain to confirm it: \n"
	for _, tt := range []struct {
		name    string
		args    []string
		typed   []string
		status  int
		changed bool
		words   string
	}{
		{"typed", []string{"cleartext_login=on"}, []string{"example.com"}, ExitDone, true,
			"- passwords are taken without TLS from anywhere, and anybody on the way can read them\n" + question + "changed the settings of example.com\n"},
		{"something else", []string{"cleartext_login=on"}, []string{"yes"}, ExitFailed, false,
			question + "latchkey: what was typed to confirm is not the name of the domain, example.com; nothing was changed\n"},
		{"nothing", []string{"cleartext_login=on"}, []string{""}, ExitFailed, false, question + "latchkey: not confirmed; nothing was changed\n"},
		{"broken off", []string{"cleartext_login=on"}, nil, ExitFailed, false, question + "latchkey: EOF\n"},
		{"given", []string{"cleartext_login=on", "--confirm", "example.com"}, nil, ExitDone, true, "changed the settings of example.com\n"},
		{"given wrongly", []string{"cleartext_login=on", "--confirm", "x"}, []string{"example.com"}, ExitFailed, false, "latchkey: what was typed to confirm is not"},
		{"tightens", []string{"auth_on_mx=off"}, nil, ExitDone, false, "changed the settings of example.com\n"},
	} {
		w := newWorld(t)
		w.seed()
		w.prompts = append([]string{}, tt.typed...)
		status, stdout, stderr := w.run("", append(append([]string{"settings", "set"}, tt.args...), "--data", w.dir)...)
		settings, err := w.stores[w.dir].Settings(t.Context())
		if status != tt.status || stdout != "" || !strings.HasPrefix(stderr, tt.words) && !strings.HasSuffix(stderr, tt.words) || err != nil || settings.CleartextLogin != tt.changed {
			t.Errorf("%s: got %d %q %q, %v", tt.name, status, stdout, stderr, err)
		}
	}
}

// TestRemoveSelectionOnTerminal: the number of what is selected must be typed.
func TestRemoveSelectionOnTerminal(t *testing.T) {
	for _, tt := range []struct {
		typed  []string
		args   []string
		status int
		left   int
		words  string
	}{
		{[]string{"1"}, nil, ExitDone, 0, "Selected: 1 delivery. Type the number to confirm: \n1 delivery removed; their senders are not told\n"},
		{[]string{"2"}, nil, ExitFailed, 1, "latchkey: not confirmed; nothing was done\n"},
		{[]string{"yes"}, nil, ExitFailed, 1, "latchkey: not confirmed; nothing was done\n"},
		{nil, nil, ExitFailed, 1, "latchkey: EOF\n"},
		{nil, []string{"--yes"}, ExitDone, 0, "1 delivery removed; their senders are not told\n"},
		{nil, []string{"--held"}, ExitDone, 1, "0 deliveries removed; their senders are not told\n"},
	} {
		w := newWorld(t)
		w.seed()
		w.prompts = append([]string{}, tt.typed...)
		status, _, stderr := w.run("", append([]string{"queue", "remove", "--from", "anna", "--data", w.dir}, tt.args...)...)
		jobs, _, err := w.stores[w.dir].ListJobs(t.Context(), store.QueueFilter{}, 0, 10)
		if status != tt.status || !strings.HasSuffix(stderr, tt.words) || err != nil || len(jobs) != tt.left {
			t.Errorf("%v %v: got %d %q, %d left, %v", tt.typed, tt.args, status, stderr, len(jobs), err)
		}
	}
}

// countingStore counts the pages that are asked for.
type countingStore struct {
	*memstore.Store
	pages int
}

func (s *countingStore) ListJobs(ctx context.Context, f store.QueueFilter, after store.JobID, limit int) ([]store.Job, store.JobID, error) {
	s.pages++
	return s.Store.ListJobs(ctx, f, after, limit)
}

// firstWrite notes how many pages had been asked for when something was first printed.
type firstWrite struct {
	bytes.Buffer
	store *countingStore
	pages int
}

func (w *firstWrite) Write(p []byte) (int, error) {
	if w.pages == 0 {
		w.pages = w.store.pages
	}
	return w.Buffer.Write(p)
}

// TestLongQueue: a listing is printed page by page, never held as a whole, and a selection reaches beyond one request.
func TestLongQueue(t *testing.T) {
	const jobs = 2*webmanager.MaxListLimit + 100
	s := &countingStore{Store: memstore.New("example.com")}
	fillQueue(t, s.Store, jobs)
	run := func(args ...string) (*firstWrite, string) {
		t.Helper()
		s.pages = 0
		out, errs := &firstWrite{store: s}, &bytes.Buffer{}
		status := Run(t.Context(), Env{
			Stdin: strings.NewReader(""), Stdout: out, Stderr: errs, LookupEnv: func(string) (string, bool) { return "", false },
			Open: func(context.Context, config.Config) (*webmanager.API, io.Closer, error) {
				return webmanager.New(webmanager.Options{Store: s, Hasher: &lastPassword{}}), io.NopCloser(nil), nil
			},
		}, append(args, "--data", t.TempDir()))
		if status != ExitDone {
			t.Fatalf("%v: got %d %s", args, status, errs)
		}
		return out, errs.String()
	}
	for _, tt := range []struct {
		args              []string
		want, first, last int
	}{
		{nil, jobs, 1, jobs},
		{[]string{"--limit", "999"}, 999, 1, 999},
		{[]string{"--limit", "1000"}, 1000, 1, 1000},
		{[]string{"--limit", "1001"}, 1001, 1, 1001},
		{[]string{"--limit", "1", "--after", "1500"}, 1, 1501, 1501},
		{[]string{"--after", fmt.Sprint(jobs - 1)}, 1, jobs, jobs},
	} {
		out, _ := run(append([]string{"queue", "list", "--json"}, tt.args...)...)
		var listed []store.Job
		if err := json.Unmarshal(out.Bytes(), &listed); err != nil || len(listed) != tt.want ||
			listed[0].ID != store.JobID(tt.first) || listed[len(listed)-1].ID != store.JobID(tt.last) {
			t.Errorf("%v: got %d jobs, %v", tt.args, len(listed), err)
		}
		if out.pages != 1 {
			t.Errorf("%v: %d pages were read before anything was printed", tt.args, out.pages)
		}
		table, _ := run(append([]string{"queue", "list"}, tt.args...)...)
		if lines := strings.Count(table.String(), "\n"); lines != tt.want+1 || strings.Count(table.String(), "MESSAGE") != 1 || table.pages != 1 {
			t.Errorf("%v: table of %d lines", tt.args, lines)
		}
	}
	if _, said := run("queue", "hold", "--to", "other.example"); said != fmt.Sprintf("%d deliveries held\n", jobs) {
		t.Errorf("hold: got %q", said)
	}
	if _, said := run("queue", "remove", "--held", "--yes"); said != fmt.Sprintf("%d deliveries removed; their senders are not told\n", jobs) {
		t.Errorf("remove: got %q", said)
	}
}

func fillQueue(t *testing.T, s *memstore.Store, jobs int) {
	t.Helper()
	d, err := s.NewDraft(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := store.Envelope{Received: received}
	for i := range jobs {
		e.Recipients = append(e.Recipients, store.Recipient{Address: address(t, fmt.Sprintf("r%d@other.example", i))})
	}
	if _, err := d.Commit(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

// TestSelectionIsCounted: what comes into the queue while somebody types the number is not touched, and a selection is shown by its first ten.
func TestSelectionIsCounted(t *testing.T) {
	const jobs = webmanager.MaxListLimit + 10
	s := memstore.New("example.com")
	fillQueue(t, s, jobs)
	run := func(args ...string) (out, errs bytes.Buffer) {
		t.Helper()
		status := Run(t.Context(), Env{
			Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, LookupEnv: func(string) (string, bool) { return "", false },
			ReadLine: func(string) (string, error) {
				fillQueue(t, s, 5)
				return fmt.Sprint(jobs), nil
			},
			Open: func(context.Context, config.Config) (*webmanager.API, io.Closer, error) {
				return webmanager.New(webmanager.Options{Store: s, Hasher: &lastPassword{}}), io.NopCloser(nil), nil
			},
		}, append(args, "--data", t.TempDir()))
		if status != ExitDone {
			t.Fatalf("%v: got %d %s", args, status, &errs)
		}
		return out, errs
	}
	out, errs := run("queue", "remove", "--all", "--dry-run")
	if want := fmt.Sprintf("remove: it would be done to %d deliveries; the first %d of them:\n", jobs, maxExamples); errs.String() != want {
		t.Errorf("got %q, want %q", errs.String(), want)
	}
	if lines := strings.Count(out.String(), "\n"); lines != maxExamples+1 {
		t.Errorf("%d lines, want a heading and %d", lines, maxExamples)
	}
	out, _ = run("queue", "remove", "--all", "--json")
	var sum queueSummary
	if err := json.Unmarshal(out.Bytes(), &sum); err != nil || sum.Selected != jobs || sum.Done != jobs {
		t.Errorf("got %+v (%v), want %d removed", sum, err, jobs)
	}
	left, _, err := s.ListJobs(t.Context(), store.QueueFilter{}, 0, 100)
	if err != nil || len(left) != 5 {
		t.Errorf("%d deliveries are left (%v), want the 5 that came meanwhile", len(left), err)
	}
}

// TestWholeLists: of a list with more than one answer may hold, all is shown.
func TestWholeLists(t *testing.T) {
	s := memstore.New("example.com")
	account, err := s.AddAccount(t.Context(), store.Account{Name: "anna"})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{webmanager.MaxListLimit - 1, webmanager.MaxListLimit, webmanager.MaxListLimit + 1} {
		have, err := s.ListAliases(t.Context(), "", n)
		if err != nil {
			t.Fatal(err)
		}
		for i := len(have); i < n; i++ {
			if err := s.PutAlias(t.Context(), store.Alias{Name: fmt.Sprintf("alias%05d", i), Targets: []store.AccountID{account.ID}}); err != nil {
				t.Fatal(err)
			}
		}
		var out, errs bytes.Buffer
		status := Run(t.Context(), Env{
			Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, LookupEnv: func(string) (string, bool) { return "", false },
			Open: func(context.Context, config.Config) (*webmanager.API, io.Closer, error) {
				return webmanager.New(webmanager.Options{Store: s, Hasher: &lastPassword{}}), io.NopCloser(nil), nil
			},
		}, []string{"alias", "list", "--data", t.TempDir()})
		if lines := strings.Count(out.String(), "\n"); status != ExitDone || lines != n+1 {
			t.Errorf("of %d aliases: got %d lines, status %d %s, want a heading and all", n, lines, status, &errs)
		}
	}
}
