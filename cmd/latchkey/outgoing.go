package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"latchkey/config"
	"latchkey/guard"
	"latchkey/internal/resolver"
	"latchkey/relay"
	"latchkey/relay/signing"
	"latchkey/store"
)

// maxPasswordFile bounds the smarthost's password, in octets.
const maxPasswordFile = 4 << 10

// newRunner builds the way out of the domain.
func newRunner(
	c config.Config, st store.Store, names *resolver.Resolver, p *process, log *slog.Logger, now func() time.Time,
) (*relay.Runner, error) {
	o := relay.Options{
		Store: st, Resolver: names, Hostname: p.hostname, AllowNetworks: c.Relay.AllowNetworks, Own: p.listensAt, Port: uint16(c.Relay.Port),
		NoTLSReports: !c.Relay.TLSReports, Failed: p.conduct.Failed, Tally: p.tally, Signer: &signing.Signer{Ring: p.keys}, Logger: log, Now: now,
		Sealer: &signing.Sealer{Ring: p.keys, Hostname: p.hostname, TXT: keysOfOthers(names), DNS: names},
	}
	o.Limits.Transferring, o.Limits.PerDestination = c.Relay.Connections, c.Relay.ConnectionsPerHost
	o.Smarthost = smarthost(c.Relay.Smarthost, c.Relay.SmarthostUser, c.Relay.SmarthostPasswordFile, c.Relay.SmarthostTLS)
	for _, r := range c.Relay.Routes {
		o.Routes = append(o.Routes, relay.Route{Domain: r.Domain, Sender: r.Sender, To: smarthost(r.Host, r.User, r.PasswordFile, r.TLS)})
	}
	for _, s := range c.Relay.Sources {
		o.Sources = append(o.Sources, relay.Source{Addr: s.Addr, Hostname: s.Hostname})
	}
	runner, err := relay.New(o)
	if err != nil {
		return nil, fmt.Errorf("relay.smarthost or relay.routes: %w", err)
	}
	return runner, nil
}

// keysOfOthers looks up keys that others have published.
func keysOfOthers(names *resolver.Resolver) signing.TXT {
	return func(ctx context.Context, name string) ([]string, error) {
		list, err := names.TXT(ctx, name)
		if errors.Is(err, resolver.ErrNotFound) {
			return nil, nil
		}
		return list, err
	}
}

// smarthost is a server that takes mail, nil without an address. Its password is read at each login.
func smarthost(addr, user, passwordFile string, how config.SmarthostTLS) *relay.Smarthost {
	if addr == "" {
		return nil
	}
	s := &relay.Smarthost{Addr: addr, User: user, TLS: relay.TLSMode(how)}
	if passwordFile != "" {
		s.Password = func() (string, error) { return firstLine(passwordFile) }
	}
	return s
}

// trustOf says whose word on DNSSEC counts.
func trustOf(d config.DNSSEC) resolver.Trust {
	switch d {
	case config.DNSSECTrust:
		return resolver.TrustServers
	case config.DNSSECOff:
		return resolver.TrustNobody
	}
	return resolver.TrustLoopback
}

// listensAt reports whether one of our doors answers at an address: a door on the unspecified address does at every address of this host.
func (p *process) listensAt(target netip.AddrPort) bool {
	for _, d := range p.doors {
		own, ok := d.listener.Addr().(*net.TCPAddr)
		if !ok || own.AddrPort().Port() != target.Port() {
			continue
		}
		at := guard.Unmap(own)
		if at == target.Addr().Unmap().WithZone("") || at.IsUnspecified() && isHere(target.Addr()) {
			return true
		}
	}
	return false
}

// isHere reports whether an address is one of this host. If the host cannot say, every address might be.
func isHere(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, one := range addrs {
		if network, ok := one.(*net.IPNet); ok {
			if own, ok := netip.AddrFromSlice(network.IP); ok && own.Unmap() == a {
				return true
			}
		}
	}
	return false
}

// firstLine reads a password from a file.
func firstLine(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read from
	text, err := io.ReadAll(io.LimitReader(f, maxPasswordFile+1))
	line, _, _ := strings.Cut(string(text), "\n")
	line = strings.TrimRight(line, "\r")
	switch {
	case err != nil:
	case line == "":
		err = errors.New("its first line is empty")
	case len(line) > maxPasswordFile:
		err = fmt.Errorf("its first line is longer than %d octets", maxPasswordFile)
	default:
		return line, nil
	}
	return "", fmt.Errorf("%s: %w", path, err)
}
