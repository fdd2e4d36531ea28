//go:build interop

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"latchkey/webmanager"
)

// The laboratory's network: one namespace is the container in which the server runs, the other the host whose bridge is the container's
// default gateway. A client of the host has addresses of its own beside the bridge's.
const (
	labContainer = "10.213.77.2"
	labBridge    = "10.213.77.1"
	labClient    = "10.213.77.7"
	labProxy     = "10.213.77.8"
)

// labNetwork makes the two namespaces and returns their names.
func labNetwork(t *testing.T) (host, container string) {
	t.Helper()
	needRoot(t, "ip", "curl", "swaks")
	host, container = fmt.Sprintf("lk-host-%d", os.Getpid()), fmt.Sprintf("lk-box-%d", os.Getpid())
	ip := func(args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	for _, name := range []string{host, container} {
		ip("netns", "add", name)
		t.Cleanup(func() { ip("netns", "del", name) })
		ip("-n", name, "link", "set", "lo", "up")
	}
	ip("-n", host, "link", "add", "bridge", "type", "veth", "peer", "name", "eth0", "netns", container)
	for _, address := range []string{labBridge, labClient, labProxy} {
		ip("-n", host, "address", "add", address+"/24", "dev", "bridge")
	}
	ip("-n", container, "address", "add", labContainer+"/24", "dev", "eth0")
	ip("-n", host, "link", "set", "bridge", "up")
	ip("-n", container, "link", "set", "eth0", "up")
	ip("-n", container, "route", "add", "default", "via", labBridge)
	return host, container
}

// A login that comes through a container's bridge or a proxy is not its owner's address: it never makes a grant, nor does one from the
// host itself. One from a client's own address does.
func TestInteropContainerBridge(t *testing.T) {
	host, container := labNetwork(t)
	s := newTestServer(t, "example.com")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, "ip", "netns", "exec", container, self, "serve", "--data", s.dir, "--hostname", "mail.example.com",
		"--tls-cert", s.config.TLS.Cert, "--tls-key", s.config.TLS.Key, "--proxies", labProxy, "--relay-nameservers", "127.0.0.1",
		"--reputation-lists", "")
	server.Env = append(os.Environ(), runMainVariable+"=1")
	log, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(log)
	for lines.Scan() && !strings.Contains(lines.Text(), "msg=ready") {
		t.Log(lines.Text())
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for lines.Scan() { // so that it can go on logging
		}
	}()
	defer func() {
		stop()
		<-drained
		_ = server.Wait() // killed
	}()
	s.addAccount("anna", annasPassword)
	inside := func(namespace string, args ...string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", namespace}, args...)...).CombinedOutput()
	}
	for _, tt := range []struct {
		name, namespace, source string
		granted                 bool
	}{
		{"through the bridge", host, labBridge, false},
		{"through a proxy", host, labProxy, false},
		{"from this host's own address", container, labContainer, false},
		{"from loopback, to a door on all addresses", container, "127.0.0.1", false},
		{"from a client's own address", host, labClient, true},
	} {
		target := labContainer
		if tt.source == "127.0.0.1" {
			target = tt.source
		}
		out, err := inside(tt.namespace, "curl", "-sSk", "--interface", tt.source, "-u", "anna:"+annasPassword, "pop3s://"+target+"/")
		if tt.source == labProxy { // who does not say for whom it speaks
			if err == nil {
				t.Errorf("%s: it was let in without a header", tt.name)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: login: %v\n%s", tt.name, err, out)
		}
		var page webmanager.GrantPage
		s.do("GET", "/v1/grants", nil, &page)
		if granted := len(page.Grants) > 0; granted != tt.granted {
			t.Errorf("%s: grants %+v", tt.name, page.Grants)
		}
		out, err = inside(tt.namespace, "swaks", "--local-interface", tt.source, "--server", target, "--from", "anna@example.com", "--to", "x@other.example", "--quit-after", "RCPT")
		if taken := err == nil; taken != tt.granted {
			t.Errorf("%s: sending without AUTH: %v\n%s", tt.name, err, out)
		}
	}
}
