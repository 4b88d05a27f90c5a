package reconcile

import (
	"strings"
	"testing"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/spec"
)

// TestDiff edits the small configuration, or the world, and reads the plan.
func TestDiff(t *testing.T) {
	for _, tc := range []struct {
		name  string
		edit  func(b *blocks)
		world func(o *Observed)
		want  string
	}{
		{"a filter is live", func(b *blocks) { b.set(must("route.tv"), "filter", `"b"`) }, nil,
			`update route.tv; live filter: "a" -> "b"`},
		{"a live option of a sink reaches its routes live", func(b *blocks) { b.set(must("sink.search"), "batch_bytes", "2") }, nil,
			"update sink.search; live batch_bytes: 1 -> 2\nupdate route.archive; sink.search changed: batch_bytes"},
		{"a draining one drains them", func(b *blocks) {
			b.set(must("sink.search"), "batch_bytes", "2")
			b.set(must("sink.search"), "path", `"b"`)
		}, nil, "drain sink.search; live batch_bytes: 1 -> 2; drain path: \"a\" -> \"b\"\ndrain route.archive; sink.search changed: batch_bytes, path"},
		{"another kind of sink", func(b *blocks) { b.res[must("sink.search")] = block{"hive", b.res[must("sink.search")].opts} }, nil,
			"drain sink.search; drain kind: file -> hive\ndrain route.archive; sink.search changed: kind"},
		{"another target drains", func(b *blocks) { b.set(must("route.archive"), "to", "stream.plays") }, nil,
			"drain route.archive; drain to: sink.search -> stream.plays"},
		{"brokers of a cluster", func(b *blocks) { b.set(must("cluster.main"), "brokers", `["b"]`) }, nil,
			"drain cluster.main; drain brokers: [\"127.0.0.1:9092\"] -> [\"b\"]\ndrain route.archive; cluster.main changed: brokers\ndrain route.in; cluster.main changed: brokers\ndrain route.tv; cluster.main changed: brokers"},
		{"partitions grow without anybody stopping", func(b *blocks) { b.set(must("stream.plays"), "partitions", "8") }, nil,
			"update stream.plays; live partitions: 4 -> 8"},
		{"a schema compiles programs anew", func(b *blocks) { b.set(must("stream.plays"), "schema", "object({})") }, nil,
			"update stream.plays; live schema:  -> object({})\nupdate route.in; stream.plays changed: schema\nupdate route.tv; stream.plays changed: schema"},
		{"retention is the topic's own business", func(b *blocks) { b.set(must("stream.plays"), "retention", `"1h"`) }, nil,
			`update stream.plays; live retention:  -> "1h"`},
		{"another topic loses the readers' positions", func(b *blocks) { b.set(must("stream.tv"), "topic", `"other"`) }, nil,
			"replace stream.tv destructive; replace topic:  -> \"other\"\nreplace route.archive destructive; stream.tv changed: topic\ndrain route.tv; stream.tv changed: topic"},
		{"fewer partitions", func(b *blocks) { b.set(must("stream.tv"), "partitions", "1") }, nil,
			"replace stream.tv destructive; replace partitions: 4 -> 1; a topic cannot lose partitions: it would be deleted and made again\nreplace route.archive destructive; stream.tv changed: partitions\ndrain route.tv; stream.tv changed: partitions"},
		{"a stream that is kept is forgotten", func(b *blocks) {
			delete(b.res, must("stream.plays"))
			delete(b.res, must("route.in"))
			delete(b.res, must("route.tv"))
		}, nil, "delete route.in; it is no longer declared\ndelete route.tv; it is no longer declared\nforget stream.plays; its topic stays, since on_destroy is not \"delete\""},
		{"one that says so is deleted, last", func(b *blocks) {
			delete(b.res, must("stream.tv"))
			delete(b.res, must("route.archive"))
			b.set(must("route.tv"), "to", "sink.search")
		}, nil, "delete route.archive; it is no longer declared\ndrain route.tv; drain to: stream.tv -> sink.search\ndelete stream.tv destructive; it is no longer declared, and on_destroy is \"delete\""},
		{"removed blocks forget", func(b *blocks) {
			delete(b.res, must("stream.tv"))
			delete(b.res, must("route.archive"))
			delete(b.res, must("route.tv"))
			b.removed = []configs.Removed{{From: must("stream.tv")}, {From: must("route.tv"), Destroy: true}}
		}, nil, "delete route.archive; it is no longer declared\ndelete route.tv; it is no longer declared\nforget stream.tv; a removed block says that it stays where it is"},
		{"a new route", func(b *blocks) {
			b.res[must("route.new")] = block{"", map[string]string{"from": "stream.plays", "to": "sink.search"}}
		}, nil, "create route.new"},
		{"moved, and edited", func(b *blocks) {
			b.rename(must("route.tv"), must("route.television"))
			b.set(must("route.television"), "filter", `"b"`)
			b.moved = []configs.Moved{{From: must("route.tv"), To: must("route.television")}}
		}, nil, `move route.television from route.tv; live filter: "a" -> "b"; renamed from route.tv`},
		{"what is referred to moves", func(b *blocks) {
			b.rename(must("sink.search"), must("sink.files"))
			b.moved = []configs.Moved{{From: must("sink.search"), To: must("sink.files")}}
		}, nil, "move sink.files from sink.search; renamed from sink.search"},
		{"moved twice", func(b *blocks) {
			b.rename(must("sink.search"), must("sink.c"))
			b.moved = []configs.Moved{{From: must("sink.b"), To: must("sink.c")}, {From: must("sink.search"), To: must("sink.b")}}
		}, nil, "move sink.c from sink.search; renamed from sink.search"},
		{"moved blocks in a circle", func(b *blocks) {
			b.rename(must("sink.search"), must("sink.c"))
			b.moved = []configs.Moved{{From: must("sink.b"), To: must("sink.c")}, {From: must("sink.c"), To: must("sink.b")}}
		}, nil, "create sink.c\ndrain route.archive; drain to: sink.search -> sink.c\ndelete sink.search; it is no longer declared"},
		{"renamed without a moved block", func(b *blocks) { b.rename(must("route.tv"), must("route.television")) }, nil,
			"delete route.tv; it is no longer declared\ncreate route.television"},

		{"a failed worker", nil, func(o *Observed) { o.with("route.tv", func(s *State) { s.Health, s.Error = Failed, "boom" }) },
			"repair route.tv; worker failed: boom"},
		{"a degraded one is shown only", nil, func(o *Observed) { o.with("route.tv", func(s *State) { s.Health, s.Error = Degraded, "slow" }) }, ""},
		{"a finished one has nothing to do", nil, func(o *Observed) { o.with("route.in", func(s *State) { s.Health = Finished }) }, ""},
		{"no worker", nil, func(o *Observed) { o.with("route.tv", func(s *State) { s.Health = Missing }) }, "repair route.tv; no worker runs"},
		{"a disabled route stays down", func(b *blocks) { b.set(must("route.tv"), "enabled", "false") }, func(o *Observed) {
			o.with("route.tv", func(s *State) {
				r := *s.Resource
				r.Options = map[string]configs.Option{}
				for k, v := range s.Resource.Options {
					r.Options[k] = v
				}
				r.Options["enabled"] = configs.Option{Canonical: "false", Effect: spec.Drain, Layer: spec.LayerBlock}
				s.Resource, s.Health = &r, Missing
			})
		}, ""},
		{"drift", nil, func(o *Observed) {
			o.with("stream.tv", func(s *State) { s.Drift = []string{"retention: 1h, wanted 24h"} })
		}, "repair stream.tv; drifted: retention: 1h, wanted 24h"},
		{"a topic is gone", nil, func(o *Observed) { o.with("stream.tv", func(s *State) { s.Health = Missing }) }, "repair stream.tv; its topic is missing"},
		{"a cluster is away", func(b *blocks) { b.set(must("route.tv"), "filter", `"b"`) }, func(o *Observed) {
			o.Unreachable = map[addr.Addr]string{must("cluster.main"): "refused"}
			o.with("stream.tv", func(s *State) { s.Health = Missing })
			o.with("stream.plays", func(s *State) { s.Drift = []string{"x"} })
			o.with("cluster.main", func(s *State) { s.Health = Failed })
		}, `update route.tv; live filter: "a" -> "b"`},
		{"a crash in a change", nil, func(o *Observed) { o.with("stream.tv", func(s *State) { s.Interrupted = s.Resource }) },
			"repair stream.tv; an earlier change did not finish"},
		{"what a sink needs outside is gone", nil, func(o *Observed) {
			o.Outside = map[addr.Addr]Outside{must("sink.search"): {Things: []Thing{{Kind: "index template", Name: "plays", Action: Create}, {Kind: "policy", Name: "month", Action: NoOp}}}}
		}, "repair sink.search; create index template plays []"},
		{"or not as it should be", nil, func(o *Observed) {
			o.Outside = map[addr.Addr]Outside{must("sink.search"): {Things: []Thing{{Kind: "table", Name: "db.plays", Action: Update, Differs: []string{"column pct is missing", "column ts: int, wanted bigint"}}}}}
		}, `repair sink.search; update table db.plays ["column pct is missing" "column ts: int, wanted bigint"]`},
		{"or cannot be as it should be", nil, func(o *Observed) {
			o.Outside = map[addr.Addr]Outside{must("sink.search"): {Things: []Thing{{Kind: "table", Name: "db.plays", Action: NoOp, Blocked: "column ts is a string"}}}}
		}, "repair sink.search; no-op table db.plays [] blocked"},
		{"what is left as it is, and nothing changes", nil, func(o *Observed) {
			o.Outside = map[addr.Addr]Outside{must("sink.search"): {Things: []Thing{{Kind: "indices", Name: "plays-*", Action: NoOp, Notes: []string{"old ones stay"}}}}}
		}, ""},
		{"and something does", nil, func(o *Observed) {
			o.Outside = map[addr.Addr]Outside{must("sink.search"): {Things: []Thing{{Kind: "indices", Name: "plays-*", Action: NoOp, Notes: []string{"old ones stay"}}, {Kind: "index template", Name: "plays", Action: Create}}}}
		}, "repair sink.search; create index template plays []; no-op indices plays-* [] (old ones stay)"},
		{"or nobody can look", func(b *blocks) { b.set(must("sink.search"), "batch_bytes", "2") }, func(o *Observed) {
			o.Outside = map[addr.Addr]Outside{must("sink.search"): {Error: "refused", Things: []Thing{{Kind: "table", Name: "db.plays"}}}}
		}, "update sink.search; live batch_bytes: 1 -> 2;  table db.plays []\nupdate route.archive; sink.search changed: batch_bytes"},
		{"a sink that takes away what it made", func(b *blocks) {
			delete(b.res, must("sink.search"))
			delete(b.res, must("route.archive"))
		}, func(o *Observed) {
			o.with("sink.search", func(s *State) {
				r := *s.Resource
				r.Options = map[string]configs.Option{"on_destroy": {Canonical: `"delete"`}}
				s.Resource = &r
			})
		}, "delete route.archive; it is no longer declared\ndelete sink.search destructive; it is no longer declared, and on_destroy is \"delete\""},
		{"a drained route stays down", nil, func(o *Observed) {
			o.with("route.tv", func(s *State) { s.Health, s.Held = Drained, &Hold{Kind: HoldDrain} })
		}, ""},
		{"a paused one is well", nil, func(o *Observed) {
			o.with("route.tv", func(s *State) { s.Health, s.Held = Paused, &Hold{Kind: HoldPause, Who: "me"} })
		}, ""},
		{"and takes edits", func(b *blocks) { b.set(must("route.tv"), "filter", `"b"`) }, func(o *Observed) {
			o.with("route.tv", func(s *State) { s.Health, s.Held = Paused, &Hold{Kind: HoldPause, Who: "me"} })
		}, `update route.tv; live filter: "a" -> "b"`},
		{"a rewind is to be completed", func(b *blocks) { b.set(must("route.tv"), "filter", `"b"`) }, func(o *Observed) {
			o.with("route.tv", func(s *State) { s.Rewind = &Rewind{Who: "me", How: "-to-start", At: time.Unix(0, 0)} })
		}, `repair route.tv; live filter: "a" -> "b"; the rewind -to-start by me of 1970-01-01 00:00:00 UTC is to be completed`},
		{"a resumed one starts", nil, func(o *Observed) { o.with("route.tv", func(s *State) { s.Health = Drained }) },
			"repair route.tv; it was drained, and should run"},
		{"a worker without a goal", nil, func(o *Observed) { o.States[must("route.ghost")] = State{Health: Running} },
			"delete route.ghost; it runs without being in the goal"},
		{"nothing of it is there any more", nil, func(o *Observed) { o.States[must("route.ghost")] = State{Health: Stopped} }, ""},
		{"another namespace's", func(b *blocks) { delete(b.res, must("route.archive")); delete(b.res, must("stream.plays")) }, func(o *Observed) {
			o.with("route.archive", func(s *State) { s.Namespace = "ads" })
			o.with("stream.plays", func(s *State) { s.Namespace = "ads" })
			o.with("stream.tv", func(s *State) { s.Namespace, s.Drift = "ads", []string{"x"} })
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := plays()
			o := AsApplied(b.config(), time.Unix(1, 0))
			if tc.edit != nil {
				tc.edit(&b)
			}
			if tc.world != nil {
				tc.world(&o)
			}
			if got := strings.TrimSpace(describe(Diff(goalOf(b), o, time.Unix(2, 0)))); got != tc.want {
				t.Errorf("plan:\n%s\nwant:\n%s", got, tc.want)
			}
		})
	}
}

