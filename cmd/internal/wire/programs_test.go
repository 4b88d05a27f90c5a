package wire

import (
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"testing"
	"time"

	"keystone/configs"
	"keystone/configs/addr"
	"keystone/pipeline"
	"keystone/pipeline/record"
	"keystone/reconcile/store"
)

// loaded gives a checked configuration of one file.
func loaded(t *testing.T, text string) *configs.Config {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.ks.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, diags := configs.Load(configs.LoadOptions{Dir: dir, Catalog: Catalog(), Version: "0.0.0"})
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestProgramsAreKeptAsTheyRan: what is stored of a program holds the route and
// what it refers to, nothing else, reads back as the same program, and is forgotten in
// memory when nothing can run it any more.
func TestProgramsAreKeptAsTheyRan(t *testing.T) {
	state, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Env: "default"})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close() //nolint:errcheck // of a test
	p := &programs{to: state}
	at := addr.New("route", "r")
	for i := range int64(3) {
		cfg := loaded(t, fmt.Sprintf(`
locals { least = %d }
stream "in" { schema = object({ n = int }) }
stream "out" {}
stream "other" {}
route "r" {
  from   = stream.in
  to     = stream.out
  filter = "n > local.least"
}
route "s" {
  from = stream.in
  to   = stream.other
}
`, i))
		route := cfg.Routes[at]
		if err := p.add(cfg, route, "kafka"); err != nil {
			t.Fatal(err)
		}
		start := pipeline.ProgramStart{At: record.Position{Offset: 10 * i, Identity: "id"}, Route: route, Revision: i, Swapped: i > 0}
		if err := p.SavePrograms(t.Context(), at, []pipeline.ProgramStart{start}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.SavePrograms(t.Context(), at, []pipeline.ProgramStart{{Route: &configs.Route{}}}); err == nil {
		t.Error("a program that nobody told of was stored")
	}
	for until := time.Now().Add(10 * time.Second); ; goruntime.Gosched() {
		goruntime.GC()
		p.mu.Lock()
		n := len(p.goals)
		p.mu.Unlock()
		if n == 0 {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("%d programs are remembered that nobody runs", n)
		}
	}
	got, err := state.Programs(t.Context(), at, "stream.in kafka")
	if err != nil || len(got) != 3 || got[1].Begin != store.ProgramSwap {
		t.Fatalf("Programs = %+v, %v", got, err)
	}
	cfg, err := DecodeGoal(got[2].Goal)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Routes) != 1 || len(cfg.Streams) != 2 || cfg.Routes[at].Checked == nil {
		t.Errorf("the stored goal has %d routes and %d streams", len(cfg.Routes), len(cfg.Streams))
	}
	if f := cfg.Routes[at].Events.Filter; len(f) != 1 || f[0].S != "n > local.least" {
		t.Errorf("the filter is %+v", f)
	}
}
