package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keystone/configs"
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl"
	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/job/commit"
	"keystone/pipeline/record"
	"keystone/pipeline/state"
	"keystone/sources"
)

// event is a record of a test.
type event struct {
	key, value string
	stamp      int64
}

// memory is a source of several partitions that gives pieces of them in an order that a seed decides.
type memSource struct {
	parts  [][]event
	rng    *rand.Rand
	paused map[int32]bool
	next   []int64
	most   int // records of a batch
	mu     sync.Mutex
	// hold keeps the source open at its end.
	hold bool
	read func(part int32, off int64) // called for each batch
}

func newMemSource(parts [][]event, seed uint64) *memSource {
	return &memSource{parts: parts, rng: rand.New(rand.NewPCG(seed, 7)), most: 20, paused: map[int32]bool{}}
}

func (s *memSource) Open(_ context.Context, from []record.Position, l sources.Listener) error {
	s.next = make([]int64, len(s.parts))
	var at []record.Position
	for _, p := range from {
		s.next[p.Partition] = p.Offset
	}
	for i := range s.parts {
		at = append(at, record.Position{Partition: int32(i), Offset: s.next[i]})
	}
	l.Assigned(at)
	return nil
}

func (s *memSource) Read(ctx context.Context, b *record.Batch) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.mu.Lock()
		var can []int
		left := false
		for i := range s.parts {
			if int(s.next[i]) < len(s.parts[i]) {
				left = true
				if !s.paused[int32(i)] {
					can = append(can, i)
				}
			}
		}
		s.mu.Unlock()
		if !left && !s.hold {
			return io.EOF
		}
		if len(can) == 0 {
			t := time.NewTimer(10 * time.Millisecond)
			select {
			case <-ctx.Done():
			case <-t.C:
			}
			t.Stop()
			continue
		}
		i := can[s.rng.IntN(len(can))]
		s.mu.Lock()
		defer s.mu.Unlock()
		b.Topic, b.Partition = "in", int32(i)
		for n := 1 + s.rng.IntN(s.most); n > 0 && int(s.next[i]) < len(s.parts[i]); n-- {
			e := s.parts[i][s.next[i]]
			r := record.Record{Offset: s.next[i], Timestamp: e.stamp, Value: []byte(e.value)}
			if e.key != "" {
				r.Key = []byte(e.key)
			}
			if e.value == "" {
				r.Value = nil
			}
			b.Records = append(b.Records, r)
			b.Bytes += len(e.value)
			s.next[i]++
		}
		b.Next = record.Position{Partition: int32(i), Offset: s.next[i]}
		if s.read != nil {
			s.read(int32(i), s.next[i])
		}
		return nil
	}
}

func (s *memSource) Commit(context.Context, []record.Position) error { return nil }

func (s *memSource) Pause(parts []int32)  { s.set(parts, true) }
func (s *memSource) Resume(parts []int32) { s.set(parts, false) }

func (s *memSource) set(parts []int32, to bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range parts {
		s.paused[p] = to
	}
}

