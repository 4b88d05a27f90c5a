package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/pipeline/verify"
	"keystone/reconcile"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a control plane of one serial: enough to see what travels.
type memory struct {
	api.Backfiller // nil: nobody asks

	serial  int64
	goal    *configs.Config
	plan    api.PlanOptions
	applied api.ApplyOptions
	tapped  chan struct{} // closed when a tap ended

	operated api.Operate
	rewound  api.Rewind
}

var watermark = time.Date(2026, 3, 1, 11, 59, 0, 0, time.UTC)

func (m *memory) Status(context.Context) (api.World, error) {
	return api.World{Env: "prod", Namespace: "ads", Serial: m.serial, Turns: 3, Waiting: []string{"stream.old"}, Observed: reconcile.Observed{
		At: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		States: map[addr.Addr]reconcile.State{
			addr.New("route", "tv").Instance(`e"u`): {Health: reconcile.Running, Lag: 12, Sink: map[string]float64{"partitions_refused": 2}, Restarts: 1, Counters: reconcile.Counters{Read: 100, Delivered: 80, Filtered: 15, DeadLettered: 3, Dropped: 2,
				Written: 81, Retries: 4, SinkLimit: 6, SinkRequests: 3, LostBeforeRead: 5, InFlight: 7, Reasons: map[string]int64{"dead_lettered/decode": 3, "dropped/unknown": 2}, Replayed: map[string]int64{"delivered": 2, "dead_lettered": 1}},
				Lanes: []reconcile.Lane{{Partition: 2, Committed: 70, Lag: new(int64), Counters: reconcile.Counters{Read: 60, Delivered: 40, Filtered: 15, DeadLettered: 1, Dropped: 1, Abandoned: 1, InFlight: 2}}}},
			addr.New("route", "web"): {Health: reconcile.Failed, Lag: -1, Conditions: []reconcile.Condition{{Kind: reconcile.DataLost, Message: "5 records"}}},
			addr.New("job", "counts"): {Health: reconcile.Running, Lag: -1, Counters: reconcile.Counters{Read: 50, Written: 6, DeadLettered: 1}, Job: &reconcile.JobRun{Generation: 1, Epoch: 9, Committed: time.Now().Add(time.Hour),
				Pause: 3 * time.Millisecond, Commit: 5 * time.Millisecond, Rows: 6, Checkpoint: &reconcile.JobCheckpoint{Number: 3, Time: time.Now().Add(time.Hour), Bytes: 900, Took: time.Second}, Operators: []reconcile.JobOperator{{Name: "window.w", In: 50, Out: 6, Late: 2, Memory: 4096, Watermark: &watermark}}}},
			addr.New("stream", "s"):     {Health: reconcile.Degraded, Drift: []string{"partitions: 4, wanted 8"}},
			addr.New("cluster", "main"): {Health: reconcile.Running},
		},
		Unreachable: map[addr.Addr]string{addr.New("cluster", "other"): "connection refused"},
	}}, nil
}

func (m *memory) Plan(_ context.Context, goal *configs.Config, o api.PlanOptions) (reconcile.Plan, error) {
	m.goal, m.plan = goal, o
	return reconcile.Plan{Serial: m.serial, Env: goal.Env, Namespace: "ads", Changes: []reconcile.Change{
		{Addr: addr.New("route", "b"), Action: reconcile.Delete}, {Addr: addr.New("route", "a"), Action: reconcile.Create},
	}}, nil
}

func (m *memory) Apply(_ context.Context, goal *configs.Config, o api.ApplyOptions, progress func(api.ApplyEvent)) (api.ApplyResult, error) {
	m.goal, m.applied = goal, o
	if o.Serial != m.serial {
		return api.ApplyResult{}, &api.StaleError{Planned: o.Serial, Stored: m.serial}
	}
	progress(api.ApplyEvent{Addr: "route.a", Action: "create", Phase: api.PhaseStart})
	progress(api.ApplyEvent{Addr: "route.a", Action: "create", Phase: api.PhaseDone, Elapsed: time.Second})
	m.serial++
	return api.ApplyResult{Serial: m.serial, Done: 1, Counts: api.Counts{Add: 1}}, nil
}

