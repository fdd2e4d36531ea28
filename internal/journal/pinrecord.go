package journal

// Record reads the record again whose body lies at a place and whose meta has metaLen octets. It is checked but for the body's blocks. A
// record that cannot be read is a [Damage].
func (p *Pin) Record(at Place, metaLen int64) (Record, error) {
	mark := Mark{Generation: at.Generation, Offset: at.Offset - metaLen - frameSize}
	if metaLen < 0 || at.Size < 0 || metaLen+at.Size > MaxGroup || mark.Offset < headerSize {
		return Record{}, Damage{mark, "no record can begin here"}
	}
	head := make([]byte, frameSize+metaLen+SumsSize(at.Size))
	if _, err := p.ReadAt(head, mark.Offset); err != nil {
		return Record{}, err
	}
	stamp, bad, err := p.stamp()
	if err != nil {
		return Record{}, err
	}
	var f frame
	if bad == "" {
		f, bad = parseFrame(head, stamp)
	}
	switch {
	case bad != "":
	case int64(f.meta) != metaLen || int64(f.body) != at.Size:
		bad = "the record has other lengths"
	case !f.checkHead(head):
		bad = "the checksum of the record's frame does not hold"
	}
	if bad != "" {
		return Record{}, Damage{mark, bad}
	}
	end := Mark{Generation: at.Generation, Offset: mark.Offset + f.size(), Group: f.group, Seq: f.seq}
	return Record{Kind: f.kind, Seq: f.seq, Meta: head[frameSize : frameSize+metaLen], Body: at, End: end}, nil
}

// stamp returns the stamp of the segment's records. Of a segment from before the process it is in the file only.
func (p *Pin) stamp() (stamp uint64, bad string, err error) {
	if p.s.stamp != 0 {
		return p.s.stamp, "", nil
	}
	b := make([]byte, headerUsed)
	if _, err := p.ReadAt(b, 0); err != nil {
		return 0, "", err
	}
	h, bad := parseHeader(b)
	if bad == "" && h.generation != p.s.gen {
		bad = "the header is that of another segment"
	}
	return h.stamp, bad, nil
}

// Clone returns another pin of the same segment, which is released by itself. It works for a segment that is freed already.
func (p *Pin) Clone() *Pin {
	p.j.mu.Lock()
	defer p.j.mu.Unlock()
	p.s.pins++
	return &Pin{p.j, p.s}
}
