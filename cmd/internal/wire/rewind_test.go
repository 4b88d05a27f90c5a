//go:build unix

package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/diag"
	"keystone/sources/kafka/embedded"
)

// The environment of a child: a server that kills itself, as kill -9 does, at the n-th step of a rewind.
const (
	childDir  = "KEYSTONE_REWIND_DIR"
	childStep = "KEYSTONE_REWIND_STEP"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := rewindChild(dir, os.Getenv(childStep)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func rewindChild(dir, step string) error {
	left, err := strconv.Atoi(step)
	if err != nil {
		return err
	}
	spec := ServeSpec{
		Dir: dir, Env: "default", Watch: true, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Show: func(diag.Diagnostics) {},
		Load: func() (*configs.Config, diag.Diagnostics) {
			return configs.Load(configs.LoadOptions{Dir: dir, Catalog: Catalog(), Version: "0.0.0"})
		},
		step: func(name string) {
			if left == 0 {
				fmt.Fprintln(os.Stderr, "killed:", name)
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			left--
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // it must not outlive the test
		_, _ = os.Stdin.Read(make([]byte, 1))
		cancel()
	}()
	return Serve(ctx, spec)
}

// rewound is a route between two topics, served by children.
type rewound struct {
	t        *testing.T
	dir      string
	in, out  string
	group    string
	broker   string
	adm      *kadm.Client
	expected int64 // records in the target
}

const rewindConfig = `
keystone {
  namespace = %q
}

cluster "main" {
  brokers = [%q]
}

stream "in" {
  topic      = %q
  partitions = 2
}

stream "out" {
  topic      = %q
  partitions = 2
}

route "copy" {
  from = stream.in
  to   = stream.out
  delivery {
    guarantee       = %q
    commit_interval = "50ms"
  }
}
`

const each = 100 // records per partition

func newRewound(t *testing.T, broker, guarantee string) *rewound {
	t.Helper()
	id := strconv.FormatInt(time.Now().UnixNano(), 36)
	r := &rewound{t: t, dir: t.TempDir(), in: "in-" + id, out: "out-" + id, group: "keystone.rewind-" + id + ".default.route.copy"}
	text := fmt.Sprintf(rewindConfig, "rewind-"+id, broker, r.in, r.out, guarantee)
	if err := os.WriteFile(filepath.Join(r.dir, "main.ks.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	r.adm, r.broker = kadm.NewClient(cl), broker
	stop := r.serve(-1)
	r.until("the topic", func() error {
		ts, err := r.adm.ListTopics(t.Context(), r.in)
		if err == nil && len(ts[r.in].Partitions) != 2 {
			err = errors.New("not there")
		}
		return err
	})
	for p := range int32(2) {
		for i := range each {
			rec := &kgo.Record{Topic: r.in, Partition: p, Value: fmt.Appendf(nil, `{"n":%d}`, i), Timestamp: time.Now()}
			if err := cl.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.expected = 2 * each
	r.settled()
	stop()
	return r
}

// serve starts a child that dies at a step; -1 is none. stop ends it, and gives what it wrote.
func (r *rewound) serve(step int) (stop func() string) {
	r.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+r.dir, childStep+"="+strconv.Itoa(step))
	var log strings.Builder
	cmd.Stderr = &log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }() // killed ones fail
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-done
	})
	r.until("the server answers", func() error {
		_, err := r.client().Version(r.t.Context())
		return err
	})
	return func() string {
		_ = stdin.Close() // it may have ended
		select {
		case <-done:
		case <-time.After(time.Minute):
			r.t.Fatal("the server does not end")
		}
		return log.String()
	}
}

func (r *rewound) client() *api.Client {
	path, err := api.SocketPath(filepath.Join(r.dir, ".keystone"), "default")
	if err != nil {
		r.t.Fatal(err)
	}
	c := api.NewUnixClient(path, api.Codec{Encode: EncodeGoal, Decode: DecodeGoal})
	r.t.Cleanup(c.Close)
	return c
}

func (r *rewound) until(what string, ok func() error) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond) // between questions to another process
	}
}

// settled waits until everything is delivered, as often as expected, and
// committed; and then wants that nothing more comes: the group is at the end, so nothing is left to read.
func (r *rewound) settled() {
	r.t.Helper()
	r.until("everything is delivered and committed", func() error {
		offsets, err := r.adm.FetchOffsets(r.t.Context(), r.group)
		if err != nil {
			return err
		}
		for p := range int32(2) {
			if o, ok := offsets.Lookup(r.in, p); !ok || o.At != each {
				return fmt.Errorf("partition %d is committed at %d", p, o.At)
			}
		}
		if n := r.delivered(); n < r.expected {
			return fmt.Errorf("%d records are delivered, want %d", n, r.expected)
		}
		return nil
	})
	if n := r.delivered(); n != r.expected {
		r.t.Fatalf("%d records are delivered, want %d", n, r.expected)
	}
}

func (r *rewound) delivered() int64 {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	ends, err := r.adm.ListCommittedOffsets(ctx, r.out)
	if err != nil {
		return -1
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.broker), kgo.ConsumeTopics(r.out), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	var n int64
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			r.t.Fatalf("the target cannot be read to its end: %v", left)
		}
		fs.EachRecord(func(rec *kgo.Record) {
			if !rec.Attrs.IsControl() {
				n++
			}
			if rec.Offset+1 >= left[rec.Partition] {
				delete(left, rec.Partition)
			}
		})
	}
	return n
}

