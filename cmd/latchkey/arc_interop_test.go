//go:build interop

package main

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"latchkey/internal/dkim"
	lines "latchkey/internal/message"
)

// chains is how many messages are sent on and judged.
const chains = 120

// chainJudgement is a line of testdata/arc.py.
type chainJudgement struct {
	Number, Sets            int
	Status, Reason, Results string
	Message                 bool
}

// wellFormed is a message of the nasty ones as a stranger's server may send it: with CRLF, without NUL, and with no blanks before a colon, which
// dkimpy does not know.
func wellFormed(t *testing.T, n int) []byte {
	t.Helper()
	text := strings.NewReplacer("\x00", "", "From :", "From:", "Subject \t:", "Subject:").Replace(hardToSign(n, "x@far.example"))
	mended, err := io.ReadAll(lines.NewRepairReader(strings.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(mended, []byte("\r\n\r\n")) {
		mended = append(mended, "\r\n"...)
	}
	return mended
}

// strangersChains makes the messages, has dkimpy seal them, and publishes its keys.
func strangersChains(t *testing.T, dir string, publish func(name, record string)) {
	t.Helper()
	private, err := dkim.Generate(dkim.RSA)
	if err != nil {
		t.Fatal(err)
	}
	record, err := dkim.RecordOf(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	for hop := 1; hop <= 3; hop++ {
		publish(dkim.Name("k", fmt.Sprintf("hop%d.example", hop)), record)
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private.(*rsa.PrivateKey))})
	keyFile := filepath.Join(dir, "key.pem")
	if err := os.WriteFile(keyFile, key, 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range chains {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%04d.in", n)), wellFormed(t, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "", debianPython, "testdata/arc.py", "make", dir, keyFile)
}

// TestInteropARC: nasty messages come in with chains of none to three sets by dkimpy, and are sent on by a mailbox. Each has one set more then,
// and dkimpy says of each what this server said: the chain holds, or it was broken when it came.
func TestInteropARC(t *testing.T) {
	needModules(t, "dkim", "authres", "dns.resolver")
	s, out, dns := signingServer(t)
	if status, _, stderr := s.latchkey("account", "change", "anna", "--forward", "b@sink.example"); status != 0 {
		t.Fatal(stderr)
	}
	dir := t.TempDir()
	strangersChains(t, dir, func(name, record string) { dns.Set(name, "TXT", strconv.Quote(record)) })
	dns.Set("far.example", "TXT", `"v=spf1 ip4:127.0.0.0/8 -all"`)
	for n := range chains {
		text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%04d.eml", n)))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.tryDeliver("x@far.example", []string{"anna@example.com"}, string(text)); err != nil {
			t.Fatalf("message %d is refused: %v\n%.2000q", n, err, text)
		}
	}
	for _, m := range out.wait(chains) {
		_, number, _ := strings.Cut(m.data, "X-Number: ")
		number, _, _ = strings.Cut(number, "\r\n")
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%04d.out", n)), []byte(m.data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	judged := 0
	for line := range strings.Lines(run(t, "", debianPython, "testdata/arc.py", "judge", dir, strconv.Itoa(int(dns.Addr().Port())))) {
		var j chainJudgement
		if err := json.Unmarshal([]byte(line), &j); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		judged++
		hops, status, said := j.Number%4, "pass", "arc=pass"
		if hops == 0 {
			said = "arc=none"
		} else if j.Number%10 == 9 {
			status, said = "ended", "arc=fail"
		}
		if j.Status != status || j.Sets != hops+1 || !j.Message || !strings.Contains(j.Results, said) || !strings.Contains(j.Results, "spf=pass") {
			data, _ := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%04d.out", j.Number)))
			t.Errorf("message %d with %d sets of others: %+v, want %s and %s\n%.3000q", j.Number, hops, j, status, said, data)
		}
	}
	if judged != chains {
		t.Errorf("%d judgements, want %d", judged, chains)
	}
}
