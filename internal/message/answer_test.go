package message

import (
	"bytes"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
)

func mailbox(t testing.TB, text string) mailaddr.Address {
	t.Helper()
	a, err := mailaddr.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// headerOf reads the header of a test.
func headerOf(t testing.TB, text string) *Header {
	t.Helper()
	h := &Header{}
	if _, err := h.Read(strings.NewReader(strings.ReplaceAll(text, "\n", crlf) + crlf)); err != nil {
		t.Fatal(err)
	}
	return h
}

// answer is one to a header.
func answer(t testing.TB, header string) *Answer {
	a := &Answer{
		From: mailbox(t, "anna@example.com"), To: mailbox(t, "x@remote.example"), Hostname: "mail.example.com", ID: "0123abcd",
		Date: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC), Text: "I am away.\nUntil August.\n",
	}
	if header != "" {
		a.Header = headerOf(t, header)
	}
	return a
}

// read parses an answer as a mail program does, and looks at the form of all of them.
func read(t testing.TB, a *Answer) (mail.Header, string) {
	t.Helper()
	octets, headerLen, err := a.Octets()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(octets[:headerLen], []byte(crlf+crlf)) {
		t.Errorf("the header ends with %q", octets[:headerLen])
	}
	for line := range bytes.SplitSeq(octets, []byte(crlf)) {
		if len(line) > MaxLineLen || bytes.ContainsAny(line, "\r\n") || !a.UTF8() && bytes.ContainsFunc(line, func(r rune) bool { return r >= 0x7f }) {
			t.Errorf("line %q", line)
		}
	}
	m, err := mail.ReadMessage(bytes.NewReader(octets))
	if err != nil {
		t.Fatal(err)
	}
	r := m.Body
	if m.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
		r = quotedprintable.NewReader(r)
	}
	body, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return m.Header, string(body)
}

