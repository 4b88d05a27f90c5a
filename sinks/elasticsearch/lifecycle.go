package elasticsearch

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"keystone/sinks"
)

// policy is the lifecycle policy.
type policy struct {
	name string
	body map[string]any
}

// policy gives the body of the policy.
func (c *Config) policy() map[string]any {
	l := &c.Lifecycle
	phases := map[string]any{}
	if l.rolls() {
		when := map[string]any{}
		if l.MaxAge > 0 {
			when["max_age"] = timeText(l.MaxAge)
		}
		if l.MaxSize > 0 {
			when["max_size"] = sizeText(l.MaxSize)
		}
		if l.MaxDocs > 0 {
			when["max_docs"] = l.MaxDocs
		}
		phases["hot"] = map[string]any{"min_age": "0ms", "actions": map[string]any{"rollover": when}}
	}
	if l.DeleteAfter > 0 {
		phases["delete"] = map[string]any{"min_age": timeText(l.DeleteAfter), "actions": map[string]any{"delete": map[string]any{}}}
	}
	body, _ := plain(map[string]any{"policy": map[string]any{"_meta": meta(), "phases": phases}}).(map[string]any)
	return body
}

// timeText writes a duration as Elasticsearch does, in the largest unit that divides it.
func timeText(d time.Duration) string {
	for _, u := range timeUnits {
		if d%u.of == 0 {
			return strconv.FormatInt(int64(d/u.of), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(d/time.Millisecond), 10) + "ms"
}

var timeUnits = []struct {
	name string
	of   time.Duration
}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}}

func sizeText(n int64) string {
	for i, u := range sizeUnits {
		if of := int64(1) << (10 * (len(sizeUnits) - 1 - i)); n%of == 0 {
			return strconv.FormatInt(n/of, 10) + u
		}
	}
	return strconv.FormatInt(n, 10) + "b"
}

var sizeUnits = []string{"pb", "tb", "gb", "mb", "kb", "b"}

func (p *policy) named() sinks.Thing { return sinks.Thing{Kind: kindPolicy, Name: p.name} }
func (p *policy) path() string       { return "/_ilm/policy/" + escape(p.name) }

func (p *policy) read(ctx context.Context, a *admin) (map[string]any, error) {
	var answer map[string]any
	if ok, err := a.get(ctx, p.path(), "", &answer); err != nil || !ok {
		return nil, err
	}
	one, _ := answer[p.name].(map[string]any)
	return one, nil
}

func (p *policy) look(ctx context.Context, a *admin) (sinks.Thing, error) {
	out := p.named()
	have, err := p.read(ctx, a)
	if err != nil || have == nil {
		return out, err
	}
	out.Exists = true
	out.Differs = differs(policyFacts(have), policyFacts(p.body))
	return out, nil
}

// policyFacts takes apart a policy, as it is put or answered.
func policyFacts(body map[string]any) facts {
	f := facts{}
	p, _ := body["policy"].(map[string]any)
	f.meta(p["_meta"])
	phases, _ := p["phases"].(map[string]any)
	for name, v := range phases {
		phase, _ := v.(map[string]any)
		if age := canonicalTime(word(phase["min_age"])); phase["min_age"] != nil && age != "0d" {
			f[name+" after"] = age
		}
		actions, _ := phase["actions"].(map[string]any)
		for action, v := range actions {
			with, _ := v.(map[string]any)
			what := name + ": " + action
			if action == "delete" && name == "delete" { // its only parameter has a default that is shown
				if word(with["delete_searchable_snapshot"]) == "false" {
					f[what+" delete_searchable_snapshot"] = "false"
				}
				f[what] = "yes"
				continue
			}
			if len(with) == 0 {
				f[what] = "yes"
			}
			for key, v := range with {
				f[what+" "+key] = canonicalUnit(key, word(v))
			}
		}
	}
	return f
}

func canonicalUnit(key, text string) string {
	switch {
	case strings.HasSuffix(key, "_age"):
		return canonicalTime(text)
	case strings.HasSuffix(key, "_size"):
		return canonicalSize(text)
	}
	return text
}

// canonicalTime writes 24h as 1d.
func canonicalTime(text string) string {
	for _, u := range slices.Backward(timeUnits) { // ms before s
		if n, err := strconv.ParseInt(strings.TrimSuffix(text, u.name), 10, 64); err == nil && strings.HasSuffix(text, u.name) && n < 1<<31 {
			return timeText(time.Duration(n) * u.of)
		}
	}
	return text
}

func canonicalSize(text string) string {
	for i, u := range sizeUnits {
		if n, err := strconv.ParseInt(strings.TrimSuffix(text, u), 10, 64); err == nil && strings.HasSuffix(text, u) && n < 1<<12 {
			return sizeText(n << (10 * (len(sizeUnits) - 1 - i)))
		}
	}
	return text
}

func (p *policy) mend(ctx context.Context, a *admin, _ sinks.Thing) error {
	return a.change(ctx, "PUT", p.path(), p.body)
}

func (p *policy) destroy(ctx context.Context, a *admin, log func(string)) error {
	have, err := p.read(ctx, a)
	if err != nil || have == nil {
		return err
	}
	body, _ := have["policy"].(map[string]any)
	if !isOurs(body) {
		log(notOurs)
		return nil
	}
	if users := usersOf(have); users != "" {
		log("it ages what stays: " + users)
		return nil
	}
	return a.remove(ctx, p.path())
}

// usersOf names what a policy is given to; Elasticsearch deletes it only when there is nothing.
func usersOf(have map[string]any) string {
	in, _ := have["in_use_by"].(map[string]any)
	var all []string
	for _, key := range []string{"indices", "data_streams", "composable_templates"} {
		list, _ := in[key].([]any)
		for _, x := range list {
			all = append(all, word(x))
		}
	}
	return some(all)
}

// some names a few of many.
func some(names []string) string {
	const few = 3
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
