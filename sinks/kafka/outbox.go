package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/pipeline/record"
	"keystone/sinks"
	source "keystone/sources/kafka"
	"keystone/sources/kafka/admin"
	"keystone/sources/kafka/client"
)

// OutboxConfig says what an Outbox writes to.
type OutboxConfig struct {
	Client client.Options
	// ID is the transactional id: of the job on this cluster, for ever, and nobody else's.
	ID string
	// Markers is a topic of the job for its markers. It is made, compacted and with one partition, if it is missing.
	Markers     string
	Replication int // of Markers; 0: the cluster's default
	Topics      []OutboxTopic
	Compression string
	Timeout     time.Duration // after which the brokers end a transaction; 0: a minute
}

// OutboxTopic is a topic that rows go to.
type OutboxTopic struct {
	Name       string
	BatchBytes int32 // largest record batch: the topic's max.message.bytes; 0: Kafka's default
}

// Outbox writes the parts of a job's output to the topics of one cluster: a transaction holds the rows of a part and its
// marker. Who takes the transactional id ends what an earlier process left open, and the brokers refuse what may
// still be on its way from there. The marker is read as committed, behind that.
type Outbox struct {
	cfg     OutboxConfig
	pr      *client.Producer
	id      int64 // of the producer since Recover
	epoch   int16
	made    bool // Markers exists
	batches map[string]int32
}

// NewOutbox makes it; it does no I/O.
func NewOutbox(c OutboxConfig) (*Outbox, error) {
	if c.ID == "" || c.Markers == "" || len(c.Topics) == 0 {
		return nil, errors.New("an outbox needs a transactional id, a topic for its markers and one for rows")
	}
	if c.Timeout <= 0 {
		c.Timeout = time.Minute
	}
	o := &Outbox{cfg: c, batches: map[string]int32{}}
	for _, t := range c.Topics {
		if t.BatchBytes > 0 {
			o.batches[t.Name] = t.BatchBytes
		}
	}
	return o, nil
}

