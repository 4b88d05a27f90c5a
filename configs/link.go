package configs

import (
	"maps"
	"slices"
	"strings"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl/types"
)

// EmbeddedCluster is the address of the broker inside the process, which is
// there when a configuration has streams and no cluster.
var EmbeddedCluster = addr.New("cluster", "embedded")

// derive names the topic of a stream that does not name it.
func (s *Stream) derive() {
	if s.Topic != "" {
		return
	}
	if _, name, ok := strings.Cut(s.External, "."); ok {
		s.Topic = name
		return
	}
	s.Topic = s.Addr.Name
	if s.Addr.Each {
		s.Topic += "-" + s.Addr.Key
	}
}

// groupName gives the consumer group of a route.
func groupName(namespace, env string, a addr.Addr) string {
	g := "keystone." + namespace + "." + env + "." + a.Type + "." + a.Name
	if a.Each {
		g += "." + a.Key
	}
	return g
}

// DeadLetterTopic gives the topic of the managed stream for records that the
// route could not process; it is on the cluster of the route's source.
func (c *Config) DeadLetterTopic(route addr.Addr) string {
	topic := "keystone.dead-letters." + c.Settings.Namespace + "." + c.Env + "."
	if route.Type != "route" {
		topic += route.Type + "."
	}
	topic += route.Name
	if route.Each {
		topic += "." + strings.Map(func(r rune) rune {
			if isTopic("x" + string(r)) {
				return r
			}
			return '_'
		}, route.Key)
	}
	return topic
}

// sorted gives the addresses of a map of blocks in order.
func sorted[T any](m map[addr.Addr]T) []addr.Addr {
	return slices.SortedFunc(maps.Keys(m), addr.Compare)
}

// header gives where a block is declared.
func (d *decoder) header(a addr.Addr) diag.Range { return d.bodies[a].Range }

// link resolves what blocks say of each other, and checks it.
func (d *decoder) link() {
	for _, a := range sorted(d.c.Streams) {
		d.scope(a, d.header(a), func(diags *diag.Diagnostics) { d.linkCluster(d.c.Streams[a], diags) })
	}
	d.checkTopics()
	for _, a := range sorted(d.c.Routes) {
		d.scope(a, d.header(a), func(diags *diag.Diagnostics) { d.linkRoute(d.c.Routes[a], diags) })
	}
	d.checkClaims()
	d.linkJobs()
	d.checkUnused()
	d.checkCycles()
	d.checkDeadLetterTopics()
}

// linkCluster finds the cluster that a stream is on, and shows it as the
// stream's option, said or not: saying it is no change.
func (d *decoder) linkCluster(s *Stream, diags *diag.Diagnostics) {
	defer func() {
		if s.Cluster.IsZero() {
			return
		}
		opts := d.c.Resources[d.index[s.Addr]].Options
		o, said := opts["cluster"]
		if !said {
			o = Option{Effect: spec.Replace, Layer: spec.LayerDefault}
		}
		o.Canonical = s.Cluster.String()
		opts["cluster"] = o
	}()
	ref := d.refs[s.Addr].cluster
	switch {
	case !ref.Addr.IsZero():
		s.Cluster = ref.Addr
		if d.c.Clusters[ref.Addr] == nil {
			d.unknownRef(ref, "cluster", diags)
		}
	case len(d.c.Clusters) == 1 && !d.embedded():
		s.Cluster = sorted(d.c.Clusters)[0]
	case len(d.c.Clusters) == 0 || d.embedded():
		s.Cluster = EmbeddedCluster
		d.c.Clusters[EmbeddedCluster] = &Cluster{Addr: EmbeddedCluster, Embedded: true, ClientID: "keystone"}
		if s.External != "" {
			diags.Addf(attrRange(d.bodies[s.Addr], "external"), codeBlockValue, "External stream without a cluster", "Another namespace's stream is on a cluster that both use, and there is no cluster block: the broker inside this process is this configuration's own.")
		}
	default:
		var names []string
		for _, a := range sorted(d.c.Clusters) {
			names = append(names, a.String())
		}
		diags.Addf(d.header(s.Addr), codeWhichCluster, "Which cluster?", "There are several clusters; say which one the stream is on: cluster = %s.", strings.Join(names, " or "))
	}
}

