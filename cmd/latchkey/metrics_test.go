package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"latchkey/store"
)

// metrics asks the server for its figures, when its index has everything.
func (s *testServer) metrics() (m store.Metrics) {
	s.t.Helper()
	s.mustRun("trail", "anna@example.com") // waits for the index
	s.do("GET", "/v1/metrics", nil, &m)
	for name, d := range map[string]store.Distribution{"group size": m.GroupSize, "commit": m.Commit, "sync": m.Sync, "index": m.Index} {
		counted := uint64(0)
		for _, n := range d.Buckets {
			counted += n
		}
		if counted != d.Count || d.Count == 0 || d.Max > d.Sum || d.Sum > d.Count*d.Max || d.Quantile(0.5) > d.Max {
			s.t.Errorf("%s: %+v contradicts itself", name, d)
		}
	}
	if m.Commit.Count != m.Groups || m.GroupSize.Count != m.Groups || m.Sync.Count > m.Groups || m.Sync.Sum > m.Commit.Sum || m.Sync.Sum == 0 {
		s.t.Errorf("%d groups, %d sizes, %d commits of %d µs, %d syncs of %d µs", m.Groups, m.GroupSize.Count, m.Commit.Count, m.Commit.Sum, m.Sync.Count, m.Sync.Sum)
	}
	if m.Lag != 0 || m.LagOctets != 0 || m.LagAge != 0 {
		s.t.Errorf("the index has everything, and lags by %d records, %d octets, %v", m.Lag, m.LagOctets, m.LagAge)
	}
	if m.Segments < 1 || m.Spares < 0 || (m.Spares == 0) != (m.SpareOctets == 0) || m.IndexFree < 0 || m.IndexFree >= m.IndexOctets {
		s.t.Errorf("segments %d, spares %d with %d octets, index %d of which %d free", m.Segments, m.Spares, m.SpareOctets, m.IndexOctets, m.IndexFree)
	}
	return m
}

// TestMetrics: what the server says of its store follows the mail: it comes, is there, and goes; by the API and by the command.
func TestMetrics(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "password of anna")
	const senders, each = 4, 5
	const messages = senders * each
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			for j := range each {
				if err := s.tryDeliver("x@other.example", []string{"anna@example.com"}, message(fmt.Sprint(i, j, strings.Repeat("x", 500)))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	p := s.pop("pop3s")
	if err := p.login("anna", "password of anna"); err != nil {
		t.Fatal(err)
	}
	var count int
	var octets int64
	if _, err := fmt.Sscanf(p.must("STAT"), "+OK %d %d", &count, &octets); err != nil || count != messages {
		t.Fatalf("%d messages (%v), want %d", count, err, messages)
	}
	octets -= messages * int64(len("Return-Path: <x@other.example>\r\nDelivered-To: anna@example.com\r\n")) // not in the bodies
	came := s.metrics()
	if came.Groups < 1 || came.GroupSize.Sum < messages || came.GroupSize.Max > came.GroupSize.Sum-came.Groups+1 {
		t.Errorf("%d groups of %d commits, the largest of %d, after %d messages", came.Groups, came.GroupSize.Sum, came.GroupSize.Max, messages)
	}
	if came.LiveOctets != octets || came.DeadOctets < 0 {
		t.Errorf("%d octets are alive and %d dead, want %d alive", came.LiveOctets, came.DeadOctets, octets)
	}
	for n := range messages {
		p.must("DELE %d", n+1)
	}
	p.must("QUIT")
	went := s.metrics()
	if went.LiveOctets != 0 || went.DeadOctets < octets || went.Groups <= came.Groups {
		t.Errorf("all is deleted: %d octets are alive and %d dead, %d groups after %d", went.LiveOctets, went.DeadOctets, went.Groups, came.Groups)
	}
	s.wantToldMetrics(went)
}

// wantToldMetrics compares what the command says with figures that do not change while nothing happens.
func (s *testServer) wantToldMetrics(want store.Metrics) {
	s.t.Helper()
	_, text, _ := s.latchkey("metrics", "--json")
	var m store.Metrics
	if err := json.Unmarshal([]byte(text), &m); err != nil || m.Groups != want.Groups || m.DeadOctets != want.DeadOctets || m.GroupSize != want.GroupSize {
		s.t.Errorf("metrics --json: %s (%v), want %+v", text, err, want)
	}
	text = s.mustRun("metrics")
	for name, want := range map[string]uint64{"groups": want.Groups, "live octets": uint64(want.LiveOctets), "dead octets": uint64(want.DeadOctets)} {
		is := regexp.MustCompile(`(?im)^` + name + ` +([0-9]+)`).FindStringSubmatch(text)
		if is == nil || is[1] != strconv.FormatUint(want, 10) {
			s.t.Errorf("metrics: %q, want %s %d", text, name, want)
		}
	}
	if said := regexp.MustCompile(`(?im)^sync +mean [0-9.]+[µm]?s, 99% within [0-9.]+[µm]?s, at most [0-9.]+[µm]?s`); !said.MatchString(text) {
		s.t.Errorf("metrics: %q, want the times of a sync", text)
	}
}
