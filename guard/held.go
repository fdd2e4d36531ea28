package guard

import (
	"net"
	"sync"
)

// maxHeld bounds what one write of a handshake may have to be held back. A certificate is larger; session tickets are not.
const maxHeld = 1 << 10

// held keeps what a handshake writes until something is read, or more is written. The last of it are session tickets, for which no client
// waits: they leave together with the greeting, and the client is woken once and not twice. Reads and writes may come from two goroutines.
type held struct {
	mu     sync.Mutex
	octets []byte
	// over is set once the handshake has ended. What is held then leaves with the next write.
	over bool
}

// write holds p back, or writes it behind what is held.
func (h *held) write(to net.Conn, p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.over && len(h.octets)+len(p) <= maxHeld {
		h.octets = append(h.octets, p...)
		return len(p), nil
	}
	before := len(h.octets)
	if before == 0 {
		return to.Write(p)
	}
	both := append(h.octets, p...)
	h.octets = nil
	n, err := to.Write(both)
	return max(n-before, 0), err
}

// flush writes what is held.
func (h *held) flush(to net.Conn) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.octets) == 0 {
		return nil
	}
	_, err := to.Write(h.octets)
	h.octets = nil
	return err
}

// end says that the handshake has ended.
func (h *held) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
}
