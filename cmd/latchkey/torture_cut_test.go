//go:build torture

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// device is a file system in an image file, which can lose its power.
type device struct {
	t           testing.TB
	dice        *rand.Rand
	dir         string // where it is mounted
	image       string
	copies      int
	mounted     bool
	whimsCounts map[string]int
}

// newDevice makes an empty ext4 file system of a size, and mounts it. It is unmounted when the test ends.
func newDevice(t testing.TB, dice *rand.Rand, size string, options ...string) *device {
	t.Helper()
	return newDeviceIn(t, t.TempDir(), dice, size, options...)
}

// newDeviceIn is newDevice with the image in a certain place.
func newDeviceIn(t testing.TB, work string, dice *rand.Rand, size string, options ...string) *device {
	t.Helper()
	d := &device{t: t, dice: dice, dir: filepath.Join(work, "mnt"), image: filepath.Join(work, "0.img"), whimsCounts: map[string]int{}}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	command(t, "truncate", "-s", size, d.image)
	// Nothing is written in the background that the server has not asked for.
	command(t, append(append([]string{"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"}, options...), d.image)...)
	d.mount()
	t.Cleanup(func() {
		if d.mounted && tryCommand("umount", d.dir) != nil {
			if err := tryCommand("umount", "-l", d.dir); err != nil {
				t.Error(err)
			}
		}
	})
	return d
}

// mount mounts the image. The file system's own commits come five minutes apart, so that it is the server's syncs that count.
func (d *device) mount() {
	d.t.Helper()
	command(d.t, "mount", "-o", "loop,noatime,commit=300", d.image, d.dir)
	d.mounted = true
}

func (d *device) unmount() {
	d.t.Helper()
	command(d.t, "umount", d.dir)
	d.mounted = false
}

// freeze stops the process in its tracks and waits until no thread of it is in a system call any more. One who traces it is stopped too:
// it would let threads go on that it holds up.
func (v *victim) freeze() {
	v.t.Helper()
	if err := v.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		v.t.Fatalf("the server had ended by itself: %v\n%s", err, v.log.tail())
	}
	awaitFrozen(v.t, v.cmd.Process.Pid)
	if v.tracer == nil || v.tracer.over() {
		return
	}
	v.tracer.signal(syscall.SIGSTOP)
	awaitFrozen(v.t, v.tracer.cmd.Process.Pid)
	awaitFrozen(v.t, v.cmd.Process.Pid) // without those that were let go meanwhile
}

func awaitFrozen(t testing.TB, pid int) {
	t.Helper()
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !frozen(t, pid); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("the process does not stop")
		}
	}
}

// frozen reports whether all threads of a process are stopped. A process that is gone is, too.
func frozen(t testing.TB, pid int) bool {
	t.Helper()
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread is gone
		}
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := bytes.Cut(stat, []byte(") "))
		if len(after) == 0 || !bytes.ContainsAny(after[:1], "TtZX") {
			return false
		}
	}
	return true
}

// cut cuts the power of the device under a process that is frozen: what the process wrote and did not sync is gone, or is not, as it
// pleases the kernel. The process is killed, and the device mounted again.
func (d *device) cut(v *victim) {
	d.t.Helper()
	d.whims(v.dir)
	d.copies++
	next := filepath.Join(filepath.Dir(d.dir), fmt.Sprintf("%d.img", d.copies))
	command(d.t, "cp", "--sparse=always", d.image, next)
	v.kill()
	d.unmount()
	if err := os.Remove(d.image); err != nil {
		d.t.Fatal(err)
	}
	d.image = next
	d.mount()
}

// whims writes what a kernel may write by itself before the power goes: nothing; pieces of files, in no order, and without what the file
// system knows of them; what the file system knows, without the pieces; or everything.
func (d *device) whims(dir string) {
	d.t.Helper()
	whim := "nothing"
	switch n := d.dice.IntN(20); {
	case n < 7:
		whim = "pieces"
		d.writePieces(dir)
	case n < 11:
		whim = "names"
		d.writeNames()
	case n < 13:
		whim = "pieces and names"
		d.writePieces(dir)
		d.writeNames()
	case n < 14:
		whim = "everything"
		command(d.t, "sync", "-f", d.dir)
	}
	d.whimsCounts[whim]++
}

// Of sync_file_range(2).
const (
	syncWaitBefore = 1
	syncWrite      = 2
	syncWaitAfter  = 4
)

