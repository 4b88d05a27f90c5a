package elasticsearch

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"keystone/sinks"
)

// indices are those that are there already: a template counts for new ones alone.
type indices struct {
	names   []string // or patterns
	mapping mapping
	aliases []string
	stream  string // the data stream that they belong to, "" if to none
	alias   string // that is written to
	most    int    // how many are looked at for their mappings; 0: indicesMost
	now     string // the pattern of those that events of now go to, where others of the names are of other times

	seen map[string]*state
}

// state is what is known of one index.
type state struct {
	gap      gap
	aliases  []string       // that it lacks
	settings map[string]any // flat
	closed   bool           // it takes no changes
}

func (c *Config) present(m mapping, now time.Time) *indices {
	_, fixed := wildcard(c.Index.S)
	i := &indices{names: []string{c.Index.S}, mapping: m, aliases: c.Aliases, alias: c.alias()}
	if !fixed {
		i.names = c.patterns()
		if timed(c.Index.S) {
			i.now = current(c.Index.S, now)
		}
	}
	if c.DataStream && fixed {
		i.stream = c.Index.S
	}
	return i
}

func (i *indices) named() sinks.Thing {
	return sinks.Thing{Kind: "indices", Name: strings.Join(i.names, ",")}
}

func (i *indices) look(ctx context.Context, a *admin) (sinks.Thing, error) {
	out := i.named()
	parts := make([]string, len(i.names))
	for k, n := range i.names {
		parts[k] = escape(n)
	}
	var answer map[string]any
	ok, err := a.get(ctx, "/"+strings.Join(parts, ","), "features=settings,aliases&flat_settings=true&expand_wildcards=open&ignore_unavailable=true", &answer)
	out.Exists = true // that there is none yet is as it should be
	if err != nil || !ok || len(answer) == 0 {
		return out, err
	}
	names, left := newest(answer, cmp.Or(i.most, indicesMost))
	latest := i.latest(answer)
	mappings := map[string]any{}
	for part := range slices.Chunk(names, chunk) {
		if err := i.mappings(ctx, a, part, mappings); err != nil {
			return out, err
		}
	}
	i.seen = map[string]*state{}
	found := map[string][]string{} // indices by what they lack
	var blocked, kept []string
	for _, name := range slices.Sorted(maps.Keys(answer)) {
		index, _ := answer[name].(map[string]any)
		settings, _ := index["settings"].(map[string]any)
		s := &state{settings: settings}
		i.seen[name] = s
		if s.closed = closed(settings); s.closed {
			continue
		}
		aliases, _ := index["aliases"].(map[string]any)
		for _, alias := range i.aliases {
			if _, ok := aliases[alias]; !ok && i.stream == "" {
				s.aliases = append(s.aliases, alias)
				found["alias "+alias+" is missing"] = append(found["alias "+alias+" is missing"], name)
			}
		}
		one, ok := mappings[name].(map[string]any)
		if !ok || latest != "" && name != latest {
			continue
		}
		have, _ := one["mappings"].(map[string]any)
		s.gap = lack(have, i.mapping)
		for _, text := range s.gap.differs {
			found[text] = append(found[text], name)
		}
		for _, c := range s.gap.clashes {
			text := fmt.Sprintf("mapping of %s in %s: %s, wanted %s", c.path, name, phraseOf(c.have), phraseOf(c.want))
			if i.written(name) {
				blocked = append(blocked, text)
			} else {
				kept = append(kept, text)
			}
		}
	}
	for _, text := range slices.Sorted(maps.Keys(found)) {
		out.Differs = append(out.Differs, text+" ("+some(found[text])+")")
	}
	if len(blocked) > 0 {
		out.Blocked = some(blocked) + ". Elasticsearch does not change what a field is. " + i.wayOut()
	}
	if len(kept) > 0 {
		out.Notes = append(out.Notes, some(kept)+". Elasticsearch does not change what a field is: late events that go there and do not fit become dead letters. New indices get the new mapping.")
	}
	if left > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("%d older indices than the newest %d were not looked at for their mappings.", left, len(names)))
	}
	return out, nil
}

// indicesMost is how many indices are looked at for their mappings: of patterns there may be thousands.
const indicesMost = 200

