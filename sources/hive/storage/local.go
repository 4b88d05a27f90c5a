package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tempDir has what is being written. It is on the file system of the manifests, so that link works.
const tempDir = "_keystone/tmp"

// Local is a folder. An object appears by link(2), which fails where the name is taken and
// whose target is complete; the file is brought to disk before, and its name after.
type Local struct {
	name string
	disk Disk

	mu    sync.Mutex      // guards known
	known map[string]bool // folders that are durable, with all above them
}

// NewLocal makes a store on a disk, which it closes. name is for people.
func NewLocal(name string, d Disk) *Local {
	return &Local{name: name, disk: d, known: map[string]bool{".": true}}
}

// String gives the folder.
func (l *Local) String() string { return l.name }

// Close closes the disk.
func (l *Local) Close() error { return l.disk.Close() }

// Create writes a file elsewhere and links it to its name.
func (l *Local) Create(ctx context.Context, name string, data []byte) error {
	return l.fresh(ctx, name, l.link, func(f File) error {
		_, err := f.WriteAt(data, 0)
		return err
	})
}

// Confirm brings the name to disk. The content was, before there was a name.
func (l *Local) Confirm(ctx context.Context, name string) error {
	if err := errors.Join(checkName(name), ctx.Err()); err != nil {
		return err
	}
	return l.explain("confirm", name, l.disk.SyncDir(path.Dir(name)))
}

// Upload writes a file elsewhere and renames it.
func (l *Local) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	return l.fresh(ctx, name, l.rename, func(f File) error {
		n, err := io.Copy(io.NewOffsetWriter(f, 0), r)
		if err == nil && n != size {
			err = fmt.Errorf("%d bytes were to be written, and there were %d", size, n)
		}
		return err
	})
}

// fresh makes a file that appears complete.
func (l *Local) fresh(ctx context.Context, name string, appear func(from, to string) error, write func(File) error) error {
	if err := errors.Join(checkName(name), ctx.Err()); err != nil {
		return err
	}
	temp := tempDir + "/" + rand.Text()
	if err := l.folder(tempDir); err != nil {
		return l.explain("write", name, err)
	}
	f, err := l.disk.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		l.forget(tempDir)
		return l.explain("write", name, err)
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = appear(temp, name)
	}
	if err2 := l.disk.Remove(temp); err == nil && err2 != nil && !errors.Is(err2, fs.ErrNotExist) {
		err = err2
	}
	return l.explain("write", name, err)
}

// link gives a file another name and makes that durable. It is ErrExists where the name is taken,
// which is made durable too: who made it may have gone before.
func (l *Local) link(from, to string) error {
	err := l.into(path.Dir(to), func() error { return l.disk.Link(from, to) })
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err2 := l.disk.SyncDir(path.Dir(to)); err2 != nil {
		return err2
	}
	if err != nil {
		return ErrExists
	}
	return nil
}

func (l *Local) rename(from, to string) error {
	if err := l.into(path.Dir(to), func() error { return l.disk.Rename(from, to) }); err != nil {
		return err
	}
	return l.disk.SyncDir(path.Dir(to))
}

// into does something in a folder, which is made if need be.
func (l *Local) into(dir string, do func() error) error {
	if err := l.folder(dir); err != nil {
		return err
	}
	err := do()
	if errors.Is(err, fs.ErrNotExist) { // somebody deleted the folder
		l.forget(dir)
		if err = l.folder(dir); err == nil {
			err = do()
		}
	}
	return err
}

// Publish links; where the partition is on another file system it copies.
func (l *Local) Publish(ctx context.Context, from, to string) error {
	if err := errors.Join(checkName(from), checkName(to), ctx.Err()); err != nil {
		return err
	}
	source, err := l.disk.Stat(from)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := l.Stat(ctx, to); err != nil {
			return err
		}
		return l.explain("publish", to, l.disk.SyncDir(path.Dir(to)))
	}
	if err == nil {
		err = l.link(from, to)
	}
	if errors.Is(err, syscall.EXDEV) {
		err = l.copyTo(from, to)
	}
	if errors.Is(err, ErrExists) {
		var there fs.FileInfo
		if there, err = l.disk.Stat(to); err == nil && there.Size() != source.Size() {
			err = fmt.Errorf("another file of %d bytes is there, and this one has %d", there.Size(), source.Size())
		}
	}
	return l.explain("publish", to, err)
}

// copyTo copies into the folder of the target, under a name that readers skip, and links there.
func (l *Local) copyTo(from, to string) error {
	src, err := l.disk.OpenFile(from, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // only read
	fi, err := src.Stat()
	if err != nil {
		return err
	}
	temp := path.Join(path.Dir(to), "."+path.Base(from)+"."+rand.Text()[:8])
	dst, err := l.disk.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.NewOffsetWriter(dst, 0), io.NewSectionReader(src, 0, fi.Size()))
	if err == nil {
		err = dst.Sync()
	}
	if err = errors.Join(err, dst.Close()); err == nil {
		err = l.link(temp, to)
	}
	if err2 := l.disk.Remove(temp); err == nil {
		err = err2
	}
	return err
}

