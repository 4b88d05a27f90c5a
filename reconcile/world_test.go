package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/spec"
)

// block is one resource of a test's configuration: option → canonical text.
type block struct {
	kind string
	opts map[string]string
}

// blocks is a test's configuration.
type blocks struct {
	res     map[addr.Addr]block
	moved   []configs.Moved
	removed []configs.Removed
}

// effects of the options that tests use; Drain where it is not listed.
var effects = map[string]spec.Effect{
	"stream.retention": spec.Live, "stream.partitions": spec.Live, "stream.schema": spec.Live, "stream.on_destroy": spec.Live,
	"stream.topic": spec.Replace, "stream.cluster": spec.Replace,
	"sink.batch_bytes": spec.Live, "sink.path": spec.Drain,
	"source.rate": spec.Live, "source.path": spec.Replace,
	"job.window.by_user.key": spec.Replace, "job.window.by_title.key": spec.Replace, "job.key_groups": spec.Replace, "job.description": spec.Live,
	"route.filter": spec.Live, "route.project": spec.Live, "route.start": spec.Live,
}

// config builds the configuration as configs.Load would.
func (b blocks) config() *configs.Config {
	cfg := &configs.Config{
		Env: "default", Settings: configs.Settings{Namespace: "default"},
		Clusters: map[addr.Addr]*configs.Cluster{}, Streams: map[addr.Addr]*configs.Stream{},
		Sources: map[addr.Addr]*configs.Source{}, Sinks: map[addr.Addr]*configs.Sink{}, Routes: map[addr.Addr]*configs.Route{}, Jobs: map[addr.Addr]*configs.Job{},
		Moved: b.moved, Removed: b.removed,
	}
	for _, a := range slices.SortedFunc(maps.Keys(b.res), addr.Compare) {
		x := b.res[a]
		r := configs.Resource{Addr: a, Kind: x.kind, Options: map[string]configs.Option{}}
		r.Body.Attrs = map[string]spec.Attr{}
		for name, text := range x.opts {
			r.Options[name] = configs.Option{Canonical: text, Effect: effectOf(a, name), Layer: spec.LayerBlock}
			r.Body.Attrs[name] = spec.Attr{Value: text, Layer: spec.LayerBlock}
		}
		cfg.Resources = append(cfg.Resources, r)
		ref := func(name string) addr.Addr { v, _ := addr.Parse(x.opts[name]); return v }
		switch a.Type {
		case typeCluster:
			cfg.Clusters[a] = &configs.Cluster{Addr: a}
		case typeStream:
			topic := unquote(x.opts["topic"])
			if topic == "" {
				topic = a.Name
			}
			cfg.Streams[a] = &configs.Stream{Addr: a, Cluster: ref("cluster"), Topic: topic, Managed: true, OnDestroy: unquote(x.opts["on_destroy"])}
		case typeSource:
			cfg.Sources[a] = &configs.Source{Addr: a, Kind: x.kind}
		case typeSink:
			cfg.Sinks[a] = &configs.Sink{Addr: a, Kind: x.kind}
		case typeJob:
			j := &configs.Job{Addr: a, Enabled: true, Restore: "latest", Group: "keystone.default.default.job." + a.Name}
			for _, name := range slices.Sorted(maps.Keys(x.opts)) {
				kind, rest, _ := strings.Cut(name, ".")
				op := &configs.Operator{Kind: kind}
				switch op.Label, _, _ = strings.Cut(rest, "."); name {
				case "read." + op.Label + ".from":
					op.Read = &configs.JobRead{From: spec.Ref{Addr: ref(name)}}
				case "write." + op.Label + ".to":
					op.Write = &configs.JobWrite{To: spec.Ref{Addr: ref(name)}}
				default:
					continue
				}
				j.Operators = append(j.Operators, op)
			}
			cfg.Jobs[a] = j
		case typeRoute:
			cfg.Routes[a] = &configs.Route{Addr: a, Enabled: x.opts["enabled"] != "false", From: spec.Ref{Addr: ref("from")}, To: spec.Ref{Addr: ref("to")},
				Start: unquote(x.opts["start"]), Group: "keystone.default.default.route." + a.Name,
				Delivery: configs.Delivery{Guarantee: configs.AtLeastOnce, Redeploy: "prefer_latency", DrainTimeout: 30 * time.Second},
				Limits:   configs.Limits{MaxInFlightBytes: 32 << 20}}
		}
	}
	return cfg
}

func effectOf(a addr.Addr, name string) spec.Effect {
	if e, ok := effects[a.Type+"."+name]; ok {
		return e
	}
	return spec.Drain
}

func (b blocks) clone() blocks {
	out := blocks{res: make(map[addr.Addr]block, len(b.res)), moved: slices.Clone(b.moved), removed: slices.Clone(b.removed)}
	for a, x := range b.res {
		out.res[a] = block{x.kind, maps.Clone(x.opts)}
	}
	return out
}

func (b blocks) set(a addr.Addr, name, text string) { b.res[a].opts[name] = text }

// must reads an address.
func must(s string) addr.Addr {
	a, err := addr.Parse(s)
	if err != nil {
		panic(err)
	}
	return a
}

// plays is a small configuration with every block type.
func plays() blocks {
	return blocks{res: map[addr.Addr]block{
		must("cluster.main"):  {"", map[string]string{"brokers": `["127.0.0.1:9092"]`}},
		must("stream.plays"):  {"", map[string]string{"cluster": "cluster.main", "partitions": "4", "on_destroy": `"keep"`}},
		must("stream.tv"):     {"", map[string]string{"cluster": "cluster.main", "partitions": "4", "on_destroy": `"delete"`}},
		must("sink.search"):   {"file", map[string]string{"path": `"a"`, "batch_bytes": "1"}},
		must("source.demo"):   {"generator", map[string]string{"rate": "10"}},
		must("route.in"):      {"", map[string]string{"from": "source.demo", "to": "stream.plays"}},
		must("route.tv"):      {"", map[string]string{"from": "stream.plays", "to": "stream.tv", "filter": `"a"`}},
		must("route.archive"): {"", map[string]string{"from": "stream.tv", "to": "sink.search"}},
	}}
}

