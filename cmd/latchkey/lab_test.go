package main

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
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

// firstFreePort and lastFreePort bound the ports of freePort. The kernel gives none of them to whoever asks for any port, so that they stay free.
const (
	firstFreePort = 12_000
	lastFreePort  = 30_000
)

// nextFreePort is where freePort looks next; test programs beside this one begin elsewhere.
var nextFreePort = func() *atomic.Int64 {
	n := new(atomic.Int64)
	n.Store(rand.Int64N(lastFreePort - firstFreePort))
	return n
}()

// freePort is a port of 127.0.0.1 that is free, and that nobody else gets.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := firstFreePort + int(nextFreePort.Add(1))%(lastFreePort-firstFreePort)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = l.Close() // it was never used
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}
