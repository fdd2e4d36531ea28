//go:build torture

package guard

import "testing"

// manyAddresses are more than a botnet has.
const manyAddresses = 10_000_000

// TestTortureMemoryIsBounded is TestMemoryIsBounded with ten million addresses: it takes a minute or two.
func TestTortureMemoryIsBounded(t *testing.T) { flood(t, manyAddresses) }
