package relay

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLaterOfTheSame: of two messages to one domain that were put off to different moments both go at theirs.
func TestLaterOfTheSame(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		n := 0
		s := r.site("remote.example", "192.0.2.1", &server{answer: func(c string) string {
			if strings.HasPrefix(c, "RCPT") && n < 2 {
				n++
				return "450 4.2.1 later"
			}
			return ""
		}})
		r.start()
		r.queue(post{}, "one@remote.example")
		time.Sleep(2 * time.Minute)
		r.queue(post{}, "two@remote.example")
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if len(s.taken()) != 2 || len(r.jobs()) != 0 {
			t.Errorf("%d arrived, waiting: %+v", len(s.taken()), r.jobs())
		}
		r.stop()
	})
}
