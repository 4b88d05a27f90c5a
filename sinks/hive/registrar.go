package hive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"keystone/sources/hive/chain"
	"keystone/sources/hive/storage"
)

// Registrar makes partitions known to a metastore. It is called by one goroutine, after their files were
// published, again and again until it succeeds, and also for partitions that are known already. After a
// *RefusedPartitions those that it does not name are registered, unless it leaves the rest; after another error any may be.
type Registrar interface {
	Register(ctx context.Context, parts []Partition) error
	Close() error
}

// Partition is a partition of the table that has files.
type Partition struct {
	Values []chain.Value
	Path   string // its folder below the table's location: "dt=2026-01-02/hour=03"
	Folder string // where it is since it was compacted; "": there
}

// catalog has the Registrar catch up with what is published: while it fails files land all the same. A partition that
// is refused is noted beside the manifests, so that these can be folded: the next process finds the note, and tries too.
type catalog struct {
	r     Registrar // nil: there is no metastore
	log   *slog.Logger
	store storage.Store
	wake  chan struct{}

	mu      sync.Mutex // guards all below
	pending map[string]Partition
	refused map[string]error // of pending, with why: they come last, and are noted
	retry   bool             // what is refused is to be tried again
	known   map[string]bool
	err     error // of the last attempt
}

const (
	knownMax   = 100_000 // partitions that are remembered as registered
	registered = 500     // partitions of one call
	// refusedAgain is how long a partition waits that was refused.
	refusedAgain = 15 * time.Minute
)

func newCatalog(r Registrar, log *slog.Logger) *catalog {
	return &catalog{r: r, log: log, wake: make(chan struct{}, 1), pending: map[string]Partition{}, refused: map[string]error{}, known: map[string]bool{}}
}

// seen takes note of the partitions of a commit that is published, or about to be.
func (c *catalog) seen(m *chain.Manifest) {
	if c.r == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range m.Files {
		if len(f.Values) == 0 {
			continue
		}
		path := dirOf(f.Path)
		if _, ok := c.pending[path]; !ok && !c.known[path] {
			c.pending[path] = Partition{Values: f.Values, Path: path}
		}
	}
	c.hasten()
}

// idle tells that everything seen is registered, or noted as refused.
func (c *catalog) idle() bool {
	if c.r == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending) == len(c.refused)
}

// waiting counts what is not registered, and of that apart what is refused.
func (c *catalog) waiting() (pending, refused int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending) - len(c.refused), len(c.refused)
}

// trouble says what is not registered, and why; nil if nothing fails.
func (c *catalog) trouble() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil || len(c.pending) == 0 {
		return nil
	}
	if n := len(c.refused); n > 0 && n == len(c.pending) {
		return fmt.Errorf("the metastore refuses %d partitions, whose rows its readers do not see; their files are in place: %w", n, &RefusedPartitions{Why: maps.Clone(c.refused)})
	}
	return fmt.Errorf("%d partitions are not in the metastore yet; their files are in place: %w", len(c.pending), c.err)
}

// noted has a note for each partition that is refused, under its folder.
const noted = "_keystone/unregistered/"

// start runs the catalog until ctx ends. It begins with what was refused before.
func (c *catalog) start(ctx context.Context, st storage.Store, wg *sync.WaitGroup) error {
	if c.r == nil {
		return nil
	}
	c.store = st
	for i, err := range st.List(ctx, noted) {
		if err != nil {
			return err
		}
		dir := strings.TrimPrefix(i.Name, noted)
		c.pending[dir], c.refused[dir] = Partition{Values: valuesOf(dir), Path: dir}, errors.New("it was refused before, and is tried again")
		c.retry = true
		c.hasten()
	}
	wg.Go(func() { c.run(ctx) })
	return nil
}

