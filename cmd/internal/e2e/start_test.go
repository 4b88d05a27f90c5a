package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/cmd/internal/api"
)

// copying is a route that copies a topic, whose records are numbered per partition.
type copying struct {
	t              *testing.T
	addr           string // of the broker
	dir, namespace string
	in, out, group string
	adm            *kadm.Client
	sent           map[int32]int // records per partition
	began          time.Time     // the time of the first record
}

const copyConfig = `
keystone {
  namespace = %q
}

cluster "main" {
  brokers = [%q]
}

stream "in" {
  topic      = %q
  partitions = %d
}

stream "out" {
  topic      = %q
  partitions = 2
}

route "copy" {
  from = stream.in
  to   = stream.out
%s
  delivery {
    commit_interval = "100ms"
  }
}
`

func newCopying(t *testing.T, addr string) *copying {
	t.Helper()
	c := &copying{t: t, addr: addr, dir: t.TempDir(), namespace: name("e2e-"), in: name("in-"), out: name("out-"), sent: map[int32]int{}, began: time.Now().Add(-time.Hour).Truncate(time.Second)}
	c.group = "keystone." + c.namespace + ".default.route.copy"
	c.adm = admin(t, addr)
	c.create(c.in, 2)
	c.create(c.out, 2)
	return c
}

func (c *copying) create(topic string, partitions int32) {
	c.t.Helper()
	if _, err := c.adm.CreateTopic(c.t.Context(), partitions, 1, nil, topic); err != nil {
		c.t.Fatal(err)
	}
}

// write writes the configuration, with options of the route.
func (c *copying) write(addr string, partitions int, options string) {
	c.t.Helper()
	config(c.t, c.dir, fmt.Sprintf(copyConfig, c.namespace, addr, c.in, partitions, c.out, options))
}

// at is the time of a record: one a second.
func (c *copying) at(seq int) time.Time { return c.began.Add(time.Duration(seq) * time.Second) }

// produce adds n records to each of the partitions.
func (c *copying) produce(n int, partitions ...int32) {
	c.t.Helper()
	cl := client(c.t, c.addr) // a new one knows the partitions and the topic of now
	for _, p := range partitions {
		for range n {
			v, _ := json.Marshal(event{P: p, Seq: c.sent[p]}) // cannot fail
			r := &kgo.Record{Topic: c.in, Partition: p, Value: v, Timestamp: c.at(c.sent[p])}
			if err := cl.ProduceSync(c.t.Context(), r).FirstErr(); err != nil {
				c.t.Fatal(err)
			}
			c.sent[p]++
		}
	}
}

// committed gives what the group committed, by partition.
func (c *copying) committed() (map[int32]int64, error) {
	os, err := c.adm.FetchOffsets(context.Background(), c.group)
	out := map[int32]int64{}
	for p, o := range os[c.in] {
		if o.Err == nil && o.At >= 0 {
			out[p] = o.At
		}
	}
	return out, err
}

// reaches waits until the group has committed that.
func (c *copying) reaches(want map[int32]int64) {
	c.t.Helper()
	until(c.t, fmt.Sprintf("the group is at %v", want), func() error {
		have, err := c.committed()
		if err == nil && !maps.Equal(have, want) {
			err = fmt.Errorf("it is at %v", have)
		}
		return err
	})
}

// copied gives how often each record is in the target now, as PARTITION:SEQ.
func (c *copying) copied() (map[string]int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ends, err := c.adm.ListEndOffsets(ctx, c.out)
	if err != nil {
		return nil, err
	}
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.addr), kgo.ConsumeTopics(c.out), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	seen := map[string]int{}
	for left > 0 {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%d records are missing at the end of %s", left, c.out)
		}
		fs.EachRecord(func(r *kgo.Record) {
			var e event
			if json.Unmarshal(r.Value, &e) == nil {
				seen[fmt.Sprintf("%d:%d", e.P, e.Seq)]++
			}
			left--
		})
	}
	return seen, nil
}

