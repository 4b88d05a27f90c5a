package api

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"keystone/configs/addr"
	"keystone/reconcile"
)

// Metric declares one metric. Names are an interface: a test pins them.
type Metric struct {
	Name   string
	Type   string // counter, gauge
	Labels []string
	Doc    string
}

// Metrics lists what /metrics shows, beside Go's and the process's own.
func Metrics() []Metric {
	return []Metric{
		{"keystone_build_info", "gauge", []string{"version", "revision", "go_version"}, "Always 1; the labels say what runs."},
		{"keystone_goal_serial", "gauge", []string{"namespace", "environment"}, "Serial of the revision that is the goal."},
		{"keystone_reconcile_turns_total", "counter", nil, "Turns of the reconcile loop."},
		{"keystone_configuration_problems", "gauge", nil, "Problems of an edit that was not taken; 0 when the files are good."},
		{"keystone_changes_waiting", "gauge", nil, "Destructive changes that wait for an explicit apply."},
		{"keystone_cluster_reachable", "gauge", []string{"cluster"}, "1 when the cluster answered at the last observation, 0 when not."},
		{"keystone_address_health", "gauge", []string{"address", "health"}, "1 for the health that the address has."},
		{"keystone_address_drift", "gauge", []string{"address"}, "Differences between the address's goal and the world."},
		{"keystone_address_condition", "gauge", []string{"address", "condition"}, "1 while a condition holds: stalled, crash_looping, drifted, data_lost."},
		{"keystone_restarts_total", "counter", []string{"address"}, "Restarts of the address's worker."},
		{"keystone_route_read_total", "counter", []string{"route"}, "Records read since the worker started."},
		{"keystone_route_records_total", "counter", []string{"route", "outcome"}, "Records by outcome since the worker started: delivered, filtered, dead_lettered, dropped."},
		{"keystone_route_reasons_total", "counter", []string{"route", "outcome", "reason"}, "Dropped, dead-lettered and passed records by reason since the worker started."},
		{"keystone_route_replayed_total", "counter", []string{"route", "outcome"}, "Replayed dead letters by the outcome that they had then, since the server started: delivered, filtered, dead_lettered, dropped. No other counter has them."},
		{"keystone_route_written_total", "counter", []string{"route"}, "Records that went out; differs from delivered where explode makes several of one."},
		{"keystone_route_retries_total", "counter", []string{"route"}, "Deliveries tried again."},
		{"keystone_route_lost_before_read_total", "counter", []string{"route"}, "Records that retention or truncation removed before they were read."},
		{"keystone_route_abandoned_total", "counter", []string{"route"}, "Records that were given up without an outcome when a worker or lane ended: they are read again."},
		{"keystone_route_skipped_total", "counter", []string{"route"}, "Records that were read again and skipped, since the sink, which keeps its own positions, had them from an earlier worker. No other counter has them."},
		{"keystone_route_sink", "gauge", []string{"route", "measure"}, "What a route's sink tells of itself. A table in a metastore: partitions_pending and partitions_refused are not registered; since the worker started, compacted_partitions of it were compacted, compacted_files into merged_files of merged_bytes, and compaction_failing is 1 when the last look did not do all that it could."},
		{"keystone_route_schema_violations_total", "counter", []string{"route"}, "Required fields that expressions read and that were missing or null."},
		{"keystone_route_in_flight_records", "gauge", []string{"route"}, "Records read that have no outcome yet."},
		{"keystone_route_sink_request_limit", "gauge", []string{"route"}, "Requests that the route's sink may have under way at once at present; it follows what the destination can take. Absent for sinks without such a limit."},
		{"keystone_route_sink_requests", "gauge", []string{"route"}, "Requests of the route's sink that are under way; absent where there is no limit."},
		{"keystone_route_lag_records", "gauge", []string{"route"}, "Records that wait in the source; absent when not known."},
		{"keystone_job_read_total", "counter", []string{"job"}, "Records that the job's reads took since it started."},
		{"keystone_job_rows_total", "counter", []string{"job"}, "Rows that the job wrote, in epochs that are committed, since it started."},
		{"keystone_job_dead_lettered_total", "counter", []string{"job"}, "Records and rows that could not be evaluated since the job started."},
		{"keystone_job_epoch_age_seconds", "gauge", []string{"job"}, "Time since the last epoch was committed; absent before the first."},
		{"keystone_job_epoch_pause_seconds", "gauge", []string{"job"}, "How long the last epoch held up the reads."},
		{"keystone_job_commit_seconds", "gauge", []string{"job"}, "How long the last commit of an epoch took."},
		{"keystone_job_checkpoint_age_seconds", "gauge", []string{"job"}, "Time since the last checkpoint; absent before the first since the job started."},
		{"keystone_job_checkpoint_bytes", "gauge", []string{"job"}, "State in the last checkpoint."},
		{"keystone_job_checkpoint_seconds", "gauge", []string{"job"}, "How long the last checkpoint took."},
		{"keystone_job_operator_in_total", "counter", []string{"job", "operator"}, "Rows that came into the operator since the job started."},
		{"keystone_job_operator_out_total", "counter", []string{"job", "operator"}, "Rows that the operator gave since the job started."},
		{"keystone_job_operator_late_total", "counter", []string{"job", "operator"}, "Rows that came after their windows had been freed."},
		{"keystone_job_operator_state_bytes", "gauge", []string{"job", "operator"}, "State of the operator that is in memory."},
		{"keystone_job_operator_watermark_seconds", "gauge", []string{"job", "operator"}, "Watermark of the operator, in seconds since 1970; absent where there is none yet or its input has ended."},
		{"keystone_lane_read_total", "counter", []string{"route", "partition"}, "Records read of a source partition since it was assigned."},
		{"keystone_lane_records_total", "counter", []string{"route", "partition", "outcome"}, "Records of a source partition by outcome since it was assigned; abandoned is none: they are read again."},
		{"keystone_lane_in_flight_records", "gauge", []string{"route", "partition"}, "Records read of a source partition that have no outcome yet."},
		{"keystone_lane_committed_offset", "gauge", []string{"route", "partition"}, "Everything before this offset is not read again."},
		{"keystone_lane_lag_records", "gauge", []string{"route", "partition"}, "Records that wait in a source partition; absent when not known."},
		{"keystone_lanes_hidden", "gauge", nil, "Partitions of which nothing is shown here, because all routes together have more than 1000; `keystone status ROUTE` shows them."},
	}
}

