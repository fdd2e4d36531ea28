package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"latchkey/internal/vfs"
	"latchkey/internal/vfs/vfstest"
)

const domain = "example.com"

var noon = time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)

// spool keeps a manifest in memory.
type spool struct{ b []byte }

func (s *spool) Write(p []byte) (int, error) {
	s.b = append(s.b, p...)
	return len(p), nil
}

func (s *spool) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(s.b).ReadAt(p, off) }

// state is what a store would back up: pieces by name.
type state map[string][]byte

// stream writes a backup of a state, without what the receiver has.
func (s state) stream(t testing.TB, taken time.Time, have []byte) []byte {
	t.Helper()
	known := map[string]Piece{}
	if len(have) > 0 {
		m, err := ReadManifest(bytes.NewReader(have))
		noError(t, err)
		for {
			p, err := m.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			noError(t, err)
			known[p.Name] = p
		}
	}
	var out bytes.Buffer
	w, err := NewWriter(&out, Header{Domain: domain, Taken: taken}, &spool{})
	noError(t, err)
	names := make([]string, 0, len(s))
	for name := range s {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b, k := s[name], known[name]
		if k.Name != "" && k.Size == int64(len(b)) {
			noError(t, w.Keep(k))
			continue
		}
		noError(t, w.Send(t.Context(), name, k.Size, int64(len(b)), k.Sum, bytes.NewReader(b[k.Size:])))
	}
	noError(t, w.Close())
	return out.Bytes()
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func octets(n int, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func token(n byte) (t [16]byte) {
	t[0], t[15] = n, n
	return t
}

// states are three moments of a store: a segment grows and another comes, one goes, large bodies come and go.
func states() []state {
	first, second, third := octets(700_000, 1), octets(300_001, 2), octets(5000, 3)
	return []state{
		{SegmentName(1, 77): first[:300_123], LargeName(token(1)): octets(1000, 4), LargeName(token(3)): octets(0, 5), IndexName(1): octets(8192, 6)},
		{SegmentName(1, 77): first, SegmentName(2, 78): second, LargeName(token(1)): octets(1000, 4), LargeName(token(2)): octets(300_000, 7), IndexName(2): octets(9000, 8)},
		{SegmentName(2, 78): second, SegmentName(3, 79): third, LargeName(token(2)): octets(300_000, 7), IndexName(3): octets(100, 9)},
	}
}

func receive(d Dir, s state, t testing.TB, taken time.Time) (Received, error) {
	var have bytes.Buffer
	if err := errors.Join(d.Prepare(), d.Have(&have)); err != nil {
		return Received{}, err
	}
	return d.Receive(context.Background(), bytes.NewReader(s.stream(t, taken, have.Bytes())))
}

// holds makes sure that a source has exactly the pieces of a state.
func (s state) heldBy(t testing.TB, from Source) {
	t.Helper()
	found := state{}
	h, err := from.Pieces(context.Background(), func(name string, size int64, r io.Reader) error {
		b, err := io.ReadAll(r)
		if int64(len(b)) != size {
			t.Errorf("%s has %d octets, not %d", name, len(b), size)
		}
		found[name] = b
		return err
	})
	if err != nil || h.Domain != domain {
		t.Fatalf("%+v, %v", h, err)
	}
	for name, b := range s {
		if got, ok := found[name]; !ok || !bytes.Equal(got, b) {
			t.Errorf("%s: there %t, %d octets, want %d", name, ok, len(got), len(b))
		}
	}
	if len(found) != len(s) {
		t.Errorf("%d pieces, want %d", len(found), len(s))
	}
}

func files(t testing.TB, dir string) (n int) {
	t.Helper()
	noError(t, filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	}))
	return n
}

func newDir(t testing.TB) Dir {
	return Dir{FS: vfs.OS{}, Path: filepath.Join(vfstest.TempDir(t), "backup")}
}

// TestIncrements: each backup holds its own state, receives only what is new, and leaves nothing else behind.
func TestIncrements(t *testing.T) {
	d := newDir(t)
	for i, s := range states() {
		taken := noon.Add(time.Duration(i) * time.Hour)
		got, err := receive(d, s, t, taken)
		noError(t, err)
		want := []int64{300_123 + 1000 + 8192, 700_000 - 300_123 + 300_001 + 300_000 + 9000, 5000 + 100}[i]
		if got.New != want || got.Pieces != len(s) || !got.Taken.Equal(taken) {
			t.Errorf("backup %d: %+v, want %d new octets", i, got, want)
		}
		s.heldBy(t, d)
		s.heldBy(t, Stream{bytes.NewReader(s.stream(t, taken, nil))})
		if n := files(t, d.Path); n != len(s)+1 {
			t.Errorf("backup %d: %d files, want %d", i, n, len(s)+1)
		}
	}
	got, err := receive(d, states()[2], t, noon)
	if err != nil || got.New != 0 {
		t.Errorf("nothing is new: %+v, %v", got, err)
	}
}

