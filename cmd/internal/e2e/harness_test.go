// Package e2e runs the keystone binary against a real Apache Kafka, and an
// oracle reads what came out. `make e2e` starts the broker.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
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

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	sinkkafka "keystone/sinks/kafka"
)

// patience bounds every wait: two cores are soon busy.
const patience = 3 * time.Minute

var binary struct {
	once sync.Once
	path string
	err  error
}

// keystone builds the binary once.
func keystone(t *testing.T) string {
	t.Helper()
	binary.once.Do(func() {
		dir, err := os.MkdirTemp("", "keystone-e2e-")
		if err != nil {
			binary.err = err
			return
		}
		binary.path = filepath.Join(dir, "keystone")
		out, err := exec.Command("go", "build", "-o", binary.path, "keystone/cmd/keystone").CombinedOutput()
		if err != nil {
			binary.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if binary.err != nil {
		t.Fatal(binary.err)
	}
	return binary.path
}

func TestMain(m *testing.M) {
	code := m.Run()
	if binary.path != "" {
		os.RemoveAll(filepath.Dir(binary.path))
	}
	os.Exit(code)
}

// broker gives the address of the Kafka that `make e2e` started.
func broker(t *testing.T) string {
	t.Helper()
	a := os.Getenv("KEYSTONE_TEST_KAFKA")
	if a == "" {
		t.Skip("no real Kafka: set KEYSTONE_TEST_KAFKA=host:port, or run `make e2e`, which starts one")
	}
	return a
}

// own starts a broker for one test, which may stop and start it.
type own struct {
	t        *testing.T
	sh, data string
	args     []string // that it was started with
	addr     string
}

func ownBroker(t *testing.T, args ...string) *own {
	t.Helper()
	sh := os.Getenv("KEYSTONE_TEST_KAFKA_SH")
	if sh == "" {
		t.Skip("no real Kafka: run `make e2e`, which sets KEYSTONE_TEST_KAFKA_SH to the script that starts one")
	}
	o := &own{t: t, sh: sh, data: t.TempDir(), args: args}
	o.addr = strings.TrimSpace(o.start())
	t.Cleanup(func() { _ = exec.Command(o.sh, "stop", "--kill", "--data", o.data).Run() })
	return o
}

func (o *own) run(args ...string) string {
	o.t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(o.sh, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		o.t.Fatalf("%s %v: %v\n%s", o.sh, args, err, stderr.String())
	}
	return string(out)
}

func (o *own) kill() { o.run("stop", "--kill", "--data", o.data) }

// start starts what does not run, and gives the addresses.
func (o *own) start() string {
	return o.run(append([]string{"start", "--port", "0", "--data", o.data}, o.args...)...)
}

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(strings.Split(addr, ",")...), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func admin(t *testing.T, addr string) *kadm.Client { return kadm.NewClient(client(t, addr)) }

// name gives a name that no other run has used.
func name(prefix string) string { return prefix + strconv.FormatInt(time.Now().UnixNano(), 36) }

// config writes a configuration into a folder.
func config(t *testing.T, dir, text string) {
	t.Helper()
	// Written beside and renamed, as editors do.
	tmp := filepath.Join(dir, ".main.tmp")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, "main.ks.hcl")); err != nil {
		t.Fatal(err)
	}
}

// process is a running keystone.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	dir  string
	log  *bytes.Buffer
	done chan struct{}
	err  error
}

func serve(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p := &process{t: t, dir: dir, log: &bytes.Buffer{}, done: make(chan struct{})}
	p.cmd = exec.Command(keystone(t), append(append([]string{"serve"}, args...), dir)...)
	p.cmd.Stderr = p.log // read only after the process ended
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		if t.Failed() {
			p.tell()
			return
		}
		_ = p.cmd.Process.Kill()
		<-p.done
	})
	return p
}

// tell ends the process and shows the end of its log, and what it was doing.
func (p *process) tell() {
	_ = p.cmd.Process.Signal(syscall.SIGQUIT) // it prints its goroutines, if it runs
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	text, goroutines, _ := strings.Cut(p.log.String(), "SIGQUIT: quit")
	p.t.Logf("log of keystone serve %s:\n%s", p.dir, text[max(len(text)-8000, 0):])
	for g := range strings.SplitSeq(goroutines, "\n\n") {
		if strings.Contains(g, "keystone/") {
			p.t.Log(g)
		}
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop ends the process as a person would, and wants it to end well.
func (p *process) stop() {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatal("keystone serve did not stop")
	}
	if p.err != nil {
		p.t.Fatalf("keystone serve: %v", p.err)
	}
}

// run runs a command to its end and gives stdout.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(keystone(t), args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("keystone %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), err
}

// status is what the tests look at of `keystone status -json`.
type status struct {
	Serial  int64    `json:"serial"`
	Waiting []string `json:"waiting_for_apply"`

	Diagnostics []struct{ Summary, Detail string } // of an edit that was not taken

	Addresses []struct {
		Address  string `json:"address"`
		Health   string `json:"health"`
		Error    string `json:"error"`
		Lag      *int64 `json:"lag"`
		Restarts int    `json:"restarts"`
		Counters *struct {
			Read, Delivered, Filtered, Dropped, Abandoned int64

			DeadLettered int64 `json:"dead_lettered"`
			InFlight     int64 `json:"in_flight"`
		} `json:"counters"`
	} `json:"addresses"`
}

