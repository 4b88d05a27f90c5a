package wire

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"keystone/cmd/internal/api"
	"keystone/configs"
	"keystone/configs/addr"
	"keystone/pipeline/deadletter"
	"keystone/pipeline/record"
	"keystone/pipeline/verify"
	sinkkafka "keystone/sinks/kafka"
	sourcekafka "keystone/sources/kafka"
	"keystone/sources/kafka/admin"
)

func splitWords(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// tell reports progress, a few times a second.
func (v *verifier) tell(phase string, read int64) {
	if v.phase.Phase != phase {
		v.phase.Phase, v.phase.Read = phase, 0
		v.told = time.Time{}
	}
	v.phase.Read += read
	if v.progress != nil && time.Since(v.told) > 200*time.Millisecond {
		v.told = time.Now()
		v.progress(v.phase)
	}
}

// slow takes n records from the rate that was asked for.
func (v *verifier) slow(ctx context.Context, n int) error {
	for v.limiter != nil && n > 0 {
		part := min(n, v.limiter.Burst())
		if err := v.limiter.WaitN(ctx, part); err != nil {
			return err
		}
		n -= part
	}
	return nil
}

// letterAt is a dead letter: of which record, and where it is.
type letterAt struct {
	partition int32 // of the source
	offset    int64
	replays   int
	topic     string
	at        record.Position
}

// readLetters finds the dead letters of the records in ranges.
func (v *verifier) readLetters(ctx context.Context, ranges []stretch) error {
	within := map[int32]stretch{}
	for _, r := range ranges {
		within[r.partition] = r
	}
	seen := map[string]bool{}
	for _, j := range v.judges {
		if j.Judge == nil || j.Route.OnError != configs.DeadLetter {
			continue
		}
		var topic string
		stream := j.Route.DeadLetter.Addr
		if j.cfg.Sinks[stream] != nil {
			return fmt.Errorf("%w: the dead letters of %s go to %s, which cannot be read again, so what is there cannot be told from what is missing", api.ErrUnsupported, j.Route.Addr, stream)
		}
		switch {
		case stream.IsZero():
			stream, topic = j.Route.From.Addr, j.cfg.DeadLetterTopic(j.Route.Addr)
		case v.goal.Streams[stream] != nil:
			topic = v.topics(stream)
		default:
			topic = j.cfg.Streams[stream].Topic
		}
		if seen[topic] {
			continue
		}
		seen[topic] = true
		if err := v.readLetterTopic(ctx, j.cfg, stream, topic, within); err != nil {
			return err
		}
	}
	slices.SortFunc(v.letters, func(a, b letterAt) int {
		if a.partition != b.partition {
			return int(a.partition) - int(b.partition)
		}
		return compare(a.offset, b.offset)
	})
	return nil
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (v *verifier) readLetterTopic(ctx context.Context, cfg *configs.Config, stream addr.Addr, topic string, within map[int32]stretch) error {
	p, err := v.place(ctx, cfg, stream, topic)
	if err != nil {
		return err
	}
	have, err := p.observe(ctx)
	if err != nil || !have.Exists { // it is made with the first letter
		return err
	}
	v.report.DeadLetters = append(v.report.DeadLetters, topic)
	for _, begin := range have.Begin {
		v.cutOff = v.cutOff || begin > 0
	}
	v.cutOff = v.cutOff || compacted(have)
	tap := sourcekafka.Tap{Client: p.client, Topic: topic, ReadCommitted: true}
	return tap.Read(ctx, func(b *record.Batch) error {
		for i := range b.Records {
			l, ok := v.letterOf(&b.Records[i])
			if r, in := within[l.partition]; !ok || !in || l.offset < r.from || l.offset >= r.to {
				continue
			}
			if len(v.letters) >= verifyLetters {
				return errTooManyLetters
			}
			l.topic, l.at = topic, record.Position{Partition: b.Partition, Offset: b.Records[i].Offset}
			v.letters = append(v.letters, l)
		}
		v.tell("dead letters", int64(len(b.Records)))
		return v.slow(ctx, len(b.Records))
	})
}

// letterOf reads the envelope of a dead letter; false if it is of another route or topic.
func (v *verifier) letterOf(r *record.Record) (l letterAt, ok bool) {
	route, topic, id := "", "", ""
	partition, offset, replays := int64(-1), int64(-1), int64(0)
	for _, h := range r.Headers {
		switch h.Key {
		case deadletter.HeaderRoute:
			route = string(h.Value)
		case deadletter.HeaderTopic:
			topic = string(h.Value)
		case deadletter.HeaderTopicID:
			id = string(h.Value)
		case deadletter.HeaderReplays:
			replays, _ = strconv.ParseInt(string(h.Value), 10, 32)
		case deadletter.HeaderPartition:
			partition, _ = strconv.ParseInt(string(h.Value), 10, 32)
		case deadletter.HeaderOffset:
			offset, _ = strconv.ParseInt(string(h.Value), 10, 64)
		}
	}
	ok = v.names[route] && topic == v.source.topic && (id == "" || id == v.topicID) && partition >= 0 && offset >= 0
	return letterAt{partition: int32(partition), offset: offset, replays: int(replays)}, ok
}

// tables is what one pass judges.
type tables struct {
	of     map[int32]*verify.Table
	extra  map[int32]*verify.Counts // what is counted beside them
	oldest int64                    // timestamp of a record, in milliseconds; 0: not known
	limits map[int32]*verify.Limits
}

// pass judges as much of ranges as fits, and gives what is left.
func (v *verifier) pass(ctx context.Context, ranges []stretch) ([]stretch, error) {
	t, err := v.readSource(ctx, ranges)
	if err != nil {
		return nil, err
	}
	v.lookUpLetters(t)
	p := &pending{v: v, t: t}
	for i := range v.sinks {
		if err := v.readSink(ctx, &v.sinks[i], t, p); err != nil {
			return nil, err
		}
	}
	if err := p.resolve(ctx); err != nil {
		return nil, err
	}
	var left []stretch
	for _, r := range ranges {
		table, l := t.of[r.partition], *t.limits[r.partition]
		l.LettersCut = v.cutOff
		c := table.Count(l, func(m verify.Miss) { v.example(verify.ExampleMissing, table, m.Offset, "", record.Position{}, m.Text) })
		x := t.extra[r.partition]
		x.From, x.To = c.From, c.To
		c.Add(*x)
		v.report.AddPartition(c)
		if table.To < r.to {
			left = append(left, stretch{r.partition, table.To, r.to})
		}
	}
	return left, nil
}

func (v *verifier) example(kind string, table *verify.Table, offset int64, topic string, at record.Position, text string) {
	e := verify.Example{Kind: kind, SourceTopic: v.source.topic, SourcePartition: table.Partition, SourceOffset: offset, Topic: topic, Partition: at.Partition, Offset: at.Offset, Text: text}
	if s, ok := table.Segment(offset); ok && s.Program != verify.None && v.judges[s.Program].Judge != nil {
		e.Revision = v.judges[s.Program].Revision
	}
	v.report.AddExample(e)
}

// readSource fills the tables from the source.
func (v *verifier) readSource(ctx context.Context, ranges []stretch) (*tables, error) {
	t := &tables{of: map[int32]*verify.Table{}, extra: map[int32]*verify.Counts{}, limits: map[int32]*verify.Limits{}, oldest: math.MaxInt64}
	tap := sourcekafka.Tap{Client: v.source.client, Topic: v.source.topic, ReadCommitted: true}
	for _, r := range ranges {
		t.of[r.partition] = verify.NewTable(r.partition, r.from, v.segments[r.partition])
		t.extra[r.partition] = &verify.Counts{Partition: r.partition, Unjudged: map[string]int64{}}
		t.limits[r.partition] = &verify.Limits{}
		tap.Only = append(tap.Only, r.partition)
		tap.From = append(tap.From, record.Position{Partition: r.partition, Offset: r.from})
		tap.Until = append(tap.Until, record.Position{Partition: r.partition, Offset: r.to})
	}
	size, full := 0, false
	var digests []uint64
	err := tap.Read(ctx, func(b *record.Batch) error {
		table := t.of[b.Partition]
		for i := range b.Records {
			r := &b.Records[i]
			if r.Timestamp <= 0 {
				t.oldest = 0
			}
			t.oldest = min(t.oldest, r.Timestamp)
			kind, why := verify.Unknown, verify.ReasonSkipped
			digests = digests[:0]
			if s, known := table.Segment(r.Offset); !known {
				why = verify.ReasonNoProgram
			} else if s.Program != verify.None {
				if j := v.judges[s.Program]; j.Judge == nil {
					why = j.why
				} else {
					kind, why, digests = j.Run(b, i, digests)
				}
			}
			table.Add(r.Offset, kind, why, digests)
			if size += 1 + len(digests); size >= v.size {
				full = true
				return sourcekafka.ErrStop
			}
		}
		v.tell("source", int64(len(b.Records)))
		return v.slow(ctx, len(b.Records))
	})
	if err != nil {
		return nil, err
	}
	// What retention has removed meanwhile was not read, and is not missing.
	topic, err := v.source.observe(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range ranges {
		table := t.of[r.partition]
		if !full {
			table.To = r.to
		}
		if p := int(r.partition); p < len(topic.Begin) && topic.Begin[p] > table.From {
			at := min(topic.Begin[p], table.First(), table.To)
			t.extra[r.partition].Unjudged[verify.ReasonSourceCut] += at - table.From
			table.From = at
		}
	}
	return t, nil
}

func (v *verifier) lookUpLetters(t *tables) {
	for _, l := range v.letters {
		table := t.of[l.partition]
		if table == nil {
			continue
		}
		switch x := t.extra[l.partition]; table.Letter(l.offset, l.replays) {
		case verify.Other:
			if !v.couldLetter(table, l.offset) {
				x.Unexpected++
				v.example(verify.ExampleUnexpected, table, l.offset, l.topic, l.at, "a dead letter of a record that the program "+does(table.Kind(l.offset)))
			}
		case verify.NoRecord:
			if v.compact {
				x.Unjudged[verify.ReasonSourceGap]++
				continue
			}
			x.Unexpected++
			v.example(verify.ExampleUnexpected, table, l.offset, l.topic, l.at, "a dead letter of a record that the source does not have")
		case verify.Repeat:
			v.example(verify.ExampleRepeated, table, l.offset, l.topic, l.at, "its dead letter is there again")
		}
	}
}

// couldLetter tells that another program may have run over the record: its letter is no surprise then.
func (v *verifier) couldLetter(table *verify.Table, offset int64) bool {
	s, _ := table.Segment(offset)
	return len(s.Others) > 0
}

func does(k verify.Kind) string {
	switch k {
	case verify.Filtered:
		return "filters"
	case verify.Dropped:
		return "drops"
	case verify.Letter:
		return "sends to the dead letters"
	case verify.Stops:
		return "stops the route at"
	}
	return "delivers"
}

// settled waits until the sink's end, as it is now, can be read: transactions
// that were open then have ended.
func (v *verifier) settled(ctx context.Context, p *topicAt) (topic admin.Topic, hidden bool, err error) {
	if topic, err = p.observe(ctx); err != nil || !topic.Exists {
		return topic, false, err
	}
	for until := time.Now().Add(stableTimeout); ; {
		stable, err := p.admin.Stable(ctx, p.topic)
		if err != nil {
			return topic, false, err
		}
		hidden = false
		for i, end := range topic.End {
			hidden = hidden || i < len(stable) && stable[i] < end
		}
		if !hidden || time.Now().After(until) {
			return topic, hidden, nil
		}
		v.tell("open transactions", 0)
		timer := time.NewTimer(100 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return topic, hidden, ctx.Err()
		case <-timer.C:
		}
	}
}

// readSink looks up every output.
func (v *verifier) readSink(ctx context.Context, p *topicAt, t *tables, later *pending) error {
	topic, hidden, err := v.settled(ctx, p)
	if err != nil {
		return err
	}
	if !topic.Exists {
		v.note("the topic %q, which programs wrote to, does not exist any more", p.topic)
		for _, l := range t.limits {
			l.CutTo = math.MaxInt64
		}
		return nil
	}
	tap := sourcekafka.Tap{Client: p.client, Topic: p.topic, ReadCommitted: true}
	// Outputs have the timestamps of their records, unless the topic says otherwise.
	starts := slices.Clone(topic.Begin)
	if t.oldest > 0 && t.oldest < math.MaxInt64 && topic.Config["message.timestamp.type"] != "LogAppendTime" {
		if starts, err = p.admin.OffsetsAt(ctx, p.topic, time.UnixMilli(t.oldest)); err != nil {
			return err
		}
	}
	cut := map[int32]map[int32]*cutMark{} // by partition of the sink that retention cut, and of the source
	oldest := map[int32]int64{}           // timestamp of the first record that is left of it
	for q, at := range starts {
		tap.From = append(tap.From, record.Position{Partition: int32(q), Offset: at})
		if q < len(topic.Begin) && topic.Begin[q] > 0 && at <= topic.Begin[q] {
			cut[int32(q)] = map[int32]*cutMark{}
		}
	}
	err = tap.Read(ctx, func(b *record.Batch) error {
		if _, seen := oldest[b.Partition]; !seen {
			oldest[b.Partition] = b.Records[0].Timestamp
		}
		for i := range b.Records {
			v.lookUp(p.topic, b, i, t, later, cut[b.Partition])
		}
		v.report.SinkRecords += int64(len(b.Records))
		v.tell("sink", int64(len(b.Records)))
		if len(later.outputs) >= verifyPending {
			if err := later.resolve(ctx); err != nil {
				return err
			}
		}
		return v.slow(ctx, len(b.Records))
	})
	if err != nil {
		return err
	}
	for part, l := range t.limits {
		l.Hidden, l.Compacted = l.Hidden || hidden, l.Compacted || compacted(topic)
		for q, first := range cut {
			if m := first[part]; m != nil {
				l.CutTo = max(l.CutTo, m.to)
				continue
			}
			to, err := v.cutBy(ctx, part, oldest[q])
			if err != nil {
				return err
			}
			l.CutTo = max(l.CutTo, to)
		}
	}
	return nil
}

// cutBy gives how far retention may have cut what a source partition has in a
// partition of the sink of which nothing is left, or never was: as far as the first record
// that is left there, of anybody, is older than what comes next; with room for events out of their time.
func (v *verifier) cutBy(ctx context.Context, part int32, oldest int64) (int64, error) {
	if oldest <= 0 {
		return math.MaxInt64, nil
	}
	at, err := v.offsetsAt(ctx, time.UnixMilli(oldest).Add(cutRoom))
	if err != nil || int(part) >= len(at) {
		return math.MaxInt64, err
	}
	return at[part], nil
}

const cutRoom = time.Hour

// cutMark is how far retention may have cut a partition of the sink, by the
// offset of the first output that is left: what comes after it was written after it. Without
// the order of the source partition, by that of the furthest of the first n.
type cutMark struct {
	to int64
	n  int
}

const unorderedMarks = 1 << 16

func (v *verifier) mark(cut map[int32]*cutMark, o sinkkafka.Origin) {
	m := cut[o.Partition]
	if m == nil {
		m = &cutMark{to: o.Offset}
		cut[o.Partition] = m
	}
	if v.route.Order != configs.OrderPartition && m.n < unorderedMarks {
		m.n++
		m.to = max(m.to, o.Offset)
	}
}

// lookUp judges one record of the sink. cut is not nil where retention removed what
// was before: then the first output that is left of each source partition says how far.
func (v *verifier) lookUp(topic string, b *record.Batch, i int, t *tables, later *pending, cut map[int32]*cutMark) {
	r := &b.Records[i]
	k := slices.IndexFunc(r.Headers, func(h record.Header) bool { return h.Key == sinkkafka.OriginHeader })
	if k < 0 {
		v.report.NoOrigin++
		return
	}
	o, err := sinkkafka.ParseOrigin(r.Headers[k].Value)
	if err != nil || !v.names[o.Route] || o.TopicID != v.topicID {
		v.report.OtherOrigin++
		return
	}
	table := t.of[o.Partition]
	if table == nil {
		v.report.NotCommitted++
		return
	}
	if cut != nil && !table.Lettered(o.Offset) {
		v.mark(cut, o)
	}
	at := record.Position{Partition: b.Partition, Offset: r.Offset}
	switch digest := v.digests.Of(r); table.Output(o.Offset, digest) {
	case verify.Outside:
		v.report.NotCommitted++
	case verify.Repeat:
		v.example(verify.ExampleRepeated, table, o.Offset, topic, at, "")
	case verify.NoRecord:
		x := t.extra[o.Partition]
		if v.compact {
			x.Unjudged[verify.ReasonSourceGap]++
			return
		}
		x.Unexpected++
		v.example(verify.ExampleUnexpected, table, o.Offset, topic, at, "the source has no such record")
	case verify.Other:
		later.add(o.Partition, o.Offset, digest, topic, at, r)
	}
}
