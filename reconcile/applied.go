package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
)

// Applied is what the ledger remembers of one address: which resource was
// applied last, and which one was begun and is not known to have finished.
type Applied struct {
	Addr        addr.Addr
	Resource    *configs.Resource // nil if no change of it ever finished
	Interrupted *configs.Resource // nil if none is under way
	Deps        map[addr.Addr]*configs.Resource
	Kept        Identity
	Group       string // of a route
	Topic       string // of a stream
	Serial      int64  // of the goal that it was applied for
	At          time.Time
}

// Ledger keeps what was applied. The store implements it.
type Ledger interface {
	LoadApplied(ctx context.Context) ([]Applied, error)
	// SaveApplied writes and removes rows in one transaction, durable when it returns.
	SaveApplied(ctx context.Context, put []Applied, gone []addr.Addr) error
}

// begin gives the row to write before a change is carried out; false if the
// row that is there already says enough: a crash in between is found by looking at the world.
func begin(rows map[addr.Addr]Applied, c Change) (Applied, bool) {
	switch c.Action {
	case Delete, Forget:
		return Applied{}, false
	}
	row, known := rows[c.Addr]
	if known && row.Interrupted == nil && row.Resource != nil && row.Resource.Kind == c.After.Kind && len(compareOptions(row.Resource.Options, c.After.Options, nil)) == 0 {
		return Applied{}, false
	}
	row.Addr, row.Interrupted = c.Addr, c.After
	return row, true
}

// finish gives the rows to write and to remove after a change was carried out.
func finish(rows map[addr.Addr]Applied, goal Goal, c Change, now time.Time) (put []Applied, gone []addr.Addr) {
	switch c.Action {
	case Delete, Forget:
		return nil, []addr.Addr{c.Addr}
	}
	if !c.MovedFrom.IsZero() {
		gone = append(gone, c.MovedFrom)
		put = rename(rows, c.MovedFrom, c.Addr)
	}
	row := Applied{Addr: c.Addr, Resource: c.After, Kept: c.Kept, Serial: goal.Serial, At: now}
	if r := goal.Config.Routes[c.Addr]; r != nil {
		row.Group = r.Group
	}
	if s := goal.Config.Streams[c.Addr]; s != nil {
		row.Topic = s.Topic
	}
	if j := goal.Config.Jobs[c.Addr]; j != nil {
		row.Group = j.Group
	}
	if deps := dependsOn(goal.Config, c.Addr); works(c.Addr) && len(deps) > 0 {
		row.Deps = make(map[addr.Addr]*configs.Resource, len(deps))
		for _, dep := range deps {
			if r := resourceOf(goal.Config, dep); r != nil {
				row.Deps[dep] = r
			}
		}
	}
	if old, known := rows[c.Addr]; !known || len(gone) > 0 || !old.same(row) {
		put = append(put, row)
	}
	return put, gone
}

// rename gives the rows that refer to a moved address, with its new name: a
// moved block may be taken out of the files once it has been applied.
func rename(rows map[addr.Addr]Applied, from, to addr.Addr) []Applied {
	copies := map[*configs.Resource]*configs.Resource{}
	var put []Applied
	for _, row := range rows {
		if row.Addr == from || row.Addr == to {
			continue
		}
		resource, interrupted := renameIn(copies, row.Resource, from, to), renameIn(copies, row.Interrupted, from, to)
		deps, changed := make(map[addr.Addr]*configs.Resource, len(row.Deps)), false
		for dep, r := range row.Deps {
			renamed := renameIn(copies, r, from, to)
			changed = changed || renamed != r || dep == from
			if dep == from {
				dep = to
			}
			deps[dep] = renamed
		}
		if !changed && resource == row.Resource && interrupted == row.Interrupted {
			continue
		}
		row.Resource, row.Interrupted = resource, interrupted
		if changed {
			row.Deps = deps
		}
		put = append(put, row)
	}
	return put
}