const scrapeTimeout = 5 * time.Second

func metricsHandler(b Backend, v Version) http.Handler {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(newCollector(b, v), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4, ErrorHandling: promhttp.HTTPErrorOnError})
}

// collector reads the world at each scrape; nothing is counted twice.
type collector struct {
	backend Backend
	version Version
	descs   map[string]*prometheus.Desc
	types   map[string]prometheus.ValueType
}

func newCollector(b Backend, v Version) *collector {
	c := &collector{backend: b, version: v, descs: map[string]*prometheus.Desc{}, types: map[string]prometheus.ValueType{}}
	for _, m := range Metrics() {
		c.descs[m.Name] = prometheus.NewDesc(m.Name, m.Doc, m.Labels, nil)
		c.types[m.Name] = prometheus.GaugeValue
		if m.Type == "counter" {
			c.types[m.Name] = prometheus.CounterValue
		}
	}
	return c
}

// Describe sends the descriptions.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range Metrics() {
		ch <- c.descs[m.Name]
	}
}

// Collect sends the values of one observation.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	put := func(name string, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], c.types[name], v, labels...)
	}
	put("keystone_build_info", 1, c.version.Version, c.version.Revision, c.version.Go)
	w, err := c.backend.Status(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.descs["keystone_goal_serial"], err)
		return
	}
	put("keystone_goal_serial", float64(w.Serial), w.Namespace, w.Env)
	put("keystone_reconcile_turns_total", float64(w.Turns))
	put("keystone_configuration_problems", float64(len(w.Broken)))
	put("keystone_changes_waiting", float64(len(w.Waiting)))
	lanes := 0
	for _, st := range w.Observed.States {
		lanes += len(st.Lanes)
	}
	if lanes > maxLanes {
		put("keystone_lanes_hidden", float64(lanes))
	} else {
		put("keystone_lanes_hidden", 0)
	}
	for a, st := range w.Observed.States {
		if lanes <= maxLanes {
			putLanes(put, a.String(), st.Lanes)
		}
		if a.Type == "cluster" {
			up := 1.0
			if _, down := w.Observed.Unreachable[a]; down {
				up = 0
			}
			put("keystone_cluster_reachable", up, a.String())
		}
		putState(put, a, st)
	}
	for a := range w.Observed.Unreachable {
		if _, seen := w.Observed.States[a]; !seen {
			put("keystone_cluster_reachable", 0, a.String())
		}
	}
}

// maxLanes bounds the series: a server with more partitions shows none, so that
// none comes and goes with the others.
const maxLanes = 1000

