package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"keystone/pipeline/record"
	"keystone/sinks"
	"keystone/sources/kafka/client"
)

// Transaction is the producer of one worker that writes exactly once: what its
// sinks write between two Commits is in one transaction of Kafka.
//
// The id names the worker and nobody else that lives: who takes a producer
// with it ends what an earlier one left open, and has the brokers refuse what is still on
// its way from there (fencing).
//
// The library begins a new transaction in silence where a producer has to be
// renewed, which drops what was in the old one; it does so after any failure
// of a record. A commit after that would store positions of records that are gone. A renewed producer has
// another epoch, so a commit compares: it is refused unless the producer is the one
// that the first record was written with.
type Transaction struct {
	cfg TransactionConfig

	current atomic.Pointer[client.Producer]
	wrote   atomic.Bool // a record of this transaction was acknowledged

	mu     token         // guards what follows; held over requests, of one caller at a time
	bound  time.Duration // after which the brokers end a transaction
	had    time.Duration // the bound that the producer was made with
	ready  bool          // the producer may be used
	open   bool          // a transaction has begun
	id     int64         // of the producer, when it began
	epoch  int16
	capped bool             // the brokers add groups to transactions by request, as before KIP-890
	asked  bool             // capped is known
	bytes  map[string]int32 // largest batch by topic
	bmu    sync.Mutex       // guards bytes
}

// TransactionConfig says whose transactions they are.
type TransactionConfig struct {
	Client      client.Options
	ID          string   // transactional id
	Others      []string // of workers that are no more: what they left open is ended by Open
	Compression string
	Linger      time.Duration
}

// NewTransaction makes it; it does no I/O.
func NewTransaction(c TransactionConfig) *Transaction {
	return &Transaction{cfg: c, bytes: map[string]int32{}, mu: make(token, 1)}
}

// allow says how large a batch a topic takes.
func (t *Transaction) allow(topic string, batchBytes int32) {
	t.bmu.Lock()
	defer t.bmu.Unlock()
	if batchBytes <= 0 {
		batchBytes = client.DefaultBatchBytes
	}
	t.bytes[topic] = batchBytes
}

func (t *Transaction) largest(topic string) int32 {
	t.bmu.Lock()
	defer t.bmu.Unlock()
	if n := t.bytes[topic]; n > 0 {
		return n
	}
	return client.DefaultBatchBytes
}

// producer gives the producer, making it if there is none yet. It does no I/O.
func (t *Transaction) producer() (*client.Producer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if pr := t.current.Load(); pr != nil {
		return pr, nil
	}
	pr, err := t.newProducer(t.cfg.ID)
	if err == nil {
		t.current.Store(pr)
		t.had = t.bound
	}
	return pr, err
}

// newProducer is called with mu held.
func (t *Transaction) newProducer(id string) (*client.Producer, error) {
	if t.bound <= 0 {
		t.bound = time.Minute
	}
	versions := kversion.Stable()
	offsets := int16(5) // later ones name topics by their ids
	if t.capped {
		offsets = 4
	}
	versions.SetMaxKeyVersion(kmsg.TxnOffsetCommit.Int16(), offsets)
	return client.NewProducer(t.cfg.Client, client.Profile{Compression: t.cfg.Compression, Linger: t.cfg.Linger},
		kgo.TransactionalID(id), kgo.TransactionTimeout(t.bound), kgo.ProducerBatchMaxBytesFn(t.largest), kgo.MaxVersions(versions))
}

// start takes the producer's id, which ends what was left open under it.
func (t *Transaction) start(ctx context.Context) error {
	if !t.asked {
		capped, err := t.old(ctx)
		if err != nil {
			return err
		}
		t.asked = true
		if t.capped = capped; capped {
			t.current.Load().Close()
			pr, err := t.newProducer(t.cfg.ID)
			if err != nil {
				return err
			}
			t.current.Store(pr)
			t.had = t.bound
		}
	}
	if _, _, err := t.current.Load().ProducerID(ctx); err != nil {
		return err
	}
	t.ready = true
	return nil
}

// old tells whether the cluster runs transactions as before KIP-890: it is
// what the cluster has agreed on that counts, not what a broker could do.
func (t *Transaction) old(ctx context.Context) (bool, error) {
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, t.current.Load().Client)
	if err != nil {
		return false, err
	}
	for _, f := range resp.FinalizedFeatures {
		if f.Name == "transaction.version" {
			return f.MaxVersionLevel < 2, nil
		}
	}
	return true, nil
}

