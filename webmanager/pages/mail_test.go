package pages

import (
	"fmt"
	"strings"
	"testing"

	"latchkey/store"
	"latchkey/webmanager"
)

// TestMailJourney: the owner of a mailbox looks into it, reads a message, and downloads it as it is.
func TestMailJourney(t *testing.T) {
	s := newSite(t, nil)
	message := "From: =?utf-8?Q?J=C3=B6rg?= <j@other.example>\nTo: anna@example.com\nSubject: Lunch?\nDate: Wed, 01 Apr 2026 10:00:00 +0000\n" +
		"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nAt noon?\n--b\nContent-Type: application/pdf; name=menu.pdf\n\n12345\n--b--\n"
	uid := s.put("anna", message)
	b := s.in("anna")
	var link string
	for _, n := range all(b.get("/mailbox/anna").root, "a") {
		if to, _ := attribute(n, "href"); strings.HasSuffix(to, "/mail") {
			link = to
		}
	}
	list := b.get(link).shows(200, "Mail in anna@example.com", "Lunch?", "Jörg <j@other.example>", "2026-04-01 10:00 UTC", "1 messages")
	if strings.Contains(list.text(), "somebody else") {
		t.Error("her own mailbox is said to be another's")
	}
	b.get(link+"/"+uid).shows(200, "Lunch?", "Jörg <j@other.example>", "At noon?", "menu.pdf", "application/pdf, 5 B", "The whole header", "boundary=b")
	p := b.get(link + "/" + uid + "/download")
	if p.status != 200 || p.body != strings.ReplaceAll(message, "\n", "\r\n") {
		t.Errorf("%d: the download is %q", p.status, p.body)
	}
	for name, want := range map[string]string{
		"Content-Type": webmanager.MessageType, "Content-Disposition": `attachment; filename="` + uid + `.eml"`, "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'", "Cache-Control": "no-store",
	} {
		if got := p.head.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, path := range []string{"/" + store.UniqueID(1, 4711), "/" + store.UniqueID(1, 4711) + "/download", "/..%2f..%2fbert", "/%2e%2e/download"} {
		if p := b.get(link + path); p.status != 404 && p.status != 301 && p.status != 307 {
			t.Errorf("%s: %d %s", path, p.status, p.text())
		}
	}
	for _, path := range []string{"/mailbox/bert/mail", "/mailbox/bert/mail/" + uid, "/mailbox/bert/mail/" + uid + "/download"} {
		b.get(path).shows(403)
	}
}

// TestMailOfAnother: whoever looks into the mailbox of another is told that it is seen, and it is.
func TestMailOfAnother(t *testing.T) {
	s := newSite(t, nil)
	uid := s.put("anna", "Subject: private\n\nbody\n")
	b := s.in("olga")
	b.get("/mailbox/anna/mail").shows(200, "This is the mailbox of somebody else.", "private")
	before := s.entries()
	b.get("/mailbox/anna/mail/"+uid).shows(200, "body")
	b.get("/mailbox/anna/mail/" + uid + "/download")
	if s.entries() != before+2 {
		t.Errorf("%d entries", s.entries()-before)
	}
	b.get("/audit").shows(200, "olga", "maildrop.read", "maildrop.download", uid)
	s.in("anna").get("/mailbox/anna/mail").shows(200, "Somebody looked into your mailbox", "2 messages")
	yes := true
	s.do("PATCH", webmanager.Path("accounts", "anna"), webmanager.AccountChange{Suspended: &yes}, nil)
	b.get("/mailbox/anna/mail").shows(409, "The mailbox is suspended")
}

// TestMailPaging: the newest are on the first page.
func TestMailPaging(t *testing.T) {
	s := newSite(t, nil)
	for i := range webmanager.DefaultMailLimit + 1 {
		s.put("anna", fmt.Sprintf("Subject: number %d.\n\nbody\n", i))
	}
	b := s.in("anna")
	first := b.get("/mailbox/anna/mail").shows(200, fmt.Sprintf("number %d.", webmanager.DefaultMailLimit), "number 1.")
	if strings.Contains(first.text(), "number 0.") {
		t.Error("the oldest is on the first page")
	}
	for _, n := range all(first.root, "a") {
		if to, _ := attribute(n, "href"); strings.Contains(to, "before=") {
			b.get(to).shows(200, "number 0.", "To the beginning")
			return
		}
	}
	t.Error("there is no next page")
}

// TestHostileMail: whatever a stranger puts into a message, nothing of it runs, loads, hides or turns text around; and whoever wants to read it can.
func TestHostileMail(t *testing.T) {
	s := newSite(t, nil)
	b := s.in("anna")
	for name, tt := range map[string]struct{ message, want string }{
		"subject":           {"Subject: " + hostile + "\n\nbody\n", "<script>alert(1)</script>"},
		"encoded subject":   {"Subject: =?utf-8?B?PHNjcmlwdD5hbGVydCg5KTwvc2NyaXB0Pg==?=\n\nbody\n", "<script>alert(9)</script>"},
		"from":              {"From: \"" + hostile + "\" <x@other.example>\n\nbody\n", "<script>alert(1)</script>"},
		"to":                {"To: " + hostile + "\nCc: " + hostile + "\n\nbody\n", "<script>alert(1)</script>"},
		"a header's name":   {"<script>alert(1)</script>: x\n\nbody\n", "<script>alert(1)</script>: x"},
		"text":              {"Content-Type: text/plain\n\n</pre>" + hostile + "\n", "</pre>\"><script>alert(1)</script>"},
		"HTML":              {"Content-Type: text/html\n\n<p onclick=alert(1)>seen<script>alert(1)</script><img src=https://x.example/a.gif><iframe src=//x.example></iframe>\n", "seen"},
		"HTML in HTML":      {"Content-Type: text/html\n\n&lt;script&gt;alert(1)&lt;/script&gt;\n", "<script>alert(1)</script>"},
		"a link":            {"Content-Type: text/html\n\n<a href=\"https://x.example/\">here</a><a href=\"javascript:alert(1)\">there</a>\n", "here <https://x.example/>there"},
		"a style":           {"Content-Type: text/html\n\n<style>body{display:none}</style><p style='position:fixed'>seen\n", "seen"},
		"a file":            {"Content-Type: a/b; name=\"" + strings.ReplaceAll(hostile, `"`, `\"`) + "\"\n\nx\n", "<script>alert(1)</script>"},
		"a media type":      {"Content-Type: <script>/<img>\n\nx\n", "<script>/<img>"},
		"UTF-7":             {"Content-Type: text/html; charset=utf-7\n\n+ADw-script+AD4-alert(1)\n", "+ADw-script+AD4-alert(1)"},
		"UTF-16":            {"Content-Type: text/html; charset=utf-16le\nContent-Transfer-Encoding: base64\n\nPABzAGMAcgBpAHAAdAA+AGEAPAAvAHMAYwByAGkAcAB0AD4AcwBlAGUAbgA=\n", "seen"},
		"a charset's name":  {"Content-Type: text/plain; charset=\"<script>\"\n\nseen\n", "seen"},
		"turned around":     {"Subject: invoice\u202Egpj.exe\nFrom: \u2066x\u2069@other.example\n\n\u202Ebody\n", "invoice[U+202E]gpj.exe"},
		"control":           {"Subject: a\x1b[2Jb\n\na\x00b\x07\n", "a[U+0000]b[U+0007]"},
		"a name that turns": {"Content-Type: a/b; name=\"=?utf-8?Q?a=E2=80=AEcod.exe?=\"\n\nx\n", "a[U+202E]cod.exe"},
		"a Date":            {"Date: <script>alert(1)</script>\n\nx\n", "<script>alert(1)</script>"},
	} {
		t.Run(name, func(t *testing.T) {
			uid := s.put("anna", tt.message)
			for _, path := range []string{"/mailbox/anna/mail", "/mailbox/anna/mail/" + uid} {
				p := b.get(path)
				p.harmless(path)
				if i := strings.IndexAny(p.body, "\x00\x07\x1b\u202E\u2066\u2069"); p.status != 200 || i >= 0 {
					t.Errorf("%s: %d, something hides at %d", path, p.status, i)
				}
			}
			b.get("/mailbox/anna/mail/"+uid).shows(200, tt.want)
		})
	}
}

// TestLargeMailPage: the page of a message of any size is small.
func TestLargeMailPage(t *testing.T) {
	s := newSite(t, nil)
	b := s.in("anna")
	for name, message := range map[string]string{
		"one line":        "\n" + strings.Repeat("x", 8<<20),
		"fields":          strings.Repeat("X: y\n", 10_000) + "\nx",
		"parts":           "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\nContent-Type: a/b; name="+strings.Repeat("n", 200)+"\n\nx\n", 10_000),
		"signs to escape": "\n" + strings.Repeat("\x01", 1<<20),
	} {
		uid := s.put("anna", message)
		if p := b.get("/mailbox/anna/mail/" + uid); p.status != 200 || len(p.body) > 400<<10 {
			t.Errorf("%s: %d, %d octets", name, p.status, len(p.body))
		}
	}
}
