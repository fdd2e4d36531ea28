package pop3

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
)

// refusingBackend refuses every connection.
type refusingBackend struct{}

func (refusingBackend) NewSession(context.Context, *Conn) (Session, error) {
	return nil, &Error{Code: CodeTemp, Text: "not today"}
}

// TestServeConnForgets: a connection that has ended is known no more.
func TestServeConnForgets(t *testing.T) {
	s := &Server{Backend: refusingBackend{}}
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); s.ServeConn(server) }()
	if got, err := io.ReadAll(client); !strings.HasPrefix(string(got), "-ERR [SYS/TEMP] not today") || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	<-done
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) > 0 {
		t.Errorf("%d connections are known", len(s.conns))
	}
}
