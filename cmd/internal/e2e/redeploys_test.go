package e2e

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

const redeployConfig = `
keystone {
  namespace = %[1]q
}

cluster "main" {
  brokers = [%[2]q]
}

stream "in" {
  topic      = %[3]q
  partitions = 4
}

stream "out" {
  topic      = %[4]q
  partitions = 4
}

stream "letters0" {
  topic      = "%[4]s-letters0"
  partitions = 1
}

stream "letters1" {
  topic      = "%[4]s-letters1"
  partitions = 1
}

route "copy" {
  from        = stream.in
  dead_letter = stream.letters%[5]d
  delivery {
    redeploy = %[6]q
  }
  project = {
    p   = "p"
    seq = "seq"
    rev = "%[7]d"
  }
  to = stream.out
}
`

// TestRealRedeploys edits a route that has to begin anew for it, again and again while events flow, once with each
// way of doing so. Either way nothing is lost and first deliveries keep their order, and with prefer_no_duplicates
// nothing repeats. The log has how long each partition's output paused. `make reloads` edits more often.
func TestRealRedeploys(t *testing.T) {
	t.Parallel()
	redeploys := 6
	if s := os.Getenv("KEYSTONE_RELOADS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 10 {
			t.Fatalf("KEYSTONE_RELOADS=%s: want a number from 10", s)
		}
		redeploys = n / 10
	}
	for _, prefer := range []string{"prefer_latency", "prefer_no_duplicates"} {
		t.Run(prefer, func(t *testing.T) { redeploy(t, prefer, redeploys) })
	}
}

func redeploy(t *testing.T, prefer string, redeploys int) {
	addr := broker(t)
	const partitions, persecond = 4, 500
	dir, namespace := t.TempDir(), name("e2e-")
	in, out := name("in-"), name("out-")
	adm := kadm.NewClient(client(t, addr))
	appended := "LogAppendTime"
	for _, topic := range []string{in, out} {
		if _, err := adm.CreateTopic(t.Context(), partitions, 1, map[string]*string{"message.timestamp.type": &appended}, topic); err != nil {
			t.Fatal(err)
		}
	}
	write := func(rev int) {
		config(t, dir, fmt.Sprintf(redeployConfig, namespace, addr, in, out, rev%2, prefer, rev))
	}
	write(0)
	p := serve(t, dir)
	p.healthy("route.copy", "running")
	a := watch(t, addr, partitions, in, out)
	a.allow(out)
	stop := steady(t, addr, in, partitions, persecond)
	arrived := func(n int) (have int) {
		t.Helper()
		a.wait(t, p, fmt.Sprintf("%d events in every partition", n), func() bool { have = a.count(); return have >= n })
		return have
	}
	at := arrived(10 * persecond) // everything is warm
	var pauses, taken, calm figures
	for rev := 1; rev <= redeploys; rev++ {
		start := time.Now()
		write(rev)
		a.wait(t, p, fmt.Sprintf("edit %d in every partition", rev), func() bool { return slices.Min(a.last[out]) >= rev })
		taken = append(taken, time.Since(start))
		ended := arrived(arrived(0) + persecond)
		after := arrived(ended + (ended - at))
		a.mu.Lock()
		pauses = append(pauses, a.longest(out, spell{at, ended})...)
		calm = append(calm, a.longest(out, spell{ended, after})...)
		a.mu.Unlock()
		at = after
	}
	sent := stop()
	arrived(sent)
	p.stop()
	must(t, "verify", "route.copy", dir)
	a.mu.Lock()
	defer a.mu.Unlock()
	if prefer == "prefer_no_duplicates" && a.repeats[out] > 0 {
		t.Errorf("%d events are repeated", a.repeats[out])
	}
	t.Logf("%d redeployments with %s, %d events, %d of them repeated", redeploys, prefer, partitions*sent, a.repeats[out])
	t.Logf("from an edit to its first event in every partition: %v", taken)
	t.Logf("the longest pause of a partition at an edit: %v; left alone for as long: %v", pauses, calm)
}
