package eval_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"keystone/dsl/ir"
	"keystone/dsl/types"
	"keystone/pipeline/record"
)

// A program is shared by all lanes; run with -race.
func TestProgramIsShared(t *testing.T) {
	in := types.AnyType
	r := mainRoute(t)
	r.Project = append(r.Project, fields(t, in, "x", "flatten([[1, [2]], tags])", "h", "hmac(user_id, 'key')", "g", "groupBy(tags, len(#))", "m", "user_id matches `_0+`")...)
	p := program(t, r)
	batch := playback(200)
	outputs := make([]string, 4)
	var wg sync.WaitGroup
	for g := range outputs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			e, out := p.NewEval(), &record.Batch{}
			for i := range batch.Records {
				if _, err := e.Run(batch, i, out); err != nil {
					t.Error(err)
				}
			}
			var b strings.Builder
			for _, r := range out.Records {
				b.Write(r.Value)
			}
			outputs[g] = b.String()
		}()
	}
	wg.Wait()
	for _, o := range outputs {
		if o == "" || o != outputs[0] {
			t.Fatalf("lanes differ: %.300s and %.300s", o, outputs[0])
		}
	}
}

// Nested predicates are compiled once each, and what they may cost is bounded.
func TestNestedPredicates(t *testing.T) {
	const depth = 60
	text := strings.Repeat("any(l, ", depth) + "# == 0" + strings.Repeat(")", depth)
	if got, err := value(t, text, `{"l":[1]}`, types.AnyType); err != nil || got != "false" {
		t.Errorf("got %s %v", got, err)
	}
	if _, err := value(t, text, `{"l":[1,2]}`, types.AnyType); err == nil || err.Code != ir.CodeLimit {
		t.Errorf("2^%d elements: got %v, want a limit", depth, err)
	}
}

func TestLimits(t *testing.T) {
	long := `{"l":[` + strings.TrimSuffix(strings.Repeat("1,", 5000), ",") + `],"s":"` + strings.Repeat("x", 1<<20) + `"}`
	for _, text := range []string{
		"map(l, map(l, map(l, #)))",
		"count(l, count(l, s contains 'y') > 0)",
		"map(l, s + '')",
		"s + s",
		"map(l, upper(s))",
		"repeat(s, 2)",
		"join([s, s])",
		"toJSON([s, s])",
	} {
		if _, err := value(t, text, long, types.AnyType); err == nil || err.Code != ir.CodeLimit {
			t.Errorf("%s: got %v, want a limit", text, err)
		}
	}
}

func TestLongChain(t *testing.T) {
	text := "0" + strings.Repeat(" + a", 10_000)
	if got, err := value(t, text, `{"a":1}`, types.AnyType); err != nil || got != "10000" {
		t.Errorf("got %s %v", got, err)
	}
}

// Two objects whose names come in opposite order.
func TestManyMembers(t *testing.T) {
	var a, b []string
	for i := range 20_000 {
		name := strings.Repeat("n", 1+i%7) + string(rune('a'+i%26)) + strings.Repeat("0123456789"[i%10:i%10+1], 1+i/2600) + string(rune(0x4e00+i))
		a = append(a, `"`+name+`":1`)
	}
	b = slices.Clone(a)
	slices.Reverse(b)
	event := `{"a":{` + strings.Join(a, ",") + `},"b":{` + strings.Join(b, ",") + `}}`
	if got, err := value(t, "a == b", event, types.AnyType); err != nil || got != "true" {
		t.Errorf("got %s %v", got, err)
	}
}

func TestReads(t *testing.T) {
	p := program(t, mainRoute(t))
	want := []string{"country", "device.type", "position_ms", "user_id", "ts", "device.os", "duration_ms"}
	if got := p.Reads(); !slices.Equal(got, want) {
		t.Errorf("Reads() = %v, want %v", got, want)
	}
	e, seen := p.NewEval(), make([]bool, len(want))
	in := &record.Batch{Records: []record.Record{{Value: []byte(`{"country":null,"device":{"os":1}}`)}, {Value: []byte(`{"ts":1}`)}}}
	for i := range in.Records {
		if _, err := e.Run(in, i, &record.Batch{}); err != nil {
			t.Fatal(err)
		}
		e.Seen(seen)
	}
	if !slices.Equal(seen, []bool{true, false, false, false, true, true, false}) {
		t.Errorf("seen %v of %v", seen, want)
	}
}