// openAll takes the id, and ends what others left open.
func (t *Transaction) openAll(ctx context.Context) error {
	if _, err := t.producer(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.start(ctx); err != nil {
		return err
	}
	for _, id := range t.cfg.Others {
		pr, err := t.newProducer(id)
		if err != nil {
			return err
		}
		_, _, err = pr.ProducerID(ctx)
		pr.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// errAborted is a write where the transaction has to be aborted first.
var errAborted = errors.New("the transaction was aborted")

// errInnocent is a record that shared a batch with one that was refused.
var errInnocent = errors.New("the record shared a batch with one that was refused")

// join gives the producer within a transaction, which begins if there is none.
func (t *Transaction) join(ctx context.Context) (*client.Producer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ready {
		return nil, errAborted
	}
	pr := t.current.Load()
	if t.open {
		return pr, nil
	}
	if err := pr.BeginTransaction(); err != nil {
		return nil, err
	}
	t.open = true
	t.wrote.Store(false)
	var err error
	t.id, t.epoch, err = pr.ProducerID(ctx)
	return pr, err
}

// commit ends the transaction with at in it. See sinks.Transactional.
func (t *Transaction) commit(ctx context.Context, at record.GroupOffsets) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ready || !t.open {
		return errAborted
	}
	pr := t.current.Load()
	id, epoch, err := pr.ProducerID(ctx)
	if err != nil {
		return err
	}
	if id != t.id || epoch != t.epoch {
		return fmt.Errorf("the producer was renewed after a failure, and what it had written is gone: %w", errAborted)
	}
	if !t.wrote.Load() {
		if err := pr.EndTransaction(ctx, kgo.TryAbort); err != nil {
			return err
		}
		t.open = false
		return sinks.ErrNothingWritten
	}
	if t.capped {
		if err := t.addGroup(ctx, pr, at.Group); err != nil {
			return fmt.Errorf("add group %s to the transaction: %w", at.Group, err)
		}
	}
	if err := t.storeOffsets(ctx, pr, at); err != nil {
		return fmt.Errorf("store offsets of group %s in the transaction: %w", at.Group, err)
	}
	if err := pr.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("end the transaction: %w", err)
	}
	t.open = false
	if t.bound != t.had {
		// The bound is the producer's. Should this fail, the next write says so, and the abort makes another.
		_ = t.renew(ctx)
	}
	return nil
}

// addGroup has the offsets of a group be part of the transaction.
func (t *Transaction) addGroup(ctx context.Context, pr *client.Producer, group string) error {
	return whileBusy(ctx, func() error {
		req := kmsg.NewPtrAddOffsetsToTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = t.cfg.ID, t.id, t.epoch, group
		resp, err := req.RequestWith(ctx, pr.Client)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	})
}

func (t *Transaction) storeOffsets(ctx context.Context, pr *client.Producer, at record.GroupOffsets) error {
	return whileBusy(ctx, func() error {
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch = t.cfg.ID, t.id, t.epoch
		req.Group, req.MemberID, req.Generation = at.Group, at.Member, at.Generation
		if at.Instance != "" {
			req.InstanceID = &at.Instance
		}
		topic := kmsg.NewTxnOffsetCommitRequestTopic()
		topic.Topic = at.Topic
		for i := range at.Offsets {
			o := &at.Offsets[i]
			p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = o.Partition, o.Offset, o.LeaderEpoch, &o.Metadata
			topic.Partitions = append(topic.Partitions, p)
		}
		req.Topics = append(req.Topics, topic)
		resp, err := req.RequestWith(ctx, pr.Client)
		if err != nil {
			return err
		}
		for _, topic := range resp.Topics {
			for _, p := range topic.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return fmt.Errorf("partition %d: %w", p.Partition, err)
				}
			}
		}
		return nil
	})
}

