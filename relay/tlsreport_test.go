package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/mail"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/resolver"
	"latchkey/internal/tlsrpt"
	"latchkey/store"
	"latchkey/store/memstore"
)

// summary is what a report says, in a line for each policy.
func summary(r *tlsrpt.Report) string {
	var lines []string
	for _, p := range r.Policies {
		line := fmt.Sprintf("%s %s +%d -%d", p.Policy.Domain, p.Policy.Type, p.Summary.Successful, p.Summary.Failed)
		for _, f := range p.Failures {
			line += fmt.Sprintf(" [%d %s %s %s]", f.Sessions, f.Type, f.ReceivingMX, f.ReceivingIP)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}

// TestTLSResults: what the sessions of the tables above are in a report (RFC 8460 §4.3).
func TestTLSResults(t *testing.T) {
	const name, host = "mx.remote.example", " mx.remote.example 192.0.2.1]"
	for _, tt := range []struct {
		name string
		set  func(l *tlsLab)
		want string
	}{
		{"no policy, TLS", func(l *tlsLab) { l.usual(l.root.issue(nil, "x.example")) }, "no-policy-found +1 -0"},
		{"no policy, no TLS", func(l *tlsLab) { l.usual(nil) }, "no-policy-found +0 -1 [1 starttls-not-supported" + host},
		{"no policy, broken TLS", func(l *tlsLab) { l.usual(&tls.Certificate{}) }, "no-policy-found +0 -1 [1 validation-failure" + host},
		{"DANE", func(l *tlsLab) {
			s := l.usual(l.root.issue(nil, name))
			l.names.Set("_25._tcp."+name, "TLSA", tlsa(3, s.cert.Leaf))
		}, "tlsa +1 -0"},
		{"DANE, another key", func(l *tlsLab) {
			l.usual(l.root.issue(nil, name))
			l.names.Set("_25._tcp."+name, "TLSA", tlsa(3, l.root.cert))
		}, "tlsa +0 -1 [1 validation-failure" + host},
		{"DANE, nothing usable", func(l *tlsLab) {
			l.usual(l.root.issue(nil, name))
			l.names.Set("_25._tcp."+name, "TLSA", tlsa(1, l.root.cert))
		}, "tlsa +0 -1 [1 tlsa-invalid" + host},
		{"MTA-STS", func(l *tlsLab) {
			l.usual(l.root.issue(nil, name))
			l.publish("1", enforce)
		}, "sts +1 -0"},
		{"MTA-STS, another name", func(l *tlsLab) {
			l.usual(l.root.issue(nil, "x.example"))
			l.publish("1", enforce)
		}, "sts +0 -1 [1 certificate-host-mismatch" + host},
		{"MTA-STS for testing, nobody's certificate", func(l *tlsLab) {
			l.usual(newAuthority(l.t).issue(nil, name))
			l.publish("1", "mode: testing, mx: *.remote.example, max_age: 86400")
		}, "sts +0 -1 [1 certificate-not-trusted" + host},
		{"MTA-STS, another exchanger", func(l *tlsLab) {
			l.usual(l.root.issue(nil, name))
			l.publish("1", "mode: enforce, mx: x.example, max_age: 86400")
		}, "sts +0 -1 [1 validation-failure mx.remote.example ]"},
		{"MTA-STS, not to be had", func(l *tlsLab) {
			l.usual(l.root.issue(nil, name))
			l.publish("1", "")
		}, "sts +0 -1 [1 sts-policy-fetch-error  ]; remote.example no-policy-found +1 -0"},
		{"MTA-STS, no policy", func(l *tlsLab) {
			l.usual(l.root.issue(nil, name))
			l.publish("1", "mode: maybe")
		}, "sts +0 -1 [1 sts-policy-invalid  ]; remote.example no-policy-found +1 -0"},
		{"MTA-STS, the policy host's certificate", func(l *tlsLab) {
			l.usual(l.root.issue(nil, name))
			l.cert = l.root.issue(nil, "x.example")
			l.publish("1", enforce)
		}, "sts +0 -1 [1 sts-webpki-invalid  ]; remote.example no-policy-found +1 -0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newTLSLab(t)
			tt.set(l)
			l.names.Set("_smtp._tls.remote.example", "TXT", `"v=TLSRPTv1; rua=https://reports.remote.example/tls"`)
			l.deliver(post{})
			if got, want := summary(l.counted()), "remote.example "+tt.want; got != want {
				t.Errorf("got  %s\nwant %s\n%s", got, want, l.logged)
			}
		})
	}
}

// counted is what the last run left in the store for remote.example.
func (l *tlsLab) counted() *tlsrpt.Report {
	l.t.Helper()
	c := newTLSCounter(l.store, l.clock, slog.New(slog.DiscardHandler))
	return &tlsrpt.Report{Policies: c.domains(dayShard{dayOf(l.clock()), shardOf("remote.example") % countShards})["remote.example"].Results}
}

// TestTLSReports: the day's report goes by mail and by HTTPS, once, and may go in the clear.
func TestTLSReports(t *testing.T) {
	l := newTLSLab(t)
	s := l.usual(l.root.issue(nil, "x.example"))
	l.publish("1", enforce)
	l.names.Set("_smtp._tls.remote.example", "TXT", `"v=TLSRPTv1; rua=mailto:tls%2bmail@remote.example,https://reports.remote.example/tls"`)
	l.deliver(post{})
	l.deliver(post{})
	l.pass(24 * time.Hour)
	l.opts.Resolver = must(resolver.New(resolver.Options{Servers: l.servers(), Now: l.clock}))(t)
	l.opts.Store = l.store
	runner := must(New(l.opts))(t)
	for range 2 { // the second time nothing is owed
		runner.sendTLSReports(t.Context(), l.clock())
	}
	l.change(func() {
		if len(l.posts) != 1 {
			t.Fatalf("%d POSTs", len(l.posts))
		}
	})
	posted := must(tlsrpt.Decode(bytes.NewReader(l.posts[0])))(t)
	want := "remote.example sts +0 -2 [2 certificate-host-mismatch mx.remote.example 192.0.2.1]"
	if got := summary(posted); got != want || posted.Organization != "example.org" || posted.Range.End.Sub(posted.Range.Start) != 24*time.Hour-time.Second ||
		dayOf(posted.Range.Start) != dayOf(l.clock().AddDate(0, 0, -1)) || !strings.Contains(fmt.Sprint(posted.Policies[0].Policy.String), "mode: enforce") {
		t.Errorf("posted %s: %+v", got, posted)
	}
	var reports []store.Job
	for _, j := range l.jobs() {
		if j.TLS == store.TLSOptional {
			reports = append(reports, j)
		}
	}
	if len(reports) != 1 || reports[0].Recipient.String() != "tls+mail@remote.example" || reports[0].ReversePath.String() != "postmaster@example.org" {
		t.Fatalf("queued %+v", reports)
	}
	l.queue(post{received: l.clock()}, "bob@remote.example") // with which the report goes, though the policy keeps the rest back
	l.start()
	l.until("the report", func() bool { return len(s.taken()) > 0 })
	l.stop()
	taken := s.taken()
	if len(taken) != 1 {
		t.Fatalf("%d letters\n%s", len(taken), l.logged)
	}
	if mailed := readTLSMail(t, taken[0].data); summary(mailed) != want || mailed.ID != posted.ID {
		t.Errorf("mailed %+v", mailed)
	}
}

// TestTLSReportIsSigned: a report by mail is the domain's own, and signed like its other mail (RFC 8460 §3).
func TestTLSReportIsSigned(t *testing.T) {
	l := newTLSLab(t)
	ring := l.signs()
	s := l.usual(l.root.issue(nil, "mx.remote.example"))
	l.names.Set("_smtp._tls.remote.example", "TXT", `"v=TLSRPTv1; rua=mailto:tls@remote.example"`)
	l.deliver(post{})
	l.pass(24 * time.Hour)
	l.resolve()
	l.opts.Store = l.store
	must(New(l.opts))(t).sendTLSReports(t.Context(), l.clock())
	l.start()
	l.until("the report", func() bool { return s.arrived("tls@remote.example") > 0 })
	l.stop()
	taken := s.taken()
	wantSigned(t, ring, taken[len(taken)-1].data)
}

// readTLSMail takes a report out of its mail (RFC 8460 §5.3).
func readTLSMail(t *testing.T, text string) *tlsrpt.Report {
	t.Helper()
	m := must(mail.ReadMessage(strings.NewReader(text)))(t)
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "tlsrpt" {
		t.Fatalf("Content-Type %s %v, %v", kind, params, err)
	}
	for field, want := range map[string]string{
		"TLS-Report-Domain": "remote.example", "TLS-Report-Submitter": "mail.example.org", "TLS-Required": "No", "From": "postmaster@example.org",
	} {
		if got := m.Header.Get(field); got != want {
			t.Errorf("%s: %s, want %s", field, got, want)
		}
	}
	if subject := m.Header.Get("Subject"); !strings.HasPrefix(subject, "Report Domain: remote.example Submitter: mail.example.org Report-ID: <") {
		t.Errorf("subject %q", subject)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	if _, err := parts.NextPart(); err != nil {
		t.Fatal(err)
	}
	attached := must(parts.NextRawPart())(t)
	if got := attached.Header.Get("Content-Type"); got != "application/tlsrpt+gzip" {
		t.Errorf("attached %s", got)
	}
	return must(tlsrpt.Decode(base64.NewDecoder(base64.StdEncoding, attached)))(t)
}

// TestTLSReportRetried: a place that does not take its report is asked again, the others are not, and after two days it is over.
func TestTLSReportRetried(t *testing.T) {
	l := newTLSLab(t)
	l.usual(nil)
	l.names.Set("_smtp._tls.remote.example", "TXT", `"v=TLSRPTv1; rua=mailto:tls@remote.example,https://nobody.remote.example/tls"`)
	l.deliver(post{})
	day := dayOf(l.clock())
	l.opts.Resolver = must(resolver.New(resolver.Options{Servers: l.servers(), Now: l.clock}))(t)
	l.opts.Store = l.store
	left := func() bool {
		_, err := l.store.Secret(t.Context(), dayShard{day, shardOf("remote.example") % countShards}.name())
		return err == nil
	}
	for i, want := range []bool{true, true, false} {
		l.pass(24 * time.Hour)
		must(New(l.opts))(t).sendTLSReports(t.Context(), l.clock())
		if left() != want {
			t.Errorf("after %d days: kept %t", i+1, left())
		}
	}
	if jobs := l.jobs(); len(jobs) != 1 {
		t.Errorf("%d mails, want one", len(jobs))
	}
}

// TestTLSReportsOnlyWhereWanted: without a record, and where the operator wants none, nothing is counted.
func TestTLSReportsOnlyWhereWanted(t *testing.T) {
	l := newTLSLab(t)
	l.usual(nil)
	l.deliver(post{})
	if r := l.counted(); len(r.Policies) != 0 {
		t.Errorf("without a record: %+v", r)
	}
	l.names.Set("_smtp._tls.remote.example", "TXT", `"v=TLSRPTv1; rua=mailto:tls@remote.example"`)
	l.pass(2 * time.Hour)
	l.opts.NoTLSReports = true
	l.deliver(post{})
	if r := l.counted(); len(r.Policies) != 0 {
		t.Errorf("switched off: %+v", r)
	}
}

// TestTLSCountBounds: whatever is counted, a shard stays within what the store takes.
func TestTLSCountBounds(t *testing.T) {
	st := memstore.New("example.org")
	c := newTLSCounter(st, time.Now, slog.New(slog.DiscardHandler))
	shard := 0
	for i := 0; shard <= maxCounted+1; i++ {
		domain := fmt.Sprintf("d%d.example", i)
		if shardOf(domain)%countShards != 3 {
			continue
		}
		shard++
		for n := range maxCountedPolicies + 1 {
			c.add(domain, []string{"mailto:x@" + domain}, tlsrpt.Policy{Type: tlsrpt.PolicySTS, Domain: domain, String: []string{fmt.Sprint(n)}}, nil)
		}
	}
	other := newTLSCounter(st, time.Now, slog.New(slog.DiscardHandler))
	for n := range maxCountedFailures + 5 {
		other.add("one.example", nil, tlsrpt.Policy{Type: tlsrpt.PolicyNone, Domain: "one.example"}, &tlsrpt.Failure{Type: fmt.Sprint(n), Sessions: 1})
	}
	key := dayShard{dayOf(time.Now()), 3}
	if n := len(c.domains(key)); n != maxCounted {
		t.Errorf("%d domains in memory, want %d", n, maxCounted)
	}
	for _, one := range c.domains(key) {
		if len(one.Results) != maxCountedPolicies {
			t.Fatalf("%d policies, want %d", len(one.Results), maxCountedPolicies)
		}
	}
	one := other.domains(dayShard{key.day, shardOf("one.example") % countShards})["one.example"].Results[0]
	if len(one.Failures) != maxCountedFailures || one.Summary.Failed != maxCountedFailures+5 {
		t.Errorf("%d kinds of failure, %d in all", len(one.Failures), one.Summary.Failed)
	}
	c.flush(t.Context())
	blob, err := st.Secret(t.Context(), key.name())
	var kept map[string]counted
	if err != nil || json.Unmarshal(blob, &kept) != nil || len(blob) > store.MaxSecretSize || len(kept) < 50 {
		t.Errorf("kept %d octets, %d domains, %v", len(blob), len(kept), err)
	}
}

// TestTLSChores: counts are kept every few minutes and at the stop, and a day's report goes in the hours after midnight.
func TestTLSChores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t) // the fake clock begins at midnight UTC
		r.site("remote.example", "192.0.2.1", &server{})
		r.dns.set(func() {
			r.dns.txt["_smtp._tls.remote.example"] = []string{"v=TLSRPTv1; rua=mailto:tls@reports.example"}
		})
		r.site("reports.example", "192.0.2.2", &server{greeting: "421 4.3.2 later"})
		key := dayShard{dayOf(time.Now()), shardOf("remote.example") % countShards}
		kept := func() bool {
			_, err := r.store.Secret(context.WithoutCancel(t.Context()), key.name())
			return err == nil
		}
		r.start()
		r.queue(post{}, "bob@remote.example")
		time.Sleep(choreTime - time.Second)
		if kept() {
			t.Error("kept before its time")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !kept() {
			t.Error("not kept")
		}
		r.queue(post{}, "bob@remote.example")
		time.Sleep(time.Second)
		r.stop()
		r.start()
		time.Sleep(24*time.Hour + time.Hour)
		if synctest.Wait(); len(r.jobs()) != 0 {
			t.Error("the report goes at once after midnight")
		}
		time.Sleep(3 * time.Hour) // Rand is 0.5, so at two
		synctest.Wait()
		if jobs := r.jobs(); len(jobs) != 1 || jobs[0].Recipient.String() != "tls@reports.example" || kept() {
			t.Errorf("jobs %+v, kept %t", jobs, kept())
		}
	})
}

// must takes the error off a call.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
