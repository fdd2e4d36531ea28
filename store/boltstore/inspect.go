package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"

	"latchkey/internal/vfs"
	"latchkey/store"
)

// Of bbolt's file format, which is that of the machine's byte order.
const (
	pageHeaderSize = 16
	elementSize    = 16
	metaSize       = 64
	metaMagic      = 0xED0CDAED
	metaVersion    = 2
	branchPage     = 0x01
	leafPage       = 0x02
	bucketFlag     = 0x01 // of a leaf's element
	bucketSize     = 16   // root page, sequence
	maxPageProblem = 100  // no more are reported of one file
	maxTreeDepth   = 32
)

// errTooMany ends an inspection that has seen enough.
var errTooMany = errors.New("boltstore: too many problems")

// pages inspects an index file without bbolt, which may end the process when it meets a page that contradicts itself.
type pages struct {
	f        io.ReaderAt
	size     int64 // of a page
	high     uint64
	seen     []byte // a bit for each page
	problems []store.Problem
	roots    []uint64 // of the buckets in pages of their own
}

// inspectIndex reads every page of an index that nobody has open, and reports those that cannot be as they are.
func inspectIndex(fsys vfs.FS, path string) (problems []store.Problem, err error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	return inspectPages(f, size), nil
}

// inspectPages is inspectIndex on what the file holds.
func inspectPages(f io.ReaderAt, size int64) []store.Problem {
	p := pages{f: f}
	root, ok := p.meta(size)
	if !ok {
		return p.problems
	}
	p.seen = make([]byte, p.high/8+1)
	err := p.tree(root, nil, nil, 0, true)
	for _, page := range p.roots {
		if err == nil {
			err = p.tree(page, nil, nil, 0, false)
		}
	}
	return p.problems // err is only that these are enough
}

func (p *pages) found(page uint64, format string, args ...any) error {
	p.problems = append(p.problems, store.Problem{
		Kind: store.ProblemIndex, Object: fmt.Sprintf("%s page %d", indexName, page), Detail: fmt.Sprintf(format, args...),
	})
	if len(p.problems) >= maxPageProblem {
		return errTooMany
	}
	return nil
}

// meta finds the newer of the two meta pages that is whole.
func (p *pages) meta(size int64) (root uint64, ok bool) {
	newest := uint64(0)
	for _, pageSize := range []int64{int64(os.Getpagesize()), 4 << 10, 8 << 10, 16 << 10, 64 << 10} {
		for i := range int64(2) {
			b := make([]byte, pageHeaderSize+metaSize)
			if _, err := p.f.ReadAt(b, i*pageSize); err != nil {
				continue
			}
			m := b[pageHeaderSize:]
			sum := fnv.New64a()
			_, _ = sum.Write(m[:metaSize-8]) // never fails
			if binary.NativeEndian.Uint32(m) != metaMagic || binary.NativeEndian.Uint32(m[4:]) != metaVersion ||
				int64(binary.NativeEndian.Uint32(m[8:])) != pageSize || sum.Sum64() != binary.NativeEndian.Uint64(m[56:]) {
				continue
			}
			if txid := binary.NativeEndian.Uint64(m[48:]); !ok || txid > newest {
				newest, ok = txid, true
				root, p.high, p.size = binary.NativeEndian.Uint64(m[16:]), binary.NativeEndian.Uint64(m[40:]), pageSize
			}
		}
	}
	switch {
	case !ok:
		_ = p.found(0, "neither of the two pages that say what the file is can be read")
	case int64(p.high) < 0 || int64(p.high)*p.size > size:
		_ = p.found(0, "the file has %d octets, and should have %d pages of %d: it was cut short", size, p.high, p.size)
		ok = false
	}
	return root, ok
}

// tree goes through a page and those below it. Keys are not below from and, if to is not nil, below it.
func (p *pages) tree(id uint64, from, to []byte, depth int, top bool) error {
	b, flags, count, bad := p.page(id)
	if bad == "" && depth > maxTreeDepth {
		bad = "the tree is too deep"
	}
	if bad != "" {
		return p.found(id, "%s", bad)
	}
	last := from
	for i := range count {
		e, bad := p.element(b, flags, count, i)
		switch {
		case bad != "":
		case i > 0 && bytes.Compare(e.key, last) <= 0, i == 0 && flags == leafPage && bytes.Compare(e.key, from) < 0, to != nil && bytes.Compare(e.key, to) >= 0:
			bad = fmt.Sprintf("key %d is not in order", i)
		}
		if bad != "" {
			return p.found(id, "%s", bad)
		}
		last = e.key
		if flags == leafPage {
			if err := p.leaf(id, &e, top); err != nil {
				return err
			}
			continue
		}
		end := to
		if i+1 < count {
			next, bad := p.element(b, flags, count, i+1)
			if bad != "" {
				return p.found(id, "%s", bad)
			}
			end = next.key
		}
		if err := p.tree(e.page, e.key, end, depth+1, top); err != nil {
			return err
		}
	}
	return nil
}

