package view_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keystone/cmd/internal/api"
	"keystone/cmd/internal/view"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/configs/diag"
	"keystone/configs/spec"
	"keystone/reconcile"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with testdata/NAME.golden.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s differs (-want +got); go test -update rewrites it\n%s", path, d)
	}
}

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func samplePlan() reconcile.Plan {
	route := func(name string) *configs.Resource {
		return &configs.Resource{Addr: addr.New("route", name), Decl: diag.Range{File: "main.ks.hcl", Start: diag.Pos{Line: 12, Column: 1, Byte: 200}, End: diag.Pos{Line: 12, Column: 14, Byte: 213}}}
	}
	return reconcile.Plan{
		Serial: 7, Env: "prod", Namespace: "ads", Made: now,
		Warnings: []string{"growing partitions of stream.events moves keys"},
		Changes: []reconcile.Change{
			{Addr: addr.New("route", "hello"), Action: reconcile.Create, After: route("hello"),
				Options: []reconcile.OptionChange{{Name: "from", After: "source.plays"}, {Name: "filter", After: `"device.type == 'tv'"`}},
				Impact:  reconcile.Impact{ContinuesFrom: "earliest", Waiting: 1234567}},
			{Addr: addr.New("route", "tv").Instance("eu-west-1"), Action: reconcile.Update, Before: route("tv"), After: route("tv"),
				Options: []reconcile.OptionChange{{Name: "filter", Before: `"a"`, After: `"a && b"`, Effect: spec.Live}},
				Impact:  reconcile.Impact{ContinuesFrom: "committed offsets of group keystone.ads.prod.route.tv", Waiting: 1}},
			{Addr: addr.New("sink", "search"), Action: reconcile.Repair, Before: &configs.Resource{Kind: "elasticsearch"}, After: &configs.Resource{Kind: "elasticsearch"},
				Things: []reconcile.Thing{
					{Kind: "index template", Name: "plays", Action: reconcile.Create},
					{Kind: "lifecycle policy", Name: "month", Action: reconcile.Update, Differs: []string{"delete after 30d, wanted 60d"}},
					{Kind: "table", Name: "db.plays"},
					{Kind: "indices", Name: "plays-*", Action: reconcile.NoOp, Notes: []string{"Old ones keep their mapping."}},
				}},
			{Addr: addr.New("route", "web"), Action: reconcile.Drain, Before: route("web"), After: route("web"),
				Options: []reconcile.OptionChange{
					{Name: "delivery.redeploy", Before: `"prefer_latency"`, After: `"prefer_no_duplicates"`, Effect: spec.Drain},
					{Name: "to", Before: "sink.a", After: "sink.b", Effect: spec.Drain},
				},
				Impact: reconcile.Impact{ContinuesFrom: "committed offsets", Waiting: -1, MayRepeat: -1, RepeatNote: "the old worker is not waited for", Pause: 1500 * time.Millisecond, KeepsState: []string{"positions"}}},
			{Addr: addr.New("stream", "events"), Action: reconcile.Replace, Before: &configs.Resource{Addr: addr.New("stream", "events")}, After: &configs.Resource{Addr: addr.New("stream", "events")},
				Options:     []reconcile.OptionChange{{Name: "topic", Before: `"a"`, After: `"b"`, Effect: spec.Replace}},
				Impact:      reconcile.Impact{LosesState: []string{"topic a with 12 records"}},
				Destructive: true},
			{Addr: addr.New("sink", "old"), Action: reconcile.Delete, Before: &configs.Resource{Addr: addr.New("sink", "old"), Kind: "file"},
				Options: []reconcile.OptionChange{{Name: "path", Before: `"x"`}, {Name: "password", Before: "env X", Sensitive: true}}},
			{Addr: addr.New("route", "new"), Action: reconcile.Move, MovedFrom: addr.New("route", "was"), After: route("new"), Impact: reconcile.Impact{KeepsState: []string{"consumer group", "positions"}}},
			{Addr: addr.New("stream", "gone"), Action: reconcile.Forget, Before: &configs.Resource{Addr: addr.New("stream", "gone")}},
			{Addr: addr.New("stream", "short"), Action: reconcile.Repair, Reasons: []string{"partitions: 4, wanted 8"}, After: &configs.Resource{Addr: addr.New("stream", "short")}},
			{Addr: addr.New("cluster", "main"), Action: reconcile.NoOp},
		},
	}
}

