package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"latchkey/internal/vfs"
)

// newManifest is the manifest's name until everything that it lists is durable.
const newManifest = ManifestName + ".new"

// Errors of a directory.
var (
	// ErrNone: it holds no complete backup.
	ErrNone = errors.New("archive: no complete backup")
	// ErrForeign: it holds something else.
	ErrForeign = errors.New("archive: not a directory for a backup")
)

// Dir is a directory that holds a backup, or will. One process at a time changes it.
type Dir struct {
	// FS is required, and so is Path.
	FS   vfs.FS
	Path string
}

func (d Dir) path(name string) string { return filepath.Join(d.Path, filepath.FromSlash(name)) }

// openManifest is a manifest with its file.
type openManifest struct {
	*Manifest
	file vfs.File
}

func (m *openManifest) close() { _ = m.file.Close() } // it was only read

// manifest opens the present manifest: ErrNone if there is none.
func (d Dir) manifest() (*openManifest, error) { return d.openManifest(ManifestName) }

func (d Dir) openManifest(name string) (*openManifest, error) {
	f, err := d.FS.Open(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNone, d.Path)
	}
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	m, err := ReadManifest(io.NewSectionReader(f, 0, size))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &openManifest{m, f}, nil
}

// Header returns what the directory holds a backup of: ErrNone if it holds none.
func (d Dir) Header() (Header, error) {
	m, err := d.manifest()
	if err != nil {
		return Header{}, err
	}
	defer m.close()
	return m.Header, nil
}