func (d *decoder) embedded() bool {
	c := d.c.Clusters[EmbeddedCluster]
	return c != nil && c.Embedded
}

// unknownRef reports a reference to a block that is not there. Load finds
// most of them earlier, at their token.
func (d *decoder) unknownRef(ref spec.Ref, what string, diags *diag.Diagnostics) {
	if d.failed[ref.Addr.Block()] {
		return
	}
	var near []string
	for a := range d.bodies {
		if a.Type == ref.Addr.Type {
			near = append(near, a.String())
		}
	}
	slices.Sort(near)
	diags.Addf(ref.Range, codeReference, "Unknown reference", "There is no %s %s.%s", what, ref.Addr, diag.DidYouMean(ref.Addr.String(), near))
}

type place struct {
	cluster addr.Addr
	topic   string
}

// checkTopics refuses two streams of one topic, unless Keystone manages
// neither.
func (d *decoder) checkTopics() {
	first := map[place]*Stream{}
	for _, a := range sorted(d.c.Streams) {
		s := d.c.Streams[a]
		p := place{s.Cluster, s.Topic}
		other := first[p]
		if other == nil {
			first[p] = s
			continue
		}
		if !s.ManagedHere() && !other.ManagedHere() {
			continue
		}
		d.scope(a, d.header(a), func(diags *diag.Diagnostics) {
			diags.Addf(attrRange(d.bodies[a], "topic"), codeClash, "Topic used twice", "%s and %s are both the topic %q. Use one stream for both, or give one of them another topic.", other.Addr, a, s.Topic)
		})
	}
}

// ManagedHere tells whether this configuration creates and changes the topic.
func (s *Stream) ManagedHere() bool { return s.Managed && s.External == "" }

// checkDeadLetterTopics refuses names that the keys of instances make equal or too long.
func (d *decoder) checkDeadLetterTopics() {
	names := map[string]addr.Addr{}
	for _, s := range d.c.Streams {
		names[s.Topic] = s.Addr
	}
	var managed []addr.Addr
	for _, a := range sorted(d.c.Routes) {
		r := d.c.Routes[a]
		if r.OnError == DeadLetter && r.DeadLetter.Addr.IsZero() && d.c.Streams[r.From.Addr] != nil {
			managed = append(managed, a)
		}
	}
	for _, a := range sorted(d.c.Jobs) {
		if j := d.c.Jobs[a]; j.OnError == DeadLetter && j.DeadLetter.Addr.IsZero() {
			managed = append(managed, a)
		}
	}
	for _, a := range managed {
		topic := d.c.DeadLetterTopic(a)
		other, taken := names[topic]
		names[topic] = a
		d.scope(a, d.header(a), func(diags *diag.Diagnostics) {
			switch {
			case len(topic) > 249:
				diags.Addf(d.header(a), codeClash, "Name too long", "The dead letters of %s would go to the topic %q, and the name of a topic has at most 249 characters. Shorten the key or the name, or set dead_letter.", a, topic)
			case taken:
				diags.Addf(d.header(a), codeClash, "Topic used twice", "The dead letters of %s would go to the topic %q, which is that of %s. Set dead_letter, or change the key.", a, topic, other)
			}
		})
	}
}

// SchemaOf gives the type of the events of a stream or source; Kind Any where
// there is no schema.
func (c *Config) SchemaOf(a addr.Addr) types.Type {
	if s := c.Streams[a]; s != nil {
		return s.Schema
	}
	if s := c.Sources[a]; s != nil {
		return s.Schema
	}
	return types.AnyType
}

// ClusterOf gives the cluster of a stream, or nil for any other address.
func (c *Config) ClusterOf(stream addr.Addr) *Cluster {
	if s := c.Streams[stream]; s != nil {
		return c.Clusters[s.Cluster]
	}
	return nil
}