// TestUnpacked: a whole stream that was unpacked as a tar file is a backup in a directory.
func TestUnpacked(t *testing.T) {
	d := newDir(t)
	s := states()[1]
	r := tar.NewReader(bytes.NewReader(s.stream(t, noon, nil)))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		noError(t, err)
		path := filepath.Join(d.Path, filepath.FromSlash(h.Name))
		noError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		b, err := io.ReadAll(r)
		noError(t, err)
		noError(t, os.WriteFile(path, b, 0o600))
	}
	s.heldBy(t, d)
	_, err := receive(d, states()[2], t, noon)
	noError(t, err)
	states()[2].heldBy(t, d)
}

// which says which state a directory holds, complete and with no octet wrong, by the time of its manifest; -1 is none.
func which(t *testing.T, d Dir, all []state) int {
	t.Helper()
	h, err := d.Header()
	if errors.Is(err, ErrNone) {
		return -1
	}
	noError(t, err)
	i := int(h.Taken.Sub(noon) / time.Hour)
	all[i].heldBy(t, d)
	return i
}

// stride is how far apart the steps and octets are at which something goes wrong.
func stride() int {
	if testing.Short() {
		return 7
	}
	return 1
}

// TestPowerCutAtEveryStep: whenever the power goes while a backup is received, the directory holds the one before or the new one, whole. The next
// one succeeds.
func TestPowerCutAtEveryStep(t *testing.T) {
	all := states()
	for i := range all {
		for step := 1; ; step += stride() {
			base := vfstest.TempDir(t)
			root := filepath.Join(base, "disk")
			d := Dir{FS: vfs.OS{}, Path: filepath.Join(root, "backup")}
			noError(t, os.Mkdir(root, 0o700))
			for before := range i {
				_, err := receive(d, all[before], t, noon.Add(time.Duration(before)*time.Hour))
				noError(t, err)
			}
			disk := vfstest.NewDisk(t, root, uint64(step), step)
			_, err := receive(Dir{FS: disk, Path: d.Path}, all[i], t, noon.Add(time.Duration(i)*time.Hour))
			whole := !disk.Dead()
			if whole {
				noError(t, err)
			}
			after := filepath.Join(base, "after")
			noError(t, os.Mkdir(after, 0o700))
			disk.Restore(after)
			d.Path = filepath.Join(after, "backup")
			if held := which(t, d, all); held != i && held != i-1 || err == nil && held != i {
				t.Fatalf("backup %d, step %d: it holds %d (%v)", i, step, held, err)
			}
			_, err = receive(d, all[i], t, noon.Add(time.Duration(i)*time.Hour))
			noError(t, err)
			if which(t, d, all) != i || files(t, d.Path) != len(all[i])+1 {
				t.Fatalf("backup %d, step %d: %d files after the next one", i, step, files(t, d.Path))
			}
			if t.Failed() || whole {
				break
			}
		}
	}
}

// TestFaultAtEveryStep: whatever fails while a backup is received, it is reported, and the directory holds the one before or the new one.
func TestFaultAtEveryStep(t *testing.T) {
	all := states()
	for _, fault := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for step := 1; ; step += stride() {
			d := newDir(t)
			_, err := receive(d, all[0], t, noon)
			noError(t, err)
			f := vfstest.NewFaulty(vfs.OS{}, step, true, func(vfstest.Op) error { return fault })
			_, err = receive(Dir{FS: f, Path: d.Path}, all[1], t, noon.Add(time.Hour))
			hit, ok := f.Hit()
			if !ok {
				noError(t, err)
				break
			}
			if held := which(t, d, all); err == nil || held < 0 {
				t.Fatalf("step %d (%+v): %v, it holds %d", step, hit, err, held)
			}
			if _, err = receive(d, all[1], t, noon.Add(time.Hour)); err != nil || which(t, d, all) != 1 {
				t.Fatalf("step %d (%+v), again: %v", step, hit, err)
			}
		}
	}
}

