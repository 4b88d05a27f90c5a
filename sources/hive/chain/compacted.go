package chain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"keystone/sources/hive/storage"
)

// Compacted partitions. Each compaction of a partition has a number, and a folder with what is decided of it, step by step:
// each step is an object that is made if there is none, so of two that compact a partition at once one gives way at each.
//
//	_compacted/PARTITION/0000000001/plan        which files are merged; from then on writers publish to both places
//	_compacted/PARTITION/0000000001/files       the merged files are staged, or why it was given up
//	_compacted/PARTITION/0000000001/switched    the metastore has the new place
//	_compacted/PARTITION/0000000001/swept       the old place is empty
//	_compacted/PARTITION/0000000001/data/       the new place: merged files, and others as they were
//
// Manifests are never changed: a file that they list is where Where says.
const CompactedRoot = "_compacted"

// The steps.
const (
	stepPlan     = "plan"
	stepFiles    = "files"
	stepSwitched = "switched"
	stepSwept    = "swept"
)

const compactionVersion = 1

// CompactionPlan says what a compaction does.
type CompactionPlan struct {
	Version int       `json:"version"`
	From    string    `json:"from"`   // the folder that the partition was in
	Inputs  []string  `json:"inputs"` // names in it of the files that are merged
	Writer  string    `json:"writer"`
	Made    time.Time `json:"made"` // by the writer's clock, for people
}

// Merged is a file that a compaction has made.
type Merged struct {
	Name   string   `json:"name"`
	Staged string   `json:"staged"`
	Inputs []string `json:"inputs"` // whose rows it has
	Rows   int64    `json:"rows"`
	Bytes  int64    `json:"bytes"`
}

// CompactionFiles is what came of it.
type CompactionFiles struct {
	Version int      `json:"version"`
	Files   []Merged `json:"files"`
	GivenUp string   `json:"given_up,omitempty"` // why, if it was
}

// Compaction is one of a partition's.
type Compaction struct {
	Dir    string
	Number int64
	Plan   CompactionPlan
	Files  *CompactionFiles // nil: not made yet

	Switched time.Time // by the store's clock; zero: not yet
	Swept    bool
}

func compactionDir(dir string, number int64) string {
	return fmt.Sprintf("%s/%s/%010d", CompactedRoot, dir, number)
}

// Data is the folder that the compaction moves the partition to.
func (c *Compaction) Data() string { return compactionDir(c.Dir, c.Number) + "/data" }

// GivenUp tells that the partition stays where it was.
func (c *Compaction) GivenUp() bool { return c.Files != nil && c.Files.GivenUp != "" }

// Pending tells that the partition may be moved any moment.
func (c *Compaction) Pending() bool { return c.Switched.IsZero() && !c.GivenUp() }

// Step makes the next step durable. storage.ErrExists says that somebody else has made it.
func (c *Compaction) step(ctx context.Context, st storage.Store, name string, what any) error {
	text, err := json.Marshal(what)
	if err != nil {
		return err
	}
	return st.Create(ctx, compactionDir(c.Dir, c.Number)+"/"+name, text)
}

// Begin makes the plan of a compaction. storage.ErrExists says that somebody else has begun it.
func (c *Compaction) Begin(ctx context.Context, st storage.Store) error {
	c.Plan.Version = compactionVersion
	return c.step(ctx, st, stepPlan, c.Plan)
}

// Settle says what files come of it. Where somebody else has said so, that counts.
func (c *Compaction) Settle(ctx context.Context, st storage.Store, f CompactionFiles) error {
	f.Version = compactionVersion
	err := c.step(ctx, st, stepFiles, f)
	if errors.Is(err, storage.ErrExists) {
		return c.readFiles(ctx, st)
	}
	if err == nil {
		c.Files = &f
	}
	return err
}

func (c *Compaction) readFiles(ctx context.Context, st storage.Store) error {
	name := compactionDir(c.Dir, c.Number) + "/" + stepFiles
	if err := st.Confirm(ctx, name); err != nil {
		return err
	}
	b, err := st.Get(ctx, name)
	if err != nil {
		return err
	}
	f := new(CompactionFiles)
	if err := decode(name, b, f, &f.Version); err != nil {
		return err
	}
	c.Files = f
	return nil
}

// Moved says that the metastore has the new place.
func (c *Compaction) Moved(ctx context.Context, st storage.Store) error {
	return notExists(c.step(ctx, st, stepSwitched, map[string]any{"version": compactionVersion}))
}

// Cleaned says that the old place is empty.
func (c *Compaction) Cleaned(ctx context.Context, st storage.Store) error {
	return notExists(c.step(ctx, st, stepSwept, map[string]any{"version": compactionVersion}))
}

func notExists(err error) error {
	if errors.Is(err, storage.ErrExists) {
		return nil
	}
	return err
}

// Compacted is what is known of a partition's compactions, in their order. The zero value but for Dir is one that was never compacted.
type Compacted struct {
	Dir string
	Log []*Compaction
}

// ReadCompacted reads what was decided of a partition, "dt=2026-01-02/hour=03".
func ReadCompacted(ctx context.Context, st storage.Store, dir string) (*Compacted, error) {
	p := &Compacted{Dir: dir}
	for i, err := range st.List(ctx, CompactedRoot+"/"+dir+"/") {
		if err != nil {
			return nil, err
		}
		if d, number, step, ok := parseStep(i.Name); ok && d == dir {
			p.add(number, step, i.ModTime)
		}
	}
	return p, p.read(ctx, st)
}

