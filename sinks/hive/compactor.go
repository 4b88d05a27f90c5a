package hive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"keystone/sources/hive/chain"
	"keystone/sources/hive/storage"
)

// Mover knows where a metastore has partitions, and moves them.
type Mover interface {
	// Located gives the folders of partitions below the table's, by the partitions' own ("dt=2026-01-02"). Those that are not
	// registered are left out, and for those elsewhere it gives "".
	Located(ctx context.Context, dirs []string) (map[string]string, error)
	// Move has a partition read from another folder, if it is read from the first one now; it does nothing where that is done already.
	Move(ctx context.Context, dir, from, to string, number int64) error
}

// errClaimLost ends a turn: another process compacts the table now.
var errClaimLost = errors.New("another process compacts the table by now")

// compactor merges the small files of partitions that nobody writes to any more. What it does with one of them is in steps that
// sources/hive/chain describes, each of which may be the last that this process does, and is gone on from by the next one.
type compactor struct {
	cfg   Config
	s     *Sink
	log   *slog.Logger
	st    storage.Store
	mover Mover
	claim claim
	rate  *rate.Limiter
	now   func() time.Time
	bad   map[string]error // partitions with files that cannot be merged

	mu    sync.Mutex // guards all below
	err   error      // of the last turn
	stats Compacting
}

// Compacting counts what a compactor has done since the worker started.
type Compacting struct {
	Partitions, FilesBefore, FilesAfter, Bytes int64
}

func newCompactor(s *Sink, m Mover) *compactor {
	k := &compactor{cfg: s.cfg, s: s, log: s.log, st: s.store, mover: m, bad: map[string]error{}, claim: claim{st: s.store, writer: s.writer}, now: s.now}
	if r := s.cfg.Compact.Rate; r > 0 {
		k.rate = rate.NewLimiter(rate.Limit(r), int(min(r, 1<<30)))
	}
	return k
}

