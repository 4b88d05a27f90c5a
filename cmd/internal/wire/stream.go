package wire

import (
	"maps"
	"strconv"

	"keystone/configs"
	"keystone/sources/kafka/admin"
)

// Settings of a topic that options of a stream stand for.
const (
	retentionSetting = "retention.ms"
	messageSetting   = "max.message.bytes"
)

// topicOf says what a stream wants of its topic. What the block leaves out is
// the cluster's own choice: an option that was taken out of the block goes back to it.
func topicOf(s *configs.Stream, topic string) admin.StreamSpec {
	t := admin.StreamSpec{Topic: topic, Partitions: s.Partitions, Config: maps.Clone(s.Config)}
	if t.Config == nil {
		t.Config = map[string]string{}
	}
	if s.Replication > 0 {
		t.Replication = s.Replication
	}
	option := func(key, value string, set bool) {
		if set {
			t.Config[key] = value
		} else if _, own := t.Config[key]; !own {
			t.Unset = append(t.Unset, key)
		}
	}
	option(retentionSetting, admin.Retention(s.Retention), s.Retention != 0)
	option(messageSetting, strconv.FormatInt(s.MaxMessage, 10), s.MaxMessage != 0)
	return t
}

// deadLetterTopic says what the managed dead-letter stream of a route is: one
// partition that keeps its letters for ever, with room for a source's largest record and the envelope.
func deadLetterTopic(topic string, largest int64) admin.StreamSpec {
	return admin.StreamSpec{Topic: topic, Partitions: 1, Config: map[string]string{
		retentionSetting: "-1",
		messageSetting:   strconv.FormatInt(largest+deadLetterRoom, 10),
	}}
}

// deadLetterRoom is what the envelope of a dead letter may add to a record.
const deadLetterRoom = 64 << 10

// defaultMessage is Kafka's own bound on a message.
const defaultMessage = 1_048_588
