package relay

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/internal/resolver"
	"latchkey/internal/resolver/resolvertest"
	"latchkey/store"
)

// loopbackServer serves on an address of 127.0.0.0/8 until the end of the test.
func loopbackServer(t *testing.T, addr string, s *server) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				s.serve(c)
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// TestLoopback goes the whole way over real sockets: the shipped resolver asks a name server on loopback, and the exchangers that it
// finds are servers on loopback, which the laboratory's operator named for outgoing mail.
func TestLoopback(t *testing.T) {
	cert, _ := certificate(t, "mx1.remote.example")
	s := &server{cert: cert}
	at := loopbackServer(t, "127.0.0.1:0", s)
	backup := &server{}
	loopbackServer(t, fmt.Sprintf("127.0.0.2:%d", at.Port()), backup)

	names := resolvertest.New(t)
	names.Set("remote.example", "MX", "10 mx1.remote.example.", "20 mx2.remote.example.")
	names.Set("mx1.remote.example", "A", "127.0.0.1")
	names.Set("mx2.remote.example", "A", "127.0.0.2")
	names.Set("second.example", "MX", "10 dead.example.", "20 mx2.remote.example.")
	names.Set("dead.example", "A", "127.0.0.77")
	names.Set("alias.example", "CNAME", "remote.example.")
	names.Set("bare.example", "A", "127.0.0.1")
	names.Set("null.example", "MX", "0 .")
	names.Set("broken.example", "MX", "10 gone.example.")
	names.Set("loop.example", "MX", "10 mail.example.org.")
	names.Set("inner.example", "A", "10.0.0.1")
	names.Behave("failing.example", "", resolvertest.ServFail)
	r := newRig(t)
	var err error
	if r.opts.Resolver, err = resolver.New(resolver.Options{Servers: []netip.AddrPort{names.Addr()}, Timeout: 2 * time.Second, Attempts: 1}); err != nil {
		t.Fatal(err)
	}
	r.opts.Dial, r.opts.Port = nil, at.Port()
	r.opts.AllowNetworks = []netip.Prefix{mustPrefix("127.0.0.0/8")}
	want := map[string]string{
		"remote.example": "delivered: mx1.remote.example [127.0.0.1] TLS 1.3: 250", "second.example": "delivered: mx2.remote.example [127.0.0.2]: 250",
		"alias.example": "delivered: mx1.remote.example [127.0.0.1] TLS 1.3: 250", "bare.example": "delivered: bare.example [127.0.0.1] TLS 1.3: 250",
		"null.example": "failed: null.example takes no mail", "broken.example": "failed: gone.example does not exist",
		"loop.example": "failed: mail for loop.example would come back", "inner.example": "failed: mail for inner.example is not sent to [10.0.0.1]",
		"failing.example": "deferred: ", "nowhere.example": "failed: nowhere.example does not exist",
	}
	messages := map[string]store.MessageID{}
	for domain := range want {
		messages[domain] = r.queue(post{}, "bob@"+domain).Message
	}
	r.start()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for domain, words := range want {
		for {
			trail := slices.DeleteFunc(r.trail(messages[domain]), func(event string) bool { return strings.HasPrefix(event, "reported") })
			if last := trail[len(trail)-1]; !strings.HasPrefix(last, "queued") {
				if got := strings.Replace(last, " bob@"+domain, "", 1); !strings.HasPrefix(got, words) {
					t.Errorf("%s: got %q, want %q", domain, got, words)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: nothing became of it\n%s", domain, r.logged)
			}
			<-tick.C
		}
	}
	r.stop()
	if len(r.jobs()) != 1 || len(r.mail()) != 5 {
		t.Errorf("%d jobs left, %d bounces", len(r.jobs()), len(r.mail()))
	}
}
