package client

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Profile is how a producer sends. Routes of one cluster with equal profiles
// share a producer.
type Profile struct {
	Compression string // zstd, lz4, snappy, gzip, none
	Linger      time.Duration
	BatchBytes  int32 // largest record batch; the topic's max.message.bytes allows at least this
}

// Compressions lists what Profile.Compression may be.
func Compressions() []string { return []string{"zstd", "lz4", "snappy", "gzip", "none"} }

// Pool shares producers among the routes of a process: connections, buffers
// and goroutines are per cluster and profile, not per route, so that a
// thousand idle routes are cheap.
//
// One slow topic must not hold up another route's. The library's own limits
// on buffered records are per client and block every caller, so they are
// lifted here, and each sink bounds what it has in flight by itself. Inside
// the client each partition has its own queue; a partition that fails waits
// for its own retry while the others go on.
type Pool struct {
	mu        sync.Mutex // guards producers
	producers map[string]*Producer
}

// NewPool makes an empty pool.
func NewPool() *Pool { return &Pool{producers: map[string]*Producer{}} }

// ByKey in Record.Partition asks for the partition that Kafka's own clients
// give the record's key (murmur2).
const ByKey = -1

// Producer is a shared client that writes. Record.Partition says where: a
// number from 0 is taken modulo the topic's partitions, ByKey hashes the key.
type Producer struct {
	*kgo.Client
	Health  *Health
	Options Options

	pool *Pool
	key  string
	refs int // guarded by pool.mu
}

// Acquire gives the producer for o and p, making it if there is none yet.
// The caller must Release it. It does no I/O.
func (l *Pool) Acquire(o Options, p Profile) (*Producer, error) {
	key := fmt.Sprintf("%s/%s/%s/%d", o.key(), p.Compression, p.Linger, p.BatchBytes)
	l.mu.Lock()
	defer l.mu.Unlock()
	if pr := l.producers[key]; pr != nil {
		pr.refs++
		return pr, nil
	}
	pr, err := NewProducer(o, p)
	if err != nil {
		return nil, err
	}
	pr.pool, pr.key, pr.refs = l, key, 1
	l.producers[key] = pr
	return pr, nil
}

// NewProducer makes a producer that nobody shares; Close ends it. more are
// options of the library beside those of every producer. It does no I/O.
func NewProducer(o Options, p Profile, more ...kgo.Opt) (*Producer, error) {
	pr := &Producer{Health: &Health{}, Options: o}
	opts, err := o.Kgo(pr.Health)
	if err != nil {
		return nil, err
	}
	codec, err := compression(p.Compression)
	if err != nil {
		return nil, err
	}
	if p.BatchBytes <= 0 {
		p.BatchBytes = DefaultBatchBytes
	}
	opts = append(opts,
		kgo.RecordPartitioner(kgo.BasicConsistentPartitioner(partitioner)),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(codec...),
		kgo.ProducerLinger(p.Linger),
		kgo.ProducerBatchMaxBytes(p.BatchBytes),
		kgo.MaxBufferedRecords(math.MaxInt32),
		kgo.ProduceRequestTimeout(30*time.Second),
	)
	if pr.Client, err = kgo.NewClient(append(opts, more...)...); err != nil {
		return nil, err
	}
	return pr, nil
}

// DefaultBatchBytes is what brokers take unless told otherwise.
const DefaultBatchBytes = 1_000_012

// Release gives the producer back. The last one to do so closes it; records
// that are still buffered then fail with kgo.ErrClientClosed.
func (p *Producer) Release() {
	if p.pool == nil {
		p.Close()
		return
	}
	p.pool.mu.Lock()
	p.refs--
	last := p.refs == 0
	if last {
		delete(p.pool.producers, p.key)
	}
	p.pool.mu.Unlock()
	if last {
		p.Close()
	}
}

// Len tells how many producers there are.
func (l *Pool) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.producers)
}

func partitioner(topic string) func(*kgo.Record, int) int {
	byKey := kgo.StickyKeyPartitioner(nil).ForTopic(topic)
	return func(r *kgo.Record, n int) int {
		if r.Partition < 0 {
			return byKey.Partition(r, n)
		}
		return int(r.Partition) % n
	}
}

func compression(name string) ([]kgo.CompressionCodec, error) {
	switch name {
	case "zstd":
		return []kgo.CompressionCodec{kgo.ZstdCompression(), kgo.SnappyCompression(), kgo.NoCompression()}, nil // zstd needs Kafka 2.1
	case "lz4":
		return []kgo.CompressionCodec{kgo.Lz4Compression()}, nil
	case "snappy":
		return []kgo.CompressionCodec{kgo.SnappyCompression()}, nil
	case "gzip":
		return []kgo.CompressionCodec{kgo.GzipCompression()}, nil
	case "none", "":
		return []kgo.CompressionCodec{kgo.NoCompression()}, nil
	}
	return nil, fmt.Errorf("there is no compression %q; use zstd, lz4, snappy, gzip or none", name)
}
