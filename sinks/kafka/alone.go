package kafka

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/sources/kafka/client"
)

// solo is a producer that sends one record at a time: nobody else's records
// get into its batches. It is made when the first record is refused.
type solo struct {
	mu sync.Mutex // guards pr; held while a record is on its way, or it would not be alone
	pr *client.Producer
}

// sendAlone sends a copy of r in a record batch of its own.
func (s *Sink) sendAlone(r *kgo.Record) error {
	s.solo.mu.Lock()
	defer s.solo.mu.Unlock()
	if s.solo.pr == nil {
		pr, err := client.NewPool().Acquire(s.cfg.Client, client.Profile{Compression: s.cfg.Compression, BatchBytes: s.cfg.BatchBytes})
		if err != nil {
			return err
		}
		s.solo.pr = pr
	}
	again := kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp, Partition: r.Partition}
	if again.Key != nil {
		again.Partition = client.ByKey
	}
	return s.solo.pr.ProduceSync(s.ctx, &again).FirstErr()
}

// close ends the producer; nothing is on its way any more.
func (o *solo) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pr != nil {
		o.pr.Release()
		o.pr = nil
	}
}
