package wire

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/cmd/internal/api"
	"keystone/configs/addr"
	"keystone/pipeline/verify"
	sinkkafka "keystone/sinks/kafka"
)

const verifyGroup = "keystone.default.default.route.r"

// verified is a route with two programs: %s is its filter.
const verified = `
stream "in" {
  partitions = 3
}

stream "out" {
  partitions = 2
}

route "r" {
  from    = stream.in
  to      = stream.out
  filter  = "%s"
  set     = { seen = "n * 2" }
  key     = "string(n)"
  delivery {
    commit_interval = "50ms"
  }
}
`

// events gives records: every tenth is no JSON, so it is a dead letter.
func events(from, to int) (rs []*kgo.Record) {
	for i := from; i < to; i++ {
		r := &kgo.Record{Topic: "in", Partition: int32(i % 3), Value: fmt.Appendf(nil, `{"n":%d}`, i), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte{byte(i)}}}}
		if i%10 == 7 {
			r.Value = []byte("broken")
		}
		rs = append(rs, r)
	}
	return rs
}

// check compares what matters of a report.
func check(t *testing.T, what string, r api.VerifyReport, ok bool, missing, unexpected, different, repeated int64) {
	t.Helper()
	c := r.Total
	if r.OK != ok || c.Missing != missing || c.Unexpected != unexpected || c.Different != different || c.Repeated != repeated {
		t.Errorf("%s: %s: %+v\nexamples %+v\nnotes %v", what, r.Verdict, c, r.Examples, r.Notes)
	}
}

// TestVerifyFindsWhatIsWrong runs a route on the embedded broker, changes its
// filter in between, and judges it; then the sink is falsified in every way that there is.
func TestVerifyFindsWhatIsWrong(t *testing.T) {
	l := newLab(t, fmt.Sprintf(verified, "n % 2 == 0"))
	l.produce(events(0, 300)...)
	l.committed(verifyGroup, "in")
	l.change(fmt.Sprintf(verified, "n % 2 == 1"), 2)
	l.produce(events(300, 600)...)
	l.committed(verifyGroup, "in")

	clean := l.verify(api.VerifyOptions{})
	check(t, "clean", clean, true, 0, 0, 0, 0)
	if c := clean.Total; c.Records != 600 || c.DeadLettered != 60 || c.Delivered != 270 || c.Filtered != 270 || len(c.Unjudged) != 0 {
		t.Errorf("of 600 records: %+v", c)
	}
	if c := l.verify(api.VerifyOptions{Partitions: []int32{1}, Limit: 50}).Total; c.Records != 50 || c.From != 150 || c.To != 200 {
		t.Errorf("the newest 50 of partition 1: %+v", c)
	}

	out := l.topic("out")
	origin := func(r *kgo.Record) (o sinkkafka.Origin, k int) {
		k = slices.IndexFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == sinkkafka.OriginHeader })
		o, err := sinkkafka.ParseOrigin(r.Headers[k].Value)
		if err != nil {
			t.Fatal(err)
		}
		return o, k
	}
	copied := func(r *kgo.Record, edit func(*kgo.Record)) *kgo.Record {
		c := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: slices.Clone(r.Headers), Timestamp: r.Timestamp}
		edit(c)
		return c
	}
	from := func(o sinkkafka.Origin) func(*kgo.Record) {
		return func(r *kgo.Record) {
			_, k := origin(r)
			r.Headers[k].Value = fmt.Appendf(nil, "%s %d %d %s", o.TopicID, o.Partition, o.Offset, o.Route)
		}
	}

	// A repeat is what at_least_once allows.
	l.produce(copied(out[0], func(*kgo.Record) {}))
	check(t, "a repeat", l.verify(api.VerifyOptions{}), true, 0, 0, 0, 1)

	// An output whose record is not there, one of a record that is filtered
	// (its neighbour, by either program), and one of another route, which is nobody's business.
	o, _ := origin(out[1])
	beyond, neighbour, other := o, o, o
	beyond.Offset = 1000
	neighbour.Offset = o.Offset + 1
	other.Route = "route.other"
	l.produce(copied(out[1], from(beyond)), copied(out[1], from(neighbour)), copied(out[1], from(other)), &kgo.Record{Topic: "out", Value: []byte("{}")})
	r := l.verify(api.VerifyOptions{})
	check(t, "a made-up origin", r, false, 0, 1, 0, 1)
	if e := r.Examples[0]; e.Kind != verify.ExampleUnexpected || e.SourcePartition != o.Partition || e.SourceOffset != o.Offset+1 || e.Topic != "out" {
		t.Errorf("the example is %+v", e)
	}
	if r.OtherOrigin != 1 || r.NoOrigin != 1 || r.NotCommitted != 1 {
		t.Errorf("%d of others, %d without origin, %d not committed", r.OtherOrigin, r.NoOrigin, r.NotCommitted)
	}
}