// span gives the records [from, to) of a partition.
func span(p int32, from, to int) (out []string) {
	for seq := from; seq < to; seq++ {
		out = append(out, fmt.Sprintf("%d:%d", p, seq))
	}
	return out
}

// holds waits until the target has these records and no others, each once; or, with repeats, at least once.
func (c *copying) holds(repeats bool, want ...[]string) {
	c.t.Helper()
	all := slices.Concat(want...)
	until(c.t, "the target holds what it should", func() error {
		have, err := c.copied()
		if err != nil {
			return err
		}
		var missing, more []string
		for _, r := range all {
			if have[r] == 0 {
				missing = append(missing, r)
			}
			if have[r] > 1 && !repeats {
				more = append(more, fmt.Sprintf("%s %d times", r, have[r]))
			}
		}
		for r := range have {
			if !slices.Contains(all, r) {
				more = append(more, r)
			}
		}
		if len(more) > 0 {
			c.t.Fatalf("the target holds what it should not: %s", strings.Join(more, ", "))
		}
		if len(missing) > 0 {
			return fmt.Errorf("missing: %s", strings.Join(missing, ", "))
		}
		return nil
	})
}

// says waits until the status of the route has the text.
func (p *process) says(text string) {
	p.t.Helper()
	until(p.t, "status says "+text, func() error {
		out, err := run(p.t, "status", "-json", p.dir)
		if err == nil && !strings.Contains(out, text) {
			err = errors.New(out)
		}
		return err
	})
}

// must runs a command that has to succeed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := run(t, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// TestRealStart: where a route begins is decided once and committed for every
// partition before anything is read. A server that is killed right then loses nothing of what came between.
func TestRealStart(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, option string
		first        int
	}{
		{"earliest", "", 0},
		{"latest", `  start = "latest"`, 10},
		{"time", "  start = %q", 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCopying(t, broker(t))
			c.produce(10, 0, 1)
			option := tc.option
			if tc.name == "time" {
				option = fmt.Sprintf(option, c.at(tc.first).UTC().Format(time.RFC3339))
			}
			c.write(c.addr, 2, option)
			p := serve(t, c.dir)
			until(t, "both partitions are committed", func() error {
				have, err := c.committed()
				if err == nil && len(have) != 2 {
					err = fmt.Errorf("committed %v", have)
				}
				return err
			})
			p.kill()
			c.produce(5, 0, 1)
			p = serve(t, c.dir)
			c.holds(tc.first < 10, span(0, tc.first, 15), span(1, tc.first, 15))
			c.reaches(map[int32]int64{0: 15, 1: 15})
			os, err := c.adm.FetchOffsets(t.Context(), c.group)
			if err != nil {
				t.Fatal(err)
			}
			for part, o := range os[c.in] {
				if !strings.Contains(o.Metadata, "topic=") || !strings.Contains(o.Metadata, "cluster=") {
					t.Errorf("the offset of partition %d does not say what it counts in: %q", part, o.Metadata)
				}
			}
			p.stop()
		})
	}
}

// TestRealPartitionGrowth: a plan warns that keys move, and what is written to
// a new partition before anybody reads it is read, also with start = "latest".
func TestRealPartitionGrowth(t *testing.T) {
	t.Parallel()
	c := newCopying(t, broker(t))
	c.produce(10, 0, 1)
	c.write(c.addr, 2, `  start = "latest"`)
	p := serve(t, c.dir)
	c.reaches(map[int32]int64{0: 10, 1: 10})
	p.stop()
	c.write(c.addr, 3, `  start = "latest"`)
	if out := must(t, "plan", c.dir); !strings.Contains(out, "stream.in grows from 2 to 3 partitions: keys move to other partitions") {
		t.Errorf("the plan does not warn:\n%s", out)
	}
	// The topic grows and is written to while no route runs.
	if _, err := c.adm.UpdatePartitions(t.Context(), 3, c.in); err != nil {
		t.Fatal(err)
	}
	until(t, "the partition is there", func() error {
		ts, err := c.adm.ListTopics(context.Background(), c.in)
		if err == nil && len(ts[c.in].Partitions) != 3 {
			err = errors.New("not yet")
		}
		return err
	})
	c.produce(4, 2)
	p = serve(t, c.dir)
	c.holds(false, span(2, 0, 4))
	// And while one runs.
	c.write(c.addr, 5, `  start = "latest"`)
	until(t, "two more partitions are there", func() error {
		ts, err := c.adm.ListTopics(context.Background(), c.in)
		if err == nil && len(ts[c.in].Partitions) != 5 {
			err = errors.New("not yet")
		}
		return err
	})
	c.produce(4, 0, 3, 4)
	c.holds(false, span(2, 0, 4), span(0, 10, 14), span(3, 0, 4), span(4, 0, 4))
	p.stop()
}

