package main

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// latchkeyProcess is a real process of this program, with the given command line. It is killed when the test ends.
func latchkeyProcess(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), runMainVariable+"=1")
	return cmd
}

// serveProcess starts a server of a test's domain as a real process, and returns it with the address of its mx door once it is ready.
func serveProcess(t testing.TB, s *testServer) (cmd *exec.Cmd, mx string) {
	t.Helper()
	const loopback = "127.0.0.1:0"
	cmd = latchkeyProcess(t, "serve", "--data", s.dir, "--tls-cert", s.config.TLS.Cert, "--tls-key", s.config.TLS.Key,
		"--listen-pop3", loopback, "--listen-pop3s", loopback, "--listen-mx", loopback, "--listen-submission", loopback, "--listen-smtps", loopback,
		"--relay-nameservers", labDNS(t).Addr().String(), "--reputation-lists", "")
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if !strings.Contains(lines.Text(), "msg=ready") {
			continue
		}
		_, rest, _ := strings.Cut(lines.Text(), " mx=")
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			for lines.Scan() { // so that it can go on logging
			}
		}()
		t.Cleanup(func() {
			_ = cmd.Process.Kill() // unless it has ended already
			<-drained
		})
		return cmd, strings.Fields(rest)[0]
	}
	t.Fatalf("the server is not ready: %v", cmd.Wait())
	return nil, ""
}

// TestSignals: the first signal waits for a message that is being received, the second does not; both end with status 0.
func TestSignals(t *testing.T) {
	for _, tt := range []struct {
		name    string
		signals []os.Signal
		wantEnd bool // while the message is not finished
	}{
		{"SIGTERM", []os.Signal{syscall.SIGTERM}, false},
		{"SIGINT", []os.Signal{syscall.SIGINT}, false},
		{"SIGTERM twice", []os.Signal{syscall.SIGTERM, syscall.SIGTERM}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, "example.com")
			cmd, mx := serveProcess(t, s)
			client, err := smtp.Dial(mx)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Close() }() // cut off, or after QUIT
			if err := errors.Join(client.Mail("x@other.example"), client.Rcpt("postmaster@example.com")); err != nil {
				t.Fatal(err)
			}
			w, err := client.Data()
			if err != nil {
				t.Fatal(err)
			}
			for _, signal := range tt.signals {
				if err := cmd.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
				waitUntilShut(t, mx)
			}
			if !tt.wantEnd {
				if _, err := w.Write([]byte(message("last"))); err != nil {
					t.Error(err)
				}
				if err := w.Close(); err != nil {
					t.Errorf("the message was cut off: %v", err)
				}
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("the server ended: %v", err)
			}
			if tt.wantEnd {
				s.wantStored()
			} else {
				s.wantStored("last")
			}
		})
	}
}

// waitUntilShut returns when a door takes no connections any more.
func waitUntilShut(t *testing.T, address string) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		conn, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			return
		}
		_ = conn.Close() // too early
	}
	t.Fatal("the door stays open")
}

// TestKilledServerLeavesNothingInTheWay: after SIGKILL the socket is left behind; commands do without the server, and the next one starts.
func TestKilledServerLeavesNothingInTheWay(t *testing.T) {
	s := newTestServer(t, "example.com")
	cmd, _ := serveProcess(t, s)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("killed, and ended well")
	}
	if status, _, stderr := s.latchkey("account", "add", "anna", "--generate"); status != 0 {
		t.Errorf("command after the kill: %s", stderr)
	}
	s.start()
	s.addAccount("bert", "password of bert")
}
