package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"keystone/cmd/internal/wire"
	"keystone/configs"
	"keystone/reconcile"
)

// diffRoutes is how many routes the comparison has.
const diffRoutes = 10_000

// diff gives the median times of loading a configuration of many routes, and
// of comparing it with one in which every tenth has another filter.
func (b *bench) diff() (load, diff time.Duration, err error) {
	dir := filepath.Join(b.dir, "diff")
	config := func(n int) (*configs.Config, time.Duration, error) {
		keys := make([]string, diffRoutes)
		for i := range keys {
			limit := 1
			if i%10 == 0 {
				limit = n
			}
			keys[i] = fmt.Sprintf("k%d = %d", i, limit)
		}
		text := strings.NewReplacer("%s", "{\n"+strings.Join(keys, "\n")+"\n}", "n > 1", "n > each.value").Replace(idleConfig)
		if err := writeConfig(dir, text); err != nil {
			return nil, 0, err
		}
		begin := time.Now()
		cfg, diags := configs.Load(configs.LoadOptions{Dir: dir, Catalog: wire.Catalog()})
		return cfg, time.Since(begin), diags.Err()
	}
	var loads, diffs []float64
	for round := range b.rounds {
		before, _, err := config(1)
		if err != nil {
			return 0, 0, err
		}
		after, took, err := config(2 + round)
		if err != nil {
			return 0, 0, err
		}
		seen := reconcile.AsApplied(before, time.Now())
		begin := time.Now()
		plan := reconcile.Diff(reconcile.Goal{Serial: 1, Env: after.Env, Namespace: after.Settings.Namespace, Config: after}, seen, begin)
		diffs = append(diffs, time.Since(begin).Seconds())
		loads = append(loads, took.Seconds())
		if len(plan.Changes) != diffRoutes/10 {
			return 0, 0, fmt.Errorf("the plan has %s changes, not %d", strconv.Itoa(len(plan.Changes)), diffRoutes/10)
		}
	}
	return time.Duration(median(loads) * float64(time.Second)), time.Duration(median(diffs) * float64(time.Second)), nil
}
