package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	parquetPrefix = "parquet: "
	parquetOurs   = parquetPrefix + "keystone, from raw JSON"
	parquetChunks = parquetPrefix + "bare Arrow, typed rows, column writers"
	parquetRecord = parquetPrefix + "bare Arrow, typed rows, record builder"
	parquetAll    = parquetPrefix + "bare Arrow, typed rows, dictionary on all (its default)"
)

// parquetCost is what a contender says of itself: making its input does not count.
type parquetCost struct{ CPU, Wall float64 }

// parquetSuite writes the same rows, those of the main job, from raw JSON by
// Keystone and from typed values by Arrow alone, on one core.
func (b *bench) parquetSuite(ctx context.Context) ([]Result, []Ratio, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	contenders := []string{parquetOurs, parquetChunks, parquetRecord, parquetAll}
	var results []Result
	var ratios []Ratio
	for _, codec := range []string{"zstd", "snappy"} {
		cpu, wall := make([][]float64, len(contenders)), make([][]float64, len(contenders))
		size := make([]float64, len(contenders))
		for round := range b.rounds {
			for i, name := range contenders {
				out := filepath.Join(b.dir, strconv.Itoa(i)+".parquet")
				cmd := env(exec.CommandContext(ctx, self, strconv.Itoa(b.events), codec, out), contenderEnv+"="+name, "GOMAXPROCS=1")
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				said, err := cmd.Output()
				if err != nil {
					return nil, nil, fmt.Errorf("%s, round %d: %w: %s", name, round+1, err, strings.TrimSpace(stderr.String()))
				}
				var cost parquetCost
				if err := json.Unmarshal(said, &cost); err != nil {
					return nil, nil, fmt.Errorf("%s said %q: %w", name, said, err)
				}
				cpu[i], wall[i] = append(cpu[i], cost.CPU), append(wall[i], cost.Wall)
				if round == 0 {
					info, err := os.Stat(out)
					if err != nil {
						return nil, nil, err
					}
					size[i] = float64(info.Size())
				}
			}
		}
		if err := sameParquet(filepath.Join(b.dir, "0.parquet"), filepath.Join(b.dir, "1.parquet"), filepath.Join(b.dir, "2.parquet"), filepath.Join(b.dir, "3.parquet")); err != nil {
			return nil, nil, err
		}
		best := math.Inf(1)
		for i, name := range contenders {
			r := Result{Suite: "parquet", Contender: fmt.Sprintf("%s, %s, %.1f bytes a row", strings.TrimPrefix(name, parquetPrefix), codec, size[i]/float64(b.events)),
				CPU: median(cpu[i]) / float64(b.events) * 1e6, Rate: float64(b.events) / median(wall[i])}
			results = append(results, r)
			if i > 0 {
				best = min(best, r.CPU)
			}
		}
		ours := median(cpu[0]) / float64(b.events) * 1e6
		ratios = append(ratios, Ratio{What: "rows per CPU second, " + codec + ": keystone ÷ the best bare Arrow", Value: best / ours, Goal: 0.8})
	}
	return results, ratios, nil
}
