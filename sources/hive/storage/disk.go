package storage

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// Disk is what Local needs of a file system. Names are relative to a folder and never lead out of it.
type Disk interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Mkdir(name string, perm fs.FileMode) error
	Link(from, to string) error   // fails if to exists
	Rename(from, to string) error // replaces to
	Remove(name string) error
	Stat(name string) (fs.FileInfo, error)
	ReadDir(name string) ([]fs.DirEntry, error) // in the order of names
	SyncDir(name string) error                  // makes the names in a folder durable
	Close() error
}

// File is an open file of a Disk.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Stat() (fs.FileInfo, error)
}

// osDisk is a folder of the operating system. A symbolic link that leads out of it is refused.
type osDisk struct{ root *os.Root }

// OpenDisk opens a folder, which is made if it is missing.
func OpenDisk(dir string) (Disk, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return osDisk{root}, nil
}

func (d osDisk) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := d.root.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err // not a File that holds a nil
	}
	return f, nil
}

func (d osDisk) Mkdir(name string, perm fs.FileMode) error { return d.root.Mkdir(name, perm) }
func (d osDisk) Link(from, to string) error                { return d.root.Link(from, to) }
func (d osDisk) Rename(from, to string) error              { return d.root.Rename(from, to) }
func (d osDisk) Remove(name string) error                  { return d.root.Remove(name) }
func (d osDisk) Stat(name string) (fs.FileInfo, error)     { return d.root.Stat(name) }
func (d osDisk) Close() error                              { return d.root.Close() }

func (d osDisk) ReadDir(name string) ([]fs.DirEntry, error) {
	return fs.ReadDir(d.root.FS(), name)
}

func (d osDisk) SyncDir(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
