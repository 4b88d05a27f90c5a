//go:build synctests

package sim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "play this seed alone")
	fromFlag   = flag.Uint64("from", 1, "the first seed")
	seedsFlag  = flag.Int("seeds", 20, "how many seeds")
	everyFlag  = flag.Int("every", 0, "play every so many'th seed, and report on standard output: what a part of a run does")
	firstFlag  = flag.Bool("first", false, "end with the first seed that fails")
	printFlag  = flag.Bool("print", false, "print the trace while a history is played")
	clientFlag = flag.Bool("client", false, "trace what the client library says, too")
	traceFlag  = flag.String("trace", "", "where traces of seeds that fail are kept; a directory")
)

// run plays a seed in a bubble of its own.
func run(t *testing.T, seed uint64) (r *result) {
	synctest.Test(t, func(*testing.T) { r = play(seed) })
	return r
}

// keep writes the trace of a seed that failed and says how to repeat it.
func (r *result) keep() string {
	dir := *traceFlag
	if dir == "" {
		dir = os.TempDir()
	}
	path := filepath.Join(dir, fmt.Sprintf("sim-%d.trace", r.Seed))
	if err := os.WriteFile(path, []byte(strings.Join(r.trace, "\n")+"\n"+r.Problems+"\n"), 0o600); err != nil {
		path = err.Error()
	}
	return fmt.Sprintf("seed %d (%s):\n%s\nrepeat it: make sim SEED=%d; its trace: %s", r.Seed, r.Scenario, r.Problems, r.Seed, path)
}

// TestSeeds plays -seeds histories on all processors, and a quarter as many of routes into a chained
// sink, or that of -seed alone, and sums up.
func TestSeeds(t *testing.T) {
	switch {
	case *seedFlag > 0:
		runtime.GOMAXPROCS(1)
		r := run(t, *seedFlag)
		var s summary
		s.add(r)
		fmt.Println(&s)
		if r.Problems != "" {
			t.Error(r.keep())
		}
	case *everyFlag > 0:
		part(t)
	default:
		play := func(from uint64, seeds int) {
			s, failures := parts(t, from, seeds, runtime.NumCPU())
			fmt.Println(s)
			for _, f := range failures {
				t.Error(f)
			}
		}
		play(*fromFlag, *seedsFlag)
		if *fromFlag < chainFrom {
			play(chainFrom+*fromFlag, (*seedsFlag+3)/4)
		}
	}
}

// TestRegressions plays the seeds that failed once: testdata/seeds.
func TestRegressions(t *testing.T) {
	runtime.GOMAXPROCS(1)
	text, err := os.ReadFile("testdata/seeds")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		word, why, _ := strings.Cut(strings.TrimSpace(line), " ")
		if word == "" || word == "#" {
			continue
		}
		seed, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if r := run(t, seed); r.Problems != "" {
			t.Errorf("%s\nit failed before: %s", r.keep(), why)
		}
	}
}

// TestTraces plays seeds twice and reports how many gave the same trace, message by message.
func TestTraces(t *testing.T) {
	runtime.GOMAXPROCS(1)
	const n = 20
	same, faults := 0, 0
	for seed := range uint64(n) {
		a, b := run(t, seed+1), run(t, seed+1)
		if slices.Equal(a.trace, b.trace) {
			same++
		}
		if maps.Equal(a.Faults, b.Faults) {
			faults++
		}
	}
	fmt.Printf("%d of %d seeds gave the same trace twice, %d the same faults\n", same, n, faults)
}

// part plays its share of the seeds and writes what came of each, as a line of JSON.
func part(t *testing.T) {
	runtime.GOMAXPROCS(1)
	out := json.NewEncoder(os.Stdout)
	for i := 0; i < *seedsFlag; i += *everyFlag {
		seed := *fromFlag + uint64(i)
		_ = out.Encode(result{Seed: seed, Began: true})
		r := run(t, seed)
		if r.Problems != "" {
			r.Failure = r.keep()
		}
		_ = out.Encode(r)
		if r.Problems != "" && *firstFlag {
			return
		}
	}
}

