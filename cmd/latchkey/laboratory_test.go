package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"latchkey/internal/resolver/resolvertest"
)

// labNames are destinations in the DNS of the laboratory, beside other.example, and what becomes of mail for them.
var labNames = []struct {
	domain string
	// records are name, type and value, three each.
	records []string
	// status is that of the bounce, "" for what arrives; "4" waits.
	status string
	// words are in the bounce or in the job that waits.
	words string
}{
	{domain: "null.example", records: []string{"", "MX", "0 ."}, status: "5.1.10", words: "takes no mail"},
	{domain: "bare.example", records: []string{"", "A", "127.0.0.1"}},
	{domain: "alias.example", records: []string{"", "CNAME", "other.example."}},
	{domain: "chain.example", records: append(aliases(7), "", "CNAME", "a1.chain.example.")},
	{domain: "long.example", records: append(aliases(12), "", "CNAME", "a1.long.example."), status: "4", words: "more than 8"},
	{domain: "round.example", records: []string{"", "CNAME", "a.round.example.", "a", "CNAME", "round.example."}, status: "4", words: "go round in a loop"},
	{domain: "mxalias.example", records: []string{"", "MX", "10 mx.mxalias.example.", "mx", "CNAME", "mail.other.example."}},
	{domain: "six.example", records: []string{"", "MX", "10 mx.six.example.", "mx", "AAAA", "::1"}},
	{domain: "home.example", records: []string{"", "MX", "10 mail.example.com."}, status: "5.4.6", words: "come back to this server"},
	{domain: "backup.example", records: []string{"", "MX", "10 mx.backup.example. 20 mail.example.com.", "mx", "A", "127.0.0.9"}, status: "4", words: "connection refused"},
	{domain: "pair.example", records: []string{"", "MX", "10 mx.pair.example. 20 mx.six.example.", "mx", "A", "127.0.0.8"}},
}

// aliases are n of them, one behind the other; the last one leads to other.example.
func aliases(n int) (records []string) {
	for i := range n {
		to := fmt.Sprintf("a%d", i+2)
		if i == n-1 {
			to = "other.example."
		}
		records = append(records, fmt.Sprintf("a%d", i+1), "CNAME", to)
	}
	return records
}

// labName puts the records of a destination into the DNS. Names are below the domain unless they end with a dot.
func labName(dns *resolvertest.Server, domain string, records []string) {
	for i := 0; i < len(records); i += 3 {
		name, kind, value := records[i], records[i+1], records[i+2]
		name = strings.TrimPrefix(name+"."+domain, ".")
		if kind == "CNAME" && !strings.HasSuffix(value, ".") {
			value += "." + domain + "."
		}
		values := []string{value}
		if first, second, two := strings.Cut(value, ". "); two && kind == "MX" {
			values = []string{first + ".", second}
		}
		dns.Set(name, kind, values...)
		for _, k := range []string{"MX", "A", "AAAA"} {
			dns.Behave(name, k, resolvertest.Normal)
		}
	}
}