func (o *Observed) with(a string, f func(*State)) {
	st := o.States[must(a)]
	f(&st)
	o.States[must(a)] = st
}

func change(t *testing.T, p Plan, a string) Change {
	t.Helper()
	for _, c := range p.Changes {
		if c.Addr == must(a) {
			return c
		}
	}
	t.Fatalf("no change of %s in\n%s", a, describe(p))
	return Change{}
}

func TestBlockedAndWarned(t *testing.T) {
	b := plays()
	o := AsApplied(b.config(), time.Unix(1, 0))
	b.set(must("stream.plays"), "partitions", "2") // on_destroy is keep
	b.set(must("stream.tv"), "partitions", "9")
	b.set(must("route.in"), "start", `"latest"`)
	p := Diff(goalOf(b), o, time.Unix(2, 0))
	if c := change(t, p, "stream.plays"); c.Blocked == "" || !c.Destructive {
		t.Errorf("fewer partitions of a kept topic: %+v", c)
	}
	if c := change(t, p, "stream.tv"); c.Blocked != "" || c.Destructive {
		t.Errorf("more partitions: %+v", c)
	}
	w := strings.Join(p.Warnings, "\n")
	for _, want := range []string{"stream.tv grows from 4 to 9 partitions: keys move", "route.in has positions already, so its new start does not count"} {
		if !strings.Contains(w, want) {
			t.Errorf("no warning %q in %q", want, w)
		}
	}
	o = AsApplied(plays().config(), time.Unix(1, 0))
	o.with("stream.tv", func(s *State) { s.Namespace = "ads" })
	if p := Diff(goalOf(plays()), o, time.Unix(2, 0)); len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], `external = "ads.tv"`) {
		t.Errorf("warnings about another namespace's stream: %q", p.Warnings)
	}
}

