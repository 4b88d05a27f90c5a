package kafka

import (
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/sources/kafka/client"
)

// solo is a producer that sends one record at a time: nobody else's records
// get into its batches. It is made when the first record is refused.
type solo struct {
	turn chan struct{} // token: who holds it has a record on its way, alone, and may use pr
	pr   *client.Producer
}

// sendAlone sends a copy of r in a record batch of its own.
func (s *Sink) sendAlone(r *kgo.Record) error {
	select {
	case s.solo.turn <- struct{}{}:
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	defer func() { <-s.solo.turn }()
	if s.cfg.Transaction != nil {
		return s.cfg.Transaction.probe(s.ctx, r, s.cfg.BatchBytes)
	}
	if s.solo.pr == nil {
		pr, err := client.NewPool().Acquire(s.cfg.Client, client.Profile{Compression: s.cfg.Compression, BatchBytes: s.cfg.BatchBytes})
		if err != nil {
			return err
		}
		s.solo.pr = pr
	}
	return s.solo.pr.ProduceSync(s.ctx, likeNew(r)).FirstErr()
}

// likeNew copies a record that was sent before.
func likeNew(r *kgo.Record) *kgo.Record {
	again := &kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp, Partition: r.Partition}
	if again.Key != nil {
		again.Partition = client.ByKey
	}
	return again
}

// close ends the producer; nothing is on its way any more.
func (o *solo) close() {
	o.turn <- struct{}{}
	defer func() { <-o.turn }()
	if o.pr != nil {
		o.pr.Release()
		o.pr = nil
	}
}
