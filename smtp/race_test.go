//go:build race

package smtp

// thinning is how many times fewer probes each sender tries under the race detector, which makes them ten times slower.
const thinning = 8
