package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// chaosConfig has two routes of one stream: at least once, and exactly once.
const chaosConfig = `
keystone {
  namespace = %q
}

cluster "main" {
  brokers = [%s]
}

stream "in" {
  topic      = %q
  partitions = 6
}

stream "out" {
  topic      = %q
  partitions = 6
}

stream "once" {
  topic      = %q
  partitions = 6
}

locals {
  play = %q
}

route "plays" {
  from   = stream.in
  filter = local.play
  to     = stream.out
}

route "once" {
  from   = stream.in
  filter = local.play
  to     = stream.once
  delivery {
    guarantee       = "exactly_once"
    commit_interval = "200ms"
  }
}
`

// The filter has two forms that mean the same: changing from one to the other is an edit
// that takes effect and that the oracle need not know of.
var samePlay = [2]string{"kind == 'play'", "'play' == kind"}

// chaos is a cluster of three brokers, three installations of one namespace, and a load.
type chaos struct {
	t       *testing.T
	rng     *rand.Rand
	cluster *own
	dirs    [3]string
	workers [3]*process // nil: not running
	form    int
	load    load
	out     string
	once    string
	ns      string
	adm     *kadm.Client
	cl      *kgo.Client
	faults  map[string]int
	recover []time.Duration // from the end of a fault until something is delivered again
}

// TestRealChaos breaks brokers, workers and their connections while events
// flow, as a seed chooses: kill -9 and SIGSTOP of both, rebalances 1→3→1, edits in
// the middle of it. Afterwards an oracle reads what came out: nothing may be lost or
// out of order, and the route with exactly_once may have repeated nothing. One event in a
// hundred is broken, and the same holds for the dead letters of both. `make chaos` runs it for longer.
func TestRealChaos(t *testing.T) {
	bound := 40 * time.Second
	if s := os.Getenv("KEYSTONE_CHAOS"); s != "" {
		var err error
		if bound, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("KEYSTONE_CHAOS_SEED"); s != "" && s != "0" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("the faults of this run are chosen by KEYSTONE_CHAOS_SEED=%d", seed)
	c := newChaos(t, seed)
	loaded, stop := c.start()
	for end := time.Now().Add(bound); time.Now().Before(end); {
		c.fault()
	}
	c.mend()
	stop()
	c.load.each = <-loaded
	c.judge()
}

func newChaos(t *testing.T, seed uint64) *chaos {
	t.Helper()
	cluster := ownBroker(t, "--brokers", "3")
	ns := name("chaos-")
	c := &chaos{
		t: t, rng: rand.New(rand.NewPCG(seed, 0)), cluster: cluster, ns: ns, out: name("out-"), once: name("once-"),
		load: load{topic: name("in-"), partitions: 6}, adm: admin(t, cluster.addr), cl: client(t, cluster.addr), faults: map[string]int{},
	}
	for i := range c.dirs {
		c.dirs[i] = t.TempDir()
	}
	c.edit()
	c.workers[0] = serve(t, c.dirs[0])
	c.workers[0].healthy("route.plays", "running")
	c.workers[0].healthy("route.once", "running")
	return c
}

// edit writes the configuration of every installation, with the other form of the filter.
func (c *chaos) edit() {
	c.form = 1 - c.form
	var brokers []string
	for _, a := range strings.Split(c.cluster.addr, ",") {
		brokers = append(brokers, strconv.Quote(a))
	}
	text := fmt.Sprintf(chaosConfig, c.ns, strings.Join(brokers, ", "), c.load.topic, c.out, c.once, samePlay[c.form])
	for _, dir := range c.dirs {
		config(c.t, dir, text)
	}
}

// start produces events, some hundred a second and partition, until stop is called, and then gives
// how many there are of each partition.
func (c *chaos) start() (each <-chan int, stop func()) {
	done := make(chan struct{})
	out := make(chan int, 1)
	ctx, cancel := context.WithCancel(context.Background())
	c.t.Cleanup(cancel)
	go func() {
		seq := 0
		var mu sync.Mutex
		var failed error
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				if err := errors.Join(c.cl.Flush(ctx), failed); err != nil {
					c.t.Errorf("the load could not be produced: %v", err)
				}
				out <- seq
				return
			case <-tick.C:
			}
			if c.cl.BufferedProduceRecords() > 50_000 {
				continue // the brokers are away
			}
			for range 20 {
				for p := range c.load.partitions {
					kind := "other"
					if seq%5 == 0 {
						kind = "play"
					}
					v, _ := json.Marshal(event{p, seq, kind}) // cannot fail
					if broken(seq) {
						v = v[:len(v)-1]
					}
					c.cl.Produce(ctx, &kgo.Record{Topic: c.load.topic, Partition: p, Value: v}, func(_ *kgo.Record, err error) {
						if err != nil {
							mu.Lock()
							failed = errors.Join(failed, err)
							mu.Unlock()
						}
					})
				}
				seq++
			}
		}
	}()
	return out, func() { close(done) }
}