// Recover takes the transactional id and reads the last marker.
func (o *Outbox) Recover(ctx context.Context) (sinks.Marker, error) {
	if o.pr != nil {
		o.pr.Close() // what is not answered fails, and a transaction that is open is ended by the next producer
		o.pr = nil
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := o.ensure(ctx); err != nil {
		return sinks.Marker{}, err
	}
	pr, err := client.NewProducer(o.cfg.Client, client.Profile{Compression: o.cfg.Compression},
		kgo.TransactionalID(o.cfg.ID), kgo.TransactionTimeout(o.cfg.Timeout),
		kgo.ProducerBatchMaxBytesFn(func(topic string) int32 {
			if n := o.batches[topic]; n > 0 {
				return n
			}
			return client.DefaultBatchBytes
		}))
	if err != nil {
		return sinks.Marker{}, sinks.Permanent{Err: err}
	}
	if o.id, o.epoch, err = pr.ProducerID(ctx); err != nil {
		pr.Close()
		return sinks.Marker{}, o.explain("take transactional id "+o.cfg.ID, pr.Health.Because(err))
	}
	o.pr = pr
	return o.read(ctx)
}

// ensure makes the topic of the markers.
func (o *Outbox) ensure(ctx context.Context) error {
	if o.made {
		return nil
	}
	a, err := admin.New(o.cfg.Client)
	if err != nil {
		return sinks.Permanent{Err: err}
	}
	defer a.Close()
	got, err := a.Ensure(ctx, admin.StreamSpec{Topic: o.cfg.Markers, Partitions: 1, Replication: o.cfg.Replication, Config: map[string]string{
		"cleanup.policy": "compact",
		"segment.bytes":  "1048576", // a segment that is written to is not compacted, and all of it may have to be read
	}})
	if err == nil {
		err = got[o.cfg.Markers].Err
	}
	if err != nil {
		return fmt.Errorf("make topic %s: %w", o.cfg.Markers, err)
	}
	o.made = true
	return nil
}

// near is how far from its end the topic is looked at first: a transaction is two records there, with its end.
const near = 64

// read gives the last marker that is committed.
func (o *Outbox) read(ctx context.Context) (m sinks.Marker, err error) {
	for _, last := range []int64{near, 0} {
		found := false
		tap := source.Tap{Client: o.cfg.Client, Topic: o.cfg.Markers, ReadCommitted: true, Last: last}
		err = tap.Read(ctx, func(b *record.Batch) error {
			for i := range b.Records {
				if r := &b.Records[i]; string(r.Key) == o.cfg.ID {
					found = true
					if err := json.Unmarshal(r.Value, &m); err != nil {
						return sinks.Permanent{Err: fmt.Errorf("topic %s: the marker at offset %d cannot be read: %w", o.cfg.Markers, r.Offset, err)}
					}
				}
			}
			return nil
		})
		if err != nil || found {
			return m, err
		}
	}
	return m, nil
}

// Publish writes a part in a transaction of its own.
func (o *Outbox) Publish(ctx context.Context, m sinks.Marker, rows []record.Record) error {
	if o.pr == nil {
		return errAborted
	}
	if err := o.pr.BeginTransaction(); err != nil {
		return o.explain("begin a transaction on", err)
	}
	marker, err := json.Marshal(m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.cfg.Timeout)
	defer cancel()
	var mu sync.Mutex
	var failed error
	promise := func(r *kgo.Record, err error) {
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			if failed == nil || rejected(err) != "" {
				failed = fmt.Errorf("topic %s: %w", r.Topic, err)
			}
		}
	}
	slab := make([]kgo.Record, len(rows)+1)
	for i := range rows {
		o.fill(&slab[i], &rows[i], m)
		o.pr.Produce(ctx, &slab[i], promise)
	}
	slab[len(rows)] = kgo.Record{Topic: o.cfg.Markers, Key: []byte(o.cfg.ID), Value: marker, Partition: 0}
	o.pr.Produce(ctx, &slab[len(rows)], promise)
	err = o.pr.Flush(ctx)
	mu.Lock()
	if failed != nil {
		err = failed
	}
	mu.Unlock()
	if err != nil {
		return o.explain("write to", err)
	}
	id, epoch, err := o.pr.ProducerID(ctx)
	if err == nil && (id != o.id || epoch < o.epoch) {
		// The library renews a producer in silence, and what the old one wrote is gone.
		return errAborted
	}
	if err == nil {
		err = o.pr.EndTransaction(ctx, kgo.TryCommit)
	}
	if err != nil {
		return o.explain("end the transaction on", err)
	}
	o.id, o.epoch, err = o.pr.ProducerID(ctx) // newer brokers give each transaction an epoch
	return err
}

// fill makes the library's record of a row. One without a key has no order with others; rows of a part stay together.
func (o *Outbox) fill(k *kgo.Record, r *record.Record, m sinks.Marker) {
	k.Topic, k.Key, k.Value, k.Partition = o.cfg.Topics[r.Source].Name, r.Key, r.Value, client.ByKey
	if r.Key == nil {
		k.Partition = int32(m.Epoch & 0x7fffffff)
	}
	if r.Timestamp > 0 {
		k.Timestamp = time.UnixMilli(r.Timestamp)
	}
	for _, h := range r.Headers {
		k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
}

// explain says what failed, and whether trying again is of use.
func (o *Outbox) explain(what string, err error) error {
	why := o.cfg.Client.Explain(what, err)
	switch {
	case errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.InvalidProducerEpoch):
		// Also a transaction that the brokers ended because it took too long: Recover finds out whether the id is still ours to take.
		return fmt.Errorf("somebody else took transactional id %s, or the transaction was open for longer than %v: %w", o.cfg.ID, o.cfg.Timeout, err)
	case errors.Is(err, kerr.InvalidTransactionTimeout):
		return sinks.Permanent{Err: fmt.Errorf("the brokers refuse transactions of %v: raise transaction.max.timeout.ms there: %w", o.cfg.Timeout, err)}
	case rejected(err) != "", client.Refused(err), errors.Is(err, kerr.InvalidTopicException):
		return sinks.Permanent{Err: why}
	}
	return why
}

// Close ends it. A transaction that is open is ended without effect.
func (o *Outbox) Close(ctx context.Context) error {
	if o.pr == nil {
		return nil
	}
	err := o.pr.AbortBufferedRecords(ctx)
	if err == nil {
		_ = o.pr.EndTransaction(ctx, kgo.TryAbort) // the next one with the id, or its time-out, ends it else
	}
	o.pr.Close()
	o.pr = nil
	return err
}

var _ sinks.Outbox = (*Outbox)(nil)
