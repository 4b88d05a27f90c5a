package wire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/pipeline/record"
	"keystone/sinks"
)

// chainName names a chain of commits as a table does.
type chainName struct {
	id         string
	generation int64
	identity   string
	part       int32
}

// tableRow says which record a row was made from.
type tableRow struct {
	identity string
	part     int32
	offset   int64
	value    string
}

// memTable is where chained sinks commit: put if absent, in memory.
type memTable struct {
	mu    sync.Mutex
	ends  map[chainName]record.Position
	first map[chainName]int64
	rows  []tableRow
	n     int
}

func newMemTable() *memTable {
	return &memTable{ends: map[chainName]record.Position{}, first: map[chainName]int64{}}
}

// sink is what routes write to instead of their block's sink.
func (t *memTable) sink(_ sinks.Sink, d sinks.Deps) sinks.Sink {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
	return &tableSink{t: t, d: d, writer: t.n, parts: map[int32]*tablePart{}}
}

// counted gives how often each record is there.
func (t *memTable) counted() map[tableRow]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := map[tableRow]int{}
	for _, r := range t.rows {
		r.value = ""
		n[r]++
	}
	return n
}

// places counts rows by partition and offset.
func (t *memTable) places() map[[2]int64]int {
	n := map[[2]int64]int{}
	for r, k := range t.counted() {
		n[[2]int64{int64(r.part), r.offset}] += k
	}
	return n
}

func (t *memTable) values() (out []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.rows {
		out = append(out, r.value)
	}
	slices.Sort(out)
	return out
}

func (t *memTable) chains() (out []chainName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range t.first {
		out = append(out, k)
	}
	return out
}

// tableSink is one worker's.
type tableSink struct {
	t      *memTable
	d      sinks.Deps
	writer int

	mu    sync.Mutex
	parts map[int32]*tablePart
	wg    sync.WaitGroup
}

type tablePart struct {
	name    chainName
	from    record.Position
	rows    []tableRow
	durable record.Position
	waiting int
	err     error
	order   sync.Mutex // of commits
}

func (s *tableSink) Open(context.Context) error  { return nil }
func (s *tableSink) Close(context.Context) error { s.wg.Wait(); return nil }

func (s *tableSink) Begin(_ context.Context, from record.Position) (record.Position, error) {
	k := chainName{s.d.ID, s.d.Generation, from.Identity, from.Partition}
	if k.identity == "" {
		k.identity = fmt.Sprint("once ", s.writer)
	}
	s.t.mu.Lock()
	end, ok := s.t.ends[k]
	s.t.mu.Unlock()
	if !ok {
		end = from
	}
	if end.Offset < from.Offset {
		return end, sinks.Permanent{Err: fmt.Errorf("the chain ends at %d, before %d", end.Offset, from.Offset)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parts[from.Partition] != nil {
		return end, sinks.Permanent{Err: errors.New("it has begun already")}
	}
	s.parts[from.Partition] = &tablePart{name: k, from: end, durable: end}
	return end, nil
}

func (s *tableSink) Write(_ context.Context, b *record.Batch, done func(error)) {
	s.mu.Lock()
	p := s.parts[b.Partition]
	for i := range b.Records {
		r := &b.Records[i]
		p.rows = append(p.rows, tableRow{b.Next.Identity, b.Partition, r.Offset, string(r.Value)})
	}
	s.mu.Unlock()
	done(nil)
}

func (s *tableSink) Due() (due []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for part, p := range s.parts {
		if len(p.rows) > 0 {
			due = append(due, part)
		}
	}
	return due
}

func (s *tableSink) Cut(at []record.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, to := range at {
		p := s.parts[to.Partition]
		if to.Offset == p.from.Offset {
			continue
		}
		from, rows := p.from, p.rows
		p.from, p.rows = to, nil
		p.waiting++
		p.order.Lock() // one after the other
		s.wg.Go(func() {
			err := s.t.put(p.name, from, to, rows)
			p.order.Unlock()
			s.mu.Lock()
			defer s.mu.Unlock()
			if p.waiting--; err != nil {
				p.err = err
			} else {
				p.durable = to
			}
		})
	}
}

func (t *memTable) put(k chainName, from, to record.Position, rows []tableRow) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	end, ok := t.ends[k]
	if ok && end.Offset != from.Offset {
		return fmt.Errorf("chain %v ends at %d, not at %d: %w", k, end.Offset, from.Offset, sinks.ErrFenced)
	}
	if !ok {
		t.first[k] = from.Offset
	}
	t.ends[k] = to
	t.rows = append(t.rows, rows...)
	return nil
}

func (s *tableSink) Durable() (at []record.Position, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		at = append(at, p.durable)
		err = errors.Join(err, p.err)
	}
	return at, err
}

