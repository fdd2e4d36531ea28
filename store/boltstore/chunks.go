package boltstore

import "sync"

// chunkPools keep pieces of memory that drafts have given back. A draft that goes to a file gives back all it had at once, and while every
// draft does so, fresh pieces would be made faster than the collector takes the old ones away: several times the budget. What nobody needs
// for two collections is let go of.
type chunkPools struct {
	first, other sync.Pool // of *[firstChunk]byte and *[chunkSize]byte
}

// get returns an empty piece of size octets: firstChunk or chunkSize.
func (p *chunkPools) get(size int) []byte {
	if size == firstChunk {
		if c, ok := p.first.Get().(*[firstChunk]byte); ok {
			return c[:0]
		}
	} else if c, ok := p.other.Get().(*[chunkSize]byte); ok {
		return c[:0]
	}
	return make([]byte, 0, size)
}

// put takes back what get returned. Nobody reads it any more.
func (p *chunkPools) put(chunk []byte) {
	if cap(chunk) == firstChunk {
		p.first.Put((*[firstChunk]byte)(chunk[:firstChunk]))
	} else {
		p.other.Put((*[chunkSize]byte)(chunk[:chunkSize]))
	}
}
