package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/sinks"
	"keystone/sources/kafka/client"
)

// rejected gives the code of an error that is about the record itself and
// will be the same for ever, or "".
func rejected(err error) string {
	for _, k := range []*kerr.Error{
		kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp,
		kerr.PolicyViolation, kerr.UnsupportedForMessageFormat, kerr.UnsupportedCompressionType,
	} {
		if errors.Is(err, k) {
			return code(k)
		}
	}
	return ""
}

// code is Kafka's own name of an error in lower case: message_too_large.
func code(k *kerr.Error) string {
	b := []byte(k.Message)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// outcome gives the error of a batch with failures.
func (s *Sink) outcome(failures []failure) error {
	slices.SortFunc(failures, func(a, b failure) int { return a.index - b.index })
	pe := &sinks.PartialError{Failures: make([]sinks.Failure, len(failures))}
	for i, f := range failures {
		if client.Refused(f.err) || errors.Is(f.err, kerr.InvalidTopicException) {
			// The records before it may have been written: repeating them is allowed, losing them is not.
			return sinks.Permanent{Err: s.cfg.Client.Explain("write to topic "+s.cfg.Topic, f.err)}
		}
		if errors.Is(f.err, kerr.UnknownTopicID) {
			s.forgetTopic()
		}
		pe.Failures[i] = s.classify(f)
	}
	return pe
}

func (s *Sink) classify(f failure) sinks.Failure {
	out := sinks.Failure{Index: f.index, Outcome: sinks.Retryable, Code: "kafka"}
	var k *kerr.Error
	if errors.As(f.err, &k) {
		out.Code = code(k)
	}
	switch {
	case rejected(f.err) != "":
		out.Outcome, out.Code = sinks.Rejected, rejected(f.err)
		out.Err = fmt.Errorf("topic %s refuses the record: %w", s.cfg.Topic, f.err)
		return out
	case errors.Is(f.err, kgo.ErrClientClosed), errors.Is(f.err, context.Canceled):
		// The route is closing; the library does not tell whether the record
		// was on the wire.
		out.Outcome, out.Code = sinks.Unknown, "closed"
	case errors.Is(f.err, kerr.OutOfOrderSequenceNumber), errors.Is(f.err, kerr.UnknownProducerID),
		errors.Is(f.err, kerr.InvalidProducerEpoch), errors.Is(f.err, kerr.InvalidProducerIDMapping):
		// The broker lost track of what this producer wrote.
		out.Outcome = sinks.Unknown
	case errors.Is(f.err, kerr.UnknownServerError):
		// It does not say what it did, and may be the answer to a repetition of
		// what was written with the first answer lost.
		out.Outcome = sinks.Unknown
	case errors.Is(f.err, context.DeadlineExceeded):
		out.Code = "timeout"
		f.err = s.client().Health.Because(f.err)
	}
	out.Err = s.cfg.Client.Explain("write to topic "+s.cfg.Topic, f.err)
	return out
}
