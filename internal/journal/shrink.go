package journal

import (
	"fmt"
	"path/filepath"
)

// Shrink makes the journal small after a burst: the next record begins a segment of the least size, segments that were prepared and spares
// that are larger go, and so do more than RestSpares. The caller's next group has to hold a record, or nothing comes of it. It belongs to the
// goroutine of Append, between groups. After an error the journal is as before, or (a failed sync) must not be written again.
func (j *Journal) Shrink() error {
	if err := j.usable(); err != nil {
		return err
	}
	if j.next != nil {
		<-j.next.done
		if err := j.harvest(); err != nil {
			return err
		}
	}
	j.mu.Lock()
	j.target = j.minSegment
	var kept []spare
	for _, s := range j.spares {
		if s.size <= j.minSegment && len(kept) < RestSpares {
			kept = append(kept, s)
			continue
		}
		j.freed = append(j.freed, freedFile{&segment{name: s.name}, true})
	}
	j.spares = kept
	if len(j.freed) > 0 {
		j.startWork()
	}
	j.mu.Unlock()
	if err := j.dropPrepared(); err != nil {
		return err
	}
	j.small = len(j.chain) > 0 && j.chain[0].size > j.minSegment && j.end > headerSize
	return nil
}

// dropPrepared removes the large segments at the end of the chain that have never been written. Their generations are given again.
func (j *Journal) dropPrepared() error {
	for n := len(j.chain) - 1; n > 0 && j.chain[n].size > j.minSegment; n-- {
		s := j.chain[n]
		if err := j.fs.Remove(filepath.Join(j.dir, s.name)); err != nil {
			return fmt.Errorf("journal: removing a segment: %w", err)
		}
		j.mu.Lock()
		j.chain = j.chain[:n]
		file := s.takeFile()
		j.mu.Unlock()
		if err := file.Close(); err != nil {
			return fmt.Errorf("journal: closing a segment: %w", err)
		}
		// Before the one before it goes, which would be missed, and before another file gets the same generation.
		if err := j.syncDir(); err != nil {
			return j.poison(err)
		}
	}
	return nil
}