// EachCompacted gives all partitions that have compactions, in the order of their folders.
func EachCompacted(ctx context.Context, st storage.Store) iter.Seq2[*Compacted, error] {
	return func(yield func(*Compacted, error) bool) {
		var p *Compacted
		give := func() bool {
			if p == nil {
				return true
			}
			err := p.read(ctx, st)
			return yield(p, err) && err == nil
		}
		for i, err := range st.List(ctx, CompactedRoot+"/") {
			if err != nil {
				yield(nil, err)
				return
			}
			dir, number, step, ok := parseStep(i.Name)
			if !ok {
				continue
			}
			if p == nil || p.Dir != dir {
				if !give() {
					return
				}
				p = &Compacted{Dir: dir}
			}
			p.add(number, step, i.ModTime)
		}
		give()
	}
}

// AnyCompacted tells whether a table has partitions that were ever compacted.
func AnyCompacted(ctx context.Context, st storage.Store) (bool, error) {
	for _, err := range st.List(ctx, CompactedRoot+"/") {
		return err == nil, err
	}
	return false, nil
}

// add takes note of a step, in the order of names.
func (p *Compacted) add(number int64, step string, at time.Time) {
	if n := len(p.Log); n == 0 || p.Log[n-1].Number != number {
		p.Log = append(p.Log, &Compaction{Dir: p.Dir, Number: number})
	}
	c := p.Log[len(p.Log)-1]
	switch step {
	case stepFiles:
		c.Files = &CompactionFiles{}
	case stepSwitched:
		c.Switched = at
	case stepSwept:
		c.Swept = true
	}
}

// read reads the steps that have content.
func (p *Compacted) read(ctx context.Context, st storage.Store) error {
	for i, c := range p.Log {
		if c.Number != int64(i+1) {
			return &DamagedError{CompactedRoot + "/" + p.Dir, fmt.Errorf("after compaction %d comes %d", i, c.Number)}
		}
		name := compactionDir(c.Dir, c.Number) + "/" + stepPlan
		b, err := st.Get(ctx, name)
		if err != nil {
			return err
		}
		if err := decode(name, b, &c.Plan, &c.Plan.Version); err != nil {
			return err
		}
		if c.Files != nil || !c.Switched.IsZero() { // a list is not of one moment
			if err := c.readFiles(ctx, st); err != nil {
				return err
			}
		}
	}
	return nil
}

// parseStep gives what a name below _compacted stands for. Data files are none.
func parseStep(name string) (dir string, number int64, step string, ok bool) {
	rest, ok := strings.CutPrefix(name, CompactedRoot+"/")
	if !ok || path.Base(path.Dir(rest)) == "data" {
		return "", 0, "", false
	}
	step = path.Base(rest)
	digits := path.Base(path.Dir(rest))
	number, err := strconv.ParseInt(digits, 10, 64)
	dir = path.Dir(path.Dir(rest))
	return dir, number, step, err == nil && len(digits) == 10 && strings.Contains(dir, "=")
}

// Folder is where the partition is.
func (p *Compacted) Folder() string {
	for i := len(p.Log) - 1; i >= 0; i-- {
		if !p.Log[i].Switched.IsZero() {
			return p.Log[i].Data()
		}
	}
	return p.Dir
}

// Last is the newest compaction, nil if there is none.
func (p *Compacted) Last() *Compaction {
	if len(p.Log) == 0 {
		return nil
	}
	return p.Log[len(p.Log)-1]
}

// Merged tells whether a file's rows are, or are about to be, in a file that a compaction has made.
func (p *Compacted) Merged(name string) bool {
	return slices.ContainsFunc(p.Log, func(c *Compaction) bool { return !c.GivenUp() && slices.Contains(c.Plan.Inputs, name) })
}

// Targets gives where a file has to be, by its name without folders: the place that it may be moved to comes first, so
// that it is there when readers are sent there. None: its rows are in a merged file.
func (p *Compacted) Targets(name string) []string {
	if p.Merged(name) {
		return nil
	}
	targets := []string{p.Folder() + "/" + name}
	if c := p.Last(); c != nil && c.Pending() {
		targets = slices.Insert(targets, 0, c.Data()+"/"+name)
	}
	return targets
}

// Where gives the path of the file that has the rows of a file of a manifest, and the names of all files whose rows it has, as
// manifests list them; nil where that is the file itself.
func (p *Compacted) Where(name string) (file string, with []string) {
	for i := range p.Log {
		c := p.Log[i]
		if c.Switched.IsZero() || c.Files == nil {
			continue
		}
		for _, m := range c.Files.Files {
			if !slices.Contains(m.Inputs, name) {
				continue
			}
			later := &Compacted{Dir: p.Dir, Log: p.Log[i+1:]}
			if file, more := later.Where(m.Name); more != nil {
				return file, p.roots(more)
			}
			return p.Folder() + "/" + m.Name, p.roots(m.Inputs)
		}
	}
	return p.Folder() + "/" + name, nil
}

// roots gives the files of manifests that went into files.
func (p *Compacted) roots(names []string) (out []string) {
	for _, name := range names {
		made := false
		for _, c := range p.Log {
			if c.Files == nil {
				continue
			}
			for _, m := range c.Files.Files {
				if m.Name == name {
					made = true
					out = append(out, p.roots(m.Inputs)...)
				}
			}
		}
		if !made {
			out = append(out, name)
		}
	}
	return out
}
