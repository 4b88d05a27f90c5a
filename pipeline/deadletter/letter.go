package deadletter

import (
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"keystone/configs/addr"
	"keystone/pipeline"
	"keystone/pipeline/record"
)

// Letter is a dead letter as it is kept: a line of a file, or what Parse finds
// in a record of a stream. Bytes that are not UTF-8 are in base64, under the
// name with the suffix; a null value is null.
type Letter struct {
	Route       string         `json:"route"`
	Topic       string         `json:"topic"`
	Partition   int32          `json:"partition"`
	Offset      int64          `json:"offset"`
	Identity    string         `json:"identity,omitempty"`
	Timestamp   int64          `json:"timestamp,omitempty"` // of the record, milliseconds since 1970
	Key         *string        `json:"key,omitempty"`
	KeyBase64   []byte         `json:"key_base64,omitempty"`
	Value       *string        `json:"value"`
	ValueBase64 []byte         `json:"value_base64,omitempty"`
	Headers     []LetterHeader `json:"headers,omitempty"`
	Code        string         `json:"error_code"`
	Error       string         `json:"error"`
	At          string         `json:"error_at,omitempty"`
	Attempts    int            `json:"attempts"`
	Time        time.Time      `json:"time"`
	Revision    int64          `json:"revision"`
	Replays     int            `json:"replays,omitempty"` // how often the record was replayed before
}

// LetterHeader is a header of the record.
type LetterHeader struct {
	Key         string  `json:"key"`
	Value       *string `json:"value"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
}

// line gives the letter as it is written.
func line(l *pipeline.DeadLetter) Letter {
	x := Letter{
		Route: l.Route.String(), Topic: l.Topic, Partition: l.Partition, Offset: l.Record.Offset, Identity: l.Identity,
		Timestamp: l.Record.Timestamp, Code: l.Code, Error: bound(l.Error), At: l.At, Attempts: l.Attempts, Time: l.Time.UTC(), Revision: l.Revision, Replays: l.Replays,
	}
	x.Key, x.KeyBase64 = text(l.Record.Key)
	x.Value, x.ValueBase64 = text(l.Record.Value)
	for _, h := range l.Record.Headers {
		lh := LetterHeader{Key: h.Key}
		lh.Value, lh.ValueBase64 = text(h.Value)
		x.Headers = append(x.Headers, lh)
	}
	return x
}

func text(b []byte) (*string, []byte) {
	if b == nil {
		return nil, nil
	}
	if !utf8.Valid(b) {
		return nil, b
	}
	s := string(b)
	return &s, nil
}

// ErrNoLetter says that a record of a stream has no envelope: something else wrote it.
var ErrNoLetter = errors.New("the record has no envelope of a dead letter")

// Parse reads the envelope of a record of a dead-letter stream. Key, value and
// headers without the envelope are the original record's. Nothing of r is kept.
// The error wraps ErrNoLetter where there is no envelope, or says what is wrong with it.
func Parse(r *record.Record) (Letter, error) {
	l := Letter{Timestamp: r.Timestamp}
	found := map[string]bool{}
	for _, h := range r.Headers {
		if !isEnvelope(h.Key) {
			lh := LetterHeader{Key: h.Key}
			lh.Value, lh.ValueBase64 = text(h.Value)
			l.Headers = append(l.Headers, lh.clone())
			continue
		}
		found[h.Key] = true
		if err := l.set(h.Key, string(h.Value)); err != nil {
			return Letter{}, fmt.Errorf("header %s: %w", h.Key, err)
		}
	}
	for _, need := range []string{HeaderRoute, HeaderPartition, HeaderOffset, HeaderCode} {
		if !found[need] {
			return Letter{}, fmt.Errorf("%w: the header %s is missing", ErrNoLetter, need)
		}
	}
	l.Key, l.KeyBase64 = text(clone(r.Key))
	l.Value, l.ValueBase64 = text(clone(r.Value))
	return l, nil
}

// set takes one header of the envelope.
func (l *Letter) set(key, value string) (err error) {
	number := func(bits int) (n int64) {
		if err == nil {
			n, err = strconv.ParseInt(value, 10, bits)
		}
		return n
	}
	switch key {
	case HeaderRoute:
		l.Route = value
	case HeaderTopic:
		l.Topic = value
	case HeaderTopicID:
		l.Identity = value
	case HeaderPartition:
		l.Partition = int32(number(32))
	case HeaderOffset:
		l.Offset = number(64)
	case HeaderTimestamp:
		l.Timestamp = number(64)
	case HeaderCode:
		l.Code = value
	case HeaderError:
		l.Error = value
	case HeaderAt:
		l.At = value
	case HeaderAttempts:
		l.Attempts = int(number(32))
	case HeaderTime:
		l.Time, err = time.Parse(time.RFC3339Nano, value)
	case HeaderRevision:
		l.Revision = number(64)
	case HeaderReplays:
		l.Replays = int(number(32))
	}
	return err
}

// Record gives the original record, as it was read: key, value, headers, offset and timestamp.
func (l *Letter) Record() record.Record {
	r := record.Record{Offset: l.Offset, Timestamp: l.Timestamp, Key: back(l.Key, l.KeyBase64), Value: back(l.Value, l.ValueBase64)}
	for _, h := range l.Headers {
		r.Headers = append(r.Headers, record.Header{Key: h.Key, Value: back(h.Value, h.ValueBase64)})
	}
	return r
}

// WithEnvelope gives the headers of the original record and those of the
// envelope, as a dead-letter stream has them.
func (l *Letter) WithEnvelope() []record.Header {
	d := l.DeadLetter()
	return Headers(nil, &d)
}

// DeadLetter gives what was written.
func (l *Letter) DeadLetter() pipeline.DeadLetter {
	route, _ := addr.Parse(l.Route) // the zero address where it is of a later version
	return pipeline.DeadLetter{
		Record: l.Record(), Route: route, Topic: l.Topic, Partition: l.Partition, Identity: l.Identity, Code: l.Code,
		Error: l.Error, At: l.At, Attempts: l.Attempts, Time: l.Time, Revision: l.Revision, Replays: l.Replays,
	}
}

func back(text *string, raw []byte) []byte {
	if text != nil {
		return []byte(*text)
	}
	return raw
}

// clone copies, and keeps what is nil apart from what is empty.
func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

func (h LetterHeader) clone() LetterHeader {
	h.ValueBase64 = clone(h.ValueBase64) // Value is a string, and a copy already
	return h
}
