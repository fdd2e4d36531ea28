//go:build torture

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// neighbour is somebody else who uses up a device, and gives it back.
type neighbour struct {
	t   testing.TB
	dir string
	// inodes is set if names are what is used up, not octets.
	inodes bool
}

// fill takes everything that is left.
func (n *neighbour) fill() {
	n.t.Helper()
	if err := os.MkdirAll(n.dir, 0o700); err != nil && !errors.Is(err, syscall.ENOSPC) {
		n.t.Fatal(err)
	}
	var err error
	if n.inodes {
		for i := 0; err == nil; i++ {
			var f *os.File
			if f, err = os.Create(filepath.Join(n.dir, fmt.Sprint(i))); err == nil {
				err = f.Close()
			}
		}
	} else {
		err = n.fillOctets()
	}
	if !errors.Is(err, syscall.ENOSPC) {
		n.t.Fatal(err)
	}
}

func (n *neighbour) fillOctets() error {
	f, err := os.Create(filepath.Join(n.dir, "ballast"))
	if err != nil {
		return err
	}
	for piece := make([]byte, 1<<20); len(piece) > 0 && err == nil; {
		if _, err = f.Write(piece); errors.Is(err, syscall.ENOSPC) && len(piece) > 1024 {
			piece, err = piece[:len(piece)/4], nil
		}
	}
	// What is only in memory yet has no room for certain.
	return errors.Join(err, f.Sync(), f.Close())
}

func (n *neighbour) free() {
	n.t.Helper()
	if err := os.RemoveAll(n.dir); err != nil {
		n.t.Fatal(err)
	}
}

// TestTortureFullDisk has a neighbour fill the device, and empty it, while mail flows. Senders are put off with 452 4.3.1, owners read and
// delete all the time, a process that is killed starts on the full device, and mail is taken again without a start when there is room.
func TestTortureFullDisk(t *testing.T) {
	needRoot(t, "mkfs.ext4", "mount", "umount", "truncate")
	for _, tt := range []struct {
		name   string
		inodes bool
		mount  func(t *testing.T, dice *rand.Rand) string
	}{
		{"tmpfs", false, func(t *testing.T, _ *rand.Rand) string { return mountTmpfs(t, "32m") }},
		{"ext4", false, func(t *testing.T, dice *rand.Rand) string { return newDevice(t, dice, "48M", "-m", "0").dir }},
		{"inodes", true, func(t *testing.T, dice *rand.Rand) string {
			return newDevice(t, dice, "96M", "-m", "0", "-N", "64").dir
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dice := rand.New(rand.NewPCG(newSeed(t), 1<<32))
			dir := tt.mount(t, dice)
			v, l := newVictim(t, filepath.Join(dir, "data")), newLedger(mailboxes()...)
			v.populate("anna", "carl")
			v.start()
			for turn := range rounds(6, 2) {
				v.where = fmt.Sprintf("turn %d", turn)
				v.fillAndFree(l, dice, &neighbour{t: t, dir: filepath.Join(dir, "neighbour"), inodes: tt.inodes}, turn)
				if v.told(l) {
					return
				}
			}
			v.stop()
			v.sound()
		})
		if t.Failed() {
			return
		}
	}
}