// Have writes a manifest of the pieces that are there in full length: what need not be sent again. Without a backup it writes nothing. A
// manifest that cannot be read to its end is an error.
func (d Dir) Have(w io.Writer) error {
	m, err := d.manifest()
	if errors.Is(err, ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer m.close()
	have, err := newManifestWriter(w, m.Header)
	if err != nil {
		return err
	}
	for {
		p, err := m.Next()
		if errors.Is(err, io.EOF) {
			return have.end()
		}
		if err != nil {
			return err
		}
		bad, err := d.missing(p)
		if err != nil {
			return err
		}
		if bad == "" {
			if err := have.add(p); err != nil {
				return err
			}
		}
	}
}

// missing says why a piece is not there, or "".
func (d Dir) missing(p Piece) (string, error) {
	f, err := d.FS.Open(d.path(p.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return "it is missing", nil
	}
	if err != nil {
		return "", err
	}
	size, err := f.Size()
	if err = errors.Join(err, f.Close()); err == nil && size < p.Size {
		return fmt.Sprintf("it has %d octets, not %d", size, p.Size), nil
	}
	return "", err
}

// Received says what a backup brought.
type Received struct {
	Header
	// Pieces and Octets are what the backup consists of, New what of the octets was received.
	Pieces        int
	Octets, New   int64
	PiecesRemoved int
}

// Receive takes the stream of a backup that was asked for with what Have wrote. When it returns nil the directory holds the new backup,
// durably. After an error it holds the one before. The stream must be of the same domain, and the directory prepared.
func (d Dir) Receive(ctx context.Context, r io.Reader) (Received, error) {
	var got Received
	before, err := d.Header()
	if err != nil && !errors.Is(err, ErrNone) {
		return got, err
	}
	v := receiver{Dir: d, dirs: map[string]struct{}{}, buf: make([]byte, copySize)}
	if err := v.makeDir(""); err != nil {
		return got, err
	}
	if err := v.receive(ctx, r); err != nil {
		return got, err
	}
	got.New = v.octets
	if got.Header, got.Pieces, got.Octets, err = v.inspect(ctx); err != nil {
		return got, err
	}
	if before.Domain != "" && before.Domain != got.Domain {
		return got, fmt.Errorf("archive: %s holds a backup of %s, and this is one of %s", d.Path, before.Domain, got.Domain)
	}
	if err := v.publish(); err != nil {
		return got, err
	}
	got.PiecesRemoved, err = d.sweep()
	return got, err
}

// receiver is one Receive.
type receiver struct {
	Dir
	dirs   map[string]struct{} // that are there, relative; "" is the directory itself
	octets int64
	buf    []byte
}

// makeDir makes a directory, once. Its entry is durable when publish has returned.
func (v *receiver) makeDir(name string) error {
	if _, made := v.dirs[name]; made {
		return nil
	}
	if err := v.FS.Mkdir(v.path(name)); err != nil {
		return err
	}
	v.dirs[name] = struct{}{}
	return nil
}

// receive writes every piece, and the manifest under its passing name.
func (v *receiver) receive(ctx context.Context, r io.Reader) error {
	t := tar.NewReader(r)
	for {
		e, err := nextEntry(t)
		if err != nil {
			return err
		}
		name, last := e.name, e.name == ManifestName
		if last {
			name = newManifest
			if err := v.FS.Remove(v.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		} else {
			v.octets += e.size
		}
		if dir, _, deep := strings.Cut(name, "/"); deep {
			if err := v.makeDir(dir); err != nil {
				return err
			}
		}
		if err := v.write(ctx, name, e, t); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if last {
			return atEnd(t)
		}
	}
}

// write makes octets of one file durable. A file that is there keeps what the present manifest counts of it: it is written behind that, or
// is the same.
func (v *receiver) write(ctx context.Context, name string, e entry, r io.Reader) (err error) {
	var f vfs.File
	if e.from == 0 {
		f, err = v.FS.Create(v.path(name))
	}
	if e.from > 0 || errors.Is(err, fs.ErrExist) {
		f, err = v.FS.OpenWrite(v.path(name))
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if size, err := f.Size(); err != nil || size < e.from {
		return errors.Join(err, fmt.Errorf("it has %d octets; what follows octet %d was received", size, e.from))
	}
	at := offsetWriter{f, e.from}
	if _, err := copySum(ctx, &at, &summed{r: r}, e.size, 0, v.buf); err != nil {
		return err
	}
	return f.Sync()
}

// offsetWriter writes from an offset on.
type offsetWriter struct {
	f   vfs.File
	off int64
}

func (w *offsetWriter) Write(p []byte) (int, error) {
	n, err := w.f.WriteAt(p, w.off)
	w.off += int64(n)
	return n, err
}

// inspect reads the new manifest to its end, and makes sure that every piece is there.
func (v *receiver) inspect(ctx context.Context) (h Header, pieces int, octets int64, err error) {
	m, err := v.openManifest(newManifest)
	if err != nil {
		return h, 0, 0, err
	}
	defer m.close()
	for {
		if err := ctx.Err(); err != nil {
			return h, 0, 0, err
		}
		p, err := m.Next()
		if errors.Is(err, io.EOF) {
			return m.Header, pieces, octets, nil
		}
		if err != nil {
			return h, 0, 0, err
		}
		bad, err := v.missing(p)
		if err == nil && bad != "" {
			err = fmt.Errorf("%w: piece %s: %s", ErrDamaged, p.Name, bad)
		}
		if err != nil {
			return h, 0, 0, err
		}
		pieces++
		octets += p.Size
	}
}

// publish makes the new manifest the present one, when everything that it lists is durable.
func (v *receiver) publish() error {
	for name := range v.dirs {
		if err := v.FS.SyncDir(v.path(name)); err != nil {
			return err
		}
	}
	if err := v.FS.SyncDir(filepath.Dir(v.Path)); err != nil {
		return err
	}
	if err := v.FS.Rename(v.path(newManifest), v.path(ManifestName)); err != nil {
		return err
	}
	return v.FS.SyncDir(v.Path)
}

// sweep removes files that the present manifest does not list. It needs the memory of a directory's names.
func (d Dir) sweep() (removed int, err error) {
	m, err := d.manifest()
	if err != nil {
		return 0, err
	}
	defer m.close()
	files, _, err := d.files()
	if err != nil {
		return 0, err
	}
	next := ""
	for _, name := range files {
		for next < name && !errors.Is(m.err, io.EOF) {
			p, err := m.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return removed, err
			}
			next = p.Name
		}
		if name == next {
			continue
		}
		if err := d.FS.Remove(d.path(name)); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}

// files returns the pieces that are there, in ascending order, and what else is.
func (d Dir) files() (pieces, others []string, err error) {
	for _, dir := range []string{"", segmentDir, largeDir} {
		names, err := d.FS.List(d.path(dir))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		for _, name := range names {
			if dir != "" {
				name = dir + "/" + name
			}
			if _, ok := ParseName(name); ok {
				pieces = append(pieces, name)
			} else if name != segmentDir && name != largeDir {
				others = append(others, name)
			}
		}
	}
	slices.Sort(pieces)
	return pieces, others, nil
}

// Prepare makes the directory, whose parent must be there: a backup that goes to where a disk was to be mounted is none. A directory that
// holds other things and no backup is refused.
func (d Dir) Prepare() error {
	if _, err := d.FS.List(filepath.Dir(d.Path)); err != nil {
		return err
	}
	if err := d.FS.Mkdir(d.Path); err != nil {
		return err
	}
	_, others, err := d.files()
	if err != nil {
		return err
	}
	if slices.Contains(others, ManifestName) {
		return nil
	}
	for _, name := range others {
		if name != newManifest && name != "lost+found" {
			return fmt.Errorf("%w: %s holds no backup, and something else: %s", ErrForeign, d.Path, name)
		}
	}
	return nil
}

// Pieces implements Source.
func (d Dir) Pieces(ctx context.Context, each func(name string, size int64, r io.Reader) error) (Header, error) {
	buf := make([]byte, copySize)
	h, err := d.Walk(ctx, func(p Piece) error {
		bad, err := d.read(p, buf, each)
		if err == nil && bad != "" {
			err = fmt.Errorf("%w: piece %s: %s", ErrDamaged, p.Name, bad)
		}
		return err
	})
	return h, err
}

// Verify reads everything, and calls found for every piece that is not as the manifest says.
func (d Dir) Verify(ctx context.Context, found func(p Piece, what string)) (Header, error) {
	// What a manifest lists is believed only when all of it was read.
	if h, err := d.Walk(ctx, func(Piece) error { return nil }); err != nil {
		return h, err
	}
	buf := make([]byte, copySize)
	return d.Walk(ctx, func(p Piece) error {
		bad, err := d.read(p, buf, func(string, int64, io.Reader) error { return nil })
		if err != nil && ctx.Err() == nil {
			bad, err = err.Error(), nil // what the device cannot read
		}
		if bad != "" {
			found(p, bad)
		}
		return err
	})
}

// Walk calls each for every piece, as the manifest lists it. ErrNone if there is no backup. The manifest is known to be whole when it returns nil.
func (d Dir) Walk(ctx context.Context, each func(p Piece) error) (Header, error) {
	m, err := d.manifest()
	if err != nil {
		return Header{}, err
	}
	defer m.close()
	for {
		if err := ctx.Err(); err != nil {
			return Header{}, err
		}
		p, err := m.Next()
		if errors.Is(err, io.EOF) {
			return m.Header, nil
		}
		if err == nil {
			err = each(p)
		}
		if err != nil {
			return Header{}, err
		}
	}
}

// Open opens a piece for reading. Of the file only the first octets belong to it, as many as the manifest says.
func (d Dir) Open(name string) (vfs.File, error) { return d.FS.Open(d.path(name)) }

// read gives each a piece, and says what is wrong with it, or "".
func (d Dir) read(p Piece, buf []byte, each func(name string, size int64, r io.Reader) error) (bad string, err error) {
	if bad, err = d.missing(p); bad != "" || err != nil {
		return bad, err
	}
	f, err := d.Open(p.Name)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := summed{r: io.NewSectionReader(f, 0, p.Size)}
	if err := each(p.Name, p.Size, &sum); err != nil {
		return "", err
	}
	if err := sum.drain(p.Size, buf); err != nil {
		return "", err
	}
	if sum.sum != p.Sum {
		return fmt.Sprintf("its checksum is %08x, not %08x", sum.sum, p.Sum), nil
	}
	return "", nil
}
