package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"latchkey/internal/archive"
	"latchkey/internal/journal"
	"latchkey/internal/vfs"
	"latchkey/store"
)

// Verify reads a backup: every piece is compared with its checksum, and then all of it is opened and read as [Store.Check] does. Nothing in
// its directory is changed. A copy of the index is made in the directory for temporary files. archive.ErrNone if there is no backup.
func Verify(ctx context.Context, dir archive.Dir, o Options) (archive.Header, []store.Problem, error) {
	var problems []store.Problem
	h, err := dir.Verify(ctx, func(p archive.Piece, what string) {
		if len(problems) < maxProblems {
			problems = append(problems, store.Problem{Kind: store.ProblemBackupFile, Object: "file " + p.Name, Detail: what})
		}
	})
	if errors.Is(err, archive.ErrDamaged) {
		return h, append(problems, store.Problem{Kind: store.ProblemBackupFile, Object: "file " + archive.ManifestName, Detail: err.Error()}), nil
	}
	if err != nil || len(problems) > 0 {
		return h, problems, err
	}
	problems, err = verifyContent(ctx, dir, o)
	return h, problems, err
}

// verifyContent opens what a backup holds, without a copy of it.
func verifyContent(ctx context.Context, dir archive.Dir, o Options) (problems []store.Problem, err error) {
	scratch, err := os.MkdirTemp("", "latchkey-verify-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	view, err := overlayOn(ctx, dir, scratch)
	if err != nil {
		return nil, err
	}
	o.fs, o.still = view, true
	s, err := Open(ctx, scratch, o)
	if errors.Is(err, store.ErrDamaged) {
		return []store.Problem{{Kind: store.ProblemBackup, Object: "backup", Detail: err.Error()}}, nil
	}
	if err != nil {
		return nil, err
	}
	problems, err = s.Check(ctx)
	return problems, errors.Join(err, s.Close())
}

// overlaid is a data directory whose segments and large bodies are those of a backup, to be read only; everything else is real.
type overlaid struct {
	vfs.OS
	backup archive.Dir
	pieces map[string]archive.Piece // by their complete names in the data directory
}

var _ vfs.FS = (*overlaid)(nil)

// overlayOn makes an overlaid data directory in an empty one.
func overlayOn(ctx context.Context, dir archive.Dir, scratch string) (*overlaid, error) {
	v := &overlaid{backup: dir, pieces: make(map[string]archive.Piece)}
	for _, name := range []string{journalName, largeName, tmpName} {
		if err := v.Mkdir(filepath.Join(scratch, name)); err != nil {
			return nil, err
		}
	}
	_, err := dir.Walk(ctx, func(p archive.Piece) error {
		switch n, _ := archive.ParseName(p.Name); n.Kind {
		case archive.Segment:
			v.pieces[filepath.Join(scratch, journalName, journal.SegmentName(n.Generation))] = p
		case archive.Large:
			v.pieces[filepath.Join(scratch, largeName, token(n.Token).String())] = p
		case archive.Index:
			return copyPiece(dir, p, filepath.Join(scratch, indexName))
		}
		return nil
	})
	return v, err
}

func copyPiece(dir archive.Dir, p archive.Piece, to string) (err error) {
	from, err := dir.Open(p.Name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	f, err := vfs.OS{}.Create(to)
	if err != nil {
		return err
	}
	return fill(f, io.NewSectionReader(from, 0, p.Size))
}

// Create implements vfs.FS.
func (v *overlaid) Create(name string) (vfs.File, error) {
	if _, ok := v.pieces[name]; ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	}
	return v.OS.Create(name)
}

// Open implements vfs.FS.
func (v *overlaid) Open(name string) (vfs.File, error) {
	p, ok := v.pieces[name]
	if !ok {
		return v.OS.Open(name)
	}
	f, err := v.backup.Open(p.Name)
	if err != nil {
		return nil, err
	}
	return &readOnly{SectionReader: io.NewSectionReader(f, 0, p.Size), file: f}, nil
}

// OpenWrite implements vfs.FS: what is in the backup can be opened so, and not written.
func (v *overlaid) OpenWrite(name string) (vfs.File, error) {
	if _, ok := v.pieces[name]; ok {
		return v.Open(name)
	}
	return v.OS.OpenWrite(name)
}

// Rename implements vfs.FS.
func (v *overlaid) Rename(from, to string) error {
	if _, ok := v.pieces[from]; ok {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: syscall.EROFS}
	}
	return v.OS.Rename(from, to)
}

// Remove implements vfs.FS.
func (v *overlaid) Remove(name string) error {
	if _, ok := v.pieces[name]; ok {
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.EROFS}
	}
	return v.OS.Remove(name)
}

// List implements vfs.FS.
func (v *overlaid) List(dir string) ([]string, error) {
	names, err := v.OS.List(dir)
	for name := range v.pieces {
		if filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	return names, err
}

// SyncDir implements vfs.FS: nothing of this outlives the process.
func (v *overlaid) SyncDir(string) error { return nil }

// readOnly is a piece of a backup.
type readOnly struct {
	*io.SectionReader
	file vfs.File
}

func (f *readOnly) refuse() error {
	return fmt.Errorf("a file of a backup is not written: %w", syscall.EROFS)
}

func (f *readOnly) Write([]byte) (int, error)          { return 0, f.refuse() }
func (f *readOnly) WriteAt([]byte, int64) (int, error) { return 0, f.refuse() }
func (f *readOnly) Allocate(int64) error               { return f.refuse() }
func (f *readOnly) Sync() error                        { return nil }
func (f *readOnly) Size() (int64, error)               { return f.SectionReader.Size(), nil }
func (f *readOnly) Close() error                       { return f.file.Close() }