// TestVerifyFindsWhatIsLost moves the committed offsets past records that
// nobody has delivered, and then delivers some of them wrongly.
func TestVerifyFindsWhatIsLost(t *testing.T) {
	l := newLab(t, fmt.Sprintf(verified, "n >= 0"))
	l.produce(events(0, 30)...)
	l.committed(verifyGroup, "in")
	ctx := t.Context()
	if _, err := l.client.Operate(ctx, api.Operate{Verb: api.Drain, Addresses: []string{"route.r"}}); err != nil {
		t.Fatal(err)
	}
	lost := l.produce(events(30, 42)...) // one of them is a dead letter
	ends, err := l.adm.ListEndOffsets(ctx, "in")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.adm.CommitAllOffsets(ctx, verifyGroup, ends.Offsets()); err != nil {
		t.Fatal(err)
	}
	r := l.verify(api.VerifyOptions{})
	check(t, "skipped records", r, false, 12, 0, 0, 0)
	for _, e := range r.Examples {
		if e.Kind != verify.ExampleMissing || !slices.ContainsFunc(lost, func(r *kgo.Record) bool { return r.Partition == e.SourcePartition && r.Offset == e.SourceOffset }) {
			t.Errorf("an example is %+v", e)
		}
	}
	if len(r.Examples) != verify.MaxExamples {
		t.Errorf("%d examples", len(r.Examples))
	}

	id := r.TopicID
	deliver := func(of *kgo.Record, n string, edit func(*kgo.Record)) {
		out := &kgo.Record{Topic: "out", Key: []byte(n), Value: fmt.Appendf(nil, `{"n":%s,"seen":%s}`, n, n), Headers: slices.Clone(of.Headers), Timestamp: of.Timestamp}
		edit(out)
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: sinkkafka.OriginHeader, Value: fmt.Appendf(nil, "%s %d %d route.r", id, of.Partition, of.Offset)})
		l.produce(out)
	}
	right := func(n int) func(*kgo.Record) {
		return func(r *kgo.Record) { r.Value = fmt.Appendf(nil, `{"n":%d,"seen":%d}`, n, 2*n) }
	}
	deliver(lost[0], "30", right(30))
	check(t, "one came late", l.verify(api.VerifyOptions{}), false, 11, 0, 0, 0)
	deliver(lost[1], "31", func(*kgo.Record) {})                                                 // another value
	deliver(lost[2], "0", right(32))                                                             // another key
	deliver(lost[3], "33", func(r *kgo.Record) { right(33)(r); r.Headers[0].Value = []byte{0} }) // another header
	deliver(lost[4], "34", func(r *kgo.Record) { r.Value = nil })
	r = l.verify(api.VerifyOptions{})
	check(t, "altered", r, false, 7, 0, 4, 0)
	var texts []string
	for _, e := range r.Examples {
		if e.Kind == verify.ExampleDifferent {
			texts = append(texts, e.Text)
		}
	}
	slices.Sort(texts)
	want := []string{"its headers are not the program's", "its key is not the program's", "its value of 0 bytes is not the program's, of 18", "its value of 18 bytes is not the program's, of 18"}
	if !slices.Equal(texts, want) {
		t.Errorf("they differ by %q", texts)
	}

	// The same from a server that does not run, in passes that are too small for it all.
	l.stop()
	state, closer, err := OpenOffline(ctx, OfflineSpec{Dir: l.dir, Env: "default", StateDir: filepath.Join(l.dir, ".keystone")})
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	v, err := state.(*offline).verifier(ctx, addr.New("route", "r"))
	if err != nil {
		t.Fatal(err)
	}
	defer v.plant.close()
	v.size = 7
	small, err := v.run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "in small passes", small, false, 7, 0, 4, 0)
	if v.phase.Pass < 5 || small.Total.Records != 42 {
		t.Errorf("%d passes, %d records", v.phase.Pass, small.Total.Records)
	}
}

