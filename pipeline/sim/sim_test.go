//go:build synctests

package sim

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "play this seed alone")
	fromFlag   = flag.Uint64("from", 1, "the first seed")
	seedsFlag  = flag.Int("seeds", 20, "how many seeds")
	printFlag  = flag.Bool("print", false, "print the trace while a history is played")
	clientFlag = flag.Bool("client", false, "trace what the client library says, too")
	traceFlag  = flag.String("trace", "", "where traces of seeds that fail are kept; a directory")
)

// run plays a seed in a bubble of its own.
func run(t *testing.T, seed uint64) (r *result) {
	synctest.Test(t, func(*testing.T) { r = play(seed) })
	return r
}

// fail reports a seed and keeps its trace.
func (r *result) fail(t *testing.T) {
	dir := *traceFlag
	if dir == "" {
		dir = os.TempDir()
	}
	path := filepath.Join(dir, fmt.Sprintf("sim-%d.trace", r.seed))
	if err := os.WriteFile(path, []byte(strings.Join(r.trace, "\n")+"\n"+r.problems+"\n"), 0o600); err != nil {
		t.Error(err)
	}
	t.Errorf("seed %d (%s):\n%s\nrepeat it: make sim SEED=%d; its trace: %s", r.seed, r.scenario, r.problems, r.seed, path)
}

// TestSeeds plays -seeds seeds, or -seed alone.
func TestSeeds(t *testing.T) {
	runtime.GOMAXPROCS(1)
	for i := range uint64(*seedsFlag) {
		seed := *fromFlag + i
		if *seedFlag > 0 {
			seed = *seedFlag
		}
		began := time.Now()
		fmt.Println("SEED", seed)
		r := run(t, seed)
		fmt.Println(seed, r.records, r.repeats, r.most, r.fake, time.Since(began), r.faults)
		if r.problems != "" {
			r.fail(t)
		}
		if *seedFlag > 0 {
			break
		}
	}
}
