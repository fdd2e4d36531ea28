//go:build race

package pop3

// RaceEnabled says whether the race detector is on, for tests that count.
const RaceEnabled = true
