package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const fileConfig = `
source "generator" "plays" {
  count = %d
  rate  = 0
  seed  = 11
}

source "file" "in" {
  path = "in.ndjson"
}

sink "file" "out" {
  path = "out.ndjson"
}

route "generate" {
  from = source.plays
  to   = sink.out
}

route "plays" {
  from   = source.in
  filter = "country in ['BR','US'] && device.type == 'tv' && position_ms > 1000"
  project = {
    user_id  = "user_id"
    ts       = "ts"
    title_id = "title_id"
    os       = "device.os"
    pct      = "position_ms / duration_ms * 100"
  }
  to = sink.out
}
`

// fileSuite is the main job from file to file, on one core.
func (b *bench) fileSuite(ctx context.Context) ([]Result, []Ratio, error) {
	in, err := b.input(ctx)
	if err != nil {
		return nil, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	baseline := func(name string) contender {
		out := filepath.Join(b.dir, "plain.ndjson")
		return contender{name: name, cmd: func(ctx context.Context) *exec.Cmd {
			return env(exec.CommandContext(ctx, self, in, out), contenderEnv+"="+name, "GOMAXPROCS=1")
		}}
	}
	route := func(name, bin, procs string) contender {
		out := filepath.Join(b.dir, "keystone.ndjson")
		return contender{
			name: name,
			cmd: func(ctx context.Context) *exec.Cmd {
				return env(exec.CommandContext(ctx, bin, "run", "route.plays", "-from", "file:"+in, "-to", "file:"+out, b.dir), "GOMAXPROCS="+procs)
			},
			check: func() error { return sameEvents(filepath.Join(b.dir, "plain.ndjson"), out) },
		}
	}
	contenders := []contender{baseline(splitLines), baseline(jsonExpr), route("keystone, one core", b.keystone, "1"), route("keystone, all cores", b.keystone, "")}
	if b.previous != "" {
		contenders = append(contenders, route("keystone before, one core", b.previous, "1"))
	}
	results, err := alternate(ctx, "file", b.rounds, b.events, contenders)
	if err != nil {
		return nil, nil, err
	}
	ks := find(results, "keystone, one core")
	ratios := []Ratio{{What: "CPU per event: encoding/json + expr VM ÷ keystone", Value: find(results, jsonExpr).CPU / ks.CPU, Goal: 12}}
	if b.previous != "" {
		ratios = append(ratios, Ratio{What: "CPU per event: before ÷ now", Value: find(results, "keystone before, one core").CPU / ks.CPU, Goal: 0.95})
	}
	return results, ratios, nil
}

// input generates the events once and gives the path of the file.
func (b *bench) input(ctx context.Context) (string, error) {
	in := filepath.Join(b.dir, "in.ndjson")
	if _, err := os.Stat(in); err == nil {
		return in, nil
	}
	if err := os.WriteFile(filepath.Join(b.dir, "main.ks.hcl"), fmt.Appendf(nil, fileConfig, b.events), 0o644); err != nil {
		return "", err
	}
	_, _, err := measure(exec.CommandContext(ctx, b.keystone, "run", "route.generate", "-to", "file:"+in, b.dir))
	return in, err
}
