//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Names of the ways in which this program runs itself.
const (
	engineHelper = "engine"
	loopHelper   = "loop"
	idleHelper   = "idle"
	bareHelper   = "bare"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	err := func() error {
		if len(os.Args) > 1 {
			switch os.Args[1] {
			case engineHelper:
				return engineMain(ctx, os.Args[2:])
			case loopHelper:
				return loopMain(os.Args[2:])
			case idleHelper:
				return idleMain(os.Args[2:])
			case bareHelper:
				return bareMain(os.Args[2:])
			}
		}
		return measure(ctx, os.Args[1:])
	}()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is what all parts need of one run.
type run struct {
	tools  string
	parts  map[byte]bool
	rounds int
	scale  float64
	most   int // messages, of part e
	docs   string

	root   string // a folder of this run
	binary string // the server
	sheet  *sheet
	curve  string // of part e, for the documents
}

const allParts = "abcdefghijk"

// parse reads the command line.
func parse(args []string) (*run, error) {
	r := &run{parts: make(map[byte]bool), sheet: newSheet()}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&r.tools, "tools", "", "folder of the side-by-side tools; parts a to d, g and i need it")
	parts := f.String("parts", "a b c d g h i", "what to measure: letters of "+allParts)
	f.IntVar(&r.rounds, "rounds", 3, "rounds of parts a to d and g to i")
	f.Float64Var(&r.scale, "scale", 1, "share of the messages of parts a to d, f, g and i, to try things out")
	f.IntVar(&r.most, "growth", defaultGrowth(), "messages at the end of part e, recipients at that of part j (LATCHKEY_GROWTH)")
	f.StringVar(&r.docs, "docs", "", "folder whose performance.md and growth.svg are written anew")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	for _, letter := range []byte(*parts) {
		switch {
		case strings.IndexByte(allParts, letter) >= 0:
			r.parts[letter] = true
		case letter != ' ' && letter != ',':
			return nil, fmt.Errorf("no part %q", letter)
		}
	}
	switch {
	case f.NArg() > 0:
		return nil, fmt.Errorf("unknown argument %q", f.Arg(0))
	case r.rounds < 1 || r.rounds > 99:
		return nil, errors.New("-rounds is 1 to 99")
	case r.scale <= 0 || r.scale > 10:
		return nil, errors.New("-scale is more than 0 and at most 10")
	case r.most < leastGrowth || r.most > 10_000_000:
		return nil, fmt.Errorf("-growth is %d to 10000000", leastGrowth)
	case r.tools == "" && r.needsTools():
		return nil, errors.New("parts a to d, g and i need -tools")
	case (r.besides() || r.parts['g'] || r.parts['i']) && os.Getuid() != 0:
		return nil, errors.New("parts a, b, d, g and i start Postfix and Dovecot: only root may")
	}
	var err error
	if r.tools != "" {
		r.tools, err = filepath.Abs(r.tools)
	}
	return r, err
}

// defaultGrowth is what the environment says; 0 if that is no number, which parse refuses.
func defaultGrowth() int {
	text, set := os.LookupEnv("LATCHKEY_GROWTH")
	if !set || text == "" {
		return 1_000_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return n
}

func (r *run) besides() bool    { return r.parts['a'] || r.parts['b'] || r.parts['d'] }
func (r *run) needsTools() bool { return r.besides() || r.parts['c'] || r.parts['g'] || r.parts['i'] }

// loadGC is how far the heap of this program may grow, in per cent of what is alive: it shares the processors with the servers, and its
// collections are not what is measured.
const loadGC = 1000

// measure is the program.
func measure(ctx context.Context, args []string) (err error) {
	r, err := parse(args)
	if err != nil {
		return err
	}
	debug.SetGCPercent(loadGC)
	lock, err := lockMachine()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if r.root, err = os.MkdirTemp("", "latchkey-bench."); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.root)) }()
	if err := os.Chmod(r.root, 0o755); err != nil { // Dovecot's users go through it
		return err
	}
	if err := checkDisk(r.root, r.space()); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(r.root, "bin"), 0o755); err != nil {
		return err
	}
	if r.binary, err = r.buildServer(ctx); err != nil {
		return err
	}
	used, err := busy()
	if err != nil {
		return err
	}
	fmt.Printf("machine: %s; %.0f %% busy before the run\n", machine(), 100*used)
	begin := time.Now()
	err = r.all(ctx)
	fmt.Printf("\n%d round(s), medians; %s\n", r.rounds, time.Since(begin).Round(time.Second))
	return errors.Join(err, r.sheet.print(os.Stdout), ctx.Err())
}