func TestImpact(t *testing.T) {
	base := plays()
	world := func(edit func(*State)) Observed {
		o := AsApplied(base.config(), time.Unix(1, 0))
		o.with("route.tv", func(s *State) {
			s.Lag, s.Counters.InFlight, s.Reading = 812, 40, Reading{Known: true, Committed: 4, Retained: 5000}
			if edit != nil {
				edit(s)
			}
		})
		o.with("stream.tv", func(s *State) { s.Topic.Records = 77 })
		return o
	}
	plan := func(o Observed, edit func(b *blocks)) Plan {
		b := base.clone()
		edit(&b)
		return Diff(goalOf(b), o, time.Unix(2, 0))
	}
	group := "the committed offsets of group keystone.default.default.route.tv"

	i := change(t, plan(world(nil), func(b *blocks) { b.set(must("route.tv"), "filter", `"b"`) }), "route.tv").Impact
	if i.ContinuesFrom != group || i.Waiting != 812 || i.MayRepeat != 0 || i.Pause != 0 {
		t.Errorf("live: %+v", i)
	}
	i = change(t, plan(world(nil), func(b *blocks) { b.set(must("route.tv"), "to", "sink.search") }), "route.tv").Impact
	if i.ContinuesFrom != group || i.MayRepeat != -1 || !strings.Contains(i.RepeatNote, "at most 32 MiB, 40 records now") {
		t.Errorf("drain: %+v", i)
	}
	i = change(t, plan(world(nil), func(b *blocks) { b.set(must("route.tv"), "from", "stream.tv") }), "route.tv").Impact
	if !strings.HasPrefix(i.ContinuesFrom, "the start of stream.tv, unless") || i.Waiting != -1 || len(i.KeepsState) != 1 || i.KeepsState[0] != group+" in stream.plays" {
		t.Errorf("from: %+v", i)
	}
	i = change(t, plan(world(nil), func(b *blocks) { b.set(must("stream.plays"), "topic", `"b"`) }), "route.tv").Impact
	if i.ContinuesFrom != "the start of stream.plays" || i.Waiting != 5000 || i.MayRepeat != 5000 || len(i.LosesState) != 1 {
		t.Errorf("replaced source: %+v", i)
	}
	i = change(t, plan(world(nil), func(b *blocks) { delete(b.res, must("route.tv")) }), "route.tv").Impact
	if len(i.LosesState) != 0 || len(i.KeepsState) != 1 || i.Waiting != 812 {
		t.Errorf("deleted route: %+v", i)
	}
	i = change(t, plan(world(nil), func(b *blocks) {
		delete(b.res, must("stream.tv"))
		delete(b.res, must("route.archive"))
		delete(b.res, must("route.tv"))
	}), "stream.tv").Impact
	if len(i.LosesState) != 1 || i.LosesState[0] != "topic tv with about 77 records" {
		t.Errorf("deleted stream: %+v", i)
	}
	for name, want := range map[string]string{"earliest": "the start of stream.plays", "latest": "the end of stream.plays", "2026-01-02T03:04:05Z": "the first record since 2026-01-02T03:04:05Z of stream.plays"} {
		b := base.clone()
		b.set(must("route.tv"), "start", `"`+name+`"`)
		g := goalOf(b)
		o := Observed{States: map[addr.Addr]State{must("route.tv"): {Health: Missing, Reading: Reading{Known: true, Retained: 9}}}}
		i := change(t, Diff(g, o, time.Unix(2, 0)), "route.tv").Impact
		if i.ContinuesFrom != want || (name == "latest") != (i.Waiting == 0) {
			t.Errorf("created with start %s: %+v", name, i)
		}
	}
	i = change(t, Diff(goalOf(base), world(func(s *State) { s.Health = Failed }), time.Unix(2, 0)), "route.tv").Impact
	if i.ContinuesFrom != group || i.MayRepeat != -1 || i.Waiting != 812 {
		t.Errorf("repair: %+v", i)
	}
}