// TestAnswer: an answer as a whole.
func TestAnswer(t *testing.T) {
	a := answer(t, "From: x@remote.example\nSubject: Lunch?\nMessage-ID: <3@remote.example>\nReferences: <1@remote.example>\n <2@remote.example>\n")
	octets, headerLen, err := a.Octets()
	if err != nil {
		t.Fatal(err)
	}
	const want = "From: <anna@example.com>\n" +
		"To: <x@remote.example>\n" +
		"Subject: Auto: Lunch?\n" +
		"Date: Wed, 1 Jul 2026 12:00:00 +0000\n" +
		"Message-ID: <answer.0123abcd@mail.example.com>\n" +
		"In-Reply-To: <3@remote.example>\n" +
		"References: <1@remote.example>\n\t<2@remote.example>\n\t<3@remote.example>\n" +
		"Auto-Submitted: auto-replied\n" +
		"Precedence: bulk\n" +
		"X-Auto-Response-Suppress: All\n" +
		"X-Loop: anna@example.com\n" +
		"MIME-Version: 1.0\n" +
		"Content-Type: text/plain; charset=utf-8\n" +
		"Content-Transfer-Encoding: 7bit\n\n"
	if got := strings.ReplaceAll(string(octets[:headerLen]), crlf, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := string(octets[headerLen:]); got != "I am away.\r\nUntil August.\r\n" {
		t.Errorf("text %q", got)
	}
	if why := Unanswerable(headerOf(t, strings.ReplaceAll(string(octets[:headerLen-2]), crlf, "\n"))); why == "" {
		t.Error("an answer would be answered")
	}
}

// TestAnswerText: umlauts and long lines come whole through servers that take seven bits and lines of 998 octets.
func TestAnswerText(t *testing.T) {
	for _, text := range []string{
		"Ich bin bis zum 3. August weg.\nGrüße, Anna", "Schöne Grüße\n\n-- \nAnna Ö.", strings.Repeat("long ", 700), "=20 is no code", "tab\tand dot\n.\nend",
	} {
		a := answer(t, "")
		a.Text = text
		if _, body := read(t, a); body != strings.ReplaceAll(text, "\n", crlf)+crlf {
			t.Errorf("%.40q came as %.80q", text, body)
		}
	}
}

// TestAnswerSubject: the own one, else that of the message, marked once.
func TestAnswerSubject(t *testing.T) {
	for _, tt := range []struct{ own, header, want string }{
		{"", "Subject: Lunch?\n", "Auto: Lunch?"},
		{"", "From: x@remote.example\n", "Auto: your message"},
		{"", "", "Auto: your message"},
		{"Weg bis Montag", "Subject: Lunch?\n", "Auto: Weg bis Montag"},
		{"Auto: weg", "", "Auto: weg"},
		{"", "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n", "Auto: Grüße"},
		{"", "Subject: =?utf-8?q?a=0D=0ABcc:_victim@elsewhere.example?=\n", "Auto: a Bcc: victim@elsewhere.example"},
		{strings.Repeat("ü", 100), "", "Auto: " + strings.Repeat("ü", 100)},
	} {
		a := answer(t, tt.header)
		a.Subject = tt.own
		h, _ := read(t, a)
		got, err := new(mime.WordDecoder).DecodeHeader(h.Get("Subject"))
		if err != nil || got != tt.want || len(h["Bcc"]) > 0 {
			t.Errorf("%q of %q: %q, %v, want %q", tt.own, tt.header, got, err, tt.want)
		}
	}
}

// TestAnswerAddresses: a name for people is quoted or encoded, and ends no field; an address in UTF-8 needs SMTPUTF8.
func TestAnswerAddresses(t *testing.T) {
	a := answer(t, "")
	for _, name := range []string{"Anna Beispiel", `An"na, <x@y>`, "Anna Ö. Beispiel", "a\r\nBcc: victim@elsewhere.example"} {
		a.Name = name
		h, _ := read(t, a)
		from, err := mail.ParseAddress(h.Get("From"))
		want := strings.NewReplacer("\r", " ", "\n", " ").Replace(name)
		if err != nil || from.Name != want || from.Address != "anna@example.com" || len(h["Bcc"]) > 0 {
			t.Errorf("%q came as %+v, %v", name, from, err)
		}
	}
	if a.UTF8() {
		t.Error("plain addresses need SMTPUTF8")
	}
	a.To = mailbox(t, "grüße@remote.example")
	if h, _ := read(t, a); !a.UTF8() || h.Get("To") != "<grüße@remote.example>" {
		t.Errorf("To: %q, UTF8 %t", h.Get("To"), a.UTF8())
	}
}

// TestAnswerReferences: only ids of a sound form are repeated, and so many; without one of the message itself there is nothing to refer to.
func TestAnswerReferences(t *testing.T) {
	id := func(n int) string { return "<" + strings.Repeat("i", n-len("<@remote.example>")) + "@remote.example>" }
	many := ""
	for i := range 40 {
		many += " <" + string(rune('a'+i%26)) + "@remote.example>"
	}
	for _, tt := range []struct {
		name, header, reply string
		references          int
	}{
		{"first", "Message-ID: <1@r.example>\n", "<1@r.example>", 1},
		{"reply without references", "Message-ID: <2@r.example>\nIn-Reply-To: <1@r.example>\n", "<2@r.example>", 2},
		{"reply to two", "Message-ID: <3@r.example>\nIn-Reply-To: <1@r.example> <2@r.example>\n", "<3@r.example>", 1},
		{"many", "Message-ID: <2@r.example>\nReferences:" + many + "\n", "<2@r.example>", maxReferences},
		{"none", "References: <1@r.example>\n", "", 0},
		{"two", "Message-ID: <1@r.example>\nMessage-ID: <2@r.example>\n", "", 0},
		{"longest", "Message-ID: " + id(maxMessageID) + "\n", id(maxMessageID), 1},
		{"too long", "Message-ID: " + id(maxMessageID+1) + "\n", "", 0},
		{"not ASCII", "Message-ID: <ü@r.example>\n", "", 0},
		{"no id", "Message-ID: hello\n", "", 0},
		{"not in brackets", "Message-ID: 1@r.example\n", "", 0},
		{"brackets inside", "Message-ID: <1@r.example><2@r.example>\n", "", 0},
	} {
		h, _ := read(t, answer(t, tt.header))
		if got := h.Get("In-Reply-To"); got != tt.reply || len(strings.Fields(h.Get("References"))) != tt.references {
			t.Errorf("%s: In-Reply-To %q, References %q", tt.name, got, h.Get("References"))
		}
	}
}

// TestUnanswerable: what programs send is not answered, whatever the spelling; what people send is.
func TestUnanswerable(t *testing.T) {
	for header, want := range map[string]bool{
		"Subject: hello":                                      false,
		"Auto-Submitted: no":                                  false,
		"Auto-Submitted: No (really)":                         false,
		"auto-submitted: auto-generated":                      true,
		"Auto-Submitted: auto-replied; owner-email=\"x@y\"":   true,
		"Auto-Submitted:\n no":                                false,
		"Auto-Submitted:\n auto-notified":                     true,
		"Auto-Submitted: no\nAuto-Submitted: auto-replied":    true,
		"Auto-Submitted: no-but-yes":                          true,
		"Auto-Submitted:":                                     true,
		"Auto-Submitted : auto-replied":                       true,
		"List-Id: <x.list.example>":                           true,
		"LIST-UNSUBSCRIBE: <https://list.example>":            true,
		"List-Anything: x":                                    true,
		"Listen: x":                                           false,
		"List: x":                                             false,
		"Precedence: bulk":                                    true,
		"Precedence: LIST":                                    true,
		"Precedence: junk":                                    true,
		"Precedence: first-class":                             false,
		"X-Auto-Response-Suppress: OOF":                       true,
		"X-Auto-Response-Suppress: DR, oof, RN":               true,
		"X-Auto-Response-Suppress: All":                       true,
		"X-Auto-Response-Suppress: AutoReply":                 true,
		"X-Auto-Response-Suppress: DR, RN":                    false,
		"X-Autoreply: yes":                                    true,
		"X-Autorespond: x":                                    true,
		"Content-Type: multipart/report; report-type=x":       true,
		"Content-Type: Multipart/Report;\n boundary=x":        true,
		"Content-Type: multipart/alternative; boundary=\"x\"": false,
	} {
		if got := Unanswerable(headerOf(t, header+"\n")); (got != "") != want {
			t.Errorf("%q: %q", header, got)
		}
	}
}

func TestNoPerson(t *testing.T) {
	for local, want := range map[string]bool{
		"anna": false, "owner": false, "request": false, "anna-requests": false, "bouncer": false, "downer-x": false, "reply": false,
		"owner-list": true, "list-owner": true, "list-request": true, "List-REQUEST": true, "mailer-daemon": true, "MAILER-DAEMON": true,
		"postmaster": true, "noreply": true, "no-reply": true, "NoReply": true, "donotreply": true, "noreply+tag": true, "noreply-shop": true,
		"bounces+anna=example.com": true, "list-bounces": true, "bounce-17": true, "listserv": true, "majordomo": true, "shop-no-reply": true,
	} {
		if got := NoPerson(mailbox(t, local+"@remote.example")); got != want {
			t.Errorf("%s: %t", local, got)
		}
	}
}

func TestHeaderNames(t *testing.T) {
	anna, sales := mailbox(t, "anna@example.com"), mailbox(t, "sales@example.com")
	many := func(n int) string { return strings.Repeat("x@remote.example, ", n-1) + "anna@example.com" }
	for header, want := range map[string]bool{
		"To: anna@example.com":                                  true,
		"To: Anna <ANNA@Example.COM>":                           true,
		"Cc: x@remote.example,\n \"A. B.\" <sales@example.com>": true,
		"Bcc: anna@example.com":                                 true,
		"Resent-To: anna@example.com":                           true,
		"Resent-Cc: anna@example.com":                           true,
		"Resent-Bcc: anna@example.com":                          true,
		"To: friends: anna@example.com;":                        true,
		"To: x@remote.example\nTo: anna@example.com":            true,
		"From: anna@example.com":                                false,
		"Reply-To: anna@example.com":                            false,
		"Subject: anna@example.com":                             false,
		"To: joanna@example.com":                                false,
		"To: anna@example.com.remote.example":                   false,
		"To: \"anna@example.com\" <x@remote.example>":           false,
		"To: undisclosed-recipients:;":                          false,
		"To: anna@example.com, broken@":                         false,
		"To: " + many(MaxFieldAddresses):                        true,
		"To: " + many(MaxFieldAddresses+1):                      false,
	} {
		if got := headerOf(t, header+"\n").Names(sales, anna); got != want {
			t.Errorf("%.60q: %t", header, got)
		}
	}
}

// FuzzAnswer: whatever a stranger writes into a header, the answer is a sound message with each field once.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{"Subject: x\r\nMessage-ID: <1@x>\r\n", "Subject: =?utf-8?b?DQpCY2M6IHg=?=\r\n", "References: <a@b>\r\n\t<c@d>\r\n"} {
		f.Add([]byte(seed), "Anna", "own")
	}
	f.Fuzz(func(t *testing.T, header []byte, name, subject string) {
		h := &Header{}
		if _, err := h.Read(NewRepairReader(bytes.NewReader(append(header, crlf+crlf...)))); err != nil {
			return
		}
		a := answer(t, "")
		a.Header, a.Name, a.Subject = h, name, subject
		got, body := read(t, a)
		for field, values := range got {
			if len(values) != 1 {
				t.Errorf("%s: %q", field, values)
			}
		}
		if len(got) > 14 || body != "I am away.\r\nUntil August.\r\n" {
			t.Errorf("%d fields, text %q", len(got), body)
		}
		Unanswerable(h)
	})
}