func (p *process) status() (status, error) {
	p.t.Helper()
	select {
	case <-p.done:
		p.t.Fatalf("keystone serve ended: %v", p.err)
	default:
	}
	var s status
	out, err := run(p.t, "status", "-json", p.dir)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// until asks again and again until ok holds, and fails with the last error.
func until(t *testing.T, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond) // between questions to another process
	}
}

// healthy waits until the address is as said.
func (p *process) healthy(address, health string) {
	p.t.Helper()
	until(p.t, address+" "+health, func() error {
		s, err := p.status()
		if err != nil {
			return err
		}
		for _, a := range s.Addresses {
			if a.Address == address {
				if a.Health == health {
					return nil
				}
				return fmt.Errorf("is %s: %s", a.Health, a.Error)
			}
		}
		return errors.New("not there")
	})
}

// load produces numbered events into every partition of a topic, at a pace,
// until all are acknowledged.
type load struct {
	topic      string
	partitions int32
	each       int    // per partition
	route      string // whose target the oracle reads; route.plays unless said
}

type event struct {
	P    int32  `json:"p"`
	Seq  int    `json:"seq"`
	Kind string `json:"kind"`
}

// produce writes the load in rounds; between them pause is called.
func (l load) produce(t *testing.T, cl *kgo.Client, pause func(sent int)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var mu sync.Mutex
	var failed error
	for seq := range l.each {
		for p := range l.partitions {
			kind := "other"
			if seq%5 == 0 {
				kind = "play"
			}
			v, _ := json.Marshal(event{p, seq, kind}) // cannot fail
			cl.Produce(ctx, &kgo.Record{Topic: l.topic, Partition: p, Value: v}, func(_ *kgo.Record, err error) {
				if err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
				}
			})
		}
		if pause != nil && seq%1000 == 999 {
			if err := cl.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			pause(seq + 1)
		}
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if failed != nil {
		t.Fatal(failed)
	}
}

// oracle reads the target until it holds every event of the load that passes
// the filter, and fails on anything else: an event that is missing, one that should not be there,
// first deliveries of a source partition out of order, a record that does not
// say where it came from. It gives the number of repeated ones.
func (l load) oracle(t *testing.T, addr, target string) (repeated int) {
	t.Helper()
	return l.oracleBy(t, addr, target, func(e event, _ []byte) string { return fmt.Sprint("partition ", e.P) })
}

// oracleBy is the oracle of another order: first deliveries with the same sequence are in that of
// their source partition. Those with none are in no order.
func (l load) oracleBy(t *testing.T, addr, target string, sequence func(e event, key []byte) string) (repeated int) {
	t.Helper()
	cl := client(t, addr, kgo.ConsumeTopics(target), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	want := int(l.partitions) * ((l.each + 4) / 5)
	seen := map[event]bool{}
	last := map[string]int{}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for len(seen) < want {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d events arrived", len(seen), want)
		}
		fs.EachRecord(func(r *kgo.Record) {
			var e event
			if err := json.Unmarshal(r.Value, &e); err != nil {
				t.Fatalf("partition %d offset %d: %v: %s", r.Partition, r.Offset, err, r.Value)
			}
			at, err := origin(r)
			switch {
			case err != nil || at.Route != cmp.Or(l.route, "route.plays") || at.Partition != e.P || at.Offset != int64(e.Seq):
				t.Fatalf("origin %+v of %s: %v", at, r.Value, err)
			case e.P < 0 || e.P >= l.partitions || e.Seq < 0 || e.Seq >= l.each || e.Seq%5 != 0:
				t.Fatalf("an event that should not be there: %s", r.Value)
			case seen[e]:
				repeated++
			default:
				in := sequence(e, r.Key)
				if before, ok := last[in]; ok && in != "" && e.Seq <= before {
					t.Fatalf("first delivery of %s after %d of %s", r.Value, before, in)
				}
				seen[e], last[in] = true, e.Seq
			}
		})
	}
	return repeated
}

// committed tells whether a group is at the end of what the load has produced.
func (l load) committed(adm *kadm.Client, group string) error {
	at, err := adm.FetchOffsets(context.Background(), group)
	if err != nil {
		return err
	}
	for p := range l.partitions {
		if o, _ := at.Lookup(l.topic, p); o.At != int64(l.each) {
			return fmt.Errorf("%s has committed %d of %d of partition %d", group, o.At, l.each, p)
		}
	}
	return nil
}

// origin reads the header that says where a record came from.
func origin(r *kgo.Record) (sinkkafka.Origin, error) {
	for _, h := range r.Headers {
		if h.Key == sinkkafka.OriginHeader {
			return sinkkafka.ParseOrigin(h.Value)
		}
	}
	return sinkkafka.Origin{}, errors.New("there is no header " + sinkkafka.OriginHeader)
}
