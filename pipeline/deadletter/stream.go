package deadletter

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"keystone/pipeline"
	"keystone/pipeline/record"
	"keystone/sinks"
)

// Stream writes dead letters to a sink of its own. It opens the sink with the
// first letter, so that routes without any cost nothing.
type Stream struct {
	open   chan sinks.Sink // holds the sink, nil before it is opened; who takes it may use it
	make   func() (sinks.Sink, error)
	encode func([]pipeline.DeadLetter) (*record.Batch, error)
}

var _ pipeline.DeadLetters = (*Stream)(nil)

// NewStream makes a writer; newSink makes the sink, again after an Open that failed.
func NewStream(newSink func() (sinks.Sink, error)) *Stream {
	s := &Stream{open: make(chan sinks.Sink, 1), make: newSink, encode: func(l []pipeline.DeadLetter) (*record.Batch, error) { return batch(l), nil }}
	s.open <- nil
	return s
}

// Write writes letters and waits until they are durable. Its error is a
// *sinks.PartialError where some are, with the indexes of the others.
func (s *Stream) Write(ctx context.Context, letters []pipeline.DeadLetter) error {
	sink, err := s.sink(ctx)
	if err != nil {
		return err
	}
	b, err := s.encode(letters)
	if err != nil {
		return err
	}
	written := make(chan error, 1)
	sink.Write(ctx, b, func(err error) { written <- err })
	select {
	case err := <-written:
		return unwritten(err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// unwritten leaves out what the destination had already.
func unwritten(err error) error {
	var partial *sinks.PartialError
	if !errors.As(err, &partial) {
		return err
	}
	left := slices.DeleteFunc(slices.Clone(partial.Failures), func(f sinks.Failure) bool { return f.Outcome == sinks.Applied })
	if len(left) == 0 {
		return nil
	}
	return &sinks.PartialError{Failures: left}
}

func (s *Stream) sink(ctx context.Context) (sinks.Sink, error) {
	select {
	case sink := <-s.open:
		if sink != nil {
			s.open <- sink
			return sink, nil
		}
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	sink, err := s.make()
	if err == nil {
		if err = sink.Open(ctx); err != nil {
			err = errors.Join(err, sink.Close(context.WithoutCancel(ctx)))
		}
	}
	if err != nil {
		s.open <- nil
		return nil, fmt.Errorf("open dead-letter stream: %w", err)
	}
	s.open <- sink
	return sink, nil
}

// batch copies letters into memory of its own: the sink may still hold them
// when the caller has given up.
func batch(letters []pipeline.DeadLetter) *record.Batch {
	b := &record.Batch{Topic: letters[0].Topic, Partition: letters[0].Partition}
	size := 0
	for i := range letters {
		size += len(letters[i].Record.Key) + len(letters[i].Record.Value)
	}
	b.Buf = make([]byte, 0, size)
	put := func(v []byte) []byte {
		if v == nil {
			return nil
		}
		at := len(b.Buf)
		b.Buf = append(b.Buf, v...)
		return b.Buf[at:len(b.Buf):len(b.Buf)]
	}
	for i := range letters {
		r := letters[i].Record
		r.Key, r.Value, r.Source, r.Derived, r.Bad = put(r.Key), put(r.Value), int32(i), nil, record.Whole
		r.Headers = Headers(nil, &letters[i])
		for j := range r.Headers {
			r.Headers[j].Value = slices.Clone(r.Headers[j].Value)
		}
		for _, h := range r.Headers {
			b.Bytes += len(h.Key) + len(h.Value)
		}
		b.Bytes += len(r.Key) + len(r.Value)
		b.Records = append(b.Records, r)
	}
	return b
}

// Close closes the sink, if it was opened: also when ctx is over, unless a Write still has it.
func (s *Stream) Close(ctx context.Context) error {
	var sink sinks.Sink
	select {
	case sink = <-s.open:
	default:
		select {
		case sink = <-s.open:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	s.open <- nil
	if sink != nil {
		return sink.Close(ctx)
	}
	return nil
}
