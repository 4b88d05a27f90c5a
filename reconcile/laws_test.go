package reconcile

import (
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"keystone/configs"
	"keystone/configs/addr"
)

var names = []string{"a", "b", "c", "d"}

// drawBlocks gives any configuration whose references hold.
func drawBlocks(t *rapid.T) blocks {
	b := blocks{res: map[addr.Addr]block{}}
	n := rapid.IntRange(1, 2).Draw(t, "clusters")
	for _, name := range names[:n] {
		b.res[addr.New(typeCluster, name)] = block{"", map[string]string{"brokers": drawText(t)}}
	}
	for _, name := range drawNames(t, "streams") {
		o := map[string]string{"cluster": "cluster." + rapid.SampledFrom(names[:n]).Draw(t, "cluster"), "partitions": strconv.Itoa(rapid.IntRange(1, 4).Draw(t, "partitions")),
			"on_destroy": rapid.SampledFrom([]string{`"keep"`, `"delete"`}).Draw(t, "on_destroy"), "schema": drawText(t)}
		if rapid.Bool().Draw(t, "has topic") {
			o["topic"] = strconv.Quote("topic_" + name)
		}
		b.res[addr.New(typeStream, name)] = block{"", o}
	}
	for _, name := range drawNames(t, "sinks") {
		b.res[addr.New(typeSink, name)] = block{drawText(t), map[string]string{"path": drawText(t), "batch_bytes": drawText(t)}}
	}
	for _, name := range drawNames(t, "sources") {
		b.res[addr.New(typeSource, name)] = block{drawText(t), map[string]string{"path": drawText(t), "rate": drawText(t)}}
	}
	from, to := b.of(typeStream, typeSource), b.of(typeStream, typeSink)
	if len(from) > 0 && len(to) > 0 {
		for _, name := range drawNames(t, "routes") {
			b.res[addr.New(typeRoute, name)] = block{"", map[string]string{"from": rapid.SampledFrom(from).Draw(t, "from"), "to": rapid.SampledFrom(to).Draw(t, "to"),
				"filter": drawText(t), "enabled": strconv.FormatBool(rapid.IntRange(0, 4).Draw(t, "enabled") > 0)}}
		}
	}
	return b
}

func drawText(t *rapid.T) string { return rapid.SampledFrom([]string{`"x"`, `"y"`}).Draw(t, "text") }

func drawNames(t *rapid.T, label string) []string {
	return slices.Sorted(slices.Values(rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, len(names), rapid.ID).Draw(t, label)))
}

func (b blocks) of(types ...string) []string {
	var out []string
	for _, a := range slices.SortedFunc(maps.Keys(b.res), addr.Compare) {
		if slices.Contains(types, a.Type) {
			out = append(out, a.String())
		}
	}
	return out
}

// drawEdit gives b after some edits, in which addresses may be renamed with a
// moved block or forgotten with a removed one.
func drawEdit(t *rapid.T, b blocks) blocks {
	if rapid.IntRange(0, 3).Draw(t, "new") == 0 {
		return drawBlocks(t)
	}
	out := b.clone()
	out.moved, out.removed = nil, nil
	for range rapid.IntRange(0, 4).Draw(t, "edits") {
		all := slices.SortedFunc(maps.Keys(out.res), addr.Compare)
		a := rapid.SampledFrom(all).Draw(t, "edited")
		switch rapid.SampledFrom([]string{"option", "rename", "remove"}).Draw(t, "edit") {
		case "option":
			for _, name := range slices.Sorted(maps.Keys(out.res[a].opts)) {
				if v := out.res[a].opts[name]; v == `"x"` || v == `"y"` {
					out.set(a, name, drawText(t))
				}
			}
		case "rename":
			to := addr.New(a.Type, "n_"+a.Name)
			if _, taken := out.res[to]; taken {
				continue
			}
			out.rename(a, to)
			out.moved = append(out.moved, configs.Moved{From: a, To: to})
		case "remove":
			if a.Type == typeRoute {
				delete(out.res, a)
				if rapid.Bool().Draw(t, "removed block") {
					out.removed = append(out.removed, configs.Removed{From: a})
				}
			}
		}
	}
	return out
}

func (b *blocks) rename(from, to addr.Addr) {
	b.res[to] = b.res[from]
	delete(b.res, from)
	for _, x := range b.res {
		for name, v := range x.opts {
			if v == from.String() {
				x.opts[name] = to.String()
			}
		}
	}
}