// TestStreamCutShort: a stream that ends too early, anywhere, is no backup.
func TestStreamCutShort(t *testing.T) {
	s := state{SegmentName(1, 1): octets(3000, 1), IndexName(1): octets(10, 2)}
	whole := s.stream(t, noon, nil)
	manifestEnds := bytes.LastIndex(whole, []byte("end 2 ")) + len("end 2 01234567\n")
	for n := range whole {
		_, err := Stream{bytes.NewReader(whole[:n])}.Pieces(t.Context(), func(string, int64, io.Reader) error { return nil })
		if n < manifestEnds && !errors.Is(err, ErrDamaged) {
			t.Fatalf("%d of %d octets: %v", n, len(whole), err)
		}
		if n%97 == 0 || n > manifestEnds-10 && n < manifestEnds {
			d := newDir(t)
			noError(t, d.Prepare())
			if _, err := d.Receive(t.Context(), bytes.NewReader(whole[:n])); n < manifestEnds && !errors.Is(err, ErrDamaged) {
				t.Fatalf("%d of %d octets received: %v", n, len(whole), err)
			} else if _, err := d.Header(); n < manifestEnds && !errors.Is(err, ErrNone) {
				t.Fatalf("%d of %d octets received: a backup is there: %v", n, len(whole), err)
			}
		}
	}
}

// TestStreamFlipped: no octet of a stream can change unnoticed, but those of tar's headers that say nothing about the piece.
func TestStreamFlipped(t *testing.T) {
	s := state{SegmentName(1, 1): octets(700, 1), IndexName(1): octets(10, 2)}
	whole := s.stream(t, noon, nil)
	for at := 0; at < len(whole); at += stride() {
		b := bytes.Clone(whole)
		b[at] ^= 0x10
		found := state{}
		_, err := Stream{bytes.NewReader(b)}.Pieces(t.Context(), func(name string, _ int64, r io.Reader) error {
			content, err := io.ReadAll(r)
			found[name] = content
			return err
		})
		if err != nil {
			continue
		}
		for name, want := range s {
			if !bytes.Equal(found[name], want) {
				t.Fatalf("octet %d of %d: %s is not what was sent", at, len(whole), name)
			}
		}
	}
}

// TestVerify finds every octet that is not what was written, and a file that is missing or short. It does not care for what lies behind.
func TestVerify(t *testing.T) {
	s := state{SegmentName(1, 1): octets(300, 1), LargeName(token(9)): octets(50, 2), IndexName(1): octets(10, 3)}
	d := newDir(t)
	_, err := receive(d, s, t, noon)
	noError(t, err)
	verify := func() (found []string, err error) {
		_, err = d.Verify(t.Context(), func(p Piece, what string) { found = append(found, p.Name+": "+what) })
		return found, err
	}
	for name, b := range s {
		path := d.path(name)
		for at := range b {
			b := bytes.Clone(b)
			b[at] ^= 1
			noError(t, os.WriteFile(path, b, 0o600))
			if found, err := verify(); err != nil || len(found) != 1 || !strings.HasPrefix(found[0], name+": its checksum is ") {
				t.Fatalf("%s, octet %d: %q, %v", name, at, found, err)
			}
			if err := errors.Join(d.read1(name)); !errors.Is(err, ErrDamaged) {
				t.Fatalf("%s, octet %d: put back: %v", name, at, err)
			}
		}
		noError(t, os.WriteFile(path, b[:len(b)-1], 0o600))
		if found, err := verify(); err != nil || len(found) != 1 || !strings.Contains(found[0], "octets, not") {
			t.Errorf("%s, cut: %q, %v", name, found, err)
		}
		noError(t, os.Remove(path))
		if found, err := verify(); err != nil || len(found) != 1 || !strings.Contains(found[0], "is missing") {
			t.Errorf("%s, missing: %q, %v", name, found, err)
		}
		noError(t, os.WriteFile(path, append(bytes.Clone(b), "left by a backup that broke off"...), 0o600))
		if found, err := verify(); err != nil || len(found) > 0 {
			t.Errorf("%s, longer: %q, %v", name, found, err)
		}
	}
	whole, err := os.ReadFile(d.path(ManifestName))
	noError(t, err)
	for at := range whole {
		b := bytes.Clone(whole)
		b[at] ^= 1
		noError(t, os.WriteFile(d.path(ManifestName), b, 0o600))
		if _, err := verify(); !errors.Is(err, ErrDamaged) {
			t.Fatalf("manifest, octet %d: %v", at, err)
		}
		noError(t, os.WriteFile(d.path(ManifestName), whole[:at], 0o600))
		if _, err := verify(); !errors.Is(err, ErrDamaged) {
			t.Fatalf("manifest, cut to %d: %v", at, err)
		}
	}
}

// read1 reads everything as a restore does.
func (d Dir) read1(string) error {
	_, err := d.Pieces(context.Background(), func(string, int64, io.Reader) error { return nil })
	return err
}

