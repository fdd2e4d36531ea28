package guard

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

const routeHeading = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT                                                       \n"

// routes4 are samples of routes4File of little-endian machines.
var routes4 = []struct {
	name, text string
	want       []string // nil for text that must be refused
}{
	{"in a container on Docker's bridge", routeHeading +
		"eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0                                                                               \n" +
		"eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0                                                                               \n",
		[]string{"172.17.0.1"}},
	{"two ways out, and a net behind another router", routeHeading +
		"ens3\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n" +
		"ens4\t00000000\t010200C0\t0003\t0\t0\t200\t00000000\t0\t0\t0\n" +
		"ens3\t0000000A\tFE01A8C0\t0003\t0\t0\t100\t000000FF\t0\t0\t0\n",
		[]string{"192.168.1.1", "192.0.2.1"}},
	{"a tunnel that halves the default route", routeHeading +
		"tun0\t00000000\t0100080A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n" +
		"tun0\t00000080\t0200080A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n" +
		"tun0\t00000040\t0300080A\t0003\t0\t0\t0\t000000C0\t0\t0\t0\n",
		[]string{"10.8.0.1", "10.8.0.2"}},
	{"not up, no gateway, rejected", routeHeading +
		"eth0\t00000000\t010011AC\t0002\t0\t0\t0\t00000000\t0\t0\t0\n" +
		"wg0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n" +
		"*\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0\n",
		[]string{}},
	{"no routes", routeHeading, []string{}},
	{"empty", "", nil},
	{"another heading", strings.Replace(routeHeading, "Gateway", "Router", 1), nil},
	{"a short line", routeHeading + "eth0\t00000000\t010011AC\t0003\n", nil},
	{"not hex", routeHeading + "eth0\t00000000\t010011AG\t0003\t0\t0\t0\t00000000\t0\t0\t0\n", nil},
	{"too large", routeHeading + "eth0\t00000000\t1010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n", nil},
}

// routes6 are samples of routes6File.
var routes6 = []struct {
	name, text string
	want       []string
}{
	{"in a container with IPv6",
		"fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n" +
			"fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000002 00000000 00000001     eth0\n" +
			"00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0\n" +
			"00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001       lo\n",
		[]string{"fd00::1"}},
	{"without one",
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n",
		[]string{}},
	{"the old default route",
		"20000000000000000000000000000000 03 00000000000000000000000000000000 00 fd0000000000000000000000000000fe 00000400 00000002 00000000 00000003     eth0\n" +
			"20000000000000000000000000000000 04 00000000000000000000000000000000 00 fd0000000000000000000000000000ff 00000400 00000002 00000000 00000003     eth0\n",
		[]string{"fd00::fe"}},
	{"no routes", "", []string{}},
	{"a short line", "00000000000000000000000000000000 00\n", nil},
	{"a short address", "0 00 0 00 fd01 00000400 00000002 00000000 00000003 eth0\n", nil},
	{"no number", "0 0x 0 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003 eth0\n", nil},
	{"no flags", "0 00 0 00 fd000000000000000000000000000001 00000400 00000002 00000000 up eth0\n", nil},
}

// TestParseRoutes: real tables give their gateways, and what is not understood is an error, not a host without gateways.
func TestParseRoutes(t *testing.T) {
	check := func(name string, got []netip.Addr, err error, want []string) {
		t.Helper()
		text := []string{}
		for _, a := range got {
			text = append(text, a.String())
		}
		if (err != nil) != (want == nil) || err == nil && !slices.Equal(text, want) {
			t.Errorf("%s: got %v (%v), want %v", name, text, err, want)
		}
	}
	for _, tt := range routes4 {
		got, err := parseRoutes4(tt.text, binary.LittleEndian)
		check(tt.name, got, err, tt.want)
	}
	for _, tt := range routes6 {
		got, err := parseRoutes6(tt.text)
		check(tt.name, got, err, tt.want)
	}
	got, err := parseRoutes4(routeHeading+"eth0 00000000 AC110001 0003 0 0 0 00000000 0 0 0\n", binary.BigEndian)
	check("a big-endian machine", got, err, []string{"172.17.0.1"})
}

// FuzzRoutes: no text makes the parsers panic, or makes more gateways than it has lines.
func FuzzRoutes(f *testing.F) {
	for _, tt := range routes4 {
		f.Add(tt.text)
	}
	for _, tt := range routes6 {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for i, parse := range []func() ([]netip.Addr, error){
			func() ([]netip.Addr, error) { return parseRoutes4(text, binary.LittleEndian) },
			func() ([]netip.Addr, error) { return parseRoutes6(text) },
		} {
			got, err := parse()
			if err != nil && got != nil {
				t.Errorf("parser %d: gateways with an error: %v", i, err)
			}
			if len(got) > strings.Count(text, "\n")+1 {
				t.Errorf("parser %d: %d gateways from %q", i, len(got), text)
			}
			for _, a := range got {
				if !a.IsValid() || a.Is4In6() {
					t.Errorf("parser %d: %v from %q", i, a, text)
				}
			}
		}
	})
}

// TestRoutesBound: a table that is too large to read is an error, one octet less is not.
func TestRoutesBound(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		size int
		ok   bool
	}{{maxRouteText - 1, true}, {maxRouteText, true}, {maxRouteText + 1, false}} {
		name := fmt.Sprint(dir, "/routes", tt.size)
		writeFile(t, name, strings.Repeat("x", tt.size))
		text, err := readRoutes(name)
		if (err == nil) != tt.ok || tt.ok && len(text) != tt.size {
			t.Errorf("%d octets: got %d (%v)", tt.size, len(text), err)
		}
	}
	if _, err := readRoutes(dir + "/missing"); err == nil {
		t.Error("a missing table is read")
	}
}

// TestRoutesFiles: the shipped unit shows the process nothing else of /proc.
func TestRoutesFiles(t *testing.T) {
	for _, name := range []string{routes4File, routes6File} {
		if !strings.HasPrefix(name, "/proc/self/") {
			t.Errorf("%s is hidden by ProcSubset=pid", name)
		}
	}
}
