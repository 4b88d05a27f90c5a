package client

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Topic is what a cluster says of a topic.
type Topic struct {
	ID          string // changes when the topic is deleted and created again
	Partitions  int
	Replication int  // of the first partition
	Led         bool // every partition has a leader
	Err         error
}

// Topics asks a broker about topics; none asks about the cluster alone. The
// library's own way, and that of kadm, may answer from memory and not know
// yet that a topic has gone or come.
func Topics(ctx context.Context, cl *kgo.Client, topics ...string) (clusterID string, _ map[string]Topic, _ error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{} // nil asks for all
	for _, name := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return "", nil, err
	}
	if resp.ClusterID != nil {
		clusterID = *resp.ClusterID
	}
	out := make(map[string]Topic, len(resp.Topics))
	for _, t := range resp.Topics {
		if t.Topic == nil {
			continue
		}
		d := Topic{ID: kadm.TopicID(t.TopicID).String(), Partitions: len(t.Partitions), Led: len(t.Partitions) > 0, Err: kerr.ErrorForCode(t.ErrorCode)}
		for _, p := range t.Partitions {
			if p.Partition == 0 {
				d.Replication = len(p.Replicas)
			}
			d.Led = d.Led && p.Leader >= 0 && p.ErrorCode == 0
		}
		out[*t.Topic] = d
	}
	return clusterID, out, nil
}

// OneTopic is Topics for one: an error is about that topic, too.
func OneTopic(ctx context.Context, cl *kgo.Client, topic string) (clusterID string, _ Topic, _ error) {
	id, all, err := Topics(ctx, cl, topic)
	if err != nil {
		return "", Topic{}, err
	}
	t, ok := all[topic]
	if !ok {
		return "", Topic{}, errors.New("the broker's answer does not name the topic")
	}
	return id, t, t.Err
}
