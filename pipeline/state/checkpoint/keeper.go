package checkpoint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"keystone/pipeline/state"
	"keystone/sources/hive/storage"
)

// ErrFenced is a job that somebody else has made a later checkpoint of: this process must not go on with it.
var ErrFenced = errors.New("another process has made a later checkpoint of the job")

// Options say how checkpoints are kept.
type Options struct {
	Job   string
	Place storage.Store // the job's own; the caller closes it
	// Folder is where Place is, if it is a folder on this machine: files are linked there and not copied, where the file system can.
	Folder string
	// Retain is how many checkpoints are kept at least. 0: 3.
	Retain int
	// RetainFor is how long each is kept at least.
	RetainFor time.Duration
	Log       *slog.Logger
}

// Keeper makes the checkpoints of one job and deletes old ones.
type Keeper struct {
	o   Options
	log *slog.Logger

	mu    sync.Mutex // guards what follows, and is held over I/O: one checkpoint at a time
	known []*Manifest
	last  int64               // number of the last manifest
	have  map[[2]string]*File // by store and name: files that are in the place
	tried map[string]bool     // sums of manifests that may have been made
}

// Open looks at what checkpoints there are.
func Open(ctx context.Context, o Options) (*Keeper, error) {
	if o.Retain <= 0 {
		o.Retain = 3
	}
	k := &Keeper{o: o, log: o.Log, have: map[[2]string]*File{}, tried: map[string]bool{}}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	all, damaged, err := list(ctx, o.Place, o.Job)
	if err != nil {
		return nil, fmt.Errorf("checkpoints in %s: %w", o.Place, err)
	}
	for _, d := range damaged {
		k.log.Error("a checkpoint cannot be used", "err", d.err)
		k.last = max(k.last, d.number)
	}
	for _, m := range all {
		k.last = max(k.last, m.Number)
		k.remember(m)
	}
	k.known = all
	return k, nil
}

// remember notes which files of a directory are in the place.
func (k *Keeper) remember(m *Manifest) {
	for i := range m.Files {
		k.have[[2]string{m.Store, m.Files[i].Name}] = &m.Files[i]
	}
}

// Saved is what a checkpoint took.
type Saved struct {
	*Manifest
	Uploaded int64 // bytes that no earlier checkpoint had
}

// Save makes a checkpoint of the state after its last epoch. Where it fails, the job goes on and the next one is tried; after ErrFenced it must not.
func (k *Keeper) Save(ctx context.Context, s *state.Store, operators json.RawMessage, now time.Time) (*Saved, error) {
	return k.save(ctx, s, operators, now, "")
}

// Savepoint makes a checkpoint with a name, which stays. There must be none of that name.
func (k *Keeper) Savepoint(ctx context.Context, s *state.Store, operators json.RawMessage, now time.Time, name string) (*Saved, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	return k.save(ctx, s, operators, now, name)
}

func (k *Keeper) save(ctx context.Context, s *state.Store, operators json.RawMessage, now time.Time, name string) (*Saved, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f, err := s.Freeze()
	if err != nil {
		return nil, err
	}
	defer f.Release() //nolint:errcheck // the next one, or the next opening, does
	m := &Manifest{Format: state.Format, Job: k.o.Job, Name: name, Generation: f.Epoch.Generation, Epoch: f.Epoch.N, Time: now.UTC().Truncate(time.Millisecond), Fingerprint: f.Fingerprint, Operators: operators, Store: f.Store}
	if name == "" {
		m.Number = k.last + 1
	}
	saved := &Saved{Manifest: m}
	for i := range f.Files {
		file, n, err := k.put(ctx, f, &f.Files[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m, err)
		}
		m.Files = append(m.Files, *file)
		saved.Uploaded += n
	}
	if err := k.create(ctx, m); err != nil {
		return nil, err
	}
	k.known = append(k.known, m)
	k.remember(m)
	if name == "" {
		k.last = m.Number
		clear(k.tried)
		if err := k.prune(ctx, now); err != nil {
			k.log.Warn("old checkpoints cannot be deleted yet", "place", k.o.Place.String(), "err", err)
		}
	}
	return saved, nil
}

// create makes the manifest. One that is there already is this one, where an earlier try took effect unheard, or another's.
func (k *Keeper) create(ctx context.Context, m *Manifest) error {
	b, err := m.encode()
	if err != nil {
		return err
	}
	k.tried[m.Sum] = true
	err = k.o.Place.Create(ctx, m.object(), b)
	if !errors.Is(err, storage.ErrExists) {
		if err != nil && m.Name == "" { // it may be there: the next Save finds its number taken by its own
			if there, err2 := read(ctx, k.o.Place, m.object(), m.Job); err2 == nil && there.Sum == m.Sum {
				return nil
			}
		}
		return err
	}
	there, err := read(ctx, k.o.Place, m.object(), m.Job)
	switch {
	case err == nil && there.Sum == m.Sum:
		return nil
	case m.Name != "":
		return fmt.Errorf("%s exists already in %s", m, k.o.Place)
	case err == nil && k.tried[there.Sum]:
		// Our own, of a try whose answer was lost. It counts, and this one is the next.
		k.last = m.Number
		k.known = append(k.known, there)
		delete(k.tried, there.Sum)
		m.Number++
		return k.create(ctx, m)
	}
	return fmt.Errorf("%w: %s in %s is of %s, and this is %s", ErrFenced, m, k.o.Place, where(there), where(m))
}