// run takes turns until ctx ends.
func (k *compactor) run(ctx context.Context) {
	for sleep(ctx, k.cfg.Compact.Interval) {
		err := k.turn(ctx)
		if ctx.Err() != nil {
			return
		}
		k.mu.Lock()
		k.err = err
		k.mu.Unlock()
		if err != nil {
			k.log.Warn("not everything is compacted that could be", "error", err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// trouble says what prevented the last turn from compacting something.
func (k *compactor) trouble() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		return nil
	}
	return fmt.Errorf("compaction: %w", k.err)
}

func (k *compactor) measure(out map[string]float64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	out["compacted_partitions"], out["compacted_files"] = float64(k.stats.Partitions), float64(k.stats.FilesBefore)
	out["merged_files"], out["merged_bytes"] = float64(k.stats.FilesAfter), float64(k.stats.Bytes)
	out["compaction_failing"] = 0
	if k.err != nil {
		out["compaction_failing"] = 1
	}
}

// keep renews the claim in time.
func (k *compactor) keep(ctx context.Context) error {
	if k.now().Before(k.claim.until.Add(claimKeep - claimSure)) {
		return nil
	}
	if k.claim.number == 0 {
		return errClaimLost
	}
	ok, err := k.claim.renew(ctx, k.now)
	if err == nil && !ok {
		err = errClaimLost
	}
	return err
}

// turn goes on with what was begun, and looks for partitions to begin with. What fails for one of them does not keep it from the others.
func (k *compactor) turn(ctx context.Context) error {
	if ok, err := k.claim.take(ctx, k.now, sleep); !ok || err != nil {
		return err
	}
	t := &turn{k: k, known: map[string]bool{}}
	for p, err := range chain.EachCompacted(ctx, k.st) {
		if err != nil {
			return err
		}
		t.known[p.Dir] = true
		if err := t.try(ctx, p.Dir, func() error { return k.goOn(ctx, p) }); err != nil {
			return err
		}
	}
	if err := t.walk(ctx); err != nil {
		return err
	}
	return t.result()
}

// turn is one look at the table.
type turn struct {
	k      *compactor
	known  map[string]bool // partitions that were compacted before
	failed int
	first  error
}

// try does something with a partition, and takes note of what fails. Its error ends the turn.
func (t *turn) try(ctx context.Context, dir string, f func() error) error {
	err := t.k.keep(ctx)
	if err == nil {
		err = f()
	}
	if ctx.Err() != nil || errors.Is(err, errClaimLost) {
		return err
	}
	if err != nil {
		if t.failed++; t.first == nil {
			t.first = fmt.Errorf("%s: %w", dir, err)
		}
	}
	return nil
}

func (t *turn) result() error {
	if t.failed > 1 {
		return fmt.Errorf("%w (and %d others)", t.first, t.failed-1)
	}
	return t.first
}

// walk looks at the partitions in their own folders.
func (t *turn) walk(ctx context.Context) error {
	var dir string
	var files []storage.Info
	look := func() error {
		d, f := dir, files
		files = nil
		if len(f) == 0 || !t.k.cfg.isPartition(d) {
			return nil
		}
		return t.try(ctx, d, func() error {
			if t.known[d] {
				return t.k.strays(ctx, d, f)
			}
			return t.k.consider(ctx, &chain.Compacted{Dir: d}, f)
		})
	}
	for i, err := range t.k.st.List(ctx, "") {
		if err != nil {
			return err
		}
		if strings.HasPrefix(i.Name, "_") {
			continue
		}
		if d := dirOf(i.Name); d != dir {
			if err := look(); err != nil {
				return err
			}
			dir = d
		}
		if isData(i.Name) {
			files = append(files, i)
		}
	}
	return look()
}

// goOn does what is next for a partition that was compacted before.
func (k *compactor) goOn(ctx context.Context, p *chain.Compacted) error {
	c := p.Last()
	switch {
	case c.Pending():
		return k.finish(ctx, p, c)
	case !c.Swept && c.GivenUp():
		return k.sweep(ctx, p, c, c.Data())
	}
	if err := k.repair(ctx, p); err != nil {
		return err
	}
	if !c.Swept {
		if k.now().Sub(c.Switched) < k.cfg.Compact.Grace {
			return nil
		}
		return k.sweep(ctx, p, c, c.Plan.From)
	}
	// What was deleted may be back after a loss of power.
	var files, old []storage.Info
	for i, err := range k.st.List(ctx, chain.CompactedRoot+"/"+p.Dir+"/") {
		if err != nil {
			return err
		}
		switch folder := dirOf(i.Name); {
		case folder == p.Folder():
			files = append(files, i)
		case path.Base(folder) == "data":
			old = append(old, i)
		}
	}
	if p.Folder() == p.Dir { // all that was begun was given up
		var err error
		if files, err = k.files(ctx, p.Dir); err != nil {
			return err
		}
	}
	if err := k.empty(ctx, p, old); err != nil {
		return err
	}
	if err := k.unstage(ctx, p.Dir); err != nil {
		return err
	}
	return k.consider(ctx, p, files)
}

// repair moves a partition again that is somewhere else among its places: one that was taken out of the metastore and registered
// anew, or that a process moved which had slept since long ago.
func (k *compactor) repair(ctx context.Context, p *chain.Compacted) error {
	at, err := k.mover.Located(ctx, []string{p.Dir})
	if err != nil {
		return err
	}
	folder, ok := at[p.Dir]
	if !ok || folder == p.Folder() {
		return nil
	}
	if folder != p.Dir && !strings.HasPrefix(folder, chain.CompactedRoot+"/"+p.Dir+"/") {
		return fmt.Errorf("the metastore has it elsewhere than in %s, so its readers do not see what is there", p.Folder())
	}
	k.log.Warn("a compacted partition was read from an earlier place, and is moved back", "partition", p.Dir, "from", folder, "to", p.Folder())
	return k.mover.Move(ctx, p.Dir, folder, p.Folder(), int64(len(p.Log)))
}

// files lists the data files of a folder, without those in folders of it.
func (k *compactor) files(ctx context.Context, folder string) ([]storage.Info, error) {
	var out []storage.Info
	for i, err := range k.st.List(ctx, folder+"/") {
		if err != nil {
			return nil, err
		}
		if dirOf(i.Name) == folder && isData(i.Name) {
			out = append(out, i)
		}
	}
	return out, nil
}

// ourName is of data files: what is before the partition of what was read, and whether a compaction has made it.
var ourName = regexp.MustCompile(`^(ks-[0-9a-f]{16}-g\d+-.+)-(?:p\d+-\d{20}|(c\d{10}))-\d{4}\.parquet$`)

// stemOf tells of which route, generation and source a data file is. Files of different ones are never merged.
func stemOf(name string) (stem string, merged, ok bool) {
	m := ourName.FindStringSubmatch(name)
	if m == nil {
		return "", false, false
	}
	return m[1], m[2] != "", true
}

// consider begins to compact a partition if it is quiet and has enough small files.
func (k *compactor) consider(ctx context.Context, p *chain.Compacted, files []storage.Info) error {
	if err := k.bad[p.Dir]; err != nil {
		return err
	}
	o := k.cfg.Compact
	stems := map[string]int{}
	fresh := 0
	small := func(i storage.Info) bool { return i.Size < o.Target/2 }
	for _, i := range files {
		stem, merged, ok := stemOf(path.Base(i.Name))
		switch {
		case !ok && len(files) >= o.MinFiles:
			return fmt.Errorf("%s is not of Keystone, and would not be read any more: take it away, or have the partition as it is", i.Name)
		case k.now().Sub(i.ModTime) < o.Quiet:
			return nil
		case !ok || !small(i):
			continue
		case !merged:
			fresh++
		}
		stems[stem]++
	}
	if fresh < o.MinFiles {
		return nil
	}
	var inputs []string
	for _, i := range files {
		name := path.Base(i.Name)
		if stem, _, _ := stemOf(name); small(i) && stems[stem] > 1 && len(inputs) < inputsMost {
			inputs = append(inputs, name)
		}
	}
	if len(inputs) < 2 {
		return nil
	}
	at, err := k.mover.Located(ctx, []string{p.Dir})
	if err != nil {
		return err
	}
	folder, ok := at[p.Dir]
	switch {
	case !ok:
		return nil // it is registered some time, and compacted then
	case folder != p.Folder():
		return fmt.Errorf("the metastore has it elsewhere than in %s", p.Folder())
	}
	c := &chain.Compaction{Dir: p.Dir, Number: int64(len(p.Log)) + 1, Plan: chain.CompactionPlan{
		From: p.Folder(), Inputs: inputs, Writer: k.s.writer, Made: k.now().UTC().Truncate(time.Millisecond),
	}}
	if err := c.Begin(ctx, k.st); errors.Is(err, storage.ErrExists) {
		return nil
	} else if err != nil {
		return err
	}
	p.Log = append(p.Log, c)
	return k.finish(ctx, p, c)
}

// inputsMost bounds what one compaction merges.
const inputsMost = 10_000

// finish goes on with a compaction from wherever it stands.
func (k *compactor) finish(ctx context.Context, p *chain.Compacted, c *chain.Compaction) error {
	if err := k.carry(ctx, p, c); err != nil {
		return err
	}
	if c.Files == nil {
		merged, err := k.merge(ctx, c)
		var no *unmergeable
		if errors.As(err, &no) {
			k.bad[p.Dir] = err
			err = errors.Join(c.Settle(ctx, k.st, chain.CompactionFiles{GivenUp: no.Error()}), err)
		} else if err == nil {
			err = c.Settle(ctx, k.st, chain.CompactionFiles{Files: merged})
		}
		if err != nil {
			return err
		}
	}
	if c.GivenUp() {
		return nil
	}
	for _, m := range c.Files.Files {
		if err := k.st.Publish(ctx, m.Staged, c.Data()+"/"+m.Name); err != nil {
			return err
		}
	}
	if err := k.keep(ctx); err != nil {
		return err
	}
	if !k.claim.held(k.now()) {
		return errClaimLost
	}
	if err := k.mover.Move(ctx, p.Dir, c.Plan.From, c.Data(), c.Number); err != nil {
		return err
	}
	if err := c.Moved(ctx, k.st); err != nil {
		return err
	}
	if c.Switched.IsZero() {
		c.Switched = k.now()
	}
	var bytes int64
	for _, m := range c.Files.Files {
		bytes += m.Bytes
	}
	k.log.Info("compacted", "partition", p.Dir, "files", len(c.Plan.Inputs), "into", len(c.Files.Files), "bytes", bytes)
	k.mu.Lock()
	k.stats.Partitions++
	k.stats.FilesBefore += int64(len(c.Plan.Inputs))
	k.stats.FilesAfter += int64(len(c.Files.Files))
	k.stats.Bytes += bytes
	k.mu.Unlock()
	return k.unstage(ctx, p.Dir)
}

// carry brings to the new place what is not merged: large files, and those that come meanwhile. From the plan on writers publish to both
// places, but for one whose manifest was there before. That is the last of its chain, or its files are published.
func (k *compactor) carry(ctx context.Context, p *chain.Compacted, c *chain.Compaction) error {
	last, err := chain.LastFiles(ctx, k.st)
	if err != nil {
		return err
	}
	for _, f := range last {
		name := path.Base(f.Path)
		if dirOf(f.Path) != p.Dir || p.Merged(name) {
			continue
		}
		err := k.st.Publish(ctx, f.Staged, c.Data()+"/"+name)
		if err != nil && !errors.Is(err, storage.ErrNotExist) { // then it is in the old place, or somebody has deleted it
			return err
		}
	}
	files, err := k.files(ctx, c.Plan.From)
	if err != nil {
		return err
	}
	for _, i := range files {
		name := path.Base(i.Name)
		if p.Merged(name) {
			continue
		}
		if _, _, ok := stemOf(name); !ok && c.Files == nil {
			return c.Settle(ctx, k.st, chain.CompactionFiles{GivenUp: name + " is not of Keystone"})
		}
		if err := k.keep(ctx); err != nil {
			return err
		}
		if err := k.st.Publish(ctx, i.Name, c.Data()+"/"+name); err != nil {
			return err
		}
	}
	return nil
}

// strays looks after what a writer has published to the own folder of a partition that is elsewhere: one that was asleep, or of
// an older Keystone.
func (k *compactor) strays(ctx context.Context, dir string, files []storage.Info) error {
	p, err := chain.ReadCompacted(ctx, k.st, dir)
	if err != nil || p.Folder() == dir {
		return err
	}
	if c := p.Last(); c != nil && !c.Swept {
		return nil
	}
	return k.empty(ctx, p, files)
}

// sweep empties a place where nobody reads any more.
func (k *compactor) sweep(ctx context.Context, p *chain.Compacted, c *chain.Compaction, folder string) error {
	files, err := k.files(ctx, folder)
	if err != nil {
		return err
	}
	if err := k.empty(ctx, p, files); err != nil {
		return err
	}
	if err := k.unstage(ctx, p.Dir); err != nil {
		return err
	}
	return c.Cleaned(ctx, k.st)
}

// empty deletes files whose rows are where the partition is, after it has seen to that.
func (k *compactor) empty(ctx context.Context, p *chain.Compacted, files []storage.Info) error {
	for _, i := range files {
		name := path.Base(i.Name)
		if _, _, ok := stemOf(name); !ok {
			k.log.Warn("a file that is not of Keystone is where a compacted partition was, and nobody reads it", "name", i.Name)
			continue
		}
		if err := k.keep(ctx); err != nil {
			return err
		}
		if targets := p.Targets(name); len(targets) > 0 {
			if err := k.st.Publish(ctx, i.Name, targets[len(targets)-1]); err != nil {
				return err
			}
		}
		if err := k.st.Delete(ctx, i.Name); err != nil {
			return err
		}
	}
	return nil
}

const stagedMerges = "_keystone/staging/" + chain.CompactedRoot + "/"

// unstage deletes what was staged for a partition.
func (k *compactor) unstage(ctx context.Context, dir string) error {
	for i, err := range k.st.List(ctx, stagedMerges+dir+"/") {
		if err != nil {
			return err
		}
		if err := k.st.Delete(ctx, i.Name); err != nil {
			return err
		}
	}
	return nil
}
