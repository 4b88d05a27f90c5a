package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/pipeline/verify"
	sinkkafka "keystone/sinks/kafka"
)

// verified runs `keystone verify -json` and gives the report; ok is what its exit code says.
func verified(t *testing.T, dir string, args ...string) (r verify.Report, ok bool) {
	t.Helper()
	out, err := run(t, append(append([]string{"verify", "-json"}, args...), "route.plays", dir)...)
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1 || out == "") {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if r.OK != (err == nil) {
		t.Errorf("ok is %v, and the command ended with %v", r.OK, err)
	}
	return r, err == nil
}

// agrees has `keystone verify` say what the oracle has found, of a route that
// has stopped: it read everything, and the repeats that the oracle saw are there.
func (f fixture) agrees(t *testing.T, repeated int) {
	t.Helper()
	r, ok := verified(t, f.dir)
	all := int64(f.partitions) * int64(f.each)
	if c := r.Total; !ok || c.Records != all || c.Delivered != all/5 || c.Filtered != all-all/5 || c.Repeated < int64(repeated) {
		t.Errorf("the oracle saw %d repeats; %s: %+v %+v", repeated, r.Verdict, c, r.Examples)
	}
}

// TestRealVerify judges a route on a real Kafka that was killed and whose
// filter was changed under load, and finds what is then put into the sink, and nothing
// in what an aborted transaction left there or retention took away.
func TestRealVerify(t *testing.T) {
	t.Parallel()
	addr := broker(t)
	f := newFixture(t, addr, 4000)
	p := serve(t, f.dir)
	p.healthy("route.plays", "running")
	cl := client(t, addr)
	adm := kadm.NewClient(cl)
	ctx := context.Background()
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	committed := func(n int) {
		t.Helper()
		until(t, fmt.Sprintf("%d of each partition are committed", n), func() error {
			at, err := adm.FetchOffsets(ctx, f.group)
			if err != nil {
				return err
			}
			for part := range f.partitions {
				if o, _ := at.Lookup(f.topic, part); o.At < int64(n) {
					return fmt.Errorf("partition %d: %d", part, o.At)
				}
			}
			return nil
		})
	}
	f.produce(t, cl, func(sent int) {
		switch sent {
		case 1000:
			// What follows is read by the other program only, also again after the kill: what
			// two programs have written of one record could not be counted below.
			committed(1000)
			before, err := p.status()
			if err != nil {
				t.Fatal(err)
			}
			config(t, f.dir, strings.Replace(f.text(addr), "kind == 'play'", "seq % 3 == 0", 1))
			until(t, "the edit is taken", func() error {
				if s, err := p.status(); err != nil || s.Serial == before.Serial {
					return fmt.Errorf("serial %d: %w", s.Serial, err)
				}
				return nil
			})
			if _, err := run(t, "apply", "-auto-approve", f.dir); err != nil { // the same goal: it waits
				t.Fatal(err)
			}
		case 2000:
			p.kill()
			p = serve(t, f.dir)
		case 3000:
			config(t, f.dir, f.text(addr))
		}
	})
	committed(f.each)
	r, ok := verified(t, f.dir)
	if c := r.Total; !ok || c.Records != 16000 || c.Delivered+c.Filtered != 16000 || len(c.Unjudged) > 0 || len(r.Partitions) != 4 {
		t.Fatalf("%s: %+v %+v %v", r.Verdict, c, r.Examples, r.Notes)
	}

	// What is in the sink, counted without verify.
	origins := map[sinkkafka.Origin]int{}
	var all []*kgo.Record
	reader := client(t, addr, kgo.ConsumeTopics(f.target), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	for int64(len(all)) < r.SinkRecords {
		fs := reader.PollFetches(bounded)
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		for _, rec := range fs.Records() {
			o, err := origin(rec)
			if err != nil {
				t.Fatal(err)
			}
			origins[o]++
			all = append(all, rec)
		}
	}
	if c := r.Total; int64(len(origins)) != c.Delivered || int64(len(all)-len(origins)) != c.Repeated {
		t.Errorf("the sink has %d origins in %d records; %+v", len(origins), len(all), c)
	}
	repeated := r.Total.Repeated

	// An aborted transaction has written nothing.
	copied := func(r *kgo.Record, value string) *kgo.Record {
		return &kgo.Record{Topic: f.target, Partition: r.Partition, Key: r.Key, Value: []byte(value), Headers: r.Headers, Timestamp: r.Timestamp}
	}
	tx := client(t, addr, kgo.TransactionalID(name("tx-")))
	if err := tx.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := tx.ProduceSync(ctx, copied(all[0], "aborted")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := tx.EndTransaction(ctx, kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	if r, ok := verified(t, f.dir); !ok || r.Total.Different > 0 {
		t.Errorf("an aborted transaction: %s %+v", r.Verdict, r.Examples)
	}

	if err := cl.ProduceSync(ctx, copied(all[0], string(all[0].Value)), copied(all[1], "altered")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	r, ok = verified(t, f.dir, "-rate", "1000000", "-since", "1h")
	if ok || r.Total.Different != 1 || r.Total.Repeated != repeated+1 || r.Total.Missing+r.Total.Unexpected > 0 {
		t.Errorf("a repeat and a change: %s %+v", r.Verdict, r.Total)
	}
	if !slices.ContainsFunc(r.Examples, func(e verify.Example) bool {
		return e.Kind == verify.ExampleDifferent && e.Topic == f.target && e.Partition == all[1].Partition && e.Text != ""
	}) {
		t.Errorf("the examples are %+v", r.Examples)
	}

	// Retention takes the beginning of the sink, and the change with it.
	ends, err := adm.ListEndOffsets(ctx, f.target)
	if err != nil {
		t.Fatal(err)
	}
	cut := kadm.Offsets{}
	ends.Each(func(o kadm.ListedOffset) { cut.AddOffset(o.Topic, o.Partition, o.Offset, -1) })
	if rs, err := adm.DeleteRecords(ctx, cut); err != nil || rs.Error() != nil {
		t.Fatal(err, rs.Error())
	}
	r, ok = verified(t, f.dir)
	if !ok || r.Total.Missing > 0 || r.Total.Unjudged[verify.ReasonSinkCut] == 0 {
		t.Errorf("without the sink's beginning: %s %+v", r.Verdict, r.Total)
	}
	p.stop()
	if r, ok := verified(t, f.dir, "-limit", "100"); !ok || r.Total.Records != 400 {
		t.Errorf("without a server: %s %+v", r.Verdict, r.Total)
	}
}