// hasten has the catalog look.
func (c *catalog) hasten() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// note writes down that partitions are refused, and gives those of which that is durable.
func (c *catalog) note(ctx context.Context, why map[string]error) (refused map[string]error) {
	refused = map[string]error{}
	for dir, err := range why {
		text, err2 := json.Marshal(map[string]string{"refused": err.Error()})
		if err2 == nil {
			err2 = c.store.Create(ctx, noted+dir, text)
		}
		if errors.Is(err2, storage.ErrExists) {
			err2 = c.store.Confirm(ctx, noted+dir)
		}
		if err2 != nil {
			c.log.Warn("that a partition is refused is not noted: manifests are not folded until it is", "partition", dir, "error", err2)
			continue
		}
		refused[dir] = err
	}
	return refused
}

// forget deletes the notes of partitions that are registered.
func (c *catalog) forget(ctx context.Context, dirs []string) {
	for _, dir := range dirs {
		if err := c.store.Delete(ctx, noted+dir); err != nil {
			c.log.Debug("a note that a partition is refused is left", "partition", dir, "error", err)
		}
	}
}

func (c *catalog) run(ctx context.Context) {
	b := backoff.NewExponentialBackOff()
	b.MaxInterval = time.Minute
	again := time.NewTicker(refusedAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-again.C:
			c.mu.Lock()
			c.retry = true
			c.mu.Unlock()
		}
		for {
			more, err := c.register(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				c.log.Warn("partitions are not registered yet; their files are in place", "error", err)
			}
			if !more {
				b.Reset()
				break
			}
			if err == nil {
				continue
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(b.NextBackOff()):
			}
		}
	}
}

// register registers some partitions; more tells that others wait. Those that were refused are tried by themselves, since a
// metastore takes its time to refuse, and refuses what is asked with them.
func (c *catalog) register(ctx context.Context) (more bool, err error) {
	c.mu.Lock()
	var paths []string
	for p := range c.pending {
		if c.refused[p] == nil {
			paths = append(paths, p)
		}
	}
	if len(paths) == 0 && c.retry {
		c.retry = false
		paths = slices.Collect(maps.Keys(c.refused))
	}
	slices.Sort(paths)
	paths = paths[:min(len(paths), registered)]
	parts := make([]Partition, len(paths))
	for i, p := range paths {
		parts[i] = c.pending[p]
	}
	c.mu.Unlock()
	if len(parts) == 0 {
		return false, nil
	}
	for i, p := range parts {
		at, err := chain.ReadCompacted(ctx, c.store, p.Path)
		if err != nil {
			return true, err
		}
		parts[i].Folder = at.Folder()
	}
	err = c.r.Register(ctx, parts)
	var some *RefusedPartitions
	var refused map[string]error
	if errors.As(err, &some) && ctx.Err() == nil {
		refused = c.note(ctx, some.Why)
	}
	mended, more := c.registered(ctx, paths, err, refused)
	c.forget(ctx, mended)
	return more, err
}

// registered takes note of an answer. It gives the partitions that were refused before and are not any more.
func (c *catalog) registered(ctx context.Context, paths []string, err error, refused map[string]error) (mended []string, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var some *RefusedPartitions
	errors.As(err, &some)
	if err != nil || len(c.refused) == 0 {
		c.err = err
	}
	if ctx.Err() != nil || err != nil && some == nil {
		return nil, true
	}
	if len(c.known) > knownMax {
		clear(c.known)
	}
	for _, p := range paths {
		switch {
		case refused[p] != nil:
			c.refused[p] = refused[p]
		case some != nil && (some.Rest || some.Why[p] != nil):
		default:
			if c.refused[p] != nil {
				mended = append(mended, p)
			}
			delete(c.pending, p)
			delete(c.refused, p)
			c.known[p] = true
		}
	}
	if len(c.refused) == 0 && err == nil {
		c.err = nil
	}
	return mended, len(c.pending) > len(c.refused) || c.retry && len(c.refused) > 0
}

func (c *catalog) close() error {
	if c.r == nil {
		return nil
	}
	return c.r.Close()
}