func (m *memory) Operate(_ context.Context, o api.Operate) (api.Operated, error) {
	if o.Addresses[0] != "route.tv" {
		return api.Operated{}, &api.NotFoundError{Addr: o.Addresses[0], Known: []string{"route.tv"}}
	}
	m.operated = o
	return api.Operated{FormatVersion: api.FormatVersion, Verb: o.Verb, Routes: []api.Operation{{Addr: "route.tv", Now: "running", Does: "starts again", Loses: []string{"its positions"}}}}, nil
}

func (m *memory) Rewind(_ context.Context, o api.Rewind) (api.Rewound, error) {
	m.rewound = o
	return api.Rewound{FormatVersion: api.FormatVersion, Addr: o.Address, Partitions: []api.RewindPartition{{Partition: 1, From: 9, To: 4, Repeated: 5}}}, nil
}

func (m *memory) Audit(_ context.Context, limit int) ([]api.AuditLine, error) {
	return api.NewAudit([]reconcile.AuditEntry{{Time: time.Unix(1, 0).UTC(), Who: "tester", Action: "pause", Addr: "route.tv", Serial: int64(limit)}}), nil
}

func (m *memory) Verify(_ context.Context, a addr.Addr, o api.VerifyOptions, progress func(api.VerifyProgress)) (api.VerifyReport, error) {
	if a.Name == "files" {
		return api.VerifyReport{}, fmt.Errorf("%w: lines have no origin", api.ErrUnsupported)
	}
	progress(api.VerifyProgress{Phase: "source", Pass: 1, Read: 7})
	r := api.VerifyReport{FormatVersion: api.FormatVersion, Route: a.String(), Notes: []string{fmt.Sprint(o.Since.UTC(), *o.From, o.Partitions, o.Rate)}}
	r.AddPartition(verify.Counts{Partition: 3, Records: 7, Missing: 1})
	r.Finish()
	return r, nil
}

func (m *memory) LetterCounts(context.Context) ([]api.LetterSummary, error) {
	return []api.LetterSummary{{Addr: "route.tv", Letters: 2}}, nil
}

func (m *memory) DeadLetters(_ context.Context, q api.LetterQuery, emit func(api.DeadLetter) error) (api.LetterSummary, error) {
	if q.Address != "route.tv" {
		return api.LetterSummary{}, &api.NotFoundError{Addr: q.Address, Known: []string{"route.tv"}}
	}
	sum := api.LetterSummary{FormatVersion: api.FormatVersion, Addr: q.Address}
	for i, c := range q.Codes {
		l := api.DeadLetter{ID: fmt.Sprintf("0:%d", i), State: api.LetterReplayed, Place: "t"}
		l.Code, l.KeyBase64, l.Replays = c, []byte{0xff}, 2
		if err := emit(l); err != nil {
			return sum, err
		}
		sum.Count(c, l.State)
	}
	return sum, nil
}

func (m *memory) Replay(ctx context.Context, o api.Replay, progress func(api.Replayed)) (api.Replayed, error) {
	r := api.Replayed{Plan: o.Plan, Outcomes: map[string]int64{"delivered": int64(o.MaxReplays)}}
	r.FormatVersion, r.Ends = api.FormatVersion, o.Ends
	if o.Who == "leaves" {
		defer close(m.tapped)
		for ctx.Err() == nil {
			progress(r)
		}
		return r, ctx.Err()
	}
	progress(r)
	return r, nil
}

func (m *memory) Purge(_ context.Context, o api.Purge) (api.Purged, error) {
	p := api.Purged{Plan: o.Plan, Deleted: o.Limit}
	p.FormatVersion = api.FormatVersion
	return p, nil
}

