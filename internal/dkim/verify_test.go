package dkim

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"
)

// world is a DNS with keys.
type world struct {
	records map[string][]string
	fails   map[string]error
	asked   []string
}

// published is a world with the test keys of a domain.
func published(t testing.TB, domain string) *world {
	t.Helper()
	w := &world{records: map[string][]string{}, fails: map[string]error{}}
	for _, k := range testKeys() {
		record, err := RecordOf(k.Private.Public())
		if err != nil {
			t.Fatal(err)
		}
		w.records[Name(k.Selector, domain)] = []string{record}
	}
	return w
}

func (w *world) txt(_ context.Context, name string) ([]string, error) {
	w.asked = append(w.asked, name)
	return w.records[name], w.fails[name]
}

// scanned is a message that is written in pieces of some size.
func scanned(t testing.TB, message string, piece int) *Scan {
	t.Helper()
	s := NewScan()
	for rest := message; rest != ""; {
		n := min(piece, len(rest))
		if _, err := io.WriteString(s, rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	return s
}

// others signs a message by another implementation.
func others(t testing.TB, message string, o msgauth.SignOptions) string {
	t.Helper()
	o.Domain, o.Selector = "example.org", "s0"
	if o.Signer == nil {
		o.Signer = testKeys()[0].Private
	}
	var out bytes.Buffer
	if err := msgauth.Sign(&out, strings.NewReader(message), &o); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

const ordinary = "From: anna@example.org\r\nTo: b@x.example\r\nSubject: one\r\n two\r\n\r\n A  line. \r\n\r\nend\r\n\r\n\r\n"

// TestVerify: what another implementation signs in any of the forms holds, however the octets come; what was changed since does not.
func TestVerify(t *testing.T) {
	w := published(t, "example.org")
	bodies := []string{"x\r\n", "", "\r\n", "\r\n\r\n\r\n", " \r\n", "a\r\n \r\n\r\n", "no end", "  a \t b  \r\n\r\n\r\nc\r\n", strings.Repeat("line  of text \r\n\r\n", 4000)}
	for _, header := range []msgauth.Canonicalization{msgauth.CanonicalizationSimple, msgauth.CanonicalizationRelaxed} {
		for _, body := range []msgauth.Canonicalization{msgauth.CanonicalizationSimple, msgauth.CanonicalizationRelaxed} {
			for i, text := range bodies {
				if text != "" && !strings.HasSuffix(text, "\r\n") {
					text += "\r\n" // no other is sent
				}
				message := others(t, "From:  anna@example.org\r\nSubject: a\r\n\t b \r\nSubject: b\r\n\r\n"+text, msgauth.SignOptions{HeaderCanonicalization: header, BodyCanonicalization: body})
				for _, piece := range []int{1, 3, 1000, 1 << 20} {
					if piece < 1000 && len(message) > 10_000 {
						continue
					}
					got := scanned(t, message, piece).Signatures(t.Context(), time.Now(), w.txt)
					if len(got) != 1 || got[0].Status != Pass || got[0].Domain != "example.org" || got[0].Selector != "s0" || len(got[0].Tag) != tagLen {
						t.Errorf("%s/%s body %d in pieces of %d: %+v", header, body, i, piece, got)
					}
				}
				for what, changed := range map[string]string{
					"body": message + "more\r\n", "header": strings.Replace(message, "Subject: b", "Subject: c", 1), "a field less": strings.Replace(message, "Subject: b\r\n", "", 1),
				} {
					if got := scanned(t, changed, 1000).Signatures(t.Context(), time.Now(), w.txt); len(got) != 1 || got[0].Status != Fail {
						t.Errorf("%s/%s body %d, %s changed: %+v", header, body, i, what, got)
					}
				}
			}
		}
	}
}

// TestVerifyOwn: our own signatures hold, both.
func TestVerifyOwn(t *testing.T) {
	w := published(t, "example.org")
	signed, err := sign(t, ordinary, 100)
	if err != nil {
		t.Fatal(err)
	}
	got := scanned(t, signed+ordinary, 7).Signatures(t.Context(), time.Now(), w.txt)
	if len(got) != 2 || got[0].Status != Pass || got[1].Status != Pass || got[1].Algorithm != "ed25519" {
		t.Errorf("%+v", got)
	}
}

// resigned signs the ordinary message with tags that a test chooses: the field up to b= in relaxed form.
func resigned(t *testing.T, tags string, key crypto.Signer) string {
	t.Helper()
	d := NewDigest()
	if _, err := io.WriteString(d, ordinary); err != nil {
		t.Fatal(err)
	}
	bh := base64.StdEncoding.EncodeToString(d.body.sum())
	list, err := fields(d.header)
	if err != nil {
		t.Fatal(err)
	}
	signed := append(appendRelaxed(nil, list[0].all), crlf...)
	field, err := endorse(Key{Private: key}, "DKIM-Signature: "+strings.ReplaceAll(tags, "BH", bh)+"; b=", signed)
	if err != nil {
		t.Fatal(err)
	}
	return string(field) + ordinary
}

// TestVerifyRules: each rule of RFC 6376, RFC 8301 and RFC 8463 has its result.
func TestVerifyRules(t *testing.T) {
	const usual = "v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=s0; h=from; bh=BH"
	now := time.Unix(1_800_000_000, 0)
	key := testKeys()[0].Private
	own := published(t, "example.org").records["s0._domainkey.example.org"][0]
	for _, tt := range []struct {
		name, tags, record string
		want               Status
		reason             string
	}{
		{"as it should be", usual, own, Pass, ""},
		{"d= in capitals", strings.Replace(usual, "example.org", "EXAMPLE.org", 1), own, Pass, ""},
		{"blanks in tags", strings.Replace(usual, "h=from", "h = from : to ", 1), own, Fail, "the signature does not hold"},
		{"another version", strings.Replace(usual, "v=1", "v=2", 1), own, PermError, "unknown version"},
		{"no version", strings.Replace(usual, "v=1; ", "", 1), own, PermError, "unknown version"},
		{"SHA-1", strings.Replace(usual, "sha256", "sha1", 1), own, Policy, "signed by SHA-1"},
		{"unknown algorithm", strings.Replace(usual, "rsa-", "dsa-", 1), own, PermError, "unknown algorithm"},
		{"unknown form", strings.Replace(usual, "relaxed/relaxed", "relaxed/nofws", 1), own, PermError, "unknown form"},
		{"no From in h=", strings.Replace(usual, "h=from", "h=to", 1), own, PermError, "From is not signed"},
		{"a tag twice", usual + "; s=s0", own, PermError, "not a list of tags"},
		{"no domain", strings.Replace(usual, "d=example.org", "d=[192.0.2.1]", 1), own, PermError, "no domain"},
		{"no selector", strings.Replace(usual, "s=s0", "s=", 1), own, PermError, "no selector"},
		{"an odd selector", strings.Replace(usual, "s=s0", "s=a\"b", 1), own, PermError, "no selector"},
		{"no bh=", strings.Replace(usual, "bh=BH", "bh=", 1), own, PermError, "no hash of the body"},
		{"i= below d=", usual + "; i=x@sub.example.org", own, Pass, ""},
		{"i= below d=, strict key", usual + "; i=x@sub.example.org", own + "; t=s", PermError, "the key is not for i="},
		{"i= as d=, strict key", usual + "; i=x@example.org", own + "; t=s", Pass, ""},
		{"i= elsewhere", usual + "; i=x@another.org", own, PermError, "i= is outside of d="},
		{"i= that only ends alike", usual + "; i=x@myexample.org", own, PermError, "i= is outside of d="},
		{"made a day ahead", usual + fmt.Sprintf("; t=%d", now.Add(maxSkew).Unix()), own, Pass, ""},
		{"made later than that", usual + fmt.Sprintf("; t=%d", now.Add(maxSkew).Unix()+1), own, Fail, "made in the future"},
		{"not expired", usual + fmt.Sprintf("; x=%d", now.Unix()), own, Pass, ""},
		{"expired", usual + fmt.Sprintf("; x=%d", now.Unix()-1), own, Fail, "expired"},
		{"expired before it was made", usual + "; t=5; x=5", own, PermError, "misspelt x="},
		{"misspelt t=", usual + "; t=x", own, PermError, "misspelt t="},
		{"l= of a part", usual + "; l=3", own, Fail, "the body was changed"},
		{"l= beyond the end", usual + "; l=1000", own, PermError, "l= is beyond the end"},
		{"l= below nothing", usual + "; l=-1", own, PermError, "misspelt l="},
		{"no key", usual, "", PermError, "no key"},
		{"no key record", usual, "v=spf1 -all", PermError, "no key"},
		{"revoked", usual, "v=DKIM1; p=", PermError, "the key is revoked"},
		{"another kind", usual, strings.Replace(own, "k=rsa", "k=ed25519", 1), PermError, "the key is of another kind"},
		{"SHA-1 only", usual, own + "; h=sha1", PermError, "the key does not sign mail"},
		{"not for mail", usual, own + "; s=other", PermError, "the key does not sign mail"},
		{"misspelt", usual, "p=!!", PermError, "the key is misspelt"},
		{"no key in it", usual, "p=AAAA", PermError, "the key is misspelt"},
		{"a test", usual, own + "; t=y", Neutral, "the key is marked as a test"},
	} {
		w := &world{records: map[string][]string{"s0._domainkey.example.org": {tt.record}}}
		got := scanned(t, resigned(t, tt.tags, key), 1000).Signatures(t.Context(), now, w.txt)
		if len(got) != 1 || got[0].Status != tt.want || got[0].Reason != tt.reason {
			t.Errorf("%s: %+v, want %s %q", tt.name, got, tt.want, tt.reason)
		}
	}
}

// TestVerifyPart: a body that is signed in part, and holds, is no pass (RFC 6376 §8.2); one that is signed whole by l= is.
func TestVerifyPart(t *testing.T) {
	w := published(t, "example.org")
	body := " A line.\r\n\r\nend\r\n" // in the relaxed form
	for _, tt := range []struct {
		l    int
		want Status
	}{{len(body), Pass}, {3, Policy}, {0, Policy}} {
		bh := sumOf(body[:tt.l])
		tags := fmt.Sprintf("v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=s0; h=from; l=%d; bh=%s", tt.l, bh)
		got := scanned(t, resigned(t, tags, testKeys()[0].Private), 5).Signatures(t.Context(), time.Now(), w.txt)
		if len(got) != 1 || got[0].Status != tt.want {
			t.Errorf("l=%d: %+v, want %s", tt.l, got, tt.want)
		}
	}
}

// TestVerifyKeys: RSA keys of 1024 bits count, smaller ones do not, and both ways to write one are read.
func TestVerifyKeys(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	for bits, want := range map[int]Status{1024: Pass, 1000: Policy} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		message := others(t, ordinary, msgauth.SignOptions{Signer: key})
		record := "p=" + base64.StdEncoding.EncodeToString(pkcs1(key))
		w := &world{records: map[string][]string{"s0._domainkey.example.org": {record}}}
		got := scanned(t, message, 1000).Signatures(t.Context(), time.Now(), w.txt)
		if len(got) != 1 || got[0].Status != want {
			t.Errorf("%d bits: %+v, want %s", bits, got, want)
		}
	}
}

// TestVerifyBounds: no more than MaxVerified signatures are looked at, each name is asked for once, and a DNS that does not answer is no verdict.
func TestVerifyBounds(t *testing.T) {
	w := published(t, "example.org")
	one := others(t, ordinary, msgauth.SignOptions{})
	field := strings.TrimSuffix(one, ordinary)
	got := scanned(t, strings.Repeat(field, MaxVerified+1)+ordinary, 1000).Signatures(t.Context(), time.Now(), w.txt)
	if len(got) != MaxVerified || len(w.asked) != 1 {
		t.Errorf("%d results, asked %q", len(got), w.asked)
	}
	w.fails["s0._domainkey.example.org"] = errors.New("no answer")
	if got := scanned(t, one, 1000).Signatures(t.Context(), time.Now(), w.txt); len(got) != 1 || got[0].Status != TempError {
		t.Errorf("without the DNS: %+v", got)
	}
	if got := scanned(t, "Subject: x\r\n", 3).Signatures(t.Context(), time.Now(), w.txt); len(got) != 0 {
		t.Errorf("without signatures: %+v", got)
	}
	if got := scanned(t, strings.TrimRight(others(t, "From: anna@example.org\r\n\r\n", msgauth.SignOptions{}), "\r\n")+"\r\n", 3).Signatures(t.Context(), time.Now(), published(t, "example.org").txt); len(got) != 1 || got[0].Status != Pass {
		t.Errorf("all header: %+v", got)
	}
}

// FuzzScan: whatever is written, judging and sealing it neither panics nor makes a chain that does not hold.
func FuzzScan(f *testing.F) {
	f.Add("ARC-Seal: i=1; cv=none\r\nARC-Message-Signature: i=1; h=from\r\nARC-Authentication-Results: i=1; x\r\n\r\nx\r\n")
	f.Add("DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=s0; h=from; bh=; b=\r\n\r\nx\r\n")
	f.Fuzz(func(t *testing.T, rest string) {
		message := "From: a@example.org\r\n" + strings.ReplaceAll(strings.ReplaceAll(rest, "\r", ""), "\n", "\r\n")
		if !strings.Contains(message, "\r\n\r\n") {
			message = strings.TrimRight(message, "\r\n") + "\r\n\r\n"
		}
		s := NewScan()
		if _, err := io.WriteString(s, message); err != nil {
			return
		}
		w := published(t, "example.org")
		s.Signatures(t.Context(), time.Now(), w.txt)
		c := s.Chain(t.Context(), w.txt)
		set, err := s.Seal(hop(c.Status))
		if err != nil {
			return
		}
		want := Pass
		if c.Status == Fail {
			want = Fail
		}
		if got := scanned(t, string(set)+message, 1000).Chain(t.Context(), w.txt); got.Status != want {
			t.Errorf("%s became %s (%v):\n%q", c.Status, got.Status, got.Err, string(set)+message)
		}
	})
}
