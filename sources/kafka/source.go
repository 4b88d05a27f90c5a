package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"keystone/pipeline/record"
	"keystone/sources"
	"keystone/sources/kafka/client"
)

// Source is a member of a consumer group. See the package comment.
type Source struct {
	cfg   Config
	log   *slog.Logger
	start start

	cl        *kgo.Client
	adm       *kadm.Client
	health    client.Health
	topicID   string
	clusterID string
	listener  sources.Listener
	stop      context.CancelFunc // ends the poller
	life      context.Context    // the poller's
	poller    sync.WaitGroup

	ready  chan struct{} // the poller filed something
	hungry chan struct{} // Read took the last of it
	calls  chan struct{} // token: who holds it may call the listener
	turn   chan struct{} // token: who holds it may commit
	joined chan struct{} // closed when the group has us
	join   sync.Once     // closes joined
	linger *time.Timer   // of Read

	mu      sync.Mutex // guards everything below
	lanes   map[int32]*lane
	order   []*lane          // lanes with something to hand out, the next first
	waiting int64            // bytes in the queues of all lanes
	rewinds map[int32]string // id of the last rewind, as the group had it when the partition was assigned
	member  string           // the id by which the group last shared its partitions out to us: what was ours then is ours by it
	fatal   error            // no Read after this
	problem error            // given to the next Read that has nothing else
	usurped error            // given to every Read until partitions are assigned again: another process has our place
	closed  bool

	again      *again             // a Rewind that waits for the poller
	cancelPoll context.CancelFunc // ends the fetch that is waited for
}

// Open joins the group. from is where the route was by its own account: it
// counts only for a group that has no offsets, be it that they expired.
func (s *Source) Open(ctx context.Context, from []record.Position, l sources.Listener) error {
	s.listener = l
	var err error
	if s.start, err = parseStart(s.cfg.Start); err != nil {
		return sources.Fatal{Err: err}
	}
	if err := s.connect(ctx, s.inGroup()...); err != nil {
		return err
	}
	if err := s.resolveStart(ctx, from); err != nil {
		return err
	}
	if err := s.takePlace(ctx); err != nil {
		return err
	}
	poll, stop := context.WithCancel(context.Background())
	s.stop, s.life = stop, poll
	s.cl.AddConsumeTopics(s.cfg.Topic) // the library joins the group from here on
	s.poller.Go(func() { s.poll(poll) })
	return nil
}

// inGroup gives the options of a member of the group.
func (s *Source) inGroup() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.ConsumerGroup(s.cfg.Group),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.DisableAutoCommit(),
		kgo.SessionTimeout(s.cfg.SessionTimeout),
		kgo.RebalanceTimeout(s.cfg.RebalanceTimeout),
		kgo.HeartbeatInterval(min(3*time.Second, s.cfg.SessionTimeout/3)),
		// Partitions change hands only while no fetch is between the library
		// and the lanes: see poll.
		kgo.BlockRebalanceOnPoll(),
		kgo.AdjustFetchOffsetsFn(s.adjust),
		kgo.OnOffsetsFetched(s.fetched),
		kgo.OnPartitionsAssigned(s.assigned),
		kgo.OnPartitionsRevoked(s.revoked),
		kgo.OnPartitionsLost(s.lost),
	}
	opts = append(opts, s.membership()...)
	if s.cfg.Protocol == Consumer {
		opts = append(opts, kgo.ServerSideBalancer())
	}
	return opts
}

