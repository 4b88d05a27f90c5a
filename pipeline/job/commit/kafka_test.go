package commit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keystone/pipeline/record"
	"keystone/pipeline/state"
	sink "keystone/sinks/kafka"
	source "keystone/sources/kafka"
	"keystone/sources/kafka/admin"
	"keystone/sources/kafka/client"
	"keystone/sources/kafka/embedded"
)

// TestMain is also the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("KEYSTONE_COMMIT_VICTIM"); dir != "" {
		if err := victim(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	victimKeys  = 20
	victimParts = 3
)

// victim is a job that counts: epoch after epoch it writes the next rows, until it is killed or its input
// says to stop.
func victim(dir string) error {
	ctx := context.Background()
	s, err := state.Open(dir, state.Options{Job: "j"})
	if err != nil {
		return err
	}
	topics := strings.Split(os.Getenv("KEYSTONE_COMMIT_TOPICS"), ",")
	o, err := sink.NewOutbox(sink.OutboxConfig{
		Client: client.Options{Brokers: strings.Split(os.Getenv("KEYSTONE_COMMIT_BROKERS"), ",")}, ID: "keystone." + topics[0], Markers: topics[0] + ".markers",
		Topics: []sink.OutboxTopic{{Name: topics[0]}, {Name: topics[1]}}, Compression: "zstd",
	})
	if err != nil {
		return err
	}
	c, err := New(Options{Store: s, Writers: []Writer{{"write.a", "kafka"}, {"write.b", "kafka"}}, Targets: []Target{{"kafka", ToOutbox(o, []int32{0, 1})}}, ChunkBytes: 600})
	if err != nil {
		return err
	}
	for err = c.Recover(ctx); err != nil; err = c.Recover(ctx) {
		fmt.Fprintln(os.Stderr, err) // and tries again, as the engine does
	}
	e, meta := s.Last()
	n, _ := strconv.ParseInt(string(meta), 10, 64)
	e.Generation = s.Generation()
	var stop atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop.Store(true)
	}()
	rng := rand.New(rand.NewPCG(uint64(os.Getpid()), 1))
	for !stop.Load() {
		e = e.Next()
		var out []Out
		for range rng.IntN(60) {
			n++
			out = append(out, Out{Writer: int(n % 2), Key: fmt.Appendf(nil, "key-%d", n/2%victimKeys), Value: fmt.Append(nil, n), Time: n})
		}
		if err := c.Commit(ctx, Epoch{E: e, Meta: fmt.Append(nil, n), Out: out}); err != nil {
			return err
		}
		fmt.Println(n)
	}
	if err := c.Wait(ctx); err != nil {
		return err
	}
	return errors.Join(c.Close(ctx), s.Close())
}

func TestEmbeddedKilled(t *testing.T) {
	b, err := embedded.Start(t.Context(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	testKilled(t, client.Options{Brokers: b.Addrs()}, 25)
}

// A job that is killed fifty times gives readers of what is committed each row once, in the order of each key.
func TestRealKilled(t *testing.T) {
	addr := os.Getenv("KEYSTONE_TEST_KAFKA")
	if addr == "" {
		t.Skip("no real Kafka: set KEYSTONE_TEST_KAFKA=host:port, or run `make e2e`, which starts one")
	}
	testKilled(t, client.Options{Brokers: strings.Split(addr, ",")}, 50)
}

func testKilled(t *testing.T, o client.Options, kills int) {
	a, err := admin.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	name := fmt.Sprintf("commit-%d", time.Now().UnixNano())
	topics := []string{name, name + ".b"}
	for _, topic := range topics {
		if rs, err := a.Ensure(t.Context(), admin.StreamSpec{Topic: topic, Partitions: victimParts, Replication: 1}); err != nil || rs[topic].Err != nil {
			t.Fatal(err, rs)
		}
	}
	// The readers read beside it all, and judge what they see as they see it.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type count struct {
		rows int64
		err  error
	}
	var total atomic.Int64
	read := make(chan count, len(topics))
	for w, topic := range topics {
		go func() {
			var rows int64
			last := map[string]int64{}
			tap := source.Tap{Client: o, Topic: topic, Follow: true, ReadCommitted: true}
			err := tap.Read(ctx, func(b *record.Batch) error {
				for i := range b.Records {
					r := &b.Records[i]
					n, err := strconv.ParseInt(string(r.Value), 10, 64)
					key := string(r.Key)
					want := last[key] + 2*victimKeys
					if last[key] == 0 {
						want = n
						if n > 2*victimKeys {
							want = -1
						}
					}
					if err != nil || n != want || n%2 != int64(w) || r.Timestamp != n {
						return fmt.Errorf("%s: row %q after %d: a row is missing, or there twice", key, r.Value, last[key])
					}
					last[key] = n
					rows++
					total.Add(1)
				}
				return nil
			})
			read <- count{rows, err}
		}()
	}
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(7, 8))
	said := int64(0)
	for k := range kills + 1 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "KEYSTONE_COMMIT_VICTIM="+dir, "KEYSTONE_COMMIT_BROKERS="+strings.Join(o.Brokers, ","), "KEYSTONE_COMMIT_TOPICS="+strings.Join(topics, ","))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		scan := func() bool {
			if !lines.Scan() {
				return false
			}
			if said, err = strconv.ParseInt(lines.Text(), 10, 64); err != nil {
				t.Fatal(lines.Text())
			}
			return true
		}
		for range 1 + rng.IntN(12) {
			if !scan() {
				t.Fatal("the job ended by itself")
			}
		}
		if k < kills {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		} else if err := in.Close(); err != nil { // the last one ends in order
			t.Fatal(err)
		}
		for scan() {
		}
		if err = cmd.Wait(); k == kills && err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, %d rows", kills, said)
	for total.Load() < said {
		select {
		case c := <-read:
			t.Fatalf("after %d rows: %v", c.rows, c.err)
		case <-time.After(50 * time.Millisecond): // the readers are on their way
		}
	}
	cancel()
	for range topics {
		if c := <-read; c.err != nil && !errors.Is(c.err, context.Canceled) {
			t.Error(c.err)
		}
	}
	// What the readers saw had no gap and nothing twice; whatever came behind is found by reading to the end.
	var all int64
	for _, topic := range topics {
		if err := (source.Tap{Client: o, Topic: topic, ReadCommitted: true}).Read(t.Context(), func(b *record.Batch) error {
			all += int64(len(b.Records))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if all != said {
		t.Errorf("%d rows are there, and %d were written", all, said)
	}
}
