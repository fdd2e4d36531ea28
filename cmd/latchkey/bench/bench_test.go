//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFigure(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1", 0.0312: "0.0312", 0.7: "0.7", 1.256: "1.26", 12.34: "12.3", 99.96: "100", 1234567.8: "1,234,568", 999: "999", 1000: "1,000",
		math.NaN(): "-", math.Inf(1): "-", -1234: "-1,234",
	} {
		if got := figure(v); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		list []float64
		want float64
	}{{[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}, {[]float64{7}, 7}} {
		if got := median(tt.list); got != tt.want {
			t.Errorf("%v: got %v, want %v", tt.list, got, tt.want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("of nothing: %v", got)
	}
}

func TestQuantile(t *testing.T) {
	list := make([]time.Duration, 200)
	for i := range list {
		list[len(list)-1-i] = time.Duration(i+1) * time.Millisecond
	}
	for p, want := range map[float64]float64{0.5: 100, 0.99: 198, 1: 200, 0: 1} {
		if got := quantile(list, p); got != want {
			t.Errorf("%v: got %v, want %v", p, got, want)
		}
	}
}

// TestVerdicts: medians are compared, in the direction that is wanted, and what was not measured is not ok.
func TestVerdicts(t *testing.T) {
	s := newSheet()
	for _, v := range []float64{900, 100, 200} {
		s.note("rate", us, v)
		s.note("latency", us, v)
	}
	s.note("rate", "them", 50)
	s.note("latency", "them", 400)
	for _, tt := range []struct {
		r    row
		want string
	}{
		{row{measure: "rate", against: "them", want: atLeast(4)}, "ok"},
		{row{measure: "rate", against: "them", want: atLeast(4.01)}, "short"},
		{row{measure: "latency", against: "them", want: atMost(0.5)}, "ok"},
		{row{measure: "latency", against: "them", want: below(0.5)}, "short"},
		{row{measure: "latency", want: atMost(200)}, "ok"},
		{row{measure: "latency", want: below(200).alone()}, "short"},
		{row{measure: "latency", against: "them", want: below(201).alone()}, "ok"},
		{row{measure: "latency", against: "them", want: below(1).alone()}, "short"},
		{row{measure: "latency", against: "nobody", want: atMost(1)}, "not measured"},
		{row{measure: "other", against: "them", want: atLeast(0)}, "not measured"},
		{row{measure: "rate", against: "them"}, ""},
	} {
		if got := s.cells(tt.r); got[6] != tt.want {
			t.Errorf("%+v: %q, want %q", tt.r, got, tt.want)
		}
	}
}

func TestTables(t *testing.T) {
	s := newSheet()
	s.note("rate", us, 100)
	s.note("rate", "them", 40)
	r := row{part: 'a', measure: "rate", unit: "msg/s", against: "them", want: atLeast(2)}
	s.want(r)
	s.want(r) // of the second round
	s.want(row{part: 'b', measure: "other", want: atMost(1)})
	var text bytes.Buffer
	if err := s.print(&text); err != nil {
		t.Fatal(err)
	}
	if want := "wanted: 1 ok, 0 short, 1 not measured\n"; !strings.HasSuffix(text.String(), want) {
		t.Errorf("got %q, want %q at the end", text.String(), want)
	}
	want := "| measure | Latchkey | beside | theirs | ratio | wanted |  |\n|---|---:|---|---:|---:|---:|---|\n| rate, msg/s | 100 | them | 40 | 2.5 | ≥ 2 | ok |\n"
	if got := s.markdown('a'); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestFillBlock(t *testing.T) {
	doc := "head\n<!-- bench a -->\nold\n<!-- /bench a -->\n<!-- bench b -->\nkept\n<!-- /bench b -->\n"
	got, err := fillBlock(doc, "a", "new\n")
	if want := strings.Replace(doc, "old", "new", 1); err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	for _, name := range []string{"c", ""} {
		if _, err := fillBlock(doc, name, "new"); err == nil {
			t.Errorf("block %q was found", name)
		}
	}
}

// TestDocumentHasBlocks: every part has its place in docs/performance.md.
func TestDocumentHasBlocks(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(strings.Split(allParts, ""), "machine") {
		if _, err := fillBlock(string(text), name, ""); err != nil {
			t.Error(err)
		}
	}
}

func TestLetters(t *testing.T) {
	l := newLetters()
	for _, size := range []int{0, 300, smallLetter, mediumLetter, largeLetter} {
		made := l.appendMessage(nil, 41, size)
		if n := len(made); n > max(size, 300) || size > 300 && n < size-lineLen {
			t.Errorf("a message of %d octets has %d", size, n)
		}
		if bytes.Contains(made, []byte("\r\n.")) || !bytes.HasSuffix(made, []byte("\r\n")) {
			t.Error("a line begins with a dot, or the last one does not end")
		}
		kept := append([]byte("Return-Path: <>\r\nReceived: x\r\n"), made...)
		if seq, _, err := l.check(kept, nil); seq != 41 || err != nil {
			t.Errorf("got message %d, %v", seq, err)
		}
		for name, change := range map[string]func(b []byte) []byte{
			"an octet":       func(b []byte) []byte { b[len(b)-3] ^= 1; return b },
			"cut":            func(b []byte) []byte { return b[:len(b)-1] },
			"longer":         func(b []byte) []byte { return append(b, "\r\n"...) },
			"another number": func(b []byte) []byte { return bytes.Replace(b, []byte(tokenField+"41"), []byte(tokenField+"42"), 1) },
			"no token":       func(b []byte) []byte { return bytes.Replace(b, []byte(tokenField), []byte("X-Other: "), 1) },
		} {
			if size < 1000 && name == "another number" {
				continue // without a body, the number is all there is
			}
			if _, _, err := l.check(change(bytes.Clone(kept)), nil); err == nil {
				t.Errorf("%d octets: %s was not noticed", size, name)
			}
		}
	}
}

func TestLedger(t *testing.T) {
	l := newLedger(10, 2)
	if err := l.see(11); err != nil {
		t.Error(err)
	}
	if err := l.whole(); err == nil {
		t.Error("a lost message was not noticed")
	}
	for _, seq := range []int{9, 12, 11} {
		if err := l.see(seq); err == nil {
			t.Errorf("message %d was not refused", seq)
		}
	}
	if err := errors.Join(l.see(10), l.whole()); err != nil {
		t.Error(err)
	}
}

// TestSpread: the largest mailbox has a fifth, the others have the same number but one, and no mailbox that is read is empty.
func TestSpread(t *testing.T) {
	for _, n := range []int{leastGrowth, 10_000} {
		count := make([]int, 1+boxes)
		for seq := range n {
			count[boxOf(seq)]++
		}
		if count[0] != (n+4)/5 {
			t.Errorf("%d of %d messages are in the largest mailbox", count[0], n)
		}
		for i, c := range count[1:] {
			if c > count[1] || c < count[1]-1 {
				t.Errorf("mailbox %d has %d messages, the first has %d", i, c, count[1])
			}
		}
		if count[1] == 0 {
			t.Error("the first mailbox is empty")
		}
	}
	octets := 0
	for seq := range 1_000_000 {
		octets += sizeOf(seq)
	}
	if octets < 5e9 {
		t.Errorf("a million messages are %d octets, want 5 GB", octets)
	}
}

// TestPlot: the picture is XML, has every curve, and nothing of it lies outside.
func TestPlot(t *testing.T) {
	var points []growthPoint
	for _, n := range []int{100, 10_000, 1_000_000} {
		p := growthPoint{messages: n, figures: make(map[string]float64)}
		for i, m := range growthMeasures() {
			p.figures[m.title] = float64(i) * float64(n) / 1000 // the first one is 0, which no logarithmic scale has
		}
		points = append(points, p)
	}
	picture := plot(points)
	curves := 0
	d := xml.NewDecoder(strings.NewReader(picture))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "polyline" {
			curves++
			for _, a := range start.Attr {
				if a.Name.Local == "points" && (strings.Contains(a.Value, "-") || strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf")) {
					t.Errorf("points %s", a.Value)
				}
			}
		}
	}
	want := 0
	for _, m := range growthMeasures() {
		if m.plotted {
			want++
		}
		if !strings.Contains(curveTable(points), "| "+m.title) {
			t.Errorf("the table lacks %s", m.title)
		}
	}
	if curves != want {
		t.Errorf("%d curves, want %d", curves, want)
	}
}

func TestParse(t *testing.T) {
	t.Setenv("LATCHKEY_GROWTH", "")
	r, err := parse([]string{"-parts", "e f", "-growth", "1000"})
	if err != nil || !r.parts['e'] || !r.parts['f'] || len(r.parts) != 2 || r.most != 1000 {
		t.Errorf("got %+v, %v", r, err)
	}
	for _, args := range [][]string{
		{"-parts", "a"}, {"-parts", "c"}, {"-parts", "x"}, {"-rounds", "0", "-parts", "e"}, {"-rounds", "100", "-parts", "e"}, {"-scale", "0", "-parts", "f"},
		{"-scale", "11", "-parts", "f"}, {"-growth", "99", "-parts", "e"}, {"-growth", "10000001", "-parts", "e"}, {"-parts", "e", "more"},
	} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
	for text, want := range map[string]int{"": 1_000_000, "5000": 5000, "many": 0} {
		t.Setenv("LATCHKEY_GROWTH", text)
		r, err := parse([]string{"-parts", "e"})
		if want == 0 && err == nil || want > 0 && (err != nil || r.most != want) {
			t.Errorf("LATCHKEY_GROWTH=%s: %+v, %v", text, r, err)
		}
	}
}

// TestDiskUse: blocks are counted, not lengths, and each where it lies.
func TestDiskUse(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "journal", "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"top": 10_000, "journal/1.seg": 100_000, "journal/deep/x": 5000} {
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte{1}, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hole, err := os.Create(filepath.Join(dir, "hole"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(hole.Truncate(1<<30), hole.Close()); err != nil {
		t.Fatal(err)
	}
	use, err := diskUse(dir)
	if err != nil {
		t.Fatal(err)
	}
	if use[""] < 115_000 || use[""] > 1<<20 || use["top"] < 10_000 || use["journal/1.seg"] < 100_000 || use["journal"] < 105_000 || use["hole"] > 1<<16 {
		t.Errorf("got %v", use)
	}
}

// TestQueued: Postfix's queue is empty only if no folder of it has a file, however deep.
func TestQueued(t *testing.T) {
	p := newPeer(lmtpPeer, "lmtp", t.TempDir(), t.TempDir())
	if _, err := p.queued(); err == nil {
		t.Error("a queue that is not there was taken for an empty one")
	}
	for _, name := range []string{"maildrop", "incoming", "active", "deferred/A/B"} {
		if err := os.MkdirAll(filepath.Join(p.root, "peer-postfix", "spool", name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if queued, err := p.queued(); queued || err != nil {
		t.Errorf("empty: %v, %v", queued, err)
	}
	if err := os.WriteFile(filepath.Join(p.root, "peer-postfix", "spool", "deferred", "A", "B", "message"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if queued, err := p.queued(); !queued || err != nil {
		t.Errorf("one message: %v, %v", queued, err)
	}
}

// TestWire: an answer of several lines is read to its last one, a wrong one is an error, and a list ends at its dot.
func TestWire(t *testing.T) {
	client, server := net.Pipe()
	defer func() { _ = server.Close() }() // the test is over with it
	w := newWire(client, 512)
	defer w.close()
	defer time.AfterFunc(5*time.Second, w.close).Stop() // fail, and do not hang
	go func() {
		buf := make([]byte, 64)
		for _, answer := range []string{"250-one\r\n250 two\r\n", "550 no\r\n", "+OK\r\na\r\n..b\r\n.\r\n"} {
			if _, err := server.Read(buf); err != nil {
				return
			}
			if _, err := io.WriteString(server, answer); err != nil {
				return
			}
		}
	}()
	if line, err := w.ask("EHLO x\r\n", "250"); line != "250 two\r\n" || err != nil {
		t.Errorf("got %q, %v", line, err)
	}
	if line, err := w.ask("MAIL\r\n", "250"); err == nil {
		t.Errorf("got %q", line)
	}
	if _, err := w.ask("LIST\r\n", "+OK"); err != nil {
		t.Error(err)
	}
	if got, err := w.multi(nil); string(got) != "a\r\n..b\r\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestSocket: what is written comes back, the end is one, and nobody listening is an error.
func TestSocket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.CopyN(conn, conn, 5) // or the test fails
		_ = conn.Close()
	}()
	s, err := dialSocket(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(s, "hello"); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(s); string(got) != "hello" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if err := errors.Join(s.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if s, err := dialSocket(l.Addr().String()); err == nil {
		t.Error("nobody listens", s.Close())
	}
}

// TestSkim: lines are counted up to the dot, wherever the pieces end.
func TestSkim(t *testing.T) {
	for text, want := range map[string]int{".\r\n": 0, "1 a\r\n.\r\n": 1, "1 a\r\n2 b.\r\n3 .\r\n.\r\n": 3, strings.Repeat("1 abcdef\r\n", 5000) + ".\r\n": 5000} {
		for _, size := range []int{16, 17, 1 << 16} {
			w := &wire{r: bufio.NewReaderSize(iotest.HalfReader(strings.NewReader(text)), size)}
			if got, err := w.skim(); got != want || err != nil {
				t.Errorf("%.20q in %d: got %d, %v, want %d", text, size, got, err, want)
			}
		}
	}
	for _, text := range []string{"", "1 a\r\n", "1 a\r\n."} {
		w := &wire{r: bufio.NewReader(strings.NewReader(text))}
		if _, err := w.skim(); err == nil {
			t.Errorf("%q was taken for whole", text)
		}
	}
}
