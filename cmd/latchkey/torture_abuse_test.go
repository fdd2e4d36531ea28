//go:build torture

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Bounds of a server that is abused.
const (
	// abuseConnections and abusePerAddress are the caps of its doors, the ones of a configuration that says nothing.
	abuseConnections, abusePerAddress = 1000, 50
	// abuseVisit is how long a visit of the good client may take.
	abuseVisit = 10 * time.Second
	// abuseLines is how many lines its log may have of a flood of thousands.
	abuseLines = 300
	// abuseRest is how much more memory it may have afterwards than before: the runtime keeps what describes a goroutine and a socket for the next
	// one, and the door what it knows of some thousand clients. Measured: 7 MiB after 25,000 strangers.
	abuseRest = 12 << 20
)

// target is a server that is abused, with what its log says.
type target struct {
	*victim
	lines  atomic.Int64
	hashes int
	mu     sync.Mutex // protects events
	events map[string]int
}

// newTarget starts a server with bert's mailbox and the usual caps, from which bert has read once.
func newTarget(t *testing.T) *target {
	v := &target{victim: newVictim(t, filepath.Join(t.TempDir(), "data")), events: map[string]int{}}
	v.populate("anna", "carl")
	v.flags = append(v.flags, "--limits-connections", fmt.Sprint(abuseConnections), "--limits-connections-per-address", fmt.Sprint(abusePerAddress))
	v.heard = v.note
	v.start()
	v.warmUp()
	return v
}

// note counts the events of the log.
func (v *target) note(line string) {
	v.lines.Add(1)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, event := range append([]string{"refused over a cap", "msg=login"}, connectionFrames()...) {
		if strings.Contains(line, event) {
			v.events[event]++
		}
	}
}

func (v *target) event(name string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.events[name]
}

// files are what the process has open.
func (v *target) files() (list []string) {
	v.t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", v.cmd.Process.Pid)
	names, err := os.ReadDir(dir)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, name := range names {
		if file, err := os.Readlink(filepath.Join(dir, name.Name())); err == nil { // it may be closed meanwhile
			list = append(list, file)
		}
	}
	return list
}

// open counts those of a kind.
func (v *target) open(kind string) (n int) {
	for _, file := range v.files() {
		if strings.Contains(file, kind) {
			n++
		}
	}
	return n
}

// stranger is the i-th address of a crowd in which no network holds many.
func stranger(i int) string { return fmt.Sprintf("127.%d.%d.7", 2+i%200, i/200%250) }

// knock connects from an address.
func (v *target) knock(door, from string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	c, err := d.Dial("tcp", v.doors[door])
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(2 * patience))
}

// crowd has n strangers do something, many at once. What they return stays open until the end of the crowd.
func (v *target) crowd(n int, do func(i int) (net.Conn, error)) (end func()) {
	v.t.Helper()
	conns, failed := make([]net.Conn, n), atomic.Int64{}
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 100 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				var err error
				if conns[i], err = do(i); err != nil && failed.Add(1) <= 3 {
					v.t.Errorf("stranger %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	return func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close() // the server may have closed it
			}
		}
	}
}

// visit is a good client's: login, STAT, QUIT.
func (v *target) visit(door string) error {
	conn, err := v.knock(door, "127.0.0.1")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // after QUIT, or after what is reported
	if door == "pop3s" {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // the victim's own certificate
	}
	c := &popClient{conn: conn, r: bufio.NewReader(conn)}
	for _, command := range []string{"", "USER bert", "PASS " + victimPassword, "STAT", "QUIT"} {
		if _, err := c.ask(command); err != nil {
			return fmt.Errorf("%s, %.4s: %w", door, command, err)
		}
	}
	return nil
}