func TestDiffOfGoalWithItselfIsEmpty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBlocks(t)
		cfg := b.config()
		at := time.Unix(1, 0)
		if p := Diff(Goal{Namespace: "default", Config: cfg}, AsApplied(b.config(), at), at); len(p.Changes) != 0 {
			t.Fatalf("Diff(d, d) =\n%s", describe(p))
		}
	})
}

func TestApplyingGivesTheGoalAndTwiceChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDriver()
		b := drawBlocks(t)
		for range rapid.IntRange(1, 4).Draw(t, "revisions") {
			g := goalOf(b)
			p := d.plan(g)
			d.apply(g, p)
			checkWorld(t, d, g)
			topics := maps.Clone(d.w.topics)
			d.apply(g, p)
			checkWorld(t, d, g)
			if !hasReplace(p) && !maps.Equal(topics, d.w.topics) {
				t.Fatalf("applying twice changed topics: %v, then %v\n%s", topics, d.w.topics, describe(p))
			}
			b = drawEdit(t, b)
		}
	})
}

func hasReplace(p Plan) bool {
	return slices.ContainsFunc(p.Changes, func(c Change) bool { return c.Action == Replace || c.Action == Delete })
}

func TestCrashedPrefixIsCompletedByTheNextDiff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDriver()
		b := drawBlocks(t)
		for range rapid.IntRange(1, 5).Draw(t, "turns") {
			g := goalOf(b)
			p := d.plan(g)
			n := rapid.IntRange(0, len(p.Changes)).Draw(t, "prefix")
			d.apply(g, Plan{Changes: p.Changes[:n]})
			if n < len(p.Changes) {
				c := p.Changes[n]
				d.begin(c)
				if rapid.Bool().Draw(t, "carried out") {
					d.w.apply(g.Config, c) // done, and not written down
				}
			}
			d.w.crash()
			if rapid.Bool().Draw(t, "edited") {
				b = drawEdit(t, b)
			}
		}
		g := goalOf(b)
		d.apply(g, d.plan(g))
		checkWorld(t, d, g)
	})
}

// checkWorld holds the world to the goal, looked at from outside.
func checkWorld(t *rapid.T, d *driver, g Goal) {
	t.Helper()
	if p := d.plan(g); len(p.Changes) != 0 {
		t.Fatalf("still to do:\n%s", describe(p))
	}
	for a, r := range g.Config.Routes {
		w, ok := d.w.workers[a]
		if !ok && !r.Enabled {
			continue
		}
		if !ok {
			t.Fatalf("%s has no worker", a)
		}
		for _, o := range compareOptions(w.Options, resourceOf(g.Config, a).Options, nil) {
			if o.Name != "from" && o.Name != "to" || !d.moved { // a worker may know a block by its earlier name
				t.Fatalf("the worker of %s runs with other options: %v", a, o)
			}
		}
		if d.w.groups[a] != r.Group {
			t.Fatalf("%s runs in group %q, not %q", a, d.w.groups[a], r.Group)
		}
	}
	for a := range d.w.workers {
		if g.Config.Routes[a] == nil {
			t.Fatalf("%s runs and is not in the goal", a)
		}
	}
	for a, s := range g.Config.Streams {
		if _, ok := d.w.topics[s.Topic]; !ok {
			t.Fatalf("%s has no topic %q", a, s.Topic)
		}
	}
	if len(d.rows) != len(g.Config.Resources) {
		t.Fatalf("%d addresses are written down as applied, the goal has %d", len(d.rows), len(g.Config.Resources))
	}
}

// TestKeptTopicsAreNeverDeleted: whatever the edits, a topic goes only by a
// change that is marked destructive, of a stream that said so.
func TestKeptTopicsAreNeverDeleted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDriver()
		b := drawBlocks(t)
		for range rapid.IntRange(1, 4).Draw(t, "revisions") {
			g := goalOf(b)
			p := d.plan(g)
			for _, c := range p.Changes {
				deleted := len(d.w.deleted)
				d.begin(c)
				d.w.apply(g.Config, c)
				d.finish(g, c)
				if len(d.w.deleted) > deleted && (!c.Destructive || !destroys(c.Before)) {
					t.Fatalf("topic %v went by %s", d.w.deleted[deleted:], describe(Plan{Changes: []Change{c}}))
				}
			}
			b = drawEdit(t, b)
		}
	})
}
