package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// abuseScenarios is how many there are, and openScenarios those that later work will answer.
const abuseScenarios = 37

func openScenarios() map[int]bool {
	return map[int]bool{21: true, 24: true}
}

var abuseTest = regexp.MustCompile(`^TestAbuse(\d\d)[A-Z]\w*$`)

// TestAbuseTable keeps docs/abuse.md and the tests together: every scenario has its row and a test of its number, or says what is open; every
// such test is in the row of its number.
func TestAbuseTable(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "abuse.md"))
	if err != nil {
		t.Fatal(err)
	}
	names := declarations(t)
	var rows [abuseScenarios + 1]string
	cited := map[string]int{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		n, err := strconv.Atoi(strings.TrimSpace(cells[0]))
		if err != nil || len(cells) != 4 {
			continue
		}
		if n < 1 || n > abuseScenarios || rows[n] != "" {
			t.Fatalf("row %d is none, or is there twice", n)
		}
		rows[n] = cells[2]
		own := false
		for _, span := range codeSpan.FindAllStringSubmatch(cells[3], -1) {
			if !names[span[1]] {
				t.Errorf("row %d: there is no %s", n, span[1])
			}
			cited[span[1]] = n
			own = own || strings.HasPrefix(span[1], fmt.Sprintf("TestAbuse%02d", n))
		}
		if open := openScenarios()[n]; own == open || open != strings.HasPrefix(strings.TrimSpace(cells[2]), "open: ") {
			t.Errorf("row %d: its test is named: %t, it is open: %t", n, own, open)
		}
	}
	for n, row := range rows[1:] {
		if strings.TrimSpace(row) == "" {
			t.Errorf("no row %d", n+1)
		}
	}
	for name := range names {
		if of := abuseTest.FindStringSubmatch(name); of != nil && strconv.Itoa(cited[name]) != strings.TrimLeft(of[1], "0") {
			t.Errorf("%s is not in the row of its number", name)
		}
	}
}