// leaf looks at an entry: only the topmost tree holds buckets, and holds nothing else.
func (p *pages) leaf(id uint64, e *pageElement, top bool) error {
	switch {
	case (e.flags == bucketFlag) != top:
		return p.found(id, "it holds what it should not")
	case !top:
		return nil
	case len(e.value) < bucketSize:
		return p.found(id, "the bucket %q is cut short", e.key)
	}
	if root := binary.NativeEndian.Uint64(e.value); root != 0 {
		p.roots = append(p.roots, root)
		return nil
	}
	inline := e.value[bucketSize:]
	if len(inline) < pageHeaderSize {
		return p.found(id, "the bucket %q is cut short", e.key)
	}
	count := int(binary.NativeEndian.Uint16(inline[10:]))
	for i := range count {
		if _, bad := p.element(inline, leafPage, count, i); bad != "" {
			return p.found(id, "the bucket %q: %s", e.key, bad)
		}
	}
	return nil
}

// page reads a page with those that it goes over into.
func (p *pages) page(id uint64) (b []byte, flags uint16, count int, bad string) {
	if id < 2 || id >= p.high {
		return nil, 0, 0, "there is no such page"
	}
	if p.seen[id/8]&(1<<(id%8)) != 0 {
		return nil, 0, 0, "it is used twice"
	}
	p.seen[id/8] |= 1 << (id % 8)
	b = make([]byte, p.size)
	if _, err := p.f.ReadAt(b, int64(id)*p.size); err != nil {
		return nil, 0, 0, fmt.Sprintf("it cannot be read: %v", err)
	}
	flags, count = binary.NativeEndian.Uint16(b[8:]), int(binary.NativeEndian.Uint16(b[10:]))
	overflow := binary.NativeEndian.Uint32(b[12:])
	switch {
	case binary.NativeEndian.Uint64(b) != id:
		return nil, 0, 0, fmt.Sprintf("it says that it is page %d", binary.NativeEndian.Uint64(b))
	case flags != branchPage && flags != leafPage, flags == branchPage && count == 0:
		return nil, 0, 0, "it is no page of a tree"
	case id+uint64(overflow) >= p.high:
		return nil, 0, 0, "it is longer than the file"
	}
	if overflow > 0 {
		b = make([]byte, (1+int64(overflow))*p.size)
		if _, err := p.f.ReadAt(b, int64(id)*p.size); err != nil {
			return nil, 0, 0, fmt.Sprintf("it cannot be read: %v", err)
		}
	}
	return b, flags, count, ""
}

// pageElement is one entry of a page: page is of a branch, flags and value are of a leaf.
type pageElement struct {
	flags      uint32
	key, value []byte
	page       uint64
}

func (p *pages) element(b []byte, flags uint16, count, i int) (e pageElement, bad string) {
	at := pageHeaderSize + i*elementSize
	bad = fmt.Sprintf("entry %d is not within it", i)
	if pageHeaderSize+count*elementSize > len(b) {
		return e, bad
	}
	var pos, keySize, valueSize uint32
	h := b[at:]
	if flags == branchPage {
		pos, keySize, e.page = binary.NativeEndian.Uint32(h), binary.NativeEndian.Uint32(h[4:]), binary.NativeEndian.Uint64(h[8:])
	} else {
		e.flags, pos = binary.NativeEndian.Uint32(h), binary.NativeEndian.Uint32(h[4:])
		keySize, valueSize = binary.NativeEndian.Uint32(h[8:]), binary.NativeEndian.Uint32(h[12:])
	}
	begin := uint64(at) + uint64(pos)
	middle, end := begin+uint64(keySize), begin+uint64(keySize)+uint64(valueSize)
	if end > uint64(len(b)) || begin < uint64(pageHeaderSize+count*elementSize) {
		return e, bad
	}
	e.key, e.value = b[begin:middle], b[middle:end]
	return e, ""
}
