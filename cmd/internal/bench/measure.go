package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Result is the median of one contender's rounds.
type Result struct {
	Suite     string  `json:"suite"`
	Contender string  `json:"contender"`
	CPU       float64 `json:"cpu_us_per_event,omitempty"` // user + system, whole process
	Rate      float64 `json:"events_per_second,omitempty"`
	Value     float64 `json:"value,omitempty"`
	Unit      string  `json:"unit,omitempty"`
	Limit     float64 `json:"limit,omitempty"` // Value should be below
}

// Ratio compares two contenders of one suite.
type Ratio struct {
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Goal  float64 `json:"goal"` // at least
}

// contender is one program that does the work.
type contender struct {
	name string
	cmd  func(ctx context.Context) *exec.Cmd
	// check looks at what it produced; nil for nothing.
	check func() error
}

// alternate runs every contender in every round, in turn, and gives medians.
func alternate(ctx context.Context, suite string, rounds, events int, contenders []contender) ([]Result, error) {
	cpu := make([][]float64, len(contenders))
	wall := make([][]float64, len(contenders))
	for round := range rounds {
		for i, c := range contenders {
			u, w, err := measure(c.cmd(ctx))
			if err == nil && c.check != nil {
				err = c.check()
			}
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", c.name, round+1, err)
			}
			cpu[i] = append(cpu[i], u.Seconds())
			wall[i] = append(wall[i], w.Seconds())
		}
	}
	results := make([]Result, len(contenders))
	for i, c := range contenders {
		results[i] = Result{
			Suite: suite, Contender: c.name,
			CPU:  median(cpu[i]) / float64(events) * 1e6,
			Rate: float64(events) / median(wall[i]),
		}
	}
	return results, nil
}

// measure runs a command to its end and gives its CPU and wall time.
func measure(cmd *exec.Cmd) (cpu, wall time.Duration, err error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, 0, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(stderr.String()))
	}
	wall = time.Since(begin)
	use, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, 0, fmt.Errorf("no resource usage on this system")
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano()), wall, nil
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	if len(v) == 0 {
		return math.NaN()
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func find(results []Result, contender string) Result {
	for _, r := range results {
		if r.Contender == contender {
			return r
		}
	}
	return Result{CPU: math.NaN(), Rate: math.NaN()}
}

func printResults(results []Result, ratios []Ratio) {
	for _, r := range results {
		switch {
		case r.Unit != "":
			fmt.Printf("  %-44s %12.1f %-8s (limit %g)\n", r.Contender, r.Value, r.Unit, r.Limit)
		default:
			fmt.Printf("  %-44s %8.3f µs CPU/event %12.0f events/s\n", r.Contender, r.CPU, r.Rate)
		}
	}
	for _, r := range ratios {
		mark := "ok"
		if r.Value < r.Goal {
			mark = "BELOW GOAL"
		}
		fmt.Printf("  %-60s %7.2f  (goal %.2f) %s\n", r.What, r.Value, r.Goal, mark)
	}
}

// one keeps a process to one core's worth of Go scheduling.
func env(cmd *exec.Cmd, extra ...string) *exec.Cmd {
	cmd.Env = append(os.Environ(), extra...)
	return cmd
}