// pending tells whether the store holds a rewind, by way of what the audit says last.
func (r *rewound) lastAction() string {
	lines, err := r.client().Audit(r.t.Context(), 1)
	if err != nil || len(lines) == 0 {
		return fmt.Sprint(err)
	}
	return lines[0].Action
}

func startBroker(t *testing.T) string {
	b, err := embedded.Start(t.Context(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b.Addrs()[0]
}

// TestRewindKilledAtAnyStep kills the server at each step of a rewind. The next
// start completes what was written down, exactly once; what was not written
// down did not happen.
func TestRewindKilledAtAnyStep(t *testing.T) {
	for _, guarantee := range []string{"at_least_once", "exactly_once"} {
		t.Run(guarantee, func(t *testing.T) { rewindKilledAtAnyStep(t, startBroker(t), guarantee) })
	}
}

// TestRealRewindKilledAtAnyStep is the same on a real Kafka.
func TestRealRewindKilledAtAnyStep(t *testing.T) {
	broker := os.Getenv("KEYSTONE_TEST_KAFKA")
	if broker == "" {
		t.Skip("no real Kafka: run `make e2e`, which starts one")
	}
	for _, guarantee := range []string{"at_least_once", "exactly_once"} {
		t.Run(guarantee, func(t *testing.T) { rewindKilledAtAnyStep(t, broker, guarantee) })
	}
}

func rewindKilledAtAnyStep(t *testing.T, broker, guarantee string) {
	r := newRewound(t, broker, guarantee)
	// Half of partition 0, and all of partition 1.
	ask := api.Rewind{Address: "route.copy", Offsets: []api.PartitionOffset{{Partition: 0, Offset: each / 2}, {Partition: 1, Offset: 0}}, Who: "me"}
	const repeats = each/2 + each
	var steps []string
	for step := 0; ; step++ {
		stop := r.serve(step)
		_, err := r.client().Rewind(t.Context(), ask)
		if err == nil { // there are no more steps
			r.expected += repeats
			r.settled()
			stop()
			break
		}
		log := stop()
		_, at, killed := strings.Cut(log, "killed: ")
		if !killed {
			t.Fatalf("step %d: %v\n%s", step, err, log)
		}
		at, _, _ = strings.Cut(at, "\n")
		steps = append(steps, at)
		if at != "before anything" {
			r.expected += repeats
		}
		stop = r.serve(-1)
		if at != "before anything" {
			r.until("the rewind is completed", func() error {
				if last := r.lastAction(); last != "rewound" {
					return errors.New(last)
				}
				return nil
			})
		}
		r.settled()
		stop()
		stop = r.serve(-1) // and is not done again
		r.until("the route runs", func() error { return r.runs() })
		r.settled()
		stop()
	}
	want := "before anything|the rewind is written down|the worker is stopped|the group is empty|the offsets are committed|the rewind is taken off"
	if got := strings.Join(steps, "|"); got != want {
		t.Errorf("killed at %s, want %s", got, want)
	}
}

func (r *rewound) runs() error {
	s, err := r.client().Status(r.t.Context())
	if err != nil {
		return err
	}
	for _, a := range s.Addresses {
		if a.Addr == "route.copy" && a.Health != "running" {
			return fmt.Errorf("%s: %s", a.Health, a.Error)
		}
	}
	return nil
}
