package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/spec"
)

// The block types that Diff knows about.
const (
	typeCluster = "cluster"
	typeStream  = "stream"
	typeSource  = "source"
	typeSink    = "sink"
	typeRoute   = "route"
	typeJob     = "job"
)

// Diff gives the changes that bring what is observed to the goal, in an
// order in which they may be applied. It is pure: it depends on its arguments
// alone and changes none of them. A goal that is met gives no changes.
func Diff(goal Goal, observed Observed, now time.Time) Plan {
	d := differ{
		goal:    goal,
		obs:     observed,
		after:   make(map[addr.Addr]*configs.Resource, len(goal.Config.Resources)),
		changed: map[resourcePair][]OptionChange{},
		plan:    Plan{Serial: goal.Serial, Env: goal.Env, Namespace: goal.Namespace, Made: now},
	}
	for i := range goal.Config.Resources {
		r := &goal.Config.Resources[i]
		d.after[r.Addr] = r
	}
	d.moves = resolveMoves(goal.Config, d.after, d.exists)
	d.warnMoves()
	d.renamed = make(map[string]string, len(d.moves)+len(goal.Config.Moved))
	next := make(map[addr.Addr]addr.Addr, len(goal.Config.Moved))
	for _, m := range goal.Config.Moved {
		next[m.From] = m.To
	}
	for from, to := range next { // of moves that are done: what runs may still say the old name
		for range len(next) { // a → b → c
			if after, ok := next[to]; !ok || d.after[to] != nil {
				break
			} else {
				to = after
			}
		}
		if d.after[from] == nil && d.after[to] != nil {
			d.renamed[from.String()] = to.String()
		}
	}
	for to, from := range d.moves {
		d.renamed[from.String()] = to.String()
	}
	for i := range goal.Config.Resources {
		if c, ok := d.present(&goal.Config.Resources[i]); ok {
			d.plan.Changes = append(d.plan.Changes, c)
		}
	}
	d.absent()
	order(d.plan.Changes, goal.Config)
	return d.plan
}

type differ struct {
	goal    Goal
	obs     Observed
	after   map[addr.Addr]*configs.Resource
	moves   map[addr.Addr]addr.Addr // new address → the one that it had
	renamed map[string]string       // texts of references: old → new
	changed map[resourcePair][]OptionChange
	topics  map[string][]addr.Addr // the goal's streams by topic; made when it is needed
	plan    Plan
}

type resourcePair struct{ before, after *configs.Resource }

// own tells whether a state belongs to the goal's namespace.
func (d *differ) own(st State) bool {
	return st.Namespace == "" || st.Namespace == d.goal.Namespace
}

// there tells whether something of a resource exists, as far as is known.
func there(st State) bool {
	if st.Resource != nil || st.Interrupted != nil {
		return true
	}
	switch st.Health {
	case Running, Starting, Draining, Failed, Degraded, Finished, Paused:
		return true
	}
	return false
}

// exists tells whether an address was applied: a change that was only begun
// does not count.
func (d *differ) exists(a addr.Addr) bool {
	st, ok := d.obs.States[a]
	return ok && d.own(st) && there(st) && (st.Resource != nil || st.Interrupted == nil)
}

// present gives the change of an address that is in the goal.
func (d *differ) present(after *configs.Resource) (Change, bool) {
	c := Change{Addr: after.Addr, Action: NoOp, After: after}
	st, seen := d.obs.States[after.Addr]
	if seen && !d.own(st) {
		d.plan.Warnings = append(d.plan.Warnings, fmt.Sprintf("%s belongs to the namespace %q and is left as it is; declare it with external = %q to read it",
			after.Addr, st.Namespace, st.Namespace+"."+after.Addr.Name))
		return c, false
	}
	if from, moved := d.moves[after.Addr]; moved {
		old := d.obs.States[from]
		st, seen = old, true
		c.Action, c.MovedFrom = Move, from
		c.Reasons = append(c.Reasons, "renamed from "+from.String())
		c.Kept = d.keeps(from, old)
	} else {
		c.Kept = st.Kept
	}
	if !seen || !there(st) {
		d.held(c.Addr, st)
		c.Action = Create
		d.things(&c)
		d.impact(&c, st)
		return c, true
	}
	c.Before = st.Resource
	if c.Before == nil && st.Interrupted == nil {
		c.Action = atLeast(c.Action, Repair)
		c.Reasons = append(c.Reasons, "it runs, and it is not known with which options")
	}
	if c.Before != nil {
		d.ownOptions(&c)
	}
	d.dependencies(&c, st)
	d.condition(&c, st)
	d.things(&c)
	d.held(c.Addr, st)
	if c.Action == NoOp {
		return c, false
	}
	c.Destructive = c.Destructive || c.Action == Replace
	d.impact(&c, st)
	return c, true
}

// keeps gives the names in the outside world that a moved address goes on using.
func (d *differ) keeps(from addr.Addr, old State) Identity {
	kept := old.Kept
	if works(from) && kept.Group == "" {
		kept.Group = old.Group
	}
	if from.Type == typeStream && kept.Topic == "" {
		kept.Topic = old.Topic.Name
	}
	return kept
}

