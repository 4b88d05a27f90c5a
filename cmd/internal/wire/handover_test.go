package wire

import (
	"fmt"
	"strings"
	"testing"

	"keystone/configs"
	sinkkafka "keystone/sinks/kafka"
)

// redeployed is a route under load, whose worker is replaced when format changes.
const redeployed = `
source "generator" "events" {}

stream "in" {
  partitions = 3
}

stream "out" {
  partitions = 3
}

route "make" {
  from    = source.events
  to      = stream.in
  enabled = %t
  throttle {
    records_per_second = 3000
  }
}

route "r" {
  from   = stream.in
  to     = stream.out
  format = %q
  batch {
    records = 100
  }
  delivery {
    redeploy = %q
  }
}
`

// TestRedeploy changes a route again and again, while events flow, so that its
// worker has to be replaced: nothing is lost and the order of each partition is kept; with
// prefer_latency the next worker is a member of the group before the last one has left, in another
// seat; with prefer_no_duplicates nothing is delivered twice.
func TestRedeploy(t *testing.T) {
	for _, redeploy := range []string{configs.PreferLatency, configs.PreferNoDuplicates} {
		t.Run(redeploy, func(t *testing.T) {
			text := func(on bool, format string) string { return fmt.Sprintf(redeployed, on, format, redeploy) }
			l := newLab(t, text(true, "json"))
			in := func(least int) {
				l.until("events flow", func() error {
					ends, err := l.adm.ListEndOffsets(t.Context(), "out")
					n := int64(0)
					for _, e := range ends["out"] {
						n += e.Offset
					}
					if err == nil && n < int64(least) {
						err = fmt.Errorf("%d records", n)
					}
					return err
				})
			}
			const changes = 5
			serial := int64(1)
			for i := range changes {
				in(500 * (i + 1))
				serial++
				l.change(text(true, []string{"raw", "json"}[i%2]), serial)
			}
			in(500 * (changes + 1))
			group := "keystone.default.default.route.r"
			described, err := l.adm.DescribeGroups(t.Context(), group)
			if err != nil {
				t.Fatal(err)
			}
			members := described[group].Members
			if len(members) != 1 || members[0].InstanceID == nil {
				t.Fatalf("the group has the members %+v", members)
			}
			if other := strings.HasSuffix(*members[0].InstanceID, "-1"); other != (redeploy == configs.PreferLatency) {
				t.Errorf("after %d changes the member is %s", changes, *members[0].InstanceID)
			}
			l.change(text(false, "raw"), serial+1)
			l.committed(group, "in")
			repeated := l.delivered("in", "out")
			t.Logf("%d records were delivered twice over %d changes", repeated, changes)
			if redeploy == configs.PreferNoDuplicates && repeated > 0 {
				t.Errorf("%d records were delivered twice", repeated)
			}
		})
	}
}

// delivered compares what is in a topic with what a route wrote of it, by the
// origin that records carry: nothing may miss, and the first deliveries of a partition are in its
// order. It gives how many were delivered again.
func (l *lab) delivered(from, to string) (repeated int) {
	l.t.Helper()
	seen := map[int32]map[int64]bool{}
	next := map[int32]int64{}
	for _, r := range l.topic(to) {
		var o sinkkafka.Origin
		for _, h := range r.Headers {
			if h.Key == sinkkafka.OriginHeader {
				var err error
				if o, err = sinkkafka.ParseOrigin(h.Value); err != nil {
					l.t.Fatal(err)
				}
			}
		}
		if seen[o.Partition] == nil {
			seen[o.Partition] = map[int64]bool{}
		}
		if seen[o.Partition][o.Offset] {
			repeated++
			continue
		}
		seen[o.Partition][o.Offset] = true
		if r.Partition == o.Partition && r.Key == nil { // elsewhere keys spread a partition, and each keeps its order
			if o.Offset != next[o.Partition] {
				l.t.Errorf("partition %d: offset %d came after %d", o.Partition, o.Offset, next[o.Partition]-1)
			}
			next[o.Partition] = o.Offset + 1
		}
	}
	n := 0
	for _, r := range l.topic(from) {
		n++
		if !seen[r.Partition][r.Offset] {
			l.t.Errorf("partition %d: offset %d is missing", r.Partition, r.Offset)
		}
	}
	if n == 0 {
		l.t.Error("there is nothing to compare")
	}
	return repeated
}
