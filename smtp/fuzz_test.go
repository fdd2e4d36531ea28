package smtp

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"latchkey/store"
)

// seed adds what the clients of the transcripts say, and the ends of data that are none.
func seed(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var said strings.Builder
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "C: "); ok {
				said.WriteString(strings.TrimSuffix(rest, "\n") + "\r\n")
			}
		}
		f.Add(said.String(), true)
		f.Add(said.String(), false)
	}
	for _, end := range smuggled {
		f.Add("HELO x\r\nMAIL FROM:<x@remote.example>\r\nRCPT TO:<bob@example.com>\r\nDATA\r\nA: 1\r\n\r\n"+end+"MAIL FROM:<>\r\n.\r\n", true)
	}
}

// FuzzSession sends anything to a door: every reply is well formed, nothing is relayed, nothing hangs, and what is stored is whole.
func FuzzSession(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, said string, mx bool) {
		if len(said) > 4096 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			door := Submission
			if mx {
				door = MX
			}
			fx := newFixture(t, door, func(o *Options) {
				o.Logger = slog.New(slog.DiscardHandler)
				o.TLSConfig = nil // a handshake is crypto/tls's matter
			})
			fx.auth.fail = store.ErrClosed // nobody logs in
			fx.wait = synctest.Wait
			p := newPipes()
			fx.serveOn(p)
			c, _ := p.dial(fx)
			go func() {
				_, _ = io.WriteString(c.conn, said)
				_, _ = io.WriteString(c.conn, "\r\n.\r\nQUIT\r\n")
			}()
			for {
				line, err := c.r.ReadLine()
				if err != nil {
					break
				}
				// go-smtp repeats what is said in some replies; those that could be long are not ours to check.
				checkReply(t, line[:min(len(line), 500)])
			}
			_ = c.conn.Close()
			if err := fx.srv.Shutdown(context.Background()); err != nil {
				t.Fatal(err)
			}
			for _, j := range fx.jobs() {
				// dave is full: a message that did not say its size is bounced for him, and nothing else ever leaves.
				if door != MX || !j.ReversePath.IsZero() || !strings.HasPrefix(j.HeaderID, "<bounce.") {
					t.Fatalf("relayed: %+v", j)
				}
			}
			for _, text := range append(fx.mail("bob"), fx.mail("alice")...) {
				if !strings.HasPrefix(text, "Return-Path: <") || strings.ContainsAny(strings.ReplaceAll(text, "\r\n", ""), "\r\n") {
					t.Fatalf("stored %q", text)
				}
			}
			if door == Submission && len(fx.mail("bob"))+len(fx.mail("alice")) > 0 {
				t.Fatal("delivered without AUTH")
			}
		})
	})
}