func where(m *Manifest) string {
	if m == nil {
		return "a state unknown"
	}
	return fmt.Sprintf("epoch %v of state %.8s", m.At(), m.Store)
}

// put brings a file to the place if it is not there.
func (k *Keeper) put(ctx context.Context, f *state.Frozen, ff *state.FrozenFile) (*File, int64, error) {
	if ff.Lasting {
		if there := k.have[[2]string{f.Store, ff.Name}]; there != nil && there.Size == ff.Size {
			return there, 0, nil
		}
	}
	r, err := os.Open(ff.Path)
	if err != nil {
		return nil, 0, err
	}
	defer r.Close() //nolint:errcheck // only read
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return nil, 0, err
	}
	file := &File{ff.Name, n, hex.EncodeToString(h.Sum(nil))}
	if there, err := k.o.Place.Stat(ctx, file.object()); err == nil && there.Size == n {
		return file, 0, nil
	}
	if ff.Lasting && k.o.Folder != "" && k.link(ff.Path, file) == nil {
		return file, n, nil
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, 0, err
	}
	return file, n, k.o.Place.Upload(ctx, file.object(), r, n)
}

// link gives a file of the state another name in the folder. Its content is on disk since it was made.
func (k *Keeper) link(path string, f *File) error {
	to := filepath.Join(k.o.Folder, filepath.FromSlash(f.object()))
	err := os.Link(path, to)
	if errors.Is(err, fs.ErrNotExist) {
		return err // the folder of files is made by the first upload
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// prune deletes the manifests that need not be kept, and then the files that no kept one names.
func (k *Keeper) prune(ctx context.Context, now time.Time) error {
	slices.SortFunc(k.known, func(a, b *Manifest) int { return int(min(max(a.Number-b.Number, -1), 1)) })
	numbered := 0
	for _, m := range k.known {
		if m.Name == "" {
			numbered++
		}
	}
	var kept, gone []*Manifest
	for _, m := range k.known {
		if m.Name == "" {
			numbered-- // how many are newer
			if numbered >= k.o.Retain && now.Sub(m.Time) >= k.o.RetainFor {
				gone = append(gone, m)
				continue
			}
		}
		kept = append(kept, m)
	}
	if len(gone) == 0 {
		return nil
	}
	return k.drop(ctx, kept, gone)
}

// drop deletes manifests and then files. Savepoints are looked for again: somebody else may have made one.
func (k *Keeper) drop(ctx context.Context, kept, gone []*Manifest) error {
	for _, m := range gone {
		if err := k.o.Place.Delete(ctx, m.object()); err != nil {
			return err
		}
	}
	k.known = kept
	all, damaged, err := list(ctx, k.o.Place, k.o.Job)
	if err != nil {
		return err
	}
	if len(damaged) > 0 {
		return fmt.Errorf("no file is deleted while it is not known which ones are named: %w", damaged[0].err)
	}
	named := map[string]bool{}
	for _, m := range append(all, kept...) {
		for i := range m.Files {
			named[m.Files[i].object()] = true
		}
	}
	maps.DeleteFunc(k.have, func(_ [2]string, f *File) bool { return !named[f.object()] })
	var unnamed []string
	for i, err := range k.o.Place.List(ctx, files) {
		if err != nil {
			return err
		}
		if !named[i.Name] {
			unnamed = append(unnamed, i.Name)
		}
	}
	for _, name := range unnamed {
		if err := k.o.Place.Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// Delete takes a savepoint away. Its files go with the next checkpoint that is deleted.
func (k *Keeper) Delete(ctx context.Context, name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, m := range k.known {
		if m.Name == name && name != "" {
			if err := k.o.Place.Delete(ctx, m.object()); err != nil {
				return err
			}
			k.known = slices.Delete(k.known, i, i+1)
			return nil
		}
	}
	return fmt.Errorf("there is no savepoint %q in %s", name, k.o.Place)
}

// unreadable is a manifest that cannot be used.
type unreadable struct {
	number int64
	err    error
}

// List gives the checkpoints by number, and then the savepoints by name. Those that are damaged are in the second.
func List(ctx context.Context, place storage.Store, job string) ([]*Manifest, []error, error) {
	all, damaged, err := list(ctx, place, job)
	var errs []error
	for _, d := range damaged {
		errs = append(errs, d.err)
	}
	return all, errs, err
}

func list(ctx context.Context, place storage.Store, job string) (all []*Manifest, damaged []unreadable, err error) {
	for _, folder := range []string{manifests, savepoints} {
		var objects []string
		for i, err := range place.List(ctx, folder) {
			if err != nil {
				return nil, nil, err
			}
			if strings.HasSuffix(i.Name, ".json") {
				objects = append(objects, i.Name)
			}
		}
		for _, o := range objects {
			m, err := read(ctx, place, o, job)
			var bad *DamagedError
			switch {
			case errors.As(err, &bad):
				u := unreadable{err: err}
				_, _ = fmt.Sscanf(strings.TrimPrefix(o, manifests), "%d.json", &u.number) // a savepoint has none
				damaged = append(damaged, u)
			case errors.Is(err, storage.ErrNotExist): // deleted meanwhile
			case err != nil:
				return nil, nil, err
			default:
				all = append(all, m)
			}
		}
	}
	return all, damaged, nil
}
