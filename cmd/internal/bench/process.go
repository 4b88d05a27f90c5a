package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const helloConfig = `
source "generator" "plays" {
  rate = 1000
}

sink "stdout" "screen" {}

route "hello" {
  from    = source.plays
  filter  = "device.type == 'tv'"
  project = { user = "user_id", title = "title_id" }
  to      = sink.screen
}
`

const idleConfig = `
stream "in" {}

sink "discard" "nothing" {}

route "idle" {
  for_each = %s
  from     = stream.in
  filter   = "n > 1"
  to       = sink.nothing
}
`

// processSuite measures what a server costs before there is work.
func (b *bench) processSuite(ctx context.Context) ([]Result, []Ratio, error) {
	first, err := b.firstEvent(ctx)
	if err != nil {
		return nil, nil, err
	}
	results := []Result{{Suite: "process", Contender: "start to first event", Value: first.Seconds() * 1000, Unit: "ms", Limit: 300}}
	for _, n := range []int{1, 1000} {
		keys := make([]string, n)
		for i := range keys {
			keys[i] = strconv.Quote("k" + strconv.Itoa(i))
		}
		rss, err := b.idle(ctx, fmt.Sprintf(idleConfig, "["+strings.Join(keys, ", ")+"]"), n)
		if err != nil {
			return nil, nil, err
		}
		limit := 60.0
		if n > 1 {
			limit = 600
		}
		results = append(results, Result{Suite: "process", Contender: fmt.Sprintf("memory, %d idle routes, embedded broker", n), Value: float64(rss) / 1e6, Unit: "MB", Limit: limit})
	}
	load, diff, err := b.diff()
	if err != nil {
		return nil, nil, err
	}
	results = append(results,
		Result{Suite: "process", Contender: "load and check 10,000 routes", Value: load.Seconds() * 1000, Unit: "ms", Limit: 5000},
		Result{Suite: "process", Contender: "Diff of 10,000 routes, 1,000 changed", Value: diff.Seconds() * 1000, Unit: "ms", Limit: 1000})
	return results, nil, nil
}

// firstEvent gives the median time from exec to the first event on stdout.
func (b *bench) firstEvent(ctx context.Context) (time.Duration, error) {
	dir := filepath.Join(b.dir, "hello")
	if err := writeConfig(dir, helloConfig); err != nil {
		return 0, err
	}
	var times []float64
	for range b.rounds {
		ctx, stop := context.WithCancel(ctx)
		cmd := exec.CommandContext(ctx, b.keystone, "serve", "-ephemeral", dir)
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		out, err := cmd.StdoutPipe()
		if err != nil {
			stop()
			return 0, err
		}
		begin := time.Now()
		if err := cmd.Start(); err != nil {
			stop()
			return 0, err
		}
		r := bufio.NewReader(out)
		_, err = r.ReadString('\n')
		times = append(times, time.Since(begin).Seconds())
		stop()
		_, _ = r.WriteTo(discard{})
		_ = cmd.Wait() // interrupted on purpose
		if err != nil {
			return 0, fmt.Errorf("no event from serve: %w", err)
		}
	}
	return time.Duration(median(times) * float64(time.Second)), nil
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// idle serves the configuration, waits until all its routes run, and gives
// the resident memory of the process after it has settled.
func (b *bench) idle(ctx context.Context, config string, routes int) (int64, error) {
	dir := filepath.Join(b.dir, "idle"+strconv.Itoa(routes))
	if err := writeConfig(dir, config); err != nil {
		return 0, err
	}
	ctx, stop := context.WithTimeout(ctx, 5*time.Minute)
	defer stop()
	cmd := exec.CommandContext(ctx, b.keystone, "serve", "-ephemeral", dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() { stop(); _ = cmd.Wait() }()
	for {
		out, _ := exec.CommandContext(ctx, b.keystone, "status", "-json", dir).Output() // fails until the server listens
		if strings.Count(string(out), `"running"`) >= routes {
			break
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%d routes did not run in time: %.500s", routes, out)
		case <-time.After(500 * time.Millisecond):
		}
	}
	time.Sleep(10 * time.Second) // a measurement of rest needs rest
	return rss(cmd.Process.Pid)
}

// rss reads a process' resident memory in bytes.
func rss(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("no VmRSS for process %d", pid)
}

func writeConfig(dir, config string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "main.ks.hcl"), []byte(config), 0o644)
}
