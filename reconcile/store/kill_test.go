//go:build unix

package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/spec"
	"keystone/reconcile"
	"keystone/reconcile/store"
)

// disk is a Runtime whose topics are files, so that they outlive the process,
// and whose workers are not. At its n-th step the process kills itself as
// kill -9 does.
type disk struct {
	dir  string
	step int // counts down; negative never kills

	mu      sync.Mutex
	workers map[addr.Addr]*configs.Resource
	streams map[addr.Addr]*configs.Resource
}

func (d *disk) kill() {
	if d.step == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	d.step--
}

func (d *disk) Observe(context.Context) (reconcile.Observed, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kill()
	o := reconcile.Observed{At: time.Now(), States: map[addr.Addr]reconcile.State{}}
	for a := range d.workers {
		o.States[a] = reconcile.State{Health: reconcile.Running, Lag: -1}
	}
	for a := range d.streams {
		h := reconcile.Running
		if _, err := os.Stat(filepath.Join(d.dir, a.Name)); err != nil {
			h = reconcile.Missing
		}
		o.States[a] = reconcile.State{Health: h, Lag: -1}
	}
	return o, nil
}

func (d *disk) Apply(_ context.Context, _ *configs.Config, c reconcile.Change) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kill()
	defer d.kill()
	leaves := c.Action == reconcile.Delete || c.Action == reconcile.Forget
	switch c.Addr.Type {
	case "route":
		delete(d.workers, c.Addr)
		if !leaves {
			d.workers[c.Addr] = c.After
		}
	case "stream":
		path := filepath.Join(d.dir, c.Addr.Name)
		delete(d.streams, c.Addr)
		if leaves {
			if c.Action == reconcile.Delete {
				if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
					return err
				}
			}
			return nil
		}
		d.streams[c.Addr] = c.After
		return os.WriteFile(path, nil, 0o600)
	}
	return nil
}

// goal gives one of the two revisions that the test goes between.
func goal(revision int64) *configs.Config {
	cfg := &configs.Config{Env: "default", Settings: configs.Settings{Namespace: "default"}, Streams: map[addr.Addr]*configs.Stream{}, Routes: map[addr.Addr]*configs.Route{}}
	add := func(typ, name string, opts ...string) {
		r := configs.Resource{Addr: addr.New(typ, name), Options: map[string]configs.Option{}}
		for i := 0; i < len(opts); i += 2 {
			r.Options[opts[i]] = configs.Option{Canonical: opts[i+1], Effect: spec.Drain, Layer: spec.LayerBlock}
		}
		cfg.Resources = append(cfg.Resources, r)
		ref := func(o string) spec.Ref {
			a, _ := addr.Parse(r.Options[o].Canonical)
			return spec.Ref{Addr: a}
		}
		switch typ {
		case "stream":
			cfg.Streams[r.Addr] = &configs.Stream{Addr: r.Addr, Topic: name, Managed: true}
		case "route":
			cfg.Routes[r.Addr] = &configs.Route{Addr: r.Addr, Enabled: true, From: ref("from"), To: ref("to"), Group: "g." + name}
		}
	}
	// In address order, as configs gives them.
	if revision == 1 {
		add("route", "a", "from", "stream.x", "to", "sink.s")
		add("route", "b", "from", "stream.x", "to", "stream.y")
		add("sink", "s", "path", `"1"`)
		add("stream", "x", "on_destroy", `"keep"`)
		add("stream", "y", "on_destroy", `"delete"`)
	} else {
		add("route", "a", "from", "stream.x", "to", "sink.s")
		add("route", "c", "from", "stream.z", "to", "sink.s")
		add("sink", "s", "path", `"2"`)
		add("stream", "x", "on_destroy", `"keep"`)
		add("stream", "z", "on_destroy", `"keep"`)
	}
	return cfg
}

