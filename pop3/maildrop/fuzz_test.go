package maildrop

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/pop3"
	"latchkey/store"
	"latchkey/store/memstore"
)

// TestSelectionIsOfOneLogin: what a name asked for that did not log in is not done for the next one, by whatever mechanism.
func TestSelectionIsOfOneLogin(t *testing.T) {
	f := oldDoor(t)
	c := f.dialTalk(t)
	c.reply("+OK")
	c.login("alice", "open sesame") // seals it
	c.ask("QUIT", "+OK")
	c = f.dialTalk(t)
	c.reply("+OK")
	c.ask("USER alice(max=1)", "+OK")
	c.ask("PASS wrong", "-ERR")
	challenge, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(c.ask("AUTH CRAM-MD5", "+ "), "+ "))
	if err != nil {
		t.Fatal(err)
	}
	c.ask(cramResponse("alice", "open sesame", string(challenge)), "+OK 2 ")
}

func cramResponse(name, password, challenge string) string {
	mac := hmac.New(md5.New, []byte(password))
	mac.Write([]byte(challenge))
	return b64(name + " " + hex.EncodeToString(mac.Sum(nil)))
}

// FuzzSelection: a name keeps all its octets but for what is taken off as a selection, which is one.
func FuzzSelection(f *testing.F) {
	for _, s := range []string{
		"anna", "anna(new)", "anna(7d)@example.com", "anna@example.com(max=200) ", "a(b)c", "(new)", "a(new)@b(7d)", "((new)", "a()", "a(MAX=01)",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, login string) {
		name, s, chosen := splitSelection(login)
		if !chosen {
			if name != login || s != (store.Selection{}) {
				t.Errorf("%q: %q, %+v", login, name, s)
			}
			return
		}
		open := strings.IndexByte(login, '(')
		text, rest, _ := strings.Cut(login[open+1:], ")")
		want, err := store.ParseSelect(strings.ToLower(text))
		if err != nil || s != want || name != login[:open]+rest {
			t.Errorf("%q: %q, %+v; want %+v (%v)", login, name, s, want, err)
		}
	})
}

// FuzzDress: a message with what it gets is as long as is listed, however it is read, and only what was asked for is not its own.
func FuzzDress(f *testing.F) {
	for which := range uint8(32) {
		f.Add([]byte("Subject: x\x00\r\n"), which)
		f.Add([]byte{}, which)
	}
	f.Fuzz(func(t *testing.T, content []byte, which uint8) {
		v, d := view{options: store.POP3Options{ReplaceNUL: which&1 > 0}}, dress{status: which&2 > 0, end: which&4 > 0}
		want := bytes.Clone(content)
		if which&1 > 0 {
			want = bytes.ReplaceAll(want, []byte{0}, []byte{0x80})
		}
		if d.status {
			want = append([]byte(statusRead), want...)
		}
		if d.end {
			want = append(want, emptyLine...)
		}
		var source io.Reader = bytes.NewReader(bytes.Clone(content))
		if which&8 > 0 {
			source = iotest.DataErrReader(iotest.OneByteReader(source))
		}
		r := v.dressUp(io.NopCloser(source), d)
		reads := iotest.HalfReader(r)
		if which&16 > 0 {
			reads = iotest.OneByteReader(r)
		}
		got, err := io.ReadAll(reads)
		if err != nil || !bytes.Equal(got, want) || int64(len(got)) != int64(len(content))+d.octets() {
			t.Errorf("got %q (%v), want %q", got, err, want)
		}
	})
}

// quickVerifier is of quickPassword and costs next to nothing to check (8 KiB, one pass).
const (
	quickVerifier = store.Verifier("$argon2id$v=19$m=8,t=1,p=1$dG9ydHVyZSdzIHNhbHQuLg$lYrC36OcmcQdntnGqWL5HisOGSC/99lT9kG4AUE40IE")
	quickPassword = "victim's password"
)

// The bits of a door that is fuzzed.
const (
	fuzzOld = 1 << iota
	fuzzSealed
	fuzzSelect
	fuzzDressed
	fuzzLoggedIn
	fuzzDelay
)

// FuzzDoor is a whole door on a store in memory: selections, work-arounds, challenges, delays. A client says lines, one after the other is answered;
// it goes without QUIT or stays until it is put out. "!cram", "!apop" and "!scram" (SHA-1,
// after a first message of n,,n=alice,r=x) are the right proofs.
func FuzzDoor(f *testing.F) {
	for which := range uint8(64) {
		f.Add([]byte("USER alice(new)\nPASS "+quickPassword+"\nRETR 1\nDELE 2\nLIST\nQUIT\n"), which)
		f.Add([]byte("AUTH CRAM-MD5\n!cram\n!apop\nTOP 1 0\nRETR 3\nLAST\nUIDL\nCAPA\n"), which)
	}
	for _, s := range []string{
		"AUTH SCRAM-SHA-256\nbiwsbj1hbGljZSxyPXg=\nYz1iaXdzLHI9eCxwPXg=\nSTAT\n",
		"AUTH SCRAM-SHA-1\nbiwsbj1hbGljZSxyPXg=\nYz1iaXdzLHI9eCxwPXg=\nSTAT\n",
		"AUTH SCRAM-SHA-1 biwsbj1hbGljZSxyPXg=\n!scram\n=\nSTAT\n",
		"AUTH SCRAM-SHA-1 biwsbj1hbGljZSxyPXg=\n!scram\n\nSTAT\nDELE 1\nQUIT\n",
		"AUTH PLAIN " + plain("alice(max=1)", quickPassword) + "\nSTAT\nDELE 1\nQUIT\n",
		"USER alice(7d)\nPASS a\x00b\nUSER ((\nPASS )\nAUTH NTLM\nAUTH LOGIN\n=\n=\n",
		"USER nobody\nPASS x\n!apop\nAPOP nobody 00112233445566778899aabbccddeeff\n",
	} {
		f.Add([]byte(s), uint8(fuzzOld|fuzzSealed))
		f.Add([]byte(s), uint8(0))
	}
	f.Fuzz(func(t *testing.T, input []byte, which uint8) {
		synctest.Test(t, func(t *testing.T) { fuzzDoor(t, input, which) })
	})
}