// goalOf gives the goal of a test's configuration.
func goalOf(b blocks) Goal {
	return Goal{Serial: 1, Env: "default", Namespace: "default", Config: b.config()}
}

// world simulates what a Runtime works on: workers, which die with the
// process, and topics, which do not. Every step is idempotent.
type world struct {
	workers map[addr.Addr]*configs.Resource // of routes; what they run with
	groups  map[addr.Addr]string
	known   map[addr.Addr]*configs.Resource // streams and clusters that this process looks at
	topics  map[string]string               // topic → "made" marker; what a topic was made with
	deleted []string
	made    int
}

func newWorld() *world {
	return &world{workers: map[addr.Addr]*configs.Resource{}, groups: map[addr.Addr]string{}, known: map[addr.Addr]*configs.Resource{}, topics: map[string]string{}}
}

func (w *world) observe(at time.Time) Observed {
	o := Observed{At: at, States: map[addr.Addr]State{}}
	for a, r := range w.workers {
		h := Running
		if disabled(r) {
			h = Disabled
		}
		o.States[a] = State{Resource: r, Health: h, Group: w.groups[a]}
	}
	for a, r := range w.known {
		topic := w.topicOf(a, r)
		st := State{Health: Running, Topic: Topic{Name: topic}}
		if _, ok := w.topics[topic]; !ok {
			st.Health = Missing
		}
		o.States[a] = st
	}
	return o
}

func (w *world) topicOf(a addr.Addr, r *configs.Resource) string {
	if t := word(r, "topic"); t != "" {
		return t
	}
	return a.Name
}

func (w *world) apply(cfg *configs.Config, c Change) {
	switch c.Addr.Type {
	case typeRoute:
		switch c.Action {
		case Delete, Forget:
			delete(w.workers, c.Addr)
			return
		}
		delete(w.workers, c.MovedFrom)
		w.workers[c.Addr], w.groups[c.Addr] = c.After, cfg.Routes[c.Addr].Group
	case typeStream:
		switch c.Action {
		case Delete, Replace:
			topic := w.topicOf(c.Addr, c.Before)
			if c.Kept.Topic != "" {
				topic = c.Kept.Topic
			}
			if c.Action == Replace && topic != cfg.Streams[c.Addr].Topic {
				break // the old topic stays
			}
			if _, ok := w.topics[topic]; ok && destroys(c.Before) {
				delete(w.topics, topic)
				w.deleted = append(w.deleted, topic)
			}
		}
		delete(w.known, c.MovedFrom)
		if c.Action == Delete || c.Action == Forget {
			delete(w.known, c.Addr)
			return
		}
		topic := cfg.Streams[c.Addr].Topic
		if _, ok := w.topics[topic]; !ok {
			w.made++
			w.topics[topic] = "made " + strconv.Itoa(w.made)
		}
		seen := *c.After
		seen.Options = maps.Clone(seen.Options)
		seen.Options["topic"] = configs.Option{Canonical: strconv.Quote(topic), Effect: spec.Replace}
		w.known[c.Addr] = &seen
	}
}

// crash is kill -9: what only this process had is gone.
func (w *world) crash() {
	clear(w.workers)
	clear(w.groups)
	clear(w.known)
}

// driver applies plans as the loop does, one change at a time.
type driver struct {
	w     *world
	rows  map[addr.Addr]Applied
	moved bool // whether any address ever moved
}

func newDriver() *driver { return &driver{w: newWorld(), rows: map[addr.Addr]Applied{}} }

func (d *driver) plan(g Goal) Plan {
	seen := Merge(d.w.observe(time.Unix(100, 0)), d.rows)
	Adopt(g.Config, seen.States)
	return Diff(g, seen, time.Unix(100, 0))
}

func (d *driver) begin(c Change) {
	if row, ok := begin(d.rows, c); ok {
		d.rows[row.Addr] = row
	}
}

func (d *driver) finish(g Goal, c Change) {
	put, gone := finish(d.rows, g, c, time.Unix(100, 0))
	for _, a := range gone {
		delete(d.rows, a)
	}
	for _, row := range put {
		d.rows[row.Addr] = row
	}
}

func (d *driver) apply(g Goal, p Plan) {
	for _, c := range p.Changes {
		d.moved = d.moved || !c.MovedFrom.IsZero()
		d.begin(c)
		d.w.apply(g.Config, c)
		d.finish(g, c)
	}
}

func describe(p Plan) string {
	s := ""
	for _, c := range p.Changes {
		s += fmt.Sprintf("%s %s", c.Action, c.Addr)
		if !c.MovedFrom.IsZero() {
			s += " from " + c.MovedFrom.String()
		}
		if c.Destructive {
			s += " destructive"
		}
		for _, o := range c.Options {
			s += fmt.Sprintf("; %s %s: %s -> %s", o.Effect, o.Name, o.Before, o.After)
		}
		for _, r := range c.Reasons {
			s += "; " + r
		}
		for _, t := range c.Things {
			s += fmt.Sprintf("; %s %s %q", t.Action, t, t.Differs)
			if t.Blocked != "" {
				s += " blocked"
			}
			if len(t.Notes) > 0 {
				s += fmt.Sprintf(" (%s)", strings.Join(t.Notes, "; "))
			}
		}
		s += "\n"
	}
	return s
}