func TestPlan(t *testing.T) {
	offline := samplePlan()
	offline.Offline = true
	for name, p := range map[string]reconcile.Plan{
		"plan":         samplePlan(),
		"plan-offline": {Offline: true, Serial: 3},
		"plan-empty":   {},
	} {
		var b bytes.Buffer
		if err := view.Plan(&b, view.Style{}, api.NewPlan(p)); err != nil {
			t.Fatal(err)
		}
		golden(t, name, b.Bytes())
	}
	var b bytes.Buffer
	if err := view.Plan(&b, view.Style{Color: true, Width: 80}, api.NewPlan(offline)); err != nil {
		t.Fatal(err)
	}
	golden(t, "plan-colour", b.Bytes())
	b.Reset()
	if err := view.JSON(&b, api.NewPlan(samplePlan())); err != nil {
		t.Fatal(err)
	}
	golden(t, "plan-json", b.Bytes())
}

const source = `sink "stdout" "screen" {}

route "hello" {
  from   = source.plays
	filter = "device.tipe == '日本' && x"
  to     = sink.screeen
}
`

// at gives the range of the nth occurrence of text in source.
func at(t *testing.T, text string) diag.Range {
	t.Helper()
	i := bytes.Index([]byte(source), []byte(text))
	if i < 0 {
		t.Fatalf("%q is not in the source", text)
	}
	line := bytes.Count([]byte(source)[:i], []byte("\n")) + 1
	start := bytes.LastIndexByte([]byte(source)[:i], '\n') + 1
	column := len([]rune(source[start:i])) + 1
	return diag.Range{File: "main.ks.hcl", Start: diag.Pos{Line: line, Column: column, Byte: i}, End: diag.Pos{Line: line, Column: column + len([]rune(text)), Byte: i + len(text)}}
}

func sampleDiagnostics(t *testing.T) []api.Diagnostic {
	var ds diag.Diagnostics
	ds.Addf(at(t, "sink.screeen"), "KS3010", "Unknown sink", "There is no sink %q. Did you mean %q?", "screeen", "screen")
	ds.Warnf(at(t, "'日本'"), "KS2001", "Never true", "The field has no such value, and this sentence is long enough that it has to be wrapped on any terminal of a usual width.")
	ds.Addf(at(t, "x\""), "KS2002", "Unknown name", "")
	ds.Addf(at(t, "route"), "KS3000", "Block", "at its header")
	ds.Addf(diag.Range{}, "KS1001", "No files", "A control character \x1b[31m is not passed on.")
	ds.Addf(diag.Range{File: "gone.ks.hcl", Start: diag.Pos{Line: 3, Column: 4, Byte: 90}}, "KS1002", "Not readable", "The source is not at hand.")
	end := diag.Pos{Line: 8, Column: 1, Byte: len(source)}
	ds.Addf(diag.Range{File: "main.ks.hcl", Start: end, End: end}, "KS1003", "Unclosed block", "The file ends inside of a block.")
	return api.NewDiagnostics(ds, map[string][]byte{"main.ks.hcl": []byte(source)})
}

func TestDiagnostics(t *testing.T) {
	ds := sampleDiagnostics(t)
	for name, s := range map[string]view.Style{"diagnostics": {}, "diagnostics-terminal": {Color: true, Width: 60}} {
		var b bytes.Buffer
		if err := view.Diagnostics(&b, s, ds); err != nil {
			t.Fatal(err)
		}
		golden(t, name, b.Bytes())
	}
	var b bytes.Buffer
	if err := view.JSON(&b, view.NewValidation(ds)); err != nil {
		t.Fatal(err)
	}
	golden(t, "diagnostics-json", b.Bytes())
}

func sampleWorld() api.World {
	return api.World{
		Env: "prod", Namespace: "ads", Serial: 12, Revision: api.Revision{Serial: 12, Time: now.Add(-3 * time.Hour), Who: "ada"},
		Started: now.Add(-50 * time.Hour), Turns: 99, Waiting: []string{"stream.old"},
		Observed: reconcile.Observed{
			At: now.Add(-time.Second),
			States: map[addr.Addr]reconcile.State{
				addr.New("route", "tv"): {Health: reconcile.Running, Since: now.Add(-90 * time.Minute), Activity: "fetching", Lag: 12, Restarts: 1, Group: "keystone.ads.prod.route.tv",
					Counters: reconcile.Counters{Read: 1234567, Delivered: 1000000, Filtered: 234560, DeadLettered: 4, Dropped: 3, InFlight: 0, Written: 1000000}},
				addr.New("route", "web"):     {Health: reconcile.Failed, Since: now.Add(-5 * time.Second), Error: "open sink.x: permission denied", Lag: -1, Restarts: 7, Activity: "waits 8s, then starts again"},
				addr.New("stream", "events"): {Health: reconcile.Degraded, Drift: []string{"partitions: 4, wanted 8"}},
				addr.New("sink", "x"):        {Resource: &configs.Resource{Kind: "file"}, Health: reconcile.Running},
			},
			Unreachable: map[addr.Addr]string{addr.New("cluster", "main"): "dial tcp 127.0.0.1:9092: connection refused"},
		},
	}
}