// TestVerifyDoesNotBlameRetention: what was removed from source, sink or dead
// letters cannot be judged, and is not missing.
func TestVerifyDoesNotBlameRetention(t *testing.T) {
	l := newLab(t, fmt.Sprintf(verified, "n >= 0"))
	l.produce(events(0, 300)...)
	l.committed(verifyGroup, "in")
	ctx := t.Context()
	remove := func(topic string, partition int32, before int64) {
		t.Helper()
		os := kadm.Offsets{}
		os.AddOffset(topic, partition, before, -1)
		if rs, err := l.adm.DeleteRecords(ctx, os); err != nil || rs.Error() != nil {
			t.Fatal(err, rs.Error())
		}
	}
	remove("in", 2, 40)
	r := l.verify(api.VerifyOptions{From: new(int64)})
	check(t, "the source is cut", r, true, 0, 0, 0, 0)
	if c := r.Total; c.Records != 260 || c.Unjudged[verify.ReasonSourceCut] != 40 {
		t.Errorf("the source is cut: %+v", c)
	}
	if c := l.verify(api.VerifyOptions{}).Partitions[2]; c.From != 40 || len(c.Unjudged) > 0 {
		t.Errorf("everything that is there was asked for: %+v", c)
	}
	remove("out", 0, 60)
	r = l.verify(api.VerifyOptions{})
	check(t, "the sink is cut", r, true, 0, 0, 0, 0)
	if n := r.Total.Unjudged[verify.ReasonSinkCut]; n == 0 || n > 60 {
		t.Errorf("the sink is cut: %d cannot be judged", n)
	}
	remove("keystone.dead-letters.default.default.r", 0, 5)
	r = l.verify(api.VerifyOptions{})
	check(t, "letters were purged", r, true, 0, 0, 0, 0)
	if n := r.Total.Unjudged[verify.ReasonLettersCut]; n == 0 || n > 5 {
		t.Errorf("letters were purged: %d cannot be judged", n)
	}
}

