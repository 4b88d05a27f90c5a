// Package storagetest has places that fail and crash at chosen operations: a disk that forgets at a crash
// what was not brought to it, and an object store.
package storagetest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"keystone/sources/hive/storage"
)

// Op is an operation that a Hook decides about. N counts them from 0.
type Op struct {
	N          int
	Kind, Name string
}

// Action is what becomes of an operation. The zero value lets it succeed.
type Action struct {
	Err     error // what its caller gets
	Effect  bool  // it takes effect although it fails
	Crash   bool  // nothing works any more afterwards, and its caller gets ErrCrashed
	Partial bool  // of a write: half of it takes effect
}

// Hook decides; nil lets all succeed. It may be called from several goroutines at once.
type Hook func(Op) Action

// ErrCrashed is what every operation gives after a crash.
var ErrCrashed = errors.New("the machine has crashed")

// gate counts operations and asks the hook.
type gate struct {
	mu      sync.Mutex
	hook    Hook
	n       int
	crashed bool
}

// pass gives whether an operation is to be done, and its error.
func (g *gate) pass(kind, name string) (do, half bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.crashed {
		return false, false, ErrCrashed
	}
	var a Action
	if g.hook != nil {
		a = g.hook(Op{g.n, kind, name})
	}
	g.n++
	if a.Crash {
		g.crashed = true
		return a.Effect, a.Partial, ErrCrashed
	}
	return a.Effect || a.Err == nil, a.Partial, a.Err
}

// Ops tells how many operations there were.
func (g *gate) Ops() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

// Crash makes every operation from now on fail.
func (g *gate) Crash() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.crashed = true
}

// Disk is a file system in memory.
type Disk struct {
	gate
	state sync.Mutex // guards the nodes
	root  *node
}

type node struct {
	names   map[string]*node // of a folder; nil for a file
	durable map[string]*node // the names that survive a crash
	data    []byte
	synced  []byte // the content that survives
	mod     time.Time
}

func folder() *node {
	return &node{names: map[string]*node{}, durable: map[string]*node{}, mod: time.Now()}
}

// NewDisk makes an empty one.
func NewDisk(hook Hook) *Disk { return &Disk{gate: gate{hook: hook}, root: folder()} }

// Reboot gives the disk as it is found after a loss of power: what was not brought to it is there, or not, or
// (of a file's content) in part, as random decides. The old one works no more.
func (d *Disk) Reboot(random *rand.Rand, hook Hook) *Disk {
	d.Crash()
	d.state.Lock()
	defer d.state.Unlock()
	made := map[*node]*node{}
	var survive func(*node) *node
	survive = func(n *node) *node {
		if m := made[n]; m != nil {
			return m
		}
		m := &node{mod: n.mod}
		made[n] = m
		if n.names == nil {
			m.data = n.content(random)
			m.synced = slices.Clone(m.data)
			return m
		}
		m.names, m.durable = map[string]*node{}, map[string]*node{}
		keep := maps.Clone(n.durable)
		all := maps.Clone(n.durable)
		maps.Copy(all, n.names)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if n.names[name] != n.durable[name] && random.IntN(2) == 0 {
				if x := n.names[name]; x != nil {
					keep[name] = x
				} else {
					delete(keep, name)
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(keep)) {
			x := survive(keep[name])
			m.names[name], m.durable[name] = x, x
		}
		return m
	}
	return &Disk{gate: gate{hook: hook}, root: survive(d.root)}
}

// content of a file after a crash.
func (n *node) content(random *rand.Rand) []byte {
	if slices.Equal(n.data, n.synced) {
		return slices.Clone(n.data)
	}
	switch random.IntN(3) {
	case 0:
		return slices.Clone(n.synced)
	case 1:
		return slices.Clone(n.data)
	}
	torn := slices.Clone(n.data)
	clear(torn[random.IntN(len(torn)+1):])
	return torn
}

// find gives a node and the folder that it is in; both may be nil.
func (d *Disk) find(name string) (n, parent *node) {
	n = d.root
	if name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if n == nil || n.names == nil {
			return nil, nil
		}
		n, parent = n.names[part], n
	}
	return n, parent
}

// do asks the hook and does the operation, whose own error counts too.
func (d *Disk) do(kind, name string, op func() error) error {
	do, _, err := d.pass(kind, name)
	if !do {
		return wrap(kind, name, err)
	}
	d.state.Lock()
	err2 := op()
	d.state.Unlock()
	if err == nil {
		err = err2
	}
	return wrap(kind, name, err)
}

func wrap(kind, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: kind, Path: name, Err: err}
}