func renameIn(copies map[*configs.Resource]*configs.Resource, r *configs.Resource, from, to addr.Addr) *configs.Resource {
	if r == nil {
		return nil
	}
	if c, ok := copies[r]; ok {
		return c
	}
	out := r
	for name, o := range r.Options {
		if !isRef(name) || o.Canonical != from.String() {
			continue
		}
		if out == r {
			c := *r
			c.Options = maps.Clone(r.Options)
			out = &c
		}
		o.Canonical = to.String()
		out.Options[name] = o
	}
	copies[r] = out
	return out
}

// same tells whether writing the other row would change nothing that counts.
func (a Applied) same(b Applied) bool {
	return a.Interrupted == nil && b.Interrupted == nil && equal(a.Resource, b.Resource) &&
		a.Kept == b.Kept && a.Group == b.Group && a.Topic == b.Topic && maps.EqualFunc(a.Deps, b.Deps, equal)
}

func equal(a, b *configs.Resource) bool {
	if a == b {
		return true
	}
	return a != nil && b != nil && a.Kind == b.Kind && maps.EqualFunc(a.Options, b.Options, func(x, y configs.Option) bool {
		return x.Canonical == y.Canonical && x.Effect == y.Effect && x.Layer == y.Layer && x.Sensitive == y.Sensitive
	})
}

// resourceOf finds a resource; Resources are in address order.
func resourceOf(cfg *configs.Config, a addr.Addr) *configs.Resource {
	lo, hi := 0, len(cfg.Resources)
	for lo < hi {
		mid := (lo + hi) / 2
		if cfg.Resources[mid].Addr.Less(a) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(cfg.Resources) && cfg.Resources[lo].Addr == a {
		return &cfg.Resources[lo]
	}
	return nil
}

// Merge completes what a Runtime saw with what was applied, and gives the
// world as Diff wants it. Addresses that the Runtime does not know, since this process has not
// started them yet, are missing; sinks, sources and clusters have no life of their
// own, and are as they were applied unless the Runtime says otherwise, of sinks by what is outside. Where both
// have a Resource the ledger's counts: it follows renames.
func Merge(seen Observed, rows map[addr.Addr]Applied) Observed {
	out := seen
	out.States = make(map[addr.Addr]State, max(len(rows), len(seen.States)))
	maps.Copy(out.States, seen.States)
	for a, row := range rows {
		st, known := out.States[a]
		if !known {
			st = State{Health: idle(row), Since: row.At, Lag: -1}
		}
		if row.Resource != nil {
			st.Resource = row.Resource
		}
		st.Interrupted, st.Deps, st.Kept = row.Interrupted, row.Deps, row.Kept
		if st.Group == "" {
			st.Group = row.Group
		}
		if st.Topic.Name == "" {
			st.Topic.Name = row.Topic
		}
		if o, ok := seen.Outside[a]; ok && row.Resource != nil {
			outside(&st, o)
		}
		out.States[a] = st
	}
	return out
}

func idle(row Applied) Health {
	switch row.Addr.Type {
	case typeRoute, typeJob:
		if disabled(row.Resource) {
			return Disabled
		}
		return Missing
	case typeStream:
		return Missing
	}
	return Running
}

// AsApplied gives the world as it would be if a configuration were applied
// and ran well: what an offline plan compares with.
func AsApplied(cfg *configs.Config, at time.Time) Observed {
	o := Observed{At: at, States: make(map[addr.Addr]State, len(cfg.Resources))}
	for i := range cfg.Resources {
		r := &cfg.Resources[i]
		st := State{Resource: r, Health: Running, Since: at, Lag: -1}
		if disabled(r) {
			st.Health = Disabled
		}
		if route := cfg.Routes[r.Addr]; route != nil {
			st.Group = route.Group
		}
		if j := cfg.Jobs[r.Addr]; j != nil {
			st.Group = j.Group
		}
		if s := cfg.Streams[r.Addr]; s != nil {
			st.Topic.Name = s.Topic
		}
		o.States[r.Addr] = st
	}
	return o
}

// storedResource is the stored form of an applied resource: with the options
// as they were then, so that a later version compares with what really ran.
type storedResource struct {
	Addr    addr.Addr               `json:"addr"`
	Kind    string                  `json:"kind,omitempty"`
	Decl    diag.Range              `json:"decl"`
	Body    spec.Body               `json:"body"`
	Options map[string]storedOption `json:"options,omitempty"`
}

type storedOption struct {
	Canonical string      `json:"v"`
	Effect    spec.Effect `json:"e,omitempty"`
	Layer     spec.Layer  `json:"l,omitempty"`
	Sensitive bool        `json:"s,omitempty"`
}

// EncodeResource gives the form of an applied resource that a ledger keeps.
// Secrets that are written out in the files are left out: only references are kept.
func EncodeResource(r *configs.Resource) ([]byte, error) {
	s := storedResource{Addr: r.Addr, Kind: r.Kind, Decl: r.Decl, Body: withoutLiterals(r.Body, r.Options, "")}
	if len(r.Options) > 0 {
		s.Options = make(map[string]storedOption, len(r.Options))
		for name, o := range r.Options {
			s.Options[name] = storedOption{Canonical: o.Canonical, Effect: o.Effect, Layer: o.Layer, Sensitive: o.Sensitive}
		}
	}
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", r.Addr, err)
	}
	return b, nil
}

