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

	"github.com/twmb/franz-go/pkg/kadm"
)

const routeConfig = `
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

stream "out" {
  topic      = %q
  partitions = 4
}

route "plays" {
  from   = stream.in
  filter = "kind == 'play'"
  project = {
    p    = "p"
    seq  = "seq"
    kind = "kind"
  }
  to = stream.out
}
`

// fixture is a configuration with a route between two new topics.
type fixture struct {
	load
	dir, target, group, namespace string
}

func newFixture(t *testing.T, addr string, each int) fixture {
	t.Helper()
	namespace := name("e2e-")
	f := fixture{load{topic: name("in-"), partitions: 4, each: each}, t.TempDir(), name("out-"), "keystone." + namespace + ".default.route.plays", namespace}
	config(t, f.dir, f.text(addr))
	return f
}

// text is the configuration.
func (f fixture) text(addr string) string {
	return fmt.Sprintf(routeConfig, f.namespace, addr, f.topic, f.target)
}

func TestRealProvisioning(t *testing.T) {
	t.Parallel()
	addr := broker(t)
	dir, topic := t.TempDir(), name("provisioned-")
	text := func(partitions int, retention, more string) string {
		return fmt.Sprintf("cluster \"main\" {\n  brokers = [%q]\n}\n\nstream \"s\" {\n  topic      = %q\n  partitions = %d\n  retention  = %q\n%s}\n", addr, topic, partitions, retention, more)
	}
	config(t, dir, text(2, "1h", ""))
	p := serve(t, dir)
	p.healthy("stream.s", "running")
	adm := admin(t, addr)
	expect := func(what string, partitions int, retention string) {
		t.Helper()
		until(t, what, func() error {
			ctx := context.Background()
			ts, err := adm.ListTopics(ctx, topic)
			if err != nil {
				return err
			}
			if n := len(ts[topic].Partitions); n != partitions {
				return fmt.Errorf("%d partitions, want %d", n, partitions)
			}
			rcs, err := adm.DescribeTopicConfigs(ctx, topic)
			if err != nil {
				return err
			}
			for _, c := range rcs[0].Configs {
				if c.Key == "retention.ms" && c.MaybeValue() == retention {
					return nil
				}
			}
			return errors.New("retention differs")
		})
	}
	expect("created", 2, "3600000")
	config(t, dir, text(3, "2h", ""))
	expect("grown and altered", 3, "7200000")

	// Somebody changes the topic by hand: it is put right again.
	value := "1000"
	if _, err := adm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &value}}, topic); err != nil {
		t.Fatal(err)
	}
	expect("drift mended", 3, "7200000")

	// A topic cannot shrink: status says so, and nothing changes.
	config(t, dir, text(2, "2h", ""))
	until(t, "shrinking refused", func() error {
		s, err := p.status()
		if err != nil {
			return err
		}
		for _, a := range s.Addresses {
			if a.Address == "stream.s" && strings.Contains(a.Error, "partitions") {
				return nil
			}
		}
		if slices.Contains(s.Waiting, "stream.s") {
			return nil
		}
		return fmt.Errorf("status says nothing of it: %+v", s)
	})
	expect("not shrunk", 3, "7200000")
	config(t, dir, text(3, "2h", ""))
	p.healthy("stream.s", "running")

	// Deleting waits for an apply.
	config(t, dir, text(3, "2h", "  on_destroy = \"delete\"\n"))
	until(t, "on_destroy taken", func() error {
		out, err := run(t, "plan", "-detailed-exitcode", dir)
		if err != nil {
			return fmt.Errorf("%w%s", err, out)
		}
		return nil
	})
	config(t, dir, fmt.Sprintf("cluster \"main\" {\n  brokers = [%q]\n}\n", addr))
	until(t, "deletion waits", func() error {
		s, err := p.status()
		if err == nil && (len(s.Waiting) != 1 || s.Waiting[0] != "stream.s") {
			err = fmt.Errorf("waiting for apply: %q", s.Waiting)
		}
		return err
	})
	expect("still there", 3, "7200000")
	if _, err := run(t, "apply", "-auto-approve", dir); err != nil {
		t.Fatal(err)
	}
	until(t, "deleted", func() error {
		ts, err := adm.ListTopics(context.Background(), topic)
		if err == nil && ts.Has(topic) {
			err = errors.New("the topic is still there")
		}
		return err
	})
	p.stop()
}

