package pipeline

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"keystone/configs"
	"keystone/configs/diag"
	"keystone/dsl"
	"keystone/dsl/eval"
	"keystone/dsl/types"
)

// checked gives a route with a filter, and its program.
func checked(t *testing.T, input, filter string) (*configs.Route, *eval.Program) {
	t.Helper()
	r := testRoute(func(r *configs.Route) { r.Parallelism = 1 }) // with more, which events are the first is not certain
	if input != "" {
		var err error
		if r.Events.Input, err = types.Parse(input); err != nil {
			t.Fatal(err)
		}
	}
	if filter != "" {
		r.Events.Filter = []diag.Text{{S: filter}}
	}
	return r, compile(t, r)
}

// compile checks a route's events and gives the program.
func compile(t *testing.T, r *configs.Route) *eval.Program {
	t.Helper()
	out, diags := dsl.CheckRoute(r.Events)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	p, err := dsl.Compile(out)
	if err != nil {
		t.Fatal(err)
	}
	r.Checked = out
	return p
}

// events gives n events with one field, the first without it.
func events(n int) (out []string) {
	for i := range n {
		if i == 0 {
			out = append(out, `{}`)
		} else {
			out = append(out, fmt.Sprintf(`{"n":%d}`, i))
		}
	}
	return out
}

func TestHints(t *testing.T) {
	for _, c := range []struct {
		name, schema, filter string
		events               []string
		endless              bool
		want                 []string
	}{
		{"names and filter", "", "device.typ == 'tv' && n > 1", events(1500), true,
			[]string{"filter never true in 1500 events", "device.typ was not in any of the first 1,000 events"}},
		{"seen late counts as not seen", "", "late == nil || n > 0", append(events(1000), `{"late":1}`), true,
			[]string{"late was not in any of the first 1,000 events"}},
		{"seen in time", "", "late == nil || n > 0", append(events(999), `{"late":null}`), true, nil},
		{"decode errors are no events", "", "n > 5000", append(events(999), `{"n":`, `nonsense`), true, nil},
		{"not enough yet", "", "x == 1", events(999), true, nil},
		{"the end of a bounded source", "", "x == 1", events(5), false, []string{"filter never true in 5 events", "x was not in any of the 5 events"}},
		{"once is enough", "", "n == 7", events(1200), true, nil},
		{"errors of the filter are not false", "", "n > 0 && n / 0 > 1", events(1200), true, []string(nil)},
		{"with a schema", "object({ n = optional(int), x = optional(string) })", "x == 'a' || n == 3", events(1200), true, nil},
		{"no filter", "", "", events(1200), true, nil},
		{"nothing came", "", "x == 1", nil, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				route, p := checked(t, c.schema, c.filter)
				src := newMemSource(100).add(0, c.events...)
				src.endless = c.endless
				w := New(Spec{Route: route, Program: p, Source: src, Sink: newMemSink(), DeadLetters: &memLetters{}})
				ended := make(chan error, 1)
				go func() { ended <- w.Run(t.Context()) }()
				synctest.Wait()
				if got := w.Stats().Hints; !slices.Equal(got, c.want) {
					t.Errorf("%q, want %q", got, c.want)
				}
				w.Drain(t.Context())
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestHintsAreOfTheProgramThatRuns: a change of the filter begins to count anew.
func TestHintsAreOfTheProgramThatRuns(t *testing.T) {
	in(t, func(t *testing.T) {
		route, p := checked(t, "", "typo == 1")
		src := newMemSource(100).add(0, events(1000)...)
		src.endless = true
		w := New(Spec{Route: route, Program: p, Source: src, Sink: newMemSink(), DeadLetters: &memLetters{}})
		ended := make(chan error, 1)
		go func() { ended <- w.Run(t.Context()) }()
		synctest.Wait()
		if n := len(w.Stats().Hints); n != 2 {
			t.Errorf("%q", w.Stats().Hints)
		}
		route, p = checked(t, "", "n == -1")
		w.Swap(p, route, 2)
		if h := w.Stats().Hints; h != nil {
			t.Errorf("%q of a program that has seen nothing", h)
		}
		src.add(0, events(1001)...)
		synctest.Wait()
		if h := w.Stats().Hints; !slices.Equal(h, []string{"filter never true in 1001 events"}) {
			t.Errorf("%q", h)
		}
		w.Drain(t.Context())
		<-ended
	})
}

// TestSchemaViolationsAreCounted: required fields that are missing are nil,
// and counted in the ledger.
func TestSchemaViolationsAreCounted(t *testing.T) {
	in(t, func(t *testing.T) {
		route, p := checked(t, "object({ n = int, m = int, o = optional(int) })", "n != 2 || o == 1")
		src := newMemSource(3).add(0, events(10)...).add(1, `{"n":null}`, `{"n":"x"}`, `{"m":1}`)
		w := New(Spec{Route: route, Program: p, Source: src, Sink: newMemSink(), DeadLetters: &memLetters{}})
		if err := w.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := w.Stats()
		if s.Total.SchemaViolations != 3 || s.Lanes != nil && s.Lanes[0].Counts.SchemaViolations != 1 {
			t.Errorf("%+v", s.Total)
		}
		if s.Hints != nil {
			t.Errorf("%q", s.Hints)
		}
	})
}
