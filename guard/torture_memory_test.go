//go:build torture

package guard

import (
	"os"
	"testing"
)

// manyAddresses are more than a botnet has.
const manyAddresses = 10_000_000

// TestTortureMemoryIsBounded is TestMemoryIsBounded with ten million addresses: it takes a minute or two. The short form has a twentieth of them.
func TestTortureMemoryIsBounded(t *testing.T) {
	n := manyAddresses
	if os.Getenv("LATCHKEY_TORTURE") == "short" {
		n /= 20
	}
	flood(t, n)
}
