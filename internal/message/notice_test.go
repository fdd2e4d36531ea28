package message

import (
	"bytes"
	"flag"
	"mime"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
)

var update = flag.Bool("update", false, "write the golden files of reports")

// failures are what the golden reports are about.
var failures = []struct {
	name   string
	change func(*Bounce)
	FailedRecipient
}{
	{"unknown", nil, FailedRecipient{Status: "5.1.1", RemoteMTA: "mx.remote.example", Answered: true, Diagnostic: "550 5.1.1 <bob@remote.example>: Recipient address rejected: User unknown"}},
	{"unknown_by_words", nil, FailedRecipient{Status: "5.0.0", RemoteMTA: "mx.remote.example", Answered: true, Diagnostic: "550 No such user here"}},
	{"no_domain", nil, FailedRecipient{Status: "5.1.2", Diagnostic: "the domain remote.example does not exist"}},
	{"null_mx", nil, FailedRecipient{Status: "5.1.10", Diagnostic: "remote.example takes no mail (RFC 7505)"}},
	{"full", nil, FailedRecipient{Status: "5.2.2", RemoteMTA: "mx.remote.example", Answered: true, Diagnostic: "552 5.2.2 Over quota"}},
	{"closed", nil, FailedRecipient{Status: "5.2.1", RemoteMTA: "mx.remote.example", Answered: true, Diagnostic: "550 5.2.1 The email account that you tried to reach is inactive"}},
	{"size", nil, FailedRecipient{
		Status: "5.3.4", RemoteMTA: "mx.remote.example", Diagnostic: "the message has 31457280 octets, and the host takes 10485760 (RFC 1870)",
	}},
	{"blocklist", nil, FailedRecipient{
		Status: "5.7.1", RemoteMTA: "mx.remote.example", Answered: true,
		Diagnostic: "550 5.7.1 Service unavailable, Client host [192.0.2.1] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/192.0.2.1. (AS3150)",
	}},
	{"spam", nil, FailedRecipient{Status: "5.7.1", RemoteMTA: "mx.remote.example", Answered: true, Diagnostic: "550 5.7.1 This looks like spam to us"}},
	{"policy", nil, FailedRecipient{Status: "5.7.1", RemoteMTA: "mx.remote.example", Answered: true, Diagnostic: "550 5.7.1 Not on our list, see <https://remote.example/policy>"}},
	{"not_aligned", nil, FailedRecipient{Status: "5.7.26", RemoteMTA: "mx.remote.example", Answered: true, Diagnostic: "550 5.7.26 Unauthenticated email from example.com"}},
	{"tls", nil, FailedRecipient{Status: "5.7.10", Diagnostic: "mx.remote.example offers no TLS, and remote.example asks for it (RFC 8461)"}},
	{"greylisted", nil, FailedRecipient{Status: "5.4.7", RemoteMTA: "mx.remote.example", Answered: true, Diagnostic: "451 4.7.1 Greylisted, please try again in 300 seconds"}},
	{"given_up", nil, FailedRecipient{Status: "5.4.7", RemoteMTA: "mx.remote.example", Diagnostic: "no connection: connection refused"}},
	{"loop", nil, FailedRecipient{Status: "5.4.6", Diagnostic: "the best mail exchanger of remote.example is this server"}},
	{"old_server", nil, FailedRecipient{Status: "5.6.7", RemoteMTA: "mx.remote.example", Diagnostic: "the host takes ASCII addresses only (RFC 6531)"}},
	{"else", nil, FailedRecipient{Status: "5.5.0", RemoteMTA: "mx.remote.example", Answered: true, Diagnostic: "554 5.5.0 No"}},
	{"no_subject", func(b *Bounce) { b.Subject = "" }, FailedRecipient{Status: "5.1.1", RemoteMTA: "mx.remote.example", Answered: true, Diagnostic: "550 5.1.1 unknown"}},
	{"several", func(b *Bounce) { b.Failed = append(b.Failed, testBounce().Failed[1]) }, FailedRecipient{
		Status: "5.1.1", RemoteMTA: "mx.remote.example", Answered: true, Diagnostic: "550 5.1.1 unknown",
	}},
	{"delayed", delayed, FailedRecipient{Status: "4.4.1", RemoteMTA: "mx.remote.example", Diagnostic: "no connection: no answer in time"}},
	{"delayed_greylisted", delayed, FailedRecipient{Status: "4.7.1", RemoteMTA: "mx.remote.example", Answered: true, Diagnostic: "451 4.7.1 Greylisting in action"}},
	{"delayed_full", delayed, FailedRecipient{Status: "4.2.2", RemoteMTA: "mx.remote.example", Answered: true, Diagnostic: "452 4.2.2 Mailbox full"}},
	{"delayed_tls", delayed, FailedRecipient{Status: "4.7.5", Diagnostic: "the certificate of mx.remote.example is not the one that the domain names (RFC 7672)"}},
	{"delayed_here", delayed, FailedRecipient{Status: "4.7.1", Diagnostic: "mail out of this domain is switched off"}},
	{"relayed", func(b *Bounce) { b.Report = ReportRelayed }, FailedRecipient{Status: "2.0.0", RemoteMTA: "mx.remote.example", Answered: true, Diagnostic: "250 2.0.0 queued as 4711"}},
	{"delivered", func(b *Bounce) { b.Report = ReportDelivered }, FailedRecipient{Status: "2.0.0", Diagnostic: "put into the mailbox"}},
	{"expanded", func(b *Bounce) { b.Report = ReportDelivered }, FailedRecipient{Status: "2.0.0", Diagnostic: "put into the mailboxes", Expanded: true}},
	{"forward_kept", func(b *Bounce) { b.Forwarder, b.Kept = b.To, true }, FailedRecipient{
		Status: "5.1.1", RemoteMTA: "mx.remote.example", Answered: true, Diagnostic: "550 5.1.1 unknown",
	}},
	{"forward_not_kept", func(b *Bounce) { b.Forwarder = b.To }, FailedRecipient{
		Status: "5.1.1", RemoteMTA: "mx.remote.example", Answered: true, Diagnostic: "550 5.1.1 unknown",
	}},
}