// broken tells which events lack their last byte, and belong into the dead letters. Those that the
// filter wants are not among them: the oracle of the targets wants all of these.
func broken(seq int) bool { return seq%97 == 50 && seq%5 != 0 }

// letters reads the dead letters of a route to their end, as a reader of committed records. Each broken event has
// to be there, with its bytes, and nothing else. It gives how many there are, and how many were repeated.
func (c *chaos) letters(route string) (n, repeated int) {
	t := c.t
	topic := "keystone.dead-letters." + c.ns + ".default." + route
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	left := map[int32]int64{}
	until(t, "no transaction is open in "+topic, func() error {
		ends, err := c.adm.ListEndOffsets(ctx, topic)
		if err = errors.Join(err, ends.Error()); err != nil {
			return err
		}
		stable, err := c.adm.ListCommittedOffsets(ctx, topic)
		ends.Each(func(e kadm.ListedOffset) {
			if s, _ := stable.Lookup(topic, e.Partition); s.Offset != e.Offset {
				err = errors.Join(err, fmt.Errorf("partition %d is stable to %d of %d", e.Partition, s.Offset, e.Offset))
			}
			if e.Offset > 0 {
				left[e.Partition] = e.Offset
			}
		})
		return err
	})
	cl := client(t, c.cluster.addr, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	seen := map[event]bool{}
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%s cannot be read to its end: %v", topic, left)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			if r.Attrs.IsControl() {
				return
			}
			var e event
			if err := json.Unmarshal(append(slices.Clone(r.Value), '}'), &e); err != nil {
				t.Fatalf("%s holds %q: %v", topic, r.Value, err)
			}
			whole, _ := json.Marshal(e) // cannot fail
			switch {
			case e.P < 0 || e.P >= c.load.partitions || e.Seq < 0 || e.Seq >= c.load.each || !broken(e.Seq) || string(whole[:len(whole)-1]) != string(r.Value):
				t.Errorf("%s holds %q, which should not be there", topic, r.Value)
			case seen[e]:
				repeated++
			}
			seen[e] = true
		})
	}
	want := 0
	for seq := range c.load.each {
		if broken(seq) {
			want += int(c.load.partitions)
		}
	}
	if len(seen) != want {
		t.Errorf("%d of %d broken events are in %s", len(seen), want, topic)
	}
	return want, repeated
}

// fault breaks something, and waits until both routes deliver again.
func (c *chaos) fault() {
	i := c.rng.IntN(len(c.workers))
	kind := []string{
		"worker killed", "worker killed", "worker frozen", "worker stopped and started", "broker killed", "broker frozen",
		"members 1 to 3 or back", "edit", "edit and kill",
	}[c.rng.IntN(9)]
	if c.workers[i] == nil && strings.HasPrefix(kind, "worker") {
		i = slices.IndexFunc(c.workers[:], func(p *process) bool { return p != nil })
	}
	c.faults[kind]++
	switch kind {
	case "worker killed":
		c.workers[i].kill()
		c.workers[i] = serve(c.t, c.dirs[i])
	case "worker frozen":
		p := c.workers[i].cmd.Process
		c.frozen(p.Pid, c.pause())
	case "worker stopped and started":
		c.workers[i].stop()
		c.workers[i] = serve(c.t, c.dirs[i])
	case "broker killed":
		b := strconv.Itoa(1 + c.rng.IntN(3))
		c.cluster.run("stop", "--kill", "--data", c.cluster.data, "--broker", b)
		time.Sleep(c.pause()) // how long it is away
		c.cluster.start()
	case "broker frozen":
		b := strconv.Itoa(1 + c.rng.IntN(3))
		pid, err := os.ReadFile(filepath.Join(c.cluster.data, b, "pid"))
		if err != nil {
			c.t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(pid)))
		if err != nil {
			c.t.Fatal(err)
		}
		c.frozen(n, c.pause())
	case "members 1 to 3 or back":
		c.scale()
	case "edit":
		c.edit()
	case "edit and kill":
		c.edit()
		j := slices.IndexFunc(c.workers[:], func(p *process) bool { return p != nil })
		c.workers[j].kill()
		c.workers[j] = serve(c.t, c.dirs[j])
	}
	c.delivers(kind)
}

