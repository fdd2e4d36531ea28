//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"latchkey/store/boltstore"
)

// Of part f.
const (
	diskMessages = 400_000
	diskConns    = 64
	storedTitle  = "disk, an octet of mail of 4 KiB"
	writtenTitle = "written to the device, an octet of mail"
	ownTitle     = "written by the process, an octet of mail"
	leftTitle    = "disk after all was deleted, beside spares and trail"
	spareTitle   = "spare segments then"
	trailTitle   = "trail then"
	// journal is the folder of the segments; the names of spare ones end in spareSuffix. Buckets of the trail begin with trail.
	journal     = "journal"
	spareSuffix = ".spare"
	trail       = "trail"
)

// measureDisk is part f: what mail takes on the disk, what writing it costs, and what is left behind it.
func (r *run) measureDisk(ctx context.Context) (err error) {
	ours, err := newLatchkey(ctx, r.root, "disk", r.binary, mailboxNames("user", users))
	if err != nil {
		return err
	}
	ours.level = "warn" // the log lies on the same device
	if _, err := ours.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.stop()) }()
	if _, err := quiet(ctx, ours.cpu); err != nil {
		return err
	}
	syscall.Sync()
	count, l := r.scaled(diskMessages, diskConns), newLetters()
	device, own, err := written(ours)
	if err != nil {
		return err
	}
	load := burst{addr: ours.mx, conns: diskConns, count: count, size: smallLetter, letters: l, rcpt: func(seq int) string { return fmt.Sprintf("user%d", seq%users) }}
	if _, _, err := load.send(ctx); err != nil {
		return err
	}
	if _, err := quiet(ctx, ours.cpu); err != nil {
		return err
	}
	syscall.Sync()
	deviceThen, ownThen, err := written(ours)
	if err != nil {
		return err
	}
	mail, err := listed(ours, count)
	if err != nil {
		return err
	}
	use, err := diskUse(ours.dir)
	if err != nil {
		return err
	}
	showUse("with all mail", use)
	r.diskFigure(storedTitle, "", float64(use[""])/float64(mail), atMost(1.10))
	r.diskFigure(writtenTitle, "", float64(deviceThen-device)/float64(mail), atMost(1.3))
	r.diskFigure(ownTitle, "", float64(ownThen-own)/float64(mail), bound{})
	seen := newLedger(0, count)
	d := drainer{addr: ours.pop, names: mailboxNames("user", users), sessions: drainConns, window: drainWindow, letters: l, seen: seen.see}
	if err := d.drain(ctx); err != nil {
		return err
	}
	if err := seen.whole(); err != nil {
		return err
	}
	if _, err := listed(ours, 0); err != nil {
		return err
	}
	return r.diskLeft(ctx, ours)
}

// diskFigure keeps a figure that is judged by itself.
func (r *run) diskFigure(title, unit string, v float64, want bound) {
	r.figure(title, us, v, unit)
	r.sheet.want(row{part: 'f', measure: title, unit: unit, want: want.alone()})
}

// written is what went to the device so far, and what the process had written.
func written(l *latchkey) (device, own int64, err error) {
	device, err1 := deviceWritten(l.dir)
	own, err2 := procNumber(l.pid(), "io", "write_bytes")
	return device, own, errors.Join(err1, err2)
}

// listed is how many octets of mail POP3 lists in all mailboxes.
func listed(l *latchkey, want int) (octets int64, err error) {
	messages := 0
	for _, name := range mailboxNames("user", users) {
		w, _, count, size, err := visit(l.pop, name, nil, 512)
		if err != nil {
			return 0, err
		}
		if err := w.quit(); err != nil {
			return 0, err
		}
		messages, octets = messages+count, octets+size
	}
	if messages != want {
		return 0, fmt.Errorf("%d messages are listed, want %d", messages, want)
	}
	return octets, nil
}

// diskLeft waits until the directory does not shrink any more, and shows what is left.
func (r *run) diskLeft(ctx context.Context, ours *latchkey) error {
	const patience = 15 * time.Second // without any change
	use, err := diskUse(ours.dir)
	for least, begin := use[""], time.Now(); err == nil && time.Since(begin) < patience; {
		if err = pause(ctx, 100*time.Millisecond); err != nil {
			break
		}
		if use, err = diskUse(ours.dir); err == nil && use[""] < least {
			least, begin = use[""], time.Now()
		}
	}
	if err != nil {
		return err
	}
	showUse("after all was deleted", use)
	spares, kept := int64(0), int64(0)
	for name, octets := range use {
		if filepath.Dir(name) == journal && strings.HasSuffix(name, spareSuffix) {
			spares += octets
		}
	}
	if err := ours.stop(); err != nil {
		return err
	}
	buckets, err := boltstore.IndexUse(ours.dir)
	if err != nil {
		return err
	}
	for name, octets := range buckets {
		if strings.HasPrefix(name, trail) {
			kept += octets
		}
	}
	r.diskFigure(leftTitle, "MB", float64(use[""]-spares-kept)/1e6, atMost(5))
	r.diskFigure(spareTitle, "MB", float64(spares)/1e6, bound{})
	r.diskFigure(trailTitle, "MB", float64(kept)/1e6, bound{})
	return nil
}

// showUse prints what takes the most.
func showUse(when string, use map[string]int64) {
	const most = 12
	names := make([]string, 0, len(use))
	for name := range use {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool {
		return use[names[i]] > use[names[j]] || use[names[i]] == use[names[j]] && names[i] < names[j]
	})
	fmt.Printf("  disk %s:\n", when)
	for _, name := range names[:min(len(names), most)] {
		fmt.Printf("    %10.2f MB  %s\n", float64(use[name])/1e6, filepath.Join(".", name))
	}
}