func TestRealRouteAndRestarts(t *testing.T) {
	t.Parallel()
	f := newFixture(t, broker(t), 20_000)
	p := serve(t, f.dir)
	p.healthy("route.plays", "running")
	cl := client(t, broker(t))
	restarts := 0
	f.produce(t, cl, func(sent int) {
		switch sent {
		case 6000, 13_000: // as hard as it gets
			p.kill()
			p = serve(t, f.dir)
			restarts++
		case 10_000: // and gently
			p.healthy("route.plays", "running")
			p.stop()
			p = serve(t, f.dir)
			restarts++
		case 16_000: // in place, since an option of the target changes
			p.healthy("route.plays", "running")
			before, err := p.status()
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(filepath.Join(f.dir, "main.ks.hcl"))
			if err != nil {
				t.Fatal(err)
			}
			config(t, f.dir, strings.Replace(string(text), "stream \"out\" {\n", "stream \"out\" {\n  compression = \"lz4\"\n", 1))
			until(t, "the edit is taken", func() error {
				s, err := p.status()
				if err == nil && s.Serial == before.Serial {
					err = errors.New("not yet")
				}
				return err
			})
			restarts++
		}
	})
	repeated := f.oracle(t, broker(t), f.target)
	t.Logf("%d restarts, %d events repeated", restarts, repeated)
	p.healthy("route.plays", "running")
	until(t, "lag is 0 and the ledger adds up", func() error {
		s, err := p.status()
		if err != nil {
			return err
		}
		for _, a := range s.Addresses {
			if a.Address != "route.plays" {
				continue
			}
			c := a.Counters
			if a.Lag == nil || *a.Lag != 0 {
				return errors.New("lag")
			}
			if c.Read != c.Delivered+c.Filtered+c.DeadLettered+c.Dropped {
				return fmt.Errorf("%+v", *c)
			}
		}
		return nil
	})
	p.stop()
	f.agrees(t, repeated)
}

func TestRealRebalance(t *testing.T) {
	t.Parallel()
	f := newFixture(t, broker(t), 20_000)
	p := serve(t, f.dir)
	p.healthy("route.plays", "running")
	// A second control plane of the same namespace: its route joins the same group.
	second := t.TempDir()
	text, err := os.ReadFile(filepath.Join(f.dir, "main.ks.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	config(t, second, string(text))
	cl := client(t, broker(t))
	adm := admin(t, broker(t))
	members := func(want int) {
		until(t, fmt.Sprintf("%d members", want), func() error {
			gs, err := adm.DescribeGroups(context.Background(), f.group)
			if err != nil {
				return err
			}
			for _, g := range gs {
				n := 0
				for _, m := range g.Members {
					if a, ok := m.Assigned.AsConsumer(); ok {
						for _, topic := range a.Topics {
							if topic.Topic == f.topic {
								n++
								break
							}
						}
					}
				}
				if g.State == "Stable" && n == want {
					return nil
				}
				err = fmt.Errorf("%s with %d members that own partitions", g.State, n)
			}
			return err
		})
	}
	var q *process
	f.produce(t, cl, func(sent int) {
		switch sent {
		case 4000:
			q = serve(t, second)
			members(2)
		case 9000:
			q.stop()
			members(1)
		case 12_000:
			q = serve(t, second)
			members(2)
		case 16_000:
			q.kill() // found out by its session
		}
	})
	repeated := f.oracle(t, broker(t), f.target)
	t.Logf("%d events repeated", repeated)
	p.stop()
	f.agrees(t, repeated)
}

func TestRealBrokerRestart(t *testing.T) {
	t.Parallel()
	b := ownBroker(t)
	f := newFixture(t, b.addr, 10_000)
	p := serve(t, f.dir)
	p.healthy("route.plays", "running")
	cl := client(t, b.addr)
	f.produce(t, cl, func(sent int) {
		if sent == 3000 || sent == 7000 {
			b.kill()
			b.start()
		}
	})
	repeated := f.oracle(t, b.addr, f.target)
	t.Logf("%d events repeated", repeated)
	p.healthy("route.plays", "running")
	p.stop()
	f.agrees(t, repeated)
}
