//go:build torture

package main

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var updateYear = flag.Bool("update-year", false, "write the table of the simulated year into docs/abuse.md")

// TestTortureYear lives through a whole year. LATCHKEY_SEED has it go otherwise.
func TestTortureYear(t *testing.T) {
	seed := uint64(yearSeed)
	if text := os.Getenv("LATCHKEY_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("LATCHKEY_SEED: %v", err)
		}
	}
	r := liveYear(t, seed, rounds(365, 30), yearDevices)
	r.check(t)
	t.Log("\n" + r.table())
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
	if err := os.WriteFile(path, []byte(head+begin+"\n"+r.table()+"\n"+end+tail), 0o644); err != nil { //nolint:gosec // a document
		t.Fatal(err)
	}
}
