package wire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/reconcile"
	"keystone/sources"
	"keystone/sources/hive/chain"
	"keystone/sources/parquet"
)

// then works out what a backfill reads and where the live route goes on behind it, so that between
// both nothing is missing and nothing comes twice.
//
// The table was written by a route from the stream that the live route reads, and its manifests say
// which file has the records up to which offset. So the files of the manifests that are there now are read, and the
// live route begins where they end: at the offsets that are settled here. With a cut it is a time that divides both: rows
// from before it, and the stream from the first record of that time on, whoever wrote the table.
func (s *server) then(ctx context.Context, cfg *configs.Config, route *configs.Route, b *reconcile.Backfill, r parquet.Reading, d sources.Deps, files []parquet.File) ([]parquet.File, []string, error) {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{api.ErrUnsupported}, args...)...)
	}
	stream := cfg.Streams[route.From.Addr]
	switch {
	case stream == nil:
		return nil, nil, refuse("-then live hands over to a stream, and %s reads %s", route.Addr, route.From.Addr)
	case !b.Until.IsZero() && b.Cut.IsZero():
		return nil, nil, refuse("-until would leave a gap between the rows and the live route: leave it out, or say -cut TIME")
	case !b.Cut.IsZero():
		return files, []string{fmt.Sprintf("then the route reads %s from the first record of %s on; where records have other times than their events, both may overlap or leave something out around that time",
			stream.Addr, b.Cut.UTC().Format(time.RFC3339))}, nil
	}
	topic := s.runtime.topicNames(cfg)(stream.Addr)
	adm, err := s.plant.admin(ctx, cfg.ClusterOf(stream.Addr))
	if err != nil {
		return nil, nil, err
	}
	_, have, err := adm.ObserveOffsets(ctx, topic)
	if err != nil {
		return nil, nil, err
	}
	t := have[topic]
	if !t.Exists {
		return nil, nil, refuse("the topic %s is not there", topic)
	}
	ends, listed, writer, err := chainsOf(ctx, r, t.ID)
	if err != nil {
		return nil, nil, err
	}
	if len(ends) == 0 {
		return nil, nil, refuse("no manifest in %s is of the topic %s as it is now, so nobody knows where its rows end: say -cut TIME, a time before which rows are read and from which on the stream is", r.Where, topic)
	}
	// What is read is listed after the chains, so nothing that they have is missing in it: a commit that came between would be.
	if files, err = parquet.Plan(ctx, r, d); err != nil {
		return nil, nil, err
	}
	kept := slices.DeleteFunc(slices.Clone(files), func(f parquet.File) bool { return !listed.has(f.Name) })
	for _, f := range kept {
		if with := listed.beyond(f.Name); with != "" {
			return nil, nil, fmt.Errorf("%s was merged with %s, which is of no commit up to there: ask again in a moment", f.Name, with)
		}
	}
	var lost int64
	for p := range int32(t.Partitions) {
		at := t.Begin[p]
		if end, ok := ends[p]; ok {
			lost += max(0, at-end)
			at = max(at, end)
		}
		b.Ends = append(b.Ends, reconcile.Offset{Partition: p, Offset: at})
	}
	notes := []string{fmt.Sprintf("the rows are those that %s has written, and %s then reads %s from where they end: no gap, and no overlap", writer, route.Addr, stream.Addr)}
	if lost > 0 {
		notes = append(notes, fmt.Sprintf("%d records between the end of the rows and the beginning of the stream were removed: they are in neither", lost))
	}
	if others := len(files) - len(kept); others > 0 {
		notes = append(notes, fmt.Sprintf("%d files of the table are of no manifest up to there, and are not read", others))
	}
	b.TopicID = t.ID
	return kept, notes, nil
}

