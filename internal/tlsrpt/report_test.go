package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestParseRecord(t *testing.T) {
	for record, want := range map[string]string{
		"v=TLSRPTv1; rua=mailto:tls@example.com":                                        "mailto:tls@example.com",
		"v=TLSRPTv1;rua=mailto:a@example.com, https://r.example/v1 ; ext=1;":            "mailto:a@example.com|https://r.example/v1",
		"v=TLSRPTv1; rua=ftp://x, HTTPS://r.example/":                                   "HTTPS://r.example/",
		"v=TLSRPTv1; rua=" + strings.Repeat("mailto:a@b.example,", 9):                   strings.Repeat("mailto:a@b.example|", MaxURIs-1) + "mailto:a@b.example",
		"v=TLSRPTv1; rua=mailto:" + strings.Repeat("a", MaxURI) + ",mailto:b@c.example": "mailto:b@c.example",
		"v=TLSRPTv1;":                         "",
		"v=TLSRPTv1":                          "",
		"v=TLSRPTv2; rua=mailto:a@b.example":  "",
		"rua=mailto:a@b.example; v=TLSRPTv1;": "",
	} {
		if got := strings.Join(ParseRecord([]string{"v=spf1 -all", record}), "|"); got != want {
			t.Errorf("%s: got %s, want %s", record, got, want)
		}
	}
	if got := ParseRecord([]string{"v=TLSRPTv1; rua=mailto:a@b.example", "v=TLSRPTv1; rua=mailto:c@b.example"}); got != nil {
		t.Errorf("two records: %v", got)
	}
}

// theirs is a report as RFC 8460 §4.4 shows one, in another's hand.
const theirs = `{"organization-name":"Company-X","date-range":{"start-datetime":"2016-04-01T00:00:00Z","end-datetime":"2016-04-01T23:59:59Z"},
"contact-info":"sts-reporting@company-x.example","report-id":"5065427c-23d3-47ca-b6e0-946ea0e8c4be","policies":[{"policy":{"policy-type":"sts",
"policy-string":["version: STSv1","mode: testing","mx: *.mail.company-y.example","max_age: 86400"],"policy-domain":"company-y.example",
"mx-host":["*.mail.company-y.example"]},"summary":{"total-successful-session-count":5326,"total-failure-session-count":303},
"failure-details":[{"result-type":"certificate-expired","sending-mta-ip":"2001:db8:abcd:0012::1","receiving-mx-hostname":
"mx1.mail.company-y.example","failed-session-count":100},{"result-type":"starttls-not-supported","sending-mta-ip":"2001:db8:abcd:0013::1",
"receiving-mx-hostname":"mx2.mail.company-y.example","receiving-ip":"203.0.113.56","failed-session-count":200,
"additional-information":"https://reports.company-x.example/report_info ? id = 5065427 c - 23 d3# StarttlsNotSupported "}]}]}`

func TestDecode(t *testing.T) {
	r, err := Decode(strings.NewReader(theirs))
	if err != nil {
		t.Fatal(err)
	}
	if p := r.Policies[0]; p.Summary != (Summary{5326, 303}) || p.Failures[1].Type != StartTLSNotSupported || p.Policy.Domain != "company-y.example" {
		t.Errorf("got %+v", r)
	}
	zipped, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Decode(bytes.NewReader(zipped))
	if err != nil || again.ID != r.ID || again.Policies[0].Summary != r.Policies[0].Summary || !again.Range.End.Equal(r.Range.End) {
		t.Errorf("after gzip: %+v, %v", again, err)
	}
	for name, bad := range map[string]string{
		"nothing": "", "one octet": "{", "HTML": "<html>", "another JSON": `{"a":1}`, "broken gzip": "\x1f\x8b\x00\x00",
		"a count below zero": strings.Replace(theirs, "5326", "-1", 1),
	} {
		if _, err := Decode(strings.NewReader(bad)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBomb: what is small under gzip and large without it is refused, before it is in memory.
func TestBomb(t *testing.T) {
	bomb := func(size int) io.Reader {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		text := []byte(theirs)
		if _, err := w.Write(append(text, bytes.Repeat([]byte(" "), size-len(text))...)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return &b
	}
	if _, err := Decode(bomb(MaxReport)); err != nil {
		t.Errorf("the largest: %v", err)
	}
	if _, err := Decode(bomb(MaxReport + 1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one more octet: %v", err)
	}
	r := &Report{Range: DateRange{Start: time.Now()}, Organization: strings.Repeat("x", MaxReport), Policies: []Result{{}}}
	if _, err := r.Encode(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("ours: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(theirs))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(_ *testing.T, text []byte) { _, _ = Decode(bytes.NewReader(text)) })
}
