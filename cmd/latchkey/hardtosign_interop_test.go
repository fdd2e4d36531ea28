//go:build interop

package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// hardToSign makes a message from an address that is hard to sign: its n-th, which is the same in each run. Its number is in X-Number.
func hardToSign(n int, from string) string {
	dice := rand.New(rand.NewPCG(6376, uint64(n)))
	pick := func(list ...string) string { return list[dice.IntN(len(list))] }
	fields := []string{
		pick("From: "+from, "from:"+from, "FROM:   "+from+"  ", "From:\r\n "+from, "From: \"A, \\\"B\" (c) <"+from+">",
			"From: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\t<"+from+">", "From:\t"+from+"\t", "From: Anna\r\n \t \r\n <"+from+">", "From : "+from),
		fmt.Sprintf("X-Number: %d", n),
	}
	for _, more := range [][]string{
		{"Subject: plain", "Subject:", "Subject: ", "Subject:\r\n ", "subject:  a \t b  ", "Subject: a\r\n b\r\n\tc\r\n   d", "Subject \t: blanks before the colon",
			"Subject: " + strings.Repeat("long ", 150), "Subject: gr\xc3\xbc\xc3\x9fe \xe2\x82\xac", "Subject: \xfc\xdf\xff", "Subject: a: b; c=d, \"e\"",
			"Subject: one\r\nSubject: two", "Subject: =?utf-8?b?4oKs?=\r\n =?utf-8?b?4oKs?=", "Subject: " + strings.Repeat("x", 990), "Subject: .", "Subject:x"},
		{"", "To: b@sink.example", "To: b@sink.example,\r\n c@sink.example,\r\n\td@sink.example", "To: b@sink.example\r\nTo: c@sink.example", "To: undisclosed-recipients:;",
			"to:b@sink.example\r\nCC: c@sink.example\r\ncc: d@sink.example\r\nCc:", "To:" + strings.Repeat("\r\n a.very.long.name@sink.example,", 200) + "\r\n b@sink.example"},
		{"", "Date: Sat, 28 Nov 2026 12:00:00 +0000", "Date:  Sat,  28 Nov 2026\r\n 12:00:00 +0000 (UTC)", "Date: nonsense"},
		{"", "Message-ID: <1@example.com>", "Message-Id:\r\n <1.2@example.com>", "MESSAGE-ID: <a>"},
		{"", "Reply-To: x@example.com", "Reply-To: a@example.com\r\nReply-To: b@example.com", "References: <1@x>\r\n <2@x>\r\n\t<3@x>\r\nIn-Reply-To: <3@x>"},
		{"", "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit", "MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n\tboundary=\"=_x\"",
			"Content-Type: text/plain;\r\n  charset=\"us-ascii\" ;\r\n format=flowed"},
		{"", "List-Id: <l.example.com>\r\nList-Unsubscribe: <mailto:u@example.com>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click", "Sender: " + from, "Auto-Submitted: no",
			strings.TrimSuffix(strings.Repeat("X-Many: field\r\n", 1500), "\r\n"), "X-Huge: " + strings.Repeat("h", 30_000), "X-Folds:" + strings.Repeat("\r\n x", 3000),
			"DKIM-Signature: v=1; a=rsa-sha256; d=other.example; s=x; h=from; bh=AAAA; b=AAAA", "Received: from a\r\n\tby b; Sat, 28 Nov 2026 12:00:00 +0000"},
	} {
		if f := pick(more...); f != "" {
			fields = append(fields, f)
		}
	}
	dice.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	return strings.Join(fields, "\r\n") + "\r\n" + hardBody(dice, pick)
}

// hardBody is the rest: the empty line and what follows.
func hardBody(dice *rand.Rand, pick func(...string) string) string {
	switch dice.IntN(8) {
	case 0:
		return pick("\r\n", "", "\r\n\r\n", "\r\n\r\n\r\n\r\n", "\r\n \r\n", "\r\n \t \r\n\r\n", "\r\n.\r\n", "\r\nx", "\r\n\r\nx")
	case 1:
		return "\r\n" + strings.Repeat(pick("\r\n", " \r\n", "a \r\n", ".\r\n", "..\r\n", "\t\r\n"), 1+dice.IntN(3000)) + pick("", "end", "end\r\n", " ")
	case 2:
		return "\r\n" + strings.Repeat(pick("x", "long line ", "\xe2\x82\xac", "a\tb", "=20"), 1+dice.IntN(5000)) + "\r\n"
	case 3:
		return "\r\n--=_x\r\nContent-Type: text/plain\r\n\r\nhello \r\n\r\n--=_x\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
			strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 1+dice.IntN(500)) + "--=_x--\r\n" + pick("", "\r\n", "epilogue")
	}
	var b strings.Builder
	b.WriteString("\r\n")
	for range dice.IntN(60) {
		b.WriteString(pick(
			"", ".", "..", ".x", " ", "\t", "  lead", "trail  ", "a  b\t\tc \t d", "From me", ">From me", "--", "-- ", "\xff\xfe\x80", "gr\xc3\xbc\xc3\x9fe", "a\x00b", "\x00", "\x1b[31m",
			"DKIM-Signature: v=1; b=x", "Subject: not one", strings.Repeat("y", 998), strings.Repeat("z ", 700), "=\x0b\x0c", "\xc2\xa0", "a\rb", "bare\nlf", "\r",
		))
		b.WriteString(pick("\r\n", "\r\n", "\r\n", "\n"))
	}
	b.WriteString(pick("", "no line end", "\r\n\r\n", " "))
	return b.String()
}
