package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// offsetRecord is the PAX record of an entry that goes on with a piece: how many octets of it the receiver has.
const offsetRecord = "LATCHKEY.offset"

// copySize is how much is read and written at once.
const copySize = 256 << 10

// entryMode is that of every entry: nobody but the owner reads mail.
const entryMode = 0o600

// Spool holds the manifest while it grows: it is the last entry of the stream, and its length comes first.
type Spool interface {
	io.Writer
	io.ReaderAt
}

// Writer makes the stream of a backup. It is used by one goroutine.
type Writer struct {
	tar    *tar.Writer
	header Header
	spool  Spool
	m      *manifestWriter
	buf    []byte
}

// NewWriter returns a writer of a backup. The spool is the caller's, empty, and used until Close has returned.
func NewWriter(w io.Writer, h Header, spool Spool) (*Writer, error) {
	m, err := newManifestWriter(spool, h)
	if err != nil {
		return nil, err
	}
	return &Writer{tar: tar.NewWriter(w), header: h, spool: spool, m: m}, nil
}

// Keep lists a piece that the receiver has.
func (w *Writer) Keep(p Piece) error { return w.m.add(p) }

// Send lists a piece of the given name and size, and sends it from offset from on; r yields exactly that. sum is the checksum of what lies
// before. An r that ends too early, or fails, fails the backup as a whole.
func (w *Writer) Send(ctx context.Context, name string, from, size int64, sum uint32, r io.Reader) error {
	if from < 0 || from > size {
		return fmt.Errorf("archive: piece %s has no octet %d", name, from)
	}
	var records map[string]string
	if from > 0 {
		records = map[string]string{offsetRecord: strconv.FormatInt(from, 10)}
	}
	if err := w.entry(name, size-from, records); err != nil {
		return err
	}
	if w.buf == nil {
		w.buf = make([]byte, copySize)
	}
	sum, err := copySum(ctx, w.tar, r, size-from, sum, w.buf)
	if err != nil {
		return fmt.Errorf("piece %s: %w", name, err)
	}
	return w.m.add(Piece{Name: name, Size: size, Sum: sum})
}

func (w *Writer) entry(name string, size int64, records map[string]string) error {
	return w.tar.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: entryMode, ModTime: w.header.Taken, PAXRecords: records, Format: tar.FormatPAX,
	})
}

// copySum copies exactly size octets and goes on with their checksum.
func copySum(ctx context.Context, w io.Writer, r io.Reader, size int64, sum uint32, buf []byte) (uint32, error) {
	for size > 0 {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		n, err := io.ReadFull(r, buf[:min(size, int64(len(buf)))])
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return sum, err
		}
		sum = AddSum(sum, buf[:n])
		if _, err := w.Write(buf[:n]); err != nil {
			return sum, err
		}
		size -= int64(n)
	}
	return sum, nil
}

// Close sends the manifest: without it the receiver has nothing. It does not close what lies below.
func (w *Writer) Close() error {
	if err := w.m.end(); err != nil {
		return err
	}
	if err := w.entry(ManifestName, w.m.n, nil); err != nil {
		return err
	}
	if _, err := io.Copy(w.tar, io.NewSectionReader(w.spool, 0, w.m.n)); err != nil {
		return err
	}
	return w.tar.Close()
}
