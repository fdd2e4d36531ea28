package guard

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
)

// recorder notes what is written to a connection, write by write.
type recorder struct {
	net.Conn
	mu     sync.Mutex
	writes [][]byte
	fails  error
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	r.writes = append(r.writes, bytes.Clone(p))
	err := r.fails
	r.mu.Unlock()
	if err != nil || r.Conn == nil {
		return len(p), err
	}
	return r.Conn.Write(p)
}

func (r *recorder) sizes() (sizes []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.writes {
		sizes = append(sizes, len(p))
	}
	return sizes
}

// TestHeld: what is small is held until more is written behind the end, or until it is flushed; nothing is written in another order.
func TestHeld(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before []int // writes during the handshake
		flush  bool
		after  int // a write behind it; 0 is none
		want   []int
	}{
		{"together with what follows", []int{200}, false, 40, []int{240}},
		{"two together", []int{200, 100}, false, 40, []int{340}},
		{"flushed", []int{200}, true, 40, []int{200, 40}},
		{"never followed", []int{200}, false, 0, nil},
		{"one octet less than the bound", []int{maxHeld - 1}, false, 0, nil},
		{"the bound", []int{maxHeld}, false, 0, nil},
		{"one octet more", []int{maxHeld + 1}, false, 0, []int{maxHeld + 1}},
		{"more than the bound together", []int{maxHeld, 1}, false, 0, []int{maxHeld + 1}},
		{"nothing held", nil, true, 40, []int{40}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, to := new(held), new(recorder)
			var sent []byte
			write := func(n int) {
				p := bytes.Repeat([]byte{byte('a' + len(sent)%7)}, n)
				sent = append(sent, p...)
				if got, err := h.write(to, p); got != n || err != nil {
					t.Errorf("wrote %d of %d octets: %v", got, n, err)
				}
			}
			for _, n := range tt.before {
				write(n)
			}
			if tt.flush {
				if err := h.flush(to); err != nil {
					t.Error(err)
				}
			}
			h.end()
			if tt.after > 0 {
				write(tt.after)
			}
			if got := to.sizes(); len(got) != len(tt.want) {
				t.Fatalf("writes of %v octets, want %v", got, tt.want)
			}
			for i, n := range to.sizes() {
				if n != tt.want[i] {
					t.Errorf("writes of %v octets, want %v", to.sizes(), tt.want)
				}
			}
			if got := bytes.Join(to.writes, nil); !bytes.HasPrefix(sent, got) {
				t.Error("octets were changed, or came in another order")
			}
		})
	}
}

// TestHeldFails: whoever writes behind what cannot be written learns of it, and so does whoever reads.
func TestHeldFails(t *testing.T) {
	broken := errors.New("broken")
	h, to := new(held), &recorder{fails: broken}
	if _, err := h.write(to, []byte("ticket")); err != nil {
		t.Error(err)
	}
	if err := h.flush(to); !errors.Is(err, broken) {
		t.Errorf("flushed: %v", err)
	}
	h = new(held)
	_, _ = h.write(to, []byte("ticket"))
	h.end()
	if n, err := h.write(to, []byte("+OK\r\n")); n != 5 || !errors.Is(err, broken) {
		t.Errorf("wrote %d octets: %v", n, err)
	}
}

// recording is a listener whose connections are recorded.
type recording struct {
	net.Listener
	accepted chan *recorder
}

func (r recording) Accept() (net.Conn, error) {
	c, err := r.Listener.Accept()
	if err != nil {
		return nil, err
	}
	rec := &recorder{Conn: c}
	r.accepted <- rec
	return rec, nil
}

// TestTicketsWithGreeting: a client of TLS 1.3 gets its tickets and the greeting in one write, and one of TLS 1.2 the end of the handshake before the
// server has anything to say.
func TestTicketsWithGreeting(t *testing.T) {
	config := TLSConfig(selfSigned(t, t.TempDir()).GetCertificate)
	for _, tt := range []struct {
		version uint16
		writes  int
	}{{tls.VersionTLS13, 2}, {tls.VersionTLS12, 3}} {
		t.Run(tls.VersionName(tt.version), func(t *testing.T) {
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			r := recording{inner, make(chan *recorder, 1)}
			l := NewListener(r, ListenerOptions{TLS: config})
			t.Cleanup(func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
			client := tls.Client(dialFrom(t, l, "127.0.0.1"), &tls.Config{
				InsecureSkipVerify: true, MinVersion: tt.version, MaxVersion: tt.version, ClientSessionCache: tls.NewLRUClientSessionCache(1), ServerName: "x",
			})
			if err := client.Handshake(); err != nil {
				t.Fatal(err)
			}
			server, rec := accept(t, l), <-r.accepted
			if _, err := server.Write([]byte("+OK\r\n")); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(client).ReadString('\n'); err != nil || !strings.HasPrefix(line, "+OK") {
				t.Fatalf("got %q: %v", line, err)
			}
			if got := rec.sizes(); len(got) != tt.writes {
				t.Errorf("writes of %v octets, want %d of them", got, tt.writes)
			}
		})
	}
}