func (m *memory) Tap(ctx context.Context, a addr.Addr, _ api.TapOptions, emit func(api.TapEvent) error) error {
	defer close(m.tapped)
	if a.Name != "tv" {
		return &api.NotFoundError{Addr: a.String(), Known: []string{"route.tv"}}
	}
	for i := int64(0); ; i++ {
		if err := emit(api.TapEvent{Topic: "playback", Offset: i, Value: json.RawMessage(`{"a":1}`)}); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// goals encodes only what these tests look at.
var goals = api.Codec{
	Encode: func(c *configs.Config) ([]byte, error) { return json.Marshal(c.Env) },
	Decode: func(b []byte) (*configs.Config, error) {
		c := &configs.Config{}
		return c, json.Unmarshal(b, &c.Env)
	},
}

func server(b api.Backend) *api.Server {
	return &api.Server{Backend: b, Version: api.Version{Version: "1.2.3", Revision: "abc", Go: "go1.26"}, Goals: goals, Log: slog.New(slog.DiscardHandler)}
}

// serveUnix serves until the test ends and gives a client.
func serveUnix(t *testing.T, b api.Backend) *api.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "api.sock")
	l, err := api.ListenUnix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server(b).ServeUnix(ctx, l) }()
	c := api.NewUnixClient(path, goals)
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return c
}

func TestClient(t *testing.T) {
	m := &memory{serial: 7}
	c := serveUnix(t, m)
	ctx := t.Context()
	if v, err := c.Version(ctx); err != nil || v.Version != "1.2.3" {
		t.Fatalf("version %+v, %v", v, err)
	}
	st, err := c.Status(ctx)
	if err != nil || st.Serial != 7 || len(st.Addresses) != 5 || st.Addresses[0].Addr != "cluster.main" || st.Unreachable["cluster.other"] == "" {
		t.Fatalf("status %+v, %v", st, err)
	}
	if lag := st.Addresses[2].Lag; lag == nil || *lag != 12 || st.Addresses[3].Lag != nil {
		t.Errorf("lags: %+v", st.Addresses)
	}
	o := api.PlanOptions{Targets: []addr.Addr{addr.New("route", "tv").Instance(`e"u`)}, Destroy: true}
	p, err := c.Plan(ctx, &configs.Config{Env: "prod"}, o)
	if err != nil || p.Serial != 7 || p.Env != "prod" || p.Counts != (api.Counts{Add: 1, Destroy: 1}) || p.Changes[0].Addr != "route.a" {
		t.Fatalf("plan %+v, %v", p, err)
	}
	if d := cmp.Diff(o, m.plan); d != "" || m.goal.Env != "prod" {
		t.Errorf("the options changed on the way: %s", d)
	}
	var events []api.ApplyEvent
	ao := api.ApplyOptions{PlanOptions: o, Serial: 7, Who: "ada", Why: "because"}
	res, err := c.Apply(ctx, &configs.Config{Env: "prod"}, ao, func(e api.ApplyEvent) { events = append(events, e) })
	if err != nil || res.Serial != 8 || len(events) != 2 || events[1].Elapsed != time.Second {
		t.Fatalf("apply %+v, %v, %v", res, err, events)
	}
	if d := cmp.Diff(ao, m.applied); d != "" {
		t.Errorf("the options changed on the way: %s", d)
	}
	_, err = c.Apply(ctx, &configs.Config{Env: "prod"}, ao, func(api.ApplyEvent) {})
	if stale, ok := errors.AsType[*api.StaleError](err); !ok || stale.Planned != 7 || stale.Stored != 8 {
		t.Errorf("an old plan: %v", err)
	}
}

