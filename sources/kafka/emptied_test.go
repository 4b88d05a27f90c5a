package kafka_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"keystone/sources/kafka"
	"keystone/sources/kafka/client"
)

// A broker that has no records of the epoch of a position may say that the epoch ended at 0. Where the log begins
// at or behind the position that was retention, and the log was not cut off.
func TestEmptiedLog(t *testing.T) {
	for _, c := range []struct {
		name            string
		unread, written int // records that are removed before they are read, and that come after
		live            bool
		losses          string
	}{
		{"all was read", 0, 10, false, "[]"},
		{"all was read, and nothing follows", 0, 0, false, "[]"},
		{"some was not", 5, 10, false, "[0: 10-15]"},
		{"some was not, and nothing follows", 5, 0, false, "[0: 10-15]"},
		{"all was read, while it is read", 0, 10, true, "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.SeedTopics(1, "t"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(cluster.Close)
			move := func(to int32) {
				t.Helper()
				if err := cluster.MoveTopicPartition("t", 0, to); err != nil {
					t.Fatal(err)
				}
			}
			move(0)
			conf := kafka.Config{Client: client.Options{Brokers: cluster.ListenAddrs()}, Topic: "t", Group: "g"}
			produce(t, conf.Client, "t", parts(1), 0, 10)
			or := newOracle()
			m := start(t, conf, "m", or)
			or.await(t, 10)
			if !c.live {
				m.close()
				produce(t, conf.Client, "t", parts(1), 10, 10+c.unread)
			}
			move(1) // another leader: what was read is of an epoch before
			end := int64(10 + c.unread)
			if err := cluster.DeleteRecords("t", 0, end); err != nil {
				t.Fatal(err)
			}
			if !c.live {
				m = start(t, conf, "m", or)
				m.await("the partition", func() bool { return len(m.owned) == 1 })
			}
			if c.unread > 0 {
				m.await("the loss", func() bool { return m.read[0].Offset == end })
			}
			if c.written > 0 {
				produce(t, conf.Client, "t", parts(1), 100, 100+c.written)
				or.await(t, 10+c.written)
			}
			m.close()
			if fmt.Sprint(m.losses) != c.losses {
				t.Errorf("losses %v, want %s", m.losses, c.losses)
			}
			if or.repeats != 0 {
				t.Errorf("%d repeats", or.repeats)
			}
			g := cluster.GroupInfo("g")
			if at := g.Commits["t"][0].Offset; at != end+int64(c.written) {
				t.Errorf("committed is %d, want %d", at, end+int64(c.written))
			}
		})
	}
}

// A log that was cut off before a position is told as such. Where the broker does not say where it begins the route starts again.
func TestCutLog(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	if err := cluster.MoveTopicPartition("t", 0, 0); err != nil { // epochs above 0 are committed
		t.Fatal(err)
	}
	conf := kafka.Config{Client: client.Options{Brokers: cluster.ListenAddrs()}, Topic: "t", Group: "g"}
	produce(t, conf.Client, "t", parts(1), 0, 10)
	or := newOracle()
	m := start(t, conf, "m", or)
	or.await(t, 10)
	m.close()

	var asked, answers atomic.Bool
	cluster.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		asked.Store(true)
		resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		resp.Topics = []kmsg.OffsetForLeaderEpochResponseTopic{{Topic: "t", Partitions: []kmsg.OffsetForLeaderEpochResponseTopicPartition{{LeaderEpoch: 1, EndOffset: 6}}}}
		return resp, nil, true
	})
	cluster.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if !asked.Load() || answers.Load() {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		resp.Topics = []kmsg.ListOffsetsResponseTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsResponseTopicPartition{{ErrorCode: kerr.UnknownServerError.Code}}}}
		return resp, nil, true
	})
	m = start(t, conf, "m", or)
	var fatal error
	m.await("the end", func() bool { fatal, m.fatal = m.fatal, nil; return fatal != nil })
	if !strings.Contains(fatal.Error(), "was cut off at offset 6, before 10") {
		t.Errorf("got %v", fatal)
	}
	m.close()
	if len(m.losses) != 0 || or.repeats != 0 {
		t.Errorf("losses %v and %d repeats before it is known what was lost", m.losses, or.repeats)
	}

	answers.Store(true)
	m = start(t, conf, "m", or)
	m.await("what follows the cut", func() bool { return m.read[0].Offset == 10 })
	m.close()
	if fmt.Sprint(m.losses) != "[0: 10-6]" {
		t.Errorf("losses %v", m.losses)
	}
	if or.repeats != 4 {
		t.Errorf("%d records were read again, want those behind the cut", or.repeats)
	}
}