func TestStatus(t *testing.T) {
	v := api.Version{Version: "1.2.3", Go: "go1.26", OS: "linux", Arch: "amd64"}
	st := api.NewStatus(sampleWorld(), v)
	var b bytes.Buffer
	if err := view.Status(&b, view.Style{}, st, now); err != nil {
		t.Fatal(err)
	}
	golden(t, "status", b.Bytes())
	b.Reset()
	if err := view.JSON(&b, st); err != nil {
		t.Fatal(err)
	}
	golden(t, "status-json", b.Bytes())
	b.Reset()
	w := api.World{Env: "default", Namespace: "default", Offline: true}
	w.Broken.Addf(diag.Range{File: "main.ks.hcl", Start: diag.Pos{Line: 3, Column: 4}}, "KS1002", "Broken", "It is broken.")
	if err := view.Status(&b, view.Style{}, api.NewStatus(w, v), now); err != nil {
		t.Fatal(err)
	}
	golden(t, "status-empty", b.Bytes())
}

func TestRun(t *testing.T) {
	var b bytes.Buffer
	c := reconcile.Counters{Read: 2000000, Delivered: 400000, Filtered: 1599990, DeadLettered: 7, Dropped: 3, Written: 500000, InFlight: 0, Reasons: map[string]int64{"decode": 7, "unknown": 3}}
	r := view.NewRunResult("route.tv", c, 800*time.Millisecond)
	if err := view.RunSummary(&b, view.Style{}, r); err != nil {
		t.Fatal(err)
	}
	if err := view.JSONLine(&b, r); err != nil {
		t.Fatal(err)
	}
	r.Stopped, r.InFlight = true, 3
	if err := view.RunSummary(&b, view.Style{}, r); err != nil {
		t.Fatal(err)
	}
	p := view.Progress{W: &b, Style: view.Style{Width: 60}, Start: now}
	p.Show(reconcile.State{Counters: reconcile.Counters{Read: 1000, Delivered: 10}, Activity: "fetching"}, now.Add(time.Second))
	p.Show(reconcile.State{Counters: c, Activity: "waiting for the sink"}, now.Add(2*time.Second))
	p.End()
	p.End() // nothing more to clear
	golden(t, "run", bytes.ReplaceAll(bytes.ReplaceAll(b.Bytes(), []byte("\x1b"), []byte("<ESC>")), []byte("\r"), []byte("<CR>\n")))
	b.Reset()
	pipe := view.Progress{W: &b, Start: now}
	pipe.Show(reconcile.State{}, now)
	pipe.End()
	if b.Len() > 0 {
		t.Errorf("progress on a pipe: %q", b.String())
	}
}

func TestApply(t *testing.T) {
	var b bytes.Buffer
	for _, e := range []api.ApplyEvent{
		{Addr: "route.a", Action: "create", Phase: api.PhaseStart},
		{Addr: "route.a", Action: "create", Phase: api.PhaseDone, Elapsed: 1234 * time.Millisecond},
		{Addr: "stream.b", Action: "delete", Phase: api.PhaseFailed, Error: "the broker refused"},
	} {
		view.ApplyEvent(&b, view.Style{}, e)
	}
	for _, r := range []api.ApplyResult{
		{Serial: 3, Done: 2, Counts: api.Counts{Add: 1, Change: 1, Move: 1}},
		{Serial: 3, Done: 2, Failed: 1, Counts: api.Counts{Add: 2}},
		{Serial: 3, Offline: true, Counts: api.Counts{Add: 2}},
	} {
		if err := view.ApplyResult(&b, view.Style{}, r); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "apply", b.Bytes())
}

func TestRecord(t *testing.T) {
	var b bytes.Buffer
	for _, e := range []api.TapEvent{
		{Topic: "playback", Partition: 3, Offset: 17, Key: "u1\x1b[2J", Value: []byte(`{"a":1}`), Outcome: "delivered"},
		{Offset: 18, Raw: []byte{0xff, 0x00}, Outcome: "dead_lettered", Error: "not JSON"},
		{Offset: 19},
	} {
		if err := view.Record(&b, view.Style{}, e); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "record", b.Bytes())
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567"} {
		if got := view.Count(n); got != want {
			t.Errorf("Count(%d) = %s, want %s", n, got, want)
		}
	}
}