func TestDiffChangesNoneOfItsArguments(t *testing.T) {
	b := plays()
	o := AsApplied(b.config(), time.Unix(1, 0))
	b.set(must("sink.search"), "path", `"z"`)
	b.set(must("stream.tv"), "partitions", "1")
	g := goalOf(b)
	first := describe(Diff(g, o, time.Unix(2, 0)))
	if second := describe(Diff(g, o, time.Unix(2, 0))); first != second {
		t.Errorf("a second time it is another plan:\n%s\nand\n%s", first, second)
	}
}

func TestKeptNames(t *testing.T) {
	b := plays()
	o := AsApplied(b.config(), time.Unix(1, 0))
	b.rename(must("route.tv"), must("route.television"))
	b.rename(must("stream.tv"), must("stream.television"))
	b.moved = []configs.Moved{{From: must("route.tv"), To: must("route.television")}, {From: must("stream.tv"), To: must("stream.television")}}
	g := goalOf(b)
	Adopt(g.Config, o.States)
	if got := g.Config.Routes[must("route.television")].Group; got != "keystone.default.default.route.tv" {
		t.Errorf("group %q", got)
	}
	if got := g.Config.Streams[must("stream.television")].Topic; got != "tv" {
		t.Errorf("topic %q", got)
	}
	p := Diff(g, o, time.Unix(2, 0))
	if c := change(t, p, "stream.television"); c.Action != Move || c.Kept.Topic != "tv" || c.Destructive {
		t.Errorf("%+v", c)
	}
	if len(p.Changes) != 2 {
		t.Errorf("plan:\n%s", describe(p))
	}
	// A user who writes another topic wants that one.
	b.set(must("stream.television"), "topic", `"television"`)
	g = goalOf(b)
	Adopt(g.Config, o.States)
	if got := g.Config.Streams[must("stream.television")].Topic; got != "television" {
		t.Errorf("topic %q", got)
	}
	if c := change(t, Diff(g, o, time.Unix(2, 0)), "stream.television"); c.Action != Replace || !c.Destructive || c.MovedFrom.IsZero() {
		t.Errorf("%+v", c)
	}
}

