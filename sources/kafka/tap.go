package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/pipeline/record"
	"keystone/sources/kafka/client"
)

// Tap reads a topic without a group: nothing is committed, and nobody else's
// reading changes. It serves tap, sampling and verify.
type Tap struct {
	Client client.Options
	Topic  string
	// Start is earliest, latest or an RFC 3339 time; From overrides it for the
	// partitions that it names.
	Start string
	From  []record.Position
	// Until ends reading before these offsets, in the partitions that it names;
	// not with Follow.
	Until []record.Position
	// Last is how many records before the end to begin at, per partition, in
	// place of Start; 0 for none.
	Last int64
	// Only names the partitions to read; nil for all.
	Only []int32
	// Follow goes on at the end, until ctx ends or f returns an error.
	// Otherwise Read ends where the topic ended when it began.
	Follow        bool
	ReadCommitted bool
}

// ErrStop ends a Tap from its function, without an error.
var ErrStop = errors.New("stop reading")

// Read calls f with batches of one partition each, in order per partition,
// until it is at the end. The batch and its memory are f's only until it returns.
func (t Tap) Read(ctx context.Context, f func(*record.Batch) error) error {
	health := &client.Health{}
	opts, err := t.Client.Kgo(health)
	if err != nil {
		return fmt.Errorf("topic %s: %w", t.Topic, err)
	}
	isolation := kgo.ReadUncommitted()
	if t.ReadCommitted {
		isolation = kgo.ReadCommitted()
	}
	cl, err := kgo.NewClient(append(opts,
		kgo.FetchIsolationLevel(isolation),
		kgo.KeepControlRecords(), // they end a log, too
		kgo.FetchMaxWait(200*time.Millisecond),
		kgo.FetchMaxBytes(16<<20),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{}),
	)...)
	if err != nil {
		return fmt.Errorf("topic %s: %w", t.Topic, err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	id, err := t.identify(ctx, cl)
	var from, until map[int32]int64
	if err == nil {
		from, until, err = t.bounds(ctx, adm)
	}
	if err != nil {
		err = health.Because(err)
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("topic %s does not exist on the cluster at %s: %w", t.Topic, t.Client, err)
		}
		return t.Client.Explain("read topic "+t.Topic, err)
	}
	offsets := map[int32]kgo.Offset{}
	for p, at := range from {
		if t.Follow || at < until[p] {
			offsets[p] = kgo.NewOffset().At(at)
		}
	}
	if len(offsets) == 0 && !t.Follow {
		return nil
	}
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{t.Topic: offsets})
	return t.pump(ctx, cl, id, offsets, until, f)
}

func (t Tap) identify(ctx context.Context, cl *kgo.Client) (string, error) {
	_, got, err := client.OneTopic(ctx, cl, t.Topic)
	return got.ID, err
}

// bounds gives where to begin and where the end is.
func (t Tap) bounds(ctx context.Context, adm *kadm.Client) (from, until map[int32]int64, _ error) {
	s, err := parseStart(t.Start)
	if err != nil {
		return nil, nil, err
	}
	begin, err := listStart(ctx, adm, t.Topic, start{})
	if err != nil {
		return nil, nil, err
	}
	first, err := listStart(ctx, adm, t.Topic, s)
	if err != nil {
		return nil, nil, err
	}
	list := adm.ListEndOffsets
	if t.ReadCommitted {
		list = adm.ListCommittedOffsets
	}
	end, err := list(ctx, t.Topic)
	if err == nil {
		err = end.Error()
	}
	if err != nil {
		return nil, nil, err
	}
	want := map[int32]bool{}
	for _, p := range t.Only {
		want[p] = true
	}
	from, until = map[int32]int64{}, map[int32]int64{}
	for p, o := range first {
		if len(want) > 0 && !want[p] {
			continue
		}
		e, _ := end.Lookup(t.Topic, p)
		from[p], until[p] = o.Offset, e.Offset
		if t.Last > 0 {
			from[p] = max(begin[p].Offset, e.Offset-t.Last)
		}
	}
	for _, p := range t.From {
		if _, ok := from[p.Partition]; ok {
			from[p.Partition] = max(p.Offset, begin[p.Partition].Offset)
		}
	}
	for _, p := range t.Until {
		if end, ok := until[p.Partition]; ok {
			until[p.Partition] = min(p.Offset, end)
		}
	}
	return from, until, nil
}

// pump polls until every partition is at its end.
func (t Tap) pump(ctx context.Context, cl *kgo.Client, id string, open map[int32]kgo.Offset, until map[int32]int64, f func(*record.Batch) error) error {
	b := &record.Batch{}
	for t.Follow || len(open) > 0 {
		poll, stop := context.WithTimeout(ctx, time.Second)
		fs := cl.PollFetches(poll)
		idle := poll.Err() != nil
		stop()
		if err := ctx.Err(); err != nil {
			return err
		}
		if idle && fs.NumRecords() == 0 {
			if err := t.trim(ctx, cl, open, until); err != nil {
				return err
			}
			continue
		}
		for _, fe := range fs.Errors() {
			return t.Client.Explain(fmt.Sprintf("read topic %s partition %d", t.Topic, fe.Partition), fe.Err)
		}
		for it := range partitions(fs) {
			if _, ok := open[it.Partition]; !ok || len(it.Records) == 0 {
				continue
			}
			b.Reset()
			b.Topic, b.Partition = t.Topic, it.Partition
			var last *kgo.Record
			for _, r := range it.Records {
				if !t.Follow && r.Offset >= until[it.Partition] {
					break
				}
				if last = r; !r.Attrs.IsControl() {
					add(b, r)
				}
			}
			end := it.Records[len(it.Records)-1].Offset + 1
			if last != nil && len(b.Records) > 0 {
				b.Next = record.Position{Partition: it.Partition, Offset: last.Offset + 1, LeaderEpoch: last.LeaderEpoch, Identity: id, Name: t.Topic}
				err := f(b)
				if errors.Is(err, ErrStop) {
					return nil
				}
				if err != nil {
					return err
				}
			}
			if !t.Follow && end >= until[it.Partition] {
				delete(open, it.Partition)
				cl.RemoveConsumePartitions(map[string][]int32{t.Topic: {it.Partition}})
			}
		}
	}
	return nil
}

// trim drops the partitions whose records were all removed meanwhile.
func (t Tap) trim(ctx context.Context, cl *kgo.Client, open map[int32]kgo.Offset, until map[int32]int64) error {
	if t.Follow {
		return nil
	}
	begin, err := listStart(ctx, kadm.NewClient(cl), t.Topic, start{})
	if err != nil {
		return t.Client.Explain("read topic "+t.Topic, err)
	}
	for p := range open {
		if b, ok := begin[p]; ok && b.Offset >= until[p] {
			delete(open, p)
		}
	}
	return nil
}

// partitions goes through the partitions of fetches.
func partitions(fs kgo.Fetches) func(yield func(*kgo.FetchPartition) bool) {
	return func(yield func(*kgo.FetchPartition) bool) {
		for i := range fs {
			for j := range fs[i].Topics {
				for k := range fs[i].Topics[j].Partitions {
					if !yield(&fs[i].Topics[j].Partitions[k]) {
						return
					}
				}
			}
		}
	}
}
