package commit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"keystone/pipeline/state"
	"keystone/sinks"
)

// Committer makes epochs final, one after the other.
//
// An epoch is one commit of the store, with its rows in the outbox; behind it each target has a goroutine that publishes its chunks in
// order, and the outbox of an epoch goes when all targets have it. After a failure nobody knows whether a chunk was published, so
// the publisher is asked before it is given again, as after a crash.
type Committer struct {
	o       Options
	log     *slog.Logger
	writers map[string]int // by name
	targets []*target
	by      map[string]*target
	room    chan struct{} // a token per epoch that is not published yet

	stop  context.Context // ends when publishing is to stop
	end   context.CancelFunc
	loops sync.WaitGroup

	mu      sync.Mutex // guards what follows
	open    []*pending // committed and not yet published by all, in order
	err     error
	done    chan struct{} // closed with err
	changed chan struct{} // closed and replaced when an epoch is published
}

type target struct {
	Target
	rows int64 // of this generation, so far; Commit's

	waiting sync.Mutex // guards todo
	todo    []*Chunk   // what Behind epochs have at most
	more    chan struct{}
}

type pending struct {
	epoch state.Epoch
	left  int // targets
}

// New makes a committer; it does no I/O.
func New(o Options) (*Committer, error) {
	if o.ChunkBytes <= 0 {
		o.ChunkBytes = 8 << 20
	}
	if o.Behind <= 0 {
		o.Behind = 4
	}
	c := &Committer{o: o, log: o.Log, writers: map[string]int{}, by: map[string]*target{}, room: make(chan struct{}, o.Behind), done: make(chan struct{}), changed: make(chan struct{})}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.stop, c.end = context.WithCancel(context.Background())
	for _, t := range o.Targets {
		if t.Name == "" || len(t.Name) > 255 || c.by[t.Name] != nil {
			return nil, fmt.Errorf("commit: the name of a target is %q: it must be its own, and of 1 to 255 bytes", t.Name)
		}
		nt := &target{Target: t, more: make(chan struct{}, 1)}
		c.targets = append(c.targets, nt)
		c.by[t.Name] = nt
	}
	for i, w := range o.Writers {
		if _, twice := c.writers[w.Name]; twice || c.by[w.Target] == nil {
			return nil, fmt.Errorf("commit: writer %q writes to %q: its name must be its own, and the target must be there", w.Name, w.Target)
		}
		c.writers[w.Name] = i
	}
	return c, nil
}

// Recover fences an earlier process of the job and publishes what it left in the outbox. It comes before the first Commit.
func (c *Committer) Recover(ctx context.Context) error {
	last, _ := c.o.Store.Last()
	for _, t := range c.targets {
		e, chunk, err := c.fence(ctx, t)
		if err != nil {
			return fmt.Errorf("recover %s: %w", t.Name, err)
		}
		if e.After(last) && e.Generation == c.o.Store.Generation() {
			return fmt.Errorf("recover %s: %w: epoch %v is published and the state ends at %v; restore the job from a checkpoint or start it afresh, which begins a new generation", t.Name, ErrBehind, e, last)
		}
		if err := c.republish(ctx, t, e, chunk); err != nil {
			return fmt.Errorf("recover %s: %w", t.Name, err)
		}
		if t.rows, err = c.count(t.Name); err != nil {
			return fmt.Errorf("recover %s: %w", t.Name, err)
		}
	}
	if err := c.strangers(); err != nil {
		return err
	}
	if err := c.o.Store.Forget(outboxFirst, outboxEnd); err != nil {
		return err
	}
	for _, t := range c.targets {
		c.loops.Go(func() { c.publishAll(t) })
	}
	return nil
}

// fence takes the target over and tells what it has. A generation after ours means that somebody else took it over.
func (c *Committer) fence(ctx context.Context, t *target) (state.Epoch, int, error) {
	e, chunk, err := t.Publisher.Recover(ctx)
	if err == nil && e.Generation > c.o.Store.Generation() {
		err = fmt.Errorf("%w: epoch %v is published, and this is generation %d", ErrFenced, e, c.o.Store.Generation())
	}
	return e, chunk, err
}