// writePieces lets pages of some files reach the device.
func (d *device) writePieces(dir string) {
	d.t.Helper()
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || d.dice.IntN(2) == 0 {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		for range 1 + d.dice.IntN(4) {
			const page = 4096
			from := d.dice.Int64N(info.Size()/page+1) * page
			n := (1 + d.dice.Int64N(16)) * page
			if d.dice.IntN(4) == 0 {
				n = 0 // to the end
			}
			err = errors.Join(err, syscall.SyncFileRange(int(f.Fd()), from, n, syncWaitBefore|syncWrite|syncWaitAfter))
		}
		return errors.Join(err, f.Close())
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// writeNames commits the file system's journal: names, lengths, and where the octets are.
func (d *device) writeNames() {
	d.t.Helper()
	f, err := os.Create(filepath.Join(d.dir, "scratch"))
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// Of the load of one round.
const (
	roundSenders = 6
	roundOwners  = 3
	// roundLeast are the messages that are acknowledged before the end of a round may come; it comes within roundTime after them.
	roundLeast = 10
	roundTime  = 500 * time.Millisecond
)

// cutTorture is a server on a device that loses its power again and again.
type cutTorture struct {
	*victim
	l *ledger
	b *outbox
	d *device
	// cuts counts the ways in which the power was cut.
	cuts map[string]int
}

// TestTorturePowerCut cuts the power under a server that takes mail in, gives it out and sends it on: the image that the data directory is
// on is copied while the server is stopped, so the copy has what had reached the device, and what the kernel felt like. The server starts on
// the copy, sometimes is cut again while it recovers, and the copy is the device of the next round.
func TestTorturePowerCut(t *testing.T) {
	needRoot(t, "strace", "mkfs.ext4", "mount", "umount", "cp", "sync", "truncate")
	seed := newSeed(t)
	d := newDevice(t, rand.New(rand.NewPCG(seed, 1<<32)), "384M")
	v, l := newVictim(t, filepath.Join(d.dir, "data")), newLedger(append(mailboxes(), tenantName)...)
	v.populate("anna", "carl", submitter, tenantName)
	v.tenant = &tenant{v: v, l: l, home: true}
	c := &cutTorture{victim: v, l: l, b: newOutbox(v, l), d: d, cuts: map[string]int{}}
	v.start()
	began := time.Now()
	for round := range rounds(200, 6) {
		v.where = fmt.Sprintf("round %d", round)
		dice := rand.New(rand.NewPCG(seed, uint64(round)))
		f := &traffic{v: v, l: l, name: fmt.Sprintf("c%d", round), seed: dice.Uint64()}
		f.begin(roundSenders, roundOwners)
		c.b.begin(f, dice)
		if dice.IntN(4) == 0 {
			v.tenant.begin(f)
		}
		c.round(f, dice)
		for dice.IntN(3) == 0 {
			c.cuts["during recovery"]++
			v.begin()
			pause(dice, v.startup)
			v.freeze()
			c.cut()
		}
		if dice.IntN(4) == 0 {
			v.sound() // before anybody serves it
		}
		v.start()
		c.look()
		v.sound()
		v.healthy()
		if v.told(l) {
			return
		}
		if round == 0 || round%50 == 49 {
			t.Logf("round %d, %s: %d messages acknowledged, %d there", round, time.Since(began).Round(time.Second), l.acked.Load(), l.size())
		}
		c.b.tidy(t)
		v.tenant.moveIn(t)
	}
	v.where = "at the end"
	c.b.finish(t)
	v.told(l)
	t.Logf("%d messages acknowledged; cuts: %v; what the kernel wrote: %v", l.acked.Load(), c.cuts, d.whimsCounts)
	v.stop()
	v.sound()
}

// look compares what is there with what is certain.
func (c *cutTorture) look() {
	c.t.Helper()
	c.tenant.settle(c.t)
	c.judge(c.l)
	c.b.reconcile(c.t)
}

func (c *cutTorture) cut() {
	c.t.Helper()
	c.d.cut(c.victim)
	c.b.killed()
}

// round lets mail flow and cuts the power, in one of several ways.
func (c *cutTorture) round(f *traffic, dice *rand.Rand) {
	c.t.Helper()
	release := func() {}
	switch n := dice.IntN(20); {
	case n < 4:
		// On a slow device more is under way: what is answered or shown before its sync is bound to be met.
		c.cuts["on a slow device"]++
		release = c.trace("fdatasync,fsync", "delay_enter=80ms").detach
		f.lurk(2)
		if !c.tenant.touched {
			c.tenant.begin(f)
		}
		c.l.await(c.t, c.l.after(roundLeast))
		pause(dice, roundTime)
	case n < 8:
		c.cuts["after a kill and a look"]++
		f.run(c.t, dice)
		c.healthy()
		c.kill()
		f.wait()
		c.b.killed()
		// A kill leaves what everybody can read and a power cut would still undo: who has seen it must see it again.
		c.start()
		c.look()
	case n < 11:
		f.run(c.t, dice)
		tr := c.trap(dice, "SIGSTOP")
		release = tr.detach
		if awaitTrap(func() bool { return frozen(c.t, c.cmd.Process.Pid) }) {
			c.cuts["at a system call"]++
		}
	default:
		c.cuts["at any moment"]++
		f.run(c.t, dice)
		c.healthy()
	}
	c.freeze()
	c.d.cut(c.victim)
	release()
	f.wait()
	c.b.killed()
}