// serve is a control plane on a directory, from its start to a settled goal.
func serve(ctx context.Context, dir string, revision int64, d *disk) (rows []reconcile.Applied, err error) {
	s, err := store.Open(ctx, store.Options{Dir: dir, Env: "default"})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	lease, err := s.Acquire(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lease.Release()) }()
	d.workers, d.streams = map[addr.Addr]*configs.Resource{}, map[addr.Addr]*configs.Resource{}
	loop := reconcile.NewLoop(reconcile.LoopSpec{Runtime: d, Ledger: s, Parallel: 1})
	goals := reconcile.NewGoals(reconcile.GoalsSpec{Revisions: s, Loop: loop,
		Encode: func(c *configs.Config) ([]byte, error) {
			if c.Streams[addr.New("stream", "z")] != nil {
				return []byte("2"), nil
			}
			return []byte("1"), nil
		},
		Decode: func(b []byte) (*configs.Config, error) {
			n, err := strconv.ParseInt(string(b), 10, 64)
			return goal(n), err
		}})
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(ctx) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	if err := goals.Open(ctx); err != nil {
		return nil, err
	}
	allow := []addr.Addr{}
	if revision == 2 {
		allow = append(allow, addr.New("stream", "y"))
	}
	rev, err := goals.Propose(ctx, reconcile.Proposal{Config: goal(revision), Serial: reconcile.Latest, Allow: allow})
	if err != nil {
		return nil, err
	}
	settled, err := loop.Settle(ctx, rev.Serial)
	if err != nil {
		return nil, err
	}
	if n := len(settled.Failed) + len(settled.Withheld) + len(settled.Waiting); n > 0 {
		return nil, fmt.Errorf("%d changes are not done: %+v", n, settled)
	}
	return s.LoadApplied(ctx)
}

// TestServeUntilKilled is the process that is killed; the test below runs it.
func TestServeUntilKilled(t *testing.T) {
	dir := os.Getenv("KEYSTONE_TEST_DIR")
	if dir == "" {
		t.Skip("run by TestKillNine")
	}
	step, err := strconv.Atoi(os.Getenv("KEYSTONE_TEST_STEP"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := serve(t.Context(), dir, 2, &disk{dir: filepath.Join(dir, "topics"), step: step}); err != nil {
		t.Fatal(err)
	}
}

// TestKillNine kills a process that goes from one revision to another, at
// each step of its work, and lets another process go on.
func TestKillNine(t *testing.T) {
	for step := 0; ; step++ {
		dir := t.TempDir()
		topics := filepath.Join(dir, "topics")
		if err := os.Mkdir(topics, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := serve(t.Context(), dir, 1, &disk{dir: topics, step: -1}); err != nil {
			t.Fatal(err)
		}
		child := exec.Command(os.Args[0], "-test.run=^TestServeUntilKilled$", "-test.count=1")
		child.Env = append(os.Environ(), "KEYSTONE_TEST_DIR="+dir, "KEYSTONE_TEST_STEP="+strconv.Itoa(step))
		out, err := child.CombinedOutput()
		var exit *exec.ExitError
		killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if err != nil && !killed {
			t.Fatalf("step %d: %v\n%s", step, err, out)
		}

		d := &disk{dir: topics, step: -1}
		rows, err := serve(t.Context(), dir, 2, d)
		if err != nil {
			t.Fatalf("after a kill at step %d: %v", step, err)
		}
		entries, err := os.ReadDir(topics)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if got := strings.Join(names, " "); got != "x z" {
			t.Errorf("after a kill at step %d the topics are %q", step, got)
		}
		if len(d.workers) != 2 || d.workers[addr.New("route", "a")] == nil || d.workers[addr.New("route", "c")] == nil {
			t.Errorf("after a kill at step %d the workers are %v", step, d.workers)
		}
		if len(rows) != 5 {
			t.Errorf("after a kill at step %d there are %d rows", step, len(rows))
		}
		for _, r := range rows {
			if r.Interrupted != nil || r.Resource == nil {
				t.Errorf("after a kill at step %d: %s is unfinished", step, r.Addr)
			}
			if sink := r.Deps[addr.New("sink", "s")]; sink != nil && sink.Options["path"].Canonical != `"2"` {
				t.Errorf("after a kill at step %d: %s writes to the old path", step, r.Addr)
			}
		}
		if !killed {
			if step < 10 {
				t.Errorf("only %d steps were tried", step)
			}
			return
		}
	}
}
