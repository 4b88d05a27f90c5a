package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	es "github.com/elastic/go-elasticsearch/v8"
	"github.com/elastic/go-elasticsearch/v8/esutil"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const elasticConfig = `
source "file" "in" {
  path = "in.ndjson"
}

sink "elasticsearch" "out" {
  urls  = [%s]
  index = %q
}

route "index" {
  from = source.in
  to   = sink.out
}
`

const elasticKafkaConfig = `
cluster "main" {
  brokers = [%s]
}

stream "bench_in" {
  managed     = false
  topic       = %q
  compression = "none"
}

route "fill" {
  from = source.in
  key  = "user_id"
  to   = stream.bench_in
}

route "plays" {
  from = stream.bench_in
  to   = sink.out
}
`

// The plain programs of the Elasticsearch suite.
const (
	bulkIndexer        = "esutil.BulkIndexer, ids and versions"
	bulkIndexerWithout = "esutil.BulkIndexer, no ids"
)

// elastic is the index that the contenders fill, each anew.
type elastic struct {
	url, index string
	events     int
}

func (e *elastic) call(method, path, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, e.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= 300 && res.StatusCode != http.StatusNotFound {
		err = fmt.Errorf("%s %s: %d %s", method, path, res.StatusCode, out)
	}
	return out, err
}

// fresh makes the index empty.
func (e *elastic) fresh() error {
	if _, err := e.call(http.MethodDelete, "/"+e.index, ""); err != nil {
		return err
	}
	_, err := e.call(http.MethodPut, "/"+e.index, `{"settings":{"number_of_shards":2,"number_of_replicas":0,"refresh_interval":"-1"}}`)
	return err
}

// check counts what is there.
func (e *elastic) check() error {
	if _, err := e.call(http.MethodPost, "/"+e.index+"/_refresh", ""); err != nil {
		return err
	}
	out, err := e.call(http.MethodGet, "/"+e.index+"/_count", "")
	if err != nil {
		return err
	}
	var answer struct{ Count int }
	if err := json.Unmarshal(out, &answer); err != nil {
		return err
	}
	if answer.Count != e.events {
		return fmt.Errorf("%d documents, want %d", answer.Count, e.events)
	}
	return nil
}