// visiting lets the good client come to both doors again and again until stop, which waits for some visits more, and returns how long the longest
// took, and how many there were.
func (v *target) visiting() (stop func() (longest time.Duration, visits int64)) {
	quit, done := make(chan struct{}), make(chan struct{})
	var longest time.Duration
	var visits atomic.Int64
	go func() {
		defer close(done)
		for {
			for _, door := range []string{"pop3", "pop3s"} {
				began := time.Now()
				if err := v.visit(door); err != nil {
					v.t.Errorf("visit %d: %v", visits.Load(), err)
					return
				}
				longest = max(longest, time.Since(began))
				visits.Add(1)
			}
			select {
			case <-quit:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	var once sync.Once
	v.t.Cleanup(func() { once.Do(func() { close(quit) }); <-done })
	return func() (time.Duration, int64) {
		enough := visits.Load() + 6
		eventually(v.t, "visits while the attack stands", func() bool { return visits.Load() >= enough || v.t.Failed() })
		once.Do(func() { close(quit) })
		<-done
		return longest, visits.Load()
	}
}

// rests lets the last connections end, and returns how many sockets there are then, and the memory.
func (v *target) rests() (sockets int, memory int64) {
	v.t.Helper()
	<-time.After(time.Second)
	return v.open("socket:"), v.rssAnon()
}

// settles wants a server that is left alone to have what it had before: sockets, files, memory. A wrong password makes it give memory back.
func (v *target) settles(sockets int, memory int64) {
	v.t.Helper()
	eventually(v.t, "the end of all connections", func() bool { return v.open("socket:") <= sockets })
	left := v.rssAnon()
	for tries := 0; tries < 6 && left > memory+abuseRest; tries++ { // what pools keep goes the second time
		v.rehash()
		for end := time.Now().Add(4 * time.Second); left > memory+abuseRest && time.Now().Before(end); left = v.rssAnon() {
			<-time.After(100 * time.Millisecond)
		}
	}
	v.t.Logf("RssAnon %.1f MiB before, %.1f MiB afterwards", float64(memory)/(1<<20), float64(left)/(1<<20))
	if left > memory+abuseRest {
		v.t.Errorf("%.1f MiB are not given back", float64(left-memory)/(1<<20))
	}
	v.healthy()
}

// rehash makes the server hash a password, after which it gives back the memory that it does not use. It is another client each time.
func (v *target) rehash() {
	v.t.Helper()
	v.hashes++
	conn, err := v.knock("pop3", fmt.Sprintf("127.1.%d.1", v.hashes))
	if err != nil {
		v.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // all is said
	c := &popClient{conn: conn, r: bufio.NewReader(conn)}
	_, err = c.ask("")
	if err == nil {
		_, err = c.ask("USER nobody")
	}
	if err == nil {
		_, err = c.ask(fmt.Sprintf("PASS wrong %d", time.Now().UnixNano()))
	}
	if !isRefused(err) {
		v.t.Fatalf("a wrong password: %v", err)
	}
}

// connectionFrames are of the goroutines of a connection.
func connectionFrames() []string {
	return []string{"pop3.(*Conn).", "guard.(*Listener).prepare", "guard.(*Listener).tell", "crypto/tls.(*Conn)"}
}

// leavesNothing ends the server by the signal on which it tells of all its goroutines: none is a connection's.
func (v *target) leavesNothing() {
	v.t.Helper()
	v.rests()
	if err := v.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		v.t.Fatal(err)
	}
	v.reap()
	for _, frame := range connectionFrames() {
		if n := v.event(frame); n > 0 {
			v.t.Errorf("goroutines are left: %d lines of %s", n, frame)
		}
	}
}

// halfHello is the beginning of a TLS hello that never comes to its end.
const halfHello = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03half"

// TestTortureHalfOpen has 5,000 strangers begin a TLS handshake and go silent, at the door of TLS, at the other door with their first octet, and
// behind STLS; then come without a word, and all from one address. The owner of a mailbox reads on all the time, at both doors. The caps hold, the
// log has a few lines, and when all is over the server is as it was.
func TestTortureHalfOpen(t *testing.T) {
	n := rounds(5000, 1500)
	v := newTarget(t)
	if err := errors.Join(v.visit("pop3"), v.visit("pop3s")); err != nil {
		t.Fatal(err)
	}
	sockets, memory := v.rests()
	silent := func(door string) func(i int) (net.Conn, error) {
		return func(i int) (net.Conn, error) {
			c, err := v.knock(door, stranger(i))
			if err == nil {
				_, _ = io.WriteString(c, halfHello) // it may be refused already
			}
			return c, err
		}
	}
	for _, attack := range []struct {
		name string
		do   func(i int) (net.Conn, error)
		full bool // more are open at once than the cap allows
	}{
		{"implicit TLS", silent("pop3s"), false},
		{"first octet", silent("pop3"), false},
		{"STLS", v.halfSTLS, true},
		{"silence", v.silence, true},
		{"one address", func(int) (net.Conn, error) { return v.silence(0) }, true},
	} {
		v.mu.Lock()
		clear(v.events)
		v.mu.Unlock()
		lines, largest, stop := v.lines.Load(), v.watchMemory(), v.visiting()
		before := v.loginLines()
		end := v.crowd(n, attack.do)
		open := v.open("socket:") - sockets
		longest, visits := stop()
		logged := v.lines.Load() - lines - (v.loginLines() - before)
		t.Logf("%s: %d open, %d visits, the longest took %v; %d lines in the log; RssAnon at most %.1f MiB",
			attack.name, open, visits, longest.Round(time.Millisecond), logged, float64(largest())/(1<<20))
		if longest > abuseVisit {
			t.Errorf("%s: %d visits, the longest took %v", attack.name, visits, longest)
		}
		if logged > abuseLines {
			t.Errorf("%s: %d lines in the log", attack.name, logged)
		}
		if open > abuseConnections+abusePerAddress {
			t.Errorf("%s: %d connections are open", attack.name, open)
		}
		if attack.full && !v.tellsOfRefusals(n, attack.do) {
			t.Errorf("%s: nobody is told of refusals", attack.name)
		}
		end()
		v.settles(sockets, memory)
		if t.Failed() {
			return
		}
	}
	v.leavesNothing()
}

// tellsOfRefusals reports whether the log tells of refusals over a cap while the crowd of n holds out. It tells once in a while, and may just
// have told of the crowd before: more come until it does.
func (v *target) tellsOfRefusals(n int, more func(i int) (net.Conn, error)) bool {
	for end := time.Now().Add(20 * time.Second); v.event("refused over a cap") == 0; n++ {
		if time.Now().After(end) {
			return false
		}
		if c, err := more(n); err == nil {
			_ = c.Close() // it was one too many
		}
		time.Sleep(100 * time.Millisecond)
	}
	return true
}

// loginLines is how many lines of the log are of logins: one for each visit.
func (v *target) loginLines() int64 { return int64(v.event("msg=login")) }

// halfSTLS says STLS, and no more than the beginning of a hello.
func (v *target) halfSTLS(i int) (net.Conn, error) {
	c, err := v.silence(i)
	if err == nil {
		_, _ = io.WriteString(c, "STLS\r\n") // it may be refused already
		_, _ = bufio.NewReader(c).ReadString('\n')
		_, _ = io.WriteString(c, halfHello)
	}
	return c, err
}

// silence reads the greeting, or that there are too many connections, and says nothing.
func (v *target) silence(i int) (net.Conn, error) {
	c, err := v.knock("pop3", stranger(i))
	if err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) || line != "" && line[0] != '+' && line[0] != '-' {
		err = fmt.Errorf("greeting %q: %w", line, err)
		return c, err
	}
	return c, nil
}

// TestTortureSlowHandshake: an octet a second is no handshake: at either door it ends after the ten seconds that a handshake may take.
func TestTortureSlowHandshake(t *testing.T) {
	v := newTarget(t)
	sockets, memory := v.rests()
	var wg sync.WaitGroup
	for i, door := range []string{"pop3s", "pop3"} {
		wg.Go(func() {
			c, err := v.knock(door, stranger(i))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close() }() // the server has closed it
			began := time.Now()
			go func() {
				for octet := range strings.SplitSeq(halfHello+strings.Repeat("x", 60), "") {
					if _, err := io.WriteString(c, octet); err != nil {
						return
					}
					<-time.After(time.Second)
				}
			}()
			_, _ = io.Copy(io.Discard, c) // to its end
			if took := time.Since(began); took < 8*time.Second || took > 15*time.Second {
				t.Errorf("%s: ended after %v", door, took)
			}
		})
	}
	wg.Wait()
	v.settles(sockets, memory)
	v.leavesNothing()
}

// talk is a connection that is brought to a state. It reads in pieces that are small, and counts nothing.
func (v *target) talk(from string, commands ...string) (*popClient, error) {
	conn, err := v.knock("pop3", from)
	if err != nil {
		return nil, err
	}
	c := &popClient{conn: conn, r: bufio.NewReaderSize(conn, 512)}
	_, err = c.ask("")
	for i := 0; i < len(commands) && err == nil; i++ {
		_, err = io.WriteString(conn, commands[i]+"\r\n")
		if err == nil {
			_, err = c.r.ReadString('\n')
		}
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// TestTortureGiantLines sends lines of 8 MB in every state, one connection and fifty at once: each is one refused command, and no memory.
func TestTortureGiantLines(t *testing.T) {
	const size = 8 << 20
	v := newTarget(t)
	sockets, memory := v.rests()
	login := []string{"USER bert", "PASS " + victimPassword}
	piece := bytes.Repeat([]byte("QUIT QUIT.QUIT=="), 4096)
	for _, tt := range []struct {
		name     string
		prologue []string
		begin    string
		want     string
	}{
		{"before login", nil, "", "-ERR command line too long"},
		{"as a name", nil, "USER ", "-ERR command line too long"},
		{"as a password", login[:1], "PASS ", "-ERR command line too long"},
		{"in an exchange", []string{"AUTH PLAIN"}, "", "-ERR response too long"},
		{"after login", login, "", "-ERR command line too long"},
	} {
		for _, many := range []int{1, rounds(50, 10)} {
			largest := v.watchMemory()
			end := v.crowd(many, func(i int) (net.Conn, error) {
				c, err := v.talk(stranger(i), tt.prologue...)
				if err != nil {
					return nil, err
				}
				_, err = io.WriteString(c.conn, tt.begin)
				for range size / len(piece) {
					if err == nil {
						_, err = c.conn.Write(piece)
					}
				}
				if err == nil {
					_, err = io.WriteString(c.conn, "\r\n")
				}
				if err != nil {
					return c.conn, err
				}
				line, err := c.r.ReadString('\n')
				if err == nil && strings.TrimSpace(line) != tt.want {
					err = fmt.Errorf("got %q, want %q", line, tt.want)
				}
				if err == nil {
					_, err = c.ask("CAPA")
				}
				return c.conn, err
			})
			grown := largest() - memory
			t.Logf("%s, %d connections: RssAnon grew by %.1f MiB at most", tt.name, many, float64(grown)/(1<<20))
			if grown > maxGrowth {
				t.Errorf("%s, %d connections: grew by %.1f MiB, want at most 16", tt.name, many, float64(grown)/(1<<20))
			}
			end()
		}
	}
	v.settles(sockets, memory)
	v.leavesNothing()
}

// TestTortureBadCommands says 100,000 bad commands: all on one connection, before login and after it, and then three on each of as many
// connections as that takes. Each connection hears what its state allows and is closed; the good client comes in all the time.
func TestTortureBadCommands(t *testing.T) {
	commands := rounds(100_000, 6000)
	v := newTarget(t)
	sockets, memory := v.rests()
	stop := v.visiting()
	flood := strings.Repeat("NONSENSE\r\n", 100_000)
	for _, tt := range []struct {
		prologue []string
		strikes  int
	}{{nil, 3}, {[]string{"USER bert", "PASS " + victimPassword}, 20}} {
		c, err := v.talk("127.0.0.1", tt.prologue...)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(c.conn, flood) }() // it is cut off
		answers, _ := io.ReadAll(c.r)                        // a reset may come behind them
		if want := strings.Repeat("-ERR unknown command\r\n", tt.strikes); !strings.HasPrefix(want, string(answers)) {
			t.Errorf("got %q, want %d refusals", answers, tt.strikes)
		}
		_ = c.conn.Close() // the server has closed it
	}
	v.crowd(commands/3, func(i int) (net.Conn, error) {
		c, err := v.talk(stranger(i % 100))
		if err != nil {
			return nil, err
		}
		_, err = io.WriteString(c.conn, "NONSENSE\r\n\x00\xff\r\nSTAT\r\n")
		if err == nil {
			_, err = io.Copy(io.Discard, c.r)
		}
		return nil, errors.Join(err, c.conn.Close())
	})()
	longest, visits := stop()
	t.Logf("%d visits, the longest took %v", visits, longest.Round(time.Millisecond))
	if longest > abuseVisit {
		t.Errorf("%d visits, the longest took %v", visits, longest)
	}
	v.settles(sockets, memory)
	v.leavesNothing()
}

// TestTortureStalledReaders has clients ask for a large message and read no more, or an octet a second, while the owner deletes the message. They
// cost no memory and no visit waits for them; the space of the message is given back when they have gone: by themselves, or, in the long run, when
// the server ends them within two windows of two minutes. Then it stops with such clients at hand.
func TestTortureStalledReaders(t *testing.T) {
	v, l := newTarget(t), newLedger()
	if err := v.deliver(l, "large", 1, 30_000_000); err != nil {
		t.Fatal(err)
	}
	sockets, memory := v.rests()
	largest := v.watchMemory()
	stall := func(n int) func() {
		return v.crowd(n, func(i int) (net.Conn, error) {
			c, err := v.talk(stranger(i), "USER bert", "PASS "+victimPassword)
			if err != nil {
				return nil, err
			}
			if _, err = c.ask("RETR 1"); err == nil && i%2 == 0 {
				err = c.conn.SetDeadline(time.Now().Add(10 * time.Minute))
				go trickle(t.Context(), c.r)
			}
			return c.conn, err
		})
	}
	end := stall(20)
	began := time.Now()
	if n := v.open("/large/"); n == 0 {
		t.Error("the message is not held by those who read it")
	}
	v.removeAll(l)
	if err := errors.Join(v.visit("pop3"), v.visit("pop3s")); err != nil {
		t.Error(err)
	}
	if grown := largest() - memory; grown > maxGrowth {
		t.Errorf("grew by %.1f MiB, want at most 16", float64(grown)/(1<<20))
	}
	if os.Getenv("LATCHKEY_TORTURE") != "short" {
		for v.open("/large/") > 0 && time.Since(began) < 5*time.Minute {
			<-time.After(time.Second)
		}
		t.Logf("the last was cut off after %v", time.Since(began).Round(time.Second))
		if n := v.open("/large/"); n > 0 {
			t.Errorf("%d readers are not cut off after %v", n, time.Since(began))
		}
	}
	end()
	eventually(t, "the space of the message", func() bool {
		left, err := os.ReadDir(filepath.Join(v.dir, "large"))
		return err == nil && len(left) == 0 && v.open("/large/") == 0
	})
	v.settles(sockets, memory)
	if err := v.deliver(l, "again", 1, 30_000_000); err != nil {
		t.Fatal(err)
	}
	end = stall(20)
	defer end()
	v.stop()
	v.sound()
}

// trickle reads an octet a second, up to the end of the test.
func trickle(ctx context.Context, r io.Reader) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if _, err := io.CopyN(io.Discard, r, 1); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
