package job

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keystone/configs"
)

// TestGoldenJobs runs each folder of testdata: job.ks.hcl over READ.PARTITION.ndjson gives out.ndjson, a row a line
// behind the name of its write and, of an upsert, its key. Every way to run it gives the same. With UPDATE_GOLDEN=1 the
// rows are written anew.
func TestGoldenJobs(t *testing.T) {
	dirs, err := filepath.Glob("testdata/*/job.ks.hcl")
	if err != nil || len(dirs) < 5 {
		t.Fatalf("%d jobs: %v", len(dirs), err)
	}
	for _, path := range dirs {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			cfg, diags := configs.Load(configs.LoadOptions{Dir: dir})
			if diags.HasErrors() {
				t.Fatal(diags.Err())
			}
			f := newFlow(t)
			if len(cfg.Jobs) != 1 {
				t.Fatalf("%d jobs", len(cfg.Jobs))
			}
			for _, job := range cfg.Jobs {
				f.job = job
			}
			in := map[string][][]event{}
			for _, o := range f.job.Operators {
				if o.Kind == "read" {
					in[o.Name()] = partitions(t, dir, o.Label)
				}
			}
			for i, w := range append(ways(8), way{seed: 99, tasks: 2, most: 1, interval: time.Millisecond}) {
				got := f.final(f.run(w, in))
				file := filepath.Join(dir, "out.ndjson")
				if i == 0 && os.Getenv("UPDATE_GOLDEN") != "" {
					if err := os.WriteFile(file, []byte(strings.Join(got, "\n")+"\n"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				same(t, fmt.Sprintf("%+v", w), got, strings.Split(strings.TrimSuffix(string(want), "\n"), "\n"))
			}
		})
	}
}

// partitions reads the files of a read.
func partitions(t *testing.T, dir, label string) (out [][]event) {
	t.Helper()
	for p := 0; ; p++ {
		b, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%s.%d.ndjson", label, p)))
		if os.IsNotExist(err) && p > 0 {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		var list []event
		for line := range strings.Lines(string(b)) {
			list = append(list, event{value: strings.TrimSpace(line), stamp: 1_700_000_000_000})
		}
		out = append(out, list)
	}
}
