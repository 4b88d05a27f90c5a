package elasticsearch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"keystone/dsl/types"
	"keystone/sinks"
)

// piece is one of the things that a sink keeps in the cluster.
type piece interface {
	// named gives kind and name alone.
	named() sinks.Thing
	// look compares what is there with what is wanted. An *absence is answered by the caller.
	look(ctx context.Context, a *admin) (sinks.Thing, error)
	// mend makes it, or what differs. The thing is what look gave.
	mend(ctx context.Context, a *admin, seen sinks.Thing) error
	// destroy takes it away if Keystone made it.
	destroy(ctx context.Context, a *admin, log func(string)) error
}

// pieces gives what the sink keeps, in the order in which it is made.
func (c *Config) pieces(events []types.Type) []piece {
	if !c.Template.Written {
		return nil
	}
	m, _ := plain(c.mapping(events)).(map[string]any)
	var out []piece
	if c.Lifecycle.Written {
		out = append(out, &policy{c.policyName(), c.policy()})
	}
	body, _ := plain(c.template(m)).(map[string]any)
	out = append(out, &template{c.templateName(), body})
	switch _, fixed := wildcard(c.Index.S); {
	case c.DataStream && fixed:
		out = append(out, &dataStream{c.Index.S})
	case c.alias() != "":
		out = append(out, &firstIndex{c.Index.S})
	}
	return append(out, c.present(m, time.Now()))
}

// Claims names the template and the policy: another block that names them would undo what this one does. Clusters
// are the same where they share the address of a node.
func (c *Config) Claims() []sinks.Claim {
	if !c.Template.Written {
		return nil
	}
	places := make([]string, len(c.URLs))
	for i, text := range c.URLs {
		places[i] = node(text)
	}
	option := "index"
	if c.Template.Name != "" {
		option = "template.name"
	}
	out := []sinks.Claim{{Thing: kindTemplate + " " + strconv.Quote(c.templateName()), Places: places, Option: option}}
	if !c.Lifecycle.Written {
		return out
	}
	if c.Lifecycle.Name != "" {
		option = "lifecycle.name"
	}
	return append(out, sinks.Claim{Thing: kindPolicy + " " + strconv.Quote(c.policyName()), Places: places, Form: word(plain(c.policy())), Option: option})
}

// node gives host and port of a URL.
func node(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return strings.ToLower(u.Hostname()) + ":" + port + strings.TrimRight(u.Path, "/")
}

// Wanted names the things without asking anybody.
func (c *Config) Wanted(_ sinks.Deps, events []types.Type) []sinks.Thing {
	var out []sinks.Thing
	for _, p := range c.pieces(events) {
		if _, ok := p.(*indices); !ok { // which there are is to be seen
			out = append(out, p.named())
		}
	}
	return out
}

// Observe asks the cluster.
func (c *Config) Observe(ctx context.Context, d sinks.Deps, events []types.Type) ([]sinks.Thing, error) {
	pieces := c.pieces(events)
	if len(pieces) == 0 {
		return nil, nil
	}
	a, ctx, done, err := c.administer(ctx, d)
	if err != nil {
		return nil, err
	}
	defer done()
	var out []sinks.Thing
	for _, p := range pieces {
		t, err := c.look(ctx, a, p)
		if err != nil {
			return nil, err
		}
		in, ok := p.(*indices)
		if ok {
			t.Notes = append(t.Notes, c.unreached(in, out)...)
		}
		if !ok || len(t.Differs) > 0 || t.Blocked != "" || len(t.Notes) > 0 {
			out = append(out, t)
		}
	}
	return out, nil
}

// unreached says what of a change of the template, or of the policy, the indices that are there do not get.
func (c *Config) unreached(in *indices, things []sinks.Thing) (notes []string) {
	for _, t := range things {
		if t.Blocked != "" || t.Exists && len(t.Differs) == 0 {
			continue
		}
		switch t.Kind {
		case kindTemplate:
			settings := c.settings()
			maps.DeleteFunc(settings, func(name string, _ any) bool {
				return t.Exists && !slices.ContainsFunc(t.Differs, func(text string) bool {
					return strings.HasPrefix(text, settingFact+name+":") || strings.HasPrefix(text, settingFact+name+" ")
				})
			})
			notes = append(notes, in.unreached(settings)...)
		case kindPolicy:
			if t.Exists && len(in.seen) > 0 {
				notes = append(notes, "An index goes on by the policy as it was until its present phase ends.")
			}
		}
	}
	return notes
}

