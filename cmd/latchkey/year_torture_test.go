//go:build torture

package main

import (
	"flag"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"
)

var updateYear = flag.Bool("update-year", false, "write the table of the simulated year into docs/abuse.md")

// years are how many a long run lives through, each by a seed of its own.
const years = 5

// TestTortureYear lives through whole years, of which the worst is told. LATCHKEY_SEED has them go otherwise.
func TestTortureYear(t *testing.T) {
	seed := uint64(yearSeed)
	if text := os.Getenv("LATCHKEY_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("LATCHKEY_SEED: %v", err)
		}
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // there is much that stays
	results := make([]*yearResult, years)
	t.Run("years", func(t *testing.T) {
		for i := range results {
			t.Run(strconv.FormatUint(seed+uint64(i), 10), func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				results[i] = liveYear(t, seed+uint64(i), rounds(365, 30), yearDevices)
				results[i].check(t)
				t.Logf("it took %v", time.Since(began))
			})
		}
	})
	if t.Failed() {
		return
	}
	t.Log("\n" + yearTable(results))
	if !*updateYear {
		return
	}
	path := filepath.Join("..", "..", "docs", "abuse.md")
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- year -->\n", "<!-- /year -->"
	head, rest, ok := strings.Cut(string(doc), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatal("docs/abuse.md has no place for the year")
	}
	if err := os.WriteFile(path, []byte(head+begin+"\n"+yearTable(results)+"\n"+end+tail), 0o644); err != nil { //nolint:gosec // a document
		t.Fatal(err)
	}
}