// TestRealMirror: a group whose offsets are gone goes on from their mirror in
// the state, never from start; and a rewind moves the mirror, too.
func TestRealMirror(t *testing.T) {
	t.Parallel()
	c := newCopying(t, broker(t))
	c.write(c.addr, 2, `  start = "latest"`)
	p := serve(t, c.dir)
	c.reaches(map[int32]int64{0: 0, 1: 0})
	c.produce(10, 0, 1)
	c.reaches(map[int32]int64{0: 10, 1: 10})
	p.stop()
	c.produce(5, 0, 1)
	forget := func() {
		t.Helper()
		until(t, "the group is forgotten", func() error {
			_, err := c.adm.DeleteGroup(context.Background(), c.group)
			return err
		})
	}
	forget()
	p = serve(t, c.dir)
	c.holds(false, span(0, 0, 15), span(1, 0, 15))
	c.reaches(map[int32]int64{0: 15, 1: 15})
	must(t, "drain", "-auto-approve", "route.copy", c.dir)
	p.healthy("route.copy", "drained")
	must(t, "rewind", "-to-offset", "0:12", "-auto-approve", "route.copy", c.dir)
	c.reaches(map[int32]int64{0: 12, 1: 15})
	p.stop()
	forget()
	p = serve(t, c.dir)
	p.healthy("route.copy", "drained")
	must(t, "resume", "-auto-approve", "route.copy", c.dir)
	c.reaches(map[int32]int64{0: 15, 1: 15})
	have, err := c.copied()
	if err != nil {
		t.Fatal(err)
	}
	for seq := range 15 {
		want := 1
		if seq >= 12 {
			want = 2
		}
		if n := have[fmt.Sprintf("0:%d", seq)]; n != want {
			t.Errorf("record %d of partition 0 was copied %d times, want %d", seq, n, want)
		}
		if n := have[fmt.Sprintf("1:%d", seq)]; n != 1 {
			t.Errorf("record %d of partition 1 was copied %d times", seq, n)
		}
	}
	p.stop()
}