// pause is how long something is away: mostly shorter than what others wait for, rarely longer than a session.
func (c *chaos) pause() time.Duration {
	if os.Getenv("KEYSTONE_CHAOS") != "" && c.rng.IntN(8) == 0 {
		return 50 * time.Second
	}
	return time.Duration(100+c.rng.IntN(4000)) * time.Millisecond
}

// frozen stops a process as a debugger would: its connections stay, half open.
func (c *chaos) frozen(pid int, d time.Duration) {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		c.t.Fatal(err)
	}
	time.Sleep(d) // how long it is frozen
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		c.t.Fatal(err)
	}
}

// scale has three members where there is one, and one where there are more.
func (c *chaos) scale() {
	if slices.Contains(c.workers[:], nil) {
		for i := range c.workers {
			if c.workers[i] == nil {
				c.workers[i] = serve(c.t, c.dirs[i])
			}
		}
		return
	}
	keep := c.rng.IntN(3)
	for i := range c.workers {
		if i == keep {
			continue
		}
		if c.rng.IntN(2) == 0 {
			c.workers[i].stop()
		} else {
			c.workers[i].kill() // the others wait for its session to end
		}
		c.workers[i] = nil
	}
}

// delivers waits until both targets grow, and notes how long that took.
func (c *chaos) delivers(after string) {
	begun := time.Now()
	end := func(topic string) (n int64) {
		os, err := c.adm.ListEndOffsets(context.Background(), topic)
		if err != nil {
			return -1
		}
		os.Each(func(o kadm.ListedOffset) { n += o.Offset })
		return n
	}
	first := map[string]int64{}
	for _, topic := range []string{c.out, c.once} {
		until(c.t, fmt.Sprintf("%s grows after %s", topic, after), func() error {
			n := end(topic)
			if _, ok := first[topic]; !ok && n >= 0 {
				first[topic] = n
			}
			if f, ok := first[topic]; !ok || n <= f {
				return fmt.Errorf("it has %d", n)
			}
			return nil
		})
	}
	c.recover = append(c.recover, time.Since(begun))
}

// mend starts whatever does not run.
func (c *chaos) mend() {
	c.cluster.start()
	for i := range c.workers {
		if c.workers[i] == nil {
			c.workers[i] = serve(c.t, c.dirs[i])
		}
	}
}

// judge reads what came out, and asks `keystone verify` too.
func (c *chaos) judge() {
	t := c.t
	repeated := c.load.oracle(t, c.cluster.addr, c.out)
	once := c.load
	once.route = "route.once"
	if n := once.oracle(t, c.cluster.addr, c.once); n > 0 {
		t.Errorf("route.once has repeated %d events", n)
	}
	for i, p := range c.workers {
		p.healthy("route.plays", "running")
		p.healthy("route.once", "running")
		for _, route := range []string{"plays", "once"} {
			until(t, "everything is committed", func() error { return c.load.committed(c.adm, "keystone."+c.ns+".default.route."+route) })
		}
		if i == 0 {
			continue
		}
		p.stop()
	}
	for _, route := range []string{"route.plays", "route.once"} {
		out, err := run(t, "verify", "-json", route, c.dirs[0])
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if err != nil {
			t.Errorf("keystone verify %s: %v: %s", route, err, out)
		}
	}
	lettered, lettersRepeated := c.letters("plays")
	if _, n := c.letters("once"); n > 0 {
		t.Errorf("route.once has repeated %d of %d dead letters", n, lettered)
	}
	slices.Sort(c.recover)
	all := 0
	for _, n := range c.faults {
		all += n
	}
	t.Logf("%d events, %d faults:", int(c.load.partitions)*c.load.each, all)
	for _, kind := range slices.Sorted(maps.Keys(c.faults)) {
		t.Logf("  %4d %s", c.faults[kind], kind)
	}
	t.Logf("lost 0, out of order 0, repeated %d of at_least_once, 0 of exactly_once", repeated)
	t.Logf("%d dead letters of each route: lost 0, repeated %d of at_least_once, 0 of exactly_once", lettered, lettersRepeated)
	t.Logf("until both routes delivered again: median %v, longest %v", c.recover[len(c.recover)/2].Round(time.Millisecond), c.recover[len(c.recover)-1].Round(time.Millisecond))
}