// patience is how long a seed may take: one that is not done by then spins without
// letting time pass, and its process is told to show where.
const patience = 2 * time.Minute

// parts plays seeds in several processes, each with one processor, and gives the sum and what failed.
func parts(t *testing.T, from uint64, seeds, processes int, env ...string) (*summary, []string) {
	began := time.Now()
	var mu sync.Mutex
	var s summary
	var failures []string
	var wait sync.WaitGroup
	for i := range processes {
		wait.Go(func() {
			last := uint64(0)
			err := child(from+uint64(i), seeds-i, processes, env, func(r *result) {
				mu.Lock()
				defer mu.Unlock()
				if last = r.Seed; r.Began {
					return
				}
				s.add(r)
				if r.Failure != "" {
					failures = append(failures, r.Failure)
				}
			})
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				s.Seeds++
				failures = append(failures, fmt.Sprintf("seed %d ended its process: %v\nrepeat it: make sim SEED=%d", last, err, last))
			}
		})
	}
	wait.Wait()
	s.Took = time.Since(began)
	return &s, failures
}

func child(from uint64, seeds, every int, env []string, heard func(*result)) error {
	args := []string{"-test.run", "^TestSeeds$", "-test.timeout", "0", "-from", fmt.Sprint(from), "-seeds", fmt.Sprint(seeds), "-every", fmt.Sprint(every), "-trace", *traceFlag}
	if *firstFlag || len(env) > 0 {
		args = append(args, "-first")
	}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), "GOMAXPROCS=1"), env...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	dog := time.AfterFunc(patience, func() { _ = cmd.Process.Signal(syscall.SIGQUIT) })
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		dog.Reset(patience)
		var r result
		if json.Unmarshal(lines.Bytes(), &r) == nil && r.Seed > 0 {
			heard(&r)
		} else if len(lines.Bytes()) > 0 {
			said.WriteString(lines.Text() + "\n")
		}
	}
	dog.Stop()
	if err := cmd.Wait(); err != nil {
		text := said.String()
		return fmt.Errorf("%w\n%s", err, text[:min(len(text), 8<<10)])
	}
	return nil
}

// summary is what came of many seeds.
type summary struct {
	Seeds, Records, Repeats, Most int
	Delivered, Letters            int64
	Faults                        map[string]int
	Fake, Took                    time.Duration
	ByGuarantee                   map[string]int
}

func (s *summary) add(r *result) {
	s.Seeds++
	s.Records += r.Records
	s.Repeats += r.Repeats
	s.Most = max(s.Most, r.Most)
	s.Delivered += r.Counts.Delivered
	s.Letters += r.Counts.DeadLettered
	s.Fake += r.Fake
	if s.Faults == nil {
		s.Faults, s.ByGuarantee = map[string]int{}, map[string]int{}
	}
	s.ByGuarantee[r.Guarantee]++
	for k, n := range r.Faults {
		s.Faults[k] += n
	}
}

// String is for people.
func (s *summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d seeds (", s.Seeds)
	for i, g := range slices.Sorted(maps.Keys(s.ByGuarantee)) {
		fmt.Fprintf(&b, "%s%s %d", []string{"", ", "}[min(i, 1)], g, s.ByGuarantee[g])
	}
	fmt.Fprintf(&b, "), %v of fake time in %v\n", s.Fake.Round(time.Second), s.Took.Round(time.Second))
	fmt.Fprintf(&b, "%d records; %d deliveries, %d dead letters; %d repeats, of one record at most %d\n", s.Records, s.Delivered, s.Letters, s.Repeats, s.Most)
	for _, k := range slices.Sorted(maps.Keys(s.Faults)) {
		fmt.Fprintf(&b, "  %-26s %d\n", k, s.Faults[k])
	}
	return b.String()
}