func delayed(b *Bounce) {
	b.Report, b.Arrived = ReportDelayed, b.Date.Add(-4*time.Hour)
	b.Next, b.RetryUntil = b.Date.Add(2*time.Hour), b.Arrived.Add(5*24*time.Hour)
}

// TestBounceWords reads each report against what was read aloud once: the words for people first, then those for programs.
func TestBounceWords(t *testing.T) {
	for _, tt := range failures {
		t.Run(tt.name, func(t *testing.T) {
			b := testBounce()
			b.Subject, b.Arrived = "Lunch on Friday", b.Date.Add(-5*24*time.Hour)
			tt.Address = b.Failed[0].Address
			b.Failed = []FailedRecipient{tt.FailedRecipient}
			if tt.change != nil {
				tt.change(b)
			}
			var out bytes.Buffer
			n, err := b.WriteHeaders(&out, []byte("Subject: Lunch on Friday\r\n"))
			if err != nil {
				t.Fatal(err)
			}
			readBounce(t, out.Bytes(), n)
			for line := range strings.SplitSeq(out.String(), crlf) {
				if len(line) > 998 {
					t.Errorf("a line of %d octets", len(line))
				}
			}
			golden := filepath.Join("testdata", "bounce", tt.name+".txt")
			got := strings.ReplaceAll(out.String(), crlf, "\n")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestPlainReport: what is not ASCII does not get into the fields of a report that is not international (RFC 3464 §2.1, RFC 6533 §3, §4).
func TestPlainReport(t *testing.T) {
	for _, utf8 := range []bool{false, true} {
		b := testBounce()
		b.UTF8 = utf8
		b.Failed[0].Original, b.Failed[0].Diagnostic = "utf-8;b\u00f6b@remote.example", "550 unbekannter Empf\u00e4nger"
		var out bytes.Buffer
		n, err := b.WriteHeaders(&out, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, bodies := readBounce(t, out.Bytes(), n)
		original, diagnostic := `utf-8; b\x{F6}b@remote.example`, "smtp; 550 unbekannter Empf?nger"
		if utf8 {
			original, diagnostic = "utf-8; b\u00f6b@remote.example", "smtp; 550 unbekannter Empf\u00e4nger"
		}
		for _, want := range []string{"Original-Recipient: " + original + "\r\n", "Diagnostic-Code: " + diagnostic + "\r\n"} {
			if !strings.Contains(bodies[1], want) {
				t.Errorf("utf8 %v: %q is not in %q", utf8, want, bodies[1])
			}
		}
		if got := strings.Contains(out.String(), "message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n"); got != utf8 {
			t.Errorf("utf8 %v: the part says that it is 8-bit: %v", utf8, got)
		}
		if !strings.Contains(bodies[0], "unbekannter Empf\u00e4nger") {
			t.Errorf("for people: %q", bodies[0])
		}
	}
}

func TestSubjectOf(t *testing.T) {
	long := strings.Repeat("\u00e4", maxSubject)
	for header, want := range map[string]string{
		"From: x\r\nSubject: Lunch\r\n":                                      "Lunch",
		"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n =?utf-8?q?_aus?= Wien\r\n": "Gr\u00fc\u00dfe aus Wien",
		"Subject: =?iso-8859-1?q?Gr=FC=DFe?=\r\n":                            "Gr\u00fc\u00dfe",
		"Subject: =?utf-8?q?a=0D=0ABcc:_x=07?=\r\n":                          "a Bcc: x",
		"Subject: =?x-unknown?q?a?=\r\n":                                     "",
		"From: x\r\n":                                                        "",
		"Subject:\r\n":                                                       "",
		"Subject: " + mime.QEncoding.Encode("utf-8", long) + "\r\n":          long[:maxSubject] + "...",
	} {
		if got := SubjectOf([]byte(header)); got != want {
			t.Errorf("%q: got %q, want %q", header, got, want)
		}
	}
}

func TestLinkIn(t *testing.T) {
	for words, want := range map[string]string{
		"blocked, see https://a.example/x?y=1. (AS1)": "https://a.example/x?y=1",
		"see <http://a.example/>":                     "http://a.example/",
		"https://":                                    "", "none": "",
		"https://" + strings.Repeat("a", maxLink-8): "https://" + strings.Repeat("a", maxLink-8),
		"https://" + strings.Repeat("a", maxLink-7): "",
	} {
		if got := linkIn(words); got != want {
			t.Errorf("%q: got %q, want %q", words, got, want)
		}
	}
}

// TestHintsAreWords: "barbl" is no blocklist, and a clear status is not overruled by words.
func TestHintsAreWords(t *testing.T) {
	f := FailedRecipient{Status: "5.7.1", RemoteMTA: "mx", Answered: true, Diagnostic: "550 warblers only"}
	if r, found := hinted(&f); found {
		t.Errorf("hinted: %+v", r)
	}
	f.Diagnostic = "550 listed in rbl.example"
	if _, found := hinted(&f); !found {
		t.Error("no hint of a blocklist")
	}
	f.Status = "5.1.1"
	if r, found := hinted(&f); found {
		t.Errorf("a clear status overruled: %+v", r)
	}
	f.Status, f.Answered = "5.7.1", false
	if r, found := hinted(&f); found {
		t.Errorf("words of our own taken for a hint: %+v", r)
	}
}

// TestNoSuchMailbox: what makes an address one that is not written to for a while.
func TestNoSuchMailbox(t *testing.T) {
	for _, tt := range []struct {
		status, words string
		want          bool
	}{
		{"5.1.1", "550 5.1.1 no", true},
		{"5.1.1", "550 5.1.1 User unknown", true},
		{"5.1.6", "551 5.1.6 moved", true},
		{"5.1.10", "556 5.1.10 null MX", true},
		{"5.2.1", "550 5.2.1 disabled", true},
		{"5.1.1", "550 5.1.1 rejected, see spamhaus", false},
		{"5.1.1", "550 5.1.1 this is spam", false},
		{"5.0.0", "550 no such user", true},
		{"5.1.0", "550 5.1.0 Invalid recipient", true},
		{"5.0.0", "550 no", false},
		{"5.2.2", "552 5.2.2 over quota, no such user", false},
		{"5.7.1", "550 5.7.1 user unknown", false},
		{"4.1.1", "450 4.1.1 unknown user", false},
		{"5.1.2", "550 5.1.2 no such domain", false},
	} {
		if got := NoSuchMailbox(tt.status, tt.words); got != tt.want {
			t.Errorf("%s %q: got %v", tt.status, tt.words, got)
		}
	}
}

// TestLongRecipient: an address that is too long or not ASCII is not in the subject of a plain report.
func TestLongRecipient(t *testing.T) {
	b := testBounce()
	b.Failed = b.Failed[:1]
	if got := b.subject(); got != "Not delivered: your message to bob@remote.example" {
		t.Error(got)
	}
	for _, local := range []string{strings.Repeat("a", 64), "b\u00f6b"} {
		a, err := mailaddr.Parse(local + "@" + strings.Repeat("b", 40) + ".example")
		if err != nil {
			t.Fatal(err)
		}
		b.Failed[0].Address = a
		if got := b.subject(); got != "Not delivered: your message to one address" {
			t.Error(got)
		}
	}
}
