package wire

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/dsl"
	"keystone/dsl/eval"
	"keystone/pipeline"
	"keystone/pipeline/deadletter"
	"keystone/pipeline/record"
	"keystone/reconcile/store"
	"keystone/sinks"
	"keystone/sources"
)

const lettersConfig = `
stream "in" { partitions = 2 }
stream "out" { partitions = 2 }
route "r" {
  from    = stream.in
  to      = stream.out
  project = { twice = "%s" }
  delivery { commit_interval = "20ms" }
}
`

func (l *lab) letters(q api.LetterQuery) (out []api.DeadLetter, sum api.LetterSummary) {
	l.t.Helper()
	q.Address = "route.r"
	sum, err := l.client.DeadLetters(l.t.Context(), q, func(x api.DeadLetter) error { out = append(out, x); return nil })
	if err != nil {
		l.t.Fatal(err)
	}
	return out, sum
}

func (l *lab) replay(o api.Replay) api.Replayed {
	l.t.Helper()
	o.Address, o.Who = "route.r", "tester"
	r, err := l.client.Replay(l.t.Context(), o, func(api.Replayed) {})
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

func (l *lab) purge(o api.Purge) api.Purged {
	l.t.Helper()
	o.Address, o.Who = "route.r", "tester"
	p, err := l.client.Purge(l.t.Context(), o)
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

// TestLettersAreReplayed: records fail, the route is mended, and a replay
// delivers them with their origin, once, so that nothing is missing.
func TestLettersAreReplayed(t *testing.T) {
	l := newLab(t, fmt.Sprintf(lettersConfig, "n * 2"))
	var rs []*kgo.Record
	for i := range 20 {
		value := fmt.Sprintf(`{"n":%d}`, i)
		if i%4 == 3 {
			value = fmt.Sprintf(`{"n":"%d"}`, i)
		}
		rs = append(rs, &kgo.Record{Topic: "in", Partition: int32(i % 2), Key: fmt.Appendf(nil, "k%d", i), Value: []byte(value), Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte{0xff}}}})
	}
	l.produce(rs...)
	l.committed("keystone.default.default.route.r", "in")
	got, sum := l.letters(api.LetterQuery{})
	if len(got) != 5 || sum.Waiting != 5 || got[0].Identity == "" || got[0].Partition != 1 || string(got[0].Headers[0].ValueBase64) != "\xff" {
		t.Fatalf("%+v", sum)
	}
	if some, _ := l.letters(api.LetterQuery{Where: `meta.key == "k7" or n == "11"`, Codes: []string{"type"}}); len(some) != 2 {
		t.Errorf("%d letters match", len(some))
	}
	if some, _ := l.letters(api.LetterQuery{Limit: 2, Brief: true}); len(some) != 2 || some[0].Value != nil {
		t.Errorf("%+v", some)
	}
	// It fails again: new letters with a count, and the old ones are done with.
	if r := l.replay(api.Replay{LetterQuery: api.LetterQuery{IDs: []string{"0:0", "0:1"}}}); r.Outcomes["dead_lettered"] != 2 || r.Letters != 2 {
		t.Errorf("%+v", r)
	}
	if got, sum = l.letters(api.LetterQuery{}); sum.Waiting != 5 || sum.Replayed != 2 || got[6].Replays != 1 || got[6].Offset != got[1].Offset || got[6].Identity != got[1].Identity {
		t.Errorf("%+v", sum)
	}
	l.change(fmt.Sprintf(lettersConfig, "n"), 2)
	plan := l.replay(api.Replay{Plan: true})
	if plan.Letters != 5 || plan.Skipped != 2 {
		t.Errorf("%+v", plan)
	}
	if n := len(l.topic("out")); n != 15 {
		t.Errorf("%d records before the replay", n)
	}
	if r := l.replay(api.Replay{LetterQuery: api.LetterQuery{Ends: plan.Ends}}); r.Outcomes["delivered"] != 5 || r.Interrupted != "" {
		t.Errorf("%+v", r)
	}
	if r := l.replay(api.Replay{}); r.Letters != 0 || r.Done() != 0 || r.Skipped != 7 {
		t.Errorf("%+v", r)
	}
	keys := map[string]int{}
	for _, r := range l.topic("out") {
		keys[string(r.Key)]++
		if !slices.ContainsFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == "ks-origin" }) {
			t.Errorf("%s has no origin", r.Key)
		}
		for _, h := range r.Headers {
			if strings.HasPrefix(h.Key, "ks-error") {
				t.Errorf("%s still has %s", r.Key, h.Key)
			}
		}
	}
	for i := range 20 {
		if keys[fmt.Sprintf("k%d", i)] != 1 {
			t.Errorf("k%d was delivered %d times", i, keys[fmt.Sprintf("k%d", i)])
		}
	}
	if v := l.verify(api.VerifyOptions{}); !v.OK {
		t.Errorf("%+v", v)
	}
	// The letters of one record count once, also when both are asked for again.
	if r := l.replay(api.Replay{Again: true}); r.Outcomes["delivered"] != 5 || r.Same != 2 || r.Letters != 7 {
		t.Errorf("%+v", r)
	}
	l.until("replays are counted apart", func() error {
		st, err := l.client.Status(t.Context())
		for _, a := range st.Addresses {
			if c := a.Counters; c != nil && (c.Read != 20 && c.Read != 0 || c.Replayed["delivered"] != 10 || c.Replayed["dead_lettered"] != 2) {
				err = fmt.Errorf("%+v", c)
			}
		}
		return err
	})
}

