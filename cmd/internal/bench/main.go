// Command bench measures Keystone against plain programs that do the same
// work, in one run on one machine: contenders alternate, medians are compared,
// and CPU time is that of the whole process. `make bench` runs it.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"time"
)

func main() {
	if name := os.Getenv(contenderEnv); name != "" {
		exit(runContender(name, os.Args[1:]))
	}
	var b bench
	out := flag.String("out", "", "write the results as JSON to this file")
	only := flag.String("only", ".", "run only suites that match this regular expression: file, process, kafka, parquet, elasticsearch")
	flag.StringVar(&b.keystone, "keystone", "bin/keystone", "the binary to measure")
	flag.StringVar(&b.previous, "previous", "", "another keystone binary to compare with, built from an earlier commit")
	flag.IntVar(&b.events, "events", 2_000_000, "events of the file and Kafka suites")
	flag.IntVar(&b.rounds, "rounds", 5, "rounds; contenders alternate within each")
	flag.StringVar(&b.brokers, "brokers", os.Getenv("KEYSTONE_TEST_KAFKA"), "a Kafka cluster for the kafka suite")
	flag.StringVar(&b.elastic, "elasticsearch", os.Getenv("KEYSTONE_TEST_ELASTICSEARCH"), "URLs of an Elasticsearch for the elasticsearch suite, which takes a tenth of the events")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	exit(b.run(ctx, regexp.MustCompile(*only), *out))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

type bench struct {
	keystone, previous string
	events, rounds     int
	brokers, elastic   string
	dir                string
}

// Report is what is written as JSON.
type Report struct {
	Time    time.Time `json:"time"`
	Go      string    `json:"go"`
	CPUs    int       `json:"cpus"`
	Events  int       `json:"events"`
	Rounds  int       `json:"rounds"`
	Results []Result  `json:"results"`
	Ratios  []Ratio   `json:"ratios"`
}

func (b *bench) run(ctx context.Context, only *regexp.Regexp, out string) error {
	bin, err := filepath.Abs(b.keystone)
	if err != nil {
		return err
	}
	if _, err := os.Stat(bin); err != nil {
		return fmt.Errorf("%w: run make build first", err)
	}
	b.keystone = bin
	if b.dir, err = os.MkdirTemp("", "keystone-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir) //nolint:errcheck // a temporary folder

	report := Report{Time: time.Now().UTC().Truncate(time.Second), Go: runtime.Version(), CPUs: runtime.NumCPU(), Events: b.events, Rounds: b.rounds}
	for _, s := range []struct {
		name string
		run  func(context.Context) ([]Result, []Ratio, error)
	}{{"file", b.fileSuite}, {"process", b.processSuite}, {"kafka", b.kafkaSuite}, {"parquet", b.parquetSuite}, {"elasticsearch", b.elasticSuite}} {
		if !only.MatchString(s.name) {
			continue
		}
		fmt.Printf("\n%s\n", s.name)
		results, ratios, err := s.run(ctx)
		if err != nil {
			return fmt.Errorf("suite %s: %w", s.name, err)
		}
		printResults(results, ratios)
		report.Results = append(report.Results, results...)
		report.Ratios = append(report.Ratios, ratios...)
	}
	if out == "" {
		return nil
	}
	data, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(out, append(data, '\n'), 0o644)
}
