package configs

import (
	"slices"
	"strings"

	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/dsl/types"
	"keystone/sources"
)

// Meta is what a configuration has besides its resources.
type Meta struct {
	Dir      string    `json:"dir"`
	Env      string    `json:"env"`
	Settings Settings  `json:"settings"`
	Moved    []Moved   `json:"moved,omitempty"`
	Removed  []Removed `json:"removed,omitempty"`
}

// FromResources decodes resources into typed blocks and checks what they
// mean together. Load goes through it, and so does whoever reads the goal
// state from the store: both see the same configuration. The resources are
// not changed; those of the result have their Options filled in.
func FromResources(rs []Resource, meta Meta, catalog Catalog) (*Config, diag.Diagnostics) {
	c, diags := fromResources(rs, meta, catalog, nil)
	if diags.HasErrors() {
		return nil, diags.Sort()
	}
	return c, diags.Sort()
}

// decoder turns resources into a configuration.
type decoder struct {
	c       *Config
	catalog Catalog
	diags   diag.Diagnostics
	refs    map[addr.Addr]streamRefs
	jobs    map[addr.Addr]*jobDecl
	bodies  map[addr.Addr]spec.Body
	index   map[addr.Addr]int  // of resources
	failed  map[addr.Addr]bool // blocks that are declared and not here
	broken  map[addr.Addr]bool // blocks whose own options are wrong
}

// fromResources takes failed, the blocks that are declared and not among the
// resources since they are wrong, which has been reported.
func fromResources(rs []Resource, meta Meta, catalog Catalog, failed map[addr.Addr]bool) (*Config, diag.Diagnostics) {
	d := &decoder{
		c: &Config{
			Dir: meta.Dir, Env: meta.Env, Settings: meta.Settings, Moved: meta.Moved, Removed: meta.Removed,
			Clusters: map[addr.Addr]*Cluster{}, Streams: map[addr.Addr]*Stream{}, Sources: map[addr.Addr]*Source{},
			Sinks: map[addr.Addr]*Sink{}, Routes: map[addr.Addr]*Route{}, Jobs: map[addr.Addr]*Job{},
			Resources: slices.Clone(rs),
		},
		catalog: catalog, refs: map[addr.Addr]streamRefs{}, jobs: map[addr.Addr]*jobDecl{}, index: map[addr.Addr]int{}, bodies: map[addr.Addr]spec.Body{}, broken: map[addr.Addr]bool{}, failed: failed,
	}
	if d.c.Env == "" {
		d.c.Env = DefaultEnv
	}
	slices.SortFunc(d.c.Resources, func(a, b Resource) int { return addr.Compare(a.Addr, b.Addr) })
	for i := range d.c.Resources {
		d.index[d.c.Resources[i].Addr] = i
		d.resource(&d.c.Resources[i])
	}
	d.link()
	d.checkMoved()
	return d.c, dedupe(d.diags)
}

// dedupe keeps one of the diagnostics that differ in the instance alone: a
// mistake in a block is one mistake, however many instances it has.
func dedupe(diags diag.Diagnostics) diag.Diagnostics {
	seen := make(map[diag.Diagnostic]bool, len(diags))
	var out diag.Diagnostics
	for _, d := range diags {
		key := d
		if !key.Range.IsZero() {
			key.Address = ""
		}
		if !seen[key] {
			seen[key] = true
			out = append(out, d)
		}
	}
	return out
}

// scope puts the address on what f reports, and the block's header on what
// has no place; it tells whether f reported no error.
func (d *decoder) scope(a addr.Addr, header diag.Range, f func(*diag.Diagnostics)) bool {
	var diags diag.Diagnostics
	f(&diags)
	for i := range diags {
		if diags[i].Address == "" {
			diags[i].Address = a.String()
		}
		if diags[i].Range.IsZero() {
			diags[i].Range = header
		}
	}
	d.diags.Append(diags...)
	return !diags.HasErrors()
}

// resource decodes one resource into its typed block.
func (d *decoder) resource(r *Resource) {
	d.bodies[r.Addr] = r.Body
	var opts spec.Options
	ok := d.scope(r.Addr, r.Decl, func(diags *diag.Diagnostics) {
		opts = d.decode(r, diags)
	})
	if !ok {
		d.broken[r.Addr] = true
	}
	r.Options = canonicalOptions(opts, r.Body)
}

