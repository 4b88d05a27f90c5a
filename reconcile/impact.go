package reconcile

import (
	"fmt"
	"slices"

	"keystone/configs"
	"keystone/configs/addr"
)

// impact fills what a change does to data, from what is known.
func (d *differ) impact(c *Change, st State) {
	c.Impact.Waiting = -1
	switch c.Addr.Type {
	case typeRoute:
		d.routeImpact(c, st)
	case typeJob:
		d.jobImpact(c, st)
	case typeStream:
		d.streamImpact(c, st)
	default:
		c.Impact.Waiting = 0
		if c.Addr.Type == typeSink && c.Action == Delete && c.Destructive {
			c.Impact.LosesState = append(c.Impact.LosesState, "what it made outside, and all that is in it")
		}
	}
}

func (d *differ) streamImpact(c *Change, st State) {
	i := &c.Impact
	i.Waiting = 0
	held := "its topic"
	if st.Topic.Name != "" {
		held = "topic " + st.Topic.Name
	}
	if st.Topic.Records > 0 {
		held += fmt.Sprintf(" with about %d %s", st.Topic.Records, plural(st.Topic.Records, "record", "records"))
	}
	switch c.Action {
	case Delete:
		i.LosesState = append(i.LosesState, held)
	case Forget:
		i.KeepsState = append(i.KeepsState, held)
	case Move:
		i.KeepsState = append(i.KeepsState, held)
	case Replace:
		if slices.ContainsFunc(c.Options, func(o OptionChange) bool { return o.Name == "topic" || o.Name == "cluster" }) {
			i.KeepsState = append(i.KeepsState, held+", which nothing reads or writes any more")
			i.LosesState = append(i.LosesState, "the positions of its readers, which count in that topic")
		} else {
			i.LosesState = append(i.LosesState, held)
		}
	}
}

func (d *differ) routeImpact(c *Change, st State) {
	i := &c.Impact
	r := d.goal.Config.Routes[c.Addr]
	switch c.Action {
	case Delete, Forget:
		i.Waiting = max(st.Lag, -1)
		i.KeepsState = append(i.KeepsState, positionsOf(st, before(c))+": a route of this name goes on from there while they are kept")
		i.RepeatNote = "what is in flight is finished first"
		return
	}
	if r == nil {
		return
	}
	if r.OnError == configs.DeadLetter && c.Action != Repair {
		i.Letters = d.lettersOf(r)
	}
	group := r.Group
	if c.Kept.Group != "" {
		group = c.Kept.Group
	}
	start := startOf(r)
	switch {
	case changes(c, "from"):
		i.ContinuesFrom = fmt.Sprintf("%s of %s, unless %s", start, r.From.Addr, positionsThere(group, r.From.Addr))
		i.Waiting = -1
		i.KeepsState = append(i.KeepsState, positionsOf(st, before(c)))
	case c.Action == Replace:
		i.ContinuesFrom = fmt.Sprintf("%s of %s", start, r.From.Addr)
		i.Waiting = known(st, st.Reading.Retained)
		i.LosesState = append(i.LosesState, positionsOf(st, before(c)))
		if i.Waiting >= 0 {
			i.MayRepeat, i.RepeatNote = i.Waiting, "everything that the source still holds is read again"
		} else {
			i.MayRepeat, i.RepeatNote = -1, "everything that the source still holds is read again"
		}
	case c.Action == Create && st.Reading.Known && st.Reading.Committed == 0:
		i.ContinuesFrom = fmt.Sprintf("%s of %s", start, r.From.Addr)
		if r.Start != "latest" {
			i.Waiting = st.Reading.Retained
		} else {
			i.Waiting = 0
		}
	case c.Action == Create && !st.Reading.Known:
		i.ContinuesFrom = fmt.Sprintf("%s of %s, unless %s", start, r.From.Addr, positionsThere(group, r.From.Addr))
	default:
		i.ContinuesFrom = positionsName(group, r.From.Addr)
		i.Waiting = max(st.Lag, -1)
		if c.Before == nil && !st.Reading.Known {
			i.Waiting = -1
		}
	}
	if c.Before != nil && c.Action != Replace && changes(c, "start") && !changes(c, "from") {
		d.plan.Warnings = append(d.plan.Warnings, fmt.Sprintf("%s has positions already, so its new start does not count", c.Addr))
	}
	d.interruption(c, st, r)
}