// whileBusy repeats a request that the brokers put off until they have
// finished the transaction before, or have found the coordinator.
func whileBusy(ctx context.Context, f func() error) error {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		err := f()
		if !errors.Is(err, kerr.ConcurrentTransactions) && !errors.Is(err, kerr.CoordinatorLoadInProgress) &&
			!errors.Is(err, kerr.CoordinatorNotAvailable) && !errors.Is(err, kerr.NotCoordinator) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// abort ends what is open by taking a new producer with the same id: that has the coordinator
// end the transaction of the old one, also one that a commit left undecided, and
// the brokers refuse what may still be on its way from it.
func (t *Transaction) abort(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.renew(ctx)
}

func (t *Transaction) renew(ctx context.Context) error {
	t.ready, t.open = false, false
	t.current.Load().Close() // what is not answered fails
	pr, err := t.newProducer(t.cfg.ID)
	if err != nil {
		return err
	}
	t.current.Store(pr)
	t.had = t.bound
	return t.start(ctx)
}

// probe finds out whether the brokers refuse a record by itself, in a
// transaction that is always aborted.
func (t *Transaction) probe(ctx context.Context, r *kgo.Record, batchBytes int32) error {
	t.allow(r.Topic, batchBytes)
	t.mu.Lock()
	pr, err := t.newProducer(t.cfg.ID + ".probe")
	t.mu.Unlock()
	if err != nil {
		return err
	}
	defer pr.Close()
	ctx, cancel := context.WithTimeout(ctx, deliveryTimeout)
	defer cancel()
	if err := pr.BeginTransaction(); err != nil {
		return err
	}
	err = pr.ProduceSync(ctx, likeNew(r)).FirstErr()
	if ended := pr.EndTransaction(ctx, kgo.TryAbort); err == nil {
		err = ended
	}
	return err
}

// close ends what is open, so that readers need not wait for its time-out.
func (t *Transaction) close(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	pr := t.current.Load()
	if pr == nil {
		return
	}
	if t.open && t.ready {
		if err := pr.AbortBufferedRecords(ctx); err == nil {
			_ = pr.EndTransaction(ctx, kgo.TryAbort) // the next one with the id, or its time-out, ends it else
		}
	}
	t.ready, t.open = false, false
	pr.Close()
}

// transactional is a Sink that owns its Transaction.
type transactional struct{ *Sink }

// Open takes the transactional id and checks the topic.
func (s transactional) Open(ctx context.Context) error {
	t := s.cfg.Transaction
	s.cfg.Transaction.allow(s.cfg.Topic, s.cfg.BatchBytes)
	within, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := t.openAll(within); err != nil {
		if pr := t.current.Load(); pr == nil {
			return sinks.Permanent{Err: fmt.Errorf("topic %s: %w", s.cfg.Topic, err)}
		}
		if errors.Is(err, kerr.InvalidTransactionTimeout) {
			return sinks.Permanent{Err: fmt.Errorf("the brokers refuse transactions of %v: shorten delivery.commit_interval or delivery.drain_timeout, or raise transaction.max.timeout.ms there: %w", t.bound, err)}
		}
		return s.explain("take transactional id "+t.cfg.ID+" for", err)
	}
	return s.Sink.Open(ctx)
}

const openTimeout = 30 * time.Second

// Bound sets the time-out of transactions.
func (s transactional) Bound(d time.Duration) {
	s.cfg.Transaction.mu.Lock()
	defer s.cfg.Transaction.mu.Unlock()
	s.cfg.Transaction.bound = d
}

// Commit ends the transaction.
func (s transactional) Commit(ctx context.Context, at record.GroupOffsets) error {
	err := s.cfg.Transaction.commit(ctx, at)
	if err == nil || errors.Is(err, sinks.ErrNothingWritten) {
		return err
	}
	return s.explainEnd(err)
}

// Abort ends whatever is open.
func (s transactional) Abort(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := s.cfg.Transaction.abort(ctx); err != nil {
		return s.explainEnd(err)
	}
	return nil
}

func (s transactional) explainEnd(err error) error {
	switch {
	case errors.Is(err, errAborted):
		return err
	case errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.InvalidProducerEpoch):
		return fmt.Errorf("the transaction was ended by somebody else: it was open for longer than %v, or another process uses transactional id %s: %w", s.cfg.Transaction.bound, s.cfg.Transaction.cfg.ID, err)
	case errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.FencedInstanceID), errors.Is(err, kerr.StaleMemberEpoch):
		return fmt.Errorf("the group changed hands meanwhile: %w", err)
	}
	return s.explain("commit to", err)
}

// Close ends the transaction that is open, if one is, with nothing of it.
func (s transactional) Close(ctx context.Context) error {
	err := s.Sink.Close(ctx)
	s.cfg.Transaction.close(ctx)
	return err
}

var _ sinks.Transactional = transactional{}

// token is a lock that is held while brokers are asked: who waits for it only waits.
type token chan struct{}

func (t token) Lock()   { t <- struct{}{} }
func (t token) Unlock() { <-t }