// TestRealLostBeforeRead: records that are removed before they were read are
// counted and raise an alarm; the route goes on, or stops, as it says.
func TestRealLostBeforeRead(t *testing.T) {
	t.Parallel()
	c := newCopying(t, broker(t))
	c.write(c.addr, 2, `  on_data_loss = "stop"`)
	p := serve(t, c.dir)
	c.produce(10, 0, 1)
	c.reaches(map[int32]int64{0: 10, 1: 10})
	p.stop()
	c.produce(10, 0, 1)
	remove := kadm.Offsets{}
	remove.AddOffset(c.in, 0, 15, -1)
	if rs, err := c.adm.DeleteRecords(t.Context(), remove); errors.Join(err, rs.Error()) != nil {
		t.Fatal(err, rs.Error())
	}
	p = serve(t, c.dir)
	p.says("records 10 to 14 of stream.in, partition 0, were removed before they were read; the route stops because on_data_loss")
	p.says(`"kind": "data_lost"`)
	if have, err := c.committed(); err != nil || have[0] != 10 {
		t.Errorf("a route that stops at a loss went on: %v, %v", have, err)
	}
	c.write(c.addr, 2, `  on_data_loss = "continue"`)
	c.reaches(map[int32]int64{0: 20, 1: 20})
	c.holds(true, span(0, 0, 10), span(0, 15, 20), span(1, 0, 20))
	p.says(`"lost_before_read": 5`)
	p.says(`"kind": "data_lost"`)
	if out := must(t, "status", c.dir); !strings.Contains(out, "5 records were removed from the topic before they were read") {
		t.Errorf("status does not say it:\n%s", out)
	}
	metrics := p.metrics()
	for _, want := range []string{
		`keystone_route_lost_before_read_total{route="route.copy"} 5`,
		`keystone_address_condition{address="route.copy",condition="data_lost"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	p.stop()
}

// metrics gives what a scrape of the server gives.
func (p *process) metrics() string {
	p.t.Helper()
	path, err := api.SocketPath(filepath.Join(p.dir, ".keystone"), "default")
	if err != nil {
		p.t.Fatal(err)
	}
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://keystone/metrics", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// TestRealRecreatedTopic: a topic that was deleted and created again stops its
// route until somebody accepts the new one, which is then read from its beginning.
func TestRealRecreatedTopic(t *testing.T) {
	t.Parallel()
	c := newCopying(t, broker(t))
	c.write(c.addr, 2, `  start = "latest"`)
	p := serve(t, c.dir)
	c.reaches(map[int32]int64{0: 0, 1: 0})
	c.produce(10, 0, 1)
	c.reaches(map[int32]int64{0: 10, 1: 10})
	p.stop()
	if _, err := c.adm.DeleteTopic(t.Context(), c.in); err != nil {
		t.Fatal(err)
	}
	until(t, "the topic is created again", func() error {
		_, err := c.adm.CreateTopic(context.Background(), 2, 1, nil, c.in)
		return err
	})
	c.produce(7, 0, 1) // numbered 10 to 16, at offsets 0 to 6
	p = serve(t, c.dir)
	p.says("was deleted and created again")
	p.healthy("route.copy", "failed")
	c.holds(false, span(0, 0, 10), span(1, 0, 10))
	must(t, "restart", "-accept-new-topic", "-auto-approve", "route.copy", c.dir)
	c.holds(false, span(0, 0, 17), span(1, 0, 17))
	c.reaches(map[int32]int64{0: 7, 1: 7})
	p.stop()
}

// TestRealOtherCluster: positions of one cluster count for nothing on another
// where a topic of the same name is.
func TestRealOtherCluster(t *testing.T) {
	t.Parallel()
	c := newCopying(t, broker(t))
	other := ownBroker(t)
	there := &copying{t: t, addr: other.addr, in: c.in, out: c.out, group: c.group, began: c.began, sent: map[int32]int{}, adm: admin(t, other.addr)}
	there.create(c.in, 2)
	there.create(c.out, 2)
	there.produce(30, 0, 1)
	c.write(c.addr, 2, "")
	p := serve(t, c.dir)
	c.produce(10, 0, 1)
	c.reaches(map[int32]int64{0: 10, 1: 10})
	p.stop()
	c.write(other.addr, 2, "")
	p = serve(t, c.dir)
	p.says("is not the one that was read: the positions of group " + c.group + " are of the cluster with the id")
	there.holds(false)
	if have, err := there.committed(); err != nil || len(have) != 0 {
		t.Errorf("the group on the other cluster is at %v, %v", have, err)
	}
	p.stop()
	c.write(c.addr, 2, "")
	p = serve(t, c.dir)
	c.produce(2, 0, 1)
	c.holds(false, span(0, 0, 12), span(1, 0, 12))
	p.stop()
	// Somebody who means the move says so, and the topic there is read from its beginning.
	c.write(other.addr, 2, "")
	p = serve(t, c.dir)
	p.healthy("route.copy", "failed")
	must(t, "restart", "-accept-new-topic", "-auto-approve", "route.copy", c.dir)
	there.holds(false, span(0, 0, 30), span(1, 0, 30))
	p.stop()
}
