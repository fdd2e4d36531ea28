//go:build torture

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/store/boltstore"
)

// maxGrowth is how much the memory of a process may grow while large messages pass, in octets.
const maxGrowth = 16 << 20

// rssAnon is the process's anonymous memory in octets: shared text and mapped files are left out.
func (v *victim) rssAnon() int64 {
	v.t.Helper()
	return rssAnon(v.t, v.cmd.Process.Pid)
}

func rssAnon(t testing.TB, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Error(err)
		return 0
	}
	for line := range bytes.Lines(status) {
		var kib int64
		if n, _ := fmt.Sscanf(string(line), "RssAnon: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Error("no RssAnon in /proc: the process has ended")
	return 0
}

// warmUp logs in: one Argon2id run.
func (v *victim) warmUp() {
	v.t.Helper()
	if _, err := v.read("bert"); err != nil {
		v.t.Fatal(err)
	}
}

// watchMemory samples RssAnon until stop, which returns the largest.
func (v *victim) watchMemory() (stop func() int64) {
	quit, done := make(chan struct{}), make(chan struct{})
	pid, largest := v.cmd.Process.Pid, v.rssAnon()
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				largest = max(largest, rssAnon(v.t, pid))
			case <-quit:
				return
			}
		}
	}()
	stop = sync.OnceValue(func() int64 {
		close(quit)
		<-done
		return largest
	})
	v.t.Cleanup(func() { stop() }) // before the process ends
	return stop
}

// TestTortureMemory: memory stays flat while a message of 50 MB goes in and out to a reader of 100 kB/s, with deliveries going on. The
// slow reader is watched for some seconds and then reads the rest at full speed.
func TestTortureMemory(t *testing.T) {
	v, l := newVictim(t, filepath.Join(t.TempDir(), "data")), newLedger()
	v.start()
	v.warmUp()
	<-time.After(3 * time.Second)
	if err := v.deliver(l, "warm", 20, 4096); err != nil {
		t.Fatal(err)
	}
	v.removeAll(l)
	base := v.rssAnon()
	stop := v.watchMemory()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if err := v.deliver(l, fmt.Sprintf("beside%d", i), rounds(3000, 500), 4096); err != nil {
				t.Error(err)
			}
		})
	}
	if err := v.deliver(l, "big", 1, 50_000_000); err != nil {
		t.Fatal(err)
	}
	v.readSlowly("big-0", 100_000, time.Duration(rounds(15, 4))*time.Second)
	wg.Wait()
	largest := stop()
	t.Logf("RssAnon %.1f MiB after the warm-up, at most %.1f MiB", float64(base)/(1<<20), float64(largest)/(1<<20))
	if largest-base > maxGrowth {
		t.Errorf("grew by %.1f MiB, want at most 16", float64(largest-base)/(1<<20))
	}
}