// TestMissingPieceIsSentAgain: what was lost in the directory comes back with the next backup.
func TestMissingPieceIsSentAgain(t *testing.T) {
	for _, spoil := range []func(path string) error{os.Remove, func(p string) error { return os.Truncate(p, 10) }} {
		d := newDir(t)
		s := states()[0]
		_, err := receive(d, s, t, noon)
		noError(t, err)
		for name, b := range s {
			if len(b) == 0 {
				continue
			}
			noError(t, spoil(d.path(name)))
			got, err := receive(d, s, t, noon)
			if err != nil || got.New != int64(len(b)) {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
			s.heldBy(t, d)
		}
	}
}

// TestPrepare: a backup goes into an empty directory or one that holds a backup, whose parent is there.
func TestPrepare(t *testing.T) {
	base := t.TempDir()
	for _, tt := range []struct {
		name string
		make func(dir string) error
		want error
	}{
		{"not there", func(string) error { return nil }, nil},
		{"empty", func(dir string) error { return os.Mkdir(dir, 0o700) }, nil},
		{"a new disk", func(dir string) error { return os.MkdirAll(filepath.Join(dir, "lost+found"), 0o700) }, nil},
		{"a first backup that broke off", func(dir string) error {
			return errors.Join(os.MkdirAll(filepath.Join(dir, segmentDir), 0o700), os.WriteFile(filepath.Join(dir, newManifest), nil, 0o600),
				os.WriteFile(filepath.Join(dir, IndexName(1)), nil, 0o600))
		}, nil},
		{"a backup and notes", func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, ManifestName), nil, 0o600), os.WriteFile(filepath.Join(dir, "notes"), nil, 0o600))
		}, nil},
		{"notes", func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "notes"), nil, 0o600))
		}, ErrForeign},
		{"a data directory", func(dir string) error {
			return errors.Join(os.MkdirAll(filepath.Join(dir, segmentDir), 0o700), os.WriteFile(filepath.Join(dir, "mail.db"), nil, 0o600))
		}, ErrForeign},
		{"strangers among the segments", func(dir string) error {
			return errors.Join(os.MkdirAll(filepath.Join(dir, segmentDir), 0o700), os.WriteFile(filepath.Join(dir, segmentDir, "0000000000000001.seg"), nil, 0o600))
		}, ErrForeign},
	} {
		d := Dir{FS: vfs.OS{}, Path: filepath.Join(base, tt.name)}
		noError(t, tt.make(d.Path))
		if err := d.Prepare(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	d := Dir{FS: vfs.OS{}, Path: filepath.Join(base, "no", "parent")}
	if err := d.Prepare(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no parent: %v", err)
	}
}

// TestSweepKeepsStrangers: only pieces are ever removed.
func TestSweepKeepsStrangers(t *testing.T) {
	d := newDir(t)
	_, err := receive(d, states()[0], t, noon)
	noError(t, err)
	mine := []string{"notes", "large/README", "journal/x.seg", "mail-1.db", "other/file"}
	for _, name := range mine {
		noError(t, os.MkdirAll(filepath.Dir(d.path(name)), 0o700))
		noError(t, os.WriteFile(d.path(name), nil, 0o600))
	}
	got, err := receive(d, states()[2], t, noon)
	if err != nil || got.PiecesRemoved != 4 {
		t.Errorf("%+v, %v; want 4 pieces removed", got, err)
	}
	for _, name := range mine {
		if _, err := os.Stat(d.path(name)); err != nil {
			t.Error(err)
		}
	}
}

// TestHostileStream: nothing is written outside of the directory, and nothing but pieces in it.
func TestHostileStream(t *testing.T) {
	good := SegmentName(1, 1)
	for _, h := range []tar.Header{
		{Name: "../" + good}, {Name: "/etc/passwd"}, {Name: "journal/../../x"}, {Name: "journal"}, {Name: "./" + good}, {Name: strings.ToUpper(good)},
		{Name: "mail.db"}, {Name: "manifest.new"}, {Name: "journal/" + good}, {Name: "large/" + strings.Repeat("0", 31)}, {Name: ""},
		{Name: good, Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, {Name: good, Typeflag: tar.TypeDir}, {Name: good, Typeflag: tar.TypeLink, Linkname: "x"},
		{Name: good, PAXRecords: map[string]string{offsetRecord: "-5"}}, {Name: good, PAXRecords: map[string]string{offsetRecord: "5"}},
		{Name: ManifestName, PAXRecords: map[string]string{offsetRecord: "5"}},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		h.Format, h.Mode = tar.FormatPAX, 0o600
		noError(t, w.WriteHeader(&h))
		noError(t, w.Close())
		d := newDir(t)
		noError(t, d.Prepare())
		if _, err := d.Receive(t.Context(), bytes.NewReader(b.Bytes())); err == nil {
			t.Errorf("%+v: received", h)
		}
		if n := files(t, filepath.Dir(d.Path)); n > 0 && h.Name != ManifestName {
			t.Errorf("%+v: %d files", h, n)
		}
		if _, err := (Stream{&b}).Pieces(t.Context(), func(string, int64, io.Reader) error { return nil }); !errors.Is(err, ErrDamaged) {
			t.Errorf("%+v: %v", h, err)
		}
	}
}

// TestOtherDomain: a directory keeps to one domain.
func TestOtherDomain(t *testing.T) {
	d := newDir(t)
	_, err := receive(d, states()[0], t, noon)
	noError(t, err)
	var out bytes.Buffer
	w, err := NewWriter(&out, Header{Domain: "other.example", Taken: noon}, &spool{})
	noError(t, err)
	noError(t, w.Close())
	if _, err := d.Receive(t.Context(), &out); err == nil || !strings.Contains(err.Error(), "this is one of other.example") {
		t.Errorf("got %v", err)
	}
	states()[0].heldBy(t, d)
}

// TestManifestBounds: order, number and lines of a manifest at their bounds.
func TestManifestBounds(t *testing.T) {
	p := Piece{Name: IndexName(1)}
	if ordered("", MaxPieces-1, p) != nil || ordered("", MaxPieces, p) == nil {
		t.Error("the bound of pieces")
	}
	if ordered(p.Name, 0, p) == nil || ordered("z", 0, p) == nil || ordered("", 0, Piece{Name: p.Name, Size: -1}) == nil || ordered("", 0, Piece{Name: "x"}) == nil {
		t.Error("order, length or name")
	}
	for n := maxLine - 1; n <= maxLine+1; n++ {
		line := strings.Repeat("x", n-1) + "\n"
		_, err := ReadManifest(strings.NewReader(line))
		if tooLong := strings.Contains(fmt.Sprint(err), "too long"); err == nil || tooLong != (n > maxLine) {
			t.Errorf("a line of %d octets: %v", n, err)
		}
	}
	for _, domain := range []string{"", "a b", "a\nb", strings.Repeat("x", 256)} {
		if _, err := newManifestWriter(io.Discard, Header{Domain: domain}); err == nil {
			t.Errorf("%q is a domain", domain)
		}
	}
}

// TestReaderOfAPieceEndsTooEarly: a backup is never shorter than it says.
func TestReaderOfAPieceEndsTooEarly(t *testing.T) {
	w, err := NewWriter(io.Discard, Header{Domain: domain, Taken: noon}, &spool{})
	noError(t, err)
	if err := w.Send(t.Context(), IndexName(1), 0, 10, 0, strings.NewReader("123456789")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

func FuzzParseName(f *testing.F) {
	for _, name := range []string{IndexName(1), SegmentName(1, 1<<63), LargeName(token(255)), "journal/x", ""} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		n, ok := ParseName(name)
		if ok && (n.String() != name || filepath.ToSlash(filepath.Clean(name)) != name || strings.Contains(name, "..")) {
			t.Errorf("%q is %+v", name, n)
		}
	})
}

func FuzzReadManifest(f *testing.F) {
	s := &spool{}
	w, _ := newManifestWriter(s, Header{Domain: domain, Taken: noon})
	_ = errors.Join(w.add(Piece{Name: SegmentName(1, 1), Size: 5, Sum: 7}), w.add(Piece{Name: IndexName(1)}), w.end())
	f.Add(s.b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ReadManifest(bytes.NewReader(b))
		for err == nil {
			_, err = m.Next()
		}
		if errors.Is(err, io.EOF) && !bytes.HasPrefix(b, []byte(firstLine)) {
			t.Errorf("%q is a manifest", b)
		}
	})
}

// TestKeptPieceIsNotThere: a backup that counts on what the directory has not is refused.
func TestKeptPieceIsNotThere(t *testing.T) {
	d := newDir(t)
	_, err := receive(d, states()[0], t, noon)
	noError(t, err)
	var out bytes.Buffer
	w, err := NewWriter(&out, Header{Domain: domain, Taken: noon.Add(time.Hour)}, &spool{})
	noError(t, err)
	noError(t, w.Keep(Piece{Name: LargeName(token(7)), Size: 5}))
	noError(t, w.Close())
	if _, err := d.Receive(t.Context(), &out); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
	states()[0].heldBy(t, d)
}
