package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"testing"

	"latchkey/internal/vfs"
)

// bodyOf makes a Body of octets.
func bodyOf(b []byte) Body {
	var sums []byte
	for at := 0; at < len(b); at += BlockSize {
		sums = binary.BigEndian.AppendUint32(sums, crc32.Checksum(b[at:min(at+BlockSize, len(b))], castagnoli))
	}
	return Body{Size: int64(len(b)), Sums: sums, Fill: func(to []byte) error { copy(to, b); return nil }}
}

// small are options for segments of 16 KiB and more.
func small(fs vfs.FS) Options {
	return Options{FS: fs, MinSegment: 16 << 10, MaxSegment: 64 << 10, Reserve: 2 << 10}
}

type read struct {
	kind Kind
	seq  uint64
	meta string
	body Place
	end  Mark
}

func open(t testing.TB, dir string, from Mark, o Options) (*Journal, []read) {
	t.Helper()
	var got []read
	j, err := Open(context.Background(), dir, from, o, collect(&got))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return j, got
}

func collect(to *[]read) func(Record) error {
	return func(r Record) error {
		*to = append(*to, read{r.Kind, r.Seq, string(r.Meta), r.Body, r.End})
		return nil
	}
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir() + "/journal"
	j, got := open(t, dir, Mark{}, small(vfs.OS{}))
	if len(got) != 0 {
		t.Fatalf("a new journal has %d records", len(got))
	}
	var want []read
	var bodies [][]byte
	for g := range 40 {
		for i := range 3 {
			body := bytes.Repeat([]byte{byte(g), byte(i)}, g*i*10)
			p, m, err := j.Append(Kind(1+i), []byte(fmt.Sprint(g, i)), bodyOf(body), false)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, read{Kind(1 + i), m.Seq, fmt.Sprint(g, i), p, m})
			bodies = append(bodies, body)
		}
		m, err := j.Commit()
		if err != nil || m != want[len(want)-1].end || j.Durable() != m {
			t.Fatalf("Commit = %v, %v; want %v", m, err, want[len(want)-1].end)
		}
	}
	check := func(got, want []read) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got  %v\nwant %v", got, want)
		}
	}
	for i, w := range want {
		p, err := j.Pin(w.body.Generation)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, w.body.Size)
		if _, err := p.ReadAt(b, w.body.Offset+SumsSize(w.body.Size)); err != nil || !bytes.Equal(b, bodies[i]) {
			t.Fatalf("body %d: %v", i, err)
		}
		p.Release()
	}
	scan := func() {
		t.Helper()
		list, _, _ := j.Segments()
		var got []read
		for _, s := range list {
			if err := j.Scan(context.Background(), s.Generation, collect(&got)); err != nil {
				t.Fatalf("Scan(%d): %v", s.Generation, err)
			}
		}
		check(got, want)
	}
	scan()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range want {
		from := Mark{}
		if i > 0 {
			from = want[i-1].end
		}
		j, got = open(t, dir, from, small(vfs.OS{}))
		check(got, want[i:])
		if i%20 == 0 {
			scan()
		}
		if j.Durable() != want[len(want)-1].end {
			t.Fatal(j.Durable())
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := j.Append(1, nil, Body{}, false); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}