func putLanes(put func(string, float64, ...string), route string, lanes []reconcile.Lane) {
	for i := range lanes {
		l := &lanes[i]
		c, part := &l.Counters, strconv.Itoa(int(l.Partition))
		put("keystone_lane_read_total", float64(c.Read), route, part)
		put("keystone_lane_records_total", float64(c.Delivered), route, part, "delivered")
		put("keystone_lane_records_total", float64(c.Filtered), route, part, "filtered")
		put("keystone_lane_records_total", float64(c.DeadLettered), route, part, "dead_lettered")
		put("keystone_lane_records_total", float64(c.Dropped), route, part, "dropped")
		put("keystone_lane_records_total", float64(c.Abandoned), route, part, "abandoned")
		put("keystone_lane_in_flight_records", float64(c.InFlight), route, part)
		put("keystone_lane_committed_offset", float64(l.Committed), route, part)
		if l.Lag != nil {
			put("keystone_lane_lag_records", float64(*l.Lag), route, part)
		}
	}
}

func putState(put func(string, float64, ...string), a addr.Addr, st reconcile.State) {
	name := a.String()
	put("keystone_address_health", 1, name, string(st.Health))
	put("keystone_address_drift", float64(len(st.Drift)), name)
	for _, c := range st.Conditions {
		put("keystone_address_condition", 1, name, string(c.Kind))
	}
	if a.Type == "job" {
		putJob(put, name, st)
	}
	if a.Type != "route" {
		return
	}
	c := st.Counters
	put("keystone_restarts_total", float64(st.Restarts), name)
	put("keystone_route_read_total", float64(c.Read), name)
	put("keystone_route_records_total", float64(c.Delivered), name, "delivered")
	put("keystone_route_records_total", float64(c.Filtered), name, "filtered")
	put("keystone_route_records_total", float64(c.DeadLettered), name, "dead_lettered")
	put("keystone_route_records_total", float64(c.Dropped), name, "dropped")
	for _, reason := range slices.Sorted(maps.Keys(c.Reasons)) {
		outcome, code, _ := strings.Cut(reason, "/")
		put("keystone_route_reasons_total", float64(c.Reasons[reason]), name, outcome, code)
	}
	for _, outcome := range slices.Sorted(maps.Keys(c.Replayed)) {
		put("keystone_route_replayed_total", float64(c.Replayed[outcome]), name, outcome)
	}
	put("keystone_route_written_total", float64(c.Written), name)
	put("keystone_route_retries_total", float64(c.Retries), name)
	put("keystone_route_lost_before_read_total", float64(c.LostBeforeRead), name)
	put("keystone_route_abandoned_total", float64(c.Abandoned), name)
	put("keystone_route_skipped_total", float64(c.Skipped), name)
	for measure, v := range st.Sink {
		put("keystone_route_sink", v, name, measure)
	}
	put("keystone_route_schema_violations_total", float64(c.SchemaViolations), name)
	put("keystone_route_in_flight_records", float64(c.InFlight), name)
	if c.SinkLimit > 0 {
		put("keystone_route_sink_request_limit", float64(c.SinkLimit), name)
		put("keystone_route_sink_requests", float64(c.SinkRequests), name)
	}
	if st.Lag >= 0 {
		put("keystone_route_lag_records", float64(st.Lag), name)
	}
}

func putJob(put func(string, float64, ...string), name string, st reconcile.State) {
	put("keystone_restarts_total", float64(st.Restarts), name)
	put("keystone_job_read_total", float64(st.Counters.Read), name)
	put("keystone_job_rows_total", float64(st.Counters.Written), name)
	put("keystone_job_dead_lettered_total", float64(st.Counters.DeadLettered), name)
	j := st.Job
	if j == nil {
		return
	}
	if !j.Committed.IsZero() {
		put("keystone_job_epoch_age_seconds", max(0, time.Since(j.Committed).Seconds()), name)
	}
	put("keystone_job_epoch_pause_seconds", j.Pause.Seconds(), name)
	put("keystone_job_commit_seconds", j.Commit.Seconds(), name)
	if c := j.Checkpoint; c != nil && !c.Time.IsZero() {
		put("keystone_job_checkpoint_age_seconds", max(0, time.Since(c.Time).Seconds()), name)
		put("keystone_job_checkpoint_bytes", float64(c.Bytes), name)
		put("keystone_job_checkpoint_seconds", c.Took.Seconds(), name)
	}
	for i := range j.Operators {
		o := &j.Operators[i]
		put("keystone_job_operator_in_total", float64(o.In), name, o.Name)
		put("keystone_job_operator_out_total", float64(o.Out), name, o.Name)
		put("keystone_job_operator_late_total", float64(o.Late), name, o.Name)
		put("keystone_job_operator_state_bytes", float64(o.Memory), name, o.Name)
		if o.Watermark != nil {
			put("keystone_job_operator_watermark_seconds", float64(o.Watermark.UnixMilli())/1000, name, o.Name)
		}
	}
}
