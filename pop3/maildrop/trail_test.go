package maildrop

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"latchkey/pop3"
	"latchkey/store"
)

// TestTrailOfBrokenSession: a session that ends without QUIT leaves in the trail what it fetched; one that fetched nothing, or that polled, leaves
// nothing at all.
func TestTrailOfBrokenSession(t *testing.T) {
	for name, tt := range map[string]struct{ say, want string }{
		"broke off":           {"RETR 3\r\nDELE 3\r\nNOOP\r\n", "fetched " + store.TrailBrokeOff},
		"fetched twice":       {"RETR 3\r\nRETR 3\r\nNOOP\r\n", "fetched " + store.TrailBrokeOff},
		"looked, broke off":   {"TOP 3 0\r\nDELE 3\r\nNOOP\r\n", ""},
		"poll":                {"STAT\r\nQUIT\r\n", ""},
		"poll that broke off": {"STAT\r\n", ""},
		"fetched, left":       {"RETR 3\r\nQUIT\r\n", "fetched "},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			id := f.deliver("Subject: three\r\n\r\n", "body\r\n")
			s := New(Options{Store: f.store, Auth: f.auth, TLSConfig: f.tls, Hostname: "mail.example.com"})
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- s.Serve(l) }()
			c := f.dial(l.Addr().String())
			if _, err := io.WriteString(c, "USER alice\r\nPASS open sesame\r\n"+tt.say); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(tt.say, "QUIT") {
				if _, err := io.ReadAll(c); err != nil {
					t.Fatal(err)
				}
			} else {
				for r, left := bufio.NewReader(c), 3+strings.Count(tt.say, "\r\n"); left > 0; {
					line, err := r.ReadString('\n')
					if err != nil {
						t.Fatal(err)
					}
					if strings.HasPrefix(line, "+OK") {
						left--
					}
				}
				_ = c.Close()
			}
			if err := s.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := <-done; !errors.Is(err, pop3.ErrServerClosed) {
				t.Error(err)
			}
			events, err := f.store.MessageTrail(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range events[2:] {
				got = append(got, string(e.Kind)+" "+e.Text)
			}
			if strings.Join(got, ", ") != tt.want {
				t.Errorf("the trail has %q, want %q", got, tt.want)
			}
			if left := f.messages(); len(left) != 3 {
				t.Errorf("%d messages are left, want 3", len(left))
			}
		})
	}
}