func TestOperate(t *testing.T) {
	m := &memory{}
	c := serveUnix(t, m)
	asked := api.Operate{Verb: api.Restart, Addresses: []string{"route.tv"}, Plan: true, Who: "tester", AcceptNewTopic: true}
	done, err := c.Operate(t.Context(), asked)
	if d := cmp.Diff(asked, m.operated); err != nil || d != "" || done.Due() != 1 || done.Failed() != 0 || done.Routes[0].Loses[0] != "its positions" {
		t.Errorf("restart: %v, the answer is %+v, what was asked differs: %s", err, done, d)
	}
	_, err = c.Operate(t.Context(), api.Operate{Verb: api.Pause, Addresses: []string{"route.tw"}})
	if e, ok := errors.AsType[*api.NotFoundError](err); !ok || !strings.Contains(e.Error(), `Did you mean "route.tv"?`) {
		t.Errorf("pause of nothing: %v", err)
	}
	if _, err := c.Operate(t.Context(), api.Operate{Verb: "explode", Addresses: []string{"route.tv"}}); err == nil || !strings.Contains(err.Error(), "there is no verb") {
		t.Errorf("a verb that is none: %v", err)
	}
	rewind := api.Rewind{Address: "route.tv", By: time.Hour, Plan: true, Skip: true, Who: "me", Planned: []api.PartitionOffset{{Partition: 1, Offset: 4}}}
	rewound, err := c.Rewind(t.Context(), rewind)
	if d := cmp.Diff(rewind, m.rewound); err != nil || d != "" || !rewound.Moves() || rewound.Partitions[0].Repeated != 5 {
		t.Errorf("rewind: %v, the answer is %+v, what was asked differs: %s", err, rewound, d)
	}
	lines, err := c.Audit(t.Context(), 7)
	if err != nil || len(lines) != 1 || lines[0].Who != "tester" || lines[0].Serial != 7 {
		t.Errorf("audit: %+v, %v", lines, err)
	}
}

