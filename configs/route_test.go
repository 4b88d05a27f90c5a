package configs_test

import (
	"testing"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/spec"
	"keystone/dsl/ir"
)

// TestRouteDefaults holds what a route is that says nothing.
func TestRouteDefaults(t *testing.T) {
	c, diags := loadText(t, testCatalog(), `
source "generator" "g" {}
sink "stdout" "out" {}
stream "s" {
  key = "user"
}
route "a" {
  from = source.g
  to   = sink.out
}
route "b" {
  from = source.g
  to   = stream.s
}
sink "stdout" "documents" {
  id = "user"
}
route "d" {
  from = source.g
  to   = sink.documents
}
route "c" {
  from       = source.g
  to         = stream.s
  key        = "other"
  tombstones = "drop"
}
`)
	if c == nil {
		t.Fatal(diags.Err())
	}
	route := func(name string) *configs.Route { return c.Routes[addr.New("route", name)] }
	a, b, other, documents := route("a"), route("b"), route("c"), route("d")
	if !a.Enabled || a.Start != "earliest" || a.OnError != configs.DeadLetter || a.OnDataLoss != "continue" || a.Order != "" ||
		a.Delivery != (configs.Delivery{Guarantee: configs.AtLeastOnce, Redeploy: "prefer_latency", DrainTimeout: 30 * time.Second, CommitInterval: time.Second}) ||
		a.Limits != (configs.Limits{MaxInFlightBytes: 64 << 20, MaxRecordBytes: 16 << 20}) ||
		a.Batch != (configs.Batch{Bytes: 1 << 20, Records: 10_000, Linger: 100 * time.Millisecond}) ||
		a.Retry != (configs.Retry{Initial: 100 * time.Millisecond, Max: 30 * time.Second}) || a.Throttle != (configs.Throttle{}) {
		t.Errorf("%+v", a)
	}
	for _, x := range []struct {
		route      *configs.Route
		key        string
		tombstones ir.Tombstones
	}{{a, "", ir.TombstonesDrop}, {b, "user", ir.TombstonesPass}, {other, "other", ir.TombstonesDrop}, {documents, "", ir.TombstonesPass}} {
		if x.route.Events.Key.S != x.key || (x.route.Checked.Key != nil) != (x.key != "") || x.route.Checked.Tombstones != x.tombstones {
			t.Errorf("%s: key %q, tombstones %q", x.route.Addr, x.route.Events.Key.S, x.route.Checked.Tombstones)
		}
	}
	s := c.Streams[addr.New("stream", "s")]
	if s.Cluster != configs.EmbeddedCluster || !c.ClusterOf(s.Addr).Embedded || s.Topic != "s" || !s.ManagedHere() || s.Partitions != 1 || s.Replication != -1 || s.Retention != 0 {
		t.Errorf("%+v", s)
	}
	if c.ClusterOf(addr.New("sink", "out")) != nil {
		t.Error("a sink has no cluster")
	}
	inherited := map[string]string{}
	for _, r := range c.Resources {
		if r.Addr == b.Addr {
			inherited["key"], inherited["tombstones"] = r.Options["key"].Canonical, r.Options["tombstones"].Canonical
		}
		if r.Addr == s.Addr {
			inherited["cluster"] = r.Options["cluster"].Canonical
		}
	}
	if inherited["key"] != `"user"` || inherited["tombstones"] != `"pass"` || inherited["cluster"] != "cluster.embedded" {
		t.Errorf("shown: %v", inherited)
	}
}

// TestEffectsOfTradeOffs: what a running worker takes over is live, and each of these has a test
// there (pipeline: TestLive…); only what the worker is built on drains it.
func TestEffectsOfTradeOffs(t *testing.T) {
	var r configs.Route
	options := r.Options()
	for _, path := range [][]string{
		{"parallelism"}, {"on_error"}, {"on_data_loss"}, {"delivery", "drain_timeout"}, {"delivery", "commit_interval"},
		{"limits", "max_in_flight_bytes"}, {"limits", "max_record_bytes"}, {"batch", "bytes"}, {"batch", "records"}, {"batch", "linger"},
		{"retry", "initial"}, {"retry", "max"}, {"retry", "max_elapsed"}, {"retry", "max_attempts"},
		{"throttle", "records_per_second"}, {"throttle", "bytes_per_second"},
	} {
		o := options.Find(path[0])
		if len(path) > 1 {
			o = o.Block.Find(path[1])
		}
		if o.Change != spec.Live {
			t.Errorf("%v: %s", path, o.Change)
		}
	}
	for _, o := range []*spec.Option{options.Find("order"), options.Find("delivery").Block.Find("guarantee")} {
		if o.Change != spec.Drain {
			t.Errorf("%s: %s", o.Name, o.Change)
		}
	}
}