// mountTmpfs mounts a file system in memory that holds so much. It is unmounted when the test ends.
func mountTmpfs(t testing.TB, size string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	command(t, "mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir)
	t.Cleanup(func() {
		if tryCommand("umount", dir) != nil {
			if err := tryCommand("umount", "-l", dir); err != nil {
				t.Error(err)
			}
		}
	})
	return dir
}

// fullTraffic is mail on a device that is full at times.
func (v *victim) fullTraffic(l *ledger, name string, seed uint64) *traffic {
	f := &traffic{v: v, l: l, name: name, seed: seed, excused: func(refusal string) bool {
		return strings.Contains(refusal, ` got "452 4.3.1 `)
	}}
	f.begin(4, 2)
	return f
}

// fillAndFree is one turn.
func (v *victim) fillAndFree(l *ledger, dice *rand.Rand, n *neighbour, turn int) {
	v.t.Helper()
	f := v.fullTraffic(l, fmt.Sprintf("t%d", turn), dice.Uint64())
	l.await(v.t, l.after(20))
	n.fill()
	eventually(v.t, "a refusal on the full device", func() bool { return f.refused.Load() >= 3 || v.gone() || l.troubled() })
	deletes := f.deleted.Load()
	eventually(v.t, "deletes on the full device", func() bool { return f.deleted.Load() >= deletes+3 || v.gone() || l.troubled() })
	if v.gone() || l.troubled() {
		f.stop()
		if v.gone() {
			v.healthy()
		}
		return
	}
	if turn%2 == 1 {
		v.kill()
		f.wait()
		v.start()
		v.judge(l)
		if err := v.removeFrom(l, "bert", func(i int) bool { return i%4 == 0 }); err != nil {
			v.t.Errorf("deleting after a start on the full device: %v", err)
		}
		f = v.fullTraffic(l, fmt.Sprintf("t%d-again", turn), dice.Uint64())
		<-time.After(300 * time.Millisecond)
	}
	n.free()
	began := time.Now()
	taken := l.after(20)
	select {
	case <-taken:
		v.t.Logf("turn %d: %d messages refused, %d QUITs with deletes; 20 messages taken %s after there was room",
			turn, f.refused.Load(), f.deleted.Load(), time.Since(began).Round(time.Millisecond))
	case <-time.After(patience):
		v.t.Errorf("nothing is accepted although there is room\n%s", v.log.tail())
	}
	f.stop()
	v.judge(l)
	v.sound()
}

// TestTortureDyingDevice takes the ground away from under a file system: its image cannot grow, so the kernel's own writes fail, and soon
// the file system goes read-only. Nothing is acknowledged that is not there when the device is well again.
func TestTortureDyingDevice(t *testing.T) {
	needRoot(t, "mkfs.ext4", "mount", "umount", "truncate")
	seed := newSeed(t)
	for round := range rounds(5, 1) {
		dice := rand.New(rand.NewPCG(seed, uint64(round)))
		if dieAndRecover(t, dice, fmt.Sprintf("round %d", round)); t.Failed() {
			return
		}
	}
}

// wholePages makes every request to the device one page of its image. The loop driver takes a write of which only a part found room for a
// good one, and no software can live on a device that lies: a page finds room or does not.
func (d *device) wholePages() {
	d.t.Helper()
	var mounted syscall.Stat_t
	if err := syscall.Stat(d.dir, &mounted); err != nil {
		d.t.Fatal(err)
	}
	limit := fmt.Sprintf("/sys/dev/block/%d:%d/queue/max_sectors_kb", mounted.Dev>>8&0xfff, mounted.Dev&0xff|mounted.Dev>>12&0xfff00)
	if err := os.WriteFile(limit, []byte("4"), 0); err != nil {
		d.t.Fatal(err)
	}
}

// dieAndRecover is one life of such a device.
func dieAndRecover(t *testing.T, dice *rand.Rand, where string) {
	t.Helper()
	ground := mountTmpfs(t, "1g")
	d := newDeviceIn(t, ground, dice, "256M", "-m", "0", "-b", "4096")
	d.wholePages()
	v, l := newVictim(t, filepath.Join(d.dir, "data")), newLedger(mailboxes()...)
	v.where = where
	v.populate("anna", "carl")
	v.start()
	f := &traffic{v: v, l: l, name: "dying", seed: dice.Uint64(), excused: func(refusal string) bool {
		return strings.Contains(refusal, ` got "4`) || strings.Contains(refusal, ` got "-ERR [SYS/`)
	}}
	l.uncertain.Store(true)
	f.begin(4, 2)
	l.await(t, l.after(20))
	var image syscall.Stat_t
	if err := syscall.Stat(d.image, &image); err != nil {
		t.Fatal(err)
	}
	command(t, "mount", "-o", fmt.Sprintf("remount,size=%dk", image.Blocks/2+1024+dice.Int64N(4096)), ground)
	eventually(t, "a refusal on the dying device", func() bool { return f.refused.Load() > 0 || v.gone() })
	f.stop()
	if v.gone() {
		t.Logf("the process has died, which the supervisor sees to\n%s", v.log.tail())
	} else {
		l.uncertain.Store(false)
		v.wantPoisoned(l, "dying")
	}
	t.Logf("%d messages acknowledged, %d refused, %d QUITs refused", l.acked.Load(), f.refused.Load(), f.kept.Load())
	v.kill()
	d.unmount()
	command(t, "mount", "-o", "remount,size=1g", ground)
	d.mount()
	v.start()
	v.judge(l)
	v.sound()
	v.stop()
	v.told(l)
}