// newest gives the names of the indices that were made last, and how many there are beside them.
func newest(answer map[string]any, most int) (names []string, left int) {
	made := map[string]int64{}
	for name, v := range answer {
		index, _ := v.(map[string]any)
		settings, _ := index["settings"].(map[string]any)
		made[name], _ = strconv.ParseInt(word(settings["index.creation_date"]), 10, 64)
	}
	names = slices.SortedFunc(maps.Keys(made), func(a, b string) int {
		return cmp.Or(cmp.Compare(made[b], made[a]), strings.Compare(a, b))
	})
	left = max(len(names)-most, 0)
	return names[:len(names)-left], left
}

// mappings adds those of some indices. One that is gone meanwhile has none.
func (i *indices) mappings(ctx context.Context, a *admin, names []string, into map[string]any) error {
	parts := make([]string, len(names))
	for k, n := range names {
		parts[k] = escape(n)
	}
	var answer map[string]any
	ok, err := a.get(ctx, "/"+strings.Join(parts, ","), "features=mappings&ignore_unavailable=true", &answer)
	if ok {
		maps.Copy(into, answer)
	}
	return err
}

// written tells whether an index is one that events of now go to: of patterns with times the one of now, of
// others any.
func (i *indices) written(name string) bool {
	if i.now == "" {
		return true
	}
	ok, err := path.Match(i.now, name)
	return ok && err == nil
}

// unreached says which settings of a template the indices that are there do not get; nil if there are none.
func (i *indices) unreached(wanted map[string]any) (notes []string) {
	for _, setting := range slices.Sorted(maps.Keys(wanted)) {
		var other []string
		for _, name := range slices.Sorted(maps.Keys(i.seen)) {
			s := i.seen[name]
			if have := word(s.settings[setting]); !s.closed && have != word(wanted[setting]) {
				if s.settings[setting] == nil {
					have = "not set"
				}
				other = append(other, name+": "+have)
			}
		}
		if len(other) > 0 {
			notes = append(notes, fmt.Sprintf("setting %s = %s is for indices made from now on; those that are there keep theirs (%s). %s", setting, word(wanted[setting]), some(other), reach(setting)))
		}
	}
	return notes
}

// reach says how an index that is there gets a setting.
func reach(setting string) string {
	for _, fixed := range []string{"index.number_of_shards", "index.codec", "index.sort.", "index.mode", "index.routing_partition_size", "index.number_of_routing_shards"} {
		if strings.HasPrefix(setting, fixed) {
			return "It cannot change there: copy the documents (POST /_reindex) where it matters."
		}
	}
	return "PUT /INDEX/_settings changes it there."
}

func (i *indices) wayOut() string {
	keep := "or keep what is there: template { fields = { … } }"
	if i.stream != "" || i.alias != "" {
		return fmt.Sprintf("Begin a new index with the new mapping (POST /%s/_rollover, once the template has it), %s", i.names[0], keep)
	}
	return "Write to an index of another name (index = …) and copy the documents there (POST /_reindex), " + keep
}

// latest gives the index that is written to, where one is; "" where it may be any.
func (i *indices) latest(answer map[string]any) string {
	if i.stream == "" && i.alias == "" {
		return ""
	}
	names := slices.Sorted(maps.Keys(answer))
	for _, name := range names {
		index, _ := answer[name].(map[string]any)
		aliases, _ := index["aliases"].(map[string]any)
		if how, _ := aliases[i.alias].(map[string]any); how["is_write_index"] == true {
			return name
		}
	}
	// Backing indices end in a number of six digits that grows: .ds-plays-2026.01.31-000004.
	return slices.MaxFunc(names, func(a, b string) int { return strings.Compare(suffix(a), suffix(b)) })
}

func suffix(name string) string { return name[strings.LastIndexByte(name, '-')+1:] }

// closed tells an index that takes no more changes.
func closed(settings map[string]any) bool {
	for _, block := range []string{"read_only", "read_only_allow_delete", "metadata", "write"} {
		if word(settings["index.blocks."+block]) == "true" {
			return true
		}
	}
	return false
}

// chunk is how many indices are named in one request: its path has a bound.
const chunk = 50

