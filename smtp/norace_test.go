//go:build !race

package smtp

// thinning: without the race detector every sender tries every probe.
const thinning = 1
