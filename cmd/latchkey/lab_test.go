package main

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"latchkey/internal/resolver/resolvertest"
)

// loopbackNetworks are the networks that a laboratory on loopback must name before mail may be delivered there.
var loopbackNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// labDNS is a name server in which the mail for each of the domains goes to 127.0.0.1. Of every other name it knows nothing for the
// moment, so mail for it waits and no look-up leaves the machine.
func labDNS(t testing.TB, domains ...string) *resolvertest.Server {
	t.Helper()
	dns := resolvertest.New(t)
	dns.Behave("", "", resolvertest.ServFail)
	for _, domain := range domains {
		dns.Set(domain, "MX", "10 mail."+domain+".")
		dns.Set("mail."+domain, "A", "127.0.0.1")
		dns.Set("mail."+domain, "AAAA")
		for _, name := range []string{domain, "mail." + domain} {
			for _, kind := range []string{"MX", "A", "AAAA"} {
				dns.Behave(name, kind, resolvertest.Normal)
			}
		}
	}
	return dns
}

// sendsTo makes a server that has not started yet deliver the mail for the domains to a port of 127.0.0.1.
func (s *testServer) sendsTo(port int, domains ...string) *resolvertest.Server {
	s.t.Helper()
	dns := labDNS(s.t, domains...)
	s.config.Relay.Nameservers = []netip.AddrPort{dns.Addr()}
	s.config.Relay.AllowNetworks = loopbackNetworks
	s.config.Relay.Port = port
	return dns
}

// turnClock puts the server's clock forward.
func (s *testServer) turnClock(d time.Duration) { s.ahead.Add(int64(d)) }

// now is the server's clock.
func (s *testServer) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

// freePort is a port of 127.0.0.1 that was free a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // it was never used
	addr, _ := l.Addr().(*net.TCPAddr)
	return addr.Port
}