func (s *memSource) Ends() map[int32]int64 {
	out := map[int32]int64{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.parts {
		out[int32(i)] = int64(len(s.parts[i]))
	}
	return out
}

func (s *memSource) Close(context.Context) error { return nil }

// ledger is what was written, epoch by epoch; it outlives the processes that write.
type ledger struct {
	mu   sync.Mutex
	rows []commit.Out
	at   state.Epoch
}

// keeper commits epochs of a store, and the rows with them.
type keeper struct {
	s    *state.Store
	l    *ledger
	done chan struct{}
	// fault is called before and after the commit of the state; an error of it is a crash there.
	fault func(point string, e state.Epoch) error
}

func newKeeper(s *state.Store, l *ledger) *keeper {
	return &keeper{s: s, l: l, done: make(chan struct{})}
}

func (k *keeper) Recover(context.Context) error { return nil }

func (k *keeper) Commit(_ context.Context, e commit.Epoch) error {
	if k.fault != nil {
		if err := k.fault("before", e.E); err != nil {
			return err
		}
	}
	b := e.Batch
	if b == nil {
		b = k.s.NewBatch()
	}
	if err := k.s.Commit(b, e.E, e.Meta); err != nil {
		return err
	}
	k.l.mu.Lock()
	k.l.rows = append(k.l.rows, e.Out...)
	k.l.at = e.E
	k.l.mu.Unlock()
	if k.fault != nil {
		return k.fault("after", e.E)
	}
	return nil
}

func (k *keeper) Wait(context.Context) error { return nil }
func (k *keeper) Done() <-chan struct{}      { return k.done }
func (k *keeper) Err() error                 { return nil }

// letters makes a row of a dead letter.
type letters struct{ writer int }

func (l letters) Letter(f *Failure) (commit.Out, error) {
	return commit.Out{Writer: l.writer, Value: []byte(f.Operator + " " + f.Err.Code + " " + string(f.Record.Value))}, nil
}

// flow builds a job by hand.
type flow struct {
	t   testing.TB
	job *configs.Job
	by  map[string]*configs.Operator
	// killed counts lives that ended early, evicted keys that went out of memory.
	killed  int
	evicted int64
}

func newFlow(t testing.TB) *flow {
	return &flow{t: t, job: &configs.Job{OnError: configs.DropRecord, KeyGroups: 16}, by: map[string]*configs.Operator{}}
}

var eventType = types.ObjectOf(
	types.Field{Name: "k", Type: types.StringType},
	types.Field{Name: "ts", Type: types.TimestampMsType},
	types.Field{Name: "v", Type: types.IntType},
	types.Field{Name: "x", Type: types.FloatType},
)

func (f *flow) expr(text string, in types.Type) *ir.Expr {
	f.t.Helper()
	e, diags := dsl.CheckExpr(diag.Text{S: text}, dsl.Env{Event: in})
	if diags.HasErrors() {
		f.t.Fatalf("%s: %v", text, diags.Err())
	}
	return e
}

// add puts an operator behind others: "read.a", or with a port "window.w.late".
func (f *flow) add(kind, label string, o *configs.Operator, inputs ...string) *configs.Operator {
	f.t.Helper()
	o.Kind, o.Label = kind, label
	for _, in := range inputs {
		parts := strings.SplitN(in, ".", 3)
		from := f.by[parts[0]+"."+parts[1]]
		if from == nil {
			f.t.Fatalf("no operator %s", in)
		}
		port := ""
		if len(parts) == 3 {
			port = parts[2]
		}
		o.Inputs = append(o.Inputs, configs.OperatorInput{From: from, Port: port})
	}
	f.job.Operators = append(f.job.Operators, o)
	f.by[o.Name()] = o
	return o
}

func (f *flow) read(label string, delay time.Duration) {
	f.add("read", label, &configs.Operator{Output: eventType, Read: &configs.JobRead{Input: eventType, EventTime: f.expr("ts", eventType), Watermark: delay, Idle: time.Minute}})
}

func (f *flow) key(in types.Type, names ...string) []configs.KeyField {
	var out []configs.KeyField
	for _, n := range names {
		out = append(out, configs.KeyField{Name: n, Expr: f.expr(n, in)})
	}
	return out
}

func (f *flow) window(label string, w *configs.JobWindow, input string, fields ...string) {
	f.t.Helper()
	f.windowBy(label, w, input, "k", fields...)
}

func (f *flow) windowBy(label string, w *configs.JobWindow, input, key string, fields ...string) {
	f.t.Helper()
	kind := "window"
	if w.Kind == configs.WindowNone {
		kind = "aggregate"
	}
	if w.Emit == "" {
		w.Emit = configs.EmitOnClose
	}
	o := f.add(kind, label, &configs.Operator{Window: w}, input)
	in := o.Inputs[0].Type()
	var list []spec.Field
	for _, x := range fields {
		name, text, _ := strings.Cut(x, "=")
		list = append(list, spec.Field{Name: name, Expr: diag.Text{S: text}})
	}
	a, diags := dsl.CheckAggregation(list, dsl.Env{Event: in})
	if diags.HasErrors() {
		f.t.Fatalf("%v: %v", fields, diags.Err())
	}
	o.Aggregation, o.Key = a, f.key(in, key)
	o.Updates = w.Lateness > 0 || w.Emit != configs.EmitOnClose || w.Kind == configs.WindowNone
	o.Ports = map[string]types.Type{portLate: in}
	o.Output = types.Type{Kind: types.Object, Fields: append([]types.Field{{Name: key, Type: types.StringType}, {Name: "window_start", Type: types.TimestampMsType}, {Name: "window_end", Type: types.TimestampMsType}}, a.Type.Fields...)}
}

// write writes an input: appended where key is "", else by that message key.
func (f *flow) write(label, input, key string) {
	f.t.Helper()
	w := &configs.JobWrite{Changelog: configs.ChangelogAppend}
	o := f.add("write", label, &configs.Operator{Write: w}, input)
	in := o.Inputs[0].Type()
	w.Row, w.Program = in, &ir.Route{Input: in, OutputType: in, Format: ir.JSON, Decode: ir.DecodeLazy}
	if key != "" {
		w.Changelog, w.Key = configs.ChangelogUpsert, f.expr(key, in)
		w.Program.Key = w.Key
	}
}

// way is how a job is run.
type way struct {
	seed     uint64
	tasks    int // 0: others each time
	kills    int
	interval time.Duration
	memory   int64
	most     int
}

var errKilled = errors.New("killed")

// run runs a job over its input to the end and gives what was written, killed on the way as often as the way says.
func (f *flow) run(w way, in map[string][][]event) *ledger {
	f.t.Helper()
	dir := filepath.Join(f.t.TempDir(), "state")
	rng := rand.New(rand.NewPCG(w.seed, 3))
	out := &ledger{}
	for life := 0; ; life++ {
		tasks := w.tasks
		if tasks == 0 {
			tasks = 1 + rng.IntN(4)
		}
		ctx, kill := context.WithCancelCause(f.t.Context())
		total := 0
		for _, parts := range in {
			for _, p := range parts {
				total += len(p)
			}
		}
		srcs := map[string]sources.Source{}
		var mu sync.Mutex
		left := 1 + rng.IntN(max(1, total))
		names := make([]string, 0, len(in))
		for name := range in {
			names = append(names, name)
		}
		slices.Sort(names)
		for i, name := range names {
			s := newMemSource(in[name], w.seed*100+uint64(life*10+i))
			if w.most > 0 {
				s.most = w.most
			}
			var last int64
			s.read = func(_ int32, off int64) {
				mu.Lock()
				defer mu.Unlock()
				left -= 10
				last = off
				if life < w.kills && left < 0 {
					kill(errKilled)
				}
			}
			_ = last
			srcs[name] = s
		}
		err := f.life(ctx, dir, w, tasks, srcs, out)
		kill(nil)
		if life < w.kills && errors.Is(err, errKilled) {
			f.killed++
			continue
		}
		if err != nil {
			f.t.Fatalf("seed %d, life %d: %v", w.seed, life, err)
		}
		return out
	}
}

func (f *flow) life(ctx context.Context, dir string, w way, tasks int, srcs map[string]sources.Source, out *ledger) error {
	store, err := state.Open(dir, state.Options{Job: "test", Generation: 1})
	if err != nil {
		return err
	}
	cfg := *f.job
	cfg.State.Memory = w.memory
	j, err := New(Spec{Job: &cfg, Sources: srcs, Store: store, Commit: newKeeper(store, out), Letters: letters{len(Writers(f.job))}, Parallelism: tasks, Interval: cmp.Or(w.interval, 2*time.Millisecond)})
	if err != nil {
		return errors.Join(err, store.Close())
	}
	if w.memory > 0 {
		j.leastMemory = w.memory
	}
	err = j.Run(ctx)
	f.evicted += j.evictions.Load()
	return errors.Join(err, store.Close())
}

// final gives what a reader of the output ends with, sorted: of each writer the rows, or the last row of each key.
func (f *flow) final(l *ledger) []string {
	writers := Writers(f.job)
	var out []string
	last := map[string]string{}
	for _, r := range l.rows {
		name := "letter"
		if r.Writer < len(writers) {
			name = writers[r.Writer].Label
			if writers[r.Writer].Write.Changelog == configs.ChangelogUpsert {
				k := name + " " + string(r.Key)
				if r.Value == nil {
					delete(last, k)
				} else {
					last[k] = string(r.Value)
				}
				continue
			}
		}
		out = append(out, name+" "+string(r.Value))
	}
	for k, v := range last {
		out = append(out, k+" "+v)
	}
	slices.Sort(out)
	return out
}

// same compares two lists of rows.
func same(t testing.TB, what string, got, want []string) {
	t.Helper()
	g, w := map[string]int{}, map[string]int{}
	for _, r := range got {
		g[r]++
	}
	for _, r := range want {
		w[r]++
	}
	bad := 0
	for r, n := range w {
		if g[r] != n {
			t.Errorf("%s: %d times, want %d: %s", what, g[r], n, r)
			bad++
		}
		if bad > 10 {
			t.FailNow()
		}
	}
	for r, n := range g {
		if w[r] == 0 {
			t.Errorf("%s: %d times, want 0: %s", what, n, r)
			bad++
		}
		if bad > 10 {
			t.FailNow()
		}
	}
	if bad > 0 {
		t.FailNow()
	}
}

// ways are ways to run a job, all of which give the same rows.
func ways(n int) []way {
	out := []way{{seed: 1, tasks: 1, interval: time.Hour}, {seed: 2, tasks: 3}}
	for i := range n {
		out = append(out, way{seed: uint64(10 + i), kills: i % 4, memory: int64(i%2) * 3000, most: 1 + i%7*9})
	}
	return out
}

// events makes events of some keys in partitions, within a disorder; some are later than it.
func events(rng *rand.Rand, parts, n, keys int, disorder, late int64) [][]event {
	out := make([][]event, parts)
	for p := range out {
		now := int64(1_700_000_000_000)
		for range n {
			now += rng.Int64N(2000)
			ts := now - rng.Int64N(disorder+1)
			if late > 0 && rng.IntN(20) == 0 {
				ts -= rng.Int64N(late)
			}
			v := rng.IntN(100)
			out[p] = append(out[p], event{value: fmt.Sprintf(`{"k":"k%d","ts":%d,"v":%d,"x":%g}`, rng.IntN(keys), ts, v, rng.NormFloat64()*1e6), stamp: now})
		}
	}
	return out
}

type counter struct{ n int }

// discard commits state and counts rows.
type discard struct {
	keeper
	n *counter
}

func (d *discard) Commit(ctx context.Context, e commit.Epoch) error {
	d.n.n += len(e.Out)
	e.Out = nil
	return d.keeper.Commit(ctx, e)
}
