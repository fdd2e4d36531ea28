package guard

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// maxRouteText bounds how much of a routing table is read, in octets: some 50,000 routes.
const maxRouteText = 8 << 20

// The routing tables of this process's network. /proc/net is not there where only processes may be seen (systemd's ProcSubset=pid).
const (
	routes4File = "/proc/self/net/route"
	routes6File = "/proc/self/net/ipv6_route"
)

// Flags of a route, as the kernel numbers them.
const (
	routeUp      = 0x1
	routeGateway = 0x2
)

// maxDefaultBits4 and maxDefaultBits6 are the longest prefixes of what counts as a default route. Tunnels halve the IPv4 one, and old
// IPv6 hosts have 2000::/3 in its place.
const (
	maxDefaultBits4 = 1
	maxDefaultBits6 = 3
)

// systemGateways returns the default gateways of this host.
func systemGateways() ([]netip.Addr, error) {
	text, err := readRoutes(routes4File)
	if err != nil {
		return nil, err
	}
	gateways, err := parseRoutes4(text, binary.NativeEndian)
	if err != nil {
		return nil, err
	}
	text, err = readRoutes(routes6File)
	if errors.Is(err, fs.ErrNotExist) {
		return gateways, nil // a kernel without IPv6
	}
	if err != nil {
		return nil, err
	}
	gateways6, err := parseRoutes6(text)
	return append(gateways, gateways6...), err
}

func readRoutes(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxRouteText+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxRouteText {
		return "", fmt.Errorf("guard: %s has more than %d octets", name, maxRouteText)
	}
	return string(text), nil
}

// parseRoutes4 returns the gateways of the default routes in the text of routes4File: a heading, then lines of interface,
// destination, gateway, flags, three counts, mask and more. Addresses are numbers in hex, as a machine of that byte order reads them.
func parseRoutes4(text string, order binary.ByteOrder) ([]netip.Addr, error) {
	heading, rest, _ := strings.Cut(text, "\n")
	if fields := strings.Fields(heading); len(fields) < 8 || fields[2] != "Gateway" || fields[7] != "Mask" {
		return nil, errors.New("guard: routes: unknown heading")
	}
	var gateways []netip.Addr
	for line := range strings.Lines(rest) {
		fields := strings.Fields(line)
		if len(fields) < 8 {
			return nil, fmt.Errorf("guard: routes: %q has %d fields", line, len(fields))
		}
		var n [3]uint32 // gateway, flags, mask
		for i, field := range []string{fields[2], fields[3], fields[7]} {
			v, err := strconv.ParseUint(field, 16, 32)
			if err != nil {
				return nil, fmt.Errorf("guard: routes: %w", err)
			}
			n[i] = uint32(v)
		}
		if n[1]&routeUp == 0 || n[1]&routeGateway == 0 || bits.OnesCount32(n[2]) > maxDefaultBits4 {
			continue
		}
		var a [4]byte
		order.PutUint32(a[:], n[0])
		gateways = append(gateways, netip.AddrFrom4(a))
	}
	return gateways, nil
}

// parseRoutes6 does so for routes6File: destination, its length, source, its length, next hop, three counts, flags and
// interface, all in hex, addresses in the order of the network.
func parseRoutes6(text string) ([]netip.Addr, error) {
	var gateways []netip.Addr
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 10 {
			return nil, fmt.Errorf("guard: routes: %q has %d fields", line, len(fields))
		}
		length, err := strconv.ParseUint(fields[1], 16, 8)
		if err != nil {
			return nil, fmt.Errorf("guard: routes: %w", err)
		}
		flags, err := strconv.ParseUint(fields[8], 16, 32)
		if err != nil {
			return nil, fmt.Errorf("guard: routes: %w", err)
		}
		hop, err := hex.DecodeString(fields[4])
		if err != nil || len(hop) != 16 {
			return nil, fmt.Errorf("guard: routes: next hop %q", fields[4])
		}
		if flags&routeUp == 0 || flags&routeGateway == 0 || length > maxDefaultBits6 {
			continue
		}
		gateways = append(gateways, netip.AddrFrom16([16]byte(hop)).Unmap())
	}
	return gateways, nil
}
