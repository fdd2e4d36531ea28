//go:build !race

package main

// underRace: this is a run without the race detector.
const underRace = false