// elasticSuite writes the events as they are, from a file and from Kafka, and compares with Elastic's own bulk indexer.
func (b *bench) elasticSuite(ctx context.Context) ([]Result, []Ratio, error) {
	if b.elastic == "" {
		fmt.Println("  no cluster: give -elasticsearch, or run `.testenv/with-elasticsearch make bench`")
		return nil, nil, nil
	}
	whole, err := b.input(ctx)
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(b.dir, "elastic")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	e := &elastic{url: strings.Split(b.elastic, ",")[0], index: "bench-" + strconv.FormatInt(time.Now().UnixNano(), 36), events: b.events / 10}
	in := filepath.Join(dir, "in.ndjson")
	if err := head(whole, in, e.events); err != nil {
		return nil, nil, err
	}
	config := fmt.Sprintf(elasticConfig, quoted(b.elastic), e.index)
	topic := ""
	if b.brokers != "" {
		cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(b.brokers, ",")...))
		if err != nil {
			return nil, nil, err
		}
		defer cl.Close()
		adm := kadm.NewClient(cl)
		topic = e.index
		if _, err := adm.CreateTopics(ctx, 4, -1, nil, topic); err != nil {
			return nil, nil, err
		}
		defer adm.DeleteTopics(context.WithoutCancel(ctx), topic) //nolint:errcheck // the cluster is a test's
		config += fmt.Sprintf(elasticKafkaConfig, quoted(b.brokers), topic)
	}
	if err := writeConfig(dir, config); err != nil {
		return nil, nil, err
	}
	defer e.call(http.MethodDelete, "/"+e.index, "") //nolint:errcheck // the cluster is a test's
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	var failed error
	prepare := func(cmd *exec.Cmd) *exec.Cmd {
		if err := e.fresh(); err != nil && failed == nil {
			failed = err
		}
		return cmd
	}
	baseline := func(name string) contender {
		return contender{name: name, check: e.check, cmd: func(ctx context.Context) *exec.Cmd {
			return prepare(env(exec.CommandContext(ctx, self, b.elastic, e.index, in), contenderEnv+"="+name))
		}}
	}
	route := func(name, bin, addr string, args ...string) contender {
		return contender{name: name, check: e.check, cmd: func(ctx context.Context) *exec.Cmd {
			return prepare(exec.CommandContext(ctx, bin, append([]string{"run", addr}, append(args, dir)...)...))
		}}
	}
	contenders := []contender{baseline(bulkIndexer), route("keystone, from a file", b.keystone, "route.index"), baseline(bulkIndexerWithout)}
	if topic != "" {
		if _, _, err := measure(exec.CommandContext(ctx, b.keystone, "run", "route.fill", dir)); err != nil {
			return nil, nil, err
		}
		contenders = append(contenders, route("keystone, from Kafka", b.keystone, "route.plays", "-limit", strconv.Itoa(e.events)))
	}
	if b.previous != "" {
		contenders = append(contenders, route("keystone, from a file, before", b.previous, "route.index"))
	}
	results, err := alternate(ctx, "elasticsearch", b.rounds, e.events, contenders)
	if failed != nil {
		err = failed
	}
	if err != nil {
		return nil, nil, err
	}
	ks := find(results, "keystone, from a file")
	ratios := []Ratio{
		{What: "throughput: keystone ÷ esutil.BulkIndexer, same ids and versions", Value: ks.Rate / find(results, bulkIndexer).Rate, Goal: 0.9},
		{What: "throughput: keystone ÷ esutil.BulkIndexer without ids", Value: ks.Rate / find(results, bulkIndexerWithout).Rate, Goal: 0.9},
		{What: "CPU: esutil.BulkIndexer ÷ keystone", Value: find(results, bulkIndexer).CPU / ks.CPU, Goal: 1},
	}
	return results, ratios, nil
}

func quoted(list string) string {
	var out []string
	for s := range strings.SplitSeq(list, ",") {
		out = append(out, strconv.Quote(s))
	}
	return strings.Join(out, ", ")
}

// head copies the first n lines of a file.
func head(from, to string, n int) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	err = eachLine(from, func(line []byte) error {
		if n--; n < 0 {
			return io.EOF
		}
		_, err := f.Write(line)
		return err
	})
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return f.Close()
}

// elasticContender is a plain program around Elastic's own bulk indexer, as its documentation writes it.
func elasticContender(name string, args []string) error {
	client, err := es.NewClient(es.Config{Addresses: strings.Split(args[0], ",")})
	if err != nil {
		return err
	}
	bi, err := esutil.NewBulkIndexer(esutil.BulkIndexerConfig{Client: client, Index: args[1]})
	if err != nil {
		return err
	}
	var failed atomic.Pointer[string]
	ctx := context.Background()
	version, n := int64(1), 0
	err = eachLine(args[2], func(line []byte) error {
		n++
		item := esutil.BulkIndexerItem{
			Action: "index", Body: bytes.NewReader(bytes.Clone(bytes.TrimSuffix(line, []byte("\n")))),
			OnFailure: func(_ context.Context, _ esutil.BulkIndexerItem, r esutil.BulkIndexerResponseItem, err error) {
				text := fmt.Sprint(r.Error.Type, " ", r.Error.Reason, " ", err)
				failed.CompareAndSwap(nil, &text)
			},
		}
		if name == bulkIndexer {
			item.DocumentID, item.Version, item.VersionType = fmt.Sprintf("bench-%020d", n), &version, "external_gte"
		}
		return bi.Add(ctx, item)
	})
	if err != nil {
		return err
	}
	if err := bi.Close(ctx); err != nil {
		return err
	}
	if text := failed.Load(); text != nil {
		return fmt.Errorf("a document failed: %s", *text)
	}
	return nil
}
