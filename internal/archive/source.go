package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Source is a complete backup, to be put back.
type Source interface {
	// Pieces calls each for every piece, in ascending order of names, with its octets, which it reads to their end. Nothing is known to be right
	// before it returned nil: then every checksum held, and nothing was missing.
	Pieces(ctx context.Context, each func(name string, size int64, r io.Reader) error) (Header, error)
}

// Stream is a Source that reads a whole backup as [Writer] sends it.
type Stream struct{ R io.Reader }

// Pieces implements Source. The manifest comes last, so it is made up again on the way and compared.
func (s Stream) Pieces(ctx context.Context, each func(name string, size int64, r io.Reader) error) (Header, error) {
	t := tar.NewReader(s.R)
	own := &manifestWriter{w: io.Discard}
	buf := make([]byte, copySize)
	for {
		if err := ctx.Err(); err != nil {
			return Header{}, err
		}
		h, err := nextEntry(t)
		if err != nil {
			return Header{}, err
		}
		if h.name == ManifestName {
			h, err := compare(t, own)
			return h, errors.Join(err, atEnd(t))
		}
		if h.from != 0 {
			return Header{}, fmt.Errorf("%w: the stream goes on with an older backup and is not whole", ErrDamaged)
		}
		sum := summed{r: t}
		if err := each(h.name, h.size, &sum); err != nil {
			return Header{}, err
		}
		if err := sum.drain(h.size, buf); err != nil {
			return Header{}, fmt.Errorf("piece %s: %w", h.name, err)
		}
		if err := own.add(Piece{Name: h.name, Size: h.size, Sum: sum.sum}); err != nil {
			return Header{}, err
		}
	}
}

// compare reads the manifest of a stream whose pieces made up own.
func compare(r io.Reader, own *manifestWriter) (Header, error) {
	m, err := ReadManifest(r)
	if err != nil {
		return Header{}, err
	}
	listed := &manifestWriter{w: io.Discard}
	for {
		p, err := m.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = listed.add(p)
		}
		if err != nil {
			return Header{}, err
		}
	}
	if listed.have != own.have || listed.n != own.n || listed.sum != own.sum {
		return Header{}, fmt.Errorf("%w: the pieces are not those that the manifest lists", ErrDamaged)
	}
	return m.Header, nil
}

// entry is what a stream says before the octets of a piece.
type entry struct {
	name string
	// from is how many octets the receiver has, size how many follow.
	from, size int64
}

// nextEntry reads up to the next piece or the manifest. A stream that ends before the manifest was broken off.
func nextEntry(t *tar.Reader) (entry, error) {
	h, err := t.Next()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return entry{}, fmt.Errorf("%w: the stream ends before its manifest: it was broken off", ErrDamaged)
	}
	if errors.Is(err, tar.ErrHeader) {
		return entry{}, fmt.Errorf("%w: the stream is no tar file, or it was changed", ErrDamaged)
	}
	if err != nil {
		return entry{}, err
	}
	e := entry{name: h.Name, size: h.Size}
	if h.Typeflag != tar.TypeReg {
		return e, fmt.Errorf("%w: %q is no piece", ErrDamaged, h.Name)
	}
	if text, ok := h.PAXRecords[offsetRecord]; ok {
		if e.from, err = strconv.ParseInt(text, 10, 64); err != nil || e.from <= 0 {
			return e, fmt.Errorf("%w: piece %q begins nowhere", ErrDamaged, h.Name)
		}
	}
	if _, ok := ParseName(e.name); !ok && e.name != ManifestName || e.name == ManifestName && e.from > 0 {
		return e, fmt.Errorf("%w: %q is no piece", ErrDamaged, h.Name)
	}
	return e, nil
}

// atEnd reads the end of a stream behind its manifest.
func atEnd(t *tar.Reader) error {
	if _, err := t.Next(); !errors.Is(err, io.EOF) {
		return errors.Join(err, fmt.Errorf("%w: something follows the manifest", ErrDamaged))
	}
	return nil
}

// summed computes the checksum of what is read.
type summed struct {
	r   io.Reader
	sum uint32
	n   int64
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum = AddSum(s.sum, p[:n])
	s.n += int64(n)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: the stream was broken off", ErrDamaged)
	}
	return n, err
}

// drain reads what was left of size octets.
func (s *summed) drain(size int64, buf []byte) error {
	for {
		_, err := s.Read(buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if s.n != size {
		return fmt.Errorf("%w: it has %d octets, not %d", ErrDamaged, s.n, size)
	}
	return nil
}