// DecodeResource reads what EncodeResource gave.
func DecodeResource(b []byte) (*configs.Resource, error) {
	var s storedResource
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("decode an applied resource: %w", err)
	}
	r := &configs.Resource{Addr: s.Addr, Kind: s.Kind, Decl: s.Decl, Body: s.Body}
	if len(s.Options) > 0 {
		r.Options = make(map[string]configs.Option, len(s.Options))
		for name, o := range s.Options {
			r.Options[name] = configs.Option{Canonical: o.Canonical, Effect: o.Effect, Layer: o.Layer, Sensitive: o.Sensitive}
		}
	}
	return r, nil
}

// WithoutLiterals gives resources for storing: a secret that is written out
// in the files is left out, references stay. What is stored holds no secret values.
func WithoutLiterals(rs []configs.Resource) []configs.Resource {
	out := slices.Clone(rs)
	for i := range out {
		out[i].Body = withoutLiterals(out[i].Body, out[i].Options, "")
	}
	return out
}

// Omitted lists, as "OPTION of ADDRESS, written at PLACE", the secrets that WithoutLiterals left out.
func Omitted(rs []configs.Resource) []string {
	var out []string
	var look func(a addr.Addr, b spec.Body, prefix string)
	look = func(a addr.Addr, b spec.Body, prefix string) {
		for _, name := range slices.Sorted(maps.Keys(b.Attrs)) {
			s, _ := b.Attrs[name].Value.(spec.Secret)
			for _, p := range s.Parts {
				if p.Omitted != "" {
					out = append(out, fmt.Sprintf("%s%s of %s, written at %s", prefix, name, a, p.Omitted))
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(b.Blocks)) {
			look(a, b.Blocks[name], prefix+name+".")
		}
	}
	for _, r := range rs {
		look(r.Addr, r.Body, "")
	}
	return out
}

func withoutLiterals(b spec.Body, opts map[string]configs.Option, prefix string) spec.Body {
	out := b
	cloned := false
	for name, a := range b.Attrs {
		s, secret := a.Value.(spec.Secret)
		if !secret && !opts[prefix+name].Sensitive || secret && refers(s) || a.Value == nil {
			continue
		}
		if !cloned {
			out.Attrs, cloned = maps.Clone(b.Attrs), true
		}
		a.Value = spec.Secret{Range: a.Range, Parts: []spec.SecretPart{{Omitted: a.Range.String()}}}
		out.Attrs[name] = a
	}
	if len(b.Blocks) > 0 {
		out.Blocks = make(map[string]spec.Body, len(b.Blocks))
		for name, inner := range b.Blocks {
			out.Blocks[name] = withoutLiterals(inner, opts, prefix+name+".")
		}
	}
	return out
}

// refers tells a secret that is at least in part a reference; text beside a
// reference ("ApiKey ") is no secret.
func refers(s spec.Secret) bool {
	for _, p := range s.Parts {
		if p.Env != "" || p.File != "" || p.Var != "" || p.Plain != "" || p.Omitted != "" {
			return true
		}
	}
	return false
}
