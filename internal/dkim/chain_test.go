package dkim

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"
)

func pkcs1(key *rsa.PrivateKey) []byte { return x509.MarshalPKCS1PublicKey(&key.PublicKey) }

// hop is a set of example.org.
func hop(validation Status) Set {
	return Set{
		Domain: "example.org", Key: testKeys()[0], Now: time.Unix(1_800_000_000, 0), Validation: validation,
		Results: []string{"mail.example.org", "dkim=none", "arc=" + string(validation)},
	}
}

// sealed puts sets before a message, each with what the one before is worth.
func sealed(t testing.TB, w *world, message string, hops int) string {
	t.Helper()
	for range hops {
		s := scanned(t, message, 1000)
		set, err := s.Seal(hop(s.Chain(t.Context(), w.txt).Status))
		if err != nil {
			t.Fatal(err)
		}
		message = string(set) + message
	}
	return message
}

// TestChainGrows: chains of every length hold, with what hops may add in between, and no line of a set is long.
func TestChainGrows(t *testing.T) {
	w := published(t, "example.org")
	message := ordinary
	for n := range MaxSets {
		c := scanned(t, message, 999).Chain(t.Context(), w.txt)
		want := Pass
		if n == 0 {
			want = None
		}
		if c.Status != want || c.Sets != n {
			t.Fatalf("%d sets: %+v", n, c)
		}
		message = "Received: from a\r\n\tby b\r\nDelivered-To: x@y.example\r\n" + sealed(t, w, message, 1)
	}
	for line := range strings.SplitSeq(message, "\r\n") {
		if len(line) > maxLine {
			t.Fatalf("a line of %d octets: %q", len(line), line)
		}
	}
	w.asked = nil
	s := scanned(t, message, 1000)
	if c := s.Chain(t.Context(), w.txt); c.Status != Pass || c.Sets != MaxSets || len(w.asked) != 1 {
		t.Errorf("the longest chain: %+v, asked %d times", c, len(w.asked))
	}
	if _, err := s.Seal(hop(Pass)); !errors.Is(err, ErrNoSet) {
		t.Errorf("one more: %v, want %v", err, ErrNoSet)
	}
}