// lettersOf says where the dead letters of a route go.
func (d *differ) lettersOf(r *configs.Route) Letters {
	cfg := d.goal.Config
	if s := cfg.Streams[r.DeadLetter.Addr]; s != nil {
		was := s.Addr
		if from, moved := d.moves[s.Addr]; moved {
			was = from
		}
		l := Letters{Topic: s.Topic, Stream: s.Addr}
		if name := d.obs.States[was].Topic.Name; was != s.Addr && name != "" {
			l.Topic = name // it keeps it
		}
		if kept := d.obs.States[was].Kept.Topic; kept != "" {
			l.Topic = kept
		}
		return l
	}
	if s := cfg.Sinks[r.DeadLetter.Addr]; s != nil {
		return Letters{Sink: s.Addr}
	}
	if s := cfg.Streams[r.From.Addr]; s != nil {
		return Letters{Topic: cfg.DeadLetterTopic(r.Addr), Stream: s.Addr, Managed: true}
	}
	return Letters{Managed: true}
}

// interruption says what pauses and what may be delivered twice.
func (d *differ) interruption(c *Change, st State, r *configs.Route) {
	i := &c.Impact
	switch c.Action {
	case Update:
		i.RepeatNote = "nothing stops: the next batch is evaluated with the new program"
	case Drain, Move:
		switch {
		case r.Delivery.Guarantee == configs.AtMostOnce:
			i.RepeatNote = "nothing is repeated (at_most_once)"
			i.Pause = r.Delivery.DrainTimeout
		case r.Delivery.Guarantee == configs.ExactlyOnce:
			i.RepeatNote = "nothing is repeated: the open transaction is finished first"
			i.Pause = r.Delivery.DrainTimeout
		case !r.Overlaps() || c.Action == Move || changes(c, "from"):
			i.Pause = r.Delivery.DrainTimeout
			i.RepeatNote = fmt.Sprintf("what is in flight is finished first; what takes longer than %v may be repeated", r.Delivery.DrainTimeout)
			if r.Delivery.Redeploy == configs.PreferLatency && r.OneWorker != "" {
				i.RepeatNote += ". prefer_latency does not count here: " + r.OneWorker
			}
		default:
			i.MayRepeat = -1
			i.RepeatNote = fmt.Sprintf("the new worker joins before the old one leaves, and what is in flight may be delivered twice: at most %s", size(r.Limits.MaxInFlightBytes))
			if st.Counters.InFlight > 0 {
				i.RepeatNote += fmt.Sprintf(", %d records now", st.Counters.InFlight)
			}
		}
	case Repair:
		if st.Health == Failed || st.Health == Missing || st.Health == Stopped || st.Interrupted != nil {
			i.MayRepeat = -1
			i.RepeatNote = "records that were delivered and not committed may be delivered twice"
			if r.Delivery.Guarantee == configs.AtMostOnce {
				i.MayRepeat, i.RepeatNote = 0, "nothing is repeated (at_most_once)"
			}
		}
	}
}

// before gives the source that a route read, where it is known.
func before(c *Change) addr.Addr {
	r := c.Before
	if r == nil {
		return addr.Addr{}
	}
	a, _ := addr.Parse(word(r, "from"))
	return a
}

func changes(c *Change, option string) bool {
	return slices.ContainsFunc(c.Options, func(o OptionChange) bool { return o.Name == option })
}

func startOf(r *configs.Route) string {
	switch r.Start {
	case "", "earliest":
		return "the start"
	case "latest":
		return "the end"
	}
	return "the first record since " + r.Start
}

// positionsOf names the positions of what was observed.
func positionsOf(st State, from addr.Addr) string {
	name := positionsName(st.Group, from)
	if from.IsZero() {
		return name
	}
	return name + " in " + from.String()
}

func positionsName(group string, from addr.Addr) string {
	if group != "" && from.Type != typeSource {
		return "the committed offsets of group " + group
	}
	return "the stored positions"
}

// positionsThere is the condition under which a route does not begin at its start.
func positionsThere(group string, from addr.Addr) string {
	if group != "" && from.Type != typeSource {
		return "group " + group + " has committed offsets there"
	}
	return "a position in it is stored"
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func known(st State, n int64) int64 {
	if !st.Reading.Known {
		return -1
	}
	return n
}

func size(bytes int64) string {
	switch {
	case bytes <= 0:
		return "what the sink holds"
	case bytes%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", bytes>>20)
	case bytes%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", bytes>>10)
	}
	return fmt.Sprintf("%d bytes", bytes)
}
