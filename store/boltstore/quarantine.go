package boltstore

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"latchkey/internal/vfs"
)

// quarantineName is the directory, in the data directory, of what repairs put aside: one directory each.
const quarantineName = "quarantine"

// reportName is the file that says what a repair did.
const reportName = "report.txt"

// quarantine is where one repair puts what cannot be read. It is made when there is something to be put there.
type quarantine struct {
	fs    vfs.FS
	data  string
	now   time.Time
	dir   string // "" while there is none
	lines []string
	// report is the file of lines that were written, and written its length.
	report  vfs.File
	written int64
}

// note adds a line to the report.
func (q *quarantine) note(format string, args ...any) {
	q.lines = append(q.lines, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " "))
}

// file returns the path of a file to be put there.
func (q *quarantine) file(name string) (string, error) {
	for n := 1; q.dir == ""; n++ {
		base := q.now.UTC().Format("20060102T150405Z")
		if n > 1 {
			base = fmt.Sprintf("%s-%d", base, n)
		}
		dir := filepath.Join(q.data, quarantineName, base)
		if _, err := q.fs.List(dir); err == nil {
			continue // of another repair in the same second
		}
		if err := q.fs.Mkdir(dir); err != nil {
			return "", err
		}
		for _, parent := range []string{q.data, filepath.Dir(dir)} {
			if err := q.fs.SyncDir(parent); err != nil {
				return "", err
			}
		}
		q.dir = dir
	}
	return filepath.Join(q.dir, name), nil
}

// copy puts aside what can be read of n octets, and reports whether that is all.
func (q *quarantine) copy(name string, from io.ReaderAt, off, n int64) (path string, err error) {
	if path, err = q.file(name); err != nil {
		return "", err
	}
	f, err := q.fs.Create(path)
	if err != nil {
		return "", err
	}
	buf := make([]byte, 4<<10)
	for at := int64(0); at < n && err == nil; at += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), n-at)]
		got, readErr := from.ReadAt(buf, off+at)
		if got < len(buf) {
			q.note("%s: octets from %d on cannot be read: %v", name, at+int64(got), readErr)
			clear(buf[got:])
		}
		_, err = f.Write(buf)
	}
	if err == nil {
		err = f.Sync()
	}
	return path, errors.Join(err, f.Close())
}

// copyFile puts a whole file aside, which stays where it is.
func (q *quarantine) copyFile(name, from string) (err error) {
	f, err := q.fs.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return err
	}
	_, err = q.copy(name, f, 0, size)
	return err
}

// move puts a file aside.
func (q *quarantine) move(name, from string) (path string, err error) {
	if path, err = q.file(name); err != nil {
		return "", err
	}
	return path, q.fs.Rename(from, path)
}

// flush makes everything durable that was put aside, and the report of it. It comes before the removal of what it is about.
func (q *quarantine) flush() error {
	if q.dir == "" && len(q.lines) == 0 {
		return nil
	}
	if q.report == nil {
		path, err := q.file(reportName)
		if err != nil {
			return err
		}
		if q.report, err = q.fs.Create(path); err != nil {
			return err
		}
	}
	if len(q.lines) > 0 {
		n, err := q.report.WriteAt([]byte(strings.Join(q.lines, "\n")+"\n"), q.written)
		if err == nil {
			err = q.report.Sync()
		}
		if err != nil {
			return err
		}
		q.written += int64(n)
		q.lines = nil
	}
	return q.fs.SyncDir(q.dir)
}

// finish is the last flush.
func (q *quarantine) finish() error {
	err := q.flush()
	if q.report != nil {
		err = errors.Join(err, q.report.Close())
	}
	return err
}
