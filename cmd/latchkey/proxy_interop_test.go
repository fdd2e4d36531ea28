//go:build interop

package main

import (
	"fmt"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"latchkey/config"
)

// proxyTemplate is a configuration of HAProxy: version 1 to a port, version 2 with TLVs and health checks to a port, version 2 to a socket.
// Its clients are told as ones from 203.0.113.7, because loopback is all that a test has.
const proxyTemplate = `
global
    maxconn 100
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen pop3
    bind 127.0.0.1:%d
    tcp-request connection set-src ipv4(203.0.113.7)
    server s %s source 127.0.0.5 send-proxy
listen mx
    bind 127.0.0.1:%d
    tcp-request connection set-src ipv4(203.0.113.7)
    server s %s source 127.0.0.5 send-proxy-v2 proxy-v2-options unique-id,crc32c check check-send-proxy inter 100ms
listen socket
    bind 127.0.0.1:%d
    tcp-request connection set-src ipv4(203.0.113.7)
    server s unix@%s send-proxy-v2
`

// TestInteropHAProxy: HAProxy tells us its clients in both versions, over TCP and over a socket; a grant is bound to them, Received names them, and
// its health checks disturb nobody.
func TestInteropHAProxy(t *testing.T) {
	need(t, "haproxy")
	s := proxiedServer(t)
	s.start()
	s.addAccount("anna", "password of anna")
	s.do("PATCH", "/v1/settings", map[string]any{"cleartext_login": true, "confirm": "example.com"}, nil)
	ports := []int{freePort(t), freePort(t), freePort(t)}
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	text := fmt.Sprintf(proxyTemplate, ports[0], s.addr("pop3"), ports[1], s.addr("mx"), ports[2], strings.TrimPrefix(s.config.Listen.MX[1], config.UnixPrefix))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var said logBuffer
	cmd := exec.CommandContext(t.Context(), "haproxy", "-db", "-f", path)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it is of no more use
		_ = cmd.Wait()         // killed
		if t.Failed() {
			t.Log(said.String(), s.log.String())
		}
	})
	dial := func(port int) net.Conn {
		t.Helper()
		var conn net.Conn
		eventually(t, "a proxy", func() (ok bool) {
			var err error
			conn, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			return err == nil
		})
		t.Cleanup(func() { _ = conn.Close() }) // the test is over with it
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	p := s.popOn(dial(ports[0]))
	if err := p.login("anna", "password of anna"); err != nil {
		t.Fatal(err)
	}
	p.must("QUIT")
	for i, port := range ports[1:] {
		c, err := smtp.NewClient(dial(port), "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		if err := transact(c, "anna@example.com", []string{"anna@example.com"}, "From: anna@example.com\r\n"+message(fmt.Sprint(i))); err != nil {
			t.Errorf("door %d: %v", i, err)
		}
	}
	mail := s.fetch("anna", "password of anna")
	if len(mail) != 2 {
		t.Fatalf("%d messages, want 2", len(mail))
	}
	for _, m := range mail {
		if !strings.Contains(m, "([203.0.113.7])") || !strings.Contains(m, "(POP-before-SMTP grant ") {
			t.Errorf("got %q", m)
		}
	}
	if strings.Contains(said.String(), "is DOWN") {
		t.Error("HAProxy took its health checks for failed")
	}
}
