package journal

import (
	"errors"
	"fmt"
	"path/filepath"

	"latchkey/internal/vfs"
)

// Stamp returns the random number that the segment's header names: it tells the segment from one of the same generation in another life of
// the journal. A header that cannot be read is a [Damage].
func (p *Pin) Stamp() (uint64, error) {
	stamp, bad, err := p.stamp()
	if err != nil {
		bad = err.Error()
	}
	if bad != "" {
		return 0, Damage{Mark{Generation: p.s.gen}, bad}
	}
	return stamp, nil
}

// SegmentName is the name of a segment's file.
func SegmentName(generation uint64) string { return fileName(generation, segmentSuffix) }

// RecordSize is what a record takes in a segment, in octets.
func RecordSize(meta, body int64) int64 { return frameSize + meta + SumsSize(body) + body }

// InspectHeader says what is wrong with the header of a segment's file, or "". mendable is set if its first record, or one of the bodies of
// which the places and the lengths of the metas before them are given, says what it was.
func InspectHeader(fs vfs.FS, dir string, generation uint64, known map[Place]int64) (bad string, mendable bool, err error) {
	file, err := fs.Open(filepath.Join(dir, SegmentName(generation)))
	if err != nil {
		return "", false, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, bad, mendable, err = inspectHeader(file, generation, known)
	return bad, mendable, err
}

func inspectHeader(file vfs.File, generation uint64, known map[Place]int64) (h header, bad string, mendable bool, err error) {
	r := reader{file: file}
	if r.size, err = file.Size(); err != nil {
		return h, "", false, err
	}
	if r.size < headerSize+frameSize {
		return h, "the segment is shorter than a header and a record", false, nil
	}
	h, bad, err = r.header(generation)
	if err != nil {
		bad = err.Error()
	}
	if bad == "" {
		return h, "", false, nil
	}
	b, err := r.at(0, headerUsed)
	if other, notOne := parseHeader(b); err == nil && notOne == "" {
		return other, bad, false, nil // it is another segment: nobody knows which of the two is right
	}
	places := []int64{headerSize}
	for at, meta := range known {
		if off := at.Offset - meta - frameSize; at.Generation == generation && off >= headerSize && off < r.size-frameSize {
			places = append(places, off)
		}
	}
	for _, off := range places {
		if b, err = r.at(off, frameSize); err != nil {
			continue
		}
		r.stamp = stampOf(b)
		if _, _, notRecord, err := r.frame(off); err == nil && notRecord == "" {
			return header{generation, r.stamp}, bad, true, nil
		}
	}
	return h, bad, false, nil
}

// MendHeader writes the header of a segment's file that InspectHeader calls mendable, durably. The journal must not be open.
func MendHeader(fs vfs.FS, dir string, generation uint64, known map[Place]int64) (err error) {
	file, err := fs.OpenWrite(filepath.Join(dir, SegmentName(generation)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	h, bad, mendable, err := inspectHeader(file, generation, known)
	if err != nil || !mendable {
		return errors.Join(err, fmt.Errorf("%w: %s", ErrDamaged, bad))
	}
	if _, err := file.WriteAt(h.encode(), 0); err != nil {
		return err
	}
	return file.Sync()
}

// ParseSegmentName is the opposite of SegmentName; ok is false for other files.
func ParseSegmentName(name string) (generation uint64, ok bool) {
	generation, suffix, ok := parseName(name)
	return generation, ok && suffix == segmentSuffix
}
