// Package deadletter writes records that could not be processed: to a stream
// (over any sink) with the envelope in headers, or to a file of JSON lines.
// Both answer only when every letter is durable.
package deadletter

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"keystone/pipeline"
	"keystone/pipeline/record"
)

// The headers of the envelope. Key, value and other headers of the record stay as they were.
const (
	HeaderRoute     = "ks-route"      // address of the route
	HeaderTopic     = "ks-topic"      // where the record was: topic or path,
	HeaderTopicID   = "ks-topic-id"   // its identity: a Kafka topic id, a file's identity,
	HeaderPartition = "ks-partition"  // partition
	HeaderOffset    = "ks-offset"     // and offset
	HeaderTimestamp = "ks-timestamp"  // of the record, milliseconds since 1970 UTC; 0 if it has none
	HeaderCode      = "ks-error-code" // stable and short: decode, type, too_large…
	HeaderError     = "ks-error"      // the error's text
	HeaderAt        = "ks-error-at"   // file:line:column of the expression; empty if it was none
	HeaderAttempts  = "ks-attempts"   // how often it was tried
	HeaderTime      = "ks-time"       // when it was given up, RFC 3339 in UTC
	HeaderRevision  = "ks-revision"   // of the configuration that it failed with
	HeaderReplays   = "ks-replays"    // how often it was replayed before; absent if never
)

// MaxError bounds the text of an error in an envelope, in bytes.
const MaxError = 4 << 10

// Headers appends the envelope of a letter to dst, after the record's own
// headers. An envelope that the record has from an earlier time is left out: the newest counts.
func Headers(dst []record.Header, l *pipeline.DeadLetter) []record.Header {
	for _, h := range l.Record.Headers {
		if !isEnvelope(h.Key) {
			dst = append(dst, h)
		}
	}
	add := func(key, value string) { dst = append(dst, record.Header{Key: key, Value: []byte(value)}) }
	add(HeaderRoute, l.Route.String())
	add(HeaderTopic, l.Topic)
	add(HeaderTopicID, l.Identity)
	add(HeaderPartition, strconv.FormatInt(int64(l.Partition), 10))
	add(HeaderOffset, strconv.FormatInt(l.Record.Offset, 10))
	add(HeaderTimestamp, strconv.FormatInt(l.Record.Timestamp, 10))
	add(HeaderCode, l.Code)
	add(HeaderError, bound(l.Error))
	add(HeaderAt, l.At)
	add(HeaderAttempts, strconv.Itoa(l.Attempts))
	add(HeaderTime, l.Time.UTC().Format(time.RFC3339Nano))
	add(HeaderRevision, strconv.FormatInt(l.Revision, 10))
	if l.Replays > 0 {
		add(HeaderReplays, strconv.Itoa(l.Replays))
	}
	return dst
}

func isEnvelope(key string) bool {
	switch key {
	case HeaderRoute, HeaderTopic, HeaderTopicID, HeaderPartition, HeaderOffset, HeaderTimestamp, HeaderCode, HeaderError,
		HeaderAt, HeaderAttempts, HeaderTime, HeaderRevision, HeaderReplays:
		return true
	}
	return false
}

// bound cuts an error's text at a whole character.
func bound(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= MaxError {
		return s
	}
	n := MaxError
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