// connect makes the client, by options that say how it reads, and looks at the topic.
func (s *Source) connect(ctx context.Context, reads ...kgo.Opt) error {
	opts, err := s.cfg.Client.Kgo(&s.health)
	if err != nil {
		return sources.Fatal{Err: fmt.Errorf("topic %s: %w", s.cfg.Topic, err)}
	}
	isolation := kgo.ReadUncommitted()
	if s.cfg.ReadCommitted {
		isolation = kgo.ReadCommitted()
	}
	opts = append(opts, reads...)
	opts = append(opts,
		kgo.FetchIsolationLevel(isolation),
		kgo.FetchMaxBytes(s.cfg.FetchBytes),
		kgo.FetchMaxPartitionBytes(min(s.cfg.FetchBytes, 4<<20)),
		kgo.FetchMaxWait(s.cfg.FetchWait),
		kgo.BrokerMaxReadBytes(max(100<<20, s.cfg.FetchBytes+1<<20)),
		// Nobody jumps over records but we, who report it.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), // see adjust
		// Control records carry the position past transactions that end a log.
		kgo.KeepControlRecords(),
		// The library hides that a topic has vanished.
		kgo.KeepRetryableFetchErrors(),
	)
	if s.cl, err = kgo.NewClient(opts...); err != nil {
		return sources.Fatal{Err: fmt.Errorf("topic %s: %w", s.cfg.Topic, err)}
	}
	s.adm = kadm.NewClient(s.cl)
	id, cluster, err := s.identify(ctx)
	if err != nil {
		return err
	}
	s.topicID, s.clusterID = id, cluster
	return nil
}

// identify asks for the ids of the topic and its cluster.
func (s *Source) identify(ctx context.Context) (topic, cluster string, _ error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	cluster, t, err := client.OneTopic(ctx, s.cl, s.cfg.Topic)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return "", "", s.missing(err)
	}
	if err != nil {
		return "", "", s.explain("open topic "+s.cfg.Topic, err)
	}
	return t.ID, cluster, nil
}

// missing is temporary: the topic may be on its way.
func (s *Source) missing(err error) error {
	return fmt.Errorf("topic %s does not exist on the cluster at %s: %w", s.cfg.Topic, s.cfg.Client, err)
}

// explain words an error and says by its type whether trying again helps.
func (s *Source) explain(what string, err error) error {
	err = s.health.Because(err)
	out := s.cfg.Client.Explain(what, err)
	if client.Refused(err) || errors.Is(err, kerr.InvalidTopicException) || errors.Is(err, kerr.InvalidGroupID) {
		return sources.Fatal{Err: out}
	}
	return out
}

// ClusterID is the id of the cluster, known after Open.
func (s *Source) ClusterID() string { return s.clusterID }

// TopicID is the identity that positions carry, known after Open.
func (s *Source) TopicID() string { return s.topicID }

// Ends gives the next offset to be written per assigned partition, as the
// last fetch saw it.
func (s *Source) Ends() map[int32]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[int32]int64, len(s.lanes))
	for p, l := range s.lanes {
		out[p] = l.end
	}
	return out
}

// Joined is closed when the group has taken us in.
func (s *Source) Joined() <-chan struct{} { return s.joined }

// assigned is called by the library whenever the group has shared its
// partitions out, also when none of them came to us.
func (s *Source) assigned(_ context.Context, cl *kgo.Client, _ map[string][]int32) {
	member, _ := cl.GroupMetadata()
	s.mu.Lock()
	s.member = member
	s.mu.Unlock()
	s.join.Do(func() { close(s.joined) })
}

// Pause stops handing out records of the partitions. What is fetched already
// stays; the client fetches up to holdBytes more of each, and FetchBytes of all.
func (s *Source) Pause(parts []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range parts {
		if l := s.lanes[p]; l != nil {
			l.paused = true
		}
	}
	s.feed()
}

// Resume ends Pause.
func (s *Source) Resume(parts []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range parts {
		l := s.lanes[p]
		if l == nil {
			continue
		}
		l.paused = false
		if l.held {
			l.held = false
			s.cl.ResumeFetchPartitions(map[string][]int32{s.cfg.Topic: {p}})
		}
	}
	signal(s.ready)
	s.feed()
}

// Close leaves the group: the listener hears Revoked for what is still
// assigned, and may commit in it. ctx bounds the leaving; without it the
// group waits for the session timeout.
func (s *Source) Close(ctx context.Context) error {
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
	err := s.cl.LeaveGroupContext(ctx)
	if err == nil {
		err = s.leave(ctx)
	}
	s.cl.CloseAllowingRebalance()
	// Closing polls once more. With ctx over, the leaving that it began may only now
	// wait for polls to end, and would for ever.
	s.cl.AllowRebalance()
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, kerr.UnknownMemberID) {
		return fmt.Errorf("leave group %s: %w", s.cfg.Group, err)
	}
	return nil
}

// signal wakes whoever waits on c, once.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