func TestInstancesMoveWithTheirBlock(t *testing.T) {
	b := blocks{res: map[addr.Addr]block{must("sink.s"): {"file", map[string]string{}}, must("source.s"): {"generator", map[string]string{}}}}
	for _, key := range []string{"eu", "us"} {
		b.res[must("route.a").Instance(key)] = block{"", map[string]string{"from": "source.s", "to": "sink.s"}}
	}
	o := AsApplied(b.config(), time.Unix(1, 0))
	for _, key := range []string{"eu", "us"} {
		b.rename(must("route.a").Instance(key), must("route.b").Instance(key))
	}
	b.moved = []configs.Moved{{From: must("route.a"), To: must("route.b")}}
	want := "move route.b[\"eu\"] from route.a[\"eu\"]; renamed from route.a[\"eu\"]\nmove route.b[\"us\"] from route.a[\"us\"]; renamed from route.a[\"us\"]\n"
	if got := describe(Diff(goalOf(b), o, time.Unix(2, 0))); got != want {
		t.Errorf("plan:\n%s", got)
	}
}

func TestOptionsOfAnotherVersion(t *testing.T) {
	before := map[string]configs.Option{"gone": {Canonical: "1", Layer: spec.LayerDefault}, "written": {Canonical: "1", Layer: spec.LayerBlock}, "both": {Canonical: "1", Layer: spec.LayerDefault}}
	after := map[string]configs.Option{"new": {Canonical: "1", Layer: spec.LayerDefault}, "both": {Canonical: "2", Layer: spec.LayerDefault, Effect: spec.Replace}}
	got := compareOptions(before, after, nil)
	if len(got) != 2 || got[0].Name != "both" || got[0].Effect != spec.Replace || got[1].Name != "written" || got[1].After != "" {
		t.Errorf("%+v", got)
	}
}
