//go:build !race

package main

import "testing"

// TestYearInShort is the beginning of the year of TestTortureYear, with fewer devices: long enough for every attacker. It has no goroutines,
// so the race detector would see nothing in ten times as long.
func TestYearInShort(t *testing.T) {
	r := liveYear(t, yearSeed, 13, shortDevices)
	r.check(t)
	t.Log("\n" + yearTable([]*yearResult{r}))
}