// TestNamesOfTheWorld: a whole server beside domains whose names lead every way: what can be reached has its mail, once, what says that it takes none or
// leads back here bounces with the reason, and what nobody can follow for now waits.
func TestNamesOfTheWorld(t *testing.T) {
	world := newSink(t)
	six, err := net.Listen("tcp", net.JoinHostPort("::1", strconv.Itoa(world.port())))
	if err != nil {
		t.Fatalf("the laboratory needs IPv6 on loopback: %v", err)
	}
	world.also(six)
	s := newTestServer(t, "example.com")
	dns := s.sendsTo(world.port(), "other.example")
	for _, n := range labNames {
		labName(dns, n.domain, n.records)
	}
	s.start()
	s.addAccount("anna", "password of anna")
	arrives, bounces, waits := map[string]bool{}, []string(nil), 0
	var to []string
	for _, n := range labNames {
		to = append(to, "x@"+n.domain)
		switch n.status {
		case "":
			arrives["x@"+n.domain] = true
		case "4":
			waits++
		default:
			bounces = append(bounces, "Final-Recipient: rfc822; x@"+n.domain)
		}
	}
	s.send("anna", "password of anna", to, message("names"))
	for _, m := range world.wait(len(arrives)) {
		if !arrives[m.rcpt] {
			t.Errorf("%s arrived, or arrived twice", m.rcpt)
		}
		delete(arrives, m.rcpt)
	}
	var reports string
	eventually(t, "reports of all failures", func() bool { // one report, or more where the DNS took its time
		reports = strings.Join(s.fetch("anna", "password of anna"), "\n")
		return !slices.ContainsFunc(bounces, func(field string) bool { return !strings.Contains(reports, field) })
	})
	eventually(t, "attempts at the rest", func() bool {
		tried := 0
		for _, j := range s.queue() {
			tried += min(j.Attempts, 1)
		}
		return tried == waits && len(s.queue()) == waits
	})
	for _, n := range labNames {
		_, trail, _ := s.latchkey("trail", "x@"+n.domain)
		switch n.status {
		case "":
			if !strings.Contains(trail, "for <x@"+n.domain+">: delivered: ") || !strings.Contains(trail, ": 250 2.0.0 taken") {
				t.Errorf("trail of %s:\n%s", n.domain, trail)
			}
		case "4":
			if !strings.Contains(trail, "for <x@"+n.domain+">: not yet, it is tried again: ") || !strings.Contains(trail, n.words) {
				t.Errorf("trail of %s, want %q:\n%s", n.domain, n.words, trail)
			}
		default:
			if !strings.Contains(reports, "Final-Recipient: rfc822; x@"+n.domain) || !strings.Contains(reports, "Status: "+n.status) || !strings.Contains(trail, n.words) {
				t.Errorf("trail of %s, want %q:\n%s\n%s", n.domain, n.words, trail, reports)
			}
		}
	}
}

// also serves at another address as well.
func (s *sink) also(l net.Listener) {
	s.work.Go(func() { s.accept(l) })
	s.t.Cleanup(func() { _ = l.Close() }) // nothing waits there
}

// TestLaboratoryTable keeps docs/laboratory.md and the tests together: every row has a scenario, what is expected and a test that exists, and every
// scenario that the laboratory is for is there.
func TestLaboratoryTable(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "laboratory.md"))
	if err != nil {
		t.Fatal(err)
	}
	names := declarations(t)
	missing := map[string]bool{}
	for _, scenario := range labScenarios {
		missing[scenario] = true
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 || strings.HasPrefix(cells[0], "---") || strings.TrimSpace(cells[0]) == "scenario" {
			continue
		}
		rows++
		for i, cell := range cells {
			if strings.TrimSpace(cell) == "" {
				t.Errorf("an empty cell %d: %s", i, line)
			}
		}
		for scenario := range missing {
			if strings.Contains(cells[0], scenario) {
				delete(missing, scenario)
			}
		}
		spans := codeSpan.FindAllStringSubmatch(cells[2], -1)
		if len(spans) == 0 {
			t.Errorf("no test: %s", line)
		}
		for _, span := range spans {
			if !names[span[1]] || !strings.HasPrefix(span[1], "Test") {
				t.Errorf("there is no test %s: %s", span[1], line)
			}
		}
	}
	if rows < len(labScenarios) {
		t.Errorf("%d rows", rows)
	}
	for scenario := range missing {
		t.Errorf("no row about %q", scenario)
	}
}

// labScenarios are what the laboratory must have, as words of a row's first cell.
var labScenarios = []string{
	"greylisting", "421", "drops after DATA", "half TLS", "wrong certificate", "endless banner", "8 kB", "tarpit", "MX loop", "null MX", "CNAME",
	"IPv6", "Postfix", "Exim", "OpenSMTPD", "kill -9",
}
