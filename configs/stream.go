package configs

import (
	"strings"
	"time"

	"keystone/configs/diag"
	"keystone/configs/spec"
)

// streamRefs are what the options of a stream name.
type streamRefs struct {
	cluster spec.Ref
}

// Options declares the block stream.
func (s *Stream) Options() spec.Options { return s.options(&streamRefs{}) }

func (s *Stream) options(refs *streamRefs) spec.Options {
	return spec.Options{
		spec.String("description", &s.Description, "What the events are, for people.").Effect(spec.Live),
		spec.Reference("cluster", &refs.cluster, "Where the topic is. May be left out when there is only one cluster; with none it is the broker inside the process.", "cluster").Effect(spec.Replace).Eg("cluster.main"),
		spec.String("external", &s.External, "The stream NAMESPACE.STREAM of another namespace: this configuration reads or writes it and never changes it. Its topic is STREAM unless topic says otherwise.").Effect(spec.Replace).Eg(`"ads.playback"`),
		spec.String("topic", &s.Topic, "Name of the topic; the block's name unless said, with -KEY for an instance of for_each.").Effect(spec.Replace).Eg(`"prod.playback"`).Also("name", "topic_name"),
		spec.Bool("managed", &s.Managed, "Create and change the topic. With false it must exist, and is neither created nor changed.").Default(true).Effect(spec.Live),
		spec.Int("partitions", &s.Partitions, "Number of partitions. It can grow (keys then move to other partitions) and never shrinks.").Default(1).Between(1, 100_000).Effect(spec.Live),
		spec.Int("replication", &s.Replication, "Copies of each partition; -1 is the cluster's own default.").Default(-1).Between(-1, 32_767).Effect(spec.Live).Also("replicas", "replication_factor"),
		spec.Duration("retention", &s.Retention, "How long events are kept; \"forever\" keeps all. The cluster's own default unless said.").Between(-1, 100*365*24*3600).Effect(spec.Live).Eg(`"24h"`).Also("retention_ms", "ttl"),
		spec.StringMap("config", &s.Config, "Further settings of the topic, by Kafka's names.").Effect(spec.Live).Eg(`{ "cleanup.policy" = "compact" }`),
		spec.Expr("key", &s.Key, "The message key of events written here, where the route has none of its own.").Effect(spec.Live).Eg(`"user_id"`),
		spec.Schema("schema", &s.Schema, "Type of the events. Without one, names in expressions are unchecked.").Effect(spec.Live).Eg("object({ user_id = string, ts = timestamp_ms })").Also("type", "fields", "columns"),
		spec.Enum("on_destroy", &s.OnDestroy, "Whether the topic goes when the block does.", "keep", "delete").Default("keep").Effect(spec.Live),
		spec.Enum("compression", &s.Compression, "How batches written here are compressed.", "zstd", "lz4", "snappy", "gzip", "none").Default("zstd"),
		spec.Bool("origin", &s.Origin, "Add to each record that is written here the header ks-origin, which says where it came from: topic id, partition and offset of its source, and the route.").Default(true),
		spec.Bytes("max_message_bytes", &s.MaxMessage, "Largest message of the topic; the cluster's own default (usually 1 MiB) unless said.").Between(1024, 1<<30).Effect(spec.Live).Eg(`"4MiB"`).Also("max_bytes"),
	}
}

// check reports what the declarations cannot express.
func (s *Stream) check(body spec.Body, diags *diag.Diagnostics) {
	if s.External != "" {
		namespace, name, ok := strings.Cut(s.External, ".")
		if !ok || !isNamespace(namespace) || !isNamespace(name) {
			diags.Addf(attrRange(body, "external"), codeBlockValue, "Not a stream of another namespace", "%q is not NAMESPACE.STREAM, such as \"ads.playback\".", s.External)
		}
		for _, option := range []string{"managed", "partitions", "replication", "retention", "config", "on_destroy"} {
			if a, ok := body.Attrs[option]; ok && a.Value != nil && a.Layer != spec.LayerDefaults {
				diags.Addf(a.NameRange, codeBlockValue, "Option of an external stream", "The stream belongs to another namespace, which decides %s.", option)
			}
		}
	}
	if !isTopic(s.Topic) {
		rng := attrRange(body, "topic")
		diags.Addf(rng, codeBlockValue, "Not a topic", "%q cannot name a topic: it has at most 249 letters, digits, '.', '_' and '-'. Give one with topic = \"…\".", s.Topic)
	}
	if s.Retention > 0 && s.Retention < time.Millisecond {
		diags.Addf(attrRange(body, "retention"), codeBlockValue, "Value out of bounds", "Kafka keeps events for at least 1ms.")
	}
	for _, managed := range []struct{ key, option string }{{"retention.ms", "retention"}, {"max.message.bytes", "max_message_bytes"}} {
		if _, both := s.Config[managed.key]; both {
			if a, ok := body.Attrs[managed.option]; ok && a.Value != nil {
				diags.Addf(attrRange(body, "config"), codeBlockValue, "Said twice", "config has %q, which the option %s says too. Keep one.", managed.key, managed.option)
			}
		}
	}
}

func isTopic(s string) bool {
	if s == "" || len(s) > 249 || s == "." || s == ".." {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

func isNamespace(s string) bool {
	for i, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || i > 0 && (c == '_' || c == '-' || c >= '0' && c <= '9')) {
			return false
		}
	}
	return s != "" && len(s) <= 63
}
