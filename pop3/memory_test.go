package pop3_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"latchkey/pop3"
)

// clientsVariable makes this program one with idle clients, and says where they go: "plain" or "tls", and the address.
const clientsVariable = "POP3_TEST_IDLE_CLIENTS"

// serverVariable is set in the process whose memory is measured.
const serverVariable = "POP3_TEST_IDLE_SERVER"

const idleSessions = 500

func TestMain(m *testing.M) {
	if where := os.Getenv(clientsVariable); where != "" {
		if err := idleClients(where); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// idleClients logs clients in, says so, and waits for the end of its input.
func idleClients(where string) error {
	kind, address, _ := strings.Cut(where, " ")
	var all []net.Conn // what nobody knows any more would be closed
	for range idleSessions {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		all = append(all, c)
		if kind == "tls" {
			c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // the test's own certificate
		}
		r := bufio.NewReader(c)
		for _, command := range []string{"", "CAPA", "USER alice", "PASS secret", "UIDL", "RETR 1"} {
			if command != "" {
				if _, err := io.WriteString(c, command+"\r\n"); err != nil {
					return err
				}
			}
			line, err := r.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "+OK") {
				return fmt.Errorf("%s: %q %w", command, line, err)
			}
			for many := command == "CAPA" || command == "UIDL" || command == "RETR 1"; many && line != ".\r\n"; {
				if line, err = r.ReadString('\n'); err != nil {
					return err
				}
			}
		}
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(all)
	return err
}

// inUse is what the heap and the stacks take, when there is no garbage: the stack of a goroutine shrinks by half at a collection.
func inUse() uint64 {
	for range 5 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestIdleSessionMemory: what an idle session takes that has logged in, listed and fetched, of the server's side alone. Each kind has a process of
// its own, as what an earlier one left would count or hide something, and so have the clients.
func TestIdleSessionMemory(t *testing.T) {
	for _, tt := range []struct {
		kind  string
		limit uint64
	}{{"plain", 12 << 10}, {"tls", 35 << 10}} {
		t.Run(tt.kind, func(t *testing.T) {
			if os.Getenv(serverVariable) == "" {
				server := exec.Command(os.Args[0], "-test.v", "-test.run=^TestIdleSessionMemory$/^"+tt.kind+"$")
				server.Env = append(os.Environ(), serverVariable+"=1")
				out, err := server.CombinedOutput()
				t.Logf("%s", out)
				if err != nil || !strings.Contains(string(out), "octets a session") {
					t.Errorf("in a process of its own: %v", err)
				}
				return
			}
			each := idleMemory(t, tt.kind)
			t.Logf("%d octets a session", each)
			if each > tt.limit && !pop3.RaceEnabled { // the race detector's shadow is larger than what it watches
				t.Errorf("an idle session takes %d octets, want at most %d", each, tt.limit)
			}
			if each < 2<<10 {
				t.Errorf("an idle session takes %d octets: less than its stack", each)
			}
		})
	}
}

// idleMemory is what each of idleSessions takes.
func idleMemory(t *testing.T, kind string) uint64 {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if kind == "tls" {
		l = tls.NewListener(l, certificate(t))
	}
	b := newBackend()
	serveOn(t, newServer(b), l)
	clients := exec.Command(os.Args[0])
	clients.Env = append(os.Environ(), clientsVariable+"="+kind+" "+address)
	in, err := clients.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := clients.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	before := inUse()
	if err := clients.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("clients: %q %v", line, err)
	}
	after := inUse()
	if got := b.Logouts(); got > 0 {
		t.Fatalf("%d of %d sessions have ended", got, idleSessions)
	}
	_ = in.Close() // they end
	if err := clients.Wait(); err != nil {
		t.Error(err)
	}
	return (after - before) / idleSessions
}