// chainsOf reads the manifests of the one route that wrote a table from a topic: where each partition ends,
// and the names of all files up to there.
func chainsOf(ctx context.Context, r parquet.Reading, topicID string) (ends map[int32]int64, files listing, writer string, err error) {
	places, err := r.Places(ctx)
	if err != nil {
		return nil, nil, "", err
	}
	closed := map[any]bool{}
	defer func() {
		for _, p := range places {
			if !closed[p.Store] {
				closed[p.Store] = true
				err = errors.Join(err, p.Store.Close())
			}
		}
	}()
	if len(places) == 0 {
		return nil, nil, "", nil
	}
	store := places[0].Store // the table's own
	keys, err := chain.Keys(ctx, store, "")
	if err != nil {
		return nil, nil, "", err
	}
	latest := map[string]int64{}
	for _, k := range keys {
		if k.Identity == topicID {
			latest[k.Route] = max(latest[k.Route], k.Generation)
		}
	}
	if len(latest) > 1 {
		return nil, nil, "", fmt.Errorf("%w: several routes have written %s from this topic (%s), so its rows are there more than once: say -cut TIME", api.ErrUnsupported, r.Where, strings.Join(slices.Sorted(maps.Keys(latest)), ", "))
	}
	ends, files = map[int32]int64{}, listing{}
	compacted := map[string]*chain.Compacted{}
	for _, k := range keys {
		gen, ok := latest[k.Route]
		if !ok || k.Identity != topicID {
			continue
		}
		if gen > 0 {
			return nil, nil, "", fmt.Errorf("%w: the route that wrote %s was rewound, so some rows may be there twice: say -cut TIME", api.ErrUnsupported, r.Where)
		}
		writer = k.Route
		for m, err := range chain.Read(ctx, store, k) {
			if err != nil {
				return nil, nil, "", err
			}
			ends[k.Partition] = m.Next.Offset
			for _, f := range m.Files {
				dir, name := path.Split(f.Path)
				dir = strings.TrimSuffix(dir, "/")
				if compacted[dir] == nil && dir != "" {
					if compacted[dir], err = chain.ReadCompacted(ctx, store, dir); err != nil {
						return nil, nil, "", err
					}
				}
				at, with := f.Path, []string(nil)
				if dir != "" {
					at, with = compacted[dir].Where(name)
				}
				if _, err := store.Stat(ctx, at); err != nil {
					return nil, nil, "", fmt.Errorf("the file %s of the last commit is not there yet, or was just moved; ask again in a moment: %w", at, err)
				}
				files.add(name, at, with)
			}
		}
	}
	return ends, files, writer, nil
}

// listing is the files that have the rows of some commits, by path. Compacted ones have rows of several files of commits.
type listing map[string]*struct{ missing map[string]bool }

// add takes note of a file of a commit, whose rows are in the file at a path, with those of others.
func (l listing) add(name, at string, with []string) {
	if l[at] == nil {
		l[at] = &struct{ missing map[string]bool }{map[string]bool{}}
		for _, w := range with {
			l[at].missing[w] = true
		}
	}
	delete(l[at].missing, name)
}

func (l listing) has(path string) bool { return l[path] != nil }

// beyond names a file that has rows in the one at a path, and that is of none of the commits; "" if there is none.
func (l listing) beyond(path string) string {
	for name := range l[path].missing {
		return name
	}
	return ""
}

// handOver has the live route go on where the rows ended. Twice is once.
func (s *server) handOver(ctx context.Context, b reconcile.Backfill) error {
	ask := api.Rewind{Address: b.Addr.String(), Who: b.Who, Plan: true, Time: b.Cut}
	if b.Cut.IsZero() {
		for _, e := range b.Ends {
			ask.Offsets = append(ask.Offsets, api.PartitionOffset(e))
		}
	}
	plan, err := s.Rewind(ctx, ask)
	if err != nil {
		return err
	}
	if b.TopicID != "" && plan.TopicID != "" && plan.TopicID != b.TopicID {
		return sources.Fatal{Err: fmt.Errorf("the topic was deleted and created again meanwhile: the live route does not go on by itself")}
	}
	if plan.Moves() {
		ask.Plan, ask.Skip, ask.PlannedTopic = false, true, plan.TopicID
		for _, p := range plan.Partitions {
			ask.Planned = append(ask.Planned, api.PartitionOffset{Partition: p.Partition, Offset: p.To})
		}
		if _, err := s.Rewind(ctx, ask); err != nil {
			return err
		}
	}
	if !b.Held {
		return nil
	}
	return s.operate(ctx, b.Addr, api.Operate{Verb: api.Resume, Who: b.Who}, s.goals.State().Revision.Serial)
}
