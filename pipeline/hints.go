package pipeline

import (
	"fmt"
	"sync"
	"sync/atomic"

	"keystone/configs"
	"keystone/dsl/eval"
	"keystone/dsl/ir"
	"keystone/dsl/types"
)

// sampleSize is how many events a route sees before it says what they never had.
const sampleSize = 1_000

// sample watches the first events of a program on a stream without a schema
// for the names that its expressions use. Once it is full nobody asks it any more.
type sample struct {
	names []string
	full  atomic.Bool

	mu   sync.Mutex // guards what follows
	n    int        // events
	seen []bool     // by name
}

// newSample gives nil where every name was checked, or none is used.
func newSample(p *eval.Program, r *configs.Route) *sample {
	if p == nil || r.Checked == nil || r.Checked.Input.Kind != types.Any {
		return nil
	}
	names := p.Reads()
	if len(names) == 0 {
		return nil
	}
	return &sample{names: names, seen: make([]bool, len(names))}
}

// open gives the sample while it takes more; nil has none.
func (s *sample) open() *sample {
	if s == nil || s.full.Load() {
		return nil
	}
	return s
}

// look notes what the event had that ev has just run on.
func (s *sample) look(ev *eval.Eval) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n < sampleSize {
		ev.Seen(s.seen)
		s.n++
	}
	if s.n == sampleSize {
		s.full.Store(true)
	}
}

// missing lists the names that none of n events had.
func (s *sample) missing() (names []string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, seen := range s.seen {
		if !seen {
			names = append(names, s.names[i])
		}
	}
	return names, s.n
}

// scanned tells that a verdict was reached on the fields of the event.
func scanned(v eval.Verdict, e *eval.Error) bool {
	return v != eval.Failed || e.Code != ir.CodeDecode
}

// hints says what the configuration probably does not mean, by what the
// program has seen so far: after a thousand events, or at the end. It is called under Worker.mu.
func (p *plan) hints(ended bool) (out []string) {
	enough := func(n int64) bool { return n >= sampleSize || ended && n > 0 }
	if p.filters && p.held == 0 && enough(p.filtered) {
		out = append(out, fmt.Sprintf("filter never true in %d events", p.filtered))
	}
	if p.sample == nil {
		return out
	}
	names, n := p.sample.missing()
	if !enough(int64(n)) {
		return out
	}
	of := fmt.Sprintf("the %d events", n)
	if n == sampleSize {
		of = "the first 1,000 events"
	}
	for _, name := range names {
		out = append(out, fmt.Sprintf("%s was not in any of %s", name, of))
	}
	return out
}
