package archive

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"time"
)

// ManifestName is the name of the manifest, in the directory and in the stream.
const ManifestName = "manifest"

// Bounds of a manifest.
const (
	// MaxPieces bounds the pieces of one backup.
	MaxPieces = 4 << 20
	// maxLine bounds a line, in octets: a name, two numbers and what is between them, or a domain.
	maxLine = 400
)

// ErrDamaged: a manifest or a stream is not what was written: cut short, changed, or of another format.
var ErrDamaged = errors.New("archive: damaged")

// castagnoli returns the table of CRC32C; the hash package keeps it.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// AddSum goes on with a checksum: sum is that of what lies before b, 0 if nothing does.
func AddSum(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli(), b) }

// Header says what a backup is of.
type Header struct {
	// Domain is in canonical form.
	Domain string
	// Taken is when the backup began.
	Taken time.Time
}

// Piece is one part of a backup.
type Piece struct {
	// Name is what [IndexName], [SegmentName] or [LargeName] returned.
	Name string
	// Size is how many octets belong to it.
	Size int64
	// Sum is the CRC32C of these.
	Sum uint32
}

const (
	firstLine = "latchkey backup 1\n"
	timeForm  = time.RFC3339Nano
)

// manifestWriter writes a manifest line by line.
type manifestWriter struct {
	w    io.Writer
	sum  uint32
	n    int64 // octets
	last string
	have int
}

func newManifestWriter(w io.Writer, h Header) (*manifestWriter, error) {
	if h.Domain == "" || len(h.Domain) > 255 || strings.ContainsAny(h.Domain, " \n") {
		return nil, fmt.Errorf("archive: %q is no domain", h.Domain)
	}
	m := &manifestWriter{w: w}
	return m, m.write(fmt.Sprintf("%sdomain %s\ntaken %s\n", firstLine, h.Domain, h.Taken.UTC().Format(timeForm)))
}

func (m *manifestWriter) write(line string) error {
	m.sum = AddSum(m.sum, []byte(line))
	n, err := io.WriteString(m.w, line)
	m.n += int64(n)
	return err
}

// ordered refuses a piece that does not come behind the last one.
func ordered(last string, have int, p Piece) error {
	switch {
	case p.Name <= last:
		return fmt.Errorf("%w: piece %s does not come behind %s", ErrDamaged, p.Name, last)
	case have >= MaxPieces:
		return fmt.Errorf("%w: it has more than %d pieces", ErrDamaged, MaxPieces)
	case p.Size < 0:
		return fmt.Errorf("%w: piece %s has no length", ErrDamaged, p.Name)
	}
	if _, ok := ParseName(p.Name); !ok {
		return fmt.Errorf("%w: %q is no name of a piece", ErrDamaged, p.Name)
	}
	return nil
}

func (m *manifestWriter) add(p Piece) error {
	if err := ordered(m.last, m.have, p); err != nil {
		return err
	}
	m.last = p.Name
	m.have++
	return m.write(fmt.Sprintf("piece %s %d %08x\n", p.Name, p.Size, p.Sum))
}

func (m *manifestWriter) end() error {
	return m.write(fmt.Sprintf("end %d %08x\n", m.have, m.sum))
}

// Manifest reads a manifest piece by piece, so that one of any length needs little memory.
type Manifest struct {
	Header
	r    *bufio.Reader
	sum  uint32
	last string
	have int
	err  error
}

// ReadManifest reads the beginning of a manifest. What follows is read by Next, and nothing is known to be right before that returned io.EOF.
func ReadManifest(r io.Reader) (*Manifest, error) {
	m := &Manifest{r: bufio.NewReaderSize(r, 32<<10)}
	line, err := m.line()
	if err == nil && line != firstLine {
		err = fmt.Errorf("%w: it is no manifest, or one of another version", ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	m.sum = AddSum(0, []byte(line))
	if m.Domain, err = m.field("domain "); err != nil {
		return nil, err
	}
	taken, err := m.field("taken ")
	if err != nil {
		return nil, err
	}
	if m.Taken, err = time.Parse(timeForm, taken); err != nil {
		return nil, fmt.Errorf("%w: %q is no time", ErrDamaged, taken)
	}
	return m, nil
}

// line reads one line, with its end. It is not in the checksum yet.
func (m *Manifest) line() (string, error) {
	line, err := m.r.ReadSlice('\n')
	switch {
	case errors.Is(err, io.EOF):
		return "", fmt.Errorf("%w: the manifest ends too early", ErrDamaged)
	case errors.Is(err, bufio.ErrBufferFull), err == nil && len(line) > maxLine:
		return "", fmt.Errorf("%w: a line of the manifest is too long", ErrDamaged)
	case err != nil:
		return "", err
	}
	return string(line), nil
}

func (m *Manifest) field(name string) (string, error) {
	line, err := m.line()
	if err != nil {
		return "", err
	}
	m.sum = AddSum(m.sum, []byte(line))
	value, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), name)
	if !ok || value == "" {
		return "", fmt.Errorf("%w: the manifest has no line %q", ErrDamaged, name)
	}
	return value, nil
}

// Next returns the next piece, or io.EOF behind the last one of a whole manifest.
func (m *Manifest) Next() (Piece, error) {
	if m.err != nil {
		return Piece{}, m.err
	}
	p, err := m.next()
	m.err = err
	return p, err
}

func (m *Manifest) next() (Piece, error) {
	line, err := m.line()
	if err != nil {
		return Piece{}, err
	}
	if strings.HasPrefix(line, "end ") {
		if line != fmt.Sprintf("end %d %08x\n", m.have, m.sum) {
			return Piece{}, fmt.Errorf("%w: the checksum of the manifest does not hold", ErrDamaged)
		}
		if _, err := m.r.ReadByte(); !errors.Is(err, io.EOF) {
			return Piece{}, errors.Join(err, fmt.Errorf("%w: something follows the manifest", ErrDamaged))
		}
		return Piece{}, io.EOF
	}
	p, err := parsePiece(line)
	if err == nil {
		err = ordered(m.last, m.have, p)
	}
	if err != nil {
		return Piece{}, err
	}
	m.sum = AddSum(m.sum, []byte(line))
	m.last = p.Name
	m.have++
	return p, nil
}

func parsePiece(line string) (Piece, error) {
	bad := fmt.Errorf("%w: a line of the manifest cannot be read", ErrDamaged)
	words := strings.Split(strings.TrimSuffix(line, "\n"), " ")
	if len(words) != 4 || words[0] != "piece" || len(words[3]) != 8 {
		return Piece{}, bad
	}
	size, err := strconv.ParseInt(words[2], 10, 64)
	if err != nil {
		return Piece{}, bad
	}
	sum, err := strconv.ParseUint(words[3], 16, 32)
	if err != nil {
		return Piece{}, bad
	}
	return Piece{Name: words[1], Size: size, Sum: uint32(sum)}, nil
}