// readSlowly fetches the largest message at so many octets a second, for so long, and then the rest.
func (v *victim) readSlowly(token string, rate int, long time.Duration) {
	v.t.Helper()
	c, err := v.dialPOP("bert")
	if err != nil {
		v.t.Fatal(err)
	}
	defer func() { _ = c.conn.Close() }() // all is said
	largest, n := 0, 0
	_, err = c.ask("LIST")
	if err == nil {
		err = c.lines(func(line []byte) {
			var number, size int
			if _, err := fmt.Sscanf(string(line), "%d %d", &number, &size); err == nil && size > largest {
				largest, n = size, number
			}
		})
	}
	if err == nil {
		_, err = c.ask(fmt.Sprintf("RETR %d", n))
	}
	if err != nil {
		v.t.Fatal(err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	left := largest
	for end := time.After(long); left > 0; {
		select {
		case <-tick.C:
			got, err := io.CopyN(io.Discard, c.r, int64(rate/20))
			if err != nil {
				v.t.Fatal(err)
			}
			left -= int(got)
			continue
		case <-end:
		}
		break
	}
	if err := c.lines(func(line []byte) { left -= len(line) }); err != nil || left > 0 {
		v.t.Fatalf("%s: %d octets are missing of %d (%v)", token, left, largest, err)
	}
}

// maxPerConnection is what one connection in the clear may take, up to DATA, in octets. It takes 36 KiB on a quiet machine, what the garbage
// collector has not found yet included; on one that is busy that is more.
const maxPerConnection = 48 << 10

// Of what many open drafts take beyond the budget that they share (boltstore.DefaultDraftMemory), in octets.
const (
	// maxPerDraft is for each: its header, its Received line, its descriptor. Measured: 1.4 KiB.
	maxPerDraft = 4 << 10
	// collectorsLag is for memory that nobody uses any more and that the collector has not taken, or has not given back to the system: it may be
	// in one of the two samples and not in the other.
	collectorsLag = 16 << 20
	// diligence is the heap's growth between two collections, in per cent. With the usual one the samples show when the last collection was.
	diligence = "GOGC=5"
)

// TestTortureManyDrafts holds 2,000 messages of 100 kB open at once, all but their last line sent. What the process holds of them stays
// within the budget of drafts; what each connection costs by itself, the buffer of its transfer included, is measured before, with as many
// connections that send nothing.
func TestTortureManyDrafts(t *testing.T) {
	const drafts, size = 2000, 100_000
	v := newVictim(t, filepath.Join(t.TempDir(), "data"))
	v.wrapper = []string{"env", diligence}
	v.start()
	v.warmUp()
	conns := make([]net.Conn, drafts)
	readers := make([]*bufio.Reader, drafts)
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	tell := func(i int, text, want string) {
		if _, err := io.WriteString(conns[i], text); err != nil {
			t.Fatal(err)
		}
		for {
			line, err := readers[i].ReadString('\n')
			if err != nil || !strings.HasPrefix(line, want) {
				t.Fatalf("connection %d: got %q (%v), want %s", i, line, err, want)
			}
			if line[3] == ' ' {
				return
			}
		}
	}
	for i := range drafts {
		conn, err := net.Dial("tcp", v.doors["mx"])
		if err != nil {
			t.Fatal(err)
		}
		conns[i], readers[i] = conn, bufio.NewReaderSize(conn, 512)
		tell(i, "", "220")
		tell(i, "EHLO draft.example\r\n", "250")
		tell(i, "MAIL FROM:<draft@other.example>\r\n", "250")
		tell(i, "RCPT TO:<bert@example.com>\r\n", "250")
		tell(i, "DATA\r\n", "354")
	}
	idle := v.rssAnon()
	body := "Subject: draft\r\n\r\n" + strings.Repeat(strings.Repeat("d", 76)+"\r\n", size/78)
	for i := range drafts {
		if _, err := io.WriteString(conns[i], body); err != nil {
			t.Fatal(err)
		}
	}
	most := int64(boltstore.DefaultDraftMemory + drafts*maxPerDraft + collectorsLag)
	full := v.rssAnon()
	// What is held stays; what only passed through, and free memory that goes back to the system, is waited for.
	for end := time.Now().Add(patience); full-idle > most && time.Now().Before(end); full = v.rssAnon() {
		<-time.After(100 * time.Millisecond)
	}
	t.Logf("RssAnon %.1f MiB with %d connections, %.1f MiB with as many drafts of %d octets", float64(idle)/(1<<20), drafts, float64(full)/(1<<20), size)
	if idle > drafts*maxPerConnection {
		t.Errorf("a connection takes %.1f KiB", float64(idle)/drafts/(1<<10))
	}
	if full-idle > most {
		t.Errorf("the drafts take %.1f MiB, want at most %.1f", float64(full-idle)/(1<<20), float64(most)/(1<<20))
	}
	for i := range drafts {
		tell(i, "last line\r\n.\r\n", "250")
	}
	c, err := v.dialPOP("bert")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.conn.Close() }() // all is said
	if list, err := c.list(); err != nil || len(list) != drafts {
		t.Errorf("%d messages (%v), want %d", len(list), err, drafts)
	}
}
