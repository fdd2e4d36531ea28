package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"latchkey/auth"
	"latchkey/config"
	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/internal/zone"
	"latchkey/relay/signing"
	"latchkey/store"
	"latchkey/store/memstore"
	"latchkey/webmanager"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)

// received is when messages come: so late that the trail, which forgets by the real clock, keeps them.
var received = time.Date(2099, 4, 1, 12, 0, 0, 0, time.UTC)

// published is a DNS: records by name, a space and type.
type published map[string][]string

func (p published) Records(_ context.Context, name, rrtype string) ([]string, error) {
	return p[strings.TrimSuffix(name, ".")+" "+rrtype], nil
}

// lastPassword is a Hasher that remembers.
type lastPassword struct{ text string }

func (p *lastPassword) Hash(_ context.Context, password string) (store.Verifier, error) {
	p.text = password
	return store.Verifier("hash of " + password), nil
}

// world is what a command sees: data directories that are stores in memory.
type world struct {
	t       *testing.T
	dir     string
	stores  map[string]*memstore.Store
	locked  bool
	hasher  *lastPassword
	prompts []string // what is typed at the terminal; nil for no terminal
	vars    map[string]string
	served  []config.Config
	dns     published
	demos   []Demo
	// adapt changes what a command sees; nil changes nothing.
	adapt func(*Env)
	// real does in real data what a script asks for; nil in a world of memory.
	real func(action []string)
}

func newWorld(t *testing.T) *world {
	return &world{
		t: t, dir: filepath.Join(t.TempDir(), "data"), stores: map[string]*memstore.Store{}, hasher: &lastPassword{}, vars: map[string]string{},
		dns: published{},
	}
}