// TestChainRules: each rule of RFC 8617 §5.2 is one by which a chain fails.
func TestChainRules(t *testing.T) {
	w := published(t, "example.org")
	three := sealed(t, w, ordinary, 3)
	replace := func(old, by string) string {
		if !strings.Contains(three, old) {
			t.Fatalf("no %q in\n%s", old, three)
		}
		return strings.Replace(three, old, by, 1)
	}
	field := func(name, instance string) string {
		start := strings.Index(three, name+": i="+instance+";")
		if start < 0 {
			t.Fatalf("no %s %s in\n%s", name, instance, three)
		}
		end := start
		for {
			end += strings.Index(three[end:], "\r\n") + 2
			if three[end] != '\t' {
				return three[start:end]
			}
		}
	}
	for _, tt := range []struct {
		name, message string
		want          Status
		err           string
	}{
		{"as it should be", three, Pass, ""},
		{"in capitals", replace("ARC-Seal: i=3", "ARC-SEAL: i=3"), Pass, ""},
		{"folded otherwise", replace("ARC-Seal: i=3; a=rsa-sha256; cv", "ARC-Seal: i=3;\r\n  a=rsa-sha256;\r\n\tcv"), Pass, ""},
		{"in another order", strings.Replace(three, field("ARC-Seal", "2"), "", 1)[:0] + field("ARC-Seal", "2") + strings.Replace(three, field("ARC-Seal", "2"), "", 1), Pass, ""},
		{"§5.2 2: the newest says fail", replace("cv=pass", "cv=fail"), Fail, "the chain had failed before"},
		{"§5.2 3A: no seal", strings.Replace(three, field("ARC-Seal", "2"), "", 1), Fail, "instance 2 is not whole"},
		{"§5.2 3A: no message signature", strings.Replace(three, field("ARC-Message-Signature", "1"), "", 1), Fail, "instance 1 is not whole"},
		{"§5.2 3A: no results", strings.Replace(three, field("ARC-Authentication-Results", "3"), "", 1), Fail, "instance 3 is not whole"},
		{"§5.2 3A: two seals", field("ARC-Seal", "2") + three, Fail, "instance 2 has two arc-seal"},
		{"§5.2 3A: two results", field("ARC-Authentication-Results", "1") + three, Fail, "instance 1 has two arc-authentication-results"},
		{"§5.2 3B: a gap", strings.NewReplacer(field("ARC-Seal", "2"), "", field("ARC-Message-Signature", "2"), "", field("ARC-Authentication-Results", "2"), "").Replace(three), Fail, "instance 2 is not whole"},
		{"§5.2 3B: the first is missing", strings.NewReplacer(field("ARC-Seal", "1"), "", field("ARC-Message-Signature", "1"), "", field("ARC-Authentication-Results", "1"), "").Replace(three), Fail, "instance 1 is not whole"},
		{"§4.2.1: instance 0", replace("ARC-Seal: i=1;", "ARC-Seal: i=0;"), Fail, "without an instance"},
		{"§4.2.1: instance 51", replace("ARC-Seal: i=3;", "ARC-Seal: i=51;"), Fail, "without an instance"},
		{"§4.2.1: no instance", replace("ARC-Authentication-Results: i=2;", "ARC-Authentication-Results: j=2;"), Fail, "without an instance"},
		{"§4.2.1: a signed instance", replace("ARC-Seal: i=2;", "ARC-Seal: i=+2;"), Fail, "without an instance"},
		{"§5.2 3C: the first says pass", replace("cv=none", "cv=pass"), Fail, "instance 1 says"},
		{"§5.2 3C: a later one says none", strings.ReplaceAll(three, "cv=pass", "cv=none"), Fail, "instance 2 says"},
		{"§5.2 3C: an earlier one says fail", replace("cv=none", "cv=fail"), Fail, "instance 1 says"},
		{"§5.2 4: the body was changed", three + "more\r\n", Fail, "message signature of instance 3: dkim: the body was changed"},
		{"§5.2 4: a field was changed", strings.Replace(three, "Subject: one", "Subject: two", 1), Fail, "message signature of instance 3: dkim: the signature does not hold"},
		{"§5.2 4: a field was added", "Subject: two\r\n" + three, Fail, "message signature of instance 3"},
		{"§5.2 6: results were changed", replace("i=2; mail.example.org;\r\n\tdkim=none", "i=2; mail.example.org;\r\n\tdkim=pass"), Fail, "seal of instance 3: dkim: the signature does not hold"},
		{"§5.2 6: the newest results were changed", replace("dkim=none", "dkim=pass"), Fail, "seal of instance 3"},
		{"§4.1.3: h= in the newest seal", replace("ARC-Seal: i=3;", "ARC-Seal: i=3; h=from;"), Fail, "the seal has h="},
		{"§4.1.2: the chain in h=", replace("h=from", "h=arc-seal:from"), Fail, "a field of the chain is signed"},
		{"a message signature without From", replace("h=from:from:", "h="), Fail, "From is not signed"},
	} {
		for _, piece := range []int{1000, 1 << 20} {
			c := scanned(t, tt.message, piece).Chain(t.Context(), w.txt)
			if c.Status != tt.want || (c.Err == nil) != (tt.err == "") || c.Err != nil && !strings.Contains(c.Err.Error(), tt.err) {
				t.Errorf("%s: %s %v, want %s %q", tt.name, c.Status, c.Err, tt.want, tt.err)
			}
		}
	}
	for _, comment := range []string{"ARC-Authentication-Results: (x) i (y)=\r\n\t3 (z) ; mail.example.org", "ARC-Authentication-Results:i=03; mail.example.org"} {
		s := scanned(t, strings.Replace(three, "ARC-Authentication-Results: i=3; mail.example.org", comment, 1), 1000)
		if s.chain.broken != nil {
			t.Errorf("%q: %v", comment, s.chain.broken)
		}
	}
}

// TestChainMiddle: an older seal that was changed fails the chain, though the newest two cover what stands there now.
func TestChainMiddle(t *testing.T) {
	w := published(t, "example.org")
	one := sealed(t, w, ordinary, 1)
	forged := strings.Replace(one, "dkim=none", "dkim=pass", 1)
	s := scanned(t, forged, 1000)
	set, err := s.Seal(hop(Pass)) // by somebody who did not look
	if err != nil {
		t.Fatal(err)
	}
	if c := scanned(t, string(set)+forged, 1000).Chain(t.Context(), w.txt); c.Status != Fail || !strings.Contains(c.Err.Error(), "seal of instance 1") {
		t.Errorf("%s %v", c.Status, c.Err)
	}
}