// TestPurgeOfATopic: what is in the middle is marked, what is at the beginning is deleted.
func TestPurgeOfATopic(t *testing.T) {
	l := newLab(t, fmt.Sprintf(lettersConfig, "n * 2"))
	l.produce(
		&kgo.Record{Topic: "in", Value: []byte(`{"n":"a"}`)},
		&kgo.Record{Topic: "in", Value: []byte(`broken`)},
		&kgo.Record{Topic: "in", Value: []byte(`{"n":"b"}`)},
		&kgo.Record{Topic: "in", Value: []byte(`broken`)},
	)
	l.committed("keystone.default.default.route.r", "in")
	const topic = "keystone.dead-letters.default.default.r"
	at := func(want ...string) {
		t.Helper()
		got, _ := l.letters(api.LetterQuery{})
		ids := []string{}
		for _, x := range got {
			ids = append(ids, x.ID)
		}
		if !slices.Equal(ids, want) {
			t.Errorf("the letters are %v, want %v", ids, want)
		}
	}
	if p := l.purge(api.Purge{Plan: true, LetterQuery: api.LetterQuery{Codes: []string{"decode"}}}); p.Letters != 2 || p.Deleted != 0 {
		t.Errorf("%+v", p)
	}
	at("0:0", "0:1", "0:2", "0:3")
	if p := l.purge(api.Purge{LetterQuery: api.LetterQuery{Codes: []string{"decode"}}}); p.Letters != 2 || p.Deleted != 0 {
		t.Errorf("%+v", p)
	}
	at("0:0", "0:2")
	if n := len(l.topic(topic)); n != 4 {
		t.Errorf("%d records are left", n)
	}
	if p := l.purge(api.Purge{LetterQuery: api.LetterQuery{IDs: []string{"0:0"}}}); p.Letters != 1 || p.Deleted != 2 {
		t.Errorf("%+v", p)
	}
	at("0:2")
	if n := len(l.topic(topic)); n != 2 {
		t.Errorf("%d records are left", n)
	}
	// Marks outlive the server.
	l.stop()
	l.serve()
	at("0:2")
	if p := l.purge(api.Purge{}); p.Letters != 1 || p.Deleted != 2 {
		t.Errorf("%+v", p)
	}
	if n := len(l.topic(topic)); n != 0 {
		t.Errorf("%d records are left", n)
	}
	lines, err := l.client.Audit(t.Context(), 100)
	n := 0
	for _, x := range lines {
		if x.Action == "purge" && x.Who == "tester" && x.Addr == "route.r" {
			n++
		}
	}
	if err != nil || n != 3 {
		t.Errorf("%d purges in the audit: %v %v", n, lines, err)
	}
}

// deliver is a sink that keeps what it gets.
type deliver struct{ got []string }

func (d *deliver) Open(context.Context) error { return nil }
func (d *deliver) Write(_ context.Context, b *record.Batch, done func(error)) {
	for i := range b.Records {
		d.got = append(d.got, fmt.Sprintf("%s/%d@%d", b.Topic, b.Partition, b.Records[i].Offset))
	}
	done(nil)
}
func (d *deliver) Close(context.Context) error { return nil }

var _ sinks.Sink = (*deliver)(nil)

// labRoute gives a route from files, with its program.
func labRoute(t *testing.T) (*configs.Route, *eval.Program) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.ks.hcl"), fmt.Appendf(nil, lettersConfig, "n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, diags := configs.Load(configs.LoadOptions{Dir: dir, Catalog: Catalog(), Version: "0.0.0"})
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	route := cfg.Routes[addr.New("route", "r")]
	program, err := dsl.Compile(route.Checked)
	if err != nil {
		t.Fatal(err)
	}
	return route, program
}

// TestReplayRepeatsAfterACrash: between delivery and mark there is nothing to
// hold on to, so the next replay delivers again; it never leaves a letter out.
func TestReplayRepeatsAfterACrash(t *testing.T) {
	box := &letterBox{place: "p"}
	letters := []found{}
	for i := range int64(3) {
		value := `{"n":1}`
		letters = append(letters, found{box: box, boxed: boxed{mark: store.LetterID{Offset: i}, letter: deadletter.Letter{Route: "route.r", Topic: "t", Identity: "id", Partition: 4, Offset: 100 + i, Value: &value}}})
	}
	marked := map[store.LetterID]bool{}
	route, program := labRoute(t)
	crash := errors.New("the process ended")
	for i, sink := range []*deliver{{}, {}} {
		src := newReplaySource(func(_ context.Context, f func(found) error) error {
			for _, x := range letters {
				if !marked[x.mark] {
					if err := f(x); err != nil {
						return err
					}
				}
			}
			return nil
		}, func(_ context.Context, _ string, ids []store.LetterID) error {
			if i == 0 {
				return sources.Fatal{Err: crash}
			}
			for _, id := range ids {
				marked[id] = true
			}
			return nil
		}, func() {})
		w := pipeline.New(pipeline.Spec{Route: route, Program: program, Source: src, Sink: sink})
		if err := w.Run(t.Context()); (i == 0) != errors.Is(err, crash) {
			t.Errorf("round %d: %v", i, err)
		}
		if len(sink.got) != 3 || sink.got[2] != "t/4@102" {
			t.Errorf("round %d delivered %v", i, sink.got)
		}
	}
	if len(marked) != 3 {
		t.Errorf("marked: %v", marked)
	}
}
