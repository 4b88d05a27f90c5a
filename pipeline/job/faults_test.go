package job

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"keystone/configs"
	"keystone/pipeline/job/commit"
	"keystone/pipeline/record"
	"keystone/pipeline/state"
	"keystone/sources"
)

// The points at which a process ends.
const (
	beforeCommit  = "before the state's commit"
	afterCommit   = "after the state's commit"
	beforePublish = "before the rows are published"
	afterPublish  = "after the rows are published"
	inSource      = "when the source shows the position"
)

// crash ends a life at the n-th passing of a point.
type crash struct {
	point string
	left  int
	kill  context.CancelCauseFunc
}

func (c *crash) at(point string) error {
	if c.point != point {
		return nil
	}
	if c.left--; c.left == 0 {
		c.kill(errKilled)
	}
	if c.left <= 0 {
		return errKilled
	}
	return nil
}

// log is a target as a Kafka cluster is one: a chunk appears whole with its marker, or not at all.
type log struct {
	rows  []commit.Out
	at    state.Epoch
	chunk int
}

// publisher writes to a log until its process ends.
type publisher struct {
	l *log
	c *crash
}

func (p *publisher) Recover(context.Context) (state.Epoch, int, error) {
	return p.l.at, p.l.chunk, nil
}

func (p *publisher) Publish(ctx context.Context, c *commit.Chunk) error {
	if err := errors.Join(ctx.Err(), p.c.at(beforePublish)); err != nil {
		return err
	}
	for _, r := range c.Rows {
		r.Key, r.Value = slices.Clone(r.Key), slices.Clone(r.Value)
		p.l.rows = append(p.l.rows, r)
	}
	p.l.at, p.l.chunk = c.Epoch, c.Index
	return p.c.at(afterPublish)
}

func (p *publisher) Close(context.Context) error { return nil }

// ending is a committer whose process ends around a commit.
type ending struct {
	*commit.Committer
	c *crash
}

func (e *ending) Commit(ctx context.Context, ep commit.Epoch) error {
	if err := e.c.at(beforeCommit); err != nil {
		return err
	}
	if err := e.Committer.Commit(ctx, ep); err != nil {
		return err
	}
	return e.c.at(afterCommit)
}

// shown is a source whose process ends when it stores a position.
type shown struct {
	*memSource
	c *crash
}

func (s *shown) Commit(context.Context, []record.Position) error { return s.c.at(inSource) }

func TestEpochsSurviveCrashesAtEachStep(t *testing.T) {
	in := events(rand.New(rand.NewPCG(21, 2)), 3, 300, 12, 4000, 20_000)
	f := newFlow(t)
	f.read("a", 4*time.Second)
	f.window("w", &configs.JobWindow{Kind: configs.WindowSession, Gap: 3 * time.Second}, "read.a", "n=count()", "s=sum(x)")
	f.write("out", "window.w", "")
	f.write("late", "window.w.late", "")
	want := f.final(f.run(way{tasks: 1, interval: time.Hour}, map[string][][]event{"read.a": in}))
	for _, point := range []string{beforeCommit, afterCommit, beforePublish, afterPublish, inSource} {
		t.Run(point, func(t *testing.T) {
			for seed := range uint64(4) {
				rng := rand.New(rand.NewPCG(seed, 5))
				dir, out, crashes := filepath.Join(t.TempDir(), "state"), &log{}, 0
				for life := 0; ; life++ {
					ctx, kill := context.WithCancelCause(t.Context())
					c := &crash{kill: kill}
					if life < 5 {
						c.point, c.left = point, 1+rng.IntN(1+min(life, 2))
					}
					src := newMemSource(in, seed*10+uint64(life))
					src.most = 8
					err := f.crashing(ctx, dir, &shown{src, c}, out, c, 1+rng.IntN(3))
					killed := errors.Is(context.Cause(ctx), errKilled) // perhaps when all was done
					kill(nil)
					if err != nil && !errors.Is(err, errKilled) {
						t.Fatalf("seed %d, life %d: %v", seed, life, err)
					}
					if err == nil && !killed {
						break
					}
					crashes++
				}
				if crashes == 0 {
					t.Errorf("seed %d: no life ended %s", seed, point)
				}
				same(t, fmt.Sprintf("seed %d", seed), f.final(&ledger{rows: out.rows}), want)
			}
		})
	}
}

// crashing is one life of a job with the committer that jobs have.
func (f *flow) crashing(ctx context.Context, dir string, src sources.Source, out *log, c *crash, tasks int) (err error) {
	store, err := state.Open(dir, state.Options{Job: "test", Generation: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	o := commit.Options{Store: store, Targets: []commit.Target{{Name: "log", Publisher: &publisher{out, c}}}}
	for _, w := range Writers(f.job) {
		o.Writers = append(o.Writers, commit.Writer{Name: w.Name(), Target: "log"})
	}
	com, err := commit.New(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, com.Close(context.WithoutCancel(ctx))) }()
	j, err := New(Spec{Job: f.job, Sources: map[string]sources.Source{"read.a": src}, Store: store, Commit: &ending{com, c}, Parallelism: tasks, Interval: time.Millisecond})
	if err != nil {
		return err
	}
	return j.Run(ctx)
}