// TestVerifyKnowsReplaysAndRewinds: an output of a dead letter is a replay,
// by whatever program; what a rewind wrote again was asked for, also by another program.
func TestVerifyKnowsReplaysAndRewinds(t *testing.T) {
	text := func(set string) string {
		return strings.Replace(fmt.Sprintf(verified, "true"), "n * 2", set, 1)
	}
	l := newLab(t, text("n * 2"))
	l.produce(events(0, 60)...)
	bad := l.produce(&kgo.Record{Topic: "in", Partition: 1, Value: []byte(`{"n":"x"}`)})[0]
	l.committed(verifyGroup, "in")
	r := l.verify(api.VerifyOptions{})
	check(t, "before", r, true, 0, 0, 0, 0)
	if r.Total.DeadLettered != 7 {
		t.Errorf("%d dead letters", r.Total.DeadLettered)
	}
	replay := &kgo.Record{Topic: "out", Key: []byte("x"), Value: []byte(`{"n":"x","seen":1}`), Timestamp: bad.Timestamp,
		Headers: []kgo.RecordHeader{{Key: sinkkafka.OriginHeader, Value: fmt.Appendf(nil, "%s 1 %d route.r", r.TopicID, bad.Offset)}}}
	l.produce(replay)
	check(t, "no program gives it", l.verify(api.VerifyOptions{}), false, 0, 1, 0, 0)
	l.change(text("1"), 2)
	r = l.verify(api.VerifyOptions{})
	check(t, "a replay by the program that runs now", r, true, 0, 0, 0, 0)
	if r.Total.Replayed != 1 {
		t.Errorf("%d replays", r.Total.Replayed)
	}
	done, err := l.client.Replay(t.Context(), api.Replay{LetterQuery: api.LetterQuery{Address: "route.r"}}, func(api.Replayed) {})
	if err != nil || done.Outcomes["delivered"] != 1 || done.Outcomes["dead_lettered"] != 6 {
		t.Fatalf("replayed %+v, %v", done, err)
	}
	r = l.verify(api.VerifyOptions{})
	check(t, "a replay that Keystone made, and six that failed again", r, true, 0, 0, 0, 0)
	if c := r.Total; c.Replayed != 2 || c.DeadLettered != 7 {
		t.Errorf("after a replay: %+v", c)
	}

	if _, err := l.client.Rewind(t.Context(), api.Rewind{Address: "route.r", Start: true}); err != nil {
		t.Fatal(err)
	}
	l.committed(verifyGroup, "in")
	l.until("it has come to the end again", func() error {
		if r = l.verify(api.VerifyOptions{}); r.Total.Asked < 54 {
			return fmt.Errorf("%d repeats: %s", r.Total.Asked, r.Verdict)
		}
		return nil
	})
	if c := r.Total; !r.OK || c.Missing+c.Unexpected+c.Different > 0 || c.Repeated != c.Asked {
		t.Errorf("after a rewind: %s %+v\n%+v", r.Verdict, c, r.Examples)
	}

	// What it was told to skip is not missing.
	operate := func(verb api.Verb) {
		t.Helper()
		if _, err := l.client.Operate(t.Context(), api.Operate{Verb: verb, Addresses: []string{"route.r"}}); err != nil {
			t.Fatal(err)
		}
	}
	operate(api.Drain)
	l.produce(events(60, 69)...)
	if _, err := l.client.Rewind(t.Context(), api.Rewind{Address: "route.r", End: true, Skip: true}); err != nil {
		t.Fatal(err)
	}
	operate(api.Resume)
	l.produce(events(69, 72)...)
	l.committed(verifyGroup, "in")
	if r = l.verify(api.VerifyOptions{}); !r.OK || r.Total.Missing > 0 || r.Total.Unjudged[verify.ReasonSkipped] != 9 || r.Total.Records != 73 {
		t.Errorf("after a skip: %s %+v\n%+v", r.Verdict, r.Total, r.Examples)
	}
}

// TestVerifyFindsLossBehindRetention: where a source partition has nothing in
// a partition of the sink that retention cut, time tells how far the cut may
// reach, so that a loss long after it is found.
func TestVerifyFindsLossBehindRetention(t *testing.T) {
	text := strings.Replace(fmt.Sprintf(verified, "n >= 0"), `  key     = "string(n)"`+"\n", "", 1) // by the number of the partition
	l := newLab(t, text)
	long := time.Now().Add(-10 * time.Hour)
	old, fresh := events(0, 60), events(60, 120)
	for _, r := range old {
		r.Timestamp = long
	}
	l.produce(old...)
	l.produce(fresh...)
	l.committed(verifyGroup, "in")
	ctx := t.Context()
	if _, err := l.client.Operate(ctx, api.Operate{Verb: api.Drain, Addresses: []string{"route.r"}}); err != nil {
		t.Fatal(err)
	}
	l.produce(events(120, 126)...)
	ends, err := l.adm.ListEndOffsets(ctx, "in")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.adm.CommitAllOffsets(ctx, verifyGroup, ends.Offsets()); err != nil {
		t.Fatal(err)
	}
	cut := kadm.Offsets{}
	cut.AddOffset("out", 1, 5, -1) // nothing of the source's partitions 0 and 2 ever was here
	if rs, err := l.adm.DeleteRecords(ctx, cut); err != nil || rs.Error() != nil {
		t.Fatal(err, rs.Error())
	}
	r := l.verify(api.VerifyOptions{})
	check(t, "lost after the cut", r, false, 6, 0, 0, 0)
	if n := r.Total.Unjudged[verify.ReasonSinkCut]; n != 5 {
		t.Errorf("%d cannot be judged", n)
	}
}
