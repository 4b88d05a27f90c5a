package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const reloadConfig = `
keystone {
  namespace = %q
}

cluster "main" {
  brokers = [%q]
}

stream "in" {
  topic      = %q
  partitions = 4
}

stream "changed" {
  topic      = %q
  partitions = 4
}

stream "neighbour" {
  topic      = %q
  partitions = 4
}

route "changed" {
  from   = stream.in
  filter = %q
  project = {
    p   = "p"
    seq = "seq"
    rev = "%d"
  }
  to = stream.changed
}

route "neighbour" {
  from = stream.in
  project = {
    p   = "p"
    seq = "seq"
    rev = "0"
  }
  to = stream.neighbour
}
`

// member is who is in a consumer group, and since which rebalance.
type member struct {
	ids        []string
	generation int32
}

// memberOf describes a group with one member. No request gives the generation; a heartbeat
// is refused if it has another, so that one of them is taken.
func memberOf(t *testing.T, adm *kadm.Client, req kmsg.Requestor, group string) (m member) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	gs, err := adm.DescribeGroups(ctx, group)
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range gs[group].Members {
		m.ids = append(m.ids, of.MemberID)
	}
	if gs[group].State != "Stable" || len(m.ids) != 1 {
		t.Fatalf("group %s is %s with the members %v", group, gs[group].State, m.ids)
	}
	for m.generation = range int32(1000) {
		beat := kmsg.NewPtrHeartbeatRequest()
		beat.Group, beat.MemberID, beat.Generation = group, m.ids[0], m.generation
		resp, err := beat.RequestWith(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		switch err := kerr.ErrorForCode(resp.ErrorCode); {
		case err == nil:
			return m
		case !errors.Is(err, kerr.IllegalGeneration):
			t.Fatalf("group %s, generation %d: %v", group, m.generation, err)
		}
	}
	t.Fatalf("group %s has rebalanced a thousand times", group)
	return m
}

// TestRealReloads edits one route again and again while events flow through it and through its
// neighbour: both copy every event once and in order, each edit is taken in every partition, no
// worker is restarted, and nobody joins a group again. In turn with the edits the same number of events flows
// without any; the log has the pauses of both. `make reloads` edits a thousand times.
func TestRealReloads(t *testing.T) {
	t.Parallel()
	reloads, turn := 50, 10
	if s := os.Getenv("KEYSTONE_RELOADS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < turn {
			t.Fatalf("KEYSTONE_RELOADS=%s: want a number from %d", s, turn)
		}
		reloads = n
	}
	addr := broker(t)
	const partitions, persecond = 4, 500
	dir, namespace := t.TempDir(), name("e2e-")
	in, changed, neighbour := name("in-"), name("changed-"), name("neighbour-")
	cl := client(t, addr)
	adm := kadm.NewClient(cl)
	appended := "LogAppendTime"
	for _, topic := range []string{in, changed, neighbour} {
		if _, err := adm.CreateTopic(t.Context(), partitions, 1, map[string]*string{"message.timestamp.type": &appended}, topic); err != nil {
			t.Fatal(err)
		}
	}
	write := func(rev int) {
		// Always true, and another program each time.
		config(t, dir, fmt.Sprintf(reloadConfig, namespace, addr, in, changed, neighbour, fmt.Sprintf("seq > -%d", rev+1), rev))
	}
	write(0)
	p := serve(t, dir)
	p.healthy("route.changed", "running")
	p.healthy("route.neighbour", "running")
	a := watch(t, addr, partitions, in, changed, neighbour)
	stop := steady(t, addr, in, partitions, persecond)
	arrived := func(n int) int {
		t.Helper()
		var have int
		a.wait(t, p, fmt.Sprintf("%d events in every partition", n), func() bool { have = a.count(); return have >= n })
		return have
	}
	at := arrived(10 * persecond) // everything is warm
	groups := map[string]member{}
	for _, route := range []string{"changed", "neighbour"} {
		group := "keystone." + namespace + ".default.route." + route
		groups[group] = memberOf(t, adm, cl, group)
	}
	before, err := p.status()
	if err != nil {
		t.Fatal(err)
	}

	var calm, edited []spell
	var taken figures // from an edit to its first event in the slowest partition
	for rev := 0; rev < reloads; {
		began := arrived(at)
		for range min(turn, reloads-rev) {
			rev++
			start := time.Now()
			write(rev)
			a.wait(t, p, fmt.Sprintf("edit %d in every partition", rev), func() bool { return slices.Min(a.last[changed]) >= rev })
			taken = append(taken, time.Since(start))
		}
		ended := arrived(0)
		edited = append(edited, spell{began, ended})
		at = arrived(2*ended - began)
		calm = append(calm, spell{ended, at})
	}
	sent := stop()
	arrived(sent)
	after, err := p.status()
	if err != nil {
		t.Fatal(err)
	}
	if n := after.Serial - before.Serial; n != int64(reloads) {
		t.Errorf("%d serials for %d edits", n, reloads)
	}
	for _, s := range after.Addresses {
		if s.Restarts != 0 || s.Error != "" {
			t.Errorf("%s was restarted %d times; %s", s.Address, s.Restarts, s.Error)
		}
	}
	for group, m := range groups {
		if now := memberOf(t, adm, cl, group); now.generation != m.generation || !slices.Equal(now.ids, m.ids) {
			t.Errorf("group %s was %+v and is %+v", group, m, now)
		}
	}
	p.stop()
	ends, err := adm.ListEndOffsets(t.Context(), changed, neighbour)
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Err != nil || o.Offset != int64(sent) {
			t.Errorf("%s, partition %d has %d events, %d were sent (%v)", o.Topic, o.Partition, o.Offset, sent, o.Err)
		}
	})
	must(t, "verify", "route.changed", dir) // by the programs that were stored, one for each edit

	a.mu.Lock()
	defer a.mu.Unlock()
	t.Logf("%d edits, %d events, %d partitions, %d events a second in each", reloads, partitions*sent, partitions, persecond)
	t.Logf("from an edit to its first event in every partition: %v", taken)
	for _, of := range []struct {
		what   string
		topic  string
		within []spell
	}{
		{"the changed route, while it is edited", changed, edited}, {"the changed route, left alone", changed, calm},
		{"the neighbour, while the other is edited", neighbour, edited}, {"the neighbour, left alone", neighbour, calm},
	} {
		t.Logf("%s: between batches %v", of.what, a.gaps(of.topic, of.within))
		t.Logf("%s: from the source %v", of.what, a.delays(in, of.topic, of.within))
	}
}
