package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// owners gives how many members of the group own partitions, and its state.
func (c *copying) owners() (int, string, error) {
	gs, err := c.adm.DescribeGroups(context.Background(), c.group)
	if err != nil {
		return 0, "", err
	}
	n := 0
	for _, m := range gs[c.group].Members {
		if a, ok := m.Assigned.AsConsumer(); ok && len(a.Topics) > 0 {
			n++
		}
	}
	return n, gs[c.group].State, nil
}

// ids names the members of the group.
func (c *copying) ids() string {
	c.t.Helper()
	gs, err := c.adm.DescribeGroups(c.t.Context(), c.group)
	if err != nil {
		c.t.Fatal(err)
	}
	var ids []string
	for _, m := range gs[c.group].Members {
		ids = append(ids, m.MemberID)
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

// membersAre waits until that many members own partitions.
func (c *copying) membersAre(owners int, state string) {
	c.t.Helper()
	until(c.t, fmt.Sprintf("the group is %s, with %d members", state, owners), func() error {
		n, s, err := c.owners()
		if err == nil && (n != owners || s != state) {
			err = fmt.Errorf("%s with %d", s, n)
		}
		return err
	})
}

// TestRealPauseAndDrain: a paused route keeps its partitions, and reads nothing
// over kill -9 and an edit; a drained one leaves its group.
func TestRealPauseAndDrain(t *testing.T) {
	t.Parallel()
	c := newCopying(t, broker(t))
	c.write(c.addr, 2, "")
	p := serve(t, c.dir)
	c.produce(10, 0, 1)
	c.reaches(map[int32]int64{0: 10, 1: 10})
	must(t, "pause", "-auto-approve", "route.copy", c.dir)
	p.healthy("route.copy", "paused")
	c.produce(10, 0, 1)
	c.membersAre(1, "Stable")
	p.kill()
	p = serve(t, c.dir)
	p.healthy("route.copy", "paused")
	c.write(c.addr, 2, `  filter = "seq != 13"`)
	until(t, "the edit is taken", func() error {
		s, err := p.status()
		if err == nil && s.Serial != 2 {
			err = errors.New("not yet")
		}
		return err
	})
	p.healthy("route.copy", "paused")
	c.membersAre(1, "Stable")
	c.holds(false, span(0, 0, 10), span(1, 0, 10))
	must(t, "drain", "-auto-approve", "route.copy", c.dir)
	p.healthy("route.copy", "drained")
	c.membersAre(0, "Empty")
	p.stop()
	p = serve(t, c.dir)
	p.healthy("route.copy", "drained")
	c.holds(false, span(0, 0, 10), span(1, 0, 10))
	must(t, "resume", "-auto-approve", "route.copy", c.dir)
	c.holds(false, span(0, 0, 13), span(0, 14, 20), span(1, 0, 13), span(1, 14, 20))
	c.reaches(map[int32]int64{0: 20, 1: 20})
	p.stop()
}

// TestRealRewindInCompany: a rewind of a group in which another server is
// changes nothing and names it; when that one has drained, it goes through, and
// by time.
func TestRealRewindInCompany(t *testing.T) {
	t.Parallel()
	c := newCopying(t, broker(t))
	c.write(c.addr, 2, "")
	p := serve(t, c.dir)
	c.produce(10, 0, 1)
	c.reaches(map[int32]int64{0: 10, 1: 10})
	second := t.TempDir()
	text, err := os.ReadFile(filepath.Join(c.dir, "main.ks.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	config(t, second, string(text))
	q := serve(t, second)
	c.membersAre(2, "Stable")
	before := c.ids()
	out, err := run(t, "rewind", "-to-start", "-auto-approve", "route.copy", c.dir)
	if err == nil || !strings.Contains(err.Error(), "has members that this server cannot stop") || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Fatalf("a rewind in company: %v\n%s", err, out)
	}
	p.healthy("route.copy", "running")
	c.membersAre(2, "Stable")
	c.reaches(map[int32]int64{0: 10, 1: 10})
	if out := must(t, "rewind", "-to-start", "-plan", "route.copy", c.dir); !strings.Contains(out, "it would be refused now") {
		t.Errorf("the plan does not say that it would be refused:\n%s", out)
	}
	if now := c.ids(); now != before {
		t.Errorf("a worker was stopped for nothing: the members were %s and are %s", before, now)
	}
	must(t, "drain", "-auto-approve", "-all", second)
	q.healthy("route.copy", "drained")
	must(t, "rewind", "-to", c.at(7).UTC().Format("2006-01-02T15:04:05Z"), "-auto-approve", "route.copy", c.dir)
	c.reaches(map[int32]int64{0: 10, 1: 10})
	until(t, "the last three are copied again", func() error {
		have, err := c.copied()
		if err != nil {
			return err
		}
		for part := range 2 {
			for seq := range 10 {
				want := 1
				if seq >= 7 {
					want = 2
				}
				if n := have[fmt.Sprintf("%d:%d", part, seq)]; n != want {
					err = errors.Join(err, fmt.Errorf("record %d of partition %d was copied %d times, want %d", seq, part, n, want))
				}
			}
		}
		return err
	})
	// What was repeated on purpose is no fault, and nothing is missing; what was skipped is not asked for.
	if out := must(t, "verify", "route.copy", c.dir); !strings.Contains(out, "6 are repeated by a rewind") {
		t.Errorf("verify does not know of the rewind:\n%s", out)
	}
	c.produce(5, 0, 1)
	c.reaches(map[int32]int64{0: 15, 1: 15})
	must(t, "drain", "-auto-approve", "route.copy", c.dir)
	p.healthy("route.copy", "drained")
	c.produce(5, 0)
	must(t, "rewind", "-to-end", "-auto-approve", "-allow-skip", "route.copy", c.dir)
	must(t, "resume", "-auto-approve", "route.copy", c.dir)
	c.produce(1, 0, 1)
	c.reaches(map[int32]int64{0: 21, 1: 16})
	if out := must(t, "verify", "route.copy", c.dir); !strings.Contains(out, "5: the route was told to skip them") {
		t.Errorf("verify does not know of what was skipped:\n%s", out)
	}
	q.stop()
	p.stop()
}
