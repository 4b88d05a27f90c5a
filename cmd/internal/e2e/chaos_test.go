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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// chaosConfig has three routes of one stream: at least once, exactly once, and into files.
const chaosConfig = `
keystone {
  namespace = %q
  state_dir = "disks/state"
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

sink "file" "plays" {
  path = "disks/files/plays.ndjson"
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

route "files" {
  from   = stream.in
  filter = local.play
  to     = sink.plays
}
`

// chaosRoutes are their names.
var chaosRoutes = []string{"plays", "once", "files"}

// The filter has two forms that mean the same: changing from one to the other is an edit
// that takes effect and that the oracle need not know of.
var samePlay = [2]string{"kind == 'play'", "'play' == kind"}

// chaos is a cluster of three brokers, three installations of one namespace, and a load.
type chaos struct {
	t       *testing.T
	rng     *rand.Rand
	cluster *own
	walls   []*wall // one before each broker, on the way of the workers
	dirs    [3]string
	disks   [3][2]*disk // of the state, and of the files
	noDisks error       // why there are none
	workers [3]*process // nil: not running
	form    int
	load    load
	out     string
	once    string
	ns      string
	adm     *kadm.Client
	cl      *kgo.Client
	only    *regexp.Regexp // the faults that are wanted
	faults  map[string]int
	recover []time.Duration // from the end of a fault until something is delivered again
}

// TestRealChaos breaks brokers, workers and their connections while events
// flow, as a seed chooses: kill -9 and SIGSTOP of both, rebalances 1→3→1, edits in
// the middle of it, networks that are slow, silent, cut or gone, disks that are full. Afterwards an
// oracle reads what came out: nothing may be lost or
// out of order, and the route with exactly_once may have repeated nothing. One event in a
// hundred is broken, and the same holds for the dead letters of all. `make chaos` runs it for longer.
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
	only, err := regexp.Compile(os.Getenv("KEYSTONE_CHAOS_FAULTS"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the faults of this run are chosen by KEYSTONE_CHAOS_SEED=%d", seed)
	c := newChaos(t, seed)
	c.only = only
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
	cluster := ownBroker(t, "--brokers", "3", "--proxied")
	ns := name("chaos-")
	c := &chaos{
		t: t, rng: rand.New(rand.NewPCG(seed, 0)), cluster: cluster, ns: ns, out: name("out-"), once: name("once-"),
		load: load{topic: name("in-"), partitions: 6}, adm: admin(t, cluster.addr), cl: client(t, cluster.addr), faults: map[string]int{},
	}
	for a := range strings.SplitSeq(cluster.addr, ",") {
		c.walls = append(c.walls, newWall(t, a))
	}
	for i := range c.dirs {
		c.dirs[i] = t.TempDir()
		for j, name := range []string{"state", "files"} {
			if c.noDisks == nil {
				c.disks[i][j], c.noDisks = newDisk(t, filepath.Join(c.dirs[i], "disks", name), 64)
			}
		}
	}
	if c.noDisks != nil {
		t.Logf("no disk is filled: %v", c.noDisks)
	}
	c.edit()
	c.workers[0] = serve(t, c.dirs[0])
	for _, route := range chaosRoutes {
		c.workers[0].healthy("route."+route, "running")
	}
	return c
}

// edit writes the configuration of every installation, with the other form of the filter.
func (c *chaos) edit() {
	c.form = 1 - c.form
	var brokers []string
	for _, w := range c.walls {
		brokers = append(brokers, strconv.Quote(w.proxy.Listen))
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

// group is the consumer group of a route.
func (c *chaos) group(route string) string { return "keystone." + c.ns + ".default.route." + route }

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
		for _, route := range chaosRoutes {
			p.healthy("route."+route, "running")
			until(t, "everything is committed", func() error { return c.load.committed(c.adm, c.group(route)) })
			p.addsUp(t, "route."+route)
		}
		if i == 0 {
			continue
		}
		p.stop()
	}
	for _, route := range []string{"route.plays", "route.once"} { // verify reads streams
		out, err := run(t, "verify", "-json", route, c.dirs[0])
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if err != nil {
			t.Errorf("keystone verify %s: %v: %s", route, err, out)
		}
	}
	seen := map[event]bool{}
	lines := 0
	for _, dir := range c.dirs {
		lines += c.load.lines(t, filepath.Join(dir, "disks", "files", "plays.ndjson"), seen)
	}
	if len(seen) != c.load.wanted() {
		t.Errorf("%d of %d events are in the files", len(seen), c.load.wanted())
	}
	var lettered int
	lettersRepeated := map[string]int{}
	for _, route := range chaosRoutes {
		lettered, lettersRepeated[route] = c.letters(route)
	}
	if n := lettersRepeated["once"]; n > 0 {
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
	if c.noDisks != nil {
		t.Logf("     - full disks: none here: %v", c.noDisks)
	}
	t.Logf("lost 0, out of order 0; repeated %d to a stream and %d to files at_least_once, 0 exactly_once", repeated, lines)
	t.Logf("%d dead letters of each route: lost 0; repeated %d and %d at_least_once, 0 exactly_once", lettered, lettersRepeated["plays"], lettersRepeated["files"])
	t.Logf("until all routes delivered again: median %v, longest %v", c.recover[len(c.recover)/2].Round(time.Millisecond), c.recover[len(c.recover)-1].Round(time.Millisecond))
}