// mend puts what indices lack, for those that lack the same at once.
func (i *indices) mend(ctx context.Context, a *admin, _ sinks.Thing) error {
	bodies := map[string][]string{}
	var actions []any
	for _, name := range slices.Sorted(maps.Keys(i.seen)) {
		s := i.seen[name]
		if len(s.gap.differs) > 0 {
			b, err := json.Marshal(s.gap.add)
			if err != nil {
				return err
			}
			bodies[string(b)] = append(bodies[string(b)], escape(name))
		}
		for _, alias := range s.aliases {
			actions = append(actions, map[string]any{"add": map[string]any{"index": name, "alias": alias}})
		}
	}
	for _, body := range slices.Sorted(maps.Keys(bodies)) {
		for names := range slices.Chunk(bodies[body], chunk) {
			if err := a.change(ctx, "PUT", "/"+strings.Join(names, ",")+"/_mapping", json.RawMessage(body)); err != nil {
				return err
			}
		}
	}
	if len(actions) == 0 {
		return nil
	}
	return a.change(ctx, "POST", "/_aliases", map[string]any{"actions": actions})
}

// destroy leaves them: Elasticsearch made them as documents came.
func (i *indices) destroy(context.Context, *admin, func(string)) error { return nil }

// dataStream is the data stream that is written to.
type dataStream struct{ name string }

func (s *dataStream) named() sinks.Thing { return sinks.Thing{Kind: "data stream", Name: s.name} }
func (s *dataStream) path() string       { return "/_data_stream/" + escape(s.name) }

func (s *dataStream) read(ctx context.Context, a *admin) (map[string]any, error) {
	var answer map[string]any
	if ok, err := a.get(ctx, s.path(), "", &answer); err != nil || !ok {
		return nil, err
	}
	list, _ := answer["data_streams"].([]any)
	for _, x := range list {
		if one, _ := x.(map[string]any); one["name"] == s.name {
			return one, nil
		}
	}
	return nil, nil
}

func (s *dataStream) look(ctx context.Context, a *admin) (sinks.Thing, error) {
	out := s.named()
	have, err := s.read(ctx, a)
	out.Exists = have != nil
	return out, err
}

func (s *dataStream) mend(ctx context.Context, a *admin, _ sinks.Thing) error {
	return a.change(ctx, "PUT", s.path(), nil)
}

func (s *dataStream) destroy(ctx context.Context, a *admin, log func(string)) error {
	have, err := s.read(ctx, a)
	switch {
	case err != nil || have == nil:
		return err
	case !isOurs(have): // a data stream has the _meta of its template
		log(notOurs)
		return nil
	}
	return a.remove(ctx, s.path())
}

// firstIndex is the index that an alias begins with, where indices are begun by age or size.
type firstIndex struct{ alias string }

func (f *firstIndex) named() sinks.Thing {
	return sinks.Thing{Kind: "index", Name: f.alias + "-000001"}
}

// behind gives the indices that the alias stands for; itself tells that an index has its name.
func (f *firstIndex) behind(ctx context.Context, a *admin) (names []string, itself bool, err error) {
	var answer map[string]any
	if ok, err := a.get(ctx, "/"+escape(f.alias), "features=aliases", &answer); err != nil || !ok {
		return nil, false, err
	}
	_, itself = answer[f.alias]
	return slices.Sorted(maps.Keys(answer)), itself, nil
}

func (f *firstIndex) look(ctx context.Context, a *admin) (sinks.Thing, error) {
	out := f.named()
	names, itself, err := f.behind(ctx, a)
	if err != nil {
		return out, err
	}
	if itself {
		out.Blocked = fmt.Sprintf("%s is an index, and new ones can be begun only behind an alias of this name. Copy its documents to %s (POST /_reindex) and delete it, or leave max_age, max_size and max_docs out", f.alias, out.Name)
	}
	out.Exists = len(names) > 0 // later ones take its place, and it goes in time
	return out, nil
}

func (f *firstIndex) mend(ctx context.Context, a *admin, seen sinks.Thing) error {
	return a.change(ctx, "PUT", "/"+escape(seen.Name), map[string]any{"aliases": map[string]any{f.alias: map[string]any{"is_write_index": true}}})
}

// destroy takes away the indices behind the alias.
func (f *firstIndex) destroy(ctx context.Context, a *admin, log func(string)) error {
	names, itself, err := f.behind(ctx, a)
	if err != nil || itself {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, f.alias+"-") {
			log(name + " is behind the alias and has another name than those that begin after one another")
			continue
		}
		if err := a.remove(ctx, "/"+escape(name)); err != nil {
			return err
		}
	}
	return nil
}
