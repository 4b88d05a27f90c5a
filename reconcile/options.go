package reconcile

import (
	"slices"
	"strconv"
	"strings"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/spec"
)

// options compares two resources; results are kept, since many routes refer
// to the same few blocks.
func (d *differ) options(before, after *configs.Resource) []OptionChange {
	if before == after {
		return nil
	}
	key := resourcePair{before, after}
	if cs, ok := d.changed[key]; ok {
		return cs
	}
	cs := compareOptions(before.Options, after.Options, d.renamed)
	for i := range cs {
		if o := &cs[i]; o.Name == "partitions" && after.Addr.Type == typeStream {
			o.Effect = partitionsEffect(*o, after)
		}
	}
	d.changed[key] = cs
	return cs
}

// partitionsEffect: a topic's partitions can grow, and never shrink but by a new topic.
func partitionsEffect(o OptionChange, after *configs.Resource) spec.Effect {
	was, is := number(o.Before), number(o.After)
	switch {
	case was > 0 && is > was && o.Effect == spec.Replace:
		return spec.Live
	case is > 0 && is < was && !unmanaged(after):
		return spec.Replace
	}
	return o.Effect
}

// compareOptions gives the options that differ, by name. A reference to a
// block that only changed its name is no difference.
//
// Either side may have been decoded by another version of Keystone: an option that one side does
// not know at all is no difference where the other has it by default.
func compareOptions(before, after map[string]configs.Option, renamed map[string]string) []OptionChange {
	var out []OptionChange
	for name, b := range before {
		a, known := after[name]
		switch {
		case known && (b.Canonical == a.Canonical || renamedTo(renamed, b.Canonical, a.Canonical)):
		case !known && b.Layer == spec.LayerDefault:
		default:
			effect := b.Effect
			if known {
				effect = a.Effect
			}
			out = append(out, OptionChange{Name: name, Before: b.Canonical, After: a.Canonical, Effect: effect, Sensitive: b.Sensitive || a.Sensitive})
		}
	}
	for name, a := range after {
		if _, known := before[name]; !known && a.Layer != spec.LayerDefault && a.Canonical != "" {
			out = append(out, OptionChange{Name: name, After: a.Canonical, Effect: a.Effect, Sensitive: a.Sensitive})
		}
	}
	slices.SortFunc(out, func(a, b OptionChange) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func renamedTo(renamed map[string]string, before, after string) bool {
	if len(renamed) == 0 {
		return false
	}
	to, ok := renamed[before]
	return ok && to == after
}

// word gives an option's canonical text without the quotes of a string.
func word(r *configs.Resource, name string) string {
	if r == nil {
		return ""
	}
	return unquote(r.Options[name].Canonical)
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' {
		if u, err := strconv.Unquote(s); err == nil {
			return u
		}
	}
	return s
}

func number(canonical string) int {
	n, _ := strconv.Atoi(unquote(canonical))
	return n
}

func destroys(r *configs.Resource) bool { return word(r, "on_destroy") == "delete" }
func disabled(r *configs.Resource) bool { return word(r, "enabled") == "false" }
func unmanaged(r *configs.Resource) bool {
	return word(r, "managed") == "false" || word(r, "external") != ""
}

// writes tells whether the user wrote an option.
func writes(r *configs.Resource, name string) bool {
	_, ok := r.Body.Attrs[name]
	return ok
}

// refOptions are the options that refer to other blocks, also within the operators of a job.
var refOptions = [...]string{"from", "to", "dead_letter", "cluster"}

func isRef(option string) bool {
	return slices.Contains(refOptions[:], option[strings.LastIndexByte(option, '.')+1:])
}

// refersTo gives the addresses that a resource named when it was applied.
func refersTo(r *configs.Resource) []addr.Addr {
	if r == nil {
		return nil
	}
	var out []addr.Addr
	for name, o := range r.Options {
		if isRef(name) {
			if a, err := addr.Parse(unquote(o.Canonical)); err == nil && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, addr.Compare)
	return out
}

// dependsOn gives the addresses that an address of the goal refers to,
// through streams to their clusters, nearest first.
func dependsOn(cfg *configs.Config, a addr.Addr) []addr.Addr {
	var out []addr.Addr
	add := func(x addr.Addr) {
		if !x.IsZero() && !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	switch a.Type {
	case typeStream:
		if s := cfg.Streams[a]; s != nil {
			add(s.Cluster)
		}
	case typeRoute:
		r := cfg.Routes[a]
		if r == nil {
			return nil
		}
		add(r.From.Addr)
		add(r.To.Addr)
		add(r.DeadLetter.Addr)
	case typeJob:
		j := cfg.Jobs[a]
		if j == nil {
			return nil
		}
		for _, at := range j.Ends() {
			add(at)
		}
	}
	if works(a) {
		for _, s := range slices.Clone(out) {
			if stream := cfg.Streams[s]; stream != nil {
				add(stream.Cluster)
			}
		}
	}
	return out
}

// clusterOf gives the cluster without which nothing is known about an
// address; zero if there is none. Workers run in this process and are always known.
func clusterOf(cfg *configs.Config, a addr.Addr) addr.Addr {
	switch a.Type {
	case typeCluster:
		return a
	case typeStream:
		if s := cfg.Streams[a]; s != nil {
			return s.Cluster
		}
	}
	return addr.Addr{}
}

func list(names []string) string { return strings.Join(names, ", ") }
