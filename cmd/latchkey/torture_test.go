//go:build torture

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// rounds is how often a torture is repeated: fewer times with LATCHKEY_TORTURE=short, as in CI.
func rounds(long, short int) int {
	if os.Getenv("LATCHKEY_TORTURE") == "short" {
		return short
	}
	return long
}

// newSeed is where a torture's chance begins: another one each time, unless LATCHKEY_SEED says which. It is printed. The same seed plans
// the same mail and the same moments; what the kernel makes of them is its own.
func newSeed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64() >> 1
	if text := os.Getenv("LATCHKEY_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("LATCHKEY_SEED: %v", err)
		}
	}
	t.Logf("LATCHKEY_SEED=%d", seed)
	return seed
}

// command runs a program of the system, for a bounded time.
func command(t testing.TB, args ...string) {
	t.Helper()
	if err := tryCommand(args...); err != nil {
		t.Fatal(err)
	}
}

func tryCommand(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// pause waits a moment that chance chooses: there is nothing to wait for.
func pause(dice *rand.Rand, most time.Duration) {
	if most > 0 {
		<-time.After(time.Duration(dice.Int64N(int64(most))))
	}
}

// TestTortureQuit kills the process around QUIT: the deletes happen all or not at all, and all if QUIT was answered +OK.
func TestTortureQuit(t *testing.T) {
	const messages = 100
	v, l, seed := newVictim(t, filepath.Join(t.TempDir(), "data")), newLedger(), newSeed(t)
	v.populate("anna", "carl")
	v.start()
	all, none := 0, 0
	for round := range rounds(40, 8) {
		v.where = fmt.Sprintf("round %d", round)
		dice := rand.New(rand.NewPCG(seed, uint64(round)))
		if err := v.deliver(l, fmt.Sprintf("quit%d", round), messages, 500); err != nil {
			t.Fatal(err)
		}
		list, err := v.read("bert")
		if err != nil {
			t.Fatal(err)
		}
		c, err := v.dialPOP("bert")
		if err != nil {
			t.Fatal(err)
		}
		var commands strings.Builder
		var tokens []string
		for i, e := range list {
			fmt.Fprintf(&commands, "DELE %d\r\n", i+1)
			tokens = append(tokens, e.token)
		}
		l.listed("bert", 0, list)
		b := l.claim("bert", tokens)
		if _, err := io.WriteString(c.conn, commands.String()+"QUIT\r\n"); err != nil {
			t.Fatal(err)
		}
		answered := make(chan bool)
		go func() {
			replies, _ := io.ReadAll(c.r) // up to the kill
			answered <- strings.Contains(string(replies), "+OK bye")
		}()
		pause(dice, 4*time.Millisecond)
		v.kill()
		if ok := <-answered; ok {
			l.settle(b, true)
		}
		_ = c.conn.Close() // the server is dead
		v.start()
		v.judge(l)
		if l.size() == 0 {
			all++
		} else {
			none++
		}
		if v.told(l) {
			return
		}
		v.removeAll(l)
	}
	v.healthy()
	v.sound()
	t.Logf("all deleted %d times, none %d times", all, none)
}

// TestTortureRetr cuts the client off in the middle of RETR, with messages marked as deleted: nothing is deleted.
func TestTortureRetr(t *testing.T) {
	v, l, seed := newVictim(t, filepath.Join(t.TempDir(), "data")), newLedger(), newSeed(t)
	v.start()
	if err := v.deliver(l, "retr", 5, 2<<20); err != nil {
		t.Fatal(err)
	}
	dice := rand.New(rand.NewPCG(seed, 0))
	for range rounds(20, 5) {
		c, err := v.dialPOP("bert")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c.conn, "DELE 1\r\nDELE 2\r\nRETR 3\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, c.r, 1+dice.Int64N(1<<20)); err != nil {
			t.Fatal(err)
		}
		_ = c.conn.Close() // in the middle of it
	}
	v.judge(l)
	v.told(l)
	if n := l.size(); n != 5 {
		t.Errorf("%d messages left, want 5", n)
	}
}
