//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ticks is the unit of CPU times in /proc, in a second (USER_HZ, the same on every architecture that Go has).
const ticks = 100

// sectorSize is the unit of /sys/dev/block/*/stat in octets, whatever the device's own is.
const sectorSize = 512

// machine describes the machine in one line.
func machine() string {
	model, memory, kernel := "", "", ""
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(info), "model name")
		model, _, _ = strings.Cut(strings.TrimLeft(rest, "\t :"), "\n")
	}
	if info, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib int64
		if _, err := fmt.Sscanf(string(info), "MemTotal: %d kB", &kib); err == nil {
			memory = fmt.Sprintf("%d GiB", (kib+1<<19)>>20)
		}
	}
	if info, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = strings.TrimSpace(string(info))
	}
	return fmt.Sprintf("%d cores, %s, %s, Linux %s, %s", runtime.NumCPU(), model, memory, kernel, runtime.Version())
}

// busy is how much of all processors is in use by anybody, 0 to 1, over a second.
func busy() (float64, error) {
	sample := func() (used, all float64, err error) {
		b, err := os.ReadFile("/proc/stat")
		if err != nil {
			return 0, 0, err
		}
		line, _, _ := strings.Cut(string(b), "\n")
		for i, field := range strings.Fields(line)[1:] {
			n, err := strconv.ParseFloat(field, 64)
			if err != nil {
				return 0, 0, err
			}
			all += n
			if i != 3 && i != 4 { // idle, and waiting for a device
				used += n
			}
		}
		return used, all, nil
	}
	used0, all0, err := sample()
	if err != nil {
		return 0, err
	}
	time.Sleep(time.Second)
	used1, all1, err := sample()
	if err != nil || all1 == all0 {
		return 0, err
	}
	return (used1 - used0) / (all1 - all0), nil
}

// checkDisk refuses a directory that is in memory, where nothing is durable, and one without so many octets to spare.
func checkDisk(dir string, need int64) error {
	const tmpfs, ramfs = 0x01021994, 0x858458f6
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return err
	}
	if st.Type == tmpfs || st.Type == ramfs {
		return fmt.Errorf("%s is in memory, where nothing is durable: set TMPDIR to a place on a disk", dir)
	}
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return fmt.Errorf("%s has %d MB free, %d are needed", dir, free/1e6, need/1e6)
	}
	return nil
}

// deviceWritten is how many octets were written so far to the device that holds a directory, by anybody.
func deviceWritten(dir string) (int64, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, errors.New("no device number")
	}
	major, minor := st.Dev>>8&0xfff, st.Dev&0xff|st.Dev>>12&0xfff00
	b, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", major, minor))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 7 {
		return 0, fmt.Errorf("block device statistics: %q", b)
	}
	sectors, err := strconv.ParseInt(fields[6], 10, 64)
	return sectors * sectorSize, err
}

// diskUse is what a directory takes on the disk in octets, as du counts, for each path of its first two levels, and "" for all of it.
// Files that go away meanwhile count nothing.
func diskUse(dir string) (map[string]int64, error) {
	use := make(map[string]int64)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return errors.New("no blocks")
		}
		octets := st.Blocks * 512
		use[""] += octets
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		parts := strings.Split(rel, string(filepath.Separator))
		use[parts[0]] += octets
		if len(parts) > 1 {
			use[filepath.Join(parts[0], parts[1])] += octets
		}
		return nil
	})
	return use, err
}

// cpuOf is the CPU time of a process so far, in seconds.
func cpuOf(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // the name may have spaces
	if len(fields) < 13 {
		return 0, fmt.Errorf("process statistics: %q", b)
	}
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	return (user + system) / ticks, errors.Join(err1, err2)
}

// procNumber is the number behind a name in a file of /proc/PID, such as RssAnon in status or write_bytes in io.
func procNumber(pid int, file, name string) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("/proc/%d/%s has no %s", pid, file, name)
}

// lockMachine keeps a second run off this machine until the file is closed: peers have fixed ports, and figures would mean nothing.
func lockMachine() (*os.File, error) {
	name := filepath.Join(os.TempDir(), "latchkey-bench.lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another run is going on (%s): %w", name, err), f.Close())
	}
	return f, nil
}
