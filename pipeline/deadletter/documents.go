package deadletter

import (
	"encoding/json"
	"fmt"

	"keystone/dsl/eval"
	"keystone/pipeline"
	"keystone/pipeline/record"
	"keystone/sinks"
)

// NewDocuments makes a writer to a sink of events: a letter becomes the event that Letter
// is as JSON. program makes what the sink wants to know of it. Where a letter came from names it, so that a sink that
// knows events again keeps one of a letter that is written twice.
func NewDocuments(newSink func() (sinks.Sink, error), program *eval.Program) *Stream {
	s := NewStream(newSink)
	s.encode = func(letters []pipeline.DeadLetter) (*record.Batch, error) { return documents(program, letters) }
	return s
}

// documents makes letters events. They are of one lane, as the pipeline gives them.
func documents(program *eval.Program, letters []pipeline.DeadLetter) (*record.Batch, error) {
	first := &letters[0]
	in := &record.Batch{Topic: first.Topic, Partition: first.Partition, Next: record.Position{Partition: first.Partition, Identity: first.Identity, Name: first.Topic}}
	for i := range letters {
		l := &letters[i]
		value, err := json.Marshal(line(l))
		if err != nil {
			return nil, fmt.Errorf("encode a dead letter: %w", err)
		}
		in.Records = append(in.Records, record.Record{Offset: l.Record.Offset, Timestamp: l.Time.UnixMilli(), Value: value})
		in.Next.Offset = l.Record.Offset + 1
	}
	out := &record.Batch{Revision: first.Revision, Loose: true}
	out.Of(in)
	out.Revision = first.Revision
	e := program.NewEval()
	for i := range in.Records {
		if verdict, err := e.Run(in, i, out); verdict != eval.Passed {
			return nil, fmt.Errorf("a dead letter does not become a document: %s", err.Text)
		}
	}
	for i := range out.Records {
		out.Bytes += len(out.Records[i].Value)
	}
	return out, nil
}
