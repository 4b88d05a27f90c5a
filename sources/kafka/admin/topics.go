package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// StreamSpec is what a stream wants of its topic.
type StreamSpec struct {
	Topic       string
	Partitions  int               // 0: the cluster's default
	Replication int               // 0: the cluster's default
	Config      map[string]string // by Kafka's names; what is not named is left alone
	Unset       []string          // names that go back to the cluster's default
}

// Retention gives the value of retention.ms; a negative duration keeps for ever.
func Retention(d time.Duration) string {
	if d < 0 {
		return "-1"
	}
	return strconv.FormatInt(d.Milliseconds(), 10)
}

// Result is what Ensure did about one topic.
type Result struct {
	Created bool
	Changes []string // what was changed: "partitions: 4 -> 8"
	Drift   []string // what differs and was left alone, with the reason
	Err     error    // why the topic is not as wanted
}

// Topic is a topic as the cluster has it.
type Topic struct {
	Err         error // why it cannot be described; then nothing else is known
	Exists      bool
	ID          string // changes when the topic is deleted and created again
	Partitions  int
	Replication int               // of the first partition
	Config      map[string]string // every effective value that is not secret
	Set         map[string]bool   // names that are set on the topic itself
	Begin, End  []int64           // per partition; nil unless asked for
}

// Differences tells in words how a topic differs from what is wanted.
func (t Topic) Differences(s StreamSpec) []string {
	if t.Err != nil {
		return []string{t.Err.Error()}
	}
	if !t.Exists {
		return []string{"the topic is missing"}
	}
	var out []string
	if s.Partitions > 0 && t.Partitions != s.Partitions {
		out = append(out, fmt.Sprintf("partitions: %d, wanted %d", t.Partitions, s.Partitions))
	}
	if s.Replication > 0 && t.Replication != s.Replication {
		out = append(out, fmt.Sprintf("replication: %d, wanted %d", t.Replication, s.Replication))
	}
	for _, k := range slices.Sorted(maps.Keys(s.Config)) {
		if got := t.Config[k]; got != s.Config[k] {
			out = append(out, fmt.Sprintf("%s: %s, wanted %s", k, got, s.Config[k]))
		}
	}
	for _, k := range s.Unset {
		if t.Set[k] {
			out = append(out, fmt.Sprintf("%s: %s, wanted the cluster's default", k, t.Config[k]))
		}
	}
	return out
}

// Observe describes topics. Missing ones are in the answer with Exists false.
func (a *Admin) Observe(ctx context.Context, topics ...string) (clusterID string, _ map[string]Topic, _ error) {
	cluster, details, err := a.metadata(ctx, topics)
	if err != nil {
		return "", nil, err
	}
	var there []string
	for _, name := range slices.Sorted(maps.Keys(details)) {
		if details[name].Err == nil {
			there = append(there, name)
		}
	}
	configs, err := a.configs(ctx, there)
	if err != nil {
		return "", nil, err
	}
	out := make(map[string]Topic, len(topics))
	for _, name := range topics {
		d, ok := details[name]
		if !ok {
			out[name] = Topic{}
			continue
		}
		if d.Err != nil {
			out[name] = Topic{Err: d.Err}
			continue
		}
		t := Topic{Exists: true, ID: d.ID, Partitions: d.Partitions, Replication: d.Replication, Config: map[string]string{}, Set: map[string]bool{}}
		for k, v := range configs[name] {
			t.Config[k] = v.value
			if v.own {
				t.Set[k] = true
			}
		}
		out[name] = t
	}
	return cluster, out, nil
}

// ObserveOffsets is Observe with the first and the next offset of every partition.
func (a *Admin) ObserveOffsets(ctx context.Context, topics ...string) (clusterID string, _ map[string]Topic, _ error) {
	cluster, out, err := a.Observe(ctx, topics...)
	if err != nil {
		return "", nil, err
	}
	var there []string
	for _, name := range slices.Sorted(maps.Keys(out)) {
		if out[name].Exists {
			there = append(there, name)
		}
	}
	for part := range slices.Chunk(there, chunk) {
		var begin, end kadm.ListedOffsets
		err := again(ctx, func() (err error) { begin, err = a.adm.ListStartOffsets(ctx, part...); return err })
		if err != nil {
			return "", nil, a.explain("list the first offsets", err)
		}
		err = again(ctx, func() (err error) { end, err = a.adm.ListEndOffsets(ctx, part...); return err })
		if err != nil {
			return "", nil, a.explain("list the last offsets", err)
		}
		for _, name := range part {
			t := out[name]
			t.Begin, t.End = flat(begin[name], t.Partitions), flat(end[name], t.Partitions)
			out[name] = t
		}
	}
	return cluster, out, nil
}

// flat gives offsets by partition, -1 where there is no answer.
func flat(m map[int32]kadm.ListedOffset, n int) []int64 {
	out := make([]int64, n)
	for p := range out {
		out[p] = -1
		if o, ok := m[int32(p)]; ok && o.Err == nil {
			out[p] = o.Offset
		}
	}
	return out
}