// OpenFile opens a file, and makes it as the flags say.
func (d *Disk) OpenFile(name string, flag int, _ fs.FileMode) (storage.File, error) {
	var n *node
	err := d.do("open", name, func() error {
		var parent *node
		n, parent = d.find(name)
		switch {
		case parent == nil:
			return fs.ErrNotExist
		case n == nil && flag&os.O_CREATE == 0:
			return fs.ErrNotExist
		case n != nil && flag&os.O_EXCL != 0:
			return fs.ErrExist
		case n != nil && n.names != nil:
			return errors.New("is a folder")
		case n == nil:
			n = &node{mod: time.Now()}
			parent.names[path.Base(name)] = n
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &file{d, n, name}, nil
}

// Mkdir makes a folder.
func (d *Disk) Mkdir(name string, _ fs.FileMode) error {
	return d.do("mkdir", name, func() error {
		n, parent := d.find(name)
		switch {
		case parent == nil:
			return fs.ErrNotExist
		case n != nil:
			return fs.ErrExist
		}
		parent.names[path.Base(name)] = folder()
		return nil
	})
}

// Link gives a file a second name.
func (d *Disk) Link(from, to string) error {
	return d.do("link", to, func() error {
		n, _ := d.find(from)
		there, parent := d.find(to)
		switch {
		case n == nil, parent == nil:
			return fs.ErrNotExist
		case there != nil:
			return fs.ErrExist
		}
		parent.names[path.Base(to)] = n
		return nil
	})
}

// Rename gives a file another name.
func (d *Disk) Rename(from, to string) error {
	return d.do("rename", to, func() error {
		n, old := d.find(from)
		_, parent := d.find(to)
		if n == nil || parent == nil {
			return fs.ErrNotExist
		}
		delete(old.names, path.Base(from))
		parent.names[path.Base(to)] = n
		return nil
	})
}

// Remove takes a name away.
func (d *Disk) Remove(name string) error {
	return d.do("remove", name, func() error {
		n, parent := d.find(name)
		if n == nil {
			return fs.ErrNotExist
		}
		if len(n.names) > 0 {
			return errors.New("the folder is not empty")
		}
		delete(parent.names, path.Base(name))
		return nil
	})
}

// Stat looks at a file or a folder.
func (d *Disk) Stat(name string) (fi fs.FileInfo, err error) {
	err = d.do("stat", name, func() error {
		n, _ := d.find(name)
		if n == nil {
			return fs.ErrNotExist
		}
		fi = info{path.Base(name), int64(len(n.data)), n.mod, n.names != nil}
		return nil
	})
	return fi, err
}

// ReadDir lists a folder.
func (d *Disk) ReadDir(name string) (out []fs.DirEntry, err error) {
	err = d.do("readdir", name, func() error {
		n, _ := d.find(name)
		if n == nil {
			return fs.ErrNotExist
		}
		for _, k := range slices.Sorted(maps.Keys(n.names)) {
			x := n.names[k]
			out = append(out, fs.FileInfoToDirEntry(info{k, int64(len(x.data)), x.mod, x.names != nil}))
		}
		return nil
	})
	return out, err
}

// SyncDir makes the names in a folder durable.
func (d *Disk) SyncDir(name string) error {
	return d.do("syncdir", name, func() error {
		n, _ := d.find(name)
		if n == nil {
			return fs.ErrNotExist
		}
		n.durable = maps.Clone(n.names)
		return nil
	})
}

// Close does nothing: the disk may be opened again.
func (d *Disk) Close() error { return nil }

type file struct {
	d    *Disk
	n    *node
	name string
}

func (f *file) ReadAt(p []byte, off int64) (n int, err error) {
	end := false
	err = f.d.do("read", f.name, func() error {
		if off < int64(len(f.n.data)) {
			n = copy(p, f.n.data[off:])
		}
		end = n < len(p)
		return nil
	})
	if err == nil && end {
		err = io.EOF
	}
	return n, err
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	do, half, err := f.d.pass("write", f.name)
	if half {
		p = p[:len(p)/2]
	}
	if do || half {
		f.d.state.Lock()
		defer f.d.state.Unlock()
		if more := off + int64(len(p)) - int64(len(f.n.data)); more > 0 {
			f.n.data = append(f.n.data, make([]byte, more)...)
		}
		copy(f.n.data[off:], p)
		f.n.mod = time.Now()
	}
	if err != nil {
		return 0, wrap("write", f.name, err)
	}
	return len(p), nil
}

func (f *file) Sync() error {
	return f.d.do("sync", f.name, func() error {
		f.n.synced = slices.Clone(f.n.data)
		return nil
	})
}

func (f *file) Stat() (fs.FileInfo, error) {
	f.d.state.Lock()
	defer f.d.state.Unlock()
	return info{path.Base(f.name), int64(len(f.n.data)), f.n.mod, false}, nil
}

func (f *file) Close() error { return nil }

type info struct {
	name string
	size int64
	mod  time.Time
	dir  bool
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) ModTime() time.Time { return i.mod }
func (i info) IsDir() bool        { return i.dir }
func (i info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o777
	}
	return 0o666
}

// String tells an operation.
func (o Op) String() string { return fmt.Sprintf("%d %s %s", o.N, o.Kind, o.Name) }