func (w *world) api(s *memstore.Store) *webmanager.API {
	logins := guard.NewLogins(guard.LoginLimits{})
	keeper := guard.NewBanKeeper(logins, s, func() time.Time { return noon }, nil)
	if err := keeper.Load(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	bans := &guard.BanDesk{Logins: logins, Keeper: keeper}
	now := func() time.Time { return noon }
	return webmanager.New(webmanager.Options{
		Bans: bans, Store: s, Hasher: w.hasher, Now: now, Version: "v1.2.3", Go: "go1.26",
		Keys: signing.NewRing(s, auth.NewVault(s, "tests"), now), DNS: w.dns, Place: func(context.Context) (zone.Place, error) {
			return zone.Place{
				Hostname: "mail.example.com", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")},
				Ports: zone.Ports{POP3: 110, POP3S: 995, Submission: 587, Submissions: 465},
			}, nil
		},
	})
}

func (w *world) init(_ context.Context, dir, domain string) error {
	if w.stores[dir] != nil {
		return store.ErrExists
	}
	w.stores[dir] = memstore.New(domain)
	return os.MkdirAll(dir, 0o700)
}

func (w *world) open(_ context.Context, c config.Config) (*webmanager.API, io.Closer, error) {
	switch s := w.stores[c.Data]; {
	case w.locked:
		return nil, nil, fmt.Errorf("open: %w", ErrLocked)
	case s == nil:
		return nil, nil, fmt.Errorf("open: %w", store.ErrNotInitialised)
	default:
		return w.api(s), io.NopCloser(nil), nil
	}
}

func (w *world) diagnose(_ context.Context, dir string) ([]store.Problem, error) {
	switch {
	case w.locked:
		return nil, fmt.Errorf("open: %w", ErrLocked)
	case w.stores[dir] == nil:
		return nil, fmt.Errorf("open: %w", store.ErrNotInitialised)
	}
	return nil, nil
}

// run runs one command line.
func (w *world) run(stdin string, args ...string) (status int, stdout, stderr string) {
	w.t.Helper()
	var out, errs bytes.Buffer
	env := Env{
		Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs,
		LookupEnv: func(name string) (string, bool) { v, ok := w.vars[name]; return v, ok },
		Version:   "v1.2.3", Go: "go1.26",
		Serve: func(_ context.Context, c config.Config) error { w.served = append(w.served, c); return nil },
		Demo:  func(_ context.Context, d Demo) error { w.demos = append(w.demos, d); return nil },
		Init:  w.init, Open: w.open, Diagnose: w.diagnose,
	}
	if w.adapt != nil {
		w.adapt(&env)
	}
	if w.prompts != nil {
		env.ReadPassword = func(prompt string) (string, error) {
			fmt.Fprint(&errs, prompt+"\n")
			if len(w.prompts) == 0 {
				return "", io.EOF
			}
			typed := w.prompts[0]
			w.prompts = w.prompts[1:]
			return typed, nil
		}
		env.ReadLine = env.ReadPassword
	}
	status = Run(w.t.Context(), env, args)
	return status, out.String(), errs.String()
}

// serve puts a server before the data directory, and locks it as a server does.
func (w *world) serve() {
	w.t.Helper()
	c, err := webmanager.ListenControl(w.dir, w.api(w.stores[w.dir]), slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	w.locked = true
	served := make(chan error, 1)
	go func() { served <- c.Serve() }()
	w.t.Cleanup(func() {
		if err := c.Shutdown(context.Background()); err != nil {
			w.t.Error(err)
		}
		if err := <-served; err != nil {
			w.t.Error(err)
		}
	})
}

// seed makes the domain example.com with postmaster, anna, and a message from anna to a stranger with an ugly Message-ID.
func (w *world) seed() {
	w.t.Helper()
	for _, args := range [][]string{
		{"init", "--data", w.dir, "--domain", "example.com"},
		{"account", "add", "anna", "--generate", "--data", w.dir},
	} {
		if status, _, stderr := w.run("", args...); status != 0 {
			w.t.Fatalf("%v: %s", args, stderr)
		}
	}
	s := w.stores[w.dir]
	anna, err := s.AccountByName(w.t.Context(), "anna")
	if err != nil {
		w.t.Fatal(err)
	}
	d, err := s.NewDraft(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := d.Write([]byte("Subject: x\r\n\r\nbody\r\n")); err != nil {
		w.t.Fatal(err)
	}
	_, err = d.Commit(w.t.Context(), store.Envelope{
		ReversePath: address(w.t, "anna@example.com"), Submitter: anna.ID, Received: received, HeaderLen: 14, HeaderID: "<1\x1b[2J@example.com>",
		Origin:     store.Origin{Door: "submission", Remote: netip.MustParseAddr("192.0.2.9"), With: "ESMTPSA"},
		Recipients: []store.Recipient{{Address: address(w.t, "anna@example.com"), Account: anna.ID}, {Address: address(w.t, "x@other.example")}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func address(t *testing.T, text string) mailaddr.Address {
	t.Helper()
	a, err := mailaddr.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestScripts plays testdata/*.txt, each against a stopped and against a running server: what is printed must not differ.
//
//	$ command line        [words] may be in 'quotes'; --data is added
//	< line                standard input
//	> line                standard output, in order; {*} matches anything
//	! line                standard error, in order
//	= status              0 unless given
//	@ action              something that happens in the store, see world.happen
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		script, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range []string{"stopped", "running"} {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt")+"/"+mode, func(t *testing.T) {
				w := newWorld(t)
				w.seed()
				if mode == "running" {
					w.serve()
				}
				w.play(file, string(script))
			})
		}
	}
}

type step struct {
	line                         int
	command, stdin, stdout, errs string
	action                       []string
	status                       int
}

func (w *world) play(file, script string) {
	w.t.Helper()
	var steps []step
	for i, line := range strings.Split(script, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		mark, text, _ := strings.Cut(line, " ")
		if mark == "$" {
			steps = append(steps, step{line: i + 1, command: text})
			continue
		}
		if mark == "@" {
			steps = append(steps, step{line: i + 1, action: words(text)})
			continue
		}
		last := &steps[len(steps)-1]
		switch mark {
		case "<":
			last.stdin += text + "\n"
		case ">":
			last.stdout += text + "\n"
		case "!":
			last.errs += text + "\n"
		case "=":
			if _, err := fmt.Sscan(text, &last.status); err != nil {
				w.t.Fatalf("%s:%d: %v", file, i+1, err)
			}
		default:
			w.t.Fatalf("%s:%d: no such mark", file, i+1)
		}
	}
	for _, s := range steps {
		if s.action != nil && w.real != nil {
			w.real(s.action)
			continue
		}
		if s.action != nil {
			w.happen(s.action)
			continue
		}
		args := words(strings.ReplaceAll(s.command, "{tmp}", filepath.Dir(w.dir)))
		if args[0] != "version" && args[0] != "demo" && args[0] != "verify" && !slices.Contains(args, "--data") && !strings.Contains(s.command, "--help") {
			args = append(args, "--data", w.dir)
		}
		status, stdout, stderr := w.run(s.stdin, args...)
		if status != s.status || !matches(s.stdout, stdout) || !matches(s.errs, stderr) {
			w.t.Errorf("%s:%d: $ %s\ngot status %d\n%s--\n%swant status %d\n%s--\n%s",
				file, s.line, s.command, status, stdout, stderr, s.status, s.stdout, s.errs)
		}
	}
}

// happen does in the store what a server would have done.
//
//	sent WAY MAILBOX ADDRESS N    N messages went out of the domain today
//	figure NAME N DAYS            so much was counted on the day so many days ago
//	grant MAILBOX NETWORK N       a POP3 login N minutes ago made a grant
//	client MAILBOX PROGRAM DOOR MECHANISM TLS ADDRESS N F D K
//	                              a session N minutes ago fetched F messages, deleted D, and left some (K is 1) or none (0)
//	defer TEXT                    all that is due is tried, and the remote says so
//	deliver TEXT                  likewise
func (w *world) happen(action []string) {
	w.t.Helper()
	s, ctx := w.stores[w.dir], w.t.Context()
	must := func(err error) {
		if err != nil {
			w.t.Helper()
			w.t.Fatalf("%v: %v", action, err)
		}
	}
	switch args := action[1:]; action[0] {
	case "sent":
		way := store.SentWay(args[0])
		account, err := s.AccountByName(ctx, args[1])
		must(err)
		n, err := strconv.ParseInt(args[3], 10, 64)
		must(err)
		must(s.AddStat(ctx, store.DayOf(noon), store.SentByMailbox(way, account.ID), n))
		must(s.AddStat(ctx, store.DayOf(noon), store.SentFromAddress(way, netip.MustParseAddr(args[2])), n))
	case "figure":
		n, err := strconv.ParseInt(args[1], 10, 64)
		must(err)
		days, err := strconv.Atoi(args[2])
		must(err)
		must(s.AddStat(ctx, store.DayOf(noon.AddDate(0, 0, -days)), args[0], n))
	case "grant":
		account, err := s.AccountByName(ctx, args[0])
		must(err)
		ago, err := strconv.Atoi(args[2])
		must(err)
		_, err = s.OpenGrant(ctx, noon.Add(-time.Duration(ago)*time.Minute), store.GrantRequest{
			Account: account.ID, Network: netip.MustParsePrefix(args[1]), CredentialVersion: account.CredentialVersion,
			Window: 20 * time.Minute, Longest: 12 * time.Hour, Recipients: 50, MostLive: 5,
		})
		must(err)
	case "client":
		account, err := s.AccountByName(ctx, args[0])
		must(err)
		var n [4]int64
		for i := range n {
			n[i], err = strconv.ParseInt(args[6+i], 10, 64)
			must(err)
		}
		at := noon.Add(-time.Duration(n[0]) * time.Minute)
		must(s.NoteClients(ctx, []store.Client{{
			Account: account.ID, Program: args[1], Door: args[2], Mechanism: args[3], TLS: args[4], Address: netip.MustParseAddr(args[5]), First: at, Last: at,
			Sessions: 1, Fetched: n[1], Deleted: n[2], Keeps: n[3],
		}}))
	case "defer", "deliver":
		kind := map[string]store.OutcomeKind{"defer": store.Deferred, "deliver": store.Delivered}[action[0]]
		account, err := s.AccountByName(ctx, "anna")
		must(err)
		jobs, err := s.Lease(ctx, received, account.ID, "other.example", 100, time.Minute)
		must(err)
		for _, j := range jobs {
			lost, err := s.Finish(ctx, received, store.Outcome{
				Job: j.ID, Lease: j.Lease, Kind: kind, Text: args[0], At: received, Next: received.Add(time.Hour),
				Peer: store.Peer{Host: "mx.other.example", Addr: netip.MustParseAddr("192.0.2.25"), TLS: "TLS 1.3"},
			})
			must(err)
			if len(lost) > 0 {
				w.t.Fatalf("%v: lost %v", action, lost)
			}
		}
	default:
		w.t.Fatalf("no such action: %v", action)
	}
}

// words splits a command line at blanks outside single quotes.
func words(line string) []string {
	var list []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			list = append(list, part)
		} else {
			list = append(list, strings.Fields(part)...)
		}
	}
	return list
}

// matches compares what was printed with what is wanted, in which {*} stands for anything within a line. Blanks at line ends and runs
// of blanks between columns do not count.
func matches(want, got string) bool {
	blanks := regexp.MustCompile(` +`)
	tidy := func(s string) string { return blanks.ReplaceAllString(strings.ReplaceAll(s, " \n", "\n"), " ") }
	pattern := strings.ReplaceAll(regexp.QuoteMeta(tidy(want)), `\{\*\}`, `[^\n]*`)
	return regexp.MustCompile(`^` + pattern + `$`).MatchString(tidy(got))
}

func TestInit(t *testing.T) {
	w := newWorld(t)
	status, stdout, stderr := w.run("", "init", "--data", w.dir, "--domain", "Example.COM")
	if status != 0 || !regexp.MustCompile(`^[a-z2-7]{5}(-[a-z2-7]{5}){3}\n$`).MatchString(stdout) ||
		stderr != w.dir+" serves example.com; the mailbox postmaster gets the mail for postmaster and abuse\n" {
		t.Fatalf("got %d %q %q", status, stdout, stderr)
	}
	if w.hasher.text+"\n" != stdout {
		t.Errorf("printed %q, stored %q", stdout, w.hasher.text)
	}
	w.wantRoles("postmaster")
	status, _, stderr = w.run("", "init", "--data", w.dir, "--domain", "example.com")
	if status != ExitFailed || !strings.Contains(stderr, "the domain is there already: example.com in ") {
		t.Errorf("second init: got %d %q", status, stderr)
	}
	status, _, stderr = w.run("", "init", "--data", w.dir, "--domain", "other.example")
	if status != ExitFailed || !strings.Contains(stderr, "holds the domain example.com, not other.example") {
		t.Errorf("other domain: got %d %q", status, stderr)
	}
}

// wantRoles checks that postmaster and abuse lead to one mailbox.
func (w *world) wantRoles(mailbox string) {
	w.t.Helper()
	s := w.stores[w.dir]
	account, err := s.AccountByName(w.t.Context(), mailbox)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, role := range webmanager.RoleNames() {
		address, err := mailaddr.New(role, "example.com")
		if err != nil {
			w.t.Fatal(err)
		}
		route, err := s.Resolve(w.t.Context(), address)
		if err != nil || len(route.Local) != 1 || route.Local[0] != account.ID {
			w.t.Errorf("%s: got %+v, %v; want account %d", role, route, err, account.ID)
		}
	}
}

func TestInitWithOptions(t *testing.T) {
	for _, mailbox := range []string{"postmaster", "abuse", "chief"} {
		w := newWorld(t)
		status, stdout, stderr := w.run("given password\n", "init", "--data", w.dir, "--domain", "example.com", "--postmaster", mailbox, "--password-stdin")
		if status != 0 || stdout != "" || w.hasher.text != "given password" {
			t.Fatalf("got %d %q %q, password %q", status, stdout, stderr, w.hasher.text)
		}
		w.wantRoles(mailbox)
	}
}

// TestInitIsCompleted: an init that broke off after any of its steps is completed by the next one.
func TestInitIsCompleted(t *testing.T) {
	for done := range 3 {
		w := newWorld(t)
		if err := w.init(t.Context(), w.dir, "example.com"); err != nil {
			t.Fatal(err)
		}
		client := webmanager.InProcess(w.api(w.stores[w.dir]), webmanager.Actor{Name: "tester", Role: webmanager.RoleOperator})
		if done > 0 {
			if err := client.Do(t.Context(), "POST", "/v1/accounts", webmanager.NewAccount{Name: "chief", Password: "lost password"}, nil); err != nil {
				t.Fatal(err)
			}
		}
		if done > 1 {
			if err := client.Do(t.Context(), "PUT", "/v1/aliases/postmaster", webmanager.AliasTargets{Targets: []string{"chief"}}, nil); err != nil {
				t.Fatal(err)
			}
		}
		status, stdout, stderr := w.run("", "init", "--data", w.dir, "--domain", "example.com", "--postmaster", "Chief@example.com")
		if status != 0 || w.hasher.text+"\n" != stdout {
			t.Fatalf("after %d steps: got %d %q %q", done, status, stdout, stderr)
		}
		w.wantRoles("chief")
	}
}

func TestInitUsage(t *testing.T) {
	for _, tt := range []struct {
		args  []string
		words string
	}{
		{[]string{"init", "--data", "d"}, "--domain is missing"},
		{[]string{"init", "--data", "d", "--domain", "-x-"}, `"-x-" is not a domain`},
		{[]string{"init", "--data", "d", "--domain", "[192.0.2.1]"}, "is not a domain"},
		{[]string{"init", "--domain", "example.com"}, "no data directory: give --data, LATCHKEY_DATA, or data in the file"},
		{[]string{"init", "--data", "d", "--domain", "example.com", "more"}, "usage: latchkey init"},
	} {
		w := newWorld(t)
		status, _, stderr := w.run("", tt.args...)
		if status != ExitUsage || !strings.Contains(stderr, tt.words) || len(w.stores) > 0 {
			t.Errorf("%v: got %d %q", tt.args, status, stderr)
		}
	}
}

func TestPasswordSources(t *testing.T) {
	long := strings.Repeat("p", webmanager.MaxPasswordLen)
	tests := []struct {
		name    string
		args    []string
		stdin   string
		prompts []string
		status  int
		want    string // the password that is stored
		words   string
	}{
		{"prompt", nil, "", []string{"my password", "my password"}, ExitDone, "my password", "Password: \nOnce more: \n"},
		{"prompts differ", nil, "", []string{"my password", "my passwort"}, ExitFailed, "", "the two passwords differ; nothing was changed"},
		{"prompt broken off", nil, "", []string{"my password"}, ExitFailed, "", "EOF"},
		{"no terminal", nil, "", nil, ExitUsage, "", "no terminal to ask for the password: use --password-stdin or --generate"},
		{"stdin", []string{"--password-stdin"}, "my password\n", nil, ExitDone, "my password", ""},
		{"stdin without line end", []string{"--password-stdin"}, "my password", nil, ExitDone, "my password", ""},
		{"stdin with CRLF", []string{"--password-stdin"}, "my password\r\n", nil, ExitDone, "my password", ""},
		{"stdin keeps blanks", []string{"--password-stdin"}, "  my password \nnext\n", nil, ExitDone, "  my password ", ""},
		{"stdin empty", []string{"--password-stdin"}, "", nil, ExitFailed, "", "standard input holds no password"},
		{"stdin at the bound less one", []string{"--password-stdin"}, long[1:] + "\n", nil, ExitDone, long[1:], ""},
		{"stdin at the bound", []string{"--password-stdin"}, long + "\r\n", nil, ExitDone, long, ""},
		{"stdin beyond the bound", []string{"--password-stdin"}, long + "p\r\n", nil, ExitFailed, "", "password: is longer than 1024 octets"},
		{"stdin far beyond the bound", []string{"--password-stdin"}, long + long + "\n", nil, ExitFailed, "", "password: is longer than 1024 octets"},
		{"both", []string{"--password-stdin", "--generate"}, "my password\n", nil, ExitUsage, "", "--generate and --password-stdin exclude each other"},
		{"as an argument", []string{"my password"}, "", nil, ExitUsage, "", "usage: latchkey account"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.seed()
			for _, args := range [][]string{{"account", "add", "bert"}, {"account", "set-password", "anna"}} {
				w.prompts, w.hasher.text = tt.prompts, ""
				status, stdout, stderr := w.run(tt.stdin, append(append(args, tt.args...), "--data", w.dir)...)
				if status != tt.status || w.hasher.text != tt.want || !strings.Contains(stderr, tt.words) || stdout != "" {
					t.Errorf("%v: got %d %q %q, stored %q", args, status, stdout, stderr, w.hasher.text)
				}
			}
		})
	}
}

func TestDataDirectory(t *testing.T) {
	w := newWorld(t)
	w.seed()
	for _, tt := range []struct {
		name   string
		vars   map[string]string
		args   []string
		status int
		words  string
	}{
		{"from the environment", map[string]string{"LATCHKEY_DATA": w.dir}, nil, ExitDone, ""},
		{"flag wins", map[string]string{"LATCHKEY_DATA": "/nowhere"}, []string{"--data", w.dir}, ExitDone, ""},
		{"none", nil, nil, ExitUsage, "latchkey: data: no data directory"},
		{"not there", nil, []string{"--data", "/nowhere"}, ExitFailed,
			"latchkey: /nowhere holds no domain; make one: latchkey init --data /nowhere --domain NAME\n"},
		{"from a file", nil, []string{"--config", writeFile(t, fmt.Sprintf("data = %q\n", w.dir))}, ExitDone, ""},
		{"from a file of the environment", map[string]string{"LATCHKEY_CONFIG": writeFile(t, fmt.Sprintf("data = %q\n", w.dir))}, nil, ExitDone, ""},
		{"a file with mistakes", nil, []string{"--config", writeFile(t, "dta = 1\nx = 2\n")}, ExitUsage, ":2: unknown key x\n"},
		{"no such flag", nil, []string{"--listen-pop3", ":1"}, ExitUsage, "unknown flag: --listen-pop3; see latchkey account list --help"},
	} {
		w.vars = tt.vars
		status, _, stderr := w.run("", append([]string{"account", "list"}, tt.args...)...)
		if status != tt.status || !strings.Contains(stderr, tt.words) {
			t.Errorf("%s: got %d %q", tt.name, status, stderr)
		}
	}
	w.locked, w.vars = true, nil
	status, _, stderr := w.run("", "account", "list", "--data", w.dir)
	if status != ExitFailed || !strings.Contains(stderr, "is in use by a process that does not answer on control.sock") {
		t.Errorf("locked: got %d %q", status, stderr)
	}
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "latchkey.toml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestServe(t *testing.T) {
	w := newWorld(t)
	file := writeFile(t, "data = 'd'\nhostname = 'file.example'\n[tls]\ncert = 'c'\nkey = 'k'\n")
	status, _, stderr := w.run("", "serve", "--config", file, "--hostname", "flag.example", "--listen-mx", "127.0.0.1:2525", "--limits-connections", "9")
	if status != 0 || len(w.served) != 1 {
		t.Fatalf("got %d %q", status, stderr)
	}
	c := w.served[0]
	if c.Data != "d" || c.Hostname != "flag.example" || c.Listen.MX[0] != "127.0.0.1:2525" || c.Limits.Connections != 9 || c.TLS.Cert != "c" {
		t.Errorf("got %+v", c)
	}
	status, _, stderr = w.run("", "serve", "--data", "d", "--log-level", "loud")
	if status != ExitUsage || strings.Count(stderr, "\n") != 4 || !strings.Contains(stderr, "latchkey: --log-level: log.level: ") {
		t.Errorf("mistakes: got %d %q", status, stderr)
	}
}

func TestDemoOptions(t *testing.T) {
	for _, tt := range []struct {
		args   []string
		status int
		want   Demo
	}{
		{nil, 0, Demo{Dir: "./demo-data", PortBase: 2000}},
		{[]string{"--data", "x", "--port-base", "3000", "--domain", "Try.Example"}, 0, Demo{Dir: "x", PortBase: 3000, Domain: "try.example"}},
		{[]string{"--port-base", "999"}, 2, Demo{}},
		{[]string{"--port-base", "1000"}, 0, Demo{Dir: "./demo-data", PortBase: 1000}},
		{[]string{"--port-base", "64000"}, 0, Demo{Dir: "./demo-data", PortBase: 64000}},
		{[]string{"--port-base", "64001"}, 2, Demo{}},
		{[]string{"--data", ""}, 2, Demo{}},
		{[]string{"--domain", "-"}, 2, Demo{}},
	} {
		w := newWorld(t)
		status, _, stderr := w.run("", append([]string{"demo"}, tt.args...)...)
		if status != tt.status || (status == 0) != (len(w.demos) == 1) || status == 0 && w.demos[0] != tt.want {
			t.Errorf("%v: got %d %q %+v", tt.args, status, stderr, w.demos)
		}
	}
}

func TestUsage(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		args   string
		status int
		words  string
	}{
		{"", 0, "Usage:"},
		{"--help", 0, "Exit status: 0 done"},
		{"nonsense", 2, "unknown command"},
		{"account nonsense", 2, `latchkey account has no command "nonsense"`},
		{"account", 0, "set-password"},
		{"account add", 2, "usage: latchkey account add NAME"},
		{"account show .", 2, `"." names nothing; usage: latchkey account show NAME`},
		{"alias remove ..", 2, `".." names nothing; usage: latchkey alias remove NAME`},
		{"queue list more", 2, "usage: latchkey queue list"},
		{"settings set nonsense=1 auth_on_mx=maybe recipients=x recipients", 2,
			`latchkey: "nonsense" is not a setting (see latchkey settings show); auth_on_mx is on or off, not "maybe"; recipients is a whole number, not "x"; "recipients" is not KEY=VALUE`},
		{"settings set auth_on_mx=on auth_on_mx=off", 2, "auth_on_mx is named twice"},
		{"audit --limit 0", 2, "--limit is 1 to 100000"},
		{"completion bash", 0, "bash completion"},
		{"version", 0, "latchkey v1.2.3 (go1.26)"},
		{"version --json", 0, `"version": "v1.2.3"`},
	} {
		status, stdout, stderr := w.run("", strings.Fields(tt.args)...)
		if status != tt.status || !strings.Contains(stdout+stderr, tt.words) {
			t.Errorf("latchkey %s: got %d %q %q", tt.args, status, stdout, stderr)
		}
		if status != 0 && stdout != "" {
			t.Errorf("latchkey %s: failed, and printed %q", tt.args, stdout)
		}
	}
}

func TestCompletion(t *testing.T) {
	w := newWorld(t)
	w.seed()
	status, stdout, _ := w.run("", "__complete", "account", "show", "--data", w.dir, "")
	if status != 0 || !strings.HasPrefix(stdout, "anna\npostmaster\n") {
		t.Errorf("got %d %q", status, stdout)
	}
	status, stdout, _ = w.run("", "__complete", "account", "show", "--data", "/nowhere", "")
	if status != 0 || !strings.HasPrefix(stdout, ":4\n") {
		t.Errorf("no domain: got %d %q", status, stdout)
	}
}

func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&webmanager.Error{Message: "no", Fields: []webmanager.Field{{Field: "a", Message: "b"}}}, "no: a: b"},
		{fmt.Errorf("dial: %w", os.ErrPermission), "dial: permission denied: run it as the user of the server, or as root"},
		{fmt.Errorf("x: %w", context.Canceled), "interrupted"},
		{errors.Join(errors.New("a"), errors.New("b")), "a; b"},
	} {
		if got := explain(tt.err); got != tt.want {
			t.Errorf("%v: got %q, want %q", tt.err, got, tt.want)
		}
	}
}
