package pop3

import (
	"sync"
	"time"
)

// sparse says which events of one kind are logged, of those that any stranger can cause: a flood must not fill the disk. The zero value is ready.
type sparse struct {
	mu            sync.Mutex // protects the fields below
	began         time.Time  // of the present window
	said, skipped int
}

// ask reports whether an event is logged; skipped is how many were not since the last one that was.
func (s *sparse) ask(now time.Time) (skipped int, say bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.began) >= eventsWindow {
		s.began, s.said = now, 0
	}
	if s.said >= eventsLogged {
		s.skipped++
		return 0, false
	}
	s.said++
	skipped, s.skipped = s.skipped, 0
	return skipped, true
}
