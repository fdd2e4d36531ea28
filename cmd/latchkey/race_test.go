//go:build race

package main

// underRace: the race detector makes hashes of passwords ten times slower. Tests with hundreds of them run without it as well: see `make test`.
const underRace = true