// Ensure makes topics what they should be, and only says what it cannot
// change without loss. It is idempotent, and the answer holds one Result per
// spec; the error is about the cluster as a whole.
func (a *Admin) Ensure(ctx context.Context, specs ...StreamSpec) (map[string]Result, error) {
	names := make([]string, len(specs))
	for i, s := range specs {
		names[i] = s.Topic
	}
	_, have, err := a.Observe(ctx, names...)
	if err != nil {
		return nil, err
	}
	out := make(map[string]Result, len(specs))
	var create, grow, alter []StreamSpec
	for _, s := range specs {
		t, r := have[s.Topic], Result{}
		if t.Err != nil {
			out[s.Topic] = Result{Err: t.Err}
			continue
		}
		if !t.Exists {
			create = append(create, s)
			continue
		}
		switch {
		case s.Partitions > t.Partitions:
			grow = append(grow, s)
		case s.Partitions > 0 && s.Partitions < t.Partitions:
			r.Err = fmt.Errorf("topic %s has %d partitions and %d are wanted: Kafka cannot take partitions away; set partitions = %d, or route into a new stream", s.Topic, t.Partitions, s.Partitions, t.Partitions)
		}
		if s.Replication > 0 && s.Replication != t.Replication {
			r.Drift = append(r.Drift, fmt.Sprintf("replication: %d, wanted %d; moving replicas is left to the cluster's own tools (kafka-reassign-partitions)", t.Replication, s.Replication))
		}
		if len(changes(s, t)) > 0 {
			alter = append(alter, s)
		}
		out[s.Topic] = r
	}
	a.create(ctx, create, out)
	a.grow(ctx, grow, have, out)
	a.alter(ctx, alter, have, out)
	a.settle(ctx, append(grow, alter...), out)
	return out, nil
}

// settle waits, within bounds, until the brokers know what the controller has
// changed, so that who looks next sees no difference that is none.
func (a *Admin) settle(ctx context.Context, specs []StreamSpec, out map[string]Result) {
	var names []string
	for _, s := range specs {
		if out[s.Topic].Err == nil {
			names = append(names, s.Topic)
		}
	}
	if len(names) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	_ = await(ctx, "wait for the brokers", func() (bool, error) { // not in time: the next turn sees it
		_, now, err := a.Observe(ctx, names...)
		if err != nil {
			return false, err
		}
		for _, s := range specs {
			if t, ok := now[s.Topic]; ok && (len(changes(s, t)) > 0 || t.Partitions < s.Partitions) {
				return false, nil
			}
		}
		return true, nil
	})
}

const settleWithin = 5 * time.Second

// changes gives the configuration that has to be set; nil deletes.
func changes(s StreamSpec, t Topic) map[string]*string {
	out := map[string]*string{}
	for k, v := range s.Config {
		if got, ok := t.Config[k]; !ok || got != v {
			out[k] = &v
		}
	}
	for _, k := range s.Unset {
		if _, again := s.Config[k]; !again && t.Set[k] {
			out[k] = nil
		}
	}
	return out
}

func (a *Admin) create(ctx context.Context, specs []StreamSpec, out map[string]Result) {
	var made []string
	for part := range slices.Chunk(specs, chunk) {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.TimeoutMillis = 30_000
		for _, s := range part {
			t := kmsg.NewCreateTopicsRequestTopic()
			t.Topic, t.NumPartitions, t.ReplicationFactor = s.Topic, -1, -1
			if s.Partitions > 0 {
				t.NumPartitions = int32(s.Partitions)
			}
			if s.Replication > 0 {
				t.ReplicationFactor = int16(s.Replication)
			}
			for _, k := range slices.Sorted(maps.Keys(s.Config)) {
				c := kmsg.NewCreateTopicsRequestTopicConfig()
				c.Name, c.Value = k, kmsg.StringPtr(s.Config[k])
				t.Configs = append(t.Configs, c)
			}
			req.Topics = append(req.Topics, t)
		}
		resp, err := req.RequestWith(ctx, a.cl)
		if err != nil {
			for _, s := range part {
				out[s.Topic] = Result{Err: a.explain("create topic "+s.Topic, err)}
			}
			continue
		}
		for _, t := range resp.Topics {
			err := kerr.ErrorForCode(t.ErrorCode)
			switch {
			case err == nil:
				out[t.Topic] = Result{Created: true, Changes: []string{"created"}}
				made = append(made, t.Topic)
			case errors.Is(err, kerr.TopicAlreadyExists): // made by another meanwhile: the next turn compares it
				out[t.Topic] = Result{}
			default:
				out[t.Topic] = Result{Err: a.explain("create topic "+t.Topic, withMessage(err, t.ErrorMessage))}
			}
		}
	}
	if len(made) == 0 {
		return
	}
	// A topic is of use when its partitions have leaders.
	err := await(ctx, "wait for the leaders of new topics", func() (bool, error) {
		_, details, err := a.metadata(ctx, made)
		if err != nil {
			return false, err
		}
		for _, name := range made {
			if d := details[name]; !d.Led || d.Err != nil {
				return false, d.Err
			}
		}
		return true, nil
	})
	if err != nil {
		for _, name := range made {
			r := out[name]
			r.Err = err
			out[name] = r
		}
	}
}