// fuzzDomain is a domain of one mailbox with three messages, one of them all header, one with NUL.
func fuzzDomain(t *testing.T, which uint8) (*fixture, *Server, *bytes.Buffer) {
	f := &fixture{t: t, store: memstore.New("example.com"), guard: guard.NewLogins(guard.LoginLimits{Delays: noDelays})}
	t.Cleanup(func() { _ = f.store.Close() })
	f.alice = f.add(store.Account{Name: "alice", Verifier: quickVerifier})
	f.deliver("Subject: one\r\n\r\n", ".dot\r\n")
	f.deliver("Subject: two\r\n", "")
	f.deliver("Subject: three\r\n\r\n", "a\x00b\r\n")
	log := &bytes.Buffer{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	f.auth = auth.New(auth.Options{Accounts: f.store, Settings: f.store, Cost: cheap, Sealing: f.store, Guard: f.guard, Logger: logger})
	f.update(func(a *store.Account) {
		a.OldClientLogin = which&fuzzSealed > 0
		if which&fuzzSelect > 0 {
			a.POP3.Select = "max=2"
		}
		if which&fuzzDressed > 0 {
			a.POP3.ReplaceNUL, a.POP3.EndHeader, a.POP3.StatusHeader, a.POP3.Last = true, true, true, true
		}
	})
	f.set(func(s *store.Settings) {
		if which&fuzzDelay > 0 {
			s.LoginDelay = 900
		}
	})
	if _, err := f.auth.Login(t.Context(), auth.Attempt{Service: "test", TLS: true}, "alice", quickPassword); err != nil {
		t.Fatal(err)
	}
	o := Options{Store: f.store, Auth: f.auth, Hostname: "mail.example.com", Logger: logger}
	if which&fuzzOld > 0 {
		o.OldClients = only(f.alice.ID)
	}
	return f, New(o), log
}

func fuzzDoor(t *testing.T, input []byte, which uint8) {
	f, s, log := fuzzDomain(t, which)
	l := newPipes()
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	ours, theirs := net.Pipe()
	l.conns <- pipe{theirs, netip.MustParseAddr("127.0.0.1")}
	ended := make(chan struct{})
	var mu sync.Mutex // protects heard
	var heard []byte
	go func() {
		defer close(ended)
		piece := make([]byte, 4096)
		for {
			n, err := ours.Read(piece)
			mu.Lock()
			heard = append(heard, piece[:n]...)
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	take := func() string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		got := string(heard)
		heard = nil
		return got
	}
	last := take()
	_, stamp, _ := strings.Cut(last, "<")
	stamp = "<" + strings.TrimSpace(stamp)
	lines := strings.Split(string(input), "\n")
	if which&fuzzLoggedIn > 0 {
		lines = append([]string{"USER alice", "PASS " + quickPassword}, lines...)
	}
	quit := false
	for _, line := range lines[:min(len(lines), 60)] {
		switch line {
		case "!cram":
			challenge, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(strings.TrimPrefix(last, "+ "))) // or it is none
			line = cramResponse("alice", quickPassword, string(challenge))
		case "!scram":
			line, _ = scramFinal(sha1.New, "n=alice,r=x", strings.TrimSpace(last), quickPassword)
		case "!apop":
			sum := md5.Sum([]byte(stamp + quickPassword))
			line = "APOP alice " + hex.EncodeToString(sum[:])
		}
		if _, err := io.WriteString(ours, line+"\r\n"); err != nil {
			break // the server has ended it
		}
		last = take()
		if !strings.HasSuffix(last, "\r\n") || !strings.HasPrefix(last, "+") && !strings.HasPrefix(last, "-ERR ") {
			t.Errorf("%q: got %q", line, last)
		}
		quit = quit || strings.HasPrefix(strings.ToUpper(line), "QUIT") && strings.HasPrefix(last, "+OK")
	}
	begun := time.Now()
	if which&fuzzSelect > 0 {
		_ = ours.Close()
	}
	if <-ended; time.Since(begun) > pop3.DefaultIdleTimeout+5*time.Second {
		t.Errorf("ended after %v", time.Since(begun))
	}
	_ = ours.Close()
	if err := errors.Join(s.Close(), <-done); !errors.Is(err, pop3.ErrServerClosed) {
		t.Error(err)
	}
	if n := len(f.messages()); n < 3 && !quit {
		t.Errorf("%d messages are left without QUIT", n)
	}
	for _, word := range []string{"panic", quickPassword, "level=ERROR"} {
		if strings.Contains(log.String(), word) {
			t.Errorf("the log has %q: %s", word, log)
		}
	}
	problems, err := f.store.Check(t.Context())
	if err != nil || len(problems) > 0 {
		t.Errorf("Check: %v %v", problems, err)
	}
}