func (s *tableSink) Settle(ctx context.Context, parts []int32) error {
	for {
		s.mu.Lock()
		waits := slices.ContainsFunc(parts, func(p int32) bool { return s.parts[p] != nil && s.parts[p].waiting > 0 })
		s.mu.Unlock()
		if !waits || ctx.Err() != nil {
			return ctx.Err()
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (s *tableSink) Forget(parts []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range parts {
		delete(s.parts, p)
	}
}

// tabled serves a route into a table, as it is after edit.
func tabled(t *testing.T, text string) (*lab, *memTable) {
	t.Helper()
	tab := newMemTable()
	return (&lab{t: t, wrap: tab.sink}).open(text), tab
}

// once wants every record of a topic in the table, so often.
func (l *lab) once(tab *memTable, topic string, times func(part int32, offset int64) int) {
	l.t.Helper()
	l.until("every row is there", func() error {
		have := tab.places()
		for _, r := range l.topic(topic) {
			n := have[[2]int64{int64(r.Partition), r.Offset}]
			if want := times(r.Partition, r.Offset); n < want {
				return fmt.Errorf("offset %d of partition %d is there %d times, want %d", r.Offset, r.Partition, n, want)
			} else if n > want {
				l.t.Fatalf("offset %d of partition %d is there %d times, want %d", r.Offset, r.Partition, n, want)
			}
		}
		return nil
	})
}

func all(int32, int64) int { return 1 }

const redeployedTable = `
source "generator" "events" {}

stream "in" {
  partitions = 3
}

sink "discard" "table" {}

route "make" {
  from    = source.events
  to      = stream.in
  enabled = %t
  throttle {
    records_per_second = 2000
  }
}

route "r" {
  from   = stream.in
  to     = sink.table
  format = %q
  batch {
    records = 100
  }
  delivery {
    redeploy = %q
  }
}
`

// TestRedeployIntoATable replaces the worker of a route into a sink that keeps its own positions again and
// again, while events flow: each row is there once, whether the two workers overlap or not.
func TestRedeployIntoATable(t *testing.T) {
	for _, redeploy := range []string{configs.PreferLatency, configs.PreferNoDuplicates} {
		t.Run(redeploy, func(t *testing.T) {
			text := func(on bool, format string) string { return fmt.Sprintf(redeployedTable, on, format, redeploy) }
			l, tab := tabled(t, text(true, "json"))
			flowing := func(least int) {
				l.until("rows come", func() error {
					if n := len(tab.values()); n < least {
						return fmt.Errorf("%d rows", n)
					}
					return nil
				})
			}
			const changes = 5
			serial := int64(1)
			for i := range changes {
				flowing(500 * (i + 1))
				serial++
				l.change(text(true, []string{"raw", "json"}[i%2]), serial)
			}
			flowing(500 * (changes + 1))
			l.change(text(false, "raw"), serial+1)
			l.committed("keystone.default.default.route.r", "in")
			l.stillOnce(tab)
			if tab.n != changes+1 {
				t.Errorf("%d workers", tab.n)
			}
		})
	}
}

// stillOnce wants no row twice and none missing, when all is committed.
func (l *lab) stillOnce(tab *memTable) {
	l.t.Helper()
	have := tab.places()
	n := 0
	for _, r := range l.topic("in") {
		n++
		if k := have[[2]int64{int64(r.Partition), r.Offset}]; k != 1 {
			l.t.Errorf("offset %d of partition %d is there %d times", r.Offset, r.Partition, k)
		}
	}
	if rows := len(tab.values()); rows != n || n == 0 {
		l.t.Errorf("%d rows of %d records", rows, n)
	}
}

const plainTable = `
stream "in" {
  partitions = 2
}

sink "discard" "table" {}

route %q {
  from    = stream.in
  to      = sink.table
  project = { n = %q }
  delivery {
    commit_interval = "20ms"
  }
}
`

func (l *lab) numbers(from, to int) {
	l.t.Helper()
	var rs []*kgo.Record
	for i := from; i < to; i++ {
		rs = append(rs, &kgo.Record{Topic: "in", Partition: int32(i % 2), Value: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	l.produce(rs...)
}

// TestTableOverRewindsAndMoves: a rewind begins a chain of its own, so the rows are written
// again; another name, a restart of the server and a restart of the route do not.
func TestTableOverRewindsAndMoves(t *testing.T) {
	l, tab := tabled(t, fmt.Sprintf(plainTable, "r", "n"))
	group := "keystone.default.default.route.r"
	l.numbers(0, 40)
	l.committed(group, "in")
	l.once(tab, "in", all)
	if _, err := l.client.Rewind(t.Context(), api.Rewind{Address: "route.r", Offsets: []api.PartitionOffset{{Partition: 0, Offset: 5}, {Partition: 1, Offset: 5}}}); err != nil {
		t.Fatal(err)
	}
	again := func(_ int32, offset int64) int {
		if offset >= 5 && offset < 20 {
			return 2
		}
		return 1
	}
	l.once(tab, "in", again)
	if got := tab.chains(); len(got) != 4 {
		t.Errorf("chains %v", got)
	}
	l.numbers(40, 60)
	l.once(tab, "in", again)
	l.change(fmt.Sprintf(plainTable, "other", "n")+"moved {\n  from = route.r\n  to   = route.other\n}\n", 2)
	l.numbers(60, 80)
	l.once(tab, "in", again)
	l.stop()
	l.serve()
	l.numbers(80, 100)
	l.once(tab, "in", again)
	if got := tab.chains(); len(got) != 4 {
		t.Errorf("chains %v", got)
	}
}

// TestTableOfANewTopic: a topic that was created again has records of its own, in chains of their own.
func TestTableOfANewTopic(t *testing.T) {
	l, tab := tabled(t, fmt.Sprintf(plainTable, "r", "n"))
	l.numbers(0, 20)
	l.committed("keystone.default.default.route.r", "in")
	if _, err := l.adm.DeleteTopic(t.Context(), "in"); err != nil {
		t.Fatal(err)
	}
	l.until("the topic is there again", func() error {
		_, err := l.adm.CreateTopic(t.Context(), 2, 1, nil, "in")
		return err
	})
	l.kafka.PurgeTopicsFromClient("in") // the producer has to know
	l.numbers(100, 120)
	l.until("the route is stopped, and the new topic accepted", func() error {
		_, err := l.client.Operate(t.Context(), api.Operate{Verb: api.Restart, Addresses: []string{"route.r"}, AcceptNewTopic: true})
		return err
	})
	l.until("the rows of both are there once", func() error {
		if got := len(tab.values()); got < 40 {
			return fmt.Errorf("%d rows", got)
		}
		return nil
	})
	if got, distinct := len(tab.values()), len(tab.counted()); got != 40 || distinct != 40 {
		t.Errorf("%d rows of %d records", got, distinct)
	}
	if got := tab.chains(); len(got) != 4 {
		t.Errorf("chains %v", got)
	}
}

// TestTableTakesReplays: replayed dead letters are chains of their own, beside the route's, which goes on.
func TestTableTakesReplays(t *testing.T) {
	l, tab := tabled(t, fmt.Sprintf(plainTable, "r", "n * 2"))
	group := "keystone.default.default.route.r"
	bad := func(n int) {
		for i := range n {
			l.produce(&kgo.Record{Topic: "in", Partition: int32(i % 2), Value: fmt.Appendf(nil, `{"n":"bad %d of %d"}`, i, n)})
		}
	}
	l.numbers(0, 20)
	bad(6)
	l.committed(group, "in")
	if _, sum := l.letters(api.LetterQuery{}); sum.Waiting != 6 {
		t.Fatalf("%+v", sum)
	}
	l.change(fmt.Sprintf(plainTable, "r", "n"), 2)
	if r := l.replay(api.Replay{LetterQuery: api.LetterQuery{Limit: 2}}); r.Outcomes["delivered"] != 2 || r.Interrupted != "" {
		t.Errorf("%+v", r)
	}
	if r := l.replay(api.Replay{}); r.Outcomes["delivered"] != 4 || r.Interrupted != "" {
		t.Errorf("%+v", r)
	}
	if r := l.replay(api.Replay{}); r.Letters != 0 {
		t.Errorf("%+v", r)
	}
	if r := l.replay(api.Replay{LetterQuery: api.LetterQuery{Limit: 1}, Again: true}); r.Outcomes["delivered"] != 1 {
		t.Errorf("%+v", r)
	}
	l.numbers(20, 40)
	l.committed(group, "in")
	if got, distinct := len(tab.values()), len(tab.counted()); got != 47 || distinct != 46 {
		t.Errorf("%d rows of %d records", got, distinct)
	}
}
