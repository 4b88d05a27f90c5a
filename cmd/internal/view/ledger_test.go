package view_test

import (
	"bytes"
	"testing"
	"time"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
	"keystone/pipeline/verify"
	"keystone/reconcile"
)

func TestStatusOf(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	lag := int64(1234)
	st := api.Status{Env: "prod", Namespace: "ads", Serial: 7, Addresses: []api.AddressStatus{
		{Addr: "route.tv", Health: "degraded", Since: now.Add(-time.Hour), Activity: "retrying (3, refused)", Error: "refused", Restarts: 2, Group: "g", Lag: &lag,
			Counters: &reconcile.Counters{Read: 1000, Delivered: 700, Filtered: 200, DeadLettered: 30, Dropped: 10, Abandoned: 20, InFlight: 40, Written: 701, Retries: 5, SinkLimit: 6, SinkRequests: 3, LostBeforeRead: 9,
				Reasons: map[string]int64{"dead_lettered/decode": 28, "dead_lettered/too_large": 2, "dropped/tombstone": 10}},
			Lanes: []reconcile.Lane{
				{Partition: 0, Counters: reconcile.Counters{Read: 900, Delivered: 700, Filtered: 160, InFlight: 40}, Committed: 1000860, Next: 1000900, Lag: &lag, Revision: 7, From: 1000000, Activity: "retrying", Error: "refused"},
				{Partition: 12, Counters: reconcile.Counters{Read: 40, Filtered: 40}, Committed: 40, Next: 40, Revision: 6, Paused: true},
			}},
		{Addr: "stream.in", Health: "running", Drift: []string{"partitions: 4, wanted 8"}},
	}}
	var b bytes.Buffer
	if err := view.StatusOf(&b, view.Style{}, st, now); err != nil {
		t.Fatal(err)
	}
	golden(t, "status-of", b.Bytes())
}

func TestVerified(t *testing.T) {
	r := api.VerifyReport{Route: "route.tv", Source: "stream.in", SourceTopic: "tv-in", Sinks: []string{"tv-out"}, Guarantee: "at_least_once", SinkRecords: 12345, Elapsed: 1234 * time.Millisecond, Notes: []string{"a note"}}
	var b bytes.Buffer
	show := func() {
		r.Finish()
		if err := view.Verified(&b, view.Style{}, r); err != nil {
			t.Fatal(err)
		}
		b.WriteString("----\n")
	}
	show()
	r.AddPartition(verify.Counts{Partition: 0, From: 10, To: 1000, Records: 990, Delivered: 900, Filtered: 90, Outputs: 900})
	show()
	r.AddPartition(verify.Counts{Partition: 3, From: 0, To: 500, Records: 500, Delivered: 400, Filtered: 40, DeadLettered: 20, Dropped: map[string]int64{"tombstone": 10}, Outputs: 440,
		Missing: 1, Repeated: 30, Asked: 10, Unexpected: 2, Different: 1, Replayed: 4, Unjudged: map[string]int64{verify.ReasonSinkCut: 29}})
	r.AddExample(verify.Example{Kind: verify.ExampleRepeated, SourceTopic: "tv-in", SourcePartition: 3, SourceOffset: 7, Topic: "tv-out", Partition: 1, Offset: 99})
	r.AddExample(verify.Example{Kind: verify.ExampleMissing, SourceTopic: "tv-in", SourcePartition: 3, SourceOffset: 123456, Revision: 4, Text: "its output is missing"})
	show()
	golden(t, "verified", b.Bytes())
}