func (d *differ) ownOptions(c *Change) {
	c.Options = d.options(c.Before, c.After)
	if c.Before.Kind != c.After.Kind {
		c.Options = append([]OptionChange{{Name: "kind", Before: c.Before.Kind, After: c.After.Kind, Effect: spec.Drain}}, c.Options...)
	}
	if c.Addr.Type == typeJob {
		jobEffects(c)
	}
	for i := range c.Options {
		o := c.Options[i]
		if c.Addr.Type == typeStream && o.Name == "partitions" {
			d.partitions(c, o)
		}
		if c.Addr.Type == typeStream && o.Name == "topic" && c.Kept.Topic != "" && !writes(c.After, "topic") {
			continue // the topic stays what it was under the old name
		}
		c.Action = atLeast(c.Action, ofEffect(o.Effect))
		if o.Effect == spec.Replace {
			c.Destructive = true
		}
	}
}

// partitions says what growing means, and that shrinking needs a new topic.
func (d *differ) partitions(c *Change, o OptionChange) {
	before, after := number(o.Before), number(o.After)
	switch {
	case after > before && before > 0:
		d.plan.Warnings = append(d.plan.Warnings, fmt.Sprintf("%s grows from %d to %d partitions: keys move to other partitions, so the order per key does not hold between records before and after the change",
			c.Addr, before, after))
	case o.Effect == spec.Replace:
		c.Reasons = append(c.Reasons, "a topic cannot lose partitions: it would be deleted and made again")
		if !destroys(c.Before) {
			c.Blocked = fmt.Sprintf("a topic cannot lose partitions, and %s is not to be deleted (on_destroy): keep %d partitions, use another topic, or apply on_destroy = \"delete\" first", c.Addr, before)
		}
	}
}

// dependencies takes over what changed in the blocks that an address refers to.
func (d *differ) dependencies(c *Change, st State) {
	if !works(c.Addr) {
		return
	}
	for _, dep := range dependsOn(d.goal.Config, c.Addr) {
		after := d.after[dep]
		before := st.Deps[dep]
		if st.Deps == nil {
			was := dep
			if from, moved := d.moves[dep]; moved {
				was = from
			}
			if s, ok := d.obs.States[was]; ok && d.own(s) {
				before = s.Resource
			}
		} else if from, moved := d.moves[dep]; moved && before == nil {
			before = st.Deps[from]
		}
		if before == nil || after == nil || before == after {
			continue
		}
		var names []string
		action := NoOp
		if before.Kind != after.Kind {
			names, action = append(names, "kind"), Drain
		}
		for _, o := range d.options(before, after) {
			if a := d.reaches(c.Addr, dep, o); a != NoOp {
				names = append(names, o.Name)
				action = atLeast(action, a)
			}
		}
		if action == NoOp {
			continue
		}
		c.Action = atLeast(c.Action, action)
		c.Reasons = append(c.Reasons, fmt.Sprintf("%s changed: %s", dep, list(names)))
	}
}

// reaches gives what the change of an option does to a route or job that refers to its block.
func (d *differ) reaches(who, dep addr.Addr, o OptionChange) Action {
	switch dep.Type {
	case typeSource, typeSink:
		return ofEffect(o.Effect)
	case typeCluster:
		if o.Effect == spec.Live {
			return NoOp
		}
		return Drain
	}
	r := d.goal.Config.Routes[who]
	switch {
	case o.Name == "partitions" && number(o.After) > number(o.Before):
		return NoOp // readers and writers find new partitions by themselves
	case o.Effect == spec.Replace && (r != nil && r.From.Addr == dep || d.goal.Config.Jobs[who].Reads(dep)):
		return Replace // positions count in a topic that is gone
	case o.Effect == spec.Replace:
		return Drain
	case o.Name == "schema" || o.Name == "key":
		if who.Type == typeJob {
			return Drain
		}
		return atLeast(Update, ofEffect(o.Effect)) // programs are compiled against them
	case o.Effect == spec.Live:
		return NoOp // the topic's own business
	}
	return ofEffect(o.Effect)
}

// condition turns what is wrong with the world, the goal being met, into a repair.
func (d *differ) condition(c *Change, st State) {
	if st.Interrupted != nil {
		c.Action = atLeast(c.Action, Repair)
		c.Reasons = append(c.Reasons, "an earlier change did not finish")
	}
	if st.Rewind != nil {
		c.Action = atLeast(c.Action, Repair)
		c.Reasons = append(c.Reasons, st.Rewind.String()+" is to be completed")
	}
	if disabled(c.After) {
		if working(st.Health) && works(c.Addr) {
			c.Action = atLeast(c.Action, Repair)
			c.Reasons = append(c.Reasons, "it runs, and it is disabled")
		}
		return
	}
	if cluster := clusterOf(d.goal.Config, c.Addr); !cluster.IsZero() {
		if _, gone := d.obs.Unreachable[cluster]; gone {
			return // nothing can be concluded
		}
	}
	reason := ""
	switch st.Health {
	case Failed:
		reason = "failed"
		if st.Error != "" {
			reason = "failed: " + st.Error
		}
		if works(c.Addr) {
			reason = "worker " + reason
		}
	case Missing:
		reason = missing(c.Addr)
	case Stopped:
		reason = "it is stopped"
	case Drained:
		if st.Held == nil {
			reason = "it was drained, and should run"
		}
	case Disabled:
		reason = "it is disabled, and should run"
	}
	if reason != "" {
		c.Action = atLeast(c.Action, Repair)
		c.Reasons = append(c.Reasons, reason)
	}
	if len(st.Drift) > 0 && c.Addr.Type != typeSink && !(c.Addr.Type == typeStream && unmanaged(c.After)) {
		c.Action = atLeast(c.Action, Repair)
		for _, drift := range st.Drift {
			c.Reasons = append(c.Reasons, "drifted: "+drift)
		}
	}
}