// TestSealOfFailed: a chain that failed gets one more set, whose seal covers nothing but that set, and never another one (RFC 8617 §5.1.2).
func TestSealOfFailed(t *testing.T) {
	w := published(t, "example.org")
	broken := sealed(t, w, ordinary, 2) + "more\r\n"
	s := scanned(t, broken, 1000)
	c := s.Chain(t.Context(), w.txt)
	if c.Status != Fail {
		t.Fatal(c)
	}
	added, err := s.Seal(hop(c.Status))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ARC-Seal: i=3; a=rsa-sha256; cv=fail;", "ARC-Message-Signature: i=3;", "ARC-Authentication-Results: i=3; mail.example.org;"} {
		if !strings.Contains(string(added), want) {
			t.Errorf("no %q in %s", want, added)
		}
	}
	list, err := fields(added)
	if err != nil {
		t.Fatal(err)
	}
	alone := chain{sets: []set{{results: &list[2], message: &list[1], seal: &list[0]}}}
	seal, err := parseSeal(&list[0])
	if err == nil {
		_, err = newKeys(w.txt).verify(t.Context(), seal, alone.sealed(1))
	}
	if err != nil {
		t.Errorf("the seal over its own set alone: %v", err)
	}
	s = scanned(t, string(added)+broken, 1000)
	if c := s.Chain(t.Context(), w.txt); c.Status != Fail || c.Sets != 3 {
		t.Errorf("afterwards: %+v", c)
	}
	if _, err := s.Seal(hop(Fail)); !errors.Is(err, ErrNoSet) {
		t.Errorf("sealed again: %v", err)
	}
	for what, message := range map[string]string{ // RFC 8617 §5.1.2: whatever is wrong, there is one way to say so
		"no instance at all": "ARC-Seal: x\r\n" + ordinary, "too many": "ARC-Seal: i=51; cv=pass\r\n" + ordinary, "half a set": "ARC-Seal: i=4; cv=pass\r\n" + ordinary,
	} {
		s := scanned(t, message, 1000)
		if c := s.Chain(t.Context(), w.txt); c.Status != Fail {
			t.Errorf("%s: %+v", what, c)
		}
		set, err := s.Seal(hop(Fail))
		if err != nil || !strings.Contains(string(set), "cv=fail") {
			t.Errorf("%s: %v", what, err)
		}
		s = scanned(t, string(set)+message, 1000)
		if _, err := s.Seal(hop(Fail)); !errors.Is(err, ErrNoSet) {
			t.Errorf("%s: sealed again: %v", what, err)
		}
	}
}

// TestChainKeys: a key that is away fails a chain; one that nobody can say anything of does too, and is told apart.
func TestChainKeys(t *testing.T) {
	w := published(t, "example.org")
	one := sealed(t, w, ordinary, 1)
	w.fails["s0._domainkey.example.org"] = errors.New("no answer")
	if c := scanned(t, one, 1000).Chain(t.Context(), w.txt); c.Status != Fail || !errors.Is(c.Err, ErrTemporary) {
		t.Errorf("no answer: %+v", c)
	}
	w = &world{}
	if c := scanned(t, one, 1000).Chain(t.Context(), w.txt); c.Status != Fail || errors.Is(c.Err, ErrTemporary) {
		t.Errorf("no key: %+v", c)
	}
}

// TestSealRefused: what cannot be signed gets no set.
func TestSealRefused(t *testing.T) {
	for message, want := range map[string]error{
		"Subject: x\r\n\r\nx\r\n": ErrNoFrom, "From: a@x.example\r\nhello\r\n\r\nx\r\n": ErrHeader, "": ErrNoFrom,
	} {
		if _, err := scanned(t, message, 100).Seal(hop(None)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", message, err, want)
		}
	}
}

// TestSealCoversSignatures: the author's signature is part of what is sealed (RFC 8617 §4.1.2), and Authentication-Results are not.
func TestSealCoversSignatures(t *testing.T) {
	w := published(t, "example.org")
	signed, err := sign(t, ordinary, 100)
	if err != nil {
		t.Fatal(err)
	}
	message := sealed(t, w, "Authentication-Results: x; none\r\n"+signed+ordinary, 1)
	if !strings.Contains(message, ":dkim-signature") || strings.Contains(message, ":authentication-results") {
		t.Errorf("h= of %s", message)
	}
	for what, changed := range map[string]string{
		"a signature less": strings.Replace(message, signed[:strings.Index(signed[1:], "DKIM-Signature")+1], "", 1),
		"results less":     strings.Replace(message, "Authentication-Results: x; none\r\n", "", 1),
	} {
		if changed == message {
			t.Fatal(what)
		}
		if c := scanned(t, changed, 1000).Chain(t.Context(), w.txt); (c.Status == Pass) != (what == "results less") {
			t.Errorf("%s: %+v", what, c)
		}
	}
}

// BenchmarkScan is a message of 4 KiB with a chain of three sets that is judged and sealed again.
func BenchmarkScan(b *testing.B) {
	w := published(b, "example.org")
	message := sealed(b, w, ordinary+strings.Repeat("A line of an ordinary message.\r\n", 128), 3)
	for b.Loop() {
		s := scanned(b, message, 16<<10)
		if _, err := s.Seal(hop(s.Chain(b.Context(), w.txt).Status)); err != nil {
			b.Fatal(err)
		}
	}
}
