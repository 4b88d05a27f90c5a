package wire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
	dslcheck "keystone/dsl/check"
	"keystone/dsl/eval"
	"keystone/dsl/types"
	"keystone/reconcile"
	"keystone/reconcile/store"
)

// letterFilter tells which letters a query means.
type letterFilter struct {
	q     api.LetterQuery
	codes map[string]bool
	ids   map[string]bool
	where *eval.ExprEval
	reads bool // the expression reads the event
	hint  hint
}

func newLetterFilter(q api.LetterQuery) (*letterFilter, error) {
	f := &letterFilter{q: q, codes: set(q.Codes), ids: set(q.IDs)}
	if q.Part != nil {
		p := int64(*q.Part)
		f.hint.partition = &p
	}
	f.hint.offset = q.Offset
	if q.Where == "" {
		return f, nil
	}
	tree, diags := dslcheck.Condition(diag.LineText("-where", q.Where), dslcheck.Env{Event: types.AnyType})
	if err := diags.Err(); err != nil {
		return nil, fmt.Errorf("-where: %w", err)
	}
	program, err := eval.CompileExpr(tree, types.AnyType)
	if err != nil {
		return nil, fmt.Errorf("-where: compile: %w", err)
	}
	f.where, f.reads = program.NewEval(), program.Reads()
	return f, nil
}

func set(words []string) map[string]bool {
	out := make(map[string]bool, len(words))
	for _, w := range words {
		out[w] = true
	}
	return out
}

// match tells whether a letter is meant; uncertain is why the expression could
// not say so: then it is not.
func (f *letterFilter) match(b *boxed, box *letterBox) (ok bool, uncertain error) {
	l := &b.letter
	switch {
	case f.q.Ends != nil && b.offset >= f.q.Ends[box.name][b.partition()],
		len(f.ids) > 0 && !f.ids[b.id],
		f.q.Part != nil && *f.q.Part != b.partition(),
		f.q.Offset != nil && *f.q.Offset != b.offset,
		len(f.codes) > 0 && !f.codes[l.Code],
		!f.q.Since.IsZero() && l.Time.Before(f.q.Since),
		!f.q.Until.IsZero() && !l.Time.Before(f.q.Until):
		return false, nil
	case f.where == nil:
		return true, nil
	}
	r := l.Record()
	r.Headers = l.WithEnvelope()
	if !f.reads && r.Value != nil {
		r.Value = []byte("{}") // whatever is wrong with it
	}
	got, failure := f.where.Append(nil, l.Topic, l.Partition, &r)
	if failure != nil {
		return false, fmt.Errorf("%s: %s (%s)", b.id, failure.Text, failure.Code)
	}
	switch string(got) {
	case "true":
		return true, nil
	case "false", "null":
		return false, nil
	}
	return false, fmt.Errorf("%s: the value of the expression is neither true nor false", b.id)
}

// partition is that of the stream; a file is one.
func (b *boxed) partition() int32 {
	if strings.HasPrefix(b.id, "file:") {
		return 0
	}
	return b.mark.Partition
}

// found is a letter that matches.
type found struct {
	boxed
	box   *letterBox
	state string
}

// scan calls f with the letters of a route that match and were not purged, and counts them.
func (d *letterDesk) scan(ctx context.Context, route addr.Addr, q api.LetterQuery, f func(found) error) (api.LetterSummary, error) {
	sum := api.LetterSummary{FormatVersion: api.FormatVersion, Addr: route.String(), Places: []string{}, Codes: []api.LetterCount{}, Ends: map[string]map[int32]int64{}}
	filter, err := newLetterFilter(q)
	if err != nil {
		return sum, err
	}
	boxes, err := d.boxes(ctx, route)
	if err != nil {
		return sum, err
	}
	ours := map[string]bool{}
	for _, name := range d.names(route) {
		ours[name.String()] = true
	}
	for i := range boxes {
		box := &boxes[i]
		marks, err := d.marksOf(ctx, box)
		if err != nil {
			return sum, err
		}
		sum.Places = append(sum.Places, box.name)
		ends, err := box.read(ctx, filter.hint, func(b boxed) error {
			switch {
			case b.broken:
				sum.Broken++
				return nil
			case !ours[b.letter.Route] || marks[b.mark] == store.LetterPurged:
				return nil
			}
			ok, uncertain := filter.match(&b, box)
			if uncertain != nil {
				if sum.Uncertain++; sum.UncertainWhy == "" {
					sum.UncertainWhy = uncertain.Error()
				}
			}
			if !ok {
				return nil
			}
			state := api.LetterWaiting
			if marks[b.mark] == store.LetterReplayed {
				state = api.LetterReplayed
			}
			if err := f(found{boxed: b, box: box, state: state}); err != nil {
				return err
			}
			sum.Count(b.letter.Code, state)
			if q.Limit > 0 && sum.Letters >= q.Limit {
				return errEnoughLetters
			}
			return nil
		})
		sum.Ends[box.name] = ends
		if errors.Is(err, errEnoughLetters) {
			break
		}
		if err != nil {
			return sum, fmt.Errorf("dead letters in %s: %w", box.name, err)
		}
	}
	return sum, nil
}