// works tells what has a worker.
func works(a addr.Addr) bool { return a.Type == typeRoute || a.Type == typeJob }

func missing(a addr.Addr) string {
	switch a.Type {
	case typeRoute, typeJob:
		return "no worker runs"
	case typeStream:
		return "its topic is missing"
	}
	return "nothing of it is there"
}

func working(h Health) bool {
	return h == Running || h == Starting || h == Draining || h == Failed || h == Degraded || h == Paused
}

// absent gives the changes of addresses that are there and not in the goal.
func (d *differ) absent() {
	gone := make(map[addr.Addr]bool, len(d.moves))
	for _, from := range d.moves {
		gone[from] = true
	}
	for _, a := range slices.SortedFunc(maps.Keys(d.obs.States), addr.Compare) {
		st := d.obs.States[a]
		if d.after[a] != nil || gone[a] || !d.own(st) || !there(st) {
			continue
		}
		before := st.Resource
		if before == nil {
			before = st.Interrupted
		}
		c := Change{Addr: a, Action: Delete, Before: before, Kept: st.Kept}
		removed, said := removedBlock(d.goal.Config, a)
		switch {
		case said && !removed.Destroy:
			c.Action = Forget
			c.Reasons = append(c.Reasons, "a removed block says that it stays where it is")
		case a.Type == typeStream && (before == nil || unmanaged(before)):
			c.Action = Forget
			c.Reasons = append(c.Reasons, "Keystone did not make its topic")
		case a.Type == typeStream && !destroys(before):
			c.Action = Forget
			c.Reasons = append(c.Reasons, "its topic stays, since on_destroy is not \"delete\"")
		case a.Type == typeStream && !d.claimant(before, st).IsZero():
			c.Action = Forget
			c.Reasons = append(c.Reasons, fmt.Sprintf("its topic stays: it is that of %s now", d.claimant(before, st)))
		case a.Type == typeStream:
			c.Destructive = true
			c.Reasons = append(c.Reasons, "it is no longer declared, and on_destroy is \"delete\"")
		case a.Type == typeSink && before != nil && destroys(before):
			c.Destructive = true
			c.Reasons = append(c.Reasons, "it is no longer declared, and on_destroy is \"delete\"")
		case before == nil:
			c.Reasons = append(c.Reasons, "it runs without being in the goal")
		default:
			c.Reasons = append(c.Reasons, "it is no longer declared")
		}
		d.impact(&c, st)
		d.plan.Changes = append(d.plan.Changes, c)
	}
}

// claimant gives the stream of the goal that uses a topic of the name of one
// that goes. Clusters are not compared: two cluster blocks may be about the same brokers.
func (d *differ) claimant(before *configs.Resource, st State) addr.Addr {
	topic := cmp.Or(st.Kept.Topic, st.Topic.Name, word(before, "topic"), before.Addr.Name)
	if d.topics == nil {
		d.topics = make(map[string][]addr.Addr, len(d.goal.Config.Streams))
		for _, a := range slices.SortedFunc(maps.Keys(d.goal.Config.Streams), addr.Compare) {
			t := d.goal.Config.Streams[a].Topic
			d.topics[t] = append(d.topics[t], a)
		}
	}
	if as := d.topics[topic]; len(as) > 0 {
		return as[0]
	}
	return addr.Addr{}
}

func removedBlock(cfg *configs.Config, a addr.Addr) (configs.Removed, bool) {
	for _, r := range cfg.Removed {
		if r.From == a || r.From == a.Block() {
			return r, true
		}
	}
	return configs.Removed{}, false
}

// ofEffect gives the action that an option's effect asks for.
func ofEffect(e spec.Effect) Action {
	switch e {
	case spec.Live:
		return Update
	case spec.Drain:
		return Drain
	}
	return Replace
}

// rank orders the actions of addresses that stay: the stronger one includes
// the weaker. A moved address is drained and restarted under its new name, a
// repair applies the whole resource again: only losing state is more.
func rank(a Action) int {
	return slices.Index([]Action{NoOp, Update, Repair, Drain, Create, Move, Replace}, a)
}

func atLeast(a, b Action) Action {
	if rank(b) > rank(a) {
		return b
	}
	return a
}