func (d *decoder) decode(r *Resource, diags *diag.Diagnostics) spec.Options {
	c := d.c
	switch r.Addr.Type {
	case "cluster":
		x := &Cluster{Addr: r.Addr}
		opts := x.Options()
		if diags.Append(spec.Decode(opts, r.Body)...); !diags.HasErrors() {
			x.check(r.Body, diags)
		}
		c.Clusters[r.Addr] = x
		return opts
	case "stream":
		x, refs := &Stream{Addr: r.Addr}, streamRefs{}
		opts := x.options(&refs)
		diags.Append(spec.Decode(opts, r.Body)...)
		x.derive()
		if !diags.HasErrors() {
			x.check(r.Body, diags)
		}
		d.refs[r.Addr] = refs
		c.Streams[r.Addr] = x
		return opts
	case "route":
		x := &Route{Addr: r.Addr}
		opts := x.Options()
		diags.Append(spec.Decode(opts, r.Body)...)
		x.Events.Consts = r.Body.Consts
		x.Group = groupName(c.Settings.Namespace, c.Env, r.Addr)
		c.Routes[r.Addr] = x
		return opts
	case "job":
		x := &jobDecl{job: &Job{Addr: r.Addr, Group: groupName(c.Settings.Namespace, c.Env, r.Addr)}, ops: map[string]*opDecl{}}
		opts := x.options()
		diags.Append(spec.Decode(opts, r.Body)...)
		d.jobs[r.Addr], c.Jobs[r.Addr] = x, x.job
		return opts
	case "source":
		for _, k := range d.catalog.Sources {
			if k.Name == r.Kind {
				x := &Source{Addr: r.Addr, Kind: r.Kind, Config: k.New()}
				opts := sourceOptions(x, x.Config.Options())
				if diags.Append(spec.Decode(opts, r.Body)...); !diags.HasErrors() {
					diags.Append(spec.Locate(r.Body, x.Config.Check())...)
				}
				if typed, ok := x.Config.(sources.Typed); ok && x.Schema.Kind == types.Any {
					x.Schema = typed.Schema()
				}
				c.Sources[r.Addr] = x
				return opts
			}
		}
	case "sink":
		for _, k := range d.catalog.Sinks {
			if k.Name == r.Kind {
				x := &Sink{Addr: r.Addr, Kind: r.Kind, Config: k.New()}
				opts := x.Config.Options()
				if diags.Append(spec.Decode(opts, r.Body)...); !diags.HasErrors() {
					diags.Append(spec.Locate(r.Body, x.Config.Check())...)
				}
				c.Sinks[r.Addr] = x
				return opts
			}
		}
	default:
		diags.Addf(r.Decl, codeBlockType, "Unknown block type", "This version of Keystone does not know %q, which the stored configuration has.", r.Addr.Type)
		return nil
	}
	d.catalog.unknownKind(&block{addr: r.Addr, kind: r.Kind, header: r.Decl}, diags)
	return nil
}

// canonicalOptions gives what plans compare and show.
func canonicalOptions(opts spec.Options, body spec.Body) map[string]Option {
	out := make(map[string]Option, len(opts))
	for path, v := range spec.Canonical(opts) {
		o := Option{Canonical: v.Text, Effect: v.Option.Change, Layer: spec.LayerDefault, Sensitive: v.Option.Kind == spec.KindSecret}
		if len(v.Texts) > 0 {
			o.Canonical += constsText(v.Option.Kind, v.Texts, body.Consts)
		}
		if a, ok := attrAt(body, path); ok && a.Value != nil {
			o.Layer, o.Range = a.Layer, a.Range
		}
		if o.Canonical != "" || o.Layer != spec.LayerDefault {
			out[path] = o
		}
	}
	return out
}

// attrAt finds an attribute by its path.
func attrAt(body spec.Body, path string) (spec.Attr, bool) {
	for {
		name, rest, nested := strings.Cut(path, ".")
		if !nested {
			a, ok := body.Attrs[name]
			return a, ok
		}
		b, ok := body.Blocks[name]
		if !ok {
			return spec.Attr{}, false
		}
		body, path = b, rest
	}
}