func (c *Config) look(ctx context.Context, a *admin, p piece) (sinks.Thing, error) {
	t, err := p.look(ctx, a)
	var lacks *absence
	if errors.As(err, &lacks) {
		t = p.named()
		t.Blocked = lacks.text + ": it is not there in this version or distribution of Elasticsearch; " + without(p)
		return t, nil
	}
	return t, err
}

// without says how to do without a thing.
func without(p piece) string {
	switch p.(type) {
	case *policy:
		return "leave lifecycle { } out, and delete old indices by other means"
	case *dataStream:
		return "leave template.data_stream out, and write to an index"
	}
	return "leave template { } out"
}

// Ensure makes what is missing, in order, and mends what differs.
func (c *Config) Ensure(ctx context.Context, d sinks.Deps, events []types.Type) error {
	pieces := c.pieces(events)
	if len(pieces) == 0 {
		return nil
	}
	a, ctx, done, err := c.administer(ctx, d)
	if err != nil {
		return err
	}
	defer done()
	for _, p := range pieces {
		t, err := c.look(ctx, a, p)
		if err != nil {
			return err
		}
		if t.Blocked != "" {
			return fmt.Errorf("%s %s: %s", t.Kind, t.Name, t.Blocked)
		}
		if t.Exists && len(t.Differs) == 0 {
			continue
		}
		if err := p.mend(ctx, a, t); err != nil {
			return fmt.Errorf("%s %s: %w", t.Kind, t.Name, err)
		}
		if d.Log != nil {
			d.Log.Info(t.Kind+" is as declared", "name", t.Name, "made", !t.Exists, "mended", strings.Join(t.Differs, "; "))
		}
	}
	return nil
}

// Destroy takes away what Keystone made, the last first, if on_destroy says so.
func (c *Config) Destroy(ctx context.Context, d sinks.Deps) error {
	pieces := c.pieces(nil)
	if c.OnDestroy != "delete" || len(pieces) == 0 {
		return nil
	}
	a, ctx, done, err := c.administer(ctx, d)
	if err != nil {
		return err
	}
	defer done()
	for i := len(pieces) - 1; i >= 0; i-- {
		t := pieces[i].named()
		log := func(text string) {
			if d.Log != nil {
				d.Log.Warn(t.Kind+" stays", "name", t.Name, "why", text)
			}
		}
		err := pieces[i].destroy(ctx, a, log)
		var lacks *absence
		if err != nil && !errors.As(err, &lacks) {
			return fmt.Errorf("%s %s: %w", t.Kind, t.Name, err)
		}
	}
	return nil
}

// The kinds of things that others ask for.
const (
	kindTemplate = "index template"
	kindPolicy   = "lifecycle policy"
)

// template is the index template.
type template struct {
	name string
	body map[string]any
}

func (t *template) named() sinks.Thing { return sinks.Thing{Kind: kindTemplate, Name: t.name} }
func (t *template) path() string       { return "/_index_template/" + escape(t.name) }

func (t *template) read(ctx context.Context, a *admin) (body map[string]any, err error) {
	var answer map[string]any
	if ok, err := a.get(ctx, t.path(), "flat_settings=true", &answer); err != nil || !ok {
		return nil, err
	}
	list, _ := answer["index_templates"].([]any)
	for _, x := range list {
		if one, _ := x.(map[string]any); one["name"] == t.name {
			body, _ = one["index_template"].(map[string]any)
			return body, nil
		}
	}
	return nil, nil
}

func (t *template) look(ctx context.Context, a *admin) (sinks.Thing, error) {
	out := t.named()
	have, err := t.read(ctx, a)
	if err != nil || have == nil {
		return out, err
	}
	out.Exists = true
	out.Differs = differs(templateFacts(have), templateFacts(t.body))
	return out, nil
}

func (t *template) mend(ctx context.Context, a *admin, _ sinks.Thing) error {
	return a.change(ctx, "PUT", t.path(), t.body)
}

// isOurs tells whether Keystone made a thing, by its _meta.
func isOurs(thing map[string]any) bool {
	m, _ := thing["_meta"].(map[string]any)
	return m["managed_by"] == managedBy
}

const notOurs = "_meta.managed_by is not keystone: somebody else made it"

func (t *template) destroy(ctx context.Context, a *admin, log func(string)) error {
	have, err := t.read(ctx, a)
	switch {
	case err != nil || have == nil:
		return err
	case !isOurs(have):
		log(notOurs)
		return nil
	}
	return a.remove(ctx, t.path())
}
