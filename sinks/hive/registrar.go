package hive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"keystone/sources/hive/chain"
)

// Registrar makes partitions known to a metastore. It is called by one goroutine, after their files were
// published, again and again until it succeeds, and also for partitions that are known already. After a
// *RefusedPartitions those that it does not name are registered; after another error any may be.
type Registrar interface {
	Register(ctx context.Context, parts []Partition) error
	Close() error
}

// Partition is a partition of the table that has files.
type Partition struct {
	Values []chain.Value
	Path   string // its folder below the table's location: "dt=2026-01-02/hour=03"
}

// catalog has the Registrar catch up with what is published: while it fails files land all the same.
type catalog struct {
	r    Registrar // nil: there is no metastore
	log  *slog.Logger
	wake chan struct{}

	mu      sync.Mutex // guards all below
	pending map[string]Partition
	refused map[string]bool // of pending: they come last
	known   map[string]bool
	err     error // of the last attempt
}

const (
	knownMax   = 100_000 // partitions that are remembered as registered
	registered = 500     // partitions of one call
)

func newCatalog(r Registrar, log *slog.Logger) *catalog {
	return &catalog{r: r, log: log, wake: make(chan struct{}, 1), pending: map[string]Partition{}, refused: map[string]bool{}, known: map[string]bool{}}
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
			c.pending[path] = Partition{f.Values, path}
		}
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// idle tells that everything seen is registered.
func (c *catalog) idle() bool {
	if c.r == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending) == 0
}

// trouble says what is not registered, and why; nil if nothing fails.
func (c *catalog) trouble() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil || len(c.pending) == 0 {
		return nil
	}
	return fmt.Errorf("%d partitions are not in the metastore yet; their files are in place: %w", len(c.pending), c.err)
}

// start runs the catalog until ctx ends.
func (c *catalog) start(ctx context.Context, wg *sync.WaitGroup) {
	if c.r != nil {
		wg.Go(func() { c.run(ctx) })
	}
}

func (c *catalog) run(ctx context.Context) {
	b := backoff.NewExponentialBackOff()
	b.MaxInterval = time.Minute
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		for {
			more, err := c.register(ctx)
			if err == nil && !more {
				b.Reset()
				break
			}
			if err == nil {
				continue
			}
			if ctx.Err() != nil {
				return
			}
			c.log.Warn("partitions are not registered yet; their files are in place", "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(b.NextBackOff()):
			}
		}
	}
}

// register registers some partitions; more tells that there are others that may be tried at once.
func (c *catalog) register(ctx context.Context) (more bool, err error) {
	c.mu.Lock()
	paths := slices.SortedFunc(maps.Keys(c.pending), func(a, b string) int {
		if c.refused[a] != c.refused[b] {
			return cmp.Compare(rank(c.refused[a]), rank(c.refused[b]))
		}
		return cmp.Compare(a, b)
	})
	paths = paths[:min(len(paths), registered)]
	parts := make([]Partition, len(paths))
	for i, p := range paths {
		parts[i] = c.pending[p]
	}
	c.mu.Unlock()
	if len(parts) == 0 {
		return false, nil
	}
	err = c.r.Register(ctx, parts)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err = err; ctx.Err() != nil {
		return true, err
	}
	var some *RefusedPartitions
	if err != nil && !errors.As(err, &some) {
		return true, err
	}
	if len(c.known) > knownMax {
		clear(c.known)
	}
	for _, p := range paths {
		if some != nil && some.Why[p] != nil {
			c.refused[p] = true
			continue
		}
		delete(c.pending, p)
		delete(c.refused, p)
		c.known[p] = true
	}
	if more = len(c.pending) > len(c.refused); more {
		return true, nil
	}
	return false, err
}

func rank(refused bool) int {
	if refused {
		return 1
	}
	return 0
}

func (c *catalog) close() error {
	if c.r == nil {
		return nil
	}
	return c.r.Close()
}