// all measures the parts that were chosen, and writes them into the documents.
func (r *run) all(ctx context.Context) error {
	for _, step := range []struct {
		wanted  bool
		measure func(context.Context) error
	}{
		{r.besides(), r.measureBeside},
		{r.parts['d'], r.measureRetr},
		{r.parts['g'], r.measureSessions},
		{r.parts['c'], r.measureEngine},
		{r.parts['e'], r.measureGrowth},
		{r.parts['j'], r.measureQueue},
		{r.parts['f'], r.measureDisk},
		{r.parts['h'], r.measureFlood},
		{r.parts['i'], r.measureRate},
		{r.parts['k'], r.measurePages},
	} {
		if !step.wanted {
			continue
		}
		if err := step.measure(ctx); err != nil {
			return err
		}
	}
	return r.writeDocs()
}

func (r *run) measureBeside(ctx context.Context) (err error) {
	b, err := newBeside(ctx, r)
	if b != nil {
		defer func() { err = errors.Join(err, b.close(ctx)) }()
	}
	if err != nil {
		return err
	}
	for number := range r.rounds {
		fmt.Printf("round %d of %d\n", number+1, r.rounds)
		if err := b.round(ctx, number); err != nil {
			return err
		}
	}
	return nil
}

// space is how much of the disk the chosen parts may need, in octets.
func (r *run) space() int64 {
	need := int64(6e9 * max(r.scale, 1)) // loads, a sink's log, two bare layouts
	if r.parts['e'] || r.parts['j'] {
		need = max(need, int64(r.most)*8000+1e9)
	}
	return need
}

// figure keeps one figure, and shows it.
func (r *run) figure(measure, server string, v float64, unit string) {
	r.sheet.note(measure, server, v)
	fmt.Printf("  %-58s %-24s %10s %s\n", measure, server, figure(v), unit)
}

// scaled is a number of messages for so many connections.
func (r *run) scaled(n, conns int) int { return max(int(float64(n)*r.scale), conns, 10) }

// buildServer builds the server as make build does.
func (r *run) buildServer(ctx context.Context) (string, error) {
	out := filepath.Join(r.root, "bin", "latchkey")
	_, err := command(ctx, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "latchkey/cmd/latchkey")
	return out, err
}

// build builds one of the tools, each a module of its own.
func (r *run) build(ctx context.Context, tool string) (string, error) {
	out := filepath.Join(r.root, "bin", tool)
	_, err := command(ctx, []string{"CGO_ENABLED=0"}, "go", "build", "-C", filepath.Join(r.tools, tool), "-o", out, ".")
	return out, err
}

// writeDocs fills the blocks of the parts that were measured.
func (r *run) writeDocs() error {
	if r.docs == "" {
		return nil
	}
	name := filepath.Join(r.docs, "performance.md")
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	doc := string(text)
	for _, part := range []byte(allParts) {
		if !r.parts[part] {
			continue
		}
		block := "\n" + r.sheet.markdown(part) + "\n"
		if part == 'e' {
			block += r.curve + "\n![Latency over the number of stored messages](growth.svg)\n\n"
		}
		block += fmt.Sprintf("Measured on %s, %d round(s).\n\n", time.Now().UTC().Format(time.DateOnly), r.rounds)
		if doc, err = fillBlock(doc, string(part), block); err != nil {
			return err
		}
	}
	if doc, err = fillBlock(doc, "machine", machine()+"\n"); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(doc), 0o644)
}
