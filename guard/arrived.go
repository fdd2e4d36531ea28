package guard

import (
	"net/netip"
	"time"
)

// Arrived remembers that somebody who belongs here is to be found at an address, as Succeeded does, and forgives nothing: who knows the
// password of a device may not guess at the mailbox's own all the longer for that.
func (g *Logins) Arrived(now time.Time, remote netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	*g.homes.use(Prefix(remote)) = now
}