// republish publishes a target's chunks after the last one that it has.
func (c *Committer) republish(ctx context.Context, t *target, have state.Epoch, chunk int) error {
	var todo [][]byte // keys: a chunk is read when it is its turn
	err := c.o.Store.Scan(outboxFirst, outboxEnd, func(k, _ []byte) error {
		e, name, i, err := parseKey(k)
		if err == nil && name == t.Name && (e.After(have) || e == have && i > chunk) {
			todo = append(todo, append([]byte(nil), k...))
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, k := range todo {
		v, ok, err := c.o.Store.Get(k)
		if err != nil || !ok {
			return errors.Join(err, errKey)
		}
		ch, err := decode(v, c.writers)
		if err != nil {
			return err
		}
		ch.Epoch, _, ch.Index, _ = parseKey(k)
		if err := c.publish(ctx, t, ch); err != nil {
			return err
		}
	}
	if len(todo) > 0 {
		c.log.Info("published what was left in the outbox", "target", t.Name, "chunks", len(todo))
	}
	return nil
}

// strangers refuses rows for targets that the job has no more: they would be lost.
func (c *Committer) strangers() error {
	return c.o.Store.Scan(outboxFirst, outboxEnd, func(k, _ []byte) error {
		e, name, _, err := parseKey(k)
		if err == nil && c.by[name] == nil {
			err = fmt.Errorf("epoch %v has rows for %s that are not published, and the job writes there no more: bring it back until they are", e, name)
		}
		return err
	})
}

// count gives how many rows a target had in this generation.
func (c *Committer) count(name string) (int64, error) {
	v, ok, err := c.o.Store.Get(countKey(name))
	if err != nil || !ok || len(v) != 16 || int64(binary.BigEndian.Uint64(v)) != c.o.Store.Generation() {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(v[8:])), nil
}

// Commit makes an epoch durable: state, meta and the rows, which are published in the background, in the order of the
// epochs. It waits while too many epochs are not published yet. An error is final, but for that of ctx before anything was done:
// the committer is of no more use, and a new one recovers.
func (c *Committer) Commit(ctx context.Context, e Epoch) error {
	select {
	case <-c.done:
		return c.Err()
	default:
	}
	select {
	case c.room <- struct{}{}:
	case <-c.done:
		return c.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
	b := e.Batch
	if b == nil {
		b = c.o.Store.NewBatch()
		defer b.Close()
	}
	builders := map[*target]*builder{}
	for i := range e.Out {
		r := &e.Out[i]
		w := &c.o.Writers[r.Writer]
		t := c.by[w.Target]
		if builders[t] == nil {
			builders[t] = &builder{first: t.rows}
		}
		builders[t].add(r, w.Name, c.o.ChunkBytes)
	}
	chunks := map[*target][]*Chunk{}
	for t, bd := range builders {
		bd.cut()
		for i := range bd.chunks {
			v := bd.chunks[i].value(i == len(bd.chunks)-1)
			b.Set(appendKey(nil, e.E, t.Name, i), v)
			ch, err := decode(v, c.writers)
			if err != nil {
				panic("commit: what was encoded cannot be decoded: " + err.Error())
			}
			ch.Epoch, ch.Index = e.E, i
			chunks[t] = append(chunks[t], ch)
		}
		b.Set(countKey(t.Name), binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(e.E.Generation)), uint64(bd.first)))
	}
	if err := c.o.Store.Commit(b, e.E, e.Meta); err != nil {
		c.fail(err)
		return err
	}
	p := &pending{epoch: e.E, left: len(builders)}
	c.mu.Lock()
	c.open = append(c.open, p)
	c.mu.Unlock()
	if p.left == 0 {
		c.settle()
		return nil
	}
	for t, bd := range builders {
		t.rows = bd.first
		c.hand(t, chunks[t])
	}
	return nil
}

// hand gives a target its chunks, behind those that it has not taken yet.
func (c *Committer) hand(t *target, chunks []*Chunk) {
	t.waiting.Lock()
	t.todo = append(t.todo, chunks...)
	t.waiting.Unlock()
	select {
	case t.more <- struct{}{}:
	default:
	}
}

// publishAll publishes a target's chunks until publishing stops.
func (c *Committer) publishAll(t *target) {
	for {
		t.waiting.Lock()
		var ch *Chunk
		if len(t.todo) > 0 {
			ch = t.todo[0]
		}
		t.waiting.Unlock()
		if ch == nil {
			select {
			case <-t.more:
				continue
			case <-c.stop.Done():
				return
			}
		}
		if err := c.publish(c.stop, t, ch); err != nil {
			if c.stop.Err() == nil {
				c.fail(fmt.Errorf("publish epoch %v to %s: %w", ch.Epoch, t.Name, err))
			}
			return
		}
		t.waiting.Lock()
		t.todo = t.todo[1:]
		t.waiting.Unlock()
		if ch.Last {
			c.published(ch.Epoch)
		}
	}
}

// publish publishes a chunk, trying again until it is there, it cannot be, or ctx ends.
func (c *Committer) publish(ctx context.Context, t *target, ch *Chunk) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err := t.Publisher.Publish(ctx, ch)
	said := ""
	for wait := 50 * time.Millisecond; err != nil; wait = min(2*wait, 10*time.Second) {
		if sinks.IsPermanent(err) || errors.Is(err, ErrFenced) || ctx.Err() != nil {
			return err
		}
		if err.Error() != said {
			said = err.Error()
			c.log.Warn("rows cannot be published yet", "target", t.Name, "epoch", ch.Epoch.String(), "err", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		var have state.Epoch
		var i int
		if have, i, err = c.fence(ctx, t); err != nil {
			continue
		}
		if have.After(ch.Epoch) || have == ch.Epoch && i >= ch.Index {
			return nil
		}
		err = t.Publisher.Publish(ctx, ch)
	}
	return nil
}

// published counts a target that has all of an epoch.
func (c *Committer) published(e state.Epoch) {
	c.mu.Lock()
	for _, p := range c.open {
		if p.epoch == e {
			p.left--
		}
	}
	c.mu.Unlock()
	c.settle()
}

// settle lets go of the epochs that all targets have, from the first on.
func (c *Committer) settle() {
	c.mu.Lock()
	var upTo state.Epoch
	n := 0
	for ; n < len(c.open) && c.open[n].left == 0; n++ {
		upTo = c.open[n].epoch
	}
	c.open = c.open[n:]
	if n > 0 {
		close(c.changed)
		c.changed = make(chan struct{})
	}
	c.mu.Unlock()
	if n == 0 {
		return
	}
	if err := c.o.Store.Forget(outboxFirst, appendEpochKey(nil, upTo.Next())); err != nil {
		c.fail(err)
	}
	for range n {
		<-c.room
	}
}

func (c *Committer) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.done)
	}
}

// Wait returns when all that was committed is published, or publishing failed for good, or ctx ends.
func (c *Committer) Wait(ctx context.Context) error {
	for {
		c.mu.Lock()
		n, err, changed := len(c.open), c.err, c.changed
		c.mu.Unlock()
		if err != nil || n == 0 {
			return err
		}
		select {
		case <-changed:
		case <-c.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Pending is how many epochs are committed and not published yet.
func (c *Committer) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// Err is why committing or publishing failed for good; nil while it works or is tried again.
func (c *Committer) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Done is closed when Err is not nil any more.
func (c *Committer) Done() <-chan struct{} { return c.done }

// Close stops publishing and closes the publishers. What is left is published by the next Recover. Commit is not called any more.
func (c *Committer) Close(ctx context.Context) error {
	c.end()
	c.loops.Wait()
	var err error
	for _, t := range c.targets {
		err = errors.Join(err, t.Publisher.Close(ctx))
	}
	return err
}