// errEnoughLetters ends a scan at its limit.
var errEnoughLetters = errors.New("enough letters")

func (d *letterDesk) marksOf(ctx context.Context, box *letterBox) (map[store.LetterID]string, error) {
	if d.marks == nil {
		return nil, nil
	}
	return d.marks.LetterMarks(ctx, box.place)
}

// list gives letters to emit.
func (d *letterDesk) list(ctx context.Context, q api.LetterQuery, emit func(api.DeadLetter) error) (api.LetterSummary, error) {
	route, err := d.route(q.Address)
	if err != nil {
		return api.LetterSummary{}, err
	}
	sum, err := d.scan(ctx, route, q, func(f found) error {
		l := f.letter
		if q.Brief {
			l.Key, l.KeyBase64, l.Value, l.ValueBase64, l.Headers = nil, nil, nil, nil, nil
		}
		return emit(api.DeadLetter{ID: f.id, State: f.state, Place: f.box.name, Letter: l})
	})
	sum.Ends = nil
	return sum, err
}

// route reads the address of a route that is known, or has a file of letters.
func (d *letterDesk) route(text string) (addr.Addr, error) {
	a, err := addr.Parse(text)
	if err != nil {
		return a, err
	}
	known := []string{}
	if d.cfg != nil {
		if d.cfg.Routes[a] != nil {
			return a, nil
		}
		for at := range d.cfg.Routes {
			known = append(known, at.String())
		}
	}
	if _, err := os.Stat(d.plant.letterFile(a)); err == nil && a.Type == "route" {
		return a, nil
	}
	slices.Sort(known)
	return a, &api.NotFoundError{Addr: a.String(), Known: known}
}

// counts counts the letters of every route that makes some, or did.
func (d *letterDesk) counts(ctx context.Context) ([]api.LetterSummary, error) {
	routes := map[addr.Addr]bool{}
	if d.cfg != nil {
		for a := range d.cfg.Routes {
			routes[a] = true
		}
	}
	for _, a := range d.plant.letterFiles() {
		routes[a] = true
	}
	out := []api.LetterSummary{}
	for _, a := range slices.SortedFunc(maps.Keys(routes), addr.Compare) {
		sum, err := d.scan(ctx, a, api.LetterQuery{}, func(found) error { return nil })
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			sum.Error = err.Error() // the others' clusters may answer
		}
		makes := d.cfg != nil && d.cfg.Routes[a] != nil && d.cfg.Routes[a].OnError == configs.DeadLetter
		if sum.Ends = nil; makes || sum.Letters > 0 || err != nil {
			out = append(out, sum)
		}
	}
	return out, nil
}

// purge marks letters as given up and deletes what it can.
func (d *letterDesk) purge(ctx context.Context, o api.Purge, audit func(context.Context, reconcile.AuditEntry) error) (api.Purged, error) {
	route, err := d.route(o.Address)
	if err != nil {
		return api.Purged{}, err
	}
	done := api.Purged{Plan: o.Plan}
	gone := map[*letterBox][]store.LetterID{}
	var order []*letterBox
	done.LetterSummary, err = d.scan(ctx, route, o.LetterQuery, func(f found) error {
		if gone[f.box] == nil {
			order = append(order, f.box)
		}
		gone[f.box] = append(gone[f.box], f.mark)
		return nil
	})
	if err != nil || o.Plan {
		return done, err
	}
	if d.marks == nil {
		return done, fmt.Errorf("%w: nothing is stored here; start `keystone serve`", api.ErrUnsupported)
	}
	if done.Letters > 0 {
		if err := audit(ctx, reconcile.AuditEntry{Time: time.Now(), Who: o.Who, Action: "purge", Addr: route.String(), Detail: letterWords(done.LetterSummary)}); err != nil {
			return done, err
		}
	}
	work := context.WithoutCancel(ctx)
	for _, box := range order {
		if err := d.marks.MarkLetters(work, box.place, gone[box], store.LetterPurged, time.Now()); err != nil {
			return done, err
		}
		marks, err := d.marks.LetterMarks(work, box.place)
		if err != nil {
			return done, err
		}
		cut, err := box.cut(work, func(b boxed) bool { return !b.broken && marks[b.mark] != "" })
		if err != nil {
			return done, fmt.Errorf("the letters are given up; their bytes stay in %s: %w", box.name, err)
		}
		if err := d.marks.ForgetLetters(work, box.place, cut); err != nil {
			return done, err
		}
		done.Deleted += int64(len(cut))
	}
	return done, nil
}

// letterWords says in one line what letters were meant.
func letterWords(s api.LetterSummary) string {
	parts := []string{}
	for _, c := range s.Codes {
		parts = append(parts, fmt.Sprintf("%d %s", c.Letters, c.Code))
	}
	return fmt.Sprintf("%d dead letters: %s", s.Letters, strings.Join(parts, ", "))
}
