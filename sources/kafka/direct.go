package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/pipeline/record"
	"keystone/sources"
	"keystone/sources/kafka/admin"
	"keystone/sources/kafka/client"
)

// Direct reads every partition of a topic without being a member of a group: who opens it
// says where each partition begins and keeps the positions, as a job does in its state.
// Config.Group is where Commit shows them, for people and for tools that watch lag; "" shows
// them nowhere. Instance, Dead, Stay, Protocol and the timeouts of groups have no meaning.
type Direct struct {
	s *Source
}

// NewDirect makes the source; it does no I/O.
func (c Config) NewDirect(d sources.Deps) (*Direct, error) {
	named := c
	if named.Group == "" {
		named.Group = "-" // it is never joined
	}
	if err := named.Check().Err(); err != nil {
		return nil, err
	}
	c.Instance, c.Dead, c.Stay = "", nil, nil
	return &Direct{s: c.source(d)}, nil
}

// lookEvery is how often a Direct looks for partitions that were added.
const lookEvery = time.Minute

// Open begins reading: partitions that from names at their positions; others as Config.Start says where
// from is empty, else at their beginning, since they were added later.
func (d *Direct) Open(ctx context.Context, from []record.Position, l sources.Listener) error {
	s := d.s
	s.listener = l
	var err error
	if s.start, err = parseStart(s.cfg.Start); err != nil {
		return sources.Fatal{Err: err}
	}
	if err := s.connect(ctx, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{})); err != nil {
		return err
	}
	begin, err := s.startOffsets(ctx, from)
	if err != nil {
		return err
	}
	poll, stop := context.WithCancel(context.Background())
	s.stop, s.life = stop, poll
	if err := d.read(ctx, begin); err != nil {
		return err
	}
	s.poller.Go(func() { s.poll(poll) })
	s.poller.Go(func() { d.look(poll) })
	return nil
}

// read opens lanes for partitions and has them fetched.
func (d *Direct) read(ctx context.Context, begin map[int32]kadm.ListedOffset) error {
	s := d.s
	ends, err := s.adm.ListEndOffsets(ctx, s.cfg.Topic)
	if err != nil {
		return s.explain("list the offsets of topic "+s.cfg.Topic, err)
	}
	parts := make(map[int32]kgo.Offset, len(begin))
	for p, o := range begin {
		if o.Err != nil {
			return s.explain(fmt.Sprintf("list the offsets of topic %s partition %d", s.cfg.Topic, p), o.Err)
		}
		parts[p] = kgo.NewOffset().At(o.Offset)
	}
	s.assign(parts, ends[s.cfg.Topic]) // before anything is fetched
	s.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{s.cfg.Topic: parts})
	return nil
}

// look adds partitions that the topic got, from their beginning.
func (d *Direct) look(ctx context.Context) {
	s := d.s
	for sleep(ctx, lookEvery) == nil {
		_, t, err := client.OneTopic(ctx, s.cl, s.cfg.Topic)
		if err != nil || t.ID != s.topicID {
			continue // fetches tell of it
		}
		first, err := listStart(ctx, s.adm, s.cfg.Topic, start{})
		if err != nil {
			continue
		}
		s.mu.Lock()
		maps.DeleteFunc(first, func(p int32, _ kadm.ListedOffset) bool { return s.lanes[p] != nil })
		s.mu.Unlock()
		if len(first) == 0 {
			continue
		}
		if err := d.read(ctx, first); err != nil {
			s.report(err)
		}
	}
}

// Read fills b; see sources.Source.
func (d *Direct) Read(ctx context.Context, b *record.Batch) error { return d.s.Read(ctx, b) }

// Commit shows positions in the group, if one is named. They count for nothing: an error does no harm.
func (d *Direct) Commit(ctx context.Context, done []record.Position) error {
	s := d.s
	if s.cfg.Group == "" || len(done) == 0 {
		return nil
	}
	var offsets kadm.Offsets
	for _, p := range done {
		offsets.Add(kadm.Offset{Topic: s.cfg.Topic, Partition: p.Partition, At: p.Offset, LeaderEpoch: -1, Metadata: admin.Meta{Topic: s.topicID, Cluster: s.clusterID}.String()})
	}
	resp, err := s.adm.CommitOffsets(ctx, s.cfg.Group, offsets)
	if err == nil {
		err = resp.Error()
	}
	if err != nil {
		return s.explain("show the offsets of group "+s.cfg.Group, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range done {
		if l := s.lanes[p.Partition]; l != nil {
			l.committed = max(l.committed, p.Offset)
		}
	}
	return nil
}

// Pause stops handing out records of the partitions.
func (d *Direct) Pause(parts []int32) { d.s.Pause(parts) }

// Resume ends Pause.
func (d *Direct) Resume(parts []int32) { d.s.Resume(parts) }

// Ends gives the next offset to be written per partition, as the last fetch saw it.
func (d *Direct) Ends() map[int32]int64 { return d.s.Ends() }

// Partitions gives what is read, in order.
func (d *Direct) Partitions() []int32 {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	return slices.Sorted(maps.Keys(d.s.lanes))
}

// Close frees everything, also after a failed Open.
func (d *Direct) Close(ctx context.Context) error {
	s := d.s
	if s.cl == nil {
		return nil
	}
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	if was {
		return nil
	}
	if s.stop != nil {
		s.stop()
		s.poller.Wait()
	}
	s.cl.CloseAllowingRebalance()
	if err := ctx.Err(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

var (
	_ sources.Source = (*Direct)(nil)
	_ sources.Lagger = (*Direct)(nil)
)