func (a *Admin) grow(ctx context.Context, specs []StreamSpec, have map[string]Topic, out map[string]Result) {
	for part := range slices.Chunk(specs, chunk) {
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.TimeoutMillis = 30_000
		for _, s := range part {
			t := kmsg.NewCreatePartitionsRequestTopic()
			t.Topic, t.Count = s.Topic, int32(s.Partitions)
			req.Topics = append(req.Topics, t)
		}
		answers := map[string]error{}
		resp, err := req.RequestWith(ctx, a.cl)
		if err == nil {
			for _, t := range resp.Topics {
				answers[t.Topic] = withMessage(kerr.ErrorForCode(t.ErrorCode), t.ErrorMessage)
			}
		}
		for _, s := range part {
			r := out[s.Topic]
			if e := errors.Join(err, answers[s.Topic]); e != nil {
				r.Err = errors.Join(r.Err, a.explain("add partitions to topic "+s.Topic, e))
			} else {
				r.Changes = append(r.Changes, fmt.Sprintf("partitions: %d -> %d", have[s.Topic].Partitions, s.Partitions))
			}
			out[s.Topic] = r
		}
	}
}

func (a *Admin) alter(ctx context.Context, specs []StreamSpec, have map[string]Topic, out map[string]Result) {
	for part := range slices.Chunk(specs, chunk) {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		for _, s := range part {
			res := kmsg.NewIncrementalAlterConfigsRequestResource()
			res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeTopic, s.Topic
			diff := changes(s, have[s.Topic])
			for _, k := range slices.Sorted(maps.Keys(diff)) {
				c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
				c.Name, c.Value = k, diff[k]
				if diff[k] == nil {
					c.Op = kmsg.IncrementalAlterConfigOpDelete
				}
				res.Configs = append(res.Configs, c)
			}
			req.Resources = append(req.Resources, res)
		}
		answers := map[string]error{}
		var whole error
		for _, shard := range a.cl.RequestSharded(ctx, req) {
			if shard.Err != nil {
				whole = errors.Join(whole, shard.Err)
				continue
			}
			for _, res := range shard.Resp.(*kmsg.IncrementalAlterConfigsResponse).Resources {
				answers[res.ResourceName] = withMessage(kerr.ErrorForCode(res.ErrorCode), res.ErrorMessage)
			}
		}
		for _, s := range part {
			r := out[s.Topic]
			if e := errors.Join(whole, answers[s.Topic]); e != nil {
				r.Err = errors.Join(r.Err, a.explain("configure topic "+s.Topic, e))
			} else {
				diff := changes(s, have[s.Topic])
				for _, k := range slices.Sorted(maps.Keys(diff)) {
					to := "the cluster's default"
					if diff[k] != nil {
						to = *diff[k]
					}
					r.Changes = append(r.Changes, fmt.Sprintf("%s: %s -> %s", k, have[s.Topic].Config[k], to))
				}
			}
			out[s.Topic] = r
		}
	}
}

// Delete deletes topics and all that is in them; those that are missing are no error.
func (a *Admin) Delete(ctx context.Context, topics ...string) error {
	var errs []error
	var gone []string
	for part := range slices.Chunk(topics, chunk) {
		rs, err := a.adm.DeleteTopics(ctx, part...)
		if err != nil {
			return a.explain("delete topics", err)
		}
		for _, r := range rs {
			if r.Err != nil && !errors.Is(r.Err, kerr.UnknownTopicOrPartition) {
				errs = append(errs, a.explain("delete topic "+r.Topic, withMessage(r.Err, &r.ErrMessage)))
			} else {
				gone = append(gone, r.Topic)
			}
		}
	}
	if len(gone) > 0 {
		ctx, cancel := context.WithTimeout(ctx, settleWithin)
		defer cancel()
		_ = await(ctx, "wait for the brokers", func() (bool, error) { // as in settle
			_, left, err := a.metadata(ctx, gone)
			return err == nil && len(left) == 0, err
		})
	}
	return errors.Join(errs...)
}

// DeleteRecords removes the records before the given offsets.
func (a *Admin) DeleteRecords(ctx context.Context, topic string, before map[int32]int64) error {
	os := kadm.Offsets{}
	for p, at := range before {
		os.AddOffset(topic, p, at, -1)
	}
	rs, err := a.adm.DeleteRecords(ctx, os)
	if err == nil {
		err = rs.Error()
	}
	if err != nil {
		return a.explain("delete records of topic "+topic, err)
	}
	return nil
}

func withMessage(err error, msg *string) error {
	if err == nil || msg == nil || *msg == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, *msg)
}
