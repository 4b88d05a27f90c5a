package wire

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"keystone/pipeline/record"
	"keystone/pipeline/verify"
	sourcekafka "keystone/sources/kafka"
)

// output is a record of the sink that is not what its program gives.
type output struct {
	partition int32 // of the source
	offset    int64
	digest    uint64
	topic     string
	at        record.Position
	record    *record.Record // of the first ones, to say what differs
}

// pending is outputs that wait to be explained: by a program that ran before
// and was not committed, or by a replay. Their source records are read again.
type pending struct {
	v       *verifier
	t       *tables
	outputs []output
}

// keepOutputs is how many outputs are kept whole, and how large.
const (
	keepOutputs     = 64
	keepOutputBytes = 64 << 10
)

func (p *pending) add(partition int32, offset int64, digest uint64, topic string, at record.Position, r *record.Record) {
	o := output{partition: partition, offset: offset, digest: digest, topic: topic, at: at}
	if len(p.outputs) < keepOutputs && len(r.Key)+len(r.Value) < keepOutputBytes {
		o.record = &record.Record{Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value)}
	}
	p.outputs = append(p.outputs, o)
}

// resolve explains what is pending, or counts it.
func (p *pending) resolve(ctx context.Context) error {
	slices.SortFunc(p.outputs, func(a, b output) int {
		if a.partition != b.partition {
			return int(a.partition) - int(b.partition)
		}
		return compare(a.offset, b.offset)
	})
	for rest := p.outputs; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].partition == rest[0].partition {
			n++
		}
		if err := p.resolvePartition(ctx, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	p.outputs = p.outputs[:0]
	return nil
}

func (p *pending) resolvePartition(ctx context.Context, of []output) error {
	v, part := p.v, of[0].partition
	tap := sourcekafka.Tap{
		Client: v.source.client, Topic: v.source.topic, ReadCommitted: true, Only: []int32{part},
		From:  []record.Position{{Partition: part, Offset: of[0].offset}},
		Until: []record.Position{{Partition: part, Offset: of[len(of)-1].offset + 1}},
	}
	at := 0
	err := tap.Read(ctx, func(b *record.Batch) error {
		for i := range b.Records {
			for at < len(of) && of[at].offset < b.Records[i].Offset {
				p.gone(&of[at])
				at++
			}
			for at < len(of) && of[at].offset == b.Records[i].Offset {
				p.explain(b, i, &of[at])
				at++
			}
		}
		return v.slow(ctx, len(b.Records))
	})
	for ; err == nil && at < len(of); at++ {
		p.gone(&of[at])
	}
	return err
}

// gone is for an output whose record retention has removed since it was read.
func (p *pending) gone(o *output) { p.t.extra[o.partition].Unjudged[verify.ReasonSourceCut]++ }

// explain looks for a program that gives the output.
func (p *pending) explain(b *record.Batch, i int, o *output) {
	v, table, x := p.v, p.t.of[o.partition], p.t.extra[o.partition]
	s, _ := table.Segment(o.offset)
	candidates := s.Others
	replay := table.Lettered(o.offset)
	if replay {
		candidates = nil
		for j := range v.judges {
			candidates = append(candidates, j)
		}
	}
	var digests []uint64
	for _, c := range slices.Backward(candidates) {
		j := v.judges[c]
		if j.Judge == nil {
			continue
		}
		var kind verify.Kind
		kind, _, digests = j.Run(b, i, digests[:0])
		if kind != verify.Unknown && !verify.Holds(digests, o.digest) {
			continue
		}
		if replay {
			x.Replayed++
			return
		}
		x.Repeated++
		if s.Rewound {
			x.Asked++
		}
		v.example(verify.ExampleRepeated, table, o.offset, o.topic, o.at, fmt.Sprintf("as the program of revision %d gives it, which ran before", j.Revision))
		return
	}
	if table.Kind(o.offset) != verify.Outputs {
		x.Unexpected++
		v.example(verify.ExampleUnexpected, table, o.offset, o.topic, o.at, "an output of a record that the program "+does(table.Kind(o.offset)))
		return
	}
	table.Wrong(o.offset)
	x.Different++
	text := ""
	if o.record != nil && s.Program != verify.None {
		text = v.judges[s.Program].Difference(b, i, o.record)
	}
	v.example(verify.ExampleDifferent, table, o.offset, o.topic, o.at, text)
}