func TestTap(t *testing.T) {
	m := &memory{tapped: make(chan struct{})}
	c := serveUnix(t, m)
	enough := errors.New("enough")
	n := int64(0)
	err := c.Tap(t.Context(), addr.New("route", "tv"), api.TapOptions{}, func(e api.TapEvent) error {
		if e.Offset != n || string(e.Value) != `{"a":1}` {
			t.Errorf("record %d: %+v", n, e)
		}
		if n++; n == 100 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatalf("tap: %v", err)
	}
	<-m.tapped // the server lets go when the client does

	m.tapped = make(chan struct{})
	err = c.Tap(t.Context(), addr.New("route", "tw"), api.TapOptions{}, func(api.TapEvent) error { return nil })
	if e, ok := errors.AsType[*api.NotFoundError](err); !ok || !strings.Contains(e.Error(), `Did you mean "route.tv"?`) {
		t.Errorf("tap of nothing: %v", err)
	}
}

// A server that stops ends its taps instead of waiting for them.
func TestStopEndsStreams(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	l, err := api.ListenUnix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server(&memory{tapped: make(chan struct{})}).ServeUnix(ctx, l) }()
	c := api.NewUnixClient(path, goals)
	defer c.Close()
	_ = c.Tap(t.Context(), addr.New("route", "tv"), api.TapOptions{}, func(api.TapEvent) error { cancel(); return nil }) // ends somehow
	if err := <-done; err != nil {
		t.Errorf("serve: %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestNoServer(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []*api.Client{api.NewUnixClient(filepath.Join(dir, "api.sock"), goals), urlClient(t, "127.0.0.1:1")} {
		if _, err := c.Version(t.Context()); !errors.Is(err, api.ErrNoServer) || !strings.Contains(err.Error(), "keystone serve") {
			t.Errorf("no server: %v", err)
		}
	}
	if _, err := api.NewClient("ftp://x", goals); err == nil {
		t.Error("ftp is taken for a server")
	}
}

func urlClient(t *testing.T, url string) *api.Client {
	t.Helper()
	c, err := api.NewClient(url, goals)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "er", "api.sock")
	l, err := api.ListenUnix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", st.Mode(), err)
	}
	if dir, err := os.Stat(filepath.Dir(path)); err != nil || dir.Mode().Perm() != 0o700 {
		t.Errorf("mode of the directory %v, %v; want 0700", dir.Mode(), err)
	}
	if _, err := api.ListenUnix(t.Context(), path); !errors.Is(err, api.ErrServerRuns) {
		t.Errorf("a second server: %v", err)
	}
	l.Close()

	// What a killed server leaves behind is replaced.
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	l, err = api.ListenUnix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestSocketPath(t *testing.T) {
	short, err := api.SocketPath("/srv/ks/.keystone", "prod")
	if err != nil || short != "/srv/ks/.keystone/prod/api.sock" {
		t.Errorf("%s, %v", short, err)
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	a, errA := api.SocketPath(long, "prod")
	b, errB := api.SocketPath(long, "test")
	again, _ := api.SocketPath(long, "prod")
	if errA != nil || errB != nil || a == b || a != again || len(a) > 107 {
		t.Errorf("long paths: %s, %s, %v, %v", a, b, errA, errB)
	}
}

func TestCheckListen(t *testing.T) {
	for _, ok := range []string{"127.0.0.1:7070", "localhost:0", "[::1]:80"} {
		if err := api.CheckListen(ok); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	for _, bad := range []string{"0.0.0.0:7070", ":7070", "7070", "192.168.1.1:80", "example.com:80", "127.0.0.1", "127.0.0.1:"} {
		if api.CheckListen(bad) == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// A page in a browser must neither read nor change anything.
func TestTCPGuard(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server(&memory{serial: 1}).ServeTCP(ctx, l) }()
	defer func() { cancel(); <-done; http.DefaultClient.CloseIdleConnections() }()
	base := "http://" + l.Addr().String()
	for _, c := range []struct {
		name, method, path string
		header             map[string]string
		want               int
	}{
		{"plain", "GET", "/v1/status", nil, 200},
		{"localhost", "GET", "/healthz", map[string]string{"Host": "localhost:99"}, 200},
		{"ipv6", "GET", "/healthz", map[string]string{"Host": "[::1]"}, 200},
		{"rebound name", "GET", "/v1/status", map[string]string{"Host": "evil.example"}, 403},
		{"rebound name with port", "POST", "/v1/apply", map[string]string{"Host": "evil.example:7070"}, 403},
		{"other origin", "GET", "/v1/status", map[string]string{"Origin": "http://evil.example"}, 403},
		{"no origin of a page", "GET", "/v1/status", map[string]string{"Origin": "null"}, 403},
		{"own origin", "GET", "/v1/status", map[string]string{"Origin": base}, 200},
		{"cross-site form", "POST", "/v1/apply", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"not JSON", "POST", "/v1/plan", nil, 400},
		{"no such path", "GET", "/v1/nothing", nil, 404},
		{"wrong method", "GET", "/v1/plan", nil, 405},
		{"bad address", "GET", "/v1/tap?address=x", nil, 400},
		{"bad limit", "GET", "/v1/tap?address=route.tv&limit=-1", nil, 400},
		{"ready", "GET", "/readyz", nil, 200},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, base+c.path, strings.NewReader("{"))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range c.header {
			if k == "Host" {
				req.Host = v
				continue
			}
			req.Header.Set(k, v)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s: %s, want %d", c.name, resp.Status, c.want)
		}
	}
}

func TestLargeGoal(t *testing.T) {
	huge := io.MultiReader(strings.NewReader(`{"goal":"`), io.LimitReader(letters{}, 2<<20), strings.NewReader(`"}`))
	w := httptest.NewRecorder()
	s := server(&memory{})
	s.MaxGoalBytes = 1 << 20
	s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/v1/plan", huge))
	if w.Code != 400 || !strings.Contains(w.Body.String(), "too large") {
		t.Errorf("2 MiB: %d %s", w.Code, w.Body)
	}
}

type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// Names of metrics are an interface: dashboards and alerts hold them.
func TestMetrics(t *testing.T) {
	w := httptest.NewRecorder()
	server(&memory{serial: 7}).Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var ours bytes.Buffer
	for line := range strings.Lines(w.Body.String()) {
		if strings.Contains(line, "keystone_") {
			ours.WriteString(line)
		}
	}
	const path = "testdata/metrics.golden"
	if *update {
		if err := os.WriteFile(path, ours.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), ours.String()); d != "" {
		t.Errorf("the metrics changed (-want +got); rewrite with -update only if that is meant\n%s", d)
	}
	for _, m := range api.Metrics() {
		if !bytes.Contains(want, []byte("# TYPE "+m.Name+" "+m.Type+"\n")) && m.Name != "keystone_cluster_reachable" {
			t.Errorf("%s is declared and not shown", m.Name)
		}
	}
}