// WriteAt writes a part of a file that nobody knows of yet.
func (l *Local) WriteAt(ctx context.Context, name string, data []byte, off int64) error {
	if err := errors.Join(checkName(name), ctx.Err()); err != nil {
		return err
	}
	flag := os.O_RDWR
	if off == 0 {
		flag |= os.O_CREATE
		if err := l.folder(path.Dir(name)); err != nil {
			return l.explain("write", name, err)
		}
	}
	f, err := l.disk.OpenFile(name, flag, 0o666)
	if err != nil {
		l.forget(path.Dir(name))
		return l.explain("write", name, err)
	}
	_, err = f.WriteAt(data, off)
	return l.explain("write", name, errors.Join(err, f.Close()))
}

// Sync brings a file and its name to disk.
func (l *Local) Sync(ctx context.Context, name string) error {
	if err := errors.Join(checkName(name), ctx.Err()); err != nil {
		return err
	}
	f, err := l.disk.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return l.explain("sync", name, err)
	}
	if err = errors.Join(f.Sync(), f.Close()); err == nil {
		err = l.disk.SyncDir(path.Dir(name))
	}
	return l.explain("sync", name, err)
}

// Get reads a file.
func (l *Local) Get(ctx context.Context, name string) ([]byte, error) {
	o, err := l.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer o.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size()))
	return b, l.explain("read", name, err)
}

type localObject struct {
	File
	size int64
}

func (o localObject) Size() int64 { return o.size }

// Open opens a file.
func (l *Local) Open(ctx context.Context, name string) (Object, error) {
	if err := errors.Join(checkName(name), ctx.Err()); err != nil {
		return nil, err
	}
	f, err := l.disk.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, l.explain("open", name, err)
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, l.explain("open", name, errors.Join(err, f.Close()))
	}
	return localObject{f, fi.Size()}, nil
}

// Stat looks at a file.
func (l *Local) Stat(ctx context.Context, name string) (Info, error) {
	if err := errors.Join(checkName(name), ctx.Err()); err != nil {
		return Info{}, err
	}
	fi, err := l.disk.Stat(name)
	if err == nil && fi.IsDir() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Info{}, l.explain("look at", name, err)
	}
	return Info{name, fi.Size(), fi.ModTime()}, nil
}

// Delete removes a file, not the folder.
func (l *Local) Delete(ctx context.Context, name string) error {
	if err := errors.Join(checkName(name), ctx.Err()); err != nil {
		return err
	}
	err := l.disk.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return l.explain("delete", name, err)
}

// List walks the folders.
func (l *Local) List(ctx context.Context, folder string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		dir := strings.TrimSuffix(folder, "/")
		if dir == "" {
			dir = "."
		} else if err := checkName(dir); err != nil {
			yield(Info{}, err)
			return
		}
		l.walk(ctx, dir, yield)
	}
}

// walk gives the files below a folder. A folder sorts as if its name ended in a slash, as the names
// of the files in it do.
func (l *Local) walk(ctx context.Context, dir string, yield func(Info, error) bool) bool {
	if err := ctx.Err(); err != nil {
		yield(Info{}, err)
		return false
	}
	entries, err := l.disk.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return true
		}
		yield(Info{}, l.explain("list", dir, err))
		return false
	}
	sortAsPaths(entries)
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case e.IsDir():
			if name != tempDir && !l.walk(ctx, name, yield) {
				return false
			}
		default:
			fi, err := l.disk.Stat(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // deleted meanwhile, or a link to nothing
			}
			if err != nil {
				yield(Info{}, l.explain("list", name, err))
				return false
			}
			if fi.Mode().IsRegular() && !yield(Info{name, fi.Size(), fi.ModTime()}, nil) {
				return false
			}
		}
	}
	return true
}

// Sweep deletes what a predecessor left half written and is older than a time.
func (l *Local) Sweep(ctx context.Context, before time.Time) error {
	entries, err := l.disk.ReadDir(tempDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		name := tempDir + "/" + e.Name()
		if fi, err := l.disk.Stat(name); err == nil && fi.ModTime().Before(before) {
			if err := l.Delete(ctx, name); err != nil {
				return err
			}
		}
	}
	return l.explain("list", tempDir, err)
}

// folder makes a folder and all above it, durably.
func (l *Local) folder(dir string) error {
	l.mu.Lock()
	known := l.known[dir]
	l.mu.Unlock()
	if known {
		return nil
	}
	parent := path.Dir(dir)
	if err := l.folder(parent); err != nil {
		return err
	}
	err := l.disk.Mkdir(dir, 0o777)
	if errors.Is(err, fs.ErrNotExist) { // it was known, and somebody deleted it
		l.forget(parent)
		if err = l.folder(parent); err == nil {
			err = l.disk.Mkdir(dir, 0o777)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := l.disk.SyncDir(parent); err != nil { // also where it exists: who made it may have gone before this
		return err
	}
	l.mu.Lock()
	l.known[dir] = true
	l.mu.Unlock()
	return nil
}

// forget makes folder look again, at this folder and all above it.
func (l *Local) forget(dir string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ; dir != "."; dir = path.Dir(dir) {
		delete(l.known, dir)
	}
}

// explain says what failed, and makes the answers that callers look for.
func (l *Local) explain(what, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrExists), errors.Is(err, ErrNotExist):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s %s: %w", what, path.Join(l.name, name), ErrNotExist)
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOTSUP):
		return fmt.Errorf("%s %s: %w (the file system must have hard links)", what, path.Join(l.name, name), err)
	}
	return fmt.Errorf("%s %s: %w", what, path.Join(l.name, name), err)
}
